"""SambaNova's own forms: its limits, its queue, models that are gone."""

from __future__ import annotations

from typing import Any

from routerpool_sambanova import SambaNova

from routerpool import FailureKind
from routerpool.testing import Form, ProviderContract

ERRORS = "docs.sambanova.ai/docs/en/api-reference/using-the-api/api-error-codes"


def error(message: str, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    body = {"message": message, "type": kind, "param": None, "code": code}
    return {"error": body, "request_id": "2a8b3c4d"}


class TestSambaNova(ProviderContract):
    plugin = SambaNova
    forms = (
        Form(
            name="the requests of a minute are used up",
            status=429,
            body=error("Rate limit exceeded", "rate_limit_exceeded", "rate_limit_error"),
            headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12"},
            kind=FailureKind.RATE_LIMITED,
            wait=12,
            source=ERRORS,
        ),
        Form(
            name="a limit without any header",
            status=429,
            body=error("Rate limit exceeded", "rate_limit_exceeded", "rate_limit_error"),
            kind=FailureKind.RATE_LIMITED,
            source=ERRORS,
        ),
        Form(
            name="the model is no longer offered",
            status=410,
            body=error("The requested model is no longer available", "model_deprecated"),
            kind=FailureKind.MISSING_MODEL,
            source=ERRORS,
        ),
        Form(
            name="prompt and answer do not fit the window",
            status=400,
            body=error("Input and output tokens exceed the context", "context_length_exceeded"),
            kind=FailureKind.TOO_LARGE,
            source=ERRORS,
        ),
        Form(
            name="a value out of bounds is the client's own fault",
            status=400,
            body=error("Decimal above maximum value", "decimal_above_max_value"),
            kind=FailureKind.BAD_REQUEST,
            source=ERRORS,
        ),
        Form(
            name="it took too long",
            status=408,
            body=error("Request timeout", "timeout", "timeout"),
            kind=FailureKind.TIMEOUT,
            source=ERRORS,
        ),
        Form(
            name="its queue is full of other requests",
            status=504,
            body=error("Request expired in queue", None, "server_error"),
            kind=FailureKind.UNAVAILABLE,
            source=ERRORS,
        ),
        Form(
            name="the model is under maintenance",
            status=503,
            body=error("The model is temporarily unavailable due to maintenance", None, "server_error"),
            kind=FailureKind.UNAVAILABLE,
            source=ERRORS,
        ),
    )


def test_all_models_share_the_days_tokens_of_the_account() -> None:
    assert {model.pools for model in SambaNova().roster()} == {frozenset({"sambanova::day"})}


def test_a_trial_credit_makes_nothing_free() -> None:
    assert not any(model.free or model.local for model in SambaNova().roster())


def test_its_facts_have_a_date_and_a_source() -> None:
    data = SambaNova()._data
    assert data.date
    assert data.source
    assert all(pool.date and pool.source for pool in data.pools)
