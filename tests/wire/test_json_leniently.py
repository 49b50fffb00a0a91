"""JSON as providers and clients write it: halves of emojis, numbers that JSON does not know, and what stays refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.wire.json import LENIENT_BYTES, dumps, loads, loads_answer, loads_request

texts = st.text(st.characters(exclude_categories=()), max_size=8)
values = st.recursive(
    texts | st.integers(-9, 9) | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner)
)


@settings(max_examples=200, deadline=None)
@given(value=values)
def test_halves_of_emojis_in_answers_are_read_and_written_as_they_were(value: Any) -> None:
    raw = json.dumps(value).encode()

    assert loads_answer(raw) == json.loads(raw)
    assert json.loads(dumps(loads_answer(raw))) == json.loads(raw)


@settings(max_examples=200, deadline=None)
@given(value=values)
def test_halves_of_emojis_in_requests_become_replacement_characters(value: Any) -> None:
    read = loads_request(json.dumps([value]).encode())

    json.dumps(read, ensure_ascii=False).encode()
    if not any("\ud800" <= sign <= "\udfff" for sign in json.dumps(value, ensure_ascii=False)):
        assert read == [value]


def test_what_only_looks_like_half_an_emoji_is_left() -> None:
    assert loads_request(rb'["\\ud83d", "\ud83d\ude00", "\ud83d"]') == [r"\ud83d", "\U0001f600", "\ufffd"]


def test_numbers_that_json_does_not_know_are_read_in_answers_alone() -> None:
    raw = b'{"a": [NaN, Infinity, -Infinity]}'

    assert str(loads_answer(raw)) == "{'a': [nan, inf, -inf]}"
    assert loads(dumps(loads_answer(raw))) == {"a": [None, None, None]}
    with pytest.raises(ValueError):
        loads_request(raw)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", rb'["\ud83d"', b'{"a": NaN', b'"NaN" x', rb'["\ud83d", "' + b'\xff"]', b"[NaN]" + b"]"),
        rb'["\ud83d"' + b"[" * 100_000,
        rb'["\ud83d"]'.replace(b"]", b" " * LENIENT_BYTES + b"]"),
        '["\\ud83d"]'.encode("utf-16"),
    ],
    ids=lambda data: data[:12],
)
def test_other_rubbish_is_one_value_error_however_it_is_read(data: bytes) -> None:
    for read in (loads, loads_answer, loads_request):
        with pytest.raises(ValueError):
            read(data)


def test_what_is_no_json_cannot_be_written() -> None:
    for value in (object(), ["\ud83d", object()]):
        with pytest.raises(TypeError):
            dumps(value)
