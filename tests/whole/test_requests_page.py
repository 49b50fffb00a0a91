"""The page on requests names every hint, every header and every other name that is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from routerpool.server.app import EXPOSED_HEADERS
from routerpool.wire.hints import CAMEL_HINTS, HINTS, SESSION_HEADERS

PAGE = (Path(__file__).parents[2] / "contrib" / "docs" / "requests.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("hint", HINTS)
def test_every_hint_stands_on_the_page_with_its_header(hint: str) -> None:
    header = f"X-Router-{hint.replace('_', '-').title()}"
    assert f"| `{hint}` | `{header}` |" in PAGE


@pytest.mark.parametrize(("name", "hint"), [(name, hint) for name, (hint, _) in CAMEL_HINTS.items()])
def test_every_other_name_stands_beside_its_hint(name: str, hint: str) -> None:
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{hint}` |")]
    assert f"`{name}`" in row


@pytest.mark.parametrize("header", SESSION_HEADERS)
def test_every_header_of_a_session_stands_on_the_page_in_the_order_in_which_it_counts(header: str) -> None:
    places = [PAGE.lower().index(f"`{name}`") for name in SESSION_HEADERS]
    assert f"`{header}`" in PAGE.lower()
    assert places == sorted(places)


@pytest.mark.parametrize("header", EXPOSED_HEADERS.split(", "))
def test_every_header_of_an_answer_stands_on_the_page(header: str) -> None:
    assert f"`{header}`" in PAGE
