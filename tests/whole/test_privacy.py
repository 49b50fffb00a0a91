"""A private request reaches no remote upstream, whatever breaks: over the real engine and real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routerpool import Decision, OpenAIProvider, Privacy, RequestError, Score, hookimpl
from routerpool.errors import AnswerError
from routerpool.testing import Witness, make_router
from routerpool.testing.fixtures import serving
from routerpool.testing.upstream import Upstream

MARKER = "falcon-7f3a-the-secret-plan"
LIMITS = {
    "first_event_seconds": 0.2,
    "idle_seconds": 0.2,
    "answer_seconds": 0.2,
    "budget_seconds": 3,
    "max_attempts": 8,
}
FAULTS = [
    "ok",
    "http:429",
    "http:401",
    "http:500",
    "http:404",
    "close",
    "err200",
    "emptystream",
    "midclose",
    "redirect",
]


class Reckless:
    """A plugin that wants remote candidates at any price, and every failure to go on."""

    @hookimpl
    def score(self, candidates: Any) -> Any:
        return [Score(c, 0.0 if c.model.local else 1.0) for c in candidates]

    @hookimpl
    def classify(self, features: Any) -> Any:
        return evolve(features, privacy=Privacy.PUBLIC)

    @hookimpl
    def on_failure(self) -> Any:
        return Decision.ESCALATE

    @hookimpl
    def mutate(self, request: Any) -> Any:
        return evolve(request, params={**request.params, "model": "remote"})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with serving(Upstream()) as up:
        yield up


def pool(up: Upstream, names: dict[str, bool]) -> dict[str, Any]:
    plugins = {
        name: {"use": "p", "base_url": up.base_url(name), "local": local, "models": ["m1", "m2"]}
        for name, local in names.items()
    }
    weights = {"reckless": 1, "pin": 0}
    return {
        "limits": LIMITS,
        "plugins": {"reckless": {}, **plugins},
        "profiles": {"auto": {"weights": weights}, "vault": {"weights": weights, "privacy": "sensitive"}},
    }


WAYS = ("hint", "header", "floor", "default")


HEALTH = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
SCHEDULES = {name: st.lists(st.sampled_from(FAULTS), max_size=4) for name in ("r1", "r2", "home")}


@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(
    schedules=st.fixed_dictionaries(SCHEDULES),
    order=st.permutations(["r1", "r2", "home"]),
    way=st.sampled_from(WAYS),
    stream=st.booleans(),
    past_the_plan=st.booleans(),
)
def test_a_private_request_reaches_no_remote_upstream(
    upstream: Upstream, schedules: dict[str, list[str]], order: list[str], way: str, stream: bool, past_the_plan: bool
) -> None:
    for name, labels in schedules.items():
        upstream.script(name, *labels)
    config = pool(upstream, {name: name == "home" for name in order})
    if way == "default":
        config["privacy"] = {"default": "private"}
    body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": MARKER}], "stream": stream}
    if way == "hint":
        body["router"] = {"privacy": "private"}
    if way == "floor":
        body["model"] = "routerpool/vault"
    headers = [("X-Router-Privacy", "secret")] if way == "header" else []
    witness = Witness()
    asyncio.run(send(config, body, headers, past_the_plan, witness))
    assert upstream.seen("r1").count(MARKER) == upstream.seen("r2").count(MARKER) == 0
    assert len(witness.records) == 1
    assert MARKER not in repr(witness.records) + repr(witness.failures)


async def send(
    config: dict[str, Any], body: dict[str, Any], headers: list[tuple[str, str]], past_the_plan: bool, witness: Witness
) -> None:
    """Send it, once with the plan as it is made and once with a plan that names everybody: the socket must hold."""
    from routerpool.engine.journey import Journey
    from routerpool.engine.run import Run
    from routerpool.engine.sinks import EventSink, PlainSink
    from routerpool.wire.request import parse_chat

    async with make_router(config, plugins={"reckless": Reckless, "p": OpenAIProvider}, witness=witness) as router:
        request = parse_chat(body, request_id="r", headers=headers)
        sink: Any = EventSink() if request.stream else PlainSink()
        with suppress(RequestError, AnswerError):
            if not past_the_plan:
                await router.handle(request, sink)
                return
            plan = await router.planner.plan(request)
            assert plan.features.privacy >= Privacy.PRIVATE
            everybody = evolve(plan, ranked=router.catalog.snapshot.candidates)
            async with Journey(router.services, request, sink) as journey:
                journey.plan = everybody
                await Run(journey).carry_out()


def test_without_the_check_at_the_socket_the_property_above_would_fail(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The property has teeth: a stale plan does reach a remote provider once the one check is gone."""
    monkeypatch.setattr("routerpool.engine.exchange.may_see", lambda *_: True)
    config = pool(upstream, {"r9": False, "home": True})
    body = {"model": "auto", "messages": [{"role": "user", "content": MARKER}], "router": {"privacy": "private"}}
    asyncio.run(send(config, body, [], True, Witness()))
    assert upstream.seen("r9").count(MARKER) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_headers_that_a_plugins_route_hands_on_hold_in_chat_and_stream(stream: bool) -> None:
    async def whole() -> None:
        async with Upstream() as up:
            tree = {"plugins": {"far": {"base_url": up.base_url("far"), "local": False, "models": ["m1"]}}}
            async with make_router(tree, plugins={"far": OpenAIProvider}) as router:
                body = {"messages": [{"role": "user", "content": MARKER}]}
                private = [("X-Router-Privacy", "private")]
                answer = anext(router.stream(body, headers=private)) if stream else router.chat(body, headers=private)
                with pytest.raises(RequestError) as caught:
                    await answer
                assert caught.value.code == "privacy_blocked"
            assert up.seen("far").requests == []

    asyncio.run(whole())
