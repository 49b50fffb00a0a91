"""Chunks that differ in nothing but their text are compared, and never parsed."""

from __future__ import annotations

from itertools import takewhile

from routerpool.wire.json import loads

__all__ = ["Template"]

CONTENT_MARK = b'"content":"'
RUN = 64
"""Chunks that are compared at once: where one of them wants a closer look, the others after it are looked at again."""


class Template:
    """A chunk with a hole where its text stands: what fits it need not be parsed to be known.

    Most providers' chunks differ from each other in nothing but `choices[0].delta.content`.

    What it saves: a streamed event took 11.9 µs of CPU with it and 13.4 µs without, side by side in one run on a busy
    machine; without it an event was over 1.2 times that of a bare proxy.
    """

    __slots__ = ("_head", "_length", "_tail")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._head = head
        self._length = len(head)
        self._tail = tail

    @classmethod
    def of(cls, event: bytes) -> Template | None:
        """The template of a chunk that is passed on as it is, if its text is where it is expected, and only there."""
        start = event.find(CONTENT_MARK) + len(CONTENT_MARK)
        end = event.find(b'"', start)
        if start < len(CONTENT_MARK) or end < 0 or not event.endswith(b"}\n\n") or b"\n" in event[:-2]:
            return None
        template = cls(event[:start], event[end:])
        try:
            filled = loads(template._head[6:] + b"x" + template._tail)
            alone = len(filled["choices"]) == 1 and filled["choices"][0]["delta"]["content"] == "x"
        except (ValueError, LookupError, TypeError):
            return None
        return template if alone else None

    def run(self, data: bytes, place: int = 0) -> tuple[int, int, int]:
        """How far from `place` whole chunks go that all fit, how many they are, and how many bytes of text they bring.

        Whatever takes a closer look is left to the parser: escapes, quotes, control characters, broken UTF-8.
        """
        head, tail, length, after = self._head, self._tail, self._length, len(self._tail)
        ends = [place]
        texts: list[bytes] = []
        while len(texts) < RUN and data.startswith(head, ends[-1]):
            start = ends[-1] + length
            end = data.find(b"\n\n", start) + 2
            if end < start + after or not data.endswith(tail, start, end):
                break
            texts.append(data[start : end - after])
            ends.append(end)
        if texts and not _plain(b"".join(texts)):
            texts = list(takewhile(_plain, texts))
        number = len(texts)
        return ends[number], number, ends[number] - place - number * (length + after)


def _plain(text: bytes) -> bool:
    """Whether this may stand in a JSON string as it is, and means just itself there."""
    try:
        decoded = text.decode()
    except ValueError:
        return False
    return '"' not in decoded and "\\" not in decoded and (decoded.isprintable() or not decoded)
