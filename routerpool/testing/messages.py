"""Anthropic's Messages API as the scriptable upstream speaks it: the same answers and faults in another wire format.

An `Answer` that is written as a message serves the faults as it is, for they are made of its pieces. What they write
themselves (error objects, `[DONE]`) is rewritten on its way out, and the few that are made of OpenAI's `choices` have
plays of their own here.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from attrs import define, evolve, frozen

from routerpool.testing.answers import DONE, Answer, call_wanted, encode
from routerpool.testing.call import JSON, UpstreamCall
from routerpool.testing.healthy import either
from routerpool.testing.registry import Fault

__all__ = ["Message", "MessagesCall", "messages_error"]

STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

NO_SUCH_FAULTS = frozenset({"hugeint", "nostreamoptions"})
"""Faults made of fields that a message does not have."""


def messages_error(status: int, message: str) -> dict[str, Any]:
    """The body Anthropic sends with `status`."""
    fallback = "invalid_request_error" if 400 <= status < 500 else "api_error"
    return {"type": "error", "error": {"type": TYPES.get(status, fallback), "message": message}, "request_id": "req_1"}


def event(value: Mapping[str, Any]) -> bytes:
    """One server-sent event under its own name, as Anthropic writes them."""
    return f"event: {value['type']}\n".encode() + b"data: " + encode(value) + b"\n\n"


@frozen
class Message(Answer):
    """What a healthy provider says, in Anthropic's form."""

    @classmethod
    def of(cls, answer: Answer, body: Any) -> Message:
        """The message that says what `answer` says, to a request with this body."""
        tokens = None if answer.tokens is None else _usage(answer.tokens)
        return cls(answer.provider, answer.model, answer.text, answer.events, tokens, _call_wanted(body), answer.finish)

    @property
    def usage(self) -> dict[str, Any]:
        """The `usage` object of this answer, in Anthropic's form."""
        return dict(self.tokens) if self.tokens is not None else _usage(super().usage)

    @property
    def reason(self) -> str:
        """The `stop_reason` that ends this answer."""
        return STOPS[super().reason]

    def plain(self) -> dict[str, Any]:
        """The message of a request that did not ask for a stream."""
        content = [{"type": "text", "text": self.text}] if self.text else []
        if self.call:
            name, arguments = self.call
            content = [{**self._tool(name), "input": json.loads(arguments)}]
        return self._message(content, self.reason) | {"usage": self.usage}

    def opening(self) -> dict[str, Any]:
        """The first event: the message, which is still empty."""
        started = {"input_tokens": 0, **self.usage, "output_tokens": 1}
        return {"type": "message_start", "message": self._message([], None) | {"usage": started}}

    def contents(self) -> Iterator[dict[str, Any]]:
        """The events of the one block that carries the text, or the tool call in fragments."""
        block = {**self._tool(self.call[0]), "input": {}} if self.call else {"type": "text", "text": ""}
        yield {"type": "content_block_start", "index": 0, "content_block": block}
        for piece in () if self.call else self.pieces:
            yield self.chunk({"content": piece})
        arguments = self.call[1] if self.call else ""
        for start in range(0, len(arguments), 6):
            fragment = {"type": "input_json_delta", "partial_json": arguments[start : start + 6]}
            yield {"type": "content_block_delta", "index": 0, "delta": fragment}
        yield {"type": "content_block_stop", "index": 0}

    def closing(self, include_usage: bool) -> list[dict[str, Any]]:
        """Why it ends, and what it took."""
        output = {"output_tokens": self.usage.get("output_tokens", 0)} if include_usage else {}
        return [self._stop(self.reason) | {"usage": output}]

    def stream(self, include_usage: bool) -> list[bytes]:
        """Every event of the streamed answer as it goes over the wire, up to `message_stop`."""
        events = [self.opening(), *self.contents(), *self.closing(include_usage), {"type": "message_stop"}]
        if not include_usage:
            events[0]["message"].pop("usage")
        return [event(each) for each in events]

    def chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        """One event with this text, or the one that ends the message."""
        if finish is not None:
            return self._stop(STOPS[finish])
        text = {"type": "text_delta", "text": delta.get("content") or ""}
        return {"type": "content_block_delta", "index": 0, "delta": text}

    def _stop(self, reason: str) -> dict[str, Any]:
        return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}}

    def _tool(self, name: str) -> dict[str, Any]:
        return {"type": "tool_use", "id": f"toolu_{self.provider}", "name": name}

    def _message(self, content: list[Any], reason: str | None) -> dict[str, Any]:
        about = {"id": f"msg_{self.provider}", "type": "message", "role": "assistant", "model": self.model}
        return about | {"content": content, "stop_reason": reason, "stop_sequence": None}


def _usage(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Usage in Anthropic's form; what a test has set in that form stays as it is."""
    if "prompt_tokens" not in tokens:
        return dict(tokens)
    cached = (tokens.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    told = {"input_tokens": tokens["prompt_tokens"] - cached, "output_tokens": tokens.get("completion_tokens", 0)}
    return told | {"cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}


def _call_wanted(body: Any) -> tuple[str, str] | None:
    """The tool call that a Messages request insists on."""
    try:
        tools = [{"function": {"name": t["name"], "parameters": t["input_schema"]}} for t in body["tools"]]
        choice = body["tool_choice"]
        wanted = {"function": {"name": choice["name"]}} if choice["type"] == "tool" else choice["type"]
    except (LookupError, TypeError):
        return None
    return call_wanted({"tools": tools, "tool_choice": "required" if wanted == "any" else wanted})


@define(eq=False)
class MessagesCall(UpstreamCall):
    """One request to `/v1/messages` in a fault's hands."""

    speaking: bool = False
    """Whether what is sent is a fault's, to be put into Anthropic's words, and not a test's own bytes."""

    async def play(self, fault: Fault) -> None:
        """Answer with this fault, in this wire."""
        if fault.label.partition(":")[0] in NO_SUCH_FAULTS:
            words = f"no such fault of the Messages API: {fault.label!r}"
            await self.whole(400, encode(messages_error(400, words)))
            return
        self.answer = Message.of(self.answer, self.received.json)
        self.include_usage = self.speaking = True
        await OWN.get(fault.label, fault.play)(self)

    async def chunk(self, data: bytes, *, last: bool = False) -> None:
        """Send one chunk of a chunked body."""
        await super().chunk(self._worded(data) if self.speaking else data, last=last)

    async def event(self, value: Any) -> None:
        """Send one server-sent event as a chunk of its own."""
        await self.chunk(event(value))

    async def whole(self, status: int, body: bytes, type_: str = JSON, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a complete answer with its length in one write."""
        if self.speaking and (error := _error_in(body)) is not None:
            body = encode(messages_error(status, error))
        await super().whole(status, body, type_, headers)

    def _worded(self, data: bytes) -> bytes:
        if data == DONE:
            return event({"type": "message_stop"})
        if (error := _error_in(data.removeprefix(b"data: "))) is None:
            return data
        told = messages_error(500, error)
        return event(told) if data.startswith(b"data: ") else encode(told)


def _error_in(body: bytes) -> str | None:
    """The words of an error object in OpenAI's or Google's form."""
    if b'"error"' not in body[:64]:
        return None
    try:
        told = json.loads(body)
    except ValueError:
        return None
    told = told[0] if isinstance(told, list) and told else told
    error = told.get("error") if isinstance(told, dict) and "type" not in told else None
    return str(error["message"]) if isinstance(error, dict) and "message" in error else None


# Faults that are made of OpenAI's choices, in this wire


async def _nochoices(x: UpstreamCall) -> None:
    """200 whose message has no content at all."""
    plain = x.answer.plain()
    plain.pop("content")
    await either(x, encode(plain), [event(x.answer.opening()), event({"type": "message_stop"})])


async def _nullcontent(x: UpstreamCall) -> None:
    """200 with no block, and the stop reason `end_turn`."""
    x.answer = evolve(x.answer, text="", call=None)
    ends = [x.answer.chunk({}, "stop"), {"type": "message_stop"}]
    await either(x, encode(x.answer.plain()), [event(x.answer.opening()), *map(event, ends)])


async def _nofinish(x: UpstreamCall) -> None:
    """Content and `message_stop` without a stop reason."""
    plain = encode(x.answer.plain() | {"stop_reason": None})
    await either(x, plain, [*map(event, (x.answer.opening(), *x.answer.contents())), DONE])


OWN: Mapping[str, Callable[[UpstreamCall], Awaitable[None]]] = {
    "nochoices": _nochoices,
    "nullcontent": _nullcontent,
    "nofinish_done": _nofinish,
}
