"""The chat-completions format of answers: what an event or a body says, error objects and usage in every spelling.

Pure functions over parsed JSON; nothing here knows a network, a provider or a policy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from routerpool.errors import RequestError
from routerpool.types import Opening, Usage

__all__ = [
    "Delta",
    "ErrorText",
    "TooManyValuesError",
    "answer_opening",
    "delta_of",
    "dumps",
    "error_event",
    "event_bytes",
    "join_opening",
    "loads",
    "read_error",
    "read_usage",
]

dumps = orjson.dumps


LONG_BYTES = 1 << 20
MOST_VALUES = 1_000_000
"""The most values in one document; an answer with the 20 likeliest of 6,000 tokens has as many."""
TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class TooManyValuesError(ValueError):
    """A document that would take many times its own size in memory."""


def loads(data: bytes | bytearray, most: int = MOST_VALUES) -> Any:
    """Parse JSON; every kind of rubbish (depth, encodings, NaN, cut text) is one ValueError.

    So are more than `most` values in a long document: ten million empty lists are 30 MB, and a gigabyte once parsed.
    """
    if len(data) > LONG_BYTES and _crowded(data, most):
        raise TooManyValuesError(f"more than {most:,} values")
    return orjson.loads(data)


def _crowded(data: bytes | bytearray, most: int) -> bool:
    """Whether a document holds more values, told by its commas and opening brackets, without those in texts."""
    values = _signs(data, 0, len(data))
    for number, text in enumerate(TEXT.finditer(data)):
        if values <= most:
            return False
        if number > 2 * most:  # each is a value or its name
            return True
        values -= _signs(data, *text.span())
    return values > most


def _signs(data: bytes | bytearray, start: int, end: int) -> int:
    return data.count(b",", start, end) + data.count(b"[", start, end) + data.count(b"{", start, end)


def event_bytes(event: Mapping[str, Any]) -> bytes:
    """One event as it goes over the wire."""
    return b"data: " + dumps(event) + b"\n\n"


def error_event(error: RequestError) -> bytes:
    """The event that ends a broken stream: an error object, and no terminal marker behind it."""
    return event_bytes(error.body())


class Delta(NamedTuple):
    """What one chunk adds: text, reasoning, tool calls, and the finish reason once it is known."""

    text: str
    reasoning: str
    tool_calls: Sequence[Mapping[str, Any]]
    finish_reason: str | None
    other: bool

    @property
    def meaningful(self) -> bool:
        """Whether a person or a program would call this the beginning of an answer."""
        return bool(self.text or self.reasoning or self.tool_calls or self.other)


def delta_of(event: Any) -> Delta | None:
    """What a parsed `chat.completion.chunk` adds; None when it is not shaped like one."""
    choices = event.get("choices") if isinstance(event, dict) else None
    if not isinstance(choices, list):
        return None
    text, reasoning, finish, other = "", "", None, False
    calls: list[Mapping[str, Any]] = []
    for choice in choices:
        if not isinstance(choice, dict):
            return None
        finish = choice.get("finish_reason") or finish
        part = _part(choice.get("delta") or {})
        if part is None:
            return None
        text, reasoning, other = text + part.text, reasoning + part.reasoning, other or part.other
        calls += part.tool_calls
    return Delta(text, reasoning, calls, finish if isinstance(finish, str) else None, other)


def _part(message: Any) -> Delta | None:
    """The meaning of a `delta` or a `message`; both have one shape."""
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, list):  # parts, as Magistral sends them: thinking beside text
        text = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
        other = bool(content) and not text
    else:
        text, other = content if isinstance(content, str) else "", False
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    given = message.get("tool_calls")
    calls = given if isinstance(given, (list, tuple)) else ()
    if message.get("function_call"):
        calls = [*calls, {"type": "function", "function": message["function_call"]}]
    other = bool(other or message.get("refusal") or message.get("audio") or message.get("reasoning_details"))
    return Delta(
        text,
        reasoning if isinstance(reasoning, str) else "",
        calls,
        None,
        other,
    )


def answer_opening(body: Any) -> tuple[Opening, bool] | None:
    """A whole plain answer for the judges, and whether it says anything; None when it is not shaped like one."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    part = _part(choices[0].get("message"))
    if part is None:
        return None
    finish = choices[0].get("finish_reason")
    opening = Opening(
        text=part.text,
        reasoning=part.reasoning,
        tool_calls=tuple(part.tool_calls),
        finish_reason=finish if isinstance(finish, str) else None,
        complete=True,
        body=body,
    )
    return opening, part.meaningful


def join_opening(deltas: Sequence[Delta], *, complete: bool) -> Opening:
    """What the chunks so far add up to, for the judges; fragments of one tool call are put together by index."""
    calls: dict[Any, dict[str, Any]] = {}
    for delta in deltas:
        for fragment in delta.tool_calls:
            if not isinstance(fragment, dict):
                continue
            function = fragment.get("function")
            function = function if isinstance(function, dict) else {}
            call = calls.setdefault(
                fragment.get("index", 0), {"type": "function", "function": {"name": "", "arguments": ""}}
            )
            if fragment.get("id"):
                call["id"] = fragment["id"]
            for key in ("name", "arguments"):
                if isinstance(function.get(key), str):
                    call["function"][key] += function[key]
    finish = next((delta.finish_reason for delta in reversed(deltas) if delta.finish_reason), None)
    return Opening(
        text="".join(delta.text for delta in deltas),
        reasoning="".join(delta.reasoning for delta in deltas),
        tool_calls=tuple(calls.values()),
        finish_reason=finish,
        complete=complete,
    )


class ErrorText(NamedTuple):
    """A provider's error in its own words: a status it names inside the body, its code and type, and its text."""

    status: int | None
    code: str
    text: str


def read_error(body: Any) -> ErrorText | None:
    """The error inside a parsed body, whichever wrapping it wears; None when the body holds none."""
    if isinstance(body, list) and body:  # Gemini wraps its error object in a list
        body = body[0]
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if not error and "errors" in body and isinstance(body["errors"], list) and body["errors"]:  # Cloudflare
        error = body["errors"][0]
    if not error and "choices" not in body and ("detail" in body or "title" in body):  # problem documents
        error = {"message": body.get("detail") or body.get("title"), "code": body.get("status")}
    if not error:
        return None
    if not isinstance(error, dict):
        return ErrorText(None, "", str(error))
    code = error.get("code")
    number = code if isinstance(code, int) and not isinstance(code, bool) else None
    names = [str(value) for value in (code, error.get("type"), error.get("status")) if value and value is not True]
    return ErrorText(number, " ".join(names), str(error.get("message") or ""))


def read_usage(body: Any) -> Usage | None:
    """The usage that an answer or an event reports, in any of the spellings; None when it reports none.

    OpenAI's `prompt_tokens` counts cached tokens in, Anthropic's `input_tokens` leaves cached and written ones out.
    """
    raw = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(raw, dict) and isinstance(body, dict) and isinstance(body.get("x_groq"), dict):
        raw = body["x_groq"].get("usage")
    if not isinstance(raw, dict):
        return None
    details = raw.get("prompt_tokens_details") or raw.get("input_tokens_details")
    details = details if isinstance(details, dict) else {}
    spent = raw.get("completion_tokens_details") or raw.get("output_tokens_details")
    spent = spent if isinstance(spent, dict) else {}
    written = _count(raw, "cache_creation_input_tokens") or _count(details, "cache_write_tokens")
    cached = (
        _count(details, "cached_tokens")
        or _count(raw, "prompt_cache_hit_tokens")
        or _count(raw, "cache_read_input_tokens")
    )
    if "prompt_tokens" in raw:
        uncached = max(_count(raw, "prompt_tokens") - cached - written, 0)
    elif "input_tokens_details" in raw:
        uncached = max(_count(raw, "input_tokens") - cached - written, 0)
    elif "input_tokens" in raw:
        uncached = _count(raw, "input_tokens")
    else:
        return None
    return Usage(
        input_uncached=uncached,
        input_cached=cached,
        cache_write=written,
        output=_count(raw, "completion_tokens") or _count(raw, "output_tokens"),
        reasoning=_count(spent, "reasoning_tokens"),
        source="reported",
    )


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if type(value) is int and value > 0 else 0
