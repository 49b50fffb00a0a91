"""The attempt loop: reserve, mutate, send, judge, decide, until one candidate's answer reaches the client.

Every request ends in exactly one way and is recorded exactly once. The engine speaks one wire format with providers;
a `Sink` takes what goes to the client, in whatever dialect that client speaks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from attrs import evolve

from routerpool.engine.deadline import DeadlinePassed
from routerpool.engine.exchange import CLIENT_LEFT, Exchange
from routerpool.engine.journey import Journey
from routerpool.errors import RequestError, Unavailable
from routerpool.hooks.calling import Impl
from routerpool.hooks.isolation import locate, ours_to_end
from routerpool.planning.explanation import refusal
from routerpool.planning.fallback import exhausted, own_decision, step_back, thin, wait_before
from routerpool.types import (
    Answer,
    Attempt,
    Candidate,
    ChatRequest,
    Decision,
    Failure,
    FailureKind,
    Outcome,
)

__all__ = ["Run"]

MOST_WITHOUT = 3
"""How often one candidate is asked again without what it has refused: servers name one field at a time."""

SHORT_WAIT_SECONDS = 2.0
"""A pinned candidate is waited for this long if its provider says so, rather than losing its prompt cache."""


class Run:
    """One request's attempts, one after the other. `exchange` makes what asks one candidate; a host has its own."""

    def __init__(self, journey: Journey, exchange: Callable[[Journey, Attempt], Exchange] = Exchange) -> None:
        self.journey = journey
        self.exchange = exchange
        self.plan = journey.plan
        self.services = journey.services
        self.hooks = journey.services.hooks
        self.retries = journey.services.retries
        self.deadline = journey.deadline
        self.retrying = False

    # The loop

    async def carry_out(self) -> None:
        """Answer the request one way or another; a RequestError when the sink got nothing and will get nothing."""
        self.retries.requests += 1
        try:
            if await self._intercepted():
                return
            if self.hooks.impls["begin"]:
                await self.hooks.collect("begin", self.plan.request, self.plan)
            if not self.plan.ranked:
                raise refusal(self.plan, self.services.unheard())
            await self._attempts()
        finally:
            self._retried()
            self.retries.requests -= 1

    async def _intercepted(self) -> bool:
        """Whether a plugin has answered instead."""
        if not self.hooks.impls["intercept"]:
            return False
        answer = await self.hooks.first("intercept", self.plan.request, self.plan, wrong=_cannot_be_sent)
        if answer is None:
            return False
        self.journey.outcome = Outcome.ANSWERED if answer.status < 400 else Outcome.FAILED
        await self._tell(answer)
        return True

    async def _tell(self, answer: Answer) -> None:
        """Give the client a whole answer that is nobody's success."""
        journey = self.journey
        await journey.record()
        await journey.to_client(journey.sink.plain(answer, journey.served()))

    async def _attempts(self) -> None:
        queue = deque(self.plan.ranked)
        again: list[tuple[Candidate, Failure, float]] = []
        asked_again: set[str] = set()
        without: tuple[str, ...] = ()
        most = self.journey.profile.max_attempts or self.services.config.limits.max_attempts
        while self.journey.sent < most and self.journey.budget_left() > 0:
            if self.deadline.left is not None:
                raise DeadlinePassed(self.deadline.left)
            if not queue:
                if not again:
                    break
                candidate, failure = _soonest(again)
                if not await self._may_retry(failure, len(asked_again)):
                    continue
                queue.append(candidate)
            candidate = queue.popleft()
            self.journey.last = not queue or self.journey.sent + 1 >= most
            tried = await self._attempt(candidate)
            self._retried()
            if tried is None:
                return
            attempt, failure = tried
            if attempt.candidate is not candidate:
                candidate = _exchanged(queue, candidate, attempt.candidate)
            decision = await self._decide(attempt, failure, queue)
            if decision is Decision.STOP:
                await self._stop(failure)
                return
            thin(queue, candidate, failure, decision)
            step_back(queue, self.journey.tried)
            if failure.again and without.count(candidate.key) < MOST_WITHOUT:
                without += (candidate.key,)
                queue.appendleft(candidate)
                most += 1
                continue
            if decision is Decision.RETRY and candidate.key not in asked_again:
                asked_again.add(candidate.key)
                pinned = candidate.key == self.plan.pinned and failure.retry_after is not None
                if pinned and (failure.retry_after or 0) < SHORT_WAIT_SECONDS and await self._may_retry(failure, 0):
                    queue.appendleft(candidate)
                else:
                    again.append((candidate, failure, perf_counter()))
        raise self._exhausted()

    async def _attempt(self, candidate: Candidate) -> tuple[Attempt, Failure] | None:
        """Ask one candidate; None when the request has been answered, well or brokenly."""
        attempt = Attempt(
            request=self.plan.request,
            features=self.plan.features,
            plan=self.plan,
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
        if not attempt.claimed and failure.kind is not FailureKind.OVERLOADED:
            self.services.failures.note(attempt.candidate, failure)
        if failure.lacks is not None and not attempt.claimed:
            self.services.learn(attempt.candidate, failure.lacks, False)
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
        return await self.hooks.fold("mutate", attempt.request, self._sendable, behind=(attempt,))

    def _sendable(self, impl: Impl, before: ChatRequest, changed: Any) -> ChatRequest:
        """What a plugin has made of a request, as far as it can be sent."""
        if not isinstance(changed.params, Mapping) or not isinstance(changed.messages, Sequence):
            self.hooks.fault(impl, "answered with a request without messages or parameters")
            return before
        if changed.stream is not before.stream:
            self.hooks.fault(impl, "tried to change `stream`")
            changed = evolve(changed, stream=before.stream)
        sendable: ChatRequest = changed
        return sendable

    async def _decide(self, attempt: Attempt, failure: Failure, queue: deque[Candidate]) -> Decision:
        if failure.kind is FailureKind.OVERLOADED:
            return Decision.NEXT  # nobody's failure: a connection that is kept alive may still do
        decision = own_decision(self.journey.profile, attempt.candidate, failure, queue)
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
            raise self._exhausted()
        self.journey.answering = self.journey.tried[-1][0]
        await self._tell(failure.answer)

    def _exhausted(self) -> RequestError:
        journey, plan = self.journey, self.plan
        left = journey.budget_left()
        return exhausted(journey.tried, journey.budget, left, plan.profile, journey.budget_name, plan.vetoes)


def _exchanged(queue: deque[Candidate], meant: Candidate, asked: Candidate) -> Candidate:
    """Who was asked, where a host has asked another one than we said: that one is still to be asked."""
    queue.appendleft(meant)
    if asked in queue:
        queue.remove(asked)
    return asked


def _soonest(again: list[tuple[Candidate, Failure, float]]) -> tuple[Candidate, Failure]:
    """Take out who may be asked again first; what is left of a stated wait counts from when it was told."""
    now = perf_counter()

    def left(entry: tuple[Candidate, Failure, float]) -> float:
        _, failure, told = entry
        return 0.0 if failure.retry_after is None else max(failure.retry_after - (now - told), 0.0)

    entry = min(again, key=left)
    again.remove(entry)
    candidate, failure, _ = entry
    return candidate, failure if failure.retry_after is None else evolve(failure, retry_after=left(entry))


def _cannot_be_sent(answer: Answer) -> str | None:
    sound = isinstance(answer.status, int) and isinstance(answer.body, bytes) and isinstance(answer.content_type, str)
    return None if sound and 100 <= answer.status <= 999 else "answered with an Answer that cannot be sent"
