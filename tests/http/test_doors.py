"""What a door's sink owes its clients, whatever the door's own words are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from routerpool import CALLER, RequestError, Router, create_app, hookimpl, read_json, route
from routerpool.server import DoorSink
from routerpool.testing import Upstream

from ..support.house import CHAT, router_over, running


class Words(DoorSink):
    content_type = "text/plain"

    def body(self, answer: dict[str, Any]) -> Any:
        return {"said": answer["choices"][0]["message"]["content"]}

    def event(self, event: dict[str, Any]) -> bytes:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"]).encode()

    def end(self) -> bytes:
        return b"|end"

    def error(self, error: RequestError) -> bytes:
        return f"|{error.code}".encode()


class Door:
    def __init__(self) -> None:
        self.router: Router | None = None

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        self.router = router
        yield

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        return [route("POST", "/v1/words", self.answer, plane="user")]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert self.router is not None
        body = await read_json(request)
        asked = self.router.request(body, request[CALLER], request.headers.items())
        return await Words(request).serve(self.router, asked)


def asked(fault: str, **body: Any) -> tuple[int, str, bytes, aiohttp.typedefs.LooseHeaders]:
    """Status, content type, body and headers of what a client of the door gets."""

    async def whole() -> tuple[int, str, bytes, aiohttp.typedefs.LooseHeaders]:
        async with Upstream() as up:
            up.always("a", fault)
            app = create_app(router_over(up, plugins={"door": Door}))
            async with running(app) as port, aiohttp.ClientSession() as client:
                url, document = f"http://127.0.0.1:{port}/v1/words", {**CHAT, **body}
                async with client.post(url, json=document) as response:
                    return response.status, response.content_type, await response.read(), response.headers

    return asyncio.run(whole())


def test_a_plain_answer_is_json_in_the_doors_words() -> None:
    status, content_type, body, headers = asked("ok")
    assert (status, content_type) == (200, "application/json")
    assert body.startswith(b'{"said":')
    assert "X-Router-Provider" in headers


def test_a_stream_is_the_doors_pieces_and_its_end() -> None:
    status, content_type, body, _ = asked("ok", stream=True)
    assert (status, content_type) == (200, "text/plain")
    assert body.endswith(b"|end")
    assert b"data:" not in body


def test_a_stream_that_breaks_ends_with_the_doors_error_and_never_with_its_end() -> None:
    status, _, body, _ = asked("midrst", stream=True)
    assert status == 200
    assert b"|end" not in body
    assert body.rpartition(b"|")[2] == b"upstream_interrupted"


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_answered_is_our_error_object(stream: bool) -> None:
    status, content_type, body, _ = asked("http:500", stream=stream)
    assert status == 503
    assert content_type == "application/json"
    assert b'"error"' in body
