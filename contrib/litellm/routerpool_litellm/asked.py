"""What a client has asked of LiteLLM, as a request of ours: for chats, and for every other call of LiteLLM's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from routerpool import Caller, ChatRequest, Router
from routerpool.wire import new_id, read_hints
from routerpool_litellm.host import all_metadata, internal

__all__ = ["CHATS", "asked_of", "caller_of", "headers_of", "request_of"]

CHATS = frozenset({"completion", "acompletion"})
"""The calls that are planned and recorded; of all others only the privacy is looked at."""

KEPT_BACK = frozenset({"model", "messages", "stream", "router", "extra_headers", "organization", "timeout"})
"""Fields that are no part of what a model is told, or stand elsewhere in a request of ours."""


def asked_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request of LiteLLM's goes to a model, besides its messages, and may hold anybody's text."""
    asked = {name: value for name, value in data.items() if name not in KEPT_BACK and not internal(name)}
    for kept in all_metadata(data):  # what the client itself has called metadata; the rest is LiteLLM's own
        if told := kept.get("requester_metadata"):
            asked["metadata"] = told
    return asked


def headers_of(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The client's headers, as far as LiteLLM keeps them."""
    for kept in all_metadata(data):
        if isinstance(headers := kept.get("headers"), Mapping):
            return [(str(name), str(value)) for name, value in headers.items()]
    return []


def caller_of(data: Mapping[str, Any]) -> Caller:
    """Who asks: LiteLLM's alias of the API key, else the beginning of its hash."""
    for kept in all_metadata(data):
        if told := kept.get("user_api_key_alias"):
            return Caller(id=str(told))
        if told := kept.get("user_api_key_hash"):
            return Caller(id=str(told)[:12])
    return Caller()


def request_of(
    router: Router,
    model: str,
    asked: Mapping[str, Any],
    messages: Iterable[Any] = (),
    *,
    stream: bool = False,
    hints: Any = None,
    headers: Iterable[tuple[str, str]] = (),
    caller: Caller | None = None,
) -> ChatRequest:
    """A request of ours, for the profile that bears the name of LiteLLM's model group, else for the default one.

    Raises RequestError where the hints are wrong.
    """
    name = model.removeprefix("routerpool/")
    return ChatRequest(
        id=new_id(),
        model=f"routerpool/{name}" if name in router.config.profiles else "auto",
        messages=[message for message in messages if isinstance(message, Mapping)],
        stream=stream,
        params=asked,
        hints=read_hints(hints, headers, router.hints),
        caller=caller or Caller(),
    )
