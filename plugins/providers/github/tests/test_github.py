"""GitHub Models' own forms: the catalog, quotas for each model and day, what the free plan allows, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from routerpool_github import GitHub

from routerpool import Level, Probe
from routerpool.testing import ProviderContract, Upstream, make_router
from routerpool.testing.provider_contract import Rig

ENV = {"GITHUB_TOKEN": "k"}
HELLO = [{"role": "user", "content": "Hello"}]
CATALOG = "GET /catalog/models"


class TestGitHub(ProviderContract):
    plugin = GitHub
    models_route = CATALOG
    forms = "forms.yaml"

    def listing(self, models: Sequence[Any]) -> Any:
        return list(models)

    def entry(self, model_id: str) -> Any:
        return {"id": model_id, "name": model_id, "supported_output_modalities": ["text"]}

    @asynccontextmanager
    async def rig(self, *, with_keys: bool = True) -> AsyncIterator[Rig]:
        async with super().rig(with_keys=with_keys) as rig:
            rig.up.route(self.name, self.models_route, self.listing([self.entry("openai/gpt-4.1")]))
            yield rig


def sent(section: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """What reaches GitHub of a request with these fields."""

    async def whole() -> dict[str, Any]:
        async with Upstream() as up:
            up.route("github", CATALOG, [])
            config = {"plugins": {"github": {"base_url": up.base_url("github"), **(section or {})}}}
            async with make_router(config, plugins={"github": GitHub}, env=ENV) as router:
                await router.chat({"model": "github/openai/gpt-4.1", "messages": HELLO, **more})
            return up.seen("github").last.json

    return asyncio.run(whole())


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_on_the_free_plan_a_cap_is_cut_to_what_it_allows(name: str) -> None:
    assert sent(**{name: 32_000})[name] == 4000
    assert sent(**{name: 300})[name] == 300
    assert name not in sent()


def test_whoever_pays_may_ask_for_more() -> None:
    assert sent({"free": False}, max_tokens=32_000)["max_tokens"] == 32_000


def test_arguments_that_openai_does_not_know_are_left_out() -> None:
    body = sent(top_k=1, min_p=0.1, repetition_penalty=1.1, seed=7)
    assert sorted(body) == ["messages", "model", "seed"]


@pytest.mark.parametrize(("effort", "kept"), [("low", True), ("medium", True), ("high", True), ("minimal", False)])
def test_only_three_efforts_are_passed_on(effort: str, kept: bool) -> None:
    section = {"models": [{"id": "openai/gpt-4.1", "capabilities": {"reasoning": True}}]}
    assert ("reasoning_effort" in sent(section, reasoning_effort=effort)) is kept


def test_the_catalog_stands_beside_the_address_and_drops_what_is_gone() -> None:
    assert GitHub().list_address == "https://models.github.ai/catalog/models"

    async def whole() -> None:
        async with Upstream() as up:
            entry = {"id": "openai/gpt-4o-mini", "supported_output_modalities": ["text"]}
            up.route("github", CATALOG, [entry, {"id": "openai/o9", "supported_output_modalities": ["text"]}])
            config = {"plugins": {"github": {"base_url": up.base_url("github")}}}
            async with make_router(config, plugins={"github": GitHub}, env=ENV) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                keys = [candidate.key for candidate in router.catalog.snapshot.candidates]
        assert keys == ["github/openai/gpt-4o-mini"]

    asyncio.run(whole())


def test_the_catalog_tells_limits_senses_and_the_class_of_quota() -> None:
    entry = {
        "id": "meta/llama-9",
        "name": "Llama 9",
        "publisher": "Meta",
        "capabilities": ["streaming", "tool-calling"],
        "limits": {"max_input_tokens": 1048576, "max_output_tokens": 32768},
        "rate_limit_tier": "low",
        "supported_input_modalities": ["text", "image"],
        "supported_output_modalities": ["text"],
    }
    embedding = {**entry, "id": "openai/text-embedding-3-large", "supported_output_modalities": ["embeddings"]}
    odd = {"id": "odd", "supported_output_modalities": ["text"], "limits": [], "rate_limit_tier": 3, "name": 4}
    llama, bare = GitHub().parse_models([entry, embedding, odd])
    assert (llama.id, llama.display_name) == ("meta/llama-9", "Llama 9")
    assert (llama.context, llama.max_output) == (1048576, 32768)
    assert dict(llama.capabilities) == {"tools": True, "vision": True, "audio": False}
    assert llama.tags == {"tier-low"}
    assert (bare.display_name, bare.context, dict(bare.capabilities), bare.tags) == (None, None, {}, frozenset())


def test_each_model_has_a_quota_of_its_own() -> None:
    router = make_router({"plugins": {"github": {}}}, plugins={"github": GitHub}, env=ENV)
    pools = {model.id: set(model.pools) for model in router.providers["github"].roster()}
    assert pools == {
        "openai/gpt-4.1": {"github::gpt-4.1"},
        "openai/gpt-4o": {"github::gpt-4o"},
        "openai/gpt-4o-mini": {"github::gpt-4o-mini"},
    }


def test_a_token_that_is_set_for_other_things_proposes_nothing_and_doctor_tells_of_the_end() -> None:
    github = GitHub()
    github.bind(ENV)
    assert list(github.detect(Probe(env=ENV))) == []
    warnings = [report.text for report in github.check(Probe(env=ENV)) if report.level is Level.WARNING]
    assert any("retired" in text and "2026-07-30" in text for text in warnings)


def test_its_facts_have_a_date_and_a_source() -> None:
    github = GitHub()
    assert github.facts.date == "2026-03-31"
    assert github.facts.experimental
    assert "docs.github.com" in github.facts.source
