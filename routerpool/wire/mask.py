"""A provider's own key in what it says: the one thing that is never passed on as it came."""

from __future__ import annotations

import re

from routerpool.wire.json import dumps, loads

__all__ = ["Mask"]

SHORTEST = 8
"""Characters below which a key is a word like others, and looking for it would tear answers."""

BEFORE = rb"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))"
AFTER = rb"(?![A-Za-z0-9_])"
"""A key counts as a whole only: what stands beside it is no letter or digit, unless it belongs to an escape."""


class Mask:
    """Takes one key out of bytes. `key` is what to search for first: where it is not, there is nothing to take out.

    That is its longest part without a slash, since some servers write slashes as escapes.
    """

    __slots__ = ("_whole", "key")

    def __init__(self, key: str) -> None:
        parts = dumps(key)[1:-1].split(b"/")
        self.key = max(parts, key=len)
        self._whole = re.compile(BEFORE + rb"\\?/".join(map(re.escape, parts)) + AFTER)

    @classmethod
    def of(cls, key: str | None) -> Mask | None:
        """What hides this key; None without one, or for one that is too short to be told from a word."""
        return None if key is None or len(key) < SHORTEST else cls(key)

    def __repr__(self) -> str:
        return "<Mask>"

    def without(self, data: bytes) -> bytes:
        """The same bytes, of JSON or not, with `[key]` where the key was written as it is."""
        return self._whole.sub(b"[key]", data)

    def refusal(self, body: bytes) -> bytes:
        """A short body without the key, in whatever escapes of JSON it was written."""
        if b"\\" in body:
            try:
                plain = dumps(loads(body))
            except (ValueError, TypeError, RecursionError):
                plain = body
            if self._whole.search(plain):
                body = plain
        return self.without(body)
