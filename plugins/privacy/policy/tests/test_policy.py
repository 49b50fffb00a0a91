"""What raises a request's class, and who may then see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from attrs import evolve
from routerpool_policy import Policy

from routerpool import (
    Caller,
    Candidate,
    ConfigError,
    Features,
    Finding,
    Level,
    Model,
    OpenAIProvider,
    Privacy,
    RequestError,
    Router,
    Score,
    hookimpl,
)
from routerpool.planning import explain
from routerpool.testing import make_router
from routerpool.wire import parse_chat

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


class Seen:
    """A scanner that finds the word `falcon`, and raises nothing itself."""

    @hookimpl
    def classify(self, request: Any, features: Features) -> Features | None:
        if "falcon" not in repr(request.messages):
            return None
        return features.raised(Privacy.PUBLIC, [Finding(rule="birds.falcon", part="messages[0]", redacted="…")])


class Eager:
    """A strategy that wants what is not local, like a pin made before."""

    @hookimpl
    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        return [Score(c, float(not c.model.local)) for c in candidates]


def made(policy: Mapping[str, Any] | None = None, **config: Any) -> Router:
    """A router with a policy over one local provider and three remote ones, not started."""
    where = {"use": "p", "base_url": "http://127.0.0.1:9/v1"}
    plugins = {
        "policy": dict(policy or {}),
        "seen": {},
        "eager": {},
        "home": {**where, "local": True, "models": ["m"]},
        "open": {**where, "models": [{"id": "m", "data_policy": "may_train"}]},
        "safe": {**where, "models": [{"id": "m", "data_policy": "no_training"}]},
        "dark": {**where, "models": ["m"]},
    }
    known = {"policy": Policy, "seen": Seen, "eager": Eager, "p": OpenAIProvider}
    tree = {"plugins": plugins, "profiles": {"auto": {"weights": {"eager": 1}}}, **config}
    return make_router(tree, plugins=known)


def planned(router: Router, body: Mapping[str, Any] = HELLO, headers: Any = (), caller: Caller | None = None) -> Any:
    """The plan for a body, of a router that was started for it."""

    async def plan() -> Any:
        async with router:
            asked = parse_chat(dict(body), request_id="r", headers=headers, caller=caller)
            return await router.planner.plan(asked)

    return asyncio.run(plan())


def providers(plan: Any) -> set[str]:
    return {candidate.provider for candidate in plan.ranked}


def called(arguments: Any, **more: Any) -> dict[str, Any]:
    """A conversation in which a tool was called."""
    told = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": "c", "type": "function", "function": {"name": "read", "arguments": told}}
    messages = [
        {"role": "user", "content": "Read it"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]
    return {"messages": messages, **more}


# Who may see what


def test_public_requests_go_anywhere() -> None:
    assert providers(planned(made())) == {"home", "open", "safe", "dark"}


@pytest.mark.parametrize(
    ("policy", "asked", "left"),
    [
        ({}, "private", {"home", "safe"}),
        ({"may_train": "private"}, "private", {"home", "safe", "open"}),
        ({"may_train": "private"}, "sensitive", {"home", "safe"}),
        ({"unknown": "sensitive"}, "sensitive", {"home", "safe", "dark"}),
        ({"allow": {"private": ["dark"]}, "unknown": "secret"}, "private", {"home", "dark"}),
        ({"allow": {"private": ["s*/m"]}}, "public", {"home", "safe", "open", "dark"}),
        ({"allow": {"private": ["safe"], "sensitive": []}}, "private", {"home", "safe"}),
        ({"allow": {"private": ["safe"], "sensitive": []}}, "sensitive", {"home"}),
        ({"deny": {"public": ["open", "dark/m"]}}, "public", {"home", "safe"}),
        ({"deny": {"private": ["home"]}}, "private", {"safe"}),
        ({"deny": {"sensitive": ["safe"]}}, "private", {"home", "safe"}),
        ({"deny": {"private": ["safe"]}}, "sensitive", {"home"}),
    ],
)
def test_the_class_of_a_request_decides_who_may_see_it(policy: Any, asked: str, left: set[str]) -> None:
    router = made(policy, privacy={"remote_allows": "secret"})

    plan = planned(router, HELLO | {"router": {"privacy": asked}})

    assert providers(plan) == left
    assert {veto.code for veto in plan.vetoes} <= {"privacy"}
    assert all(asked in veto.reason for veto in plan.vetoes)


@pytest.mark.parametrize("remote_allows", ["public", "private", "sensitive", "secret"])
@pytest.mark.parametrize("asked", ["public", "private", "sensitive", "secret"])
def test_nothing_here_lets_a_remote_provider_see_more_than_the_core_does(remote_allows: str, asked: str) -> None:
    everything = {"may_train": "secret", "unknown": "secret", "allow": {"public": ["*/*"], "secret": ["*/*"]}}
    router = made(everything, privacy={"remote_allows": remote_allows})

    plan = planned(router, HELLO | {"router": {"privacy": asked}})

    remote = Privacy[asked.upper()] <= Privacy[remote_allows.upper()]
    assert providers(plan) == ({"home", "open", "safe", "dark"} if remote else {"home"})


def test_when_nobody_is_left_the_client_is_told_that_it_is_for_privacy() -> None:
    router = made({"deny": {"secret": ["home"]}})

    async def ask() -> RequestError:
        async with router:
            with pytest.raises(RequestError) as caught:
                await router.chat(HELLO | {"router": {"privacy": "secret"}})
            return caught.value

    error = asyncio.run(ask())
    assert error.code == "privacy_blocked"
    assert error.status == 403
    assert {veto["code"] for veto in error.details["vetoes"]} == {"privacy"}


# What raises it


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"headers": [("X-Router-Privacy", "sensitive")]}, Privacy.SENSITIVE),
        ({"body": {"router": {"privacy": "private"}}}, Privacy.PRIVATE),
        ({"body": {"model": "routerpool/private"}}, Privacy.PRIVATE),
        ({"caller": Caller(id="ci", privacy=Privacy.SECRET)}, Privacy.SECRET),
        ({}, Privacy.PUBLIC),
    ],
)
def test_the_request_the_profile_and_the_key_raise_the_class(how: dict[str, Any], expected: Privacy) -> None:
    body = HELLO | how.get("body", {})

    plan = planned(made(), body, how.get("headers", ()), how.get("caller"))

    assert plan.features.privacy is expected
    assert providers(plan) == ({"home"} if expected > Privacy.PUBLIC else {"home", "open", "safe", "dark"})


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ({"birds.*": "sensitive"}, Privacy.SENSITIVE),
        ({"birds.falcon": "private", "birds.*": "secret"}, Privacy.SECRET),
        ({"fish.*": "secret"}, Privacy.PUBLIC),
    ],
)
def test_findings_of_scanners_raise_to_the_class_that_the_policy_gives_them(findings: Any, expected: Privacy) -> None:
    """Also where the scanner stands behind the policy in the file."""
    plan = planned(made({"findings": findings}), {"messages": [{"role": "user", "content": "the falcon flies"}]})

    assert plan.features.privacy is expected


PATH = {"paths": ["~/clients/**", "*.pem"], "privacy": "secret"}


@pytest.mark.parametrize(
    ("rule", "body", "holds"),
    [
        (PATH, called({"path": "/home/bob/clients/a.txt"}), True),
        (PATH, called({"options": [{"file": "certs/server.pem"}]}), True),
        (PATH, called('{"path": "~\\u002fclients/a"}'), True),
        (PATH, called('{"command": "cat ~/clients/a.txt'), True),
        (PATH, called({"path": "/home/bob/other/a.txt"}), False),
        (PATH, {"messages": [{"role": "user", "content": "what is ~/clients/a.txt"}]}, False),
        (PATH | {"where": "everywhere"}, {"messages": [{"role": "user", "content": "what is ~/clients/a.txt"}]}, True),
        ({"words": ["project falcon"]}, {"messages": [{"role": "user", "content": "Project\n Falcon!"}]}, True),
        ({"words": ["project falcon"]}, {"messages": [{"role": "user", "content": "project falconry"}]}, False),
        ({"words": ["falcon"]}, HELLO | {"metadata": {"falcon": 1}}, True),
        ({"words": ["falcon"]}, called({"q": "falcon"}), True),
        ({"words": ["falcon"], "where": "arguments"}, called({"q": "falcon"}), True),
        ({"words": ["falcon"], "where": "arguments"}, HELLO | {"metadata": {"falcon": 1}}, False),
        ({"words": ["a+(b"]}, {"messages": [{"role": "user", "content": "is a+(b ok"}]}, True),
        ({"words": ["falcon"], "paths": ["*.pem"]}, called({"q": "falcon"}), False),
        ({"words": ["falcon"], "paths": ["*.pem"]}, called({"q": "falcon", "p": "x.pem"}), True),
        ({"models": ["home/*"]}, HELLO | {"model": "home/m"}, True),
        ({"models": ["m"]}, HELLO | {"model": "home/m"}, True),
        ({"models": ["home/m"]}, HELLO | {"model": "m"}, True),
        ({"models": ["home/*", "nope"]}, HELLO | {"model": "short"}, True),
        ({"models": ["m?"]}, HELLO | {"model": "home/m"}, False),
        ({"models": ["auto"]}, HELLO | {"model": "routerpool/auto"}, True),
        ({"models": ["gpt-*"]}, HELLO, False),
        ({"callers": ["ci"]}, HELLO, True),
        ({"callers": ["other"]}, HELLO, False),
        ({"sessions": ["incident-*"]}, HELLO | {"router": {"session": "incident-7"}}, True),
        ({"sessions": ["incident-*"]}, HELLO | {"router": {"session": "chat-7"}}, False),
        ({"callers": ["ci"], "words": ["falcon"]}, HELLO, False),
    ],
)
def test_a_rule_raises_the_requests_that_meet_all_its_conditions(rule: Any, body: Any, holds: bool) -> None:
    router = made({"rules": [{"privacy": "secret", **rule}]}, aliases={"short": "home/m"})

    plan = planned(router, body, caller=Caller(id="ci"))

    assert (plan.features.privacy is Privacy.SECRET) is holds
    assert [finding.rule for finding in plan.features.findings if "policy" in finding.rule] == (
        ["policy.rule-1"] if holds else []
    )


def test_a_rule_says_where_it_held_and_never_what_it_saw() -> None:
    rules = [{"name": "clients", **PATH}, {"words": ["osprey"], "privacy": "private"}]
    body = called({"path": "/home/bob/clients/acme.txt", "about": "osprey"})

    plan = planned(made({"rules": rules}), body)

    [first, second] = [finding for finding in plan.features.findings if finding.rule.startswith("policy")]
    assert first == Finding(
        rule="policy.clients", part="messages[1].tool_calls[0].function.arguments", redacted="[path]"
    )
    assert second.rule == "policy.rule-2"
    told = json.dumps(explain(plan))
    assert "acme" not in told
    assert "osprey" not in told


def test_a_text_is_held_against_the_rules_once() -> None:
    router = made({"rules": [PATH]})
    policy = router.hooks.instances["policy"].plugin
    body = called({"path": "x " * 5000})

    async def twice() -> tuple[int, int]:
        async with router:
            sizes = []
            for turns in (1, 2):
                more = [{"role": "user", "content": "and?"}] * (turns - 1)
                await router.explain({**body, "messages": body["messages"] + more})
                sizes.append(len(policy._rules._seen))
            return sizes[0], sizes[1]

    first, second = asyncio.run(twice())
    assert second == first + 1


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"rules": [{"privacy": "secret"}]}, "at least one of"),
        ({"rules": [{"privacy": "secret", "paths": [" "]}]}, "empty name or pattern"),
        ({"rules": [{"paths": ["*.pem"]}]}, "privacy"),
        ({"rules": [{"privacy": "top", "paths": ["*.pem"]}]}, "one of public, private, sensitive, secret"),
        ({"allow": {"top": []}}, "top"),
        ({"keep_days": 0}, "more than 0"),
    ],
)
def test_a_mistake_in_the_section_is_named(policy: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(policy)


# What doctor says


def reports(policy: Any, **config: Any) -> list[Any]:
    router = made(policy, **config)

    async def look() -> list[Any]:
        async with router:
            return [report for report in await router.check() if report.subject == "policy"]

    return asyncio.run(look())


def test_doctor_names_what_says_nothing() -> None:
    assert reports({}) == []
    [unknown] = reports({"deny": {"private": ["open", "opne"]}})
    assert unknown.level is Level.WARNING
    assert unknown.text.endswith("opne")
    [void] = reports({"may_train": "private"})
    assert "remote_allows" in void.text
    assert reports({"may_train": "private"}, privacy={"remote_allows": "private"}) == []


def test_a_model_that_calls_itself_local_on_a_remote_provider_is_remote() -> None:
    router = made({"allow": {"public": ["home"]}})
    [candidate] = [c for c in router.catalog.snapshot.candidates if c.provider == "safe"]
    liar = evolve(candidate, model=evolve(candidate.model, local=True))
    policy = router.hooks.instances["policy"].plugin

    async def ask() -> list[Any]:
        async with router:
            return list(policy.veto(Features(), [liar]))

    assert [veto.candidate for veto in asyncio.run(ask())] == [liar]
    assert isinstance(liar.model, Model)
