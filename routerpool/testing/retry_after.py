"""Every way a provider is known to say how long to wait after a 429, each with the wait it truly means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, NamedTuple

from routerpool.testing.answers import encode, openai_error

__all__ = ["RETRY_AFTER_FORMS", "RetryAfterForm"]

Headers = list[tuple[str, str]]


class RetryAfterForm(NamedTuple):
    """One form of a stated wait."""

    build: Callable[[float], tuple[Headers, bytes]]
    """Headers and body of the 429, for a clock that reads this many seconds since the epoch."""
    seconds: float | None
    """The wait it means, counted from the answer; None where it states none that can be used."""


def _form(seconds: float | None, *headers: tuple[str, str], body: Any = None) -> RetryAfterForm:
    payload = encode(openai_error(429) if body is None else body)
    return RetryAfterForm(lambda _: (list(headers), payload), seconds)


def _dated(
    seconds: float | None, headers: Callable[[float], Headers], body: Callable[[float], Any] | None = None
) -> RetryAfterForm:
    def build(now: float) -> tuple[Headers, bytes]:
        return headers(now), encode(body(now) if body else openai_error(429))

    return RetryAfterForm(build, seconds)


def _http_date(now: float) -> str:
    return formatdate(now, usegmt=True)


def _rfc3339(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _anthropic(now: float) -> Headers:
    prefix = "anthropic-ratelimit"
    return [
        (f"{prefix}-requests-remaining", "0"),
        (f"{prefix}-requests-reset", _rfc3339(now + 7)),
        (f"{prefix}-tokens-remaining", "39000"),
        (f"{prefix}-tokens-reset", _rfc3339(now + 60)),
    ]


def _openrouter(now: float) -> Headers:
    reset = str(int((now + 7) * 1000))
    return [("X-RateLimit-Limit", "20"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", reset)]


def _openrouter_body(now: float) -> Any:
    message = "Rate limit exceeded: free-models-per-min."
    return {"error": {"code": 429, "message": message, "metadata": {"headers": dict(_openrouter(now))}}}


def _google(message: str, details: list[Any]) -> dict[str, Any]:
    return {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}}


def google_quota(period: str) -> list[Any]:
    """The QuotaFailure detail of Gemini for a quota per `Minute` or per `Day`."""
    violation = {"quotaId": f"GenerateRequestsPer{period}PerProjectPerModel-FreeTier", "quotaValue": "10"}
    return [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}]


def google_error(period: str, delay: str) -> list[Any]:
    """The list-wrapped error body of Gemini's compatible endpoint, with the delay in a RetryInfo."""
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    return [_google("You exceeded your current quota.", [*google_quota(period), retry])]


_GROQ: Headers = [
    ("x-ratelimit-limit-requests", "1000"),
    ("x-ratelimit-limit-tokens", "12000"),
    ("x-ratelimit-remaining-requests", "412"),
    ("x-ratelimit-remaining-tokens", "0"),
    ("x-ratelimit-reset-requests", "2m59.56s"),
    ("x-ratelimit-reset-tokens", "7.66s"),
]
_GROQ_DAY: Headers = [
    ("x-ratelimit-remaining-requests", "0"),
    ("x-ratelimit-remaining-tokens", "12000"),
    ("x-ratelimit-reset-requests", "2h13m7.5s"),
    ("x-ratelimit-reset-tokens", "0s"),
]

RETRY_AFTER_FORMS: Mapping[str, RetryAfterForm] = {
    "sec": _form(7, ("retry-after", "7")),
    "float": _form(1.5, ("retry-after", "1.5")),
    "zero": _form(0, ("retry-after", "0")),
    "neg": _form(None, ("retry-after", "-5")),
    "huge": _form(999_999_999, ("retry-after", "999999999")),  # a router clips it to its longest cooldown
    "junk": _form(None, ("retry-after", "soon")),
    "ms": _form(1.5, ("retry-after-ms", "1500")),
    "none": _form(None),
    "xsec": _form(7, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "7")),
    "groq": _form(8, ("retry-after", "8"), *_GROQ),  # what is said about this refusal beats the pools' resets
    "groqonly": _form(7.66, *_GROQ),  # only the pool that is empty matters
    "groqday": _form(7987.5, *_GROQ_DAY),
    "msform": _form(0.85, ("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "850ms")),
    "anthropic": _dated(7, _anthropic),
    "openrouter": _dated(7, _openrouter, _openrouter_body),
    "epoch": _dated(7, lambda now: [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", str(round(now + 7)))]),
    "draft": _form(7, ("RateLimit-Limit", "100"), ("RateLimit-Remaining", "0"), ("RateLimit-Reset", "7")),
    "draft8": _form(7, ("RateLimit-Policy", '"default";q=100;w=60'), ("RateLimit", '"default";r=0;t=7')),
    "date": _dated(7, lambda now: [("date", _http_date(now)), ("retry-after", _http_date(now + 7))]),
    "dateskew": _dated(  # the provider's clock is an hour fast; both dates are its own
        7, lambda now: [("date", _http_date(now + 3600)), ("retry-after", _http_date(now + 3607))]
    ),
    "pastdate": _dated(0, lambda now: [("date", _http_date(now)), ("retry-after", _http_date(now - 3600))]),
    "dup": _form(7, ("retry-after", "3"), ("retry-after", "7")),  # the longer one is the safe reading
    "gemini": _form(34.4, body=google_error("Minute", "34.4s")),
    "geministr": _form(34.4, body=_google("Quota exceeded. Please retry in 34.4s.", google_quota("Minute"))),
}
