"""A host's own chat handler under our middleware: it forwards as before, and gets routing, fallback and privacy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from attrs import define, evolve, field

from routerpool import (
    ASSIGNMENT,
    ROUTER,
    Assignment,
    Caller,
    ChatRequest,
    Features,
    Privacy,
    Router,
    hookimpl,
    middleware,
)
from routerpool.testing import Witness
from routerpool.testing.registry import faults_of_class
from routerpool.testing.upstream import Upstream

from ..support.house import CHAT, JSON, Reply, events, router_over, running, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session", aiohttp.ClientSession)


ASIS: dict[str, Any] = {"allow_redirects": False}


async def client_of(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession() as session:
        app[SESSION] = session
        yield


async def forward(request: web.Request) -> web.StreamResponse:
    """A reverse proxy as people write them: the head goes out with the upstream's status, then chunk by chunk."""
    to: Assignment = request["routerpool"]
    async with request.app[SESSION].post(to.url, headers=to.headers, json=to.body, **ASIS) as upstream:
        response = web.StreamResponse(status=upstream.status)
        response.content_type = upstream.content_type
        response.headers["X-Host"] = "mine"
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def forward_whole(request: web.Request) -> web.StreamResponse:
    """The other kind: everything is read first."""
    to = request[ASSIGNMENT]
    async with request.app[SESSION].post(to.url, headers=to.headers, json=to.body, **ASIS) as upstream:
        return web.Response(status=upstream.status, body=await upstream.read(), content_type=upstream.content_type)


@define
class Host:
    up: Upstream
    router: Router
    port: int
    client: aiohttp.ClientSession
    witness: Witness
    seen: list[str] = field(factory=list)

    async def chat(self, headers: Any = None, path: str = "/v1/chat/completions", **changes: Any) -> Reply:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.client.post(url, json={**CHAT, **changes}, headers=headers) as response:
            return Reply(response.status, response.headers, await response.read())


@asynccontextmanager
async def host(
    names: str = "a b",
    handler: Any = forward,
    *,
    app: web.Application | None = None,
    prefix: str | None = None,
    caller: Any = None,
    **config: Any,
) -> AsyncIterator[Host]:
    async with Upstream() as up:
        witness = Witness()
        router = router_over(up, names, witness=witness, **config)
        app = app or web.Application()
        app.middlewares.append(middleware(app, router, prefix=prefix, caller=caller))
        app.cleanup_ctx.append(client_of)
        app.router.add_post("/v1/chat/completions", handler)
        async with running(app) as port, aiohttp.ClientSession() as client:
            yield Host(up, router, port, client, witness)
            for name in names.split():
                up.release(name)


SHORT = {"idle_seconds": 0.3, "first_event_seconds": 0.3, "answer_seconds": 0.5, "stream_seconds": 1.0}
THEIRS = ("kaclose", "kaidle", "bomb")
"""What is the host's own client's business: connections that it keeps, and what it inflates."""

KINDS = pytest.mark.parametrize("handler", [forward, forward_whole])
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@KINDS
@STREAMED
async def test_the_handlers_answer_reaches_the_client_byte_for_byte(handler: Any, stream: bool) -> None:
    async with host(handler=handler) as at:
        reply = await at.chat(stream=stream)

        assert (reply.status, reply.body) == (200, at.up.expected("a", "m1", stream))
        assert reply.headers["Content-Type"].startswith("text/event-stream" if stream else "application/json")
        assert reply.headers["X-Router-Provider"] == "a"
        assert (at.up.seen("a").chat, at.up.seen("b").chat) == (1, 0)
        (record,) = at.witness.records
        assert (record.outcome, record.usage.source) == ("answered", "reported")


def faults(letter: str, mode: str) -> list[str]:
    return [label for label, modes in faults_of_class(letter).items() if mode in modes and label not in THEIRS]


@KINDS
@pytest.mark.parametrize(
    ("fault", "stream"),
    [(fault, mode == "stream") for mode in ("plain", "stream") for fault in faults("R", mode)],
)
async def test_a_provider_that_fails_is_replaced_before_the_client_sees_a_byte(
    handler: Any, stream: bool, fault: str
) -> None:
    async with host(handler=handler, limits=SHORT) as at:
        at.up.always("a", fault)
        reply = await at.chat(stream=stream)

        assert (reply.status, reply.body) == (200, at.up.expected("b", "m1", stream))
        assert reply.headers["X-Router-Attempts"] == "2"
        assert reply.headers["X-Router-Tried"].startswith("a/m1:")
        assert at.witness.records[0].tried[-1] == "b/m1:answered"


@pytest.mark.parametrize("fault", faults("S", "stream"))
async def test_a_stream_that_breaks_ends_with_an_error_event(fault: str) -> None:
    async with host(limits=SHORT) as at:
        at.up.always("a", fault)
        reply = await at.chat(stream=True)

        assert reply.status == 200
        assert b"[DONE]" not in reply.body
        assert [*events(reply.body)][-1]["error"]["code"] == "upstream_interrupted"
        assert at.witness.records[0].outcome == "truncated"
        assert at.up.seen("b").chat == 0


async def test_when_all_fail_the_client_reads_why_in_openais_form() -> None:
    async with host() as at:
        at.up.always("a", "http:500")
        at.up.always("b", "http:429")
        reply = await at.chat()

        assert (reply.status, reply.error["code"]) == (503, "attempts_exhausted")
        assert [attempt["candidate"] for attempt in reply.error["attempts"]][:2] == ["a/m1", "b/m1"]


class Secret:
    @hookimpl
    def classify(self, request: ChatRequest, features: Features) -> Features | None:
        return features.raised(Privacy.SECRET) if "secret" in str(request.messages) else None


SAID = {"messages": [{"role": "user", "content": "a secret"}]}


async def test_a_secret_stays_local_whatever_the_handler_would_do() -> None:
    async with host("a b", plugins={"secret": Secret}, options={"b": {"local": True}}) as at:
        assert (await at.chat(**SAID)).body == at.up.expected("b", "m1")
        assert at.up.seen("a").chat == 0

    async with host("a", plugins={"secret": Secret}) as at:
        assert (await at.chat(**SAID)).error["code"] == "privacy_blocked"
        assert at.up.seen("a").chat == 0


class Marked:
    """Takes the word falcon out before it is sent, and puts it back into the answer."""

    @hookimpl
    def mutate(self, request: ChatRequest) -> ChatRequest:
        return evolve(request, messages=json.loads(json.dumps(request.messages).replace("falcon", "PLACE")))

    @hookimpl
    def rewrite(self) -> Marked:
        return self

    def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        yield {**event, "restored": True}

    def end(self) -> Iterable[dict[str, Any]]:
        return ()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "restored": True}


@STREAMED
async def test_what_plugins_take_out_never_leaves_and_is_put_back(stream: bool) -> None:
    async with host(plugins={"marked": Marked}) as at:
        reply = await at.chat(stream=stream, messages=[{"role": "user", "content": "falcon flies"}])

        assert b"falcon" not in at.up.seen("a").last.body
        assert b"PLACE flies" in at.up.seen("a").last.body
        told = [*events(reply.body)] if stream else [reply.json]
        assert all(part["restored"] for part in told)


async def test_the_hosts_own_refusal_is_its_own_word_and_no_providers_failure() -> None:
    async def strict(request: web.Request) -> web.StreamResponse:
        if "X-Pass" not in request.headers:
            raise web.HTTPUnauthorized(text="show your pass")
        return await forward(request)

    async with host(handler=strict) as at:
        refused = await at.chat()
        assert (refused.status, refused.body) == (401, b"show your pass")
        assert at.up.seen("a").chat == at.up.seen("b").chat == 0
        assert (await at.chat({"X-Pass": "1"})).status == 200
        assert [record.outcome for record in at.witness.records] == ["failed", "answered"]


async def test_the_hosts_headers_middlewares_and_limits_hold() -> None:
    seen = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        seen.append(len(await request.read()))  # a middleware that reads the body before us
        response: web.StreamResponse = await handler(request)
        seen.append(response.status)
        return response

    app = web.Application(middlewares=[note], client_max_size=8 << 10)
    async with host(app=app) as at:
        reply = await at.chat()
        assert reply.headers["X-Host"] == "mine"
        assert len(seen) == 2
        assert seen[1] == 200
        assert (await at.chat(user="x" * (16 << 10))).status == 413


async def test_other_paths_and_methods_are_none_of_its_business() -> None:
    async def own(request: web.Request) -> web.Response:
        return web.Response(text=str("routerpool" in request))

    app = web.Application()
    app.router.add_route("*", "/own", own)
    app.router.add_get("/v1/chat/completions", own)
    async with host(app=app) as at:
        for path in ("/own", "/v1/chat/completions"):
            async with at.client.get(f"http://127.0.0.1:{at.port}{path}") as response:
                assert await response.text() == "False"


async def test_a_body_that_is_none_is_refused_before_the_handler_runs() -> None:
    async with host() as at:
        url = f"http://127.0.0.1:{at.port}/v1/chat/completions"
        async with at.client.post(url, data=b"{nope", headers=JSON) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_json")
        assert at.up.seen("a").chat == 0


async def test_the_routers_own_routes_may_be_there_too() -> None:
    async with host(prefix="/router") as at:
        async with at.client.get(f"http://127.0.0.1:{at.port}/router/v1/router/status") as response:
            assert (await response.json())["candidates"] == 2
        assert (await at.chat(path="/router/v1/chat/completions")).status == 200
        async with at.client.get(f"http://127.0.0.1:{at.port}/v1/models") as response:
            assert response.status == 404


async def test_the_host_says_who_asks() -> None:
    def who(request: web.Request) -> Caller:
        return Caller(id=request.headers["X-User"], privacy=Privacy.SECRET)

    async with host(caller=who, options={"b": {"local": True}}) as at:
        assert (await at.chat({"X-User": "ann"})).headers["X-Router-Provider"] == "b"
        assert at.witness.records[0].caller == "ann"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_handler_and_its_upstream(stream: bool) -> None:
    async with host() as at:
        at.up.always("a", "stall" if stream else "hang")
        _, writer = await asyncio.open_connection("127.0.0.1", at.port)
        body = json.dumps({**CHAT, "stream": stream}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await at.up.wait_for("a", chat=1)
        writer.transport.abort()

        await at.up.wait_for("a", timeout=1.5, aborts=1, open=0)
        await until(lambda: len(at.witness.records) == 1)
        assert at.witness.records[0].outcome == "cancelled"
        assert at.up.seen("b").chat == 0


async def test_a_host_that_stops_in_the_middle_of_a_stream_ends_it_visibly_and_closes_everything() -> None:
    before = asyncio.all_tasks()
    async with Upstream() as up:
        witness = Witness()
        app = web.Application()
        app.middlewares.append(middleware(app, router_over(up, "a", witness=witness, server={"drain_seconds": 0.6})))
        app.cleanup_ctx.append(client_of)
        app.router.add_post("/v1/chat/completions", forward)
        up.always("a", "stall")
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/chat/completions"
            async with client.post(url, json={**CHAT, "stream": True}) as response:
                await response.content.readuntil(b"\n\n")
                await runner.cleanup()
                rest = await response.read()
        assert b"upstream_interrupted" in rest
        assert b"[DONE]" not in rest
        await up.wait_for("a", aborts=1, open=0)
        assert [record.outcome for record in witness.records] == ["truncated"]
        await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.parametrize("cancelling", [False, True], ids=["as it is", "handler_cancellation"])
async def test_a_runner_that_cancels_handlers_leaves_nothing_running(cancelling: bool) -> None:
    async with Upstream() as up:
        witness = Witness()
        app = web.Application()
        app.middlewares.append(middleware(app, router_over(up, "a b", witness=witness)))
        app.cleanup_ctx.append(client_of)
        app.router.add_post("/v1/chat/completions", forward)
        up.always("a", "hang")
        runner = web.AppRunner(app, access_log=None, handler_cancellation=cancelling, shutdown_timeout=2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            _, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
            body = json.dumps(CHAT).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await up.wait_for("a", chat=1)
            writer.transport.abort()
            await up.wait_for("a", timeout=1.5, aborts=1, open=0)
            await until(lambda: len(witness.records) == 1)
        finally:
            await runner.cleanup()
        assert up.seen("b").chat == 0


async def test_a_handler_that_breaks_is_a_failure_and_is_not_quoted() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        if request["routerpool"].candidate.provider == "a":
            raise KeyError("a key sk-canary-1 of the host's")
        return await forward(request)

    async with host(handler=broken) as at:
        reply = await at.chat()
        assert (reply.status, reply.headers["X-Router-Tried"]) == (200, "a/m1:server")
        at.up.always("b", "http:500")
        assert b"canary" not in (await at.chat()).body


async def test_a_handler_that_will_not_end_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool.server.guide.LEFT_SECONDS", 0.05)
    free = asyncio.Event()

    async def stubborn(request: web.Request) -> web.StreamResponse:
        if request["routerpool"].candidate.provider != "a":
            return await forward(request)
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        return web.Response(text="too late")

    async with host(handler=stubborn, limits=SHORT) as at:
        reply = await at.chat()
        assert (reply.status, reply.headers["X-Router-Tried"]) == (200, "a/m1:timeout")
        free.set()


async def test_nothing_is_left_after_the_host_has_stopped() -> None:
    before = asyncio.all_tasks()
    app = web.Application()
    async with host(app=app) as at:
        assert app[ROUTER] is at.router
        for stream in (False, True):
            await at.chat(stream=stream)
        session = at.router.session
    assert session.closed
    await until(lambda: asyncio.all_tasks() == before)


async def test_it_is_admitted_as_any_other_request() -> None:
    async with host("a", limits={"max_concurrent": 1, "max_waiting": 0}) as at:
        at.up.hold("a")
        first = asyncio.create_task(at.chat())
        await at.up.wait_for("a", chat=1)
        assert (await at.chat()).error["code"] == "request_queue_full"
        at.up.release("a")
        assert (await first).status == 200
