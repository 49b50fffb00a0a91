"""Bodies as they come from strangers: read no faster than they fit, no slower than is bearable, or not at all."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web
from attrs import frozen

from routerpool.engine.load import Bodies, Body
from routerpool.errors import RequestError
from routerpool.http.plugin_routes import CALLER
from routerpool.types import Caller

__all__ = [
    "HELD",
    "HURRY",
    "BodyLimits",
    "answer_unread",
    "end_body",
    "expect_nothing",
    "send_continue",
    "too_large",
    "whole_body",
]

BODY_SECONDS = 5.0
"""In every so many seconds of a body must come what `limits.body_rate` says of them, and all of a smaller one."""

HURRY = 16
"""Times as fast a body must come while more than half of `limits.body_bytes` is held: whoever brings a little more than
is asked for could else hold all of it for hours."""

COUNTED_BYTES = 1 << 14
"""A smaller body that is here at once is not counted: the places of requests and decisions bound these."""

LINGER_SECONDS = 1.0
"""How long the connection of a body that was refused is kept, unread, so that its client sees why."""

HELD: web.RequestKey[Body] = web.RequestKey("routerpool_body", Body)
"""Where a request keeps its share of the bodies under way."""


@frozen
class BodyLimits:
    """What holds for every body: how large (bytes), how slow (bytes a second), and how many bytes at once."""

    largest: int
    rate: int
    bodies: Bodies


async def whole_body(request: web.BaseRequest, limit: int, limits: BodyLimits, caller: Caller) -> bytes | bytearray:
    """A body of at most `limit` bytes, held until its request ends; a RequestError, a TimeoutError, or aiohttp's."""
    content, body = request.content, b""
    if content.at_eof():  # a middleware of the host has read it before us
        body = await request.read()
    elif content.is_eof():  # all of it is here: nothing will be waited for
        body = await content.read()
    if body or content.at_eof():
        if len(body) > limit:
            raise too_large(limit)
        if len(body) >= COUNTED_BYTES:
            _held(request, limits, caller).grow(len(body))
        return body
    return await _coming(request, limit, limits, _held(request, limits, caller))


async def _coming(request: web.BaseRequest, limit: int, limits: BodyLimits, held: Body) -> bytearray:
    if CALLER not in request:  # a plugin's route has asked for it already
        await send_continue(request)
    content, grown, loop = request.content, bytearray(), asyncio.get_running_loop()
    least = due = limits.rate * BODY_SECONDS
    try:
        async with asyncio.timeout(BODY_SECONDS) as window:
            while part := await content.readany():
                if len(grown) + len(part) > limit:
                    raise too_large(limit)
                held.grow(len(part))
                grown += part
                if len(grown) >= due:
                    due = len(grown) + (HURRY * least if limits.bodies.crowded else least)
                    window.reschedule(loop.time() + BODY_SECONDS)
    except BaseException:
        grown.clear()  # the error holds this frame, and may be held for long
        held.end()
        raise
    return grown


def _held(request: web.BaseRequest, limits: BodyLimits, caller: Caller) -> Body:
    """A request's share; without keys, each address is a caller of its own."""
    if HELD in request:
        return request[HELD]
    body = limits.bodies.begin(request.remote or "" if caller.id == Caller().id else caller.id)
    request[HELD] = body
    return body


def end_body(request: web.BaseRequest) -> None:
    """Let go of a request's share, if it has one."""
    if len(request) and HELD in request:  # most keep nothing at all
        request[HELD].end()


def too_large(limit: int) -> RequestError:
    """The refusal of a body."""
    return RequestError("request_too_large", f"the body is larger than {limit} bytes (limits.request_bytes)")


async def expect_nothing(request: web.Request) -> None:
    """Aiohttp's own handler asks for a body before we know whether we want it."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed(text="only 100-continue can be expected\n")


async def send_continue(request: web.BaseRequest) -> None:
    """Ask a client that waits for it to send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


async def answer_unread(request: web.BaseRequest, response: web.Response) -> web.Response:
    """Answer ahead of a body that is not wanted, read no more of it, and close the connection.

    It is kept for a moment: a close with bytes unread is a reset, and some clients lose the answer to it.
    """
    if request.content.is_eof():
        return response
    response.force_close()
    with suppress(ConnectionError):
        await response.prepare(request)
        await response.write_eof()
    with suppress(Exception):  # of a body that broke: then nothing is held
        request.content.read_nowait()
    transport = request.transport
    if transport is not None and not transport.is_closing():
        transport.pause_reading()
        if transport.can_write_eof():
            transport.write_eof()
        await asyncio.sleep(LINGER_SECONDS)
    request.protocol.force_close()
    return response
