"""What strangers send costs time as its length does: every function that sees foreign bytes, and every expression."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ..support import growth as growing
from ..support.growth import ELSEWHERE, PATTERNS_ELSEWHERE, READERS, SEES, encoded, growth, modules, patterns, texts

SMALL, LARGE = 1 << 10, 32 << 10
"""Bytes of the smallest input of four, in the normal run and every night."""

MANY = 200
"""So many inputs are kept small in the normal run; fewer may be longer."""

PATTERNS = {name: (use, of_bytes) for name, use, of_bytes in patterns() if name not in PATTERNS_ELSEWHERE}


def wrong(call: Any, grown: Any, size: int) -> dict[str, str]:
    return {name: told for name, make in grown.items() if (told := growth(call, make, size)) is not None}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_time_as_what_it_reads_is_long(name: str) -> None:
    grown = READERS[name].grown
    assert wrong(READERS[name].call, grown, SMALL if len(grown) >= MANY else SMALL * 16) == {}


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


def _in_a_list(text: str) -> None:
    seen: list[int] = []
    for place in range(len(text)):
        if place not in seen:
            seen.append(place)


def _cut_again_and_again(text: str) -> None:
    while len(text) > 1:
        text = text.lstrip("b")[1:].lower()


@pytest.mark.parametrize(
    ("unit", "quadratic"),
    [
        (" ", lambda text: re.findall(r"\s*safe", text)),
        ("a", _in_a_list),
        ("é", _cut_again_and_again),
    ],
)
def test_the_measure_sees_the_square_of_the_length(unit: str, quadratic: Any) -> None:
    assert growth(quadratic, lambda size: unit * size, SMALL) is not None
    assert growth(lambda text: text.count("b"), lambda size: unit * size, LARGE) is None
