"""Server-sent events as bytes: cut anywhere, any line end, one block of whole events at a time."""

from __future__ import annotations

__all__ = ["DONE", "MARK", "Cutter", "event_data", "in_one_line", "name_of", "split_events"]

DONE = b"data: [DONE]\n\n"
"""The terminal marker of a chat-completions stream."""


MARK = b"\xef\xbb\xbf"
"""UTF-8's byte order mark."""


class Cutter:
    r"""Cuts a byte stream into whole SSE events, whichever line ends it uses and wherever it is split.

    Line ends come out as `\n`; a byte order mark at the start is dropped. `limit` bounds one event in bytes.
    """

    __slots__ = ("_rest", "_skip", "_start", "limit")

    def __init__(self, limit: int = 1 << 20) -> None:
        self.limit = limit
        self._rest = bytearray()
        self._skip = False  # the last chunk ended with \r: a \n at the start of the next belongs to it
        self._start = True

    @property
    def clean(self) -> bool:
        """Whether it holds nothing back: an event that comes now begins at its first byte."""
        return not (self._rest or self._skip or self._start)

    def feed(self, data: bytes) -> bytes:
        """All events that are whole now, as they came, or b"" when none is; a too long one is a ValueError."""
        if self._start and data:
            data = bytes(self._rest) + data
            self._rest.clear()
            if len(data) < len(MARK) and MARK.startswith(data):
                self._rest += data
                return b""
            self._start = False
            data = data.removeprefix(MARK)
        if self._skip or b"\r" in data:
            data = self._normalised(data)
        if not self._rest and data.endswith(b"\n\n"):
            return data
        scanned = max(len(self._rest) - 1, 0)
        self._rest += data
        end = self._rest.rfind(b"\n\n", scanned)
        if end < 0:
            if len(self._rest) > self.limit:
                raise ValueError("an event is longer than its limit")
            return b""
        whole = bytes(self._rest[: end + 2])
        del self._rest[: end + 2]
        return whole

    def _normalised(self, data: bytes) -> bytes:
        if self._skip and data:
            data = data.removeprefix(b"\n")
            self._skip = False
        if data.endswith(b"\r"):
            self._skip = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def end(self) -> bytes:
        """What is left at the end: an event whose closing blank line never came."""
        rest = bytes(self._rest).strip(b"\n")
        self._rest.clear()
        return rest + b"\n\n" if rest else b""


def split_events(block: bytes) -> list[bytes]:
    """The events of a block of whole events, each with its closing blank line."""
    return [event.lstrip(b"\n") + b"\n\n" for event in block.split(b"\n\n") if event.strip(b"\n")]


def name_of(event: bytes) -> bytes:
    """The name of one event; b"" for the usual one, which has none or is called `message`."""
    if event.startswith(b"data:"):  # a name behind the data would count too, but nobody writes one there
        return b""
    names = [line[6:].strip() for line in event.split(b"\n") if line.startswith(b"event:")]
    return names[-1] if names and names[-1] != b"message" else b""


def in_one_line(event: bytes, data: bytes) -> bytes:
    """An event with its data in one line, as most clients read it; between the lines of JSON there is only space."""
    others = [line for line in event.strip(b"\n").split(b"\n") if line != b"data" and not line.startswith(b"data:")]
    return b"\n".join([*others, b"data: " + data.replace(b"\n", b" ")]) + b"\n\n"


def event_data(event: bytes) -> bytes | None:
    """The data of one event, its lines joined; None for a comment or an event without data."""
    if event.startswith(b"data:") and event.find(b"\n") == len(event) - 2:
        return event[5:].strip()
    if event.startswith(b":") and event.find(b"\n") == len(event) - 2:
        return None
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:") or line == b"data"]
    return b"\n".join(lines).strip() if lines else None
