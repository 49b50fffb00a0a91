"""The one stream state machine: bytes of a provider's chat-completions stream in, whole events for the client out.

It reads nothing and writes nothing itself, so that every way of cutting a stream can be tested by calling it.

    HELD ──first meaningful event──▶ READY ──open()──▶ OPEN ──terminal marker──▶ DONE
      └── error, rubbish, silence: FAILED (another candidate may answer)   └── the same: BROKEN (there is no way back)
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from itertools import takewhile
from typing import Any

from routerpool.types import Failure, FailureKind, Opening, Usage
from routerpool.wire.answers import delta_of, join_opening
from routerpool.wire.errors import read_error
from routerpool.wire.json import EVENT_VALUES, loads
from routerpool.wire.mask import Mask
from routerpool.wire.sse import Cutter, event_data, split_events
from routerpool.wire.usage import read_usage

__all__ = ["State", "Stream"]


class State(Enum):
    """Where a stream stands; see the picture above."""

    HELD = "held"
    READY = "ready"
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    BROKEN = "broken"


BEGUN = (State.READY, State.OPEN)

CONTENT_MARK = b'"content":"'
TEMPLATES = 3
"""How many templates are tried on one stream; a provider that changes more than the text with each chunk has none."""


class Stream:
    """One upstream stream. `failure` tells why it is FAILED or BROKEN; `usage` and `finish_reason` what it said.

    `strip_usage` drops the usage chunk that the client did not ask for. `may_be_empty` lets an answer without any
    content through: the client capped it at a few tokens. `limit` bounds one event in bytes, `hold_limit` all that is
    held before the stream is opened; `most_events` ends a stream that never ends. `explain` makes a Failure of the
    data of an error event.
    """

    __slots__ = (
        "_complete",
        "_cutter",
        "_done",
        "_explain",
        "_held",
        "_held_size",
        "_hold_limit",
        "_mask",
        "_may_be_empty",
        "_most_events",
        "_name",
        "_overhead",
        "_strip_usage",
        "_template",
        "_templates",
        "bytes_out",
        "events",
        "failure",
        "finish_reason",
        "progress",
        "state",
        "usage",
    )

    def __init__(
        self,
        name: str,
        explain: Callable[[bytes], Failure],
        *,
        strip_usage: bool = True,
        may_be_empty: bool = False,
        limit: int = 1 << 20,
        hold_limit: int = 4 << 20,
        most_events: int | None = None,
        mask: Mask | None = None,
    ) -> None:
        self._name = name
        self._mask = mask
        self._explain = explain
        self._strip_usage = strip_usage
        self._may_be_empty = may_be_empty
        self._cutter = Cutter(limit)
        self._hold_limit = hold_limit
        self._most_events = most_events or 1 << 62
        self._held: list[bytes] = []
        self._held_size = 0
        self._done = False
        self._complete = False
        self._overhead = 0
        self._template: Template | None = None
        self._templates = 0
        self.state = State.HELD
        self.failure: Failure | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.events = 0
        self.bytes_out = 0
        self.progress = False

    @property
    def ended(self) -> bool:
        """Whether the terminal marker has come: what the provider says after it does not count."""
        return self._done

    @property
    def over(self) -> bool:
        """Whether it has failed or broken."""
        return self.failure is not None

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; the events that may go to the client now, in whole.

        `progress` tells afterwards whether there was content among them, which comments and empty chunks are not.
        """
        self.progress = False
        if self._template is not None and self.state is State.OPEN and self._cutter.clean:
            end, number, content = self._template.run(data)
            if end == len(data) and (self._mask is None or self._mask.key not in data):
                self._count(number, content)
                self.bytes_out += end
                return data
        if self._done or self.over:
            return b""
        try:
            block = self._cutter.feed(data)
        except ValueError:
            self._fail(FailureKind.SERVER, "an event is longer than its limit")
            return b""
        return self._take(_masked(block, self._mask)) if block else b""

    def end(self) -> bytes:
        """The provider has closed the stream: what was left goes out, and the state says how it ended."""
        rest = b"" if self._done or self.over else self._cutter.end()
        out = self._take(_masked(rest, self._mask)) if rest else b""
        if self.over:
            return out
        if not self._done and self.finish_reason is None:
            kind = FailureKind.EMPTY if self.state is State.HELD else FailureKind.INTERRUPTED
            self._fail(kind, "the stream ended without its terminal marker")
        elif self.state is State.OPEN:
            self.state = State.DONE
        elif self.state is State.READY or self._may_be_empty or self.finish_reason in ("length", "content_filter"):
            self.state = State.READY
            self._complete = True
        else:
            self._fail(FailureKind.EMPTY, "the stream ended without an answer")
        return out

    def opening(self, *, complete: bool = False) -> Opening:
        """What the judges get to see: what the events that are held add up to."""
        deltas = []
        for event in split_events(b"".join(self._held)):
            data = event_data(event)
            delta = delta_of(loads(data, EVENT_VALUES)) if data is not None else None
            if delta is not None:
                deltas.append(delta)
        return join_opening(deltas, complete=complete)

    def open(self) -> bytes:
        """Let go of what was held; from here on there is no way back."""
        held = b"".join(self._held)
        self._held.clear()
        self.state = State.DONE if self._complete else State.OPEN
        self.bytes_out += len(held)
        return held

    def output_estimate(self) -> int:
        """About how many tokens have come: at least one an event, or a quarter of the characters."""
        text = self.bytes_out - self._overhead * self.events
        return max(self.events - 1, text // 4, 0)

    def broken(self, failure: Failure) -> None:
        """End it from outside: a limit has passed, or the connection broke."""
        if self.failure is None:
            self.failure = failure
            self.state = State.BROKEN if self.state is State.OPEN else State.FAILED

    def _take(self, block: bytes) -> bytes:
        """Go through a block of whole events; runs of plain chunks are taken at a glance and passed on in one piece."""
        out: list[bytes] = []
        start, place, end = 0, 0, len(block)
        while place < end:
            if self._template is not None and self.state in BEGUN:
                place, number, content = self._template.run(block, place)
                if number:
                    self._count(number, content)
                    if self.over:
                        break
                    continue
            blank = block.find(b"\n\n", place)
            stop = blank + 2 if blank >= 0 else end  # behind the last event only blank lines may be left
            if self.state in BEGUN and block.startswith(b"data: {", place) and self._glance(block[place:stop]):
                place = stop
                if self.over:
                    break
                continue
            if start < place:
                self._pass(block[start:place], out)
            event = block[place:stop].lstrip(b"\n")
            start = place = stop
            if event and self._event(event):
                self._pass(event, out)
            if self._done or self.over:
                break
        if start < place:
            self._pass(block[start:place], out)
        joined = out[0] if len(out) == 1 else b"".join(out)
        self.bytes_out += len(joined)
        return joined

    def _pass(self, piece: bytes, out: list[bytes]) -> None:
        if self.state is State.OPEN:
            out.append(piece)
        else:
            self._hold(piece)

    def _glance(self, event: bytes) -> bool:
        """Whether this is a chunk that is passed on as it is: the common way, and the fast one."""
        try:
            content = _content_of(loads(event[6:], EVENT_VALUES))
        except ValueError:
            return False
        if content is None:
            return False
        if content and self._templates < TEMPLATES:
            self._templates += 1
            self._template = Template.of(event)
        self._count(1, content)
        return True

    def _count(self, number: int, content: bool) -> None:
        """Take note of chunks that are passed on as they are."""
        self.progress = self.progress or content
        self.events += number
        if self.events > self._most_events:
            self._fail(FailureKind.SERVER, "the stream is far longer than the request allows")

    def _hold(self, event: bytes) -> None:
        self._held.append(event)
        self._held_size += len(event)
        if self._held_size > self._hold_limit:
            self._fail(FailureKind.SERVER, "too much came before the answer began")

    def _event(self, event: bytes) -> bool:
        """Look at one event; whether it belongs to the answer."""
        data = event_data(event)
        if data is None:
            return True
        if data == b"[DONE]":
            self._done = True
            return False
        try:
            parsed: Any = loads(data, EVENT_VALUES)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            self._fail(FailureKind.SERVER, "an event is no JSON object")
            return False
        if read_error(parsed) is not None:
            self.broken(self._explain(data))
            return False
        self.events += 1
        usage = read_usage(parsed)
        if usage is not None:
            self.usage = usage
        delta = delta_of(parsed)
        if delta is None:
            return True
        self.finish_reason = delta.finish_reason or self.finish_reason
        if delta.meaningful or delta.finish_reason:
            self.progress = True
        if self.state is State.HELD and delta.meaningful:
            self.state = State.READY
            # What an event weighs beside its text, to estimate tokens when the provider reports no usage.
            self._overhead = max(len(event) - len(delta.text) - len(delta.reasoning), 0)
        return not (self._strip_usage and "usage" in parsed and parsed.get("choices") == [])

    def _fail(self, kind: FailureKind, what: str) -> None:
        self.broken(Failure(kind=kind, message=f"{self._name}: {what}"))


RUN = 64
"""Chunks that are compared at once: where one of them wants a closer look, the others after it are looked at again."""


def _masked(block: bytes, mask: Mask | None) -> bytes:
    """Whole events without the provider's key, comments included: one search for them all."""
    return block if mask is None or mask.key not in block else mask.without(block)


class Template:
    """A chunk with a hole where its text stands: what fits it need not be parsed to be known.

    Most providers' chunks differ from each other in nothing but `choices[0].delta.content`.
    """

    __slots__ = ("_head", "_length", "_tail")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._head = head
        self._length = len(head)
        self._tail = tail

    @classmethod
    def of(cls, event: bytes) -> Template | None:
        """The template of a plain chunk, if its text stands where it is expected, and only there."""
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
        return template if alone and _content_of(filled) else None

    def run(self, data: bytes, place: int = 0) -> tuple[int, int, bool]:
        """How far from `place` whole chunks go that all fit, how many they are, and whether they bring any text.

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
        return ends[len(texts)], len(texts), any(texts)


def _plain(text: bytes) -> bool:
    """Whether this may stand in a JSON string as it is, and means just itself there."""
    try:
        decoded = text.decode()
    except ValueError:
        return False
    return '"' not in decoded and "\\" not in decoded and (decoded.isprintable() or not decoded)


def _content_of(event: Any) -> bool | None:
    """Whether a chunk brings anything but its role; None for an event that wants a closer look."""
    if "error" in event or "errors" in event or "x_groq" in event or event.get("usage"):
        return None
    choices = event.get("choices")
    if type(choices) is not list:
        return None
    content = False
    for choice in choices:
        if type(choice) is not dict or choice.get("finish_reason"):
            return None
        delta = choice.get("delta")
        if type(delta) is not dict:
            return None
        content = content or bool(delta.get("content")) or any(delta[name] for name in delta if name != "role")
    return content
