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
from typing import NamedTuple

import aiohttp
from attrs import frozen

from routerpool.errors import shortage
from routerpool.providers.connection import NotHttpError, ProxyRefusedError
from routerpool.refusals.overflow import says_too_long
from routerpool.refusals.resets import DEFAULT_SPECS, HeaderSpec, pool_marker, read_reset, until_midnight, zone
from routerpool.types import Answer, Failure, FailureKind
from routerpool.wire.errors import read_error
from routerpool.wire.json import EVENT_VALUES, loads
from routerpool.wire.mask import Mask

__all__ = ["CALLER_KINDS", "ErrorForm", "failure_of_answer", "failure_of_exception", "refused_fields"]

CALLER_KINDS = frozenset({FailureKind.BAD_REQUEST, FailureKind.CONTENT_FILTER, FailureKind.TOO_LARGE})
"""Failures that are the client's own: the provider's words are kept and passed on as they are."""

CALLER_STATUSES = frozenset({400, 413, 422})
"""Statuses that speak of the request, where an error object says so: a page is a proxy's, a bare text anybody's."""

WIDE_KINDS = frozenset({FailureKind.CONNECT, FailureKind.SERVER, FailureKind.TIMEOUT})
WIDE_IF_UNNAMED = frozenset({FailureKind.FORBIDDEN, FailureKind.MISSING_MODEL, FailureKind.RATE_LIMITED})
"""What says nothing of the model; and what does so where no model is named, as a path that is wrong."""

ENDS_BY_WAITING = frozenset(
    {FailureKind.RATE_LIMITED, FailureKind.QUOTA_EXHAUSTED, FailureKind.CREDIT, FailureKind.UNAVAILABLE}
)
"""Failures that end by waiting, about which any rate-limit header may speak."""

BODY_BYTES = 32 << 10
"""An error says what it is at its beginning."""

WORDS = 4096
"""Characters of its words in which forms are sought: there are some twenty of them."""

JSON, PLAIN = "application/json", "text/plain; charset=utf-8"

MAY_BE_TOO_LONG = frozenset({400, 413, 422, 500, 502})
"""Statuses with which servers refuse a prompt that is too long; 502 is that of an error inside a success."""

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

NAMED = r"(?:['\"`.\[,/]|(?:field|key|parameter|property|argument|supplied|name)s?:? )\s*"
OPTIONAL_FIELDS: Mapping[str, str] = {
    "stream_options": r"stream_options",
    "max_completion_tokens": r"\bmax_completion_tokens\b",
    "developer": r"\bdeveloper\b",
    "reasoning_content": r"\breasoning_content\b",
    "reasoning_details": r"\breasoning_details\b",
    "extra_content": r"\bextra_content\b",
    **{name: rf"{NAMED}{name}\b" for name in ("annotations", "reasoning", "refusal", "store")},
}
"""What we, an adapter or an earlier answer have put into a request and may take out, and how a refusal names it."""
NOT_WANTED = (
    r"unsupported|not supported|n't support|unknown|unrecogni[sz]ed|unexpected|not (?:permitted|allowed|one of|valid)"
    r"|extra|additional propert|forbidden|invalid role|invalid value: .?developer|(?:not|n't) match"
    r"|input should be '"
)
"""How a server says that it does not know a field at all; what it says of a value is the client's to read."""

COMMON_FORMS: Sequence[ErrorForm] = (
    ErrorForm(  # what is left does not pay for this request, and would pay for a smaller one
        kind=FailureKind.UNAVAILABLE,
        status=402,
        match=r"^(?!.*can only afford 0\b).*(?:can only afford"
        r"|(?:fewer|lower|reduce)\b.{0,20}\bmax_(?:completion_)?tokens"
        r"|(?:estimated|expected) cost|cost of this request)",
        retry_after=0.0,
    ),
    ErrorForm(
        kind=FailureKind.AUTH,
        status=403,
        match=r"api[ _-]?key.{0,20} (?:not valid|expired|invalid|revoked)|invalid[ _]api[ _-]?key",
    ),
    ErrorForm(
        kind=FailureKind.RATE_LIMITED,
        status=403,
        match=r"rate[ _-]?limit|too[ _]many[ _]requests|request limit|throttl|slow down",
    ),
    ErrorForm(
        kind=FailureKind.CREDIT,
        status=403,
        match=r"insufficient[ _](?:credit|fund|balance)|balance.{0,20} (?:insufficient|too low)|top[ -]up\b",
    ),
    ErrorForm(
        kind=FailureKind.QUOTA_EXHAUSTED,
        status=403,
        match=r"\bquota|(?:usage|spending|daily|weekly|monthly|token)[ _]limit|billing cycle",
    ),
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

    `key` is the key that was sent; what is kept of the provider's own words does not quote it, nor is their content
    type the provider's.
    """
    said = _said(status, body)
    status = said.status
    form = next((form for form in (*forms, *COMMON_FORMS) if form.fits(status, said.words, said.whole)), None)
    kind, retry_after, source = _kind(said), None, None
    if form is not None and not (said.page and form.kind in CALLER_KINDS):
        kind, retry_after, source = form.kind, form.wait(), "pattern"
    again = bool(_refused(said)) and (kind is FailureKind.BAD_REQUEST or retry_after == 0)
    if again or (kind is FailureKind.UNAVAILABLE and form is None):
        kind, retry_after, source = FailureKind.UNAVAILABLE, 0.0, "pattern"
    if kind is FailureKind.FORBIDDEN and form is None and _spent(headers, body, specs):
        kind = FailureKind.RATE_LIMITED
    if kind is FailureKind.RATE_LIMITED and pool_marker(body) in ("day", "week", "session"):
        kind = FailureKind.QUOTA_EXHAUSTED
    if retry_after is None:
        retry_after, source = _stated_wait(kind, headers, body, specs)
    answer = None
    if kind in CALLER_KINDS:
        mask = Mask.of(key)
        body = body if mask is None else mask.refusal(body)
        told = 400 if status >= 500 else status  # a prompt that is too long for it is no fault of the server
        answer = Answer(status=told, content_type=JSON if said.told else PLAIN, body=body)
    return Failure(
        kind=kind,
        message=f"{provider} answered {status}" + (f" ({said.name})" if said.name else ""),
        status=status,
        retry_after=retry_after,
        source=source,
        lacks=form.lacks if form else None,
        pool=form.pool if form else None,
        answer=answer,
        again=again,
        wide=kind in WIDE_KINDS or (kind in WIDE_IF_UNNAMED and form is None and "model" not in said.words.lower()),
    )


class Said(NamedTuple):
    """What an answer says: its status, the error's code and text, its beginning, and whether it is an object at all."""

    status: int
    words: str
    whole: str
    name: str
    told: bool

    @property
    def page(self) -> bool:
        """Whether it is a page for people, of a proxy, a firewall or a server that is something else."""
        return not self.told and self.whole.lstrip("\ufeff \t\r\n").startswith("<")


def _said(status: int, body: bytes) -> Said:
    try:
        parsed = loads(body, EVENT_VALUES) if body else None
    except ValueError:
        parsed = None
    error = read_error(parsed)
    if status < 400:  # an error inside a 200 names its own status, if any
        status = error.status if error and error.status is not None and 400 <= error.status < 600 else 502
    whole = body[:BODY_BYTES].decode("utf-8", "replace")
    if error is None:
        return Said(status, whole[:WORDS], whole, "", told=isinstance(parsed, (dict, list)))
    name = next((word for word in error.code.split() if SAFE_CODE.match(word)), "")
    return Said(status, f"{error.code[:WORDS]} {error.text}"[:WORDS], whole, name, told=True)


def _kind(said: Said) -> FailureKind:
    """What a status means by itself. All that speaks neither of the request nor of the key is trouble that may pass."""
    if not said.page and said.status in MAY_BE_TOO_LONG and says_too_long(said.words):
        return FailureKind.TOO_LARGE
    if not said.told:
        if said.status == 413 or (said.status in CALLER_STATUSES and not said.page):
            return FailureKind.UNAVAILABLE  # of this request: another server may take it
        if said.status in CALLER_STATUSES or said.status == 403:
            return FailureKind.SERVER
    elif said.status in (400, 422):
        return FailureKind.BAD_REQUEST
    return BY_STATUS.get(said.status, FailureKind.SERVER)


def _spent(headers: Mapping[str, str], body: bytes, specs: Sequence[HeaderSpec]) -> bool:
    """Whether a rate-limit window is told to have nothing left."""
    reset = read_reset(headers, body, specs=specs)
    return reset is not None and not reset.guessed and "ratelimit" in reset.source.replace("-", "")


def refused_fields(status: int, body: bytes) -> frozenset[str]:
    """Which of `OPTIONAL_FIELDS` an answer does not want, as far as it names them."""
    return _refused(_said(status, body))


def _refused(said: Said) -> frozenset[str]:
    if said.status not in (400, 422):
        return frozenset()
    named = frozenset(field for field, form in OPTIONAL_FIELDS.items() if re.search(form, said.words))
    if 0 <= said.words.find("max_tokens") < said.words.find("max_completion_tokens"):  # what is named second is wanted
        named = named - {"max_completion_tokens"} | {"max_tokens"}
    return named if named and re.search(NOT_WANTED, said.words, re.IGNORECASE) else named & {"stream_options"}


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
    if (ours := shortage(error, unresolved=isinstance(error, aiohttp.ClientConnectorDNSError))) is not None:
        return Failure(kind=FailureKind.OVERLOADED, message=f"{provider} was not asked: {ours}")
    for classes, kind, words in EXCEPTIONS:
        if isinstance(error, classes):
            return Failure(kind=kind, message=f"{provider}: {words}")
    return Failure(kind=FailureKind.SERVER, message=f"{provider}: {type(error).__name__}")


EXCEPTIONS: Sequence[tuple[tuple[type[BaseException], ...], FailureKind, str]] = (
    ((aiohttp.ClientConnectorCertificateError,), FailureKind.CONNECT, "its TLS certificate is not valid"),
    ((aiohttp.ClientSSLError,), FailureKind.CONNECT, "the TLS handshake failed"),
    ((aiohttp.ClientConnectorDNSError,), FailureKind.CONNECT, "its name does not resolve"),
    ((aiohttp.ClientHttpProxyError, ProxyRefusedError), FailureKind.CONNECT, "the proxy does not let us through"),
    ((aiohttp.ConnectionTimeoutError,), FailureKind.CONNECT, "no connection in time"),
    ((aiohttp.ClientConnectorError,), FailureKind.CONNECT, "the connection was refused or is not possible"),
    ((aiohttp.ServerDisconnectedError,), FailureKind.SERVER, "it closed the connection without an answer"),
    ((aiohttp.ClientOSError, ConnectionError), FailureKind.SERVER, "the connection broke"),
    ((aiohttp.ClientPayloadError,), FailureKind.SERVER, "it broke off in the middle of its answer"),
    ((aiohttp.ClientResponseError, NotHttpError), FailureKind.SERVER, "it does not speak HTTP properly"),
    ((asyncio.TimeoutError,), FailureKind.TIMEOUT, "no answer in time"),
    ((ValueError,), FailureKind.SERVER, "its answer cannot be read"),
)
