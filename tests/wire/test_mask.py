"""A key is taken out as a whole, in whatever escapes it is written, and what is no key stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerpool.wire.mask import Mask

KEY = "sk-of-ours-123"
MASK = Mask(KEY)
KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


@pytest.mark.parametrize("key", [None, "", "0", "seven77"])
def test_a_key_that_may_be_a_word_is_not_looked_for(key: str | None) -> None:
    assert Mask.of(key) is None


@pytest.mark.parametrize(
    "text", [b"sk-of-ours-1234", b"task-of-ours-123", b"sk-of-ours-123_x", b"xsk-of-ours-123", b"sk-of-ours-12"]
)
def test_a_part_of_a_longer_word_is_no_key(text: bytes) -> None:
    assert MASK.without(text) == text == MASK.refusal(text)


@pytest.mark.parametrize("form", ["{}", "key: {}.", "Bearer {}", '"{}"', "a\\n{}", "\\u0020{}", "?k%3D{}", "({})"])
def test_a_key_is_taken_out_wherever_it_stands_as_a_whole(form: str) -> None:
    assert MASK.without(form.format(KEY).encode()) == form.format("[key]").encode()


@pytest.mark.parametrize("key", ["abc/def+ghi/jkl==", "/abcdefgh/", "a/b/c/d/e/f"])
@pytest.mark.parametrize("slash", ["/", "\\/"])
def test_a_slash_may_be_written_as_an_escape(key: str, slash: str) -> None:
    mask, data = Mask(key), f'{{"a": "{key.replace("/", slash)}"}}'.encode()
    assert mask.key in data
    assert mask.without(data) == b'{"a": "[key]"}'
    assert json.loads(mask.refusal(data)) == {"a": "[key]"}


@pytest.mark.parametrize(
    "written",
    [KEY, "\\u0073k-of-ours-123", "sk\\u002Dof\\u002dours-123", "".join(f"\\u{ord(sign):04x}" for sign in KEY)],
)
def test_escapes_of_json_hide_no_key_in_a_refusal(written: str) -> None:
    body = f'{{"error": {{"message": "no \\u00e9 for {written}!"}}}}'.encode()
    assert json.loads(MASK.refusal(body)) == {"error": {"message": "no é for [key]!"}}


@given(KEYS, st.sampled_from([str, lambda text: "".join(f"\\u{ord(sign):04X}" for sign in text)]))
def test_no_key_is_left_in_a_refusal_that_is_json(key: str, write: Any) -> None:
    escaped = write(key) if write is not str else json.dumps(key)[1:-1]
    body = f'{{"message": "given: {escaped} ."}}'.encode()
    assert key not in json.loads(Mask(key).refusal(body))["message"].removeprefix("given: ").removesuffix(" .")


@given(st.binary(max_size=200))
def test_what_holds_no_key_is_left_as_it_is(body: bytes) -> None:
    assert MASK.refusal(body) == body
