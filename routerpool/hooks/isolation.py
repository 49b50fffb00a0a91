"""What stands between a plugin and the rest: whose an error is, how long a step took, which tasks it has started."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from typing import Any
from weakref import WeakSet

__all__ = ["Steps", "Tasks", "locate", "ours_to_end"]


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


class Tasks:
    """The asyncio tasks that one plugin has started inside its hooks.

    While a hook runs, and only then, this is the loop's task factory, in front of the host's own.
    """

    __slots__ = ("_host", "_started")

    def __init__(self) -> None:
        self._host: Callable[..., Any] | None = None
        self._started: WeakSet[asyncio.Future[Any]] = WeakSet()

    def enter(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Begin to take note; the factory that was there, for `loop.set_task_factory` afterwards."""
        before = loop.get_task_factory()
        if before is not self:
            self._host = before
        loop.set_task_factory(self)
        return before

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **how: Any,
    ) -> asyncio.Future[Any]:
        """Start a task as the host would, and remember it."""
        make = self._host or (lambda loop, coroutine, **how: asyncio.Task(coroutine, loop=loop, **how))
        task: asyncio.Future[Any] = make(loop, coroutine, **how)
        self._started.add(task)
        return task

    async def end(self, seconds: float) -> int:
        """Cancel those that still run and wait so long for them; how many there were."""
        left = [task for task in self._started if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=seconds)
        return len(left)


class Steps:
    """Drives a hook's coroutine step by step: the longest time it held the loop in one go, and the tasks it started.

    `first` takes the first step at once. Most hooks end with it; only for the others it takes a task's awaiting, and
    somebody's limit on it.
    """

    __slots__ = ("_coroutine", "_loop", "_tasks", "_waited", "longest", "result")

    def __init__(self, coroutine: Any, tasks: Tasks, loop: asyncio.AbstractEventLoop | None) -> None:
        self._coroutine = coroutine
        self._tasks = tasks
        self._loop = loop
        self._waited: Any = None
        self.longest = 0.0
        self.result: Any = None

    def first(self) -> bool:
        """Take the first step; whether it was the last one, and `result` is there."""
        return self._step(self._coroutine.send, None)

    def _step(self, go: Callable[[Any], Any], what: Any) -> bool:
        started, loop = perf_counter(), self._loop
        before = self._tasks.enter(loop) if loop is not None else None
        try:
            self._waited = go(what)
        except StopIteration as end:
            self.result = end.value
            return True
        finally:
            if loop is not None:
                loop.set_task_factory(before)
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
