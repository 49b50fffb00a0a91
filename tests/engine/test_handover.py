"""Deciding without forwarding: a host carries a plan out and reports, and all that hangs on an attempt goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve

from routerpool import (
    Answer,
    Attempt,
    Candidate,
    ChatRequest,
    Decision,
    Failure,
    FailureKind,
    Features,
    Handover,
    Model,
    Opening,
    Outcome,
    Plan,
    Privacy,
    RequestError,
    Router,
    Unavailable,
    Usage,
    hookimpl,
)
from routerpool.testing import Witness
from routerpool.testing.upstream import Upstream

from ..support.house import CHAT, router_over, until

pytestmark = pytest.mark.anyio

USED = Usage(input_uncached=12, output=5, source="reported")
LIMITED = Failure(kind=FailureKind.RATE_LIMITED, message="a answered 429", status=429, retry_after=30.0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def router(names: str = "a b", **config: Any) -> AsyncIterator[tuple[Router, Witness]]:
    """A started router over providers that nobody may ask, and what it recorded."""
    witness = Witness()
    async with Upstream() as up, router_over(up, names, witness=witness, **config) as made:
        yield made, witness
        for name in names.split():
            assert up.seen(name).chat == 0, "the router has forwarded by itself"


class Slots:
    """One slot for each candidate, and every call that hangs on an attempt, in order."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.told: list[str] = []

    @hookimpl
    def begin(self, plan: Plan) -> None:
        self.told.append(f"begin {len(plan.ranked)}")

    @hookimpl
    def reserve(self, attempt: Attempt) -> Any:
        return Slot(self, attempt.candidate.key)

    @hookimpl
    def on_failure(self, attempt: Attempt, failure: Failure) -> Decision | None:
        self.told.append(f"{attempt.candidate.key} {failure.kind}")
        return Decision.STOP if "grave" in failure.message else None

    @hookimpl
    def on_success(self, attempt: Attempt, usage: Usage) -> None:
        self.told.append(f"{attempt.candidate.key} {usage.output}")


class Slot:
    def __init__(self, slots: Slots, key: str) -> None:
        self.slots, self.key = slots, key

    async def __aenter__(self) -> None:
        if self.key in self.slots.taken:
            raise Unavailable("its slot is taken", retry_after=3)
        self.slots.taken.append(self.key)

    async def __aexit__(self, *exc: object) -> None:
        self.slots.taken.remove(self.key)


def slots_of(made: Router) -> Slots:
    plugin = made.hooks.instances["slots"].plugin
    assert isinstance(plugin, Slots)
    return plugin


SLOTS = {"plugins": {"slots": Slots}}


async def test_an_answer_reaches_who_learns_from_it_and_the_record() -> None:
    async with router(**SLOTS) as (made, witness):
        handover = await made.hand_over(CHAT)

        assert [candidate.key for candidate in handover.ranked] == ["a/m1", "b/m1"]
        assert handover.candidate is handover.ranked[0]
        assert handover.body == {"model": "m1", "messages": CHAT["messages"]}
        assert slots_of(made).taken == ["a/m1"]
        assert await made.report(handover, USED, first_byte_ms=7.5) is None
        assert slots_of(made).told == ["begin 2", "a/m1 5"]
        assert slots_of(made).taken == []
        (record,) = witness.records
        assert (record.request_id, record.outcome, record.provider, record.usage) == (
            handover.id,
            "answered",
            "a",
            USED,
        )
        assert record.tried == ("a/m1:answered",)
        assert record.first_byte_ms == pytest.approx(7.5)
        assert handover.candidate is handover.assignment is handover.error is None


async def test_a_failure_gives_its_slot_back_and_brings_the_next_candidate() -> None:
    async with router(**SLOTS) as (made, witness):
        handover = await made.hand_over(CHAT)

        following = await made.report(handover, LIMITED)

        assert following is handover.candidate is handover.ranked[1]
        assert slots_of(made).taken == ["b/m1"]
        assert await made.report(handover, USED) is None
        assert slots_of(made).told == ["begin 2", "a/m1 rate_limited", "b/m1 5"]
        assert witness.records[0].tried == ("a/m1:rate_limited", "b/m1:answered")


async def test_a_plugin_stops_a_handed_over_plan_as_any_other() -> None:
    async with router(**SLOTS) as (made, witness):
        handover = await made.hand_over(CHAT)

        assert await made.report(handover, evolve(LIMITED, message="grave")) is None
        assert isinstance(handover.error, RequestError)
        assert handover.error.code == "quota_exhausted"
        assert [record.outcome for record in witness.records] == ["failed"]


async def test_when_nobody_is_left_the_plan_says_what_the_client_is_told() -> None:
    async with router("a") as (made, witness):
        handover = await made.hand_over(CHAT)

        assert await made.report(handover, evolve(LIMITED, retry_after=90.0)) is None
        assert handover.error is not None
        assert (handover.error.code, handover.error.retry_after) == ("quota_exhausted", 90.0)
        assert handover.error.details["attempts"][0]["candidate"] == "a/m1"
        assert witness.records[0].outcome == "failed"


async def test_a_slot_that_is_taken_is_passed_over_before_the_host_hears_of_it() -> None:
    async with router(**SLOTS) as (made, _):
        first = await made.hand_over(CHAT)
        second = await made.hand_over(CHAT)

        assert (first.candidate, second.candidate) == (first.ranked[0], first.ranked[1])
        await made.report(first, USED)
        third = await made.hand_over(CHAT)
        assert third.candidate is first.ranked[0]
        for handover in (second, third):
            await made.report(handover, Outcome.CANCELLED)


async def test_an_answer_that_broke_off_is_truncated_and_nobody_else_is_asked() -> None:
    async with router(**SLOTS) as (made, witness):
        handover = await made.hand_over({**CHAT, "stream": True})
        assert handover.body is not None
        assert handover.body["stream_options"] == {"include_usage": True}

        broken = Failure(kind=FailureKind.TIMEOUT, message="a: it fell silent", first_byte_sent=True)
        assert await made.report(handover, broken) is None

        assert slots_of(made).told == ["begin 2", "a/m1 interrupted"]
        assert [record.outcome for record in witness.records] == ["truncated"]


@pytest.mark.parametrize(
    "outcome",
    ["answered", "truncated", "cancelled"],
)
async def test_a_host_may_say_only_how_it_ended(outcome: str) -> None:
    async with router() as (made, witness):
        handover = await made.hand_over(CHAT)

        assert await made.report(handover, Outcome(outcome)) is None
        (record,) = witness.records
        assert (record.outcome, record.provider, record.usage.source) == (outcome, "a", "estimated")


async def test_a_host_that_only_says_it_failed_is_given_the_next_one() -> None:
    async with router() as (made, _):
        handover = await made.hand_over(CHAT)

        assert await made.report(handover, Outcome.FAILED) is handover.ranked[1]
        await made.report(handover, Outcome.ANSWERED)


async def test_a_host_that_gives_up_blames_nobody_whom_it_has_not_asked() -> None:
    async with router(**SLOTS) as (made, witness):
        handover = await made.hand_over(CHAT)
        await made.report(handover, LIMITED)
        assert slots_of(made).taken == ["b/m1"]

        assert await made.report(handover, None) is None

        assert slots_of(made).taken == []
        assert [failure.kind for failure in witness.failures] == [FailureKind.RATE_LIMITED]
        (record,) = witness.records
        assert (record.outcome, record.provider, record.tried) == ("failed", None, ("a/m1:rate_limited",))


async def test_who_was_really_asked_is_who_succeeds_or_fails() -> None:
    async with router("a b c", **SLOTS) as (made, witness):
        handover = await made.hand_over(CHAT)

        assert await made.report(handover, LIMITED, candidate="b/m1") is handover.ranked[0], (
            "the first was not asked yet"
        )
        following = await made.report(handover, LIMITED)
        assert following is handover.ranked[2], "the second was asked already"
        assert await made.report(handover, USED, candidate=handover.ranked[1]) is None

        assert slots_of(made).told == ["begin 3", "b/m1 rate_limited", "a/m1 rate_limited", "b/m1 5"]
        assert witness.records[0].provider == "b"


async def test_a_candidate_that_does_not_exist_is_refused_and_the_plan_stays_open() -> None:
    async with router() as (made, _):
        handover = await made.hand_over(CHAT)

        for nobody in ("a/nope", Candidate(provider="nope", model=Model(id="m1"))):
            with pytest.raises(RequestError, match=r"no candidate called '.*nope"):
                await made.report(handover, USED, candidate=nobody)
        assert await made.report(handover, USED) is None


async def test_a_plan_is_reported_to_its_end_once() -> None:
    async with router() as (made, witness):
        handover = await made.hand_over(CHAT)
        await made.report(handover, USED)

        with pytest.raises(RequestError, match="this plan is over"):
            await made.report(handover, USED)
        assert len(witness.records) == 1


class Wary:
    """Wants every answer to say please, and says so to nobody but the client."""

    @hookimpl
    def mutate(self, request: ChatRequest) -> ChatRequest:
        return evolve(request, params={**request.params, "user": "somebody"})

    @hookimpl
    def judge(self, opening: Opening) -> Failure | None:
        return None if "please" in opening.text else Failure(kind=FailureKind.EMPTY, message="impolite")

    @hookimpl
    def rewrite(self) -> Wary:
        return self

    def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return (event,)

    def end(self) -> Iterable[dict[str, Any]]:
        return ()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "rewritten": True}


def answer(text: str, status: int = 200) -> Answer:
    message = {"role": "assistant", "content": text}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    return Answer(status=status, content_type="application/json", body=json.dumps({**body, "usage": usage}).encode())


async def test_a_whole_answer_is_judged_and_rewritten_as_one_of_our_own() -> None:
    async with router(plugins={"wary": Wary}) as (made, witness):
        handover = await made.hand_over(CHAT)
        assert handover.changed
        assert handover.body is not None
        assert handover.body["user"] == "somebody"

        assert await made.report(handover, answer("no")) is handover.ranked[1]
        assert await made.report(handover, answer("yes please")) is None

        assert handover.answer is not None
        assert json.loads(handover.answer.body)["rewritten"] is True
        (record,) = witness.records
        assert record.tried == ("a/m1:empty", "b/m1:answered")
        assert (record.usage.output, record.usage.source) == (4, "reported")


async def test_a_providers_refusal_is_read_as_the_provider_would() -> None:
    async with router() as (made, witness):
        handover = await made.hand_over(CHAT)
        body = b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'

        refused = Answer(status=429, content_type="application/json", body=body)
        assert await made.report(handover, refused) is handover.ranked[1]
        assert handover.assignment is not None
        failure = handover.assignment.failure(402, {}, b"")
        assert failure.kind is FailureKind.CREDIT
        assert await made.report(handover, failure) is None
        assert witness.records[0].tried == ("a/m1:rate_limited", "b/m1:credit")


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_that_is_too_long_is_a_failure_like_any_other(status: int) -> None:
    async with router(limits={"upstream_bytes": "1MiB"}) as (made, witness):
        handover = await made.hand_over(CHAT)

        long = Answer(status=status, content_type="application/json", body=b" " * (2 << 20))
        assert await made.report(handover, long) is handover.ranked[1]
        await made.report(handover, USED)
        assert witness.records[0].tried == ("a/m1:server", "b/m1:answered")


class Canned:
    @hookimpl
    def intercept(self) -> Answer:
        return answer("canned")


async def test_a_canned_answer_is_there_at_once_and_needs_no_report() -> None:
    async with router(plugins={"canned": Canned}) as (made, witness):
        handover = await made.hand_over(CHAT)

        assert handover.candidate is None
        assert handover.answer is not None
        assert b"canned" in handover.answer.body
        assert made.handovers.status()["open"] == 0
        assert witness.records[0].outcome == "answered"


class Secret:
    @hookimpl
    def classify(self, request: ChatRequest, features: Features) -> Features | None:
        return features.raised(Privacy.SECRET) if "secret" in str(request.messages) else None


class Reckless:
    """Promises that everybody is local, as no plugin can."""

    @hookimpl
    def reserve(self, attempt: Attempt) -> None:
        object.__setattr__(attempt.features, "privacy", Privacy.PUBLIC)


PRIVATE = {**CHAT, "messages": [{"role": "user", "content": "a secret"}]}


async def test_a_secret_is_never_handed_to_a_remote_candidate() -> None:
    options = {"b": {"local": True}}
    async with router("a b c", plugins={"secret": Secret}, options=options) as (made, _):
        handover = await made.hand_over(PRIVATE)

        assert [candidate.key for candidate in handover.ranked] == ["b/m1"]
        assert await made.report(handover, LIMITED) is None, "neither the first nor the third is a way out"

    async with router("a c", plugins={"secret": Secret}) as (made, witness):
        with pytest.raises(RequestError) as refused:
            await made.hand_over(PRIVATE)
        assert refused.value.code == "privacy_blocked"
        assert [record.outcome for record in witness.records] == ["failed"]


async def test_a_stale_plan_is_checked_again_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with router(plugins={"secret": Secret}, options={"a": {"local": True}, "b": {"local": True}}) as (made, _):
        handover = await made.hand_over(PRIVATE)
        assert [candidate.key for candidate in handover.ranked] == ["a/m1", "b/m1"]

        monkeypatch.setattr(made.providers["b"], "local", False)
        assert await made.report(handover, LIMITED) is None
        assert handover.error is not None
        assert [attempt["kind"] for attempt in handover.error.details["attempts"]] == ["rate_limited", "forbidden"]


async def test_a_host_that_sent_a_secret_away_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with router(plugins={"secret": Secret}, options={"a": {"local": True}}) as (made, _):
        handover = await made.hand_over(PRIVATE)

        await made.report(handover, USED, candidate="b/m1")
        assert "b/m1 was planned for a request that it may not see" in caplog.text


async def test_a_plan_that_nobody_reports_is_released_and_shows() -> None:
    async with router("a", limits={"report_seconds": 0.05}, **SLOTS) as (made, witness):
        handover = await made.hand_over(CHAT)
        assert (await made.status())["decisions"]["open"] == 1

        await until(lambda: made.handovers.status()["open"] == 0)

        assert slots_of(made).taken == []
        told = (await made.status())["decisions"]
        assert (told["open"], told["released"]) == (0, 1)
        assert witness.records[0].outcome == "cancelled"
        with pytest.raises(RequestError, match="its time was up"):
            await made.report(handover, USED)


async def test_only_so_many_plans_wait_for_their_reports() -> None:
    async with router("a", limits={"max_streams": 2}) as (made, witness):
        handovers = [await made.hand_over(CHAT) for _ in range(2)]

        with pytest.raises(RequestError) as refused:
            await made.hand_over(CHAT)
        assert refused.value.status == 429
        await made.report(handovers[0], USED)
        await made.report(await made.hand_over(CHAT), USED)
        await made.report(handovers[1], USED)
        assert [record.outcome for record in witness.records].count("failed") == 1


async def test_a_router_that_stops_lets_go_of_what_hosts_still_hold() -> None:
    before = asyncio.all_tasks()
    async with router(**SLOTS) as (made, witness):
        handover = await made.hand_over(CHAT)
    assert slots_of(made).taken == []
    assert handover.error is not None
    assert handover.error.code == "shutting_down"
    assert [record.outcome for record in witness.records] == ["cancelled"]
    await until(lambda: asyncio.all_tasks() == before)


async def test_a_host_that_gives_up_while_it_waits_for_a_plan_leaves_nothing() -> None:
    class Slow:
        asked = asyncio.Event()

        @hookimpl
        async def reserve(self, attempt: Attempt) -> None:
            self.asked.set()
            await asyncio.Event().wait()

    async with router("a", plugins={"slow": Slow}) as (made, witness):
        waiting = asyncio.create_task(made.hand_over(CHAT))
        await Slow.asked.wait()
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert waiting.cancelled()
        await until(lambda: bool(witness.records))
        assert made.handovers.status()["open"] == 0


async def test_hints_and_sessions_come_from_the_hosts_headers() -> None:
    async with router() as (made, _):
        handover: Handover = await made.hand_over(CHAT, headers=[("X-Router-Forbidden", "a"), ("X-Session-Id", "s1")])
        again = await made.hand_over(CHAT, headers=[("X-Session-Id", "s1")])

        assert [candidate.key for candidate in handover.ranked] == ["b/m1"]
        assert handover.features.session == again.features.session
        for open_ in (handover, again):
            await made.report(open_, Outcome.CANCELLED)


async def test_the_key_is_in_the_headers_and_in_no_word_about_them() -> None:
    options: Mapping[str, Mapping[str, Any]] = {"a": {"api_key_env": "A_KEY"}}
    async with router("a", options=options, env={"A_KEY": "sk-canary-7f3"}) as (made, _):
        handover = await made.hand_over(CHAT)

        assert handover.assignment is not None
        assert handover.assignment.headers["Authorization"] == "Bearer sk-canary-7f3"
        assert handover.assignment.url is not None
        assert handover.assignment.url.endswith("/a/v1/chat/completions")
        assert "sk-canary" not in repr(handover.assignment) + repr(handover) + repr(made.providers["a"])
        await made.report(handover, USED)
