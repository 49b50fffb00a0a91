from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from routerpool_ranked import Ranked

from routerpool import Candidate, Model, OpenAIProvider
from routerpool.testing import StrategyContract, Upstream, make_router


class TestRanked(StrategyContract):
    plugin = Ranked


def candidate(model: str, rank: int | None = None, **more: Any) -> Candidate:
    return Candidate(provider="p", model=Model(id=model, rank=rank, **more))


def order(*candidates: Candidate) -> list[str]:
    scores = Ranked().score(candidates)
    return [score.candidate.model.id for score in sorted(scores, key=lambda score: -score.points)]


def test_the_lower_rank_goes_first_whatever_it_costs_and_wherever_it_runs() -> None:
    assert order(candidate("b", 20, free=True, local=True), candidate("a", 10), candidate("c", 30)) == ["a", "b", "c"]


def test_models_without_a_rank_come_last_in_the_order_of_the_configuration() -> None:
    assert order(candidate("x"), candidate("b", 2), candidate("y"), candidate("a", 1)) == ["a", "b", "x", "y"]


def test_equal_ranks_score_alike() -> None:
    one, other, last = Ranked().score((candidate("a", 1), candidate("b", 1), candidate("c", 2)))
    assert one.points == other.points == 1.0
    assert last.points == 0.0


def test_the_term_says_whether_the_place_comes_from_a_rank_or_from_the_configuration() -> None:
    known, unknown = Ranked().score((candidate("a", 1), candidate("b")))
    assert (known.terms, unknown.terms) == ({"rank": 1.0}, {"position": 0.0})


@given(st.lists(st.none() | st.integers(-5, 10**9), max_size=20))
def test_points_fall_with_rank_and_then_with_position(ranks: list[int | None]) -> None:
    candidates = tuple(candidate(f"m{n}", rank) for n, rank in enumerate(ranks))
    scores = Ranked().score(candidates)
    assert [score.candidate for score in scores] == list(candidates)
    for place, one in enumerate(scores):
        assert 0 <= one.points <= 1
        for later, other in enumerate(scores):
            mine, theirs = ranks[place], ranks[later]
            if mine is not None and (theirs is None or mine < theirs):
                assert one.points > other.points
            if mine is None and theirs is None and place < later:
                assert one.points > other.points


def test_the_same_candidates_get_the_same_list_object() -> None:
    strategy = Ranked()
    known, other = (candidate("a"), candidate("b")), (candidate("a"),)
    first = strategy.score(known)
    assert strategy.score(other) is not first
    assert strategy.score(known) is first


def test_an_answer_is_never_given_for_other_candidates_and_few_are_kept() -> None:
    strategy = Ranked()
    for number in range(1000):
        wanted = (candidate(f"m{number}"),)
        assert strategy.score(wanted)[0].candidate is wanted[0]
    assert len(strategy._kept) <= 32


class Lab(OpenAIProvider):
    local = True


def test_a_waterfall_goes_down_the_ranks() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            up.script("lab", "http:500", "http:503")
            models = [{"id": "third", "rank": 3}, {"id": "first", "rank": 1}, {"id": "second", "rank": 2}]
            config = {
                "plugins": {"lab": {"base_url": up.base_url("lab"), "models": models}, "ranked": {}},
                "profiles": {"auto": {"weights": {"ranked": 1}}},
            }
            async with make_router(config, plugins={"lab": Lab, "ranked": Ranked}) as router:
                answer = await router.chat({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]})
            assert answer["model"] == "third"
            assert [request.json["model"] for request in up.seen("lab").requests] == ["first", "second", "third"]

    asyncio.run(whole())
