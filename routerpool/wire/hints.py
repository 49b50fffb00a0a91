"""Hints: what a client asks of the router itself, in the body's `router` object and in `X-Router-*` headers.

The core's own are the fields of `Hints`; plugins declare theirs as a class attribute, `hints = {"terse": bool}`. What
nobody has declared is refused, with the name that was likely meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal, NoReturn, get_args, get_origin

from routerpool.errors import RequestError, nearest
from routerpool.types import NO_HINTS, Hints, Privacy

__all__ = ["AWAITED", "LONGEST_NAME", "NO_MORE", "HintReader", "given", "hint_readers", "read_hints"]

LONGEST_NAME = 256
"""The most characters of a name that a client gives: of a model, a profile, a task, a session or a hint."""

MOST_NAMES = 64
"""The most names in one hint."""

HintReader = Callable[[Any], Any]
"""Makes a hint's value of what the client wrote; any of the usual errors says that it is none."""

NO_MORE: Mapping[str, HintReader] = MappingProxyType({})
"""The hints of plugins where there are none."""

SESSION_HEADERS = (
    "x-session-id",
    "x-claude-code-session-id",
    "x-opencode-session",
    "x-session-affinity",
    "session-id",
    "session_id",
    "thread-id",
    "conversation_id",
    "x-conversation-id",
    "x-litellm-session-id",
    "x-olla-session-id",
    "x-model-affinity",
)
"""Headers in which clients name a conversation, the more telling ones first; one that is told twice is told alike."""

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


def read_hints(router: Any, headers: Iterable[tuple[str, str]] = (), more: Mapping[str, HintReader] = NO_MORE) -> Hints:
    """Hints of the body's `router` object and the client's headers; the object wins, privacy takes the higher.

    `more` are those that plugins have declared, by name.
    """
    told = [(meaning, value) for name, value in headers if (meaning := _meaning(name)) is not None]
    if router is None and not told:
        return NO_HINTS
    values = _header_hints(told, more)
    if router is not None:
        if not isinstance(router, dict):
            raise RequestError("invalid_request", "`router` must be an object", param="router")
        for name, value in router.items():
            if len(name) > LONGEST_NAME:
                raise RequestError("invalid_request", "`router` has a name that is no hint we know", param="router")
            key, divisor = CAMEL_HINTS.get(name, (name, None))
            parsed = _hint(key, value, f"router.{name}", more, divisor)
            if key != "privacy":
                values[key] = parsed
            elif parsed is not None:
                values[key] = max(parsed, values.get(key) or parsed)
    if more and not more.keys().isdisjoint(values):
        values["more"] = {name: values.pop(name) for name in more.keys() & values.keys()}
    return Hints(**values)


@lru_cache(maxsize=512)  # clients send the same few headers over and over
def _meaning(name: str) -> str | None:
    """The hint that a header gives, `session:` and its name for a session's id, or None for all others."""
    lower = name.lower()
    if lower.startswith("x-router-"):
        return lower[9:].replace("-", "_")
    return f"session:{lower}" if lower in SESSION_HEADERS else None


def _header_hints(told: Iterable[tuple[str, str]], more: Mapping[str, HintReader]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    sessions: dict[str, str] = {}
    for meaning, value in told:
        if meaning.startswith("session:"):
            if sessions.setdefault(meaning, value) != value:
                raise _told_twice(meaning.removeprefix("session:").title())
            continue
        parsed = _hint(meaning, value, f"X-Router-{meaning.replace('_', '-').title()}", more)
        if meaning == "privacy":  # sent twice: a proxy on the way may have added the higher one
            parsed = max(parsed, values.get(meaning) or parsed)
        elif meaning == "session" and values.get(meaning, parsed) != parsed:
            raise _told_twice("X-Router-Session")
        values[meaning] = parsed
    if sessions:
        name = next(name for name in SESSION_HEADERS if f"session:{name}" in sessions)
        values.setdefault("session", _hint("session", sessions[f"session:{name}"], name.title(), more))
    return values


def _told_twice(header: str) -> RequestError:
    """A proxy on the way may keep the first or the last: a conversation's class must not hang on that."""
    message = f"`{header}` names two different sessions; send it once"
    return RequestError("invalid_request", message, param=header)


def _hint(name: str, value: Any, place: str, more: Mapping[str, HintReader], divisor: float | None = None) -> Any:
    reader = HINTS.get(name) or more.get(name)
    if reader is None:
        names = [*HINTS, *more]
        known = nearest(name, names) or "; known are " + ", ".join(names)
        raise RequestError("invalid_request", f"`{place}` is no hint we know{known}", param=place)
    try:
        return reader(value) if divisor is None or value is None else reader(_number(value) / divisor)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        expected = EXPECTED.get(reader) or getattr(reader, "expected", "has the wrong shape")
        raise RequestError("invalid_request", f"`{place}` {expected}", param=place) from error


def _privacy(value: Any) -> Privacy | None:
    return None if value is None else Privacy[value.upper()]


def _text(value: Any) -> str | None:
    if value is not None and not _is_name(value):
        raise TypeError
    return value or None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",", MOST_NAMES)]
    if not isinstance(value, list) or len(value) > MOST_NAMES or not all(map(_is_name, value)):
        raise TypeError
    return tuple(name for name in value if name)


def _candidates(value: Any) -> tuple[str, ...]:
    names = _names(value)
    return names if "*" not in "".join(names) else _never()


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


def _whole(value: Any) -> int:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?[0-9]{1,15}", value) else _never()
    return value if type(value) is int else _never()


def _finite(value: Any) -> float:
    number = _number(value)
    return number if isfinite(number) else _never()


def _never() -> NoReturn:
    raise ValueError


def _priority(value: Any) -> str:
    return {"low": "low", "normal": "normal", "high": "high"}[value]


def _mode(value: Any) -> str:
    return {"auto": "auto", "sync": "sync", "async": "async"}[value]


HINTS: Mapping[str, HintReader] = {
    "privacy": _privacy,
    "profile": _text,
    "task": _text,
    "preferred": _candidates,
    "forbidden": _candidates,
    "priority": _priority,
    "mode": _mode,
    "allow_async": _flag,
    "max_queue_seconds": _seconds,
    "max_seconds": _seconds,
    "require_gpu_only": _flag,
    "session": _text,
}
EXPECTED: Mapping[HintReader, str] = {
    _privacy: "must be public, private, sensitive or secret",
    _text: f"must be a text of at most {LONGEST_NAME} characters",
    _names: f"must be a list of at most {MOST_NAMES} names of at most {LONGEST_NAME} characters",
    _candidates: f"must be a list of at most {MOST_NAMES} names of providers, models or candidates, and no patterns",
    _priority: "must be low, normal or high",
    _mode: "must be auto, sync or async",
    _flag: "must be true or false",
    _seconds: "must be a number of seconds, not negative",
    _whole: "must be a whole number",
    _finite: "must be a number",
}


AWAITED: Mapping[str, Any] = {"mode": "auto", "allow_async": False, "require_gpu_only": False}
"""Hints of the core that only a plugin can honour, with what they are when nobody gives them.

The plugin says so in its class: `honours = ("mode",)`. Until one does, answers name them in `X-Router-Ignored`.
"""


def given(hints: Hints, names: Iterable[str]) -> list[str]:
    """Which of these hints a client has given."""
    return sorted(name for name in names if getattr(hints, name) != AWAITED[name])


def hint_readers(declared: Mapping[str, Any]) -> dict[str, HintReader]:
    """What reads the hints that a plugin declares, by name; a TypeError or ValueError says what it cannot declare.

    A hint is a bool, an int, a float, a str, a tuple[str, ...] or a Literal of texts. As a header it is text:
    `X-Router-Terse: true`, with commas between the items of a list.
    """
    readers: dict[str, HintReader] = {}
    for name, kind in declared.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"a hint is named in small letters, digits and '_', not {name!r}")
        if name in HINTS:
            raise ValueError(f"the hint {name!r} is one of the router's own")
        readers[name] = _reader(kind)
    return readers


def _reader(kind: Any) -> HintReader:
    if get_origin(kind) is Literal and all(isinstance(option, str) for option in get_args(kind)):
        return _OneOf(get_args(kind))
    reader = KINDS.get(kind)
    if reader is None:
        known = "bool, int, float, str, tuple[str, ...] or a Literal of texts"
        raise TypeError(f"a hint is a {known}, not {kind!r}")
    return reader


class _OneOf:
    """Reads one of some texts."""

    def __init__(self, options: tuple[str, ...]) -> None:
        self._options = options
        self.expected = "must be one of " + ", ".join(options)

    def __call__(self, value: Any) -> str:
        if value not in self._options:
            raise ValueError
        return str(value)


KINDS: Mapping[Any, HintReader] = {
    bool: _flag,
    int: _whole,
    float: _finite,
    str: _text,
    tuple[str, ...]: _names,
}
