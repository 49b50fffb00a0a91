"""The healthy answer of the scriptable upstream, and OpenAI's error form: bytes that are the same at every run.

Nothing here is random or dated, so that a test can compare what a client got with `Answer.body` byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from attrs import frozen

__all__ = ["CREATED", "DONE", "Answer", "call_wanted", "encode", "openai_error", "sse"]

CREATED = 1_700_000_000
DONE = b"data: [DONE]\n\n"

_ERROR_TYPES = {
    401: ("authentication_error", "invalid_api_key", "Incorrect API key provided."),
    402: ("insufficient_quota", "insufficient_credits", "Insufficient balance: add credit to go on."),
    403: ("permission_error", "forbidden", "Your account may not use this model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you have no access to it."),
    408: ("timeout_error", "request_timeout", "The request timed out."),
    413: ("invalid_request_error", "request_too_large", "The request is larger than this model accepts."),
    422: ("invalid_request_error", "unprocessable", "A parameter has the wrong type."),
    429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached. Please slow down."),
    503: ("api_error", "service_unavailable", "The service is temporarily unavailable."),
    529: ("overloaded_error", "overloaded", "Overloaded."),
}


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON; characters outside ASCII stay as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(value: Any) -> bytes:
    """One server-sent event that carries `value` as JSON."""
    return b"data: " + encode(value) + b"\n\n"


def openai_error(status: int, message: str = "", *, code: str = "", type_: str = "") -> dict[str, Any]:
    """The body OpenAI sends with `status`; what is not given is what is usual for that status."""
    fallback = ("invalid_request_error" if 400 <= status < 500 else "api_error", None, f"The server answered {status}.")
    usual = _ERROR_TYPES.get(status, fallback)
    return {
        "error": {
            "message": message or usual[2],
            "type": type_ or usual[0],
            "param": None,
            "code": code or usual[1],
        }
    }


def call_wanted(body: Any) -> tuple[str, str] | None:
    """The tool call a request insists on by `tool_choice`: the function's name and arguments as JSON text, or None.

    The arguments fill the function's required properties with the smallest value of each declared type.
    """
    try:
        functions = {tool["function"]["name"]: tool["function"] for tool in body["tools"]}
        choice = body["tool_choice"]
        name = choice["function"]["name"] if isinstance(choice, dict) else next(iter(functions))
        schema = functions[name].get("parameters") or {}
        arguments = {key: _smallest(schema["properties"][key]) for key in schema.get("required", ())}
    except (LookupError, TypeError, AttributeError, StopIteration):
        return None  # no tools, or tools in a shape that insists on nothing
    return (name, json.dumps(arguments)) if choice == "required" or isinstance(choice, dict) else None


def _smallest(schema: Mapping[str, Any]) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    values = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}
    return values.get(schema.get("type", "string"), "text")


@frozen
class Answer:
    """What a healthy provider says to one request; every form of it follows from these fields."""

    provider: str
    model: str
    text: str
    events: int | None = None
    """In how many content events the text is streamed; None is one for each word."""
    tokens: Mapping[str, Any] | None = None
    """The `usage` object; None counts 12 tokens in and one token out for each event."""
    call: tuple[str, str] | None = None
    finish: str = "stop"

    @property
    def pieces(self) -> list[str]:
        """The text as the content events carry it."""
        if self.events is None:
            return re.findall(r"\S+\s*|\s+", self.text)
        cuts = [index * len(self.text) // self.events for index in range(self.events + 1)]
        return [self.text[start:end] for start, end in pairwise(cuts)]

    @property
    def usage(self) -> dict[str, Any]:
        """The `usage` object of this answer."""
        if self.tokens is not None:
            return dict(self.tokens)
        output = len(self.pieces)
        return {"prompt_tokens": 12, "completion_tokens": output, "total_tokens": 12 + output}

    def plain(self) -> dict[str, Any]:
        """The chat completion of a request that did not ask for a stream."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.call:
            message |= {"content": None, "tool_calls": [self._call(*self.call)]}
        choice = {"index": 0, "message": message, "finish_reason": self.reason}
        return self._envelope("chat.completion", [choice]) | {"usage": self.usage}

    @property
    def reason(self) -> str:
        """The `finish_reason` that ends this answer."""
        return "tool_calls" if self.call else self.finish

    def opening(self) -> dict[str, Any]:
        """The first chunk: the role, and content that is still empty."""
        return self.chunk({"role": "assistant", "content": None if self.call else ""})

    def contents(self) -> Iterator[dict[str, Any]]:
        """The chunks that carry the text, or the tool call in fragments."""
        if self.call is None:
            for piece in self.pieces:
                yield self.chunk({"content": piece})
            return
        name, arguments = self.call
        yield self.chunk({"tool_calls": [{"index": 0, **self._call(name, "")}]})
        for start in range(0, len(arguments), 6):
            fragment = {"index": 0, "function": {"arguments": arguments[start : start + 6]}}
            yield self.chunk({"tool_calls": [fragment]})

    def closing(self, include_usage: bool) -> list[dict[str, Any]]:
        """The finish chunk, and after it the usage chunk where it was asked for."""
        finish = self.chunk({}, self.reason)
        if not include_usage:
            return [finish]
        return [finish, self._envelope("chat.completion.chunk", []) | {"usage": self.usage}]

    def stream(self, include_usage: bool) -> list[bytes]:
        """Every event of the streamed answer as it goes over the wire, `[DONE]` included."""
        chunks = [self.opening(), *self.contents(), *self.closing(include_usage)]
        return [*map(sse, chunks), DONE]

    def body(self, stream: bool, include_usage: bool = False) -> bytes:
        """The whole body of the healthy answer, without the framing of HTTP."""
        return b"".join(self.stream(include_usage)) if stream else encode(self.plain())

    def chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        """One streamed chunk with this delta."""
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish}
        return self._envelope("chat.completion.chunk", [choice])

    def _call(self, name: str, arguments: str) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return {"id": f"call_{self.provider}", "type": "function", "function": function}

    def _envelope(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.provider}",
            "object": kind,
            "created": CREATED,
            "model": self.model,
            "choices": choices,
        }
