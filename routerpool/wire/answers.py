"""What an answer says: the meaning of a body, of one chunk, and of the chunks so far.

Pure functions over parsed JSON; nothing here knows a network, a provider or a policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from routerpool.types import Opening

__all__ = ["Delta", "answer_of", "delta_of", "join_opening", "whole_opening"]


class Delta(NamedTuple):
    """What one chunk adds: text, reasoning, tool calls, and the finish reason once it is known."""

    text: str
    reasoning: str
    tool_calls: Sequence[Mapping[str, Any]]
    finish_reason: str | None
    other: bool

    @property
    def meaningful(self) -> bool:
        """Whether a person or a program would call this the beginning of an answer."""
        return bool(self.text or self.reasoning or self.tool_calls or self.other)


def delta_of(event: Any) -> Delta | None:
    """What a parsed `chat.completion.chunk` adds; None when it is not shaped like one."""
    choices = event.get("choices") if isinstance(event, dict) else None
    if not isinstance(choices, list):
        return None
    finish, other = None, False
    texts: list[str] = []
    reasonings: list[str] = []
    calls: list[Mapping[str, Any]] = []
    for choice in choices:
        if not isinstance(choice, dict):
            return None
        finish = choice.get("finish_reason") or finish
        part = _part(choice.get("delta") or {})
        if part is None:
            return None
        texts.append(part.text)
        reasonings.append(part.reasoning)
        other = other or part.other
        calls += part.tool_calls
    finish = finish if isinstance(finish, str) else None
    return Delta("".join(texts), "".join(reasonings), calls, finish, other)


def _part(message: Any, finish: str | None = None) -> Delta | None:
    """The meaning of a `delta` or a `message`; both have one shape."""
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, list):  # parts, as Magistral sends them: thinking beside text
        text = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
        other = bool(content) and not text
    else:
        text, other = content if isinstance(content, str) else "", False
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    given = message.get("tool_calls")
    calls = given if isinstance(given, (list, tuple)) else ()
    if message.get("function_call"):
        calls = [*calls, {"type": "function", "function": message["function_call"]}]
    other = bool(other or message.get("refusal") or message.get("audio") or message.get("reasoning_details"))
    return Delta(
        text,
        reasoning if isinstance(reasoning, str) else "",
        calls,
        finish,
        other,
    )


def answer_of(body: Any) -> Delta | None:
    """What a whole plain answer says; None when it is not shaped like one."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    finish = choices[0].get("finish_reason")
    return _part(choices[0].get("message"), finish if isinstance(finish, str) else None)


def whole_opening(said: Delta, body: Mapping[str, Any]) -> Opening:
    """A whole plain answer for the judges."""
    return Opening(
        text=said.text,
        reasoning=said.reasoning,
        tool_calls=tuple(said.tool_calls),
        finish_reason=said.finish_reason,
        complete=True,
        body=body,
    )


def join_opening(deltas: Sequence[Delta], *, complete: bool) -> Opening:
    """What the chunks so far add up to, for the judges; fragments of one tool call are put together by index."""
    calls: dict[Any, dict[str, Any]] = {}
    pieces: dict[tuple[Any, str], list[str]] = {}
    for delta in deltas:
        for fragment in delta.tool_calls:
            if not isinstance(fragment, dict):
                continue
            function = fragment.get("function")
            function = function if isinstance(function, dict) else {}
            index = fragment.get("index", 0)
            call = calls.setdefault(index, {"type": "function", "function": {"name": "", "arguments": ""}})
            if fragment.get("id"):
                call["id"] = fragment["id"]
            for key in ("name", "arguments"):
                if isinstance(function.get(key), str):
                    pieces.setdefault((index, key), []).append(function[key])
    for (index, key), texts in pieces.items():
        calls[index]["function"][key] = "".join(texts)
    finish = next((delta.finish_reason for delta in reversed(deltas) if delta.finish_reason), None)
    return Opening(
        text="".join(delta.text for delta in deltas),
        reasoning="".join(delta.reasoning for delta in deltas),
        tool_calls=tuple(calls.values()),
        finish_reason=finish,
        complete=complete,
    )
