"""JSON as it goes over the wire: parsed within bounds, written, and put into events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson

__all__ = ["TooManyValuesError", "dumps", "event_bytes", "loads", "loads_answer", "loads_request", "off_loop", "parsed"]

T = TypeVar("T")


MOST_VALUES = 1_000_000
"""The most values in one document; an answer with the 20 likeliest of 6,000 tokens has as many."""
EVENT_VALUES = 10_000
"""The most values in one event of a stream, or in an error; one with the 20 likeliest of a token has some hundred."""
LARGE = 256 << 10
"""Bytes from which on a document is worked on in a thread; one below takes the loop a few milliseconds at most."""
PIECE = 256 << 10
"""Bytes that are gone over at once; between two pieces other threads have their turn."""
LENIENT_BYTES = 4 << 20
"""Up to this size a document is read once more by Python's own parser, which takes some 20 ms for as much."""
HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""How a half of a surrogate pair, or a whole pair, is written."""
HALVES = re.compile("[\ud800-\udfff]")


class TooManyValuesError(ValueError):
    """A document that would take many times its own size in memory."""


async def parsed(data: bytes | bytearray, most: int = MOST_VALUES) -> Any:
    """The same as `loads_answer`, in a thread where the document is large."""
    return await off_loop(loads_answer, data, most)


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


def loads_answer(data: bytes | bytearray, most: int = MOST_VALUES) -> Any:
    """Parse what a provider sends: half surrogates, NaN and the infinities are read as Python's own parser reads them.

    A provider that cuts its text by UTF-16 units sends an emoji as two halves in two events, and the client puts them
    together again; `dumps` writes a half as it was. Anything else that is no JSON is a ValueError, as with `loads`.
    """
    try:
        return loads(data, most)
    except TooManyValuesError:
        raise
    except ValueError:
        if not (HALF.search(data) or b"NaN" in data or b"Infinity" in data):
            raise
    return _leniently(data)


def loads_request(data: bytes | bytearray, most: int = MOST_VALUES) -> Any:
    """Parse what a client sends: a half surrogate, where its text was cut in the middle of an emoji, is U+FFFD."""
    try:
        return loads(data, most)
    except TooManyValuesError:
        raise
    except ValueError:
        if not HALF.search(data):
            raise
    return orjson.loads(HALVES.sub("\ufffd", json.dumps(_leniently(data), ensure_ascii=False)))


def _leniently(data: bytes | bytearray) -> Any:
    if len(data) > LENIENT_BYTES:
        raise ValueError("no JSON, and too long to be read leniently")
    try:
        return json.loads(data.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: Any) -> bytes:
    """JSON as bytes; a half surrogate is written as the escape that it came as. What is no JSON is a TypeError."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        if "surrogates" not in str(error):
            raise
        return json.dumps(value, separators=(",", ":")).encode()


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
