"""Benches what fails: a candidate, or all of a provider where its key or its address is at fault.

Each candidate is closed (used), open (benched until its cooldown ends) or half-open (its cooldown is over, and a few
requests at a time may try it). A success closes, a failure opens again for twice as long. What the provider itself
says about when to come back goes before any rule of ours.

What a host tells over HTTP is a claim: it benches one candidate for a minute at most, until a request of our own has
seen for itself, and one that is refuted so is not believed again for a while.

Everything is measured on the monotonic clock and kept in this process: other workers learn for themselves.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from weakref import WeakValueDictionary

from attrs import define, evolve

from routerpool import Attempt, Candidate, ChatRequest, Failure, FailureKind, Unavailable, Veto, hookimpl
from routerpool.providers import until_midnight
from routerpool_breaker.rules import (
    COUNTERS,
    DAY,
    DOUBTED,
    HOUR,
    PASSING,
    PROVIDER_WIDE,
    SOFT,
    BreakerConfig,
    Cooldown,
    rules_of,
)

__all__ = ["Breaker", "BreakerConfig", "Cooldown"]

FORGET_SECONDS = 600.0
"""A failure that nothing has followed for this long no longer counts as one in a row."""

CLAIM_SECONDS = 60.0
"""How long a claim benches at most."""

TRIAL_SECONDS = 1.0
"""When to ask again about a candidate that another request is just trying."""


Scope = Literal["candidate", "provider", "pool"]


@define(eq=False)
class Entry:
    """What is remembered of one scope, a candidate or a provider, since it last succeeded."""

    key: str
    scope: Scope
    kind: FailureKind = FailureKind.SERVER
    why: str = ""
    stated: bool = False
    """Whether the deadline is the provider's own word."""
    failures: int = 0
    soft: int = 0
    missing: frozenset[str] = frozenset()
    cooldowns: int = 0
    benched: bool = False
    claimed: bool = False
    """Whether it stands on a host's word alone."""
    until: float = 0.0
    length: float = 0.0
    touched: float = 0.0
    trials: int = 0
    doubts: int = 0
    """Of a candidate: its failures that say nothing of it, since any model of its provider has answered."""
    paid: bool = False
    """Whether it is a want of credit of a model that costs something: free ones may go on."""

    def open(self, now: float) -> bool:
        """Whether its cooldown still runs."""
        return self.benched and now < self.until

    @property
    def lenient(self) -> bool:
        """Whether the last candidate is used all the same: soft trouble, or a wait that we only guess."""
        return self.claimed or self.kind in SOFT or (self.kind in PASSING and not self.stated)

    def over(self, now: float) -> bool:
        """Whether it is so long ago that it says nothing any more."""
        if self.benched:
            return not self.trials and now > self.until + max(FORGET_SECONDS, self.length)
        return now > self.touched + FORGET_SECONDS

    def reason(self, now: float) -> str:
        """Why and for how long, in words."""
        if now < self.until:
            return f"{self.why} for another {_duration(self.until - now)}"
        return f"another request is trying it after its cooldown ({self.why})"

    def wait(self, now: float) -> float:
        """Seconds after which asking again makes sense."""
        return self.until - now if now < self.until else TRIAL_SECONDS


class Permit:
    """One attempt's right to try what is half-open, given back exactly once however the attempt ends."""

    __slots__ = ("_attempt", "_breaker", "_entries", "_taken")

    def __init__(self, breaker: Breaker, attempt: Attempt, entries: Sequence[Entry]) -> None:
        self._breaker = breaker
        self._attempt = attempt
        self._entries = entries
        self._taken: Sequence[Entry] = ()

    async def __aenter__(self) -> None:
        self._taken = self._breaker.take(self._attempt, self._entries)

    async def __aexit__(self, *exc: object) -> None:
        taken, self._taken = self._taken, ()
        for entry in taken:
            entry.trials -= 1


class Breaker:
    """Vetoes what is benched (`cooldown`) or just being tried (`half_open`).

    Where nobody is left but candidates with soft trouble, the one whose cooldown ends first is used all the same:
    an attempt that will probably fail is better than a refusal that certainly does.
    """

    Config = BreakerConfig
    default = 60

    def __init__(
        self,
        config: BreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.config = config or BreakerConfig()
        self._clock = clock
        self._now = now
        self._rules = rules_of(self.config)
        self._entries: dict[str, Entry] = {}
        self._benched: dict[str, Entry] = {}
        self._refuted: dict[str, float] = {}
        """Until when claims about a candidate are not believed."""
        self._spared: WeakValueDictionary[tuple[str, str], ChatRequest] = WeakValueDictionary()
        self._failed: WeakValueDictionary[tuple[str, str], ChatRequest] = WeakValueDictionary()
        self._members: dict[int, tuple[Sequence[Candidate], Mapping[str, list[Candidate]]]] = {}

    def take_over(self, older: Breaker) -> None:
        """Know what was learned before a reload; requests of the generation before go on teaching both."""
        self._entries, self._benched = older._entries, older._benched
        self._clock, self._now = older._clock, older._now

    # Planning

    @hookimpl
    def veto(self, request: ChatRequest, candidates: Sequence[Candidate]) -> Iterable[Veto]:
        """Those that are benched, and those that enough other requests are trying."""
        if not self._benched:
            return ()
        now = self._clock()
        troubled = self._troubled(candidates, now)
        barred = {key: trouble for key, trouble in troubled.items() if self._bars(trouble[1], now)}
        if len(troubled) == len(candidates):
            self._spare(request, troubled, barred)
        return [_veto(candidate, entry, now) for candidate, entry in barred.values()]

    def _troubled(self, candidates: Sequence[Candidate], now: float) -> dict[str, tuple[Candidate, Entry]]:
        """The candidates that are not closed, each with the gravest of its entries; in the time of the entries."""
        members = self._members_of(candidates)
        troubled: dict[str, tuple[Candidate, Entry]] = {}
        for entry in tuple(self._benched.values()):
            if entry.over(now):
                self._forget(entry)
                continue
            for candidate in members.get(entry.key, ()):
                if entry.paid and candidate.model.free:
                    continue
                other = troubled.get(candidate.key)
                if other is None or self._gravity(entry, now) > self._gravity(other[1], now):
                    troubled[candidate.key] = candidate, entry
        return troubled

    def _spare(
        self,
        request: ChatRequest,
        troubled: Mapping[str, tuple[Candidate, Entry]],
        barred: dict[str, tuple[Candidate, Entry]],
    ) -> None:
        """Let one through where nobody is closed, and remember it, so that `reserve` does not refuse it after all."""
        lenient = [trouble for trouble in troubled.values() if trouble[1].lenient]
        if lenient:
            candidate, _ = min(lenient, key=lambda trouble: (trouble[0].key in barred, trouble[1].until))
            barred.pop(candidate.key, None)
            self._spared[request.id, candidate.key] = request

    def _bars(self, entry: Entry, now: float) -> bool:
        return entry.open(now) or entry.trials >= self.config.trials

    def _gravity(self, entry: Entry, now: float) -> tuple[bool, bool, float]:
        return self._bars(entry, now), not entry.lenient, entry.until

    def _members_of(self, candidates: Sequence[Candidate]) -> Mapping[str, list[Candidate]]:
        """Who is meant by the key of a candidate or of a provider; kept, as it is mostly the same tuple."""
        kept = self._members.get(id(candidates))
        if kept is not None and kept[0] is candidates:
            return kept[1]
        members: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            members.setdefault(candidate.key, []).append(candidate)
            members.setdefault(candidate.provider, []).append(candidate)
            for pool in candidate.model.pools:
                members.setdefault(pool, []).append(candidate)
        if len(self._members) >= 32:
            self._members.clear()
        self._members[id(candidates)] = candidates, members
        return members

    # Trying

    @hookimpl
    def reserve(self, attempt: Attempt) -> Permit | None:
        """A permit where the candidate or its provider is benched, nothing where they are not."""
        if not self._benched:
            return None
        free = attempt.candidate.model.free
        found = [self._benched[key] for key in _keys(attempt.candidate) if key in self._benched]
        entries = [entry for entry in found if not (free and entry.paid)]
        return Permit(self, attempt, entries) if entries else None

    def take(self, attempt: Attempt, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Take a trial of each entry that is half-open, or of none and raise Unavailable."""
        now, half_open = self._clock(), []
        asked = attempt.request.id, attempt.candidate.key
        spared = asked in self._spared
        for entry in entries:
            if entry.open(now):
                # Benched since this was planned, or by this very request: in an outage a retry doubles the calls.
                passing = entry.kind in PASSING or (entry.claimed and spared)
                if not passing or (asked in self._failed and not entry.stated):
                    raise Unavailable(entry.reason(now), entry.wait(now))
            elif entry.trials < self.config.trials:
                half_open.append(entry)
            elif not (spared and entry.lenient):
                raise Unavailable(entry.reason(now), entry.wait(now))
        for entry in half_open:
            entry.trials += 1
        return half_open

    # Learning

    @hookimpl
    def on_failure(self, attempt: Attempt, failure: Failure) -> None:
        """Count it, and bench the candidate or its provider where the kind of failure asks for it."""
        candidate, kind = attempt.candidate, failure.kind
        if failure.status is not None and not attempt.claimed:
            self._reached(candidate.provider)
        if kind not in self._rules or self._is_no_news(candidate, failure):
            return
        now = self._clock()
        for old in [entry for entry in self._entries.values() if entry.over(now)]:
            self._forget(old)
        entry = self._entry(attempt, failure, now)
        if entry is None:
            return
        stated = _stated(failure)
        if self._count(entry, attempt, kind, now) or (stated is not None and kind in SOFT):
            self._bench(entry, failure, stated, now)
            entry.paid = failure.kind is FailureKind.CREDIT and not candidate.model.free
            self._failed[attempt.request.id, candidate.key] = attempt.request
        if failure.wide and entry.scope == "candidate" and kind in DOUBTED and not attempt.claimed:
            self._doubt(entry, candidate, failure, now)

    def _doubt(self, entry: Entry, candidate: Candidate, failure: Failure, now: float) -> None:
        """Bench all of a provider as sick where one after the other of its models fails, and none answers meanwhile."""
        entry.doubts += 1
        doubts = [other.doubts for other in self._siblings(candidate) if other.doubts]
        whole = self._benched.get(candidate.provider)
        if whole is not None and whole.kind is not FailureKind.SERVER:  # of the key or the address, which says more
            return
        tried = whole is not None and not whole.open(now)
        if tried or (len(doubts) > 1 and sum(doubts) >= self.config.failures):
            whole = self._entries.setdefault(candidate.provider, Entry(candidate.provider, "provider"))
            whole.failures, whole.touched = sum(doubts), now
            self._bench(whole, evolve(failure, kind=FailureKind.SERVER), None, now)

    def _siblings(self, candidate: Candidate) -> list[Entry]:
        """What is remembered of a provider's models."""
        start = f"{candidate.provider}/"
        return [entry for entry in self._entries.values() if entry.scope == "candidate" and entry.key.startswith(start)]

    def _entry(self, attempt: Attempt, failure: Failure, now: float) -> Entry | None:
        """What is remembered of whom a failure concerns; None where it is a claim that is not believed.

        A claim concerns the candidate alone. It neither adds to nor takes from what was seen here, and gives way to it.
        """
        claimed = attempt.claimed
        key, scope = _scope(attempt.candidate, failure)
        if claimed:
            key, scope = attempt.candidate.key, "candidate"
        entry = self._entries.get(key)
        if claimed and ((entry is not None and not entry.claimed) or now < self._refuted.get(key, 0.0)):
            return None
        if entry is None or entry.claimed is not claimed:
            if entry is not None:
                self._forget(entry)
            entry = self._entries[key] = Entry(key, scope, claimed=claimed)
        return entry

    @hookimpl
    def on_success(self, attempt: Attempt) -> None:
        """Close the candidate and its provider, and forget what was counted.

        An answer that comes while a cooldown runs was mostly begun before it. It proves soft trouble over, but does
        not outweigh a rate limit or a refused key.
        """
        if not self._entries:
            return
        now = self._clock()
        spared = (attempt.request.id, attempt.candidate.key) in self._spared
        for sibling in self._siblings(attempt.candidate):
            sibling.doubts = 0
        for key in _keys(attempt.candidate):
            entry = self._entries.get(key)
            if entry is None or (attempt.claimed and not entry.claimed):
                continue
            if entry.claimed:
                self._forget(entry)
                if entry.benched and not attempt.claimed:
                    self._refuted[key] = now + FORGET_SECONDS
            elif not entry.open(now) or entry.kind in SOFT or spared:
                self._forget(entry)
            else:
                entry.soft = 0

    def _is_no_news(self, candidate: Candidate, failure: Failure) -> bool:
        """Whether it says nothing of the provider: a privacy check or a slot of our own, a "not now" without a wait."""
        if failure.kind is FailureKind.UNAVAILABLE:
            if failure.retry_after is not None and failure.retry_after <= 0:
                return True
            return failure.status is None and any(key in self._benched for key in _keys(candidate))
        return failure.kind is FailureKind.FORBIDDEN and failure.status is None

    def _reached(self, provider: str) -> None:
        """Any answer, an error too, proves that the address is right."""
        entry = self._entries.get(provider)
        if entry is not None and (entry.kind is FailureKind.CONNECT or not entry.benched):
            self._forget(entry)

    def _count(self, entry: Entry, attempt: Attempt, kind: FailureKind, now: float) -> bool:
        """Take note of a failure; whether it is enough for a cooldown. A failed trial always is."""
        entry.failures += 1
        entry.touched = now
        config = self.config
        if kind in SOFT:
            entry.soft += 1
            enough = entry.soft >= (config.connect_failures if kind is FailureKind.CONNECT else config.failures)
        elif kind is FailureKind.MISSING_MODEL:
            if len(entry.missing) < config.missing_requests:
                entry.missing |= {attempt.request.id}
            enough = len(entry.missing) >= config.missing_requests
        else:
            enough = True
        return enough or (entry.benched and not entry.open(now))

    def _bench(self, entry: Entry, failure: Failure, stated: float | None, now: float) -> None:
        """Open it. Failures that come while it is open belong to the same trouble and do not double the cooldown."""
        was_open = entry.open(now)
        cooldowns = entry.cooldowns if was_open else entry.cooldowns + 1
        length = self._stated_length(failure.kind, stated) if stated is not None else self._length(failure, cooldowns)
        if entry.claimed:
            length = min(length, CLAIM_SECONDS)
        entry.cooldowns = cooldowns
        if was_open and now + length < entry.until:
            other_word = entry.stated and entry.kind is not failure.kind
            if stated is None or other_word:  # only a newer word on the same matter may shorten a cooldown
                return
        entry.kind, entry.stated = failure.kind, stated is not None
        entry.why = _words(failure, entry) + (", as a host says," if entry.claimed else "")
        entry.until, entry.length, entry.benched = now + length, length, True
        self._benched[entry.key] = entry

    def _stated_length(self, kind: FailureKind, stated: float) -> float:
        daily = kind in (FailureKind.QUOTA_EXHAUSTED, FailureKind.CREDIT)
        return min(stated if stated > 0 else 1.0, self.config.max_cooldown or (DAY if daily else HOUR))

    def _length(self, failure: Failure, cooldowns: int) -> float:
        first, most = self._rules[failure.kind]
        if first is None:
            return min(until_midnight(self._now()), most)
        jitter = self.config.jitter
        return min(first * 2.0 ** min(cooldowns - 1, 32) * random.uniform(1 - jitter, 1 + jitter), most)

    def _forget(self, entry: Entry) -> None:
        self._entries.pop(entry.key, None)
        self._benched.pop(entry.key, None)

    # Telling

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """Every cooldown with its scope, kind, source and end."""
        now, wall = self._clock(), self._now()
        return {
            "scope": "this process",
            "cooldowns": [
                {
                    "key": entry.key,
                    "scope": entry.scope,
                    "state": "open" if entry.open(now) else "half_open",
                    "kind": entry.kind.value,
                    "source": entry.why,
                    "stated": entry.stated,
                    "claimed": entry.claimed,
                    "until": _utc(wall + entry.until - now),
                    "seconds": round(max(entry.until - now, 0.0), 1),
                    "failures": entry.failures,
                    "cooldowns": entry.cooldowns,
                    "trials": entry.trials,
                }
                for entry in self._benched.values()
                if not entry.over(now)
            ],
        }


def _keys(candidate: Candidate) -> tuple[str, ...]:
    return candidate.key, candidate.provider, *candidate.model.pools


def _scope(candidate: Candidate, failure: Failure) -> tuple[str, Scope]:
    """Who is benched: all who share the quota that is spent, all of the provider, or the candidate alone."""
    pools, counted = candidate.model.pools, failure.kind in (FailureKind.RATE_LIMITED, FailureKind.QUOTA_EXHAUSTED)
    spent = failure.pool or (next(iter(pools)) if counted and len(pools) == 1 else None)
    if spent in pools:
        return spent, "pool"
    return (candidate.provider, "provider") if failure.kind in PROVIDER_WIDE else (candidate.key, "candidate")


def _stated(failure: Failure) -> float | None:
    """The provider's word on when to come back; a rate-limit window or a zero beside another failure is none."""
    wait, source = failure.retry_after, failure.source or ""
    if failure.kind in COUNTERS:
        return wait
    said = source in ("", "pattern") or "retry-after" in source
    return wait if said and wait is not None and wait > 0 else None


def _veto(candidate: Candidate, entry: Entry, now: float) -> Veto:
    code = "cooldown" if entry.open(now) else "half_open"
    reason = entry.reason(now)
    if entry.scope != "candidate":
        reason = f"all of {entry.key}: {reason}"
    return Veto(candidate, code, reason, entry.wait(now), entry.kind)


def _words(failure: Failure, entry: Entry) -> str:
    """What happened and who says for how long: `429 by header retry-after`."""
    kind = failure.kind.value.replace("_", " ")
    what = kind if failure.status is None else str(failure.status)
    if entry.stated:
        return f"{what} by {_place(failure.source)}"
    if failure.kind in SOFT:
        return f"{entry.failures} failures in a row, the last: {what}"
    named = what if failure.status is None else f"{what} ({kind})"
    if failure.kind is FailureKind.QUOTA_EXHAUSTED:
        return f"{named} until a new day begins,"
    return f"{named} without a stated wait"


def _place(source: str | None) -> str:
    if source is None:
        return "its own word"
    if source == "pattern":
        return "a known form of error"
    kind, colon, name = source.partition(":")
    return f"{kind} {name}" if colon else f"header {source}"


def _duration(seconds: float) -> str:
    """Seconds for people: `41 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
