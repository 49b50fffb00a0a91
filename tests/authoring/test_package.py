"""`routerpool plugins new` writes packages of every kind that are right at once, and over nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from routerpool.authoring.package import KINDS, LONGEST, Package, write
from routerpool.cli import commands as cli
from routerpool.config.reading import from_mapping
from routerpool.document import parse
from routerpool.hooks.compatibility import supported

from ..support.shelf import Shelf, install

NAMES = {kind: f"my_{kind}" for kind in KINDS}


def new(*args: str) -> Result:
    result = CliRunner().invoke(cli.cli, ["plugins", "new", *args])
    assert "Traceback" not in result.output
    return result


def called(*command: str, folder: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package of each kind, and in `site` the same installed."""
    into = tmp_path_factory.mktemp("packages")
    for kind, name in NAMES.items():
        install(write(Package(name, kind), into), into / "site")
    return into


def folder(into: Path, kind: str) -> Path:
    return into / Package(NAMES[kind], kind).folder


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_tests_pass_at_once(kind: str, written: Path) -> None:
    site = str(written / "site")
    said = called("pytest", "-q", "-p", "no:cacheprovider", "-n0", folder=folder(written, kind), PYTHONPATH=site)
    assert re.search(r"[1-9]\d* passed", said)
    assert "failed" not in said


@pytest.mark.parametrize("kind", KINDS)
def test_the_doctor_finds_nothing_missing(kind: str, written: Path) -> None:
    command = ("routerpool", "plugins", "doctor", NAMES[kind], "--json")
    said = called(*command, folder=written, PYTHONPATH=str(written / "site"))
    assert [report["text"] for report in json.loads(said)["reports"] if report["level"] != "note"] == [
        f"{NAMES[kind]} of {Package(NAMES[kind], kind).folder} 0.1.0: nothing is missing"
    ]


@pytest.mark.skipif(find_spec("mypy") is None, reason="wants mypy: uv run --all-packages --group real pytest")
def test_they_are_as_mypy_wants_them(written: Path) -> None:
    said = called("mypy", "--strict", *(str(folder(written, kind)) for kind in KINDS), folder=written)
    assert "no issues found" in said


@pytest.mark.skipif(find_spec("ruff") is None, reason="wants ruff: uv run --all-packages --group real pytest")
@pytest.mark.parametrize("name", ["a", "my_lab", "a" * LONGEST])
def test_they_are_as_ruff_wants_them_however_long_the_name_is(name: str, tmp_path: Path) -> None:
    for kind in KINDS:
        write(Package(name, kind), tmp_path / kind)
    called("ruff", "check", "--no-cache", ".", folder=tmp_path)
    called("ruff", "format", "--no-cache", "--diff", ".", folder=tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_its_metadata_is_whole(kind: str, written: Path) -> None:
    project = tomllib.loads((folder(written, kind) / "pyproject.toml").read_text())["project"]
    name = NAMES[kind]
    assert project["name"] == f"routerpool-{name.replace('_', '-')}"
    assert project["entry-points"]["routerpool"] == {name: f"routerpool_{name}:My{kind.capitalize()}"}
    assert project["license"]
    assert project["dependencies"] == [f"routerpool{supported()}"]
    assert (folder(written, kind) / project["readme"]).read_text().startswith(f"# {project['name']}\n")


@pytest.mark.parametrize("kind", KINDS)
def test_what_its_readme_tells_to_write_is_a_configuration(kind: str, written: Path) -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", (folder(written, kind) / "README.md").read_text(), re.DOTALL)
    config, problems = from_mapping(parse(text).tree, env={"HOME": "/nowhere"})
    assert list(problems) == []
    assert [entry.name for entry in config.plugins] == [NAMES[kind]]


def test_its_ci_runs_what_its_readme_says(written: Path) -> None:
    text = (folder(written, "door") / ".github" / "workflows" / "test.yml").read_text()
    steps = [step.get("run") for step in yaml.safe_load(text)["jobs"]["test"]["steps"]]
    assert "pytest" in steps
    assert "routerpool plugins doctor my_door" in steps
    assert "${{ matrix.python }}" in text


def test_the_kinds_of_the_command_line_are_those_that_can_be_written() -> None:
    assert tuple(KINDS) == cli.KINDS


def test_what_was_written_is_told(tmp_path: Path) -> None:
    result = new("my-lab", "--kind", "provider", "--into", str(tmp_path / "deep" / "er"), "--json")
    told = json.loads(result.stdout)
    assert (told["name"], told["kind"]) == ("my_lab", "provider")
    made = Path(told["folder"])
    assert sorted(told["files"]) == sorted(str(p.relative_to(made)) for p in made.rglob("*") if p.is_file())
    assert "next: cd" in new("other", "--kind", "door", "--into", str(tmp_path)).stdout


# What is refused


@pytest.mark.parametrize(
    "name", ["Lab", "my lab", "-lab", "lab-", "my--lab", "9lab", "läb", "../lab", "", "a" * (LONGEST + 1)]
)
def test_a_name_that_is_none_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    result = new("--kind", "door", "--into", str(tmp_path), "--", name)
    assert result.exit_code == 1
    assert "cannot be a plugin's name: write small letters" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("class", "'class' is Python's own word; take another, such as my-class"),
        ("json", "'json' is Python's own word"),
        ("serve", "`routerpool serve` is a command already"),
        ("routerpool-lab", "begins with routerpool- in any case; say `lab`"),
    ],
)
def test_a_name_that_means_something_else_is_refused(name: str, told: str, tmp_path: Path) -> None:
    result = new(name, "--kind", "operation", "--into", str(tmp_path))
    assert result.exit_code == 1
    assert told in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_an_installed_plugin_is_refused_with_both_distributions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Shelf.alone(tmp_path / "site", monkeypatch).put("my_lab", "pass", distribution="acme-lab")

    result = new("my-lab", "--kind", "provider", "--into", str(tmp_path))
    assert result.exit_code == 1
    assert "acme-lab 1.0 offers a plugin called 'my_lab' already, and routerpool-my-lab would clash" in result.stderr


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "routerpool-lab").mkdir()
    (tmp_path / "routerpool-lab" / "mine").write_text("precious")

    result = new("lab", "--kind", "door", "--into", str(tmp_path))
    assert result.exit_code == 1
    assert "routerpool-lab is there already, and nothing is written over" in result.stderr
    assert [path.name for path in (tmp_path / "routerpool-lab").iterdir()] == ["mine"]


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    assert new("lab", "--kind", "door", "--into", str(tmp_path / "file")).exit_code == 2
