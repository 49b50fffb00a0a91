"""Connections that were kept alive: a stale one is no failure of the provider, a new one that breaks is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.http import HttpProcessingError
from yarl import URL

from routerpool import OpenAIProvider
from routerpool.providers.connection import Connections, PreparedPost, Received
from routerpool.providers.failures import failure_of_exception
from routerpool.providers.replies import HttpReply, read_all
from routerpool.providers.settings import ProviderConfig
from routerpool.testing import Witness, make_router
from routerpool.testing.upstream import Upstream
from routerpool.types import FailureKind

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
REQUESTS = 100


async def asked(up: Upstream, names: str, times: int) -> Witness:
    """So many requests, one after the other, over one router's connections."""
    witness = Witness()
    plugins = {name: {"use": "p", "base_url": up.base_url(name), "models": ["m1"]} for name in names.split()}
    async with make_router({"plugins": plugins}, plugins={"p": OpenAIProvider}, witness=witness) as router:
        for _ in range(times):
            await router.chat(BODY)
    return witness


@pytest.mark.parametrize("label", ["kaclose", "kaidle"])
def test_a_stale_connection_is_invisible_and_costs_one_more_call_at_most(label: str) -> None:
    async def main() -> None:
        async with Upstream() as up:
            up.always("a", label)
            witness = await asked(up, "a", REQUESTS)
            assert [record.tried for record in witness.records] == [("a/m1:answered",)] * REQUESTS
            assert witness.failures == []
            seen = up.seen("a")
            assert seen.connections > REQUESTS / 2, "the connections did go stale"
            assert seen.completed == REQUESTS
            assert seen.chat < 2 * REQUESTS

    asyncio.run(main())


def test_a_new_connection_that_breaks_is_a_failure_and_is_not_tried_again() -> None:
    async def main() -> None:
        async with Upstream() as up:
            up.always("a", "close")
            witness = await asked(up, "a b", 1)
            assert witness.records[0].tried == ("a/m1:server", "b/m1:answered")
            assert up.seen("a").chat == 1

    asyncio.run(main())


class Spoken:
    """A server that says just these bytes, one answer for each head of a request that comes, on raw sockets."""

    def __init__(self, *answers: bytes, read_body: bool = True) -> None:
        self.answers = list(answers)
        self.read_body = read_body
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.left = 0
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if self.read_body:
                    self.bodies.append(await reader.readexactly(length))
                writer.write(self.answers.pop(0))
                await writer.drain()
            while await reader.read(1 << 16):
                self.left += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed.set()
            writer.close()


@asynccontextmanager
async def speaking(server: Spoken) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """The server's address, and a client session as a router opens it."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 24)
    port = listening.sockets[0].getsockname()[1]
    async with listening, aiohttp.ClientSession(connector=Connections(limit=0)) as session:
        yield f"http://127.0.0.1:{port}", session


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def whole(reply: Received) -> bytes:
    return await read_all(HttpReply(reply), 1 << 20)


def test_a_post_has_a_head_that_a_server_understands_and_reuses_its_connection() -> None:
    async def main() -> None:
        server = Spoken(answer(b"one"), answer(b"two"))
        async with speaking(server) as (url, session):
            target = PreparedPost(URL(f"{url}/v1/chat/completions?x=1"), {"Authorization": "Bearer k", "X-Name": "Zoë"})
            assert [await whole(await target.post(session, body)) for body in (b"{}", b"[]")] == [b"one", b"two"]
        line, *fields = server.heads[0].decode().removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        assert line == "POST /v1/chat/completions?x=1 HTTP/1.1"
        assert len(headers) == len(fields), "no header twice"
        assert headers["Host"] == url.removeprefix("http://")
        assert (headers["Authorization"], headers["X-Name"], headers["Content-Length"]) == ("Bearer k", "Zoë", "2")
        assert "Transfer-Encoding" not in headers
        assert (server.bodies, server.connections) == ([b"{}", b"[]"], 1)

    asyncio.run(main())


def test_announcements_before_the_answer_are_skipped() -> None:
    async def main() -> None:
        early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        async with speaking(Spoken(early + answer(b"said"))) as (url, session):
            reply = await PreparedPost(URL(url), {}).post(session, b"{}")
            assert (reply.status, await whole(reply)) == (200, b"said")

    asyncio.run(main())


def test_a_switch_to_another_protocol_is_told_and_its_connection_is_not_used_again() -> None:
    async def main() -> None:
        server = Spoken(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        async with speaking(server) as (url, session):
            reply = await PreparedPost(URL(url), {}).post(session, b"{}")
            assert reply.status == 101
            reply.close()
            await asyncio.wait_for(server.closed.wait(), 5)

    asyncio.run(main())


def test_a_server_that_answers_before_it_has_read_is_heard_and_its_connection_is_not_used_again() -> None:
    async def main() -> None:
        server = Spoken(answer(b"too large", status="413 Too Large"), read_body=False)
        async with speaking(server) as (url, session):
            reply = await PreparedPost(URL(url), {}).post(session, b"x" * (32 << 20))
            assert (reply.status, await whole(reply)) == (413, b"too large")
            await asyncio.wait_for(server.closed.wait(), 5)
            assert server.left < 256, "what nobody wants is not sent"

    asyncio.run(main())


def test_an_answer_that_is_not_read_to_its_end_costs_its_connection() -> None:
    async def main() -> None:
        server = Spoken(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part")
        async with speaking(server) as (url, session):
            reply = await PreparedPost(URL(url), {}).post(session, b"{}")
            assert await reply.content.readany() == b"only a part"
            reply.close()
            await asyncio.wait_for(server.closed.wait(), 5)

    asyncio.run(main())


MANY = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 400) for number in range(90))


@pytest.mark.parametrize(
    "spoken",
    [b"HTTP/1.1 200 OK\r\n" + MANY, b"HTTP/9 what\r\n\r\n", b"\x00\x01", b"HTTP/1.1 200 OK\r\nX: " + b"y" * (33 << 10)],
)
def test_what_is_no_http_is_a_failure_of_the_provider(spoken: bytes) -> None:
    async def main() -> None:
        async with speaking(Spoken(spoken + b"\r\n\r\n")) as (url, session):
            with pytest.raises((HttpProcessingError, aiohttp.ClientError)) as caught:
                await PreparedPost(URL(url), {}).post(session, b"{}")
            assert failure_of_exception("lab", caught.value).kind is FailureKind.SERVER

    asyncio.run(main())


def test_rubbish_between_the_chunks_of_a_body_is_told_at_once_and_not_by_a_limit() -> None:
    async def main() -> None:
        spoken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"
        async with speaking(Spoken(spoken)) as (url, session):
            reply = await PreparedPost(URL(url), {}).post(session, b"{}")
            assert await reply.content.readany() == b"part"
            protocol = reply.connection.protocol if reply.connection else None
            assert protocol is not None
            reading = asyncio.ensure_future(reply.content.readany())
            await asyncio.sleep(0)
            protocol.data_received(b"no length\r\n")
            with pytest.raises(aiohttp.ClientPayloadError):
                await asyncio.wait_for(reading, 5)
            reply.close()

    asyncio.run(main())


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0"])
def test_a_header_that_would_end_itself_is_refused_when_it_is_set(value: str) -> None:
    with pytest.raises(ValueError, match="no header can carry"):
        PreparedPost(URL("http://127.0.0.1:1"), {"X-Name": value})


def test_a_key_with_a_line_break_leaves_its_provider_idle_and_is_told_by_the_name_of_its_variable() -> None:
    provider = OpenAIProvider(ProviderConfig(base_url="http://127.0.0.1:1/v1", api_key_env="LAB_KEY"), name="lab")
    provider.bind({"LAB_KEY": "sk-one\nsk-two"})
    told = provider.idle()
    assert told is not None
    assert "LAB_KEY" in told
    assert "sk-one" not in told
