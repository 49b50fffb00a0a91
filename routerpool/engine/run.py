"""The attempt loop: reserve, mutate, send, judge, decide, until one candidate's answer reaches the client.

Every request ends in exactly one way and is recorded exactly once. The engine speaks one wire format with providers;
a `Sink` takes what goes to the client, in whatever dialect that client speaks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import CoroutineType
from typing import Any

import aiohttp
from attrs import evolve

from routerpool.config.sections import Config, Profile
from routerpool.engine.deadline import DeadlinePassed
from routerpool.engine.exchange import CLIENT_LEFT, Exchange
from routerpool.engine.fallback import Retries, exhausted, own_decision, thin, wait_before
from routerpool.engine.journey import Arrival, Journey, Services, Sink
from routerpool.errors import RequestError, Unavailable
from routerpool.hooks.calling import Hooks, Impl
from routerpool.hooks.isolation import locate, ours_to_end
from routerpool.planning.explanation import refusal
from routerpool.protocols import Provider
from routerpool.types import (
    Answer,
    Attempt,
    Candidate,
    ChatRequest,
    Decision,
    Failure,
    FailureKind,
    Outcome,
    Plan,
    UsageRecord,
)

__all__ = ["Engine"]

RECORD_SECONDS = 0.05
"""How long the end of an answer waits for its usage record."""

SHORT_WAIT_SECONDS = 2.0
"""A pinned candidate is waited for this long if its provider says so, rather than losing its prompt cache."""


class Engine:
    """Runs plans. One engine serves all requests of a router."""

    def __init__(
        self,
        config: Config,
        hooks: Hooks,
        providers: Mapping[str, Provider],
        session: Callable[[], aiohttp.ClientSession],
        learn: Callable[[Candidate, str, bool], None],
    ) -> None:
        self.services = Services(config, hooks, providers, session, self.record, learn)
        self.retries = Retries()
        self._behind: set[asyncio.Future[Any]] = set()

    async def run(
        self,
        plan: Plan,
        profile: Profile,
        sink: Sink,
        arrival: Arrival | None = None,
        exchange: Callable[[Journey, Attempt], Exchange] = Exchange,
    ) -> None:
        """Carry out a plan; raises RequestError when the sink got nothing and will get nothing.

        `exchange` makes what asks one candidate; a host that forwards itself has its own.
        """
        if arrival is None:
            arrival = Arrival()
            sink.watch(arrival.deadline.leave)
        await Run(self, plan, profile, sink, arrival, exchange).carry_out()

    async def record(self, record: UsageRecord) -> None:
        """Hand a record to the plugins; waits 50 ms at most, then lets it finish behind the answer."""
        hooks, waiting = self.services.hooks, []
        for impl in hooks.impls["record_usage"]:
            rest = hooks.run(impl, record) if impl.is_async else hooks.call(impl, record)
            if type(rest) is CoroutineType:
                waiting.append(rest)
        if not waiting:
            return
        task = asyncio.ensure_future(asyncio.gather(*waiting))
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
        await asyncio.wait((task,), timeout=RECORD_SECONDS)

    async def drain(self) -> None:
        """Wait for the records that are still on their way."""
        while self._behind:
            await asyncio.wait(tuple(self._behind))


class Run:
    """One request's attempts, one after the other."""

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        profile: Profile,
        sink: Sink,
        arrival: Arrival,
        exchange: Callable[[Journey, Attempt], Exchange],
    ) -> None:
        self.engine = engine
        self.exchange = exchange
        self.hooks = engine.services.hooks
        self.plan = plan
        self.profile = profile
        self.sink = sink
        self.journey = Journey(engine.services, plan, profile, sink, arrival)
        self.deadline = arrival.deadline
        self.retries = engine.retries
        self.retrying = False

    # The loop

    async def carry_out(self) -> None:
        """Answer the request one way or another, and record it."""
        self.retries.requests += 1
        try:
            await self._answer()
        except DeadlinePassed as passed:
            self.journey.outcome = Outcome.CANCELLED
            if passed.why == "shutting_down":
                raise RequestError("shutting_down", "this server is shutting down; try again", retry_after=1) from None
            raise RequestError("client_gone", "the client left before the end of the answer") from None
        except asyncio.CancelledError:
            self.journey.outcome = Outcome.CANCELLED
            raise
        finally:
            self._retried()
            self.retries.requests -= 1
            self.deadline.close()
            await self.journey.record()

    async def _answer(self) -> None:
        plan = self.plan
        for impl in self.hooks.impls["intercept"]:
            answer = self.hooks.call(impl, plan.request, plan)
            if type(answer) is CoroutineType:
                answer = await answer
            if answer is not None and not _can_be_sent(answer):
                self.hooks.fault(impl, "answered with an Answer that cannot be sent")
            elif answer is not None:
                self.journey.outcome = Outcome.ANSWERED if answer.status < 400 else Outcome.FAILED
                await self.journey.record()
                await self.journey.to_client(self.sink.plain(answer, self.journey.served()))
                return
        if self.hooks.impls["begin"]:
            await self.hooks.collect("begin", plan.request, plan)
        if not plan.ranked:
            raise refusal(plan)
        await self._attempts()

    async def _attempts(self) -> None:
        queue = deque(self.plan.ranked)
        again: deque[tuple[Candidate, Failure]] = deque()
        asked_again: set[str] = set()
        most = self.profile.max_attempts or self.engine.services.config.limits.max_attempts
        while self.journey.sent < most and self.journey.budget_left() > 0:
            if self.deadline.left is not None:
                raise DeadlinePassed(self.deadline.left)
            if not queue:
                if not again:
                    break
                candidate, failure = again.popleft()
                if not await self._may_retry(failure, len(asked_again)):
                    continue
                queue.append(candidate)
            candidate = queue.popleft()
            tried = await self._attempt(candidate)
            self._retried()
            if tried is None:
                return
            attempt, failure = tried
            if attempt.candidate is not candidate:  # a host has asked another one than we said
                queue.appendleft(candidate)
                candidate = attempt.candidate
                if candidate in queue:
                    queue.remove(candidate)
            decision = await self._decide(attempt, failure, queue)
            if decision is Decision.STOP:
                await self._stop(failure)
                return
            thin(queue, candidate, failure, decision)
            if decision is Decision.RETRY and candidate.key not in asked_again:
                asked_again.add(candidate.key)
                pinned = candidate.key == self.plan.pinned and failure.retry_after is not None
                if pinned and (failure.retry_after or 0) < SHORT_WAIT_SECONDS and await self._may_retry(failure, 0):
                    queue.appendleft(candidate)
                else:
                    again.append((candidate, failure))
        raise exhausted(self.journey.tried, self.journey.budget, self.journey.budget_left(), self.plan.profile)

    async def _attempt(self, candidate: Candidate) -> tuple[Attempt, Failure] | None:
        """Ask one candidate; None when the request has been answered, well or brokenly."""
        attempt = Attempt(
            request=self.plan.request,
            features=self.plan.features,
            candidate=candidate,
            number=self.journey.sent + 1,
            started=perf_counter(),
        )
        entered: list[tuple[Impl, Any]] = []
        try:
            try:
                impls, request = self.hooks.impls, attempt.request
                if impls["reserve"]:
                    await self._reserve(attempt, entered)
                if impls["mutate"]:
                    request = await self._mutate(attempt)
                exchange = self.exchange(self.journey, attempt)
                failure = await exchange.run(request)
                attempt = exchange.attempt
            except Unavailable as error:
                failure = Failure(kind=FailureKind.UNAVAILABLE, message=error.reason, retry_after=error.retry_after)
        finally:
            if entered:
                await self._leave(entered)
        if failure is None:
            return None
        self.journey.tried.append((attempt.candidate, failure))
        if failure.lacks is not None:
            self.engine.services.learn(attempt.candidate, failure.lacks, False)
        return attempt, failure

    async def _reserve(self, attempt: Attempt, entered: list[tuple[Impl, Any]]) -> None:
        for impl in self.hooks.impls["reserve"]:
            reservation = await self.hooks.run(impl, attempt)
            if reservation is None:
                continue
            try:
                with self.deadline:
                    self.deadline.set(self.journey.budget_left(), "reserve")
                    await reservation.__aenter__()
            except DeadlinePassed as passed:
                if passed.why in CLIENT_LEFT:
                    raise
                raise Unavailable(f"{impl.instance.name} granted nothing in time") from None
            except BaseException as error:
                if isinstance(error, Unavailable) or ours_to_end(error):
                    raise
                self.hooks.fault(impl, locate(error))
            else:
                entered.append((impl, reservation))

    async def _leave(self, entered: list[tuple[Impl, Any]]) -> None:
        """Give back all that was reserved; a cancellation meanwhile waits until the last of it is given back."""
        cancelled: BaseException | None = None
        for impl, reservation in reversed(entered):
            try:
                async with asyncio.timeout(self.hooks.seconds):
                    await reservation.__aexit__(None, None, None)
            except BaseException as error:
                if ours_to_end(error):
                    cancelled = error
                    continue
                self.hooks.blame(impl.instance, impl.hook, locate(error))
        if cancelled is not None:
            raise cancelled

    async def _mutate(self, attempt: Attempt) -> ChatRequest:
        request = self.plan.request
        for impl in self.hooks.impls["mutate"]:
            changed = self.hooks.call(impl, request, attempt)
            if type(changed) is CoroutineType:
                changed = await changed
            if changed is None:
                continue
            if not isinstance(changed.params, Mapping) or not isinstance(changed.messages, Sequence):
                self.hooks.fault(impl, "answered with a request without messages or parameters")
                continue
            if changed.stream is not request.stream:
                self.hooks.fault(impl, "tried to change `stream`")
                changed = evolve(changed, stream=request.stream)
            request = changed
        return request

    async def _decide(self, attempt: Attempt, failure: Failure, queue: deque[Candidate]) -> Decision:
        decision = own_decision(self.profile, attempt.candidate, failure, queue)
        for _, asked in await self.hooks.collect("on_failure", attempt, failure):
            decision = max(decision, asked)
        return decision

    async def _may_retry(self, failure: Failure, round_number: int) -> bool:
        """Wait before asking the same candidate again; False when too many are, or its provider wants too long one."""
        wait = wait_before(failure, round_number, self.journey.budget_left())
        if wait is None or not self.retries.take():
            return False
        self.retrying = True
        with self.deadline:
            self.deadline.set(wait + 1, "pause")
            await asyncio.sleep(wait)
        return True

    def _retried(self) -> None:
        if self.retrying:
            self.retrying = False
            self.retries.give()

    async def _stop(self, failure: Failure) -> None:
        if failure.answer is None:
            raise exhausted(self.journey.tried, self.journey.budget, self.journey.budget_left(), self.plan.profile)
        self.journey.answering = self.journey.tried[-1][0]
        await self.journey.record()
        await self.journey.to_client(self.sink.plain(failure.answer, self.journey.served()))


def _can_be_sent(answer: Answer) -> bool:
    sound = isinstance(answer.status, int) and isinstance(answer.body, bytes) and isinstance(answer.content_type, str)
    return sound and 100 <= answer.status <= 999
