"""Clients' connections of a server of our own: how many at once, and how long one may take to say what it wants."""

from __future__ import annotations

import asyncio
import resource
import ssl
from contextlib import suppress
from math import inf
from pathlib import Path
from socket import socket
from typing import Any, cast

import aiohttp
from aiohttp import web

from routerpool.config.sections import LimitsConfig
from routerpool.errors import RequestError
from routerpool.wire.json import dumps

__all__ = ["IDLE_SECONDS", "Connections", "most_connections"]

IDLE_SECONDS = 75.0
"""How long a connection is kept without a request: longer than proxies keep theirs, who lose a request otherwise."""

LOOK_SECONDS = 1.0
"""How often we look for heads that are late."""

TURNING_SECONDS, TURNED_AWAY = 1.0, 64
"""How long one that is too many is kept, so that its client reads why, and how many of these at once."""

SHARE = 0.8
"""Of the descriptors of a process; the rest are for providers, the store and files."""

SPARE = 8
"""Descriptors that are kept for upstreams and the store where there are few in all."""


def most_connections(limits: LimitsConfig) -> int:
    """How many clients' connections a process may have."""
    if limits.connections is not None:
        return limits.connections
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(min(int(SHARE * descriptors), descriptors - _held() - SPARE), 1)


def _held() -> int:
    """How many descriptors this process holds already; a guess where the system does not tell."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return sum(1 for _ in Path(folder).iterdir())
    return 16


class Connections:
    """The connections of one server.

    Those without a whole request wait: idle ones, unfinished heads and bodies, refused bodies; the longest first.
    """

    def __init__(self, limits: LimitsConfig) -> None:
        self._most = most_connections(limits)
        self._head_seconds = limits.head_seconds
        self._open: set[Connection] = set()
        self.waiting: dict[Connection, None] = {}
        self._turned_away = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    async def listen(
        self, runner: web.AppRunner, listener: socket, tls: ssl.SSLContext | None, backlog: int, **options: Any
    ) -> asyncio.Server:
        """Serve a socket with the handlers of a runner that is set up; close the server before you clean it up."""
        server = runner.server
        assert server is not None  # noqa: S101 - for the type checker: it is set up
        make = server.request_factory

        def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            if isinstance(protocol, Connection):  # and not another worker's
                protocol.begun(payload)
            return make(message, payload, protocol, writer, task)

        server.request_factory = request
        return await self._loop.create_server(
            lambda: Connection(self, server, loop=self._loop, **options),
            sock=listener,
            ssl=tls,
            backlog=backlog,
            ssl_handshake_timeout=self._head_seconds if tls else None,
        )

    def add(self, connection: Connection, transport: asyncio.Transport) -> None:
        """Take a new one; where that is too many, close the one that waits longest, else turn it away."""
        if len(self._open) >= self._most:
            if not self.waiting:
                self._turn_away(connection, transport)
                return
            longest = next(iter(self.waiting))
            self.remove(longest)
            longest.force_close()
        self._open.add(connection)
        self.wait(connection, for_head=True)

    def wait(self, connection: Connection, *, for_head: bool = False) -> None:
        """It waits from now on, behind all others; a head for so long at most."""
        self.waiting.pop(connection, None)
        self.waiting[connection] = None
        if for_head:
            connection.due = self._loop.time() + self._head_seconds
            if self._timer is None:
                self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)
        self.waiting.pop(connection, None)

    def _turn_away(self, connection: Connection, transport: asyncio.Transport) -> None:
        if self._turned_away >= TURNED_AWAY:
            transport.abort()
            return
        self._turned_away += 1
        connection.close()  # what it sends is not read
        transport.write(_overloaded(self._most))
        if transport.can_write_eof():
            transport.write_eof()

        def end() -> None:
            self._turned_away -= 1
            transport.abort()

        self._loop.call_later(TURNING_SECONDS, end)

    def _look(self) -> None:
        self._timer, now = None, self._loop.time()
        for connection in [one for one in self.waiting if one.due <= now]:
            self.remove(connection)
            connection.force_close()
        if any(one.due < inf for one in self.waiting):
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)


class Connection(web.RequestHandler):
    """aiohttp's connection of a client, which tells how far its next request has come.

    `due` is the loop's time at which a head must be here: of the first, and of each next one from its first byte on.
    """

    __slots__ = ("_connections", "_idle", "due")

    def __init__(self, connections: Connections, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._connections = connections
        self._idle = False
        self.due = inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(transport)
        self._connections.add(self, cast("asyncio.Transport", transport))

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It has sent something; after an answer, that begins the next head, which is mostly whole at once."""
        super().data_received(data)
        if self._idle and not getattr(self, "_messages", ()):  # aiohttp's own list of the whole ones
            self._idle = False
            self._connections.wait(self, for_head=True)

    def begun(self, body: aiohttp.StreamReader) -> None:
        """The head of a request is here; it waits on until its body is."""
        self.due, self._idle = inf, False
        if body.is_eof():
            self._whole()
        else:
            self._connections.wait(self)
            body.on_eof(self._whole)

    def _whole(self) -> None:
        self._connections.waiting.pop(self, None)

    def log_access(self, *args: Any) -> None:
        """A request is answered: aiohttp calls this at the end of each."""
        if self.transport is not None:
            self._idle = True
            self._connections.wait(self)
        super().log_access(*args)


def _overloaded(most: int) -> bytes:
    message = f"{most} connections are open, and no more are allowed (limits.connections)"
    body = dumps(RequestError("overloaded", message).body())
    lines = [
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Retry-After: 1",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
