"""What an answer says: the meaning of a body, of one chunk, and of the chunks so far.

Pure functions over parsed JSON; nothing here knows a network, a provider or a policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from routerpool.types import Opening

__all__ = ["Delta", "answer_of", "delta_of", "index_of", "says", "whole_opening"]


REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "thinking_blocks", "reasoning_details")
"""Where thoughts stand, in the order of trust: some providers tell the same thought in two of them."""

LABELS = frozenset({"type", "index", "format", "role"})
"""What says how something is said, and nothing by itself."""

DEPTH = 6
TEXTS = ("text", "thinking", "content", "summary", "reasoning")


class Delta(NamedTuple):
    """What one chunk adds: text, reasoning, tool calls, and the finish reason once it is known.

    `other` tells that there is something else in it.
    """

    text: str
    reasoning: str
    tool_calls: Sequence[Any]
    finish_reason: str | None
    other: bool

    @property
    def meaningful(self) -> bool:
        """Whether a person or a program would call this the beginning of an answer."""
        return bool(self.text or self.reasoning or self.tool_calls or self.other)


def says(value: Any, depth: int = DEPTH) -> bool:
    """Whether there is anything in a field, whatever it is: an object of empty texts is nothing, a deep one is."""
    if isinstance(value, dict):
        return any(says(each, depth - 1) for name, each in value.items() if name not in LABELS) if depth else True
    if isinstance(value, list):
        return any(says(each, depth - 1) for each in value) if depth else True
    return bool(value)


def index_of(choice: Mapping[str, Any], position: int) -> int:
    """Which choice this is: its own word, else where it stands."""
    index = choice.get("index")
    return index if type(index) is int else position


def delta_of(event: Any) -> Delta | None:
    """What a parsed `chat.completion.chunk` adds, over all its choices; None when it is not shaped like one."""
    choices = event.get("choices") if isinstance(event, dict) else None
    parts = [_part(choice.get("delta") or {}, choice) for choice in _objects(choices)]
    return _joined(parts) if isinstance(choices, list) and len(parts) == len(choices) and None not in parts else None


def answer_of(body: Any) -> Delta | None:
    """What a whole plain answer says, over all its choices; None when it is not shaped like one."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict:  # nearly all have one
        return _part(choices[0].get("message"), choices[0])
    parts = [_part(choice.get("message"), choice) for choice in _objects(choices)]
    return _joined(parts) if parts else None


def _objects(choices: Any) -> list[Mapping[str, Any]]:
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _joined(parts: Sequence[Delta | None]) -> Delta | None:
    """What several choices say, put together, an empty finish reason first; None where none is shaped like one."""
    told = [part for part in parts if part is not None]
    if len(told) < 2:
        return told[0] if told else None if parts else Delta("", "", (), None, False)
    reasons = [part.finish_reason for part in told if part.finish_reason is not None]
    return Delta(
        "".join([part.text for part in told]),
        "".join([part.reasoning for part in told]),
        [call for part in told for call in part.tool_calls],
        "" if "" in reasons else reasons[-1] if reasons else None,
        any(part.other for part in told),
    )


def _part(message: Any, choice: Mapping[str, Any]) -> Delta | None:
    """The meaning of a `delta` or a `message`; both have one shape. Whatever is in it but the role is an answer."""
    if not isinstance(message, dict):
        return None
    text = reasoning = ""
    calls: Sequence[Any] = ()
    other = False
    for name, value in message.items():
        if not value or name == "role":
            continue
        if name == "content":
            text = value if isinstance(value, str) else _content(value)
            other = other or (not (text or isinstance(value, str)) and says(value))
        elif name == "tool_calls":
            calls = [*calls, *value] if isinstance(value, (list, tuple)) else calls
        elif name == "function_call":
            calls = [*calls, {"type": "function", "function": value}]
        else:
            other = other or says(value)
    if other:
        reasoning = next((found for name in REASONING if (found := thought(message.get(name)))), "")
    finish = choice.get("finish_reason")
    return Delta(text, reasoning, calls, finish if isinstance(finish, str) else None, other)


def _content(value: Any) -> str:
    """The text of parts, as Magistral sends them: thinking beside text."""
    if not isinstance(value, list):
        return ""
    return "".join(str(part.get("text") or "") for part in value if isinstance(part, dict))


def thought(value: Any, depth: int = DEPTH) -> str:
    """The text of a thought, in any of the forms in which it is told."""
    if isinstance(value, str):
        return value
    if not depth or not isinstance(value, dict | list):
        return ""
    if isinstance(value, list):
        return "".join([thought(each, depth - 1) for each in value])
    return next((found for name in TEXTS if (found := thought(value.get(name), depth - 1))), "")


def whole_opening(said: Delta | None, body: Mapping[str, Any] | None = None, *, complete: bool = True) -> Opening:
    """An answer for the judges: whole, or as far as it has come."""
    if said is None:
        return Opening(complete=complete)
    return Opening(
        text=said.text,
        reasoning=said.reasoning,
        tool_calls=tuple(said.tool_calls),
        finish_reason=said.finish_reason or None,
        complete=complete,
        body=body,
    )
