"""Which failures count how, and for how long they bench: the kinds and the configuration."""

from __future__ import annotations

from typing import Annotated, Any

from attrs import field, fields, frozen

from routerpool import FailureKind
from routerpool.config import Range

__all__ = [
    "COUNTERS",
    "DAY",
    "DOUBTED",
    "HOUR",
    "PASSING",
    "PROVIDER_WIDE",
    "SOFT",
    "BreakerConfig",
    "Cooldown",
    "rules_of",
]

HOUR, DAY = 3600.0, 24 * 3600.0

SOFT = frozenset(
    {FailureKind.CONNECT, FailureKind.SERVER, FailureKind.TIMEOUT, FailureKind.EMPTY, FailureKind.INTERRUPTED}
)
"""Trouble that may pass at any moment: it takes several failures in a row, and never benches the last candidate."""

PASSING = frozenset({*SOFT, FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE})
"""A plan made before the bench may still try these; for the others another attempt is known to be in vain."""

PROVIDER_WIDE = frozenset({FailureKind.AUTH, FailureKind.CREDIT, FailureKind.CONNECT})
"""Failures of the key or the address, which all models of a provider share."""

DOUBTED = frozenset({FailureKind.SERVER, FailureKind.TIMEOUT, FailureKind.FORBIDDEN, FailureKind.MISSING_MODEL})
"""What is no news of a provider from one of its models, and is from several, where it says nothing of the model."""

COUNTERS = frozenset({FailureKind.RATE_LIMITED, FailureKind.QUOTA_EXHAUSTED, FailureKind.UNAVAILABLE})
"""Failures that the state of a rate-limit window explains; for the others only a Retry-After says when to come back."""

Seconds = Annotated[float, Range(above=0, most=7 * DAY)]
Count = Annotated[int, Range(least=1, most=1000)]


@frozen(kw_only=True)
class Cooldown:
    """How long one kind of failure benches where the provider does not say."""

    first: Seconds | None = field(default=None, metadata={"help": "seconds of the first cooldown"})
    most: Seconds | None = field(default=None, metadata={"help": "seconds at which doubling ends"})


def _rule(what: str, first: float | None, most: float) -> dict[str, Any]:
    """What is known of the field for one kind of failure; its defaults are told in its help."""
    start = "until midnight UTC" if first is None else f"first {first:g}"
    return {"help": f"cooldown after {what} (default: {start}, most {most:g} seconds)", "first": first, "most": most}


@frozen(kw_only=True)
class BreakerConfig:
    """How soon and for how long candidates are benched. Each cooldown in a row is twice as long as the one before."""

    trials: Count = field(default=1, metadata={"help": "requests at a time that may try what was benched"})
    failures: Count = field(
        default=3,
        metadata={
            "help": "server errors, timeouts, empty or broken answers of one or more models in a row before a cooldown"
        },
    )
    connect_failures: Count = field(
        default=3, metadata={"help": "failed connections in a row before all of a provider is benched"}
    )
    missing_requests: Count = field(
        default=2, metadata={"help": "requests that must find a model missing before it is benched"}
    )
    max_cooldown: Seconds | None = field(
        default=None,
        metadata={
            "help": "most seconds taken from a provider's word (default: for quota and credit a day, else an hour)"
        },
    )
    jitter: Annotated[float, Range(least=0, most=0.5)] = field(
        default=0.1, metadata={"help": "by what share cooldowns of ours vary at random"}
    )
    rate_limited: Cooldown = field(default=Cooldown(), metadata=_rule("a rate limit without a stated wait", 90, HOUR))
    quota_exhausted: Cooldown = field(
        default=Cooldown(), metadata=_rule("an exhausted quota without a stated reset", None, DAY)
    )
    credit: Cooldown = field(
        default=Cooldown(), metadata=_rule("a refusal for want of credit (all of the provider)", 300, HOUR)
    )
    auth: Cooldown = field(default=Cooldown(), metadata=_rule("a refused key (all of the provider)", 600, DAY))
    forbidden: Cooldown = field(default=Cooldown(), metadata=_rule("a model that the key may not use", 300, DAY))
    missing_model: Cooldown = field(default=Cooldown(), metadata=_rule("a model that is not there", 600, HOUR))
    timeout: Cooldown = field(default=Cooldown(), metadata=_rule("timeouts", 30, 300))
    connect: Cooldown = field(default=Cooldown(), metadata=_rule("failed connections (all of the provider)", 30, 300))
    server: Cooldown = field(default=Cooldown(), metadata=_rule("server errors", 30, 300))
    empty: Cooldown = field(default=Cooldown(), metadata=_rule("empty answers", 30, 300))
    interrupted: Cooldown = field(default=Cooldown(), metadata=_rule("answers that broke off", 30, 300))
    unavailable: Cooldown = field(default=Cooldown(), metadata=_rule("a provider that is busy or still loading", 5, 60))


def rules_of(config: BreakerConfig) -> dict[FailureKind, tuple[float | None, float]]:
    """First and longest cooldown of each kind that counts; a first of None lasts until midnight UTC."""
    rules = {}
    for told in fields(BreakerConfig):
        if "most" in told.metadata:
            given: Cooldown = getattr(config, told.name)
            first = told.metadata["first"] if given.first is None else given.first
            most = told.metadata["most"] if given.most is None else given.most
            rules[FailureKind(told.name)] = first, max(most, given.first or 0.0)
    return rules
