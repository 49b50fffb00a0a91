"""Every way in which an upstream is known to misbehave, plain and streamed, through the real server.

The classes are those of the upstream's register: R ends in the next candidate's answer byte for byte, F is passed on
as it is, S ends visibly, O is right.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from attrs import frozen

from routerpool import OpenAIProvider, create_app
from routerpool.testing import Witness, make_router
from routerpool.testing.registry import faults_of_class
from routerpool.testing.upstream import Upstream
from routerpool.wire.sse import event_data, split_events

LIMIT = 0.5
LIMITS = {
    "first_event_seconds": LIMIT,
    "answer_seconds": LIMIT,
    "idle_seconds": LIMIT,
    "stream_seconds": 3 * LIMIT,
    "connect_seconds": LIMIT,
    "budget_seconds": 8,
}
SLACK = 0.2
"""No case may be later than its limit by more than this; loaded test machines get the rest of a second on top."""
LOAD = 0.8

CASES = {
    letter: [
        (label, mode)
        for label, modes in sorted(faults_of_class(letter).items())
        for mode in modes
        if label not in ("kaclose", "kaidle")  # they show on the second request only: see test_connection
    ]
    for letter in "RFSO"
}


@frozen
class Outcome:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    witness: Witness

    @property
    def provider(self) -> str | None:
        return self.headers.get("X-Router-Provider")


@frozen
class Expected:
    good: bytes
    text: str
    good_calls: int


def ask(upstream_fault: str, mode: str) -> tuple[Outcome, Expected]:
    """One request to a pool whose first provider has this fault; its outcome, and what would have been right."""

    async def asked() -> tuple[Outcome, Expected]:
        async with Upstream(keys={"bad": "key-of-bad", "good": "key-of-good"}) as up:
            up.always("bad", upstream_fault)
            witness = Witness()
            options = {"use": "p", "models": ["m1"], "free": True}
            router = make_router(
                {
                    "limits": LIMITS,
                    "plugins": {
                        name: {
                            "use": "p",
                            "base_url": up.base_url(name),
                            "api_key_env": f"{name.upper()}_KEY",
                            **options,
                        }
                        for name in ("bad", "good")
                    },
                },
                plugins={"p": OpenAIProvider},
                env={"BAD_KEY": "key-of-bad", "GOOD_KEY": "key-of-good"},
                witness=witness,
            )
            body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
            async with TestServer(create_app(router)) as server, aiohttp.ClientSession() as session:
                started = time.perf_counter()
                url = server.make_url("/v1/chat/completions")
                async with session.post(url, json={**body, "stream": mode == "stream"}) as response:
                    data = await response.read()
                    seconds = time.perf_counter() - started
                    outcome = Outcome(response.status, dict(response.headers), data, seconds, witness)
            assert up.seen("bad").foreign_keys == up.seen("good").foreign_keys == 0
            assert up.seen("evil").requests == []
            good = up.expected("good", "m1", mode == "stream")
            text = up.expected_text("bad", upstream_fault) if (upstream_fault, mode) in CASES["O"] else ""
            return outcome, Expected(good, text, up.seen("good").chat)

    return asyncio.run(asked())


@pytest.mark.parametrize(("label", "mode"), CASES["R"])
def test_a_recoverable_fault_ends_in_the_next_candidates_answer(label: str, mode: str) -> None:
    outcome, expected = ask(label, mode)
    assert outcome.status == 200
    assert outcome.body == expected.good
    assert outcome.provider == "good"
    assert outcome.headers["X-Router-Tried"].startswith("bad/m1:")
    assert outcome.seconds < LIMIT + SLACK + LOAD
    assert [record.outcome for record in outcome.witness.records] == ["answered"]
    assert len(outcome.witness.failures) == 1


@pytest.mark.parametrize(("label", "mode"), CASES["F"])
def test_the_clients_own_fault_is_passed_on_and_nobody_else_is_asked(label: str, mode: str) -> None:
    outcome, expected = ask(label, mode)
    assert 400 <= outcome.status < 500
    assert outcome.provider == "bad"
    assert b'"error"' in outcome.body
    assert b"attempts" not in outcome.body, "the provider's own words, not ours"
    assert expected.good_calls == 0
    assert [record.outcome for record in outcome.witness.records] == ["failed"]


@pytest.mark.parametrize(("label", "mode"), CASES["S"])
def test_a_broken_stream_ends_visibly(label: str, mode: str) -> None:
    outcome, expected = ask(label, mode)
    assert outcome.status == 200
    assert outcome.provider == "bad"
    assert outcome.body.rstrip().splitlines()[-1].startswith(b'data: {"error":')
    assert b"upstream_interrupted" in outcome.body
    assert b"[DONE]" not in outcome.body
    assert b'"finish_reason":"stop"' not in outcome.body.replace(b": ", b":")
    assert expected.good_calls == 0
    assert outcome.seconds < 3 * LIMIT + SLACK + LOAD
    (record,) = outcome.witness.records
    assert record.outcome == "truncated"
    assert record.usage.output > 0
    assert record.usage.source == "estimated"


@pytest.mark.parametrize(("label", "mode"), CASES["O"])
def test_an_unusual_but_healthy_answer_is_right(label: str, mode: str) -> None:
    outcome, expected = ask(label, mode)
    assert outcome.status == 200
    assert outcome.provider == "bad"
    assert expected.good_calls == 0
    assert [record.outcome for record in outcome.witness.records] == ["answered"]
    assert b"upstream_interrupted" not in outcome.body
    if mode == "stream":
        assert outcome.body.endswith(b"data: [DONE]\n\n")
    assert text_of(outcome.body, mode) == expected.text


def text_of(body: bytes, mode: str) -> str:
    """What a client makes of the answer."""
    if mode == "plain":
        return str(json.loads(body)["choices"][0]["message"]["content"])
    text = ""
    for event in split_events(body):
        data = event_data(event)
        if data is None or data == b"[DONE]":
            continue
        for choice in json.loads(data).get("choices", ()):
            text += choice["delta"].get("content") or ""
    return text
