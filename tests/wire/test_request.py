"""A client's body becomes a request: strict where it must be, and nothing that it says is lost."""

from __future__ import annotations

import copy
import json
import os
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.errors import RequestError
from routerpool.types import Caller, ChatRequest, Hints
from routerpool.wire import request as request_module
from routerpool.wire.request import (
    DESTINATIONS,
    needs_of,
    new_id,
    parse_chat,
    sent_body,
    session_of,
)

HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
BODY: dict[str, Any] = {"model": "auto", "messages": [HELLO]}

law = settings(max_examples=100, deadline=None)
leaves = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def parse(body: Any, *headers: tuple[str, str], caller: Caller | None = None) -> ChatRequest:
    """The request of a body."""
    return parse_chat(body, request_id="r1", headers=headers, caller=caller)


def refused(body: Any, *headers: tuple[str, str]) -> RequestError:
    """The error of a body."""
    with pytest.raises(RequestError) as caught:
        parse(body, *headers)
    return caught.value


# Strictness


def test_a_body_becomes_a_request_and_is_not_changed() -> None:
    body = {**BODY, "model": "groq/x", "stream": True, "temperature": 0.5, "router": {"task": "chat"}}
    before = copy.deepcopy(body)
    request = parse(body, caller=Caller(id="k"))

    assert (request.id, request.model, request.stream, request.caller.id) == ("r1", "groq/x", True, "k")
    assert request.messages == [HELLO]
    assert request.params == {"temperature": 0.5}
    assert request.hints == Hints(task="chat")
    assert body == before


@pytest.mark.parametrize("body", [[], "text", 3, None, [BODY]])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    assert (refused(body).code, refused(body).status) == ("invalid_json", 400)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 3}, "model"),
        ({"model": ["a"]}, "model"),
        ({"model": "a" * 257}, "model"),
        ({"model": "a" * (1 << 20)}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [HELLO, {"content": "no role"}]}, "messages[1]"),
        ({"messages": [HELLO, HELLO, {"role": 3}]}, "messages[2]"),
        ({"stream": 1}, "stream"),
        ({"stream": 0}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": []}, "stream_options"),
        ({"router": []}, "router"),
        ({"router": "fast"}, "router"),
    ],
)
def test_a_field_of_the_wrong_shape_is_refused_with_its_place(change: dict[str, Any], param: str) -> None:
    error = refused({**BODY, **change})

    assert (error.code, error.status, error.param) == ("invalid_request", 400, param)
    assert f"`{param}`" in error.message
    assert len(error.message) < 200


@pytest.mark.parametrize("body", [{"messages": [HELLO]}, {**BODY, "model": None}, {**BODY, "model": ""}])
def test_no_model_means_auto(body: dict[str, Any]) -> None:
    assert parse(body).model == "auto"


@pytest.mark.parametrize(("stream", "means"), [(True, True), (False, False), (None, False)])
def test_stream_is_true_or_false(stream: bool | None, means: bool) -> None:
    assert parse({**BODY, "stream": stream}).stream is means


@pytest.mark.parametrize("name", sorted(DESTINATIONS))
def test_a_field_that_chooses_a_destination_is_refused(name: str) -> None:
    error = refused({**BODY, name: "https://evil.example/v1"})

    assert (error.code, error.param) == ("invalid_request", name)
    assert "evil" not in error.message


@law
@given(extra=st.dictionaries(st.text(min_size=1, max_size=8), values, max_size=4))
def test_fields_that_nobody_knows_survive_to_the_provider(extra: dict[str, Any]) -> None:
    extra = {name: value for name, value in extra.items() if name not in DESTINATIONS}
    extra = {name: value for name, value in extra.items() if name not in {*BODY, "stream", "router", "stream_options"}}
    request = parse({**BODY, **extra})

    assert request.params == extra
    assert sent_body(request, "m1") == {**extra, "model": "m1", "messages": [HELLO]}


def test_fields_inside_messages_survive_to_the_provider() -> None:
    odd = {"role": "user", "content": "Hi", "cache_control": {"type": "ephemeral"}, "name": "ada"}

    assert sent_body(parse({**BODY, "messages": [odd]}), "m1")["messages"] == [odd]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False, "include_obfuscation": False}])
def test_a_stream_always_asks_for_usage_and_keeps_the_other_options(options: dict[str, Any] | None) -> None:
    request = parse({**BODY, "stream": True, **({} if options is None else {"stream_options": options})})
    body = sent_body(request, "m1")

    assert body["stream"] is True
    assert body["stream_options"] == {**(options or {}), "include_usage": True}
    assert request.params.get("stream_options") == options


def test_a_plain_request_asks_for_no_stream() -> None:
    assert sent_body(parse({**BODY, "stream": False}), "m1") == {"model": "m1", "messages": [HELLO]}


# Needs

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


@pytest.mark.parametrize(
    ("change", "needs"),
    [
        ({}, set()),
        ({"tools": []}, set()),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tools"}),
        ({"tools": [{"type": "web_search"}]}, {"web_search"}),
        ({"tools": [{"type": "web_search_preview"}, {"type": "function"}]}, {"web_search", "tools"}),
        ({"tools": ["odd"]}, {"tools"}),
        ({"functions": [{"name": "f"}]}, {"tools"}),
        ({"reasoning_effort": "high"}, {"reasoning"}),
        ({"reasoning_effort": "none"}, set()),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"json_schema"}),
        ({"response_format": {"type": "json_object"}}, set()),
        ({"response_format": "json"}, set()),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, set()),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}]}, {"vision"}),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, {"audio"}),
        ({"messages": [{"role": "user", "content": [{"type": "file"}, "odd", {}]}]}, {"files"}),
        ({"messages": [HELLO, {"role": "assistant", "tool_calls": [{"id": "t"}]}]}, {"tools"}),
        ({"messages": [HELLO, {"role": "tool", "content": "3"}]}, {"tools"}),
        ({"messages": [{"role": "user", "content": [IMAGE]}], "tools": [{"type": "function"}]}, {"vision", "tools"}),
    ],
)
def test_what_a_request_needs(change: dict[str, Any], needs: set[str]) -> None:
    assert needs_of(parse({**BODY, **change})) == needs


@pytest.mark.parametrize(
    "change",
    [
        {"tools": 5},
        {"tools": True},
        {"messages": [{"role": "user", "content": [{"type": []}]}]},
        {"messages": [{"role": "user", "content": [{"type": {"image_url": 1}}]}]},
    ],
)
def test_odd_tools_and_parts_are_refused_or_passed_on_but_no_defect(change: dict[str, Any]) -> None:
    with suppress(RequestError):
        assert needs_of(parse({**BODY, **change})) == frozenset()


# Sessions


def turns(*contents: Any, system: Any = None, **changes: Any) -> ChatRequest:
    """A conversation of so many turns, user and assistant in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": content} for index, content in enumerate(contents)]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return parse({"messages": messages}, *changes.pop("headers", ()), caller=changes.pop("caller", None))


def test_the_turns_of_one_conversation_are_one_session() -> None:
    first = session_of(turns("Hello", system="Be brief."))

    assert session_of(turns("Hello", "Hi.", "And now?", system="Be brief.")) == first
    assert session_of(turns("Hello", "Something else.", system="Be brief.")) == first
    assert len(first) == 24


@pytest.mark.parametrize(
    "other",
    [
        turns("Goodbye", system="Be brief."),
        turns("Hello", system="Be long."),
        turns("Hello"),
        turns([{"type": "text", "text": "Hello"}], system="Be brief."),
        turns("Hello", system="Be brief.", caller=Caller(id="somebody else")),
        turns("Hello", system="Be brief.", headers=[("X-Session-Id", "s1")]),
    ],
)
def test_another_first_turn_another_caller_or_another_id_is_another_session(other: ChatRequest) -> None:
    assert session_of(other) != session_of(turns("Hello", system="Be brief."))


def test_the_clients_own_session_id_wins_over_the_text_and_is_kept_apart_by_caller() -> None:
    header = [("X-Session-Id", "s1")]
    ada, bob = Caller(id="ada"), Caller(id="bob")

    assert session_of(turns("Hello", headers=header)) == session_of(turns("Other", headers=header))
    assert session_of(turns("Hello", headers=header, caller=ada)) != session_of(
        turns("Hello", headers=header, caller=bob)
    )
    assert "s1" not in session_of(turns("Hello", headers=header))


@law
@given(text=st.text(max_size=30), content=values)
def test_a_session_is_known_of_any_content(text: str, content: Any) -> None:
    request = json.loads(json.dumps({"messages": [{"role": text, "content": content}, HELLO]}))

    assert session_of(parse(request)) == session_of(parse(copy.deepcopy(request)))


def test_sessions_without_end_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_module, "_sessions", {})
    monkeypatch.setattr(request_module, "MANY_SESSIONS", 10)
    made = {session_of(parse({"messages": [{"role": "user", "content": f"text {n}"}]})) for n in range(100)}
    assert len(made) == 100
    assert len(request_module._sessions) <= 10


@pytest.mark.parametrize(
    ("messages", "params", "heavy"),
    [
        ([{"role": "user", "content": "x"}], {"temperature": 0.5, "user": "ada"}, False),
        ([{"role": "user", "content": "x" * 200_000}], {}, True),
        ([{"role": "user", "content": "x", "name": "n" * 200_000}], {}, True),
        ([{"role": "user", "content": "x"}], {"user": "u" * 200_000}, True),
        ([{"role": "user", "content": "x"}], {"k" * 200_000: 1}, True),
        ([{"role": "user", "content": "x", "k" * 200_000: 1}], {}, True),
        ([{"role": "user", "content": "x"}], {"tools": [1] * 3_000}, True),
        ([{"role": "user", "content": "x"}] * 3_000, {}, True),
        ([{"role": "user", "content": "x"}] * 100, {"tools": [{"type": "function"}]}, False),
    ],
)
def test_a_request_is_heavy_wherever_its_weight_lies(messages: Any, params: dict[str, Any], heavy: bool) -> None:
    assert parse({"messages": messages, **params}).heavy is heavy


@pytest.mark.parametrize(
    ("params", "huge"),
    [
        ({}, False),
        ({"user": "u" * 900_000}, False),
        ({"user": "u" * 1_100_000}, True),
        ({"tools": [1] * 15_000}, False),
        ({"tools": [1] * 17_000}, True),
    ],
)
def test_a_request_is_huge_where_it_weighs_several_times_as_much(params: dict[str, Any], huge: bool) -> None:
    request = parse({"messages": [{"role": "user", "content": "x"}], **params})
    assert (request.heavy, request.huge) == (bool(params), huge)


def test_no_two_ids_are_the_same_and_a_forked_process_draws_its_own() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(len(each) == 32 for each in ids)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 64).decode()
    os.close(read)
    os.close(write)
    assert theirs not in {new_id() for _ in range(200)}
