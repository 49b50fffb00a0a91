"""Paths that nobody serves: what a client is told, so that it finds the right one."""

from __future__ import annotations

import pytest
from aiohttp import web

from routerpool.server.app import setup
from routerpool.server.paths import meant

from ..support.house import CHAT, house

pytestmark = pytest.mark.anyio

KNOWN = {"/health", "/v1/chat/completions", "/v1/models", "/v1/router/status"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


WRONG = {
    "/chat/completions": "/v1/chat/completions",
    "//v1/chat/completions": "/v1/chat/completions",
    "/v1//chat/completions": "/v1/chat/completions",
    "/v1/v1/chat/completions": "/v1/chat/completions",
    "/v1/chat/completions/": "/v1/chat/completions",
    "/api/v1/chat/completions": "/v1/chat/completions",
    "/openai/deployments/gpt/chat/completions": "/v1/chat/completions",
    "/models": "/v1/models",
    "/v1/health": "/health",
    "/router/status": "/v1/router/status",
    "/v1/chat/completion": "/v1/chat/completions",
}


@pytest.mark.parametrize(("path", "right"), WRONG.items())
async def test_a_wrong_path_is_told_the_right_one(path: str, right: str) -> None:
    async with house() as at:
        for method in ("GET", "POST"):
            reply = await at.ask(method, path, {} if method == "POST" else None)
            assert (reply.status, reply.error["code"]) == (404, "not_found")
            assert right in reply.error["message"]


async def test_behind_a_base_path_the_right_one_has_it() -> None:
    async with house(server={"base_path": "/llm"}) as at:
        for path in ("/v1/chat/completions", "/llm/chat/completions", "/chat/completions"):
            message = (await at.ask("POST", path, CHAT)).error["message"]
            assert message.endswith("it is /llm/v1/chat/completions; a client's base URL ends in /llm/v1")


@pytest.mark.parametrize("path", ["/x" * 3000, "/" + "/" * 6000, "/%00/;x/'b'"])
async def test_what_is_nothing_is_told_shortly(path: str) -> None:
    async with house() as at:
        reply = await at.raw(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert reply.startswith(b"HTTP/1.0 404")
        assert len(reply) < 1000


def test_a_path_of_many_parts_is_not_looked_at() -> None:
    assert meant("/a" * 15 + "/v1/models", KNOWN) is None
    assert meant("/a" * 10 + "/v1/models", KNOWN) == "/v1/models"


async def test_nobody_asks_again_for_what_is_not_implemented() -> None:
    async with house() as at:
        reply = await at.ask("POST", "/v1/embeddings", {})
        assert (reply.status, reply.headers["x-should-retry"]) == (501, "false")
        assert "`routerpool plugins` says" in reply.error["message"]


async def test_other_methods_of_a_path_are_named() -> None:
    async with house() as at:
        reply = await at.ask("DELETE", "/v1/models")
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")


def test_where_we_are_mounted_other_paths_are_the_hosts() -> None:
    app = web.Application()
    setup(app, {"plugins": {}})
    assert not {"/{tail}", "/"} & {resource.canonical for resource in app.router.resources()}
    setup(app, {"plugins": {}}, prefix="/llm")
    assert not {"/{tail}", "/llm/{tail}"} & {resource.canonical for resource in app.router.resources()}
