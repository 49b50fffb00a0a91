"""OpenAI's own forms: two windows of limits, a key without money, the cap under its new name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from routerpool_openai import OpenAI

from routerpool import FailureKind
from routerpool.testing import Form, ProviderContract, Upstream, make_router


def error(message: str, code: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


LIMITED = error("Rate limit reached for requests", "rate_limit_exceeded", "requests")
SAID = "Rate limit reached for gpt-x on tokens per min (TPM): Limit 30000, Used 29000. Please try again in 41.724s."


class TestOpenAI(ProviderContract):
    plugin = OpenAI
    forms = (
        Form(
            name="the requests are used up",
            status=429,
            body=LIMITED,
            headers={
                "x-ratelimit-limit-requests": "500",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-limit-tokens": "30000",
                "x-ratelimit-remaining-tokens": "29000",
                "x-ratelimit-reset-tokens": "1s",
            },
            kind=FailureKind.RATE_LIMITED,
            wait=360,
            source="platform.openai.com/docs/guides/rate-limits",
        ),
        Form(
            name="the tokens are used up, and renew in milliseconds",
            status=429,
            body=LIMITED,
            headers={
                "x-ratelimit-remaining-requests": "499",
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "120ms",
            },
            kind=FailureKind.RATE_LIMITED,
            wait=0.12,
            within=0.01,
            source="platform.openai.com/docs/guides/rate-limits",
        ),
        Form(
            name="the text alone tells the wait",
            status=429,
            body=error(SAID, "rate_limit_exceeded", "tokens"),
            kind=FailureKind.RATE_LIMITED,
            wait=41.724,
            within=0.01,
            source="platform.openai.com/docs/guides/rate-limits",
        ),
        Form(
            name="a count of -1 is none, and its reset of 0 no wait",
            status=429,
            body=error(SAID, "rate_limit_exceeded", "tokens"),
            headers={"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "0"},
            kind=FailureKind.RATE_LIMITED,
            wait=41.724,
            within=0.01,
            source="Azure's Responses",
        ),
        Form(
            name="the account has no quota",
            status=429,
            body=error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
            kind=FailureKind.CREDIT,
            source="platform.openai.com/docs/guides/error-codes",
        ),
        Form(
            name="the prepaid credit is gone",
            status=429,
            body=error("Your credit balance is exhausted", "credit_balance_exhausted", "billing_error"),
            kind=FailureKind.CREDIT,
            source="platform.openai.com/docs/guides/error-codes",
        ),
        Form(
            name="the key is wrong",
            status=401,
            body=error("Incorrect API key provided", "invalid_api_key", "invalid_request_error"),
            kind=FailureKind.AUTH,
            source="platform.openai.com/docs/guides/error-codes",
        ),
        Form(
            name="the model does not exist for this account",
            status=404,
            body=error("The model `x` does not exist", "model_not_found", "invalid_request_error"),
            kind=FailureKind.MISSING_MODEL,
            source="platform.openai.com/docs/guides/error-codes",
        ),
    )


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
    assert openai._data.date
    assert openai._data.source
