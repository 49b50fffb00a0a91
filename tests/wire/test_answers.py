"""The chat-completions format of answers: usage, errors and deltas in every spelling that providers use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.errors import CODES, RequestError
from routerpool.providers.failures import failure_of_answer
from routerpool.types import FailureKind, Usage
from routerpool.wire.answers import answer_of, delta_of, whole_opening
from routerpool.wire.bodies import gathered
from routerpool.wire.errors import ErrorText, error_event, read_error
from routerpool.wire.json import TooManyValuesError, dumps, event_bytes, loads
from routerpool.wire.sse import event_data, split_events
from routerpool.wire.usage import read_usage

law = settings(max_examples=100, deadline=None)

# Usage

OPENAI = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (OPENAI, Usage(input_uncached=100, output=20)),
        (
            OPENAI
            | {"prompt_tokens_details": {"cached_tokens": 60}, "completion_tokens_details": {"reasoning_tokens": 7}},
            Usage(input_uncached=40, input_cached=60, output=20, reasoning=7),
        ),
        (
            OPENAI | {"prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30}},
            Usage(input_uncached=10, input_cached=60, cache_write=30, output=20),
        ),
        (
            OPENAI | {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
            Usage(input_uncached=36, input_cached=64, output=20),
        ),
        (
            {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 60}}
            | {"output_tokens_details": {"reasoning_tokens": 7}},
            Usage(input_uncached=40, input_cached=60, output=20, reasoning=7),
        ),
        (
            {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30},
            Usage(input_uncached=10, input_cached=60, cache_write=30, output=20),
        ),
        ({"input_tokens": 10}, Usage(input_uncached=10)),
        (
            OPENAI | {"prompt_tokens_details": None, "completion_tokens_details": None},
            Usage(input_uncached=100, output=20),
        ),
        (OPENAI | {"prompt_tokens_details": {"cached_tokens": 500}}, Usage(input_cached=500, output=20)),
        (OPENAI | {"completion_tokens": None}, Usage(input_uncached=100, output=20)),
        (OPENAI | {"completion_tokens": -3}, Usage(input_uncached=100, output=20)),
        (OPENAI | {"completion_tokens": 2.5}, Usage(input_uncached=100, output=20)),
        (OPENAI | {"completion_tokens": True}, Usage(input_uncached=100, output=20)),
        ({"prompt_tokens": "many", "completion_tokens": 20}, Usage(output=20)),
        ({"prompt_tokens": -1, "completion_tokens": 20, "total_tokens": 120}, Usage(input_uncached=100, output=20)),
        ({"prompt_tokens": 100, "completion_tokens": -1, "total_tokens": -1}, Usage(input_uncached=100)),
        (OPENAI | {"prompt_tokens": 1 << 50}, Usage(input_uncached=100, output=20)),
        (OPENAI | {"cached_tokens": 60}, Usage(input_uncached=40, input_cached=60, output=20)),
        (OPENAI | {"cost": "much", "is_byok": 3, "cost_details": 4}, Usage(input_uncached=100, output=20)),
        (
            {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30}
            | {"cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10}},
            Usage(input_uncached=10, input_cached=60, cache_write=20, cache_write_1h=10, output=20),
        ),
        (
            {"input_tokens": 10, "output_tokens": 20, "output_tokens_details": {"thinking_tokens": 7}},
            Usage(input_uncached=10, output=20, reasoning=7),
        ),
        (
            OPENAI | {"total_tokens": 150, "completion_tokens_details": {"reasoning_tokens": 30}},
            Usage(input_uncached=100, output=50, reasoning=30),
        ),
        (
            OPENAI | {"total_tokens": 150, "completion_tokens_details": {"reasoning_tokens": 7}},
            Usage(input_uncached=100, output=20, reasoning=7),
        ),
        (OPENAI | {"total_tokens": 110}, Usage(input_uncached=100, output=20)),
    ],
)
def test_usage_is_read_in_every_dialect(raw: dict[str, Any], usage: Usage) -> None:
    read = read_usage({"usage": raw})

    assert read is not None
    assert read.source == "reported"
    assert [getattr(read, name) for name in COUNTS] == [getattr(usage, name) for name in COUNTS]
    assert read_usage({"x_groq": {"usage": raw}, "usage": None}) == read


COUNTS = ("input_uncached", "input_cached", "cache_write", "cache_write_1h", "output", "reasoning", "cost")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"usage": None},
        {"usage": {}},
        {"usage": 3},
        {"usage": [1]},
        {"usage": {"total_tokens": 3}},
        {"x_groq": {}},
        {"x_groq": None},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
        {"usage": {"prompt_tokens": -1, "completion_tokens": -1, "total_tokens": -1}},
        {"usage": {"input_tokens": 0, "output_tokens": 0}},
        {"usage": {"completion_tokens": 20}},
        {"choices": [], "timings": {}},
        {"timings": {"prompt_n": -1}},
        {"message": {"content": "Hi"}, "done": False},
        {"message": "Hi", "response": "Hi"},
        {"eval_count": 0, "prompt_eval_count": None},
        [],
        None,
        "usage",
    ],
)
def test_no_usage_is_none(body: Any) -> None:
    assert read_usage(body) is None


def test_the_whole_prompt_is_what_openai_counts() -> None:
    usage = read_usage({"usage": OPENAI | {"prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30}}})

    assert usage is not None
    assert usage.input == 100


# Errors


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"error": {"message": "slow down", "type": "rate_limit", "code": "limit"}},
            (None, "limit rate_limit", "slow down"),
        ),
        ({"error": {"message": "slow down", "code": 429}}, (429, "429", "slow down")),
        (
            [{"error": {"code": 429, "message": "spent", "status": "RESOURCE_EXHAUSTED"}}],
            (429, "429 RESOURCE_EXHAUSTED", "spent"),
        ),
        ({"error": "slow down"}, (None, "", "slow down")),
        ({"error": ["odd"]}, (None, "", "['odd']")),
        ({"error": True, "message": "x"}, (None, "", "True")),
        ({"error": {"message": None, "code": True}}, (None, "", "")),
        ({"error": {"code": "x"}, "choices": []}, (None, "x", "")),
        ({"success": False, "errors": [{"code": 7003, "message": "no route"}]}, (7003, "7003", "no route")),
        ({"errors": ["text"]}, (None, "", "text")),
        ({"title": "Bad", "detail": "no such model", "status": 404}, (404, "404", "no such model")),
        ({"detail": "Not Found"}, (None, "", "Not Found")),
        ({"title": "Bad gateway"}, (None, "", "Bad gateway")),
        ({"status": 429, "title": "Too Many Requests"}, (429, "429", "Too Many Requests")),
        ({"detail": {"message": "spent", "code": "quota"}}, (None, "quota", "spent")),
        ({"detail": [{"msg": "field required"}]}, (None, "", "[{'msg': 'field required'}]")),
        ({"detail": None}, (None, "", "")),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            (529, "overloaded_error", "Overloaded"),
        ),
        (
            {"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None},
            (429, "rate_limit_exceeded", "slow down"),
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "broke"}}},
            (None, "server_error", "broke"),
        ),
        (
            {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400},
            (400, "400 BadRequestError", "too long"),
        ),
        (
            {"object": "error", "message": "full", "type": "capacity", "code": "3505", "raw_status_code": 429},
            (429, "3505 capacity", "full"),
        ),
        ({"message": "Requests rate limit exceeded"}, (None, "", "Requests rate limit exceeded")),
        ({"message": "no such model", "statusCode": 404}, (404, "", "no such model")),
        ({"error": "Too Many Requests", "statusCode": 429}, (429, "", "Too Many Requests")),
        ({"error": {"message": "slow down", "code": "429"}}, (429, "429", "slow down")),
        ({"error": {"message": "spent", "status": "RESOURCE_EXHAUSTED"}}, (429, "RESOURCE_EXHAUSTED", "spent")),
        ({"error": {"error": {"message": "inner", "code": "x"}}}, (None, "x", "inner")),
        (
            {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "slow down upstream"}}},
            (429, "429", "Provider returned error slow down upstream"),
        ),
        ({"success": False, "errors": [], "result": None}, (None, "", "it says that it was no success")),
    ],
)
def test_an_error_is_found_in_every_wrapping(body: Any, error: tuple[int | None, str, str]) -> None:
    assert read_error(body) == ErrorText(*error)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"type": "overloaded_error", "message": "Overloaded"}}, FailureKind.SERVER),
        ({"error": {"type": "rate_limit_error", "message": "slow down"}}, FailureKind.RATE_LIMITED),
        ([{"error": {"status": "RESOURCE_EXHAUSTED", "message": "slow down"}}], FailureKind.RATE_LIMITED),
        ({"error": {"code": "insufficient_quota", "message": "pay"}}, FailureKind.CREDIT),
        ({"error": {"message": "Provider returned error", "code": 429}}, FailureKind.RATE_LIMITED),
        ({"error": {"code": "429", "message": "slow down"}}, FailureKind.RATE_LIMITED),
        ({"error": {"code": "invalid_api_key", "message": "no"}}, FailureKind.AUTH),
        ({"error": {"type": "invalid_request_error", "message": "no"}}, FailureKind.SERVER),
        ({"object": "error", "message": "full", "raw_status_code": 429}, FailureKind.RATE_LIMITED),
        ({"status": 429, "title": "Too Many Requests"}, FailureKind.RATE_LIMITED),
        ({"success": False, "errors": [{"code": 5007, "message": "no such model"}]}, FailureKind.SERVER),
        ("<!DOCTYPE html><title>502</title>", FailureKind.SERVER),
    ],
)
def test_an_error_inside_a_200_is_of_the_kind_that_it_names(body: Any, kind: FailureKind) -> None:
    raw = body.encode() if isinstance(body, str) else dumps(body)

    assert failure_of_answer("p", 200, {}, raw).kind is kind


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"choices": [], "error": None},
        {"choices": [], "error": {}},
        {"choices": [], "detail": "a field of its own"},
        {"choices": [], "message": "Hi"},
        {"choices": [], "success": False},
        {"message": "Hi", "done": True},
        {"message": {"content": "Hi"}},
        {"type": "ping"},
        {"success": True, "errors": [], "result": {"response": "Hi"}},
        {"type": "response.failed", "response": {"error": None}},
        {"error": ""},
        {"errors": []},
        {"errors": "text"},
        [],
        [3],
        None,
        "error",
        3,
    ],
)
def test_what_is_no_error_is_none(body: Any) -> None:
    assert read_error(body) is None


# Deltas


def delta(**fields: Any) -> Any:
    """The delta of one chunk."""
    return delta_of({"choices": [{"index": 0, "delta": fields}]})


@pytest.mark.parametrize(
    ("fields", "text", "reasoning"),
    [
        ({"content": "a"}, "a", ""),
        ({"content": None}, "", ""),
        ({"content": 3}, "", ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab", ""),
        ({"content": [{"type": "thinking"}, 3]}, "", ""),
        ({"reasoning_content": "hm"}, "", "hm"),
        ({"reasoning": "hm"}, "", "hm"),
        ({"reasoning": {"odd": 1}}, "", ""),
        ({"content": "a", "reasoning": "hm"}, "a", "hm"),
    ],
)
def test_what_a_delta_says(fields: dict[str, Any], text: str, reasoning: str) -> None:
    found = delta(**fields)

    assert (found.text, found.reasoning) == (text, reasoning)


def test_what_several_choices_say_is_put_together() -> None:
    choices = [{"delta": {"content": "a"}}, {"delta": {"content": "b"}, "finish_reason": "stop"}, {"delta": None}]
    found = delta_of({"choices": choices})

    assert found is not None
    assert (found.text, found.finish_reason) == ("ab", "stop")


@pytest.mark.parametrize(
    "event", [{}, {"choices": None}, {"choices": {}}, {"choices": [3]}, {"choices": [{"delta": 3}]}, [], None]
)
def test_an_event_of_another_shape_is_no_delta(event: Any) -> None:
    assert delta_of(event) is None


def test_a_finish_reason_that_is_no_text_is_none() -> None:
    found = delta_of({"choices": [{"delta": {}, "finish_reason": 3}]})

    assert found is not None
    assert found.finish_reason is None


def test_fragments_of_tool_calls_are_put_together_by_index() -> None:
    def fragment(index: int, name: str = "", arguments: str = "", **more: Any) -> dict[str, Any]:
        return {"index": index, "function": {"name": name, "arguments": arguments}, **more}

    def event(*calls: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"tool_calls": list(calls)}}]}

    events = [
        event(fragment(0, "look", '{"a"', id="t0")),
        event(fragment(1, "ask", "{}", id="t1"), fragment(0, arguments=": 1}")),
        event("odd", {"index": 2}),
    ]
    opening = whole_opening(answer_of(gathered(events)))

    assert [(call.get("id"), call["function"]) for call in opening.tool_calls] == [
        ("t0", {"name": "look", "arguments": '{"a": 1}'}),
        ("t1", {"name": "ask", "arguments": "{}"}),
        (None, {"name": "", "arguments": ""}),
    ]


# Plain answers


def answer(message: Any, finish: Any = "stop") -> dict[str, Any]:
    """A plain answer."""
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("message", "meaningful"),
    [
        ({"content": "a"}, True),
        ({"content": ""}, False),
        ({"content": None}, False),
        ({}, False),
        ({"content": None, "tool_calls": [{"id": "t"}]}, True),
        ({"content": None, "function_call": {"name": "f"}}, True),
        ({"content": None, "reasoning": "hm"}, True),
        ({"content": None, "refusal": "no"}, True),
        ({"content": [{"type": "text", "text": "a"}]}, True),
    ],
)
def test_whether_a_plain_answer_says_anything(message: dict[str, Any], meaningful: bool) -> None:
    body = answer(message)
    said = answer_of(body)

    assert said is not None
    assert said.meaningful is meaningful
    opening = whole_opening(said, body)
    assert (opening.complete, opening.finish_reason, opening.body) == (True, "stop", body)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [3]},
        answer(None),
        answer("text"),
        {"choices": [{}]},
    ],
)
def test_a_body_of_another_shape_is_no_answer(body: Any) -> None:
    assert answer_of(body) is None


# Any rubbish

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-9, 999)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
NAMES = (
    *("choices", "delta", "message", "content", "type", "text", "tool_calls", "function_call", "function", "index"),
    *("error", "errors", "code", "detail", "status", "usage", "x_groq", "prompt_tokens", "input_tokens"),
    *("prompt_tokens_details", "cached_tokens", "finish_reason", "reasoning", "refusal", "title", "success"),
    *("timings", "cache_n", "eval_count", "total_tokens", "completion_tokens", "completion_tokens_details", "response"),
    *("output_tokens", "cost", "cost_details", "is_byok", "cost_in_usd_ticks", "cache_creation", "metadata", "raw"),
)
rubbish = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@law
@given(body=rubbish)
def test_any_json_is_read_without_a_defect(body: Any) -> None:
    usage, error = read_usage(body), read_error(body)

    if usage is not None:
        assert min(getattr(usage, name) or 0 for name in COUNTS) >= 0
        assert usage.input or usage.output
    if error is not None:
        assert (type(error.code), type(error.text)) == (str, str)


@law
@given(parts=st.dictionaries(st.sampled_from([n for n in NAMES if n != "tool_calls"]), rubbish, max_size=4))
def test_any_delta_is_read_without_a_defect(parts: dict[str, Any]) -> None:
    found = delta_of({"choices": [{"delta": parts}]})
    plain = answer_of({"choices": [{"message": parts}]})

    assert found is not None
    assert plain is not None
    assert found.meaningful is plain.meaningful
    joined = answer_of(gathered([{"choices": [{"delta": parts}]}]))
    assert joined is not None
    assert joined.text == plain.text


@pytest.mark.parametrize("calls", [5, True, {"id": "t"}, "text"])
def test_tool_calls_of_another_shape_are_none(calls: Any) -> None:
    found = delta(tool_calls=calls)

    assert list(found.tool_calls) == []


@pytest.mark.parametrize("calls", [5, True])
def test_tool_calls_of_another_shape_beside_a_function_call_are_none(calls: Any) -> None:
    assert delta(tool_calls=calls, function_call={"name": "f"}).meaningful


# JSON and events


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"Infinity", b'"\xff"', b"[" * 100_000, b"{} {}", b"'a'"])
def test_rubbish_is_one_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        loads(data)


@law
@given(event=st.dictionaries(st.text(max_size=5), rubbish, max_size=3))
def test_an_event_on_the_wire_is_one_event(event: dict[str, Any]) -> None:
    raw = event_bytes(event)
    data = event_data(raw)

    assert split_events(raw) == [raw]
    assert data is not None
    assert json.loads(data) == event


def test_an_error_event_is_openais_error_object_and_no_end() -> None:
    error = RequestError("upstream_interrupted", "it broke off\n\ndata: [DONE]", details={"attempts": []})
    raw = error_event(error)

    assert len(split_events(raw)) == 1
    assert json.loads(event_data(raw) or b"") == {
        "error": {
            "message": "it broke off\n\ndata: [DONE]",
            "type": CODES["upstream_interrupted"].type,
            "param": None,
            "code": "upstream_interrupted",
            "attempts": [],
        }
    }


FEW, MANY = 1_000, 400_000


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1.5", b'"ab"', b'{"a":1}', b"[[1]]"])
def test_a_document_of_very_many_values_is_refused_before_it_takes_its_memory(value: bytes) -> None:
    document = b"[" + b",".join([value] * MANY) + b"]" + b" " * (1 << 20)
    with pytest.raises(TooManyValuesError, match="more than 250,000 values"):
        loads(document, 250_000)
    assert loads(b"[" + b",".join([value] * FEW) + b"]" + b" " * (1 << 20), 250_000)


def test_what_stands_in_texts_is_no_value() -> None:
    text = '{"a": [1, 2, 3], "b": "c\\\\"}, ' * MANY
    assert loads(dumps([text, {"text": text}]), 250_000) == [text, {"text": text}]
