from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routerpool_free_first import SESSIONS, FreeFirst

from routerpool import (
    Attempt,
    Candidate,
    ChatRequest,
    Features,
    Model,
    OpenAIProvider,
    Plan,
    Prices,
    Score,
    Usage,
)
from routerpool.testing import StrategyContract, Upstream, make_router


class TestFreeFirst(StrategyContract):
    plugin = FreeFirst


def candidate(model: str, provider: str = "p", **more: Any) -> Candidate:
    return Candidate(provider=provider, model=Model(id=model, **more))


def asked(strategy: FreeFirst, candidates: tuple[Candidate, ...], tokens: int = 10, **body: Any) -> list[Score]:
    request = ChatRequest(id="r", model="auto", messages=(), params=body)
    return strategy.score(request, Features(prompt_tokens=tokens, session="s"), candidates)


def points(*candidates: Candidate) -> list[float]:
    return [score.points for score in asked(FreeFirst(), candidates)]


def order(*candidates: Candidate, strategy: FreeFirst | None = None, **asking: Any) -> list[str]:
    scores = asked(strategy or FreeFirst(), candidates, **asking)
    return [score.candidate.model.id for score in sorted(scores, key=lambda score: -score.points)]


def priced(model: str, read: float, write: float, **more: Any) -> Candidate:
    prices = {name: more.pop(name) for name in ("cached", "long", "over") if name in more}
    return candidate(model, prices=Prices(input=read, output=write, **prices), **more)


def test_free_goes_before_local_before_rank() -> None:
    assert order(
        candidate("paid-strong", rank=1),
        candidate("paid-local", rank=9, local=True),
        candidate("free-weak", rank=9, free=True),
        candidate("free-strong", rank=1, free=True),
        candidate("free-local", rank=9, free=True, local=True),
    ) == ["free-local", "free-strong", "free-weak", "paid-local", "paid-strong"]


def test_a_paid_model_of_rank_0_never_beats_a_free_one() -> None:
    best_paid = candidate("paid", rank=0, local=True)
    worst_free = candidate("free", rank=10**9, free=True)
    paid, free = points(best_paid, worst_free)
    assert free > paid


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.none() | st.integers(-5, 10**9)), max_size=12))
def test_every_free_one_scores_above_every_paid_one_and_local_above_remote(
    facts: list[tuple[bool, bool, int | None]],
) -> None:
    candidates = tuple(
        candidate(f"m{n}", free=gratis, local=near, rank=rank) for n, (gratis, near, rank) in enumerate(facts)
    )
    scores = asked(FreeFirst(), candidates)
    assert len(scores) == len(candidates)
    for one in scores:
        assert 0 <= one.points <= 1
        assert sum(one.terms.values()) == one.points
        for other in scores:
            mine, theirs = one.candidate.model, other.candidate.model
            if (mine.free, mine.local) > (theirs.free, theirs.local):
                assert one.points > other.points


def test_without_ranks_the_order_of_the_configuration_holds() -> None:
    first, second, third = points(candidate("a"), candidate("b"), candidate("c"))
    assert first > second > third


def test_those_without_a_rank_come_behind_those_with_one() -> None:
    assert order(candidate("unknown"), candidate("weak", rank=500), candidate("strong", rank=3)) == [
        "strong",
        "weak",
        "unknown",
    ]


def test_one_far_rank_does_not_make_the_others_alike() -> None:
    first, second, _ = points(candidate("a", rank=1), candidate("b", rank=2), candidate("c", rank=10**9))
    assert first - second == pytest.approx(0.05)


def test_the_same_candidates_get_the_same_list_object() -> None:
    strategy = FreeFirst()
    known, other = (candidate("a"), candidate("b")), (candidate("a"),)
    first = asked(strategy, known)
    assert asked(strategy, other) is not first
    assert asked(strategy, known, tokens=10_000) is first


def test_an_answer_is_never_given_for_other_candidates_and_few_are_kept() -> None:
    strategy = FreeFirst()
    for number in range(1000):
        wanted = (candidate(f"m{number}"),)
        assert asked(strategy, wanted)[0].candidate is wanted[0]
    assert len(strategy._kept) <= 32


# Among paid ones


def test_of_paid_models_the_cheapest_goes_first_whatever_their_ranks() -> None:
    dear, cheap = priced("dear", 5, 25, rank=1), priced("cheap", 0.1, 0.4, rank=9)
    unknown = candidate("unknown", rank=0)
    assert order(dear, unknown, cheap) == ["cheap", "dear", "unknown"]
    assert order(dear, cheap, candidate("gratis", rank=99, free=True))[0] == "gratis"


def test_what_is_cheap_depends_on_the_request() -> None:
    reader, writer = priced("reader", 0.1, 10), priced("writer", 2, 1)
    assert order(reader, writer, tokens=100_000, max_tokens=100)[0] == "reader"
    assert order(reader, writer, tokens=100, max_tokens=4_000)[0] == "writer"


def test_a_long_prompt_is_counted_at_its_price() -> None:
    long = priced("long", 1, 1, long=Prices(input=10, output=10), over=200_000)
    even = priced("even", 2, 2)
    assert order(long, even, tokens=1_000)[0] == "long"
    assert order(long, even, tokens=400_000)[0] == "even"


def test_equal_costs_go_by_rank() -> None:
    assert order(priced("weak", 1, 1, rank=9), priced("strong", 1, 1, rank=2)) == ["strong", "weak"]


def test_the_terms_say_whether_cost_or_rank_decided() -> None:
    cheap, dear, gratis = priced("cheap", 1, 1), priced("dear", 2, 2), candidate("gratis", free=True)
    told = {score.candidate.model.id: dict(score.terms) for score in asked(FreeFirst(), (cheap, dear, gratis))}
    assert told == {
        "cheap": {"free": 0.0, "local": 0.0, "cost": 0.1},
        "dear": {"free": 0.0, "local": 0.0, "cost": 0.0},
        "gratis": {"free": 0.6, "local": 0.0, "rank": 0.1},
    }


def test_where_only_one_has_a_price_ranks_decide() -> None:
    assert order(candidate("strong", rank=1), priced("weak", 1, 1, rank=2), candidate("none")) == [
        "strong",
        "weak",
        "none",
    ]


def test_requests_of_one_size_get_the_same_list_object() -> None:
    strategy, pool = FreeFirst(), (priced("a", 1, 2), priced("b", 2, 1))
    assert asked(strategy, pool, tokens=1_000) is asked(strategy, pool, tokens=1_010)
    assert asked(strategy, pool, tokens=1_000) is not asked(strategy, pool, tokens=9_000)


def answered(strategy: FreeFirst, session: str, by: Candidate, read: int) -> None:
    request = ChatRequest(id="r", model="auto", messages=())
    features = Features(prompt_tokens=read, session=session)
    plan = Plan(request=request, features=features, profile="auto", ranked=(by,))
    attempt = Attempt(request=request, features=features, plan=plan, candidate=by, number=1, started=0.0)
    strategy.on_success(attempt, Usage(input_uncached=read, output=10))


def test_a_conversation_stays_where_its_prompt_is_cached_as_long_as_that_is_cheaper() -> None:
    keeps, other = priced("keeps", 3, 3, cached=0.3), priced("other", 2, 2)
    strategy = FreeFirst()
    assert order(keeps, other, strategy=strategy, tokens=50_000, max_tokens=100)[0] == "other"
    answered(strategy, "s", keeps, 49_000)
    assert order(keeps, other, strategy=strategy, tokens=50_000, max_tokens=100)[0] == "keeps"
    assert order(keeps, other, strategy=strategy, tokens=50_000, max_tokens=90_000)[0] == "other"


def test_what_a_free_model_has_read_is_not_remembered() -> None:
    strategy = FreeFirst()
    answered(strategy, "s", candidate("gratis", free=True), 49_000)
    assert strategy._read == {}


def test_who_answers_last_is_remembered_and_nobody_where_no_cache_has_a_price() -> None:
    strategy = FreeFirst()
    answered(strategy, "s", priced("no cache", 1, 1), 9)
    assert strategy._read == {}
    answered(strategy, "s", priced("cache", 1, 1, cached=0.1), 9)
    answered(strategy, "s", priced("no cache", 1, 1), 9)
    assert strategy._read["s"][0] == priced("no cache", 1, 1).key


def test_few_conversations_are_remembered_and_the_oldest_forgotten_first() -> None:
    strategy = FreeFirst()
    for number in range(SESSIONS + 10):
        answered(strategy, f"s{number}", priced("m", 1, 1, cached=0.1), 1)
    assert len(strategy._read) == SESSIONS
    assert "s9" not in strategy._read
    assert "s10" in strategy._read


class Lab(OpenAIProvider):
    local = True


def test_a_router_asks_the_free_model_and_explains_why() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            models = [{"id": "paid", "rank": 0}, {"id": "gratis", "rank": 9, "free": True}]
            config = {
                "plugins": {"lab": {"base_url": up.base_url("lab"), "models": models}, "free_first": {}},
                "profiles": {"auto": {"weights": {"free_first": 1}}},
            }
            async with make_router(config, plugins={"lab": Lab, "free_first": FreeFirst}) as router:
                told = await router.explain({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]})
                assert [entry["candidate"] for entry in told["ranked"]] == ["lab/gratis", "lab/paid"]
                terms = told["ranked"][0]["strategies"]["free_first"]["terms"]
                assert terms == {"free": 0.6, "local": 0.3, "rank": 0.1}
                answer = await router.chat({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]})
                assert answer["model"] == "gratis"

    asyncio.run(whole())
