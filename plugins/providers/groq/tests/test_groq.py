"""Groq's own forms: its limits, its too large requests, its search."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from routerpool_groq import Groq

from routerpool import FailureKind
from routerpool.testing import ProviderContract, Upstream, Witness, make_router

SEARCH = {"type": "web_search_preview"}


class TestGroq(ProviderContract):
    plugin = Groq


def sent(model: str, **more: Any) -> dict[str, Any]:
    """What reaches Groq of a request with these fields."""

    async def whole() -> dict[str, Any]:
        async with Upstream() as up:
            config = {"plugins": {"groq": {"base_url": up.base_url("groq")}}}
            async with make_router(config, plugins={"groq": Groq}, env={"GROQ_API_KEY": "k"}) as router:
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


def test_only_models_that_search_are_asked_to() -> None:
    router = make_router({"plugins": {"groq": {}}}, plugins={"groq": Groq}, env={"GROQ_API_KEY": "k"})
    body = {"model": "auto", "messages": [{"role": "user", "content": "News?"}], "tools": [SEARCH]}
    explained = asyncio.run(router.explain(body))
    ranked = [entry["candidate"] for entry in explained["ranked"]]
    assert ranked == ["groq/groq/compound", "groq/groq/compound-mini"]


def test_a_request_beyond_the_minutes_tokens_is_no_reason_to_bench_the_model() -> None:
    message = "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 9001, please reduce."
    error = {"error": {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}}
    failure = Groq().failure(413, {}, json.dumps(error).encode())
    assert (failure.kind, failure.retry_after) == (FailureKind.UNAVAILABLE, 0)
    plain = Groq().failure(413, {}, b'{"error": {"message": "Payload too large"}}')
    assert plain.kind is FailureKind.TOO_LARGE


@pytest.mark.parametrize(("form", "seconds"), [("groqonly", 7.66), ("groqday", 7987.5), ("groq", 8)])
def test_the_limit_that_is_used_up_tells_the_wait(form: str, seconds: float) -> None:
    async def whole() -> None:
        witness = Witness()
        async with Upstream() as up:
            up.always("groq", f"ra:{form}")
            plugins = {"groq": {"base_url": up.base_url("groq"), "models": ["llama-3.3-70b-versatile"]}}
            config = {"plugins": plugins, "limits": {"max_attempts": 1}}
            env = {"GROQ_API_KEY": "k"}
            async with make_router(config, plugins={"groq": Groq}, env=env, witness=witness) as router:
                with pytest.raises(Exception, match="groq answered 429"):
                    await router.chat({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]})
        [failure] = witness.failures
        assert failure.retry_after == pytest.approx(seconds)

    asyncio.run(whole())


def test_its_facts_have_a_date_and_a_source_and_are_free() -> None:
    groq = Groq()
    assert groq._data.date
    assert "groq.com" in groq._data.source
    assert all(model.free and not model.local for model in groq.roster())
