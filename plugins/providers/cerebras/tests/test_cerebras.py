"""Cerebras' own forms: its two windows, its words, and the cap that is counted when a request comes in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from routerpool_cerebras import Cerebras

from routerpool.testing import ProviderContract, Upstream, make_router

ENV = {"CEREBRAS_API_KEY": "k"}
HELLO = [{"role": "user", "content": "Hello"}]


class TestCerebras(ProviderContract):
    plugin = Cerebras
    forms = "forms.yaml"


def sent(model: str, section: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """What reaches Cerebras of a request with these fields."""

    async def whole() -> dict[str, Any]:
        async with Upstream() as up:
            config = {"plugins": {"cerebras": {"base_url": up.base_url("cerebras"), **(section or {})}}}
            async with make_router(config, plugins={"cerebras": Cerebras}, env=ENV) as router:
                await router.chat({"model": f"cerebras/{model}", "messages": HELLO, **more})
            return up.seen("cerebras").last.json

    return asyncio.run(whole())


def test_a_request_without_a_cap_gets_one_since_else_the_whole_window_is_counted() -> None:
    assert sent("gpt-oss-120b")["max_completion_tokens"] == 16_384
    assert sent("gpt-oss-120b", max_tokens=None)["max_completion_tokens"] == 16_384


def test_our_cap_leaves_room_for_the_prompt_in_a_small_window() -> None:
    assert sent("llama3.1-8b")["max_completion_tokens"] == 32_768 // 4


def test_our_cap_is_no_more_than_the_model_can_say() -> None:
    section = {"models": [{"id": "small", "context": 131072, "max_output": 4096}]}
    assert sent("small", section)["max_completion_tokens"] == 4096


def test_a_model_of_which_nothing_is_known_gets_a_cap_too() -> None:
    assert sent("new", {"models": ["new"]})["max_completion_tokens"] == 16_384


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_clients_own_cap_is_sent_under_the_name_that_is_counted(name: str) -> None:
    body = sent("gpt-oss-120b", **{name: 77})
    assert body["max_completion_tokens"] == 77
    assert "max_tokens" not in body


def test_a_second_key_of_the_organisation_draws_on_the_same_pools() -> None:
    plugins = {"cerebras": {}, "second": {"use": "cerebras"}, "other": {"use": "cerebras", "separate_account": True}}
    router = make_router({"plugins": plugins}, plugins={"cerebras": Cerebras}, env=ENV)
    pools = {name: next(iter(provider.roster())).pools for name, provider in router.providers.items()}
    assert pools["cerebras"] == pools["second"] == {"cerebras::gpt-oss-120b"}
    assert pools["other"] == {"other::gpt-oss-120b"}


def test_its_facts_have_a_date_and_a_source_and_say_what_is_free() -> None:
    cerebras = Cerebras()
    assert cerebras.facts.date == "2026-07-18"
    assert "cerebras.ai" in cerebras.facts.source
    assert {model.id for model in cerebras.roster() if model.free} == {"gpt-oss-120b", "llama3.1-8b"}
