from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routerpool_free_first import FreeFirst

from routerpool import Candidate, Model, OpenAIProvider
from routerpool.testing import StrategyContract, Upstream, make_router


class TestFreeFirst(StrategyContract):
    plugin = FreeFirst


def candidate(model: str, provider: str = "p", **more: Any) -> Candidate:
    return Candidate(provider=provider, model=Model(id=model, **more))


def points(*candidates: Candidate) -> list[float]:
    return [score.points for score in FreeFirst().score(candidates)]


def order(*candidates: Candidate) -> list[str]:
    scores = FreeFirst().score(candidates)
    return [score.candidate.model.id for score in sorted(scores, key=lambda score: -score.points)]


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
    scores = FreeFirst().score(candidates)
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
    first = strategy.score(known)
    assert strategy.score(other) is not first
    assert strategy.score(known) is first


def test_an_answer_is_never_given_for_other_candidates_and_few_are_kept() -> None:
    strategy = FreeFirst()
    for number in range(1000):
        wanted = (candidate(f"m{number}"),)
        assert strategy.score(wanted)[0].candidate is wanted[0]
    assert len(strategy._kept) <= 32


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
                assert terms == {"free": 0.6, "local": 0.3, "rank": 0.0}
                answer = await router.chat({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]})
                assert answer["model"] == "gratis"

    asyncio.run(whole())
