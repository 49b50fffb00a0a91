"""What a scanner has found in each text: scanned once, and remembered by the hash of the text, as offsets only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple, TypeAlias, TypeVar

from routerpool.hooks.calling import HOOK_SECONDS

__all__ = ["Key", "Match", "Verdicts", "room_in"]

MOST_THREADS = 4
"""Threads that may scan at once; where all of them hang, requests with more to scan are refused in time."""

MOST_KEPT = 16384
"""Verdicts that are kept, of some 150 bytes each."""

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
        self._threads = threading.BoundedSemaphore(MOST_THREADS)
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
        started = perf_counter()
        found = list(self._find(text))
        if perf_counter() - started > HOOK_SECONDS:
            raise TimeoutError("scanning one text took longer than a hook may")
        return self._keep(key, text, found)

    async def in_thread(self, text: str) -> None:
        """Scan a text in a thread of our own: a pool's would be waited for at the end, also one that hangs."""
        key = (hash(text), len(text))
        if len(text) < self._shortest or key in self._kept:
            return
        if not self._threads.acquire(blocking=False):
            raise TimeoutError("too many scans are under way")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[list[Match]] = loop.create_future()

        def tell(found: list[Match], error: BaseException | None) -> None:
            if outcome.done():  # the request was given up
                return
            if error is None:
                outcome.set_result(found)
            else:
                outcome.set_exception(error if isinstance(error, Exception) else RuntimeError(type(error).__name__))

        def work() -> None:
            found: list[Match] = []
            failed: BaseException | None = None
            try:
                found = list(self._find(text))
            except BaseException as error:
                failed = error
            finally:
                self._threads.release()
            with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(tell, found, failed)

        threading.Thread(target=work, name=f"scan-{self._name}", daemon=True).start()
        self._keep(key, text, await outcome)

    def _keep(self, key: Key, text: str, found: Sequence[Match]) -> tuple[Match, ...]:
        for match in found:
            sound = isinstance(match, Match) and isinstance(match.rule, str)
            if not sound or not 0 <= match.start < match.end <= len(text):
                raise TypeError("find answered with something that is no match in the text")
            self.found[match.rule] = self.found.get(match.rule, 0) + 1
        self.scanned += 1
        verdict = tuple(sorted(found, key=_by_place))
        room_in(self._kept)[key] = verdict
        return verdict


def _by_place(match: Match) -> tuple[int, int]:
    return match.start, -match.end


def room_in(kept: dict[Key, T]) -> dict[Key, T]:
    """A memory with room for one more: the oldest goes."""
    if len(kept) >= MOST_KEPT:
        del kept[next(iter(kept))]
    return kept
