"""What follows a failure: who is asked next, how long to wait, and what the client is told when nobody is left."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from routerpool.config.sections import Profile
from routerpool.errors import RequestError
from routerpool.planning.explanation import OUT_OF_QUOTA, WAITABLE_KINDS
from routerpool.types import Candidate, Decision, Failure, FailureKind, Tier, Veto

__all__ = ["Retries", "exhausted", "own_decision", "step_back", "thin", "wait_before"]

RETRY_BASE_SECONDS, RETRY_CAP_SECONDS = 0.25, 8.0
"""Full jitter: a uniform wait up to base · 2^n, capped, so that many clients do not come back at once."""

RETRIED_KINDS = frozenset(
    {FailureKind.CONNECT, FailureKind.SERVER, FailureKind.EMPTY, FailureKind.INTERRUPTED, FailureKind.RATE_LIMITED}
)
"""Failures after which the same candidate may be asked once more when no other is left."""

CLIENTS_FAULTS = frozenset({FailureKind.BAD_REQUEST, FailureKind.CONTENT_FILTER})
PROVIDER_WIDE = frozenset({FailureKind.AUTH, FailureKind.CREDIT, FailureKind.CONNECT})
"""Failures of the key or the address: the provider's other models share both."""

DOUBTED_KINDS = frozenset({FailureKind.FORBIDDEN, FailureKind.MISSING_MODEL, FailureKind.RATE_LIMITED})
"""Failures that may be of one model, but two of which make it likely that the provider is meant."""

BUDGET = "limits.budget_seconds"


RETRIED_SHARE, RETRIED_LEAST = 0.2, 3
"""Envoy's retry budget: a fifth of the requests in flight, or three."""


class Retries:
    """How many requests may ask the same candidate again at one time, over all requests of a router.

    When a provider is down, every request would like to ask it once more, and together they keep it down.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.running = 0
        self.refused = 0

    def take(self) -> bool:
        """Whether one more may be asked again now; if so, `give` it back afterwards."""
        if self.running >= max(RETRIED_SHARE * self.requests, RETRIED_LEAST):
            self.refused += 1
            return False
        self.running += 1
        return True

    def give(self) -> None:
        """The second attempt is over."""
        self.running -= 1

    def status(self) -> dict[str, int]:
        """The figures of this process."""
        return {"running": self.running, "refused": self.refused}


def own_decision(profile: Profile, candidate: Candidate, failure: Failure, left: Iterable[Candidate]) -> Decision:
    """The core's own word; a plugin may make it graver, never milder."""
    if failure.kind in CLIENTS_FAULTS:
        return Decision.STOP
    if failure.kind is FailureKind.TOO_LARGE:
        larger = any(_larger(other, candidate) for other in left)
        return Decision.NEXT if profile.too_large == "next" and larger else Decision.STOP
    if failure.status == 403:  # whatever it is for, who is turned away does not knock again at once
        return Decision.NEXT
    return Decision.RETRY if failure.kind in RETRIED_KINDS else Decision.NEXT


def wait_before(failure: Failure, round_number: int, left: float) -> float | None:
    """Seconds to wait before the same candidate is asked again; None when there is no sense in it.

    `left` is what is left of the request's budget in seconds.
    """
    if failure.retry_after is not None:
        wait = failure.retry_after
    elif failure.kind is FailureKind.RATE_LIMITED:
        return None  # without a word of when, asking again at once only burns quota
    else:
        wait = random.uniform(0, min(RETRY_CAP_SECONDS, RETRY_BASE_SECONDS * 2**round_number))
    return wait if wait <= min(RETRY_CAP_SECONDS, left) else None


def step_back(queue: deque[Candidate], tried: Sequence[tuple[Candidate, Failure]]) -> None:
    """Put the last one's provider behind the others once two of its models have failed in a way that is not theirs.

    Two models that are missing or closed are a hint of that too: whoever is put behind is still asked in the end.
    """
    provider = tried[-1][0].provider
    doubted = {
        other.key
        for other, failure in tried
        if other.provider == provider and (failure.wide or failure.kind in DOUBTED_KINDS)
    }
    if len(doubted) < 2:
        return
    ordered = sorted(queue, key=lambda other: other.provider == provider)
    queue.clear()
    queue.extend(ordered)


def thin(queue: deque[Candidate], candidate: Candidate, failure: Failure, decision: Decision) -> None:
    """Take out of the queue who cannot do better than the candidate that has just failed."""
    keep: Callable[[Candidate], bool]
    if failure.kind in PROVIDER_WIDE:
        spares_free = failure.kind is FailureKind.CREDIT and not candidate.model.free

        def keep(other: Candidate) -> bool:
            return other.provider != candidate.provider or bool(spares_free and other.model.free)
    elif failure.kind is FailureKind.TOO_LARGE:

        def keep(other: Candidate) -> bool:
            return _larger(other, candidate)
    elif decision is Decision.ESCALATE:

        def keep(other: Candidate) -> bool:
            return _strength(other) > _strength(candidate)
    else:
        return
    kept = [other for other in queue if keep(other)]
    queue.clear()
    queue.extend(kept)


def _unfit(failure: Failure) -> bool:
    """Whether it concerns this one request, so that waiting does not help."""
    return failure.kind is FailureKind.UNAVAILABLE and failure.retry_after == 0


def _larger(other: Candidate, candidate: Candidate) -> bool:
    """Whether a prompt that was too long for a candidate may fit another one.

    Who is known to be too small was vetoed. What a refusal disproves is its own claim, so that no other provider is
    measured by it; of the same provider a larger window is wanted, or one that is not known.
    """
    window = other.model.context
    return other.provider != candidate.provider or window is None or window > (candidate.model.context or 0)


def _strength(candidate: Candidate) -> Tier:
    return candidate.model.tier or Tier.BALANCED


def exhausted(
    tried: Sequence[tuple[Candidate, Failure]],
    budget: float,
    left: float,
    profile: str,
    limit: str = BUDGET,
    vetoes: Sequence[Veto] = (),
) -> RequestError:
    """What the client is told: every attempt, and how long to wait where that helps.

    `budget` and `left` are in seconds, `limit` names who has set the budget. Of the plan's `vetoes` those count that
    stand for a failure: what is told while they last is what was told when they began.
    """
    failures = [failure for _, failure in tried]
    waits = [failure.retry_after for failure in failures if failure.retry_after is not None and not _unfit(failure)]
    waits += [veto.retry_after for veto in vetoes if veto.kind is not None and veto.retry_after is not None]
    cooling = {veto.kind for veto in vetoes if veto.kind is not None}
    attempts = [
        {
            "candidate": candidate.key,
            "kind": failure.kind.value,
            "status": failure.status,
            "message": failure.message,
            "retry_after": failure.retry_after,
        }
        for candidate, failure in tried
    ]
    if tried and all(failure.kind is FailureKind.OVERLOADED for failure in failures):
        code, message, waits = "overloaded", "nobody could be asked", [1.0]
    elif tried and all(failure.lacks is not None for failure in failures):
        lacking = ", ".join(sorted({str(failure.lacks) for failure in failures}))
        code, message = "unsupported_capabilities", f"no candidate can do what this request needs ({lacking})"
    elif left <= 0:
        code, message = "budget_exhausted", f"no answer after {budget - left:.3g} s; {limit} is {budget:g}"
    elif tried and cooling <= WAITABLE_KINDS and all(f.kind in WAITABLE_KINDS and not _unfit(f) for f in failures):
        code, message = "quota_exhausted", OUT_OF_QUOTA
    else:
        code, message = "attempts_exhausted", f"all {len(tried)} attempts failed"
    trail = "; ".join(f"{candidate.key}: {failure.message}" for candidate, failure in tried)
    return RequestError(
        code,
        f"{message}: {trail}" if trail else message,
        retry_after=min(waits) if waits else None,
        details={"attempts": attempts, "profile": profile},
    )
