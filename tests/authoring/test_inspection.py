"""`routerpool plugins doctor` names what is wrong with a plugin, with the cure, and lets nothing out of the process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from click.testing import CliRunner, Result

from routerpool import Level, PluginError, Report, hookimpl, hookspecs
from routerpool.authoring import blocking
from routerpool.authoring.inspection import examine_plugin, faults_of
from routerpool.authoring.rehearsal import REHEARSED, rehearse
from routerpool.cli.commands import cli
from routerpool.config.reading import from_mapping
from routerpool.hooks.compatibility import Leaving
from routerpool.hooks.loading import Instance, installed
from routerpool.hookspecs import hookspec

from ..support.shelf import Shelf

GOOD = """
requires_core = ">=0.1"
@hookimpl
def status(self):
    return {"fine": True}
"""

OPTIONS = GOOD + "@frozen\nclass Config:\n    tag: str\ndef __init__(self, config): ..."


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.alone(tmp_path / "site", monkeypatch)


def told(found: list[Report], level: Level) -> list[str]:
    return [f"{report.text} → {report.cure}" for report in found if report.level is level]


def errors(found: list[Report]) -> list[str]:
    return told(found, Level.ERROR)


# What the class says

WRONG = {
    "an unknown hook": (
        "@hookimpl\ndef scor(self, candidates): return []",
        "unknown hook 'scor' in plugin",
        "record_usage; did you mean 'score'?",
    ),
    "an unknown argument": (
        "@hookimpl\ndef score(self, candidate): return []",
        "Argument(s) {'candidate'} are declared in the hookimpl but can not be found in the hookspec",
        "score may take request, features, candidates; did you mean 'candidates'?",
    ),
    "no argument to take": (
        "@hookimpl\ndef status(self, request): return {}",
        "Argument(s) {'request'}",
        "status may take no argument",
    ),
    "no hook": ("x = 1", "it has no hook", "mark a method with @hookimpl"),
    "a config of its own kind": (
        "class Config: ...\n@hookimpl\ndef status(self): return {}",
        "its Config is no attrs class",
        "@frozen(kw_only=True)",
    ),
    "a config that cannot be read": (
        "@frozen\nclass Config:\n    x: 'Nowhere' = 1\n@hookimpl\ndef status(self): return {}",
        "its Config cannot be read: ",
        "types that YAML can hold",
    ),
    "a config with a type that nothing can be read as": (
        "@frozen\nclass Config:\n    x: tuple[bytes, ...] = ()\n@hookimpl\ndef status(self): return {}",
        "its Config cannot be read: bytes is not a type that a configuration can hold",
        "types that YAML can hold",
    ),
    "an option of the core's": (
        "@frozen\nclass Config:\n    enabled: bool = True\n@hookimpl\ndef status(self): return {}",
        "its option 'enabled' is a key of every plugin",
        "another name",
    ),
    "an async generator on a request's way": (
        "@hookimpl\nasync def veto(self):\n    yield 1",
        "veto is an async generator, which nobody iterates",
        "return a list",
    ),
    "async where nothing is awaited": (
        "@hookimpl\nasync def register_routes(self): return []",
        "register_routes is async, and nobody awaits it",
        "write it as `def`",
    ),
    "a lifespan that is none": (
        "@hookimpl\nasync def lifespan(self): return None",
        "lifespan is no async generator",
        "with one `yield`",
    ),
    "a wrapper": (
        "@hookimpl(wrapper=True)\ndef status(self):\n    return (yield)",
        "status is a wrapper",
        "before or behind",
    ),
    "another core": ("requires_core = '>=99'", "works with routerpool >=99, and this is routerpool", "mend the class"),
    "an import that fails": (
        "class Plugin: ...\nimport no_such_module_at_all",
        "routerpool-it 1.0 fails to import: ModuleNotFoundError",
        "shows where",
    ),
    "an import that exits": ("class Plugin: ...\nraise SystemExit(3)", "fails to import: SystemExit", "shows where"),
    "no class": ("class Plugin: ...\nPlugin = 3", "is no class", "mend the class"),
    "no provider": (
        "@hookimpl\ndef register_providers(self): return [3]",
        "registers something that is no provider",
        "`name`",
    ),
    "providers that fail": ("@hookimpl\ndef register_providers(self): 1 / 0", "ZeroDivisionError", "a list"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_an_error_with_its_cure(case: str, shelf: Shelf) -> None:
    source, text, cure = WRONG[case]
    shelf.put("it", source)

    [error] = errors(examine_plugin("it"))
    what, _, how = error.partition(" → ")
    assert text in what
    assert cure in how


DOUBTFUL = {
    "a hook without its mark": (
        GOOD + "def score(self, candidates): return []",
        "score has a hook's name and no @hookimpl, so it is never called",
    ),
    "a hook of its parent that lost its mark": (
        "class Plugin(OpenAIProvider):\n    def check(self, probe): return []",
        "check has a hook's name and no @hookimpl",
    ),
    "a scanner that is not required": (
        "class Plugin(TextScanner):\n    required = False\n    def find(self, text): return []",
        "is not `required`",
    ),
    "a classifier that raises and is not required": (
        GOOD + "@hookimpl\ndef classify(self, features): return features.raised(Privacy.SECRET)",
        "is not `required`",
    ),
    "commands in any case, and none": (
        GOOD + "always_commands = True",
        "says always_commands and registers no command",
    ),
    "commands in any case, where nobody looks": (
        "class Plugin:\n    @hookimpl\n    def register_commands(self): ...\nsetattr(Plugin, 'always_' 'commands', 1)",
        "says always_commands, and nobody hears it",
    ),
    "commands in any case, of what needs options": (
        OPTIONS + "\nalways_commands = True\n@hookimpl\ndef register_commands(self): return []",
        "says always_commands, and cannot be made without options",
    ),
    "no summary": (GOOD, "it has no summary"),
    "no licence": (GOOD, "it has no licence"),
    "no README": (GOOD, "it has no README"),
    "no dependency": (GOOD, "it does not depend on routerpool"),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_what_may_go_wrong_is_a_warning(case: str, shelf: Shelf) -> None:
    source, text = DOUBTFUL[case]
    shelf.put("it", source)

    found = examine_plugin("it")
    assert [warning for warning in told(found, Level.WARNING) if text in warning]
    assert errors(found) == []


def test_a_method_that_only_shares_a_hooks_name_is_left_alone() -> None:
    class Plugin:
        @hookimpl
        def begin(self) -> None: ...

        def status(self, response: object) -> int:
            return 200

    assert told(faults_of(Plugin), Level.WARNING) == []


def test_an_argument_that_is_leaving_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(request: Any, plan: Any) -> None: ...

    mark = Leaving("the argument `request` of begin", "9.0", "take `plan.request`")
    monkeypatch.setattr(hookspecs, "begin", hookspec(warn_on_impl_args={"request": mark})(begin))

    class Plugin:
        @hookimpl
        def begin(self, request: Any) -> None: ...

    [warning] = told(faults_of(Plugin), Level.WARNING)
    assert "`request` of begin goes with routerpool 9.0; take `plan.request`" in warning


def test_a_name_that_two_distributions_offer_is_an_error_that_names_both(shelf: Shelf) -> None:
    shelf.put("it", GOOD, distribution="acme-it")
    shelf.put("it", GOOD, distribution="beta-it")

    [error] = errors(examine_plugin("it"))
    assert "acme-it 1.0" in error
    assert "beta-it 1.0" in error


def test_a_provider_with_the_name_of_another_plugin_is_an_error(shelf: Shelf) -> None:
    shelf.put("other", GOOD, distribution="acme-other")
    source = """
    @hookimpl
    def register_providers(self):
        return [OpenAIProvider(ProviderConfig(base_url="http://127.0.0.1:9/v1"), name="other")]
    """
    shelf.put("it", source)

    [error] = errors(examine_plugin("it"))
    assert "a provider called 'other', and so does acme-other 1.0" in error


def test_a_name_that_nobody_offers_says_the_nearest_and_how_to_offer_it(shelf: Shelf) -> None:
    shelf.put("parrot", GOOD)

    with pytest.raises(
        PluginError, match=r"'parot'; did you mean 'parrot'\? If .*\[project.entry-points.routerpool\] parot ="
    ):
        examine_plugin("parot")


# What a configuration says


def test_an_option_that_the_plugin_does_not_have_is_an_error(shelf: Shelf) -> None:
    shelf.put("it", OPTIONS)
    config, _ = from_mapping({"plugins": {"mine": {"use": "it", "tagg": "x", "tag": "y"}}})

    [error] = errors(examine_plugin("it", config))
    assert error.startswith("plugins.mine.tagg: ")


def test_a_plugin_that_needs_options_and_has_none_is_told_and_no_error(shelf: Shelf) -> None:
    shelf.put("it", OPTIONS)

    found = examine_plugin("it")
    assert errors(found) == []
    assert [note for note in told(found, Level.NOTE) if "without options it cannot be made" in note]
    assert [note for note in told(found, Level.NOTE) if "no configuration here switches it on" in note]


def test_it_is_tried_with_the_options_of_the_configuration(shelf: Shelf) -> None:
    source = """
    @frozen
    class Config:
        works: bool = True
    def __init__(self, config):
        self.config = config
    @hookimpl
    def status(self):
        return {} if self.config.works else 3
    """
    shelf.put("it", source)
    config, _ = from_mapping({"plugins": {"it": {"works": False}}})

    assert errors(examine_plugin("it")) == []
    [error] = errors(examine_plugin("it", config))
    assert "status answers with int instead of Mapping" in error


# At work


def tried(hook: str, function: Any, **more: Any) -> list[Report]:
    plugin = type("Plugin", (), {hook: hookimpl(function), **more})
    return rehearse(Instance("it", plugin(), "it"), seconds=0.3)


def sleeps(self: object) -> None:
    import time

    time.sleep(20)


def connects(self: object) -> None:
    import socket

    with socket.socket() as own:
        own.connect(("127.0.0.1", 9))


def looks_up(self: object) -> None:
    import socket

    socket.create_connection(("localhost", 9), timeout=20)


def fetches(self: object) -> None:
    import urllib.request

    urllib.request.urlopen("http://127.0.0.1:9", timeout=20)


def starts(self: object) -> None:
    import subprocess

    subprocess.run(["sleep", "20"], check=True)


def shells(self: object) -> None:
    import os

    os.system("sleep 20")


def queries(self: object) -> None:
    import sqlite3

    sqlite3.connect(":memory:")


async def sleeps_in_async(self: object) -> None:
    await asyncio.sleep(0)
    sleep(20)


BLOCKS = {
    sleeps: ("sleeps with time.sleep", "asyncio.sleep"),
    sleeps_in_async: ("sleeps with time.sleep", "asyncio.sleep"),
    connects: ("connects a blocking socket", "router.session"),
    looks_up: ("looks up a host's address", "router.session"),
    fetches: ("looks up a host's address", "router.session"),
    starts: ("starts a process", "create_subprocess_exec"),
    shells: ("starts a shell", "create_subprocess_exec"),
    queries: ("opens a database", "router.store"),
}


@pytest.mark.parametrize("function", BLOCKS, ids=lambda function: function.__name__)
def test_a_call_that_blocks_the_loop_is_named_with_its_line_and_not_made(function: Any) -> None:
    what, cure = BLOCKS[function]
    found = errors(tried("begin", function))
    assert [error for error in found if error.startswith(f"begin {what} on the loop (test_inspection.py:")]
    assert all(cure in error for error in found if what in error)


def test_a_file_that_a_hook_reads_is_a_warning_and_one_that_it_writes_stays_unwritten(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("hello")
    read: list[str] = []

    def reads(self: object) -> None:
        read.append((tmp_path / "there").read_text())

    def writes(self: object) -> None:
        (tmp_path / "new").write_text("hello")

    for function in (reads, writes):
        [warning] = told(tried("begin", function), Level.WARNING)
        assert warning.startswith("begin opens a file on the loop (test_inspection.py:")
    assert "hello" in read
    assert not (tmp_path / "new").exists()


def test_a_thread_may_take_its_time_and_still_writes_nothing(tmp_path: Path) -> None:
    async def writes(self: object) -> None:
        await asyncio.to_thread((tmp_path / "new").write_text, "hello")

    assert tried("record_usage", writes) == []
    assert not (tmp_path / "new").exists()


def test_what_is_awaited_is_no_blocking_call() -> None:
    async def asks(self: object) -> None:
        await asyncio.sleep(0.001)
        await asyncio.open_connection("127.0.0.1", 9)

    async def starts_one(self: object) -> None:
        await asyncio.create_subprocess_exec("sleep", "20")

    assert tried("record_usage", asks) == []
    assert tried("record_usage", starts_one) == []


def test_nothing_is_refused_once_it_is_over(tmp_path: Path) -> None:
    before = list(blocking._watches)
    tried("begin", lambda self: (tmp_path / "new").write_text("x"))
    assert blocking._watches == before
    (tmp_path / "new").write_text("y")
    assert (tmp_path / "new").read_text() == "y"


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """An event that a hook may wait for; it comes at the end."""
    event = threading.Event()
    yield event
    event.set()


def test_a_hook_that_never_gives_the_loop_back_is_named_and_left_behind(held: threading.Event) -> None:
    found = tried("classify", lambda self: held.wait(30) and None)
    assert [error for error in errors(found) if error.startswith("classify held the loop for more than 0.3 s")]


def test_a_hook_that_waits_for_ever_is_given_up() -> None:
    async def waits(self: object) -> None:
        await asyncio.Event().wait()

    [error] = errors(tried("judge", waits))
    assert error.startswith("judge takes longer than 0.3 s and is given up")


def test_a_hook_that_computes_for_long_is_a_warning() -> None:
    def computes(self: object) -> None:
        from time import perf_counter

        end = perf_counter() + 0.07
        while perf_counter() < end:
            pass

    [warning] = told(tried("begin", computes), Level.WARNING)
    assert warning.startswith("begin holds the loop for ")


NO_ANSWERS = {
    "status": ((3, "int instead of Mapping"), ({"x": {1}}, "values that are no JSON")),
    "classify": (({}, "dict instead of Features"),),
    "veto": (([3], "int instead of Veto"), (3, "int instead of a list of Veto")),
    "score": (([3], "int instead of Score"),),
    "intercept": (("x", "str instead of Answer"),),
    "reserve": ((3, "int instead of an async context manager"),),
    "mutate": (({}, "dict instead of ChatRequest"),),
    "judge": ((True, "bool instead of Failure"),),
    "rewrite": ((3, "has no `event`"),),
    "on_failure": (("NEXT", "str instead of Decision"),),
}


@pytest.mark.parametrize(("hook", "answer", "what"), [(h, *case) for h, cases in NO_ANSWERS.items() for case in cases])
def test_an_answer_of_the_wrong_kind_is_an_error(hook: str, answer: Any, what: str) -> None:
    [error] = errors(tried(hook, lambda self: answer))
    assert what in error


def test_points_beyond_their_range_are_an_error() -> None:
    from routerpool import Score

    [error] = errors(tried("score", lambda self, candidates: [Score(c, 7.0) for c in candidates]))
    assert "score gives 7.0 points → give points between 0 and 1" in error


@pytest.mark.parametrize("hook", REHEARSED)
def test_a_hook_that_raises_is_an_error_that_quotes_nothing(hook: str) -> None:
    def breaks(self: object) -> None:
        raise ValueError("canary-7f3a9c")

    [error] = errors(tried(hook, breaks))
    assert error.startswith(f"{hook} fails on an ordinary or an odd request: ValueError at test_inspection.py:")
    assert "canary" not in error


def test_a_hook_that_exits_ends_nothing() -> None:
    def exits(self: object) -> None:
        raise SystemExit(3)

    [error] = errors(tried("begin", exits))
    assert "SystemExit at test_inspection.py" in error


def test_a_plugin_that_was_to_be_opened_first_is_no_error() -> None:
    async def lifespan(self: object) -> Any:
        yield

    found = tried("begin", lambda self: self.router.ask(), lifespan=hookimpl(lifespan))
    assert errors(found) == []
    [note] = told(found, Level.NOTE)
    assert "begin could not be tried, since the plugin is not opened here: AttributeError" in note


def test_a_no_on_purpose_is_no_fault() -> None:
    from routerpool import RequestError, Unavailable

    def refuses(self: object) -> None:
        raise RequestError("privacy_blocked", "no")

    def is_full(self: object) -> None:
        raise Unavailable("full", retry_after=1)

    assert tried("classify", refuses) == []
    assert tried("reserve", is_full) == []


def test_a_reservation_is_left_again() -> None:
    entered: list[int] = []

    class Slot:
        async def __aenter__(self) -> None:
            entered.append(1)

        async def __aexit__(self, *exc: object) -> None:
            entered.append(-1)

    assert tried("reserve", lambda self: Slot()) == []
    assert entered
    assert sum(entered) == 0


# Everybody


@pytest.mark.parametrize("name", installed())
def test_our_own_plugins_have_no_fault(name: str) -> None:
    found = examine_plugin(name)
    assert errors(found) == []
    assert [warning for warning in told(found, Level.WARNING) if "README" not in warning] == []


# The command


def run(*args: str) -> Result:
    result = CliRunner().invoke(cli, ["plugins", "doctor", *args])
    assert "Traceback" not in result.output
    return result


def test_the_command_tells_everything_and_ends_with_1_where_something_is_broken(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shelf.put("good", GOOD)
    shelf.put("bad", "@hookimpl\ndef scor(self): ...")

    assert run("good").exit_code == 0
    assert "it has no licence" in run("good").stdout
    result = run("bad", "--json")
    assert result.exit_code == 1
    reports = json.loads(result.stdout)["reports"]
    assert reports[0]["level"] == "error"
    assert {report["subject"] for report in reports} == {"bad"}
    assert run("nobody").exit_code == 1


def test_a_configuration_that_is_broken_is_left_out(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shelf.put("good", GOOD)
    (tmp_path / "routerpool.yaml").write_text("plugins: [")

    result = run("good")
    assert result.exit_code == 0
    assert "the configuration is left out, since" in result.stderr
