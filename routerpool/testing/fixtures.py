"""The pytest fixtures. Nothing heavy is imported before a test asks for one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from routerpool.router import Router
    from routerpool.testing.upstream import Upstream

__all__ = ["router", "scriptable_upstream", "serving"]

STOP_SECONDS = 10.0


@pytest.fixture(name="upstream")
def scriptable_upstream() -> Iterator[Upstream]:
    """The scriptable upstream, started on a loop of its own.

    It serves plain tests, tests that call `asyncio.run`, and subprocesses alike. Everything but its coroutines
    (`start`, `stop`, `wait_for`) and `hold` and `release` may be called from the test. A test that needs those makes
    its own: `async with Upstream() as up`.
    """
    from routerpool.testing.upstream import Upstream

    with serving(Upstream()) as served:
        yield served


@pytest.fixture
def router() -> Callable[..., Router]:
    """What makes routers: called with a mapping in the configuration file's form it answers a router to be entered.

    It is `routerpool.testing.make_router`: plugins may be given as classes, the environment is empty unless given,
    and nothing is read from or written to the machine.
    """
    from routerpool.testing.routers import make_router

    return make_router


@contextmanager
def serving(upstream: Upstream) -> Iterator[Upstream]:
    """Start this upstream on a thread with a loop of its own; raises at the end what went wrong inside a fault."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="upstream", daemon=True)
    thread.start()

    def call(coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, loop)
        return future.result(STOP_SECONDS)

    try:
        call(upstream.start())
        try:
            yield upstream
        finally:
            call(upstream.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_SECONDS)
        loop.close()
