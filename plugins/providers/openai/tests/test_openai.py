"""OpenAI's own forms: two windows of limits, a key without money, the cap under its new name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from routerpool_openai import OpenAI

from routerpool.testing import ProviderContract, Upstream, make_router


class TestOpenAI(ProviderContract):
    plugin = OpenAI
    forms = "forms.yaml"


@pytest.mark.parametrize(
    ("given", "cap"),
    [
        ({"max_tokens": 40}, 40),
        ({"max_completion_tokens": 50}, 50),
        ({"max_tokens": 40, "max_completion_tokens": 50}, 50),
    ],
)
def test_the_cap_goes_by_the_name_that_all_its_models_take(given: dict[str, int], cap: int) -> None:
    async def whole() -> dict[str, Any]:
        async with Upstream() as up:
            config = {"plugins": {"openai": {"base_url": up.base_url("openai")}}}
            async with make_router(config, plugins={"openai": OpenAI}, env={"OPENAI_API_KEY": "k"}) as router:
                messages = [{"role": "user", "content": "Hello"}]
                await router.chat({"model": "openai/gpt-5-nano", "messages": messages, **given})
            return up.seen("openai").last.json

    body = asyncio.run(whole())
    assert body["max_completion_tokens"] == cap
    assert "max_tokens" not in body


def test_nothing_is_free_and_its_facts_have_a_date_and_a_source() -> None:
    openai = OpenAI()
    assert not any(model.free or model.local for model in openai.roster())
    assert openai.facts.date
    assert openai.facts.source
