"""A request on its way: the clock, the sink, and all that its attempts share until its one record is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Protocol

import aiohttp
from attrs import frozen

from routerpool.config.sections import Config, Profile
from routerpool.engine.deadline import Deadline, DeadlinePassed
from routerpool.engine.record import record_of
from routerpool.errors import RequestError
from routerpool.hooks.calling import Hooks
from routerpool.protocols import Provider
from routerpool.types import Answer, Candidate, Failure, Outcome, Plan, Usage, UsageRecord
from routerpool.wire.stream import Stream

__all__ = ["GONE", "Arrival", "Journey", "Served", "Services", "Sink"]


GONE = (ConnectionError, aiohttp.ClientConnectionError)
"""What writing to a client raises once it has left."""


@frozen(kw_only=True, slots=True)
class Served:
    """Who answers, for the headers: known before the first byte goes out."""

    request_id: str
    profile: str
    candidate: Candidate | None
    attempts: int
    tried: str


class Sink(Protocol):
    """Where an answer goes. Of `plain` and `open` one is called, once, unless an error is raised instead."""

    def watch(self, leave: Callable[[str], None]) -> None:
        """Take the function to call, with "client_gone", as soon as the client is seen to have left."""

    async def plain(self, answer: Answer, served: Served) -> None:
        """Send a whole answer, or a provider's own error."""

    async def open(self, served: Served) -> None:
        """Begin a stream."""

    def write(self, block: bytes) -> Awaitable[None]:
        """Send whole events; waits while the client reads slowly. Asked for once the stream is open."""

    async def fail(self, error: RequestError) -> None:
        """End an open stream with an error that its reader cannot take for an end."""

    async def close(self, rest: bytes) -> None:
        """End an open stream with the last of its events, if some are left, and its terminal marker."""


class Arrival:
    """A request's clock: when it came (`time.perf_counter()` seconds), its one timer, and its place in the house."""

    __slots__ = ("_committed", "deadline", "opened", "started")

    def __init__(
        self, committed: Callable[[], None] | None = None, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.started = perf_counter()
        self.deadline = Deadline(loop)
        self.opened = False
        self._committed = committed

    def commit(self) -> None:
        """A stream to the client begins."""
        self.opened = True
        if self._committed is not None:
            self._committed()

    def elapsed_ms(self) -> float:
        """Milliseconds since it came."""
        return (perf_counter() - self.started) * 1e3


@frozen
class Services:
    """What requests need of their router: its configuration, plugins, providers, HTTP client, and book of records.

    `learn(candidate, capability, able)` takes what an answer has shown.
    """

    config: Config
    hooks: Hooks
    providers: Mapping[str, Provider]
    session: Callable[[], aiohttp.ClientSession]
    record: Callable[[UsageRecord], Awaitable[None]]
    learn: Callable[[Candidate, str, bool], None]


class Journey:
    """The state of one request. `committed` is true from the moment in which its client may have seen a part."""

    def __init__(self, services: Services, plan: Plan, profile: Profile, sink: Sink, arrival: Arrival) -> None:
        self.services = services
        self.plan = plan
        self.profile = profile
        self.sink = sink
        self.arrival = arrival
        self.deadline = arrival.deadline
        self.tried: list[tuple[Candidate, Failure]] = []
        self.sent = 0
        self.answering: Candidate | None = None
        self.committed = False
        self.stream: Stream | None = None
        self.usage: Usage | None = None
        self.first_byte: float | None = None
        self.outcome = Outcome.FAILED
        self._recorded = False
        budget, asked = services.config.limits.budget_seconds, plan.request.hints.max_seconds
        self.budget = budget if asked is None else min(budget, asked)

    def budget_left(self) -> float:
        """Seconds in which an answer may still begin."""
        return self.budget - (perf_counter() - self.arrival.started)

    def answered_by(self, candidate: Candidate) -> None:
        """Take note of who answers, and of when the first byte could go out."""
        self.answering = candidate
        if self.first_byte is None:  # else a host has told it
            self.first_byte = perf_counter()

    def served(self) -> Served:
        """What the headers tell."""
        return Served(
            request_id=self.plan.request.id,
            profile=self.plan.profile,
            candidate=self.answering,
            attempts=self.sent,
            tried=", ".join([f"{candidate.key}:{failure.kind.value}" for candidate, failure in self.tried]),
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
        if not self.services.hooks.impls["record_usage"]:
            return
        usage = self.usage
        if usage is None and self.stream is not None and self.committed:
            usage = self.estimated(self.stream.output_estimate())
        began = None if self.first_byte is None else (self.first_byte - self.arrival.started) * 1e3
        record = record_of(
            self.plan,
            candidate=self.answering,
            outcome=self.outcome,
            tried=self.tried,
            usage=usage or Usage(),
            first_byte_ms=began,
            total_ms=self.arrival.elapsed_ms(),
        )
        await self.services.record(record)
