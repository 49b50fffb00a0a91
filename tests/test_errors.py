"""The words that errors have in common."""

from __future__ import annotations

from pathlib import Path

import routerpool
from routerpool.errors import nearest

CORE = Path(routerpool.__file__).parent


def test_the_nearest_name_is_offered_when_one_is_near() -> None:
    assert nearest("grok", ["groq", "ollama"]) == "; did you mean 'groq'?"
    assert nearest("zzz", {"groq": 1}) == ""


def test_for_a_name_that_nobody_types_nothing_is_sought() -> None:
    assert nearest("g" * 64 + "q", ["g" * 64 + "r"]) == ""


def test_among_very_many_names_those_of_like_length_are_sought() -> None:
    many = [f"{'long' * 10}{number}" for number in range(10_000)]
    assert nearest("grok", [*many, "groq"]) == "; did you mean 'groq'?"


def test_no_other_module_looks_for_near_names_by_itself() -> None:
    """So that a mistyped name is answered in one form of words, whoever meets it."""
    seekers = [path for path in CORE.rglob("*.py") if "get_close_matches" in path.read_text()]

    assert seekers == [CORE / "errors.py"]
