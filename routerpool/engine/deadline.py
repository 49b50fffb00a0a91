"""One timer for all the limits of a request: moving it forward costs two assignments, not a new timer."""

from __future__ import annotations

import asyncio
from math import inf
from types import TracebackType
from typing import Self

__all__ = ["Deadline", "DeadlinePassed"]


class DeadlinePassed(Exception):
    """The limit named `why` has passed while something was awaited inside the deadline."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Deadline:
    """Ends whatever the current task awaits inside `with deadline:` once its time has come.

    The event loop's handle is armed once and re-arms itself when it finds that the time was moved on, so that a
    stream may call `set` for every chunk. Between two `with` blocks nothing is cut: call `set` inside each; what
    `leave` said shows at the next one. `why` names the limit that is set now.
    """

    __slots__ = (
        "_at",
        "_cancelling",
        "_handle",
        "_last",
        "_last_why",
        "_loop",
        "_task",
        "expired",
        "left",
        "why",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()  # which costs a system call in CPython 3.11
        self._task: asyncio.Task[object] | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._cancelling = 0
        self._at = 0.0
        self.why = ""
        self._last = inf
        self._last_why = ""
        self.expired: str | None = None
        self.left: str | None = None

    def set(self, seconds: float, why: str) -> None:
        """Let it pass `seconds` from now, for the reason `why`."""
        at = self._loop.time() + seconds
        if at > self._last:
            at, why = self._last, self._last_why
        self._at, self.why = at, why
        handle = self._handle
        if handle is None or at < handle.when():
            if handle is not None:
                handle.cancel()
            self._handle = self._loop.call_at(at, self._fire)

    def last(self, seconds: float, why: str) -> None:
        """From now on nothing that `set` says goes further than `seconds` from now."""
        self._last, self._last_why = self._loop.time() + seconds, why

    def leave(self, why: str) -> None:
        """Let it pass now and for good: every later `with` ends at once. Safe to call from any callback."""
        self.left = why
        if self._task is not None and self.expired is None:
            self.expired = why
            self._task.cancel()

    def close(self) -> None:
        """Take the timer off the loop."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def __enter__(self) -> Self:
        if self.left is not None:
            raise DeadlinePassed(self.left)
        task = asyncio.current_task(self._loop)
        self._task = task
        self._cancelling = task.cancelling() if task is not None else 0
        self._at = inf  # what an earlier block has set is over
        self.expired = None
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self.expired is None or task is None:
            return
        # As asyncio.timeout does: a cancellation of somebody else's must not be swallowed.
        if task.uncancel() <= self._cancelling and exc_type is asyncio.CancelledError:
            raise DeadlinePassed(self.expired) from exc

    def _fire(self) -> None:
        self._handle = None
        if self._at == inf:
            return
        if self._loop.time() < self._at:
            self._handle = self._loop.call_at(self._at, self._fire)
        elif self._task is not None and self.expired is None:
            self.expired = self.why
            self._task.cancel()
