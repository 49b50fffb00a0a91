"""Every text that a request carries, wherever it stands, and the same request with some of them changed.

Scanners look at the one form in which a request is parsed and sent on, so that nothing can pass beside them: messages
of any shape, tools, metadata, names, keys of objects, fields that nobody knows, and what data URLs hold,
large numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from attrs import evolve, field, frozen

from routerpool.errors import RequestError
from routerpool.privacy.packed import packed_text
from routerpool.types import NO_HINTS, ChatRequest, Native

__all__ = ["DECODED", "Part", "fields_of", "leaves_of", "parts_of", "place_of", "rewritten"]

DECODED = " (decoded)"
"""How the place of a text ends that was decoded out of a data URL."""

KEY = " (key)"
"""How the place of a text ends that is itself the key of an object."""

DEEPEST = 1100
"""JSON deeper than this cannot be parsed, and deeper than a quarter of it cannot be sent on."""

LONGEST_PLACE = 200
"""A place longer than this is cut, so that deep nesting costs no more than its size."""

LARGE_NUMBER = 999_999
"""A number above this is a text, too: it may be a card's or a telephone's."""

FORMAT_WORDS = """
role content text type name function tool tool_calls tool_call_id tool_choice id index arguments input output
image_url url detail file file_data file_id filename input_audio data format source media_type parameters properties
description required enum items additionalProperties strict json_schema schema response_format default anyOf oneOf
allOf const title minimum maximum minLength maxLength minItems maxItems pattern $schema $defs $ref tools functions
function_call messages model system user metadata stop prediction stream stream_options include_usage temperature top_p
top_k n max_tokens max_completion_tokens presence_penalty frequency_penalty seed logit_bias logprobs top_logprobs
parallel_tool_calls reasoning reasoning_content reasoning_effort refusal audio modalities store service_tier
instructions thinking signature cache_control effort verbosity is_error tool_use_id prompt_cache_key
safety_identifier web_search_options
"""
ORDINARY = frozenset(FORMAT_WORDS.split())
"""Keys that formats give themselves: they are no text of anybody's, and may be told in places."""

DATA_URL = re.compile(r"data:[^,\s\"'<>]{0,200};base64,([A-Za-z0-9+/_-]+={0,2})")


@frozen(slots=True)
class Part:
    """One text of a request: where it stands, the text itself, and the index of its message, None outside of them.

    A place never holds a text of the client's: keys that no format knows are `*` in it. `key` is the object's key that
    the text stands under, for scanners that judge a text by its name.
    """

    place: str
    text: str = field(repr=False)
    message: int | None = None
    key: str | None = field(default=None, repr=False)


def parts_of(request: ChatRequest) -> Iterator[Part]:
    """Every text of a request, what is sent before the conversation first; never raises, linear in its size."""
    for place, value, message in fields_of(request):
        for text, container, name, suffix in leaves_of(value, place):
            yield Part(place_of(container, name) + suffix, text, message, name if isinstance(name, str) else None)


def fields_of(request: ChatRequest) -> Iterator[tuple[str, Any, int | None]]:
    """What a request consists of, as places, values and indices of messages; numbers and the like are left out."""
    yield "model", request.model, None
    if request.hints is not NO_HINTS and request.hints != NO_HINTS:
        hints = request.hints
        yield "router", [hints.task, hints.profile, hints.session, hints.preferred, hints.forbidden], None
    for key, value in request.params.items():
        if key not in ORDINARY:
            yield f"*{KEY}", key, None
        if type(value) not in SCALARS or (type(value) is int and abs(value) > LARGE_NUMBER):
            yield (key if key in ORDINARY else "*"), value, None
    for index, message in enumerate(request.messages):
        yield f"messages[{index}]", message, index
    if request.native is not None:
        yield "native", request.native.body, None


SCALARS = frozenset({int, float, bool, type(None)})


def leaves_of(value: Any, place: str = "") -> Iterator[tuple[str, str, str | int | None, str]]:
    """The texts in a value: each with the place of what holds it, its key or index there, and a suffix of the place."""
    if isinstance(value, str):
        yield value, place, None, ""
        if "data:" in value:
            yield from ((text, place, None, DECODED) for text in _decoded(value))
        return
    if type(value) is int:
        yield str(value), place, None, ""
        return
    waiting: list[tuple[Any, str, int]] = [(value, place, 0)]
    while waiting:
        held, place, depth = waiting.pop()
        for name, child in _children(held):
            if type(name) is str and name not in ORDINARY:
                yield name, place, name, KEY
            if isinstance(child, str):
                yield child, place, name, ""
                if "data:" in child:
                    yield from ((text, place, name, DECODED) for text in _decoded(child))
            elif type(child) is int:
                if abs(child) > LARGE_NUMBER:
                    yield str(child), place, name, ""
            elif type(child) not in SCALARS and depth < DEEPEST:
                waiting.append((child, place_of(place, name), depth + 1))


def _children(value: Any) -> Any:
    if type(value) is dict:  # as JSON has it; asking for the abstract kinds takes ten times as long
        return value.items()
    if type(value) is list:
        return enumerate(value)
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, Sequence | frozenset | set) and not isinstance(value, bytes | bytearray | memoryview):
        return enumerate(value)
    return ()


def place_of(container: str, name: str | int | None) -> str:
    """The place of what stands in a container under a key or an index."""
    if name is None or len(container) > LONGEST_PLACE:
        return container
    if isinstance(name, int):
        return f"{container}[{name}]"
    shown = name if name in ORDINARY else "*"
    return f"{container}.{shown}" if container else shown


# Data URLs


def _decoded(text: str) -> Iterator[str]:
    """What the data URLs in a text hold, as far as that is text again."""
    for match in DATA_URL.finditer(text):
        packed = packed_text(match[1])
        if packed is not None:
            yield packed.text
    head, comma, content = text.partition(",")
    if comma and head.startswith("data:") and not head.endswith(";base64") and "%" in content:
        yield unquote(content)


# Changing


Change = Callable[[Part], str | None]


def rewritten(request: ChatRequest, change: Change) -> ChatRequest:
    """The same request with changed texts; `change` answers None for those that stay, and these are shared.

    All of its parts are offered but the model's name and the hints, which are never sent.
    """
    messages: list[Any] = []
    for index, message in enumerate(request.messages):
        messages.append(_changed(message, f"messages[{index}]", None, index, change))
    changes: dict[str, Any] = {}
    if any(new is not old for new, old in zip(messages, request.messages, strict=True)):
        changes["messages"] = messages
    params = _changed(request.params, "", None, None, change)
    if params is not request.params:
        changes["params"] = params
    if request.native is not None:
        body = _changed(request.native.body, "native", None, None, change)
        if body is not request.native.body:
            changes["native"] = Native(dialect=request.native.dialect, body=body)
    return evolve(request, **changes) if changes else request


def _changed(value: Any, place: str, key: str | None, message: int | None, change: Change, depth: int = 0) -> Any:
    if isinstance(value, str):
        return _changed_text(value, place, key, message, change)
    if type(value) is int and abs(value) > LARGE_NUMBER:
        told = str(value)
        new = _changed_text(told, place, key, message, change)
        return value if new == told else new
    if type(value) in SCALARS:
        return value
    if depth > DEEPEST // 4:
        raise RequestError("invalid_request", "the body is nested too deeply")
    if isinstance(value, Mapping):
        made: dict[Any, Any] = {}
        for name, child in value.items():
            new = _changed(child, place_of(place, name), name, message, change, depth + 1)
            made[_changed_key(name, place, message, change, made)] = new
        same = all(
            new is old and one is other for (one, new), (other, old) in zip(made.items(), value.items(), strict=False)
        )
        return value if same and len(made) == len(value) else made
    if isinstance(value, list | tuple):
        items = [
            _changed(child, place_of(place, index), None, message, change, depth + 1)
            for index, child in enumerate(value)
        ]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def _changed_key(name: Any, place: str, message: int | None, change: Change, made: Mapping[Any, Any]) -> Any:
    if not isinstance(name, str) or name in ORDINARY:
        return name
    new = change(Part(place_of(place, name) + KEY, name, message, name))
    if new is None:
        return name
    number = 2
    unique = new
    while unique in made:
        unique, number = f"{new} {number}", number + 1
    return unique


def _changed_text(text: str, place: str, key: str | None, message: int | None, change: Change) -> str:
    new = change(Part(place, text, message, key))
    if "data:" not in text and (new is None or "data:" not in new):
        return text if new is None else new
    changed = text if new is None else new

    def encoded(match: re.Match[str]) -> str:
        packed = packed_text(match[1])
        told = None if packed is None else change(Part(place + DECODED, packed.text, message, key))
        if packed is None or told is None:
            return match[0]
        return match[0][: match.start(1) - match.start()] + packed.with_text(told)

    replaced = DATA_URL.sub(encoded, changed)
    head, comma, content = replaced.partition(",")
    if comma and head.startswith("data:") and not head.endswith(";base64") and "%" in content:
        told = change(Part(place + DECODED, unquote(content), message, key))
        if told is not None:
            replaced = f"{head},{quote(told)}"
    return text if replaced == text else replaced
