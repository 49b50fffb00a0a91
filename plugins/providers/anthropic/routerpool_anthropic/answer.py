"""The way back: what the Messages API answers becomes a chat completion, whole or as a stream of chunks.

Thinking comes out as `reasoning_content`, and with its signature once more as `reasoning_details`, which a client hands
back unchanged with the assistant's message. Why it ended is told twice: in OpenAI's words as `finish_reason`, in
Anthropic's own as `native_finish_reason`. Blocks of tools that run at Anthropic's (web search, code) are left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from routerpool.protocols import Reply
from routerpool.providers import begun, read_all
from routerpool.wire import (
    DONE,
    EVENT_VALUES,
    Cutter,
    dumps,
    event_bytes,
    event_data,
    loads_answer,
    parsed,
    split_events,
)
from routerpool_anthropic.turns import FORMAT

__all__ = ["TranslatedAnswer", "Translation", "completion", "translated", "usage_of"]

ANSWER_BYTES = 32 << 20
PING = b": ping\n\n"

FINISH: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "refusal": "content_filter",
}
"""Stop reasons in OpenAI's words. A turn that pauses is not over, so it is cut short as one at its limit is."""


def translated(upstream: Reply) -> Reply:
    """An answer of the Messages API as one of chat completions; what is no such answer is passed on as it is."""
    if not 200 <= upstream.status < 300:
        return upstream
    return TranslatedAnswer(upstream)


class TranslatedAnswer:
    """A whole message or a stream of Messages events, whichever comes, translated as it comes."""

    def __init__(self, upstream: Reply) -> None:
        self._upstream = upstream
        self._cutter = Cutter(ANSWER_BYTES)
        self._translation = Translation()
        self._begun = self._ended = False
        self.close = upstream.close
        self.status = upstream.status
        self.headers = upstream.headers

    async def chunk(self) -> bytes:
        """The next chunks, or the whole completion; b"" at the end."""
        data, events = b"", True
        while not self._ended:
            if self._begun:
                data = await self._upstream.chunk()
            else:
                self._begun = True
                data, events = await begun(self._upstream)
            if not events:
                self._ended = True
                return await whole(data + await read_all(self._upstream, ANSWER_BYTES))
            self._ended = not data
            block = self._cutter.feed(data) if data else self._cutter.end()
            out = b"".join(self._translation.event(event) for event in split_events(block))
            if out:
                return out
        return b""


# Whole


async def whole(body: bytes) -> bytes:
    """A message as a chat completion; what is none, such as an error, as it is."""
    try:
        message = await parsed(body)
    except ValueError:
        return body
    is_one = isinstance(message, dict) and message.get("type") == "message"
    return dumps(completion(message)) if is_one else body


def completion(message: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion of a message."""
    content = message.get("content")
    text: list[str] = []
    thoughts: list[str] = []
    details: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in content if isinstance(content, list) else ():
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            text.append(str(block.get("text") or ""))
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append(str(block.get("thinking") or ""))
            details.append(_detail(len(details), block))
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": dumps(block.get("input") or {}).decode()}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
    said: dict[str, Any] = {"role": "assistant", "content": "".join(text) or None}
    more = {
        "reasoning_content": "".join(thoughts),
        "reasoning_details": details,
        "tool_calls": calls,
        "refusal": _refusal(message),
    }
    said |= {name: value for name, value in more.items() if value}
    stop = message.get("stop_reason")
    choice = {"index": 0, "message": said, "finish_reason": _finish(stop), "native_finish_reason": stop}
    usage = usage_of(message.get("usage"))
    return {
        "id": message.get("id"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": message.get("model"),
        "choices": [choice],
    } | ({"usage": usage} if usage else {})


def _finish(stop: Any) -> str | None:
    return FINISH.get(stop, "stop") if isinstance(stop, str) else None


def _refusal(told: Mapping[str, Any]) -> str | None:
    """What a refusal says of itself."""
    details = told.get("stop_details")
    words = details.get("explanation") if isinstance(details, dict) else None
    return words if isinstance(words, str) and told.get("stop_reason") == "refusal" else None


def _detail(index: int, block: Mapping[str, Any]) -> dict[str, Any]:
    """A block of thinking in the form in which a client keeps it and hands it back."""
    if block.get("type") == "redacted_thinking":
        return {"type": "reasoning.encrypted", "data": block.get("data"), "format": FORMAT, "index": index}
    told = {"text": block.get("thinking") or "", "signature": block.get("signature") or ""}
    return {"type": "reasoning.text", **told, "format": FORMAT, "index": index}


def usage_of(raw: Any) -> dict[str, Any] | None:
    """Usage in OpenAI's form, in which the prompt is all of it; Anthropic's `input_tokens` are what no cache held.

    What the cache was read and written stays told in Anthropic's words too, with how long it is kept: prices differ.
    """
    if not isinstance(raw, dict) or "input_tokens" not in raw:
        return None
    fresh, output = _count(raw, "input_tokens"), _count(raw, "output_tokens")
    read, written = _count(raw, "cache_read_input_tokens"), _count(raw, "cache_creation_input_tokens")
    prompt = fresh + read + written
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    if read or written:
        usage["prompt_tokens_details"] = {"cached_tokens": read, "cache_write_tokens": written}
        usage |= {"cache_read_input_tokens": read, "cache_creation_input_tokens": written}
        if isinstance(raw.get("cache_creation"), dict):
            usage["cache_creation"] = raw["cache_creation"]
    spent = raw.get("output_tokens_details")
    if isinstance(spent, dict) and (thought := _count(spent, "thinking_tokens")):
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    return usage


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if type(value) is int and value > 0 else 0


# Streamed


@define
class Piece:
    """A block that is being streamed: what it began as, and what has come of it."""

    block: dict[str, Any]
    number: int
    told: bool = False


@define
class Translation:
    """One stream's translation: events of the Messages API in, chunks of a chat completion out."""

    _id: Any = None
    _model: Any = None
    _usage: dict[str, Any] = field(factory=dict)
    _usage_told: dict[str, Any] | None = None
    _open: dict[Any, Piece] = field(factory=dict)
    _begun: bool = False
    _said: bool = False
    _calls: int = 0
    _thoughts: int = 0
    _created: int = field(factory=lambda: int(time.time()))

    def event(self, raw: bytes) -> bytes:
        """What becomes of one whole event. What is none of this wire is passed on, for the stream's reader to judge."""
        data = event_data(raw)
        if data is None:
            return raw
        if data == b"[DONE]":  # not of this wire, in which `message_stop` says it
            return b""
        try:
            event = loads_answer(data, EVENT_VALUES)
        except ValueError:
            return raw
        kind = event.get("type") if isinstance(event, dict) else None
        if not isinstance(kind, str) or kind == "error":
            return b"data: " + data + b"\n\n"
        reader = READERS.get(kind)
        return reader(self, event) if reader else b""

    def _start(self, event: Mapping[str, Any]) -> bytes:
        if self._said:  # a second answer spliced into the first: its calls and texts would run into each other
            return event_bytes({"error": {"message": "a second message began within the first", "type": "api_error"}})
        message = event.get("message")
        message = message if isinstance(message, dict) else {}
        self._id, self._model = message.get("id"), message.get("model")
        self._take(message.get("usage"))
        begun, self._begun = self._begun, True
        return b"" if begun else self._chunk({"role": "assistant", "content": ""})

    def _block(self, event: Mapping[str, Any]) -> bytes:
        block = event.get("content_block")
        block = dict(block) if isinstance(block, dict) else {}
        self._said = True
        kind = block.get("type")
        number = self._calls if kind == "tool_use" else self._thoughts
        self._open[event.get("index")] = Piece(block, number)
        if kind == "tool_use":
            self._calls += 1
            function = {"name": block.get("name"), "arguments": ""}
            call = {"index": number, "id": block.get("id"), "type": "function", "function": function}
            return self._chunk({"tool_calls": [call]})
        if kind == "text" and block.get("text"):
            return self._chunk({"content": block["text"]})
        if kind in ("thinking", "redacted_thinking"):
            self._thoughts += 1
        return self._chunk({"reasoning_content": block["thinking"]}) if block.get("thinking") else b""

    def _delta(self, event: Mapping[str, Any]) -> bytes:
        delta, piece = event.get("delta"), self._open.get(event.get("index"))
        if not isinstance(delta, dict) or piece is None:
            return b""
        kind, block = delta.get("type"), piece.block
        if kind == "text_delta":
            return self._chunk({"content": delta.get("text") or ""})
        if kind == "thinking_delta":
            block["thinking"] = f"{block.get('thinking') or ''}{delta.get('thinking') or ''}"
            return self._chunk({"reasoning_content": delta.get("thinking") or ""})
        if kind == "signature_delta":
            block["signature"] = f"{block.get('signature') or ''}{delta.get('signature') or ''}"
        if kind == "input_json_delta" and block.get("type") == "tool_use" and delta.get("partial_json"):
            piece.told = True
            return self._arguments(piece, delta["partial_json"])
        return b""

    def _stop(self, event: Mapping[str, Any]) -> bytes:
        """A block's end: now its thinking has its signature, and a call without arguments gets its empty object."""
        piece = self._open.pop(event.get("index"), None)
        kind = piece.block.get("type") if piece else None
        if piece and kind in ("thinking", "redacted_thinking"):
            return self._chunk({"reasoning_details": [_detail(piece.number, piece.block)]})
        if piece and kind == "tool_use" and not piece.told:
            return self._arguments(piece, dumps(piece.block.get("input") or {}).decode())
        return b""

    def _message(self, event: Mapping[str, Any]) -> bytes:
        """The message's own delta: why it ended, and what it took."""
        self._take(event.get("usage"))
        delta = event.get("delta")
        stop = delta.get("stop_reason") if isinstance(delta, dict) else None
        if stop is None:
            return b""
        refusal = _refusal(delta) if isinstance(delta, dict) else None
        return self._chunk({"refusal": refusal} if refusal else {}, stop) + self._told_usage()

    def _end(self, event: Mapping[str, Any]) -> bytes:
        return self._told_usage() + DONE

    def _told_usage(self) -> bytes:
        """The usage, told with why it ended, for some stop there; and once more where it has changed since."""
        usage = usage_of(self._usage)
        if not usage or usage == self._usage_told:
            return b""
        self._usage_told = usage
        return event_bytes(self._envelope([]) | {"usage": usage})

    def _ping(self, event: Mapping[str, Any]) -> bytes:
        return PING

    def _take(self, usage: Any) -> None:
        """Usage is cumulative: what comes later counts, but for what it leaves out."""
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _arguments(self, piece: Piece, text: str) -> bytes:
        return self._chunk({"tool_calls": [{"index": piece.number, "function": {"arguments": text}}]})

    def _chunk(self, delta: Mapping[str, Any], stop: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": _finish(stop)}
        return event_bytes(self._envelope([choice | ({"native_finish_reason": stop} if stop else {})]))

    def _envelope(self, choices: list[Any]) -> dict[str, Any]:
        about = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
        return {**about, "choices": choices}


READERS: Mapping[str, Any] = {
    "message_start": Translation._start,
    "content_block_start": Translation._block,
    "content_block_delta": Translation._delta,
    "content_block_stop": Translation._stop,
    "message_delta": Translation._message,
    "message_stop": Translation._end,
    "ping": Translation._ping,
}
"""What is done with which event; unknown ones are passed over, as Anthropic asks of its clients."""
