"""Doors: other dialects of HTTP into the same router, for plugins.

A door translates at its edge only: what it asks goes the way of every other request, with the same keys, hints, privacy
checks, fallbacks and records, and what is answered is translated event by event as it comes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from routerpool.engine.sinks import Served
from routerpool.errors import RequestError
from routerpool.http.heartbeats import late_error
from routerpool.http.responses import HttpSink
from routerpool.types import Answer
from routerpool.wire.json import dumps, loads_answer, off_loop
from routerpool.wire.sse import event_data, split_events

__all__ = ["DoorSink"]


class DoorSink(HttpSink):
    """Sends an answer in another dialect: derive from it, and say what each thing is there.

    A provider's own refusal is passed on in its words; an error before anything was sent is an error object as
    everywhere.
    """

    @abstractmethod
    def body(self, answer: dict[str, Any]) -> Any:
        """A plain answer, as JSON values."""

    @abstractmethod
    def event(self, event: dict[str, Any]) -> bytes:
        """What one `chat.completion.chunk` becomes; b"" where it says nothing in this dialect."""

    @abstractmethod
    def end(self) -> bytes:
        """What ends a stream that is complete."""

    @abstractmethod
    def error(self, error: RequestError) -> bytes:
        """What ends a stream that broke, so that its reader cannot take it for an end."""

    async def plain(self, answer: Answer, served: Served) -> None:
        """Send a whole answer, translated unless it is a refusal."""
        if answer.status < 400 and "json" in answer.content_type and not await self.begun():
            body = await off_loop(self._whole, answer.body)
            answer = Answer(status=answer.status, content_type="application/json", body=body)
        await super().plain(answer, served)

    def _whole(self, body: bytes) -> bytes:
        return dumps(self.body(loads_answer(body)))

    async def write(self, block: bytes) -> None:
        """Send whole events, translated."""
        if data := self._translated(block):
            await super().write(data)

    async def fail(self, error: RequestError) -> None:
        """Say what broke."""
        await self._end(self.error(error))

    async def refuse(self, answer: Answer) -> None:
        """Say what a provider refused, of a stream that a heartbeat has begun."""
        code = "invalid_request" if answer.status < 500 else "internal_error"
        await self._end(self.error(RequestError(code, str(late_error(answer)["error"].get("message")))))

    async def close(self, rest: bytes) -> None:
        """Send what is left, and the end."""
        await self._end(self._translated(rest) + self.end())

    def _translated(self, block: bytes) -> bytes:
        found = (event_data(raw) for raw in split_events(block))
        return b"".join([self.event(loads_answer(data)) for data in found if data is not None])
