"""A client's request: a parsed chat-completions body and its headers become a ChatRequest, and say what it needs.

Pure functions; nothing here knows a network, a provider or a policy. What is wrong is a RequestError with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from secrets import token_hex
from typing import Any

from routerpool.errors import RequestError, nearest
from routerpool.types import NO_HINTS, Caller, ChatRequest, Hints, Privacy
from routerpool.wire.json import dumps

__all__ = ["needs_of", "new_id", "parse_chat", "read_hints", "sent_body", "serialised", "session_of"]

DESTINATIONS = frozenset(
    {"api_base", "api_key", "base_url", "custom_llm_provider", "extra_headers", "fallbacks", "mock_response"}
)
"""Body fields by which other proxies let a client choose where a request or a key goes; never accepted here."""

SESSION_HEADERS = (
    "x-session-id",
    "x-session-affinity",
    "x-claude-code-session-id",
    "x-opencode-session",
    "session-id",
    "thread-id",
)
"""Headers in which clients name a conversation, the more telling ones first."""

CAMEL_HINTS: Mapping[str, tuple[str, float | None]] = {
    "allowAsync": ("allow_async", None),
    "taskType": ("task", None),
    "preferredModels": ("preferred", None),
    "forbiddenModels": ("forbidden", None),
    "maxQueueTimeMs": ("max_queue_seconds", 1000.0),
    "maxExecutionTimeMs": ("max_seconds", 1000.0),
    "requireGpuOnly": ("require_gpu_only", None),
}
"""ollama-agent-router's names for our hints, with the divisor that turns their unit into seconds."""


def new_id() -> str:
    """An id for one request, as it stands in headers, errors and records; nobody can foretell the next one."""
    return token_hex(16)


def parse_chat(
    body: Any, *, request_id: str, headers: Iterable[tuple[str, str]] = (), caller: Caller | None = None
) -> ChatRequest:
    """Make a ChatRequest of a parsed chat-completions body; what is wrong with it is a RequestError.

    Fields that we do not know survive in `params`; the `router` object and the `X-Router-*` headers become hints.
    """
    if not isinstance(body, dict):
        raise RequestError("invalid_json", "the body must be a JSON object")
    params = dict(body)
    model = params.pop("model", None) or "auto"
    messages = params.pop("messages", None)
    stream = params.pop("stream", None)
    hints = read_hints(params.pop("router", None), headers)
    if not isinstance(model, str):
        raise RequestError("invalid_request", "`model` must be a string", param="model")
    if not isinstance(messages, list) or not messages:
        raise RequestError("invalid_request", "`messages` must be a list with at least one message", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            where = f"messages[{index}]"
            raise RequestError("invalid_request", f"`{where}` must be an object with a `role`", param=where)
    if stream is not None and stream is not True and stream is not False:
        raise RequestError("invalid_request", "`stream` must be true or false", param="stream")
    if not DESTINATIONS.isdisjoint(params):
        name = next(iter(DESTINATIONS.intersection(params)))
        raise RequestError(
            "invalid_request", f"`{name}` cannot be set by a request; providers come from the config", param=name
        )
    options = params.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise RequestError("invalid_request", "`stream_options` must be an object", param="stream_options")
    return ChatRequest(
        id=request_id,
        model=model,
        messages=messages,
        stream=bool(stream),
        params=params,
        hints=hints,
        caller=caller or NOBODY,
    )


NOBODY = Caller()


def read_hints(router: Any, headers: Iterable[tuple[str, str]] = ()) -> Hints:
    """Hints of the body's `router` object and the client's headers; the object wins, privacy takes the higher."""
    told = [(meaning, value) for name, value in headers if (meaning := _meaning(name)) is not None]
    if router is None and not told:
        return NO_HINTS
    values = _header_hints(told)
    if router is not None:
        if not isinstance(router, dict):
            raise RequestError("invalid_request", "`router` must be an object", param="router")
        for name, value in router.items():
            key, divisor = CAMEL_HINTS.get(name, (name, None))
            parsed = _hint(key, value, f"router.{name}", divisor)
            if key != "privacy":
                values[key] = parsed
            elif parsed is not None:
                values[key] = max(parsed, values.get(key) or parsed)
    return Hints(**values)


@lru_cache(maxsize=512)  # clients send the same few headers over and over
def _meaning(name: str) -> str | None:
    """The hint that a header gives, `session:` and its name for a session's id, or None for all others."""
    lower = name.lower()
    if lower.startswith("x-router-"):
        return lower[9:].replace("-", "_")
    return f"session:{lower}" if lower in SESSION_HEADERS else None


def _header_hints(told: Iterable[tuple[str, str]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    sessions: dict[str, str] = {}
    for meaning, value in told:
        if meaning.startswith("session:"):
            sessions[meaning] = value
            continue
        parsed = _hint(meaning, value, f"X-Router-{meaning.replace('_', '-').title()}")
        if meaning == "privacy":  # sent twice: a proxy on the way may have added the higher one
            parsed = max(parsed, values.get(meaning) or parsed)
        values[meaning] = parsed
    if sessions:
        values.setdefault(
            "session", next(sessions[f"session:{n}"] for n in SESSION_HEADERS if f"session:{n}" in sessions)
        )
    return values


def _hint(name: str, value: Any, place: str, divisor: float | None = None) -> Any:
    reader = HINTS.get(name)
    if reader is None:
        known = nearest(name, HINTS) or " (known are " + ", ".join(HINTS) + ")"
        raise RequestError("invalid_request", f"`{place}` is no hint we know{known}", param=place)
    try:
        return reader(value) if divisor is None or value is None else reader(_number(value) / divisor)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        expected = EXPECTED.get(reader, "has the wrong shape")
        raise RequestError("invalid_request", f"`{place}` {expected}", param=place) from error


def _privacy(value: Any) -> Privacy | None:
    return None if value is None else Privacy[value.upper()]


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value or None


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError
    return tuple(name for name in value if name)


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    seconds = _number(value)
    if not 0 <= seconds < 1e7:
        raise ValueError
    return seconds


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    return {True: True, False: False, "true": True, "false": False, "1": True, "0": False}[value]


def _priority(value: Any) -> str:
    return {"low": "low", "normal": "normal", "high": "high"}[value]


def _mode(value: Any) -> str:
    return {"auto": "auto", "sync": "sync", "async": "async"}[value]


HINTS: Mapping[str, Callable[[Any], Any]] = {
    "privacy": _privacy,
    "profile": _text,
    "task": _text,
    "preferred": _names,
    "forbidden": _names,
    "priority": _priority,
    "mode": _mode,
    "allow_async": _flag,
    "max_queue_seconds": _seconds,
    "max_seconds": _seconds,
    "require_gpu_only": _flag,
    "session": _text,
}
EXPECTED: Mapping[Callable[[Any], Any], str] = {
    _privacy: "must be public, private, sensitive or secret",
    _text: "must be a text",
    _names: "must be a list of names",
    _priority: "must be low, normal or high",
    _mode: "must be auto, sync or async",
    _flag: "must be true or false",
    _seconds: "must be a number of seconds, not negative",
}


def needs_of(request: ChatRequest) -> frozenset[str]:
    """The capabilities without which a candidate cannot answer this request."""
    params = request.params
    needs: set[str] = set()
    tools = params.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        needs.add("web_search" if isinstance(kind, str) and kind.startswith("web_search") else "tools")
    if params.get("functions"):
        needs.add("tools")
    if params.get("reasoning_effort") not in (None, "none"):
        needs.add("reasoning")
    response_format = params.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        needs.add("json_schema")
    for message in request.messages:
        if message.get("tool_calls") or message["role"] == "tool":
            needs.add("tools")
        content = message.get("content")
        if isinstance(content, list):
            for part in content:
                kind = part.get("type") if isinstance(part, dict) else None
                if isinstance(kind, str) and kind in PART_NEEDS:
                    needs.add(PART_NEEDS[kind])
    return frozenset(needs) if needs else NO_NEEDS


NO_NEEDS: frozenset[str] = frozenset()
PART_NEEDS: Mapping[Any, str] = {
    "image_url": "vision",
    "input_image": "vision",
    "input_audio": "audio",
    "file": "files",
}


TELLING = 1024
"""Characters of a message that tell one conversation from another, together with its length."""


def session_of(request: ChatRequest) -> str:
    """A hash that groups the turns of one conversation, kept apart by caller.

    It is made of the client's own session id if it names one, else of the system text and the first user message.
    """
    parts = [request.caller.id.encode()]
    if request.hints.session:
        parts += [b"id", request.hints.session.encode("utf-8", "replace")]
        return blake2b(b"\0".join(parts), digest_size=12).hexdigest()
    for message in request.messages:
        role, content = message["role"], message.get("content")
        text = content if isinstance(content, str) else _written(content)
        parts.append(f"{role}\0{len(text)}\0{text[:TELLING]}".encode("utf-8", "replace"))
        if role == "user":
            break
    return blake2b(b"\0".join(parts), digest_size=12).hexdigest()


def _written(value: Any) -> str:
    try:
        return dumps(value).decode()
    except TypeError:  # nested too deeply to be sent, which `serialised` tells
        return ""


def serialised(value: Any) -> bytes:
    """What a client sent as JSON again; nested deeper than can be sent on is the client's fault and nobody else's."""
    try:
        return dumps(value)
    except TypeError:
        raise RequestError("invalid_request", "the body is nested too deeply") from None


def sent_body(request: ChatRequest, model: str) -> dict[str, Any]:
    """The body to send for `model`; a stream always asks for usage, whatever the client asked."""
    body = {**request.params, "model": model, "messages": request.messages}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {**(request.params.get("stream_options") or {}), "include_usage": True}
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)
    return body
