"""Gemini's own forms: errors in a list, quotas of a project, thought signatures, the schemas that it reads."""

from __future__ import annotations

import asyncio
import json
from copy import deepcopy
from typing import Any

import pytest
from routerpool_google import NOBODYS_SIGNATURE, Google
from routerpool_google.tool_schema import Narrowing

from routerpool.providers import PACIFIC
from routerpool.testing import ProviderContract, Upstream, make_router
from routerpool.testing.answers import sse

ENV = {"GEMINI_API_KEY": "k"}
HELLO = [{"role": "user", "content": "Hello"}]
SPENT = "You exceeded your current quota, please check your plan and billing details."
METRIC = "generativelanguage.googleapis.com/generate_content_free_tier_requests"


def refused(code: int, status: str, message: str, *details: Any) -> list[Any]:
    """An error as this endpoint wraps it: in a list."""
    error = {"code": code, "message": message, "status": status}
    return [{"error": {**error, "details": list(details)} if details else error}]


def quota(*periods: str, model: str = "gemini-3.5-flash", value: str = "20") -> dict[str, Any]:
    violations = [
        {
            "quotaMetric": METRIC,
            "quotaId": f"GenerateRequestsPer{period}PerProjectPerModel-FreeTier",
            "quotaDimensions": {"location": "global", "model": model},
            "quotaValue": value,
        }
        for period in periods
    ]
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}


class TestGoogle(ProviderContract):
    plugin = Google
    forms = "forms.yaml"

    def entry(self, model_id: str) -> Any:
        return {"id": f"models/{model_id}", "object": "model", "owned_by": "google"}


def talk(model: str, reply: Any = None, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The body that reached Gemini, and the answer that came back."""

    async def whole() -> tuple[dict[str, Any], dict[str, Any]]:
        async with Upstream() as up:
            if reply is not None:
                up.reply("google", 200, reply)
            config = {"plugins": {"google": {"base_url": up.base_url("google")}}}
            async with make_router(config, plugins={"google": Google}, env=ENV) as router:
                answer = await router.chat({"model": f"google/{model}", "messages": HELLO, **more})
            return up.seen("google").last.json, answer

    return asyncio.run(whole())


def test_models_lose_their_prefix() -> None:
    listed = [{"id": "models/gemini-2.5-flash", "object": "model"}, {"id": "models/gemini-9"}]
    known, new = Google().parse_models({"object": "list", "data": listed})
    assert (known.id, known.context, new.id) == ("gemini-2.5-flash", 1048576, "gemini-9")


# Quotas


def test_a_quota_that_is_spent_is_that_of_the_model_which_the_answer_names() -> None:
    google = Google()
    for model, pool in [
        ("gemini-2.5-flash", "google::gemini-2.5-flash"),
        ("gemini-3-flash", "google::gemini-3-flash"),
        ("gemini-of-another-name", None),
    ]:
        body = refused(429, "RESOURCE_EXHAUSTED", SPENT, quota("Day", model=model))
        assert google.failure(429, {}, json.dumps(body).encode()).pool == pool


def test_a_second_key_of_the_project_draws_on_the_same_pool() -> None:
    plugins = {"google": {}, "second": {"use": "google"}, "other": {"use": "google", "separate_account": True}}
    router = make_router({"plugins": plugins}, plugins={"google": Google}, env=ENV)
    pools = {name: next(iter(provider.roster())).pools for name, provider in router.providers.items()}
    assert pools["google"] == pools["second"] == {"google::gemini-3.5-flash"}
    assert pools["other"] == {"other::gemini-3.5-flash"}


def test_days_end_at_midnight_pacific() -> None:
    days = [limit for pool in Google().pools().values() for limit in pool.limits if limit.per == "day"]
    assert len(days) == 6
    assert {limit.resets for limit in days} == {PACIFIC}


# Thought signatures

SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}


def call(**more: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "forecast", "arguments": "{}"}, **more}


def turn(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    answer = {"role": "tool", "tool_call_id": "c1", "content": "dry"}
    return [*HELLO, {"role": "assistant", "content": None, "tool_calls": list(calls)}, answer]


def test_a_signature_reaches_the_client_of_a_plain_answer() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [call(extra_content=SIGNED)]}
    reply = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    _, answer = talk("gemini-3.5-flash", reply)
    assert answer["choices"][0]["message"]["tool_calls"][0]["extra_content"] == SIGNED


def test_a_signature_reaches_the_client_of_a_stream() -> None:
    delta = {"role": "assistant", "tool_calls": [{"index": 0, **call(extra_content=SIGNED)}]}
    events = [
        sse({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}),
        sse({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        b"data: [DONE]\n\n",
    ]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        writer.write(b"".join(events))
        await writer.drain()
        writer.close()

    async def whole() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            config = {"plugins": {"google": {"base_url": address, "discover": "off"}}}
            async with make_router(config, plugins={"google": Google}, env=ENV) as router:
                stream = router.stream({"model": "google/gemini-3.5-flash", "messages": HELLO})
                chunks = [chunk async for chunk in stream]
        assert chunks[0]["choices"][0]["delta"]["tool_calls"][0]["extra_content"] == SIGNED

    asyncio.run(whole())


def test_a_signature_that_comes_back_is_sent_on_as_it_is() -> None:
    messages = turn(call(extra_content=SIGNED), call())
    body, _ = talk("gemini-3.5-flash", messages=messages)
    assert body["messages"] == messages


@pytest.mark.parametrize("extra", [{}, {"extra_content": {"other": 1}}, {"extra_content": {"google": {}}}])
def test_a_call_of_another_model_gets_the_signature_that_means_none(extra: dict[str, Any]) -> None:
    messages = turn(call(**extra), call())
    before = deepcopy(messages)
    body, _ = talk("gemini-3.5-flash", messages=messages)
    first, second = body["messages"][1]["tool_calls"]
    assert first["extra_content"]["google"] == {"thought_signature": NOBODYS_SIGNATURE}
    assert first["extra_content"].get("other") == (extra.get("extra_content") or {}).get("other")
    assert second == call(), "only the first of several calls has a signature"
    assert messages == before


def test_older_models_get_no_signature_that_they_did_not_give() -> None:
    messages = turn(call())
    body, _ = talk("gemini-2.5-flash", messages=messages)
    assert body["messages"] == messages


def test_gemma_is_told_by_a_user_what_others_are_told_by_the_system() -> None:
    body, _ = talk("gemma-3-27b-it", messages=[{"role": "system", "content": "Be kind."}, *HELLO])
    assert body["messages"] == [{"role": "user", "content": "Be kind."}, *HELLO]


# Tools


def tool(parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}


def test_keywords_that_gemini_does_not_know_are_left_out_at_every_depth() -> None:
    inner = {
        "type": "object",
        "properties": {"a": {"type": "string", "examples": ["x"]}},
        "additionalProperties": False,
    }
    parameters = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "const": {"type": "array", "items": inner, "uniqueItems": True},
            "size": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9},
        },
        "required": ["size"],
        "propertyNames": {"type": "string"},
        "additionalProperties": False,
    }
    tools = [tool(parameters), {"type": "function", "function": {"name": "bare"}}]
    before = deepcopy(tools)
    body, _ = talk("gemini-3.5-flash", tools=tools)
    assert tools == before
    assert body["tools"][1] == before[1]
    assert body["tools"][0]["function"] == {
        "name": "f",
        "description": "d",
        "parameters": {
            "type": "object",
            "properties": {
                "const": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "size": {"type": "integer", "maximum": 9},
            },
            "required": ["size"],
        },
    }


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"type": "string", "const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"type": "integer", "const": 1}, {"type": "integer"}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer"}),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            {"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": True}, "required": ["b"]}]},
            {"properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
        ),
        ({"items": {"$ref": "#/$defs/no"}}, {"items": {}}),
        (
            {"items": {"$ref": "#/$defs/a~1b", "description": "d"}, "$defs": {"a/b": {"type": "string", "title": "t"}}},
            {"items": {"type": "string", "title": "t", "description": "d"}},
        ),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"$ref": "#/$defs/a"}}}, {"items": {}}),
    ],
)
def test_what_gemini_says_otherwise_is_translated(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert Narrowing(given).whole() == wanted


def test_a_schema_that_names_itself_ends() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    written = json.dumps(Narrowing(tree, left=100).whole())
    assert "$ref" not in written
    assert 10 < written.count("left") <= 100, "it ends, and not at once"
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"items": deep}
    assert json.dumps(Narrowing(deep).whole()).count("items") == 41, "beyond that anything is allowed"


def test_its_facts_have_a_date_and_a_source_and_say_who_trains() -> None:
    google = Google()
    assert google.facts.date == "2026-07-18"
    assert "ai.google.dev" in google.facts.source
    assert all(model.free and model.data_policy == "may_train" for model in google.roster())
