"""What is remembered of a request: its usage, what it cost, and the one record of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from routerpool.types import Candidate, Failure, Outcome, Plan, Prices, Usage, UsageRecord

__all__ = ["cost_of", "record_of"]


def cost_of(usage: Usage, prices: Prices, *, free: bool = False) -> float | None:
    """US dollars for this usage, or None when a price that it needs is unknown.

    What the provider itself says goes before all (`usage.cost`, which then marks the cost as its own), also where we
    took its answers for free. A cached or written token without a price of its own costs what an uncached one does,
    one that is written for an hour what one that is written for five minutes does.
    """
    if usage.cost is not None:
        return usage.cost
    if free:
        return 0.0
    while prices.long is not None and prices.over is not None and usage.input > prices.over:
        prices = prices.long
    cached = prices.cached if prices.cached is not None else prices.input
    written = prices.cache_write if prices.cache_write is not None else prices.input
    parts = (
        (usage.input_uncached, prices.input),
        (usage.input_cached, cached),
        (usage.cache_write, written),
        (usage.cache_write_1h, prices.cache_write_1h if prices.cache_write_1h is not None else written),
        (usage.output, prices.output),
    )
    total = 0.0
    for tokens, price in parts:
        if tokens and price is None:
            return None
        total += tokens * (price or 0.0)
    return total / 1e6


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
