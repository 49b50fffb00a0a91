"""The stream machine and the cutter: however a stream is cut, the same events come out, and it ends in one way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from routerpool.types import Failure, FailureKind, Usage
from routerpool.wire.mask import Mask
from routerpool.wire.sse import DONE, Cutter, event_data, split_events
from routerpool.wire.stream import State, Stream

cuts = st.lists(st.integers(0, 2000), max_size=12)
law = settings(max_examples=150, deadline=None)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of an answer."""
    return {"id": "c1", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more}


def sse(*events: Any) -> bytes:
    """Events as a provider sends them; a text goes as it is."""
    return b"".join(
        b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n" for event in events
    )


ROLE = chunk({"role": "assistant", "content": ""})
WORDS = [chunk({"content": f"word {number} "}) for number in range(3)]
STOP = chunk(finish="stop")
REPORT = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}
ANSWER = [ROLE, *WORDS, STOP]
PLAIN = sse(*ANSWER, REPORT) + DONE
USAGE = Usage(input_uncached=12, output=3, source="reported")


def explain(data: bytes) -> Failure:
    """What the provider would make of an error event."""
    return Failure(kind=FailureKind.RATE_LIMITED, message=data.decode())


class End(NamedTuple):
    """What came out of a stream and how it ended."""

    out: bytes
    stream: Stream

    @property
    def events(self) -> list[Any]:
        """The parsed events that the client got; comments are left out."""
        data = [event_data(event) for event in split_events(self.out)]
        return [json.loads(found) for found in data if found is not None]


def drive(pieces: Iterable[bytes], *, buffer: bool = False, **options: Any) -> End:
    """Feed a stream as the engine does: hold, open at the first meaningful event, pass on, end."""
    stream = Stream("lab", explain, **options)
    source, out, ended = iter([*pieces, b""]), b"", False
    while not ended and (stream.state is State.HELD or (buffer and not stream.over)):
        data = next(source, b"")
        assert stream.feed(data) == b"", "nothing may go out before the gate is open"
        ended = not data or stream.ended
        if ended:
            assert stream.end() == b""
    if stream.over:
        return End(b"", stream)
    out = stream.open()
    while stream.state is State.OPEN:
        data = b"" if stream.ended else next(source, b"")
        out += stream.feed(data) if data else stream.end()
        if not data:
            break
    return End(out, stream)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data in pieces; the places beyond its end count from its beginning again."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def mixed(data: bytes) -> bytes:
    """Every form of line end in turn."""
    lines = data.split(b"\n")
    return b"".join(line + (b"\r", b"\r\n", b"\n")[index % 3] for index, line in enumerate(lines[:-1]))


HEALTHY: dict[str, bytes] = {
    "line feeds": PLAIN,
    "CRLF": PLAIN.replace(b"\n", b"\r\n"),
    "CR": PLAIN.replace(b"\n", b"\r"),
    "mixed line ends": mixed(PLAIN),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "a byte order mark and CRLF": b"\xef\xbb\xbf" + PLAIN.replace(b"\n", b"\r\n"),
    "comments": b": hello\n\n" + PLAIN.replace(b"data:", b": ping\n\n: inside\ndata:"),
    "data in several lines": PLAIN.replace(b'data: {"id"', b'data: {\ndata: "id"'),
    "no space after the colon": PLAIN.replace(b"data: ", b"data:"),
    "other fields": b"retry: 10\n\n" + PLAIN.replace(b"data:", b"event: message\nid: 7\ndata:"),
    "no last line end": PLAIN[:-2],
    "half a last blank line": PLAIN[:-1],
    "no end marker": PLAIN.removesuffix(DONE),
    "no end marker and no last blank line": PLAIN.removesuffix(DONE)[:-2],
    "more blank lines": b"\n\n" + PLAIN.replace(b"\n\n", b"\n\n\n\n\n"),
    "words after the end": PLAIN + sse(WORDS[0], {"error": {"message": "too late"}}) + b"junk\n\n",
    "compact JSON": PLAIN.replace(b'": ', b'":').replace(b", ", b","),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_every_way_of_writing_a_stream_brings_the_same_answer(name: str) -> None:
    end = drive([HEALTHY[name]])

    assert end.events == ANSWER
    assert (end.stream.state, end.stream.failure) == (State.DONE, None)
    assert (end.stream.usage, end.stream.finish_reason) == (USAGE, "stop")


@law
@given(name=st.sampled_from(sorted(HEALTHY)), places=cuts)
def test_a_healthy_stream_may_be_cut_anywhere(name: str, places: list[int]) -> None:
    data = HEALTHY[name]
    pieces = cut(data, places)
    assume(not (data.startswith(b"\xef") and [len(piece) for piece in pieces[:2]] == [1, 1]))
    end = drive(pieces)

    assert end.events == ANSWER
    assert (end.stream.state, end.stream.usage, end.stream.finish_reason) == (State.DONE, USAGE, "stop")


@pytest.mark.parametrize("name", [name for name in HEALTHY if "mark" not in name or "end marker" in name])
def test_a_healthy_stream_may_come_byte_by_byte(name: str) -> None:
    end = drive(bytes([byte]) for byte in HEALTHY[name])

    assert end.events == ANSWER
    assert end.stream.state is State.DONE


def test_a_byte_order_mark_may_come_byte_by_byte() -> None:
    assert drive(bytes([byte]) for byte in HEALTHY["a byte order mark"]).events == ANSWER


@pytest.mark.parametrize("places", [[1], [2], [3], [1, 3], [2, 3]])
def test_a_byte_order_mark_may_be_cut_once(places: list[int]) -> None:
    assert drive(cut(HEALTHY["a byte order mark"], places)).events == ANSWER


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@law
@given(words=st.lists(texts, min_size=1, max_size=6), ends=st.sampled_from([b"\n", b"\r\n", b"\r"]), places=cuts)
@example(
    words=["\u2028", "\u0085", "\x0b\x0c\x1c", '"usage"', '"finish_reason"', "[DONE]", '{"error":1}'],
    ends=b"\r",
    places=[],
)
@example(words=["data: x\n\n", "\r\n\r\n", "\r"], ends=b"\r\n", places=[30, 31, 32])
def test_any_text_arrives_as_it_was_said(words: list[str], ends: bytes, places: list[int]) -> None:
    events = [chunk({"content": word}) for word in words]
    plain = b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in [*events, STOP])
    end = drive(cut((plain + DONE).replace(b"\n", ends), places))

    assert end.events == [*events, STOP]
    assert end.stream.state is State.DONE


@law
@given(places=cuts, keep=st.booleans())
def test_what_goes_out_is_byte_for_byte_what_came_in(places: list[int], keep: bool) -> None:
    data = b": hello\n\n" + sse(*ANSWER, REPORT) + b": bye\n\n"
    end = drive(cut(data + DONE, places), strip_usage=not keep)

    assert end.out == (data if keep else data.replace(sse(REPORT), b""))
    assert end.stream.usage == USAGE


# The cutter alone


@law
@given(
    data=st.lists(st.sampled_from([b"\r", b"\n", b"a", b"data: x", b": c", b"\n\n", b"\r\n\r\n"]), max_size=14),
    places=cuts,
)
def test_the_cutter_makes_the_same_events_of_any_pieces(data: list[bytes], places: list[int]) -> None:
    whole = b"".join(data)
    one, many = Cutter(), Cutter()
    at_once = one.feed(whole) + one.end()
    blocks = [many.feed(piece) for piece in cut(whole, places)]
    apart = b"".join(blocks) + many.end()

    assert split_events(apart) == split_events(at_once)
    assert b"\r" not in apart
    assert all(block == b"" or block.endswith(b"\n\n") for block in blocks)


def test_the_cutter_gives_out_whole_events_only_and_each_at_once() -> None:
    cutter = Cutter()

    assert cutter.feed(b"data: a\n") == b""
    assert cutter.feed(b"\ndata: b\n\ndata: ") == b"data: a\n\ndata: b\n\n"
    assert cutter.feed(b"c\r") == b""
    assert cutter.feed(b"\n\r") == b"data: c\n\n"
    assert cutter.feed(b"\ndata: d") == b""
    assert cutter.end() == b"data: d\n\n"
    assert cutter.end() == b""


def test_the_cutter_refuses_an_event_beyond_its_limit_and_lets_one_of_that_size_through() -> None:
    cutter = Cutter(20)

    assert cutter.feed(b"data: " + b"x" * 14) == b""
    assert cutter.feed(b"\n\n") == b"data: " + b"x" * 14 + b"\n\n"
    cutter.feed(b"data: " + b"x" * 14)
    with pytest.raises(ValueError, match="longer than its limit"):
        cutter.feed(b"x")


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"event: x\ndata: a\nid: 3\n\n", b"a"),
        (b": data: a\n\n", None),
        (b"event: ping\n\n", None),
        (b"database: a\n\n", None),
        (b"data\n\n", b""),
        (b"data: a\xe2\x80\xa8b\n\n", b"a\xe2\x80\xa8b"),
    ],
)
def test_the_data_of_an_event(event: bytes, data: bytes | None) -> None:
    assert event_data(event) == data


# The gate


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f"}},
        {"refusal": "no"},
        {"audio": {"id": "a"}},
        {"content": [{"type": "text", "text": "a"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
)
def test_the_gate_holds_what_comes_before_the_first_meaningful_event(delta: dict[str, Any]) -> None:
    stream = Stream("lab", explain)
    before = [b": ping\n\n", sse(ROLE), sse(chunk({"content": None})), sse({"id": "c1", "choices": []})]
    for event in before:
        assert stream.feed(event) == b""
        assert stream.state is State.HELD

    assert stream.feed(sse(chunk(delta))) == b""
    assert stream.state is State.READY
    assert stream.feed(sse(WORDS[0])) == b"", "what comes before it is opened is held too"
    assert stream.open() == b"".join(before) + sse(chunk(delta), WORDS[0])
    assert stream.state is State.OPEN
    assert stream.feed(sse(WORDS[1])) == sse(WORDS[1])


def test_the_judges_see_what_has_come_so_far() -> None:
    stream = Stream("lab", explain)
    fragments = [
        {"index": 0, "id": "t1", "function": {"name": "look", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
    ]
    stream.feed(
        sse(
            ROLE,
            chunk({"reasoning": "hm"}),
            chunk({"content": "Well, "}),
            *(chunk({"tool_calls": [f]}) for f in fragments),
        )
    )
    opening = stream.opening()

    assert (opening.text, opening.reasoning, opening.complete, opening.finish_reason) == ("Well, ", "hm", False, None)
    call = {"type": "function", "id": "t1", "function": {"name": "look", "arguments": '{"a": 1}'}}
    assert opening.tool_calls == (call,)
    stream.feed(sse(STOP) + DONE)
    stream.end()
    assert (stream.opening(complete=True).finish_reason, stream.opening(complete=True).complete) == ("stop", True)


def test_a_stream_that_is_whole_before_it_is_opened_is_done_when_opened() -> None:
    end = drive([PLAIN], buffer=True)

    assert (end.events, end.stream.state) == (ANSWER, State.DONE)


# The end


@pytest.mark.parametrize(
    ("events", "marker", "may_be_empty", "state", "kind"),
    [
        ([ROLE, *WORDS, STOP], True, False, State.DONE, None),
        ([ROLE, *WORDS, STOP], False, False, State.DONE, None),
        ([ROLE, *WORDS], True, False, State.DONE, None),
        ([ROLE, *WORDS], False, False, State.BROKEN, FailureKind.INTERRUPTED),
        ([ROLE], False, False, State.FAILED, FailureKind.EMPTY),
        ([ROLE], True, False, State.FAILED, FailureKind.EMPTY),
        ([], True, False, State.FAILED, FailureKind.EMPTY),
        ([], False, False, State.FAILED, FailureKind.EMPTY),
        ([ROLE, STOP], True, False, State.FAILED, FailureKind.EMPTY),
        ([ROLE, STOP, REPORT], True, False, State.FAILED, FailureKind.EMPTY),
        ([ROLE, STOP], True, True, State.DONE, None),
        ([ROLE], True, True, State.DONE, None),
        ([ROLE], False, True, State.FAILED, FailureKind.EMPTY),
        ([ROLE, chunk(finish="length")], True, False, State.DONE, None),
        ([ROLE, chunk(finish="length")], False, False, State.DONE, None),
        ([ROLE, chunk(finish="content_filter")], True, False, State.DONE, None),
        ([ROLE, chunk(finish="tool_calls")], True, False, State.FAILED, FailureKind.EMPTY),
    ],
)
def test_how_a_stream_ends(
    events: list[Any], marker: bool, may_be_empty: bool, state: State, kind: FailureKind | None
) -> None:
    end = drive([sse(*events) + (DONE if marker else b"")], may_be_empty=may_be_empty)

    assert end.stream.state is state
    assert (end.stream.failure.kind if end.stream.failure else None) is kind
    assert end.stream.over is (kind is not None)
    assert DONE not in end.out


@law
@given(
    defect=st.sampled_from(["error", "errors", "junk", "list", "null", "cut"]),
    before=st.integers(0, 4),
    places=cuts,
    ends=st.sampled_from([b"\n", b"\r\n"]),
)
def test_a_stream_that_breaks_is_failed_or_broken_and_keeps_what_was_right(
    defect: str, before: int, places: list[int], ends: bytes
) -> None:
    bad = {
        "error": sse({"error": {"message": "slow down", "code": 429}}),
        "errors": sse({"errors": [{"message": "slow down"}]}),
        "junk": sse(b"<html>"),
        "list": sse([1]),
        "null": sse(None),
        "cut": sse(WORDS[2])[:-30],
    }[defect]
    good = [ROLE, *WORDS][:before]
    tail = b"" if defect == "cut" else sse(WORDS[2], STOP) + DONE
    end = drive(cut((sse(*good) + bad + tail).replace(b"\n", ends), places))

    kind = FailureKind.RATE_LIMITED if defect.startswith("error") else FailureKind.SERVER
    assert end.stream.failure is not None
    assert end.stream.failure.kind is kind
    assert end.stream.state in ((State.FAILED, State.BROKEN) if before > 1 else (State.FAILED,))
    assert end.events == (good if end.stream.state is State.BROKEN else [])
    assert b"slow down" not in end.out


def test_an_error_before_the_gate_is_explained_by_the_provider() -> None:
    end = drive([sse(ROLE), b'data: {"error": {"message": "slow down"}}\n\n'])

    assert end.stream.state is State.FAILED
    assert end.stream.failure == explain(b'{"error": {"message": "slow down"}}')


def test_an_error_after_the_gate_lets_out_what_came_before_it_in_the_same_block() -> None:
    end = drive([sse(WORDS[0]), sse(WORDS[1], {"error": "gone"}, WORDS[2]) + DONE])

    assert end.out == sse(WORDS[0], WORDS[1])
    assert (end.stream.state, end.stream.failure) == (State.BROKEN, explain(b'{"error": "gone"}'))


def test_a_null_error_beside_an_answer_is_none() -> None:
    assert drive([sse(*(event | {"error": None} for event in ANSWER)) + DONE]).stream.state is State.DONE


@pytest.mark.parametrize("data", [PLAIN, sse(b"junk"), sse(WORDS[0], {"error": "gone"})])
def test_once_it_has_ended_or_failed_nothing_more_comes_out(data: bytes) -> None:
    stream = drive([data]).stream
    state = stream.state

    assert stream.feed(sse(WORDS[0])) == b""
    assert stream.state is state


def test_the_first_failure_is_the_one_that_is_told() -> None:
    stream = Stream("lab", explain)
    first, second = explain(b"first"), explain(b"second")
    stream.broken(first)
    stream.broken(second)

    assert (stream.state, stream.failure) == (State.FAILED, first)


def test_a_stream_that_is_broken_from_outside_is_failed_before_and_broken_after_the_gate() -> None:
    states = []
    for feed in ([ROLE], [WORDS[0]]):
        stream = Stream("lab", explain)
        stream.feed(sse(*feed))
        if stream.state is State.READY:
            stream.open()
        stream.broken(explain(b"a limit has passed"))
        states.append(stream.state)

    assert states == [State.FAILED, State.BROKEN]


# Usage


@pytest.mark.parametrize(
    ("event", "kept"),
    [
        (REPORT, False),
        ({**STOP, "usage": REPORT["usage"]}, True),
        ({**STOP, "x_groq": {"usage": REPORT["usage"]}}, True),
        ({"id": "c1", "choices": []}, True),
        ({"id": "c1", "choices": [], "usage": None}, True),
    ],
)
def test_only_a_chunk_that_is_nothing_but_usage_is_stripped(event: dict[str, Any], kept: bool) -> None:
    told = ("usage" in event and event["usage"] is not None) or "x_groq" in event
    for strip in (True, False):
        end = drive([sse(*WORDS), sse(event), DONE], strip_usage=strip)
        assert end.events == [*WORDS, *([event] if kept or not strip else [])]
        assert end.stream.usage == (USAGE if told else None)


def test_a_usage_that_is_null_in_every_chunk_is_none() -> None:
    end = drive([sse(*(event | {"usage": None} for event in ANSWER)) + DONE])

    assert (end.stream.usage, end.stream.state, len(end.events)) == (None, State.DONE, 5)


def test_without_a_usage_the_tokens_are_estimated_from_what_came() -> None:
    words = [chunk({"content": "word "}) for _ in range(200)]
    one_by_one = drive([sse(event) for event in [ROLE, *words, STOP]] + [DONE]).stream
    in_one = drive([sse(ROLE, chunk({"content": "word " * 200}), STOP) + DONE]).stream

    assert 200 <= one_by_one.output_estimate() <= 300
    assert 150 <= in_one.output_estimate() <= 350


# Limits


def test_an_event_beyond_its_limit_fails_the_stream() -> None:
    end = drive([b"data: " + b"x" * 50, b"x" * 60], limit=100)

    assert (end.stream.state, end.stream.failure and end.stream.failure.kind) == (State.FAILED, FailureKind.SERVER)
    opened = drive([sse(WORDS[0]), b"data: " + b"x" * 200, b"x"], limit=100)
    assert (opened.stream.state, opened.out) == (State.BROKEN, sse(WORDS[0]))


def test_too_much_before_the_answer_fails_the_stream() -> None:
    end = drive([b": ping\n\n"] * 100, hold_limit=500)

    assert end.stream.state is State.FAILED
    assert "too much came before the answer" in (end.stream.failure or explain(b"")).message


def test_a_stream_that_never_ends_is_broken_off() -> None:
    end = drive([sse(WORDS[0]) for _ in range(100)], most_text=70)

    assert end.stream.state is State.BROKEN
    assert 9 <= len(end.events) <= 12


# Progress


def compact(event: Any) -> bytes:
    """An event without the spaces that Python puts into JSON and providers do not."""
    return b"data: " + json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


odd_words = st.one_of(
    st.sampled_from(
        ["", "word", " word", "\n", "a\\b", 'say "this"', '","finish_reason":"stop"', "é", "\u2028", "🙂", "\x00"]
    ),
    st.text(max_size=8),
)
chunks = odd_words.map(lambda word: compact(chunk({"content": word}, logprobs=None)))
strangers = st.sampled_from(
    [
        compact(chunk({"content": "x"}, seed=7)),
        compact(chunk({"reasoning_content": "hm"})),
        compact(chunk({"role": "assistant"})),
        compact(chunk({}, "stop")),
        compact(REPORT),
        compact({"error": {"message": "no"}}),
        compact({"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}),
        compact(chunk({"content": "x"}, content="x")),
        b": still here\n\n",
        b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"},"finish_reason":null}],"logprobs":null}\n\n',
        compact(chunk({"content": "x"}, logprobs=None)).replace(b'"x"', b'"\xff"'),
        b"\n\n",
        DONE,
    ]
)


@settings(max_examples=400, deadline=None)
@given(events=st.lists(st.one_of(chunks, chunks, strangers), max_size=12), places=cuts, whole=st.booleans())
def test_chunks_that_are_only_compared_come_out_as_if_they_had_been_parsed(
    events: list[bytes], places: list[int], whole: bool
) -> None:
    """Most chunks fit a template and are never parsed: nothing may show it."""
    data = [compact(chunk({"content": "first"}, logprobs=None)), *events]
    pieces = data if whole else cut(b"".join(data), places)
    compared, parsed = drive(pieces), None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("routerpool.wire.stream.TEMPLATES", 0)
        parsed = drive(pieces)
    assert compared.out == parsed.out
    for name in ("state", "usage", "finish_reason", "events", "failure", "bytes_out"):
        assert getattr(compared.stream, name) == getattr(parsed.stream, name), name


def test_a_chunk_that_differs_in_its_text_alone_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [compact(chunk({"content": word})) for word in ("one", " two", " drei", " ché", " 五")]
    stream = Stream("lab", explain)
    stream.feed(words[0])
    stream.open()
    stream.feed(words[1])
    monkeypatch.delattr("routerpool.wire.stream.loads")
    assert stream.feed(words[2]) == words[2]
    assert stream.feed(b"".join(words)) == b"".join(words)
    assert (stream.events, stream.progress, stream.state) == (8, True, State.OPEN)


def opened() -> Stream:
    """A stream that is open."""
    stream = Stream("lab", explain)
    stream.feed(sse(ROLE, WORDS[0]))
    stream.open()
    return stream


@pytest.mark.parametrize(
    ("data", "progress"),
    [
        (sse(WORDS[1]), True),
        (sse(STOP), True),
        (b": ping\n\n" + sse(WORDS[1]), True),
        (sse(chunk({"tool_calls": [{"index": 0}]})), True),
        (b": ping\n\n", False),
        (b"event: ping\n\n", False),
        (b"data: {", False),
        (sse(REPORT), False),
    ],
)
def test_progress_is_content_and_not_comments(data: bytes, progress: bool) -> None:
    stream = opened()
    stream.feed(data)

    assert stream.progress is progress


@pytest.mark.parametrize("event", [chunk(), ROLE, {"id": "c1", "choices": []}, chunk({"content": None})])
def test_chunks_without_content_are_no_progress(event: dict[str, Any]) -> None:
    stream = opened()
    stream.feed(sse(event))

    assert stream.progress is False


def test_progress_is_told_anew_for_each_piece() -> None:
    stream = opened()
    told = []
    for data in (sse(WORDS[1]), b": ping\n\n", sse(WORDS[2]), b"data: "):
        stream.feed(data)
        told.append(stream.progress)

    assert told == [True, False, True, False]


def test_a_problem_document_in_an_open_stream_is_an_error_and_no_content() -> None:
    stream = opened()
    out = stream.feed(b'data: {"title": "Internal Server Error", "detail": "it broke", "status": 500}\n\n')
    assert out == b""
    assert stream.state is State.BROKEN


@pytest.mark.parametrize("size", [1 << 20, 1])
def test_a_key_is_passed_on_in_no_event_and_no_comment(size: int) -> None:
    mask = Mask("sk-of-ours-123")

    def event(text: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"

    secret = "sk-of-ours-123"
    said = [event("Hello"), event(" you"), f": for {secret}\n\n".encode(), event(f" {secret}"), event("", "stop")]
    whole = b"".join([*said, b"data: [DONE]\n\n"])
    pieces = [piece for part in said for piece in (part[at : at + size] for at in range(0, len(part), size))]
    stream = Stream("p", lambda data: Failure(kind=FailureKind.SERVER, message=""), mask=mask)
    out = b""
    for piece in [*pieces, b"data: [DONE]\n\n"]:
        out += stream.feed(piece)
        if stream.state is State.READY:
            out += stream.open()
    out += stream.end()
    assert out == whole.replace(secret.encode(), b"[key]").removesuffix(b"data: [DONE]\n\n")
