"""What is remembered of a request: the one record of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from routerpool.planning.cost import cost_of
from routerpool.types import Candidate, Failure, Outcome, Plan, Usage, UsageRecord

__all__ = ["record_of"]


def record_of(
    plan: Plan,
    *,
    candidate: Candidate | None,
    outcome: Outcome,
    tried: Sequence[tuple[Candidate, Failure]],
    usage: Usage,
    first_byte_ms: float | None,
    total_ms: float,
) -> UsageRecord:
    """The record of a request that was planned, however it ended."""
    request, features = plan.request, plan.features
    trail = tuple(f"{other.key}:{failure.kind.value}" for other, failure in tried)
    score = plan.scores.get(candidate.key) if candidate is not None else None
    if candidate is not None and outcome is Outcome.ANSWERED:
        trail = (*trail, f"{candidate.key}:answered")
    return UsageRecord(
        request_id=request.id,
        time=time.time(),
        caller=request.caller.id,
        session=features.session,
        profile=plan.profile,
        model_asked=request.model,
        provider=candidate.provider if candidate else None,
        model=candidate.model.id if candidate else None,
        outcome=outcome,
        stream=request.stream,
        tried=trail,
        task=features.task,
        privacy=features.privacy,
        prompt_tokens=features.prompt_tokens,
        usage=usage,
        cost=cost_of(usage, candidate.model.prices, free=candidate.model.free) if candidate else 0.0,
        first_byte_ms=first_byte_ms,
        total_ms=total_ms,
        terms=score.terms if score else {},
    )
