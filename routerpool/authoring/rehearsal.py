"""A plugin's hooks called with made-up requests, and watched: what blocks the loop, what takes long, what is no answer.

The plugin is made but not opened, and nothing that it does may leave the process: see `blocking`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from time import perf_counter
from typing import Any, Final

from attrs import evolve

from routerpool import hookspecs
from routerpool.authoring.blocking import BlockingListener, hearing_sleep, watching
from routerpool.errors import RequestError, Unavailable
from routerpool.hooks.calling import HOOK_SECONDS, SLOW_SECONDS, Hooks, Impl
from routerpool.hooks.isolation import Steps, locate
from routerpool.hooks.loading import Instance
from routerpool.types import (
    Attempt,
    Candidate,
    ChatRequest,
    Failure,
    FailureKind,
    Features,
    Level,
    Model,
    Opening,
    Outcome,
    Plan,
    Prices,
    Privacy,
    Report,
    Score,
    Usage,
    UsageRecord,
    Veto,
)
from routerpool.wire.json import dumps

__all__ = ["REHEARSED", "rehearse"]

REHEARSED: Final = (
    *("status", "classify", "veto", "score", "intercept", "begin", "reserve", "mutate", "judge", "rewrite"),
    *("on_failure", "on_success", "record_usage"),
)
"""The hooks on a request's way. The others run at the start, or for `doctor`, where nobody waits for a stream."""

TIMES: Final = 3
"""How often each is timed with values of a kind; the quickest counts, for this machine may be busy."""


def rehearse(instance: Instance, *, seconds: float = HOOK_SECONDS) -> list[Report]:
    """Call every hook on a request's way of this plugin, which is not opened; what is wrong, with the cure.

    May be called with or without a running loop: the hooks run on a loop of their own, in a thread of their own. One
    that holds it for longer than `seconds` is named, and left behind with its thread.
    """
    rehearsal = _Rehearsal(instance, seconds)
    with watching(rehearsal.watch):
        threading.Thread(target=rehearsal.run, name=f"rehearsal-{instance.name}", daemon=True).start()
        while not rehearsal.ended.wait(0.02):
            if rehearsal.since is not None and perf_counter() - rehearsal.since > seconds + 1:
                rehearsal.overran()
                break
    return rehearsal.told()


class _Rehearsal:
    """One plugin's turn."""

    def __init__(self, instance: Instance, seconds: float) -> None:
        self.instance = instance
        self.seconds = seconds
        self.hooks = Hooks.of([instance])
        self.opens = bool(self.hooks.impls["lifespan"])
        self.watch = BlockingListener(type(instance.plugin).__module__.partition(".")[0], f"rehearsal-of-{id(self)}")
        self.since: float | None = None
        self.ended = threading.Event()
        self.reports: list[Report] = []

    def told(self) -> list[Report]:
        """All reports, what blocks first."""
        blocks = [
            self._report(call.level, f"{hook} {call.what} on the loop ({place})", call.cure)
            for (hook, _, place), call in tuple(self.watch.seen.items())
        ]
        return [*blocks, *self.reports]

    def overran(self) -> None:
        """Name the hook that has not given the loop back."""
        text = f"{self.watch.doing} held the loop for more than {self.seconds:g} s; the rehearsal ended there"
        self.reports.append(self._report(Level.ERROR, text, "do the work in a thread, or in small steps"))

    def _report(self, level: Level, text: str, cure: str) -> Report:
        return Report(level=level, text=text, cure=cure, subject=self.instance.name)

    def run(self) -> None:
        """What the thread does."""
        try:
            asyncio.run(self._run())
        finally:
            self.ended.set()

    async def _run(self) -> None:
        pool = ThreadPoolExecutor(4, thread_name_prefix=self.watch.pool)
        asyncio.get_running_loop().set_default_executor(pool)
        self.watch.thread = threading.get_ident()
        for hook in REHEARSED:
            for impl in self.hooks.impls[hook]:
                await self._try(impl)
        self.ended.set()  # what threads still do is not waited for

    async def _try(self, impl: Impl) -> None:
        """One hook with all the values, until it fails; the longest time that it held the loop is told."""
        parameters = tuple(inspect.signature(getattr(hookspecs, impl.hook)).parameters)
        longest = 0.0
        declared = getattr(self.instance.plugin, "ProfileConfig", None)
        settings = {} if declared is None else {self.instance.name: declared()}
        for kind in zip(*(samples(time, settings) for time in range(TIMES + 1)), strict=True):
            held = []
            for time, values in enumerate(kind):
                self.watch.doing, self.watch.refused, self.since = impl.hook, False, perf_counter()
                try:
                    with nullcontext() if time else hearing_sleep():
                        took = await self._call(impl, [values[name] for name in parameters])
                    held += [took] if time else []
                except BaseException as error:
                    on_purpose = isinstance(error, RequestError | Unavailable) or self.watch.refused
                    if not on_purpose:
                        self._failed(impl, error)
                        return
                finally:
                    self.watch.doing = self.since = None
                if self.watch.refused:  # what is refused once need not be asked for again
                    break
            longest = max(longest, min(held, default=0.0))
        if longest > SLOW_SECONDS:
            text = f"{impl.hook} holds the loop for {longest * 1e3:.0f} ms in one go"
            cure = f"stay under {SLOW_SECONDS * 1e3:.0f} ms, since every stream waits meanwhile; use a thread for more"
            self.reports.append(self._report(Level.WARNING, text, cure))

    def _failed(self, impl: Impl, error: BaseException) -> None:
        if isinstance(error, _Wrong):
            report = self._report(Level.ERROR, f"{impl.hook} {error}", error.cure)
        elif isinstance(error, TimeoutError):
            text = f"{impl.hook} takes longer than {self.seconds:g} s and is given up"
            report = self._report(Level.ERROR, text, "answer sooner, or carry on in a task of the plugin")
        elif self.opens:  # it may need what `lifespan` brings
            text = f"{impl.hook} could not be tried, since the plugin is not opened here: {locate(error)}"
            report = self._report(Level.NOTE, text, "try it in a test, with the fixture `router`")
        else:
            text = f"{impl.hook} fails on an ordinary or an odd request: {locate(error)}"
            report = self._report(Level.ERROR, text, "answer None where it has nothing to say")
        self.reports.append(report)

    async def _call(self, impl: Impl, args: list[Any]) -> float:
        """Call it once, and do with the answer what the engine would; how long it held the loop in one go."""
        started = perf_counter()
        answer = impl.call(*args)
        answer = list(answer) if inspect.isgenerator(answer) else answer
        held = perf_counter() - started
        if inspect.iscoroutine(answer):  # an `async def`, or a `def` that has to wait after all
            steps = Steps(answer)
            if not steps.first():
                async with asyncio.timeout(self.seconds):
                    await steps
            answer, held = steps.result, max(held, steps.longest)
        if answer is not None:
            await _use(impl, answer)
        return held


# What is done with an answer


class _Wrong(Exception):
    """An answer that the engine cannot use."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(what)
        self.cure = cure


async def _use(impl: Impl, answer: Any) -> None:
    if impl.accepts is not None and not isinstance(answer, impl.accepts):
        raise _wrong_type(answer, impl.accepts.__name__)
    use = _USES.get(impl.hook)
    if use is not None:
        done = use(answer)
        if inspect.isawaitable(done):
            await done


def _wrong_type(answer: Any, wanted: str) -> _Wrong:
    return _Wrong(f"answers with {type(answer).__name__} instead of {wanted}", f"answer with {wanted}, or with None")


def _told(answer: Any) -> None:
    try:
        dumps(answer)
    except TypeError as error:
        raise _Wrong("answers with values that are no JSON", "tell texts, numbers, lists and mappings") from error


def _all(kind: type) -> Callable[[Any], None]:
    def use(answer: Any) -> None:
        if not isinstance(answer, Iterable):
            raise _wrong_type(answer, f"a list of {kind.__name__}")
        for item in answer:
            if not isinstance(item, kind):
                raise _wrong_type(item, kind.__name__)
            if isinstance(item, Score) and not 0 <= item.points <= 1:
                raise _Wrong(f"gives {item.points} points", "give points between 0 and 1")

    return use


async def _reserved(slot: Any) -> None:
    if not (hasattr(slot, "__aenter__") and hasattr(slot, "__aexit__")):
        raise _wrong_type(slot, "an async context manager")
    async with slot:
        pass


def _rewritten(rewriter: Any) -> None:
    missing = [name for name in ("event", "end", "answer") if not callable(getattr(rewriter, name, None))]
    if missing:
        raise _Wrong(f"answers with something that has no `{missing[0]}`", "give it event, end and answer")
    for word in ("Hello", " there"):
        list(rewriter.event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}))
    list(rewriter.end())
    rewriter.answer({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there"}}]})


_USES: Final[Mapping[str, Callable[[Any], Any]]] = {
    "status": _told,
    "veto": _all(Veto),
    "score": _all(Score),
    "reserve": _reserved,
    "rewrite": _rewritten,
}

# The made-up values


def samples(time: int = 0, settings: Mapping[str, Any] | None = None) -> Iterator[Mapping[str, Any]]:
    """The arguments of hooks by their names: an ordinary request, one with tools that streams, and a large one.

    `settings` are the profile's, by plugin name.

    Their texts are others each `time`, so that no answer that was kept hides what it took.
    """
    few = (
        Candidate(provider="near", model=Model(id="small", context=8_192, local=True, free=True, rank=9)),
        Candidate(
            provider="far", model=Model(id="large", context=200_000, rank=1, prices=Prices(input=3.0, output=15.0))
        ),
    )
    many = tuple(Candidate(provider=f"p{n % 9}", model=Model(id=f"m{n}", rank=n)) for n in range(100))
    ask = [{"role": "user", "content": f"Why does quicksort fail on sorted input? ({time})"}]
    called = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": '{"path": "a.py"}'}}
    tools = [{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is in a.py, and in this?"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c1", "content": f"def sort(a): ... # {time}"},
    ]
    long = [{"role": "user", "content": f"Line {time} of a log says nothing of note.\n" * 2_500}]
    request = ChatRequest(id="rehearsal", model="auto", messages=ask)
    told = settings or {}
    yield _values(request, Features(prompt_tokens=12, session="s"), few, told)
    needs = Features(prompt_tokens=90, session="s", needs=frozenset({"tools", "vision"}), privacy=Privacy.PRIVATE)
    yield _values(evolve(request, messages=turns, stream=True, params={"tools": tools}), needs, few, told)
    yield _values(evolve(request, messages=long), Features(prompt_tokens=50_000, session="t"), many, told)


def _values(
    request: ChatRequest, features: Features, candidates: Sequence[Candidate], settings: Mapping[str, Any]
) -> Mapping[str, Any]:
    plan = Plan(request=request, features=features, profile="auto", ranked=tuple(candidates), settings=settings)
    usage = Usage(input_uncached=12, output=7, source="reported")
    first = candidates[0]
    return {
        "request": request,
        "features": features,
        "candidates": tuple(candidates),
        "plan": plan,
        "attempt": Attempt(
            request=request, features=features, candidate=first, number=1, started=perf_counter(), plan=plan
        ),
        "opening": Opening(text="Because its pivot is the smallest.", complete=not request.stream),
        "failure": Failure(kind=FailureKind.SERVER, message="500", status=500),
        "usage": usage,
        "record": UsageRecord(
            request_id=request.id,
            time=0.0,
            caller="anonymous",
            session=features.session,
            profile="auto",
            model_asked=request.model,
            provider=first.provider,
            model=first.model.id,
            outcome=Outcome.ANSWERED,
            stream=request.stream,
            tried=(f"{first.key}:answered",),
            task=None,
            privacy=features.privacy,
            prompt_tokens=features.prompt_tokens,
            usage=usage,
            cost=None,
            first_byte_ms=20.0,
            total_ms=80.0,
        ),
    }
