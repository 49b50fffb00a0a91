"""The scriptable upstream's Messages wire: the same answers and faults as on the other wire, in Anthropic's form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from routerpool.testing import Upstream
from routerpool.testing.faults import FAULTS

ASKED: dict[str, Any] = {"model": "m1", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"name": "forecast", "input_schema": {"properties": {"city": {"type": "string"}}, "required": ["city"]}}

Answer = tuple[int, bytes]


def run(body: Callable[[Upstream, Callable[..., Awaitable[Answer]]], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with Upstream() as up, aiohttp.ClientSession() as session:

            async def ask(**more: Any) -> Answer:
                async with session.post(f"{up.base_url('p')}/messages", json={**ASKED, **more}) as answer:
                    return answer.status, await answer.read()

            await body(up, ask)
            assert not up.bad_http

    asyncio.run(whole())


def events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Each event's name and its data."""
    pairs = [block.split("\n") for block in body.decode().split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]


def test_a_message_says_what_a_chat_completion_would() -> None:
    async def body(up: Upstream, ask: Callable[..., Awaitable[Answer]]) -> None:
        status, plain = await ask()
        message = json.loads(plain)
        assert (status, message["type"], message["stop_reason"]) == (200, "message", "end_turn")
        assert message["content"] == [{"type": "text", "text": up.expected_text("p")}]
        assert message["usage"]["input_tokens"] == 12
        assert up.seen("p").chat == 1

    run(body)


def test_a_stream_is_named_events_up_to_the_messages_stop() -> None:
    async def body(up: Upstream, ask: Callable[..., Awaitable[Answer]]) -> None:
        told = events((await ask(stream=True))[1])
        assert all(name == data["type"] for name, data in told)
        assert [name for name, _ in told if "delta" not in name] == [
            "message_start",
            "content_block_start",
            "content_block_stop",
            "message_stop",
        ]
        text = "".join(data["delta"]["text"] for name, data in told if name == "content_block_delta")
        assert text == up.expected_text("p")
        assert told[-2][1]["usage"] == {"output_tokens": 6}

    run(body)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "forecast"}])
def test_a_call_that_is_insisted_on_is_made(choice: dict[str, str]) -> None:
    async def body(up: Upstream, ask: Callable[..., Awaitable[Answer]]) -> None:
        message = json.loads((await ask(tools=[TOOL], tool_choice=choice))[1])
        assert (message["content"][0]["input"], message["stop_reason"]) == ({"city": "text"}, "tool_use")
        told = events((await ask(tools=[TOOL], tool_choice=choice, stream=True))[1])
        parts = [data["delta"]["partial_json"] for name, data in told if name == "content_block_delta"]
        assert json.loads("".join(parts)) == {"city": "text"}
        free = json.loads((await ask(tools=[TOOL], tool_choice={"type": "auto"}))[1])
        assert free["content"][0]["type"] == "text"

    run(body)


@pytest.mark.parametrize(
    ("label", "status", "kind"),
    [
        ("http:529", 529, "overloaded_error"),
        ("http:429", 429, "rate_limit_error"),
        ("http:401", 401, "authentication_error"),
        ("geminiday", 429, "rate_limit_error"),
        ("overflow", 400, "invalid_request_error"),
        ("hugeint", 400, "invalid_request_error"),
        ("err200", 200, "api_error"),
    ],
)
def test_an_error_is_in_anthropics_form(label: str, status: int, kind: str) -> None:
    async def body(up: Upstream, ask: Callable[..., Awaitable[Answer]]) -> None:
        up.always("p", label)
        answered, told = await ask()
        assert answered == status
        assert (json.loads(told)["type"], json.loads(told)["error"]["type"]) == ("error", kind)

    run(body)


def test_an_error_in_a_stream_is_an_event_of_its_own_name() -> None:
    async def body(up: Upstream, ask: Callable[..., Awaitable[Answer]]) -> None:
        up.script("p", "err1st", "miderr")
        first = events((await ask(stream=True))[1])
        assert (first[0][0], first[0][1]["error"]["type"]) == ("error", "api_error")
        middle = events((await ask(stream=True))[1])
        assert [middle[0][0], middle[-1][0]] == ["message_start", "error"]

    run(body)


def test_what_a_test_has_set_is_sent_as_it_is() -> None:
    async def body(up: Upstream, ask: Callable[..., Awaitable[Answer]]) -> None:
        own = {"error": {"message": "mine", "type": "odd"}}
        up.reply("p", 418, own)
        assert await ask() == (418, json.dumps(own, separators=(",", ":")).encode())

    run(body)


def test_usage_in_either_form_is_told_in_anthropics() -> None:
    async def body(up: Upstream, ask: Callable[..., Awaitable[Answer]]) -> None:
        details = {"cached_tokens": 30}
        up.usage("p", {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": details})
        usage = json.loads((await ask())[1])["usage"]
        assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (70, 30, 5)
        own = {"input_tokens": 1, "output_tokens": 2, "cache_creation": {"ephemeral_1h_input_tokens": 3}}
        up.usage("p", own)
        assert json.loads((await ask())[1])["usage"] == own

    run(body)


@pytest.mark.parametrize("label", sorted(label for label, fault in FAULTS.items() if fault.plain == "O"))
def test_a_healthy_answer_is_healthy_here_too(label: str) -> None:
    async def body(up: Upstream, ask: Callable[..., Awaitable[Answer]]) -> None:
        up.always("p", label)
        status, plain = await ask()
        message = json.loads(plain)
        text = "".join(block["text"] for block in message["content"])
        assert (status, text) == (200, up.expected_text("p", label))

    run(body)
