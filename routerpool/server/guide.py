"""A host's own chat handler, guided: it forwards as it always did, to the candidate that it is handed.

The handler is called once an attempt. What it answers goes to the engine instead of the socket, so that its answer is
judged, rewritten, and replaced by the next candidate's, exactly as if the router had forwarded the request itself.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import warnings
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from routerpool.engine.exchange import Exchange
from routerpool.engine.handover import Assignment
from routerpool.engine.journey import Journey
from routerpool.engine.sinks import Served
from routerpool.errors import RequestError
from routerpool.hooks.isolation import locate
from routerpool.http.responses import HttpSink, Serving, error_response, parsed_json
from routerpool.protocols import Reply
from routerpool.router import Router, Source
from routerpool.server.app import Server, serving
from routerpool.types import Attempt, Caller, ChatRequest
from routerpool.wire.request import new_id

__all__ = ["ASSIGNMENT", "middleware"]

log = logging.getLogger("routerpool.guide")

ASSIGNMENT: web.RequestKey[Assignment] = web.RequestKey("routerpool", Assignment)
"""Where a host's handler finds whom to ask and what to send; `request["routerpool"]` is the same."""

CHAT_PATHS = ("/v1/chat/completions",)

QUEUED_CHUNKS = 16
"""How much of a handler's answer may wait for a slow client before the handler waits, too."""

LEFT_SECONDS = 2.0
"""How long a handler may take to end once nobody wants its answer."""

OURS = frozenset(
    [
        *("connection", "content-encoding", "content-length", "content-type", "date", "keep-alive", "server"),
        "transfer-encoding",
    ]
)
"""Headers of a handler's response that belong to the answer as it was sent, not to the one that goes out."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def middleware(
    app: web.Application,
    config: Source | Router = None,
    *,
    prefix: str | None = None,
    paths: Collection[str] = CHAT_PATHS,
    caller: Callable[[web.Request], Caller] | None = None,
) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """A middleware that guides the application's own handlers of chat completions at `paths`.

    Such a handler finds in `request["routerpool"]` an `Assignment`: `url`, `headers` and `body` to send, and the
    `candidate`. It is called again with the next one when what it answers is no answer. What it raises as a
    `web.HTTPException` is its own word, and goes to the client as it is. The router lives and dies with the
    application; with a `prefix` its own routes are mounted there too. `caller` says who asks, where the host knows it.
    """
    server = serving(config)
    if prefix is None:
        server.live(app)
    else:
        server.mount(app, prefix)

    @web.middleware
    async def guided(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "POST" or request.path not in paths:
            return await handler(request)
        return await Guide(server, request, handler, caller(request) if caller else None).answer()

    return guided


class Guide:
    """One request to a host's handler, and the handler's attempts to answer it."""

    def __init__(self, server: Server, request: web.Request, handler: Handler, caller: Caller | None) -> None:
        self.server = server
        self.request = request
        self.handler = handler
        self.caller = caller
        self.client = copy.copy(request)  # with the writer that leads to the client, whatever the handler gets
        self.attempts: list[Carried] = []
        self.own: BaseException | None = None
        """What the handler has raised as its own word to the client."""

    async def answer(self) -> web.StreamResponse:
        """The response to the client, which may have been sent already."""
        server, request_id = self.server, new_id()
        tell = server.generation.tell
        sink = HostsSink(self.client, server.generation.serving, self)
        try:
            server.open_for_requests()
            body, headers = await parsed_json(await self.request.read()), self.request.headers.items()
            asked = server.router.request(body, self.caller, headers, request_id=request_id)
            await server.router.handle(asked, sink, partial(HandledExchange, guide=self))
        except RequestError as error:
            if self.own is not None:
                raise self.own from None
            error.request_id = request_id
            return error_response(error, {}, tell=tell)
        finally:
            server.watch.remove(sink)
            for carried in self.attempts:
                await carried.ended()
            self.request._payload_writer = self.client._payload_writer
        if sink.response is None:
            raise RuntimeError("no answer was made")
        return sink.response

    async def carry(self, assignment: Assignment) -> Reply:
        """Have the handler make an attempt; returns with the head of its answer."""
        if self.attempts:
            await self.attempts[-1].ended()
        with warnings.catch_warnings():  # aiohttp would rather have only typed keys, of which this has one, too
            warnings.simplefilter("ignore", web.NotAppKeyWarning)
            self.request["routerpool"] = assignment
        self.request[ASSIGNMENT] = assignment
        carried = Carried()
        self.attempts.append(carried)
        self.request._payload_writer = carried.writer
        carried.begin(self.handler(self.request), self.request)
        try:
            await carried.head
        except web.HTTPException as error:
            self.own = error
            raise RequestError("invalid_request", "the host's own handler refuses the request") from None
        return carried


class HostsSink(HttpSink):
    """What goes to the client carries the headers that the handler has set."""

    def __init__(self, request: web.Request, serving: Serving, guide: Guide) -> None:
        super().__init__(request, serving)
        self._guide = guide

    def _headers(self, served: Served) -> dict[str, str]:
        attempts = self._guide.attempts
        theirs = attempts[-1].headers if attempts else {}
        kept = {name: value for name, value in theirs.items() if name.lower() not in OURS}
        return {**kept, **super()._headers(served)}


class HandledExchange(Exchange):
    """An attempt that the host's handler makes; a provider with a wire format of its own is asked by the router."""

    def __init__(self, journey: Journey, attempt: Attempt, *, guide: Guide) -> None:
        super().__init__(journey, attempt)
        self.guide = guide

    def send(self, request: ChatRequest) -> Awaitable[Reply]:
        """Hand it to the handler."""
        assignment = Assignment(self.provider, self.attempt, request)
        return super().send(request) if assignment.outgoing is None else self.guide.carry(assignment)


class Carried:
    """A handler's answer that has begun: the handler writes at one end, the engine reads at the other."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writer = Writer(self)
        self.chunks: asyncio.Queue[bytes | Exception] = asyncio.Queue(QUEUED_CHUNKS)
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def begin(self, answering: Awaitable[web.StreamResponse], request: web.Request) -> None:
        """Run the handler."""
        self._task = asyncio.ensure_future(self._run(answering, request))

    async def _run(self, answering: Awaitable[web.StreamResponse], request: web.Request) -> None:
        try:
            response = await answering
            await response.prepare(request)
            await response.write_eof()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, web.HTTPException):
                log.debug("the host's handler failed: %s", locate(error))
            if not self.head.done():
                self.head.set_exception(error)
            else:
                await self.chunks.put(error)

    def begun(self, status_line: str, headers: Mapping[str, str]) -> None:
        """The handler has prepared its response."""
        self.status = int(status_line.split(" ", 2)[1])
        self.headers = headers
        if not self.head.done():
            self.head.set_result(None)

    async def chunk(self) -> bytes:
        """The next bytes that the handler writes; b"" at the end."""
        if self._over:
            return b""
        item = await self.chunks.get()
        if isinstance(item, Exception):
            raise item
        self._over = not item
        return item

    def close(self) -> None:
        """Nobody reads on: the handler is ended, and with it whatever it holds open."""
        if self._task is not None and not self._task.done():
            self._task.cancel()

    async def ended(self) -> None:
        """End the handler, and wait until it is over, but not for ever on one that will not be ended."""
        self.close()
        if self._task is not None:
            _, left = await asyncio.wait((self._task,), timeout=LEFT_SECONDS)
            if left:
                log.error("the host's handler goes on although it was cancelled")
            self.head.cancel()


class Writer(AbstractStreamWriter):
    """Where a handler's response writes to while it is guided."""

    def __init__(self, carried: Carried) -> None:
        self._carried = carried

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Pass a part of the body on; waits while the client reads slowly."""
        if chunk:
            self.output_size += len(chunk)
            await self._carried.chunks.put(bytes(chunk))

    async def write_eof(self, chunk: bytes = b"") -> None:
        """Pass the last part on."""
        await self.write(chunk)
        await self._carried.chunks.put(b"")

    async def drain(self) -> None:
        """`write` waits by itself."""

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """What is read here is not compressed; the host may compress what goes out."""

    def enable_chunking(self) -> None:
        """There are no chunks here."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """Tell the head."""
        self._carried.begun(status_line, headers)
