"""What fails at providers, told once and then counted: a log that one can read, of an outage of any length."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from routerpool.types import Candidate, Failure, FailureKind

__all__ = ["FailureLog"]

log = logging.getLogger("routerpool.refusals")

MOST = 1024
"""How many refusals are counted at once; more than that are told again rather than kept."""

AGAIN_SECONDS = 600.0
"""From when on a refusal that goes on, or comes back, is told again, with how often it came so far."""

ONCE = "said once, then counted"

OF_THE_REQUEST = frozenset({FailureKind.BAD_REQUEST, FailureKind.TOO_LARGE, FailureKind.CONTENT_FILTER})
"""Kinds that say something of one request and nothing of who refused it."""


class FailureLog:
    """Counts by candidate and kind. Of what a provider answers, status, kind and wait are told, and never its words.

    One that fails now and then is told no more often than one that is down, so a log stays as long as its outages.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.counts: dict[str, dict[str, int]] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._clock = clock

    def note(self, candidate: Candidate, failure: Failure) -> None:
        """Count a failed attempt, and tell it if none of its kind was told lately."""
        if failure.kind in OF_THE_REQUEST:
            log.info("%s %s", candidate.key, _said(failure))
            return
        if candidate.key not in self.counts and len(self.counts) >= MOST:
            self.counts.clear()
            self._told.clear()
        counts, kind = self.counts.setdefault(candidate.key, {}), failure.kind.value
        count = counts[kind] = counts.get(kind, 0) + 1
        last, now = self._told.get((candidate.key, kind)), self._clock()
        if last is None or now - last >= AGAIN_SECONDS:
            self._told[candidate.key, kind] = now
            log.warning("%s %s · %s", candidate.key, _said(failure), ONCE if last is None else f"{count} so far")


def _said(failure: Failure) -> str:
    status = "" if failure.status is None else f", {failure.status}"
    if failure.retry_after is None:
        return f"{failure.kind.value}{status}"
    by = "" if failure.source is None else f" by {failure.source}"
    return f"{failure.kind.value}{status}: wait {failure.retry_after:.1f} s{by}"
