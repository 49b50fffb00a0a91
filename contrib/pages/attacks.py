"""The safety page's table of attacks, made of `tests/whole/attacks.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from markdown import table

__all__ = ["attacks"]

SOURCE = Path(__file__).resolve().parents[2] / "tests" / "whole" / "attacks.yaml"


def attacks() -> str:
    """One row for each attack: its kind, told once, what is tried, what holds it, and the test of it."""
    rows = yaml.safe_load(SOURCE.read_text())
    return table(["attack", "what is tried", "what holds it", "tested by"], _rows(rows))


def _rows(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    kind = None
    for row in rows:
        tests = dict.fromkeys(name for name in (row["test"], row["nightly"]) if name)
        shown = ", ".join(f"`{test.rpartition('/')[2]}`" for test in tests)
        yield ["" if row["kind"] == kind else row["kind"], row["tried"], row["holds"], shown]
        kind = row["kind"]
