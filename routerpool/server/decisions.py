"""Decisions over HTTP: what `decide` answers, what a host may say to `report`, and the two handlers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from attrs import evolve
from multidict import CIMultiDict

from routerpool.engine.handover import HANDOVER_ENDED, AttemptResult, Handover
from routerpool.errors import RequestError, nearest
from routerpool.http.bodies import HELD
from routerpool.http.responses import json_response
from routerpool.planning.explanation import ranked_rows, veto_rows
from routerpool.server.life import Life
from routerpool.types import Answer, Caller, Candidate, Failure, FailureKind, Outcome
from routerpool.wire.json import dumps, parsed
from routerpool.wire.request import new_id
from routerpool.wire.usage import read_usage

__all__ = ["Decisions"]

WORKER = re.compile("[0-9]{1,4}")
"""How a decision's token names the worker that made it."""

CLAIM_SECONDS = 60.0
"""The longest wait that is taken from a host's word; a request of our own sees for itself then."""

REPORT_KINDS = ("usage", "failure", "answer", "outcome")
REPORT_FIELDS = frozenset({"report_token", "candidate", "first_byte_ms", *REPORT_KINDS})
FAILURE_FIELDS = frozenset({"kind", "status", "headers", "body", "retry_after", "first_byte_sent"})


class Decisions:
    """The handlers of a server for hosts that forward by themselves."""

    def __init__(self, server: Life) -> None:
        self.server = server

    async def decide(self, request: web.Request, caller: Caller) -> web.Response:
        """`POST /v1/router/decide`: whom a host should ask for a chat body that it forwards itself."""
        self.server.open_for_requests()
        generation, request_id = self.server.generation, new_id()
        try:
            body = await self.server.read(request, caller)
            asked = generation.router.request(body, caller, request.headers.items(), request_id=request_id)
            handover = await generation.router.hand_over(asked, claims=True)
            if (held := request.get(HELD)) is not None:  # until it is reported, not until it is answered
                del request[HELD]
                handover.at_end(held.end)
        except RequestError as error:
            error.request_id = request_id
            raise
        return json_response(await decided(handover, self._token(handover)))

    async def report(self, request: web.Request, caller: Caller) -> web.Response:
        """`POST /v1/router/report`: how an attempt went that `decide` has asked for; whom to ask next."""
        server = self.server
        body = await server.read(request, caller)
        if not isinstance(body, dict) or not isinstance(body.get("report_token"), str):
            raise _wrong("report_token", "must be the `report_token` that `decide` has given")
        token, _, worker = body["report_token"].partition("-")
        if server.control is not None and WORKER.fullmatch(worker) and int(worker) != server.control.number:
            answer = await server.control.forward(int(worker), request, dumps(body))
            if answer is not None:
                return answer
        for router in (*server.retiring, server.router):  # a decision ends in the generation in which it was made
            handover = router.handovers.find(token, caller)
            if handover is not None:
                result, first_byte_ms = parse_report(body, handover)
                await router.report(handover, result, first_byte_ms=first_byte_ms)
                return json_response(await reported(handover))
        message = f"no decision of yours with this `report_token` is open: {HANDOVER_ENDED}"
        raise RequestError("not_found", message, param="report_token")

    def _token(self, handover: Handover) -> str:
        """What a report needs, which also names the worker that made the decision: only that one can take it."""
        control = self.server.control
        return handover.token if control is None else f"{handover.token}-{control.number}"


async def decided(handover: Handover, token: str) -> dict[str, Any]:
    """A handed-over plan as JSON values: whom to ask now, the others in order with their terms, and who is ruled out.

    What hangs on the request alone (tokens, session, cost) is `explain`'s to tell; a host that forwards has no time.
    """
    features = handover.features
    return {
        "id": handover.id,
        "report_token": token,
        **(await _turn(handover)),
        "report_within_seconds": handover.seconds,
        "profile": handover.plan.profile,
        "privacy": features.privacy.name.lower(),
        "findings": [{"rule": f.rule, "part": f.part, "redacted": f.redacted} for f in features.findings],
        "ranked": ranked_rows(handover.plan),
        "vetoes": veto_rows(handover.plan),
    }


async def reported(handover: Handover) -> dict[str, Any]:
    """What a report has brought: whom to ask next, or what the client gets."""
    return {"id": handover.id, "over": handover.assignment is None, **(await _turn(handover))}


async def _turn(handover: Handover) -> dict[str, Any]:
    turn: dict[str, Any] = {"candidate": _candidate(handover.candidate)}
    if handover.changed:  # what plugins have taken out of the client's own body must not leave
        turn["body"] = handover.body
    if handover.answer is not None:
        turn["answer"] = await _json(handover.answer)
    if handover.error is not None:
        turn |= handover.error.body()
    return turn


def _candidate(candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    return {"candidate": candidate.key, "provider": candidate.provider, "model": candidate.model.id}


async def _json(answer: Answer) -> Any:
    try:
        return await parsed(answer.body)
    except ValueError:
        return answer.body.decode("utf-8", "replace")


def parse_report(body: Mapping[str, Any], handover: Handover) -> tuple[AttemptResult, float | None]:
    """What was told of the candidate that was handed out, and when the first byte came; else a RequestError."""
    for name in body:
        if name not in REPORT_FIELDS:
            raise _wrong(name, f"is no field of a report{nearest(name, REPORT_FIELDS)}")
    given = [name for name in REPORT_KINDS if body.get(name) is not None]
    if len(given) != 1:
        raise RequestError("invalid_request", f"a report says one of {', '.join(REPORT_KINDS)}")
    if handover.candidate is None:
        raise RequestError("invalid_request", HANDOVER_ENDED)
    if body.get("candidate") not in (None, handover.candidate.key):  # also a report that is sent twice
        raise _wrong("candidate", f"must be the one that was handed out, {handover.candidate.key}, or be left out")
    first = body.get("first_byte_ms")
    if first is not None and (isinstance(first, bool) or not isinstance(first, int | float) or not 0 <= first < 1e9):
        raise _wrong("first_byte_ms", "must be a number of milliseconds")
    way, value = given[0], body[given[0]]
    return _failure(value, handover) if way == "failure" else READERS[way](value), first


def _usage(value: Any) -> AttemptResult:
    usage = read_usage({"usage": value}) if isinstance(value, Mapping) else None
    if usage is None:
        raise _wrong("usage", "must be the usage object of a chat completion")
    return usage


def _answer(value: Any) -> AttemptResult:
    if not isinstance(value, Mapping):
        raise _wrong("answer", "must be the provider's whole answer, an object")
    return Answer(status=200, content_type="application/json", body=dumps(value))


def _outcome(value: Any) -> AttemptResult:
    try:
        return Outcome(value)
    except ValueError:
        raise _wrong("outcome", "must be one of " + ", ".join(Outcome)) from None


def _failure(value: Any, handover: Handover) -> AttemptResult:
    """A failure by its kind, or by the provider's own answer; in our words, since a host's may quote a prompt.

    How long to wait is a claim as well, of which `CLAIM_SECONDS` are believed.
    """
    if not isinstance(value, Mapping) or not FAILURE_FIELDS.issuperset(value):
        raise _wrong("failure", "must be an object with some of " + ", ".join(sorted(FAILURE_FIELDS)))
    sent = value.get("first_byte_sent", False)
    if not isinstance(sent, bool):
        raise _wrong("failure.first_byte_sent", "must be true or false")
    assert handover.assignment is not None  # noqa: S101 - for the type checker: `parse_report` has seen to it
    name, status, kind = handover.assignment.candidate.provider, value.get("status"), value.get("kind")
    if kind is None and not isinstance(status, bool) and isinstance(status, int) and 100 <= status <= 999:
        failure = handover.assignment.failure(status, _headers(value), _text(value))
        return evolve(failure, retry_after=_believed(failure.retry_after), first_byte_sent=sent)
    try:
        kind = FailureKind(str(kind))
    except ValueError:
        raise _wrong("failure", "needs the `status` of the answer, or a `kind` of " + ", ".join(FailureKind)) from None
    wait = value.get("retry_after")
    if wait is not None and (isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait < 1e9):
        raise _wrong("failure.retry_after", "must be a number of seconds")
    message = f"{name}: {kind.value}, as its host says"
    return Failure(kind=kind, message=message, retry_after=_believed(wait), first_byte_sent=sent)


def _believed(wait: float | None) -> float | None:
    return None if wait is None else min(wait, CLAIM_SECONDS)


def _headers(value: Mapping[str, Any]) -> Mapping[str, str]:
    headers = value.get("headers") or {}
    if not isinstance(headers, Mapping) or not all(isinstance(value, str) for value in headers.values()):
        raise _wrong("failure.headers", "must be an object of texts")
    return CIMultiDict(headers)


def _text(value: Mapping[str, Any]) -> bytes:
    body = value.get("body")
    if body is None:
        return b""
    return body.encode("utf-8", "replace") if isinstance(body, str) else dumps(body)


READERS = {"usage": _usage, "answer": _answer, "outcome": _outcome}


def _wrong(name: str, what: str) -> RequestError:
    name = name[:80]  # a client's own, and of any length
    return RequestError("invalid_request", f"`{name}` {what}", param=name)
