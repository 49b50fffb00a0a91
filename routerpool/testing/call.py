"""One HTTP/1.1 request as the scriptable upstream received it, and the means to answer it byte by byte.

Written on bare asyncio streams because a fault must be able to put anything on the wire, which no HTTP library
lets it do.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from http import HTTPStatus
from typing import Any, NamedTuple

from attrs import define, field

from routerpool.testing.answers import Answer, sse

__all__ = ["BadRequest", "Connection", "Gone", "Head", "Reader", "Received", "UpstreamCall", "read_request"]

JSON = "application/json"
SSE = "text/event-stream"


class Gone(Exception):
    """The client closed the connection, or the upstream is being stopped."""


class BadRequest(Exception):
    """The client's bytes are not one unambiguous HTTP/1.1 request; the argument is what was read of them."""


class Reader(asyncio.StreamReader):
    """A stream reader that tells at once when the peer has closed, also while nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=2**20)
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        """Note the orderly end of the peer's bytes."""
        self.gone.set()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        """Note the loss of the connection."""
        self.gone.set()
        super().set_exception(exc)


class Head(NamedTuple):
    """The first part of a request, parsed."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case; the values of a repeated one joined by a comma."""
    raw: bytes


@define(eq=False)
class Received:
    """One request that reached the upstream. Times are `time.monotonic()` seconds."""

    provider: str
    method: str
    path: str
    headers: dict[str, str]
    head: bytes = field(repr=False)
    body: bytes = field(repr=False)
    connection: int
    chat: bool = False
    fault: str = ""
    """The label that decided the answer; empty for what is no chat request."""
    outcome: str = "open"
    """open, completed (sent to its end), aborted (the client left first), broken (the fault cut it) or stopped."""
    started: float = field(factory=time.monotonic)
    finished: float | None = None

    @cached_property
    def json(self) -> Any:
        """The body as JSON, or None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def model(self) -> str:
        """The model asked for, or an empty string."""
        body = self.json
        return str(body.get("model", "")) if isinstance(body, dict) else ""


@define(eq=False)
class Connection:
    """One client connection; `served` counts the requests it carried before the present one."""

    number: int
    reader: Reader
    writer: asyncio.StreamWriter
    served: int = 0
    providers: set[str] = field(factory=set)


@define(eq=False)
class UpstreamCall:
    """One request in a fault's hands.

    A fault that returns before the answer's end leaves the client with a closed connection. Every sending or waiting
    method raises `Gone` once the client has left.
    """

    received: Received
    connection: Connection
    answer: Answer
    arg: Any = None
    """What stands behind the colon of the label, parsed."""
    pace: float = 0.0
    """Seconds between two events of a healthy stream."""
    elsewhere: str = ""
    """The base URL of another provider, for faults that send the client away."""
    ended: bool = False
    stream: bool = field(init=False)
    include_usage: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        body = self.received.json
        body = body if isinstance(body, dict) else {}
        self.stream = body.get("stream") is True
        options = body.get("stream_options")
        self.include_usage = isinstance(options, dict) and options.get("include_usage") is True

    def head_bytes(
        self,
        status: int = 200,
        type_: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        length: int | None = None,
    ) -> bytes:
        """The head of an answer: chunked, or of this length; by default of the type the request asks for."""
        known = status in set(HTTPStatus)
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase if known else 'Unknown'}"]
        lines.append(f"content-type: {type_ or (SSE if self.stream else JSON)}")
        lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def head(self, status: int = 200, type_: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send the head of a chunked answer."""
        await self.raw(self.head_bytes(status, type_, headers))

    async def chunk(self, data: bytes, *, last: bool = False) -> None:
        """Send one chunk of a chunked body; with `last` the end of the body goes out in the same write."""
        framed = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        await self.raw(framed + (b"0\r\n\r\n" if last else b""), last=last)

    async def event(self, value: Any) -> None:
        """Send one server-sent event as a chunk of its own."""
        await self.chunk(sse(value))

    async def end(self) -> None:
        """Send the end of a chunked body."""
        await self.chunk(b"", last=True)

    async def whole(self, status: int, body: bytes, type_: str = JSON, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a complete answer with its length in one write."""
        head = self.head_bytes(status, type_, headers, len(body))
        await self.raw(head if self.received.method == "HEAD" else head + body, last=True)

    async def raw(self, data: bytes, *, last: bool = False) -> None:
        """Send these bytes as they are; `last` says that they complete the answer."""
        if self.connection.reader.gone.is_set():
            raise Gone
        self.connection.writer.write(data)
        self.ended = last
        try:
            await self.connection.writer.drain()
        except OSError as error:
            raise Gone from error
        await asyncio.sleep(0)  # a client on the same loop gets the events one by one, not as a block

    async def pause(self, seconds: float) -> None:
        """Wait, but not for a client that has left."""
        try:
            async with asyncio.timeout(seconds):
                await self.silence()
        except TimeoutError:
            return

    async def silence(self) -> None:
        """Send nothing more until the client leaves; always raises `Gone`."""
        await self.connection.reader.gone.wait()
        raise Gone

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        transport = self.connection.writer.transport
        descriptor = transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(descriptor)) as double:  # the loop's own wrapper may refuse setsockopt
            double.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def read_request(reader: Reader, acknowledge: Callable[[bytes], None]) -> tuple[Head, bytes] | None:
    """The next request of a connection with its body, or None when the client has left; raises `BadRequest`.

    Stricter than the standard, because a proxy under test must not send what two parsers could read in two ways.
    `acknowledge` is called with the interim answer when the client waits for one before its body.
    """
    try:
        first = await reader.readexactly(1)
        if not first.isalpha():  # a TLS greeting, or the rest of a body that was longer than announced
            raise BadRequest(first)
        raw = first + await reader.readuntil(b"\r\n\r\n")
        head = _parse_head(raw)
        if head.headers.get("expect", "").lower() == "100-continue":
            acknowledge(b"HTTP/1.1 100 Continue\r\n\r\n")
        return head, await _read_body(head, reader)
    except (asyncio.IncompleteReadError, OSError):
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest(first) from error


def _parse_head(raw: bytes) -> Head:
    line, *lines = raw[:-4].split(b"\r\n")
    request = re.fullmatch(rb"([A-Z]+) (/[\x21-\x7e]*) HTTP/1\.1", line)
    if request is None:
        raise BadRequest(raw)
    headers: dict[str, str] = {}
    for text in lines:
        match = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*", text)
        if match is None:
            raise BadRequest(raw)
        name, value = match[1].decode().lower(), match[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    ambiguous = length is not None and (coding is not None or not re.fullmatch("[0-9]+", length))
    if ambiguous or "host" not in headers or coding not in {None, "chunked"}:
        raise BadRequest(raw)
    return Head(request[1].decode(), request[2].decode(), headers, raw)


async def _read_body(head: Head, reader: Reader) -> bytes:
    if "transfer-encoding" not in head.headers:
        return await reader.readexactly(int(head.headers.get("content-length", "0")))
    parts: list[bytes] = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = re.fullmatch(rb"([0-9A-Fa-f]+)(;[^\r\n]*)?\r\n", line)
        if size is None:
            raise BadRequest(head.raw + line)
        data = await reader.readexactly(int(size[1], 16))
        if not data:
            break
        parts.append(data)
        if await reader.readexactly(2) != b"\r\n":
            raise BadRequest(head.raw + line + data)
    while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers say nothing we want
        pass
    return b"".join(parts)
