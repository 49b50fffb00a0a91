"""A client's body becomes a request: strict where it must be, and nothing that it says is lost."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.errors import RequestError
from routerpool.types import Caller, ChatRequest, Hints, Privacy
from routerpool.wire.request import (
    DESTINATIONS,
    SESSION_HEADERS,
    needs_of,
    parse_chat,
    read_hints,
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


# Hints

FULL = {
    "privacy": "sensitive",
    "profile": "fast",
    "task": "code_review",
    "preferred": ["groq", "ollama/m1"],
    "forbidden": ["openai"],
    "priority": "high",
    "mode": "async",
    "allow_async": True,
    "max_queue_seconds": 5,
    "max_seconds": 60,
    "require_gpu_only": True,
    "session": "abc",
}
MEANT = Hints(
    privacy=Privacy.SENSITIVE,
    profile="fast",
    task="code_review",
    preferred=("groq", "ollama/m1"),
    forbidden=("openai",),
    priority="high",
    mode="async",
    allow_async=True,
    max_queue_seconds=5.0,
    max_seconds=60.0,
    require_gpu_only=True,
    session="abc",
)
CAMEL = {
    "taskType": "code_review",
    "preferredModels": ["groq", "ollama/m1"],
    "forbiddenModels": ["openai"],
    "allowAsync": True,
    "maxQueueTimeMs": 5000,
    "maxExecutionTimeMs": 60_000,
    "requireGpuOnly": True,
    **{name: FULL[name] for name in ("privacy", "profile", "priority", "mode", "session")},
}
HEADERS = [
    ("X-Router-Privacy", "sensitive"),
    ("x-router-profile", "fast"),
    ("X-ROUTER-TASK", "code_review"),
    ("X-Router-Preferred", "groq, ollama/m1"),
    ("X-Router-Forbidden", "openai,"),
    ("X-Router-Priority", "high"),
    ("X-Router-Mode", "async"),
    ("X-Router-Allow-Async", "true"),
    ("X-Router-Max-Queue-Seconds", "5"),
    ("X-Router-Max-Seconds", "60.0"),
    ("X-Router-Require-Gpu-Only", "1"),
    ("X-Router-Session", "abc"),
]


def test_hints_mean_the_same_in_snake_case_camel_case_and_headers() -> None:
    assert parse({**BODY, "router": FULL}).hints == MEANT
    assert parse({**BODY, "router": CAMEL}).hints == MEANT
    assert parse(BODY, *HEADERS).hints == MEANT


def test_hints_are_taken_out_before_anything_is_sent() -> None:
    assert sent_body(parse({**BODY, "router": FULL}, *HEADERS), "m1") == {"model": "m1", "messages": [HELLO]}


def test_the_body_wins_over_headers_except_that_privacy_takes_the_higher() -> None:
    headers = (("X-Router-Task", "chat"), ("X-Router-Profile", "fast"), ("X-Router-Privacy", "private"))

    hints = parse({**BODY, "router": {"task": "code", "privacy": "public"}}, *headers).hints
    assert (hints.task, hints.profile, hints.privacy) == ("code", "fast", Privacy.PRIVATE)
    assert parse({**BODY, "router": {"privacy": "secret"}}, *headers).hints.privacy is Privacy.SECRET
    assert parse({**BODY, "router": {"privacy": None}}, *headers).hints.privacy is Privacy.PRIVATE


def test_of_two_privacy_headers_the_higher_one_counts() -> None:
    headers = (("X-Router-Privacy", "secret"), ("X-Router-Privacy", "public"))

    assert read_hints(None, headers).privacy is Privacy.SECRET


@pytest.mark.parametrize("text", ["PRIVATE", "Private", "private"])
def test_a_privacy_class_may_be_written_in_any_case(text: str) -> None:
    assert read_hints({"privacy": text}).privacy is Privacy.PRIVATE


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("privacy", "hidden", "must be public, private, sensitive or secret"),
        ("privacy", "", "must be public, private, sensitive or secret"),
        ("profile", 3, "must be a text"),
        ("task", ["a"], "must be a text"),
        ("preferred", 3, "must be a list of names"),
        ("preferred", ["a", 3], "must be a list of names"),
        ("forbiddenModels", {"a": 1}, "must be a list of names"),
        ("priority", "urgent", "must be low, normal or high"),
        ("mode", None, "must be auto, sync or async"),
        ("mode", [], "must be auto, sync or async"),
        ("allow_async", "yes", "must be true or false"),
        ("allowAsync", None, "must be true or false"),
        ("max_seconds", -1, "must be a number of seconds"),
        ("max_seconds", "soon", "must be a number of seconds"),
        ("max_seconds", "nan", "must be a number of seconds"),
        ("max_seconds", True, "must be a number of seconds"),
        ("max_seconds", 1e9, "must be a number of seconds"),
        ("maxQueueTimeMs", [1], "must be a number of seconds"),
        ("session", 3, "must be a text"),
        ("privcay", "secret", "is no hint we know (did you mean 'privacy'?)"),
        ("xyzzy", 1, "is no hint we know (known are privacy, "),
    ],
)
def test_a_hint_that_cannot_be_meant_is_refused_with_its_place(name: str, value: Any, told: str) -> None:
    error = refused({**BODY, "router": {name: value}})

    assert (error.code, error.param) == ("invalid_request", f"router.{name}")
    assert error.message.startswith(f"`router.{name}` {told}")


@pytest.mark.parametrize(
    ("name", "value"),
    [("privacy", 3), ("privacy", ["secret"]), ("max_seconds", 10**400), ("maxQueueTimeMs", 10**400)],
    ids=["a number", "a list", "a huge number", "a huge number of milliseconds"],
)
def test_a_hint_of_a_very_odd_type_is_refused_like_any_other(name: str, value: Any) -> None:
    assert refused({**BODY, "router": {name: value}}).param == f"router.{name}"


def test_milliseconds_in_a_text_are_milliseconds_or_refused() -> None:
    with suppress(RequestError):
        assert read_hints({"maxQueueTimeMs": "5000"}).max_queue_seconds == 5.0


def test_a_header_that_cannot_be_meant_is_refused_with_its_name() -> None:
    assert refused(BODY, ("x-router-privacy", "hidden")).param == "X-Router-Privacy"
    assert refused(BODY, ("X-Router-Max-Secnods", "3")).param == "X-Router-Max-Secnods"


def test_without_hints_all_requests_share_one_value() -> None:
    assert parse(BODY, ("User-Agent", "curl")).hints is parse(BODY).hints
    assert parse(BODY).hints == Hints()


@law
@given(router=st.dictionaries(st.sampled_from([*FULL, *CAMEL]), leaves | st.lists(st.text(max_size=3), max_size=2)))
def test_any_hints_are_read_or_refused(router: dict[str, Any]) -> None:
    if isinstance(router.get("privacy"), int | float | list):
        del router["privacy"]  # see the test of very odd types
    with suppress(RequestError):
        hints = read_hints(router)
        assert isinstance(hints.preferred, tuple)
        assert hints.privacy is None or isinstance(hints.privacy, Privacy)
        assert hints.max_seconds is None or 0 <= hints.max_seconds < 1e7


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


@pytest.mark.parametrize("name", SESSION_HEADERS)
def test_clients_name_their_session_in_many_headers(name: str) -> None:
    assert read_hints(None, [(name.title(), "s1")]).session == "s1"


def test_of_several_session_names_the_most_telling_wins() -> None:
    headers = [(name, name) for name in reversed(SESSION_HEADERS)]

    assert read_hints(None, headers).session == "x-session-id"
    assert read_hints(None, [*headers, ("X-Router-Session", "mine")]).session == "mine"
    assert read_hints({"session": "body"}, [*headers, ("X-Router-Session", "mine")]).session == "body"


@law
@given(text=st.text(max_size=30), content=values)
def test_a_session_is_known_of_any_content(text: str, content: Any) -> None:
    request = json.loads(json.dumps({"messages": [{"role": text, "content": content}, HELLO]}))

    assert session_of(parse(request)) == session_of(parse(copy.deepcopy(request)))
