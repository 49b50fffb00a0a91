"""What LiteLLM's exceptions mean: by the name, the status and the headers that LiteLLM gives them."""

from __future__ import annotations

from typing import Any

import pytest
from routerpool_litellm.failures import failure_of

from routerpool import FailureKind


def raised(name: str, status: int | None = None, words: str = "no", **more: Any) -> Exception:
    error = type(name, (Exception,), {})(words)
    for key, value in {"status_code": status, **more}.items():
        setattr(error, key, value)
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised("RateLimitError", 429), FailureKind.RATE_LIMITED),
        (raised("AuthenticationError", 401), FailureKind.AUTH),
        (raised("PermissionDeniedError", 403), FailureKind.FORBIDDEN),
        (raised("NotFoundError", 404), FailureKind.MISSING_MODEL),
        (raised("BadRequestError", 400), FailureKind.BAD_REQUEST),
        (raised("ContextWindowExceededError", 400), FailureKind.TOO_LARGE),
        (raised("ContentPolicyViolationError", 400), FailureKind.CONTENT_FILTER),
        (raised("Timeout", 408), FailureKind.TIMEOUT),
        (raised("InternalServerError", 500), FailureKind.SERVER),
        (raised("ServiceUnavailableError", 503), FailureKind.SERVER),
        (raised("BudgetExceededError", 400), FailureKind.CREDIT),
        (raised("SomethingNew"), FailureKind.SERVER),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_exception_is_of_the_kind_that_its_name_and_status_say(error: Exception, kind: FailureKind) -> None:
    assert failure_of(error).kind is kind


def test_a_connection_that_never_was_is_found_below_litellms_word_for_it() -> None:
    error = raised("InternalServerError", 500)
    error.__cause__ = raised("APIConnectionError")
    error.__cause__.__context__ = raised("ConnectError")
    assert failure_of(error).kind is FailureKind.CONNECT


def test_the_providers_wait_is_heard() -> None:
    error = raised("RateLimitError", 429, litellm_response_headers={"retry-after": "17"})
    assert failure_of(error).retry_after == 17


def test_its_words_are_not_kept() -> None:
    failure = failure_of(raised("BadRequestError", 400, "you said: my diary"))
    assert "diary" not in repr(failure)
    assert failure.answer is None
