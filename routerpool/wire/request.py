"""A client's request: a parsed chat-completions body and its headers become a ChatRequest, and say what it needs.

Pure functions; nothing here knows a network, a provider or a policy. What is wrong is a RequestError with its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from secrets import token_hex
from typing import Any

from routerpool.errors import RequestError
from routerpool.types import Caller, ChatRequest
from routerpool.wire.hints import LONGEST_NAME, NO_MORE, HintReader, read_hints
from routerpool.wire.json import dumps

__all__ = ["needs_of", "new_id", "parse_chat", "sent_body", "serialised", "session_of"]

DESTINATIONS = frozenset(
    {"api_base", "api_key", "base_url", "custom_llm_provider", "extra_headers", "fallbacks", "mock_response"}
)
"""Body fields by which other proxies let a client choose where a request or a key goes; never accepted here."""


_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)  # no two workers hand out the same ones


def new_id() -> str:
    """An id for one request, as it stands in headers, errors and records; nobody can foretell the next one.

    The system is asked for the randomness of many at once: each question lets other threads in between.
    """
    try:
        return _ids.pop()
    except IndexError:
        drawn = token_hex(16 * 64)
        _ids.extend(drawn[place : place + 32] for place in range(0, len(drawn), 32))
        return _ids.pop()


def parse_chat(
    body: Any,
    *,
    request_id: str,
    headers: Iterable[tuple[str, str]] = (),
    caller: Caller | None = None,
    hints: Mapping[str, HintReader] = NO_MORE,
) -> ChatRequest:
    """Make a ChatRequest of a parsed chat-completions body; what is wrong with it is a RequestError.

    Fields that we do not know survive in `params`; the `router` object and the `X-Router-*` headers become hints, of
    which plugins bring those in `hints`.
    """
    if not isinstance(body, dict):
        raise RequestError("invalid_json", "the body must be a JSON object")
    params = dict(body)
    model = params.pop("model", None) or "auto"
    messages = params.pop("messages", None)
    stream = params.pop("stream", None)
    asked = read_hints(params.pop("router", None), headers, hints)
    if not isinstance(model, str) or len(model) > LONGEST_NAME:
        message = f"`model` must be a string of at most {LONGEST_NAME} characters"
        raise RequestError("invalid_request", message, param="model")
    if not isinstance(messages, list) or not messages:
        raise RequestError("invalid_request", "`messages` must be a list with at least one message", param="messages")
    plain = _is_plain(messages, params)
    for index, message in enumerate(() if plain else messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            where = f"messages[{index}]"
            raise RequestError("invalid_request", f"`{where}` must be an object with a `role`", param=where)
    if stream is not None and stream is not True and stream is not False:
        raise RequestError("invalid_request", "`stream` must be true or false", param="stream")
    if not DESTINATIONS.isdisjoint(params):
        name = next(iter(DESTINATIONS.intersection(params)))
        raise RequestError(
            "invalid_request", f"`{name}` cannot be set by a request; providers come from the config", param=name
        )
    options = params.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise RequestError("invalid_request", "`stream_options` must be an object", param="stream_options")
    heavy = not plain and is_heavy(messages, params)
    return ChatRequest(
        id=request_id,
        model=model,
        messages=messages,
        stream=bool(stream),
        params=params,
        hints=asked,
        caller=caller or NOBODY,
        heavy=heavy,
        huge=heavy and is_heavy(messages, params, times=HUGE),
    )


NOBODY = Caller()

MOST_LIGHT_CHARACTERS, MOST_LIGHT_VALUES = 128 << 10, 2000
"""What a request may hold so that a plugin goes through all of it within a few milliseconds."""


ROLES = ("user", "assistant", "system", "developer", "tool")
SCALARS = frozenset({bool, int, float, type(None)})
MANY = 32
"""The most messages, and the most parameters, of the usual form."""


def _is_plain(messages: list[Any], params: Mapping[str, Any]) -> bool:
    """Whether a request is of the usual form, a few messages of text, and light: told at a glance, for most are."""
    if len(messages) > MANY or len(params) > MANY:
        return False
    size = len("".join(params))
    for message in messages:
        if type(message) is not dict or len(message) != 2 or message.get("role") not in ROLES:
            return False
        content = message.get("content")
        if type(content) is not str:
            return False
        size += len(content)
    for value in params.values():
        if type(value) not in SCALARS:
            if type(value) is not str:
                return False
            size += len(value)
    return size <= MOST_LIGHT_CHARACTERS // 2


HUGE = 8
"""Times what is light: so much the core itself, which looks at each text once, still does within a few milliseconds."""


def is_heavy(*parts: Any, times: int = 1) -> bool:
    """Whether these JSON values hold more characters or values than so many times that; it stops counting there."""
    characters, values = times * MOST_LIGHT_CHARACTERS, times * MOST_LIGHT_VALUES
    waiting = [*parts]
    while waiting:
        held = waiting.pop()
        kind = type(held)
        if kind is str:
            characters -= len(held)
        elif kind is dict or kind is list:
            values -= len(held)
            if values < 0:
                return True
            if kind is dict:
                characters -= sum(map(len, held))
                waiting += held.values()
            else:
                waiting += held
        if characters < 0:
            return True
    return False


def needs_of(request: ChatRequest) -> frozenset[str]:
    """The capabilities without which a candidate cannot answer this request."""
    needs = set() if NEEDFUL.isdisjoint(request.params) else _needs_of_params(request.params)
    for message in request.messages:
        content = message.get("content")
        if message.get("tool_calls") or message["role"] == "tool":
            needs.add("tools")
        if isinstance(content, list):
            for part in content:
                kind = part.get("type") if isinstance(part, dict) else None
                if isinstance(kind, str) and kind in PART_NEEDS:
                    needs.add(PART_NEEDS[kind])
    return frozenset(needs) if needs else NO_NEEDS


def _needs_of_params(params: Mapping[str, Any]) -> set[str]:
    needs: set[str] = set()
    tools = params.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        needs.add("web_search" if isinstance(kind, str) and kind.startswith("web_search") else "tools")
    if params.get("functions"):
        needs.add("tools")
    if params.get("reasoning_effort") not in (None, "none"):
        needs.add("reasoning")
    response_format = params.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        needs.add("json_schema")
    return needs


NEEDFUL = frozenset({"tools", "functions", "reasoning_effort", "response_format"})
"""The parameters that need a capability."""

NO_NEEDS: frozenset[str] = frozenset()
PART_NEEDS: Mapping[Any, str] = {
    "image_url": "vision",
    "input_image": "vision",
    "input_audio": "audio",
    "file": "files",
}


TELLING = 1024
"""Characters of a message that tell one conversation from another, together with its length."""

MANY_SESSIONS = 4096
"""How many sessions are remembered, so that their turns need not be hashed again."""

_sessions: dict[tuple[Any, ...], str] = {}
"""Sessions by the hashes and lengths of what they are made of; nothing of a text itself is kept."""


def session_of(request: ChatRequest) -> str:
    """A hash that groups the turns of one conversation, kept apart by caller.

    It is made of the client's own session id if it names one, else of the system text and the first user message.
    """
    if request.hints.session:
        return _hashed((request.caller.id, "id", request.hints.session))
    key: list[Any] = [request.caller.id]
    for message in request.messages:
        role, content = message["role"], message.get("content")
        text = content if type(content) is str else _written(content)
        key += (role, hash(text), len(text))
        if role == "user":
            break
    known = tuple(key)
    session = _sessions.get(known)
    if session is None:
        if len(_sessions) >= MANY_SESSIONS:
            _sessions.clear()
        session = _sessions[known] = _hashed((request.caller.id, *_first_words(request.messages)))
    return session


def _first_words(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Role, length and beginning of each message up to the first of the user's."""
    for message in messages:
        role, content = message["role"], message.get("content")
        text = content if type(content) is str else _written(content)
        yield from (role, str(len(text)), text[:TELLING])
        if role == "user":
            return


def _hashed(parts: Iterable[str]) -> str:
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=12).hexdigest()


def _written(value: Any) -> str:
    try:
        return dumps(value).decode()
    except TypeError:  # nested too deeply to be sent, which `serialised` tells
        return ""


def serialised(value: Any) -> bytes:
    """What a client sent as JSON again; nested deeper than can be sent on is the client's fault and nobody else's."""
    try:
        return dumps(value)
    except TypeError:
        raise RequestError("invalid_request", "the body is nested too deeply") from None


def sent_body(request: ChatRequest, model: str) -> dict[str, Any]:
    """The body to send for `model`; a stream always asks for usage, whatever the client asked."""
    body = {**request.params, "model": model, "messages": request.messages}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {**(request.params.get("stream_options") or {}), "include_usage": True}
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)
    return body
