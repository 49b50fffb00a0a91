"""What providers refuse: told once, then counted, and told again after an answer."""

from __future__ import annotations

import asyncio
import logging

import pytest

from routerpool import RequestError
from routerpool.engine.failure_log import AGAIN_SECONDS, MOST, FailureLog
from routerpool.testing import Upstream, make_router
from routerpool.types import Candidate, Failure, FailureKind, Model
from routerpool.wire.json import dumps

LAB = Candidate(provider="lab", model=Model(id="m"))


def failure(kind: FailureKind = FailureKind.RATE_LIMITED, **more: object) -> Failure:
    return Failure(kind=kind, message="the provider's own words", status=429, **more)  # type: ignore[arg-type]


def test_the_first_of_a_kind_is_told_with_its_wait_and_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog()
    for _ in range(5):
        failures.note(LAB, failure(retry_after=7.7, source="retry-after"))
    assert caplog.messages == ["lab/m rate_limited, 429: wait 7.7 s by retry-after · said once, then counted"]
    assert failures.counts == {"lab/m": {"rate_limited": 5}}
    assert dumps(failures.counts)  # it stands in status


def test_another_kind_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog()
    failures.note(LAB, failure())
    failures.note(LAB, failure(FailureKind.AUTH))
    assert len(caplog.messages) == 2


def test_one_that_fails_now_and_then_is_told_now_and_then_with_how_often(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    failures = FailureLog(lambda: now[0])
    for _ in range(100):
        failures.note(LAB, failure())
        now[0] += AGAIN_SECONDS / 50
    assert caplog.messages == [
        "lab/m rate_limited, 429 · said once, then counted",
        "lab/m rate_limited, 429 · 51 so far",
    ]


@pytest.mark.parametrize("kind", [FailureKind.BAD_REQUEST, FailureKind.TOO_LARGE, FailureKind.CONTENT_FILTER])
def test_what_concerns_one_request_is_no_warning(kind: FailureKind, caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog()
    with caplog.at_level(logging.INFO, "routerpool.refusals"):
        failures.note(LAB, failure(kind))
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert failures.counts == {}


def test_no_words_of_a_provider_are_told(caplog: pytest.LogCaptureFixture) -> None:
    FailureLog().note(LAB, failure())
    assert "own words" not in caplog.text


def test_candidates_without_end_are_not_all_remembered() -> None:
    failures = FailureLog()
    for number in range(MOST * 2):
        failures.note(Candidate(provider="lab", model=Model(id=f"m{number}")), failure())
    assert len(failures.counts) <= MOST


def test_a_router_tells_a_refused_key_once(caplog: pytest.LogCaptureFixture) -> None:
    async def whole() -> None:
        async with Upstream() as up:
            up.always("lab", "http:401")
            section = {"use": "openai_compatible", "base_url": up.base_url("lab"), "models": ["m"]}
            async with make_router({"plugins": {"lab": section}}) as router:
                for _ in range(3):
                    with pytest.raises(RequestError):
                        await router.chat({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]})

    asyncio.run(whole())
    told = [record.getMessage() for record in caplog.records if record.name == "routerpool.refusals"]
    assert told == ["lab/m auth, 401 · said once, then counted"]
