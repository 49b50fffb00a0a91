"""Anthropic at a socket: the provider's contract, its own errors and limits, its recorded answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from typing import Any, ClassVar

import pytest
from routerpool_anthropic import Anthropic

from routerpool import AnswerError, FailureKind, Outcome, RequestError, Usage
from routerpool.testing import ProviderContract, Upstream, make_router
from routerpool.testing.provider_contract import TOOL, Rig, modes

HELLO = [{"role": "user", "content": "Hello"}]


def error(kind: str, message: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_011C"}


class TestAnthropic(ProviderContract):
    plugin = Anthropic
    refusals: ClassVar[Mapping[str, FailureKind]] = {"http:529": FailureKind.UNAVAILABLE}
    usages = (
        (
            {
                "input_tokens": 12,
                "cache_creation_input_tokens": 300,
                "cache_read_input_tokens": 5000,
                "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
                "output_tokens": 40,
                "output_tokens_details": {"thinking_tokens": 25},
            },
            Usage(
                input_uncached=12,
                input_cached=5000,
                cache_write=100,
                cache_write_1h=200,
                output=40,
                reasoning=25,
                source="reported",
            ),
        ),
        (
            {"input_tokens": 18, "cache_creation_input_tokens": None, "output_tokens": 5},
            Usage(input_uncached=18, output=5, source="reported"),
        ),
    )
    forms = "forms.yaml"

    def listing(self, models: Any) -> Any:
        return {"data": list(models), "has_more": False, "first_id": None, "last_id": None}

    def entry(self, model_id: str) -> Any:
        return {"type": "model", "id": model_id, "display_name": "A Model", "created_at": "2026-01-01T00:00:00Z"}

    @modes
    def test_a_tool_call_arrives(self, stream: bool) -> None:
        async def body(rig: Rig) -> None:
            got = await rig.ask(stream=stream, tools=[deepcopy(TOOL)], tool_choice="required")
            assert got.error is None
            assert (got.calls, got.finish) == (
                ("forecast", '{"city":"text"}' if not stream else got.calls[1]),
                "tool_calls",
            )
            assert json.loads(got.calls[1]) == {"city": "text"}
            sent = rig.up.seen(self.name).last.json
            assert sent["tools"] == [{"name": "forecast", "input_schema": TOOL["function"]["parameters"]}]
            assert sent["tool_choice"] == {"type": "any"}

        self.run(body)


def run(body: Callable[[Rig], Awaitable[None]]) -> None:
    TestAnthropic().run(body)


async def streamed(rig: Rig, events: list[Mapping[str, Any] | bytes], **more: Any) -> Any:
    """What a client gets when Anthropic streams these events."""
    written = [e if isinstance(e, bytes) else f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]
    server = await asyncio.start_server(answering(b"".join(written)), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    section = {"base_url": f"http://127.0.0.1:{port}/v1", "models": ["claude-opus-5"]}
    config = {"plugins": {"anthropic": section}, "limits": {"max_attempts": 1}}
    env = {"ANTHROPIC_API_KEY": "k"}
    got: list[Any] = []
    async with server, make_router(config, plugins={"anthropic": Anthropic}, env=env, witness=rig.witness) as router:
        try:
            body = {"model": "anthropic/claude-opus-5", "messages": HELLO, **more}
            async for chunk in router.stream(body):  # what came before an error counts
                got += [chunk]
        except RequestError as failed:
            got.append(failed)
    return got


def answering(body: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        if head.startswith(b"POST"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body)
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    return answer


START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "claude-opus-5", "usage": {"input_tokens": 9, "output_tokens": 1}},
}
TEXT = [
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
]
END = [
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
]


def test_its_key_and_its_version_go_in_headers_of_their_own() -> None:
    async def body(rig: Rig) -> None:
        await rig.ask()
        head = rig.up.seen(rig.name).last.headers
        assert head["x-api-key"] == rig.keys["ANTHROPIC_API_KEY"]
        assert head["anthropic-version"] == "2023-06-01"
        assert "authorization" not in head
        assert rig.up.seen(rig.name).last.path.endswith("/v1/messages")

    run(body)


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        ("overloaded_error", FailureKind.UNAVAILABLE),
        ("rate_limit_error", FailureKind.RATE_LIMITED),
        ("api_error", FailureKind.SERVER),
        ("authentication_error", FailureKind.AUTH),
        ("a_type_of_tomorrow", FailureKind.SERVER),
    ],
)
def test_an_error_as_the_first_event_is_of_the_kind_that_its_type_says(kind: str, meant: FailureKind) -> None:
    async def body(rig: Rig) -> None:
        [failed] = await streamed(rig, [START, {"type": "ping"}, error(kind, "No.")])
        assert isinstance(failed, RequestError)
        [failure] = rig.witness.failures
        assert failure.kind is meant

    run(body)


def test_an_error_in_the_middle_breaks_the_stream_off() -> None:
    async def body(rig: Rig) -> None:
        got = await rig.ask("miderr", stream=True)  # the upstream sends it once the beginning is read
        assert got.text
        assert got.finish is None
        assert isinstance(got.error, RequestError)
        assert got.error.code == "upstream_interrupted"
        [failure] = rig.witness.failures
        assert (failure.kind, failure.first_byte_sent) == (FailureKind.INTERRUPTED, True)

    run(body)


def test_a_stream_without_its_last_event_but_with_its_reason_is_whole_and_without_it_is_not() -> None:
    async def body(rig: Rig) -> None:
        chunks = await streamed(rig, [START, *TEXT, *END[:2]])
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        await streamed(rig, [START, *TEXT, END[0]])
        assert rig.witness.records[-1].outcome in (Outcome.TRUNCATED, Outcome.FAILED)

    run(body)


def test_done_is_said_by_the_last_event_and_by_nothing_else() -> None:
    async def body(rig: Rig) -> None:
        done = b"data: [DONE]\n\n"
        await streamed(rig, [START, *TEXT, done])
        assert rig.witness.records[-1].outcome in (Outcome.TRUNCATED, Outcome.FAILED)
        chunks = await streamed(rig, [START, *TEXT, done, *END])
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"

    run(body)


def test_events_of_tomorrow_are_passed_over() -> None:
    async def body(rig: Rig) -> None:
        odd = {"type": "content_block_delta", "index": 0, "delta": {"type": "hum_delta", "hum": "m"}}
        chunks = await streamed(rig, [START, {"type": "weather"}, *TEXT, odd, *END])
        assert [c["choices"][0]["delta"].get("content") for c in chunks] == ["", "Hi", None]

    run(body)


def test_a_message_that_begins_within_another_is_not_passed_for_one() -> None:
    async def body(rig: Rig) -> None:
        got = await streamed(rig, [START, *TEXT, START, *TEXT, *END])
        assert isinstance(got[-1], RequestError)
        whole = await streamed(rig, [START, START, *TEXT, *END])
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in whole) == "Hi"

    run(body)


def test_a_client_reads_its_own_mistake_in_openais_form() -> None:
    async def body(rig: Rig) -> None:
        rig.up.reply(rig.name, 400, error("invalid_request_error", "messages: at least one message is required"))
        got = await rig.ask()
        assert isinstance(got.error, AnswerError)
        told = got.error.body["error"]
        assert told["message"] == "messages: at least one message is required"
        assert (told["type"], told["param"]) == ("invalid_request_error", None)

    run(body)


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"functions": [{"name": "f"}]},
        {"modalities": ["text", "audio"]},
        {"tools": [deepcopy(TOOL)], "tool_choice": {"type": "allowed_tools"}},
        {"response_format": {"type": "json_schema"}},
    ],
)
def test_what_the_wire_cannot_carry_is_left_to_another_candidate(more: dict[str, Any]) -> None:
    async def body(rig: Rig) -> None:
        before = rig.up.seen(rig.name).chat
        got = await rig.ask(**more)
        assert isinstance(got.error, RequestError)
        [failure] = rig.witness.failures
        assert (failure.kind, failure.retry_after) == (FailureKind.UNAVAILABLE, 0)
        assert rig.up.seen(rig.name).chat == before, "it was sent all the same"

    run(body)


def test_its_list_tells_what_a_model_can_do_and_how_it_thinks() -> None:
    no, yes = {"supported": False}, {"supported": True}
    types = {"adaptive": yes, "disabled": no, "enabled": no}
    capabilities = {
        "image_input": yes,
        "pdf_input": no,
        "structured_outputs": yes,
        "thinking": {"supported": True, "types": types},
        "effort": {"supported": True, "xhigh": yes},
    }
    new = {"id": "claude-new-9", "display_name": "New 9", "max_input_tokens": 2000000, "max_tokens": 256000}
    gone = {"id": "claude-gone-1", "lifecycle": "retired"}
    payload = {"data": [new | {"capabilities": capabilities}, gone, {"id": "claude-haiku-4-5-20251001"}]}
    [model, haiku] = Anthropic().parse_models(payload)
    assert (model.context, model.max_output, model.display_name) == (2000000, 256000, "New 9")
    assert model.capabilities == {"vision": True, "files": False, "json_schema": True, "reasoning": True}
    assert model.settings == {"anthropic": {"thinking": "always", "xhigh": True}}
    assert (haiku.id, haiku.max_output) == ("claude-haiku-4-5", 64000), "the roster's name goes without a date"


def test_a_model_named_with_its_date_is_asked_as_the_roster_knows_it() -> None:
    async def body() -> Any:
        async with Upstream() as up:
            section = {"base_url": up.base_url("anthropic"), "models": ["claude-haiku-4-5-20251001"]}
            config = {"plugins": {"anthropic": section}}
            env = {"ANTHROPIC_API_KEY": "k"}
            async with make_router(config, plugins={"anthropic": Anthropic}, env=env) as router:
                await router.chat({"model": "auto", "messages": HELLO, "reasoning_effort": "low"})
            return up.seen("anthropic").last.json

    sent = asyncio.run(body())
    assert (sent["model"], sent["max_tokens"]) == ("claude-haiku-4-5-20251001", 64000)
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(("asked", "sent"), [(1.7, 1), (0.3, 0.3), (2, 1)])
def test_a_temperature_beyond_its_range_is_cut(asked: float, sent: float) -> None:
    async def body(rig: Rig) -> None:
        able = next(c for c in rig.router.catalog.snapshot.candidates if c.model.id == "claude-sonnet-4-6")
        await rig.ask(temperature=asked, model=able.key)
        assert rig.up.seen(rig.name).last.json["temperature"] == sent

    run(body)


def test_cached_and_written_tokens_are_told_to_the_client_too() -> None:
    async def body(rig: Rig) -> None:
        rig.up.usage(rig.name, dict(TestAnthropic.usages[0][0]))
        got = await rig.ask()
        usage = (got.answer or {})["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (5312, 40, 5352)
        assert usage["prompt_tokens_details"] == {"cached_tokens": 5000, "cache_write_tokens": 300}
        assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}
        assert usage["completion_tokens_details"] == {"reasoning_tokens": 25}

    run(body)


def test_its_facts_have_a_date_and_a_source() -> None:
    data = Anthropic().facts
    assert data.date
    assert data.source
    assert data.prices_as == "anthropic"
