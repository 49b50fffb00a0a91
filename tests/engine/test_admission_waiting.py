"""Requests that wait for a place, clients that leave, and clients that do not read."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from ..support.house import CHAT, house, occupy, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_more_requests_than_places_wait_and_more_than_may_wait_are_told_to_come_back() -> None:
    async with house(limits={"max_concurrent": 1, "max_waiting": 2}) as at:
        await occupy(at)
        waiting = [asyncio.create_task(at.chat()) for _ in range(2)]
        await until(lambda: at.router.admission.waiting == 2)
        reply = await at.chat()
        assert (reply.status, reply.error["code"], reply.headers["Retry-After"]) == (429, "request_queue_full", "1")
        assert (await at.get("/health")).status == 200
        assert (await at.get("/v1/router/status")).json["admission"] == {
            "running": 1,
            "waiting": 2,
            "streams": 0,
            "refused": 1,
        }
        assert at.up.seen("a").chat == 1
        at.up.release("a")
        assert [r.status for r in await asyncio.gather(*waiting, *at.held)] == [200, 200, 200]
        assert at.router.admission.status() == {"running": 0, "waiting": 0, "streams": 0, "refused": 1}


async def test_a_client_may_wait_less_long_than_the_server_allows() -> None:
    async with house(limits={"max_concurrent": 1, "queue_seconds": 30}) as at:
        await occupy(at)
        for hint in ({"max_queue_seconds": 0.05}, {"maxQueueTimeMs": 50}, {"max_queue_seconds": 0}):
            async with asyncio.timeout(2):
                reply = await at.chat(router=hint)
            assert (reply.status, reply.error["code"]) == (429, "request_queue_timeout")
        assert at.router.admission.status()["waiting"] == 0


async def test_priority_decides_who_waits_less() -> None:
    async with house(limits={"max_concurrent": 1}) as at:
        await occupy(at)
        for count, (priority, model) in enumerate([("low", "m1"), ("normal", "a/m1"), ("high", "routerpool/fast")], 1):
            at.held.append(asyncio.create_task(at.chat(model=model, router={"priority": priority})))
            await until(lambda: at.router.admission.waiting == count)  # noqa: B023 - awaited within the round
        at.up.release("a")
        await asyncio.gather(*at.held)
        assert [r.model_asked for r in at.witness.records] == ["auto", "routerpool/fast", "a/m1", "m1"]


async def test_a_client_that_leaves_while_it_waits_frees_its_place_in_the_queue() -> None:
    async with house(limits={"max_concurrent": 1}) as at:
        await occupy(at)
        _, writer = await at.open()
        await until(lambda: at.router.admission.waiting == 1)
        writer.transport.abort()
        await until(lambda: at.router.admission.waiting == 0, seconds=1)
        (record,) = await at.recorded()
        assert record.outcome == "cancelled"
        assert at.up.seen("a").chat == 1


async def test_an_open_stream_holds_no_place() -> None:
    async with house(limits={"max_concurrent": 1}) as at:
        at.up.always("a", "stall")
        reader, writer = await at.open(stream=True)
        await reader.readuntil(b"\n\n")
        await until(lambda: at.router.admission.status()["streams"] == 1)
        assert at.router.admission.running == 0
        at.up.always("a", "ok")
        assert (await at.chat()).status == 200
        writer.transport.abort()
        await until(lambda: at.router.admission.status()["streams"] == 0)


async def test_no_more_streams_are_open_than_allowed() -> None:
    async with house(limits={"max_streams": 1}) as at:
        at.up.always("a", "stall")
        reader, writer = await at.open(stream=True)
        await reader.readuntil(b"\n\n")
        await until(lambda: at.router.admission.status()["streams"] == 1)
        reply = await at.chat(stream=True)
        assert (reply.status, reply.error["code"]) == (429, "request_queue_full")
        writer.transport.abort()


# Clients that leave

SOON = 0.5
"""An upstream is cut within this many seconds of its client's going."""
LOAD = 0.5
"""What a loaded test machine gets on top."""


PHASES = {
    "before the head": ("hang", True),
    "before the head of a plain answer": ("hang", False),
    "in a plain answer": ("headstall", False),
    "before the first event": ("commentstall", True),
    "between events": ("stall", True),
}


@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_that_leaves_takes_its_upstream_with_it_and_is_recorded_once(phase: str) -> None:
    fault, stream = PHASES[phase]
    async with house("a b") as at:
        at.up.always("a", fault)
        reader, writer = await at.open(stream=stream)
        await at.up.wait_for("a", chat=1)
        if phase == "between events":
            await reader.readuntil(b"data: ")
        writer.transport.abort()
        await at.up.wait_for("a", timeout=SOON + LOAD, aborts=1)
        (record,) = await at.recorded()
        assert record.outcome == "cancelled"
        assert record.stream is stream
        assert (record.usage.output > 0) is (phase == "between events")
        assert (await at.chat(model="b/m1")).status == 200
        assert len(at.witness.records) == 2, "one for each request"
        assert at.up.seen("b").chat == 1, "and nothing was tried again for nobody"
        assert at.router.admission.status() == {"running": 0, "waiting": 0, "streams": 0, "refused": 0}


async def test_a_client_that_does_not_read_is_cut_off_after_the_idle_limit() -> None:
    async with house(limits={"idle_seconds": 0.3}) as at:
        at.up.text("a", "x" * 60_000_000, 600)
        _, writer = await at.open(stream=True)
        await at.up.wait_for("a", timeout=3, aborts=1)
        (record,) = await at.recorded()
        assert record.outcome == "cancelled"
        writer.transport.abort()


async def test_the_next_request_on_the_same_connection_is_answered_after_an_error() -> None:
    async with house() as at:
        body = json.dumps(CHAT).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        one = head + b"Content-Length: 1\r\n\r\n{"
        two = head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        answer = await at.raw(one + two)
        assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"400", b"200"]
