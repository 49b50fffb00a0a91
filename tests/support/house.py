"""A server in a test: real sockets, aiohttp's own runner with its own settings, a scriptable provider behind it."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from attrs import define, field, frozen

from routerpool import OpenAIProvider, Router, UsageRecord
from routerpool.server.app import Server
from routerpool.testing import Witness, make_router
from routerpool.testing.upstream import Upstream

CHAT: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
JSON = {"Content-Type": "application/json"}


@frozen
class Reply:
    """A whole answer to a client."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object; the answer must be one."""
        (name,) = self.json
        assert name == "error"
        found: dict[str, Any] = self.json["error"]
        return found


@define
class House:
    up: Upstream
    router: Router
    app: web.Application
    port: int
    client: aiohttp.ClientSession
    witness: Witness
    server: Server | None = None
    held: list[asyncio.Task[Any]] = field(factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Reply:
        """One request; a body that is no bytes is sent as JSON."""
        if body is not None:
            headers = {**JSON, **(headers or {})}
            more["data"] = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        async with self.client.request(method, self.url(path), headers=headers, **more) as response:
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return await self.ask("GET", path, headers=headers)

    async def chat(self, body: Mapping[str, Any] | None = None, /, headers: Any = None, **changes: Any) -> Reply:
        """A chat request; `changes` replace fields of its body."""
        return await self.ask("POST", "/v1/chat/completions", {**CHAT, **(body or {}), **changes}, headers)

    async def explain(self, **changes: Any) -> Any:
        return (await self.ask("POST", "/v1/router/explain", {**CHAT, **changes})).json

    async def raw(self, data: bytes, wait: float = 5.0) -> bytes:
        """What comes back for these bytes until the server closes the connection, or `wait` seconds have passed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = b""
        try:
            writer.write(data)
            async with asyncio.timeout(wait):
                while part := await reader.read(65536):
                    answer += part
        except (TimeoutError, ConnectionError):
            pass  # what came until then is the answer
        finally:
            writer.transport.abort()
        return answer

    async def open(self, **changes: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which a chat request has been sent; nothing is read yet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        body = json.dumps({**CHAT, **changes}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return reader, writer

    async def recorded(self, count: int = 1) -> list[UsageRecord]:
        """The records, as soon as there are so many of them."""
        await until(lambda: len(self.witness.records) >= count)
        return self.witness.records


async def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something is so that tells nobody when it is."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[int]:
    """An application on a free port of 127.0.0.1, as `web.run_app` would run it."""
    runner = web.AppRunner(
        app, access_log=None, lingering_time=0.2, shutdown_timeout=2
    )  # a test ends soon, even a bad one
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def router_over(
    up: Upstream,
    names: str = "a",
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Mapping[str, type] | None = None,
    env: Mapping[str, str] | None = None,
    witness: Witness | None = None,
    **config: Any,
) -> Router:
    """A router over providers of this upstream; `options` are theirs by name, `config` is the rest of the file."""
    entries: dict[str, Any] = {name: {} for name in plugins or {}}
    for name in names.split():
        own = {"use": "p", "base_url": up.base_url(name), "models": ["m1"]}
        entries[name] = own | dict((options or {}).get(name, {}))
    known = {"p": OpenAIProvider, **(plugins or {})}
    return make_router({"plugins": entries, **config}, plugins=known, env=env, witness=witness)


@asynccontextmanager
async def house(names: str = "a", **config: Any) -> AsyncIterator[House]:
    """A server over these providers; the keywords are those of `router_over`."""
    async with Upstream() as up:
        witness = Witness()
        router = router_over(up, names, witness=witness, **config)
        app, server = web.Application(), Server(router)
        server.attach(app, router.config.server.base_path.rstrip("/"), root=True, whole=True)
        async with running(app) as port, aiohttp.ClientSession() as client:
            at = House(up, router, app, port, client, witness, server)
            try:
                yield at
            finally:
                for name in names.split():
                    up.release(name)
                for task in at.held:
                    task.cancel()
                await asyncio.gather(*at.held, return_exceptions=True)


def shared(*parts: str) -> Path:
    """A file of the shared test data; without it the test is skipped, and says where it is looked for."""
    folder = Path(os.environ.get("ROUTERPOOL_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
    path = folder.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"the shared test data is not here: {path} (ROUTERPOOL_SHARED_DATA names its folder)")
    return path


def events(body: bytes) -> Iterable[Any]:
    """The JSON events of a stream."""
    for block in body.split(b"\n\n"):
        if block.startswith(b"data: ") and block != b"data: [DONE]":
            yield json.loads(block[6:])


async def occupy(at: House) -> None:
    """Take one place, and hold it until the end."""
    at.up.hold("a")
    at.held.append(asyncio.create_task(at.chat()))
    await at.up.wait_for("a", chat=1)
