"""Mistral's own forms: fields that it refuses, thoughts among the parts of content, usage that comes unasked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from routerpool_mistral import Mistral

from routerpool.providers import NotListedError
from routerpool.testing import ProviderContract, Upstream, Witness, make_router
from routerpool.testing.answers import sse

ENV = {"MISTRAL_API_KEY": "k"}
MODEL = "mistral/mistral-large-2512"
HELLO = [{"role": "user", "content": "Hello"}]
THOUGHTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "They greet."}]},
    {"type": "text", "text": "Hi."},
]


class TestMistral(ProviderContract):
    plugin = Mistral
    forms = "forms.yaml"


def talk(reply: bytes | None = None, **more: Any) -> tuple[dict[str, Any], dict[str, Any], Witness]:
    """The body that reached Mistral, the answer that came back, and what was recorded."""

    async def whole() -> tuple[dict[str, Any], dict[str, Any], Witness]:
        witness = Witness()
        async with Upstream() as up:
            if reply is not None:
                up.reply("mistral", 200, reply)
            config = {"plugins": {"mistral": {"base_url": up.base_url("mistral")}}}
            async with make_router(config, plugins={"mistral": Mistral}, env=ENV, witness=witness) as router:
                answer = await router.chat({"model": MODEL, "messages": HELLO, **more})
            return up.seen("mistral").last.json, answer, witness

    return asyncio.run(whole())


def sent(**more: Any) -> dict[str, Any]:
    body, _, _ = talk(**more)
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


def test_fields_get_mistrals_names() -> None:
    assert sent(seed=7, max_completion_tokens=9) == {"random_seed": 7, "max_tokens": 9}


def test_fields_that_mistral_refuses_are_left_out() -> None:
    unknown = {"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.1, "logit_bias": {"1": 1}, "logprobs": True}
    ours = {"store": False, "metadata": {"a": "b"}, "user": "u", "service_tier": "auto", "top_logprobs": 2}
    assert sent(**unknown, **ours, temperature=0.5) == {"temperature": 0.5}


def test_an_effort_is_not_passed_on() -> None:
    assert sent(reasoning_effort="none") == {}


def test_thoughts_among_the_parts_of_a_plain_answer_arrive_as_they_came() -> None:
    answer = {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": THOUGHTS}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7},
    }
    _, got, witness = talk(json.dumps(answer).encode())
    assert got["choices"][0]["message"]["content"] == THOUGHTS
    assert witness.records[0].usage.output == 7


def chunk(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> bytes:
    return sse(
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    )


def streamed(*chunks: bytes) -> tuple[list[dict[str, Any]], Witness]:
    """The chunks that a client gets of these events, and what was recorded."""

    async def whole() -> tuple[list[dict[str, Any]], Witness]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0][15:]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            writer.write(b"".join(chunks) + b"data: [DONE]\n\n")
            await writer.drain()
            writer.close()

        witness = Witness()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            config = {"plugins": {"mistral": {"base_url": address, "discover": "off"}}}
            async with make_router(config, plugins={"mistral": Mistral}, env=ENV, witness=witness) as router:
                return [c async for c in router.stream({"model": MODEL, "messages": HELLO})], witness

    return asyncio.run(whole())


def test_thoughts_among_the_parts_of_a_stream_begin_an_answer_and_arrive_as_they_came() -> None:
    deltas = [{"content": [THOUGHTS[0]]}, {"content": [THOUGHTS[1]]}, {"content": " Bye."}]
    chunks, witness = streamed(*map(chunk, deltas), chunk({"content": ""}, "stop"))
    assert [c["choices"][0]["delta"] for c in chunks][:3] == deltas
    assert not witness.failures


def test_usage_on_the_last_chunk_is_recorded_and_its_finish_reason_not_lost() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    chunks, witness = streamed(chunk({"content": "Hi"}), chunk({"content": ""}, "stop", usage=usage))
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    [record] = witness.records
    assert (record.usage.source, record.usage.input, record.usage.output) == ("reported", 5, 7)


def test_a_refused_wish_for_usage_costs_no_answer() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            up.always("mistral", "nostreamoptions")
            config = {"plugins": {"mistral": {"base_url": up.base_url("mistral")}}}
            async with make_router(config, plugins={"mistral": Mistral}, env=ENV) as router:
                for _ in range(2):
                    chunks = [c async for c in router.stream({"model": MODEL, "messages": HELLO})]
                    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
            bodies = [request.json for request in up.seen("mistral").requests if request.chat]
            assert ["stream_options" in body for body in bodies] == [True, False, False]

    asyncio.run(whole())


def test_the_list_tells_what_a_model_can_do_and_who_does_not_chat() -> None:
    can = {"completion_chat": True, "function_calling": True, "vision": False, "completion_fim": False}
    listed = [
        {"id": "mistral-new", "capabilities": can, "max_context_length": 32768},
        {"id": "mistral-embed", "capabilities": {**can, "completion_chat": False}},
        {"id": "mistral-medium-3-5", "capabilities": can, "max_context_length": 1},
        {"id": "bare"},
    ]
    new, medium, bare = Mistral().parse_models({"object": "list", "data": listed})
    assert (new.id, new.context, dict(new.capabilities)) == ("mistral-new", 32768, {"tools": True, "vision": False})
    assert (medium.context, medium.capabilities["vision"]) == (262144, True), "the roster knows better"
    assert (bare.id, bare.context, dict(bare.capabilities)) == ("bare", None, {})


@pytest.mark.parametrize("payload", [[], {"data": None}])
def test_a_list_may_be_empty(payload: Any) -> None:
    assert Mistral().parse_models(payload) == []


@pytest.mark.parametrize("payload", [None, {"data": 3}, {}])
def test_what_is_no_list_is_not_taken_for_an_empty_one(payload: Any) -> None:
    with pytest.raises(NotListedError):
        Mistral().parse_models(payload)


def test_models_share_a_pool_with_those_of_the_same_kind_only() -> None:
    mistral = Mistral(
        Mistral.Config(models=("codestral-2508", "codestral-latest", "ministral-8b-2512")), name="mistral"
    )
    assert [set(model.pools) for model in mistral.roster()] == [
        {"mistral::codestral"},
        {"mistral::codestral"},
        {"mistral::ministral-8b-2512"},
    ]


def test_what_the_free_plan_trains_on_is_told() -> None:
    mistral = Mistral()
    assert mistral.facts.date == "2026-07-18"
    assert "mistral.ai" in mistral.facts.source
    assert all(model.free and model.data_policy == "may_train" for model in mistral.roster())
