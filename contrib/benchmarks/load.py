"""The load: keep-alive clients of a raw protocol each, cheap enough to leave the second core to the proxy.

Whole answers are checked as they come, streams after the run, so that checking costs the measured time nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import cast

import orjson
import uvloop
from attrs import Factory, define
from upstream import ANSWER_MARK, stream_text

__all__ = ["Load", "percentile", "request_bytes", "run"]

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MEANINGFUL = re.compile(rb'"content": ?"[^"]')
END = b"0\r\n\r\n"
DECISION_MARK = b'"report_within_seconds"'
STUCK_SECONDS = 60.0
"""A run that has not ended this long after its time is given up; what is missing then is an error."""

TEXT = (
    "please review the function below and tell me why it fails on sorted input; def partition(items, low, high): "
    "pivot = items[high] and keep the tests as they are, since the cafe's naive order matters to cafe users. "
)


def request_bytes(
    size: int,
    *,
    host: str,
    script: str | None = None,
    tools: bool = False,
    accents: bool = False,
    key: str = "none",
    headers: str = "",
    path: str = "/v1/chat/completions",
) -> bytes:
    """A whole HTTP request with a chat body of about `size` bytes, in messages of some 1,500 characters at most.

    `accents` puts characters beyond ASCII into every message, which makes JSON several times as costly. `script` asks
    the upstream for a stream (see upstream.py); `headers` are more header lines, each with its CRLF.
    """
    body: dict[str, object] = {
        "model": "auto",
        "messages": _messages(size, accents),
        "temperature": 0.2,
        "user": "bench",
    }
    if script is not None:
        order = {"role": "system", "content": f"bench:{script}"}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        body["messages"] = [order, *_messages(size, accents)[1:]]
    if tools:
        one = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
        body["tools"] = [
            {"type": "function", "function": {"name": f"{verb}_file", "description": f"{verb} it", "parameters": one}}
            for verb in ("read", "write", "list", "delete")
        ]
    data = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Accept: */*\r\nUser-Agent: bench\r\n"
        f"Authorization: Bearer {key}\r\n{headers}Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def _messages(size: int, accents: bool) -> list[dict[str, str]]:
    count = max(4, size // 1500)
    words = (TEXT.replace("cafe", "café").replace("naive", "naïve") if accents else TEXT).split()
    text = " ".join(words[(index * 7 + index // 11) % len(words)] for index in range(size // 5))
    step = max(size // count - 45, 1)
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": text[:step]}]
    messages += [
        {"role": roles[index % 2], "content": text[index * step : (index + 1) * step]} for index in range(1, count)
    ]
    return messages


@define
class Load:
    """What a run saw: seconds each answer took, seconds to each stream's first event with text, and what went wrong."""

    took: list[float] = Factory(list)
    first: list[float] = Factory(list)
    errors: Counter[str] = Factory(Counter)
    streams: list[bytes] = Factory(list)
    events: int = 0
    seconds: float = 0.0

    def check_streams(self, events: int) -> None:
        """Compare every stream with what the upstream said; what differs becomes an error."""
        expected = stream_text(events)
        for raw in self.streams:
            wrong = _wrong(raw, expected)
            if wrong:
                self.errors[wrong] += 1
            else:
                self.events += events
        self.streams.clear()


def _wrong(raw: bytes, expected: str) -> str | None:
    """What is wrong with a streamed answer, or None."""
    head, _, body = raw.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return "status " + head[9:12].decode("latin-1")
    text, done = [], False
    for line in _dechunked(body).split(b"\n"):
        if line == b"data: [DONE]":
            done = True
        elif line.startswith(b"data: {"):
            choices = orjson.loads(line[6:]).get("choices") or ()
            text += [choice["delta"].get("content") or "" for choice in choices]
    if not done:
        return "no [DONE]"
    return None if "".join(text) == expected else "another text"


def _dechunked(body: bytes) -> bytes:
    parts, place = [], 0
    while (end := body.find(b"\r\n", place)) >= 0:
        size = int(body[place:end], 16)
        if not size:
            break
        parts.append(body[end + 2 : end + 2 + size])
        place = end + 4 + size
    return b"".join(parts)


class Client(asyncio.Protocol):
    """One connection, that asks again as soon as it is answered until the run is over."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._whole = 0
        self._asked = 0.0
        self._begun = False
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from it
        self._ask()

    def _ask(self) -> None:
        self._buffer.clear()
        self._whole, self._begun, self._busy = 0, False, True
        self._asked = perf_counter()
        self._transport.write(self._crew.request)

    def data_received(self, data: bytes) -> None:
        """Note the first event with text, and the end."""
        buffer = self._buffer
        buffer += data
        if self._crew.streaming and not self._begun and MEANINGFUL.search(buffer):
            self._begun = True
            self._crew.load.first.append(perf_counter() - self._asked)
        if not self._whole:
            head = buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            length = LENGTH.search(buffer, 0, head)
            self._whole = head + 4 + int(length[1]) if length else -1
        if len(buffer) >= self._whole > 0 or (self._whole < 0 and buffer.endswith(END)):
            self._answered()

    def _answered(self) -> None:
        crew, buffer = self._crew, self._buffer
        now, self._busy = perf_counter(), False
        crew.load.took.append(now - self._asked)
        if crew.streaming:
            crew.load.streams.append(bytes(buffer))
        elif buffer[9:12] != b"200":
            crew.load.errors["status " + buffer[9:12].decode("latin-1")] += 1
        elif ANSWER_MARK not in buffer and DECISION_MARK not in buffer:
            crew.load.errors["another answer"] += 1
        if now < crew.end:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The run is over for this one; a loss in the middle of an answer is an error."""
        if self._busy:
            self._crew.load.errors["connection lost"] += 1
        self._crew.gone()


class Crew:
    """All connections of one run."""

    def __init__(
        self, request: bytes, connections: int, seconds: float, *, streaming: bool, apart: float = 0.0
    ) -> None:
        self.request = request
        self.streaming = streaming
        self.apart = apart
        self.load = Load()
        self.end = perf_counter() + seconds
        self._left = connections
        self._all_gone = asyncio.Event()

    def gone(self) -> None:
        """One connection has ended."""
        self._left -= 1
        if not self._left:
            self._all_gone.set()

    async def work(self, port: int) -> Load:
        """Connect, and wait until every connection has had its last answer."""
        loop, started = asyncio.get_running_loop(), perf_counter()

        async def connect(number: int) -> None:
            await asyncio.sleep(number * self.apart)
            await loop.create_connection(lambda: Client(self), "127.0.0.1", port)

        tasks = [connect(number) for number in range(self._left)]
        for refused in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(refused, BaseException):
                self.load.errors[type(refused).__name__] += 1
                self.gone()
        try:
            async with asyncio.timeout(self.end - perf_counter() + STUCK_SECONDS):
                await self._all_gone.wait()
        except TimeoutError:
            self.load.errors["never answered"] += self._left
        self.load.seconds = perf_counter() - started
        return self.load


def run(
    port: int,
    request: bytes,
    *,
    connections: int,
    seconds: float,
    streaming: bool = False,
    apart: float = 0.0,
    watch: Callable[[], object] | None = None,
) -> Load:
    """Ask from so many connections at once for so long; 0 seconds are one answer for each connection.

    They begin `apart` seconds after each other. `watch` is called every 50 ms meanwhile.
    """

    async def work() -> Load:
        watching = asyncio.ensure_future(_watch(watch)) if watch else None
        try:
            return await Crew(request, connections, seconds, streaming=streaming, apart=apart).work(port)
        finally:
            if watching:
                watching.cancel()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


async def _watch(watch: Callable[[], object]) -> None:
    while True:
        watch()
        await asyncio.sleep(0.05)


def percentile(values: list[float], percent: float) -> float:
    """The value below which so many percent lie; 0.0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0.0
