"""A server in a process of its own that is attacked over raw sockets, and what the attack costs it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from attrs import define

__all__ = ["MIB", "Attacked", "attacked", "head"]

MIB = 1 << 20


def head(*lines: str, path: str = "/v1/chat/completions", method: str = "POST") -> bytes:
    """The head of a request with these lines at its end."""
    known = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    return "\r\n".join([*known, *lines, "", ""]).encode()


@define
class Attacked:
    process: Process
    port: int

    def memory(self) -> int:
        """Bytes that it holds in memory now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """The processor time that it has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def status(self, data: bytes) -> int:
        """The status that answers these bytes."""
        reader, writer = await self.open()
        try:
            writer.write(data)
            return int((await reader.readline()).split()[1])
        finally:
            writer.transport.abort()

    async def health(self) -> float:
        """Milliseconds until a stranger knows that it is well."""
        began = perf_counter()
        assert await self.status(head(method="GET", path="/health")) == 200
        return (perf_counter() - began) * 1e3


@asynccontextmanager
async def attacked(
    folder: Path, *, descriptors: int | None = None, provider: str = "http://127.0.0.1:9", **config: Any
) -> AsyncIterator[Attacked]:
    """A server over one provider at this address, with so many descriptors at most."""
    entry: Mapping[str, Any] = {"use": "openai_compatible", "base_url": provider, "models": ["m1"]}
    file = folder / "routerpool.yaml"
    file.write_text(json.dumps({"store": "sqlite://", "plugins": {"a": entry}, **config}), encoding="utf-8")
    command = [sys.executable, "-m", "routerpool", "--config", str(file), "serve", "--port", "0"]
    env = {"HOME": str(folder), "PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}

    def fewer() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=env, stdout=PIPE, stderr=DEVNULL, preexec_fn=fewer
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            found = None
            while found is None:
                line = (await process.stdout.readline()).decode()
                assert line, "it did not start"
                found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        yield Attacked(process, int(found[1]))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
