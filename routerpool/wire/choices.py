"""The choices of one stream, told apart by their index: which are finished, and how their tool calls are numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from routerpool.wire.answers import index_of
from routerpool.wire.calls import Numbering

__all__ = ["Choices", "arguments_size", "fragments_size"]


class Choices:
    """What is known of the `most` choices that a client has asked for. `finished` once each has its finish reason."""

    __slots__ = ("_most", "_numbering", "blank", "finished", "mending", "reasons")

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbering: dict[int, Numbering] = {}
        self.reasons: dict[int, str] = {}
        self.blank: set[int] = set()
        """Those whose only word on why they end is an empty one; in the middle of an answer it says nothing."""
        self.finished = False
        self.mending = False
        """Whether the tool calls of any had to be numbered."""

    def take(self, choices: Sequence[dict[str, Any]]) -> bool:
        """Take note of a chunk's choices; whether any was changed, because its tool calls had no numbers."""
        changed = False
        for place, choice in enumerate(choices):
            index, delta, finish = index_of(choice, place), choice.get("delta"), choice.get("finish_reason")
            calls = delta.get("tool_calls") if isinstance(delta, dict) else None
            if isinstance(calls, list) and self._number(index, calls):
                changed = self.mending = True
            if finish == "" and index not in self.reasons:
                self.blank.add(index)
            if finish and isinstance(finish, str):
                self.reasons[index] = finish
                self.blank.discard(index)
                if finish == "stop" and index in self._numbering and self._numbering[index].changed:
                    choice["finish_reason"], changed = "tool_calls", True  # who leaves out the one leaves out the other
        self.finished = len(self.reasons) >= self._most
        return changed

    def _number(self, index: int, calls: Sequence[Any]) -> bool:
        changed = False
        for number, call in zip(self._numbering.setdefault(index, Numbering()).number(calls), calls, strict=True):
            if number is not None and (type(call.get("index")) is not int or call["index"] != number):
                call["index"], changed = number, True
        return changed


def fragments_size(calls: Any) -> int | None:
    """The characters of fragments that go on with calls that have begun, by their numbers; None for any others."""
    if type(calls) is not list:
        return None
    size = 0
    for call in calls:
        if type(call) is not dict or type(call.get("index")) is not int or call.get("id"):
            return None
        function = call.get("function")
        if type(function) is not dict or function.get("name"):
            return None
        arguments = function.get("arguments")
        if type(arguments) is str:
            size += len(arguments)
    return size


def arguments_size(calls: Sequence[Any]) -> int:
    """How many characters of arguments these fragments bring."""
    functions = [call.get("function") for call in calls if isinstance(call, Mapping)]
    texts = [function.get("arguments") for function in functions if isinstance(function, Mapping)]
    return sum(len(text) for text in texts if isinstance(text, str))
