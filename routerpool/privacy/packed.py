"""The text that base64 in a data URL stands for: text in UTF-8 or UTF-16, gzip of it, or what a PNG says of itself.

Memory and time stay linear in what was sent: what is inflated ends at a multiple of the packed size.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Callable, Iterator

from attrs import field, frozen

__all__ = ["Packed", "inflated", "packed_text"]

PEEK = 1024
"""Bytes at the beginning by which text is told from an image."""

MOST_INFLATED = 32
"""Times its packed size to which a text is inflated; text has about a tenth of this. What is beyond is not seen."""

MOST_BYTES = 64 << 20
"""What one text is inflated to at most, however large it is packed."""

GZIP, PNG = b"\x1f\x8b\x08", b"\x89PNG\r\n\x1a\n"
TEXTUAL = (b"tEXt", b"zTXt", b"iTXt")


@frozen
class Packed:
    """A text out of base64, and how another one is packed in its place."""

    text: str = field(repr=False)
    with_text: Callable[[str], str] = field(repr=False)


def packed_text(encoded: str) -> Packed | None:
    """The text that this base64 stands for; None where it has none, or is no base64."""
    try:
        beginning = _bytes_of(encoded[: PEEK // 4 * 4])
        if beginning.startswith(GZIP):
            return _gzipped(_bytes_of(encoded))
        if beginning.startswith(PNG):
            return _image(_bytes_of(encoded))
        codec = _codec_of(beginning)
        if codec is None:
            return None
        text = _bytes_of(encoded).decode(codec, "surrogateescape" if codec == "utf-8" else "replace")
    except (binascii.Error, ValueError):
        return None
    return Packed(text, lambda told: _base64(told.encode(codec, "surrogateescape" if codec == "utf-8" else "replace")))


def _bytes_of(encoded: str) -> bytes:
    whole = encoded.rstrip("=")
    return base64.b64decode(whole + "=" * (-len(whole) % 4), altchars=b"-_" if "-" in whole or "_" in whole else None)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _codec_of(beginning: bytes) -> str | None:
    """How these bytes are to be read: few of them are such as no text has, or every other one is zero."""
    odd = sum(byte < 9 or 13 < byte < 32 for byte in beginning)
    if beginning and 0 not in beginning and odd * 50 <= len(beginning):
        return "utf-8"
    high, low = beginning[::2].count(0), beginning[1::2].count(0)
    if max(high, low) * 4 <= len(beginning) or min(high, low) * 25 > len(beginning):
        return None
    return "utf-16-be" if high > low else "utf-16-le"


def inflated(packed: bytes, window: int = 31) -> bytes:
    """What was compressed, as far as it can be read and memory allows; `window` is zlib's, of gzip where none is given.

    What comes out is up to 32 times as much, so nobody may inflate what is found in it again: costs would multiply.
    """
    try:
        return zlib.decompressobj(window).decompress(packed, min(MOST_INFLATED * len(packed) + PEEK, MOST_BYTES))
    except zlib.error:
        return b""


def _gzipped(packed: bytes) -> Packed | None:
    data = inflated(packed)
    codec = _codec_of(data[:PEEK])
    if codec is None:
        return None
    text = data.decode(codec, "surrogateescape" if codec == "utf-8" else "replace")
    return Packed(text, lambda told: _base64(gzip.compress(told.encode(codec, "replace"), mtime=0)))


def _image(data: bytes) -> Packed | None:
    """A PNG's own words: title, comment, the settings that made it. In place of changed ones it has none."""
    words = [word for kind, chunk in _chunks(data) if kind in TEXTUAL and (word := _words(kind, chunk[8:-4]))]
    if not words:
        return None

    def without(_: str) -> str:
        return _base64(PNG + b"".join(chunk for kind, chunk in _chunks(data) if kind not in TEXTUAL))

    return Packed("\n".join(words), without)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk of a PNG: its kind, and all of it."""
    at = len(PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at:end]
        at = end


def _words(kind: bytes, content: bytes) -> str:
    key, _, rest = content.partition(b"\0")
    if kind == b"zTXt":
        rest = inflated(rest[1:], 15)
    elif kind == b"iTXt":
        packed, (_, _, text) = rest[:1] == b"\1", (*rest[2:].split(b"\0", 2), b"", b"", b"")[:3]
        rest = inflated(text, 15) if packed else text
    return f"{key.decode('utf-8', 'replace')}: {rest.decode('utf-8', 'replace')}"
