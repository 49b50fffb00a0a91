"""JSON as it goes over the wire: parsed within bounds, written, and put into events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson

__all__ = ["TooManyValuesError", "dumps", "event_bytes", "loads", "off_loop", "parsed"]

dumps = orjson.dumps

T = TypeVar("T")


MOST_VALUES = 1_000_000
"""The most values in one document; an answer with the 20 likeliest of 6,000 tokens has as many."""
EVENT_VALUES = 10_000
"""The most values in one event of a stream, or in an error; one with the 20 likeliest of a token has some hundred."""
LARGE = 256 << 10
"""Bytes from which on a document is worked on in a thread; one below takes the loop a few milliseconds at most."""
PIECE = 256 << 10
"""Bytes that are gone over at once; between two pieces other threads have their turn."""


class TooManyValuesError(ValueError):
    """A document that would take many times its own size in memory."""


async def parsed(data: bytes | bytearray, most: int = MOST_VALUES) -> Any:
    """The same as `loads`, in a thread where the document is large."""
    return await off_loop(loads, data, most)


async def off_loop(work: Callable[..., T], data: bytes | bytearray, *args: Any) -> T:
    """What `work(data, *args)` makes, in a thread where the data is large: the loop is everybody's."""
    return work(data, *args) if len(data) < LARGE else await asyncio.to_thread(work, data, *args)


def loads(data: bytes | bytearray, most: int = MOST_VALUES) -> Any:
    """Parse JSON; every kind of rubbish (depth, encodings, NaN, cut text) is one ValueError.

    So are more than `most` values: ten million empty lists are 30 MB, and a gigabyte once parsed.
    The time is linear in the length, whatever the bytes are.
    """
    if len(data) > 2 * most and _crowded(data, most):
        raise TooManyValuesError(f"more than {most:,} values")
    return orjson.loads(data)


def _crowded(data: bytes | bytearray, most: int) -> bool:
    """Whether a document holds more values, told by its commas and opening brackets, without those in texts.

    Without its escapes, what stands between every second pair of quotes is text. What is no JSON ends the parser where
    it stops to be so, and up to there the count is right.
    """
    if _signs(data) <= most:
        return False
    values = quotes = 0
    escape = b""
    for start in range(0, len(data), PIECE):
        piece = escape + data[start : start + PIECE]
        escape = b"\\" * ((len(piece) - len(piece.rstrip(b"\\"))) % 2)  # it belongs to what the next piece begins with
        whole = piece[: len(piece) - len(escape)]
        between = whole.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        values += _signs(b" ".join(between[quotes % 2 :: 2]))
        quotes += len(between) - 1
        if values > most or quotes > 4 * most + 4:  # each text is a value or its name
            return True
    return False


def _signs(data: bytes | bytearray) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def event_bytes(event: Mapping[str, Any]) -> bytes:
    """One event as it goes over the wire."""
    return b"data: " + dumps(event) + b"\n\n"
