"""What every mutator owes, as a class of tests that a mutator's own tests inherit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from copy import deepcopy
from itertools import product
from typing import Any, ClassVar, NamedTuple

from attrs import evolve

from routerpool.testing.routers import make_router
from routerpool.testing.strategy_contract import ODD_CANDIDATES, ODD_REQUESTS
from routerpool.types import Attempt, ChatRequest
from routerpool.wire.json import dumps

__all__ = ["Change", "MutatorContract"]


class Change(NamedTuple):
    """A request as it was, as the mutator left it, and as it left that when it was asked again."""

    before: ChatRequest
    once: ChatRequest
    twice: ChatRequest


class MutatorContract:
    """What every mutator owes. Set `plugin`, and where it needs them `options`, its section of the YAML file.

    `env` is the environment that the plugin sees; override `attempts` to add what this mutator looks at.
    """

    plugin: ClassVar[type]
    options: ClassVar[Mapping[str, Any]] = {}
    env: ClassVar[Mapping[str, str]] = {}
    name: ClassVar[str] = "contract"

    def attempts(self) -> Iterable[Attempt]:
        """The attempts whose requests it may change: ordinary and odd requests to ordinary and odd candidates."""
        for (request, features), candidate in product(ODD_REQUESTS, ODD_CANDIDATES):
            yield Attempt(request=request, features=features, candidate=candidate, number=1, started=0.0)

    def changes(self) -> list[Change]:
        """What a fresh plugin makes of the request of each attempt."""

        async def whole() -> list[Change]:
            config = {"plugins": {self.name: dict(self.options)}}
            async with make_router(config, plugins={self.name: self.plugin}, env=self.env) as router:
                [impl] = router.hooks.impls["mutate"]

                async def ask(request: ChatRequest, attempt: Attempt) -> ChatRequest:
                    answer = impl.call(request, attempt)
                    answer = await answer if inspect.isawaitable(answer) else answer
                    assert answer is None or isinstance(answer, ChatRequest), "it answers with a request or with None"
                    return answer or request

                found = []
                settings = router.config.profiles["auto"].settings
                for made in self.attempts():
                    attempt = evolve(made, plan=evolve(made.plan, settings=settings))
                    before = deepcopy(attempt.request)
                    once = await ask(attempt.request, attempt)
                    assert attempt.request == before, "others read the same request: answer with attrs.evolve"
                    found.append(Change(before, once, await ask(once, attempt)))
                return found

        return asyncio.run(whole())

    def test_who_is_asked_and_how_is_not_changed(self) -> None:
        for before, once, _ in self.changes():
            for name in ("id", "model", "kind", "stream", "caller", "hints"):
                assert getattr(once, name) == getattr(before, name), name

    def test_what_was_changed_is_not_changed_again(self) -> None:
        for _, once, twice in self.changes():
            assert twice == once

    def test_what_it_sets_can_be_sent(self) -> None:
        for before, once, _ in self.changes():
            for name, value in once.params.items():
                if name not in before.params or before.params[name] != value:
                    dumps({name: value})
