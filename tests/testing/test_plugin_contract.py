"""The contracts for plugins and mutators let sound ones through, and each of their tests stops one that is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from attrs import evolve, field, frozen

from routerpool import ChatRequest, PluginError, Router, hookimpl
from routerpool.testing import MutatorContract, PluginContract


@frozen(kw_only=True)
class SoundConfig:
    word: str = field(default="x", metadata={"help": "A word"})


class Sound:
    Config: type = SoundConfig

    def __init__(self, config: Any = None) -> None:
        self.config = config

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        yield

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        return {}

    @hookimpl
    def mutate(self, request: ChatRequest) -> ChatRequest | None:
        return None if "user" in request.params else evolve(request, params={**request.params, "user": "u"})


class TestASoundPlugin(PluginContract, MutatorContract):
    plugin = Sound


class Mute:
    """No hook at all."""


class Helpless(Sound):
    @frozen(kw_only=True)
    class Config:
        word: str = "x"


class Unreadable(Sound):
    @frozen(kw_only=True)
    class Config:
        word: Nowhere = field(default="x", metadata={"help": "no type at all"})  # type: ignore[name-defined]  # noqa: F821


class Single(Sound):
    made: Any = None

    def __new__(cls, *args: Any) -> Any:
        Single.made = Single.made or super().__new__(cls)
        return Single.made


class Leaves(Sound):
    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        self.task = asyncio.create_task(asyncio.sleep(60))
        yield


class Once(Sound):
    opened = 0

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        Once.opened += 1
        assert Once.opened == 1, "it cannot be opened twice in a process"
        yield


@pytest.mark.parametrize(
    ("plugin", "test"),
    [
        (Mute, "test_its_hooks_are_registered"),
        (Mute, "test_it_is_switched_off_and_on_again_while_requests_run"),
        (Helpless, "test_its_options_have_a_shape_and_a_help_text_each"),
        (Unreadable, "test_its_options_have_a_shape_and_a_help_text_each"),
        (Single, "test_two_instances_live_beside_each_other"),
        (Leaves, "test_it_opens_closes_and_opens_again_and_leaves_nothing_behind"),
        (Once, "test_it_opens_closes_and_opens_again_and_leaves_nothing_behind"),
    ],
)
def test_the_contract_stops_a_plugin_that_breaks_it(plugin: type, test: str) -> None:
    contract = type("Contract", (PluginContract,), {"plugin": plugin})()
    with pytest.raises((AssertionError, TypeError, PluginError)):
        getattr(contract, test)()


def mutator(mutate: Any) -> type:
    return type("Mutator", (), {"mutate": hookimpl(mutate)})


def changed(**fields: Any) -> type:
    return mutator(lambda self, request: evolve(request, **fields))


def adds(self: object, request: ChatRequest) -> ChatRequest:
    return evolve(request, messages=[*request.messages, {"role": "system", "content": "Be brief."}])


def in_place(self: object, request: ChatRequest) -> None:
    request.params["user"] = "u"  # type: ignore[index]  # this is what it must not do


@pytest.mark.parametrize(
    ("plugin", "test"),
    [
        (changed(model="other"), "test_who_is_asked_and_how_is_not_changed"),
        (changed(stream=True), "test_who_is_asked_and_how_is_not_changed"),
        (mutator(adds), "test_what_was_changed_is_not_changed_again"),
        (mutator(in_place), "test_what_was_changed_is_not_changed_again"),
        (mutator(lambda self, request: {"model": "x"}), "test_what_was_changed_is_not_changed_again"),
        (changed(params={"user": {1, 2}}), "test_what_it_sets_can_be_sent"),
    ],
)
def test_the_contract_stops_a_mutator_that_breaks_it(plugin: type, test: str) -> None:
    contract = type("Contract", (MutatorContract,), {"plugin": plugin})()
    with pytest.raises((AssertionError, TypeError)):
        getattr(contract, test)()
