"""What went wrong upstream: a status, a body or an exception becomes one Failure with one kind.

The taxonomy is a synthesis of what providers are known to answer; a provider's own forms come first, as `ErrorForm`s
of its data file. A Failure's message is made of our words and of the provider's error code, never of its free text,
which may quote a prompt or a key.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence

import aiohttp
from attrs import frozen

from routerpool.providers.connection import NotHttpError
from routerpool.providers.resets import DEFAULT_SPECS, HeaderSpec, pool_marker, read_reset, until_midnight, zone
from routerpool.types import Answer, Failure, FailureKind
from routerpool.wire.errors import read_error
from routerpool.wire.json import EVENT_VALUES, loads

__all__ = ["CALLER_KINDS", "ErrorForm", "failure_of_answer", "failure_of_exception"]

CALLER_KINDS = frozenset({FailureKind.BAD_REQUEST, FailureKind.CONTENT_FILTER, FailureKind.TOO_LARGE})
"""Failures that are the client's own: the provider's words are kept and passed on as they are."""

ENDS_BY_WAITING = frozenset(
    {FailureKind.RATE_LIMITED, FailureKind.QUOTA_EXHAUSTED, FailureKind.CREDIT, FailureKind.UNAVAILABLE}
)
"""Failures that end by waiting, about which any rate-limit header may speak."""

BODY_BYTES = 32 << 10
"""An error says what it is at its beginning."""

WORDS = 4096
"""Characters of its words in which forms are sought: there are some twenty of them."""

SAFE_CODE = re.compile(r"[A-Za-z]{2,24}(?:_[A-Za-z]{1,24}){1,6}\Z")
"""Codes are words joined by underscores; a single word may be one of the prompt's."""


@frozen(kw_only=True)
class ErrorForm:
    """One error form of one provider: where all that is given matches, the answer is of this kind.

    `match` is a regular expression searched in the first 4,096 characters of the error's code and text, `body` one
    searched in the whole answer, at most 32 kB of it. `retry_after` (seconds) replaces what the answer says, and so
    does `midnight`: the time zone whose next day brings a new quota. `lacks` names the capability that such an answer
    denies, `pool` the quota it means.
    """

    kind: FailureKind
    status: int | None = None
    match: str | None = None
    retry_after: float | None = None
    lacks: str | None = None
    body: str | None = None
    midnight: str | None = None
    pool: str | None = None

    def fits(self, status: int, words: str, body: str) -> bool:
        """Whether an answer with this status, these words and this body is of this form."""
        if self.status is not None and self.status != status:
            return False
        if self.match is not None and re.search(self.match, words, re.IGNORECASE) is None:
            return False
        return self.body is None or re.search(self.body, body, re.IGNORECASE) is not None

    def wait(self) -> float | None:
        """Seconds until it makes sense to come back, where the form alone tells."""
        if self.midnight is None:
            return self.retry_after
        return until_midnight(time.time(), zone(self.midnight))


BY_STATUS: Mapping[int, FailureKind] = {
    401: FailureKind.AUTH,
    402: FailureKind.CREDIT,
    403: FailureKind.FORBIDDEN,
    404: FailureKind.MISSING_MODEL,
    408: FailureKind.TIMEOUT,
    410: FailureKind.MISSING_MODEL,
    413: FailureKind.TOO_LARGE,
    429: FailureKind.RATE_LIMITED,
    504: FailureKind.TIMEOUT,
}

DENIALS = {
    "tools": r"(?:tools?|tool use|tool calling|function calling) (?:is|are) (?:not supported|unsupported|not enabled)"
    r"|does(?: not|n't) support (?:the use of )?(?:tools?|tool use|tool calling|function calling)\b(?! ?_?choice)",
    "vision": r"(?:images?|image input|vision) (?:is|are) not supported"
    r"|does(?: not|n't) support (?:images?|image input|vision)\b(?! format)",
    "audio": r"audio(?: input)? is not supported|does(?: not|n't) support audio(?! format)",
    "json_schema": r"does(?: not|n't) support (?:json_schema|response format|structured outputs?)",
}
"""How providers say that a model cannot do a thing at all; what they say of one parameter's value is no such word."""

COMMON_FORMS: Sequence[ErrorForm] = (
    *(
        ErrorForm(kind=FailureKind.UNAVAILABLE, status=status, match=words, retry_after=0.0, lacks=need)
        for status in (400, 422)
        for need, words in DENIALS.items()
    ),
    ErrorForm(
        kind=FailureKind.CREDIT, status=429, match=r"insufficient_quota|insufficient[ _]credit|credit_balance|billing"
    ),
    ErrorForm(kind=FailureKind.AUTH, status=400, match=r"api[ _]key (?:not valid|expired|invalid)|api_key_invalid"),
    ErrorForm(kind=FailureKind.FORBIDDEN, status=400, match=r"not allowed to access|do(?:es)? not have access"),
    ErrorForm(kind=FailureKind.FORBIDDEN, status=401, match=r"not allowed to access|do(?:es)? not have access"),
    ErrorForm(
        kind=FailureKind.TOO_LARGE,
        status=400,
        match=r"context_length_exceeded|exceed_context_size|prompt is too long|maximum context length"
        r"|input token count .{0,40} exceeds|context (?:window|size|length) .{0,40}exceed",
    ),
    ErrorForm(
        kind=FailureKind.CONTENT_FILTER,
        status=400,
        match=r"content[_ ]filter|content[_ ]policy|content management policy|safety system|\bmoderation\b",
    ),
    ErrorForm(kind=FailureKind.SERVER, status=400, match=r"DEGRADED function"),
    ErrorForm(
        kind=FailureKind.MISSING_MODEL,
        status=400,
        match=r"model_not_found|unknown model|model .{0,80}(?:not found|does not exist|not exist|decommissioned)",
    ),
    ErrorForm(
        kind=FailureKind.MISSING_MODEL,
        status=422,
        match=r"model_not_found|unknown model|model .{0,80}(?:not found|does not exist|not exist)",
    ),
    ErrorForm(
        kind=FailureKind.UNAVAILABLE,
        status=503,
        match=r"loading model|server busy|maximum pending requests|queue is full",
    ),
)
"""Forms that several providers share; a 400 that fits none of them is a bad request."""


def failure_of_answer(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    forms: Sequence[ErrorForm] = (),
    specs: Sequence[HeaderSpec] = DEFAULT_SPECS,
    key: str | None = None,
) -> Failure:
    """The failure that an answer with a bad status, or with an error inside a good one, means.

    `key` is the key that was sent; what is kept of the provider's own words does not quote it.
    """
    try:
        error = read_error(loads(body, EVENT_VALUES)) if body else None
    except ValueError:
        error = None
    if status < 400:  # an error inside a 200 names its own status, if any
        inner = error.status if error and error.status is not None and 400 <= error.status < 600 else None
        status = inner or 502
    code = error.code if error else ""
    whole = body[:BODY_BYTES].decode("utf-8", "replace")
    words = (f"{code[:WORDS]} {error.text}" if error else whole)[:WORDS]
    form = next((form for form in (*forms, *COMMON_FORMS) if form.fits(status, words, whole)), None)
    kind = form.kind if form else _kind(status)
    retry_after, source = (form.wait(), "pattern") if form else (None, None)
    if kind is FailureKind.RATE_LIMITED and pool_marker(body) in ("day", "week", "session"):
        kind = FailureKind.QUOTA_EXHAUSTED
    if retry_after is None:
        retry_after, source = _stated_wait(kind, headers, body, specs)
    name = next((word for word in code.split() if SAFE_CODE.match(word)), "")
    message = f"{provider} answered {status}" + (f" ({name})" if name else "")
    answer = None
    if kind in CALLER_KINDS:
        body = body.replace(key.encode(), b"[key]") if key else body
        answer = Answer(status=status, content_type=headers.get("Content-Type", "application/json"), body=body)
    return Failure(
        kind=kind,
        message=message,
        status=status,
        retry_after=retry_after,
        source=source,
        lacks=form.lacks if form else None,
        pool=form.pool if form else None,
        answer=answer,
    )


def _kind(status: int) -> FailureKind:
    if status in BY_STATUS:
        return BY_STATUS[status]
    if 400 <= status < 500:
        return FailureKind.BAD_REQUEST
    return FailureKind.SERVER


def _stated_wait(
    kind: FailureKind, headers: Mapping[str, str], body: bytes, specs: Sequence[HeaderSpec]
) -> tuple[float | None, str | None]:
    """The wait that an answer states, and where it stands.

    Beside a failure that waiting does not end, the headers of a window that is not spent say nothing about it.
    """
    reset = read_reset(headers, body, specs=specs)
    if reset is not None and (kind in ENDS_BY_WAITING or (not reset.guessed and "retry-after" in reset.source)):
        return reset.seconds, reset.source
    return None, None


def failure_of_exception(provider: str, error: BaseException) -> Failure:
    """The failure that an exception of the HTTP client means; only its kind of trouble is told, never its text."""
    for classes, kind, words in EXCEPTIONS:
        if isinstance(error, classes):
            return Failure(kind=kind, message=f"{provider}: {words}")
    return Failure(kind=FailureKind.SERVER, message=f"{provider}: {type(error).__name__}")


EXCEPTIONS: Sequence[tuple[tuple[type[BaseException], ...], FailureKind, str]] = (
    ((aiohttp.ClientConnectorCertificateError,), FailureKind.CONNECT, "its TLS certificate is not valid"),
    ((aiohttp.ClientSSLError,), FailureKind.CONNECT, "the TLS handshake failed"),
    ((aiohttp.ClientConnectorDNSError,), FailureKind.CONNECT, "its name does not resolve"),
    ((aiohttp.ConnectionTimeoutError,), FailureKind.CONNECT, "no connection in time"),
    ((aiohttp.ClientConnectorError,), FailureKind.CONNECT, "the connection was refused or is not possible"),
    ((aiohttp.ServerDisconnectedError,), FailureKind.SERVER, "it closed the connection without an answer"),
    ((aiohttp.ClientOSError, ConnectionError), FailureKind.SERVER, "the connection broke"),
    ((aiohttp.ClientPayloadError,), FailureKind.SERVER, "it broke off in the middle of its answer"),
    ((aiohttp.ClientResponseError, NotHttpError), FailureKind.SERVER, "it does not speak HTTP properly"),
    ((asyncio.TimeoutError,), FailureKind.TIMEOUT, "no answer in time"),
    ((ValueError,), FailureKind.SERVER, "its answer cannot be read"),
)
