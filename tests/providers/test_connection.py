"""Connections that were kept alive: a stale one is no failure of the provider, a new one that breaks is.

All of it holds for prepared heads and for aiohttp's own client; what that cannot do as well is marked by a name.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import aiohttp
import pytest
from yarl import URL

from routerpool import OpenAIProvider
from routerpool.providers import connection
from routerpool.providers.connection import (
    INNER_NAMES,
    PLAIN,
    Connections,
    InnerName,
    NotHttpError,
    PreparedPost,
    Received,
    missing,
)
from routerpool.providers.failures import failure_of_exception
from routerpool.providers.replies import HttpReply, read_all
from routerpool.providers.settings import ProviderConfig
from routerpool.testing import Witness, make_router
from routerpool.testing.upstream import Upstream
from routerpool.types import FailureKind

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
REQUESTS = 100

TRIED = ("3.14.0", "3.14.1", "3.14.2", "3.14.3", "3.14.4", "3.14.5")
"""The versions of aiohttp with which these tests were run, both ways."""

only_a_limit_tells = pytest.mark.xfail(
    reason="aiohttp's own client leaves the reader of a body waiting: only a limit ends it",
    raises=TimeoutError,
    strict=True,
)
unsent_bytes_wait = pytest.mark.xfail(
    reason="aiohttp's own client waits with a connection until what is unsent has been taken",
    raises=TimeoutError,
    strict=True,
)


@pytest.fixture(params=["prepared", "plain"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How requests are sent."""
    monkeypatch.setenv(PLAIN, "1" if request.param == "plain" else "")
    return str(request.param)


@pytest.fixture
def plainly(way: str, request: pytest.FixtureRequest) -> Callable[[pytest.MarkDecorator], None]:
    """Mark a test where requests go through aiohttp's own client."""
    return lambda mark: request.applymarker(mark) if way == "plain" else None


def test_the_installed_aiohttp_was_tried() -> None:
    assert aiohttp.__version__ in TRIED, "run these tests with it, look at `INNER_NAMES`, and add it to the list"


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


def test_an_address_that_never_ends_its_handshake_is_no_connection_and_is_asked_once() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    async def main() -> None:
        listening = await asyncio.start_server(mute, "127.0.0.1", 0)
        async with listening, Upstream() as up:
            dead = {"use": "p", "base_url": str(at(listening).with_scheme("https")), "models": ["m1", "m2"]}
            well = {"use": "p", "base_url": up.base_url("b"), "models": ["m1"]}
            tree = {"plugins": {"a": dead, "b": well}, "limits": {"connect_seconds": 0.2}}
            witness = Witness()
            async with make_router(tree, plugins={"p": OpenAIProvider}, witness=witness) as router:
                await router.chat(BODY)
            assert witness.records[0].tried == ("a/m1:connect", "b/m1:answered")

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
    async with listening, aiohttp.ClientSession(connector=Connections(limit=0)) as session:
        yield str(at(listening)).rstrip("/"), session


def at(listening: asyncio.Server) -> URL:
    return URL.build(scheme="http", host="127.0.0.1", port=listening.sockets[0].getsockname()[1])


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def whole(reply: Received | aiohttp.ClientResponse) -> bytes:
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


@pytest.mark.parametrize("count", [8, 9])
def test_announcements_are_counted_for_each_answer_and_one_too_many_is_no_http(count: int) -> None:
    async def main() -> None:
        early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        server = Spoken(early * 8 + answer(b"one"), early * count + answer(b"two"))
        async with speaking(server) as (url, session):
            target = PreparedPost(URL(url), {})
            assert await whole(await target.post(session, b"")) == b"one"
            if count == 8:
                assert await whole(await target.post(session, b"")) == b"two"
                return
            with pytest.raises(NotHttpError) as raised:
                await target.post(session, b"")
            failure = failure_of_exception("p", raised.value)
            assert failure.kind is FailureKind.SERVER
            assert "HTTP" in failure.message
            async with asyncio.timeout(2):
                await server.closed.wait()

    asyncio.run(main())


@pytest.mark.parametrize("posted", [True, False], ids=["POST", "GET"])
def test_announcements_without_end_are_not_read_on(posted: bool) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
                await writer.drain()
        except ConnectionError:
            ended.set()
        finally:
            writer.close()

    ended = asyncio.Event()

    async def main() -> None:
        listening = await asyncio.start_server(flood, "127.0.0.1", 0)
        async with listening, aiohttp.ClientSession(connector=Connections(limit=0)) as session, asyncio.timeout(5):
            with pytest.raises(NotHttpError):
                await (PreparedPost(at(listening), {}).post(session, b"{}") if posted else session.get(at(listening)))
            await ended.wait()

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
            with pytest.raises(aiohttp.ClientError) as caught:
                await PreparedPost(URL(url), {}).post(session, b"{}")
            assert failure_of_exception("lab", caught.value).kind is FailureKind.SERVER

    asyncio.run(main())


def test_rubbish_between_the_chunks_of_a_body_is_told_at_once_and_not_by_a_limit(
    plainly: Callable[[pytest.MarkDecorator], None],
) -> None:
    plainly(only_a_limit_tells)

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
                await asyncio.wait_for(reading, 2)
            reply.close()

    asyncio.run(main())


@pytest.mark.parametrize("spoken", [b"OK" + b"k" * 20_000, b"OK\r\nX-Long: " + b"y" * 20_000])
def test_a_long_field_is_read(spoken: bytes) -> None:
    async def main() -> None:
        async with speaking(Spoken(b"HTTP/1.1 200 " + spoken + b"\r\nContent-Length: 4\r\n\r\nsaid")) as (url, session):
            assert await whole(await PreparedPost(URL(url), {}).post(session, b"{}")) == b"said"

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


# What is stale


class Fickle:
    """A server that keeps its connections, answers the first request of each of the first `most`, and closes at others.

    The first `together` requests are answered once all of them are there, so that as many connections are open.
    `asked` is over which connection each request came, counted from 1.
    """

    def __init__(self, together: int, most: int = 99) -> None:
        self.most = most
        self.gate = asyncio.Barrier(together)
        self.connections = 0
        self.asked: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            for first in (True, False):
                await reader.readuntil(b"\r\n\r\n")
                self.asked.append(number)
                await reader.readexactly(2)
                if not first or number > self.most:
                    return
                if number <= self.gate.parties:
                    await self.gate.wait()
                writer.write(answer(b"said"))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def pooled(server: Fickle) -> AsyncIterator[Callable[[], Any]]:
    """A post over a session that keeps as many connections to the server as that wants."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening, aiohttp.ClientSession(connector=Connections(limit=0)) as session:
        target = PreparedPost(at(listening), {})

        async def post() -> bytes:
            return await whole(await target.post(session, b"{}"))

        assert await asyncio.gather(*(post() for _ in range(server.gate.parties))) == [b"said"] * server.gate.parties
        yield post


def test_of_two_stale_connections_one_costs_a_retry_and_the_other_is_not_tried() -> None:
    async def main() -> None:
        server = Fickle(2)
        async with pooled(server) as post:
            assert await post() == b"said"
        assert sorted(server.asked[:2]) == [1, 2]
        assert server.asked[2] in (1, 2)
        assert server.asked[3:] == [3], "one retry, over a new connection"

    asyncio.run(main())


def test_a_retry_that_breaks_too_is_a_failure_and_there_is_no_third() -> None:
    async def main() -> None:
        server = Fickle(2, most=2)
        async with pooled(server) as post:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await post()
        assert len(server.asked) == 4
        assert server.asked[3] == 3

    asyncio.run(main())


def test_the_connection_of_a_retry_is_closed_with_its_answer_and_with_the_client() -> None:
    async def main() -> None:
        server = Spoken(answer(b"one"))
        async with speaking(server) as (url, session):
            assert isinstance(session.connector, Connections)
            fresh = session.connector.fresh
            async with aiohttp.ClientSession(connector=fresh, connector_owner=False) as other:
                assert await whole(await PreparedPost(URL(url), {}).post(other, b"{}")) == b"one"
            await asyncio.wait_for(server.closed.wait(), 5)
            assert fresh is session.connector.fresh
        assert fresh.closed
        gc.collect()

    asyncio.run(main())


def test_over_a_session_of_somebody_else_a_request_is_sent_once_and_unchanged() -> None:
    async def main() -> None:
        server = Fickle(1)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        url = at(listening)
        async with listening, aiohttp.ClientSession() as session:
            assert await whole(await PreparedPost(url, {}).post(session, b"{}")) == b"said"
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await PreparedPost(url, {}).post(session, b"{}")
        assert server.asked == [1, 1]

    asyncio.run(main())


# What is left of a request


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_what_one_request_adds_to_the_head_is_sent_with_it_alone() -> None:
    async def main() -> None:
        server = Spoken(answer(b"one"), answer(b"two"))
        async with speaking(server) as (url, session):
            target = PreparedPost(URL(url), {"Authorization": "Bearer k"})
            await whole(await target.post(session, b"{}", b"X-Session: abc\r\nX-More: 1: 2\r\n"))
            await whole(await target.post(session, b"{}"))
        assert b"\r\nX-Session: abc\r\nX-More: 1: 2\r\n" in server.heads[0]
        assert b"X-Session" not in server.heads[1]

    asyncio.run(main())


def test_an_answer_keeps_its_encoding_and_a_redirect_is_an_answer_and_no_cookie_comes_back() -> None:
    async def main() -> None:
        headers = ("Content-Encoding: gzip", "Location: /elsewhere", "Set-Cookie: a=b")
        server = Spoken(answer(b"not unpacked", *headers, status="307 Temporary Redirect"), answer(b"two"))
        async with speaking(server) as (url, session):
            target = PreparedPost(URL(url).with_host("localhost"), {})  # of an address no jar takes a cookie
            received = await target.post(session, b"{}")
            assert (received.status, received.headers["Location"]) == (307, "/elsewhere")
            assert await received.content.readany() == b"not unpacked"
            await whole(await target.post(session, b"{}"))
        assert b"ookie" not in server.heads[1]
        assert b"Content-Type" not in server.heads[0]

    asyncio.run(main())


def test_no_error_of_a_request_holds_its_key() -> None:
    async def main() -> None:
        async with speaking(Spoken(b"HTTP/9 what\r\n\r\n")) as (url, session):
            with pytest.raises(connection.NotHttpError) as caught:
                await PreparedPost(URL(url), {"Authorization": "Bearer sk-secret"}).post(session, b"{}")
        assert "sk-secret" not in repr(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    asyncio.run(main())


def test_who_leaves_while_nobody_reads_his_request_leaves_no_connection_behind(
    plainly: Callable[[pytest.MarkDecorator], None],
) -> None:
    plainly(unsent_bytes_wait)

    async def main() -> None:
        done = asyncio.Event()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await done.wait()
            writer.transport.abort()

        listening = await asyncio.start_server(deaf, "127.0.0.1", 0)
        async with listening, aiohttp.ClientSession(connector=Connections(limit=0)) as session:
            before = descriptors()
            sending = asyncio.ensure_future(PreparedPost(at(listening), {}).post(session, b"x" * (32 << 20)))
            async with asyncio.timeout(5):
                while descriptors() < before + 2:  # one at each end
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            sending.cancel()
            try:
                async with asyncio.timeout(2):
                    while descriptors() > before + 1:
                        await asyncio.sleep(0.01)
            finally:
                done.set()

    asyncio.run(main())


# What it stands on


class Without:
    """A thing without one of its names."""

    def __init__(self, thing: object, name: str) -> None:
        self._thing = thing
        self._name = name

    def __getattr__(self, name: str) -> object:
        if name == self._name:
            raise AttributeError(name)
        return getattr(self._thing, name)


def things() -> dict[str, object]:
    async def main() -> dict[str, object]:
        async with Connections() as connector:
            return connection._things(connector)

    return asyncio.run(main())


def test_this_aiohttp_has_all_that_a_prepared_head_stands_on(way: str) -> None:
    async def main() -> bool:
        async with Connections() as connector:
            return connector.plain

    assert missing(things()) == ()
    assert {inner.of for inner in INNER_NAMES} == set(things())
    assert asyncio.run(main()) is (way == "plain")


@pytest.mark.parametrize("inner", INNER_NAMES, ids=lambda inner: f"{inner.of}.{inner.name}")
def test_a_name_that_is_gone_is_missed_and_so_is_an_argument(inner: InnerName) -> None:
    whole_things = things()
    less = {**whole_things, inner.of: Without(whole_things[inner.of], inner.name)}
    assert missing(less) == (f"{inner.of}.{inner.name}",)
    if inner.takes:
        more = Without(whole_things[inner.of], "")
        setattr(more, inner.name, lambda *, other: other)
        assert missing({**whole_things, inner.of: more}) == (f"{inner.of}.{inner.name}",)
    assert missing({}) == tuple(f"{each.of}.{each.name}" for each in INNER_NAMES)


def test_with_a_name_gone_requests_take_aiohttps_own_way_and_that_is_said_once(
    way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Upstream() as up:
            assert (await asked(up, "a", 3)).failures == []
        server = Spoken(answer(b"one"), answer(b"two"))
        async with speaking(server) as (url, session):
            received = await PreparedPost(URL(url), {}).post(session, b"{}")
            assert isinstance(received, aiohttp.ClientResponse)
            assert await whole(received) == b"one"

    monkeypatch.setenv(PLAIN, "")
    monkeypatch.setattr(connection, "INNER_NAMES", (*INNER_NAMES, InnerName("protocol", f"{way}_gone")))
    connection._tell.cache_clear()
    with caplog.at_level(logging.WARNING, "routerpool.connection"):
        asyncio.run(main())
    [line] = caplog.messages
    assert f"protocol.{way}_gone" in line
    assert aiohttp.__version__ in line


def test_an_aiohttp_without_its_inner_classes_is_enough() -> None:
    script = """
        import asyncio, logging, aiohttp, aiohttp.client_proto
        del aiohttp.client_proto.ResponseHandler
        from routerpool.providers.connection import Connections
        logging.basicConfig()
        async def main():
            async with Connections() as connector:
                print(connector.plain, connector.client.closed)
        asyncio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
    assert "protocol.read" in done.stderr
