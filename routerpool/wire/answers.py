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
    error = body.get("error") or ("choices" not in body and _unusual_error(body)) or None
    if error is None and "errors" in body and isinstance(body["errors"], list) and body["errors"]:  # Cloudflare
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


MOST_TOKENS = 1 << 40
"""No answer has as many tokens: a larger number is a defect, and would ruin every sum it joins."""

USD_TICKS = 1e10
"""xAI states what an answer costs in ticks of this part of a dollar."""


def read_usage(body: Any) -> Usage | None:
    """The usage that an answer or an event reports, in any of the spellings; None when it reports none.

    OpenAI's `prompt_tokens` counts cached tokens in, Anthropic's `input_tokens` leaves cached and written ones out.
    A usage without a single token is none: providers fill it with zeros, or with -1, where they do not count.
    """
    if not isinstance(body, dict):
        return None
    raw = body.get("usage")
    if not isinstance(raw, dict):
        if "choices" in body and "x_groq" not in body and "timings" not in body:
            return None
        raw = _usage_elsewhere(body)
        if raw is None:
            return None
    if "prompt_tokens" not in raw:
        return _read_input_tokens(raw)
    prompt, output = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
    details, spent = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    cached = written = long_written = 0
    cost = None
    if len(raw) > 3 + (details is not None) + (spent is not None):  # more than OpenAI's own fields
        cached, written, long_written = _cache_counts(raw, details)
        cost = _stated_cost(raw)
    elif type(details) is dict:
        cached = _count(details, "cached_tokens")
        written = _count(details, "cache_write_tokens") if "cache_write_tokens" in details else 0
    if not cached and "timings" in body:
        cached = _llamacpp_cached(body["timings"])
    reasoning = _reasoning(spent) if spent else 0
    kept = cached + written + long_written
    total = raw.get("total_tokens")
    if type(total) is int and total > prompt + output:
        prompt, output, reasoning = _completed(prompt, output, reasoning, kept, min(total, MOST_TOKENS))
    if not (prompt or output):
        return None
    return Usage(
        input_uncached=prompt - kept if prompt > kept else 0,
        input_cached=cached,
        cache_write=written,
        cache_write_1h=long_written,
        output=output,
        reasoning=reasoning,
        cost=cost,
        source="reported",
    )


def _completed(prompt: int, output: int, reasoning: int, kept: int, total: int) -> tuple[int, int, int]:
    """Prompt, output and reasoning, where the total is more than the first two: something is not in either."""
    over = total - prompt - output
    if not prompt:
        return over, output, reasoning
    if not output:
        return prompt, over, reasoning
    if over == kept:  # a translator of Anthropic's format, whose prompt leaves out what the cache had or got
        return prompt + kept, output, reasoning
    if not reasoning or over == reasoning:  # Gemini and xAI leave the reasoning out of the output, and bill it as such
        return prompt, output + over, over
    return prompt, output, reasoning


def _read_input_tokens(raw: Mapping[str, Any]) -> Usage | None:
    """The usage of Anthropic's Messages and of OpenAI's Responses, whose names are alike and mean different things."""
    prompt, output = _count(raw, "input_tokens"), _count(raw, "output_tokens")
    details = raw.get("input_tokens_details")
    cached, written, long_written = _cache_counts(raw, details)
    if not (prompt or output or cached or written or long_written):
        return None
    kept = cached + written + long_written if isinstance(details, dict) else 0
    return Usage(
        input_uncached=max(prompt - kept, 0),
        input_cached=cached,
        cache_write=written,
        cache_write_1h=long_written,
        output=output,
        reasoning=_reasoning(raw.get("output_tokens_details")),
        cost=_stated_cost(raw),
        source="reported",
    )


def _usage_elsewhere(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The usage of a body that has none under `usage`, in one of the known forms."""
    for holder in ("x_groq", "message", "response"):  # Groq; Anthropic's first event; the Responses format's last
        inner = body.get(holder)
        if isinstance(inner, dict) and isinstance(inner.get("usage"), dict):
            found: Mapping[str, Any] = inner["usage"]
            return found
    timings = body.get("timings")
    if isinstance(timings, dict):
        cached = _llamacpp_cached(timings)
        prompt, output = _count(timings, "prompt_n") + cached, _count(timings, "predicted_n")
        details = {"cached_tokens": cached}
        return {"prompt_tokens": prompt, "completion_tokens": output, "prompt_tokens_details": details, "timings": 1}
    if "eval_count" in body or "prompt_eval_count" in body:  # Ollama's own format
        return {"prompt_tokens": body.get("prompt_eval_count"), "completion_tokens": body.get("eval_count")}
    return None


def _cache_counts(raw: Mapping[str, Any], details: Any) -> tuple[int, int, int]:
    """Tokens read from a cache, written to one for five minutes, and written for an hour."""
    details = details if isinstance(details, dict) else {}
    cached = (
        _count(details, "cached_tokens")
        or _count(raw, "prompt_cache_hit_tokens")
        or _count(raw, "cache_read_input_tokens")
        or _count(raw, "cached_tokens")
    )
    written = _count(raw, "cache_creation_input_tokens") or _count(details, "cache_write_tokens")
    by_time = raw.get("cache_creation")
    if not isinstance(by_time, dict):
        return cached, written, 0
    hour = _count(by_time, "ephemeral_1h_input_tokens")
    short = _count(by_time, "ephemeral_5m_input_tokens")
    return cached, max(written - hour, short), hour


def _reasoning(details: Any) -> int:
    if not isinstance(details, dict):
        return 0
    return _count(details, "reasoning_tokens") or _count(details, "thinking_tokens")


def _llamacpp_cached(timings: Any) -> int:
    return _count(timings, "cache_n") if isinstance(timings, dict) else 0


def _stated_cost(raw: Mapping[str, Any]) -> float | None:
    """What the provider says that it takes, in US dollars; with a key of the user's own at another provider, both."""
    ticks = raw.get("cost_in_usd_ticks")
    cost = _dollars(raw.get("cost")) if ticks is None else _dollars(ticks, USD_TICKS)
    details = raw.get("cost_details")
    if cost is not None and raw.get("is_byok") is True and isinstance(details, dict):
        cost += _dollars(details.get("upstream_inference_cost")) or 0.0
    return cost


def _dollars(value: Any, parts: float = 1.0) -> float | None:
    return value / parts if type(value) in (int, float) and 0 <= value < 1e6 * parts else None


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if type(value) is int and 0 < value < MOST_TOKENS else 0
