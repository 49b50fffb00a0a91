"""JSON within bounds: what is counted are values, however a document is written, cut and gone over."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool.wire import json as wire_json
from routerpool.wire.json import LARGE, TooManyValuesError, loads, parsed

TEXTS = st.text(st.sampled_from('a\\"\n,[{}] é'), max_size=12)
DOCUMENTS = st.recursive(
    TEXTS | st.integers(-(2**63), 2**63 - 1) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def values(document: Any) -> int:
    """The commas and opening brackets between which a document's values stand."""
    if isinstance(document, dict | list):
        inner = document.values() if isinstance(document, dict) else document
        return max(len(document), 1) + sum(map(values, inner))
    return 0


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1 << 18])
@settings(max_examples=50, deadline=None)
@given(document=DOCUMENTS)
def test_a_document_has_as_many_values_in_whichever_pieces_it_is_gone_over(piece: int, document: Any) -> None:
    raw, count = json.dumps(document).encode(), values(document)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire_json, "PIECE", piece)
        assert loads(raw, count) == document
        if count:
            with pytest.raises(TooManyValuesError):
                loads(raw, count - 1)


def test_a_large_document_is_parsed_off_the_loop_and_a_small_one_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(data: bytes, most: int) -> Any:
        seen.append(threading.get_ident())
        return loads(data, most)

    monkeypatch.setattr(wire_json, "loads", spy)
    assert asyncio.run(parsed(b'"' + b"a" * LARGE + b'"')) == "a" * LARGE
    assert asyncio.run(parsed(b'"a"')) == "a"
    assert [ident == threading.get_ident() for ident in seen] == [False, True]


def test_what_is_no_json_is_one_error_on_and_off_the_loop() -> None:
    for size in (1, 1 << 20):
        with pytest.raises(orjson.JSONDecodeError):
            asyncio.run(parsed(b'"' + b'\\"' * size))
