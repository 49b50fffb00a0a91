"""The tests are arranged like the code: each room has its folder, and each file says which module it is about."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


# What may be skipped

CONFTEST = (TESTS / "conftest.py").read_text()
RUN = {
    "test_a.py": "import pytest\ndef test_a(): pytest.skip({reason!r})\ndef test_b(): pass\n",
    "conftest.py": CONFTEST,
    "skips.yaml": "- {reason: 'no .* here', because: x}\n- {reason: always, because: y, everywhere: true}\n",
}


@pytest.mark.parametrize(
    ("reason", "complete", "passes"),
    [
        ("no curl here", "", True),
        ("no curl here", "1", False),
        ("always", "1", True),
        ("could not import 'semver'", "", False),
        ("could not import 'semver'", "1", False),
        ("well, no curl here", "", False),
    ],
)
@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_is_skipped_for_a_reason_that_is_not_listed_fails_the_run(
    tmp_path: Path, reason: str, complete: str, passes: bool, processes: str
) -> None:
    for name, text in RUN.items():
        (tmp_path / name).write_text(text.replace("{reason!r}", repr(reason)))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-n", processes, "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command,
        env={**os.environ, "ROUTERPOOL_ALL_TESTS": complete},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is passes, done.stdout
    assert (f"does not list: {reason}" in done.stdout) is not passes


def test_every_entry_of_the_list_says_why() -> None:
    entries = yaml.safe_load((TESTS / "skips.yaml").read_text())
    for entry in entries:
        assert re.compile(entry["reason"])
        assert entry["because"]
        assert set(entry) <= {"reason", "because", "everywhere"}


def test_ci_skips_nothing_that_it_could_install() -> None:
    assert "export ROUTERPOOL_ALL_TESTS=1" in (ROOT / ".ci" / "run").read_text()
