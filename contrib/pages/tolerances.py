"""The page of what is tolerated: every kind with its test, out of `tests/whole/tolerances.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from markdown import plainly, prose, table

__all__ = ["SOURCE", "compatibility_page"]

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "whole" / "tolerances.yaml"
ABOUT = """
Providers, clients and configurations differ from what is written in the books. This is what is taken as it is meant,
one line a kind, each with the test that fails when it is so no more. What is not here may work all the same; what is
here is a promise.
"""
HEADINGS = {"provider": "From providers", "client": "From clients", "operator": "From whoever runs it"}


def compatibility_page() -> str:
    """The page."""
    rows = yaml.safe_load(SOURCE.read_text())
    parts = ["# Compatibility", prose(ABOUT)]
    for who, heading in HEADINGS.items():
        told = [_row(row) for row in rows if row["from"] == who]
        parts += [f"## {heading}", table(("kind", "what is tolerated", "test"), told)] if told else []
    return "\n\n".join(parts) + "\n"


def _row(row: Mapping[str, str]) -> tuple[str, str, str]:
    path, _, name = row["test"].partition("::")
    return row["kind"], plainly(row["tolerated"]), f"[`{name}`](../../{path})"
