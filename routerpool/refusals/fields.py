"""The fields by which error bodies and headers tell when to come back, whatever they are called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

__all__ = ["WaitField", "document_of", "is_reset", "retry_unit", "waits_in"]

MOST_BYTES = 1 << 20
MOST_VALUES = 2000
"""How much of an error body is looked at; one that says more says it in the beginning."""

_not_letters = re.compile(r"[^a-z0-9]")
_units = {"ms": 1e-3, "millis": 1e-3, "milliseconds": 1e-3, "min": 60.0, "mins": 60.0, "minutes": 60.0, "hours": 3600.0}
_unit = "ms|millis|milliseconds|s|secs?|seconds?|mins?|minutes|hours"
_retry = re.compile(
    rf"(?:x|ms|quota|rate|limit|api)*(?:retry|tryagain|wait|backoff|cooldown)"
    rf"(?:after|in|at|delay|time|timestamp|until|for)*(?P<unit>{_unit})?"
).fullmatch
_reset = re.compile(
    rf"(?:x|quota|rate|limit|usage|window|next|time|until|seconds)*(?:resets?|renews?|refresh(?:es)?|available)"
    rf"(?:after|in|at|on|delay|time|timestamp|date|until)*(?P<unit>{_unit})?"
).fullmatch
_names_reset = re.compile(r"(?:x-)?(?:[a-z0-9]+-){0,3}rate-?limit[a-z0-9-]{0,40}-reset(?:-[a-z0-9-]{1,40})?").fullmatch
_names_retry = re.compile(
    r"(?:x-)?(?:[a-z0-9]+-){0,3}retry-after(?:-(?P<unit>ms|milliseconds|s|sec|seconds))?"
).fullmatch


class WaitField(NamedTuple):
    """A field that tells a wait: its name in small letters, its value as text, and the seconds that 1 of it is."""

    name: str
    text: str
    scale: float | None
    """None where the value itself must tell, by its unit or by its size."""
    retry: bool
    """Whether it says when to ask again, and not only when a window ends."""


def is_reset(header: str) -> bool:
    """Whether a header of this name, in small letters, tells when a rate-limit window ends."""
    return _names_reset(header) is not None


def retry_unit(header: str) -> float | None:
    """The seconds that 1 of a header means which says when to ask again; None for any other header."""
    found = _names_retry(header)
    return None if found is None else _units.get(found["unit"] or "", 1.0)


def document_of(body: bytes) -> Any:
    """The JSON of an error body; None where there is none."""
    if len(body) > MOST_BYTES or body.lstrip()[:1] not in (b"{", b"["):
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def waits_in(document: Any) -> Iterator[WaitField]:
    """The fields of a parsed error body that tell a wait, level by level from the outside.

    The end of a window in which something is left is none; headers that a body repeats are read as headers.
    """
    level: list[Any] = [document]
    left = MOST_VALUES
    while level and left > 0:
        below: list[Any] = []
        for value in level[:left]:
            left -= 1
            if isinstance(value, dict):
                told = [field for name, inner in value.items() if (field := _field(name, inner))]
                yield from (field for field in told if field.retry or not _has_some_left(value))
                below += [
                    inner for name, inner in value.items() if name != "headers" and isinstance(inner, dict | list)
                ]
            elif isinstance(value, list):
                below += [inner for inner in value if isinstance(inner, dict | list)]
        level = below


def _has_some_left(window: dict[str, Any]) -> bool:
    left = window.get("remaining")
    return isinstance(left, int | float) and left > 0


def _field(name: str, value: Any) -> WaitField | None:
    if len(name) > 64:
        return None
    bare = _not_letters.sub("", name.lower())
    retry = _retry(bare)
    found = retry or _reset(bare)
    if found is None:
        return None
    scale = _units.get(found["unit"] or "", 1.0 if found["unit"] else None)
    if isinstance(value, dict) and not isinstance(value.get("seconds", True), bool):  # a Duration as an object
        value, scale = _seconds(value), 1.0
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return WaitField(bare, str(value), scale, retry is not None)


def _seconds(duration: dict[str, Any]) -> float | None:
    try:
        return float(duration["seconds"]) + float(duration.get("nanos", 0)) / 1e9
    except (TypeError, ValueError):
        return None
