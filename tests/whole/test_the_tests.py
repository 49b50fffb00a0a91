"""The tests are arranged like the code: each room has its folder, and each file says which module it is about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS, CORE = ROOT / "tests", ROOT / "routerpool"
FREE = {"whole", "real"}
"""What is about the whole stands in `whole`, what needs a real engine in `real`."""

FILES = [path.relative_to(TESTS) for path in sorted(TESTS.rglob("test_*.py"))]
MIRRORED = [path for path in FILES if path.parts[0] not in FREE]


def about(path: Path) -> list[Path]:
    """The modules that a file of tests may be about: test_life_reload.py is about life, or about life_reload."""
    words = path.stem.removeprefix("test_").split("_")
    folder = CORE / path.parent
    names = ("_".join(words[:count]) for count in range(len(words), 0, -1))
    return [folder / f"{name}.py" for name in names if (folder / f"{name}.py").is_file()]


@pytest.mark.parametrize("path", MIRRORED, ids=str)
def test_a_file_of_tests_stands_where_its_module_does(path: Path) -> None:
    assert about(path), f"there is no module that tests/{path} is about; what is about the whole stands in tests/whole"


def test_helpers_stand_in_support_and_real_engines_in_real() -> None:
    others = [path.relative_to(TESTS) for path in TESTS.rglob("*.py") if not path.name.startswith("test_")]

    assert {path.parts[0] for path in others} <= {"support", "real", "conftest.py"}


def test_no_name_of_a_file_is_there_twice() -> None:
    """So that a bare name in a promise or in an error leads to one file."""
    names = [path.name for path in FILES]

    assert [name for name in names if names.count(name) > 1] == []
    assert not [name for name in names if not re.fullmatch(r"test_[a-z0-9_]+\.py", name)]
