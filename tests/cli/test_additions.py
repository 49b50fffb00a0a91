"""Commands that are there whatever a configuration names, and what is imported to find them."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from routerpool.cli.commands import cli
from routerpool.hooks.loading import installed

from ..support.shelf import Shelf

ALWAYS = """
always_commands = True
@hookimpl
def register_commands(self):
    return [click.Command("{name}", callback=lambda: click.echo("{said}"), help="Say {said}.")]
"""
LOUD = "class Plugin:\n    pass\nopen('imported', 'a').close()"


@pytest.fixture(autouse=True)
def _a_clean_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ROUTERPOOL_CONFIG", raising=False)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.alone(tmp_path / "site", monkeypatch)


def run(*args: str) -> Result:
    result = CliRunner().invoke(cli, list(args))
    assert "Traceback" not in result.output
    return result


@pytest.mark.parametrize(
    "text", [None, "plugins: {}\n", "plugins: {other: {}}\n", "plugins: [\n", "plugins: {nobody: {}}\n"]
)
def test_such_a_command_is_there_whatever_a_file_names(shelf: Shelf, text: str | None) -> None:
    shelf.put("tour", ALWAYS.format(name="walk", said="good day"))
    shelf.put("other", "pass")
    if text is not None:
        Path("routerpool.yaml").write_text(text)
    assert run("walk").output == "good day\n"
    assert "Say good day." in run("--help").output


def test_a_file_that_switches_the_plugin_off_switches_its_commands_off(shelf: Shelf) -> None:
    shelf.put("tour", ALWAYS.format(name="walk", said="good day") + "open('imported', 'a').close()")
    Path("routerpool.yaml").write_text("plugins: {tour: {enabled: false}}\n")
    assert run("walk").exit_code == 2
    assert not Path("imported").exists()


def test_a_file_that_names_the_plugin_says_how_it_is_made(shelf: Shelf) -> None:
    source = """
    @frozen
    class Config:
        word: str = "hello"

    class Plugin:
        Config = Config
        always_commands = True
        def __init__(self, config):
            self.word = config.word
        @hookimpl
        def register_commands(self):
            return [click.Command("walk", callback=lambda: click.echo(self.word))]
    """
    shelf.put("tour", source)
    for text, said in (("plugins: {}", "hello"), ("plugins: {mine: {use: tour, word: moin}}", "moin")):
        Path("routerpool.yaml").write_text(text)
        assert run("walk").output == f"{said}\n"


def test_no_other_plugin_is_imported_to_find_it(shelf: Shelf) -> None:
    shelf.put("tour", ALWAYS.format(name="walk", said="good day"))
    shelf.put("loud", LOUD)
    Path("routerpool.yaml").write_text("plugins: {}\n")
    assert run("walk").exit_code == 0
    assert run("--help").exit_code == 0
    assert run("nobody").exit_code == 2
    assert not Path("imported").exists()


def test_a_module_that_only_mentions_the_word_brings_no_commands(shelf: Shelf) -> None:
    source = ALWAYS.format(name="walk", said="good day").replace("always_commands = True", "always_commands = False")
    shelf.put("tour", source)
    Path("routerpool.yaml").write_text("plugins: {}\n")
    assert run("walk").exit_code == 2


def test_a_plugin_that_needs_options_or_cannot_be_imported_is_named(shelf: Shelf) -> None:
    needs = "@frozen\nclass Config:\n    word: str\ndef __init__(self, config): ...\n"
    shelf.put("tour", needs + ALWAYS.format(name="walk", said="good day"), distribution="acme-tour")
    shelf.put("ghost", f"class Plugin:\n    always_commands = True\n{'import a_module_that_is_not_there'}")
    Path("routerpool.yaml").write_text("plugins: {}\n")
    for args in (["--help"], ["walk"]):
        said = " ".join(run(*args).output.split())
        assert "tour of acme-tour: " in said
        assert "a_module_that_is_not_there" in said
        assert "config check" not in said  # it is no mistake of the file


def test_two_such_plugins_that_offer_one_name_are_both_named(shelf: Shelf) -> None:
    for who in ("one", "two"):
        shelf.put(who, ALWAYS.format(name="walk", said=who), distribution=f"acme-{who}")
    result = run("walk")
    assert result.exit_code == 1
    assert "acme-one 1.0" in result.stderr
    assert "acme-two 1.0" in result.stderr


# Reading without importing


def _module(folder: Path, name: str, text: str) -> None:
    """A module in packages that say so when they are imported."""
    *packages, last = name.split(".")
    for package in packages:
        folder /= package
        folder.mkdir()
        (folder / "__init__.py").write_text("raise ImportError('nobody asked for this')")
    (folder / f"{last}.py").write_text(text)


def _enter(shelf: Shelf, module: str) -> None:
    info = shelf.folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[routerpool]\nacme = {module}:Plugin\n")


@pytest.mark.parametrize(("text", "expected"), [("class Plugin:\n    word = 1", True), ("class Plugin: ...", False)])
def test_a_module_deep_in_packages_is_read_and_they_are_not_imported(shelf: Shelf, text: str, expected: bool) -> None:
    _module(shelf.folder, "acme_house.room.shelf", text)
    _enter(shelf, "acme_house.room.shelf")
    assert installed()["acme"].declares("word") is expected
    assert not [name for name in sys.modules if name.startswith("acme_house")]


def test_a_module_in_an_archive_is_read(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = shelf.folder / "acme.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("acme_zipped.py", "class Plugin:\n    word = 1\n")
    monkeypatch.syspath_prepend(str(archive))
    _enter(shelf, "acme_zipped")
    assert installed()["acme"].declares("word")
    assert not installed()["acme"].declares("another")


def test_a_module_without_source_may_hold_anything_and_one_that_is_not_there_nothing(shelf: Shelf) -> None:
    _module(shelf.folder, "acme_binary", "x = 1")
    source = shelf.folder / "acme_binary.py"
    source.write_bytes(b"# coding: utf-8\nx = '\xff'\n")  # no text, as far as Python is concerned
    _enter(shelf, "acme_binary")
    assert installed()["acme"].declares("word")
    source.unlink()
    sys.path_importer_cache.pop(str(shelf.folder), None)
    assert not installed()["acme"].declares("word")


NAMED = """
@hookimpl
def register_commands(self):
    return [click.Command("walk", params=[click.Option(["--config"])], callback=lambda config: click.echo(config))]
"""


@pytest.mark.parametrize("form", [["--config", "other.yaml"], ["--config=other.yaml"]])
def test_a_command_is_looked_for_in_the_file_that_is_named_behind_it(shelf: Shelf, form: list[str]) -> None:
    shelf.put("tour", NAMED)
    Path("other.yaml").write_text("plugins: {tour: {}}\n")
    Path("routerpool.yaml").write_text("plugins: {}\n")
    assert run("walk", *form).output == "other.yaml\n"
    assert run(*form, "walk").exit_code == 0
    assert run("walk", "--", *form).exit_code == 2


def test_hooks_are_listed_by_their_own_name_whatever_the_method_is_called(shelf: Shelf) -> None:
    source = """
    @hookimpl(specname="score")
    def favour(self, candidates):
        return []
    @hookimpl
    def status(self):
        return {}
    """
    shelf.put("tour", source)
    told = json.loads(run("plugins", "--json").output)
    assert told["plugins"][0]["hooks"] == ["status", "score"]
