"""More than the server can take: floods, readers that do not read, and a reload while the queue is full."""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import aiohttp
import pytest
from aiohttp import web
from attrs import define

from routerpool.server.app import Server
from routerpool.testing.upstream import Upstream

from ..support.house import CHAT, House, house, router_over, running, until

pytestmark = pytest.mark.anyio

FLOOD, PLACES, QUEUE = 200, 4, 8
LIMITS = {"max_concurrent": PLACES, "max_waiting": QUEUE}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# Floods


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_flood_fills_places_and_queue_and_everybody_else_is_told_to_come_back(stream: bool) -> None:
    async with house(limits=LIMITS) as at:
        at.up.hold("a")
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as at.client:
            flood = [asyncio.create_task(at.chat(stream=stream)) for _ in range(FLOOD)]
            at.held += flood
            await until(lambda: sum(task.done() for task in flood) == FLOOD - PLACES - QUEUE)
            await at.up.wait_for("a", chat=PLACES)
            assert at.router.admission.status() == {
                "running": PLACES,
                "waiting": QUEUE,
                "streams": 0,
                "refused": FLOOD - PLACES - QUEUE,
            }
            assert (await at.get("/health")).status == 200, "while the queue is full"
            for task in flood:
                if task.done():
                    reply = task.result()
                    assert (reply.status, reply.error["code"]) == (429, "request_queue_full")
                    assert reply.headers["Retry-After"] == "1"
            assert at.up.seen("a").chat == PLACES
            at.up.release("a")
            outcomes = Counter(reply.status for reply in await asyncio.gather(*flood))
        assert outcomes == {200: PLACES + QUEUE, 429: FLOOD - PLACES - QUEUE}
        assert at.up.seen("a").chat == PLACES + QUEUE
        assert at.router.admission.status()["running"] == at.router.admission.status()["waiting"] == 0


async def test_who_waits_in_vain_in_a_flood_is_told_so_and_no_place_is_lost() -> None:
    async with house(limits={**LIMITS, "queue_seconds": 0.1}) as at:
        at.up.hold("a")
        flood = [asyncio.create_task(at.chat()) for _ in range(PLACES + QUEUE)]
        at.held += flood
        await until(lambda: sum(task.done() for task in flood) == QUEUE)
        late = [task.result() for task in flood if task.done()]
        assert {(reply.status, reply.error["code"]) for reply in late} == {(429, "request_queue_timeout")}
        assert {reply.headers["Retry-After"] for reply in late} == {"1"}
        at.up.release("a")
        await asyncio.gather(*flood)
        again = await asyncio.gather(*(at.chat() for _ in range(PLACES + QUEUE)))
        assert {reply.status for reply in again} == {200}


async def test_a_flood_that_goes_away_leaves_nothing_behind() -> None:
    async with house(limits=LIMITS) as at:
        at.up.hold("a")
        opened = [await at.open() for _ in range(PLACES + QUEUE)]
        await until(lambda: (at.router.admission.running, at.router.admission.waiting) == (PLACES, QUEUE))
        await at.up.wait_for("a", chat=PLACES)
        for _, writer in opened:
            writer.transport.abort()
        await at.up.wait_for("a", aborts=PLACES)
        await until(lambda: at.router.admission.running == at.router.admission.waiting == 0)
        assert {record.outcome for record in await at.recorded(PLACES + QUEUE)} == {"cancelled"}
        assert at.up.seen("a").chat == PLACES, "nobody was asked for those who had left"
        at.up.release("a")
        assert (await at.chat()).status == 200


async def test_who_waits_in_the_queue_over_a_reload_is_answered() -> None:
    async with Upstream() as up:
        router = router_over(up, limits=LIMITS)
        app, server = web.Application(), Server(router, load=lambda: router_over(up, limits=LIMITS))
        server.attach(app, "", root=True)
        async with running(app) as port, aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{port}"

            async def chat(stream: bool) -> tuple[int, bytes]:
                async with client.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": stream}) as response:
                    return response.status, await response.read()

            up.hold("a")
            old = [asyncio.create_task(chat(bool(number % 2))) for number in range(PLACES + QUEUE)]
            await until(lambda: (router.admission.running, router.admission.waiting) == (PLACES, QUEUE))
            for generation in range(2, 7):
                async with client.post(f"{url}/v1/router/reload", json={}) as response:
                    assert (await response.json())["generation"] == generation
            new = [asyncio.create_task(chat(bool(number % 2))) for number in range(PLACES)]
            up.release("a")
            for answers in (await asyncio.gather(*old), await asyncio.gather(*new)):
                for number, answer in enumerate(answers):
                    assert answer == (200, up.expected("a", "m1", bool(number % 2)))


# Readers that do not read

READERS = 8
MOST_SENT = 16 << 20
"""More than all the buffers of the kernel and of ours on the way of one stream."""
MOST_HELD = 1 << 20
"""What one stream may hold in this process, provider and client with it."""


@define
class Hose:
    """A provider whose stream never ends, and which counts what it could get rid of."""

    port: int = 0
    streams: int = 0
    sent: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m1"}
        chunk["choices"] = [{"index": 0, "delta": {"content": "x" * 16_000}, "finish_reason": None}]
        event = b"data: " + json.dumps(chunk).encode() + b"\n\n"
        own = writer.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.streams += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await writer.drain()
                self.sent += len(event)
        except (OSError, asyncio.IncompleteReadError):
            self.streams -= 1
        finally:
            writer.transport.abort()

    async def stuck(self) -> None:
        """Wait until it gets rid of nothing any more; TimeoutError if that never comes."""
        async with asyncio.timeout(10):
            before = -1
            while self.sent != before:
                before = self.sent
                await asyncio.sleep(0.2)  # nothing tells that nothing happens


@asynccontextmanager
async def besieged(readers: int) -> AsyncIterator[tuple[House, Hose, list[socket.socket]]]:
    """A house whose provider `hose` streams to so many clients that read nothing, once all of that has come to rest."""
    hose = Hose()
    server = await asyncio.start_server(hose.serve, "127.0.0.1", 0)
    hose.port = server.sockets[0].getsockname()[1]
    options = {"hose": {"base_url": f"http://127.0.0.1:{hose.port}/v1"}}
    body = json.dumps({**CHAT, "model": "hose/m1", "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    clients: list[socket.socket] = []
    async with server, house("a hose", options=options) as at:
        try:
            for _ in range(readers):
                own = socket.socket()
                clients.append(own)
                own.setblocking(False)
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(own, ("127.0.0.1", at.port))
                await loop.sock_sendall(own, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await until(lambda: at.router.admission.streams == readers)
            await hose.stuck()
            yield at, hose, clients
        finally:
            for own in clients:
                own.close()
            await until(lambda: hose.streams == 0)


async def test_a_provider_waits_for_clients_that_do_not_read_and_others_are_served_meanwhile() -> None:
    async with besieged(READERS) as (at, hose, _):
        assert hose.streams == READERS
        assert hose.sent < READERS * MOST_SENT
        stopped = hose.sent
        async with asyncio.timeout(2):
            for stream in (False, True):
                assert (await at.chat(model="a/m1", stream=stream)).body == at.up.expected("a", "m1", stream)
        assert hose.sent == stopped


async def test_memory_for_a_client_that_does_not_read_is_bounded() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        async with besieged(READERS):
            held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held - before < READERS * MOST_HELD


async def test_a_client_that_reads_again_gets_more() -> None:
    async with besieged(1) as (_, hose, (client,)):
        stopped, got = hose.sent, 0
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            while hose.sent < stopped + MOST_HELD:
                got += len(await loop.sock_recv(client, 1 << 20))
        assert got > 0


async def test_clients_that_do_not_read_and_leave_take_their_providers_with_them() -> None:
    async with besieged(READERS) as (at, hose, clients):
        for client in clients:
            with closing(client):
                pass
        await until(lambda: hose.streams == 0, seconds=1)
        await until(lambda: at.router.admission.streams == 0)
        assert {record.outcome for record in await at.recorded(READERS)} == {"cancelled"}
