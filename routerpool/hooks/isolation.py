"""What stands between a plugin and the rest: whose an error is, and how long a step took."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any

__all__ = ["Steps", "locate", "ours_to_end"]


def locate(error: BaseException) -> str:
    """The kind of an error and where it was raised, without its text, which may quote a prompt or a key."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    last = frames[-1]
    return f"{type(error).__name__} at {last.filename.rpartition('/')[2]}:{last.lineno} in {last.name}"


def ours_to_end(error: BaseException) -> bool:
    """Whether an error is a real cancellation or interrupt, and not one that a plugin made up."""
    if isinstance(error, KeyboardInterrupt):
        return True
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return False


class Steps:
    """Drives a hook's coroutine step by step, and takes the longest time for which it held the loop in one go.

    `first` takes the first step at once. Most hooks end with it; only for the others it takes a task's awaiting, and
    somebody's limit on it.
    """

    __slots__ = ("_coroutine", "_waited", "longest", "result")

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine
        self._waited: Any = None
        self.longest = 0.0
        self.result: Any = None

    def first(self) -> bool:
        """Take the first step; whether it was the last one, and `result` is there."""
        return self._step(self._coroutine.send, None)

    def _step(self, go: Callable[[Any], Any], what: Any) -> bool:
        started = perf_counter()
        try:
            self._waited = go(what)
        except StopIteration as end:
            self.result = end.value
            return True
        finally:
            self.longest = max(self.longest, perf_counter() - started)
        return False

    def __await__(self) -> Generator[Any, Any, Any]:
        """The rest of the way, after the first step."""
        ended = False
        while not ended:
            try:
                sent = yield self._waited
            except BaseException as error:  # a cancellation too is the coroutine's to take
                ended = self._step(self._coroutine.throw, error)
            else:
                ended = self._step(self._coroutine.send, sent)
        return self.result
