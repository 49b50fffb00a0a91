"""Every text of a request is a part of it, wherever it stands, and can be changed there."""

from __future__ import annotations

import base64
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerpool.errors import RequestError
from routerpool.privacy.parts import Part, parts_of, rewritten
from routerpool.types import ChatRequest, Hints, Native
from routerpool.wire.json import dumps
from routerpool.wire.request import parse_chat, sent_body

MARK = "mark-7f3a"


def request(body: dict[str, Any] | None = None, **more: Any) -> ChatRequest:
    body = {"messages": [{"role": "user", "content": "Hello"}], **(body or {}), **more}
    return parse_chat(body, request_id="r")


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


def url(text: str, mime: str = "text/plain") -> str:
    return f"data:{mime};base64,{base64.b64encode(text.encode()).decode()}"


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PLACES: dict[str, dict[str, Any]] = {
    "messages[0].content": user(MARK),
    "messages[0].content[0].text": user([{"type": "text", "text": MARK}]),
    "messages[0].content[0]": user([MARK]),
    "messages[0].content[0].image_url.url": user([{"type": "image_url", "image_url": {"url": f"https://x/{MARK}"}}]),
    "messages[0].content[0].image_url.url (decoded)": user([{"type": "image_url", "image_url": {"url": url(MARK)}}]),
    "messages[0].content[0].image_url.*": user([{"type": "image_url", "image_url": {"url": "u", "alt": MARK}}]),
    "messages[0].content[0].file.file_data (decoded)": user(
        [{"type": "file", "file": {"file_data": url(MARK, "x/y")}}]
    ),
    "messages[0].content (decoded)": user(f"look: ![a]({url('{' + MARK + '}')}) there"),
    "messages[0].name": user("x", name=MARK),
    "messages[0].role": {"messages": [{"role": MARK, "content": "x"}]},
    "messages[0].refusal": user(None, refusal=MARK),
    "messages[0].reasoning_content": user(None, reasoning_content=MARK),
    "messages[0].tool_calls[0].function.arguments": user(
        None, tool_calls=[{**CALL, "function": {"name": "f", "arguments": '{"a": "' + MARK + '"}'}}]
    ),
    "messages[0].tool_calls[0].function.name": user(None, tool_calls=[{**CALL, "function": {"name": MARK}}]),
    "messages[0].tool_calls[0].id": user(None, tool_calls=[{**CALL, "id": MARK}]),
    "messages[0].*": user("x", unheard_of=MARK),
    "messages[0].* (key)": user("x", **{MARK: 1}),
    "messages[0].*[0][0].*": user("x", unheard_of=[[{"of": MARK}]]),
    "tools[0].function.description": {"tools": [{"type": "function", "function": {"description": MARK}}]},
    "tools[0].function.parameters.properties.* (key)": {
        "tools": [{"type": "function", "function": {"parameters": {"properties": {MARK: {}}}}}]
    },
    "metadata.*": {"metadata": {"k": MARK}},
    "metadata.* (key)": {"metadata": {MARK: "v"}},
    "user": {"user": MARK},
    "stop": {"stop": MARK},
    "stop[1]": {"stop": ["a", MARK]},
    "prediction.content": {"prediction": {"type": "content", "content": MARK}},
    "logit_bias.* (key)": {"logit_bias": {MARK: 1}},
    "* (key)": {MARK: None},
    "*": {"unheard_of": MARK},
    "* (decoded)": {"unheard_of": f"data:text/plain,%6D{MARK[1:]}"},
}


def found(asked: ChatRequest) -> list[str]:
    return [part.place for part in parts_of(asked) if MARK in part.text]


@pytest.mark.parametrize("place", PLACES)
def test_a_text_is_found_wherever_it_stands_and_its_place_is_told(place: str) -> None:
    assert found(request(PLACES[place])) == [place]


@pytest.mark.parametrize("place", PLACES)
def test_a_text_can_be_changed_wherever_it_stands(place: str) -> None:
    asked = request(PLACES[place])
    before = dumps(sent_body(asked, "m"))

    changed = rewritten(asked, lambda part: part.text.replace(MARK, "[gone]") if MARK in part.text else None)

    assert found(changed) == []
    assert sum("[gone]" in part.text for part in parts_of(changed)) == 1
    assert dumps(sent_body(asked, "m")) == before, "the client's request was changed in place"


def test_the_models_name_and_the_hints_are_parts_that_cannot_be_changed() -> None:
    asked = parse_chat(
        {"model": MARK, "messages": [{"role": "user", "content": "x"}], "router": {"task": MARK}}, request_id="r"
    )

    assert found(asked) == ["model", "router[0]"]
    assert rewritten(asked, lambda part: "[gone]" if MARK in part.text else None) is asked


def test_a_native_body_is_looked_through_and_changed_as_well() -> None:
    native = Native(dialect="messages", body={"system": [{"type": "text", "text": MARK}], "max_tokens": 1})
    asked = ChatRequest(id="r", model="m", messages=[], native=native)

    changed = rewritten(asked, lambda part: "[gone]" if part.text == MARK else None)

    assert found(asked) == ["native.system[0].text"]
    assert changed.native is not None
    assert changed.native.body == {"system": [{"type": "text", "text": "[gone]"}], "max_tokens": 1}


def test_parts_know_their_message_and_the_key_they_stand_under() -> None:
    asked = request(messages=[{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], user="c")

    assert [(p.text, p.message, p.key) for p in parts_of(asked) if len(p.text) == 1] == [
        ("c", None, None),
        ("a", 0, "content"),
        ("b", 1, "content"),
    ]


def test_a_part_and_a_place_show_no_text() -> None:
    assert MARK not in repr(Part("messages[0].content", MARK, 0, MARK))
    for body in PLACES.values():
        assert all(MARK not in part.place for part in parts_of(request(body)))


def test_what_is_unchanged_is_shared() -> None:
    asked = request(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], tools=[{"a": ["b"]}])

    changed = rewritten(asked, lambda part: "B" if part.place == "messages[1].content" else None)

    assert changed.messages[0] is asked.messages[0]
    assert changed.params is asked.params
    assert changed.messages[1] == {"role": "user", "content": "B"}
    assert rewritten(asked, lambda part: None) is asked
    assert rewritten(asked, lambda part: part.text) is asked


def test_a_changed_key_never_hides_another() -> None:
    asked = request(metadata={"one-key": 1, "two-key": 2})

    changed = rewritten(asked, lambda part: "k" if part.place.endswith("(key)") else None)

    assert changed.params["metadata"] == {"k": 1, "k 2": 2}


def test_an_image_is_no_text() -> None:
    image = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256))).decode()

    assert [p.place for p in parts_of(request(user([{"image_url": {"url": image}}]))) if "decoded" in p.place] == []


@pytest.mark.parametrize("encoded", ["=", "a", "====", "YQ", "a" * 5, "-_-_", "YWJj" * 9])
def test_rubbish_in_a_data_url_breaks_nothing(encoded: str) -> None:
    asked = request(user(f"data:text/plain;base64,{encoded}"))

    assert len(list(parts_of(asked))) >= 3
    assert rewritten(asked, lambda part: None) is asked


DEEP: Any = "leaf"
for _ in range(1000):
    DEEP = [DEEP]
LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize("odd", [DEEP, LOOP, "\ud800", {1: "a"}, b"bytes", object(), {"a"}, ({"k": ("v",)},)])
def test_nothing_makes_it_raise(odd: Any) -> None:
    asked = ChatRequest(id="r", model="m", messages=[{"role": "user", "content": odd}], params={"p": odd})

    assert any(part.place == "messages[0].role" for part in parts_of(asked))


def test_deep_nesting_is_found_but_cannot_be_rewritten_because_it_cannot_be_sent() -> None:
    asked = ChatRequest(id="r", model="m", messages=[], params={"stop": DEEP})

    assert [part.text for part in parts_of(asked)] == ["m", "leaf"]
    with pytest.raises(RequestError, match="nested too deeply"):
        rewritten(asked, lambda part: None)


json = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


@given(content=json, params=st.dictionaries(st.sampled_from(["stop", "metadata", "x-y"]), json))
def test_all_strings_of_any_body_are_parts_and_changing_all_leaves_none(content: Any, params: dict[str, Any]) -> None:
    asked = ChatRequest(id="r", model="m", messages=[{"role": "user", "content": content}], params=params)
    texts = {part.text for part in parts_of(asked)}

    def strings(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set().union(*(strings(child) for child in value.values()))
        if isinstance(value, list):
            return set().union(*map(strings, value))
        return {value} if isinstance(value, str) else set()

    assert strings(content) | strings(params) <= texts
    left = {p.text for p in parts_of(rewritten(asked, lambda part: "X")) if not p.place.endswith("(key)")}
    assert left <= {"X", "m"}


GROWTH = {
    "messages": lambda n: user("x") | {"messages": [{"role": "user", "content": "x" * 9}] * n},
    "depth": lambda n: user([{"a": "b"}] * n),
    "keys": lambda n: {"metadata": {f"key-{i}": "v" for i in range(n)}},
    "data": lambda n: user("data:" * n),
    "base64": lambda n: user("data:;base64,YWJj " * n),
    "percent": lambda n: user("data:," + "%41" * n),
}


@pytest.mark.parametrize("shape", GROWTH)
def test_its_time_grows_with_the_size_and_no_faster(shape: str) -> None:
    def seconds(n: int) -> float:
        asked, best = request(GROWTH[shape](n)), 60.0
        for _ in range(5):
            began = perf_counter()
            rewritten(asked, lambda part: None)
            for _part in parts_of(asked):
                pass
            best = min(best, perf_counter() - began)
        return best

    ratios = [seconds(8000) / seconds(2000) for _ in range(3)]

    assert min(ratios) < 2.6**2


def test_hints_that_say_nothing_bring_no_part() -> None:
    asked = ChatRequest(id="r", model="m", messages=[], hints=Hints(priority="high"))

    assert [part.text for part in parts_of(asked)] == ["m"]
