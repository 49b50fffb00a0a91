"""Stand-ins for what must not be sent, put back into the answer wherever a provider uses them.

A stand-in is `[rule#1]`: it needs no escape in JSON and a model copies it as it is. Chunks of a stream may cut one
anywhere, so its beginning is held back until the rest has come or cannot come any more.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field

__all__ = ["Restorer", "redaction", "standin", "standins_in", "unescaped"]

STANDIN = re.compile(r"\[[\w.-]{0,80}#[0-9]{1,9}\]")
UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)

STREAMED = ("content", "refusal", "reasoning", "reasoning_content")
"""The fields of a delta whose texts are put together by the client."""

CALLED = ("arguments", "name")
"""The same within a tool call's function; the first is JSON, in which a restored text is escaped."""


def standin(rule: str, number: int) -> str:
    """What stands for the text that this rule has found."""
    return f"[{UNSAFE.sub('-', rule)[:80]}#{number}]"


def redaction(rule: str) -> str:
    """What is sent in the place of a text that this rule has found, for good."""
    return f"[REDACTED:{UNSAFE.sub('-', rule)[:80]}]"


def standins_in(text: str) -> Iterable[str]:
    """What looks like a stand-in already, so that no new one is taken for it."""
    return STANDIN.findall(text) if "#" in text else ()


def escaped(text: str) -> str:
    """A text as it stands inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def unescaped(text: str) -> str:
    """What an excerpt of a JSON string stands for; itself where it is none."""
    try:
        meant = json.loads(f'"{text}"', strict=False)
    except ValueError:
        return text
    return meant if isinstance(meant, str) else text


@define
class Channel:
    """One text that comes in pieces: what of it is held back, and how it is put into an event."""

    choice: int
    name: str
    call: int | None = None
    held: str = ""


@define
class Restorer:
    """A `Rewriter` that puts the originals back. `originals` are texts by stand-in."""

    originals: Mapping[str, str] = field(repr=False)
    _held: dict[int, dict[tuple[str, int | None], Channel]] = field(factory=dict, repr=False)
    """By choice, the texts of which something is held back."""
    _last: dict[str, Any] = field(factory=dict, repr=False)
    _names: list[str] = field(init=False, repr=False)
    _longest: int = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._names = sorted(self.originals)
        self._longest = max(map(len, self.originals), default=0)

    # What the core calls

    def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """The event with the originals in it, less what may be the beginning of a stand-in."""
        choices = event.get("choices")
        if not isinstance(choices, list):
            return (event,)
        self._last = event
        for choice in choices:
            if isinstance(choice, dict):
                self._choice(choice)
        return (event,)

    def end(self) -> Iterable[dict[str, Any]]:
        """What is still held back when a stream ends without a finish reason."""
        made = []
        for channels in self._held.values():
            for channel in channels.values():
                delta: dict[str, Any] = {}
                _put((channel,), delta)
                choice = {"index": channel.choice, "delta": delta, "finish_reason": None}
                made.append({**_head(self._last), "choices": [choice]})
        self._held.clear()
        return made

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The plain answer with the originals in it."""
        restored = self._everywhere(body, json_text=False)
        return restored if isinstance(restored, dict) else body

    # Pieces

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        number = choice.get("index")
        number = number if isinstance(number, int) else 0
        if isinstance(delta, dict):
            self._delta(delta, number)
        if choice.get("finish_reason") is not None:
            if not isinstance(delta, dict):
                delta = choice["delta"] = {}
            _put(self._held.pop(number, {}).values(), delta)

    def _delta(self, delta: dict[str, Any], choice: int) -> None:
        for name, value in delta.items():
            if name in STREAMED and isinstance(value, str):
                delta[name] = self._piece(choice, name, None, value)
            elif name == "tool_calls" and isinstance(value, list):
                for position, call in enumerate(value):
                    if isinstance(call, dict) and isinstance(call.get("function"), dict):
                        index = call.get("index")
                        self._function(call["function"], choice, index if isinstance(index, int) else position)
            elif name == "function_call" and isinstance(value, dict):
                self._function(value, choice, -1)
            elif isinstance(value, dict | list):
                delta[name] = self._everywhere(value, json_text=False)

    def _function(self, function: dict[str, Any], choice: int, call: int) -> None:
        for name in CALLED:
            if isinstance(function.get(name), str):
                function[name] = self._piece(choice, name, call, function[name])

    def _piece(self, choice: int, name: str, call: int | None, text: str) -> str:
        channels = self._held.get(choice, {})
        channel = channels.pop((name, call), None)
        text = self._restored(text if channel is None else channel.held + text, json_text=name == "arguments")
        start = text.rfind("[", -self._longest)
        if start < 0 or not self._begins(text[start:]):
            return text
        self._held.setdefault(choice, channels)[name, call] = Channel(choice, name, call, text[start:])
        return text[:start]

    def _begins(self, text: str) -> bool:
        """Whether a stand-in may begin so."""
        place = bisect_left(self._names, text)
        return place < len(self._names) and self._names[place].startswith(text)

    # Whole texts

    def _restored(self, text: str, *, json_text: bool) -> str:
        if "#" not in text:
            return text
        originals = self.originals
        if json_text:
            return STANDIN.sub(lambda match: escaped(originals[match[0]]) if match[0] in originals else match[0], text)
        return STANDIN.sub(lambda match: originals.get(match[0], match[0]), text)

    def _everywhere(self, value: Any, *, json_text: bool) -> Any:
        if isinstance(value, str):
            return self._restored(value, json_text=json_text)
        if isinstance(value, dict):
            return {name: self._everywhere(child, json_text=name == "arguments") for name, child in value.items()}
        if isinstance(value, list):
            return [self._everywhere(child, json_text=False) for child in value]
        return value


def _put(channels: Iterable[Channel], delta: dict[str, Any]) -> None:
    """Put what was held back behind what this delta brings of the same texts."""
    called: dict[int, dict[str, Any]] | None = None
    for channel in channels:
        if channel.call is None:
            text = delta
        elif channel.call == -1:
            text = delta.setdefault("function_call", {})
        else:
            if called is None:
                called = _calls_of(delta)
            call = called.get(channel.call)
            if call is None:
                call = called[channel.call] = {"index": channel.call, "function": {}}
                delta["tool_calls"].append(call)
            text = call.setdefault("function", {})
        text[channel.name] = (text.get(channel.name) or "") + channel.held


def _calls_of(delta: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The tool calls of a delta by their index; it has a list of them from here on."""
    if not isinstance(delta.get("tool_calls"), list):
        delta["tool_calls"] = []
    found: dict[int, dict[str, Any]] = {}
    for call in delta["tool_calls"]:
        if isinstance(call, dict) and isinstance(call.get("index"), int):
            found.setdefault(call["index"], call)
    return found


def _head(event: Mapping[str, Any]) -> dict[str, Any]:
    """What every event of one stream has in common."""
    return {name: value for name, value in event.items() if name not in ("choices", "usage")}
