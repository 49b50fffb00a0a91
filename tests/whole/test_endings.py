"""However its candidates fail and whenever its client leaves: a request ends once, in time, and is recorded once.

The first law runs on a clock that jumps over every wait, so that real limits of minutes can be tested; the second one
over real sockets, with the faults of real upstreams and connections that go stale.
"""

from __future__ import annotations

import asyncio
import json
import selectors
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import pytest
from attrs import define
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from routerpool import Attempt, ChatRequest, Failure, FailureKind, Model, RequestError, Unavailable, hookimpl
from routerpool.engine import journey
from routerpool.engine import run as engine
from routerpool.engine.sinks import Served
from routerpool.planning import fallback
from routerpool.testing.upstream import Received
from routerpool.types import Answer

from ..support.house import House, house, until
from .test_laws import PLAIN, STREAM, Books, Bytes, Fake, Kept, asked, router_of

# A clock that jumps


FOR_EVER = 10_000.0


class _Jumping(selectors.SelectSelector):
    """Where nothing is to be read, time goes on at once to where the next timer is due."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        if self.now > FOR_EVER:
            raise AssertionError("it goes on for ever")
        if not found:
            self.now += timeout or 0.0
        return found


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop on such a clock."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


def in_no_time(main: Coroutine[Any, Any, None]) -> None:
    """Run it on a clock that jumps; a request's own clock is that one too."""
    with asyncio.Runner(loop_factory=Clockwork) as runner, pytest.MonkeyPatch.context() as patch:
        for module in (engine, journey):
            patch.setattr(module, "perf_counter", runner.get_loop().time)
        runner.run(main)


# The house: providers of every mood


class Moody(Fake):
    """A provider that also refuses for a while, is slow, drips, stalls, and goes on for ever."""

    async def send(self, attempt: Attempt, request: ChatRequest, session: object) -> Bytes:
        mood = self.script[0] if self.script else "ok"
        if mood not in MOODS:
            return await super().send(attempt, request, session)
        self.script.pop(0)
        self.sent.append((attempt, request))
        if mood == "slow":
            await asyncio.sleep(50)
        elif mood in REFUSALS:
            return Bytes(429, mood.encode())
        elif mood == "broken":
            return Bytes(500, b"")
        elif mood == "badly asked":
            return Bytes(400, b"")
        return Dripping(STREAM if request.stream else PLAIN, mood)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        wait = REFUSALS.get(body.decode("latin-1"))
        kind = {
            429: FailureKind.RATE_LIMITED,
            500: FailureKind.SERVER,
            400: FailureKind.BAD_REQUEST,
            404: FailureKind.MISSING_MODEL,
        }[status]
        answer = Answer(status=status, content_type="text/plain", body=body) if status == 400 else None
        return Failure(kind=kind, message="no", status=status, retry_after=wait, answer=answer)


REFUSALS: Mapping[str, float | None] = {"busy": None, "busy 1 s": 1.0, "busy 7 s": 7.0, "busy 1 h": 3600.0}
MOODS = ("slow", "dripping", "stalling", "endless", "broken", "badly asked", *REFUSALS)
FAULTS = [*MOODS, "dripping", "stalling", "endless", "ok", "refuses", "raises", "breaks", "empty", "hangs"]


class Dripping(Bytes):
    """An answer whose pieces come 5 s apart, stop in the middle, or never end."""

    def __init__(self, body: bytes, mood: str) -> None:
        super().__init__(200, body)
        self.mood, self.middle = mood, len(body) // 2
        self.more = STREAM[: STREAM.index(b"\n\n") + 2] if body == STREAM else b" "

    async def chunk(self) -> bytes:
        if self.mood == "dripping":
            await asyncio.sleep(5)
        if self.mood == "endless":
            await asyncio.sleep(1)
            self.body = self.more
        if self.mood == "stalling" and len(self.body) < self.middle:
            await asyncio.Event().wait()
        return await super().chunk()


@define(eq=False)
class Slots:
    """Reservations, some of which are refused, and how many of them are held."""

    kinds: Sequence[str]
    asked: int = 0
    held: int = 0
    most: int = 0

    @hookimpl
    def reserve(self) -> Any:
        self.asked += 1
        return Slot(self, self.kinds[(self.asked - 1) % len(self.kinds)])


@define(eq=False)
class Slot:
    slots: Slots
    kind: str

    async def __aenter__(self) -> None:
        if self.kind == "slow":
            await asyncio.sleep(3)
        if self.kind == "full":
            raise Unavailable("it is full", retry_after=2)
        self.slots.held += 1
        self.slots.most = max(self.slots.most, self.slots.held)

    async def __aexit__(self, *exc: object) -> None:
        self.slots.held -= 1


class Listening(Kept):
    """A sink that notes what it is told, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []
        self.status = 0

    async def plain(self, answer: Any, served: Served) -> None:
        self.status = answer.status
        await self._hear("plain")

    async def open(self, served: Served) -> None:
        await self._hear("open")

    async def fail(self, error: RequestError) -> None:
        await self._hear("fail")

    async def close(self, rest: bytes) -> None:
        await self._hear("close")

    async def _hear(self, what: str) -> None:
        self.told.append(what)
        self.at.append(asyncio.get_running_loop().time())


ENDINGS = {
    ("plain",): ("answered", "failed"),
    ("open", "close"): ("answered",),
    ("open", "fail"): ("truncated",),
    (): ("failed", "cancelled"),
    ("open",): ("cancelled",),
}
"""What the client may be told, and what is recorded of it then."""

reached: Counter[tuple[tuple[tuple[str, ...], str], bool]] = Counter()
"""How often the law met an ending, without and with a wait on the way."""

LIMITS = {"first_event_seconds": 40, "idle_seconds": 20, "answer_seconds": 45, "stream_seconds": 100}
RECORDING = 0.1


@define
class Ended:
    """How the handling of a request ended, and when."""

    at: float = 0.0
    error: BaseException | None = None


def _like(mood: str, *, stream: bool = True, leaves: float | None = None) -> Any:
    """A case of one candidate with this mood."""
    return example([[mood]], ["fine"], stream, 3, 60, leaves, False)


@settings(max_examples=300, deadline=None, derandomize=True)
@_like("ok")
@_like("ok", stream=False)
@_like("badly asked")
@_like("breaks")
@_like("refuses")
@_like("busy 1 s")
@_like("hangs", leaves=3.0)
@_like("endless", leaves=7.5)
@given(
    moods=st.lists(st.lists(st.sampled_from(FAULTS), max_size=4), min_size=1, max_size=4),
    kinds=st.lists(st.sampled_from(["fine", "fine", "slow", "full"]), min_size=1, max_size=4),
    stream=st.booleans(),
    attempts=st.integers(1, 6),
    budget=st.sampled_from([1, 10, 60, 120]),
    leaves=st.none() | st.sampled_from([0.0, 0.5, 3.0, 5.0, 7.5, 12.0, 16.0, 40.0, 50.0]),
    cancelled=st.booleans(),
)
def _a_request_ends_once_and_in_time(
    moods: list[list[str]],
    kinds: list[str],
    stream: bool,
    attempts: int,
    budget: float,
    leaves: float | None,
    cancelled: bool,
) -> None:
    providers = [Moody(f"p{number}", [Model(id="m0")]) for number in range(len(moods))]
    for provider, script in zip(providers, moods, strict=True):
        provider.script = list(script)
    slots, books, sink, waits = Slots(kinds), Books(), Listening(), list[float]()
    limits = {**LIMITS, "max_attempts": attempts, "budget_seconds": budget}
    router = router_of(providers, {"slots": slots, "books": books}, limits=limits)
    ended = Ended()

    def waited(*args: Any) -> float | None:
        wait = fallback.wait_before(*args)
        waits.extend(() if wait is None else (wait,))
        return wait

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(router.handle(asked(stream=stream), sink))
        if leaves is not None:
            loop.call_later(leaves, task.cancel if cancelled else lambda: sink.leave("client_gone"))
        await asyncio.wait((task,))
        ended.at = loop.time()
        ended.error = asyncio.CancelledError() if task.cancelled() else task.exception()
        await router.services.recorder.drain()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "wait_before", waited)
        patch.setattr(fallback, "RETRY_BASE_SECONDS", 0.25)
        in_no_time(main())

    sent = [attempt for provider in providers for attempt, _ in provider.sent]
    assert isinstance(ended.error, (RequestError, asyncio.CancelledError, type(None))), ended.error
    if leaves == 0 and cancelled and not books.records:
        return  # it had not begun
    # It ends once, for the client and in the books.
    (record,) = books.records
    reached[(tuple(sink.told), str(record.outcome)), bool(waits)] += 1
    assert record.outcome in ENDINGS[tuple(sink.told)]
    assert sink.told or ended.error is not None, "whom the sink has told nothing, the error tells"
    if sink.told == ["plain"]:
        assert (record.outcome == "answered") is (sink.status == 200)
    # It asks nobody too often, and begins nothing when its time is over or its client gone.
    assert len(sent) <= attempts
    assert sorted(attempt.number for attempt in sent) == list(range(1, len(sent) + 1))
    assert all(attempt.started <= budget for attempt in sent)
    assert sum(waits) <= budget
    # It is over in time.
    last = LIMITS["answer_seconds"] if not stream else LIMITS["stream_seconds"] if "open" in sink.told else 0
    assert ended.at <= budget + last + RECORDING
    if stream and "open" in sink.told:
        assert sink.at[0] <= budget + RECORDING
    if leaves is not None:
        assert all(attempt.started <= leaves for attempt in sent)
        assert ended.at <= leaves + RECORDING
    # It leaves nothing behind.
    assert slots.held == 0
    assert slots.most <= 1
    assert router.services.retries.running == router.services.retries.requests == 0
    status = router.admission.status()
    assert (status["running"], status["waiting"], status["streams"]) == (0, 0, 0)


def test_a_request_ends_once_and_in_time_whatever_its_candidates_do() -> None:
    reached.clear()
    _a_request_ends_once_and_in_time()
    wanted = {(told, outcome) for told, outcomes in ENDINGS.items() for outcome in outcomes}
    assert {ending for ending, _ in reached} == wanted, "every ending was reached"
    assert {waited for _, waited in reached} == {False, True}, "with a wait between two attempts, and without one"


def test_a_clock_that_jumps_takes_no_time_and_keeps_the_order() -> None:
    seen: list[tuple[str, float]] = []

    async def after(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((f"{seconds:g}", asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(after(3600), after(2), after(0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        seen.append(("end", asyncio.get_running_loop().time()))

    in_no_time(main())
    assert [(name, round(at, 3)) for name, at in seen] == [("0", 0), ("2", 2), ("3600", 3600), ("end", 3610)]


# Real sockets

REAL = [
    "ok",
    "http:400",
    "http:401",
    "http:404",
    "http:429",
    "http:500",
    "http:503",
    "err200",
    "html",
    "empty",
    "json:null",
    "nochoices",
    "nullcontent",
    "truncjson",
    "badutf8",
    "close",
    "rst",
    "clshort",
    "cllong",
    "badstatus",
    "err1st",
    "donestream",
    "midclose",
    "midrst",
    "nodone",
    "miderr",
    "midjunk",
    "kaclose",
    "kaidle",
    "overflow",
    "enc:gzip",
    "redirect",
    "ra:none",
    "usagenull",
    "hang",
    "stall",
]
CLIENTS = ["plain", "stream", "leaves a plain answer", "leaves a stream"]
MOST = 3


async def met(at: House, client: str) -> tuple[int, bytes]:
    """What a client of this sort gets: the count of attempts, and the body; nothing for one that leaves."""
    stream, before = "stream" in client, at.up.seen("a").chat
    if not client.startswith("leaves"):
        reply = await at.chat(stream=stream)
        return int(reply.headers["X-Router-Attempts"]), reply.body
    _, writer = await at.open(stream=stream)
    await until(lambda: at.up.seen("a").chat > before)
    writer.transport.abort()
    return 0, b""


def ends(body: bytes) -> int:
    """How many ends an answer has: markers and errors of a stream, the one document of a plain answer."""
    if not body.startswith((b"data:", b":")):
        told = json.loads(body)
        return ("choices" in told) + ("error" in told)
    return body.count(b"data: [DONE]") + body.count(b'data: {"error":')


async def once(at: House, client: str) -> None:
    """One request of this client, and all that must hold of it whatever its candidates do."""
    before, records = {name: at.up.seen(name).chat for name in "ab"}, len(at.witness.records)
    async with asyncio.timeout(5):
        attempts, body = await met(at, client)
        await until(lambda: len(at.witness.records) > records)
        await until(lambda: at.router.admission.running + at.router.admission.streams == 0)
    (record,) = at.witness.records[records:]
    calls = [request for name, count in before.items() for request in at.up.seen(name).requests[count:]]
    assert len(record.tried) <= MOST
    assert len(calls) <= 2 * MOST
    assert len(calls) <= MOST + sum(stale(at, request) for request in calls), "replayed on stale connections only"
    if body:
        assert attempts == len(record.tried)
        assert ends(body) == 1, body
        assert (record.outcome == "answered") is (b'"error"' not in body)


def stale(at: House, request: Received) -> bool:
    """Whether a request broke without a byte on a connection that had carried others before it."""
    same = [one for one in at.up.seen(request.provider).requests if one.connection == request.connection]
    return request.fault in ("kaclose", "kaidle", "close", "rst") and same.index(request) > 0


QUICK = {"max_attempts": MOST, "first_event_seconds": 0.1, "answer_seconds": 0.1, "idle_seconds": 0.1}


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    faults=st.fixed_dictionaries(dict.fromkeys("ab", st.lists(st.sampled_from(REAL), max_size=5))),
    clients=st.lists(st.sampled_from(CLIENTS), min_size=1, max_size=4),
)
def test_any_sequence_of_real_faults_ends_once_for_any_client(
    faults: Mapping[str, list[str]], clients: list[str]
) -> None:
    slots = Slots(["fine"])

    class Reserving:
        @hookimpl
        def reserve(self) -> Any:
            return slots.reserve()

    async def main() -> None:
        async with house("a b", plugins={"slots": Reserving}, limits=QUICK) as at:
            for name, labels in faults.items():
                at.up.script(name, *labels)
            for client in clients:
                await once(at, client)
                assert slots.held == 0
        assert len(at.witness.records) == len(clients), "and nothing came later"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fallback, "RETRY_BASE_SECONDS", 0.0)
        asyncio.run(main())
