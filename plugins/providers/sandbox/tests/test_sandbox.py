from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routerpool_sandbox import Sandbox, SandboxConfig
from routerpool_sandbox.completion import REMARKS, Completion
from routerpool_sandbox.example import example_of

from routerpool import AnswerError, ConfigError, FailureKind, Outcome, RequestError, Router, Tier
from routerpool.testing import Witness, make_router

ASK = {"model": "auto", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
QUICK = {"latency_seconds": 0, "word_seconds": 0}
TOOLS = [
    {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}},
    {
        "type": "function",
        "function": {
            "name": "forecast",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    },
]


def run(
    body: Callable[[Router], Awaitable[None]],
    *,
    witness: Witness | None = None,
    more: Mapping[str, Any] | None = None,
    **section: Any,
) -> None:
    """Run a test's body with a router over one sandbox, without waiting for its latencies."""

    async def whole() -> None:
        config = {"plugins": {"sandbox": {**QUICK, **section}}, **(more or {})}
        async with make_router(config, plugins={"sandbox": Sandbox}, witness=witness) as router:
            await body(router)
            assert all(instance.faults == 0 for instance in router.hooks.instances.values())

    asyncio.run(whole())


async def streamed(router: Router, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [chunk async for chunk in router.stream(body)]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


# What it says


def test_an_answer_is_labelled_restates_the_question_and_counts_its_tokens() -> None:
    async def body(router: Router) -> None:
        answer = await router.chat(ASK)
        text = answer["choices"][0]["message"]["content"]
        assert text.startswith("[simulated] You asked: “Why is the sky blue?”")
        assert sum(remark in text for remark in REMARKS) == 2
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["system_fingerprint"] == "simulated"
        assert "simulated" in answer["id"]
        usage = answer["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert 5 <= usage["prompt_tokens"] <= 20
        assert 20 <= usage["completion_tokens"] <= 100

    run(body)


def test_a_stream_says_the_same_word_by_word() -> None:
    async def body(router: Router) -> None:
        text = (await router.chat(ASK))["choices"][0]["message"]["content"]
        chunks = await streamed(router, {**ASK, "stream_options": {"include_usage": True}})
        assert text_of(chunks) == text
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert len(chunks) == 1 + len(text.split(" ")) + 2
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] > 0

    run(body)


def test_the_same_request_gets_the_same_answer_and_another_seed_another_one() -> None:
    said: dict[tuple[int, int], str] = {}

    def ask(seed: int, turn: int) -> None:
        async def body(router: Router) -> None:
            said[seed, turn] = (await router.chat(ASK))["choices"][0]["message"]["content"]

        run(body, seed=seed)

    for seed in range(6):
        for turn in range(2):
            ask(seed, turn)
    assert all(said[seed, 0] == said[seed, 1] for seed in range(6))
    assert len({said[seed, 0] for seed in range(6)}) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_recorded_as_reported_and_free(stream: bool) -> None:
    witness = Witness()

    async def body(router: Router) -> None:
        if stream:
            assert all(chunk["choices"] for chunk in await streamed(router, ASK))
        else:
            await router.chat(ASK)

    run(body, witness=witness)
    [record] = witness.records
    assert (record.outcome, record.usage.source, record.cost) == (Outcome.ANSWERED, "reported", 0.0)
    assert record.usage.output > 0


def test_a_cap_on_tokens_cuts_the_answer_and_says_so() -> None:
    async def body(router: Router) -> None:
        answer = await router.chat({**ASK, "max_tokens": 3})
        assert answer["choices"][0]["message"]["content"] == "[simulated] You asked:"
        assert answer["choices"][0]["finish_reason"] == "length"
        chunks = await streamed(router, {**ASK, "max_completion_tokens": 3})
        assert text_of(chunks) == "[simulated] You asked:"

    run(body)


@pytest.mark.parametrize(
    ("content", "begin"),
    [
        ([{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}], "You asked: “two parts”"),
        ("", "You sent no text"),
        (None, "You sent no text"),
        ("line\n\nline", "You asked: “line line”"),
        ("x" * 5000, f"You asked: “{'x' * 199}…”"),
    ],
)
def test_whatever_is_asked_is_restated_in_short(content: Any, begin: str) -> None:
    async def body(router: Router) -> None:
        answer = await router.chat({"model": "auto", "messages": [{"role": "user", "content": content}]})
        assert answer["choices"][0]["message"]["content"].startswith(f"[simulated] {begin}")

    run(body)


# Tools and JSON


@pytest.mark.parametrize(
    ("choice", "name", "arguments"),
    [
        ("required", "clock", {}),
        ({"type": "function", "function": {"name": "forecast"}}, "forecast", {"city": "simulated"}),
    ],
)
def test_a_tool_is_called_where_the_request_insists_on_one(choice: Any, name: str, arguments: dict[str, Any]) -> None:
    async def body(router: Router) -> None:
        wanted = {**ASK, "tools": TOOLS, "tool_choice": choice}
        answer = await router.chat(wanted)
        [call] = answer["choices"][0]["message"]["tool_calls"]
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        assert answer["choices"][0]["message"]["content"] is None
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (name, arguments)
        chunks = await streamed(router, wanted)
        parts = [part for c in chunks for choice in c["choices"] for part in choice["delta"].get("tool_calls", ())]
        assert parts[0]["id"] == call["id"]
        assert parts[0]["function"]["name"] == name
        assert "".join(part["function"]["arguments"] for part in parts) == call["function"]["arguments"]

    run(body)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_tool_that_is_only_offered_is_not_called(choice: str | None) -> None:
    async def body(router: Router) -> None:
        answer = await router.chat({**ASK, "tools": TOOLS, **({} if choice is None else {"tool_choice": choice})})
        assert "tool_calls" not in answer["choices"][0]["message"]
        assert answer["choices"][0]["message"]["content"].startswith("[simulated]")

    run(body)


SCHEMAS = (
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
    {"type": "array", "items": {"type": "integer", "minimum": 3}, "minItems": 2},
    {"enum": ["red", "green"]},
    {"const": {"x": 1}},
    {"anyOf": [{"type": "null"}, {"type": "string"}]},
    {"type": ["number", "null"], "exclusiveMinimum": 2, "maximum": 3},
    {"type": "integer", "minimum": 11, "multipleOf": 5},
    {"type": "number", "maximum": -4.5},
    {"type": "string", "minLength": 20},
    {"type": "string", "maxLength": 2},
    {"type": "string", "format": "date-time"},
    {"type": "boolean"},
    {"type": "null"},
    {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "integer"}}, "required": ["a"]}]},
    {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
            }
        },
        "$ref": "#/$defs/node",
    },
    {"properties": {"list": {"type": "array", "prefixItems": [{"type": "boolean"}]}}, "required": ["list"]},
)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_json_schema_is_answered_with_a_value_that_it_allows(schema: dict[str, Any]) -> None:
    async def body(router: Router) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
        answer = await router.chat({**ASK, "response_format": wanted})
        value = json.loads(answer["choices"][0]["message"]["content"])
        jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())
        chunks = await streamed(router, {**ASK, "response_format": wanted})
        assert json.loads(text_of(chunks)) == value

    run(body)


def test_json_mode_is_answered_with_a_labelled_object() -> None:
    async def body(router: Router) -> None:
        answer = await router.chat({**ASK, "response_format": {"type": "json_object"}})
        value = json.loads(answer["choices"][0]["message"]["content"])
        assert value["simulated"] is True

    run(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just("#/a"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "required", "items", "anyOf", "allOf", "$ref", "enum", "minItems", "a"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_rubbish_in_the_place_of_a_schema_is_answered_too(schema: Any) -> None:
    json.dumps(example_of(schema))


@given(JSON, st.lists(JSON, max_size=3) | st.none(), JSON)
def test_rubbish_in_the_place_of_tools_and_formats_gets_some_reply(choice: Any, tools: Any, wanted: Any) -> None:
    body = {"model": "m", "messages": ASK["messages"], "tool_choice": choice, "tools": tools, "response_format": wanted}
    completion = Completion.to(body, "salt")
    assert completion.text or completion.calls


@pytest.mark.parametrize(
    "bomb",
    [
        {"type": "array", "minItems": 10**9, "items": {"type": "array", "minItems": 10**9, "items": {}}},
        {"$defs": {"x": {"type": "object", "required": ["a", "b"], "properties": {}}}, "$ref": "#/$defs/x"},
        {"$ref": "#"},
        {"type": "string", "minLength": 10**12},
    ],
    ids=["array", "twice", "itself", "length"],
)
def test_a_schema_that_asks_for_too_much_gets_little(bomb: dict[str, Any]) -> None:
    for name in ("a", "b"):
        bomb.get("$defs", {}).get("x", {}).get("properties", {})[name] = {"$ref": "#/$defs/x"}
    assert len(json.dumps(example_of(bomb))) < 20_000


# What it is


def test_it_brings_three_free_local_models_that_say_they_are_simulated() -> None:
    models = Sandbox().roster()
    assert [(model.id, model.tier) for model in models] == [
        ("sandbox-fast", Tier.FAST),
        ("sandbox-balanced", Tier.BALANCED),
        ("sandbox-capable", Tier.CAPABLE),
    ]
    assert [model.rank for model in models] == [30, 20, 10]
    for model in models:
        assert model.display_name is not None
        assert model.display_name.endswith("(simulated)")
        assert "simulated" in model.tags
        assert (model.free, model.local) == (True, True)
        assert model.context


def test_models_may_have_prices_ranks_and_names_of_the_configuration() -> None:
    async def body(router: Router) -> None:
        gold, plain = router.providers["sandbox"].roster()
        assert (gold.display_name, gold.free, gold.prices.input, gold.rank) == ("Gold (simulated)", False, 3.0, 1)
        assert gold.capabilities["vision"] is True
        assert gold.capabilities["tools"] is True
        assert (plain.display_name, plain.free) == ("plain (simulated)", True)
        told = await router.explain(ASK)
        assert {entry["candidate"]: entry["cost"] == 0 for entry in told["ranked"]} == {
            "sandbox/gold": False,
            "sandbox/plain": True,
        }

    gold = {"id": "gold", "name": "Gold", "rank": 1, "prices": {"input": 3.0, "output": 9.0}}
    run(body, models=[{**gold, "capabilities": {"vision": True}}, "plain"])


def test_a_private_request_stays_with_the_local_one_of_two_instances() -> None:
    async def whole() -> None:
        config = {
            "plugins": {
                "cloud": {"use": "sandbox", "local": False, **QUICK},
                "home": {"use": "sandbox", **QUICK},
            }
        }
        async with make_router(config, plugins={"sandbox": Sandbox}) as router:
            assert {name: provider.local for name, provider in router.providers.items()} == {
                "cloud": False,
                "home": True,
            }
            told = await router.explain({**ASK, "router": {"privacy": "private"}})
            assert {entry["candidate"].partition("/")[0] for entry in told["ranked"]} == {"home"}
            assert not any(model.local for model in router.providers["cloud"].roster())

    asyncio.run(whole())


def test_the_three_of_the_demo_a_broken_remote_a_healthy_remote_and_a_local_one() -> None:
    async def whole() -> None:
        witness = Witness()
        config = {
            "plugins": {
                "broken": {"use": "sandbox", "local": False, "fail": "rate_limited", **QUICK},
                "healthy": {"use": "sandbox", "local": False, **QUICK},
                "home": {"use": "sandbox", **QUICK},
            }
        }
        async with make_router(config, plugins={"sandbox": Sandbox}, witness=witness) as router:
            await router.chat({**ASK, "model": "sandbox-fast"})
            [record] = witness.records
            assert record.tried == ("broken/sandbox-fast:rate_limited", "healthy/sandbox-fast:answered")
            status = {entry["name"]: entry["status"] for entry in (await router.status())["plugins"]}
            assert status["broken"] == {"simulated": True, "answered": 0, "failed": 1}
            assert status["healthy"] == {"simulated": True, "answered": 1, "failed": 0}
            reports = await router.check()
            assert sum("is simulated" in report.text for report in reports) == 3

    asyncio.run(whole())


# How it fails


FAILS = {
    "rate_limited": FailureKind.RATE_LIMITED,
    "quota_exhausted": FailureKind.QUOTA_EXHAUSTED,
    "credit": FailureKind.CREDIT,
    "auth": FailureKind.AUTH,
    "forbidden": FailureKind.FORBIDDEN,
    "missing_model": FailureKind.MISSING_MODEL,
    "server": FailureKind.SERVER,
    "unavailable": FailureKind.UNAVAILABLE,
    "too_large": FailureKind.TOO_LARGE,
    "bad_request": FailureKind.BAD_REQUEST,
    "content_filter": FailureKind.CONTENT_FILTER,
    "connect": FailureKind.CONNECT,
    "timeout": FailureKind.TIMEOUT,
    "silent": FailureKind.TIMEOUT,
    "empty": FailureKind.EMPTY,
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fail", "kind"), FAILS.items())
def test_it_fails_as_it_is_told_and_the_core_reads_it_as_what_it_is(fail: str, kind: FailureKind, stream: bool) -> None:
    witness = Witness()

    async def body(router: Router) -> None:
        with pytest.raises((RequestError, AnswerError)):
            await (streamed(router, ASK) if stream else router.chat(ASK))

    limits = {"max_attempts": 1, "first_event_seconds": 0.2, "answer_seconds": 0.2}
    run(body, witness=witness, fail=fail, more={"limits": limits})
    [failure] = witness.failures
    assert failure.kind is kind
    assert failure.retry_after == (30.0 if fail == "rate_limited" else None)


def test_a_cut_answer_is_no_answer_and_a_cut_stream_is_seen_to_break_off() -> None:
    witness = Witness()

    async def body(router: Router) -> None:
        with pytest.raises(RequestError):
            await router.chat(ASK)
        chunks: list[dict[str, Any]] = []

        async def read() -> None:
            async for chunk in router.stream(ASK):
                chunks.append(chunk)  # noqa: PERF401 - what came before the break is what counts

        with pytest.raises(RequestError, match="broke off"):
            await read()
        assert text_of(chunks).startswith("[simulated]")

    run(body, witness=witness, fail="cut", more={"limits": {"max_attempts": 1}})
    assert [failure.kind for failure in witness.failures] == [FailureKind.SERVER, FailureKind.INTERRUPTED]


def test_the_wait_that_a_refusal_states_is_a_matter_of_configuration() -> None:
    witness = Witness()

    async def body(router: Router) -> None:
        with pytest.raises(RequestError):
            await router.chat(ASK)

    run(body, witness=witness, fail="server", retry_after=12.5, more={"limits": {"max_attempts": 1}})
    assert witness.failures[0].retry_after == 12.5


def test_a_share_of_requests_fails_and_the_seed_decides_which() -> None:
    def trail(seed: int) -> str:
        witness = Witness()

        async def body(router: Router) -> None:
            for _ in range(60):
                try:
                    await router.chat({**ASK, "model": "sandbox/sandbox-fast"})
                except RequestError:
                    continue

        run(body, witness=witness, failure_rate=0.3, seed=seed, more={"limits": {"max_attempts": 1}})
        assert {failure.kind for failure in witness.failures} == {FailureKind.SERVER}
        return "".join("x" if record.outcome is Outcome.FAILED else "." for record in witness.records)

    assert trail(7) == trail(7)
    assert trail(7) != trail(8)
    assert 8 <= trail(7).count("x") <= 30


def test_wrong_options_are_refused_at_the_start_with_their_path() -> None:
    with pytest.raises(ConfigError) as caught:
        make_router(
            {"plugins": {"sandbox": {"fail": "rate_limit", "failure_rate": 2, "base_url": "x"}}},
            plugins={"sandbox": Sandbox},
        )
    text = str(caught.value)
    assert "plugins.sandbox.fail: expected one of" in text
    assert "did you mean 'rate_limited'" in text
    assert "plugins.sandbox.failure_rate" in text
    assert "plugins.sandbox.base_url" in text


def test_a_client_that_leaves_ends_the_stream() -> None:
    async def body(router: Router) -> None:
        chunks = 0
        async for _ in router.stream(ASK):
            chunks += 1
            if chunks == 3:
                break
        assert chunks == 3
        assert (await router.chat(ASK))["choices"]

    run(body, word_seconds=0.001)


def test_latency_is_waited_before_the_answer() -> None:
    async def body(router: Router) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await router.chat(ASK)
        assert loop.time() - started >= 0.05

    run(body, latency_seconds=0.05)


def test_its_defaults_are_those_of_its_section() -> None:
    assert SandboxConfig() == SandboxConfig(local=True, fail=None, failure_rate=None, seed=0)
    assert repr(Sandbox(name="demo")) == "<Sandbox demo, simulated>"
