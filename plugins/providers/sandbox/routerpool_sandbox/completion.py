"""What the sandbox says to a request: text, a tool call, or a value that fits a JSON Schema. Pure functions."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from attrs import frozen

from routerpool.planning import estimate_tokens, text_tokens
from routerpool.wire import dumps
from routerpool_sandbox.example import example_of

__all__ = ["LABEL", "Completion"]

LABEL = "[simulated]"
"""The beginning of every text."""

REMARKS = (
    "That is a good question, and a real model would now think about it.",
    "A real model would answer it here in earnest; this one only shows that the way there works.",
    "Nothing was sent anywhere to say this, and nobody was charged for it.",
    "Add a provider with a key, or a local model, and the same request will be answered for real.",
    "If this text reached you, routing, streaming and counting all did their work.",
)


@frozen(kw_only=True)
class Completion:
    """What is said to one body, in the two forms of chat completions."""

    id: str
    model: str
    text: str
    calls: tuple[dict[str, Any], ...]
    finish_reason: str
    usage: Mapping[str, int]

    @classmethod
    def to(cls, body: Mapping[str, Any], salt: str, *, empty: bool = False) -> Completion:
        """The completion of a body; `salt` varies the wording."""
        digest = blake2b(dumps([salt, body["messages"]]), digest_size=8)
        calls = () if empty else tuple(_calls(body, digest.hexdigest()))
        text = "" if calls or empty else _text(body, random.Random(digest.digest()))
        finish = "tool_calls" if calls else "stop"
        most = body.get("max_completion_tokens") or body.get("max_tokens")
        if text and isinstance(most, int) and len(words := _words(text)) > most:
            text, finish = "".join(words[: max(most, 1)]), "length"
        spoken = [text] if text else [call["function"]["arguments"] for call in calls]
        prompt, completion = estimate_tokens(body["messages"], body.get("tools")), round(text_tokens(spoken))
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return cls(
            id=f"chatcmpl-simulated-{digest.hexdigest()}",
            model=body["model"],
            text=text,
            calls=calls,
            finish_reason=finish,
            usage=usage,
        )

    def body(self) -> dict[str, Any]:
        """As a plain answer."""
        message: dict[str, Any] = {"role": "assistant", "content": None if self.calls else self.text}
        if self.calls:
            message["tool_calls"] = list(self.calls)
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return self._envelope("chat.completion") | {"choices": [choice], "usage": self.usage}

    def events(self) -> Iterator[dict[str, Any]]:
        """As a stream: the role, the words or the calls, why it ends, what it cost."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if self.calls else ""}]
        deltas += [{"content": word} for word in _words(self.text)]
        for index, call in enumerate(self.calls):
            function = call["function"]
            deltas.append({"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": function["arguments"]}}]})
        chunk = self._envelope("chat.completion.chunk")
        for delta in deltas:
            yield chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish_reason}]}
        yield chunk | {"choices": [], "usage": self.usage}

    def _envelope(self, kind: str) -> dict[str, Any]:
        created = int(time.time())
        return {
            "id": self.id,
            "object": kind,
            "created": created,
            "model": self.model,
            "system_fingerprint": "simulated",
        }


def _words(text: str) -> list[str]:
    """The words of a text, each with the space before it; joined they are the text again."""
    return [word if place == 0 else f" {word}" for place, word in enumerate(text.split(" "))] if text else []


def _text(body: Mapping[str, Any], dice: random.Random) -> str:
    wanted = _map(body.get("response_format"))
    kind = wanted.get("type")
    if kind == "json_schema":
        return dumps(example_of(_map(wanted.get("json_schema")).get("schema"))).decode()
    if kind == "json_object":
        return dumps({"simulated": True, "answer": f"{LABEL} A real model would fill this object."}).decode()
    asked = " ".join(_asked(body["messages"]).split())
    asked = asked if len(asked) <= 200 else f"{asked[:199]}…"
    about = f"You asked: “{asked}”" if asked else "You sent no text, only the rest of a request."
    return " ".join((LABEL, about, *dice.sample(REMARKS, 2)))


def _asked(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last user message."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = content if isinstance(content, Sequence) else ()
            return " ".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))
    return ""


def _calls(body: Mapping[str, Any], digest: str) -> Iterator[dict[str, Any]]:
    """One call where the request insists on one: of the function that it names, else of the first."""
    choice = body.get("tool_choice")
    named = _map(_map(choice).get("function")).get("name")
    if named is None and choice != "required":
        return
    for tool in body.get("tools") or ():
        function = _map(_map(tool).get("function"))
        name = function.get("name")
        if isinstance(name, str) and named in (None, name):
            arguments = dumps(example_of(function.get("parameters") or {"type": "object"})).decode()
            call = {"name": name, "arguments": arguments}
            yield {"id": f"call_simulated_{digest}", "type": "function", "function": call}
            return


def _map(value: Any) -> Mapping[str, Any]:
    """A mapping as it is, anything else as an empty one."""
    return value if isinstance(value, Mapping) else {}
