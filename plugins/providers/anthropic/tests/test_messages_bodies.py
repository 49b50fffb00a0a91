"""A Messages answer over real sockets: whatever its type says, however it ends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from routerpool_anthropic import Anthropic
from routerpool_anthropic.answer import Translation

from routerpool import RequestError, Router
from routerpool.testing import make_router
from routerpool.wire import EVENT_VALUES

pytestmark = pytest.mark.anyio

ASKED: dict[str, Any] = {"model": "a/m1", "messages": [{"role": "user", "content": "Hello"}]}
USAGE = {"input_tokens": 5, "output_tokens": 2}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def text(said: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}}


START = {"type": "message_start", "message": {"id": "m1", "model": "m1", "usage": {"input_tokens": 5}}}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
WHY = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
SAID, END = sse(START, BLOCK, text("hel"), text("lo")), sse({"type": "message_stop"})
WHOLE = {
    "type": "message",
    "id": "m1",
    "model": "m1",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": USAGE,
}


@asynccontextmanager
async def saying(body: bytes, type_: str | None, *, then: str = "close") -> AsyncIterator[Router]:
    """A router before one provider, which says this and then closes the connection, aborts it or waits."""
    writers = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has gone
            length = re.search(rb"(?i)content-length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(length[1]) if length else 0)
            kind = f"Content-Type: {type_}\r\n".encode() if type_ else b""
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + kind
            writer.write(head + b"\r\n%x\r\n%b\r\n" % (len(body), body) + (b"0\r\n\r\n" if then == "close" else b""))
            await writer.drain()
            if then == "wait":
                await reader.read()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    entry = {"use": "anthropic", "base_url": base, "models": ["m1"]}
    config = {"plugins": {"a": entry}, "limits": {"idle_seconds": 0.3}}
    try:
        async with make_router(config, plugins={"anthropic": Anthropic}, env={"ANTHROPIC_API_KEY": "k"}) as router:
            yield router
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


async def streamed(router: Router) -> tuple[str, list[str], list[Any]]:
    """The text, the finish reasons and the usages of a stream."""
    asked = {**ASKED, "stream_options": {"include_usage": True}}
    events = [event async for event in router.stream(asked)]
    choices = [choice for event in events for choice in event["choices"]]
    usages = [event["usage"]["completion_tokens"] for event in events if event.get("usage")]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices), reasons, usages


@pytest.mark.parametrize("type_", ["application/json", "text/html", "text/event-stream", None])
@pytest.mark.parametrize("body", [SAID + sse(WHY) + END, json.dumps(WHOLE).encode()], ids=["stream", "whole"])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b": wait\n\n"])
async def test_an_answer_is_what_its_bytes_are(type_: str | None, body: bytes, before: bytes) -> None:
    async with saying(before + body, type_) as router:
        assert await streamed(router) == ("hello", ["stop"], [2])
        answer = await router.chat(ASKED)

    assert answer["choices"][0]["message"]["content"] == "hello"
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("stop", 2)


@pytest.mark.parametrize("then", ["close", "abort", "wait"])
@pytest.mark.parametrize("end", [b"", END, b"event: message_st"])
async def test_a_message_that_says_why_it_ended_has_ended_and_tells_its_usage(then: str, end: bytes) -> None:
    async with saying(SAID + sse(WHY) + end, "text/event-stream", then=then) as router:
        assert await streamed(router) == ("hello", ["stop"], [2])


async def test_the_end_of_a_message_is_an_end_whatever_the_connection_does() -> None:
    async with saying(SAID + END, "text/event-stream", then="wait") as router:
        assert (await streamed(router))[0] == "hello"


@pytest.mark.parametrize("then", ["close", "abort", "wait"])
async def test_a_message_without_its_end_is_broken(then: str) -> None:
    async with saying(SAID, "text/event-stream", then=then) as router:
        with pytest.raises(RequestError, match=r"broke off|failed"):
            await streamed(router)


async def test_half_an_emoji_and_an_event_without_data_do_no_harm() -> None:
    halves = sse(text("\ud83d")) + b"data:\n\n" + sse(text("\ude00"))
    async with saying(SAID + halves + sse(WHY) + END, "text/event-stream") as router:
        assert (await streamed(router))[0] == "hello\ud83d\ude00"


async def test_an_event_may_be_as_long_as_a_plain_answer() -> None:
    async with saying(SAID + sse(text("x" * (5 << 20)), WHY) + END, "text/event-stream") as router:
        assert len((await streamed(router))[0]) == 5 + (5 << 20)


def test_an_event_of_more_values_than_a_streams_may_hold_is_left_to_the_streams_reader() -> None:
    event = sse({**text("x"), "more": [0] * EVENT_VALUES})
    assert Translation().event(event) == event
