"""Hugging Face's own forms: the credit that is spent, models of a named provider."""

from __future__ import annotations

import asyncio

from routerpool_huggingface import HuggingFace

from routerpool.testing import ProviderContract, Upstream, make_router

HELLO = [{"role": "user", "content": "Hello"}]


class TestHuggingFace(ProviderContract):
    plugin = HuggingFace
    forms = "forms.yaml"


def test_all_models_draw_on_the_one_credit_of_the_account() -> None:
    pools = {model.pools for model in HuggingFace().roster()}
    assert pools == {frozenset({"huggingface::credit"})}


def test_the_credit_makes_nothing_free() -> None:
    assert not any(model.free or model.local for model in HuggingFace().roster())


def test_a_model_of_a_named_provider_is_asked_for_with_its_suffix() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            section = {"base_url": up.base_url("hub"), "models": ["openai/gpt-oss-120b:groq"]}
            config = {"plugins": {"huggingface": section}}
            env = {"HUGGINGFACE_HUB_TOKEN": "k"}
            async with make_router(config, plugins={"huggingface": HuggingFace}, env=env) as router:
                await router.chat({"model": "huggingface/openai/gpt-oss-120b:groq", "messages": HELLO})
            last = up.seen("hub").last
            assert last.model == "openai/gpt-oss-120b:groq"
            assert last.headers["authorization"] == "Bearer k"

    asyncio.run(whole())


def test_the_routers_own_list_says_who_is_left_of_the_roster() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            up.models("hub", ["zai-org/GLM-5.3", "openai/gpt-oss-20b", "someone/else"])
            config = {"plugins": {"huggingface": {"base_url": up.base_url("hub")}}}
            async with make_router(config, plugins={"huggingface": HuggingFace}, env={"HF_TOKEN": "k"}) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                left = [candidate.model.id for candidate in router.catalog.snapshot.candidates]
            assert left == ["zai-org/GLM-5.3", "openai/gpt-oss-20b"]

    asyncio.run(whole())


def test_its_facts_have_a_date_and_a_source() -> None:
    data = HuggingFace().facts
    assert data.date
    assert data.source
    assert all(pool.date and pool.source for pool in data.pools)
