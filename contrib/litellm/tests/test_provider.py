"""The whole router as a provider of a real LiteLLM proxy: `routerpool/<profile>`, plain and streamed."""

from __future__ import annotations

import openai
import pytest

from .conftest import Setting

pytestmark = pytest.mark.real

SECRET = "AKIA" + "Q3EGRJ7WZ5NVK2XP"


def test_a_profile_answers(at: Setting) -> None:
    answer = at.say("Hello")
    assert answer.choices[0].message.content == at.up.expected_text("remote")
    (record,) = at.records()
    assert (record["provider"], record["outcome"], record["profile"]) == ("remote", "answered", "auto")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (record["input"], record["output"])
    assert at.up.seen("remote").last.json["seed"] == 4711, "the stranger's plugin is asked"


def test_the_name_behind_the_slash_is_the_profile_or_the_candidate(at: Setting) -> None:
    at.say("Hello", "mine")
    at.say("Hello", "remote/m1")
    assert [r["provider"] for r in at.records(2)] == ["home", "remote"]


def test_a_stream_arrives_whole_and_its_usage_reaches_the_record(at: Setting) -> None:
    chunks = list(at.say("Hello", stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == at.up.expected_text("remote")
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    (record,) = at.records()
    assert (record["stream"], record["source"]) == (True, "reported")
    (usage,) = [c.usage for c in chunks if c.usage]
    assert (usage.prompt_tokens, usage.completion_tokens) == (record["input"], record["output"])


def test_a_broken_candidate_is_passed_over_before_the_first_word(at: Setting) -> None:
    at.up.always("remote", "http:500")
    for stream in (False, True):
        answer = at.say("Hello", stream=stream)
        text = (
            "".join(c.choices[0].delta.content or "" for c in answer) if stream else answer.choices[0].message.content
        )
        assert text == at.up.expected_text("home")
    assert {r["provider"] for r in at.records(2)} == {"home"}


def test_a_stream_that_breaks_is_an_error_and_never_an_end(at: Setting) -> None:
    at.up.always("remote", "midclose")
    chunks = []
    stream = at.say("Hello", stream=True)
    with pytest.raises(openai.APIError):
        chunks.extend(stream)
    assert not [c for c in chunks if c.choices and c.choices[0].finish_reason]
    (record,) = at.records()
    assert record["outcome"] == "truncated"


def test_a_secret_stays_here(at: Setting) -> None:
    before = at.up.seen("remote").chat
    answer = at.say(f"What is {SECRET} good for?")
    assert answer.choices[0].message.content == at.up.expected_text("home")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        at.say(f"What is {SECRET} good for?", "remote/m1")
    assert "privacy_blocked" in refused.value.message
    assert SECRET not in str(refused.value)
    assert at.up.seen("remote").chat == before


def test_tools_go_there_and_come_back(at: Setting) -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "forecast", "parameters": city}}
    answer = at.say("Hello", tools=[tool], tool_choice="required", temperature=0.5)
    sent = at.up.seen("remote").last.json
    assert (sent["tools"], sent["temperature"]) == ([tool], 0.5)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("forecast", '{"city": "text"}')
    chunks = at.say("Hello", tools=[tool], tool_choice="required", stream=True)
    parts = [c.choices[0] for c in chunks if c.choices]
    calls = [call.function for part in parts for call in part.delta.tool_calls or ()]
    assert "".join(call.name or "" for call in calls) == "forecast"
    assert "".join(call.arguments or "" for call in calls) == '{"city": "text"}'
    assert parts[-1].finish_reason == "tool_calls"


def test_hints_in_headers_and_body_are_heard_and_not_sent(at: Setting) -> None:
    at.say("Hello", extra_headers={"X-Router-Privacy": "private"})
    at.say("Hello", extra_body={"router": {"privacy": "private"}})
    assert [r["provider"] for r in at.records(2)] == ["home", "home"]
    assert "router" not in at.up.seen("home").last.json


def test_an_unknown_name_is_told_as_such(at: Setting) -> None:
    with pytest.raises(openai.NotFoundError):
        at.say("Hello", "nobody")


def test_a_client_that_leaves_ends_the_stream_at_the_provider(at: Setting) -> None:
    at.up.always("remote", "infinite")
    gone = at.up.seen("remote").aborts
    with at.say("Hello", stream=True) as stream:
        next(stream)
    at.until(lambda: at.up.seen("remote").aborts > gone)
    (record,) = at.records()
    assert record["outcome"] == "cancelled"
