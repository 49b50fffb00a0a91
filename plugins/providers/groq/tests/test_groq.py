"""Groq's own forms: its limits, its too large requests, its search."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from routerpool_groq import Groq

from routerpool import Usage
from routerpool.testing import ProviderContract, Upstream, make_router

SEARCH = {"type": "web_search_preview"}
KEY = {"GROQ_API_KEY": "k"}


class TestGroq(ProviderContract):
    plugin = Groq
    forms = "forms.yaml"
    usages: ClassVar = (
        (
            {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 64}},
            Usage(input_uncached=36, input_cached=64, output=20, source="reported"),
        ),
    )

    def entry(self, model_id: str) -> dict[str, Any]:
        return {"id": model_id, "object": "model", "active": True, "context_window": 131072}


def sent(model: str, **more: Any) -> dict[str, Any]:
    """What reaches Groq of a request with these fields."""

    async def whole() -> dict[str, Any]:
        async with Upstream() as up:
            config = {"plugins": {"groq": {"base_url": up.base_url("groq")}}}
            async with make_router(config, plugins={"groq": Groq}, env=KEY) as router:
                messages = [{"role": "user", "content": "What is new?"}]
                await router.chat({"model": f"groq/{model}", "messages": messages, **more})
            return up.seen("groq").last.json

    return asyncio.run(whole())


def test_fields_that_groq_refuses_are_left_out() -> None:
    body = sent("llama-3.3-70b-versatile", logprobs=True, top_logprobs=2, logit_bias={"1": 1}, seed=7)
    assert sorted(body) == ["messages", "model", "seed"]


def test_a_search_switches_the_compound_models_own_search_on() -> None:
    body = sent("groq/compound", tools=[SEARCH], tool_choice="required", max_tokens=9, temperature=0)
    assert body["compound_custom"] == {"tools": {"enabled_tools": ["web_search"]}}
    assert sorted(body) == ["compound_custom", "messages", "model", "temperature"]


def test_without_a_search_the_compound_model_gets_the_request_as_it_is() -> None:
    body = sent("groq/compound", max_tokens=9)
    assert sorted(body) == ["max_tokens", "messages", "model"]


def test_a_model_of_which_nothing_is_known_is_not_taken_for_one_that_searches() -> None:
    groq = Groq()
    body = {"model": "new", "messages": [], "tools": [SEARCH]}
    assert groq.adapt(dict(body), groq.model("new")) == body


def test_only_models_that_search_are_asked_to() -> None:
    router = make_router({"plugins": {"groq": {}}}, plugins={"groq": Groq}, env=KEY)
    body = {"model": "auto", "messages": [{"role": "user", "content": "News?"}], "tools": [SEARCH]}
    explained = asyncio.run(router.explain(body))
    ranked = [entry["candidate"] for entry in explained["ranked"]]
    assert ranked == ["groq/groq/compound", "groq/groq/compound-mini"]


def test_a_model_that_is_out_of_service_is_no_candidate() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            listed = [
                {"id": "llama-3.1-8b-instant", "active": True, "context_window": 131072},
                {"id": "llama-3.3-70b-versatile", "active": False, "context_window": 131072},
            ]
            up.route("groq", "GET /v1/models", {"object": "list", "data": listed})
            config = {"plugins": {"groq": {"base_url": up.base_url("groq")}}}
            async with make_router(config, plugins={"groq": Groq}, env=KEY) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                assert [c.model.id for c in router.catalog.snapshot.candidates] == ["llama-3.1-8b-instant"]

    asyncio.run(whole())


def test_each_model_has_limits_of_its_own_which_all_keys_of_the_organisation_share() -> None:
    config = {"plugins": {"groq": {}, "second": {"use": "groq", "api_key_env": "SECOND"}}}
    router = make_router(config, plugins={"groq": Groq}, env={**KEY, "SECOND": "k2"})
    first, second = (router.providers[name].roster() for name in ("groq", "second"))
    pools = [pool for model in first for pool in model.pools]
    assert len(set(pools)) == len(pools) == len(first)
    assert [model.pools for model in second] == [model.pools for model in first]
    assert all(pool.scope == "organisation" for pool in Groq().pools().values())


def test_its_facts_have_a_date_and_a_source_and_are_free() -> None:
    groq = Groq()
    assert groq.facts.date
    assert "groq.com" in groq.facts.source
    assert groq.facts.free_tier
    assert all(model.free and not model.local for model in groq.roster())
