"""The attempt loop: reserve, mutate, send, judge, decide, until one candidate's answer reaches the client.

Nothing reaches the client before the first meaningful event; after it there is no way back. Every request ends in
exactly one way and is recorded exactly once. The engine speaks one wire format with providers; a `Sink` takes what
goes to the client, in whatever dialect that client speaks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any, Protocol

import aiohttp
from attrs import evolve, frozen

from routerpool.deadline import Deadline, DeadlinePassed
from routerpool.errors import RequestError, Unavailable
from routerpool.failures import failure_of_exception
from routerpool.fallback import exhausted, own_decision, thin, wait_before
from routerpool.hooks import Hooks, Impl, locate, ours_to_end
from routerpool.hookspecs import Rewriter
from routerpool.provider import Provider, Upstream, may_see, read_all
from routerpool.record import record_of
from routerpool.rewriting import Disclosure, Rewriting
from routerpool.sections import Config, Profile
from routerpool.stream import State, Stream
from routerpool.types import (
    Answer,
    Attempt,
    Candidate,
    ChatRequest,
    Decision,
    Failure,
    FailureKind,
    Opening,
    Outcome,
    Plan,
    Usage,
    UsageRecord,
)
from routerpool.wire import answer_opening, dumps, loads, read_error, read_usage

__all__ = ["Arrival", "Engine", "Served", "Sink"]

log = logging.getLogger("routerpool.engine")

RECORD_SECONDS = 0.05
"""How long the end of an answer waits for its usage record."""

ERROR_BODY_BYTES = 1 << 20

FEW_TOKENS = 16
"""An answer capped at this many tokens or fewer may well be empty."""

SHORT_WAIT_SECONDS = 2.0
"""A pinned candidate is waited for this long if its provider says so, rather than losing its prompt cache."""

PASSED = {
    "first_event": "no first event in time",
    "idle": "it fell silent",
    "answer": "no answer in time",
    "stream": "the stream never ended",
    "shutting_down": "this server is shutting down",
}
"""What each limit's passing means, in words."""

CLIENT_LEFT = ("client_gone", "client_slow")


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

    async def write(self, block: bytes) -> None:
        """Send whole events; waits while the client reads slowly."""

    async def fail(self, error: RequestError) -> None:
        """End an open stream with an error that its reader cannot take for an end."""

    async def close(self) -> None:
        """End an open stream with its terminal marker."""


class Arrival:
    """A request's clock: when it came (`time.perf_counter()` seconds), its one timer, and its place in the house."""

    __slots__ = ("_committed", "deadline", "opened", "started")

    def __init__(self, committed: Callable[[], None] | None = None) -> None:
        self.started = perf_counter()
        self.deadline = Deadline()
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


class Engine:
    """Runs plans. One engine serves all requests of a router."""

    def __init__(
        self,
        config: Config,
        hooks: Hooks,
        providers: Mapping[str, Provider],
        session: Callable[[], aiohttp.ClientSession],
        refusal: Callable[[Plan], RequestError],
    ) -> None:
        self.config = config
        self.hooks = hooks
        self.providers = providers
        self.session = session
        self.refusal = refusal
        self._behind: set[asyncio.Task[None]] = set()

    async def run(self, plan: Plan, profile: Profile, sink: Sink, arrival: Arrival | None = None) -> None:
        """Carry out a plan; raises RequestError when the sink got nothing and will get nothing."""
        if arrival is None:
            arrival = Arrival()
            sink.watch(arrival.deadline.leave)
        await Run(self, plan, profile, sink, arrival).carry_out()

    async def record(self, record: UsageRecord) -> None:
        """Hand a record to the plugins; waits 50 ms at most, then lets it finish behind the answer."""
        if not self.hooks.impls["record_usage"]:
            return
        task = asyncio.ensure_future(self._record(record))
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
        await asyncio.wait((task,), timeout=RECORD_SECONDS)

    async def _record(self, record: UsageRecord) -> None:
        await self.hooks.collect("record_usage", record)

    async def drain(self) -> None:
        """Wait for the records that are still on their way."""
        while self._behind:
            await asyncio.wait(tuple(self._behind))


class Run:
    """One request on its way: what its attempts share."""

    def __init__(self, engine: Engine, plan: Plan, profile: Profile, sink: Sink, arrival: Arrival) -> None:
        self.engine = engine
        self.hooks = engine.hooks
        self.limits = engine.config.limits
        self.plan = plan
        self.profile = profile
        self.sink = sink
        self.arrival = arrival
        self.started = arrival.started
        self.deadline = arrival.deadline
        self.tried: list[tuple[Candidate, Failure]] = []
        self.sent = 0
        self.answering: Candidate | None = None
        self.committed = False
        self.stream: Stream | None = None
        self.usage: Usage | None = None
        self.first_byte: float | None = None
        self.outcome = Outcome.FAILED
        self.recorded = False
        asked = plan.request.hints.max_seconds
        self.budget = self.limits.budget_seconds if asked is None else min(self.limits.budget_seconds, asked)

    # The loop

    async def carry_out(self) -> None:
        """Answer the request one way or another, and record it."""
        try:
            await self._answer()
        except DeadlinePassed as passed:
            self.outcome = Outcome.CANCELLED
            if passed.why == "shutting_down":
                raise RequestError("shutting_down", "this server is shutting down; try again", retry_after=1) from None
            raise RequestError("client_gone", "the client left before the end of the answer") from None
        except asyncio.CancelledError:
            self.outcome = Outcome.CANCELLED
            raise
        finally:
            self.deadline.close()
            await self._record()

    async def _answer(self) -> None:
        plan = self.plan
        for impl in self.hooks.impls["intercept"]:
            answer = await self.hooks.run(impl, plan.request, plan)
            if answer is not None:
                self.outcome = Outcome.ANSWERED if answer.status < 400 else Outcome.FAILED
                await self._record()
                await self._to_client(self.sink.plain(answer, self._served()))
                return
        if not plan.ranked:
            raise self.engine.refusal(plan)
        if self.hooks.impls["begin"]:
            await self.hooks.collect("begin", plan.request, plan)
        await self._attempts()

    async def _attempts(self) -> None:
        queue = deque(self.plan.ranked)
        again: deque[tuple[Candidate, Failure]] = deque()
        asked_again: set[str] = set()
        most = self.profile.max_attempts or self.limits.max_attempts
        while self.sent < most and self._budget_left() > 0:
            if self.deadline.left is not None:
                raise DeadlinePassed(self.deadline.left)
            if not queue:
                if not again:
                    break
                candidate, failure = again.popleft()
                if not await self._pause(failure, len(asked_again)):
                    continue
                queue.append(candidate)
            candidate = queue.popleft()
            tried = await self._attempt(candidate)
            if tried is None:
                return
            attempt, failure = tried
            decision = await self._decide(attempt, failure, queue)
            if decision is Decision.STOP:
                await self._stop(failure)
                return
            thin(queue, candidate, failure, decision)
            if decision is Decision.RETRY and candidate.key not in asked_again:
                asked_again.add(candidate.key)
                pinned = candidate.key == self.plan.pinned and failure.retry_after is not None
                if pinned and (failure.retry_after or 0) < SHORT_WAIT_SECONDS and await self._pause(failure, 0):
                    queue.appendleft(candidate)
                else:
                    again.append((candidate, failure))
        raise exhausted(self.tried, self.budget, self._budget_left(), self.plan.profile)

    async def _attempt(self, candidate: Candidate) -> tuple[Attempt, Failure] | None:
        """Ask one candidate; None when the request has been answered, well or brokenly."""
        attempt = Attempt(
            request=self.plan.request,
            features=self.plan.features,
            candidate=candidate,
            number=self.sent + 1,
            started=perf_counter(),
        )
        entered: list[tuple[Impl, Any]] = []
        try:
            try:
                await self._reserve(attempt, entered)
                failure = await self._send(attempt, await self._mutate(attempt))
            except Unavailable as error:
                failure = Failure(kind=FailureKind.UNAVAILABLE, message=error.reason, retry_after=error.retry_after)
        finally:
            await self._leave(entered)
        if failure is None:
            return None
        self.tried.append((candidate, failure))
        return attempt, failure

    async def _reserve(self, attempt: Attempt, entered: list[tuple[Impl, Any]]) -> None:
        for impl in self.hooks.impls["reserve"]:
            reservation = await self.hooks.run(impl, attempt)
            if reservation is None:
                continue
            try:
                with self.deadline:
                    self.deadline.set(self._budget_left(), "reserve")
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
                await reservation.__aexit__(None, None, None)
            except BaseException as error:
                if ours_to_end(error):
                    cancelled = error
                    continue
                log.error("plugin %s failed to give back what it had reserved: %s", impl.instance.name, locate(error))
                impl.instance.faults += 1
        if cancelled is not None:
            raise cancelled

    async def _mutate(self, attempt: Attempt) -> ChatRequest:
        request = self.plan.request
        for impl in self.hooks.impls["mutate"]:
            changed = await self.hooks.run(impl, request, attempt)
            if changed is None:
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

    async def _pause(self, failure: Failure, round_number: int) -> bool:
        """Wait before asking the same candidate again; False when its provider wants a longer wait than we have."""
        wait = wait_before(failure, round_number, self._budget_left())
        if wait is None:
            return False
        with self.deadline:
            await asyncio.sleep(wait)
        return True

    async def _stop(self, failure: Failure) -> None:
        if failure.answer is None:
            raise exhausted(self.tried, self.budget, self._budget_left(), self.plan.profile)
        self.answering = self.tried[-1][0]
        await self._record()
        await self._to_client(self.sink.plain(failure.answer, self._served()))

    def _budget_left(self) -> float:
        return self.budget - (perf_counter() - self.started)

    # One exchange with one provider

    async def _send(self, attempt: Attempt, request: ChatRequest) -> Failure | None:
        candidate = attempt.candidate
        provider = self.engine.providers[candidate.provider]
        if not may_see(provider, candidate, self.plan.features.privacy, self.engine.config.privacy.remote_allows):
            log.error("%s was planned for a request that it may not see; it was not sent", candidate.key)
            return Failure(kind=FailureKind.FORBIDDEN, message=f"{candidate.key} may not see this privacy class")
        self.sent += 1
        upstream: Upstream | None = None
        failure: Failure | None
        try:
            with self.deadline:
                if request.stream:
                    self.deadline.set(min(self.limits.first_event_seconds, self._budget_left()), "first_event")
                else:
                    self.deadline.set(self.limits.answer_seconds, "answer")
                upstream = await provider.send(attempt, request, self.engine.session())
                failure = await self._exchange(attempt, provider, upstream)
        except DeadlinePassed as passed:
            if passed.why in CLIENT_LEFT:
                raise
            failure = Failure(kind=FailureKind.TIMEOUT, message=f"{provider.name}: {PASSED[passed.why]}")
        except RequestError as error:
            if not self.committed:
                raise
            failure = Failure(kind=FailureKind.INTERRUPTED, message=error.message)
        except Exception as error:
            failure = failure_of_exception(provider.name, error)
            if failure.kind is FailureKind.SERVER and not isinstance(error, (aiohttp.ClientError, OSError, ValueError)):
                log.error("provider %s failed: %s", provider.name, locate(error))
        finally:
            if upstream is not None:
                upstream.close()
        if failure is None or not self.committed:
            return failure
        await self._break_off(attempt, failure)
        return None

    async def _exchange(self, attempt: Attempt, provider: Provider, upstream: Upstream) -> Failure | None:
        if not 200 <= upstream.status < 300:
            body = await read_all(upstream, ERROR_BODY_BYTES)
            return provider.failure(upstream.status, upstream.headers, body)
        if not attempt.request.stream:
            return await self._plain(attempt, provider, upstream)
        content_type = upstream.headers.get("Content-Type", "")
        if "html" in content_type or "json" in content_type:
            body = await read_all(upstream, ERROR_BODY_BYTES)
            if _holds_error(body):
                return provider.failure(upstream.status, upstream.headers, body)
            return Failure(
                kind=FailureKind.SERVER, message=f"{provider.name} answered a stream with {content_type[:40]}"
            )
        return await self._streamed(attempt, provider, upstream)

    async def _plain(self, attempt: Attempt, provider: Provider, upstream: Upstream) -> Failure | None:
        body = await read_all(upstream, self.limits.upstream_bytes)
        try:
            parsed = loads(body)
        except ValueError:
            return Failure(kind=FailureKind.SERVER, message=f"{provider.name} answered with something else than JSON")
        found = answer_opening(parsed)
        if read_error(parsed) is not None:
            return provider.failure(upstream.status, upstream.headers, body)
        if found is None:
            return Failure(kind=FailureKind.SERVER, message=f"{provider.name} answered with no chat completion")
        opening, meaningful = found
        if not (meaningful or self._may_be_empty() or opening.finish_reason in ("length", "content_filter")):
            return Failure(kind=FailureKind.EMPTY, message=f"{provider.name} answered with nothing")
        failure = await self._judge(attempt, opening)
        if failure is not None:
            return failure
        self._answers(attempt)
        rewriting = await self._rewriting(attempt)
        if rewriting is not None:
            body = dumps(rewriting.answer(parsed))
        said = len(opening.text) + len(opening.reasoning)
        await self._succeed(attempt, read_usage(parsed) or self._estimated(max(said // 4, 1)))
        await self._to_client(
            self.sink.plain(Answer(status=200, content_type="application/json", body=body), self._served())
        )
        return None

    async def _streamed(self, attempt: Attempt, provider: Provider, upstream: Upstream) -> Failure | None:
        options = attempt.request.params.get("stream_options") or {}
        self.stream = stream = Stream(
            provider.name,
            lambda data: provider.failure(upstream.status, upstream.headers, data),
            strip_usage=not options.get("include_usage"),
            may_be_empty=self._may_be_empty(),
            limit=self.limits.event_bytes,
            hold_limit=self.limits.upstream_bytes if self.profile.buffer else 4 * self.limits.event_bytes,
            most_events=self._most_events(),
        )
        ended = False
        while not ended and (stream.state is State.HELD or (self.profile.buffer and not stream.over)):
            data = await upstream.chunk()
            stream.feed(data)
            ended = not data or stream.ended
            if ended:
                stream.end()
        if stream.over:
            return stream.failure
        failure = await self._judge(attempt, stream.opening(complete=ended))
        if failure is not None:
            return failure
        rewriting = await self._rewriting(attempt)
        self._answers(attempt)
        self.committed = True
        self.arrival.commit()
        await self._to_client(self.sink.open(self._served()))
        failure = await self._relay(stream, upstream, rewriting)
        if failure is not None:
            return failure
        if rewriting is not None and (rest := rewriting.end()):
            await self._to_client(self.sink.write(rest))
        await self._succeed(attempt, stream.usage or self._estimated(stream.output_estimate()))
        await self._to_client(self.sink.close())
        return None

    async def _relay(self, stream: Stream, upstream: Upstream, rewriting: Rewriting | None) -> Failure | None:
        """Pass the stream on; why it broke, if it did. This loop is the price of every chunk: keep it bare."""
        idle, deadline, write = self.limits.idle_seconds, self.deadline, self.sink.write
        deadline.last(self.limits.stream_seconds, "stream")
        out, ended = stream.open(), False
        stream.progress = True
        while True:
            if stream.progress:  # comments and empty chunks are no progress: a stall behind them still shows
                deadline.set(idle, "client_slow")
            if out:
                await self._to_client(write(rewriting.block(out) if rewriting else out))
            if ended or stream.state is not State.OPEN:
                return stream.failure
            if stream.progress:
                deadline.set(idle, "idle")
            if stream.ended:
                data = b""
            else:
                data = await upstream.chunk()
            if data:
                out = stream.feed(data)
            else:
                out, ended = stream.end(), True

    async def _break_off(self, attempt: Attempt, failure: Failure) -> None:
        """The client has seen a part: end its stream so that nobody can take the part for the whole."""
        failure = evolve(failure, kind=FailureKind.INTERRUPTED, first_byte_sent=True)
        self.outcome = Outcome.TRUNCATED
        self.tried.append((attempt.candidate, failure))
        if self.stream is not None:
            self.usage = self.stream.usage or self._estimated(self.stream.output_estimate())
        if self.deadline.left is None:  # else it was we who broke it off
            await self.hooks.collect("on_failure", attempt, failure)
        await self._record()
        message = f"{attempt.candidate.key} broke off in the middle of its answer: {failure.message}"
        await self._to_client(self.sink.fail(RequestError("upstream_interrupted", message)))

    # What an exchange needs

    async def _judge(self, attempt: Attempt, opening: Opening) -> Failure | None:
        for impl in self.hooks.impls["judge"]:
            failure: Failure | None = await self.hooks.run(impl, attempt, opening)
            if failure is not None:
                return failure
        return None

    async def _rewriting(self, attempt: Attempt) -> Rewriting | None:
        rewriters: list[tuple[Impl | None, Rewriter]] = list(await self.hooks.collect("rewrite", attempt))
        config = self.engine.config
        model = attempt.request.model if config.response_model == "requested" else None
        router = None
        if config.transparency == "body":
            served = self._served()
            router = {"candidate": attempt.candidate.key, "profile": served.profile, "attempts": served.attempts}
        if model is not None or router is not None:
            rewriters.append((None, Disclosure(model, router)))
        return Rewriting(self.hooks, rewriters) if rewriters else None

    def _answers(self, attempt: Attempt) -> None:
        self.answering = attempt.candidate
        self.first_byte = perf_counter()

    async def _succeed(self, attempt: Attempt, usage: Usage) -> None:
        self.usage = usage
        self.outcome = Outcome.ANSWERED
        if self.hooks.impls["on_success"]:
            await self.hooks.collect("on_success", attempt, usage)
        await self._record()

    async def _to_client(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except (ConnectionError, aiohttp.ClientConnectionError):
            raise DeadlinePassed("client_gone") from None

    def _cap(self) -> int | None:
        params = self.plan.request.params
        cap = params.get("max_completion_tokens") or params.get("max_tokens")
        return cap if isinstance(cap, int) and cap > 0 else None

    def _may_be_empty(self) -> bool:
        cap = self._cap()
        return cap is not None and cap <= FEW_TOKENS

    def _most_events(self) -> int | None:
        """An event is a token or more: well over twice the cap is a provider that does not stop by itself."""
        cap = self._cap()
        return None if cap is None else 2 * cap + 256

    def _estimated(self, output: int) -> Usage:
        return Usage(input_uncached=self.plan.features.prompt_tokens, output=output, source="estimated")

    def _served(self) -> Served:
        return Served(
            request_id=self.plan.request.id,
            profile=self.plan.profile,
            candidate=self.answering,
            attempts=self.sent,
            tried=", ".join(f"{candidate.key}:{failure.kind.value}" for candidate, failure in self.tried),
        )

    async def _record(self) -> None:
        if self.recorded:
            return
        self.recorded = True
        usage = self.usage
        if usage is None and self.stream is not None and self.committed:
            usage = self._estimated(self.stream.output_estimate())
        now = perf_counter()
        record = record_of(
            self.plan,
            candidate=self.answering,
            outcome=self.outcome,
            tried=self.tried,
            usage=usage or Usage(),
            first_byte_ms=None if self.first_byte is None else (self.first_byte - self.started) * 1e3,
            total_ms=(now - self.started) * 1e3,
        )
        await self.engine.record(record)


def _holds_error(body: bytes) -> bool:
    try:
        return read_error(loads(body)) is not None
    except ValueError:
        return False
