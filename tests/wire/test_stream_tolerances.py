"""What the stream machine takes from providers that write their chunks otherwise than the book says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from routerpool.types import FailureKind, Usage
from routerpool.wire.sse import DONE
from routerpool.wire.stream import State, Stream

from .test_stream import ROLE, STOP, WORDS, chunk, drive, explain, opened, sse

UNKNOWN = [
    {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
    {"annotations": [{"type": "url_citation", "url_citation": {"url": "http://a"}}]},
    {"audio": {"id": "a1"}},
    {"thinking": "hm"},
    {"reasoning_text": "hm"},
    {"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
    {"reasoning": {"content": "hm"}},
    {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
    {"a_field_nobody_knows": {"deep": ["x"]}},
    {"content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]},
]
EMPTY = [
    {},
    {"role": "assistant"},
    {"content": None, "images": [], "audio": None, "reasoning": {"content": ""}},
    {"content": [{"type": "text", "text": ""}]},
    {"reasoning_details": [{"type": "reasoning.text", "text": "", "format": "x", "index": 0}]},
    {"refusal": "", "a_field_nobody_knows": {"deep": [""]}},
]


@pytest.mark.parametrize("delta", UNKNOWN, ids=str)
def test_whatever_is_in_a_chunk_but_the_role_is_an_answer(delta: dict[str, Any]) -> None:
    end = drive([sse(ROLE, chunk(delta), STOP) + DONE])
    stream = opened()
    stream.feed(sse(chunk(delta)))

    assert end.stream.state is State.DONE
    assert end.events == [ROLE, chunk(delta), STOP]
    assert stream.progress


@pytest.mark.parametrize("delta", EMPTY, ids=str)
def test_a_chunk_of_empty_fields_is_no_answer(delta: dict[str, Any]) -> None:
    end = drive([sse(ROLE, chunk(delta), STOP) + DONE])
    stream = opened()
    stream.feed(sse(chunk(delta)))

    assert end.stream.failure is not None
    assert end.stream.failure.kind is FailureKind.EMPTY
    assert not stream.progress


# What is no event


@pytest.mark.parametrize(
    "nothing", [b"data:\n\n", b"data: \n\n", b"data:   \n\n", b"data\n\n", b"event: ping\n\n", b"id: 7\nretry: 9\n\n"]
)
def test_an_event_without_data_is_none(nothing: bytes) -> None:
    pieces = [sse(event) for event in [ROLE, *WORDS, STOP]]
    end = drive([nothing, nothing.join(pieces), nothing, DONE])

    assert end.out == b"".join(pieces)
    assert end.stream.state is State.DONE


def test_an_event_of_several_lines_of_data_reaches_the_client_as_one() -> None:
    event = b'event: message\ndata: {"choices": [{"index": 0,\ndata:"delta": {"content": "a"}}]}\nid: 1\n\n'
    end = drive([sse(WORDS[0]), event, sse(STOP), DONE])

    (line,) = [line for line in end.out.split(b"\n") if b'"a"' in line]
    assert json.loads(line.removeprefix(b"data: "))["choices"][0]["delta"] == {"content": "a"}
    assert b"event: message\nid: 1\ndata: {" in end.out


@pytest.mark.parametrize("data", [b'{"title": "looking"}', b'{"detail": "step 2"}', b'{"message": "almost there"}'])
def test_an_event_with_a_name_of_its_own_is_no_error(data: bytes) -> None:
    own = b"event: tool.progress\ndata: " + data + b"\n\n"
    assert drive([sse(WORDS[0]), own, sse(STOP), DONE]).out == sse(WORDS[0]) + own + sse(STOP)
    assert drive([sse(WORDS[0]), own.replace(b"tool.progress", b"error")]).stream.state is State.BROKEN


def test_an_event_may_be_as_long_as_a_plain_answer() -> None:
    large = chunk({"images": [{"image_url": {"url": "A" * (2 << 20)}}]})
    end = drive([sse(ROLE, large), sse(STOP) + DONE])

    assert end.events == [ROLE, large, STOP]


def test_a_whole_answer_in_one_event_is_chunks() -> None:
    message = {"role": "assistant", "content": "hello", "reasoning": None}
    event = {"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": None}
    end = drive([sse(event) + DONE])

    deltas = [choice["delta"] for each in end.events for choice in each["choices"]]
    assert deltas == [{"role": "assistant", "content": "hello"}, {}]
    assert (end.stream.state, end.stream.finish_reason) == (State.DONE, "stop")


# Usage

REPORT = {"prompt_tokens": 12, "completion_tokens": 3}
READ = Usage(input_uncached=12, output=3, source="reported")


@pytest.mark.parametrize("rest", [{}, {"choices": None}, {"choices": []}])
def test_a_usage_chunk_is_hidden_from_who_did_not_ask_whatever_its_choices(rest: dict[str, Any]) -> None:
    report = {"id": "c1", "usage": REPORT, **rest}
    hidden = drive([sse(ROLE, *WORDS, STOP), sse(report) + DONE])
    shown = drive([sse(ROLE, *WORDS, STOP), sse(report) + DONE], strip_usage=False)

    assert hidden.events == [ROLE, *WORDS, STOP]
    assert shown.events == [ROLE, *WORDS, STOP, {**report, "choices": []}]
    assert hidden.stream.usage == shown.stream.usage == READ


def test_usage_inside_a_choice_is_read() -> None:
    last = {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": REPORT}]}
    early = {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": None, "usage": REPORT}]}
    for events in ([*WORDS, last], [*WORDS, early, STOP]):
        end = drive([sse(*events) + DONE])
        assert end.stream.usage == READ
        assert end.events == events


# Several choices


def of(index: int, delta: dict[str, Any] | None = None, finish: str | None = None) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}]}


def test_a_stream_is_finished_when_each_choice_that_was_asked_for_is() -> None:
    both = [of(0, {"content": "a"}), of(1, {"content": "b"}), of(0, finish="stop")]
    cut, never = drive([sse(*both)], choices=2), drive([sse(both[0], both[2])], choices=2)
    done, marked = drive([sse(*both, of(1, finish="length"))], choices=2), drive([sse(*both) + DONE], choices=2)

    assert [end.stream.state for end in (cut, never, done, marked)] == [State.BROKEN] * 2 + [State.DONE] * 2


def test_an_answer_in_any_choice_is_one() -> None:
    end = drive([sse(of(0, {"content": ""}, "stop"), of(1, {"content": "b"}, "stop"))], choices=2)

    assert end.stream.state is State.DONE


@pytest.mark.parametrize("last", [chunk({}, "error"), chunk({}, "ERROR"), chunk({}, "network_error"), chunk({}, "")])
@pytest.mark.parametrize("marker", [DONE, b""])
def test_a_stream_whose_finish_is_no_finish_is_broken(last: dict[str, Any], marker: bytes) -> None:
    end = drive([sse(ROLE, WORDS[0]), sse(WORDS[1]), sse(last), marker])

    assert end.stream.state is State.BROKEN
    assert [event for event in end.events if event != last] == [ROLE, *WORDS[:2]]


def test_an_error_inside_a_choice_breaks_a_stream() -> None:
    error = {"id": "c1", "choices": [{"index": 0, "delta": {"content": ""}, "error": {"code": 502, "message": "gone"}}]}
    end = drive([sse(WORDS[0]), sse(WORDS[1]), sse(error), sse(WORDS[2], STOP), DONE])

    assert (end.out, end.stream.state) == (sse(*WORDS[:2]), State.BROKEN)


def test_a_finish_reason_that_is_empty_in_every_chunk_but_the_last_says_nothing() -> None:
    words = [chunk({"content": "word "}, "") for _ in range(9)]
    assert drive([sse(word) for word in [*words, STOP]]).stream.state is State.DONE
    assert drive([sse(word) for word in words] + [DONE]).stream.state is State.BROKEN
    assert drive([sse(word) for word in words]).stream.state is State.BROKEN


# Tool calls


def call(name: str = "", arguments: str = "", **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {**more, "function": function}


PARALLEL = {
    "in one chunk, without": [[call("f", "{}", id="a"), call("g", "{}", id="b")]],
    "in two chunks, without": [[call("f", "{}", id="a")], [call("g", "{}", id="b")]],
    "all zero": [[call("f", "{}", id="a", index=0)], [call("g", "{}", id="b", index=0)]],
    "all zero in one chunk, without ids": [[call("f", "{}", index=0), call("g", "{}", index=0, id="")]],
    "null": [[call("f", "{}", id="a", index=None), call("g", "{}", id="b", index=None)]],
    "a list": [[call("f", "{}", id="a", index=[]), call("g", "{}", id="b", index={})]],
    "texts": [[call("f", "{}", id="a", index="0"), call("g", "{}", id="b", index="0")]],
    "in pieces": [[call("f", "{", id="a")], [call(arguments="}")], [call("g", "{}", id="b")]],
    "in pieces, all zero": [
        [call("f", "{", id="a", index=0)],
        [call(arguments="}", index=0)],
        [call("g", "{", id="b", index=0)],
        [call(arguments="}", index=0)],
    ],
}


@pytest.mark.parametrize("name", PARALLEL)
@pytest.mark.parametrize("before", [[], [WORDS[0]]], ids=["first", "open"])
def test_tool_calls_without_numbers_are_numbered(name: str, before: list[Any]) -> None:
    pieces = [
        sse(event) for event in [ROLE, *before, *(chunk({"tool_calls": calls}) for calls in PARALLEL[name]), STOP]
    ]
    end = drive([*pieces, DONE])

    calls: dict[int, list[str]] = {}
    for event in end.events:
        for fragment in event["choices"][0]["delta"].get("tool_calls", ()):
            assert type(fragment["index"]) is int
            known = calls.setdefault(fragment["index"], ["", ""])
            known[0] += fragment["function"].get("name", "")
            known[1] += fragment["function"]["arguments"]
    assert calls == {0: ["f", "{}"], 1: ["g", "{}"]}
    assert end.events[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "calls",
    [
        [[call("f", "{", id="a", index=0)], [call(arguments="}", index=0)], [call("g", "{}", id="b", index=1)]],
        [[call("f", "{", id="a", index=1)], [call("g", "{", id="b", index=2)], [call(arguments="}", index=1)]],
        [[call("f", "{", id="a", index=0)], [call(arguments="}", id="a", index=0)]],
        [[call("f", "{", id="a", index=0)], [call("f", "}", id="a", index=0)]],
        [[call("f", "{", id="a", index=0)], [call("f", "}", index=0)]],
        [[call("f", "{", index=0, id="")], [call(arguments="}", index=0, id="x")]],
    ],
)
def test_numbers_that_make_sense_are_left_as_they_are(calls: list[list[Any]]) -> None:
    said = sse(ROLE, *(chunk({"tool_calls": each}) for each in calls), STOP)

    assert drive([said + DONE]).out == said
    assert drive([sse(WORDS[0]), said, DONE]).out == sse(WORDS[0]) + said


def test_the_calls_of_two_choices_are_not_mixed() -> None:
    end = drive(
        [
            sse(
                of(0, {"tool_calls": [call("f", "{}", id="a", index=0)]}),
                of(1, {"tool_calls": [call("g", "{}", id="b", index=0)]}),
            )
            + DONE
        ],
        choices=2,
    )
    assert [each["choices"][0]["delta"]["tool_calls"][0]["index"] for each in end.events] == [0, 0]


def test_the_judges_see_the_calls_of_each_choice() -> None:
    stream = Stream("lab", explain, choices=2)
    for index, name in enumerate("fg"):
        stream.feed(sse(of(index, {"tool_calls": [call(name, "{", id=name, index=0)]})))
        stream.feed(sse(of(index, {"tool_calls": [call(arguments="}", index=[])]})))

    assert [each["function"] for each in stream.opening().tool_calls] == [
        {"name": "f", "arguments": "{}"},
        {"name": "g", "arguments": "{}"},
    ]
