"""Plugins are made by name, called in the file's order, and kept from harming anybody else."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from routerpool import (
    Answer,
    Attempt,
    Candidate,
    ChatRequest,
    Decision,
    Failure,
    FailureKind,
    Features,
    Model,
    Opening,
    Plan,
    Privacy,
    Probe,
    Score,
    Veto,
    hookimpl,
)
from routerpool.config.reading import load
from routerpool.errors import ConfigError, PluginError, RequestError, Unavailable
from routerpool.hooks import calling as hooks_module
from routerpool.hooks.calling import HOOKS, REFUSABLE, Hooks
from routerpool.hooks.loading import Installed, Instance, installed, make

CANARY = "canary-7f3a9c"

REQUEST = ChatRequest(id="r1", model="auto", messages=[{"role": "user", "content": "Hello"}])
FEATURES = Features()
CANDIDATE = Candidate(provider="lab", model=Model(id="m1"))
ATTEMPT = Attempt(request=REQUEST, features=FEATURES, candidate=CANDIDATE, number=1, started=0.0)
PLAN = Plan(request=REQUEST, features=FEATURES, profile="auto", ranked=(CANDIDATE,))


def hooks_of(*, seconds: float = 5.0, required: tuple[str, ...] = (), **plugins: Any) -> Hooks:
    """These plugins under their keywords' names, in this order."""
    made = Hooks.of(
        Instance(name, plugin, name, f"routerpool-{name}", "1.2", required=name in required)
        for name, plugin in plugins.items()
    )
    made.seconds = seconds
    return made


def collected(hooks: Hooks, hook: str, *args: Any) -> list[tuple[str, Any]]:
    """Who answered what."""
    return [(impl.instance.name, answer) for impl, answer in asyncio.run(hooks.collect(hook, *args))]


def plugin(hook: str, function: Callable[..., Any], **marks: bool) -> Any:
    """A plugin whose one hook is this function; its first argument is the plugin."""
    return type("Plugin", (), {hook: hookimpl(**marks)(function)})()


class Labels:
    """Answers with who has been here before it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @hookimpl
    def classify(self, features: Features) -> Features:
        return features.labelled(**{self.name: len(features.labels)})


# The order of calls


def test_hooks_are_called_in_the_order_of_the_file() -> None:
    hooks = hooks_of(one=Labels("one"), two=Labels("two"), three=Labels("three"))

    assert [name for name, _ in collected(hooks, "classify", REQUEST, FEATURES)] == ["one", "two", "three"]


def test_tryfirst_and_trylast_move_a_hook_and_keep_the_files_order_among_themselves() -> None:
    def marked(**marks: bool) -> Any:
        return plugin("classify", lambda self, features: features, **marks)

    hooks = hooks_of(
        last=marked(trylast=True),
        one=marked(),
        last_too=marked(trylast=True),
        first=marked(tryfirst=True),
        two=marked(),
        first_too=marked(tryfirst=True),
    )

    order = [name for name, _ in collected(hooks, "classify", REQUEST, FEATURES)]
    assert order == ["first", "first_too", "one", "two", "last", "last_too"]


# The forms of an implementation


def test_an_implementation_may_be_a_function_a_generator_or_a_coroutine() -> None:
    veto = Veto(CANDIDATE, "too_far", "it is far away")

    def plain(self: object, candidates: Any) -> list[Veto]:
        return [veto]

    def generator(self: object, candidates: Any) -> Iterator[Veto]:
        yield veto

    async def coroutine(self: object, candidates: Any) -> list[Veto]:
        await asyncio.sleep(0)
        return [veto]

    hooks = hooks_of(
        plain=plugin("veto", plain), generator=plugin("veto", generator), coroutine=plugin("veto", coroutine)
    )

    answers = collected(hooks, "veto", REQUEST, FEATURES, (CANDIDATE,))
    assert answers == [("plain", [veto]), ("generator", [veto]), ("coroutine", [veto])]


def test_an_answer_of_none_is_no_answer() -> None:
    assert collected(hooks_of(mute=plugin("status", lambda self: None)), "status") == []


def test_an_implementation_takes_the_arguments_that_it_names() -> None:
    seen: dict[str, tuple[object, ...]] = {}

    def whole(self: object, request: object, features: object, candidates: object) -> None:
        seen["whole"] = (request, features, candidates)

    def last(self: object, candidates: object) -> None:
        seen["last"] = (candidates,)

    def turned(self: object, candidates: object, request: object) -> None:
        seen["turned"] = (candidates, request)

    async def none(self: object) -> None:
        seen["none"] = ()

    implementations = {"whole": whole, "last": last, "turned": turned, "none": none}
    hooks = hooks_of(**{name: plugin("veto", function) for name, function in implementations.items()})

    collected(hooks, "veto", "R", "F", "C")
    assert seen == {"whole": ("R", "F", "C"), "last": ("C",), "turned": ("C", "R"), "none": ()}


# Faults


def raises(self: object, features: Features) -> Features:
    raise ValueError(CANARY)


async def hangs(self: object) -> None:
    await asyncio.Event().wait()


def test_faults_add_up() -> None:
    hooks = hooks_of(bad=plugin("classify", raises))

    for _ in range(3):
        collected(hooks, "classify", REQUEST, FEATURES)
    assert hooks.instances["bad"].faults == 3


def test_a_real_cancellation_passes_through_and_is_nobodys_fault() -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def wait(self: object) -> None:
            begun.set()
            await asyncio.Event().wait()

        hooks = hooks_of(slow=plugin("classify", wait), after=Labels("after"))
        task = asyncio.create_task(hooks.collect("classify", REQUEST, FEATURES))
        await begun.wait()
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        assert hooks.instances["slow"].faults == 0

    asyncio.run(main())


def test_an_interrupt_from_the_keyboard_passes_through() -> None:
    def interrupt(self: object) -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        hooks = hooks_of(bad=plugin("classify", interrupt))
        with pytest.raises(KeyboardInterrupt):
            await hooks.collect("classify", REQUEST, FEATURES)

    asyncio.run(main())


def test_a_hook_that_was_given_up_leaves_the_task_uncancelled() -> None:
    async def main() -> None:
        hooks = hooks_of(seconds=0.01, bad=plugin("classify", hangs))
        await hooks.collect("classify", REQUEST, FEATURES)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(main())


@pytest.mark.parametrize("error", [RequestError("privacy_blocked", "no"), Unavailable("busy", 1.0)])
def test_what_a_reservation_says_on_purpose_passes_through(error: Exception) -> None:
    def reserve(self: object, attempt: Attempt) -> None:
        raise error

    hooks = hooks_of(strict=plugin("reserve", reserve))

    with pytest.raises(type(error)):
        collected(hooks, "reserve", ATTEMPT)
    assert hooks.instances["strict"].faults == 0


# Slow plugins


def test_a_hook_that_holds_the_loop_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(hooks_module, "SLOW_SECONDS", 0.005)

    def sleeps(self: object, features: Features) -> Features:
        time.sleep(0.006)
        return features

    def sleeps_between(self: object) -> Iterator[None]:
        time.sleep(0.006)
        yield

    hooks = hooks_of(
        heavy=plugin("classify", sleeps), lazy=plugin("check", sleeps_between), light=plugin("check", lambda self: ())
    )

    assert collected(hooks, "classify", REQUEST, FEATURES) == [("heavy", FEATURES)]
    collected(hooks, "check", Probe())
    assert {name: (i.slow, i.faults) for name, i in hooks.instances.items() if name != "light"} == {
        "heavy": (1, 0),
        "lazy": (1, 0),
    }
    lines = [record.getMessage() for record in caplog.records]
    assert re.search(r"plugin heavy held the loop for \d+ ms in classify", lines[0])


def test_a_coroutine_that_waits_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_module, "SLOW_SECONDS", 0.005)

    async def waits(self: object, features: Features) -> Features:
        await asyncio.sleep(0.02)
        return features

    hooks = hooks_of(patient=plugin("classify", waits))

    assert collected(hooks, "classify", REQUEST, FEATURES) == [("patient", FEATURES)]
    assert hooks.instances["patient"].slow == 0


# Switching


def test_a_plugin_is_switched_off_and_on_again_in_its_place() -> None:
    hooks = hooks_of(one=Labels("one"), two=Labels("two"), three=Labels("three"))

    assert hooks.switch("two", False) is hooks.instances["two"]
    assert [name for name, _ in collected(hooks, "classify", REQUEST, FEATURES)] == ["one", "three"]
    hooks.switch("two", True)
    assert [name for name, _ in collected(hooks, "classify", REQUEST, FEATURES)] == ["one", "two", "three"]


def test_a_request_that_has_begun_keeps_the_plugins_it_began_with() -> None:
    async def main() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def wait(self: object, features: Features) -> Features:
            begun.set()
            await go_on.wait()
            return features

        hooks = hooks_of(first=plugin("classify", wait), second=Labels("second"))
        old = hooks.impls
        task = asyncio.create_task(hooks.collect("classify", REQUEST, FEATURES))
        await begun.wait()
        hooks.switch("second", False)
        go_on.set()

        assert [impl.instance.name for impl, _ in await task] == ["first", "second"]
        assert [impl.instance.name for impl in old["classify"]] == ["first", "second"]
        assert [impl.instance.name for impl in hooks.impls["classify"]] == ["first"]

    asyncio.run(main())


def test_switching_a_name_that_nobody_has_is_an_error() -> None:
    with pytest.raises(KeyError):
        hooks_of(one=Labels("one")).switch("two", False)


# Registration


def test_a_hook_with_an_unknown_name_is_refused_in_pluggys_words_with_the_distribution() -> None:
    with pytest.raises(PluginError) as refused:
        hooks_of(odd=plugin("clasify", raises))
    assert re.match(r"plugin 'odd' of routerpool-odd 1\.2: unknown hook 'clasify'", str(refused.value))


def test_a_hook_with_an_unknown_argument_is_refused_in_pluggys_words_with_the_distribution() -> None:
    def classify(self: object, feature: object) -> None: ...

    with pytest.raises(PluginError) as refused:
        hooks_of(odd=plugin("classify", classify))
    assert str(refused.value).startswith("plugin 'odd' of routerpool-odd 1.2: ")
    assert "{'feature'} are declared in the hookimpl but can not be found in the hookspec" in str(refused.value)


def test_two_instances_of_one_name_are_refused() -> None:
    hooks = hooks_of(lab=Labels("lab"))

    with pytest.raises(PluginError, match="'lab'"):
        hooks.register(Instance("lab", Labels("lab"), "lab"))


def test_two_instances_of_one_class_are_both_asked() -> None:
    hooks = hooks_of(one=Labels("lab"), two=Labels("lab"))

    assert [name for name, _ in collected(hooks, "classify", REQUEST, FEATURES)] == ["one", "two"]


def test_what_plugins_register_is_gathered_with_its_owner_and_none_is_nothing() -> None:
    hooks = hooks_of(
        mute=plugin("register_commands", lambda self: None),
        two=plugin("register_commands", lambda self: ["a", "b"]),
        lazy=plugin("register_commands", lambda self: iter("c")),
    )

    gathered = [(instance.name, item) for instance, item in hooks.gather("register_commands")]
    assert gathered == [("two", "a"), ("two", "b"), ("lazy", "c")]


def test_the_names_of_all_hooks_are_known_in_the_order_of_the_manual() -> None:
    assert (HOOKS[0], HOOKS[-1], len(HOOKS)) == ("register_providers", "record_usage", len(set(HOOKS)))
    assert set(HOOKS) >= REFUSABLE


# What is installed


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a made-up distribution with one module: `site("lab", "class Lab: ...", lab="Lab")`."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution: str, source: str, **offers: str) -> None:
        module = f"odd_{distribution}"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution}-3.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 3.1\nSummary: Odd.\n")
        lines = [f"{name} = {module}:{value}" for name, value in offers.items()]
        (info / "entry_points.txt").write_text("\n".join(["[routerpool]", *lines]) + "\n")
        importlib.invalidate_caches()

    yield install
    for name in set(sys.modules) - known:
        if name.startswith("odd_"):
            del sys.modules[name]


def made(text: str, known: dict[str, Installed] | None = None) -> list[Instance]:
    """The plugins of this YAML text; all that is wrong is one ConfigError."""
    config, problems = load(text=text, env={"HOME": "/nowhere"})
    instances = make(config.plugins, problems, known)
    problems.raise_if_any()
    return instances


def problem(text: str, known: dict[str, Installed] | None = None) -> str:
    """The one thing that is wrong with this YAML text, as an operator reads it."""
    with pytest.raises(ConfigError) as caught:
        made(text, known)
    [line] = str(caught.value).splitlines()
    return line


def test_installed_plugins_are_known_without_being_imported(site: Callable[..., None]) -> None:
    site("bomb", "raise SystemExit('imported')", bomb="Bomb")

    found = installed()["bomb"]
    assert (found.distribution, found.version, found.summary) == ("bomb", "3.1", "Odd.")
    assert "odd_bomb" not in sys.modules


def test_two_distributions_that_offer_one_name_are_an_error_that_names_both(site: Callable[..., None]) -> None:
    site("left", "", twin="Twin")
    site("right", "", twin="Twin")

    with pytest.raises(PluginError) as refused:
        installed()
    assert re.search(r"both (left and right|right and left) offer a plugin called 'twin'", str(refused.value))


def test_an_entry_that_is_not_enabled_is_not_even_imported(site: Callable[..., None]) -> None:
    site("bomb", "raise RuntimeError('imported')", bomb="Bomb")

    assert made("plugins:\n  bomb: {enabled: false}\n") == []
    assert "odd_bomb" not in sys.modules
    assert "imported" in problem("plugins:\n  bomb: {}\n")


def test_an_unknown_plugin_comes_with_the_nearest_name(site: Callable[..., None]) -> None:
    site("falcon", "class Falcon: pass", falcon="Falcon")

    line = problem("plugins:\n  falcno: {}\n")
    assert line == "routerpool.yaml:2: plugins.falcno: no installed plugin is called 'falcno'; did you mean 'falcon'?"


def test_an_unknown_plugin_like_no_other_comes_with_all_names(site: Callable[..., None]) -> None:
    site("falcon", "class Falcon: pass", falcon="Falcon")

    line = problem("plugins:\n  xyz: {}\n", {"falcon": installed()["falcon"]})
    assert line.endswith("no installed plugin is called 'xyz'; installed: falcon")


def test_where_no_plugin_is_installed_the_cure_is_told() -> None:
    line = problem("plugins:\n  tool_results: {}\n", {})

    assert "`uv run --all-packages routerpool`" in line
    assert "`pip install routerpool-tool-results`" in line


def test_a_plugin_without_options_refuses_them_one_by_one(site: Callable[..., None]) -> None:
    site("bare", "class Bare: pass", bare="Bare")

    with pytest.raises(ConfigError) as caught:
        made("plugins:\n  bare:\n    colour: red\n    size: 3\n")
    assert str(caught.value).splitlines() == [
        "routerpool.yaml:3: plugins.bare.colour: the plugin 'bare' has no options; remove 'colour'",
        "routerpool.yaml:4: plugins.bare.size: the plugin 'bare' has no options; remove 'size'",
    ]


OPTIONS = """
from attrs import field, frozen

@frozen(kw_only=True)
class Config:
    seconds: float = field(default=1.0)
    words: tuple[str, ...] = ()

    def __attrs_post_init__(self):
        if self.seconds > 99:
            raise ValueError("seconds must be under 99")

class Both:
    Config = Config

    def __init__(self, config, name):
        self.config, self.name = config, name

class Plain:
    Config = Config

    def __init__(self, config):
        self.config = config

class Named:
    def __init__(self, name):
        self.name = name

class Bare:
    required = True

class Choosy:
    Config = Config

    def __init__(self, config):
        if not config.words:
            raise ValueError("`words` must name some")
        raise OSError("the disk is full")
"""


@pytest.fixture
def options(site: Callable[..., None]) -> None:
    """A distribution with every form of a plugin class."""
    site("forms", OPTIONS, both="Both", plain="Plain", named="Named", bare="Bare", choosy="Choosy")


@pytest.mark.usefixtures("options")
def test_a_plugin_is_made_with_its_config_and_its_name_as_it_takes_them() -> None:
    both, plain, named, bare = made(
        "plugins:\n  mine: {use: both, seconds: 2, words: [a]}\n  plain:\n  named: {}\n  bare: {required: false}\n"
    )

    assert (both.plugin.config.seconds, both.plugin.config.words, both.plugin.name) == (2.0, ("a",), "mine")
    assert (both.name, both.use, both.distribution, both.version) == ("mine", "both", "forms", "3.1")
    assert plain.plugin.config.seconds == 1.0
    assert named.plugin.name == "named"
    assert type(bare.plugin).__name__ == "Bare"


@pytest.mark.usefixtures("options")
def test_a_class_may_ask_to_be_required_and_the_user_has_the_last_word() -> None:
    text = "plugins:\n  bare: {}\n  other: {use: bare, required: false}\n  plain: {required: true}\n  named: {}\n"

    assert [instance.required for instance in made(text)] == [True, False, True, False]


@pytest.mark.usefixtures("options")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plugins:\n  plain:\n    seconds: soon\n", "routerpool.yaml:3: plugins.plain.seconds: "),
        ("plugins:\n  plain:\n    secnods: 3\n", "routerpool.yaml:3: plugins.plain.secnods: "),
        ("plugins:\n  plain:\n    words:\n      - a\n      - 3\n", "routerpool.yaml:5: plugins.plain.words[1]: "),
        ("plugins:\n  plain: {seconds: 100}\n", "routerpool.yaml:2: plugins.plain: seconds must be under 99"),
        ("plugins:\n  choosy: {}\n", "routerpool.yaml:2: plugins.choosy: `words` must name some"),
        (
            "plugins:\n  choosy: {words: [a]}\n",
            "routerpool.yaml:2: plugins.choosy: the plugin cannot be made: OSError: the disk is full",
        ),
    ],
)
def test_what_is_wrong_with_a_plugins_options_is_told_with_file_and_line(text: str, told: str) -> None:
    assert problem(text).startswith(told)


@pytest.mark.usefixtures("options")
def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        made("plugins:\n  plain: {seconds: soon}\n  nobody_has_this: {}\n  bare: {colour: red}\n  named: {}\n")
    assert [found.path.split(".")[1] for found in caught.value.problems] == ["plain", "nobody_has_this", "bare"]


# Lifespans


class House:
    """Writes down when it is opened and closed, and fails where it is told to."""

    def __init__(self, name: str, log: list[str], fails: str = "") -> None:
        self.name, self.log, self.fails = name, log, fails

    @hookimpl
    async def lifespan(self, router: object) -> AsyncIterator[None]:
        if self.fails == "open":
            raise OSError("the port is taken")
        self.log.append(f"+{self.name}")
        try:
            yield
        finally:
            self.log.append(f"-{self.name}")
        if self.fails == "close":
            raise OSError("the disk is full")

    @hookimpl
    def status(self) -> dict[str, str]:
        return {"name": self.name}


def test_plugins_are_opened_in_order_with_the_router_and_closed_in_reverse() -> None:
    log: list[str] = []
    seen: list[object] = []

    async def lifespan(self: object, router: object) -> AsyncIterator[None]:
        seen.append(router)
        yield

    async def main() -> None:
        hooks = hooks_of(one=House("one", log), two=House("two", log), three=plugin("lifespan", lifespan))
        async with hooks.lifespan("the router"):
            log.append("requests")

    asyncio.run(main())
    assert log == ["+one", "+two", "requests", "-two", "-one"]
    assert seen == ["the router"]


def test_a_plugin_that_cannot_be_opened_is_switched_off_and_named(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    async def main() -> None:
        hooks = hooks_of(one=House("one", log), bad=House("bad", log, "open"), three=House("three", log))
        async with hooks.lifespan(None):
            told = [impl.instance.name for impl, _ in await hooks.collect("status")]
        bad = hooks.instances["bad"]
        assert told == ["one", "three"]
        assert (bad.enabled, bad.faults) == (False, 1)
        assert (bad.last_fault or "").startswith("lifespan: OSError")

    asyncio.run(main())
    assert log == ["+one", "+three", "-three", "-one"]
    assert "plugin bad failed to start and is switched off: OSError at test_calling.py" in caplog.text


def test_a_required_plugin_that_cannot_be_opened_stops_the_start_and_closes_what_was_open() -> None:
    log: list[str] = []

    async def main() -> None:
        hooks = hooks_of(
            required=("bad",), one=House("one", log), bad=House("bad", log, "open"), three=House("three", log)
        )
        with pytest.raises(PluginError, match="the required plugin 'bad' failed to start: the port is taken"):
            async with hooks.lifespan(None):
                log.append("requests")

    asyncio.run(main())
    assert log == ["+one", "-one"]


def test_all_plugins_are_closed_although_one_fails_to_close() -> None:
    log: list[str] = []

    async def main() -> None:
        hooks = hooks_of(one=House("one", log), bad=House("bad", log, "close"), three=House("three", log))
        try:
            async with hooks.lifespan(None):
                pass
        except OSError:
            log.append("raised")

    asyncio.run(main())
    assert log[:6] == ["+one", "+bad", "+three", "-three", "-bad", "-one"]


def test_a_plugin_of_the_manuals_form_is_closed_when_a_later_one_stops_the_start() -> None:
    log: list[str] = []

    async def lifespan(self: object, router: object) -> AsyncIterator[None]:
        log.append("open")
        yield
        log.append("closed")

    async def main() -> None:
        hooks = hooks_of(required=("bad",), one=plugin("lifespan", lifespan), bad=House("bad", log, "open"))
        with pytest.raises(PluginError):
            async with hooks.lifespan(None):
                log.append("requests")

    asyncio.run(main())
    assert log == ["open", "closed"]


# What people read


def test_an_instance_describes_itself_in_plain_values() -> None:
    assert hooks_of(required=("one",), one=Labels("one")).instances["one"].describe() == {
        "name": "one",
        "use": "one",
        "distribution": "routerpool-one",
        "version": "1.2",
        "enabled": True,
        "required": True,
        "faults": 0,
        "slow": 0,
        "last_fault": None,
    }


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "classify": (REQUEST, FEATURES),
    "score": (REQUEST, FEATURES, (CANDIDATE,)),
    "intercept": (REQUEST, PLAN),
    "mutate": (REQUEST, ATTEMPT),
    "judge": (ATTEMPT, Opening()),
    "on_failure": (ATTEMPT, Failure(kind=FailureKind.SERVER, message="")),
    "status": (),
}


def test_the_values_that_hooks_may_answer_with_pass() -> None:
    answers: dict[str, Any] = {
        "classify": FEATURES.raised(Privacy.SECRET),
        "mutate": REQUEST,
        "judge": Failure(kind=FailureKind.EMPTY, message="nothing"),
        "intercept": Answer(status=200, content_type="application/json", body=b"{}"),
        "on_failure": Decision.STOP,
        "status": {"seen": 3},
        "score": [Score(CANDIDATE, 0.5)],
    }

    for hook, answer in answers.items():
        hooks = hooks_of(one=plugin(hook, lambda self, answer=answer: answer))
        assert collected(hooks, hook, *ARGUMENTS[hook]) == [("one", answer)]


def test_a_plain_function_may_answer_with_a_coroutine_which_is_guarded_like_any_other() -> None:
    async def later(fails: bool) -> Features:
        await asyncio.sleep(0)
        if fails:
            raise ValueError("a secret text")
        return Features(task="later")

    def sound(self: object, request: object) -> Any:
        return later(False)

    def broken(self: object, request: object) -> Any:
        return later(True)

    hooks = hooks_of(sound=plugin("classify", sound), broken=plugin("classify", broken))
    assert collected(hooks, "classify", REQUEST, FEATURES) == [("sound", Features(task="later"))]
    assert hooks.instances["broken"].faults == 1
    assert "secret text" not in (hooks.instances["broken"].last_fault or "")
