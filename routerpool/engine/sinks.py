"""Sinks: where an answer goes. Here are those that stay in this process: a whole answer, or its events one by one."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any

from attrs import frozen

from routerpool.errors import AnswerError, RequestError
from routerpool.types import Answer, Candidate
from routerpool.wire.json import loads_answer
from routerpool.wire.sse import event_data, split_events

__all__ = ["EventSink", "PlainSink", "Served", "Sink", "parsed_error"]

QUEUED_BLOCKS = 64
"""How far a provider may be ahead of a slow reader, in blocks of events."""


@frozen(kw_only=True, slots=True)
class Served:
    """Who answers, for the headers: known before the first byte goes out."""

    request_id: str
    profile: str
    candidate: Candidate | None
    attempts: int
    tried: str
    ignored: str = ""
    """The hints that nobody honours, as far as they were given."""


class Sink(ABC):
    """Where an answer goes. Of `plain` and `open` one is called, once, unless an error is raised instead.

    A sink that takes no streams needs `plain` alone. What a client that has left raises in any of these is a
    ConnectionError.
    """

    def watch(self, leave: Callable[[str], None]) -> None:
        """Take the function to call, with "client_gone", as soon as the client is seen to have left."""

    @abstractmethod
    async def plain(self, answer: Answer, served: Served) -> None:
        """Send a whole answer, or a provider's own error."""

    async def open(self, served: Served) -> None:
        """Begin a stream."""

    async def write(self, block: bytes) -> None:
        """Send whole events, in the chat-completions format; wait while the client reads slowly."""

    async def fail(self, error: RequestError) -> None:
        """End an open stream with an error that its reader cannot take for an end."""

    async def close(self, rest: bytes) -> None:
        """End an open stream with the last of its events, if some are left, and its terminal marker."""


def parsed_error(answer: Answer) -> Any:
    """A provider's refusal as JSON values; what is no JSON is wrapped as the text that it is."""
    try:
        return loads_answer(answer.body)
    except ValueError:
        return {"error": {"message": answer.body[:4096].decode("utf-8", "replace"), "type": "upstream_error"}}


class PlainSink(Sink):
    """Keeps the one plain answer."""

    def __init__(self) -> None:
        self.answer = Answer(status=500, content_type="application/json", body=b"{}")
        self.served: Served | None = None

    async def plain(self, answer: Answer, served: Served) -> None:
        """Keep it."""
        self.answer, self.served = answer, served


class EventSink(Sink):
    """Hands the parsed events of a stream to `events`, with back-pressure."""

    def __init__(self) -> None:
        self.served: Served | None = None
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(QUEUED_BLOCKS)

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
                    yield loads_answer(data)
