"""What providers refuse, told once and then counted: a log that one can read, of an outage of any length."""

from __future__ import annotations

import logging

from routerpool.types import Candidate, Failure, FailureKind

__all__ = ["Refusals"]

log = logging.getLogger("routerpool.refusals")

MOST = 1024
"""How many refusals are counted at once; more than that are told again rather than kept."""

OF_THE_REQUEST = frozenset({FailureKind.BAD_REQUEST, FailureKind.TOO_LARGE, FailureKind.CONTENT_FILTER})
"""Kinds that say something of one request and nothing of who refused it."""


class Refusals:
    """Counts by candidate and kind. Of what a provider answers, status, kind and wait are told, and never its words."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}

    def note(self, candidate: Candidate, failure: Failure) -> None:
        """Count a failed attempt, and tell the first of its kind."""
        if failure.kind in OF_THE_REQUEST:
            log.info("%s %s", candidate.key, _said(failure))
            return
        if candidate.key not in self.counts and len(self.counts) >= MOST:
            self.counts.clear()
        counts, kind = self.counts.setdefault(candidate.key, {}), failure.kind.value
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] == 1:
            log.warning("%s %s · said once, then counted", candidate.key, _said(failure))

    def answered(self, candidate: Candidate) -> None:
        """It answers: the next refusal is told again."""
        counts = self.counts.pop(candidate.key, None)
        if counts is not None and (total := sum(counts.values())) > 1:
            log.warning("%s answers again, after %d failures", candidate.key, total)


def _said(failure: Failure) -> str:
    status = "" if failure.status is None else f", {failure.status}"
    if failure.retry_after is None:
        return f"{failure.kind.value}{status}"
    by = "" if failure.source is None else f" by {failure.source}"
    return f"{failure.kind.value}{status}: wait {failure.retry_after:.1f} s{by}"
