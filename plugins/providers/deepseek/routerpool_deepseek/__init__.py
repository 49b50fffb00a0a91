"""DeepSeek's models. What is known of them stands in `deepseek.yaml`, with its date and source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from routerpool import Model, OpenAIProvider

__all__ = ["DeepSeek"]

THOUGHTS = "reasoning_content"


class DeepSeek(OpenAIProvider):
    """DeepSeek. It thinks aloud, wants to hear its thoughts again where it called tools, and nowhere else."""

    data: ClassVar[str | None] = "deepseek.yaml"

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """Leave out the thoughts of plain turns; those of a turn with tool calls have to come back."""
        messages = body["messages"]
        if any(THOUGHTS in message for message in messages):
            body["messages"] = [message for turn in turns_of(messages) for message in without_idle_thoughts(turn)]
        return body


def turns_of(messages: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The messages in runs that each begin with a user's one, and what stands before the first of them."""
    turns: list[list[Mapping[str, Any]]] = [[]]
    for message in messages:
        if message["role"] == "user":
            turns.append([])
        turns[-1].append(message)
    return turns


def without_idle_thoughts(turn: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A turn without its thoughts, or as it is where a tool was called in it."""
    if any(message.get("tool_calls") or message["role"] == "tool" for message in turn):
        return turn
    return [{name: value for name, value in message.items() if name != THOUGHTS} for message in turn]
