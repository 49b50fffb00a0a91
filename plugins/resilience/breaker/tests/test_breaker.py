"""What the breaker benches, for how long, and what it says about it; hook by hook, on a clock of our own."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import pytest
from routerpool_breaker import Breaker, BreakerConfig, Cooldown

from routerpool import Attempt, Candidate, ChatRequest, Failure, FailureKind, Features, Model, Unavailable, Veto

NOON = 1795176000.0  # Fri, 20 Nov 2026 12:00:00 GMT

SOFT = (
    FailureKind.SERVER,
    FailureKind.TIMEOUT,
    FailureKind.EMPTY,
    FailureKind.INTERRUPTED,
    FailureKind.CONNECT,
)
HARD = {
    FailureKind.AUTH: 401,
    FailureKind.CREDIT: 402,
    FailureKind.FORBIDDEN: 403,
    FailureKind.QUOTA_EXHAUSTED: 429,
}
UNCOUNTED = (FailureKind.BAD_REQUEST, FailureKind.CONTENT_FILTER, FailureKind.TOO_LARGE, FailureKind.CLIENT_GONE)


def candidate(key: str) -> Candidate:
    provider, _, model = key.partition("/")
    return Candidate(provider=provider, model=Model(id=model))


A, A2, B, C = (candidate(key) for key in ("a/m", "a/n", "b/m", "c/m"))
ALL = (A, A2, B, C)


class House:
    """A breaker, its clock, and requests that come to it."""

    def __init__(self, **config: Any) -> None:
        self.time = 1000.0
        self.breaker = Breaker(
            BreakerConfig(**{"jitter": 0.0, **config}),
            clock=lambda: self.time,
            now=lambda: NOON + self.time - 1000.0,
        )
        self.requests = 0

    def request(self) -> ChatRequest:
        self.requests += 1
        return ChatRequest(id=f"r{self.requests}", model="auto", messages=[])

    def attempt(self, who: Candidate, request: ChatRequest | None = None, **more: Any) -> Attempt:
        asked = request or self.request()
        return Attempt(request=asked, features=Features(), candidate=who, number=1, started=0.0, **more)

    def fail(
        self,
        who: Candidate,
        kind: FailureKind,
        *,
        times: int = 1,
        request: Any = None,
        claimed: bool = False,
        **more: Any,
    ) -> None:
        for _ in range(times):
            failure = Failure(kind=kind, message="it failed", **more)
            assert self.breaker.on_failure(self.attempt(who, request, claimed=claimed), failure) is None

    def succeed(self, who: Candidate, request: ChatRequest | None = None, *, claimed: bool = False) -> None:
        self.breaker.on_success(self.attempt(who, request, claimed=claimed))

    def vetoes(self, candidates: Sequence[Candidate] = ALL, request: ChatRequest | None = None) -> dict[str, Veto]:
        found = list(self.breaker.veto(request or self.request(), candidates))
        assert len({veto.candidate.key for veto in found}) == len(found)
        return {veto.candidate.key: veto for veto in found}

    def wait(self, who: Candidate) -> float | None:
        veto = self.vetoes().get(who.key)
        return None if veto is None else veto.retry_after

    def entries(self) -> list[dict[str, Any]]:
        return self.breaker.status()["cooldowns"]

    def enter(self, who: Candidate, request: ChatRequest | None = None) -> Any:
        """Reserve for an attempt; the permit, None where none is needed, or Unavailable."""
        permit = self.breaker.reserve(self.attempt(who, request))
        if permit is not None:
            step(permit.__aenter__())
        return permit


def step(coroutine: Any) -> None:
    """Run a coroutine that waits for nothing."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def leave(permit: Any) -> None:
    step(permit.__aexit__(None, None, None))


# Nothing benched


def test_nothing_is_asked_and_nothing_vetoed_while_nothing_is_benched() -> None:
    house = House()
    assert house.breaker.veto(house.request(), ALL) == ()
    assert house.breaker.reserve(house.attempt(A)) is None
    assert house.breaker.status() == {"scope": "this process", "cooldowns": []}


@pytest.mark.parametrize("kind", UNCOUNTED)
def test_failures_that_are_not_the_providers_never_count(kind: FailureKind) -> None:
    house = House()
    house.fail(A, kind, times=100, status=400, retry_after=60.0)
    assert house.breaker.veto(house.request(), ALL) == ()
    assert not house.breaker._entries


# The provider's word


def test_the_providers_word_goes_first_and_is_told_in_words() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=41.0, source="retry-after")
    [veto] = house.vetoes().values()
    assert (veto.candidate, veto.code, veto.retry_after) == (A, "cooldown", 41.0)
    assert veto.reason == "429 by header retry-after for another 41 s"
    house.time += 41
    assert house.vetoes() == {}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("body:RetryInfo", "429 by body RetryInfo for another 10 s"),
        ("pattern", "429 by a known form of error for another 10 s"),
        (None, "429 by its own word for another 10 s"),
        ("x-ratelimit-reset-requests", "429 by header x-ratelimit-reset-requests for another 10 s"),
    ],
)
def test_where_the_word_stood_is_told(source: str | None, words: str) -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=10.0, source=source)
    assert house.vetoes()["a/m"].reason == words


@pytest.mark.parametrize("stated", [0.0, -5.0])
def test_a_word_of_no_wait_still_gives_a_second_of_rest(stated: float) -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=stated)
    assert house.wait(A) == 1.0


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (FailureKind.RATE_LIMITED, 3600.0),
        (FailureKind.SERVER, 3600.0),
        (FailureKind.FORBIDDEN, 3600.0),
        (FailureKind.QUOTA_EXHAUSTED, 86400.0),
        (FailureKind.CREDIT, 86400.0),
    ],
)
def test_the_providers_word_is_capped(kind: FailureKind, most: float) -> None:
    house, tight = House(), House(max_cooldown=7.0)
    for one in (house, tight):
        one.fail(A, kind, status=429, retry_after=1e9)
    assert house.wait(A) == most
    assert tight.wait(A) == 7.0


def test_a_rate_limit_window_beside_a_server_error_is_no_word_on_when_to_come_back() -> None:
    house = House()
    house.fail(A, FailureKind.SERVER, status=500, retry_after=170.0, source="x-ratelimit-reset-requests")
    assert house.vetoes() == {}


def test_a_retry_after_benches_a_server_error_at_once() -> None:
    house = House()
    house.fail(A, FailureKind.SERVER, status=503, retry_after=20.0, source="retry-after")
    assert house.wait(A) == 20.0
    house.fail(B, FailureKind.SERVER, status=503, retry_after=0.0, source="retry-after")
    assert house.wait(B) is None


# Our own rules


@pytest.mark.parametrize(
    ("kind", "waits"),
    [
        (FailureKind.RATE_LIMITED, [90, 180, 360, 720, 1440, 2880, 3600, 3600]),
        (FailureKind.AUTH, [600, 1200, 2400]),
        (FailureKind.CREDIT, [300, 600, 1200, 2400, 3600, 3600]),
        (FailureKind.FORBIDDEN, [300, 600, 1200, 2400, 4800]),
        (FailureKind.UNAVAILABLE, [5, 10, 20, 40, 60, 60]),
        (FailureKind.QUOTA_EXHAUSTED, [12 * 3600, 24 * 3600]),
    ],
)
def test_without_a_word_each_cooldown_in_a_row_is_longer_up_to_a_cap(kind: FailureKind, waits: list[int]) -> None:
    house = House()
    for wait in waits:
        house.fail(A, kind, status=503)
        assert house.wait(A) == pytest.approx(wait)
        house.time += wait


@pytest.mark.parametrize("kind", SOFT)
def test_soft_trouble_needs_three_failures_in_a_row_and_grows_to_five_minutes(kind: FailureKind) -> None:
    house = House()
    house.fail(A, kind, times=2)
    house.succeed(A)
    house.fail(A, kind, times=2)
    assert house.vetoes() == {}
    for wait in (30, 60, 120, 240, 300, 300):
        house.fail(A, kind)
        assert house.wait(A) == wait
        house.time += wait


def test_connect_failures_are_counted_apart_and_any_answer_ends_their_row() -> None:
    house = House()
    house.fail(A, FailureKind.CONNECT, times=2)
    house.fail(A, FailureKind.SERVER, status=500)
    house.fail(A, FailureKind.CONNECT, times=2)
    assert house.vetoes() == {}
    house.fail(A, FailureKind.CONNECT)
    assert set(house.vetoes()) == {"a/m", "a/n"}
    house.fail(A2, FailureKind.SERVER, status=500)
    assert house.vetoes() == {}


def test_a_row_of_failures_is_broken_by_ten_quiet_minutes() -> None:
    house = House()
    house.fail(A, FailureKind.SERVER, times=2)
    house.time += 601
    house.fail(A, FailureKind.SERVER)
    assert house.vetoes() == {}


def test_a_missing_model_is_benched_when_a_second_request_finds_it_missing() -> None:
    house = House()
    request = house.request()
    house.fail(A, FailureKind.MISSING_MODEL, status=404, request=request, times=5)
    assert house.vetoes() == {}
    house.fail(A, FailureKind.MISSING_MODEL, status=404)
    assert house.wait(A) == 600


def test_cooldowns_of_ours_vary_by_a_tenth_and_the_providers_word_does_not() -> None:
    waits = set()
    for _ in range(200):
        house = House(jitter=0.1)
        house.fail(A, FailureKind.RATE_LIMITED, status=429)
        house.fail(B, FailureKind.RATE_LIMITED, status=429, retry_after=33.0)
        waits.add(house.wait(A))
        assert house.wait(B) == 33.0
    assert all(wait is not None and 81 <= wait <= 99 for wait in waits)
    assert len(waits) > 100


def test_the_configuration_changes_the_rules() -> None:
    house = House(failures=1, server=Cooldown(first=7.0, most=8.0), quota_exhausted=Cooldown(first=50.0))
    house.fail(A, FailureKind.SERVER)
    assert house.wait(A) == 7.0
    house.time += 7
    house.fail(A, FailureKind.SERVER)
    assert house.wait(A) == 8.0
    house.fail(B, FailureKind.QUOTA_EXHAUSTED, status=429)
    assert house.wait(B) == 50.0


# Scope


@pytest.mark.parametrize("kind", [FailureKind.AUTH, FailureKind.CREDIT])
def test_trouble_with_the_key_benches_all_of_the_provider(kind: FailureKind) -> None:
    house = House()
    house.fail(A, kind, status=HARD[kind])
    vetoes = house.vetoes()
    assert set(vetoes) == {"a/m", "a/n"}
    assert vetoes["a/n"].reason.startswith("all of a: 40")
    [entry] = house.entries()
    assert (entry["key"], entry["scope"], entry["kind"]) == ("a", "provider", kind.value)


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMITED, FailureKind.FORBIDDEN, FailureKind.MISSING_MODEL])
def test_one_bad_model_does_not_bench_its_siblings(kind: FailureKind) -> None:
    house = House()
    house.fail(A, kind, status=429, times=2)
    assert set(house.vetoes()) == {"a/m"}


def test_what_routerpool_says_itself_is_no_news_of_the_provider() -> None:
    house = House()
    house.fail(A, FailureKind.FORBIDDEN)  # the engine's own privacy check has no status
    house.fail(B, FailureKind.UNAVAILABLE, retry_after=0.0)
    assert house.vetoes() == {}
    house.fail(C, FailureKind.UNAVAILABLE, retry_after=3.0)  # a slot that another plugin knows to be taken
    assert house.wait(C) == 3.0
    house.time += 3
    house.fail(C, FailureKind.UNAVAILABLE, retry_after=50.0)
    assert house.wait(C) is None


# Deadlines that meet


def test_a_burst_of_failures_is_one_trouble_and_does_not_double_the_cooldown() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429, times=20)
    assert house.wait(A) == 90
    [entry] = house.entries()
    assert (entry["failures"], entry["cooldowns"]) == (20, 1)


def test_a_later_guess_does_not_shorten_a_stated_wait() -> None:
    house = House()
    house.fail(A, FailureKind.QUOTA_EXHAUSTED, status=429, retry_after=7200.0, source="retry-after")
    house.fail(A, FailureKind.RATE_LIMITED, status=429)
    assert house.wait(A) == 7200
    assert house.vetoes()["a/m"].reason == "429 by header retry-after for another 2 h"


def test_a_newer_word_on_the_same_matter_shortens_a_longer_one() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=600.0)
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=5.0)
    assert house.wait(A) == 5


def test_a_newer_word_shortens_a_guess() -> None:
    house = House()
    house.fail(A, FailureKind.QUOTA_EXHAUSTED, status=429)
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=5.0)
    assert house.wait(A) == 5


def test_the_word_on_a_minute_does_not_shorten_the_word_on_a_day() -> None:
    house = House()
    house.fail(A, FailureKind.QUOTA_EXHAUSTED, status=429, retry_after=7200.0)
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=5.0)
    assert house.wait(A) == 7200


def test_re_cooling_moves_the_deadline_to_the_later_one() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=10.0)
    house.time += 5
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=10.0)
    assert house.wait(A) == 10


# Half-open


def test_after_the_cooldown_one_request_at_a_time_may_try() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429)
    house.time += 90
    permit = house.enter(A)
    veto = house.vetoes()["a/m"]
    assert veto.code == "half_open"
    assert veto.reason == "another request is trying it after its cooldown (429 (rate limited) without a stated wait)"
    with pytest.raises(Unavailable, match="another request is trying it"):
        house.enter(A)
    leave(permit)
    assert house.vetoes() == {}
    leave(house.enter(A))


def test_more_trials_are_a_matter_of_configuration() -> None:
    house = House(trials=3)
    house.fail(A, FailureKind.RATE_LIMITED, status=429)
    house.time += 90
    permits = [house.enter(A) for _ in range(3)]
    assert set(house.vetoes()) == {"a/m"}
    leave(permits[1])
    assert house.vetoes() == {}


def test_a_permit_is_given_back_once_however_often_it_is_left() -> None:
    house = House(trials=2)
    house.fail(A, FailureKind.RATE_LIMITED, status=429)
    house.time += 90
    first, _second = house.enter(A), house.enter(A)
    leave(first)
    leave(first)
    assert house.entries()[0]["trials"] == 1


def test_a_trial_of_the_key_is_one_trial_for_all_its_models() -> None:
    house = House()
    house.fail(A, FailureKind.AUTH, status=401)
    house.time += 600
    permit = house.enter(A)
    assert {key: veto.code for key, veto in house.vetoes().items()} == {"a/m": "half_open", "a/n": "half_open"}
    house.succeed(A)
    leave(permit)
    assert house.vetoes() == {}
    assert house.entries() == []


def test_of_two_benched_scopes_none_is_taken_where_one_is_refused() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429)
    house.fail(A, FailureKind.AUTH, status=401)
    house.time += 600
    permit = house.enter(A2)  # tries the key
    with pytest.raises(Unavailable):
        house.enter(A)
    assert {entry["key"]: entry["trials"] for entry in house.entries()} == {"a/m": 0, "a": 1}
    leave(permit)


def test_a_failure_that_says_nothing_leaves_it_half_open() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429)
    house.time += 90
    permit = house.enter(A)
    leave(permit)
    house.fail(A, FailureKind.BAD_REQUEST, status=400)
    assert house.entries()[0]["state"] == "half_open"
    assert house.vetoes() == {}


def test_a_failed_trial_opens_again_for_longer_though_it_is_only_one_failure() -> None:
    house = House()
    house.fail(A, FailureKind.SERVER, times=3)
    house.time += 30
    house.fail(A, FailureKind.TIMEOUT)
    assert house.wait(A) == 60


def test_after_a_good_trial_the_count_is_clean_and_not_stuck_at_5() -> None:
    house = House(failures=5)
    house.fail(A, FailureKind.SERVER, times=5)
    house.time += 30
    permit = house.enter(A)
    house.succeed(A)
    leave(permit)
    house.fail(A, FailureKind.SERVER, times=4)
    assert house.vetoes() == {}, "the failures before the cooldown still count"
    house.fail(A, FailureKind.SERVER)
    assert house.wait(A) == 30, "the cooldown is as long as if it had never recovered"


def test_what_nobody_tries_for_long_after_its_cooldown_is_forgotten_with_its_count() -> None:
    house = House(failures=5)
    house.fail(A, FailureKind.SERVER, times=5)
    house.time += 30 + 601
    assert house.vetoes() == {}
    assert not house.breaker._entries
    house.fail(A, FailureKind.SERVER, times=4)
    assert house.vetoes() == {}


def test_failures_of_several_models_bench_their_provider_and_an_answer_of_any_of_them_does_not() -> None:
    house = House()
    house.fail(A, FailureKind.SERVER, times=2)
    house.succeed(A2)
    house.fail(A2, FailureKind.SERVER)
    assert house.vetoes() == {}
    house.fail(A, FailureKind.SERVER)
    house.fail(A2, FailureKind.SERVER)
    assert set(house.vetoes()) == {"a/m", "a/n"}
    assert house.vetoes()["a/n"].reason.startswith("all of a: 3 failures in a row")
    house.time += 30
    house.fail(A2, FailureKind.SERVER)
    assert house.wait(A) == pytest.approx(60)
    house.time += 60
    house.succeed(A)
    assert house.vetoes() == {}


@pytest.mark.parametrize("kind", [FailureKind.FORBIDDEN, FailureKind.MISSING_MODEL])
@pytest.mark.parametrize("wide", [True, False])
def test_a_refusal_that_names_no_model_speaks_of_the_provider_when_several_models_get_it(
    kind: FailureKind, wide: bool
) -> None:
    house = House()
    third = candidate("a/o")
    for who in (A, A2, candidate("a/p")):
        house.fail(who, kind, status=403, wide=wide)
    assert ("a/o" in house.vetoes((*ALL, third))) is wide


def test_a_want_of_credit_of_a_paid_model_leaves_the_free_ones_in() -> None:
    house = House()
    free = Candidate(provider="a", model=Model(id="f", free=True))
    house.fail(A, FailureKind.CREDIT, status=402)
    assert set(house.vetoes((A, A2, free, B))) == {"a/m", "a/n"}
    assert house.breaker.reserve(house.attempt(free)) is None
    house.fail(free, FailureKind.CREDIT, status=402)
    assert set(house.vetoes((A, A2, free, B))) == {"a/m", "a/n", "a/f"}


def test_a_plan_made_before_the_bench_may_try_soft_trouble_but_not_a_refused_key() -> None:
    house = House()
    house.fail(A, FailureKind.SERVER, times=3)
    house.fail(B, FailureKind.AUTH, status=401)
    assert house.enter(A) is not None
    with pytest.raises(Unavailable) as caught:
        house.enter(B)
    assert caught.value.reason == "401 (auth) without a stated wait for another 10 min"
    assert caught.value.retry_after == 600
    house.fail(B, FailureKind.UNAVAILABLE, retry_after=600.0)  # what the engine makes of that refusal
    assert house.entries()[1]["failures"] == 1


def test_an_attempt_of_a_stale_plan_counts_like_any_other() -> None:
    house = House()
    house.fail(A, FailureKind.SERVER, times=3)
    house.time += 20
    house.fail(A, FailureKind.SERVER)
    assert house.wait(A) == 30
    house.succeed(A)
    assert house.vetoes() == {}


def test_a_late_success_of_an_older_request_does_not_undo_a_rate_limit() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=60.0)
    house.succeed(A)
    assert house.wait(A) == 60


# The last candidate


@pytest.mark.parametrize("kind", SOFT)
def test_soft_trouble_does_not_bench_the_last_candidate(kind: FailureKind) -> None:
    house = House()
    house.fail(A, kind, times=3)
    assert house.vetoes((A,)) == {}
    assert set(house.vetoes((A, B))) == {"a/m"}


@pytest.mark.parametrize(("kind", "status"), HARD.items())
def test_trouble_that_another_attempt_cannot_mend_benches_the_last_candidate_too(
    kind: FailureKind, status: int
) -> None:
    house = House()
    house.fail(A, kind, status=status)
    assert set(house.vetoes((A,))) == {"a/m"}


def test_a_stated_rate_limit_benches_the_last_candidate_and_a_guessed_one_does_not() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429)
    assert house.vetoes((A,)) == {}
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=60.0)
    assert set(house.vetoes((A,))) == {"a/m"}


def test_of_a_total_outage_the_one_that_ends_soonest_is_let_through() -> None:
    house = House()
    for who in (A, B, C):
        house.fail(who, FailureKind.SERVER, times=3)
        house.time += 5
    house.fail(A, FailureKind.SERVER)  # now B ends first
    assert set(house.vetoes((A, B, C))) == {"a/m", "c/m"}


def test_the_soft_one_is_let_through_where_all_others_are_out_for_good() -> None:
    house = House()
    house.fail(A, FailureKind.AUTH, status=401)
    house.fail(B, FailureKind.SERVER, times=3)
    assert set(house.vetoes((A, A2, B))) == {"a/m", "a/n"}


def test_who_was_let_through_is_not_refused_a_trial_that_another_holds() -> None:
    house = House()
    house.fail(A, FailureKind.SERVER, times=3)
    house.time += 30
    permit = house.enter(A)
    let_through, other = house.request(), house.request()
    assert house.vetoes((A,), let_through) == {}
    house.enter(A, let_through)
    with pytest.raises(Unavailable):
        house.enter(A, other)
    assert house.entries()[0]["trials"] == 1
    house.succeed(A, let_through)
    leave(permit)
    assert house.entries() == []


def test_a_success_of_who_was_let_through_ends_a_guessed_rate_limit() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429)
    request = house.request()
    assert house.vetoes((A,), request) == {}
    house.succeed(A, request)
    assert house.vetoes() == {}


# Memory and telling


def test_nothing_is_kept_of_requests_that_are_over_or_of_candidates_that_work() -> None:
    house = House()
    for number in range(500):
        who = candidate(f"p{number}/m")
        house.fail(who, FailureKind.SERVER, times=3)
        assert house.vetoes((who,)) == {}
        house.succeed(who)
    house.fail(A, FailureKind.SERVER)
    house.time += 601
    house.fail(B, FailureKind.SERVER)
    gc.collect()
    assert set(house.breaker._entries) == {"b/m"}
    assert not house.breaker._benched
    assert not house.breaker._spared
    assert len(house.breaker._members) <= 32


@pytest.mark.parametrize("kind", [*HARD, FailureKind.RATE_LIMITED, FailureKind.MISSING_MODEL, *SOFT])
def test_a_claim_benches_one_candidate_for_a_minute_at_most(kind: FailureKind) -> None:
    house = House()
    house.fail(A, kind, times=3, status=HARD.get(kind), retry_after=86_400.0, claimed=True)
    assert set(house.vetoes()) == {"a/m"}, "and no other of its provider's"
    assert 0 < (house.wait(A) or 0) <= 60
    assert house.entries()[0]["claimed"] is True
    request = house.request()
    assert house.vetoes([A], request) == {}, "nobody is refused for a claim where nobody else is left"
    house.enter(A, request)
    house.time += 60
    assert house.vetoes() == {}


def test_claims_in_a_row_bench_no_longer_than_one() -> None:
    house = House()
    for _ in range(5):
        house.fail(A, FailureKind.QUOTA_EXHAUSTED, claimed=True)
        assert (house.wait(A) or 0) <= 60
        house.time += 60
        assert house.wait(A) is None


def test_a_claim_that_a_request_of_our_own_refutes_is_not_believed_again_for_a_while() -> None:
    house = House()
    house.fail(A, FailureKind.AUTH, claimed=True)
    house.succeed(A)
    assert house.vetoes() == {}
    house.fail(A, FailureKind.AUTH, claimed=True)
    assert house.vetoes() == {}
    house.time += 600
    house.fail(A, FailureKind.AUTH, claimed=True)
    assert set(house.vetoes()) == {"a/m"}
    house.succeed(A, claimed=True)
    assert house.vetoes() == {}, "what a host has claimed it may take back"
    house.fail(A, FailureKind.AUTH, claimed=True)
    assert set(house.vetoes()) == {"a/m"}


@pytest.mark.parametrize("kind", [FailureKind.AUTH, FailureKind.CONNECT, FailureKind.RATE_LIMITED])
def test_claims_change_nothing_of_what_was_seen_here(kind: FailureKind) -> None:
    house = House(connect_failures=1)
    house.fail(A, kind, retry_after=300.0)
    seen = house.entries()
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=1.0, claimed=True)
    house.fail(A2, FailureKind.SERVER, status=500, claimed=True)
    house.succeed(A, claimed=True)
    house.succeed(A2, claimed=True)
    assert house.entries() == seen


def test_what_is_seen_here_takes_the_place_of_a_claim() -> None:
    house = House()
    house.fail(A, FailureKind.QUOTA_EXHAUSTED, claimed=True)
    house.fail(A, FailureKind.QUOTA_EXHAUSTED, status=429, retry_after=3600.0)
    assert house.wait(A) == 3600.0
    assert [entry["claimed"] for entry in house.entries()] == [False]


def test_status_tells_every_cooldown_and_that_other_processes_have_their_own() -> None:
    house = House()
    house.fail(A, FailureKind.RATE_LIMITED, status=429, retry_after=41.0, source="retry-after")
    house.fail(B, FailureKind.SERVER, times=3, status=503)
    house.fail(C, FailureKind.SERVER, times=2)
    status = house.breaker.status()
    assert status["scope"] == "this process"
    assert status["cooldowns"] == [
        {
            "key": "a/m",
            "scope": "candidate",
            "state": "open",
            "kind": "rate_limited",
            "source": "429 by header retry-after",
            "stated": True,
            "claimed": False,
            "until": "2026-11-20T12:00:41Z",
            "seconds": 41.0,
            "failures": 1,
            "cooldowns": 1,
            "trials": 0,
        },
        {
            "key": "b/m",
            "scope": "candidate",
            "state": "open",
            "kind": "server",
            "source": "3 failures in a row, the last: 503",
            "stated": False,
            "claimed": False,
            "until": "2026-11-20T12:00:30Z",
            "seconds": 30.0,
            "failures": 3,
            "cooldowns": 1,
            "trials": 0,
        },
    ]


def test_the_reason_of_a_spent_day_says_when_it_ends() -> None:
    house = House()
    house.fail(A, FailureKind.QUOTA_EXHAUSTED, status=429)
    assert house.vetoes()["a/m"].reason == "429 (quota exhausted) until a new day begins, for another 12 h"


def test_one_that_takes_over_knows_what_the_one_before_has_learned_and_goes_on_learning_with_it() -> None:
    house = House()
    house.fail(A, FailureKind.QUOTA_EXHAUSTED, status=429)
    house.fail(B, FailureKind.SERVER, times=2)
    older, house.breaker = house.breaker, Breaker(BreakerConfig(failures=3, jitter=0.0))
    house.breaker.take_over(older)
    assert set(house.vetoes()) == {"a/m"}
    house.fail(B, FailureKind.SERVER)
    assert set(house.vetoes()) == {"a/m", "b/m"}
    older.on_failure(house.attempt(C), Failure(kind=FailureKind.FORBIDDEN, message="no", status=403))
    assert set(house.vetoes()) == {"a/m", "b/m", "c/m"}
