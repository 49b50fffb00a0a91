"""What LiteLLM's exceptions mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from routerpool import Failure, FailureKind
from routerpool.providers import failure_of_answer
from routerpool.wire import dumps

__all__ = ["failure_of"]

KINDS: Mapping[str, FailureKind] = {
    "ContextWindowExceededError": FailureKind.TOO_LARGE,
    "ContentPolicyViolationError": FailureKind.CONTENT_FILTER,
    "Timeout": FailureKind.TIMEOUT,
    "APITimeoutError": FailureKind.TIMEOUT,
    "BudgetExceededError": FailureKind.CREDIT,
    "PaymentRequiredError": FailureKind.CREDIT,
    "MidStreamFallbackError": FailureKind.INTERRUPTED,
}
"""Exceptions by name whose status does not tell all."""

CAUSES = 16
"""How deep a chain of causes is followed."""


def failure_of(error: BaseException, provider: str = "LiteLLM") -> Failure:
    """Why an attempt failed, by the exception's name, status, headers and words; the words themselves are not kept."""
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) and 400 <= status < 600 else 500
    name = type(error).__name__
    body = dumps({"error": {"message": str(error), "type": name, "code": status}})
    failure = evolve(failure_of_answer(provider, status, _headers(error), body), answer=None)
    if _never_arrived(error):
        return Failure(kind=FailureKind.CONNECT, message=f"{provider}: no connection")
    return evolve(failure, kind=KINDS[name]) if name in KINDS else failure


def _headers(error: BaseException) -> Mapping[str, str]:
    told: Any = getattr(error, "litellm_response_headers", None)
    if told is None:
        told = getattr(getattr(error, "response", None), "headers", None)
    return {str(k): str(v) for k, v in told.items()} if hasattr(told, "items") else {}


def _never_arrived(error: BaseException) -> bool:
    """Whether an HTTP client could not connect: LiteLLM calls that an error of the server's."""
    cause: BaseException | None = error
    for _ in range(CAUSES):
        if cause is None:
            return False
        if type(cause).__name__ in {"ConnectError", "ConnectTimeout", "ClientConnectorError"}:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
