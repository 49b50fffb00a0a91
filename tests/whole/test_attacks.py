"""The table of attacks is whole: each row tells all of its fields, and the tests that it names are there."""

from __future__ import annotations

import ast
from itertools import groupby
from typing import Any

import pytest
import yaml

from ..support.pages import DOCS, ROOT

ATTACKS: list[dict[str, Any]] = yaml.safe_load((ROOT / "tests" / "whole" / "attacks.yaml").read_text())


def _marks(node: str) -> str:
    """What stands above a test, and above all of its file; the test must be there."""
    file, _, name = node.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    (test,) = (item for item in tree.body if isinstance(item, kinds) and item.name == name)
    everywhere = [item.value for item in tree.body if isinstance(item, ast.Assign) and "pytestmark" in ast.dump(item)]
    return " ".join(ast.unparse(mark) for mark in [*test.decorator_list, *everywhere])


@pytest.mark.parametrize("row", ATTACKS, ids=lambda row: row["tried"][:40])
def test_a_row_tells_what_is_tried_and_what_holds_it_and_names_tests_that_are_there(row: dict[str, Any]) -> None:
    assert list(row) == ["kind", "tried", "holds", "test", "nightly"]
    assert all("\n" not in row[name].strip() and row[name] for name in ("kind", "tried", "holds"))
    assert "mark.nightly" not in _marks(row["test"]), "what the normal run leaves out is no test of the normal run"
    assert row["nightly"] is None or "mark.nightly" in _marks(row["nightly"])


def test_rows_of_one_kind_stand_together() -> None:
    kinds = [kind for kind, _ in groupby(row["kind"] for row in ATTACKS)]
    assert len(kinds) == len(set(kinds))


def test_every_attack_is_on_the_safety_page() -> None:
    page = (DOCS / "safety.md").read_text()
    for row in ATTACKS:
        assert row["tried"].replace("|", "\\|") in page
