"""The one stream state machine: bytes of a provider's chat-completions stream in, whole events for the client out.

It reads nothing and writes nothing itself, so that every way of cutting a stream can be tested by calling it.

    HELD ──first meaningful event──▶ READY ──open()──▶ OPEN ──terminal marker──▶ DONE
      └── error, rubbish, silence: FAILED (another candidate may answer)   └── the same: BROKEN (there is no way back)
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from routerpool.types import Failure, FailureKind, Opening, Usage
from routerpool.wire.answers import Delta, answer_of, delta_of, says, whole_opening
from routerpool.wire.bodies import gathered, unfold
from routerpool.wire.choices import Choices, arguments_size, fragments_size
from routerpool.wire.errors import read_error
from routerpool.wire.json import EVENT_VALUES, event_bytes, loads, loads_answer
from routerpool.wire.mask import Mask
from routerpool.wire.sse import Cutter, event_data, in_one_line, name_of, split_events
from routerpool.wire.template import Template
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

MAY_BE_EMPTY = frozenset({"length", "content_filter"})
"""Finish reasons that explain why there is no answer."""

TEMPLATES = 3
"""How many templates are tried on one stream; a provider that changes more than the text with each chunk has none."""


class Stream:
    """One upstream stream. `failure` tells why it is FAILED or BROKEN; `usage` and `finish_reason` what it said.

    `strip_usage` drops the usage chunk that the client did not ask for. `may_be_empty` lets an answer without any
    content through: the client capped it at a few tokens. `limit` bounds one event in bytes, `hold_limit` all that is
    held before the stream is opened; `most_text` ends a stream that never ends: so many characters of text and
    arguments, thoughts aside. `choices` are those that were asked for. `explain` makes a Failure of the data of an
    error event. It is `finished` once every choice has its finish reason: then any end is a good one; and `settled`
    where no words came with the last of these, or after it.
    """

    __slots__ = (
        *("_choices", "_complete", "_cutter", "_done", "_explain", "_held", "_held_size", "_hold_limit", "_mask"),
        *("_may_be_empty", "_most_text", "_name", "_overhead", "_strip_usage", "_template", "_templates", "_text"),
        *("bytes_out", "events", "failure", "finish_reason", "finished", "progress", "settled", "state", "usage"),
    )

    def __init__(
        self,
        name: str,
        explain: Callable[[bytes], Failure],
        *,
        strip_usage: bool = True,
        may_be_empty: bool = False,
        limit: int = 32 << 20,
        hold_limit: int = 32 << 20,
        most_text: int | None = None,
        choices: int = 1,
        mask: Mask | None = None,
    ) -> None:
        self._name = name
        self._mask = mask
        self._explain = explain
        self._strip_usage = strip_usage
        self._may_be_empty = may_be_empty
        self._cutter = Cutter(limit)
        self._hold_limit = hold_limit
        self._most_text = most_text or 1 << 62
        self._choices = Choices(choices)
        self._text = 0
        self._held: list[bytes] = []
        self._held_size = 0
        self._done = self._complete = False
        self._overhead = 0
        self._template: Template | None = None
        self._templates = 0
        self.state = State.HELD
        self.failure: Failure | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.finished = self.settled = self.progress = False
        self.events = self.bytes_out = 0

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
            end, number, size = self._template.run(data)
            if end == len(data) and (self._mask is None or self._mask.key not in data):
                self._count(number, size or -1)
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
        if self.finished and not _readable(rest):  # cut in the middle of what may follow an answer
            rest = b""
        out = self._take(_masked(rest, self._mask)) if rest else b""
        if self.over:
            return out
        if not self._done and not self.finished:
            kind = FailureKind.EMPTY if self.state is State.HELD else FailureKind.INTERRUPTED
            self._fail(kind, "the stream ended without its terminal marker")
        elif self.state is State.OPEN:
            self.state = State.DONE
        elif self.state is State.READY or self._may_be_empty or MAY_BE_EMPTY & set(self._choices.reasons.values()):
            self.state = State.READY
            self._complete = True
        else:
            self._fail(FailureKind.EMPTY, "the stream ended without an answer")
        return out

    def opening(self, *, complete: bool = False) -> Opening:
        """What the judges get to see: what the events that are held add up to."""
        held = split_events(b"".join(self._held))
        chunks = [loads_answer(data, EVENT_VALUES) for each in held if (data := event_data(each))]
        return whole_opening(answer_of(gathered(chunks)), complete=complete)

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
                place, number, size = self._template.run(block, place)
                if number:
                    self._count(number, size or -1)
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
            if event:
                self._pass(self._event(event), out)
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
            return
        self._held.append(piece)
        self._held_size += len(piece)
        if self._held_size > self._hold_limit:
            self._fail(FailureKind.SERVER, "too much came before the answer began")

    def _glance(self, event: bytes) -> bool:
        """Whether this is a chunk that is passed on as it is: the common way, and the fast one."""
        try:
            size = _look(loads(event[6:], EVENT_VALUES), self._choices)
        except ValueError:
            return False
        if size is None:
            return False
        if size > 0 and self._templates < TEMPLATES:
            self._templates += 1
            self._template = Template.of(event)
        self._count(1, size)
        return True

    def _count(self, number: int, size: int) -> None:
        """Take note of chunks that are passed on, and of how much text they bring; -1 for none of anything."""
        self.events += number
        if size < 0:
            return
        self.progress = True
        self.settled = False
        self._text += size
        if self._text > self._most_text:
            self._fail(FailureKind.SERVER, "the stream is far longer than the request allows")

    def _event(self, event: bytes) -> bytes:
        """Look at one event; what goes on of it, which is nothing where it is no part of the answer."""
        data = event_data(event)
        if not data:  # without data it is no event, and clients that take it for one fail
            return event if _is_comment(event) else b""
        if data == b"[DONE]":
            if self._choices.blank:
                self._fail(FailureKind.SERVER, "the stream ended with an empty finish reason")
            self._done = not self.over
            return b""
        try:
            parsed: Any = loads_answer(data, EVENT_VALUES)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            self._fail(FailureKind.SERVER, "an event is no JSON object")
        return b"" if self.over else self._object(event, data, parsed)

    def _object(self, event: bytes, data: bytes, parsed: Any) -> bytes:
        """Take one event's JSON object; what goes on of it."""
        of_its_own = "choices" not in parsed and name_of(event) not in (b"", b"error")
        if parsed.get("error") if of_its_own else read_error(parsed) is not None:
            self.broken(self._explain(data))
            return b""
        self.usage = read_usage(parsed) or self.usage
        if _whole(parsed):
            return b"".join([self._event(piece) for piece in split_events(_masked(unfold(parsed), self._mask))])
        self.events += 1
        delta = delta_of(parsed)
        if not parsed.get("choices") and parsed.get("usage"):
            if self._strip_usage:
                return b""
            if delta is None:  # clients go through the choices even where there are none
                return _masked(event_bytes({**parsed, "choices": []}), self._mask)
        if delta is not None and self._chunk(parsed, delta, len(event)):
            return _masked(event_bytes(parsed), self._mask)
        return in_one_line(event, data) if b"\n" in data else event

    def _chunk(self, parsed: Any, delta: Delta, weight: int) -> bool:
        """Take what a chunk says; whether it had to be changed."""
        changed = self._choices.take(parsed["choices"])
        self.finished = self._choices.finished
        self.finish_reason = delta.finish_reason or self.finish_reason
        if delta.meaningful or delta.finish_reason:
            self._count(0, len(delta.text) + arguments_size(delta.tool_calls))
        self.settled = self.finished and not delta.meaningful
        if self.state is State.HELD and delta.meaningful:
            self.state = State.READY  # and what an event weighs beside its text is known, to estimate tokens by
            self._overhead = max(weight - len(delta.text) - len(delta.reasoning), 0)
        return changed

    def _fail(self, kind: FailureKind, what: str) -> None:
        self.broken(Failure(kind=kind, message=f"{self._name}: {what}"))


def _masked(block: bytes, mask: Mask | None) -> bytes:
    """Whole events without the provider's key, comments included: one search for them all."""
    return block if mask is None or mask.key not in block else mask.without(block)


def _look(event: Any, seen: Choices) -> int | None:
    """How many characters of text a chunk brings; -1 when it brings nothing, None when it wants a closer look."""
    if "error" in event or "errors" in event or "x_groq" in event or event.get("usage"):
        return None
    choices = event.get("choices")
    if type(choices) is not list:
        return None
    size = -1
    for choice in choices:
        if type(choice) is not dict or "error" in choice or "usage" in choice:
            return None
        finish, delta = choice.get("finish_reason"), choice.get("delta")
        if type(delta) is not dict or (finish is not None and (finish != "" or not seen.blank)):
            return None
        for name, value in delta.items():
            if not value or name == "role":
                continue
            more: int | None = 0
            if type(value) is str:
                more = len(value) if name == "content" else 0
            elif name == "tool_calls":
                more = None if seen.mending else fragments_size(value)
            elif not says(value):
                continue
            if more is None:
                return None
            size = more if size < 0 else size + more
    return size


def _whole(event: Any) -> bool:
    """Whether an event is no chunk but a whole answer."""
    choices = event.get("choices")
    return isinstance(choices, list) and choices != [] and all(_is_whole(choice) for choice in choices)


def _is_whole(choice: Any) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict) and not choice.get("delta")


def _readable(rest: bytes) -> bool:
    """Whether what is left at the end is an event."""
    data = event_data(rest) or b"[DONE]"
    try:
        return data == b"[DONE]" or isinstance(loads_answer(data), dict)
    except ValueError:
        return False


def _is_comment(event: bytes) -> bool:
    """Whether there are comments in it and nothing else; those of one line come in great numbers."""
    if event.startswith(b":") and event.find(b"\n") == len(event) - 2:
        return True
    return all(line[:1] in (b":", b"") for line in event.split(b"\n"))
