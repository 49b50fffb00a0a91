"""What every strategy owes, as a class of tests that a strategy's own tests inherit."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import product
from typing import Any, ClassVar, TypeAlias

import pytest

from routerpool.testing.routers import make_router
from routerpool.types import Candidate, ChatRequest, Features, Model, Prices, Privacy, Score, Tier

__all__ = ["ODD_CANDIDATES", "ODD_REQUESTS", "StrategyContract"]


Asked: TypeAlias = tuple[ChatRequest, Features, tuple[Candidate, ...]]


class StrategyContract:
    """What every strategy owes. Set `plugin`, and where it needs them `options`, its section of the YAML file.

    `env` is the environment that the plugin sees; override `requests` to add what this strategy looks at.
    """

    plugin: ClassVar[type]
    options: ClassVar[Mapping[str, Any]] = {}
    env: ClassVar[Mapping[str, str]] = {}
    name: ClassVar[str] = "contract"

    def requests(self) -> Sequence[tuple[ChatRequest, Features]]:
        """The requests that it is asked about, with what is known of them: ordinary ones and odd ones."""
        return ODD_REQUESTS

    def fields(self) -> Sequence[tuple[Candidate, ...]]:
        """The candidates that it is asked to score: none, one, many, and odd ones."""
        many = tuple(
            _candidate(f"p{n % 7}", f"m{n}", context=1000 * n or None, rank=n, free=n % 2 == 0) for n in range(100)
        )
        return ((), many[:1], ODD_CANDIDATES, many)

    def ask(self, check: Callable[[Asked, list[Any], Asked], None] | None = None) -> list[list[Any]]:
        """All answers of a fresh plugin; each is checked as it comes, with what was asked, before and after."""

        async def whole() -> list[list[Any]]:
            config = {"plugins": {self.name: dict(self.options)}}
            async with make_router(config, plugins={self.name: self.plugin}, env=self.env) as router:
                [score] = router.hooks.impls["score"]
                answers = []
                for (request, features), candidates in product(deepcopy(self.requests()), deepcopy(self.fields())):
                    before = deepcopy((request, features, candidates))
                    answer = score.call(request, features, candidates)
                    answers.append(list((await answer if inspect.isawaitable(answer) else answer) or ()))
                    if check is not None:
                        check(before, answers[-1], (request, features, candidates))
                return answers

        return asyncio.run(whole())

    def test_it_answers_with_scores_of_the_candidates_it_was_given(self) -> None:
        def check(asked: Asked, answer: list[Any], _: Asked) -> None:
            assert all(type(score) is Score for score in answer), "a strategy answers with scores and nothing else"
            assert all(score.candidate in asked[2] for score in answer)
            keys = [score.candidate.key for score in answer]
            assert len(keys) == len(set(keys)), "a candidate was scored twice"

        self.ask(check)

    def test_points_lie_between_0_and_1(self) -> None:
        def check(_: Asked, answer: list[Any], __: Asked) -> None:
            for score in answer:
                assert isinstance(score.points, (int, float))
                assert 0 <= score.points <= 1, score.candidate.key  # NaN is not

        self.ask(check)

    def test_terms_are_named_and_finite(self) -> None:
        def check(_: Asked, answer: list[Any], __: Asked) -> None:
            for score in answer:
                for term, value in score.terms.items():
                    assert isinstance(term, str)
                    assert math.isfinite(value), term

        self.ask(check)

    def test_the_same_questions_get_the_same_answers(self) -> None:
        first, again = self.ask(), self.ask()
        for one, other in zip(first, again, strict=True):
            assert [score.candidate.key for score in one] == [score.candidate.key for score in other]
            assert [score.points for score in one] == pytest.approx([score.points for score in other], abs=1e-3)

    def test_what_it_is_asked_about_is_not_changed(self) -> None:
        def check(before: Asked, _: list[Any], after: Asked) -> None:
            assert after == before

        self.ask(check)


def _candidate(provider: str, model: str, **more: Any) -> Candidate:
    return Candidate(provider=provider, model=Model(id=model, **more))


ODD_CANDIDATES = (
    _candidate("bare", "m"),
    _candidate("bare", "a/b:c d+é"),
    _candidate("dear", "m", prices=Prices(input=1e9, cached=0.0, cache_write=None, output=1e9), rank=10**9),
    _candidate("zero", "m", prices=Prices(input=0.0, cached=0.0, cache_write=0.0, output=0.0), context=1, rank=0),
    _candidate("large", "m", context=1 << 62, max_output=1 << 62, rank=-5, tier=Tier.FAST),
    _candidate("local", "m", local=True, free=True, tier=Tier.CAPABLE, tags=frozenset({"", "code"})),
    _candidate("claims", "m", capabilities={"tools": False, "vision": True, "": True}, data_policy="may_train"),
    _candidate("settings", "m", settings={"perf": {"tokens_per_second": "many"}, "local": {"size_gb": None}}),
)


def _asked(features: Features = Features(), /, **more: Any) -> tuple[ChatRequest, Features]:  # noqa: B008 - it is frozen
    messages = more.pop("messages", [{"role": "user", "content": "Why does quicksort fail on sorted input?"}])
    return ChatRequest(id="request", model="auto", messages=messages, **more), features


ODD_REQUESTS = (
    _asked(),
    _asked(stream=True, params={"tools": [{"type": "function"}], "temperature": None, "stop": []}),
    _asked(Features(prompt_tokens=10**9, difficulty=1.0, session="s", privacy=Privacy.SECRET)),
    _asked(Features(task="", language="??", difficulty=0.0, labels={"": None, "tier": 7, "task": ["code"]})),
    _asked(Features(task="no such task", needs=frozenset({"vision", "no such need"})), messages=[]),
    _asked(messages=[{"role": "user", "content": [{"type": "image_url"}, None, "text"]}, {"role": "tool"}, {}]),
    _asked(messages=[{"role": "user", "content": "\ud800 \x00 " + "x" * 100_000}]),
)
