"""Ollama's own chat, `/api/chat`, on the far side of OpenAI's form: requests translated to it, its answers back.

Requests are read as Ollama's own OpenAI form reads them, so that a model answers alike on both ways. Its stream is one
JSON object a line, a tool call's arguments are an object, thinking stands beside the text, tokens are `eval_count`s.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from routerpool.protocols import Reply
from routerpool.wire import EVENT_VALUES, dumps, event_bytes, loads, parsed
from routerpool_ollama.wishes import Wishes

__all__ = ["NativeStream", "UntranslatableError", "chat_body", "completion", "refusal"]

USUAL: Mapping[str, Any] = {"temperature": 1.0, "top_p": 1.0}
"""What Ollama's OpenAI form asks for where a request says nothing; by itself it would take the model's own values."""

SAME = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")
"""Fields of a request that are options of the same name."""

PASSED = ("think", "truncate", "shift", "logprobs", "top_logprobs")
"""Fields that `/api/chat` has under the same name."""

LINE_BYTES = 32 << 20
DONE = b"data: [DONE]\n\n"


class UntranslatableError(ValueError):
    """A request that `/api/chat` cannot be asked; its text is the one that Ollama's OpenAI form refuses it with."""


# Requests


def chat_body(body: Mapping[str, Any], configured: Wishes, asked: Wishes) -> dict[str, Any]:
    """The body for `/api/chat` of one for `/chat/completions`; what cannot be said is an UntranslatableError.

    The request's own fields go over what is configured, and what it asks in Ollama's words over these.
    """
    sent: dict[str, Any] = {
        "model": body["model"],
        "messages": _messages(body["messages"]),
        "stream": bool(body.get("stream")),
        "options": {**USUAL, **configured.options, **_options(body), **asked.options},
    }
    keep_alive = asked.over(configured).keep_alive
    if keep_alive is not None:
        sent["keep_alive"] = keep_alive
    if body.get("tools") and body.get("tool_choice") != "none":
        sent["tools"] = body["tools"]
    wanted = _format(body.get("response_format"))
    if wanted is not None:
        sent["format"] = wanted
    effort = _effort(body)
    if effort is not None:
        sent["think"] = False if effort == "none" else effort
    return sent | {name: body[name] for name in PASSED if body.get(name) is not None}


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: body[name] for name in SAME if body.get(name) is not None}
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    if cap is not None:
        options["num_predict"] = cap
    stop = body.get("stop")
    if stop:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    return options


def _format(wanted: Any) -> Any:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return "json"
    described = wanted.get("json_schema") if kind == "json_schema" else None
    return described.get("schema") if isinstance(described, dict) else None


def _effort(body: Mapping[str, Any]) -> Any:
    reasoning = body.get("reasoning")
    told = reasoning.get("effort") if isinstance(reasoning, dict) else None
    return told or body.get("reasoning_effort")


def _messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names: dict[Any, Any] = {}
    sent = []
    for message in messages:
        given = message.get("tool_calls")
        calls = [_asked_call(call, names) for call in given] if isinstance(given, list) else []
        text, images = _content(message.get("content"))
        told: dict[str, Any] = {"role": "system" if message["role"] == "developer" else message["role"]}
        told["content"] = text
        if images:
            told["images"] = images
        if thinking := message.get("reasoning") or message.get("reasoning_content"):
            told["thinking"] = thinking
        if calls:
            told["tool_calls"] = calls
        if message["role"] == "tool":
            told |= _answered_call(message, names)
        sent.append(told)
    return sent


def _answered_call(message: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    call = message.get("tool_call_id")
    name = message.get("name") or names.get(call)
    return {key: value for key, value in (("tool_call_id", call), ("tool_name", name)) if value}


def _asked_call(call: Any, names: dict[Any, Any]) -> dict[str, Any]:
    """A tool call of an earlier answer; its name is remembered for the message that brings its result."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise UntranslatableError("invalid message format")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = loads(arguments.encode())
        except ValueError:
            arguments = None
    if not isinstance(arguments, dict):
        raise UntranslatableError("invalid tool call arguments")
    told: dict[str, Any] = {"function": {"name": function.get("name"), "arguments": arguments}}
    if isinstance(call.get("id"), str):
        told["id"] = call["id"]
        names[call["id"]] = function.get("name")
    return told


def _content(content: Any) -> tuple[str, list[str]]:
    """The text of a message, its parts on lines of their own, and its pictures in base64."""
    if content is None or isinstance(content, str):
        return content or "", []
    texts, images = [], []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_image(part.get("image_url")))
        else:
            raise UntranslatableError("invalid message format")
    return "\n".join(texts), images


def _image(told: Any) -> str:
    url = told.get("url") if isinstance(told, dict) else told
    head, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        raise UntranslatableError("invalid image input")
    return data


def refusal(error: UntranslatableError) -> bytes:
    """What Ollama's OpenAI form would have answered, with status 400."""
    return dumps({"error": {"message": str(error), "type": "invalid_request_error", "param": None, "code": None}})


# Answers


async def completion(answer: bytes, identity: str) -> bytes:
    """A whole answer as a chat completion; what is none, such as an error, stays as it is."""
    try:
        told = await parsed(answer)
    except ValueError:
        return answer
    said = told.get("message") if isinstance(told, dict) else None
    if not isinstance(said, dict) or told.get("error"):
        return answer
    message: dict[str, Any] = {"role": "assistant", "content": said.get("content") or ""}
    if said.get("thinking"):
        message["reasoning"] = said["thinking"]
    calls = _calls(said, 0, identity)
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": _finish(told, bool(calls)), **_logprobs(told)}
    return dumps({**_envelope(told, identity, "chat.completion"), "choices": [choice], "usage": _usage(told)})


class NativeStream:
    """A stream of `/api/chat` as server-sent events. A line that is an error, or rubbish, goes on as it is."""

    status = 200
    headers: Mapping[str, str] = {"Content-Type": "text/event-stream"}

    def __init__(self, upstream: Reply, identity: str) -> None:
        self._upstream = upstream
        self._identity = identity
        self._rest = bytearray()
        self._begun = False
        self._calls = 0

    async def chunk(self) -> bytes:
        """The events of the next whole lines; b"" at the end. A line longer than 32 MiB is a ValueError."""
        while True:
            data = await self._upstream.chunk()
            self._rest += data
            if len(self._rest) > LINE_BYTES:
                raise ValueError("a line longer than its limit")
            if data and b"\n" not in data:
                continue
            lines = bytes(self._rest).split(b"\n")
            self._rest = bytearray(lines.pop() if data else b"")
            events = b"".join(self._events(line) for line in lines if line.strip())
            if events or not data:
                return events

    def close(self) -> None:
        """Give the connection back or cut it."""
        self._upstream.close()

    def _events(self, line: bytes) -> bytes:
        try:
            told = loads(line, EVENT_VALUES)
        except ValueError:
            told = None
        if not isinstance(told, dict) or told.get("error"):
            return b"data: " + line.strip() + b"\n\n"
        out = b""
        delta = self._delta(told.get("message"))
        if delta:
            choice = {"index": 0, "delta": delta, "finish_reason": None, **_logprobs(told)}
            out = self._event(told, [choice])
        return out + self._end(told) if told.get("done") else out

    def _delta(self, said: Any) -> dict[str, Any]:
        said = said if isinstance(said, dict) else {}
        delta: dict[str, Any] = {}
        if said.get("thinking"):
            delta["reasoning"] = said["thinking"]
        if said.get("content"):
            delta["content"] = said["content"]
        calls = _calls(said, self._calls, self._identity)
        if calls:
            self._calls += len(calls)
            delta["tool_calls"] = calls
        if delta and not self._begun:
            self._begun = True
            delta = {"role": "assistant", "content": "", **delta}
        return delta

    def _end(self, told: Mapping[str, Any]) -> bytes:
        finish = _finish(told, bool(self._calls))
        if finish is None:
            return b""
        last = self._event(told, [{"index": 0, "delta": {}, "finish_reason": finish}])
        return last + self._event(told, [], usage=_usage(told)) + DONE

    def _event(self, told: Mapping[str, Any], choices: list[Any], **more: Any) -> bytes:
        return event_bytes({**_envelope(told, self._identity, "chat.completion.chunk"), "choices": choices, **more})


def _envelope(told: Mapping[str, Any], identity: str, kind: str) -> dict[str, Any]:
    return {"id": identity, "object": kind, "created": int(time.time()), "model": told.get("model")}


def _calls(said: Mapping[str, Any], before: int, identity: str) -> list[dict[str, Any]]:
    """The tool calls of a message, each of them whole, numbered on from those that came before."""
    given = said.get("tool_calls")
    found: list[dict[str, Any]] = []
    for call in given if isinstance(given, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue
        number = before + len(found)
        arguments = dumps(function.get("arguments") or {}).decode()
        told = {"name": function.get("name"), "arguments": arguments}
        name = call.get("id") or f"call_{identity}_{number}"
        found.append({"index": number, "id": name, "type": "function", "function": told})
    return found


def _finish(told: Mapping[str, Any], calls: bool) -> str | None:
    """Why it ended; None where it only loaded or unloaded the model, which is no answer."""
    reason = told.get("done_reason") or "stop"
    if reason in ("load", "unload"):
        return None
    return "tool_calls" if calls and reason == "stop" else str(reason)


def _logprobs(told: Mapping[str, Any]) -> dict[str, Any]:
    return {"logprobs": {"content": told["logprobs"]}} if isinstance(told.get("logprobs"), list) else {}


def _usage(told: Mapping[str, Any]) -> dict[str, int]:
    """Its counts, which it leaves out where they are 0."""
    read, said = (told.get(name) for name in ("prompt_eval_count", "eval_count"))
    read, said = (count if type(count) is int else 0 for count in (read, said))
    return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}
