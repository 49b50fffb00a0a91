"""What strangers send costs time as its length does: every function that sees foreign bytes, and every expression."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ..support import growth as growing
from ..support.growth import ELSEWHERE, PATTERNS_ELSEWHERE, READERS, SEES, encoded, growth, modules, patterns, texts

SMALL, LARGE = 2 << 10, 32 << 10
"""Bytes of the smallest input of four, in the normal run and every night."""

PATTERNS = {name: (use, of_bytes) for name, use, of_bytes in patterns() if name not in PATTERNS_ELSEWHERE}


def wrong(call: Any, grown: Any, size: int) -> dict[str, str]:
    return {name: told for name, make in grown.items() if (told := growth(call, make, size)) is not None}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_time_as_what_it_reads_is_long(name: str) -> None:
    assert wrong(READERS[name].call, READERS[name].grown, SMALL) == {}


@pytest.mark.nightly
@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_time_as_what_it_reads_is_long_at_full_size(name: str) -> None:
    assert wrong(READERS[name].call, READERS[name].grown, LARGE) == {}


@pytest.mark.parametrize("name", PATTERNS)
def test_an_expression_takes_time_as_its_text_is_long(name: str) -> None:
    use, of_bytes = PATTERNS[name]
    assert wrong(use, encoded(texts()) if of_bytes else texts(), SMALL) == {}


@pytest.mark.nightly
@pytest.mark.parametrize("name", PATTERNS)
def test_an_expression_takes_time_as_its_text_is_long_at_full_size(name: str) -> None:
    use, of_bytes = PATTERNS[name]
    assert wrong(use, encoded(texts()) if of_bytes else texts(), LARGE) == {}


# The list is whole


def test_every_module_that_sees_foreign_bytes_is_measured_or_says_where_it_is() -> None:
    named = set(re.findall(r"^from (routerpool[\w.]*) import", Path(growing.__file__).read_text(), re.MULTILINE))
    seeing = {module.__name__ for module in modules() if module.__name__.startswith(SEES)}
    assert seeing - named - ELSEWHERE.keys() == set()
    assert ELSEWHERE.keys() <= seeing, "what is gone needs no reason"


def test_every_exempt_expression_is_there() -> None:
    assert PATTERNS_ELSEWHERE.keys() <= {name for name, _, _ in patterns()}
    assert len(PATTERNS) > 60


def test_the_measure_sees_the_square_of_the_length() -> None:
    def quadratic(text: str) -> None:
        for place in range(0, len(text), 8):
            text[place:].count("b")

    assert growth(quadratic, lambda size: "a" * size, 16 << 10) is not None
    assert growth(lambda text: text.count("b"), lambda size: "a" * size, LARGE) is None
