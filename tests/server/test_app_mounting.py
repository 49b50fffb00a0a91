"""A router in somebody else's aiohttp application: beside its routes, under its middlewares, and gone with it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from routerpool import ROUTER, ConfigError, create_app, middleware, setup
from routerpool.testing import Witness
from routerpool.testing.upstream import Upstream

from ..support.house import CHAT, JSON, router_over, running, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="the host's own")


@asynccontextmanager
async def hosted(app: web.Application) -> AsyncIterator[Any]:
    """The running application as a function that asks it: method, path, body and headers in, status and body out."""
    async with running(app) as port, aiohttp.ClientSession() as client:

        async def ask(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
            data = None if body is None else json.dumps(body).encode()
            url = f"http://127.0.0.1:{port}{path}"
            async with client.request(method, url, data=data, headers={**JSON, **headers}) as response:
                return response.status, await response.read()

        yield ask


@pytest.mark.parametrize("prefix", ["/llm", "/a/b", ""])
async def test_it_is_served_beside_the_hosts_routes_and_under_its_middlewares(prefix: str) -> None:
    seen: list[str] = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        seen.append(request.path)
        response: web.StreamResponse = await handler(request)
        return response

    async with Upstream() as up:
        app = web.Application(middlewares=[note])
        app.router.add_get("/", hello)
        app.router.add_get("/v1/own", hello)
        router = setup(app, router_over(up), prefix=prefix)
        app.router.add_post("/v1/later", hello)
        assert app[ROUTER] is router
        async with hosted(app) as ask:
            assert await ask("GET", "/") == (200, b"the host's own")
            assert await ask("GET", "/v1/own") == (200, b"the host's own")
            assert await ask("POST", "/v1/later", {}) == (200, b"the host's own")
            for stream in (False, True):
                answer = await ask("POST", f"{prefix}/v1/chat/completions", {**CHAT, "stream": stream})
                assert answer == (200, up.expected("a", "m1", stream))
            assert (await ask("GET", f"{prefix}/health"))[0] == 200
            assert (await ask("GET", f"{prefix}/v1/models/a/m1"))[0] == 200
            assert (await ask("POST", f"{prefix}/v1/embeddings", {}))[0] == 501
            if prefix:
                assert b"routerpool" in (await ask("GET", f"{prefix}/"))[1]
                assert b"routerpool" in (await ask("GET", prefix))[1]
                assert (await ask("POST", "/v1/chat/completions", CHAT))[0] == 404
    assert f"{prefix}/v1/chat/completions" in seen


@pytest.mark.parametrize("prefix", ["llm", "/llm/", "/", "//"])
def test_a_prefix_that_would_be_found_nowhere_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="must begin with a slash"):
        setup(web.Application(), {"store": "sqlite://", "plugins": {}}, prefix=prefix)


async def test_an_application_of_ours_may_be_a_part_of_another_one() -> None:
    async with Upstream() as up:
        app = web.Application()
        app.add_subapp("/llm", create_app(router_over(up)))
        async with hosted(app) as ask:
            assert await ask("POST", "/llm/v1/chat/completions", CHAT) == (200, up.expected("a", "m1"))
            assert (await ask("GET", "/llm/v1/models"))[0] == 200


async def test_a_base_path_moves_every_route() -> None:
    async with Upstream() as up, hosted(create_app(router_over(up, server={"base_path": "/x/y"}))) as ask:
        assert (await ask("POST", "/x/y/v1/chat/completions", CHAT))[0] == 200
        assert (await ask("GET", "/x/y/health"))[0] == (await ask("GET", "/x/y"))[0] == 200
        for path in ("/v1/models", "/health", "/"):
            assert (await ask("GET", path))[0] == 404


async def test_the_configuration_may_be_a_file_or_a_mapping_in_its_form(tmp_path: Path) -> None:
    async with Upstream() as up:
        entry = {"use": "openai_compatible", "base_url": up.base_url("a"), "models": ["m1"]}
        tree = {"store": "sqlite://", "plugins": {"a": entry}}
        file = tmp_path / "routerpool.yaml"
        file.write_text(json.dumps(tree), encoding="utf-8")
        for source in (file, str(file), tree):
            app = web.Application()
            setup(app, source, prefix="/llm")
            async with hosted(app) as ask:
                assert await ask("POST", "/llm/v1/chat/completions", CHAT) == (200, up.expected("a", "m1"))


def test_a_wrong_configuration_is_told_before_anything_is_mounted() -> None:
    app = web.Application()
    with pytest.raises(ConfigError, match=r"plugins\.nope"):
        setup(app, {"store": "sqlite://", "plugins": {"nope": {}}, "limits": {"max_attempts": 0}}, prefix="/llm")
    assert not list(app.router.routes())
    assert not app.cleanup_ctx


async def test_a_body_may_be_larger_than_the_host_allows_for_its_own_routes() -> None:
    async with Upstream() as up:
        app = web.Application(client_max_size=64 << 10)
        setup(app, router_over(up, limits={"request_bytes": "300KiB"}), prefix="/llm")

        async def own(request: web.Request) -> web.Response:
            return web.json_response(len(await request.read()))

        app.router.add_post("/own", own)
        async with hosted(app) as ask:
            large = {**CHAT, "user": "x" * (200 << 10)}
            assert (await ask("POST", "/llm/v1/chat/completions", large))[0] == 200
            assert len(up.seen("a").last.body) > 200 << 10
            assert (await ask("POST", "/own", large))[0] == 413
            status, body = await ask("POST", "/llm/v1/chat/completions", {**CHAT, "user": "x" * (300 << 10)})
            assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")


async def test_a_middleware_of_the_hosts_may_have_read_the_body() -> None:
    @web.middleware
    async def audit(request: web.Request, handler: Any) -> web.StreamResponse:
        assert await request.json() == CHAT
        response: web.StreamResponse = await handler(request)
        return response

    async with Upstream() as up:
        app = web.Application(middlewares=[audit])
        setup(app, router_over(up), prefix="/llm")
        async with hosted(app) as ask:
            assert await ask("POST", "/llm/v1/chat/completions", CHAT) == (200, up.expected("a", "m1"))


async def test_two_routers_live_in_one_application_without_knowing_of_each_other() -> None:
    async with Upstream() as up:
        app = web.Application()
        one = setup(app, router_over(up, "a"), prefix="/one")
        two = setup(app, router_over(up, "b", server={"api_keys": ["${KEY}"]}, env={"KEY": "rp-two"}), prefix="/two")
        assert app[ROUTER] is one
        async with hosted(app) as ask:
            assert one.session is not two.session
            assert await ask("POST", "/one/v1/chat/completions", CHAT) == (200, up.expected("a", "m1"))
            assert (await ask("POST", "/two/v1/chat/completions", CHAT))[0] == 401
            answer = await ask("POST", "/two/v1/chat/completions", CHAT, Authorization="Bearer rp-two")
            assert answer == (200, up.expected("b", "m1"))
            assert (await ask("PUT", "/one/v1/router/plugins/a", {"enabled": False}))[0] == 200
            assert (await ask("POST", "/one/v1/chat/completions", CHAT))[0] == 503
            assert (await ask("POST", "/two/v1/chat/completions", CHAT, Authorization="Bearer rp-two"))[0] == 200


async def test_two_applications_live_in_one_process() -> None:
    async with Upstream() as up:
        first, second = create_app(router_over(up, "a")), create_app(router_over(up, "b"))
        async with hosted(first) as ask_first:
            async with hosted(second) as ask_second:
                for ask, name in ((ask_first, "a"), (ask_second, "b")):
                    assert await ask("POST", "/v1/chat/completions", CHAT) == (200, up.expected(name, "m1"))
            assert (await ask_first("POST", "/v1/chat/completions", CHAT))[0] == 200, "one outlives the other"


async def test_nothing_is_left_behind() -> None:
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    collector, handlers = (gc.get_threshold(), gc.get_freeze_count()), list(logging.getLogger().handlers)
    async with Upstream() as up:
        before = asyncio.all_tasks()
        witness = Witness()
        app = web.Application()
        router = setup(app, router_over(up, "a b", witness=witness), prefix="/llm")
        async with running(app) as port, aiohttp.ClientSession() as client:
            session = router.session
            url = f"http://127.0.0.1:{port}/llm/v1/chat/completions"
            for stream in (False, True):
                async with client.post(url, json={**CHAT, "stream": stream}) as response:
                    await response.read()
            up.always("a", "stall")
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            body = json.dumps({**CHAT, "stream": True}).encode()
            head = "POST /llm/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await up.wait_for("a", chat=3)
            writer.transport.abort()
        await up.wait_for("a", aborts=1, open=0)
        assert session.closed
        await until(lambda: asyncio.all_tasks() == before)
        assert len(witness.records) == 3
        with pytest.raises(RuntimeError, match="not started"):
            _ = router.session
    gc.collect()  # a session or transport that was forgotten would warn now, and a warning is an error here
    assert signals == {number: signal.getsignal(number) for number in signals}
    assert (gc.get_threshold(), gc.get_freeze_count()) == collector
    assert logging.getLogger().handlers == handlers


def held() -> dict[str, Any]:
    """What a process holds that outlives a router which forgets to give it back."""
    gc.collect()
    return {
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a count of names
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)],
        "log handlers": len(logging.getLogger().handlers),
        "warnings": len(warnings.filters),
        "path": list(sys.path),
    }


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
async def test_nothing_is_left_after_a_hundred_mounts_and_shutdowns(tmp_path: Path) -> None:
    async with Upstream() as up:

        async def round_trip(number: int) -> None:
            app = web.Application()
            entry = {"use": "openai_compatible", "base_url": up.base_url("a"), "models": ["m1"]}
            plugins = {"secrets": {}, "policy": {}, "free_first": {}, "breaker": {}, "a": entry}
            tree = {"store": f"sqlite:///{tmp_path}/{number % 3}.db", "plugins": plugins}
            if number % 2:
                setup(app, tree, prefix="/llm")
            else:
                app.middlewares.append(middleware(app, tree, prefix="/llm"))
            async with hosted(app) as ask:
                for stream in (False, True):
                    answer = await ask("POST", "/llm/v1/chat/completions", {**CHAT, "stream": stream})
                    assert answer == (200, up.expected("a", "m1", stream))
                await ask("POST", "/llm/v1/router/decide", CHAT)

        for number in range(4):  # what is loaded once: modules, caches, the store's threads
            await round_trip(number)
        await up.wait_for("a", open=0)
        before = held()
        for number in range(100):
            await round_trip(number)
        await up.wait_for("a", open=0)
        await until(lambda: len(asyncio.all_tasks()) <= before["tasks"])

        after = held()
        counts = {name: count for name, count in before.items() if isinstance(count, int)}
        assert {name: after[name] for name in counts if after[name] > counts[name]} == {}, (
            "an older test may end its own"
        )
        assert after | counts == before


async def test_a_host_that_stops_while_an_answer_is_under_way_ends_it_and_closes_everything() -> None:
    async with Upstream() as up:
        before = asyncio.all_tasks()
        witness = Witness()
        app = web.Application()
        router = setup(app, router_over(up, witness=witness), prefix="/llm")
        up.always("a", "stall")
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = router.session
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/llm/v1/chat/completions"
            async with client.post(url, json={**CHAT, "stream": True}) as response:
                await response.content.readuntil(b"\n\n")
                await runner.cleanup()
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
        await up.wait_for("a", aborts=1, open=0)
        assert session.closed
        assert [record.outcome for record in witness.records] == ["cancelled"]
        await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.parametrize("cancelling", [False, True], ids=["as it is", "handler_cancellation"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_is_seen_whatever_the_hosts_runner_does(cancelling: bool, stream: bool) -> None:
    async with Upstream() as up:
        witness = Witness()
        app = web.Application()
        setup(app, router_over(up, "a b", witness=witness), prefix="/llm")
        up.always("a", "stall" if stream else "hang")
        runner = web.AppRunner(app, access_log=None, handler_cancellation=cancelling, shutdown_timeout=2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            _, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
            body = json.dumps({**CHAT, "stream": stream}).encode()
            head = "POST /llm/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await up.wait_for("a", chat=1)
            writer.transport.abort()
            await up.wait_for("a", timeout=1, aborts=1)
            await until(lambda: len(witness.records) == 1)
        finally:
            await runner.cleanup()
        assert [record.outcome for record in witness.records] == ["cancelled"]
        assert up.seen("b").chat == 0


async def test_a_middleware_of_the_hosts_that_fails_harms_the_host_only() -> None:
    @web.middleware
    async def refuse(request: web.Request, handler: Any) -> web.StreamResponse:
        response = await handler(request)
        if "X-Refuse" in request.headers:
            raise web.HTTPForbidden(text="not today")
        return response  # type: ignore[no-any-return]  # what a handler answers is untyped here

    async with Upstream() as up:
        witness = Witness()
        app = web.Application(middlewares=[refuse])
        router = setup(app, router_over(up, witness=witness), prefix="/llm")
        async with hosted(app) as ask:
            refused = await ask("POST", "/llm/v1/chat/completions", CHAT, **{"X-Refuse": "1"})
            assert refused == (403, b"not today")
            assert (await ask("POST", "/llm/v1/chat/completions", CHAT))[0] == 200
            assert router.admission.running == 0
        assert len(witness.records) == 2
