"""The way to a provider: connections kept alive between requests, and a POST whose head is made once and sent often.

aiohttp's client does for every request what is the same for all requests to one address: it builds headers, looks for
cookies, proxies and redirects, and starts a task to write the body. A `PreparedPost` does that once, and takes from
aiohttp what changes: the connection, the parser and the reader. It halves the price of the client's side (decision 7).

What it takes is not all in aiohttp's manual: `INNER_NAMES` is the one list of it. With an aiohttp that lacks one of
these, or where ROUTERPOOL_PLAIN_CLIENT is set, the same is done by aiohttp's own client, only slower (decision 14).
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
from collections.abc import Coroutine, Iterable, Mapping
from functools import cache, partial
from inspect import signature
from ssl import SSLContext
from types import SimpleNamespace
from typing import Any, NamedTuple

import aiohttp
from multidict import CIMultiDict
from yarl import URL

try:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.http import HttpProcessingError, RawResponseMessage
except ImportError:  # then they are missing by INNER_NAMES, and nothing below makes use of these
    ResponseHandler = RawResponseMessage = object  # type: ignore[assignment,misc]
    HttpProcessingError = aiohttp.ClientError  # type: ignore[assignment,misc]

__all__ = ["Connections", "NotHttpError", "PreparedPost", "ProxyRefusedError", "Received", "open_session"]

log = logging.getLogger("routerpool.connection")

PLAIN = "ROUTERPOOL_PLAIN_CLIENT"
"""The variable of the environment that has every request go through aiohttp's own client."""

HEADER_BYTES, MANY_HEADERS = 32 << 10, 16
"""The longest header field of an answer, and the most that many fields may have in all; more is no HTTP we read."""

READ_BYTES = 1 << 14
"""How much of an answer may wait for a slow reader; twice as much stops the provider."""

INTERIM_ANSWERS = 8
"""How many answers (1xx) may only announce the real one."""

COPIED_BYTES = 1 << 16
"""Up to this size a body is sent in one piece with its head; a longer one is not copied."""


class InnerName(NamedTuple):
    """A name that aiohttp's manual does not promise: of which of its things, and the arguments that we give it."""

    of: str
    name: str
    takes: tuple[str, ...] = ()


INNER_NAMES = (
    InnerName("connector", "_factory"),
    InnerName("connector", "connect", ("req", "traces", "timeout")),
    InnerName("connection", "protocol"),
    InnerName("request", "headers"),
    InnerName("request", "url"),
    InnerName("protocol", "_payload"),
    InnerName("protocol", "read"),
    InnerName("protocol", "set_exception", ("exc", "exc_cause")),
    InnerName(
        "protocol",
        "set_response_params",
        ("auto_decompress", "read_until_eof", "read_bufsize", "max_line_size", "max_field_size"),
    ),
    InnerName("message", "code"),
    InnerName("message", "headers"),
    InnerName("message", "raw_headers"),
    InnerName("reader", "is_eof"),
    InnerName("reader", "on_eof", ("callback",)),
    InnerName("reader", "set_exception", ("exc",)),
)
"""All that a prepared head stands on; the names of the things are those of `_things`."""


def missing(things: Mapping[str, object]) -> tuple[str, ...]:
    """Which of `INNER_NAMES` these things do not have, or have otherwise."""
    return tuple(f"{inner.of}.{inner.name}" for inner in INNER_NAMES if not _is_there(things.get(inner.of), inner))


def _is_there(thing: object, inner: InnerName) -> bool:
    if not hasattr(thing, inner.name):
        return False
    return not inner.takes or set(inner.takes) <= set(signature(getattr(thing, inner.name)).parameters)


def _things(connector: aiohttp.TCPConnector) -> dict[str, object]:
    """The things of aiohttp that `INNER_NAMES` are of: what its instances have is looked up in instances."""
    loop = asyncio.get_running_loop()
    things: dict[str, object] = {
        "connector": connector,
        "connection": getattr(aiohttp.connector, "Connection", None),
        "message": RawResponseMessage,
        "reader": aiohttp.StreamReader,
    }
    try:
        things["protocol"] = ResponseHandler(loop=loop)
        things["request"] = aiohttp.ClientRequest("POST", URL("http://localhost/"), headers={}, loop=loop)
    except TypeError:
        pass  # made in another way than we do: then their names are missing
    return things


@cache  # once for all routers of a process
def _tell(names: tuple[str, ...]) -> None:
    log.warning(
        "aiohttp %s has no %s as routerpool uses it: requests go through aiohttp's own client, which is slower",
        aiohttp.__version__,
        ", ".join(names),
    )


AS_IT_COMES: Mapping[str, Any] = {
    "allow_redirects": False,
    "auto_decompress": False,  # done by us, in bounded steps
    "skip_auto_headers": ("Content-Type",),
    "read_bufsize": READ_BYTES,
    "max_line_size": HEADER_BYTES,
    "max_field_size": HEADER_BYTES,
}
"""What aiohttp's own client is told of every request."""


class NotHttpError(aiohttp.ClientError):
    """What came back is no HTTP that we read."""


class ProxyRefusedError(aiohttp.ClientError):
    """A proxy does not let us through to the provider."""


class CountingProtocol(ResponseHandler):
    """aiohttp's client protocol, which ends an answer that is announced without end."""

    heads = 0
    used = False
    """Whether an answer was waited for over this connection before."""

    def set_response_params(self, **params: Any) -> None:
        """A request of aiohttp's own client begins."""
        self.heads = 0
        super().set_response_params(**params)

    def read(self) -> Coroutine[Any, Any, tuple[RawResponseMessage, aiohttp.StreamReader]]:
        """The head of the next answer, and its body, unless too many came before it."""
        self.used = True
        self.heads += 1
        if self.heads > INTERIM_ANSWERS + 1:
            raise NotHttpError("too many interim answers")
        return super().read()


class Protocol(CountingProtocol):
    """One for prepared heads, which tells a body's reader that no HTTP followed."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Let whoever waits for the head, or for more of the body, fail at once instead of running into a limit."""
        body = self._payload
        if body is not None and not body.is_eof():
            body.set_exception(aiohttp.ClientPayloadError(type(exc).__name__))
        super().set_exception(exc, *cause)


class Connections(aiohttp.TCPConnector):
    """A connector whose connections know whether they were used before. Made inside a running loop.

    `plain` says that requests over it go through aiohttp's own client.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._options = options
        self._fresh: Connections | None = None
        self._client: aiohttp.ClientSession | None = None
        gone = missing(_things(self))
        if gone:
            _tell(gone)
        self.plain = bool(gone or os.environ.get(PLAIN))
        if not gone:
            protocol = CountingProtocol if self.plain else Protocol
            self._factory = partial(protocol, loop=asyncio.get_running_loop())  # type: ignore[assignment]  # invariant

    @property
    def fresh(self) -> Connections:
        """A connector like this one that keeps nothing, so that whatever goes over it has a connection of its own."""
        if self._fresh is None:
            self._fresh = Connections(**{**self._options, "keepalive_timeout": None, "force_close": True})
        return self._fresh

    @property
    def client(self) -> aiohttp.ClientSession:
        """Aiohttp's own client over these connections, which notes in a request's context that one was used before."""
        if self._client is None:
            notes = aiohttp.TraceConfig()
            notes.on_connection_reuseconn.append(_note_reuse)
            self._client = aiohttp.ClientSession(
                connector=self,
                connector_owner=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[notes],
            )
        return self._client

    async def close(self, **options: Any) -> None:
        """Close all connections, those too that were made for a single request."""
        if self._fresh is not None:
            await self._fresh.close(**options)
        await super().close(**options)


def open_session(connect_seconds: float) -> aiohttp.ClientSession:
    """The one HTTP client of a router: no cookies, no proxies of the environment, nothing decompressed behind us."""
    return aiohttp.ClientSession(
        connector=Connections(limit=0, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds, sock_connect=connect_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        max_field_size=HEADER_BYTES,
        max_line_size=HEADER_BYTES,
    )


async def _note_reuse(_: object, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True


class Received:
    """An answer whose head is here. Its connection goes back to the pool by itself at the end of its body."""

    __slots__ = ("connection", "content", "headers", "status")

    def __init__(
        self,
        connection: aiohttp.connector.Connection,
        status: int,
        headers: Mapping[str, str],
        content: aiohttp.StreamReader,
    ) -> None:
        self.connection: aiohttp.connector.Connection | None = connection
        self.status = status
        self.headers = headers
        self.content = content
        content.on_eof(self._ended)

    def _ended(self) -> None:
        connection = self.connection
        if connection is None:
            return
        transport = connection.transport
        if self.status < 200 or (transport is not None and transport.get_write_buffer_size()):
            self.close()  # another protocol, or answered before it had read what was asked
        else:
            self.connection = None
            connection.release()

    def close(self) -> None:
        """Cut the connection, unless the body is read to its end."""
        connection, self.connection = self.connection, None
        if connection is not None:
            cut(connection)


class PreparedPost:
    """An address that is posted to with always the same headers. No redirect is followed, no cookie kept."""

    def __init__(
        self, url: URL, headers: Mapping[str, str], *, proxy: URL | None = None, ssl: SSLContext | bool = True
    ) -> None:
        if (complaint := unfit_header(headers)) is not None:
            raise ValueError(complaint)
        self.url = url
        self._proxy = proxy
        self._tls = ssl
        self._headers = headers
        self._request: aiohttp.ClientRequest | None = None
        self._head = b""

    def __repr__(self) -> str:
        return f"<PreparedPost {self.url}>"

    async def post(
        self, session: aiohttp.ClientSession, data: bytes, more: bytes = b""
    ) -> Received | aiohttp.ClientResponse:
        """Send `data` over one of the session's connections and wait for the head of the answer.

        `more` is what this one request adds to its head: whole lines, each with its end.

        A connection that was kept alive and turns out to be closed, before any byte came back, is no failure of the
        provider: the request is sent once more, over a new connection. A new one that breaks is a failure, and is told.
        """
        connector = session.connector
        if not isinstance(connector, Connections) or connector.plain or self._proxy is not None:
            return await self._post_plainly(session, data, more)
        request = self._request or self._prepare()
        try:
            connection = await connector.connect(request, [], session.timeout)
        except TimeoutError:
            raise no_connection(self.url) from None
        protocol = connection.protocol
        reused = isinstance(protocol, Protocol) and protocol.used
        try:
            return await self._sent(connection, data, more)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not reused:
                raise
        try:
            connection = await connector.fresh.connect(request, [], session.timeout)
        except TimeoutError:
            raise no_connection(self.url) from None
        return await self._sent(connection, data, more)

    async def _sent(self, connection: aiohttp.connector.Connection, data: bytes, more: bytes) -> Received:
        protocol, transport = connection.protocol, connection.transport
        try:
            if protocol is None or transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.heads = 0  # type: ignore[attr-defined]  # each connection of ours has it
            ResponseHandler.set_response_params(
                protocol,
                auto_decompress=False,  # done by us, in bounded steps
                read_until_eof=True,
                read_bufsize=READ_BYTES,
                max_line_size=HEADER_BYTES,
                max_field_size=HEADER_BYTES,
            )
            head = b"%b%d\r\n%b\r\n" % (self._head, len(data), more)
            if len(data) < COPIED_BYTES:
                transport.write(head + data)
            else:
                transport.writelines((head, data))
            while True:
                message, content = await protocol.read()
                if len(message.raw_headers) > MANY_HEADERS and _size(message.raw_headers) > HEADER_BYTES:
                    raise NotHttpError("too many headers")
                if message.code >= 200 or message.code == 101:  # others only announce the answer
                    return Received(connection, message.code, message.headers, content)
        except HttpProcessingError as error:
            cut(connection)
            raise NotHttpError(type(error).__name__) from None
        except BaseException:
            cut(connection)
            raise

    def _prepare(self) -> aiohttp.ClientRequest:
        """The head of every request, up to the length of its body."""
        loop = asyncio.get_running_loop()
        request = aiohttp.ClientRequest("POST", self.url, headers=self._headers, ssl=self._tls, loop=loop)
        lines = [f"POST {request.url.raw_path_qs} HTTP/1.1"]
        for name, value in request.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding"):
                lines.append(f"{name}: {value}")
        self._head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode()
        self._request = request
        return request

    # With aiohttp's own client

    async def _post_plainly(self, session: aiohttp.ClientSession, data: bytes, more: bytes) -> aiohttp.ClientResponse:
        """The same in aiohttp's manual ways. Over a session of somebody else nothing is sent twice."""
        connector = session.connector if isinstance(session.connector, Connections) else None
        use, limits = SimpleNamespace(reused=False), session.timeout
        options = {
            "headers": self._headers_with(more),
            "timeout": aiohttp.ClientTimeout(total=None, connect=limits.connect, sock_connect=limits.sock_connect),
            "trace_request_ctx": use,
            "proxy": self._proxy,
            "ssl": self._tls,
        }
        try:
            return await self._sent_plainly(connector.client if connector else session, data, options)
        except aiohttp.ClientConnectionError:
            if connector is None or not use.reused:
                raise
        return await self._sent_plainly(connector.fresh.client, data, options)

    async def _sent_plainly(
        self, client: aiohttp.ClientSession, data: bytes, options: Mapping[str, Any]
    ) -> aiohttp.ClientResponse:
        body = io.BytesIO(data)  # of long bytes aiohttp warns
        try:
            response = await client.post(self.url, data=body, **AS_IT_COMES, **options)
        except aiohttp.ClientHttpProxyError:
            raise ProxyRefusedError from None  # the error itself holds our headers, and so our key
        except aiohttp.ClientResponseError as error:
            raise NotHttpError(error.message) from None
        if len(response.raw_headers) > MANY_HEADERS and _size(response.raw_headers) > HEADER_BYTES:
            response.close()
            raise NotHttpError("too many headers")
        return response

    def _headers_with(self, more: bytes) -> CIMultiDict[str]:
        headers = CIMultiDict(self._headers)
        for line in more.decode().splitlines():
            name, _, value = line.partition(": ")
            headers[name] = value
        return headers


def no_connection(url: URL) -> aiohttp.ConnectionTimeoutError:
    """What aiohttp's own client, but not its connector, makes of an address or a handshake that takes too long."""
    return aiohttp.ConnectionTimeoutError(f"Connection timeout to host {url.host}")


def cut(connection: aiohttp.connector.Connection) -> None:
    """Close a connection now, without waiting until a server that does not listen has read what is still unsent."""
    transport = connection.transport
    if transport is not None and transport.get_write_buffer_size():
        transport.abort()
    connection.close()


def _size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def fits_header(text: str) -> bool:
    """Whether a text can stand in a header without ending it."""
    return text.isprintable()


def unfit_header(headers: Mapping[str, str]) -> str | None:
    """What is wrong with the first of these headers that cannot be sent, in words."""
    for name, value in headers.items():
        if not fits_header(name) or not fits_header(value):
            return f"the header {name!a} holds a character that no header can carry"
    return None
