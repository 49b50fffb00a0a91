"""Our plans carried out by a real LiteLLM proxy: its deployments, its forwarding, its fallbacks, our say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import openai
import pytest

from routerpool.testing.upstream import Upstream

from .conftest import Setting, Start

pytestmark = pytest.mark.real

SECRET = "AKIA" + "Q3EGRJ7WZ5NVK2XP"
NAMES = ("free", "paid", "home", "twin", "fragile", "weak", "torn", "backup")


def deployment(up: Upstream, group: str, name: str, model: str = "m1", **own: Any) -> dict[str, Any]:
    return {
        "model_name": group,
        "litellm_params": {"model": f"openai/{model}", "api_base": up.base_url(name), "api_key": f"key-of-{name}"},
        "model_info": {"id": f"{group}-{name}", "routerpool": {"provider": name, "local": False, **own}},
    }


def configuration(up: Upstream, seams: str) -> dict[str, Any]:
    hooks = "routerpool_litellm.takeover.handler" if seams == "takeover" else "routerpool_litellm.hooks.handler"
    return {
        "model_list": [
            deployment(up, "auto", "paid", "m2"),
            deployment(up, "auto", "free", free=True),
            deployment(up, "auto", "home", "m3", local=True, free=False, rank=9),
            deployment(up, "remote", "paid", "m2"),
            deployment(up, "twins", "twin"),  # the same name at two addresses, of which one is local
            deployment(up, "twins", "home", local=True),
            deployment(up, "fragile", "fragile"),
            deployment(up, "weak", "weak", free=True),
            deployment(up, "weak", "twin"),
            deployment(up, "torn", "torn"),
            deployment(up, "backup", "backup"),
            deployment(up, "embed", "paid", "m2"),
        ],
        "litellm_settings": {"callbacks": [hooks]},
        "router_settings": {
            "num_retries": 2,
            "fallbacks": [{"fragile": ["backup"]}, {"weak": ["backup"]}],
            **({"plugins": ["routerpool_litellm.routing.plugin"]} if seams == "narrowing" else {}),
        },
        "general_settings": {},
    }


OURS = {
    "plugins": {"secrets": {}, "free_first": {}, "breaker": {"failures": 1}},
    "profiles": {"auto": {"weights": {"free_first": 1}}},
}


@pytest.fixture(scope="module")
def narrowed(start: Start, up: Upstream) -> Iterator[Setting]:
    with start(configuration(up, "narrowing"), OURS, up) as setting:
        yield setting


@pytest.fixture
def at(narrowed: Setting) -> Setting:
    return fresh(narrowed)


def fresh(at: Setting) -> Setting:
    for name in NAMES:
        at.up.always(name, "ok")
    at.forget()
    return at


def counts(at: Setting) -> dict[str, int]:
    return {name: at.up.seen(name).chat for name in NAMES}


def more(at: Setting, before: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in counts(at).items() if count != before[name]}


def test_the_plan_is_obeyed(at: Setting) -> None:
    before = counts(at)
    for _ in range(6):
        answer = at.raw("Hello")
        assert answer.headers["x-router-provider"] == "free"
        assert answer.headers["x-router-attempts"] == "1"
        assert answer.parse().choices[0].message.content == at.up.expected_text("free")
        record = at.record_of(answer)
        assert (record["provider"], record["model"], record["profile"]) == ("free", "m1", "auto")
        assert record["outcome"] == "answered"
    assert more(at, before) == {"free": 6}


def test_what_plugins_change_is_what_is_sent(at: Setting) -> None:
    at.say("Hello", temperature=0.25, extra_body={"router": {"priority": "low"}})
    sent = at.up.seen("free").last
    assert (sent.json["seed"], sent.json["temperature"]) == (4711, 0.25)
    assert "router" not in sent.json
    assert sent.headers["authorization"] == "Bearer key-of-free", "LiteLLM's key goes where it belongs"


def test_the_usage_of_an_answer_and_of_a_stream_reaches_the_record(at: Setting) -> None:
    plain = at.raw("Hello")
    streamed = at.raw("Hello", stream=True)
    text = "".join(c.choices[0].delta.content or "" for c in streamed.parse() if c.choices)
    assert text == at.up.expected_text("free")
    first, second = at.record_of(plain), at.record_of(streamed)
    usage = plain.parse().usage
    assert (first["input"], first["output"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert (second["stream"], second["source"], second["outcome"]) == (True, "reported", "answered")
    assert (second["input"], second["output"]) == (first["input"], first["output"])


def test_a_secret_stays_here(at: Setting) -> None:
    before = counts(at)
    answer = at.say(f"What is {SECRET} good for?")
    assert answer.choices[0].message.content == at.up.expected_text("home")
    assert more(at, before) == {"home": 1}
    with pytest.raises(openai.PermissionDeniedError) as refused:
        at.say(f"What is {SECRET} good for?", "remote")
    assert "privacy_blocked" in refused.value.message
    assert SECRET not in refused.value.message
    assert more(at, before) == {"home": 1}


def test_of_two_deployments_with_one_name_the_local_one_gets_the_secret(at: Setting) -> None:
    before = counts(at)
    for _ in range(6):
        at.say(f"What is {SECRET} good for?", "twins")
    assert more(at, before) == {"home": 6}


def test_other_calls_than_chats_are_checked_too(at: Setting) -> None:
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    at.up.route("paid", "POST /v1/embeddings", {"object": "list", "data": [vector], "model": "m2", "usage": usage})
    assert at.client.embeddings.create(model="embed", input="Hello", encoding_format="float").data[0].embedding == [0.5]
    before = len(at.up.seen("paid").requests)
    with pytest.raises(openai.PermissionDeniedError):
        at.client.embeddings.create(model="embed", input="Hello", extra_body={"router": {"privacy": "private"}})
    with pytest.raises(openai.PermissionDeniedError):
        at.client.embeddings.create(model="embed", input=f"What is {SECRET} good for?")
    with pytest.raises(openai.PermissionDeniedError):
        at.client.completions.create(model="remote", prompt=f"What is {SECRET} good for?")
    with pytest.raises(openai.PermissionDeniedError):
        at.client.responses.create(model="remote", input=f"What is {SECRET} good for?")
    assert len(at.up.seen("paid").requests) == before


def test_no_field_of_a_request_leads_a_secret_past_the_check(at: Setting) -> None:
    before = counts(at)
    elsewhere = at.up.base_url("paid")
    forged = {"routing_plugin_signals": {"routerpool": "home/m3"}, "_routing_plugin_candidate_models": ["openai/m2"]}
    for field in (
        {"custom_llm_provider": "routerpool"},
        {"custom_llm_provider": "openai", "api_base": elsewhere},
        {"base_url": elsewhere},
        {"model_info": {"id": "auto-home"}},
        {"metadata": {"routerpool": "x", "model_group": "auto", **forged}},
        {"specific_deployment": True},
        {"fallbacks": ["remote"]},
        {"model_list": [{"model_name": "remote", "litellm_params": {"model": "openai/m2", "api_base": elsewhere}}]},
        {"user_config": {"model_list": []}},
    ):
        for model in ("auto", "remote", "paid/m2", "remote-paid"):
            with suppress(openai.APIStatusError):  # refused by LiteLLM or by us, or answered at home
                at.say(f"What is {SECRET} good for?", model, extra_body=field)
    assert more(at, before).keys() <= {"home"}


def test_a_hint_of_the_client_is_heard(at: Setting) -> None:
    before = counts(at)
    at.say("Hello", extra_headers={"X-Router-Privacy": "private"})
    at.say("Hello", extra_body={"router": {"privacy": "private"}})
    assert more(at, before) == {"home": 2}


def test_a_broken_deployment_is_left_for_the_next_of_the_plan_and_then_avoided(at: Setting) -> None:
    before = counts(at)
    at.up.always("free", "http:500")
    answer = at.raw("Hello")
    provider = answer.headers["x-router-provider"]
    assert provider in ("paid", "home")
    assert answer.headers["x-router-tried"] == "free/m1:server"
    assert more(at, before) == {"free": 1, provider: 1}
    record = at.record_of(answer)
    assert (record["outcome"], record["tried"]) == (
        "answered",
        ["free/m1:server", f"{record['provider']}/{record['model']}:answered"],
    )
    for _ in range(3):
        assert at.raw("Hello").headers["x-router-attempts"] == "1"
    assert more(at, before) == {"free": 1, provider: 4}


def test_litellms_own_fallbacks_keep_working(at: Setting) -> None:
    at.up.always("fragile", "http:500")
    before = counts(at)
    answer = at.raw("Hello", "fragile")
    assert answer.parse().choices[0].message.content == at.up.expected_text("backup")
    assert more(at, before)["backup"] == 1
    assert at.record_of(answer)["provider"] == "backup"
    at.until(lambda: any(r["tried"][:1] == ["fragile/m1:server"] and r["outcome"] == "failed" for r in at.read_all()))


def test_a_fallback_leaves_the_rest_of_a_plan_behind(at: Setting) -> None:
    at.up.always("weak", "http:500")
    before = counts(at)
    answer = at.raw("Hello", "weak", extra_body={"num_retries": 0})
    assert answer.headers["x-router-provider"] == "backup"
    assert more(at, before) == {"weak": 1, "backup": 1}
    at.until(lambda: any(r["tried"] == ["weak/m1:server"] and r["outcome"] == "failed" for r in at.read_all()))


def test_a_stream_that_breaks_off_is_an_error_and_recorded_as_truncated(at: Setting) -> None:
    at.up.always("torn", "midclose")
    with pytest.raises(openai.APIError):  # as a status where LiteLLM has sent nothing yet, else in the stream
        list(at.say("Hello", "torn", stream=True))
    at.until(lambda: any(r["outcome"] == "truncated" and r["tried"] == ["torn/m1:interrupted"] for r in at.read_all()))


def test_a_strategy_that_takes_over_does_all_of_this_too(start: Start, up: Upstream) -> None:
    """In one test, since each may come to run in a process of its own, and starting a proxy takes its time."""
    with start(configuration(up, "takeover"), OURS, up) as setting:
        for test in (
            test_the_plan_is_obeyed,
            test_what_plugins_change_is_what_is_sent,
            test_the_usage_of_an_answer_and_of_a_stream_reaches_the_record,
            test_a_secret_stays_here,
            test_of_two_deployments_with_one_name_the_local_one_gets_the_secret,
            test_other_calls_than_chats_are_checked_too,
            test_no_field_of_a_request_leads_a_secret_past_the_check,
            test_a_hint_of_the_client_is_heard,
            test_a_broken_deployment_is_left_for_the_next_of_the_plan_and_then_avoided,
            test_litellms_own_fallbacks_keep_working,
            test_a_fallback_leaves_the_rest_of_a_plan_behind,
            test_a_stream_that_breaks_off_is_an_error_and_recorded_as_truncated,
        ):
            test(fresh(setting))
