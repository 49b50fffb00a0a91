"""One exchange with one provider: sent, judged at the gate, passed on, and ended visibly if it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from attrs import evolve

from routerpool.engine.deadline import Deadline, DeadlinePassed
from routerpool.engine.journey import GONE, Journey
from routerpool.engine.limits import limit_words, plain_limit, streams_limit
from routerpool.engine.rewriting import Disclosure, Rewriting
from routerpool.errors import RequestError, release
from routerpool.hooks.calling import Impl
from routerpool.hooks.isolation import locate
from routerpool.privacy.guard import may_see
from routerpool.protocols import Provider, Reply, Rewriter
from routerpool.providers.failures import failure_of_exception
from routerpool.providers.forms import Form, form_of, unwrapped
from routerpool.providers.replies import ReadReply, begun, read_all
from routerpool.types import Answer, Attempt, ChatRequest, Failure, FailureKind, Opening, Outcome, Usage
from routerpool.wire.answers import answer_of, whole_opening
from routerpool.wire.bodies import fold, unfold
from routerpool.wire.errors import read_error
from routerpool.wire.json import dumps, off_loop, parsed
from routerpool.wire.mask import Mask
from routerpool.wire.sse import DONE
from routerpool.wire.stream import MAY_BE_EMPTY, State, Stream
from routerpool.wire.usage import read_usage

__all__ = ["CLIENT_LEFT", "Exchange"]

log = logging.getLogger("routerpool.exchange")

ERROR_BODY_BYTES = 1 << 20

FINISHED_SECONDS = 2.0
"""How long after its last finish reason a stream may go on: a usage chunk and the terminal marker follow at once."""

TOKEN_CHARACTERS, SOME_CHARACTERS = 128, 4096
"""The longest token of the vocabularies in use is 128 blanks. Beyond as many for each token of the cap, and some, an
answer is one that does not stop by itself."""

FEW_TOKENS = 16
"""An answer capped at this many tokens or fewer may well be empty."""

CLIENT_LEFT = ("client_gone", "client_slow")


class AfterFinish:
    """Reads what may still come behind the finish reasons: usage, the marker. Silence and a cut are as good an end.

    Where the last words came with the finish reason, or behind it, more may come, since some servers write one into
    every chunk: then silence is as long as anywhere else.
    """

    def __init__(self, deadline: Deadline, idle: float) -> None:
        self._deadline = deadline
        self._idle = idle
        self._until: float | None = None
        self._settled = False

    async def read(self, read: Callable[[], Awaitable[bytes]], stream: Stream) -> bytes:
        """The next bytes; b"" where none come in time, which only more words put off."""
        now, settled = asyncio.get_running_loop().time(), stream.settled
        if self._until is None or settled is not self._settled or (stream.progress and not settled):
            seconds = FINISHED_SECONDS if settled else max(self._idle, FINISHED_SECONDS)
            self._until, self._settled = now + seconds, settled
        self._deadline.set(self._until - now + 1.0, "idle")
        try:
            async with asyncio.timeout_at(self._until):
                return await read()
        except (aiohttp.ClientError, OSError, ValueError):  # TimeoutError is an OSError
            return b""


class Exchange:
    """An attempt at the socket. Nothing reaches the client before the first meaningful event; then no way back."""

    def __init__(self, journey: Journey, attempt: Attempt) -> None:
        self.journey = journey
        self.attempt = attempt
        self.candidate = attempt.candidate
        self.provider: Provider = journey.services.providers[attempt.candidate.provider]
        self.hooks = journey.services.hooks
        self.config = journey.services.config
        self.limits = journey.services.config.limits
        self.deadline = journey.deadline

    async def run(self, request: ChatRequest) -> Failure | None:
        """Send `request`; the failure, or None when the client has been answered, well or brokenly."""
        journey, provider = self.journey, self.provider
        if (forbidden := self.forbidden()) is not None:
            return forbidden
        journey.sent += 1
        upstream: Reply | None = None
        failure: Failure | None
        refused: RequestError | None = None
        try:
            with self.deadline:
                self.deadline.set(*(streams_limit if request.stream else plain_limit)(journey, provider))
                upstream = await self.send(request)
                failure = await self.answered(upstream)
        except DeadlinePassed as passed:
            if passed.why in CLIENT_LEFT:
                raise
            words = f"{provider.name}: {limit_words(passed.why, journey, provider)}"
            failure = Failure(kind=FailureKind.TIMEOUT, message=words)
        except RequestError as error:
            if not journey.committed:
                raise
            failure, refused = None, error
        except Exception as error:
            failure = failure_of_exception(provider.name, error)
            if failure.kind is FailureKind.SERVER and not isinstance(error, (aiohttp.ClientError, OSError, ValueError)):
                log.error("provider %s failed: %s", provider.name, locate(error))
            release(error)
        finally:
            if upstream is not None:
                upstream.close()
        if refused is not None:  # a required plugin failed in the middle of the answer: no provider is to blame
            await self._end_visibly(refused)
        elif failure is None or not journey.committed:
            return failure
        else:
            await self.break_off(failure)
        return None

    def forbidden(self) -> Failure | None:
        """Why this candidate must not be sent this request after all: the check behind all plans and plugins."""
        candidate, privacy = self.candidate, self.attempt.features.privacy
        if may_see(self.provider, candidate, privacy, self.config.privacy.remote_allows):
            return None
        log.error("%s was planned for a request that it may not see; it was not sent", candidate.key)
        return Failure(kind=FailureKind.FORBIDDEN, message=f"{candidate.key} may not see this privacy class")

    def send(self, request: ChatRequest) -> Awaitable[Reply]:
        """Send the request on its way; a host that forwards itself does this in its own manner."""
        return self.provider.send(self.attempt, request, self.journey.services.session())

    async def answered(self, upstream: Reply) -> Failure | None:
        """Pass on an answer whose head is here; a Failure when it is none."""
        if not 200 <= upstream.status < 300:
            body = await read_all(upstream, ERROR_BODY_BYTES)
            return self.provider.failure(upstream.status, upstream.headers, body)
        if not self.attempt.request.stream:
            return await self.plain(upstream)
        head, events = await begun(upstream)
        return await (self._streamed(upstream, head) if events else self._whole(upstream, head))

    async def _whole(self, upstream: Reply, head: bytes) -> Failure | None:
        """Pass on a plain answer as the stream that was asked for; where it is no answer, say what it is."""
        limit = self.limits.upstream_bytes if head[:1] == b"{" else ERROR_BODY_BYTES
        body = head + await read_all(upstream, limit - len(head))
        try:
            document = await parsed(body)
        except ValueError:
            document = None
        if read_error(document) is not None:
            return self.provider.failure(upstream.status, upstream.headers, body)
        if answer_of(document) is None:
            return self._no_answer(f"answered a stream with {upstream.headers.get('Content-Type', 'no type')[:40]}")
        return await self._streamed(ReadReply(upstream.status, upstream.headers, b""), unfold(document) + DONE)

    async def plain(self, upstream: Reply) -> Failure | None:
        """Pass on a plain answer."""
        journey = self.journey
        body = await read_all(upstream, self.limits.upstream_bytes)
        if body[:1] != b"{":  # else it is what it should be
            body = unwrapped(body)
            if form_of(body) is Form.EVENTS:
                body = await off_loop(_folded, body)
        mask: Mask | None = getattr(self.provider, "mask", None)
        if mask is not None and mask.key in body:
            body = mask.without(body)
        try:
            document = await parsed(body)
        except ValueError:
            return self._no_answer("answered with something else than JSON")
        said = answer_of(document)
        if read_error(document) is not None:
            return self.provider.failure(upstream.status, upstream.headers, body)
        if said is None or said.finish_reason == "":
            return self._no_answer("answered with no chat completion, or with one that has an empty finish reason")
        empty = not said.meaningful and said.finish_reason not in MAY_BE_EMPTY
        if empty and not _may_be_empty(self.attempt.request.params):
            return self._no_answer("answered with nothing", FailureKind.EMPTY)
        if self.hooks.impls["judge"] or said.tool_calls:  # else nobody looks at it
            failure = await self._judge(whole_opening(said, document))
            if failure is not None:
                return failure
        journey.answered_by(self.candidate)
        rewriting = await self._rewriting()
        if rewriting is not None:
            body = await off_loop(rewriting.answer, body)
        usage = read_usage(document) or journey.estimated(max((len(said.text) + len(said.reasoning)) // 4, 1))
        await self.succeed(usage)
        answer = Answer(status=200, content_type="application/json", body=body)
        await journey.to_client(journey.sink.plain(answer, journey.served()))
        return None

    async def _streamed(self, upstream: Reply, data: bytes) -> Failure | None:
        """Pass on a stream whose first bytes are `data`."""
        journey = self.journey
        params = self.attempt.request.params
        journey.stream = stream = Stream(
            self.provider.name,
            lambda data: self.provider.failure(upstream.status, upstream.headers, data),
            strip_usage=not (params.get("stream_options") or {}).get("include_usage"),
            may_be_empty=_may_be_empty(params),
            limit=self.limits.event_bytes,
            hold_limit=max(self.limits.upstream_bytes, self.limits.event_bytes),
            most_text=_most_text(params),
            choices=_choices(params),
            mask=getattr(self.provider, "mask", None),
        )
        self.late = AfterFinish(self.deadline, self.limits.idle_seconds)
        while True:
            stream.feed(data)
            ended = not data or stream.ended
            if ended:
                stream.end()
            if ended or not (stream.state is State.HELD or (journey.profile.buffer and not stream.over)):
                break
            data = await (self.late.read(upstream.chunk, stream) if stream.finished else upstream.chunk())
        if stream.over:
            return stream.failure
        if self.hooks.impls["judge"] or "tools" in self.attempt.features.needs:  # else nobody looks at what came
            failure = await self._judge(stream.opening(complete=ended))
            if failure is not None:
                return failure
        rewriting = await self._rewriting()
        journey.answered_by(self.candidate)
        journey.commit()
        await journey.to_client(journey.sink.open(journey.served()))
        rest = await self._relay(stream, upstream, rewriting)
        if stream.failure is not None:
            return stream.failure
        if rewriting is not None:
            rest = (rewriting.block(rest) if rest else b"") + rewriting.end()
        await self.succeed(stream.usage or journey.estimated(stream.output_estimate()))
        self.deadline.why = "client_slow"
        await journey.to_client(journey.sink.close(rest))
        return None

    async def _relay(self, stream: Stream, upstream: Reply, rewriting: Rewriting | None) -> bytes:
        """Pass the stream on; what comes with its end is handed back, to go out with the end in one piece.

        This loop is the price of every chunk: keep it bare.
        """
        idle, deadline, write, read = self.limits.idle_seconds, self.deadline, self.journey.sink.write, upstream.chunk
        deadline.last(self.limits.stream_seconds, "stream")
        out, ended = stream.open(), False
        deadline.set(idle, "idle")
        while True:
            if out and not stream.ended:
                deadline.why = "client_slow"
                try:
                    await write(rewriting.block(out) if rewriting else out)
                except GONE:
                    raise DeadlinePassed("client_gone") from None
                deadline.why, out = "idle", b""
            if ended or stream.state is not State.OPEN:
                return out
            data = b"" if stream.ended else await (self.late.read(read, stream) if stream.finished else read())
            if data:
                out = stream.feed(data)
                if stream.progress:  # comments and empty chunks are no progress: a stall behind them still shows
                    deadline.set(idle, "idle")
            else:
                out, ended = out + stream.end(), True

    async def break_off(self, failure: Failure) -> None:
        """The client has seen a part: end its stream so that nobody can take the part for the whole."""
        journey = self.journey
        ours = self.deadline.left is not None or failure.kind is FailureKind.OVERLOADED
        failure = evolve(failure, kind=FailureKind.INTERRUPTED, first_byte_sent=True)
        journey.tried.append((self.candidate, failure))
        if not ours:
            await self.hooks.collect("on_failure", self.attempt, failure)
        message = f"{self.candidate.key} broke off in the middle of its answer: {failure.message}"
        await self._end_visibly(RequestError("upstream_interrupted", message))

    async def _end_visibly(self, error: RequestError) -> None:
        journey = self.journey
        journey.outcome = Outcome.TRUNCATED
        if journey.stream is not None:
            journey.usage = journey.stream.usage or journey.estimated(journey.stream.output_estimate())
        await journey.record()
        await journey.to_client(journey.sink.fail(error))

    # What an exchange needs

    def _no_answer(self, words: str, kind: FailureKind = FailureKind.SERVER) -> Failure:
        return Failure(kind=kind, message=f"{self.provider.name} {words}")

    async def _judge(self, opening: Opening) -> Failure | None:
        if opening.tool_calls and "tools" not in self.candidate.model.capabilities and not self.attempt.claimed:
            self.journey.services.learn(self.candidate, "tools", True)
        failure: Failure | None = await self.hooks.first("judge", self.attempt, opening)
        return failure

    async def _rewriting(self) -> Rewriting | None:
        config = self.config
        if not self.hooks.impls["rewrite"] and config.response_model == "served" and config.transparency != "body":
            return None
        rewriters: list[tuple[Impl | None, Rewriter]] = list(await self.hooks.collect("rewrite", self.attempt))
        model = self.attempt.request.model if config.response_model == "requested" else None
        router = None
        if config.transparency == "body":
            served = self.journey.served()
            router = {"candidate": self.candidate.key, "profile": served.profile, "attempts": served.attempts}
        if model is not None or router is not None:
            rewriters.append((None, Disclosure(model, router)))
        return Rewriting(self.hooks, rewriters) if rewriters else None

    async def succeed(self, usage: Usage) -> None:
        """The answer is complete: tell those who learn from it, and record it."""
        self.journey.usage = usage
        self.journey.outcome = Outcome.ANSWERED
        if self.hooks.impls["on_success"]:
            await self.hooks.collect("on_success", self.attempt, usage)
        await self.journey.record()


def _cap(params: Mapping[str, Any]) -> int | None:
    cap = params.get("max_completion_tokens") or params.get("max_tokens")
    return cap if isinstance(cap, int) and cap > 0 else None


def _may_be_empty(params: Mapping[str, Any]) -> bool:
    cap = _cap(params)
    return cap is not None and cap <= FEW_TOKENS


def _most_text(params: Mapping[str, Any]) -> int | None:
    """How many characters an answer may have at most, over all its choices, thoughts aside."""
    cap = _cap(params)
    return None if cap is None else _choices(params) * (TOKEN_CHARACTERS * cap + SOME_CHARACTERS)


def _choices(params: Mapping[str, Any]) -> int:
    choices = params.get("n")
    return choices if type(choices) is int and choices > 0 else 1


def _folded(body: bytes) -> bytes:
    return dumps(fold(body))
