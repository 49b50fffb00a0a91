"""What plugins bring to a router: providers, hints, and settings that differ by profile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from attrs import evolve, field, frozen

from routerpool import Attempt, ChatRequest, ConfigError, OpenAIProvider, Router, hookimpl
from routerpool.config import schema
from routerpool.document import Problems
from routerpool.hooks.declarations import with_settings
from routerpool.testing import Upstream, make_router


@frozen(kw_only=True)
class PerProfile:
    loud: bool = field(default=False, metadata={"help": "whether to shout"})
    times: int = field(default=1, metadata={"help": "how often"})


class Shout:
    ProfileConfig = PerProfile

    @hookimpl
    def mutate(self, request: ChatRequest, attempt: Attempt) -> ChatRequest | None:
        settings: PerProfile = attempt.plan.settings["shout"]
        if not settings.loud:
            return None
        return evolve(request, params={**request.params, "user": "!" * settings.times})


class Quiet:
    @hookimpl
    def mutate(self, request: ChatRequest) -> None:
        return None


PLUGINS: dict[str, type] = {"shout": Shout, "quiet": Quiet, "lab": OpenAIProvider}


def made(profiles: dict[str, Any], **plugins: Any) -> Router:
    lab = {"base_url": "http://127.0.0.1:1/v1", "models": ["m"]}
    return make_router({"plugins": {"lab": lab, "shout": {}, **plugins}, "profiles": profiles}, plugins=PLUGINS)


def test_a_profile_sets_what_a_plugin_does_and_another_one_nothing() -> None:
    async def whole() -> list[Any]:
        async with Upstream() as up:
            config = {
                "plugins": {"lab": {"base_url": up.base_url("lab"), "models": ["m"]}, "shout": {}},
                "profiles": {"loud": {"settings": {"shout": {"loud": True, "times": 3}}}},
            }
            async with make_router(config, plugins=PLUGINS) as router:
                for model in ("routerpool/loud", "auto"):
                    await router.chat({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
            return [seen.json.get("user") for seen in up.seen("lab").requests]

    assert asyncio.run(whole()) == ["!!!", None]


def test_every_profile_has_settings_of_every_plugin_that_declares_some() -> None:
    router = made({"loud": {"settings": {"shout": {"loud": True}}}})
    assert router.config.profiles["loud"].settings == {"shout": PerProfile(loud=True)}
    assert router.config.profiles["auto"].settings == {"shout": PerProfile()}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shout": {"lout": True}}, r"profiles\.loud\.settings\.shout\.lout: unknown key.*did you mean 'loud'"),
        ({"shout": {"times": "many"}}, r"profiles\.loud\.settings\.shout\.times"),
        ({"shoot": {"loud": True}}, r"profiles\.loud\.settings\.shoot: .*did you mean 'shout'"),
        ({"quiet": {"loud": True}}, r"profiles\.loud\.settings\.quiet: .*nothing that a profile can set"),
        ({"shout": [1]}, r"profiles\.loud\.settings\.shout: expected a mapping"),
    ],
)
def test_what_is_wrong_in_a_profiles_settings_is_told_with_its_place(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made({"loud": {"settings": settings}}, quiet={})


def test_settings_of_a_plugin_that_is_off_are_left_alone() -> None:
    router = made({"loud": {"settings": {"quiet": {"what": "ever"}}}}, quiet={"enabled": False})
    assert "quiet" not in router.config.profiles["loud"].settings


def test_a_configuration_that_was_made_ready_is_taken_as_it_is() -> None:
    router = made({"loud": {"settings": {"shout": {"loud": True}}}})
    problems = Problems()
    again = with_settings(router.config, list(router.hooks.instances.values()), problems)
    assert not problems
    assert again.profiles["loud"].settings == {"shout": PerProfile(loud=True)}


def test_unknown_names_are_told_in_the_order_of_the_file() -> None:
    names = [f"other{number}" for number in range(20)]
    with pytest.raises(ConfigError) as caught:
        made({"loud": {"settings": {name: {} for name in names}}})
    assert [problem.path for problem in caught.value.problems] == [f"profiles.loud.settings.{name}" for name in names]


def test_what_is_wrong_in_a_files_settings_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "routerpool.yaml"
    file.write_text(
        "plugins:\n  sandbox: {}\nprofiles:\n  short:\n    settings:\n      sandbx: {a: 1}\n      sandbox: {}\n"
    )
    with pytest.raises(ConfigError) as caught:
        Router.of(file)
    told = [(problem.path, problem.line) for problem in caught.value.problems]
    assert told == [("profiles.short.settings.sandbx", 6), ("profiles.short.settings.sandbox", 7)]


def test_editors_know_what_a_profile_can_set() -> None:
    described = schema(plugins={"shout": None}, profiles={"shout": PerProfile})
    good = {"profiles": {"loud": {"settings": {"shout": {"loud": True}}}}}
    jsonschema.validate(good, described)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"profiles": {"loud": {"settings": {"shout": {"lout": True}}}}}, described)
