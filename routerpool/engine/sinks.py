"""Sinks for answers that stay in this process: a whole answer, or its events one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from routerpool.engine.journey import Served
from routerpool.errors import AnswerError, RequestError
from routerpool.types import Answer
from routerpool.wire.json import loads
from routerpool.wire.sse import event_data, split_events

__all__ = ["EventSink", "PlainSink", "parsed_error"]

QUEUED_BLOCKS = 64
"""How far a provider may be ahead of a slow reader, in blocks of events."""


def parsed_error(answer: Answer) -> Any:
    """A provider's refusal as JSON values; what is no JSON is wrapped as the text that it is."""
    try:
        return loads(answer.body)
    except ValueError:
        return {"error": {"message": answer.body[:4096].decode("utf-8", "replace"), "type": "upstream_error"}}


class PlainSink:
    """Keeps the one plain answer."""

    def __init__(self) -> None:
        self.answer = Answer(status=500, content_type="application/json", body=b"{}")
        self.served: Served | None = None

    def watch(self, leave: Callable[[str], None]) -> None:
        """Nobody can leave: whoever waits for the answer is cancelled with it."""

    async def plain(self, answer: Answer, served: Served) -> None:
        """Keep it."""
        self.answer, self.served = answer, served

    async def open(self, served: Served) -> None:
        """A plain request is never streamed."""
        raise RuntimeError("a stream for a plain request")

    async def write(self, block: bytes) -> None:
        """See `open`."""

    async def fail(self, error: RequestError) -> None:
        """See `open`."""

    async def close(self, rest: bytes) -> None:
        """See `open`."""


class EventSink:
    """Hands the parsed events of a stream to `events`, with back-pressure."""

    def __init__(self) -> None:
        self.served: Served | None = None
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(QUEUED_BLOCKS)

    def watch(self, leave: Callable[[str], None]) -> None:
        """Nobody can leave: whoever reads the events cancels the request."""

    async def plain(self, answer: Answer, served: Served) -> None:
        """A provider's refusal, or a canned answer, instead of a stream."""
        self.served = served
        await self._queue.put(
            AnswerError(answer.status, parsed_error(answer))
            if answer.status >= 400
            else b"data: " + answer.body + b"\n\n"
        )

    async def open(self, served: Served) -> None:
        """Take note of who answers."""
        self.served = served

    async def write(self, block: bytes) -> None:
        """Queue a block of events."""
        await self._queue.put(block)

    async def fail(self, error: RequestError) -> None:
        """Let the reader meet the error where the stream broke."""
        await self._queue.put(error)

    async def close(self, rest: bytes) -> None:
        """Queue what is left; the end is told by `done`."""
        if rest:
            await self._queue.put(rest)

    def done(self, task: asyncio.Future[None]) -> None:
        """The request is over: an error that nobody has told yet, then the end."""
        if self._queue.full():
            self._queue.get_nowait()  # the reader is gone; the end must fit
        error = None if task.cancelled() else task.exception()
        self._queue.put_nowait(error if isinstance(error, Exception) else None)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The chunks as they come; an error of the request is raised where it happened."""
        while (item := await self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            for raw in split_events(item):
                data = event_data(raw)
                if data is not None:
                    yield loads(data)
