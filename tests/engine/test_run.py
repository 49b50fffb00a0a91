"""The attempt loop: who is asked next, how often, and what the client and the record get to see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from routerpool import Candidate, Decision, Failure, FailureKind, Model, OpenAIProvider, RequestError, Router, hookimpl
from routerpool.engine.run import _soonest
from routerpool.errors import AnswerError
from routerpool.planning.fallback import Retries
from routerpool.testing import Witness, make_router
from routerpool.testing.fixtures import serving
from routerpool.testing.upstream import Upstream

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
LIMITS = {"first_event_seconds": 1, "idle_seconds": 1, "answer_seconds": 1, "budget_seconds": 5}


@pytest.fixture
def up() -> Iterator[Upstream]:
    with serving(Upstream()) as upstream:
        yield upstream


class Pool:
    """A router over upstream providers, and what came of its requests."""

    def __init__(self, up: Upstream, names: str, *, plugins: dict[str, type] | None = None, **config: Any) -> None:
        self.witness = Witness()
        models = config.pop("models", {})
        entries: dict[str, Any] = {name: {} for name in plugins or {}}
        for name in names.split():
            entries[name] = {"use": "p", "base_url": up.base_url(name), "models": models.get(name, ["m1"])}
        tree = {"plugins": entries, **config, "limits": {**LIMITS, **config.get("limits", {})}}
        self.router: Router = make_router(tree, plugins={"p": OpenAIProvider, **(plugins or {})}, witness=self.witness)

    def chat(self, **changes: Any) -> dict[str, Any]:
        async def asked() -> dict[str, Any]:
            async with self.router:
                return await self.router.chat({**BODY, **changes})

        return asyncio.run(asked())

    def stream(self, **changes: Any) -> list[dict[str, Any]]:
        async def asked() -> list[dict[str, Any]]:
            async with self.router:
                return [event async for event in self.router.stream({**BODY, **changes})]

        return asyncio.run(asked())

    @property
    def trail(self) -> tuple[str, ...]:
        return self.witness.records[-1].tried


def refused(call: Any) -> RequestError:
    with pytest.raises(RequestError) as raised:
        call()
    return raised.value


# Who is asked next


def test_another_candidate_comes_before_the_same_one_again(up: Upstream) -> None:
    pool = Pool(up, "a b")
    up.always("a", "http:500")
    pool.chat()
    assert pool.trail == ("a/m1:server", "b/m1:answered")
    assert up.seen("a").chat == 1


def test_when_all_would_retry_at_once_a_fifth_may_and_the_others_are_told_at_once(up: Upstream) -> None:
    pool = Pool(up, "a")
    up.always("a", "http:500")

    async def ask() -> None:
        with pytest.raises(RequestError) as raised:
            await pool.router.chat(BODY)
        assert raised.value.code == "attempts_exhausted"

    async def main() -> dict[str, Any]:
        async with pool.router:
            await asyncio.gather(*[ask() for _ in range(60)])
            return await pool.router.status()

    status = asyncio.run(main())
    again = up.seen("a").chat - 60
    assert 0 < again < 60
    assert status["retries"] == {"running": 0, "refused": 60 - again}


@given(steps=st.lists(st.sampled_from(["comes", "goes", "retries", "retried"]), max_size=80))
def test_retries_never_exceed_a_fifth_of_the_requests_or_three(steps: list[str]) -> None:
    retries = Retries()
    for step in steps:
        if step == "comes":
            retries.requests += 1
        elif step == "goes":
            retries.requests = max(retries.requests - 1, 0)
        elif step == "retried" and retries.running:
            retries.give()
        elif step == "retries":
            before = retries.running
            most = max(3, retries.requests / 5)
            assert retries.take() is (before < most)
            assert retries.running <= max(most, before) + 1


def test_the_last_candidate_is_asked_once_more_after_a_passing_fault(up: Upstream) -> None:
    pool = Pool(up, "a")
    up.script("a", "http:500", "ok")
    pool.chat()
    assert pool.trail == ("a/m1:server", "a/m1:answered")


def test_a_candidate_is_not_asked_a_third_time(up: Upstream) -> None:
    pool = Pool(up, "a")
    up.always("a", "http:500")
    error = refused(pool.chat)
    assert error.code == "attempts_exhausted"
    assert up.seen("a").chat == 2


def test_a_stated_wait_is_waited_for_when_nobody_else_is_left_and_it_is_short(up: Upstream) -> None:
    pool = Pool(up, "a")
    up.script("a", "ra:msform", "ok")
    pool.chat()
    assert pool.trail == ("a/m1:rate_limited", "a/m1:answered")


def test_a_stated_wait_beyond_the_budget_is_told_to_the_client_instead(up: Upstream) -> None:
    pool = Pool(up, "a", limits={"budget_seconds": 1})
    up.always("a", "ra:sec")
    error = refused(pool.chat)
    assert error.code == "quota_exhausted"
    assert error.retry_after == pytest.approx(7, abs=4)
    assert up.seen("a").chat == 1


def test_a_bad_key_is_tried_once_however_many_models_share_it(up: Upstream) -> None:
    pool = Pool(up, "a b", models={"a": ["m1", "m2", "m3"]})
    up.always("a", "http:401")
    pool.chat()
    assert pool.trail == ("a/m1:auth", "b/m1:answered")


def test_a_missing_model_leaves_its_siblings_in(up: Upstream) -> None:
    pool = Pool(up, "a", models={"a": ["m1", "m2"]})
    up.script("a", "http:404", "ok")
    pool.chat()
    assert pool.trail == ("a/m1:missing_model", "a/m2:answered")


def test_attempts_are_bounded(up: Upstream) -> None:
    pool = Pool(up, "a b c d", limits={"max_attempts": 3})
    for name in "abcd":
        up.always(name, "http:500")
    error = refused(pool.chat)
    assert [attempt["candidate"] for attempt in error.details["attempts"]] == ["a/m1", "b/m1", "c/m1"]
    assert up.seen("d").chat == 0


def test_no_new_attempt_begins_after_the_budget(up: Upstream) -> None:
    pool = Pool(up, "a b", limits={"budget_seconds": 0.3, "first_event_seconds": 60})
    up.always("a", "hang")
    error = refused(pool.stream)
    assert error.code == "budget_exhausted"
    assert error.status == 504
    assert up.seen("b").chat == 0


def test_a_plain_request_to_a_silent_provider_goes_on_within_the_budget(up: Upstream) -> None:
    pool = Pool(up, "a b", limits={"budget_seconds": 1, "answer_seconds": 60})
    up.always("a", "hang")
    pool.chat()
    assert pool.trail == ("a/m1:timeout", "b/m1:answered")
    assert "limits.budget_seconds (1) left time to ask another one" in pool.witness.failures[0].message


def test_a_plain_attempt_has_its_own_limit_while_another_one_is_left(up: Upstream) -> None:
    pool = Pool(up, "a b", limits={"plain_seconds": 0.2, "answer_seconds": 0.6, "max_attempts": 2})
    up.always("a", "hang")
    up.always("b", "hang")
    told = [attempt["message"] for attempt in refused(pool.chat).details["attempts"]]
    assert "limits.plain_seconds (0.2)" in told[0]
    assert "limits.answer_seconds (0.6)" in told[1]


def test_what_ends_the_last_plain_attempt_is_told_and_how_long_it_took(up: Upstream) -> None:
    pool = Pool(up, "a", limits={"budget_seconds": 0.1, "answer_seconds": 0.4})
    up.always("a", "hang")
    error = refused(pool.chat)
    assert (error.code, error.status) == ("budget_exhausted", 504)
    assert "no answer within limits.answer_seconds (0.4)" in error.message
    assert "limits.budget_seconds is 0.1" in error.message


def test_a_client_says_how_long_it_waits_for_a_plain_answer_too(up: Upstream) -> None:
    pool = Pool(up, "a", limits={"answer_seconds": 60})
    up.always("a", "hang")
    error = refused(lambda: pool.chat(router={"max_seconds": 0.3}))
    assert error.code == "budget_exhausted"
    assert "the request's max_seconds (0.3)" in error.message


@pytest.mark.parametrize("stream", [True, False])
def test_what_a_provider_is_known_to_need_is_not_cut_by_the_budget(up: Upstream, stream: bool) -> None:
    class Slow(OpenAIProvider):
        def bind(self, env: Mapping[str, str]) -> None:
            super().bind(env)
            self.first_event_seconds = 20.0

    plugins = {name: {"use": "p", "base_url": up.base_url(name), "models": ["m1"]} for name in ("a", "b")}
    limits = {"budget_seconds": 0.2, "first_event_seconds": 0.1, "plain_seconds": 0.1, "idle_seconds": 20}
    witness = Witness()
    router = make_router({"plugins": plugins, "limits": limits}, plugins={"p": Slow}, witness=witness)
    up.always("a", "slowhead:0.002")

    async def asked() -> None:
        async with router:
            if stream:
                assert [event async for event in router.stream(BODY)]
            else:
                await router.chat(BODY)

    asyncio.run(asked())
    assert witness.records[-1].tried == ("a/m1:answered",)


@pytest.mark.parametrize("label", ["http:500", "http:502", "http:404", "http:403", "http:429", "html"])
def test_a_provider_of_which_two_models_fail_makes_way_for_the_next_one(up: Upstream, label: str) -> None:
    pool = Pool(up, "a b", models={"a": ["m1", "m2", "m3", "m4", "m5", "m6", "m7"]})
    up.always("a", label)
    pool.chat()
    assert [told.partition(":")[0] for told in pool.trail] == ["a/m1", "a/m2", "b/m1"]


def test_where_a_paid_model_wants_credit_its_providers_free_one_is_still_asked(up: Upstream) -> None:
    pool = Pool(up, "a", models={"a": ["m1", "m2", {"id": "m3", "free": True}]})
    up.script("a", "http:402")
    pool.chat()
    assert pool.trail == ("a/m1:credit", "a/m3:answered")


def test_who_is_turned_away_does_not_knock_again_at_once(up: Upstream) -> None:
    pool = Pool(up, "a")
    up.always("a", "http:403")
    assert refused(pool.chat).status == 503
    assert up.seen("a").chat == 1


def test_a_stream_has_the_rest_of_the_budget_for_its_first_event(up: Upstream) -> None:
    pool = Pool(up, "a b", limits={"budget_seconds": 0.3, "first_event_seconds": 60})
    up.always("a", "headstall")
    assert refused(pool.stream).code == "budget_exhausted"


def test_a_prompt_that_is_too_large_goes_on_where_the_profile_says_so_and_it_may_fit(up: Upstream) -> None:
    models = {
        "a": [{"id": "m1", "context": 8000}],
        "b": [{"id": "m1", "context": 8000}],
        "c": [{"id": "m1", "context": 32000}],
    }
    up.always("a", "overflow")
    passed = Pool(up, "a b c", models=models)
    with pytest.raises(AnswerError) as raised:
        passed.chat()
    assert raised.value.body["error"]["code"] == "context_length_exceeded"
    assert passed.trail == ("a/m1:too_large",)
    goes_on = Pool(up, "a b c", models=models, profiles={"auto": {"too_large": "next"}})
    goes_on.chat()
    assert goes_on.trail == ("a/m1:too_large", "b/m1:answered")  # what a claims of itself is disproved


def test_what_a_refusal_disproves_is_one_providers_claim(up: Upstream) -> None:
    models = {
        "a": [{"id": "m1", "context": 128000}, {"id": "m2", "context": 128000}, {"id": "m3"}],
        "b": [{"id": "m1", "context": 32000}],
        "c": [{"id": "m1"}],
    }
    for name in "ab":
        up.always(name, "overflow")
    pool = Pool(up, "a b c", models=models, profiles={"auto": {"too_large": "next"}})
    pool.chat()
    assert pool.trail == ("a/m1:too_large", "a/m3:too_large", "b/m1:too_large", "c/m1:answered")
    up.always("c", "overflow")
    with pytest.raises(AnswerError) as raised:
        pool.chat()
    assert raised.value.body["error"]["code"] == "context_length_exceeded"


def test_what_is_left_of_a_stated_wait_counts_from_when_it_was_told_and_who_may_be_asked_first_is() -> None:
    now = time.perf_counter()

    def told(name: str, wait: float | None, ago: float) -> tuple[Candidate, Failure, float]:
        failure = Failure(kind=FailureKind.RATE_LIMITED, message="busy", retry_after=wait)
        return Candidate(provider=name, model=Model(id="m")), failure, now - ago

    again = [told("a", 7.0, 1.0), told("b", 7.0, 6.5), told("c", 7.0, 60.0), told("d", None, 0.0), told("e", 3.0, 0.0)]
    order = [_soonest(again) for _ in range(5)]
    assert [candidate.provider for candidate, _ in order] == ["c", "d", "b", "e", "a"]
    waits = [failure.retry_after for _, failure in order]
    assert waits[:2] == [0.0, None]
    assert [round(wait or 0.0) for wait in waits[2:]] in ([0, 3, 6], [0, 2, 5], [0, 3, 5], [0, 2, 6])
    assert not again


def test_a_plugin_may_escalate_to_higher_tiers_only(up: Upstream) -> None:
    class Escalates:
        @hookimpl
        def on_failure(self) -> Decision:
            return Decision.ESCALATE

    tiers = {name: [{"id": "m1", "tier": tier}] for name, tier in zip("abc", ("fast", "fast", "capable"), strict=True)}
    pool = Pool(up, "a b c", models=tiers, plugins={"escalates": Escalates})
    up.always("a", "http:500")
    pool.chat()
    assert pool.trail == ("a/m1:server", "c/m1:answered")


def test_a_plugin_may_stop_the_request(up: Upstream) -> None:
    class Stops:
        @hookimpl
        def on_failure(self) -> Decision:
            return Decision.STOP

    pool = Pool(up, "a b", plugins={"stops": Stops})
    up.always("a", "http:500")
    assert refused(pool.chat).code == "attempts_exhausted"
    assert up.seen("b").chat == 0


def test_no_plugin_makes_the_clients_own_fault_go_on(up: Upstream) -> None:
    class Insists:
        @hookimpl
        def on_failure(self) -> Decision:
            return Decision.NEXT

    pool = Pool(up, "a b", plugins={"insists": Insists})
    up.always("a", "http:400")
    with pytest.raises(AnswerError):
        pool.chat()
    assert up.seen("b").chat == 0


def test_a_judges_failure_is_a_failure(up: Upstream) -> None:
    class Judge:
        @hookimpl
        def judge(self, attempt: Any, opening: Any) -> Failure | None:
            bad = attempt.candidate.provider == "a" and opening.text
            return Failure(kind=FailureKind.EMPTY, message="no good") if bad else None

    for mode in ("chat", "stream"):
        pool = Pool(up, "a b", plugins={"judge": Judge})
        getattr(pool, mode)()
        assert pool.trail == ("a/m1:empty", "b/m1:answered")


def test_a_profile_that_buffers_lets_the_judges_see_the_whole_stream(up: Upstream) -> None:
    seen: list[tuple[bool, str]] = []

    class Judge:
        @hookimpl
        def judge(self, opening: Any) -> None:
            seen.append((opening.complete, opening.text))

    up.pace("a", 0.02)
    Pool(up, "a", plugins={"judge": Judge}, profiles={"auto": {"buffer": True}}).stream()
    Pool(up, "a", plugins={"judge": Judge}).stream()
    whole = up.expected_text("a")
    assert seen[0] == (True, whole)
    assert seen[1][0] is False
    assert whole.startswith(seen[1][1])
    assert seen[1][1] != whole


def test_a_buffered_stream_that_breaks_is_recovered(up: Upstream) -> None:
    pool = Pool(up, "a b", profiles={"auto": {"buffer": True}})
    up.always("a", "midclose")
    events = pool.stream()
    assert pool.trail == ("a/m1:server", "b/m1:answered")
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


# What the client and the record get to see


@pytest.mark.parametrize("asked", [True, False])
def test_usage_is_always_obtained_and_shown_only_to_who_asked(up: Upstream, asked: bool) -> None:
    pool = Pool(up, "a")
    events = pool.stream(**({"stream_options": {"include_usage": True}} if asked else {}))
    assert any(event.get("usage") for event in events) is asked
    assert up.seen("a").last.json["stream_options"] == {"include_usage": True}
    usage = pool.witness.records[0].usage
    assert (usage.input, usage.output, usage.source) == (12, 6, "reported")


def test_usage_that_nobody_reports_is_estimated_and_marked_so(up: Upstream) -> None:
    up.always("a", "usagenull")
    up.text("a", "one two three four five six seven eight nine ten", events=10)
    for mode in ("chat", "stream"):
        pool = Pool(up, "a")
        getattr(pool, mode)()
        usage = pool.witness.records[0].usage
        assert usage.source == "estimated"
        assert 5 <= usage.output <= 20
        assert usage.input >= 1


def test_cost_counts_every_kind_of_token_at_its_price(up: Upstream) -> None:
    up.usage("a", {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}})
    model = {"id": "m1", "prices": {"input": 2.0, "cached": 0.5, "output": 8.0}}
    pool = Pool(up, "a", models={"a": [model]})
    pool.chat()
    assert pool.witness.records[0].cost == pytest.approx((600 * 2.0 + 400 * 0.5 + 100 * 8.0) / 1e6)


def test_leaving_the_stream_closes_the_upstream_and_is_recorded_once(up: Upstream) -> None:
    up.pace("a", 0.01)
    up.always("a", "long:500")
    pool = Pool(up, "a b")

    async def left() -> None:
        async with pool.router:
            stream = pool.router.stream(BODY)
            await anext(stream)
            await stream.aclose()

    asyncio.run(left())
    (record,) = pool.witness.records
    assert record.outcome == "cancelled"
    assert up.seen("a").completed == 0
    assert up.seen("b").chat == 0


def test_a_refused_request_is_recorded_too(up: Upstream) -> None:
    pool = Pool(up, "a")
    assert refused(lambda: pool.chat(model="nothing-like-it")).code == "model_not_found"
    assert [record.outcome for record in pool.witness.records] == ["failed"]


def test_what_a_rewriter_holds_back_goes_out_before_the_end(up: Upstream) -> None:
    class Holds:
        def __init__(self) -> None:
            self.held: list[dict[str, Any]] = []

        def event(self, event: dict[str, Any]) -> Any:
            self.held.append(event)
            return ()

        def end(self) -> Any:
            return self.held

        def answer(self, body: dict[str, Any]) -> dict[str, Any]:
            return {**body, "rewritten": True}

    class Plugin:
        @hookimpl
        def rewrite(self) -> Holds:
            return Holds()

    pool = Pool(up, "a", plugins={"holds": Plugin})
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in pool.stream())
    assert text == up.expected_text("a")
    assert Pool(up, "a", plugins={"holds": Plugin}).chat()["rewritten"] is True


@pytest.mark.parametrize("required", [False, True])
def test_a_rewriter_that_fails_is_left_out_unless_it_is_required(up: Upstream, required: bool) -> None:
    class Breaks:
        def event(self, event: dict[str, Any]) -> Any:
            raise KeyError("the text of the answer")

        def end(self) -> Any:
            return ()

        def answer(self, body: dict[str, Any]) -> dict[str, Any]:
            raise KeyError

    class Plugin:
        @hookimpl
        def rewrite(self) -> Breaks:
            return Breaks()

    Plugin.required = required  # type: ignore[attr-defined]
    pool = Pool(up, "a", plugins={"breaks": Plugin})
    if required:
        with pytest.raises(RequestError):
            pool.stream()
        assert pool.witness.records[0].outcome == "truncated"
    else:
        assert pool.stream()[-1]["choices"][0]["finish_reason"] == "stop"
        assert pool.router.hooks.instances["breaks"].faults == 1


def test_a_change_made_for_one_candidate_does_not_reach_the_next(up: Upstream) -> None:
    class Mutates:
        @hookimpl
        def mutate(self, request: Any, attempt: Any) -> Any:
            if attempt.candidate.provider == "a":
                return evolve(request, params={**request.params, "temperature": 0.1})
            return None

    pool = Pool(up, "a b", plugins={"mutates": Mutates})
    up.always("a", "http:500")
    pool.chat(top_p=0.5)
    assert up.seen("a").last.json["temperature"] == 0.1
    assert "temperature" not in up.seen("b").last.json
    assert up.seen("b").last.json["top_p"] == 0.5


def test_limits_of_a_request_are_the_clients_to_lower(up: Upstream) -> None:
    pool = Pool(up, "a b")
    up.always("a", "headstall")
    error = refused(lambda: pool.stream(router={"max_seconds": 0.2}))
    assert error.code == "budget_exhausted"


# What traffic teaches


def test_a_candidate_that_cannot_use_tools_is_passed_over_and_not_asked_again(up: Upstream) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    up.always("a", "notools")
    pool = Pool(up, "a b")

    async def asked_twice() -> None:
        async with pool.router:
            for _ in range(2):
                await pool.router.chat({**BODY, "tools": tools})
            told = await pool.router.explain({**BODY, "tools": tools})
            assert [(veto["candidate"], veto["code"]) for veto in told["vetoes"]] == [("a/m1", "capability")]

    asyncio.run(asked_twice())
    assert [record.tried for record in pool.witness.records] == [
        ("a/m1:unavailable", "b/m1:answered"),
        ("b/m1:answered",),
    ]


def test_a_candidate_that_has_called_a_tool_goes_before_those_of_whom_nothing_is_known(up: Upstream) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    wants = {"tools": tools, "tool_choice": "required"}
    pool = Pool(up, "a b")
    up.script("a", "http:500", "ok")

    async def asked_twice() -> None:
        async with pool.router:
            for _ in range(2):
                await pool.router.chat({**BODY, **wants})

    asyncio.run(asked_twice())
    assert pool.trail == ("b/m1:answered",)
    assert up.seen("a").chat == 1


@pytest.mark.parametrize("asks", [False, True])
def test_a_server_that_refuses_stream_options_is_asked_again_without_and_remembered(up: Upstream, asks: bool) -> None:
    up.always("a", "nostreamoptions")
    pool = Pool(up, "a", limits={"max_attempts": 1})
    wish = {"stream_options": {"include_usage": True}} if asks else {}

    async def asked_twice() -> None:
        async with pool.router:
            for _ in range(2):
                events = [event async for event in pool.router.stream({**BODY, **wish})]
                assert events[-1]["choices"][0]["finish_reason"] == "stop"

    asyncio.run(asked_twice())
    first, second = pool.witness.records
    assert first.tried == ("a/m1:unavailable", "a/m1:answered")
    assert second.tried == ("a/m1:answered",)
    assert second.usage.source == "estimated"
    assert ["stream_options" in request.json for request in up.seen("a").requests] == [True, False, False]


def test_the_only_candidate_that_denies_a_capability_is_a_400_at_once_that_names_it(up: Upstream) -> None:
    up.always("a", "notools")
    pool = Pool(up, "a")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    error = refused(lambda: pool.chat(tools=tools))
    assert (error.code, error.status, error.retry_after) == ("unsupported_capabilities", 400, None)
    assert "tools" in error.message
