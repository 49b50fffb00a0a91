"""What a server shows of its work on a terminal: one line a request, as wide as the terminal, or one JSON object.

It takes the records that every request leaves, which hold no content, so it cannot show any. It is a plugin that
`serve` brings along; where nobody wants to see it, it is not there, and costs nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TextIO

import orjson

from routerpool.hookspecs import hookimpl
from routerpool.terminal.tables import printable
from routerpool.terminal.units import UNKNOWN, amount, duration, middle, money
from routerpool.types import Candidate, Outcome, Privacy, Tier, UsageRecord

if TYPE_CHECKING:
    from routerpool.protocols import RouterView

__all__ = ["Console", "colours"]

MARKS: Final[Mapping[Tier | None, str]] = {Tier.FAST: "■", Tier.BALANCED: "●", Tier.CAPABLE: "◆", None: "■"}
TIER_COLOURS: Final[Mapping[Tier | None, str]] = {
    Tier.FAST: "38;5;81",
    Tier.BALANCED: "38;5;105",
    Tier.CAPABLE: "38;5;215",
    None: "38;5;244",
}
LETTERS: Final[Mapping[Privacy, str]] = {
    Privacy.PUBLIC: " ",
    Privacy.PRIVATE: "P",
    Privacy.SENSITIVE: "S",
    Privacy.SECRET: "X",
}
ENDINGS: Final[Mapping[Outcome, str]] = {
    Outcome.FAILED: "failed",
    Outcome.TRUNCATED: "broke off",
    Outcome.CANCELLED: "left",
}
MUTED, BAD = "38;5;244", "38;5;210"

WIDE = 100
"""From this width on a line has words for privacy and for what was tried, below it a letter and marks."""

HEAD_EVERY = 40
"""After so many lines the names of the columns are shown again."""


def colours(out: TextIO, env: Mapping[str, str]) -> bool:
    """Whether text may be coloured: on a terminal, unless NO_COLOR is set; FORCE_COLOR colours what is no terminal."""
    if env.get("NO_COLOR"):
        return False
    return bool(env.get("FORCE_COLOR")) or (out.isatty() and env.get("TERM") != "dumb")


class Console:
    """Writes a line for each request that has ended."""

    def __init__(self, *, json: bool = False, out: TextIO | None = None, width: int = 80, colour: bool = False) -> None:
        self.json = json
        self.out = out or sys.stdout
        self.width = max(width, 80)
        self.colour = colour
        self._lines = 0
        self._candidates: Mapping[str, Candidate] = {}

    @hookimpl
    async def lifespan(self, router: RouterView) -> AsyncIterator[None]:
        """Know the candidates, whose tiers and places the lines show."""

        def look() -> None:
            self._candidates = router.catalog.snapshot.by_key

        look()
        end = router.catalog.watch(look)
        try:
            yield
        finally:
            end()

    @hookimpl
    def record_usage(self, record: UsageRecord) -> None:
        """Show a request; a terminal that is gone is nobody's fault."""
        try:
            if self.json:
                self.out.write(self._object(record))
            else:
                if self._lines % HEAD_EVERY == 0:
                    self.out.write(self._paint(self.head(), MUTED) + "\n")
                self._lines += 1
                self.out.write(self.line(record) + "\n")
            self.out.flush()
        except (OSError, ValueError):
            pass

    @property
    def _wide(self) -> bool:
        return self.width >= WIDE

    @property
    def _who(self) -> int:
        """How wide the name of who answers may be."""
        return min(44, self.width - 93) if self._wide else self.width - 57

    def head(self) -> str:
        """The names of the columns."""
        who = f"{'  answered by':<{self._who + 2}}"
        if self._wide:
            front = f"{'time':<8} {'profile':<8} {'privacy':<9} {who}"
            return f"{front} {'tokens':>13} {'cost':>8} {'first':>7} {'total':>6}  tried, and why"
        return f"{'time':<8} {'profile':<7} p {who}    {'tokens':>11} {'cost':>7} {'first':>6} {'total':>5}"

    def line(self, record: UsageRecord) -> str:
        """A request as a line of the terminal's width."""
        key = f"{record.provider}/{record.model}" if record.provider else UNKNOWN
        candidate = self._candidates.get(key)
        tier, ended = candidate.model.tier if candidate else None, ENDINGS.get(record.outcome)
        mark = self._paint("✗", BAD) if ended else self._paint(MARKS[tier], TIER_COLOURS[tier])
        who = printable(f"{middle(key, self._who):<{self._who}}")
        when = time.strftime("%H:%M:%S", time.localtime(record.time))
        tokens = f"{amount(record.usage.input)}→{amount(record.usage.output)}" if record.provider else UNKNOWN
        cost, first, total = _cost(record, candidate), duration(record.first_byte_ms), duration(record.total_ms)
        if self._wide:
            front = f"{when} {middle(record.profile, 8):<8} {record.privacy.name.lower():<9} {mark} {who}"
            room = self.width - 71 - self._who
            why = middle(printable(_why(record, candidate, ended)), room)
            return f"{front} {tokens:>13} {cost:>8} {first:>7} {total:>6}  {why}".rstrip()
        marks = self._paint(f"{'✗' * min(len(_failed(record)), 2):<2}", BAD)
        front = f"{when} {middle(record.profile, 7):<7} {LETTERS[record.privacy]} {mark} {who}"
        return f"{front} {marks} {tokens:>11} {cost:>7} {first:>6} {total:>5}"

    def _object(self, record: UsageRecord) -> str:
        usage = record.usage
        told = {
            "time": record.time,
            "request_id": record.request_id,
            "profile": record.profile,
            "privacy": record.privacy.name.lower(),
            "provider": record.provider,
            "model": record.model,
            "outcome": record.outcome.value,
            "stream": record.stream,
            "tried": record.tried,
            "tokens": {"input": usage.input, "cached": usage.input_cached, "output": usage.output},
            "cost": record.cost,
            "first_byte_ms": record.first_byte_ms,
            "total_ms": record.total_ms,
        }
        return orjson.dumps(told).decode() + "\n"

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text


def _failed(record: UsageRecord) -> Sequence[str]:
    """The attempts that brought no answer; of a request that was answered, the last entry is who did."""
    return record.tried[:-1] if record.outcome is Outcome.ANSWERED else record.tried


def _cost(record: UsageRecord, candidate: Candidate | None) -> str:
    if record.provider is None:
        return UNKNOWN
    if candidate is not None and candidate.model.local:
        return "local"
    if candidate is not None and candidate.model.free and not record.cost:
        return "free"
    return money(record.cost)


def _why(record: UsageRecord, candidate: Candidate | None, ended: str | None) -> str:
    """What is worth a word: who failed before, how it ended, and that it was kept here."""
    words = []
    failed = _failed(record)
    if failed:
        name, _, kind = failed[-1].rpartition(":")
        words.append(f"{'✗' * min(len(failed), 3)} {name.partition('/')[0]}:{kind}")
    if ended:
        words.append(ended)
    elif record.privacy > Privacy.PUBLIC and candidate is not None and candidate.model.local:
        words.append("kept here")
    return " · ".join(words)
