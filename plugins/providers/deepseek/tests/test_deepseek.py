"""DeepSeek's own forms: waiting in a queue, thoughts that come back or do not, its cache, its errors."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from routerpool_deepseek import DeepSeek

from routerpool import FailureKind, Usage
from routerpool.testing import ProviderContract, Upstream, Witness, make_router
from routerpool.testing.answers import Answer

ENV = {"DEEPSEEK_API_KEY": "k"}
HELLO = [{"role": "user", "content": "Hello"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "forecast", "arguments": "{}"}}


class TestDeepSeek(ProviderContract):
    plugin = DeepSeek
    usages: ClassVar = (
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
                "completion_tokens_details": {"reasoning_tokens": 12},
            },
            Usage(input_uncached=36, input_cached=64, output=20, reasoning=12, source="reported"),
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "prompt_cache_hit_tokens": 0,
                "prompt_cache_miss_tokens": 100,
            },
            Usage(input_uncached=100, output=20, source="reported"),
        ),
    )
    forms = "forms.yaml"


def sent(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """What reaches DeepSeek of a conversation."""

    async def whole() -> dict[str, Any]:
        async with Upstream() as up:
            config = {"plugins": {"deepseek": {"base_url": up.base_url("deepseek")}}}
            async with make_router(config, plugins={"deepseek": DeepSeek}, env=ENV) as router:
                await router.chat({"model": "deepseek/deepseek-v4-pro", "messages": messages, **more})
            return up.seen("deepseek").last.json

    return asyncio.run(whole())


def test_thoughts_of_a_plain_turn_are_not_sent_back() -> None:
    said = {"role": "assistant", "content": "Hi.", "reasoning_content": "They greet."}
    messages = [{"role": "system", "content": "Be kind."}, *HELLO, said, {"role": "user", "content": "Again."}]
    body = sent(messages)
    assert body["messages"] == [*messages[:2], {"role": "assistant", "content": "Hi."}, messages[3]]
    assert said["reasoning_content"] == "They greet."


def test_thoughts_of_a_turn_with_a_tool_call_come_back_and_only_those() -> None:
    plain = [*HELLO, {"role": "assistant", "content": "Hi.", "reasoning_content": "They greet."}]
    asked = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "", "reasoning_content": "I look.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "dry"},
        {"role": "assistant", "content": "No.", "reasoning_content": "It is dry."},
    ]
    last = [{"role": "user", "content": "Thanks."}]
    body = sent([*plain, *asked, *last])
    assert body["messages"] == [HELLO[0], {"role": "assistant", "content": "Hi."}, *asked, *last]


def test_a_cap_is_sent_under_its_older_name() -> None:
    body = sent(HELLO, max_completion_tokens=9)
    assert (body["max_tokens"], "max_completion_tokens" in body) == (9, False)


# While a request waits in DeepSeek's queue

ANSWER = Answer("deepseek", "deepseek-v4-pro", "Hello from the queue.", None, None, None)
Play = Callable[[asyncio.StreamWriter], Any]


@asynccontextmanager
async def queue(play: Play, content_type: str) -> AsyncIterator[str]:
    """The address of a server that answers everything by `play`, until its client leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        await reader.readexactly(length)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n".encode())
        try:
            await play(writer)
        except ConnectionError:
            pass  # the router has had enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def ask(address: str, witness: Witness, **limits: float) -> tuple[str, float]:
    """The streamed text and how many seconds it took; the text so far where it broke."""
    config = {
        "plugins": {"deepseek": {"base_url": address, "discover": "off"}},
        "limits": {"max_attempts": 1, **limits},
    }
    text, started = "", time.perf_counter()
    async with make_router(config, plugins={"deepseek": DeepSeek}, env=ENV, witness=witness) as router:
        try:
            body = {"model": "deepseek/deepseek-v4-pro", "messages": HELLO}
            async for chunk in router.stream(body):
                text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
        except Exception:
            assert witness.failures
    return text, time.perf_counter() - started


def test_comments_before_the_answer_do_no_harm() -> None:
    async def play(writer: asyncio.StreamWriter) -> None:
        for _ in range(5):
            writer.write(b": keep-alive\n\n")
            await writer.drain()
        writer.write(b"".join(ANSWER.stream(include_usage=True)))
        await writer.drain()

    async def whole() -> None:
        witness = Witness()
        async with queue(play, "text/event-stream") as address:
            text, _ = await ask(address, witness)
        assert (text, witness.failures) == (ANSWER.text, [])
        assert witness.records[0].usage.source == "reported"

    asyncio.run(whole())


@pytest.mark.parametrize(("begun", "limit"), [(False, "first_event_seconds"), (True, "idle_seconds")])
def test_comments_do_not_keep_a_silent_stream_alive(begun: bool, limit: str) -> None:
    async def play(writer: asyncio.StreamWriter) -> None:
        if begun:
            writer.write(b"".join(ANSWER.stream(include_usage=True)[:3]))
        while True:
            writer.write(b": keep-alive\n\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def whole() -> None:
        witness = Witness()
        async with queue(play, "text/event-stream") as address:
            text, seconds = await ask(address, witness, **{limit: 0.3})
        assert 0.2 < seconds < 5
        assert bool(text) is begun
        [failure] = witness.failures
        assert failure.kind is (FailureKind.INTERRUPTED if begun else FailureKind.TIMEOUT)

    asyncio.run(whole())


def test_empty_lines_before_a_plain_answer_do_no_harm() -> None:
    async def play(writer: asyncio.StreamWriter) -> None:
        for _ in range(5):
            writer.write(b"\n")
            await writer.drain()
        writer.write(json.dumps(ANSWER.plain()).encode())
        await writer.drain()

    async def whole() -> None:
        async with queue(play, "application/json") as address:
            config = {"plugins": {"deepseek": {"base_url": address, "discover": "off"}}}
            async with make_router(config, plugins={"deepseek": DeepSeek}, env=ENV) as router:
                answer = await router.chat({"model": "deepseek/deepseek-v4-pro", "messages": HELLO})
        assert answer["choices"][0]["message"]["content"] == ANSWER.text

    asyncio.run(whole())


def test_empty_lines_do_not_keep_a_plain_answer_alive() -> None:
    async def whole() -> None:
        witness = Witness()
        async with Upstream() as up:
            up.always("deepseek", "commentstall")
            plugins = {"deepseek": {"base_url": up.base_url("deepseek")}}
            config = {"plugins": plugins, "limits": {"max_attempts": 1, "answer_seconds": 0.3}}
            async with make_router(config, plugins={"deepseek": DeepSeek}, env=ENV, witness=witness) as router:
                with pytest.raises(Exception, match="answer_seconds"):
                    await router.chat({"model": "deepseek/deepseek-v4-pro", "messages": HELLO})
        assert [failure.kind for failure in witness.failures] == [FailureKind.TIMEOUT]

    asyncio.run(whole())


def test_thoughts_reach_the_client_and_begin_an_answer() -> None:
    delta = {"choices": [{"index": 0, "delta": {"reasoning_content": "Let me see. "}, "finish_reason": None}]}

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(b"data: " + json.dumps(delta).encode() + b"\n\n" + b"".join(ANSWER.stream(include_usage=True)))
        await writer.drain()

    async def whole() -> None:
        async with queue(play, "text/event-stream") as address:
            config = {"plugins": {"deepseek": {"base_url": address, "discover": "off"}}}
            async with make_router(config, plugins={"deepseek": DeepSeek}, env=ENV) as router:
                body = {"model": "deepseek/deepseek-v4-pro", "messages": HELLO}
                first = await anext(aiter(router.stream(body)))
        assert first["choices"][0]["delta"]["reasoning_content"] == "Let me see. "

    asyncio.run(whole())


def test_its_facts_have_a_date_and_a_source_and_nothing_is_free() -> None:
    deepseek = DeepSeek()
    assert deepseek.facts.date
    assert "deepseek.com" in deepseek.facts.source
    assert not any(model.free or model.local for model in deepseek.roster())
