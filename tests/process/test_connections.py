"""Connections of strangers: bounded by the process's descriptors, and closed when they say nothing in time."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path
from typing import Self

import pytest

from routerpool.config.sections import LimitsConfig
from routerpool.process.connections import most_connections
from routerpool.testing.upstream import Upstream

from ..support.attacked import MIB, Attacked, attacked, head
from ..support.house import CHAT, until

pytestmark = pytest.mark.anyio

HEALTH = head(method="GET", path="/health")
UNFINISHED = head(f"Content-Length: {MIB}") + b"{"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Crowd:
    """Connections that are open at once."""

    def __init__(self, server: Attacked) -> None:
        self.server = server
        self.all: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.leave()

    def leave(self) -> None:
        for _, writer in self.all:
            writer.transport.abort()

    async def join(self, count: int, data: bytes = b"", *, heard: bool = False) -> None:
        """So many more, which send these bytes; `heard` waits for an answer to them."""
        for _ in range(count):
            reader, writer = await self.server.open()
            self.all.append((reader, writer))
            writer.write(data)
            if heard:
                assert b" 200 " in await reader.readuntil(b'{"status":"ok"}')


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the server has closed it."""
    async with asyncio.timeout(8):
        assert await reader.read() == b""


def test_the_bound_is_a_share_of_the_descriptors_or_what_is_configured() -> None:
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert most_connections(LimitsConfig()) == int(0.8 * descriptors)
    assert most_connections(LimitsConfig(connections=7)) == 7


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat", head("X-Long: x")[:-4]], ids=["none", "line", "cut"])
async def test_a_head_that_does_not_come_is_not_waited_for(sent: bytes, tmp_path: Path) -> None:
    async with attacked(tmp_path, limits={"head_seconds": 0.2}) as server, Crowd(server) as crowd:
        await crowd.join(1, sent)
        await ended(crowd.all[0][0])


async def test_the_next_head_of_a_connection_has_its_deadline_too_and_an_idle_one_has_time(tmp_path: Path) -> None:
    async with attacked(tmp_path, limits={"head_seconds": 0.2}) as server, Crowd(server) as crowd:
        await crowd.join(2, HEALTH, heard=True)
        (idle, writing), (slow, trickling) = crowd.all
        for byte in b"GET /health":
            trickling.write(bytes([byte]))
            await asyncio.sleep(0.02)
        await ended(slow)
        writing.write(HEALTH)
        assert b" 200 " in await idle.readuntil(b'{"status":"ok"}')


async def test_a_body_under_way_is_not_ended_by_the_deadline_of_heads(tmp_path: Path) -> None:
    async with attacked(tmp_path, limits={"head_seconds": 0.2}) as server, Crowd(server) as crowd:
        await crowd.join(1, head("Content-Length: 2"))
        await crowd.join(1, b"G")
        await ended(crowd.all[1][0])
        reader, writer = crowd.all[0]
        writer.write(b"{}")
        assert (await reader.readline()).split()[1] == b"400"


REFUSED = UNFINISHED.replace(b"application/json", b"text/plain")
CROWDS = {"silent": b"", "heads": b"POST /v1", "idle": HEALTH, "bodies": UNFINISHED, "refused": REFUSED}


@pytest.mark.parametrize("sent", CROWDS.values(), ids=CROWDS)
async def test_more_waiting_connections_than_descriptors_keep_nobody_out(sent: bytes, tmp_path: Path) -> None:
    async with attacked(tmp_path, descriptors=128) as server, Crowd(server) as crowd:
        for _ in range(4):
            await crowd.join(50, sent, heard=sent == HEALTH)
            assert await server.status(HEALTH) == 200
            assert server.descriptors() < 125
        await ended_or_answered(crowd.all[0][0])


async def ended_or_answered(reader: asyncio.StreamReader) -> None:
    """The one that waits longest made way."""
    async with asyncio.timeout(8):
        await reader.read()


async def test_where_all_connections_are_busy_one_more_is_told_to_come_back(tmp_path: Path) -> None:
    async with (
        Upstream() as up,
        attacked(tmp_path, provider=up.base_url("a"), limits={"connections": 3}) as server,
        Crowd(server) as crowd,
    ):
        up.hold("a")
        body = json.dumps(CHAT).encode()
        await crowd.join(3, head(f"Content-Length: {len(body)}") + body)
        await up.wait_for("a", chat=3)
        reader, writer = await server.open()
        async with asyncio.timeout(8):
            lines, body = (await reader.read()).split(b"\r\n\r\n")
        writer.transport.abort()
        assert lines.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in lines
        assert json.loads(body)["error"]["code"] == "overloaded"
        up.release("a")
        for held, _ in crowd.all:
            assert (await held.readline()).split()[1] == b"200"
        assert await server.status(HEALTH) == 200, "those who were answered make way"


@pytest.mark.nightly
async def test_thirty_unfinished_bodies_of_30_mb_weigh_no_more_than_the_bound(tmp_path: Path) -> None:
    async with attacked(tmp_path) as server:
        await server.health()
        before = server.memory()
        async with Crowd(server) as crowd:
            for _ in range(30):
                await crowd.join(1, head(f"Content-Length: {31 * MIB}") + b"x" * (30 * MIB))
                await server.health()
            await until(lambda: server.memory() > before + 30 * MIB, 10)
            assert server.memory() < before + 160 * MIB
        await until(lambda: server.memory() <= before + 64 * MIB, 10)
