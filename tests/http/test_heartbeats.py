"""Heartbeats: comments while a stream waits, and all that can follow once they have sent its head."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from routerpool import CALLER, Answer, ChatRequest, Plan, RequestError, Router, hookimpl, read_json, route
from routerpool.server import DoorSink

from ..support.house import CHAT, House, Reply, events, house, until

pytestmark = pytest.mark.anyio

BEATS = {"heartbeat_seconds": 0.01}
BEAT = b": waiting\n\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Words(DoorSink):
    """A dialect of event streams in which all is a named event."""

    def body(self, answer: dict[str, Any]) -> Any:
        return answer

    def event(self, event: dict[str, Any]) -> bytes:
        text = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        return f"event: word\ndata: {json.dumps(text)}\n\n".encode()

    def end(self) -> bytes:
        return b"event: end\ndata: {}\n\n"

    def error(self, error: RequestError) -> bytes:
        return f"event: broken\ndata: {json.dumps([error.code, error.message])}\n\n".encode()


class Lines(Words):
    """A dialect that knows no comments."""

    content_type = "application/x-ndjson"


class Door:
    def __init__(self) -> None:
        self.router: Router | None = None

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        self.router = router
        yield

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        return [
            route("POST", "/v1/words", self.words, plane="user"),
            route("POST", "/v1/lines", self.lines, plane="user"),
        ]

    async def words(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(Words(request), request)

    async def lines(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(Lines(request), request)

    async def answer(self, sink: DoorSink, request: web.Request) -> web.StreamResponse:
        assert self.router is not None
        asked = self.router.request(await read_json(request), request[CALLER], request.headers.items())
        return await sink.serve(self.router, asked)


def late(answer: Answer) -> tuple[dict[str, type], asyncio.Event]:
    """A plugin that gives this answer itself, once it may."""
    released = asyncio.Event()

    class Late:
        @hookimpl
        async def intercept(self, request: ChatRequest, plan: Plan) -> Answer:
            await released.wait()
            return answer

    return {"late": Late}, released


@asynccontextmanager
async def waiting(
    at: House, path: str = "/v1/chat/completions", **changes: Any
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream of which one heartbeat has come, and no event."""
    body = {**CHAT, "stream": True, **changes}
    async with asyncio.timeout(5), at.client.post(at.url(path), json=body) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert await response.content.readuntil(b"\n\n") == BEAT
        yield response


async def rest(response: aiohttp.ClientResponse) -> Reply:
    """What comes behind the first heartbeat, without the others."""
    body = await response.content.read()
    return Reply(response.status, response.headers, body.replace(BEAT, b""))


def told(body: bytes) -> dict[str, str]:
    """What the one comment of a stream tells."""
    (line,) = [line for line in body.split(b"\n") if line.startswith(b":")]
    found: dict[str, str] = json.loads(line[1:])
    return found


async def test_a_stream_that_waits_gets_comments_and_then_its_answer_and_who_gave_it() -> None:
    async with house(server=BEATS) as at:
        at.up.hold("a")
        async with waiting(at) as response:
            assert await response.content.readuntil(b"\n\n") == BEAT, "they go on"
            assert not {name for name in response.headers if name.startswith("X-Router")} - {"X-Router-Request-Id"}
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            at.up.release("a")
            reply = await rest(response)
        assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events(reply.body))
        assert reply.body.endswith(b"data: [DONE]\n\n")
        truth = told(reply.body)
        assert (truth["X-Router-Provider"], truth["X-Router-Model"], truth["X-Router-Attempts"]) == ("a", "m1", "1")
        assert truth["X-Router-Request-Id"] == reply.headers["X-Router-Request-Id"]


async def test_the_next_candidate_is_asked_behind_a_heartbeat() -> None:
    async with house("a b", server=BEATS) as at:
        at.up.hold("a")
        at.up.script("a", "http:500")
        async with waiting(at) as response:
            at.up.release("a")
            reply = await rest(response)
        assert reply.body.endswith(b"data: [DONE]\n\n")
        truth = told(reply.body)
        assert (truth["X-Router-Provider"], truth["X-Router-Attempts"]) == ("b", "2")
        assert truth["X-Router-Tried"] == "a/m1:server"
        assert len(await at.recorded()) == 1


async def test_a_failure_behind_a_heartbeat_is_an_error_event_that_tells_who_was_tried() -> None:
    async with house(server=BEATS) as at:
        at.up.hold("a")
        at.up.always("a", "http:500")
        async with waiting(at) as response:
            at.up.release("a")
            reply = await rest(response)
        assert b"[DONE]" not in reply.body
        (error,) = events(reply.body)
        assert error["error"]["code"] == "attempts_exhausted"
        truth = told(reply.body)
        assert truth["X-Router-Tried"].startswith("a/m1:server")
        assert truth["X-Router-Request-Id"] == reply.headers["X-Router-Request-Id"]


async def test_a_providers_refusal_behind_a_heartbeat_is_told_in_its_words() -> None:
    async with house(server=BEATS) as at:
        at.up.hold("a")
        at.up.always("a", "http:400")
        async with waiting(at) as response:
            at.up.release("a")
            reply = await rest(response)
        plain = await at.chat(stream=False)
        assert plain.status == 400
        assert list(events(reply.body)) == [plain.json]
        assert told(reply.body)["X-Router-Provider"] == "a"


@pytest.mark.parametrize("body", [b"no JSON", b"[1]", b'{"detail": "no"}'])
async def test_a_refusal_that_is_no_error_object_is_made_one(body: bytes) -> None:
    plugins, released = late(Answer(status=403, content_type="text/plain", body=body))
    async with house(server=BEATS, plugins=plugins) as at:
        async with waiting(at) as response:
            released.set()
            reply = await rest(response)
        (event,) = events(reply.body)
        assert isinstance(event["error"]["message"], str)


async def test_a_plugins_own_answer_behind_a_heartbeat_comes_as_chunks() -> None:
    message = {"role": "assistant", "content": "kept"}
    document = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    for body, good in ((json.dumps(document).encode(), True), (b'"odd"', False)):
        plugins, released = late(Answer(status=200, content_type="application/json", body=body))
        async with house(server=BEATS, plugins=plugins) as at:
            async with waiting(at) as response:
                released.set()
                reply = await rest(response)
            assert reply.body.endswith(b"data: [DONE]\n\n") is good
            assert (b"kept" in reply.body) is good
            assert (b"internal_error" in reply.body) is not good
            assert at.up.seen("a").chat == 0


async def test_the_end_of_the_server_is_told_behind_a_heartbeat() -> None:
    async with house(server=BEATS) as at:
        at.up.hold("a")
        async with waiting(at) as response:
            at.router.break_off()
            reply = await rest(response)
        (error,) = events(reply.body)
        assert error["error"]["code"] == "shutting_down"
        assert told(reply.body)["Retry-After"] == "1"


async def test_a_door_tells_all_of_it_in_its_own_words() -> None:
    async with house("a", server=BEATS, plugins={"door": Door}) as at:
        at.up.script("a", "ok", "http:400", *["http:500"] * 6)
        for last, wanted in (
            (b"event: end", b""),
            (b"event: broken", b"invalid_request"),
            (b"event: broken", b"exhaust"),
        ):
            at.up.hold("a")
            async with waiting(at, "/v1/words") as response:
                at.up.release("a")
                reply = await rest(response)
            assert b"\n\n" + last in b"\n\n" + reply.body
            assert reply.body.count(b"event: end") + reply.body.count(b"event: broken") == 1
            assert wanted in reply.body
            assert told(reply.body)["X-Router-Attempts"]


async def test_nothing_beats_where_nobody_waits_for_a_stream_of_events() -> None:
    async with house(server=BEATS, plugins={"door": Door}) as at:
        for path, stream in (("/v1/chat/completions", False), ("/v1/lines", True)):
            at.up.hold("a")
            asked = asyncio.ensure_future(at.ask("POST", path, {**CHAT, "stream": stream}))
            await at.up.wait_for("a", chat=at.up.seen("a").completed + 1)
            done, _ = await asyncio.wait((asked,), timeout=0.05)  # some heartbeats long
            assert not done
            at.up.release("a")
            reply = await asked
            assert b": " + b"waiting" not in reply.body
            assert "X-Router-Provider" in reply.headers


async def test_without_a_heartbeat_a_failure_keeps_its_status() -> None:
    async with house() as at:
        at.up.always("a", "http:500")
        assert (await at.chat(stream=True)).status == 503


async def test_a_stream_that_begins_in_time_is_told_in_headers_alone() -> None:
    async with house(server={"heartbeat_seconds": 60}) as at:
        reply = await at.chat(stream=True)
        assert reply.headers["X-Router-Provider"] == "a"
        assert reply.body == at.up.expected("a", "m1", stream=True)
        at.up.always("a", "http:500")
        assert (await at.chat(stream=True)).status == 503


async def test_what_is_kept_from_clients_is_in_no_comment() -> None:
    async with house(server=BEATS, transparency="none") as at:
        at.up.hold("a")
        async with waiting(at) as response:
            at.up.release("a")
            reply = await rest(response)
        assert told(reply.body).keys() == {"X-Router-Request-Id"}


async def test_who_leaves_behind_a_heartbeat_ends_the_request_and_leaves_nothing() -> None:
    async with house(server=BEATS) as at:
        at.up.hold("a")
        async with waiting(at) as response:
            response.close()
        await at.up.wait_for("a", aborts=1)
        await at.recorded()
        await until(lambda: not [task for task in asyncio.all_tasks() if "Heartbeat" in repr(task)])


async def test_nothing_beats_any_more_once_the_answer_has_begun() -> None:
    async with house(server=BEATS) as at:
        at.up.hold("a")
        at.up.script("a", "paced:0.05")
        async with waiting(at) as response:
            at.up.release("a")
            body = await response.content.read()
        assert BEAT not in body[body.index(b"data: ") :]
        assert body.endswith(b"data: [DONE]\n\n")
