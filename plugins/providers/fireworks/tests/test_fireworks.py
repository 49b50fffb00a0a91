"""Fireworks' own forms: the account's limit, the model's capacity, a suspended account."""

from __future__ import annotations

from routerpool_fireworks import Fireworks

from routerpool import FailureKind
from routerpool.testing import Form, ProviderContract

LIMITS = "docs.fireworks.ai/serverless/rate-limits"
ERRORS = "docs.fireworks.ai/guides/inference-error-codes"


class TestFireworks(ProviderContract):
    plugin = Fireworks
    refusals = {"http:503": FailureKind.UNAVAILABLE}  # noqa: RUF012 - as the contract declares it, and never changed
    forms = (
        Form(
            name="the account's tokens of a minute are used up",
            status=429,
            body={"error": {"message": "Rate limit exceeded, please try again later", "code": "rate_limit"}},
            headers={
                "X-Ratelimit-Limit-Tokens-Prompt": "3600000",
                "X-Ratelimit-Remaining-Tokens-Prompt": "0",
                "X-Ratelimit-Limit-Tokens-Generated": "36000",
                "X-Ratelimit-Remaining-Tokens-Generated": "35000",
            },
            kind=FailureKind.RATE_LIMITED,
            pool="tokens",
            source=LIMITS,
        ),
        Form(
            name="the model has no capacity left",
            status=503,
            body={"error": {"message": "Service overloaded, please try again later"}},
            kind=FailureKind.UNAVAILABLE,
            source=LIMITS,
        ),
        Form(
            name="the account is suspended",
            status=412,
            body={"error": {"message": "Account is suspended"}},
            kind=FailureKind.CREDIT,
            source=ERRORS,
        ),
        Form(
            name="the account is not on a paid plan",
            status=402,
            body={"error": {"message": "Payment required"}},
            kind=FailureKind.CREDIT,
            source=ERRORS,
        ),
        Form(
            name="the model is not deployed, or not for this account",
            status=404,
            body={"error": {"message": "Model not found, inaccessible, and/or not deployed"}},
            kind=FailureKind.MISSING_MODEL,
            source=ERRORS,
        ),
    )


def test_all_models_draw_on_the_accounts_tokens() -> None:
    assert {model.pools for model in Fireworks().roster()} == {frozenset({"fireworks::tokens"})}


def test_its_limits_headers_tell_no_wait() -> None:
    headers = {"X-Ratelimit-Remaining-Tokens-Prompt": "0", "X-Ratelimit-Remaining-Tokens-Generated": "12"}
    assert Fireworks().failure(429, headers, b"").retry_after is None
    assert Fireworks().failure(429, {**headers, "Retry-After": "4"}, b"").retry_after == 4


def test_a_credit_makes_nothing_free_and_its_facts_have_a_date_and_a_source() -> None:
    fireworks = Fireworks()
    assert not any(model.free or model.local for model in fireworks.roster())
    assert fireworks._data.date
    assert fireworks._data.source
    assert all(model.id.startswith("accounts/fireworks/models/") for model in fireworks.roster())
