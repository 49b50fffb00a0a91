"""How a stream becomes one answer, and one answer a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from routerpool.wire.answers import index_of
from routerpool.wire.calls import Numbering
from routerpool.wire.json import event_bytes, loads_answer
from routerpool.wire.sse import DONE, MARK, event_data, split_events

__all__ = ["fold", "gathered", "unfold"]

TOLD_AGAIN = ("id", "created", "model", "object", "system_fingerprint", "service_tier", "usage")
"""What a chunk tells of the whole answer."""

ONCE, NAMES = frozenset({"id", "type", "role", "format"}), frozenset({"name"})
"""Texts that are told whole and not in pieces, and those of which nobody knows."""


def unfold(answer: Mapping[str, Any]) -> bytes:
    """A whole chat completion as the stream that says the same, without its terminal marker."""
    about = {name: value for name, value in answer.items() if name not in ("choices", "usage", "object")}
    envelope = {"object": "chat.completion.chunk", **about}
    events = []
    for position, choice in enumerate(answer["choices"]):
        if not (isinstance(choice, dict) and isinstance(choice.get("message"), dict)):
            continue
        said = dict(choice["message"])
        rest = {name: value for name, value in choice.items() if name not in ("message", "finish_reason")}
        begin = {"role": said.pop("role", None) or "assistant", "content": ""}
        calls = said.get("tool_calls")
        if isinstance(calls, list):
            whole = [call for call in calls if isinstance(call, dict)]
            said["tool_calls"] = [{**call, "index": number} for number, call in enumerate(whole)]
        said = {name: value for name, value in said.items() if value not in (None, "", [])}
        place = {"index": position, **rest}
        events += [{**place, "delta": {**begin, **said}, "finish_reason": None}]
        if choice.get("finish_reason") is not None:
            events += [{"index": place["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]
    out = b"".join([event_bytes({**envelope, "choices": [choice]}) for choice in events])
    usage = answer.get("usage")
    return out + (event_bytes({**envelope, "choices": [], "usage": usage}) if usage else b"")


def fold(body: bytes) -> dict[str, Any]:
    """The chat completion that a stream adds up to; an error in it as it is, and a cut stream is a ValueError."""
    body = body.removeprefix(MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, ended = [], False
    for raw in split_events(body):
        data = event_data(raw)
        ended = ended or data == DONE[6:-2]
        if data and not ended:
            event = loads_answer(data)
            if not isinstance(event, dict):
                raise ValueError("an event is no JSON object")
            if "choices" not in event and event.get("usage") is None:
                return event
            events.append(event)
    answer = gathered(events)
    if not answer["choices"] or not (ended or all(choice["finish_reason"] for choice in answer["choices"])):
        raise ValueError("a stream that is cut")
    return answer


def gathered(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The chat completion that chunks add up to, as far as they have come."""
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    numbering: dict[int, Numbering] = {}
    for event in events:
        _add(answer, [(name, value) for name, value in event.items() if name not in ("choices", *TOLD_AGAIN)])
        answer |= {name: event[name] for name in TOLD_AGAIN if event.get(name) is not None}
        given = event.get("choices")
        for position, choice in enumerate(given if isinstance(given, list) else ()):
            if isinstance(choice, dict):
                index = index_of(choice, position)
                whole = choices.setdefault(index, {"index": index, "message": {}, "finish_reason": None})
                _add_choice(whole, choice, numbering.setdefault(index, Numbering()))
    for choice in choices.values():
        message = choice["message"] = {"role": "assistant", "content": None, **choice["message"]}
        if "tool_calls" in message:
            message["tool_calls"] = list(message["tool_calls"].values())
    return {**answer, "object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def _add_choice(whole: dict[str, Any], choice: Mapping[str, Any], numbering: Numbering) -> None:
    for name, value in choice.items():
        if name == "finish_reason":
            whole[name] = value or whole[name]
        elif name in ("delta", "message") and isinstance(value, dict):
            message, calls = whole["message"], value.get("tool_calls")
            _add(message, [(key, each) for key, each in value.items() if key != "tool_calls"])
            calls = calls if isinstance(calls, list) else []
            for number, call in zip(numbering.number(calls), calls, strict=True):
                if number is not None:
                    known = message.setdefault("tool_calls", {}).setdefault(
                        number, {"type": "function", "function": {"name": "", "arguments": ""}}
                    )
                    _add(known, [(key, each) for key, each in call.items() if key != "index"])
        elif name != "index":
            _add(whole, [(name, value)])


def _add(whole: dict[str, Any], pieces: Iterable[tuple[str, Any]]) -> None:
    """Add what has come to what was there: texts and lists grow, objects are joined, what is told once stays."""
    for name, value in pieces:
        known = whole.get(name)
        if known is None or (not known and value):
            whole[name] = dict(value) if isinstance(value, dict) else value
        elif type(value) is not type(known) or (name in ONCE and isinstance(value, str)):
            continue
        elif isinstance(value, dict):
            _add(known, list(value.items()))
        elif isinstance(value, str | list):
            whole[name] = known + value if value != known or name not in NAMES else known
        else:
            whole[name] = value
