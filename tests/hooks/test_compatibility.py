"""Plugins and cores of different ages: what fits is loaded, what does not is told, and nothing is lost unannounced."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from routerpool import Candidate, ChatRequest, ConfigError, Features, Model, Score, __version__, hookspecs
from routerpool.hooks.calling import HOOKS, Hooks
from routerpool.hooks.compatibility import Leaving, supported, unmet
from routerpool.hooks.detection import detect
from routerpool.hooks.loading import Instance
from routerpool.hookspecs import hookimpl, hookspec
from routerpool.router import Router
from routerpool.testing import make_router

from ..support.shelf import Shelf
from ..test_hookspecs import GOLDEN

# What a plugin asks for


def asking(required: object) -> type:
    return type("Plugin", (), {"requires_core": required})


@pytest.mark.parametrize("required", [">=0.1,<0.3", f"=={__version__}", "", ">=0.0"])
def test_a_plugin_for_this_core_is_loaded(required: str) -> None:
    assert unmet(asking(required)) is None
    assert "p" in make_router({"plugins": {"p": {}}}, plugins={"p": asking(required)}).hooks.instances


def test_a_plugin_that_asks_for_nothing_is_loaded() -> None:
    assert unmet(type("Plugin", (), {})) is None


def test_a_plugin_for_another_core_is_an_error_that_names_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Shelf.alone(tmp_path / "site", monkeypatch).put("future", 'requires_core = ">=99"')

    with pytest.raises(ConfigError) as caught:
        Router.of({"plugins": {"future": {}}})
    [problem] = caught.value.problems
    told = f"routerpool-future 1.0 works with routerpool >=99, and this is routerpool {__version__}; install another"
    assert (problem.path, problem.message) == ("plugins.future", f"{told} release of one of them")


def test_without_a_file_it_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Shelf.alone(tmp_path / "site", monkeypatch).put("future", 'requires_core = ">=99"')

    found = detect({})
    assert (found.instances, found.wanting) == ({}, ())
    [fault] = found.faults
    assert "works with routerpool >=99" in fault


def test_a_core_before_its_release_counts_as_that_release() -> None:
    assert unmet(asking(">=0.1,<0.3"), "0.2.0.dev3") is None
    assert "works with" in str(unmet(asking(">=0.1,<0.3"), "0.3.0"))


@pytest.mark.parametrize("rubbish", ["the newest", 3, ["0.1"], "0.1"])
def test_a_range_that_is_none_says_how_to_write_it(rubbish: object) -> None:
    assert f"write it as '{supported()}'" in str(unmet(asking(rubbish)))


@pytest.mark.parametrize(
    ("core", "promised"),
    [("0.1.0", ">=0.1,<0.3"), ("0.9.4", ">=0.9,<0.11"), ("1.4.2", ">=1.4,<3"), ("2.0.0rc1", ">=2.0,<4")],
)
def test_a_plugin_may_promise_this_series_and_the_next(core: str, promised: str) -> None:
    assert supported(core) == promised
    assert unmet(asking(promised), core) is None


# What the hooks promise

Table = Mapping[str, tuple[str, ...]]

RELEASED: Mapping[str, Table] = {"0.1": GOLDEN}
"""Each series of releases with its hooks and their arguments; `~` before a name says that it is marked as leaving.

A new series gets a copy of the table, in which new arguments and hooks are added, others are marked, and those that
the series before has marked may be gone. What stands here for an older series is never changed.
"""


def lost(before: Table, after: Table) -> set[str]:
    """The hooks and arguments that were there and not marked, and are there no more."""
    gone = {hook for hook in before if hook not in after and "~" + hook not in after and not hook.startswith("~")}
    for hook, arguments in before.items():
        now = after.get(hook, after.get("~" + hook.removeprefix("~"), ()))
        if hook.removeprefix("~") not in gone and now:
            gone |= {f"{hook}.{a}" for a in arguments if not a.startswith("~") and a not in now and "~" + a not in now}
    return gone


def test_no_hook_has_lost_an_argument_that_was_not_marked_for_a_whole_series() -> None:
    for before, after in pairwise(RELEASED.values()):
        assert lost(before, after) == set()


def test_the_table_of_this_series_is_what_the_hooks_are() -> None:
    version = Version(__version__)
    table = RELEASED[f"{version.major}.{version.minor}" if not version.major else str(version.major)]
    told: dict[str, tuple[str, ...]] = {}
    for hook in HOOKS:
        spec = getattr(hookspecs, hook)
        marked = spec.routerpool_spec["warn_on_impl_args"] or {}
        assert all(isinstance(mark, Leaving) for mark in marked.values())
        names = spec.__code__.co_varnames[: spec.__code__.co_argcount]
        name = "~" + hook if spec.routerpool_spec["warn_on_impl"] else hook
        told[name] = tuple("~" + n if n in marked else n for n in names)
    assert told == table


def test_a_loss_without_a_mark_is_seen_and_one_with_it_is_not() -> None:
    table = {"score": ("request", "candidates"), "begin": ("plan",)}
    assert lost(table, {"score": ("request", "candidates", "more"), "begin": ("plan",), "new": ()}) == set()
    assert lost(table, {"score": ("request",), "begin": ("plan",)}) == {"score.candidates"}
    assert lost(table, {"score": ("request", "~candidates"), "~begin": ("plan",)}) == set()
    assert lost({"score": ("request", "~candidates"), "~begin": ("plan",)}, {"score": ("request",)}) == set()
    assert lost(table, {"score": ("request", "candidates")}) == {"begin"}


# While something is leaving

LEAVING = Leaving("the argument `request` of score", "9.0", "take `features`")


@hookspec(warn_on_impl_args={"request": LEAVING})
def score(request: ChatRequest, features: Features, candidates: Sequence[Candidate]) -> Any:
    """The spec, as it would be for one series."""


class Old:
    @hookimpl
    def score(self, request: ChatRequest, candidates: Sequence[Candidate]) -> list[Score]:
        return [Score(candidate, 1.0, {request.model: 1.0}) for candidate in candidates]


class New:
    @hookimpl
    def score(self, features: Features, candidates: Sequence[Candidate]) -> list[Score]:
        return []


def test_an_argument_that_is_leaving_is_warned_of_and_still_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hookspecs, "score", score)
    candidates = (Candidate(provider="p", model=Model(id="m")),)
    request = ChatRequest(id="r", model="auto", messages=[])

    with pytest.warns(DeprecationWarning, match=r"`request` of score goes with routerpool 9\.0; take `features`"):
        hooks = Hooks.of([Instance("old", Old(), "old")])
    [(_, scores)] = asyncio.run(hooks.collect("score", request, Features(), candidates))
    assert scores == [Score(candidates[0], 1.0, {"auto": 1.0})]


def test_who_does_not_use_it_is_not_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hookspecs, "score", score)

    assert Hooks.of([Instance("new", New(), "new")]).impls["score"]  # a warning would be an error here
