"""How long the loop of a server is held: the CPU that its thread takes between two looks at its sockets."""

from __future__ import annotations

import asyncio
import gc
import threading
from asyncio.events import Handle
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from time import thread_time
from typing import Any

from aiohttp import web
from attrs import define, field

from .house import running


@define
class Loop:
    """A server on a loop and a thread of its own. `steps` are seconds of CPU, with what was done in them."""

    port: int
    steps: list[tuple[float, str]] = field(factory=list)

    @property
    def longest(self) -> tuple[float, str]:
        """The longest step since the last `forget`."""
        return max(self.steps, default=(0.0, ""))

    def forget(self) -> None:
        """Begin anew."""
        self.steps.clear()


@contextmanager
def held(make: Callable[[], web.Application]) -> Iterator[Loop]:
    """An application that is made and served in a thread, of whose loop every step is measured."""
    began: Future[tuple[Loop, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with running(make()) as port:
            stop = asyncio.Event()
            began.set_result((Loop(port), asyncio.get_running_loop(), stop))
            await stop.wait()

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if began.done():
                raise
            began.set_exception(error)

    thread = threading.Thread(target=work, name="server")
    thread.start()
    loop, event_loop, stop = began.result(30)
    plain = Handle._run
    gc.disable()  # a pass over all that the tests themselves have made is no step of the server's

    def measured(handle: Any) -> None:
        if threading.get_ident() != thread.ident:
            plain(handle)
            return
        started = thread_time()
        plain(handle)
        spent = thread_time() - started
        if spent > 0.001:
            loop.steps.append((spent, repr(handle)))

    Handle._run = measured  # type: ignore[method-assign]
    try:
        yield loop
    finally:
        Handle._run = plain  # type: ignore[method-assign]
        gc.enable()
        event_loop.call_soon_threadsafe(stop.set)
        thread.join(30)
