"""Clients that leave, in every phase of a request and under every kind of host.

Whatever runs the application, and whether or not it cancels handlers: the upstream's connection is cut, nobody else is
asked, what was reserved is given back, and there is one record.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, cast

import pytest
from aiohttp import web
from attrs import define, field

from routerpool import Attempt, ChatRequest, OpenAIProvider, Outcome, Router, create_app, hookimpl, setup
from routerpool.testing import Witness, make_router
from routerpool.testing.upstream import Upstream

from ..support.house import CHAT, until

pytestmark = pytest.mark.anyio

SOON = 0.5
"""An upstream is cut, and what was taken is given back, within this many seconds of the client's going."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define(eq=False)
class Slots:
    """What a plugin has reserved: how many slots were taken, and how many of them are still."""

    granting: bool = True
    asked: asyncio.Event = field(factory=asyncio.Event)
    taken: int = 0
    held: int = 0

    async def __aenter__(self) -> None:
        self.asked.set()
        if not self.granting:
            await asyncio.Event().wait()
        self.taken += 1
        self.held += 1

    async def __aexit__(self, *exc: object) -> None:
        self.held -= 1


@define(eq=False)
class Host:
    """A running application with a router over `a` and `b` in it, and what can be seen of a request."""

    up: Upstream
    prefix: str
    scanner: type | None = None
    witness: Witness = field(factory=Witness)
    slots: Slots = field(factory=Slots)
    part: asyncio.Event = field(factory=asyncio.Event)
    """Some of an answer's body has been read from its upstream."""
    router: Router = field(init=False)
    port: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        slots, part = self.slots, self.part

        class Watched(OpenAIProvider):
            async def send(self, attempt: Attempt, request: ChatRequest, session: Any) -> Any:
                upstream = cast("Any", await super().send(attempt, request, session))
                read = upstream.chunk

                async def chunk() -> bytes:
                    data: bytes = await read()
                    part.set()
                    return data

                upstream.chunk = chunk
                return upstream

        class Reserving:
            @hookimpl
            def reserve(self) -> Slots:
                return slots

        entries = {name: {"use": "watched", "base_url": self.up.base_url(name), "models": ["m1"]} for name in "ab"}
        plugins: dict[str, type] = {"slots": Reserving, **({"scanner": self.scanner} if self.scanner else {})}
        config = {"plugins": {**{name: {} for name in plugins}, **entries}, "limits": {"max_concurrent": 1}}
        self.router = make_router(config, plugins={"watched": Watched, **plugins}, witness=self.witness)

    async def open(self, *, stream: bool, model: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which a chat request has been sent; nothing is read yet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        body = json.dumps({**CHAT, "model": model, "stream": stream}).encode()
        head = f"POST {self.prefix}/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        return reader, writer

    async def answer(self, model: str) -> bytes:
        """All that comes back for a plain request."""
        reader, writer = await self.open(stream=False, model=model)
        async with asyncio.timeout(5):
            told = await reader.read()
        writer.close()
        return told


HOSTS = ("alone", "mounted", "part of another")


@asynccontextmanager
async def hosted(kind: str, *, cancelling: bool, scanner: type | None = None) -> AsyncIterator[Host]:
    """A host of this kind, as `web.AppRunner` runs it with `handler_cancellation` on or off."""
    async with Upstream() as up:
        at = Host(up, "" if kind == "alone" else "/llm", scanner)
        if kind == "alone":
            app = create_app(at.router)
        else:
            app = web.Application()
            if kind == "mounted":
                setup(app, at.router, prefix="/llm")
            else:
                app.add_subapp("/llm", create_app(at.router))
        runner = web.AppRunner(app, access_log=None, handler_cancellation=cancelling, shutdown_timeout=2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            at.port = runner.addresses[0][1]
            yield at
        finally:
            up.release("a")
            await runner.cleanup()


# The phases: what the upstream does, what is asked for, and when it has come so far


async def _queued(at: Host, reader: asyncio.StreamReader) -> None:
    await until(lambda: at.router.admission.waiting == 1)


async def _reserving(at: Host, reader: asyncio.StreamReader) -> None:
    await at.slots.asked.wait()


async def _asked(at: Host, reader: asyncio.StreamReader) -> None:
    await at.up.wait_for("a", chat=1)


async def _begun(at: Host, reader: asyncio.StreamReader) -> None:
    await at.part.wait()


async def _told(at: Host, reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"data: ")


async def _paused(at: Host, reader: asyncio.StreamReader) -> None:
    await until(lambda: len(at.witness.failures) == 1)


@define
class Phase:
    fault: str
    stream: bool
    reached: Callable[[Host, asyncio.StreamReader], Awaitable[None]]
    model: str = "auto"
    asked: int = 1
    """How many requests reach the upstream, then and later."""
    output: bool = False
    """Whether the client has got something that must be accounted for."""


PHASES = {
    "queued": Phase("ok", False, _queued, asked=0),
    "waiting for a reservation": Phase("ok", False, _reserving, asked=0),
    "waiting for the head of a plain answer": Phase("hang", False, _asked),
    "waiting for the head of a stream": Phase("hang", True, _asked),
    "in the middle of a plain answer": Phase("stall", False, _begun),
    "before the first event": Phase("commentstall", True, _begun),
    "streaming": Phase("stall", True, _told, output=True),
    "between two attempts": Phase("ra:sec", False, _paused, model="a/m1"),
}


async def left(at: Host, phase: Phase, way: Callable[[asyncio.StreamWriter], None]) -> float:
    """Ask, leave in this phase, and wait until the request is over; how many seconds that took."""
    at.up.always("a", phase.fault)
    before = at.up.seen("a").chat
    reader, writer = await at.open(stream=phase.stream, model=phase.model)
    async with asyncio.timeout(5):
        await phase.reached(at, reader)
    assert at.witness.records == []
    gone = monotonic()
    way(writer)
    async with asyncio.timeout(SOON):
        await until(lambda: len(at.witness.records) == 1)
        if phase.asked and phase.fault != "ra:sec":
            seen = await at.up.wait_for("a", aborts=1, open=0)
            assert seen.last.outcome == "aborted"
    seconds = monotonic() - gone
    assert at.up.seen("a").chat - before == phase.asked
    return seconds


async def check(at: Host, phase: Phase, way: Callable[[asyncio.StreamWriter], None]) -> None:
    """The client leaves, and nothing of its request is left; the next one is answered as if nothing had been."""
    holder = None
    if phase.reached is _queued:
        at.up.hold("a")
        holder = asyncio.create_task(at.answer("a/m1"))
        await at.up.wait_for("a", chat=1)
    at.slots.granting = phase.reached is not _reserving
    assert await left(at, phase, way) < SOON
    (record,) = at.witness.records
    assert record.outcome == "cancelled"
    assert record.stream is phase.stream
    assert (record.usage.output > 0) is phase.output
    assert at.up.seen("b").chat == 0
    await until(lambda: at.router.admission.running == (holder is not None), seconds=SOON)
    status = at.router.admission.status()
    assert (status["waiting"], status["streams"]) == (0, 0)
    assert at.slots.held == (holder is not None)

    at.slots.granting = True
    at.up.release("a")
    if holder is not None:
        assert (await holder).startswith(b"HTTP/1.1 200 ")
    asked = at.up.seen("a").chat
    assert (await at.answer("b/m1")).startswith(b"HTTP/1.1 200 ")
    assert at.up.seen("a").chat == asked, "nothing was tried again for nobody"
    assert [r.outcome for r in at.witness.records].count(Outcome.CANCELLED) == 1
    assert len(at.witness.records) == (3 if holder is not None else 2), "one for each request"
    assert at.slots.held == 0
    assert at.slots.taken == len(at.witness.records) - (phase.asked == 0)


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize("cancelling", [False, True], ids=["as it is", "handler_cancellation"])
@pytest.mark.parametrize("kind", HOSTS)
@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_that_leaves_leaves_nothing_behind(phase: str, kind: str, cancelling: bool) -> None:
    async with hosted(kind, cancelling=cancelling) as at:
        await check(at, PHASES[phase], _reset)


@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_may_leave_politely(phase: str) -> None:
    async with hosted("alone", cancelling=False) as at:
        await check(at, PHASES[phase], _close)


@pytest.mark.parametrize("cancelling", [False, True], ids=["as it is", "handler_cancellation"])
async def test_a_client_that_leaves_while_its_request_is_scanned_is_recorded_and_asks_nobody(cancelling: bool) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    class Scanner:
        @hookimpl
        async def classify(self) -> None:
            begun.set()
            await left.wait()

    async with hosted("alone", cancelling=cancelling, scanner=Scanner) as at:
        _, writer = await at.open(stream=True, model="auto")
        await begun.wait()
        writer.transport.abort()
        under_way = at.router.services.journeys  # what is told of a leaving is nowhere else to be seen
        await until(lambda: all(arrival.deadline.left for arrival in under_way), seconds=SOON)
        left.set()
        await until(lambda: at.router.admission.running == 0)
    assert [record.outcome for record in at.witness.records] == ["cancelled"]
    assert at.up.seen("a").requests == at.up.seen("b").requests == []
    assert at.slots.taken == 0
