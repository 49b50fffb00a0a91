"""Bodies of strangers: unread where they are refused, bounded while they are under way, and never slow for ever."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web

from routerpool import hookimpl, read_json
from routerpool.http import bodies

from ..support.attacked import MIB, head
from ..support.house import CHAT, House, house, until

pytestmark = pytest.mark.anyio

KEYS: dict[str, Any] = {
    "server": {"api_keys": ["${KEY}"], "admin_keys": ["${ADMIN}"]},
    "env": {"KEY": "rp-user", "ADMIN": "rp-admin"},
}
LARGE = json.dumps({**CHAT, "user": "x" * 100_000}).encode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def connected(at: House, data: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection over which these bytes were sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
    try:
        writer.write(data)
        yield reader, writer
    finally:
        writer.transport.abort()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, Any]]:
    """The status, the headers and the error of an answer, after which the connection ends."""
    async with asyncio.timeout(5):
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        error: dict[str, Any] = json.loads(await reader.readexactly(int(headers["Content-Length"])))["error"]
        assert await reader.read() == b""
    return int(line.split()[1]), headers, error


# Refused before it is read

REFUSED: dict[str, tuple[list[str], int, str]] = {
    "packed": (["Content-Encoding: gzip"], 415, "unsupported_media_type"),
    "no key": ([], 401, "missing_api_key"),
    "a wrong key": (["X-Api-Key: nobody"], 401, "invalid_api_key"),
    "another origin": (["Origin: https://evil.example"], 403, "forbidden_origin"),
    "too large": (["X-Api-Key: rp-user", f"Content-Length: {64 * MIB}"], 413, "request_too_large"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused_is_not_read_and_its_connection_ends(name: str) -> None:
    lines, status, code = REFUSED[name]
    frame = [] if name == "too large" else ["Transfer-Encoding: chunked"]
    async with house(**KEYS) as at, connected(at, head(*lines, *frame)) as (reader, writer):
        found, headers, error = await answer(reader)
        assert (found, error["code"], headers["Connection"]) == (status, code, "close")
        sent = 0
        with suppress(ConnectionError):
            while sent < 64 * MIB:  # far more than sockets hold
                writer.write(b"100000\r\n" + b"x" * MIB + b"\r\n")
                await writer.drain()
                sent += MIB
        assert sent < 64 * MIB
        assert (await at.get("/health")).status == 200


async def test_a_body_that_expects_to_be_asked_for_is_not_where_it_is_refused() -> None:
    async with (
        house(**KEYS) as at,
        connected(at, head("Expect: 100-continue", "Content-Length: 100")) as (reader, _),
    ):
        assert (await answer(reader))[0] == 401


async def test_a_body_that_expects_to_be_asked_for_is_where_it_is_wanted() -> None:
    lines = ["Expect: 100-continue", f"Content-Length: {len(LARGE)}", "Connection: close"]
    async with house() as at, connected(at, head(*lines)) as (reader, writer):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(LARGE)
        assert (await reader.readline()).split()[1] == b"200"


async def test_an_expectation_of_something_else_is_refused() -> None:
    async with house() as at, connected(at, head("Expect: a miracle", "Content-Length: 0")) as (reader, _):
        assert (await reader.readline()).split()[1] == b"417"


async def test_a_refused_body_that_is_all_here_costs_nobody_the_connection() -> None:
    async with house(**KEYS) as at:
        data = head("X-Api-Key: nobody", "Content-Length: 2") + b"{}"
        async with connected(at, data) as (reader, writer):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
            writer.write(head(path="/health", method="GET"))
            async with asyncio.timeout(5):
                assert b"HTTP/1.1 200 " in await reader.readuntil(b'{"status":"ok"}')


async def test_a_refused_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * (64 * MIB), 1)
    data = head("Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb
    async with house() as at, connected(at, data) as (reader, _):
        assert (await reader.readline()).split()[1] == b"415"


# Slow


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of a body are tenths of it."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)


@pytest.mark.usefixtures("short")
async def test_a_body_that_comes_too_slowly_is_refused_however_much_is_here() -> None:
    async with house(limits={"body_rate": "1MiB"}) as at:
        data = head(f"Content-Length: {30 * MIB}") + b"x" * MIB
        async with connected(at, data) as (reader, writer):

            async def trickle() -> None:
                while True:
                    writer.write(b"x")
                    await asyncio.sleep(0.02)

            slow = asyncio.create_task(trickle())
            try:
                status, headers, error = await answer(reader)
            finally:
                slow.cancel()
            assert (status, error["code"], headers["Connection"]) == (408, "request_timeout", "close")
        await until(lambda: at.router.bodies.held == 0)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("here", "status"), [(MIB * 3 // 4, 408), (MIB // 4, None)], ids=["crowded", "room"])
async def test_while_much_is_held_a_body_must_come_faster(here: int, status: int | None) -> None:
    """What comes is twice what `body_rate` asks for."""
    async with house(limits={"request_bytes": "1MiB", "body_bytes": "1MiB", "body_rate": "10KiB"}) as at:
        async with connected(at, head(f"Content-Length: {MIB}") + b"x" * here) as (reader, writer):

            async def trickle() -> None:
                while True:
                    writer.write(b"x" * 400)
                    await asyncio.sleep(0.02)

            steady = asyncio.create_task(trickle())
            try:
                async with asyncio.timeout(3 if status else 1):
                    assert (await answer(reader))[0] == status
            except TimeoutError:
                assert status is None
                assert at.router.bodies.held > here
            finally:
                steady.cancel()
        await until(lambda: at.router.bodies.held == 0)


async def test_a_body_that_comes_steadily_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 2.0)
    data = head(f"Content-Length: {len(LARGE)}", "Connection: close")
    async with house(limits={"body_rate": 100}) as at, connected(at, data) as (reader, writer):
        for start in range(0, len(LARGE), len(LARGE) // 8):
            writer.write(LARGE[start : start + len(LARGE) // 8])
            await asyncio.sleep(0.3)  # more than the window in all
        assert (await reader.readline()).split()[1] == b"200"


# Many


async def test_unfinished_bodies_are_held_up_to_the_bound_and_given_back_when_their_clients_leave() -> None:
    async with house(limits={"request_bytes": "1MiB", "body_bytes_per_caller": "3MiB"}) as at:
        part = head(f"Content-Length: {MIB}") + b"x" * (MIB - 1)
        opened = [await asyncio.open_connection("127.0.0.1", at.port) for _ in range(8)]
        try:
            for _, writer in opened:
                writer.write(part)
            await until(lambda: at.router.bodies.refused == 5)
            assert at.router.bodies.held <= 3 * MIB
            assert (await at.chat(user="x" * 20_000)).error["code"] == "overloaded"
            assert (await at.chat()).status == 200, "small ones are not counted"
            assert (await at.get("/v1/router/status")).json["bodies"]["bytes"] > 2 * MIB
        finally:
            for _, writer in opened:
                writer.transport.abort()
        await until(lambda: at.router.bodies.held == 0)
        assert (await at.chat(user="x" * 20_000)).status == 200


async def test_a_caller_who_holds_too_much_is_in_nobodys_way() -> None:
    async with house(limits={"request_bytes": "1MiB", "body_bytes_per_caller": "1MiB"}, **KEYS) as at:
        part = head("X-Api-Key: rp-user", f"Content-Length: {MIB}") + b"x" * (MIB - 1)
        async with connected(at, part):
            await until(lambda: at.router.bodies.held == MIB - 1)
            for key, status in (("rp-user", 503), ("rp-admin", 200)):
                assert (await at.chat(user="x" * 20_000, headers={"X-Api-Key": key})).status == status


async def test_a_body_is_held_until_its_request_is_answered() -> None:
    async with house() as at:
        at.up.hold("a")
        at.held.append(asyncio.create_task(at.ask("POST", "/v1/chat/completions", LARGE)))
        await at.up.wait_for("a", chat=1)
        assert at.router.bodies.held == len(LARGE)
        at.up.release("a")
        assert (await at.held[0]).status == 200
        assert at.router.bodies.held == 0


async def test_the_body_of_a_decision_is_held_until_its_report() -> None:
    async with house(limits={"request_bytes": len(LARGE), "body_bytes_per_caller": 3 * len(LARGE)}) as at:
        made = [await at.ask("POST", "/v1/router/decide", LARGE) for _ in range(4)]
        assert [one.status for one in made] == [200, 200, 200, 503]
        assert at.router.bodies.held == 3 * len(LARGE)
        told = {"report_token": made[0].json["report_token"], "outcome": "answered"}
        assert (await at.ask("POST", "/v1/router/report", told)).status == 200
        await until(lambda: at.router.bodies.held == 2 * len(LARGE))


class Reading:
    """A plugin whose route reads a body twice."""

    @hookimpl
    def register_routes(self) -> list[web.RouteDef]:
        async def read(request: web.Request) -> web.Response:
            body = await read_json(request)
            assert body
            return web.json_response({"held": await read_json(request) == body})

        return [web.post("/v1/embeddings", read)]


async def test_the_bodies_of_plugins_routes_are_held_too() -> None:
    async with house(plugins={"reading": Reading}, limits={"request_bytes": MIB, "body_bytes_per_caller": MIB}) as at:
        async with connected(at, head(f"Content-Length: {MIB}", path="/v1/embeddings") + b"x" * (MIB - 1)):
            await until(lambda: at.router.bodies.held == MIB - 1)
            reply = await at.ask("POST", "/v1/embeddings", LARGE)
            assert (reply.status, reply.error["code"]) == (503, "overloaded")
        await until(lambda: at.router.bodies.held == 0)
        async with connected(at, head("Expect: 100-continue", "Content-Length: 2", path="/v1/embeddings")) as (r, w):
            assert await r.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            w.write(b"{}")
            assert (await r.readline()).startswith(b"HTTP/1.1 "), "and is not asked for twice"
