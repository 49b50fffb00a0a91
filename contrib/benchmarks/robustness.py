"""Routerpool beside what it promises: every fault of its register, bombs, floods, reloads under load and its end.

bench.py runs this and writes the figures into its figures.json; alone: `bench.py --only robustness`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import aiohttp
from attrs import evolve, frozen
from crowds import Stand, flood, overload, reloads, slow_readers, stand, termination
from load import percentile
from report import Finding

from routerpool.testing.call import UpstreamCall
from routerpool.testing.registry import fault, faults_of_class
from routerpool.wire.sse import event_data, split_events

__all__ = ["FULL", "QUICK", "Scale", "measure"]

LIMIT = 0.5
"""The limit, in seconds, on a first event, on silence and on a plain answer, while the faults are played."""

LIMITS = {
    "first_event_seconds": LIMIT,
    "answer_seconds": LIMIT,
    "idle_seconds": LIMIT,
    "stream_seconds": 3 * LIMIT,
    "connect_seconds": LIMIT,
    "budget_seconds": 8,
}
HANGS = 3.0
"""A case that takes so many seconds longer than its deadline hangs."""

SILENT = {"hang", "headstall", "commentstall", "slowhead", "slowbody", "stall"}
"""Faults of class R that only a limit ends."""

PAUSES = {"badchunk": 0.05, "midchunk": 0.05, "midrst": 0.02, "kaidle": 0.05}
"""Seconds that other faults take themselves."""


@frozen
class Scale:
    """How much of it."""

    passes: int
    readers: int
    clients: int
    reloads: int
    seconds: float


QUICK = Scale(passes=1, readers=100, clients=2000, reloads=100, seconds=2)
FULL = Scale(passes=3, readers=100, clients=2000, reloads=1000, seconds=5)


# Faults


@frozen
class Case:
    """One fault, plain or streamed: what its class owes the client."""

    letter: str
    label: str
    streaming: bool
    name: str
    """The provider that plays it; its profile asks that one first, then `good`."""

    def deadline(self) -> float:
        """Seconds within which the answer must have ended, whatever the fault."""
        lively = self.letter == "O" or self.label == "infinite"
        return 3 * LIMIT if self.streaming and lively else LIMIT

    def own_delay(self) -> float:
        """Seconds that the fault itself takes until it can be noticed."""
        return LIMIT if self.label in SILENT else PAUSES.get(self.label, 0.0)


def cases() -> list[Case]:
    """Every case of the register."""
    labels = sorted({label for letter in "RFSO" for label in faults_of_class(letter)})
    names = {label: f"f{number}" for number, label in enumerate(labels)}
    return [
        Case(letter, label, mode == "stream", names[label])
        for letter in "RFSO"
        for label, modes in sorted(faults_of_class(letter).items())
        for mode in modes
    ]


async def faults(folder: Path, passes: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Play every case against a fresh server; also which ones went wrong, and how."""
    played = cases()
    counts, over, wrong = Counter[str](), [0.0], list[str]()
    recoveries: list[tuple[float, str]] = []
    models = {"good": ["m1"], **{case.name: ["m1"] for case in played}}
    profiles = {case.name: {"models": [f"{case.name}/m1", "good/m1"]} for case in played}
    for _ in range(passes):
        async with stand(folder, models, limits=LIMITS, profiles=profiles) as at:
            async with at.client.post(f"{at.up.base_url('good')}/chat/completions", json={"model": "m1+bomb"}):
                pass  # packing it once takes the provider itself half a second
            for case in played:
                at.up.always(case.name, case.label)
                if case.label in ("kaclose", "kaidle"):  # they show on the next request of the same connection
                    await at.chat(model=f"routerpool/{case.name}")
                verdict, seconds = await _verdict(at, case)
                counts[f"{case.letter}_{verdict}"] += 1
                name = f"{case.label} {'streamed' if case.streaming else 'plain'}"
                if verdict != "right":
                    wrong.append(f"{name}: {verdict}")
                elif case.letter == "R":
                    recoveries.append((max(seconds - case.own_delay(), 0.0), name))
                over.append(seconds - case.deadline())
    recovery = [seconds for seconds, _ in recoveries]
    figures: dict[str, float] = {
        f"faults_{key}": counts[key] for key in (f"{c}_{v}" for c in "RFSO" for v in ("right", "wrong", "hung"))
    }
    figures |= {
        "faults_not_right": sum(count for key, count in counts.items() if not key.endswith("right")),
        "faults_recovery_seconds_median": percentile(recovery, 50),
        "faults_recovery_seconds_p95": percentile(recovery, 95),
        "faults_recovery_seconds_max": max(recovery, default=0.0),
        "faults_deadline_overshoot_seconds_max": max(over),
    }
    slowest = {name: seconds for seconds, name in sorted(recoveries, reverse=True)[:8]}
    return figures, {"faults_wrong_or_hung": wrong, "faults_recovery_seconds_slowest": slowest}


async def _verdict(at: Stand, case: Case) -> tuple[str, float]:
    """Right, wrong or hung, and the seconds it took."""
    asked = at.up.seen("good").chat
    started = time.perf_counter()
    try:
        async with asyncio.timeout(case.deadline() + HANGS):
            status, headers, body = await at.chat(model=f"routerpool/{case.name}", stream=case.streaming)
    except TimeoutError:
        return "hung", time.perf_counter() - started
    except aiohttp.ClientError:
        return "wrong", time.perf_counter() - started
    seconds = time.perf_counter() - started
    alone, by = at.up.seen("good").chat == asked, headers.get("X-Router-Provider")
    whole = {at.up.expected(name, "m1", case.streaming) for name in ("good", case.name)}
    if case.letter == "R":
        # Behind a connection that has gone stale the same candidate is well.
        right = status == 200 and body in whole and (by == "good" or case.label in ("kaclose", "kaidle"))
    elif case.letter == "F":
        right = 400 <= status < 500 and alone and by == case.name and b'"error"' in body
    elif case.letter == "S":
        last = body.rstrip().splitlines()[-1]
        visible = alone and last.startswith(b'data: {"error":') and b"[DONE]" not in body
        # What breaks in the same packet as its first event has not reached the client: another one may answer.
        right = status == 200 and (visible or (by == "good" and body in whole))
    else:
        text = at.up.expected_text(case.name, case.label)
        right = status == 200 and alone and _text_of(body, case.streaming) == text
    return "right" if right else "wrong", seconds


def _text_of(body: bytes, streaming: bool) -> str | None:
    """What a client makes of a healthy answer; None of a stream that lacks its end."""
    if not streaming:
        return str(json.loads(body)["choices"][0]["message"]["content"])
    if not body.endswith(b"data: [DONE]\n\n"):
        return None
    found = (event_data(event) for event in split_events(body))
    choices = [c for data in found if data and data != b"[DONE]" for c in json.loads(data).get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


# Bombs

MEBI = 1 << 20
BROTLI_BOMB = zlib.decompress(
    base64.b85decode(
        "c-lMt|G)hYRfk6#9TdL*>;M11{)0Eekwn3UcYo#o|NsABIzz`{CWgDe?f?D%e^8%Mpq-Ur*Z2BA|Nl3~Gb!+KGnBml|KtCE_WdjlGGYub"
        "?*0Gx|37~nXM=?f!-c*7AOHU^|3`?SFoI!0_5b5wix?hlU~oXPh;g`Bln(%<xV9e"
    )
)
"""200 MiB of blanks."""


def blanks(wbits: int) -> Iterator[bytes]:
    """200 MiB of blanks, compressed."""
    coder = zlib.compressobj(1, wbits=wbits)
    yield from (coder.compress(b" " * MEBI) for _ in range(200))
    yield coder.flush()


@fault("packed:br", "packed:deflate", takes={"br": "br", "deflate": "deflate"}.__getitem__)
async def packed(x: UpstreamCall) -> None:
    """A bomb of 200 MiB in another encoding than gzip."""
    await x.head(headers=[("content-encoding", x.arg)])
    for piece in [BROTLI_BOMB] if x.arg == "br" else blanks(15):
        await x.chunk(piece)
    await x.end()


@fault("lists")
async def lists(x: UpstreamCall) -> None:
    """10 million empty lists in 30 MiB of JSON, as a plain answer."""
    await x.whole(200, b'{"choices":[' + b"[]," * (10 * MEBI) + b"1]}")


@fault("chatter")
async def chatter(x: UpstreamCall) -> None:
    """Chunks without content for ever, as fast as they are taken."""
    await x.head()
    for event in repeat(x.answer.opening()):
        await x.event(event)


UPSTREAM_BOMBS = (
    "bomb:200",
    "packed:deflate",
    "packed:br",
    "bigevent:64",
    "endless",
    "lists",
    "deepjson",
    "bigheader",
    "chatter",
)


async def _slices(data: bytes, times: int) -> AsyncIterator[bytes]:
    for _ in range(times):
        yield data


def client_bombs() -> dict[str, tuple[Callable[[], Any], dict[str, str], set[int]]]:
    """Bodies that clients send: what makes each, its headers, and the statuses that are right."""
    return {
        "body of 40 MiB": (lambda: io.BytesIO(b" " * (40 * MEBI)), {}, {413}),
        "body of 40 MiB in chunks": (lambda: _slices(b" " * 65536, 640), {}, {413}),
        "body of 200 MiB in gzip": (lambda: b"".join(blanks(31)), {"Content-Encoding": "gzip"}, {400, 413, 415}),
        "body of JSON 30 million deep": (lambda: io.BytesIO(b'{"messages":' + b"[" * (30 * MEBI)), {}, {400, 413}),
        "body of 10 million empty lists": (
            lambda: io.BytesIO(b'{"messages":[' + b"[]," * (10 * MEBI) + b"1]}"),
            {},
            {413},
        ),
    }


async def bombs(folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Growth of the server's peak memory over what it held idle, by each bomb, one after the other."""
    names = {label: f"b{number}" for number, label in enumerate(UPSTREAM_BOMBS)}
    profiles = {name: {"models": [f"{name}/m1", "good/m1"]} for name in names.values()}
    grown, wrong = dict[str, float](), list[str]()
    async with stand(folder, {"good": ["m1"], **{name: ["m1"] for name in names.values()}}, profiles=profiles) as at:
        await at.chat()
        idle = at.server.rss()

        async def weigh(name: str, explosion: Awaitable[bool]) -> None:
            at.server.forget_peak()
            if not await explosion:
                wrong.append(name)
            grown[name] = max(at.server.peak() - idle, 0) / 1e6

        for label, name in names.items():
            at.up.always(name, label)
            for streaming in (False, True):
                await weigh(f"{label}{' streamed' if streaming else ''}", _falls_back(at, name, streaming))
        for name, (make, headers, right) in client_bombs().items():
            await weigh(name, _refused(at, make(), headers, right))
        await weigh("a body just under the limit", _answered(at, "x" * (31 * MEBI)))
    allowed = grown.pop("a body just under the limit")
    figures = {
        "bombs_memory_growth_mb_max": max(grown.values()),
        "bombs_answered_wrongly": len(wrong),
        "largest_body_memory_growth_mb": allowed,
    }
    return figures, {"bombs_memory_growth_mb": grown, "bombs_answered_wrongly": wrong}


async def _falls_back(at: Stand, name: str, streaming: bool) -> bool:
    status, _, body = await at.chat(model=f"routerpool/{name}", stream=streaming)
    return status == 200 and body == at.up.expected("good", "m1", streaming)


async def _answered(at: Stand, content: str) -> bool:
    status, _, _ = await at.chat(messages=[{"role": "user", "content": content}])
    return status == 200


async def _refused(at: Stand, body: Any, headers: dict[str, str], right: set[int]) -> bool:
    try:
        async with at.client.post(at.url(), data=body, headers={"Content-Type": "application/json", **headers}) as got:
            return got.status in right
    except aiohttp.ClientConnectionError:
        return True  # it has stopped listening to us before the end, which is a refusal too


# All of it

FIGURES = [
    Finding("faults_not_right", "fault cases answered wrongly or not at all", most=0, grave=True),
    Finding("faults_recovery_seconds_median", "recovery beyond the fault's own delay, median, s", most=0.15),
    Finding("faults_recovery_seconds_p95", "recovery, p95, s", most=0.15),
    Finding("faults_recovery_seconds_max", "recovery, worst case, s"),
    Finding("faults_deadline_overshoot_seconds_max", "deadline overshoot, worst case, s", most=0.2),
    Finding("bombs_memory_growth_mb_max", "peak memory growth by a bomb, MB", most=64),
    Finding("bombs_answered_wrongly", "bombs answered wrongly", most=0, grave=True),
    Finding("largest_body_memory_growth_mb", "peak memory growth by one good body of 31 MiB, MB"),
    Finding("slow_readers_memory_kb_each", "memory for each client that does not read, kB"),
    Finding("slow_readers_upstream_sent_kb_each", "sent by the provider for each of these, kB"),
    Finding("slow_readers_upstream_still_sent_bytes", "sent by the provider once all is full, bytes", most=0),
    Finding("slow_readers_next_answer_ms", "answer to one who does read meanwhile, ms", most=50),
    Finding("slow_readers_upstreams_closed_seconds", "upstreams closed after their clients left, s", most=0.5),
    Finding("overload_goodput_share", "overload by 10 × the places: answered, of what is without it", least=0.8),
    Finding("overload_other_outcomes", "overload: neither answered nor 429", most=0, grave=True),
    Finding("overload_health_ms_max", "/health meanwhile, max, ms", most=50),
    Finding("flood_answered", "flood: answered"),
    Finding("flood_refused_with_retry_after", "flood: 429 with Retry-After"),
    Finding("flood_other_outcomes", "flood: any other outcome", most=0, grave=True),
    Finding("flood_health_calm_ms_p99", "/health before the flood, p99, ms"),
    Finding("flood_connecting_health_kept_ms_max", "/health while all connect, kept connection, max, ms"),
    Finding("flood_connecting_health_new_ms_max", "/health while all connect, new connection, max, ms"),
    Finding("flood_connected_health_kept_ms_max", "/health while all ask at once, kept connection, max, ms"),
    Finding("flood_connected_health_new_ms_max", "/health while all ask at once, new connection, max, ms"),
    Finding("reloads", "reloads under load"),
    Finding("reloads_ms_each", "one reload under load, ms"),
    Finding("reloads_requests", "requests meanwhile"),
    Finding("reloads_torn_requests", "torn requests", most=0, grave=True),
    Finding("reloads_memory_before_mb", "memory before the reloads, MB"),
    Finding("reloads_memory_after_mb", "memory after the reloads, MB"),
    Finding("reloads_files_more", "more files open after the reloads", most=20),
    Finding("sigterm_streams_complete", "complete streams of 50 over SIGTERM", least=50, grave=True),
    Finding("sigterm_exit_code", "exit code after SIGTERM", most=0, least=0, grave=True),
    Finding("sigterm_exit_after_last_stream_seconds", "exit after the last stream, s", most=1.0),
]
"""What is shown, with the bounds that the project has set itself."""


def measure(scale: Scale, folder: Path, tell: Callable[[str], None]) -> tuple[list[Finding], dict[str, Any]]:
    """All figures in the order of FIGURES, and what stands behind them."""

    async def all_of_it() -> tuple[dict[str, float], dict[str, Any]]:
        figures, details = await faults(folder, scale.passes)
        tell(".")
        exploded, more = await bombs(folder)
        tell(".")
        figures |= exploded | await slow_readers(folder, scale.readers)
        tell(".")
        figures |= await overload(folder, scale.seconds)
        figures |= await flood(folder, scale.clients)
        tell(".")
        figures |= await reloads(folder, scale.reloads)
        tell(".")
        figures |= await termination(folder, 50)
        return figures, details | more

    figures, details = asyncio.run(all_of_it())
    shown = [evolve(finding, value=figures.pop(finding.key, math.nan)) for finding in FIGURES]
    return shown, details | figures
