"""A request on its way: its clock, its sink, and all that its attempts share until its one record is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from types import TracebackType
from typing import Self

import aiohttp
from attrs import field, frozen

from routerpool.config.sections import Config, Profile
from routerpool.engine.deadline import Deadline, DeadlinePassed
from routerpool.engine.failure_log import FailureLog
from routerpool.engine.record import Recorder, record_of
from routerpool.engine.sinks import Served, Sink
from routerpool.errors import RequestError
from routerpool.hooks.calling import Hooks
from routerpool.planning.fallback import BUDGET, Retries
from routerpool.protocols import Provider
from routerpool.types import NO_HINTS, Candidate, ChatRequest, Failure, Features, Outcome, Plan, Usage
from routerpool.wire.hints import given
from routerpool.wire.stream import Stream

__all__ = ["GONE", "Journey", "Services"]


GONE = (ConnectionError, aiohttp.ClientConnectionError)
"""What writing to a client raises once it has left."""

ENDED_BY_US = {
    "shutting_down": ("shutting_down", "this server is shutting down; try again", 1.0),
    "client_gone": ("client_gone", "the client left before the end of the answer", None),
}
"""What is told of a request that ends before its answer does: code, words, and seconds to wait."""


@frozen
class Services:
    """What requests need of their router: its configuration, plugins, providers, HTTP client, and book of records.

    `learn(candidate, capability, able)` takes what an answer has shown, `unheard()` tells of which providers no model
    is known, and why. `unheeded` are the hints that nobody honours. `journeys` are the requests under way.
    """

    config: Config
    hooks: Hooks
    providers: Mapping[str, Provider]
    session: Callable[[], aiohttp.ClientSession]
    learn: Callable[[Candidate, str, bool], None]
    recorder: Recorder
    unheard: Callable[[], Mapping[str, tuple[str, float | None]]]
    unheeded: frozenset[str] = frozenset()
    retries: Retries = field(factory=Retries)
    failures: FailureLog = field(factory=FailureLog)
    journeys: set[Journey] = field(factory=set)


class Journey:
    """One request, from its arrival to its record, which is written on leaving at the latest.

    `committed` is true from the moment in which its client may have seen a part of an answer.
    """

    def __init__(
        self, services: Services, request: ChatRequest, sink: Sink, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.started = perf_counter()
        self.services = services
        self.request = request
        self.sink = sink
        self.deadline = Deadline(loop)
        self.on_commit: Callable[[], None] | None = None
        """What to call when a stream to the client begins."""
        self.tried: list[tuple[Candidate, Failure]] = []
        self.sent = 0
        self.last = True
        """Whether nobody is left to be asked after the one that is asked now."""
        self.answering: Candidate | None = None
        self.committed = False
        self.stream: Stream | None = None
        self.usage: Usage | None = None
        self.first_byte: float | None = None
        self.outcome = Outcome.FAILED
        self._plan: Plan | None = None
        self._profile: Profile | None = None
        self._recorded = False
        budget, asked = services.config.limits.budget_seconds, request.hints.max_seconds
        self.asked = asked is not None
        """Whether the client itself has said how long it waits."""
        self.budget = budget if asked is None else min(budget, asked)

    async def __aenter__(self) -> Self:
        self.services.journeys.add(self)
        self.sink.watch(self.deadline.leave)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.deadline.close()
        self.services.journeys.discard(self)
        if isinstance(error, DeadlinePassed | asyncio.CancelledError):
            self.outcome = Outcome.CANCELLED
        await self.record()
        if isinstance(error, DeadlinePassed):
            code, message, wait = ENDED_BY_US.get(error.why, ENDED_BY_US["client_gone"])
            raise RequestError(code, message, retry_after=wait) from None

    @property
    def plan(self) -> Plan:
        """Who is asked; of a request that ends before its plan is made, a plan without anybody."""
        if self._plan is None:
            request = self.request
            return Plan(request=request, features=Features(), profile=request.hints.profile or "", ranked=())
        return self._plan

    @plan.setter
    def plan(self, plan: Plan) -> None:
        self._plan = plan
        self._profile = self.services.config.profiles[plan.profile]

    @property
    def profile(self) -> Profile:
        """The profile of the plan."""
        assert self._profile is not None  # noqa: S101 - for the type checker: nothing asks before there is a plan
        return self._profile

    def commit(self) -> None:
        """A stream to the client begins; there is no way back."""
        self.committed = True
        if self.on_commit is not None:
            self.on_commit()

    def elapsed_ms(self) -> float:
        """Milliseconds since it came."""
        return (perf_counter() - self.started) * 1e3

    def budget_left(self) -> float:
        """Seconds in which an answer may still begin."""
        return self.budget - (perf_counter() - self.started)

    @property
    def budget_name(self) -> str:
        """Who has set the budget, as the user would look it up."""
        asked = self.request.hints.max_seconds
        return BUDGET if asked is None or asked > self.budget else "the request's max_seconds"

    def answered_by(self, candidate: Candidate) -> None:
        """Take note of who answers, and of when the first byte could go out."""
        self.answering = candidate
        if self.first_byte is None:  # else a host has told it
            self.first_byte = perf_counter()

    def served(self) -> Served:
        """What the headers tell."""
        hints = self.request.hints
        return Served(
            request_id=self.request.id,
            profile=self.plan.profile,
            candidate=self.answering,
            attempts=self.sent,
            tried=", ".join([f"{c.key}:{failure.kind.value}" for c, failure in self.tried]) if self.tried else "",
            ignored="" if hints is NO_HINTS else ", ".join(given(hints, self.services.unheeded)),
        )

    async def to_client(self, sending: Awaitable[None]) -> None:
        """Send something to the client; that it is gone is its leaving, and no failure of the provider."""
        try:
            await sending
        except GONE:
            raise DeadlinePassed("client_gone") from None

    def estimated(self, output: int) -> Usage:
        """The usage of an answer of about `output` tokens whose provider reports none."""
        return Usage(input_uncached=self.plan.features.prompt_tokens, output=output, source="estimated")

    async def record(self) -> None:
        """Write the record, the first time that this is called."""
        if self._recorded:
            return
        self._recorded = True
        recorder = self.services.recorder
        if not recorder.wanted():
            return
        usage = self.usage
        if usage is None and self.stream is not None and self.committed:
            usage = self.estimated(self.stream.output_estimate())
        await recorder.record(
            record_of(
                self.plan,
                candidate=self.answering,
                outcome=self.outcome,
                tried=self.tried,
                usage=usage or Usage(),
                first_byte_ms=None if self.first_byte is None else (self.first_byte - self.started) * 1e3,
                total_ms=self.elapsed_ms(),
            )
        )
