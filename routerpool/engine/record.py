"""What is remembered of a request: its one record, and who hands it to the plugins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from routerpool.hooks.calling import Hooks
from routerpool.planning.cost import cost_of
from routerpool.types import Candidate, Failure, Outcome, Plan, Usage, UsageRecord

__all__ = ["Recorder", "record_of"]

RECORD_SECONDS = 0.05
"""How long the end of an answer waits for its usage record."""


class Recorder:
    """Hands records to the plugins; each waits 50 ms at most, then is finished behind the answer."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._behind: set[asyncio.Future[Any]] = set()

    def wanted(self) -> bool:
        """Whether anybody takes records."""
        return bool(self._hooks.impls["record_usage"])

    async def record(self, record: UsageRecord) -> None:
        """Hand on a record."""
        waiting = self._hooks.begun("record_usage", record)
        if not waiting:
            return
        task = asyncio.ensure_future(asyncio.gather(*waiting))
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
        await asyncio.wait((task,), timeout=RECORD_SECONDS)

    async def drain(self) -> None:
        """Wait for the records that are still on their way."""
        while self._behind:
            await asyncio.wait(tuple(self._behind))


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
