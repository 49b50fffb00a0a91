"""What a scanner has found in each text: scanned once, and remembered by the hash of the text, as offsets only."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias, TypeVar

from routerpool.hooks.calling import HOOK_SECONDS

__all__ = ["Key", "Match", "Verdicts", "room_in"]

MOST_THREADS = 4
"""Threads that may scan at once; where all of them hang, requests with much to scan are refused in time."""

MOST_KEPT, MOST_KEPT_MATCHES = 16384, 100_000
"""Verdicts that are kept, of some 150 bytes each, and the matches in them, of some 100."""

MOST_MATCHES = 10_000
"""The most matches in one text; in one with more, everything is taken for one."""

Key: TypeAlias = tuple[int, int]
"""What a text is remembered by: its hash and its length."""

T = TypeVar("T")


class Match(NamedTuple):
    """What a scanner has found: by which rule, and from where to where in the text."""

    rule: str
    start: int
    end: int


class Verdicts:
    """The matches of texts, by a function that finds them; `scanned` and `found` count what it was asked and said."""

    def __init__(self, find: Callable[[str], Iterable[Match]], name: str, *, shortest: int) -> None:
        self._find = find
        self._name = name
        self._shortest = shortest
        self._kept: dict[Key, tuple[Match, ...]] = {}
        self._matches = 0
        self._turns = Turns(MOST_THREADS)
        self._lock = threading.Lock()
        self._thread = threading.local()
        self.scanned = 0
        self.found: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, text: str) -> tuple[Match, ...]:
        """The matches in a text, in its order, as they were found before or are found now."""
        if len(text) < self._shortest:
            return ()
        key = (hash(text), len(text))
        known = self._kept.get(key)
        if known is not None:
            return known
        given_up: threading.Event | None = getattr(self._thread, "given_up", None)
        started = perf_counter()
        found: list[Match] = []
        for match in self._find(text):
            found.append(match)
            if len(found) > MOST_MATCHES:  # then all of it is one: no part of it is clean
                found = [Match(match.rule, 0, len(text))]
                break
            if given_up is not None and given_up.is_set():
                raise TimeoutError("the request was given up")
        if given_up is None and perf_counter() - started > HOOK_SECONDS:
            raise TimeoutError("scanning one text took longer than a hook may")
        return self._keep(key, text, found)

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """What `work` makes, in a thread of our own: a pool's would be waited for at the end, also one that hangs.

        A few run at once, the others wait for their turn. One whose request is given up stops at its next match.
        """
        loop, given_up = asyncio.get_running_loop(), threading.Event()
        outcome: asyncio.Future[T] = loop.create_future()

        def tell(made: T | None, error: BaseException | None) -> None:
            if outcome.done():  # the request was given up
                return
            if error is None:
                outcome.set_result(made)  # type: ignore[arg-type]  # it is one where there is no error
            else:
                outcome.set_exception(error if isinstance(error, Exception) else RuntimeError(type(error).__name__))

        def run() -> None:
            made: T | None = None
            failed: BaseException | None = None
            self._thread.given_up = given_up
            try:
                made = work(*args)
            except BaseException as error:
                failed = error
            finally:
                self._turns.give()
            with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(tell, made, failed)

        await self._turns.take()
        try:
            threading.Thread(target=run, name=f"scan-{self._name}", daemon=True).start()
        except RuntimeError:  # the system has no thread left for us
            self._turns.give()
            raise
        try:
            return await outcome
        finally:
            given_up.set()

    def _keep(self, key: Key, text: str, found: Sequence[Match]) -> tuple[Match, ...]:
        for match in found:
            sound = isinstance(match, Match) and isinstance(match.rule, str)
            if not sound or not 0 <= match.start < match.end <= len(text):
                raise TypeError("find answered with something that is no match in the text")
        verdict = tuple(sorted(found, key=_by_place))
        with self._lock:
            self.scanned += 1
            for match in found:
                self.found[match.rule] = self.found.get(match.rule, 0) + 1
            self._matches += len(verdict) - len(self._kept.pop(key, ()))
            while self._kept and (len(self._kept) >= MOST_KEPT or self._matches > MOST_KEPT_MATCHES):
                self._matches -= len(self._kept.pop(next(iter(self._kept))))
            self._kept[key] = verdict
        return verdict


class Turns:
    """So many at once, the others one after the other, from whichever loop and thread."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._lock = threading.Lock()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a turn."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                waits = turn in self._waiting
                if waits:
                    self._waiting.remove(turn)
            if not waits:  # it was our turn in the same moment
                self.give()
            raise

    def give(self) -> None:
        """End a turn."""
        with self._lock:
            while self._waiting:
                turn = self._waiting.popleft()
                with suppress(RuntimeError):  # its loop has ended
                    turn.get_loop().call_soon_threadsafe(_wake, turn)
                    return
            self._free += 1


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _by_place(match: Match) -> tuple[int, int]:
    return match.start, -match.end


def room_in(kept: dict[Key, T]) -> dict[Key, T]:
    """A memory with room for one more: the oldest goes."""
    while len(kept) >= MOST_KEPT:
        with suppress(KeyError, RuntimeError, StopIteration):  # another thread makes room, too
            del kept[next(iter(kept))]
    return kept
