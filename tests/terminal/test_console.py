"""What a server shows of its work: one line a request, and never any content."""

from __future__ import annotations

import asyncio
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from routerpool.terminal.console import HEAD_EVERY, Console, colours
from routerpool.types import Candidate, Model, Outcome, Prices, Privacy, Tier, Usage, UsageRecord

RECORD = UsageRecord(
    request_id="r1",
    time=1_796_000_000.0,
    caller="",
    session="s",
    profile="auto",
    model_asked="auto",
    provider="mistral",
    model="mistral-small-2603",
    outcome=Outcome.ANSWERED,
    stream=True,
    tried=("mistral/mistral-small-2603:answered",),
    task=None,
    privacy=Privacy.PUBLIC,
    prompt_tokens=1900,
    usage=Usage(input_uncached=1904, output=733),
    cost=0.0,
    first_byte_ms=455.0,
    total_ms=4870.0,
)
CANDIDATES = (
    Candidate(provider="mistral", model=Model(id="mistral-small-2603", tier=Tier.BALANCED, free=True)),
    Candidate(provider="home", model=Model(id="small", tier=Tier.FAST, free=True, local=True)),
    Candidate(
        provider="anthropic", model=Model(id="claude-sonnet-5-5", tier=Tier.CAPABLE, prices=Prices(input=3, output=15))
    ),
)


def shown(*records: UsageRecord, **options: Any) -> list[str]:
    """The lines of these records."""
    out = io.StringIO()
    catalog = SimpleNamespace(
        snapshot=SimpleNamespace(by_key={candidate.key: candidate for candidate in CANDIDATES}),
        watch=lambda heed: lambda: None,
    )

    async def whole() -> None:
        console = Console(out=out, **options)
        async for _ in console.lifespan(SimpleNamespace(catalog=catalog)):  # type: ignore[arg-type]  # what it looks at
            for record in records:
                console.record_usage(record)

    asyncio.run(whole())
    return out.getvalue().splitlines()


def answered(provider: str, model: str, **changes: Any) -> UsageRecord:
    return evolve(RECORD, provider=provider, model=model, tried=(f"{provider}/{model}:answered",), **changes)


def test_a_narrow_terminal_gets_a_line_of_its_width() -> None:
    head, line = shown(RECORD, width=80)
    assert len(head) == len(line) == 80
    assert line[9:] == "auto      ● mistral/mis…-small-2603      1,904→733    free  455ms 4.87s"


def test_a_wide_terminal_has_words_for_privacy_and_for_what_failed() -> None:
    record = answered(
        "anthropic",
        "claude-sonnet-5-5",
        cost=0.0143,
        privacy=Privacy.SENSITIVE,
        first_byte_ms=5490.0,
        total_ms=14_200.0,
    )
    record = evolve(record, tried=("cerebras/x:timeout", "groq/y:server", *record.tried))
    head, line = shown(record, width=120)
    assert len(line) <= 120
    assert head.endswith("tried, and why")
    assert "sensitive ◆ anthropic/claude-sonnet-5-5" in line
    assert line.endswith("$0.0143   5.49s  14.2s  ✗✗ groq:server")


def test_a_private_request_that_stayed_here_says_so() -> None:
    narrow = shown(answered("home", "small", privacy=Privacy.PRIVATE), width=80)[1]
    wide = shown(answered("home", "small", privacy=Privacy.PRIVATE), width=120)[1]
    assert " P ■ home/small" in narrow
    assert " local " in narrow
    assert wide.endswith("kept here")


@pytest.mark.parametrize(
    ("outcome", "word"), [(Outcome.FAILED, "failed"), (Outcome.TRUNCATED, "broke off"), (Outcome.CANCELLED, "left")]
)
def test_what_did_not_end_well_is_marked(outcome: Outcome, word: str) -> None:
    line = shown(evolve(RECORD, outcome=outcome, tried=()), width=120)[1]
    assert "✗ mistral/" in line
    assert line.endswith(word)


def test_a_request_that_nobody_answered_has_no_figures() -> None:
    record = evolve(
        RECORD, provider=None, model=None, outcome=Outcome.FAILED, tried=(), usage=Usage(), first_byte_ms=None
    )
    line = shown(record, width=80)[1]
    assert "→" not in line
    assert "$" not in line
    assert " – " in line


def test_the_columns_are_named_again_now_and_then() -> None:
    lines = shown(*[RECORD] * (HEAD_EVERY + 1))
    assert [number for number, line in enumerate(lines) if line.startswith("time")] == [0, HEAD_EVERY + 1]


def test_colours_are_there_where_they_are_wanted_and_change_no_width() -> None:
    plain, painted = shown(RECORD, width=80)[1], shown(RECORD, width=80, colour=True)[1]
    assert "\x1b" not in plain
    assert "\x1b[38;5;105m●\x1b[0m" in painted


@pytest.mark.parametrize(
    ("env", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours_follow_the_terminal_and_its_variables(env: dict[str, str], terminal: bool, wanted: bool) -> None:
    out = io.StringIO()
    out.isatty = lambda: terminal  # type: ignore[method-assign]  # as if it were one
    assert colours(out, env) is wanted


def test_json_has_one_object_a_request_and_no_field_for_content() -> None:
    [line] = shown(RECORD, json=True)
    told = json.loads(line)
    assert told["tokens"] == {"input": 1904, "cached": 0, "output": 733}
    assert set(told) == {
        *("time", "request_id", "profile", "privacy", "provider", "model", "outcome", "stream", "tried", "tokens"),
        *("cost", "first_byte_ms", "total_ms"),
    }


def test_a_model_cannot_steer_the_terminal() -> None:
    line = shown(answered("evil", "\x1b[2Jgone\x07"), width=80)[1]
    assert "\x1b" not in line
    assert "\x07" not in line


def test_a_terminal_that_is_gone_is_nobodys_fault() -> None:
    out = io.StringIO()
    out.close()
    Console(out=out).record_usage(RECORD)
