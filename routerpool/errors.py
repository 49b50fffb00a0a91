"""What can go wrong, in words that say the cure.

Every error that reaches a client carries one of `CODES`; every error that reaches an operator names the place
(file, line, path or plugin) and what to do about it. No error text ever holds a key, a prompt or an answer.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from math import isfinite
from typing import Any, NamedTuple

__all__ = [
    "CODES",
    "AnswerError",
    "Code",
    "ConfigError",
    "PluginError",
    "Problem",
    "RequestError",
    "RouterpoolError",
    "Unavailable",
    "defect",
    "nearest",
    "release",
    "shortage",
]

log = logging.getLogger("routerpool.errors")


LONGEST_GUESSED, MOST_GUESSES = 64, 300
"""The longest name for which one that was meant is sought, and among how many: each costs up to 0.1 ms."""

MOST_CAUSES = 16
"""How deep a chain of causes is followed, which somebody may have closed to a circle."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the name closest to a mistyped one, or nothing; it ends a sentence."""
    if len(name) > LONGEST_GUESSED:
        return ""
    alike = sorted(known, key=lambda other: abs(len(other) - len(name)))[:MOST_GUESSES]
    as_written = {other.casefold(): other for other in alike}
    close = get_close_matches(name.casefold(), as_written, n=1)
    return f"; did you mean {as_written[close[0]]!r}?" if close else ""


class Code(NamedTuple):
    """One documented error code: its HTTP status, OpenAI's error `type` for it, and when it is used."""

    status: int
    type: str
    meaning: str


CODES: Mapping[str, Code] = {
    "invalid_json": Code(400, "invalid_request_error", "the body is not a JSON object"),
    "invalid_request": Code(400, "invalid_request_error", "a field of the body has the wrong shape"),
    "unsupported_capabilities": Code(400, "invalid_request_error", "no candidate can do what the request needs"),
    "context_length_exceeded": Code(400, "invalid_request_error", "the prompt fits no candidate's context window"),
    "missing_api_key": Code(401, "authentication_error", "this server wants one of its API keys"),
    "invalid_api_key": Code(401, "authentication_error", "the API key is not one of this server's"),
    "privacy_blocked": Code(403, "permission_error", "no candidate may see a request of this privacy class"),
    "forbidden_origin": Code(403, "permission_error", "a web page of another origin sent the request"),
    "host_only": Code(403, "permission_error", "the route needs one of the keys of hosts, or of admins"),
    "admin_only": Code(403, "permission_error", "the route needs one of the admin keys"),
    "model_not_found": Code(404, "invalid_request_error", "no candidate, profile or alias has this name"),
    "not_found": Code(404, "invalid_request_error", "there is no such path"),
    "method_not_allowed": Code(405, "invalid_request_error", "the path takes other methods, which Allow names"),
    "request_timeout": Code(408, "invalid_request_error", "the body came more slowly than limits.body_rate"),
    "request_too_large": Code(413, "invalid_request_error", "the body is larger than limits.request_bytes"),
    "unsupported_media_type": Code(415, "invalid_request_error", "the body must be sent as application/json"),
    "misdirected_host": Code(421, "invalid_request_error", "the Host header names none of this server's names"),
    "request_queue_full": Code(429, "rate_limit_error", "more requests wait than limits.max_waiting"),
    "request_queue_timeout": Code(429, "rate_limit_error", "no slot became free within limits.queue_seconds"),
    "quota_exhausted": Code(429, "rate_limit_error", "every candidate left is out of quota"),
    "client_gone": Code(499, "api_error", "the client left before the answer"),
    "internal_error": Code(500, "api_error", "a defect of routerpool itself"),
    "not_implemented": Code(501, "api_error", "an OpenAI path that no enabled plugin serves"),
    "upstream_interrupted": Code(502, "api_error", "the provider broke off in the middle of its answer"),
    "no_candidate": Code(503, "api_error", "every candidate is vetoed; `vetoes` says why"),
    "attempts_exhausted": Code(503, "api_error", "every attempt failed; `attempts` says how"),
    "plugin_required": Code(503, "api_error", "a required plugin failed, so the request is refused"),
    "session_table_full": Code(503, "api_error", "the class of one more conversation could not be remembered"),
    "overloaded": Code(503, "api_error", "this server has no memory, connections or descriptors left for the request"),
    "shutting_down": Code(503, "api_error", "the server is draining"),
    "budget_exhausted": Code(504, "api_error", "limits.budget_seconds passed before an answer began"),
}


class RouterpoolError(Exception):
    """The parent of every error that routerpool raises on purpose."""


class Problem(NamedTuple):
    """One defect of a configuration: where it stands, and what is wrong with it and how to mend it."""

    path: str
    message: str
    line: int | None = None

    def render(self, file: str) -> str:
        """`file:line: path: message`, the form that editors jump to."""
        place = file if self.line is None else f"{file}:{self.line}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(RouterpoolError):
    """All that is wrong with a configuration, at once."""

    def __init__(self, problems: Iterable[Problem], file: str = "routerpool.yaml") -> None:
        self.problems = tuple(problems)
        self.file = file
        super().__init__("\n".join(problem.render(file) for problem in self.problems))


class PluginError(RouterpoolError):
    """A plugin cannot be loaded or breaks a rule of its hooks; the text names it and its distribution."""


class Unavailable(RouterpoolError):
    """Raised by a `reserve` hook: this candidate cannot take the request now.

    `retry_after` is in seconds; None means unknown.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        if retry_after is not None and not isfinite(retry_after):
            raise ValueError(f"retry_after must be finite, not {retry_after}")
        self.reason = reason
        self.retry_after = retry_after


class AnswerError(RouterpoolError):
    """A provider's own refusal of a request, for those who call the router from Python: its status and its body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"the provider answered {status}")
        self.status = status
        self.body = body


class RequestError(RouterpoolError):
    """A request that ends in an error of ours: `code` is one of `CODES`, `retry_after` is in seconds.

    `details` is added to the error object (`vetoes`, `attempts`, `profile`, …), `headers` to those of the answer.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = CODES[code].status
        self.param = param
        self.retry_after = retry_after
        self.details = dict(details or {})
        self.headers = dict(headers or {})
        self.request_id: str | None = None

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's error object."""
        error = {"message": self.message, "type": CODES[self.code].type, "param": self.param, "code": self.code}
        return {"error": error | self.details}


def release(error: BaseException) -> None:
    """Drop the frames that a handled error and those behind it hold, and with them all that was read there.

    A stream keeps the error that broke it, whose frames know the stream: without this, what such a circle holds stays
    in memory until a collection, which is put off while the server runs.
    """
    link: BaseException | None = error
    for _ in range(MOST_CAUSES):
        if link is None:
            return
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


def shortage(error: BaseException, *, unresolved: bool = False) -> str | None:
    """What this machine has run out of, where it is that which an error says; told once in the log, with the cure.

    `unresolved` is an error of a name that did not resolve, which may have any number.
    """
    number = error.errno if isinstance(error, OSError) else None
    if unresolved and number not in SHORT_OF:
        number = _no_descriptor()  # without one, name servers are not asked, and no name resolves
    if number not in SHORT_OF:
        return None
    what, cure = SHORT_OF[number]
    _tell_once(what, cure)
    return what


def _no_descriptor() -> int | None:
    """The error of opening anything at all, if there is one."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno
    return None


@cache
def _tell_once(what: str, cure: str) -> None:
    log.error("%s, so that providers cannot be asked: %s · said once", what, cure)


SHORT_OF: Mapping[int | None, tuple[str, str]] = {
    errno.EMFILE: (
        "this process has no file descriptor left",
        "raise `ulimit -n` (systemd: LimitNOFILE), or lower limits.connections",
    ),
    errno.ENFILE: ("this machine has no file descriptor left", "raise fs.file-max, or look who holds them"),
    errno.ENOMEM: ("this machine has no memory left", "lower limits.body_bytes and limits.max_streams, or add memory"),
    errno.ENOBUFS: ("the network has no buffers left", "lower limits.max_streams, or give the kernel's sockets more"),
    errno.EADDRNOTAVAIL: (
        "this machine has no local address or port left for the connection",
        "widen net.ipv4.ip_local_port_range; where it is so from the start, the address of base_url is not here",
    ),
}
"""Errors of our own, by number: what is gone, and the cure."""


def defect() -> RequestError:
    """The error of a defect of ours, of which a client learns no more; whoever makes it has logged the place."""
    return RequestError("internal_error", "a defect of routerpool; its log names the place")
