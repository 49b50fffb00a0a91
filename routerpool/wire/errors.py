"""Error objects in every wrapping: what a provider says went wrong, and how ours ends a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from routerpool.errors import RequestError
from routerpool.wire.json import event_bytes

__all__ = ["ErrorText", "error_event", "read_error"]


def error_event(error: RequestError) -> bytes:
    """The event that ends a broken stream: an error object, and no terminal marker behind it."""
    return event_bytes(error.body())


BROKEN_FINISH = frozenset({"error", "network_error", "insufficient_system_resource", "abort"})
"""Finish reasons of answers that broke: OpenRouter's, Zhipu's, DeepSeek's (by their manuals), vLLM's and SGLang's."""


class ErrorText(NamedTuple):
    """A provider's error in its own words: a status it names inside the body, its code and type, and its text."""

    status: int | None
    code: str
    text: str


NAMED_STATUS: Mapping[str, int] = {
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
    "insufficient_quota": 429,
    "billing_error": 402,
    "authentication_error": 401,
    "unauthenticated": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "overloaded_error": 529,
    "unavailable": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
}
"""What names of errors mean as a status, for those that come inside a 200 and give no number."""

BARE_ERROR = frozenset(
    {"message", "code", "type", "param", "status", "statusCode", "status_code", "raw_status_code", "error_code"}
    | {"documentation_url", "id", "request_id", "requestId", "trace_id"}
)
"""The fields of an error without a wrapping; a body with any other beside `message` is something else."""


def read_error(body: Any) -> ErrorText | None:
    """The error inside a parsed body, whichever wrapping it wears; None when the body holds none."""
    if isinstance(body, list) and body:  # Gemini wraps its error object in a list
        body = body[0]
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    error = body.get("error") or (
        _error_of_choices(choices) if choices else "choices" not in body and _unusual_error(body)
    )
    if not error and "errors" in body and isinstance(body["errors"], list) and body["errors"]:  # Cloudflare
        error = body["errors"][0]
    if not error:
        return None
    if not isinstance(error, dict):
        return ErrorText(_status(body), "", str(error))
    inner = error.get("error")
    error = inner if isinstance(inner, dict) and inner else error  # a gateway has wrapped what it got once more
    code = error.get("code")
    names = [str(value) for value in (code, error.get("type"), error.get("status")) if value and value is not True]
    return ErrorText(_status(error, body), " ".join(names), _error_text(error))


def _error_of_choices(choices: Any) -> Any:
    """The error inside a choice, or a finish reason that tells of one."""
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        if choice.get("error"):
            return choice["error"]
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish != "stop" and finish.lower() in BROKEN_FINISH:
            return {"message": "it gave up in the middle of its answer"}
    return None


def _unusual_error(body: Mapping[str, Any]) -> Any:
    """The error of a body that has none under `error`, nor any answer."""
    response, message = body.get("response"), body.get("message")
    if isinstance(response, dict) and body.get("type") == "response.failed":  # the Responses format
        return response.get("error")
    if "detail" in body or "title" in body:  # problem documents, and FastAPI's short form of them
        detail = body.get("detail")
        return (
            detail if isinstance(detail, dict) else {"message": detail or body.get("title"), "code": body.get("status")}
        )
    if isinstance(message, str) and (body.get("object") == "error" or body.get("type") == "error" or _bare(body)):
        return {name: value for name, value in body.items() if value not in ("error", None)}
    if body.get("success") is False and not body.get("errors"):
        return {"message": message if isinstance(message, str) else "it says that it was no success"}
    return None


def _bare(body: Mapping[str, Any]) -> bool:
    return body.keys() <= BARE_ERROR


def _status(*bodies: Mapping[str, Any]) -> int | None:
    """The status that an error names: as a number, as digits, or by one of the names that all know."""
    for body in bodies:
        for name in ("code", "status", "statusCode", "status_code", "raw_status_code"):
            value = body.get(name)
            if isinstance(value, str) and len(value) == 3 and value.isdecimal():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    for name in ("code", "type", "status"):
        value = bodies[0].get(name)
        if isinstance(value, str) and value.lower() in NAMED_STATUS:
            return NAMED_STATUS[value.lower()]
    return None


def _error_text(error: Mapping[str, Any]) -> str:
    """What it says; OpenRouter keeps the words of the provider behind it in `metadata.raw`."""
    message = error.get("message") or error.get("msg") or ""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{message} {raw}" if raw else str(message)
