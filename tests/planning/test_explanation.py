"""A plan as JSON values, whole."""

from __future__ import annotations

import json

import pytest

from routerpool.planning.explanation import explain, refusal
from routerpool.planning.selection import OTHER_ASKED
from routerpool.types import (
    Candidate,
    ChatRequest,
    FailureKind,
    Features,
    Finding,
    Model,
    Plan,
    Prices,
    Privacy,
    Score,
    Tier,
    Veto,
)

GROQ = Candidate(provider="groq", model=Model(id="m", free=True, prices=Prices(input=1.0, output=1.0)))
OTHER = Candidate(provider="other", model=Model(id="m"))


def test_a_plan_is_told_in_words_and_plain_values() -> None:
    plan = Plan(
        request=ChatRequest(id="r", model="auto", messages=[{"role": "user", "content": "a secret"}]),
        features=Features(
            task="code", prompt_tokens=7, needs=frozenset({"vision", "tools"}), privacy=Privacy.SECRET, session="s",
            labels={"tier": Tier.FAST, "pair": (1, 2)},
            findings=(Finding(rule="key", part="messages[0]", redacted="sk-…", line=3),),
        ),
        profile="auto",
        ranked=(GROQ,),
        vetoes=(Veto(OTHER, "privacy", "it is not local"),),
        scores={"groq/m": Score(GROQ, 0.5, {"free_first": 0.5})},
        opinions=(("free_first", 10.0, [Score(GROQ, 0.5, {"free": 1.0})]),),
    )  # fmt: skip

    told = explain(plan)

    assert told == {
        "model": "auto",
        "profile": "auto",
        "features": {
            "task": "code", "difficulty": None, "language": None, "prompt_tokens": 7, "needs": ["tools", "vision"],
            "privacy": "secret", "session": "s", "labels": {"tier": "fast", "pair": [1, 2]},
            "findings": [{"rule": "key", "part": "messages[0]", "redacted": "sk-…"}],
        },
        "ranked": [
            {
                "candidate": "groq/m", "points": 0.5, "free": True, "local": False, "cost": 0.0,
                "strategies": {"free_first": {"points": 0.5, "weight": 10.0, "terms": {"free": 1.0}}},
            }
        ],
        "vetoes": [{"candidate": "other/m", "code": "privacy", "reason": "it is not local"}],
    }  # fmt: skip
    assert "a secret" not in json.dumps(told)


def test_points_are_told_without_the_noise_of_their_sums() -> None:
    score = Score(OTHER, 0.1 + 0.2, {"a": 0.1 + 0.2})
    request = ChatRequest(id="r", model="auto", messages=())
    plan = Plan(
        request=request, features=Features(), profile="auto", ranked=(OTHER,), scores={"other/m": score}, opinions=()
    )
    assert [row["points"] for row in explain(plan)["ranked"]] == [0.3]


def plan_of(model: str, *vetoes: Veto) -> Plan:
    request = ChatRequest(id="r", model=model, messages=())
    return Plan(request=request, features=Features(), profile="auto", ranked=(), vetoes=vetoes)


def candidate_of(key: str) -> Candidate:
    provider, _, model = key.partition("/")
    return Candidate(provider=provider, model=Model(id=model))


MANY = [Veto(candidate_of(f"p/m{number}"), "not_in_profile", OTHER_ASKED) for number in range(35)]


@pytest.mark.parametrize("asked", ["groq/m", "m"])
@pytest.mark.parametrize("code", ["no_key", "disabled", "cooldown"])
def test_an_exact_model_that_cannot_answer_gives_its_own_cause_alone(asked: str, code: str) -> None:
    error = refusal(plan_of(asked, *MANY, Veto(GROQ, code, "because")), {})
    assert error.message == f"nobody can answer: groq/m {code} (because)"
    assert len(error.details["vetoes"]) == 36


def test_who_was_asked_for_is_named_first_and_the_others_are_counted() -> None:
    off = [Veto(candidate_of(f"p/m{number}"), "capability", "no tools") for number in range(9)]
    other = [Veto(candidate_of("q/n"), "forbidden", "forbidden")]
    error = refusal(plan_of("groq/m", *off, *other, Veto(GROQ, "cooldown", "429")), {})
    assert error.message.startswith("nobody can answer: groq/m cooldown (429); p/m0 capability (no tools); p/m1")
    assert error.message.endswith("; and 8 more (7 capability, 1 forbidden), which `routerpool explain` lists")


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([FailureKind.RATE_LIMITED], "quota_exhausted"),
        ([FailureKind.RATE_LIMITED, FailureKind.QUOTA_EXHAUSTED, FailureKind.UNAVAILABLE, None], "quota_exhausted"),
        ([FailureKind.RATE_LIMITED, FailureKind.SERVER], "no_candidate"),
        ([FailureKind.AUTH], "no_candidate"),
        ([None], "no_candidate"),
    ],
)
def test_a_cooldown_is_told_by_the_failure_for_which_it_is(kinds: list[FailureKind | None], code: str) -> None:
    vetoes = [
        Veto(candidate_of(f"p/m{number}"), "cooldown", "later", 5.0 + number, kind) for number, kind in enumerate(kinds)
    ]
    error = refusal(plan_of("auto", *vetoes), {})
    assert (error.code, error.retry_after) == (code, 5.0)
