"""The breaker against a reference of thirty lines: any order of failures, successes, trials and waiting."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from routerpool_breaker import Breaker, BreakerConfig

from routerpool import Attempt, Candidate, ChatRequest, Failure, FailureKind, Features, Model, Unavailable

CANDIDATES = tuple(Candidate(provider=name, model=Model(id="m")) for name in "abc")
RULES = {"server": (30.0, 300.0), "rate_limited": (90.0, 3600.0), "forbidden": (300.0, 86400.0)}


class Reference:
    """One candidate's breaker, as plainly as it can be said."""

    def __init__(self) -> None:
        self.row = self.cooldowns = self.trials = 0
        self.kind, self.stated, self.until, self.length, self.touched = "", False, None, 0.0, 0.0

    def state(self, now: float) -> str:
        if self.until is None:
            return "closed"
        return "open" if now < self.until else "half"

    def age(self, now: float) -> None:
        if self.until is None and now > self.touched + 600:
            self.row = 0
        elif self.until is not None and not self.trials and now > self.until + max(600, self.length):
            self.__init__()

    def fail(self, kind: str, stated: float | None, now: float) -> None:
        state, self.touched = self.state(now), now
        self.row += kind == "server"
        if kind == "server" and self.row < 3 and stated is None and state != "half":
            return
        self.cooldowns += state != "open"
        first, most = RULES[kind]
        length = min(first * 2.0 ** (self.cooldowns - 1), most) if stated is None else stated
        newer_word = stated is not None and not (self.stated and self.kind != kind)
        if state != "open" or now + length >= self.until or newer_word:
            self.kind, self.stated, self.until, self.length = kind, stated is not None, now + length, length

    def succeed(self, now: float) -> None:
        if self.state(now) != "open" or self.kind == "server":
            self.__init__()
        self.row = 0

    def lenient(self) -> bool:
        return self.kind == "server" or (self.kind == "rate_limited" and not self.stated)


def step(coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a permit waits for nothing")


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.breaker = Breaker(BreakerConfig(jitter=0.0), clock=lambda: self.now, now=lambda: self.now)
        self.known = {candidate.key: Reference() for candidate in CANDIDATES}
        self.permits: list[tuple[Any, Reference, bool]] = []
        self.number = 0

    who = st.sampled_from(CANDIDATES)

    def attempt(self, candidate: Candidate) -> Attempt:
        self.number += 1
        request = ChatRequest(id=f"r{self.number}", model="auto", messages=[])
        return Attempt(request=request, features=Features(), candidate=candidate, number=1, started=0.0)

    @rule(who=who, kind=st.sampled_from(sorted(RULES)), stated=st.none() | st.sampled_from([5.0, 45.0, 1000.0]))
    def fail(self, who: Candidate, kind: str, stated: float | None) -> None:
        failure = Failure(kind=FailureKind(kind), message="", status=500, retry_after=stated)
        self.breaker.on_failure(self.attempt(who), failure)
        self.known[who.key].fail(kind, stated, self.now)

    @rule(who=who)
    def outage(self, who: Candidate) -> None:
        for _ in range(3):
            self.fail(who, "server", None)

    @rule(who=who)
    def succeed(self, who: Candidate) -> None:
        self.breaker.on_success(self.attempt(who))
        if self.known[who.key].state(self.now) != "open" or self.known[who.key].kind == "server":
            self.permits = [
                (permit, ref, alive and ref is not self.known[who.key]) for permit, ref, alive in self.permits
            ]
        self.known[who.key].succeed(self.now)

    @rule(seconds=st.sampled_from([1.0, 29.0, 30.0, 90.0, 599.0, 601.0, 4000.0, 90000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for reference in self.known.values():
            reference.age(self.now)
        self.vetoes()  # the breaker notices what is over when it is asked

    @rule(who=who)
    def enter(self, who: Candidate) -> None:
        reference = self.known[who.key]
        state = reference.state(self.now)
        refused = (state == "open" and reference.kind == "forbidden") or (state == "half" and reference.trials == 1)
        permit = self.breaker.reserve(self.attempt(who))
        assert (permit is None) == (state == "closed")
        if permit is None:
            return
        try:
            step(permit.__aenter__())
        except Unavailable:
            assert refused
        else:
            assert not refused
            reference.trials += state == "half"
            self.permits.append((permit, reference, state == "half"))

    @precondition(lambda self: self.permits)
    @rule(place=st.integers(0, 99))
    def leave(self, place: int) -> None:
        permit, reference, trial = self.permits.pop(place % len(self.permits))
        step(permit.__aexit__(None, None, None))
        reference.trials -= trial
        reference.age(self.now)
        self.vetoes()

    def vetoes(self) -> set[str]:
        return {veto.candidate.key for veto in self.breaker.veto(self.attempt(CANDIDATES[0]).request, CANDIDATES)}

    @invariant()
    def vetoes_are_those_of_the_reference(self) -> None:
        state = {key: reference.state(self.now) for key, reference in self.known.items()}
        barred = {
            key for key, ref in self.known.items() if state[key] == "open" or (state[key] == "half" and ref.trials)
        }
        spare = {key for key in barred if self.known[key].lenient()}
        usable = {key for key in set(self.known) - barred if state[key] == "closed" or self.known[key].lenient()}
        vetoed = self.vetoes()
        if usable or not spare:
            assert vetoed == barred
        else:
            soonest = min(self.known[key].until for key in spare)
            [let_through] = barred - vetoed
            assert let_through in spare
            assert self.known[let_through].until == soonest

    @invariant()
    def a_soft_outage_never_vetoes_everybody(self) -> None:
        if all(reference.until is None or reference.kind == "server" for reference in self.known.values()):
            assert len(self.vetoes()) < len(CANDIDATES)

    @invariant()
    def permits_stay_within_the_limit(self) -> None:
        told = {entry["key"]: entry["trials"] for entry in self.breaker.status()["cooldowns"]}
        assert all(0 <= trials <= 1 for trials in told.values())
        assert told == {key: ref.trials for key, ref in self.known.items() if ref.until is not None}


TestBreakerAgainstItsReference = Machine.TestCase
TestBreakerAgainstItsReference.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
