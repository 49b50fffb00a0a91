"""JSON as it goes over the wire: parsed within bounds, written, and put into events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["TooManyValuesError", "dumps", "event_bytes", "loads"]

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
