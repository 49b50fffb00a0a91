"""A plan as JSON values, whole."""

from __future__ import annotations

import json

from routerpool.planning.explanation import explain
from routerpool.types import Candidate, ChatRequest, Features, Finding, Model, Plan, Prices, Privacy, Score, Tier, Veto

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
