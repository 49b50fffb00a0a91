"""How much is read of anything: a client's body wherever we are mounted, a provider's headers, body and events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from routerpool import Router, create_app, setup
from routerpool.config.reading import from_mapping
from routerpool.testing.upstream import Upstream

from ..support.house import CHAT, JSON, House, house, router_over, running, shared

pytestmark = pytest.mark.anyio

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_limits_are_those_of_the_contract_unless_the_config_says_otherwise() -> None:
    config, _ = from_mapping({}, env={})
    assert config.limits.request_bytes == 32 * MIB
    assert config.limits.upstream_bytes == 32 * MIB
    assert config.limits.event_bytes == 32 * MIB


# A client's body


def body_of(size: int) -> bytes:
    """A chat request of exactly so many bytes."""
    empty = json.dumps({**CHAT, "user": ""}).encode()
    return empty.replace(b'"user": ""', b'"user": "' + b"x" * (size - len(empty)) + b'"')


def _alone(router: Router) -> tuple[web.Application, str]:
    return create_app(router), ""


def _mounted(router: Router) -> tuple[web.Application, str]:
    app = web.Application(client_max_size=KIB)
    setup(app, router, prefix="/llm")
    return app, "/llm"


def _part(router: Router) -> tuple[web.Application, str]:
    app = web.Application(client_max_size=KIB)
    app.add_subapp("/llm", create_app(router))
    return app, "/llm"


HOSTS = {"alone": _alone, "mounted": _mounted, "part of another": _part}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/router/explain"])
@pytest.mark.parametrize("host", HOSTS)
async def test_a_body_may_have_exactly_as_many_bytes_as_we_allow_whatever_the_host_does(
    host: str, route: str, chunked: bool
) -> None:
    limit = 100 * KIB
    async with Upstream() as up:
        app, prefix = HOSTS[host](router_over(up, limits={"request_bytes": limit}))

        async def sent(raw: bytes) -> AsyncIterator[bytes]:
            for start in range(0, len(raw), 30 * KIB):
                yield raw[start : start + 30 * KIB]

        async with running(app) as port, aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{port}{prefix}{route}"
            for size, status in ((limit, 200), (limit + 1, 413), (4 * limit, 413), (limit, 200)):
                raw = body_of(size)
                assert len(raw) == size
                async with client.post(url, data=sent(raw) if chunked else raw, headers=JSON) as response:
                    told = await response.read()
                    assert response.status == status
                    if status == 413:
                        assert json.loads(told)["error"]["code"] == "request_too_large"
        assert up.seen("a").chat == (2 if "chat" in route else 0)


async def test_a_body_that_never_ends_is_refused_at_the_limit_and_not_read_on() -> None:
    async with house(limits={"request_bytes": 100 * KIB}) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent = 0
        try:
            async with asyncio.timeout(5):
                while not reader._buffer and sent < 64 * MIB:  # type: ignore[attr-defined]  # no public look ahead
                    writer.write(b"10000\r\n" + b" " * (64 * KIB) + b"\r\n")
                    sent += 64 * KIB
                    await writer.drain()
                    await asyncio.sleep(0)
                assert b" 413 " in await reader.readline()
        except ConnectionError:
            pytest.fail("it was cut off without a word")
        finally:
            writer.transport.abort()
        assert sent < 8 * MIB


# A provider's answer


async def who(at: House, stream: bool = False) -> tuple[int, str | None, str | None]:
    """Status, provider and what was tried of one request, whose answer must be that provider's own."""
    reply = await at.chat(stream=stream)
    provider = reply.headers.get("X-Router-Provider")
    assert provider is None or reply.body == at.up.expected(provider, "m1", stream)
    return reply.status, provider, reply.headers.get("X-Router-Tried")


@pytest.mark.parametrize("fault", ["ok", "enc:gzip", "enc:deflate", "ssebytes"])
async def test_a_plain_answer_may_have_exactly_as_many_bytes_unpacked_as_we_allow(fault: str) -> None:
    async with Upstream() as up:
        up.text("a", "x" * 3000)
        size = len(up.expected("a", "m1"))
    for limit, expected in ((size, (200, "a", None)), (size - 1, (200, "b", "a/m1:server"))):
        async with house("a b", limits={"upstream_bytes": limit}) as at:
            at.up.text("a", "x" * 3000)
            at.up.always("a", fault)
            assert await who(at) == expected


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_larger_than_the_default_limits_is_another_candidates_answer(stream: bool) -> None:
    async with house("a b") as at:
        at.up.text("a", "x" * 31 * MIB, 1)
        assert await who(at, stream) == (200, "a", None)
        at.up.text("a", "x" * 32 * MIB, 1)
        assert await who(at, stream) == (200, "b", "a/m1:server")


async def test_an_event_over_the_limit_in_an_open_stream_ends_it_visibly() -> None:
    async with house("a b", limits={"event_bytes": 64 * KIB}) as at:
        at.up.text("a", "one two " + "x" * MIB)
        reply = await at.chat(stream=True)
        assert reply.headers["X-Router-Provider"] == "a"
        assert b"one" in reply.body
        assert b"upstream_interrupted" in reply.body
        assert b"[DONE]" not in reply.body
        assert len(reply.body) < 64 * KIB
        await at.up.wait_for("a", open=0)
        assert [record.outcome for record in await at.recorded()] == ["truncated"]


# A provider's headers

GOOD = b'{"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}'


@asynccontextmanager
async def saying(headers: bytes, body: bytes = GOOD) -> AsyncIterator[str]:
    """The address of a provider whose answers have these header lines beside a length and a type."""
    writers = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has gone
            while True:
                told = re.search(rb"(?i)content-length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(int(told[1]) if told else 0)
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
                writer.write(head + headers + b"\r\n\r\n" + body)
                await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


QUICK = {"answer_seconds": 1}
HEADERS: dict[str, tuple[bytes, str]] = {
    "31 KiB": (b"X-A: " + b"a" * 31 * KIB, "a"),
    "33 KiB": (b"X-A: " + b"a" * 33 * KIB, "b"),
    "33 KiB of a name": (b"a" * 33 * KIB + b": 1", "b"),
    "1 MiB": (b"X-A: " + b"a" * MIB, "b"),
    "100 headers": (b"\r\n".join(b"X-%d: 1" % n for n in range(100)), "a"),
    "200 headers": (b"\r\n".join(b"X-%d: 1" % n for n in range(200)), "b"),
    "a zero sign": (b"X-A: a\0b", "b"),
    "a name with a blank": (b"X A: 1", "b"),
    "no colon": (b"nonsense", "b"),
    "another length": (b"Content-Length: 5", "b"),
    "chunked too": (b"Transfer-Encoding: chunked", "b"),
    "an unknown coding": (b"Content-Encoding: br", "b"),
    "a coding that is a lie": (b"Content-Encoding: gzip", "b"),
    "not latin": ("X-A: ä\u2028".encode(), "a"),
    "a cookie": (b"Set-Cookie: a=b; Domain=127.0.0.1", "a"),
}


@pytest.mark.parametrize("name", HEADERS)
async def test_headers_beyond_all_measure_are_a_failure_and_the_next_candidate_answers(name: str) -> None:
    headers, provider = HEADERS[name]
    async with saying(headers) as url, house("a b", options={"a": {"base_url": url}}, limits=QUICK) as at:
        for _ in range(2):
            reply = await at.chat()
            assert reply.status == 200
            assert reply.headers["X-Router-Provider"] == provider
            assert reply.body == (GOOD if provider == "a" else at.up.expected("b", "m1"))
            assert not {"X-A", "X-1", "Set-Cookie"} & set(reply.headers)


async def test_no_doubtful_header_of_a_provider_spoils_an_answer() -> None:
    gadgets = json.loads(shared("reliability", "own", "http1_gadgets.json").read_text("utf-8"))["header_gadgets"]
    assert len(gadgets) > 50
    for gadget in gadgets:
        async with (
            saying(gadget.encode()) as url,
            house("a b", options={"a": {"base_url": url}}, limits=QUICK) as at,
        ):
            for _ in range(2):
                reply = await at.chat()
                right = {"a": GOOD, "b": at.up.expected("b", "m1")}[reply.headers["X-Router-Provider"]]
                assert (reply.status, reply.body) == (200, right), gadget
