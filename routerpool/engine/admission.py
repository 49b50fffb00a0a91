"""Admission: how many requests are let in at once, and who waits how long for a place."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from routerpool.config.sections import LimitsConfig
from routerpool.engine.deadline import Deadline, DeadlinePassed
from routerpool.engine.journey import Journey
from routerpool.errors import RequestError

__all__ = ["Admission", "Place"]

PRIORITIES = ("high", "normal", "low")


class Admission:
    """Places for requests that are not committed yet, a bounded queue before them, and a bound on open streams."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._waiting: Mapping[str, deque[asyncio.Future[None]]] = {name: deque() for name in PRIORITIES}
        self._empty = asyncio.Event()
        self.waiting = 0
        self.running = 0
        self.streams = 0
        self.refused = 0

    def place(self, journey: Journey) -> Place:
        """A place for a request, to be entered; it is given back on leaving, or when the answer has become a stream."""
        return Place(self, journey)

    def take(self) -> bool:
        """Take a place if one is free and nobody waits for it."""
        if self.waiting or not self._free():
            return False
        self.running += 1
        return True

    def refusal(self) -> RequestError | None:
        """Why whoever comes now is refused, if so."""
        limits = self._limits
        if self.streams >= limits.max_streams:
            return self._full("request_queue_full", f"{self.streams} streams are open, and no more are allowed")
        if self.waiting >= limits.max_waiting and not self._free():
            return self._full("request_queue_full", f"{self.waiting} requests are waiting already")
        return None

    async def enter(self, deadline: Deadline, *, priority: str = "normal", seconds: float | None = None) -> None:
        """Take a place, or wait for one; 429 when the queue is full or the wait too long (`seconds` shortens it)."""
        if self.take():
            return
        refused = self.refusal()
        if refused is not None:
            raise refused
        limits = self._limits
        most = limits.queue_seconds if seconds is None else min(seconds, limits.queue_seconds)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting[priority]
        queue.append(place)
        self.waiting += 1
        try:
            with deadline:
                deadline.set(most, "queue")
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.leave()  # the place was given in the same moment: pass it on
            elif place in queue:  # else `_admit` has passed it over already
                queue.remove(place)
                self.waiting -= 1
            if isinstance(error, DeadlinePassed) and error.why == "queue":
                raise self._full("request_queue_timeout", f"no place became free within {most:g} s") from None
            raise

    async def idle(self) -> None:
        """Wait until nobody is inside."""
        while self.running or self.streams or self.waiting:
            self._empty.clear()
            await self._empty.wait()

    def _look(self) -> None:
        if not (self.running or self.streams or self.waiting):
            self._empty.set()

    def commit(self) -> None:
        """A request has become an open stream: its place is free for the next one."""
        self.streams += 1
        self.leave()

    def _free(self) -> bool:
        """Whether one more may come in; each of those inside may become a stream."""
        limits = self._limits
        return self.running < limits.max_concurrent and self.running + self.streams < limits.max_streams

    def _admit(self) -> None:
        """Give free places to those who wait longest in the highest priority."""
        for name in PRIORITIES:
            queue = self._waiting[name]
            while queue and self._free():
                place = queue.popleft()
                self.waiting -= 1
                if not place.done():
                    self.running += 1
                    place.set_result(None)

    def leave(self) -> None:
        """A request has left its place, which goes to the one who waits longest in the highest priority."""
        self.running -= 1
        self._admit()
        self._look()

    def closed(self) -> None:
        """An open stream has ended."""
        self.streams -= 1
        self._admit()
        self._look()

    def status(self) -> dict[str, Any]:
        """The figures of this process."""
        return {"running": self.running, "waiting": self.waiting, "streams": self.streams, "refused": self.refused}

    def _full(self, code: str, message: str) -> RequestError:
        self.refused += 1
        return RequestError(code, message, retry_after=1.0)


class Place:
    """A request's place among those that are let in at once."""

    __slots__ = ("_admission", "_journey")

    def __init__(self, admission: Admission, journey: Journey) -> None:
        self._admission = admission
        self._journey = journey

    async def __aenter__(self) -> None:
        admission, journey = self._admission, self._journey
        if not admission.take():
            hints = journey.request.hints
            await admission.enter(journey.deadline, priority=hints.priority, seconds=hints.max_queue_seconds)
        journey.on_commit = admission.commit

    async def __aexit__(self, *exc: object) -> None:
        if self._journey.committed:
            self._admission.closed()
        else:
            self._admission.leave()
