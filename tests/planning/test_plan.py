"""Plans over names that clients make up: what they mean is remembered, and costs little to remember."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

from routerpool import OpenAIProvider, Router
from routerpool.planning.plan import MANY_CHOICES
from routerpool.testing import make_router


def router(models: int, **config: Any) -> Router:
    provider = {"use": "p", "base_url": "http://127.0.0.1:9/v1", "models": [f"m{number}" for number in range(models)]}
    return make_router({"plugins": {"a": provider}, **config}, plugins={"p": OpenAIProvider})


def asked(made: Router, *names: str) -> list[int]:
    """How many candidates each of these names leaves."""

    async def plans() -> list[int]:
        requests = [made.request({"model": name, "messages": [{"role": "user", "content": "Hi"}]}) for name in names]
        return [len((await made.planner.plan(request)).ranked) for request in requests]

    return asyncio.run(plans())


def test_all_names_that_a_glob_takes_share_what_is_remembered_of_them() -> None:
    made = router(200, aliases={"any-*": "routerpool/auto", "one-*": "a/m1"})
    names = [f"any-{number}-{'x' * 200}" for number in range(1000)]
    asked(made, "any-first", "one-first")
    tracemalloc.start()
    try:
        assert set(asked(made, *names)) == {200}
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < MANY_CHOICES * 256
    assert asked(made, "one-more") == [1]


def test_no_more_names_are_remembered_than_there_is_room_for() -> None:
    made = router(1, unknown_model="auto")
    asked(made, *(f"n{number}" for number in range(MANY_CHOICES + 10)))
    assert len(made.planner._chosen) == MANY_CHOICES
    assert asked(made, "one more") == [1]
