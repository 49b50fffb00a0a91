"""The translation both ways: what is asked in Anthropic's words, and what its answers become."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from routerpool_anthropic.answer import Translation, completion, usage_of
from routerpool_anthropic.question import JSON_ONLY, Untranslatable, Ways, question
from routerpool_anthropic.schema import closed
from routerpool_anthropic.turns import turns

from routerpool import Failure, FailureKind, Model
from routerpool.wire import Cutter, State, Stream, loads, split_events

HELLO = [{"role": "user", "content": "Hello"}]
FUNCTION = {"name": "forecast", "description": "The weather.", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
PNG = "data:image/png;base64,iVBORw0KGgo="


def asked(model: Model | None = None, **more: Any) -> dict[str, Any]:
    return question({"model": "m", "messages": HELLO, **more}, model or Model(id="m"))


def way(**ways: Any) -> Model:
    return Model(id="m", max_output=ways.pop("max_output", 64000), settings={"anthropic": ways})


def told(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return turns(messages)[1]


# There: messages


def test_system_and_developer_messages_go_to_the_front_wherever_they_stood() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "Who are you?"},
    ]
    body = asked(messages=messages)
    assert body["system"] == "Be brief.\n\nBe kind."
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "Who are you?"}]}
    ]


def test_instructions_alone_are_asked_by_the_user() -> None:
    body = asked(messages=[{"role": "system", "content": "Say hello."}])
    assert body["messages"] == [{"role": "user", "content": "Say hello."}]
    assert "system" not in body


def test_marks_of_what_to_cache_pass_through_everywhere() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    body = asked(
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "Long.", "cache_control": mark}]},
            {"role": "user", "content": "Hi", "cache_control": mark},
            {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "Sun", "cache_control": mark},
        ],
        tools=[{**TOOL, "cache_control": mark}],
        cache_control=mark,
    )
    assert body["system"] == [{"type": "text", "text": "Long.", "cache_control": mark}]
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Hi", "cache_control": mark}]
    assert body["messages"][2]["content"][0]["cache_control"] == mark
    assert body["messages"][2]["content"][0]["content"] == "Sun"
    assert body["tools"][0]["cache_control"] == mark
    assert body["cache_control"] == mark


def test_images_and_files_become_blocks_with_a_source() -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://images.example/cat.jpg"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
        {"type": "text", "text": ""},
    ]
    [message] = told({"role": "user", "content": parts})
    assert message["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "source": {"type": "url", "url": "https://images.example/cat.jpg"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "a.pdf",
        },
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}},
        {"type": "image_url", "image_url": {}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:text/csv;base64,AAAA"}},
        "bare",
        {"type": ["text"]},
    ],
)
def test_a_part_without_a_form_here_is_refused_and_not_left_out(part: Any) -> None:
    with pytest.raises(Untranslatable):
        told({"role": "user", "content": [part]})


def test_calls_and_their_results_become_blocks_and_results_come_in_one_message() -> None:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Rome"}'}},
        {"id": "functions.g:1", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]
    messages = told(
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sun"},
        {"role": "tool", "tool_call_id": "functions.g:1", "content": [{"type": "image_url", "image_url": PNG}]},
        {"role": "user", "content": "And now?"},
    )
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "functions_g_1", "name": "g", "input": {}},
    ]
    first, second, text = messages[2]["content"]
    assert first == {"type": "tool_result", "tool_use_id": "call_1", "content": "Sun"}
    assert (second["tool_use_id"], second["content"][0]["type"]) == ("functions_g_1", "image")
    assert text == {"type": "text", "text": "And now?"}


@pytest.mark.parametrize("arguments", ["{broken", "[1]", '"text"'])
def test_arguments_that_are_no_object_are_kept_as_text(arguments: str) -> None:
    [message] = told(
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}
    )
    assert message["content"][0]["input"] == {"arguments": arguments}


def test_an_answer_that_is_begun_does_not_end_in_blanks() -> None:
    assert told(*HELLO, {"role": "assistant", "content": "It is \n"})[-1]["content"] == "It is"
    assert told(*HELLO, {"role": "assistant", "content": " \n"})[-1]["role"] == "user"


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(Untranslatable, match="narrator"):
        told({"role": "narrator", "content": "Once"})


# There: thinking handed back


SIGNED = {"type": "reasoning.text", "text": "Hm", "signature": "sig", "format": "anthropic-claude-v1", "index": 0}


@pytest.mark.parametrize(
    "kept",
    [
        {"reasoning_details": [SIGNED, {"type": "reasoning.encrypted", "data": "xx", "index": 1}]},
        {
            "reasoning_details": [
                {"type": "reasoning.text", "text": "H", "index": 0},
                {"type": "reasoning.text", "text": "m", "index": 0},
                {"type": "reasoning.text", "signature": "sig", "index": 0},
                {"type": "reasoning.encrypted", "data": "xx", "index": 1},
            ]
        },
        {
            "thinking_blocks": [
                {"type": "thinking", "thinking": "Hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xx"},
            ]
        },
    ],
    ids=["details", "fragments", "blocks"],
)
def test_thinking_goes_back_first_and_with_its_signature(kept: dict[str, Any]) -> None:
    [message] = told({"role": "assistant", "content": "Yes.", "reasoning_content": "Hm", **kept})
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "text", "text": "Yes."},
    ]


def test_what_another_providers_model_thought_does_not_go_to_anthropic() -> None:
    foreign = [
        {**SIGNED, "format": "google-gemini-v1"},
        {"type": "reasoning.text", "text": "unsigned", "index": 1},
        "rubbish",
    ]
    assert told({"role": "assistant", "content": "Yes.", "reasoning_details": foreign})[0]["content"] == "Yes."
    unsigned = [{"type": "thinking", "thinking": "Hm"}, None]
    assert told({"role": "assistant", "content": "Yes.", "thinking_blocks": unsigned})[0]["content"] == "Yes."


# There: tools


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        ("auto", None, None),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("none", False, {"type": "none"}),
        ({"type": "function", "function": {"name": "forecast"}}, True, {"type": "tool", "name": "forecast"}),
        ({"type": "tool", "name": "forecast"}, None, {"type": "tool", "name": "forecast"}),
    ],
)
def test_the_choice_of_tools_and_the_wish_for_one_at_a_time(choice: Any, parallel: Any, sent: Any) -> None:
    body = asked(tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel)
    assert body.get("tool_choice") == sent
    assert "parallel_tool_calls" not in body


def test_tools_are_declared_as_anthropic_does_and_its_own_pass() -> None:
    own = {"type": "bash_20250124", "name": "bash"}
    bare = {"type": "function", "function": {"name": "now"}}
    body = asked(tools=[TOOL, bare, own, {"type": "web_search_preview"}])
    assert body["tools"] == [
        {"name": "forecast", "description": "The weather.", "input_schema": FUNCTION["parameters"]},
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
        own,
        {"type": "web_search_20250305", "name": "web_search"},
    ]


def test_a_strict_tool_has_a_closed_schema() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    body = asked(tools=[{"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}])
    assert body["tools"][0]["strict"] is True
    assert body["tools"][0]["input_schema"]["additionalProperties"] is False
    assert schema == {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}


@pytest.mark.parametrize("tool", [{"type": "namespace", "name": "x"}, {"type": "function"}, {"type": "custom"}, 7])
def test_a_tool_without_a_form_here_is_refused(tool: Any) -> None:
    with pytest.raises(Untranslatable):
        asked(tools=[tool])


def test_a_history_with_calls_declares_its_tools_where_the_client_has_left_them_out() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *HELLO,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    body = asked(messages=messages)
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


# There: the rest of the request


@pytest.mark.parametrize(
    ("more", "most", "sent"),
    [
        ({}, 64000, 64000),
        ({}, None, 4096),
        ({"max_tokens": 100}, 64000, 100),
        ({"max_completion_tokens": 90000}, 64000, 64000),
        ({"max_tokens": 90000}, None, 90000),
    ],
)
def test_the_most_tokens_are_always_said_and_never_beyond_the_models_own(more: Any, most: Any, sent: int) -> None:
    body = asked(Model(id="m", max_output=most), **more)
    assert body["max_tokens"] == sent
    assert "max_completion_tokens" not in body


def test_only_fields_that_the_api_knows_are_sent() -> None:
    body = asked(
        seed=1,
        logprobs=True,
        logit_bias={"1": 1},
        presence_penalty=1,
        stream_options={"include_usage": True},
        store=False,
        top_k=5,
        n=1,
        stop=["END", " ", ""],
        user="u-1",
        metadata={"user_id": "u-2", "team": "x"},
        service_tier="default",
    )
    assert body == {
        "model": "m",
        "messages": HELLO,
        "max_tokens": 4096,
        "top_k": 5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-2"},
        "service_tier": "standard_only",
    }
    assert asked(stop="END")["stop_sequences"] == ["END"]
    assert "stop_sequences" not in asked(stop="\n")
    assert asked(user="u-1")["metadata"] == {"user_id": "u-1"}


def test_json_of_a_schema_is_asked_by_the_api_and_json_of_any_shape_by_words() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    body = asked(response_format=form, output_config={"effort": "low"})
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["type"] == "json_schema"
    sent = body["output_config"]["format"]["schema"]
    assert sent["additionalProperties"] is False
    assert sent["properties"]["a"] == {"type": "string", "description": "(maxLength: 3)"}
    assert asked(response_format={"type": "json_object"})["system"] == JSON_ONLY
    assert asked(response_format={"type": "text"}) == asked()


def test_a_schema_is_closed_at_every_depth_and_its_bounds_are_said() -> None:
    schema = {
        "type": "object",
        "properties": {
            "when": {"type": "string", "format": "date-time"},
            "path": {"type": "string", "format": "path", "description": "Where"},
            "all": {"type": "array", "minItems": 3, "items": {"$ref": "#/$defs/one"}},
            "minimum": {"oneOf": [{"type": "integer", "minimum": 2}, {"type": "null"}]},
        },
        "$defs": {"one": {"type": "object", "properties": {}, "additionalProperties": True}},
    }
    kept = closed(schema)
    assert kept["properties"]["when"] == {"type": "string", "format": "date-time"}
    assert kept["properties"]["path"] == {"type": "string", "description": "Where (format: path)"}
    assert kept["properties"]["all"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/one"},
        "description": "(minItems: 3)",
    }
    assert kept["properties"]["minimum"]["anyOf"][0] == {"type": "integer", "description": "(minimum: 2)"}
    assert kept["$defs"]["one"]["additionalProperties"] is False
    deep: dict[str, Any] = {}
    deep["items"] = deep
    assert closed(deep)["items"] is not None, "a schema that holds itself has an end"


@pytest.mark.parametrize(
    ("ways", "effort", "thinking", "level"),
    [
        ({"thinking": "budget"}, "low", {"type": "enabled", "budget_tokens": 1024}, None),
        ({"thinking": "budget"}, "high", {"type": "enabled", "budget_tokens": 16384}, None),
        ({"thinking": "budget"}, "none", None, None),
        ({"thinking": "budget", "max_output": 1024}, "high", None, None),
        ({"thinking": "budget", "max_output": 5000}, "high", {"type": "enabled", "budget_tokens": 4999}, None),
        ({"thinking": "adaptive"}, "medium", {"type": "adaptive"}, "medium"),
        ({"thinking": "adaptive"}, "xhigh", {"type": "adaptive"}, "high"),
        ({"thinking": "adaptive", "xhigh": True}, "xhigh", {"type": "adaptive"}, "xhigh"),
        ({"thinking": "adaptive"}, "none", {"type": "disabled"}, None),
        ({"thinking": "always"}, "minimal", {"type": "adaptive"}, "low"),
        ({"thinking": "always"}, "none", None, None),
        ({}, None, None, None),
    ],
)
def test_the_effort_of_thinking_is_told_as_each_model_wants_it(
    ways: Any, effort: Any, thinking: Any, level: Any
) -> None:
    body = asked(way(**ways), reasoning_effort=effort)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == level


def test_what_the_client_says_of_thinking_in_anthropics_own_words_goes_before() -> None:
    own = {"type": "enabled", "budget_tokens": 2000}
    body = asked(way(), thinking=own, reasoning_effort="high", temperature=0.5)
    assert body["thinking"] == own
    assert "temperature" not in body, "who thinks takes no temperature"


def test_a_call_that_is_forced_goes_without_thinking_or_elsewhere() -> None:
    body = asked(way(thinking="budget"), tools=[TOOL], tool_choice="required", reasoning_effort="high")
    assert "thinking" not in body
    with pytest.raises(Untranslatable):
        asked(way(thinking="always", forced_tools=False), tools=[TOOL], tool_choice="required")
    assert asked(way(forced_tools=False), tools=[TOOL], tool_choice="auto")["tools"]


def test_sampling_is_left_out_where_it_is_refused() -> None:
    body = asked(way(), temperature=0.5, top_p=0.9, top_k=3)
    assert (body["temperature"], body["top_k"], "top_p" in body) == (0.5, 3, False)
    assert asked(way(), top_p=0.9)["top_p"] == 0.9
    assert not {"temperature", "top_p", "top_k"} & asked(way(sampling=False), temperature=0, top_p=1, top_k=3).keys()


def test_of_a_model_that_nobody_knows_a_new_one_is_assumed() -> None:
    assert Ways.of(Model(id="claude-9")) == Ways(thinking="adaptive", sampling=True, forced_tools=True)


# Back: whole


def message(*blocks: Any, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 4}
    about = {"id": "msg_1", "type": "message", "model": "m", "content": list(blocks), "stop_reason": "end_turn"}
    return {**about, "usage": usage, **more}


def test_thinking_is_kept_apart_from_the_text_and_keeps_its_signature() -> None:
    whole = completion(
        message(
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xx"},
            {"type": "text", "text": "Yes"},
            {"type": "text", "text": "."},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            stop_reason="tool_use",
        )
    )
    [choice] = whole["choices"]
    said = choice["message"]
    assert (said["content"], said["reasoning_content"]) == ("Yes.", "Hm")
    assert said["tool_calls"] == [{"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
    assert choice["finish_reason"] == "tool_calls"
    back = told(*HELLO, said)[-1]["content"]
    assert back[:2] == [
        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xx"},
    ]


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "length"),
        ("a_reason_of_tomorrow", "stop"),
        (None, None),
    ],
)
def test_why_it_ended_is_told_in_both_languages(stop: str | None, finish: str | None) -> None:
    [choice] = completion(message({"type": "text", "text": "Hi"}, stop_reason=stop))["choices"]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == (finish, stop)


def test_usage_counts_the_cache_in_and_says_so() -> None:
    assert usage_of({"input_tokens": 3, "output_tokens": 4}) == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
    }
    assert usage_of(None) is None
    assert usage_of({"output_tokens": 4}) is None, "half a report is none"
    rubbish = usage_of({"input_tokens": "3", "output_tokens": -1, "cache_read_input_tokens": True})
    assert rubbish == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


# Back: streamed


def translate(events: Sequence[dict[str, Any]], cuts: Sequence[int] = ()) -> tuple[list[dict[str, Any]], Stream]:
    """The chunks that a client gets of these events, whose bytes are cut at these places."""
    whole = b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)
    places = [0, *cuts, len(whole)]
    translation, cutter = Translation(), Cutter()

    def explain(data: bytes) -> Failure:
        return Failure(kind=FailureKind.SERVER, message=data.decode())

    stream, out = Stream("p", explain, strip_usage=False), b""
    for start, end in pairwise(places):
        for event in split_events(cutter.feed(whole[start:end])):
            out += stream.feed(translation.event(event))
            if stream.state is State.READY:
                out += stream.open()
    out += stream.end()
    if stream.state is State.READY:
        out += stream.open()
    return [loads(e[6:]) for e in split_events(out) if e.startswith(b"data: ")], stream


def joined(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The message that the chunks add up to, as a client puts it together."""
    said: dict[str, Any] = {"content": "", "reasoning_content": "", "reasoning_details": [], "refusal": ""}
    calls: dict[int, dict[str, str]] = {}
    finish = None
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        finish = choice["finish_reason"] or finish
        for name in ("content", "reasoning_content", "refusal"):
            said[name] += choice["delta"].get(name) or ""
        said["reasoning_details"] += choice["delta"].get("reasoning_details") or []
        for call in choice["delta"].get("tool_calls") or ():
            made = calls.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
            made["id"] += call.get("id") or ""
            made["name"] += call["function"].get("name") or ""
            made["arguments"] += call["function"].get("arguments") or ""
    return {**said, "calls": calls, "finish": finish}


def recorded(name: str) -> list[dict[str, Any]]:
    folder = Path(os.environ.get("ROUTERPOOL_SHARED_DATA") or Path(__file__).parents[5] / "shared" / "data")
    path = folder / "reliability" / "streams" / f"{name}.chunks.txt"
    if not path.is_file():
        pytest.skip(f"the shared test data is not here: {path} (ROUTERPOOL_SHARED_DATA names its folder)")
    return [json.loads(line) for line in path.read_text().splitlines() if line]


RECORDED = ("anthropic-text", "anthropic-tool-no-args", "anthropic-message-delta-input-tokens", "anthropic-refusal")


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_stream_says_the_same_however_it_is_cut(name: str) -> None:
    events = recorded(name)
    chunks, stream = translate(events)
    assert stream.state is State.DONE
    chance = random.Random(name)
    for _ in range(30):
        again, _ = translate(events, sorted(chance.sample(range(1, 1500), 12)))
        assert joined(again) == joined(chunks)


def test_a_recorded_call_without_arguments_has_an_empty_object() -> None:
    chunks, stream = translate(recorded("anthropic-tool-no-args"))
    said = joined(chunks)
    assert said["content"] == "I'll update the issue list for you."
    assert said["calls"] == {0: {"id": "toolu_01QE1WLsSVp5hy5Q3GmGTmjP", "name": "updateIssueList", "arguments": "{}"}}
    assert said["finish"] == "tool_calls"
    assert stream.usage is not None
    assert (stream.usage.input, stream.usage.output) == (565, 48)


def test_a_recorded_refusal_is_filtered_and_says_why() -> None:
    said = joined(translate(recorded("anthropic-refusal"))[0])
    assert said["finish"] == "content_filter"
    assert "Usage Policy" in said["refusal"]


def test_of_usage_the_later_word_counts() -> None:
    _, stream = translate(recorded("anthropic-message-delta-input-tokens"))
    assert stream.usage is not None
    assert (stream.usage.input, stream.usage.output) == (61, 2)


def test_a_recorded_message_start_that_comes_twice_counts_once_and_a_spliced_one_breaks_the_stream() -> None:
    chunks, stream = translate(recorded("duplicate-message-start"))
    assert joined(chunks)["content"] == "Hello, World!"
    assert sum("role" in chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]) == 1
    assert stream.state is State.DONE
    _, stream = translate(recorded("spliced-message-start"))
    assert stream.state is State.BROKEN


def test_streamed_thinking_comes_at_once_and_its_signature_at_the_end_of_its_block() -> None:
    def delta(index: int, **fields: Any) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": fields}

    def start(index: int, **fields: Any) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": fields}

    def stop(index: int) -> dict[str, Any]:
        return {"type": "content_block_stop", "index": index}

    begin = {"type": "message_start", "message": message(stop_reason=None)}
    events = [
        begin,
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="H"),
        delta(0, type="thinking_delta", thinking="m"),
        delta(0, type="signature_delta", signature="sig"),
        stop(0),
        start(1, type="redacted_thinking", data="xx"),
        stop(1),
        start(2, type="server_tool_use", id="s", name="web_search", input={}),
        delta(2, type="input_json_delta", partial_json='{"query": "x"}'),
        stop(2),
        start(3, type="text", text=""),
        delta(3, type="text_delta", text="Yes"),
        stop(3),
        start(4, type="tool_use", id="a", name="f", input={}),
        delta(4, type="input_json_delta", partial_json='{"n"'),
        delta(4, type="input_json_delta", partial_json=": 1}"),
        stop(4),
        start(5, type="tool_use", id="b", name="g", input={"k": 1}),
        stop(5),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 30}},
        {"type": "message_stop"},
    ]
    chunks, stream = translate(events)
    said = joined(chunks)
    assert (said["reasoning_content"], said["content"], said["finish"]) == ("Hm", "Yes", "tool_calls")
    assert said["calls"] == {
        0: {"id": "a", "name": "f", "arguments": '{"n": 1}'},
        1: {"id": "b", "name": "g", "arguments": '{"k":1}'},
    }
    back = told(*HELLO, {"role": "assistant", **said})[-1]["content"]
    assert back[:2] == [
        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xx"},
    ]
    assert stream.state is State.DONE


def test_what_is_no_event_of_this_wire_is_left_to_the_streams_reader() -> None:
    translation = Translation()
    assert translation.event(b": hello\n\n") == b": hello\n\n"
    assert translation.event(b"data: {junk\n\n") == b"data: {junk\n\n"
    assert translation.event(b'data: {"error": "no"}\n\n') == b'data: {"error": "no"}\n\n'
    assert translation.event(b'event: ping\ndata: {"type": "ping"}\n\n').startswith(b":"), "a sign of life goes on"
