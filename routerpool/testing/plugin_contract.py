"""What every plugin owes, of whatever kind, as a class of tests that its own tests inherit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import pytest

from routerpool.authoring.inspection import faults_of
from routerpool.authoring.rehearsal import rehearse
from routerpool.config.reading import schema
from routerpool.errors import ConfigError
from routerpool.router import Router
from routerpool.testing.routers import make_router
from routerpool.types import Level

__all__ = ["PluginContract"]


class PluginContract:
    """What every plugin owes. Set `plugin`, and where it needs them `options`, its section of the YAML file.

    `env` is the environment that the plugin sees.
    """

    plugin: ClassVar[type]
    options: ClassVar[Mapping[str, Any]] = {}
    env: ClassVar[Mapping[str, str]] = {}
    name: ClassVar[str] = "contract"

    def router(self, **sections: Mapping[str, Any]) -> Router:
        """A router of the plugin, once under its name or under those given, with their sections."""
        entries = sections or {self.name: self.options}
        config = {"plugins": {name: {"use": self.name, **section} for name, section in entries.items()}}
        return make_router(config, plugins={self.name: self.plugin}, env=self.env)

    def test_its_hooks_are_registered(self) -> None:
        [told] = self.router().plugins()
        assert told["hooks"], "no method carries @hookimpl, so nothing is ever called"

    def test_its_options_have_a_shape_and_a_help_text_each(self) -> None:
        config = getattr(self.plugin, "Config", None)
        schema(plugins={self.name: config})
        for attribute in attrs.fields(config) if config else ():
            assert attribute.metadata.get("help") or attribute.metadata.get("internal"), attribute.name

    def test_the_doctor_finds_nothing_against_it(self) -> None:
        [instance] = self.router().hooks.instances.values()
        found = [*faults_of(self.plugin), *rehearse(instance)]
        assert [f"{report.text} → {report.cure}" for report in found if report.level >= Level.WARNING] == []

    def test_an_option_that_it_does_not_have_is_an_error_with_its_place(self) -> None:
        with pytest.raises(ConfigError, match=f"plugins.{self.name}.no_such_option"):
            self.router(**{self.name: {**self.options, "no_such_option": 1}})

    def test_two_instances_live_beside_each_other(self) -> None:
        assert list(self.router(one=self.options, two=self.options).hooks.instances) == ["one", "two"]

    def test_it_opens_closes_and_opens_again_and_leaves_nothing_behind(self) -> None:
        async def whole() -> None:
            tasks = asyncio.all_tasks()
            for _ in range(2):
                async with (router := self.router()):
                    await router.status()
                [told] = router.plugins()
                assert (told["faults"], told["last_fault"]) == (0, None)
            assert asyncio.all_tasks() == tasks

        asyncio.run(whole())

    def test_it_is_switched_off_and_on_again_while_requests_run(self) -> None:
        async def whole() -> None:
            async with self.router() as router:
                for enabled in (False, True):
                    router.hooks.switch(self.name, enabled)
                    [told] = router.plugins()
                    assert bool(told["hooks"]) is enabled
                    await router.status()

        asyncio.run(whole())
