"""Names in a configuration that lead nowhere, each told at its place with the nearest one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from routerpool import Candidate, ConfigError, OpenAIProvider, Router, Score, hookimpl
from routerpool.testing import make_router


class Lab(OpenAIProvider):
    base_url = "http://127.0.0.1:9/v1"
    models_at = "models"
    refresh_seconds = 300.0


class First:
    @hookimpl
    def score(self, candidates: Iterable[Candidate]) -> list[Score]:
        return []


def made(plugins: dict[str, Any] | None = None, **config: Any) -> Router:
    entries = {"first": {}, "lab": {"models": ["m", "n"]}, "off": {"enabled": False, "use": "lab"}}
    return make_router({"plugins": entries | (plugins or {}), **config}, plugins={"first": First, "lab": Lab})


def told(plugins: dict[str, Any] | None = None, **config: Any) -> list[str]:
    return [f"{problem.path}: {problem.message}" for problem in made(plugins, **config).overview.dangling()]


NEVER = "it can never answer: no candidate is left by its providers, models, cost and privacy together"


def profile(**keys: Any) -> dict[str, Any]:
    return {"profiles": {"p": keys}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"aliases": {"x": "lab/mm"}}, "aliases.x: no candidate is called 'lab/mm'; did you mean 'lab/m'?"),
        (
            {"aliases": {"x": "labb/a-long-name"}},
            "aliases.x: no candidate is called 'labb/a-long-name'; did you mean the provider 'lab'?",
        ),
        (
            {"aliases": {"x-*": "lab/*"}},
            "aliases['x-*']: 'lab/*' is no model's name: an alias may be a glob, what it stands for may not",
        ),
        (profile(providers=["lad"]), "profiles.p.providers[0]: no provider is called 'lad'; did you mean 'lab'?"),
        (profile(providers=["zz"]), "profiles.p.providers[0]: no provider is called 'zz'; there are lab"),
        (
            profile(weights={"frist": 1}),
            "profiles.p.weights.frist: no strategy is called 'frist'; did you mean 'first'?",
        ),
        (profile(weights={"lab": 1}), "profiles.p.weights.lab: no strategy is called 'lab'; there are first"),
        (profile(models=["lab/m", "lab/zzzzzzz"]), "profiles.p.models[1]: no candidate is called 'lab/zzzzzzz'"),
        (profile(models=["zzzz-*"]), "profiles.p.models[0]: no candidate is called 'zzzz-*'"),
        (profile(cost="free_only"), f"profiles.p: {NEVER}"),
        (profile(privacy="secret"), f"profiles.p: {NEVER}"),
        ({"profiles": {"free": {"cost": "free_only", "description": "mine"}}}, f"profiles.free: {NEVER}"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_at_its_place(config: dict[str, Any], expected: str) -> None:
    assert told(**config) == [expected]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"aliases": {"x": "lab/m", "y": "M", "z": "auto", "*": "routerpool/free", "o": "off/what"}},
        {"profiles": {"p": {"providers": ["lab", "off"], "models": ["lab/*", "n", "off/m"], "weights": {"first": 0}}}},
        {"profiles": {"p": {"weights": {"off": 3}}}},
    ],
)
def test_a_name_that_leads_somewhere_or_is_only_switched_off_is_not(config: dict[str, Any]) -> None:
    assert told(**config) == []


def test_what_a_provider_may_have_that_has_not_told_its_models_is_not_complained_of_until_it_has() -> None:
    config = {"aliases": {"x": "open/m9", "y": "bare"}, "profiles": {"p": {"providers": ["open"], "models": ["m9"]}}}
    router = made({"open": {"use": "lab"}}, **config)
    assert router.overview.dangling() == []
    router.catalog.replace("open", [router.providers["open"].model("m1")])  # type: ignore[attr-defined]
    assert [problem.path for problem in router.overview.dangling()] == [
        "aliases.x",
        "aliases.y",
        "profiles.p.models[0]",
    ]


def test_they_are_told_together_with_what_is_wrong() -> None:
    config = {"plugins": {"lab": {"use": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "models": ["m"]}}}
    with pytest.raises(ConfigError) as caught:
        Router.of({**config, "aliases": {"x": "lab/mm"}, "limits": {"max_attempts": 0}})
    assert "limits.max_attempts" in str(caught.value)
    assert "aliases.x: no candidate is called 'lab/mm'; did you mean 'lab/m'?" in str(caught.value)
    Router.of({**config, "aliases": {"x": "lab/mm"}})
