"""What many clients at once do to a served router: do not read, flood it, ask while it reloads, stream while it ends.

robustness.py runs these; each returns its figures by name, with the unit in the name.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from attrs import frozen
from load import percentile
from targets import Target, served

from routerpool.testing.call import UpstreamCall
from routerpool.testing.registry import fault
from routerpool.testing.upstream import Upstream

__all__ = ["CHAT", "Stand", "flood", "overload", "reloads", "slow_readers", "stand", "termination"]

CHAT: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
PATIENCE = 60.0
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@frozen
class Stand:
    """A served router, and the scriptable provider behind it, which lives in this process."""

    up: Upstream
    server: Target
    folder: Path
    client: aiohttp.ClientSession

    def url(self, path: str = "/v1/chat/completions") -> str:
        """An address of the router."""
        return f"http://127.0.0.1:{self.server.port}{path}"

    async def chat(self, **changes: Any) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one chat request."""
        async with self.client.post(self.url(), json=CHAT | changes) as response:
            return response.status, response.headers, await response.read()

    def files(self) -> int:
        """How many files and sockets the router has open."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.server.pids())


@asynccontextmanager
async def stand(folder: Path, models: Mapping[str, list[str]], **config: Any) -> AsyncIterator[Stand]:
    """A router over providers with these models; `config` is the rest of its file. `auto` is the first provider."""
    async with Upstream() as up:
        providers = {name: {"base_url": up.base_url(name), "models": has} for name, has in models.items()}
        first = next(iter(models))
        profiles = {"first": {"models": [f"{first}/*"]}, **config.pop("profiles", {})}
        config = {"store": "sqlite://", "default_profile": "first", "profiles": profiles, **config}
        server = served(folder, providers, **config)
        await asyncio.to_thread(server.start)
        try:
            timeout = aiohttp.ClientTimeout(total=PATIENCE)
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as client:
                yield Stand(up, server, folder, client)
        finally:
            await asyncio.to_thread(server.stop)


# Readers that do not read

SENT = Counter[str]()
"""Bytes that `firehose` has handed to the kernel, by provider."""


@fault("firehose")
async def firehose(x: UpstreamCall) -> None:
    """Events of 16 kB for ever, as fast as they are taken."""
    own = x.connection.writer.transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # what waits here says nothing about the router
    await x.head()
    await x.event(x.answer.opening())
    event = x.answer.chunk({"content": "x" * 16_000})
    while True:
        await x.event(event)
        SENT[x.received.provider] += 16_000


async def slow_readers(folder: Path, readers: int) -> dict[str, float]:
    """So many clients ask for a stream without an end and read nothing of it; then another one asks."""
    limits = {"idle_seconds": 300, "max_concurrent": 1000, "max_streams": 1000}
    async with stand(folder, {"good": ["m1"], "hose": ["m1"]}, limits=limits) as at:
        at.up.always("hose", "firehose")
        await at.chat()
        before = await _at_rest(at.server.rss)
        SENT.clear()
        opened = [await _asking_without_reading(at.server.port) for _ in range(readers)]
        await at.up.wait_for("hose", timeout=PATIENCE, chat=readers)
        sent = await _at_rest(lambda: SENT["hose"])
        grown = at.server.rss() - before
        await asyncio.sleep(1.0)
        more = SENT["hose"] - sent
        started = time.perf_counter()
        status, _, _ = await at.chat()
        answered = time.perf_counter() - started
        for one in opened:
            one.close()
        left = time.perf_counter()
        await at.up.wait_for("hose", timeout=PATIENCE, aborts=readers)
        return {
            "slow_readers": readers,
            "slow_readers_memory_kb_each": grown / readers / 1e3,
            "slow_readers_upstream_sent_kb_each": sent / readers / 1e3,
            "slow_readers_upstream_still_sent_bytes": more,
            "slow_readers_next_answer_ms": answered * 1e3 if status == 200 else PATIENCE * 1e3,
            "slow_readers_upstreams_closed_seconds": time.perf_counter() - left,
        }


async def _asking_without_reading(port: int) -> socket.socket:
    own, loop = socket.socket(), asyncio.get_running_loop()
    own.setblocking(False)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(own, ("127.0.0.1", port))
    await loop.sock_sendall(own, _request(CHAT | {"model": "hose/m1", "stream": True}))
    return own


async def _at_rest(value: Any) -> Any:
    """A value once it has not changed for half a second, or after a minute."""
    seen, since, end = value(), time.monotonic(), time.monotonic() + PATIENCE
    while time.monotonic() - since < 0.5 and time.monotonic() < end:
        await asyncio.sleep(0.05)
        if value() != seen:
            seen, since = value(), time.monotonic()
    return seen


def _request(body: Mapping[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


# A flood

Looks = list[tuple[float, str, float]]
"""When /health was asked, how (over a "kept" connection or a "new" one), and how many seconds it took."""


class Physician:
    """Asks /health all the time, in a process of its own, so that our own work does not count."""

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._wire, theirs = context.Pipe()
        self._process = context.Process(target=_look_after, args=(port, theirs), daemon=True)

    async def begin(self) -> None:
        """Start; the first looks have been taken when this returns."""
        self._process.start()
        await asyncio.to_thread(self._wire.recv)

    async def end(self) -> Looks:
        """All that it saw."""
        self._wire.send("enough")
        looks: Looks = await asyncio.to_thread(self._wire.recv)
        await asyncio.to_thread(self._process.join)
        return looks


def _look_after(port: int, wire: Connection) -> None:
    looks: Looks = []
    kept = socket.create_connection(("127.0.0.1", port), PATIENCE)
    while not wire.poll():
        for how in ("kept", "new"):
            started = time.monotonic()
            one = kept if how == "kept" else socket.create_connection(("127.0.0.1", port), PATIENCE)
            one.sendall(HEALTH)
            if not one.recv(4096).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("/health is not 200")
            looks.append((started, how, time.monotonic() - started))
            if one is not kept:
                one.close()
        if len(looks) == 20:
            wire.send("looking")
        time.sleep(0.002)
    wire.send(looks)


async def flood(folder: Path, clients: int) -> dict[str, float]:
    """So many clients ask at once a server with few places, twice: connecting for it, and connected already."""
    limits = {"max_concurrent": 20, "max_waiting": 80, "queue_seconds": 10}
    async with stand(folder, {"good": ["m1"]}, limits=limits) as at:
        at.up.always("good", "slow:0.05")
        physician, waves = Physician(at.server.port), []
        await physician.begin()
        counts = Counter[str]()
        connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        for wave in ("connecting", "connected"):
            await asyncio.sleep(0.5)
            began = time.monotonic()
            asked = [_flooding(at.server.port, connections[n] if connections else None) for n in range(clients)]
            ends = await asyncio.gather(*asked)
            connections = [end[1] for end in ends if end[1] is not None]
            counts.update(end[0] for end in ends)
            waves.append((wave, began, time.monotonic()))
            if len(connections) < clients:
                break  # the table then shows the second wave as missing
        looks = await physician.end()
        for _, writer in connections:
            writer.close()
    figures = {
        "flood_clients": float(clients),
        "flood_answered": counts["200"],
        "flood_refused_with_retry_after": counts["429"],
        "flood_other_outcomes": sum(counts.values()) - counts["200"] - counts["429"],
        "flood_health_calm_ms_p99": percentile([took * 1e3 for at, _, took in looks if at < waves[0][1]], 99),
    }
    for wave, began, ended in waves:
        figures[f"flood_{wave}_seconds"] = ended - began
        for how in ("kept", "new"):
            took = [took * 1e3 for at, by, took in looks if by == how and at <= ended and at + took >= began]
            figures[f"flood_{wave}_health_{how}_ms_max"] = max(took)
            figures[f"flood_{wave}_health_{how}_ms_p50"] = percentile(took, 50)
    return figures


Open = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _flooding(port: int, kept: Open | None) -> tuple[str, Open | None]:
    """One client's request; its status ("429" only with a Retry-After), and the connection for the next one."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = kept or await asyncio.open_connection("127.0.0.1", port)
            writer.write(_request(CHAT))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            await reader.readexactly(int(fields["content-length"]))
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        return type(error).__name__, None
    status = head[9:12]
    truthful = status != "429" or int(fields.get("retry-after", "0")) >= 1
    return status if truthful else "429 without Retry-After", (reader, writer)


PLACES, BACK_SECONDS = 20, 0.1


async def overload(folder: Path, seconds: float) -> dict[str, float]:
    """As many clients as there are places ask without a pause, then ten times as many, who come back after 0.1 s."""
    limits = {"max_concurrent": PLACES, "max_waiting": PLACES, "queue_seconds": 10}
    async with stand(folder, {"good": ["m1"]}, limits=limits) as at:
        at.up.always("good", "slow:0.05")
        physician = Physician(at.server.port)
        await physician.begin()
        calm = await _kept_asking(at, PLACES, seconds)
        began = time.monotonic()
        crowded = await _kept_asking(at, 10 * PLACES, seconds)
        looks = [took * 1e3 for when, _, took in await physician.end() if when >= began]
    return {
        "overload_clients": 10 * PLACES,
        "overload_answered_per_second": crowded["200"] / seconds,
        "overload_goodput_share": crowded["200"] / calm["200"],
        "overload_refused_with_retry_after": crowded["429"],
        "overload_other_outcomes": (calm + crowded).total() - calm["200"] - crowded["200"] - crowded["429"],
        "overload_health_ms_max": max(looks),
        "overload_health_ms_p99": percentile(looks, 99),
    }


async def _kept_asking(at: Stand, clients: int, seconds: float) -> Counter[str]:
    """How the requests of so many clients ended, each asking over one connection until the time is over."""
    ends, until = Counter[str](), time.monotonic() + seconds

    async def client() -> None:
        kept = None
        while time.monotonic() < until:
            status, kept = await _flooding(at.server.port, kept)
            ends[status] += 1
            if status != "200":
                await asyncio.sleep(BACK_SECONDS)
        if kept is not None:
            kept[1].close()

    await asyncio.gather(*[client() for _ in range(clients)])
    return ends


# Reloads


async def reloads(folder: Path, times: int) -> dict[str, float]:
    """Reload so often while eight clients ask without a pause, plain and streamed."""
    models = {"good": ["m0", "m1"]}
    async with stand(folder, models, aliases={"same": "good/m0"}) as at:
        stop, counts = asyncio.Event(), Counter[str]()
        clients = [asyncio.create_task(_asking(at, stop, counts)) for _ in range(8)]
        for number in range(2, 22):  # what only the first ones allocate is not a leak
            await _reload(at, number)
        before, files, began = at.server.rss(), at.files(), time.perf_counter()
        for number in range(22, 22 + times):
            await _reload(at, number)
        seconds = time.perf_counter() - began
        stop.set()
        await asyncio.gather(*clients)
        await asyncio.sleep(0.5)  # the last generation retires
        return {
            "reloads": times,
            "reloads_ms_each": seconds / times * 1e3,
            "reloads_requests": counts.total(),
            "reloads_torn_requests": counts["torn"],
            "reloads_memory_before_mb": before / 1e6,
            "reloads_memory_after_mb": at.server.rss() / 1e6,
            "reloads_memory_kb_each": (at.server.rss() - before) / times / 1e3,
            "reloads_files_more": at.files() - files,
        }


async def _asking(at: Stand, stop: asyncio.Event, counts: Counter[str]) -> None:
    for streaming in cycle((False, True)):
        if stop.is_set():
            return
        try:
            status, headers, body = await at.chat(model="same", stream=streaming)
            right = status == 200 and body == at.up.expected("good", headers["X-Router-Model"], streaming)
        except (aiohttp.ClientError, OSError, TimeoutError):
            right = False
        counts["right" if right else "torn"] += 1


async def _reload(at: Stand, generation: int) -> None:
    """Another model behind the alias, so that a request of two generations would show."""
    path = at.folder / "bench.yaml"
    config = yaml.safe_load(path.read_text())
    config["aliases"] = {"same": f"good/m{generation % 2}"}
    path.with_suffix(".new").write_text(yaml.safe_dump(config, sort_keys=False))
    path.with_suffix(".new").replace(path)
    async with at.client.post(at.url("/v1/router/reload"), json={}) as response:
        told = await response.json()
        if told.get("generation") != generation:
            raise RuntimeError(f"a reload went wrong: {told}")


# The end


async def termination(folder: Path, streams: int) -> dict[str, float]:
    """SIGTERM while so many streams are under way, each of about two seconds."""
    async with stand(folder, {"good": ["m1"]}) as at:
        at.up.text("good", " ".join(f"w{number}" for number in range(40)))
        at.up.pace("good", 0.05)
        begun: asyncio.Queue[None] = asyncio.Queue()

        async def streamed() -> bytes:
            async with at.client.post(at.url(), json=CHAT | {"stream": True}) as response:
                data = await response.content.readany()
                begun.put_nowait(None)
                return data + await response.read()

        tasks = [asyncio.create_task(streamed()) for _ in range(streams)]
        for _ in tasks:
            await begun.get()
        process = at.server.process
        if process is None:
            raise RuntimeError("the server is not running")
        process.terminate()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        over = time.perf_counter()
        code = await asyncio.to_thread(process.wait, PATIENCE)
        whole = at.up.expected("good", "m1", stream=True)
        return {
            "sigterm_streams": streams,
            "sigterm_streams_complete": sum(answer == whole for answer in answers),
            "sigterm_exit_code": code,
            "sigterm_exit_after_last_stream_seconds": time.perf_counter() - over,
        }
