"""Plans that somebody else carries out: a host that forwards requests itself asks whom, and reports how it went.

A handover runs through the same engine as any request; only the exchange with the provider is the host's. So all that
hangs on an attempt is as it always is: reservations, what is changed before sending, decisions, retries, the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from secrets import token_hex
from time import perf_counter
from typing import Any, NamedTuple

from attrs import evolve

from routerpool.engine.exchange import Exchange
from routerpool.engine.journey import Journey
from routerpool.engine.sinks import Served, Sink
from routerpool.errors import RequestError, defect
from routerpool.hooks.isolation import locate
from routerpool.protocols import Provider
from routerpool.providers.failures import failure_of_exception
from routerpool.providers.openai import Outgoing
from routerpool.providers.replies import ReadReply
from routerpool.types import (
    Answer,
    Attempt,
    Caller,
    Candidate,
    ChatRequest,
    Failure,
    FailureKind,
    Features,
    Outcome,
    Plan,
    Usage,
)
from routerpool.wire.request import sent_body

__all__ = ["HANDOVER_ENDED", "Assignment", "AttemptResult", "Handover", "Handovers"]

log = logging.getLogger("routerpool.handover")

AttemptResult = Usage | Failure | Answer | Outcome | None
"""What a host tells: usage, a failure, the provider's whole answer, only how it ended; None where nobody was asked."""

HANDOVER_ENDED = "this plan is over: it was reported to its end, or its time was up"


class Assignment:
    """One attempt that a host makes: whom to ask, and what to send there, as plugins have changed it."""

    __slots__ = ("_outgoing", "_provider", "attempt", "request")

    def __init__(self, provider: Provider, attempt: Attempt, request: ChatRequest) -> None:
        self.attempt = attempt
        self.request = request
        self._provider = provider
        self._outgoing: Outgoing | None = None

    def __repr__(self) -> str:
        return f"<Assignment {self.candidate.key}>"

    @property
    def candidate(self) -> Candidate:
        """Whom to ask."""
        return self.attempt.candidate

    @property
    def outgoing(self) -> Outgoing | None:
        """`url`, `headers` (its key among them) and `body`; None for a provider with a wire format of its own."""
        if self._outgoing is None:
            make = getattr(self._provider, "outgoing", None)
            self._outgoing = make(self.attempt, self.request) if make else None
        return self._outgoing

    @property
    def url(self) -> str | None:
        """Where the candidate's provider takes chat completions."""
        return self.outgoing.url if self.outgoing else None

    @property
    def headers(self) -> Mapping[str, str]:
        """What the provider wants in the head, its key among it."""
        return self.outgoing.headers if self.outgoing else {}

    @property
    def body(self) -> Mapping[str, Any]:
        """What to send, in OpenAI's form; never the client's own body, of which a part may have to stay here."""
        return self.outgoing.body if self.outgoing else sent_body(self.request, self.candidate.model.id)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer of the provider's means that is none."""
        return self._provider.failure(status, headers, body)


class AttemptReport(NamedTuple):
    """A host's report on one attempt: what, whom it asked if not whom we said, and when the first byte came."""

    told: AttemptResult
    candidate: Candidate | None
    first_byte_ms: float | None


class Handover(Sink):
    """A request in a host's hands. `assignment` is the attempt to make now, to be reported within `seconds`.

    It is None when all is over; then `answer` holds what the client gets where the router knows it (a canned answer,
    or a reported one after all plugins), and `error` what it is told when nobody is left. `claims` says that the host
    is another process, whose word is not taken for what was seen; it reports by the `token`, which nobody can guess.
    """

    plan: Plan
    """Who is asked, as soon as it has begun."""

    def __init__(self, request: ChatRequest, seconds: float, *, claims: bool = False) -> None:
        self.request = request
        self.seconds = seconds
        self.claims = claims
        self.token = token_hex(24)
        self.assignment: Assignment | None = None
        self.answer: Answer | None = None
        self.error: RequestError | None = None
        self.expired = False
        self.opened = perf_counter()
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Future[None] = self._loop.create_future()
        self._report: asyncio.Future[AttemptReport] | None = None
        self._running: asyncio.Future[None] | None = None

    # For the host

    @property
    def id(self) -> str:
        """The decision's id, which is the request's and no secret."""
        return self.request.id

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """All who may answer, the best first."""
        return self.plan.ranked

    @property
    def features(self) -> Features:
        """What is known of the request."""
        return self.plan.features

    @property
    def candidate(self) -> Candidate | None:
        """Whom to ask now."""
        return self.assignment.candidate if self.assignment else None

    @property
    def body(self) -> Mapping[str, Any] | None:
        """What to send there."""
        return self.assignment.body if self.assignment else None

    @property
    def changed(self) -> bool:
        """Whether plugins have changed what is sent, beyond its model."""
        return self.assignment is not None and self.assignment.request is not self.request

    def open_seconds(self) -> float:
        """For how long it has been open."""
        return perf_counter() - self.opened

    # For the router

    def asked(self, told: Candidate | str | None, known: Mapping[str, Candidate]) -> Candidate | None:
        """Whom a host says it has asked: one of its plan, else one that is `known` now, as catalogs change."""
        if told is None:
            return None
        key = told if isinstance(told, str) else told.key
        found = next((candidate for candidate in self.ranked if candidate.key == key), None) or known.get(key)
        if found is None:
            raise RequestError("invalid_request", f"there is no candidate called {key[:80]!a}", param="candidate")
        return found

    def at_end(self, call: Callable[[], None]) -> None:
        """Call this as soon as it is over."""
        if self._running is not None:
            self._running.add_done_callback(lambda _: call())

    async def begun(self, running: asyncio.Future[None]) -> None:
        """Wait for the first attempt; a plan that is refused is its RequestError."""
        self._running = running
        running.add_done_callback(self._over)
        await self._turn
        if self.error is not None:
            raise self.error

    async def reported(self, report: AttemptReport) -> None:
        """Take a report, and wait for what comes next."""
        waiting = self._report
        if waiting is None or waiting.done():
            over = self.assignment is None or self.expired
            raise RequestError("invalid_request", HANDOVER_ENDED if over else "it is being reported already")
        self._turn = self._loop.create_future()
        waiting.set_result(report)
        await self._turn

    async def attempt(self, assignment: Assignment, journey: Journey) -> AttemptReport:
        """Give the host an attempt to make, and wait for what it tells."""
        self._report = self._loop.create_future()
        self.plan = journey.plan
        self.assignment = assignment
        self._next()
        try:
            with journey.deadline:
                journey.deadline.set(self.seconds, "report")
                return await self._report
        finally:
            self.expired = journey.deadline.expired == "report"
            self._report.cancel()

    def _over(self, running: asyncio.Future[None]) -> None:
        self.assignment = None
        error = None if running.cancelled() else running.exception()
        if isinstance(error, RequestError):
            self.error = error
        elif error is not None:
            log.error("a handed-over plan failed: %s", locate(error))
            self.error = defect()
        self._next()

    def _next(self) -> None:
        if not self._turn.done():
            self._turn.set_result(None)

    # As the sink of its own request: the host streams by itself, and says itself when its client leaves

    async def plain(self, answer: Answer, served: Served) -> None:
        """Keep what the client gets."""
        self.answer = answer


class HostsExchange(Exchange):
    """An attempt that the host makes; what it tells goes where an answer of our own would go."""

    def __init__(self, journey: Journey, attempt: Attempt) -> None:
        super().__init__(journey, attempt)
        sink = journey.sink
        assert isinstance(sink, Handover)  # noqa: S101 - for the type checker: see `Handovers.begin`
        self.handover = sink
        if sink.claims:
            self.attempt = evolve(attempt, claimed=True)

    async def run(self, request: ChatRequest) -> Failure | None:
        """Have the host send `request`; the failure that it reports, or None when all is over."""
        if (forbidden := self.forbidden()) is not None:
            return forbidden
        journey = self.journey
        journey.sent += 1
        report = await self.handover.attempt(Assignment(self.provider, self.attempt, request), journey)
        if report.candidate is not None and report.candidate.key != self.candidate.key:
            self._asked(report.candidate)
        told_ms = report.first_byte_ms
        journey.first_byte = None if told_ms is None else journey.started + told_ms / 1e3
        failure = await self._take(report.told)
        if failure is None or not failure.first_byte_sent:
            return failure
        await self.break_off(failure)
        return None

    def _asked(self, candidate: Candidate) -> None:
        """The host has asked another one: whatever follows is about that one."""
        self.attempt = evolve(self.attempt, candidate=candidate)
        self.candidate = candidate
        self.provider = self.journey.services.providers[candidate.provider]
        self.forbidden()  # which is too late to stop it, and says so in the log

    async def _take(self, told: AttemptResult) -> Failure | None:
        if told is None or isinstance(told, Failure):
            return told
        if isinstance(told, Answer):
            heard = ReadReply(told.status, {"Content-Type": told.content_type}, told.body)
            try:
                return await (self.plain(heard) if 200 <= told.status < 300 else self.answered(heard))
            except ValueError as error:  # longer than an answer may be
                return failure_of_exception(self.provider.name, error)
        if told is Outcome.FAILED:
            return Failure(kind=FailureKind.SERVER, message=f"{self.provider.name} failed, as its host says")
        self.journey.answered_by(self.candidate)
        if isinstance(told, Usage):
            await self.succeed(told)
        elif told is Outcome.ANSWERED:
            await self.succeed(self.journey.estimated(0))
        else:
            self.journey.outcome = told
        return None


class Handovers:
    """The requests that are in the hands of hosts, each let go when its time is up; `most` of them at once."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self.released = 0
        self._open: dict[str, Handover] = {}
        self._running: set[asyncio.Future[None]] = set()

    async def begin(self, handover: Handover, carrying_out: Coroutine[Any, Any, None]) -> None:
        """Run what carries a request out, until its first attempt is to be made."""
        running = asyncio.ensure_future(carrying_out)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            await handover.begun(running)
        except asyncio.CancelledError:
            running.cancel()
            raise

    @asynccontextmanager
    async def place(self, journey: Journey) -> AsyncIterator[None]:
        """A place for a request whose sink is a handover, to be entered."""
        handover = journey.sink
        assert isinstance(handover, Handover)  # noqa: S101 - for the type checker: see `begin`
        if len(self._open) >= self.most:
            message = f"{len(self._open)} plans wait for their reports, and no more are allowed"
            raise RequestError("request_queue_full", message, retry_after=1.0)
        self._open[handover.token] = handover
        try:
            yield
        finally:
            self.released += handover.expired
            del self._open[handover.token]

    def find(self, token: str, caller: Caller) -> Handover | None:
        """The open handover with this token, where it is this caller's."""
        handover = self._open.get(token)
        if handover is None:
            return None
        mine = handover.request.caller
        return handover if (mine.id, mine.plane) == (caller.id, caller.plane) else None

    async def idle(self) -> None:
        """Wait until all that are open have ended."""
        while self._running:
            await asyncio.wait(tuple(self._running))

    def status(self) -> dict[str, Any]:
        """How many wait for a report, for how long the oldest of them, and how many had none in time."""
        oldest = max((handover.open_seconds() for handover in self._open.values()), default=0.0)
        return {"open": len(self._open), "oldest_seconds": round(oldest, 3), "released": self.released}
