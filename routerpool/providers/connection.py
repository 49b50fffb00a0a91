"""The way to a provider: connections kept alive between requests, and a POST whose head is made once and sent often.

aiohttp's client does for every request what is the same for all requests to one address: it builds headers, looks for
cookies, proxies and redirects, and starts a task to write the body. A `PreparedPost` does that once, and takes from
aiohttp what changes: the connection, the parser and the reader. It halves the price of the client's side (decision 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from yarl import URL

__all__ = ["HEADER_BYTES", "Connections", "PreparedPost", "Received"]

HEADER_BYTES, MANY_HEADERS = 32 << 10, 16
"""The longest header field of an answer, and the most that many fields may have in all; more is no HTTP we read."""

READ_BYTES = 1 << 14
"""How much of an answer may wait for a slow reader; twice as much stops the provider."""

COPIED_BYTES = 1 << 16
"""Up to this size a body is sent in one piece with its head; a longer one is not copied."""

_new: ContextVar[bool] = ContextVar("routerpool_new_connection", default=True)


class Protocol(ResponseHandler):
    """aiohttp's client protocol, which also tells the reader of a body that what followed in it was no HTTP."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Let whoever waits for the head, or for more of the body, fail at once instead of running into a limit."""
        body = self._payload
        if body is not None and not body.is_eof():
            body.set_exception(aiohttp.ClientPayloadError(type(exc).__name__))
        super().set_exception(exc, *cause)


class Connections(aiohttp.TCPConnector):
    """A connector that notes, for the current task, when it had to open a connection. Made inside a running loop."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(Protocol, loop=self._loop)  # type: ignore[assignment]  # a partial is invariant

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        _new.set(True)
        return await super()._create_connection(*args, **kwargs)


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

    def __init__(self, url: URL, headers: Mapping[str, str]) -> None:
        if (complaint := unfit_header(headers)) is not None:
            raise ValueError(complaint)
        self.url = url
        self._headers = headers
        self._request: aiohttp.ClientRequest | None = None
        self._head = b""

    def __repr__(self) -> str:
        return f"<PreparedPost {self.url}>"

    async def post(self, session: aiohttp.ClientSession, data: bytes, more: bytes = b"") -> Received:
        """Send `data` over one of the session's connections and wait for the head of the answer.

        `more` is what this one request adds to its head: whole lines, each with its end.

        A connection that was kept alive and turns out to be closed, before any byte came back, is no failure of the
        provider: the request is sent once more. A new connection that breaks is a failure, and is told.
        """
        _new.set(False)
        try:
            return await self._post(session, data, more)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if _new.get():
                raise
        return await self._post(session, data, more)

    async def _post(self, session: aiohttp.ClientSession, data: bytes, more: bytes) -> Received:
        request = self._request or self._prepare()
        connector = session.connector
        if connector is None:
            raise RuntimeError("the HTTP client is closed")
        connection = await connector.connect(request, [], session.timeout)
        protocol, transport = connection.protocol, connection.transport
        try:
            if protocol is None or transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(
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
                    raise HttpProcessingError(message="too many headers")
                if message.code >= 200 or message.code == 101:  # others only announce the answer
                    return Received(connection, message.code, message.headers, content)
        except BaseException:
            cut(connection)
            raise

    def _prepare(self) -> aiohttp.ClientRequest:
        """The head of every request, up to the length of its body."""
        request = aiohttp.ClientRequest("POST", self.url, headers=self._headers, loop=asyncio.get_running_loop())
        lines = [f"POST {request.url.raw_path_qs} HTTP/1.1"]
        for name, value in request.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding"):
                lines.append(f"{name}: {value}")
        self._head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode()
        self._request = request
        return request


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
