"""What CONTRIBUTING says is so: its paths are there, its rooms stand in the rule's order, its night is what runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .test_layers import ROOMS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
NIGHTLY = ROOT / ".ci" / "nightly"


def test_it_is_read_in_ten_minutes() -> None:
    assert len(TEXT.split()) < 1000


def test_every_path_is_there() -> None:
    paths = re.findall(r"(?<![\w/<])(?:\.ci|contrib|plugins|routerpool|tests)/[\w./-]+", TEXT)
    real = {path.rstrip(".") for path in paths if not re.search("FAMILY|NNNN", path)}
    assert len(real) > 8
    assert [path for path in sorted(real) if not (ROOT / path).exists()] == []


def test_the_rooms_stand_in_their_order() -> None:
    [line] = re.findall(r"^`types`.*?`cli`$", TEXT, re.MULTILINE | re.DOTALL)
    not_told = {"version", "databases", "routerpool", "__main__"}
    assert re.findall(r"`(\w+)`", line) == [room for room in ROOMS if room not in not_told]


@pytest.mark.parametrize("name", ["run", "nightly"])
def test_a_script_can_be_run(name: str) -> None:
    script = ROOT / ".ci" / name
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)


# Every night

LONGER = re.compile(r'int\(os\.environ\.get\("(ROUTERPOOL_\w+)", "(\d+)"\)\)')
"""How a test says that a variable makes it longer."""

FORMS = {
    (name, int(count))
    for folder in ("tests", "plugins", "contrib")
    for path in (ROOT / folder).rglob("test_*.py")
    for name, count in LONGER.findall(path.read_text())
}


def test_the_privacy_schedules_have_a_nightly_form() -> None:
    assert ("ROUTERPOOL_SCHEDULES", 1000) in FORMS


@pytest.mark.parametrize(("name", "count"), sorted(FORMS))
def test_what_has_a_nightly_form_runs_in_it_every_night(name: str, count: int) -> None:
    [given] = re.findall(rf'{name}="\${{{name}:-(\d+)}}"', NIGHTLY.read_text())
    assert int(given) >= 10 * count
    assert f"`{name}={given}`" in TEXT


def test_the_night_runs_what_is_slow_and_meets_a_bare_environment() -> None:
    text = NIGHTLY.read_text()
    assert 'pytest -m "slow or nightly"\n' in text
    assert "install --quiet -e '.[test]' $(printf -- '-e %s ' plugins/*/*/ contrib/litellm/)\n" in text
