"""Folding and unfolding an answer are each other's reverse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.wire.bodies import fold, unfold
from routerpool.wire.sse import DONE

words = st.text(max_size=6)
arguments = st.dictionaries(words, st.integers()).map(json.dumps)
functions = st.fixed_dictionaries({"name": st.sampled_from(["f", "g"]), "arguments": arguments})
calls = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": functions}), min_size=1, max_size=3)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.text(min_size=1, max_size=9)},
    optional={
        "reasoning_content": st.text(min_size=1, max_size=9),
        "images": st.lists(st.fixed_dictionaries({"url": words}), min_size=1, max_size=2),
        "tool_calls": calls.map(lambda given: [{"id": f"t{n}", **call} for n, call in enumerate(given)]),
        "audio": st.fixed_dictionaries({"id": st.just("a"), "data": words}),
    },
)


@settings(max_examples=150, deadline=None)
@given(said=st.lists(messages, min_size=1, max_size=3), usage=st.booleans())
def test_an_answer_that_is_unfolded_and_folded_is_itself(said: list[dict[str, Any]], usage: bool) -> None:
    choices = [{"index": n, "message": message, "finish_reason": "stop"} for n, message in enumerate(said)]
    answer: dict[str, Any] = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    if usage:
        answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 2}

    assert fold(unfold(answer) + DONE) == answer
    assert fold(unfold(answer).replace(b"\n", b"\r\n")) == answer


@pytest.mark.parametrize(
    "cut", [b"", DONE, b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', b"data: {\n\n", b"data: []\n\n"]
)
def test_a_stream_that_is_cut_is_not_folded(cut: bytes) -> None:
    with pytest.raises(ValueError):
        fold(cut)
