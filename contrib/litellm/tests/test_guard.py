"""The guardrail in a real LiteLLM proxy, alone: every call of every kind is scanned before it is routed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from .conftest import Setting

pytestmark = pytest.mark.real

SECRET = "AKIA" + "Q3EGRJ7WZ5NVK2XP"
MAIL = "maria.santos@mail-of-santos.pt"
PROMPT = f"What is {SECRET} good for?"


def under(action: str) -> dict[str, Any]:
    return {"extra_body": {"guardrails": [action]}}


CALLS: dict[str, Callable[[openai.OpenAI, dict[str, Any]], Any]] = {
    "chat": lambda c, g: c.chat.completions.create(model="remote", messages=[{"role": "user", "content": PROMPT}], **g),
    "a tool's result": lambda c, g: c.chat.completions.create(
        model="remote",
        messages=[
            {"role": "user", "content": "x"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": PROMPT},
        ],
        **g,
    ),
    "completion": lambda c, g: c.completions.create(model="remote", prompt=PROMPT, **g),
    "embedding": lambda c, g: c.embeddings.create(model="remote", input=["x", PROMPT], **g),
    "responses": lambda c, g: c.responses.create(model="remote", input=PROMPT, **g),
    "image": lambda c, g: c.images.generate(model="remote", prompt=PROMPT, **g),
    "speech": lambda c, g: c.audio.speech.create(model="remote", voice="alloy", input=PROMPT, **g),
    "moderation": lambda c, g: c.moderations.create(model="remote", input=PROMPT, **g),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_private_is_blocked_in_every_kind_of_call(at: Setting, call: str) -> None:
    before = len(at.up.seen("remote").requests)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        CALLS[call](at.client, under("block"))
    assert "privacy_blocked" in str(refused.value)
    assert SECRET not in str(refused.value)
    assert len(at.up.seen("remote").requests) == before


def test_what_is_not_private_passes(at: Setting) -> None:
    for action in ("block", "redact", "route"):
        answer = at.say("Hello", "remote", **under(action))
        assert answer.choices[0].message.content == at.up.expected_text("remote")
    assert at.up.seen("remote").last.json["messages"] == [{"role": "user", "content": "Hello"}]


def test_what_is_private_is_taken_out_where_that_is_wanted(at: Setting) -> None:
    at.say(PROMPT, "remote", **under("redact"))
    sent = at.up.seen("remote").last
    assert SECRET.encode() not in sent.body
    assert sent.json["messages"][0]["content"].startswith("What is [")
    at.client.embeddings.create(model="remote", input=["x", PROMPT], **under("redact"))
    assert SECRET.encode() not in at.up.seen("remote").last.body


def test_a_class_that_nothing_can_be_taken_out_of_is_blocked(at: Setting) -> None:
    private = {"extra_headers": {"X-Router-Privacy": "private"}}
    with pytest.raises(openai.PermissionDeniedError):
        at.say("My diary", "remote", **under("redact"), **private)


def test_what_is_private_is_led_to_the_local_model(at: Setting) -> None:
    before = at.up.seen("remote").chat
    for stream in (False, True):
        answer = at.say(PROMPT, "remote", stream=stream, **under("route"))
        text = (
            "".join(c.choices[0].delta.content or "" for c in answer) if stream else answer.choices[0].message.content
        )
        assert text == at.up.expected_text("home")
    assert at.up.seen("remote").chat == before


@pytest.mark.parametrize("action", ["block", "redact", "route"])
def test_what_a_scanner_redacts_by_its_own_action_is_redacted_under_any(at: Setting, action: str) -> None:
    at.say(f"Write to {MAIL} please", "remote", **under(action))
    assert MAIL.encode() not in at.up.seen("remote").last.body


def test_a_guard_whose_options_are_wrong_lets_nothing_through(at: Setting) -> None:
    before = at.up.seen("remote").chat
    with pytest.raises(openai.InternalServerError) as refused:
        at.say("Hello", "remote", **under("wrong"))
    assert "plugin_required" in str(refused.value)
    assert at.up.seen("remote").chat == before
