"""What the server says over HTTP: answers and streams with the truth about routing in their headers, and errors."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.http import HttpProcessingError
from attrs import frozen

from routerpool.engine.sinks import Served, Sink
from routerpool.errors import RequestError, defect, release
from routerpool.hooks.isolation import locate
from routerpool.http.bodies import HURRY, BodyLimits, too_large, whole_body
from routerpool.http.heartbeats import BEAT, Heartbeat, comment, late_chunks, late_error
from routerpool.http.plugin_routes import CALLER
from routerpool.router import Router
from routerpool.types import Answer, Caller, ChatRequest
from routerpool.wire.errors import error_event
from routerpool.wire.json import TooManyValuesError, dumps, event_bytes, loads_request, off_loop
from routerpool.wire.sse import DONE

__all__ = [
    "SERVING",
    "SHIELD",
    "HttpSink",
    "Serving",
    "Watch",
    "Written",
    "error_response",
    "header",
    "json_response",
    "parsed_json",
    "read_json",
    "routing_headers",
]

log = logging.getLogger("routerpool.server")

SHIELD: Mapping[str, str] = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
"""With every answer: no browser takes it for a script or an image, and hands it to no page of another origin."""

TOO_SLOW = f"the body came more slowly than limits.body_rate, or than {HURRY} times that while much is held"

REQUEST_VALUES = 250_000
"""The most values in a client's JSON: texts are one each, so a request has some thousands."""

TRUTH = ("X-Router-", "Retry-After")
"""Headers that a stream tells in its last comment, where a heartbeat has sent its head before they were known."""

LOOK_SECONDS = 0.1
"""How often we look whether clients are still there; an upstream is cut within this time of their going."""


class Watch:
    """Sees clients leave, without relying on the host application to cancel handlers: one timer for all of them."""

    def __init__(self) -> None:
        self._open: dict[HttpSink, Callable[[str], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, sink: HttpSink, leave: Callable[[str], None]) -> None:
        """Call `leave("client_gone")` once the client of this sink is gone."""
        self._open[sink] = leave
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def remove(self, sink: HttpSink) -> None:
        """The request is over."""
        self._open.pop(sink, None)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        for sink, leave in tuple(self._open.items()):
            transport = sink.request.transport
            if transport is None or transport.is_closing():
                self.remove(sink)
                leave("client_gone")
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)


class EventStream(web.StreamResponse):
    """A stream whose head goes out together with its first events, which are here when it is opened."""

    _send_headers_immediately = False  # aiohttp's own switch: its plain Response has it off, and StreamResponse on


Written = Callable[[Answer, Served], web.StreamResponse | None]
"""Makes the response of a plain answer, or None where it is not of the usual form."""


@frozen
class Serving:
    """What a sink needs of its server: who sees clients leave, more headers, whether to tell how it was routed."""

    watch: Watch
    bodies: BodyLimits
    tell: bool = True
    extra: Mapping[str, str] = SHIELD
    heartbeat: float = 0.0
    """Seconds between the comments of a stream that waits for its first event; 0: none are sent."""
    written: Written | None = None
    """What makes plain answers of the usual form cheaper than aiohttp does, where nobody else has a say in them."""


SERVING: web.RequestKey[Serving] = web.RequestKey("routerpool_serving", Serving)
"""Where a plugin's route finds what its sink needs."""


class HttpSink(Sink):
    """Sends an answer to one HTTP client in the chat-completions dialect.

    A plugin's route makes one of its request alone: `await HttpSink(request).serve(router, asked)` is the response.
    """

    content_type = "text/event-stream; charset=utf-8"
    """That of a stream."""

    def __init__(self, request: web.Request, serving: Serving | None = None) -> None:
        self.request = request
        self.serving = request[SERVING] if serving is None else serving
        self.response: web.StreamResponse | None = None
        self.heartbeat: Heartbeat | None = None

    async def serve(self, router: Router, asked: ChatRequest) -> web.StreamResponse:
        """Have a router answer into this; a RequestError where nothing has been sent."""
        if self.serving.heartbeat and asked.stream and self.content_type.startswith("text/event-stream"):
            self.heartbeat = Heartbeat(self.serving.heartbeat, partial(self._beat, asked.id))
        try:
            await router.handle(asked, self)
        except Exception as error:
            if isinstance(error, RequestError):
                error.request_id = asked.id
            if not await self.begun():
                raise
            await self._fail_late(error)
        finally:
            self.serving.watch.remove(self)
            if self.heartbeat is not None:
                self.heartbeat.end()
        if self.response is None:
            raise RequestError("internal_error", "no answer was made")
        return self.response

    def watch(self, leave: Callable[[str], None]) -> None:
        """Have the client watched."""
        self.serving.watch.add(self, leave)

    async def begun(self) -> bool:
        """Whether a heartbeat has opened the stream already; after this none comes any more."""
        if self.heartbeat is not None:
            await self.heartbeat.stop()
        return self.heartbeat is not None and self.response is not None

    async def plain(self, answer: Answer, served: Served) -> None:
        """Make the response; aiohttp sends it when the handler returns."""
        if self.heartbeat is not None and await self.begun():
            await self._plain_late(answer, served)
            return
        serving = self.serving
        if serving.written is not None and serving.tell and serving.extra is SHIELD:
            self.response = serving.written(answer, served)
            if self.response is not None:
                return
        headers = {"Content-Type": header(answer.content_type), **self._headers(served)}
        self.response = web.Response(status=answer.status, body=answer.body, headers=headers)

    async def open(self, served: Served) -> None:
        """Send the head of an event stream."""
        if self.heartbeat is not None and await self.begun():
            self._tell_late(self._headers(served))
        else:
            await self._open(self._headers(served))
        if type(self).write is HttpSink.write and self.response is not None:
            self.write = self.response.write  # type: ignore[assignment, method-assign]  # every chunk takes this way

    async def _open(self, headers: Mapping[str, str]) -> None:
        response = EventStream(
            headers={
                "Content-Type": self.content_type,
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                **headers,
            }
        )
        await response.prepare(self.request)
        self.response = response

    async def write(self, block: bytes) -> None:
        """Send whole events."""
        if self.response is not None:
            await self.response.write(block)

    async def fail(self, error: RequestError) -> None:
        """Say what broke, and end without the terminal marker."""
        await self._end(error_event(error))

    async def close(self, rest: bytes) -> None:
        """Send what is left, the terminal marker and the end of the body in one piece."""
        await self._end(rest + DONE)

    async def _end(self, last: bytes) -> None:
        if self.response is not None:
            if self.heartbeat is not None:
                last = comment(self.heartbeat.told) + last
            await self.response.write_eof(last)

    # Behind a heartbeat, which has sent the head

    async def _beat(self, request_id: str) -> None:
        """Show that somebody is at work; the first time, with a head that promises a stream and nothing else."""
        if self.response is None:
            await self._open({"X-Router-Request-Id": request_id, **self.serving.extra})
        if self.response is not None:
            await self.response.write(BEAT)

    def _tell_late(self, headers: Mapping[str, str]) -> None:
        if self.heartbeat is not None:
            told = ((str(name), value) for name, value in headers.items())  # aiohttp's names are a kind of their own
            self.heartbeat.told = {name: value for name, value in told if name.startswith(TRUTH)}

    async def _plain_late(self, answer: Answer, served: Served) -> None:
        """What would have been a whole answer, or a refusal, as the rest of the stream."""
        self._tell_late(self._headers(served))
        if answer.status >= 400:
            await self.refuse(answer)
            return
        try:
            chunks = late_chunks(answer)
        except ValueError:
            message = "what a plugin answered is no chat completion, and the stream had begun"
            await self.fail(RequestError("internal_error", message))
        else:
            await self.close(chunks)

    async def refuse(self, answer: Answer) -> None:
        """End a stream that has begun with a provider's refusal."""
        await self._end(event_bytes(late_error(answer)))

    async def _fail_late(self, error: Exception) -> None:
        if not isinstance(error, RequestError):
            log.error("%s %s failed: %s", self.request.method, self.request.path, locate(error))
            error = defect()
        self._tell_late(error_response(error, {}, tell=self.serving.tell).headers)
        with suppress(ConnectionError):
            await self.fail(error)

    def _headers(self, served: Served) -> dict[str, str]:
        told = routing_headers(served) if self.serving.tell else {"X-Router-Request-Id": served.request_id}
        return {**told, **self.serving.extra}


def routing_headers(served: Served) -> dict[str, str]:
    """Who answers and who was tried, in the headers in which every answer tells it."""
    headers = {"X-Router-Request-Id": served.request_id}
    if served.candidate is not None:
        headers["X-Router-Provider"] = header(served.candidate.provider)
        headers["X-Router-Model"] = header(served.candidate.model.id)
    headers["X-Router-Attempts"] = str(served.attempts)
    headers["X-Router-Profile"] = header(served.profile)
    if served.tried:
        headers["X-Router-Tried"] = header(served.tried)
    if served.ignored:
        headers["X-Router-Ignored"] = served.ignored
    return headers


@lru_cache(maxsize=1024)  # names of providers, models and profiles, over and over
def header(value: str) -> str:
    """A value that cannot break out of its header: printable ASCII, the rest percent-encoded, at most 1,000 signs."""
    if not (value.isascii() and value.isprintable()):
        value = quote(value, safe=" /:;,.=+@()")
    return value[:1000]


def error_response(error: RequestError, extra: Mapping[str, str], *, tell: bool = True) -> web.Response:
    """An error of ours in OpenAI's form, with a true Retry-After where waiting helps."""
    headers = {**extra, **error.headers}
    if error.request_id is not None:
        headers["X-Router-Request-Id"] = error.request_id
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(math.ceil(error.retry_after), 1))
    attempts = error.details.get("attempts")
    if tell and isinstance(attempts, list):
        headers["X-Router-Attempts"] = str(len(attempts))
        headers["X-Router-Tried"] = header(", ".join(f"{a['candidate']}:{a['kind']}" for a in attempts))
    if tell and error.details.get("profile"):
        headers["X-Router-Profile"] = header(error.details["profile"])
    headers["Content-Type"] = "application/json"
    return web.Response(status=error.status, body=dumps(error.body()), headers=headers)


def json_response(value: Any, status: int = 200) -> web.Response:
    """A JSON document of our own."""
    return web.Response(status=status, body=dumps(value), content_type="application/json")


async def read_json(
    request: web.BaseRequest,
    limit: int | None = None,
    *,
    limits: BodyLimits | None = None,
    caller: Caller | None = None,
) -> Any:
    """The parsed body, at most `limit` bytes of it, whatever the host application's own limit is.

    A plugin's route names none of these: `limits.request_bytes` holds, and who calls is known.
    """
    if limits is None:
        serving: Serving = request[SERVING]
        limits = serving.bodies
    limit = limits.largest if limit is None else limit
    declared = request.content_length
    if declared is not None and declared > limit:
        raise too_large(limit)
    try:
        body = await whole_body(request, limit, limits, caller or request[CALLER])
    except TimeoutError as error:
        raise _unread(error, "request_timeout", TOO_SLOW) from None
    except ConnectionError as error:
        raise _unread(error, "client_gone", "the client left before the end of its request") from None
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise _unread(error, "invalid_json", "the body is not framed as its headers say") from None
    return await parsed_json(body)


async def parsed_json(body: bytes | bytearray) -> Any:
    """A client's JSON as values; what is none is a RequestError."""
    try:
        return await off_loop(loads_request, body, REQUEST_VALUES)
    except TooManyValuesError as error:
        raise RequestError("request_too_large", f"the body holds {error}") from None
    except ValueError:
        raise RequestError("invalid_json", "the body is not valid JSON") from None


def _unread(error: Exception, code: str, message: str) -> RequestError:
    release(error)
    return RequestError(code, message)
