"""Bodies that break off, of requests and of answers, leave nothing in memory, though nothing is collected meanwhile."""

from __future__ import annotations

import asyncio
import gc
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from ..support.attacked import MIB, attacked, head
from ..support.house import House, house, until

pytestmark = pytest.mark.anyio

TIMES, BYTES, LEFT = 20, 2 * MIB, 4 * MIB
"""The small form: 20 of 2 MiB each."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def nothing_collected() -> Iterator[None]:
    """What is held by circles of errors and frames stays held, and what is held is counted."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


FRAMES = {"length": f"Content-Length: {30 * MIB}", "chunks": "Transfer-Encoding: chunked"}


async def broken_upload(port: int, frame: str, size: int) -> None:
    """Send a part of a body, and leave as soon as it is taken."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head(FRAMES[frame]) + (b"%x\r\n" % (30 * MIB) if frame == "chunks" else b"") + b"x" * size)
    await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def cutting(size: int) -> AsyncIterator[str]:
    """The address of a provider whose answers break off after so many bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            lines = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size + 1}\r\n\r\n"
            writer.write(lines.encode() + b" " * size)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def settled(at: House) -> None:
    """Wait until all that came has been dealt with."""
    for _ in range(3):
        assert (await at.get("/health")).status == 200
    await until(lambda: not at.router.services.journeys)


@pytest.mark.parametrize("frame", FRAMES)
async def test_uploads_that_break_off_leave_nothing_behind(frame: str) -> None:
    async with house() as at:
        await broken_upload(at.port, frame, BYTES)
        await settled(at)
        with nothing_collected():
            for _ in range(TIMES):
                await broken_upload(at.port, frame, BYTES)
            await settled(at)
            await until(lambda: tracemalloc.get_traced_memory()[0] < LEFT)


async def test_answers_that_break_off_leave_nothing_behind() -> None:
    async with cutting(BYTES) as url, house(options={"a": {"base_url": url}}) as at:
        assert (await at.chat()).status == 503
        with nothing_collected():
            for _ in range(TIMES):
                assert (await at.chat()).status == 503
            await settled(at)
            await until(lambda: tracemalloc.get_traced_memory()[0] < LEFT)


@pytest.mark.nightly
@pytest.mark.parametrize("frame", FRAMES)
async def test_a_hundred_uploads_of_30_mb_that_break_off_are_forgotten(frame: str, tmp_path: Path) -> None:
    async with attacked(tmp_path) as server:
        await broken_upload(server.port, frame, MIB)
        before = server.memory()
        for _ in range(100):
            await broken_upload(server.port, frame, 29 * MIB)
            await server.health()
        await until(lambda: server.memory() <= before + 64 * MIB, 10)


@pytest.mark.nightly
async def test_a_hundred_answers_of_30_mb_that_break_off_are_forgotten(tmp_path: Path) -> None:
    async with cutting(30 * MIB) as url, attacked(tmp_path, provider=url) as server:
        asked = head("Content-Length: 63") + b'{"model": "auto", "messages": [{"role":"user","content":"Hi"}]}'
        assert await server.status(asked) == 503
        before = server.memory()
        for _ in range(100):
            assert await server.status(asked) == 503
        await until(lambda: server.memory() <= before + 64 * MIB, 10)


@pytest.mark.nightly
async def test_bombs_of_a_gigabyte_are_refused_and_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(b" " * (1000 * MIB), 1)
    data = head("Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb
    async with attacked(tmp_path) as server:
        await server.health()
        before, spent = server.memory(), server.cpu_seconds()
        for _ in range(20):
            assert await server.status(data) == 415
        assert server.cpu_seconds() - spent < 20 * 0.1, "unpacking one takes a second and more"
        await until(lambda: server.memory() <= before + 64 * MIB, 10)
