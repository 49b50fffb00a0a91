"""A plan in words: who is asked and why, who is not, and what a client is told when nobody is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from routerpool.config.structure import converter
from routerpool.errors import RequestError
from routerpool.planning.cost import cost_of
from routerpool.planning.selection import OTHER_ASKED
from routerpool.types import ChatRequest, FailureKind, Features, Plan, Usage, Veto

__all__ = ["explain", "likely_usage", "ranked_rows", "refusal", "veto_rows"]

STANDING = frozenset({"no_key", "disabled", "not_in_profile"})
"""Vetoes that hold whatever is asked; they do not explain why this very request found nobody."""

SOLE_REASON: Mapping[str, tuple[str, str]] = {
    "privacy": ("privacy_blocked", "no candidate may see a request of this privacy class"),
    "capability": ("unsupported_capabilities", "no candidate can do what the request needs"),
    "context_window": ("context_length_exceeded", "the prompt fits no candidate's context window"),
}

NOBODY = ("no_candidate", "nobody can answer")

OUT_OF_QUOTA = "every candidate is out of quota or busy"
WAITABLE_KINDS = frozenset({FailureKind.RATE_LIMITED, FailureKind.QUOTA_EXHAUSTED, FailureKind.UNAVAILABLE})
"""Failures that end by waiting: where all are of these, a client is told 429, at once and as long as they last."""

MOST_CAUSES = 3
"""How many candidates are named in an error with their causes; all are in its `vetoes`."""

ASSUMED_OUTPUT = 1000
"""Output tokens that a budget reckons with when the client sets no cap."""


def refusal(plan: Plan, unheard: Mapping[str, tuple[str, float | None]]) -> RequestError:
    """The error of a plan that leaves nobody: every candidate with its veto, and the reason if there is one.

    `unheard` are the providers of which no model is known: why, and in how many seconds that may change.
    """
    vetoes = [
        {"candidate": veto.candidate.key, "code": veto.code, "reason": veto.reason, "retry_after": veto.retry_after}
        for veto in plan.vetoes
    ]
    telling = [veto for veto in plan.vetoes if veto.code not in STANDING]
    codes = {veto.code for veto in telling}
    cooling = {veto.kind for veto in telling if veto.kind is not None}
    waits = [veto.retry_after for veto in telling if veto.retry_after is not None]
    waits += [wait for _, wait in unheard.values() if wait is not None]
    silence = "; ".join(reason for reason, _ in unheard.values())
    code, message = SOLE_REASON.get(next(iter(codes)), NOBODY) if len(codes) == 1 else NOBODY
    if not vetoes and unheard:
        message = f"no model is known: {silence}"
    elif not vetoes:
        message = "no provider is configured; set a provider's key, start Ollama, or name plugins in routerpool.yaml"
    elif code == "no_candidate":
        if cooling and cooling <= WAITABLE_KINDS:
            code, message = "quota_exhausted", OUT_OF_QUOTA
        message = f"{message}: {_causes(plan, telling)}" + (f"; {silence}" if silence else "")
    return RequestError(
        code,
        message,
        retry_after=min(waits) if waits else None,
        details={"vetoes": vetoes, "profile": plan.profile},
    )


def _causes(plan: Plan, telling: Sequence[Veto]) -> str:
    """Why nobody is left, in words: first the candidates that were asked for by name, and how many there are more."""
    vetoes = telling or [veto for veto in plan.vetoes if veto.reason != OTHER_ASKED] or plan.vetoes
    asked = plan.request.model
    first = sorted(vetoes, key=lambda veto: asked not in (veto.candidate.key, veto.candidate.model.id))
    words = "; ".join(f"{veto.candidate.key} {veto.code} ({veto.reason})" for veto in first[:MOST_CAUSES])
    more = Counter(veto.code for veto in first[MOST_CAUSES:])
    if not more:
        return words
    counts = ", ".join(f"{count} {code}" for code, count in more.most_common())
    return f"{words}; and {more.total()} more ({counts}), which `routerpool explain` lists"


def explain(plan: Plan) -> dict[str, Any]:
    """A plan as plain JSON values: who is asked, with named terms, and who is not, with the reason."""
    features, likely = plan.features, likely_usage(plan.request, plan.features)
    return {
        "model": plan.request.model,
        "profile": plan.profile,
        "features": converter.unstructure(features)
        | {"findings": [{"rule": f.rule, "part": f.part, "redacted": f.redacted} for f in features.findings]},
        "ranked": [
            {**row, "cost": cost_of(likely, candidate.model.prices, free=candidate.model.free)}
            for row, candidate in zip(ranked_rows(plan), plan.ranked, strict=True)
        ],
        "vetoes": veto_rows(plan),
    }


def ranked_rows(plan: Plan) -> list[dict[str, Any]]:
    """Who is asked, in order, with the named terms of every strategy."""
    details: dict[str, dict[str, Any]] = {}
    for name, weight, scores in plan.opinions:
        for score in scores:
            entry = {"points": score.points, "weight": weight, "terms": dict(score.terms)}
            details.setdefault(score.candidate.key, {})[name] = entry
    return [
        {
            "candidate": candidate.key,
            "points": round(plan.scores[candidate.key].points, 6),
            "strategies": details.get(candidate.key, {}),
            "free": candidate.model.free,
            "local": candidate.model.local,
        }
        for candidate in plan.ranked
    ]


def veto_rows(plan: Plan) -> list[dict[str, Any]]:
    """Who is ruled out, and why."""
    return [{"candidate": veto.candidate.key, "code": veto.code, "reason": veto.reason} for veto in plan.vetoes]


def likely_usage(request: ChatRequest, features: Features) -> Usage:
    """What a request will use if its answer is as long as it may be, or of an assumed length without a cap."""
    cap = request.params.get("max_completion_tokens") or request.params.get("max_tokens")
    output = cap if isinstance(cap, int) and cap > 0 else ASSUMED_OUTPUT
    return Usage(input_uncached=features.prompt_tokens, output=output)
