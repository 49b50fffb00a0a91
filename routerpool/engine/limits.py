"""How long one attempt may take, and what its passing is called: every text names the limit that ended it."""

from __future__ import annotations

from routerpool.engine.journey import Journey
from routerpool.protocols import Provider

__all__ = ["limit_words", "plain_limit", "streams_limit"]

PLAIN_SHARE = 0.9
"""The most of what is left of the budget that one plain attempt gets while somebody else could be asked."""

LIMIT_WORDS = {
    "first_event": "no first event within limits.first_event_seconds ({first_event_seconds:g})",
    "declared": "no first event within the {declared:g} s that it takes as is known",
    "budget": "no first event within what was left of {budget_name} ({budget:g})",
    "idle": "it fell silent for limits.idle_seconds ({idle_seconds:g})",
    "plain": "no answer within limits.plain_seconds ({plain_seconds:g}), and another one is left to be asked",
    "share": "no answer while {budget_name} ({budget:g}) left time to ask another one",
    "answer": "no answer within limits.answer_seconds ({answer_seconds:g})",
    "asked": "no whole answer within {budget_name} ({budget:g})",
    "stream": "the stream never ended within limits.stream_seconds ({stream_seconds:g})",
    "shutting_down": "this server is shutting down",
}
"""What each limit's passing means, in words that name it."""


def declared_by(provider: Provider) -> float:
    """The seconds that it is known to need before its first word, 0 where nothing is known."""
    return getattr(provider, "first_event_seconds", None) or 0.0


def streams_limit(journey: Journey, provider: Provider) -> tuple[float, str]:
    """The seconds until a stream's first event, and the limit that they are.

    What a provider is known to need, to load a model, is not cut by the budget; only the client's own word does.
    """
    limits = journey.services.config.limits
    left, declared = journey.budget_left(), declared_by(provider)
    if declared > limits.first_event_seconds:
        return (left, "budget") if journey.asked and left < declared else (declared, "declared")
    return (left, "budget") if left < limits.first_event_seconds else (limits.first_event_seconds, "first_event")


def plain_limit(journey: Journey, provider: Provider) -> tuple[float, str]:
    """The seconds for a plain answer, and the limit that they are: while another one is left, within the budget."""
    limits = journey.services.config.limits
    seconds, why = limits.answer_seconds, "answer"
    if not journey.last:
        share, declared = PLAIN_SHARE * journey.budget_left(), declared_by(provider)
        if limits.plain_seconds < seconds:
            seconds, why = limits.plain_seconds, "plain"
        if share < seconds:
            seconds, why = share, "share"
        if declared > seconds:
            seconds, why = min((declared, "declared"), (limits.answer_seconds, "answer"))
    if journey.asked and (left := journey.budget_left()) < seconds:
        return left, "asked"
    return seconds, why


def limit_words(why: str, journey: Journey, provider: Provider) -> str:
    """What the passing of a limit means."""
    limits = journey.services.config.limits
    return LIMIT_WORDS[why].format(
        first_event_seconds=limits.first_event_seconds,
        idle_seconds=limits.idle_seconds,
        plain_seconds=limits.plain_seconds,
        answer_seconds=limits.answer_seconds,
        stream_seconds=limits.stream_seconds,
        declared=declared_by(provider),
        budget=journey.budget,
        budget_name=journey.budget_name,
    )
