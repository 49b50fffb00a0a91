"""Groq's own forms: its limits, its too large requests, its search."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from routerpool_groq import Groq

from routerpool import FailureKind, Usage
from routerpool.testing import Form, ProviderContract, Upstream, make_router

SEARCH = {"type": "web_search_preview"}
SOURCE = "console.groq.com/docs/rate-limits, /docs/errors, 2026-07-18"
KEY = {"GROQ_API_KEY": "k"}


def error(message: str, kind: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code}}


def counters(requests: tuple[str, str], tokens: tuple[str, str]) -> dict[str, str]:
    """Groq's headers: for requests and for tokens what is left and when it renews."""
    return {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-limit-tokens": "12000",
        "x-ratelimit-remaining-requests": requests[0],
        "x-ratelimit-reset-requests": requests[1],
        "x-ratelimit-remaining-tokens": tokens[0],
        "x-ratelimit-reset-tokens": tokens[1],
    }


class TestGroq(ProviderContract):
    plugin = Groq
    forms = (
        Form(
            name="a request larger than the tokens of a minute may fit another model, and benches none",
            status=413,
            body=error(
                "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 9001.",
                "tokens",
                "rate_limit_exceeded",
            ),
            kind=FailureKind.UNAVAILABLE,
            wait=0,
            within=0,
            source=SOURCE,
        ),
        Form(
            name="any other request that is too large is the client's own",
            status=413,
            body=error("Request Entity Too Large", "invalid_request_error", "request_too_large"),
            kind=FailureKind.TOO_LARGE,
            source=SOURCE,
        ),
        Form(
            name="a minute's tokens are spent, and retry-after goes before the headers",
            status=429,
            body=error("Rate limit reached on tokens per minute (TPM).", "tokens", "rate_limit_exceeded"),
            headers={"retry-after": "8", **counters(("412", "2m59.56s"), ("0", "7.66s"))},
            kind=FailureKind.RATE_LIMITED,
            wait=8,
            source=SOURCE,
        ),
        Form(
            name="without a retry-after the counter that is at zero tells the wait",
            status=429,
            body=error("Rate limit reached.", "tokens", "rate_limit_exceeded"),
            headers=counters(("412", "2m59.56s"), ("0", "7.66s")),
            kind=FailureKind.RATE_LIMITED,
            wait=7.66,
            within=0.01,
            source=SOURCE,
        ),
        Form(
            name="a day's requests are spent",
            status=429,
            body=error("Rate limit reached on requests per day (RPD): Limit 1000.", "requests", "rate_limit_exceeded"),
            headers=counters(("0", "2h13m7.5s"), ("12000", "0s")),
            kind=FailureKind.QUOTA_EXHAUSTED,
            wait=7987.5,
            source=SOURCE,
        ),
        Form(
            name="a parameter that it does not know is the client's own",
            status=400,
            body=error("property 'x' is unsupported", "invalid_request_error", "unsupported_parameter"),
            kind=FailureKind.BAD_REQUEST,
            source=SOURCE,
        ),
    )
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
    assert all(pool.scope == "organisation" for pool in Groq().pools)


def test_its_facts_have_a_date_and_a_source_and_are_free() -> None:
    groq = Groq()
    assert groq._data.date
    assert "groq.com" in groq._data.source
    assert groq._data.free_tier
    assert all(model.free and not model.local for model in groq.roster())
