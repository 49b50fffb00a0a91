"""OpenRouter's own forms: one quota for all free models, errors inside a 200, comments, cost in the usage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from routerpool_openrouter import OpenRouter

from routerpool import FailureKind, Outcome, RequestError, Usage
from routerpool.testing import ProviderContract, Upstream, Witness, make_router

FREE = "nvidia/nemotron-3-super-120b-a12b:free"
HELLO = [{"role": "user", "content": "Hello"}]
KEY = {"OPENROUTER_API_KEY": "k"}
PLUGINS = {"openrouter": OpenRouter}


def error(code: int, message: str, **metadata: Any) -> dict[str, Any]:
    """OpenRouter's error: its code is a number."""
    return {"error": {"code": code, "message": message, **({"metadata": metadata} if metadata else {})}}


class TestOpenRouter(ProviderContract):
    plugin = OpenRouter
    forms = "forms.yaml"
    usages: ClassVar = (
        (
            {
                "prompt_tokens": 194,
                "completion_tokens": 22,
                "total_tokens": 216,
                "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 50},
                "completion_tokens_details": {"reasoning_tokens": 7},
                "cost": 0.00095,
                "cost_details": {"upstream_inference_cost": 0.0009},
            },
            Usage(
                input_uncached=44,
                input_cached=100,
                cache_write=50,
                output=22,
                reasoning=7,
                cost=0.00095,
                source="reported",
            ),
        ),
    )

    def entry(self, model_id: str) -> dict[str, Any]:
        price = {"prompt": "0", "completion": "0"}
        return {"id": model_id, "context_length": 262144, "pricing": price, "supported_parameters": ["tools"]}


def test_a_day_of_one_free_model_is_the_day_of_all_free_models_and_of_no_other() -> None:
    roster = OpenRouter(name="openrouter").roster()
    sharing = {model.id for model in roster if "openrouter::free" in model.pools}
    assert sharing == {model.id for model in roster if model.free}
    assert len(sharing) >= 3
    assert all(model.id.endswith(":free") for model in roster if model.free)


def test_another_key_of_the_same_account_shares_the_free_quota() -> None:
    config = {"plugins": {"openrouter": {}, "second": {"use": "openrouter", "api_key_env": "SECOND"}}}
    router = make_router(config, plugins=PLUGINS, env={**KEY, "SECOND": "k2"})
    assert router.providers["second"].roster()[0].pools == router.providers["openrouter"].roster()[0].pools


def test_what_is_asked_of_a_free_model_may_be_learned_from() -> None:
    policies = {model.free: model.data_policy for model in OpenRouter().roster()}
    assert policies == {True: "may_train", False: "unknown"}


def sent(**more: Any) -> dict[str, Any]:
    """What reaches OpenRouter of a request with these fields."""

    async def whole() -> dict[str, Any]:
        async with Upstream() as up:
            config = {"plugins": {"openrouter": {"base_url": up.base_url("or")}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                await router.chat({"model": "openrouter/openrouter/auto", "messages": HELLO, **more})
            return up.seen("or").last.json

    return asyncio.run(whole())


def test_a_search_becomes_openrouters_own_tool_which_cannot_be_insisted_on() -> None:
    function = {"type": "function", "function": {"name": "forecast", "parameters": {"type": "object"}}}
    body = sent(tools=[{"type": "web_search_preview"}, function], tool_choice="auto", temperature=0)
    assert body["tools"] == [function, {"type": "openrouter:web_search"}]
    assert sorted(body) == ["messages", "model", "temperature", "tools"]


def test_other_tools_reach_it_as_they_are() -> None:
    function = {"type": "function", "function": {"name": "forecast", "parameters": {"type": "object"}}}
    body = sent(tools=[function], tool_choice="auto")
    assert (body["tools"], body["tool_choice"]) == ([function], "auto")


# Streams


@asynccontextmanager
async def streaming(lines: Sequence[str], late: Sequence[str], heard: asyncio.Event) -> AsyncIterator[str]:
    """A server that answers anything with these lines as a stream, the late ones once it was heard; its base URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        writer.write("".join(f"{line}\n\n" for line in lines).encode())
        await writer.drain()
        if late:
            await heard.wait()
            writer.write("".join(f"{line}\n\n" for line in late).encode())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def event(**chunk: Any) -> str:
    return "data: " + json.dumps({"id": "gen-1", "object": "chat.completion.chunk", "model": FREE, **chunk})


def said(text: str, finish: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}]


def streamed(lines: Sequence[str], late: Sequence[str] = ()) -> tuple[str, Witness]:
    """The text that a client of a router gets of such a stream, and what came of the request."""

    async def whole() -> tuple[str, Witness]:
        witness, text, heard = Witness(), "", asyncio.Event()
        async with streaming(lines, late, heard) as url:
            plugins = {"openrouter": {"base_url": url, "models": [FREE]}}
            config = {"plugins": plugins, "limits": {"max_attempts": 1}}
            async with make_router(config, plugins=PLUGINS, env=KEY, witness=witness) as router:
                try:
                    async for chunk in router.stream({"model": "auto", "messages": HELLO}):
                        text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
                        heard.set()
                except RequestError as problem:
                    text += f" [{problem.code}]"
        return text, witness

    return asyncio.run(whole())


PROCESSING = ": OPENROUTER PROCESSING"


def test_its_comments_are_no_part_of_the_answer_and_its_usage_is_read_from_the_last_frame() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "cost": 0.0002}
    lines = [
        PROCESSING,
        PROCESSING,
        event(choices=said("Good ")),
        PROCESSING,
        event(choices=said("day", "stop")),
        event(choices=said(""), usage=usage),
        "data: [DONE]",
    ]
    text, witness = streamed(lines)
    assert text == "Good day"
    [record] = witness.records
    assert record.outcome is Outcome.ANSWERED
    assert record.usage == Usage(input_uncached=9, output=2, cost=0.0002, source="reported")


@pytest.mark.parametrize(
    ("code", "kind"), [(502, FailureKind.SERVER), (429, FailureKind.RATE_LIMITED), (402, FailureKind.CREDIT)]
)
def test_an_error_in_the_first_frame_is_a_failure_of_its_own_kind(code: int, kind: FailureKind) -> None:
    frame = event(**error(code, "Provider returned error"), choices=said("", "error"))
    text, witness = streamed([PROCESSING, frame, "data: [DONE]"])
    assert text.startswith(" [")
    assert [failure.kind for failure in witness.failures] == [kind]


def test_an_error_in_a_later_frame_ends_the_answer_without_pretending() -> None:
    frame = event(**error(502, "Provider disconnected"), choices=said("", "error"))
    text, witness = streamed([event(choices=said("Good "))], late=[frame])
    assert text == "Good  [upstream_interrupted]"
    assert [failure.kind for failure in witness.failures] == [FailureKind.INTERRUPTED]
    assert witness.records[0].outcome is Outcome.TRUNCATED


def test_its_list_says_which_of_the_roster_are_left() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            roster = [model.id for model in OpenRouter().roster()]
            up.models("openrouter", ["another", roster[2], roster[0]])
            config = {"plugins": {"openrouter": {"base_url": up.base_url("openrouter")}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                assert [c.model.id for c in router.catalog.snapshot.candidates] == [roster[0], roster[2]]

    asyncio.run(whole())


def test_its_facts_have_a_date_and_a_source() -> None:
    data = OpenRouter().facts
    assert data.date
    assert "openrouter.ai" in data.source
    assert data.prices_as == "openrouter"


def test_it_is_told_the_applications_name_which_the_user_may_change() -> None:
    assert OpenRouter().request_headers["X-Title"] == "routerpool"
    assert OpenRouter().request_headers["HTTP-Referer"]
    own = OpenRouter(OpenRouter.Config(headers={"x-title": "mine", "HTTP-Referer": "https://mine.example"}))
    assert own.request_headers.getall("X-Title") == ["mine"]
    assert own.request_headers.getall("HTTP-Referer") == ["https://mine.example"]
