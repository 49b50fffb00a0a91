"""Free before paid, local before remote; then, of the free ones the stronger, of the paid ones the cheaper for this
request.

The terms are so far apart that none can outweigh the one before it: the cheapest paid model stays behind the weakest
free one. Together with other strategies, the weights of the profile decide how much that counts.

What a request will likely cost is its estimated prompt and as many output tokens as it allows, 1,000 where it does not
say. Where a paid model has answered this conversation before, what it read then counts as cached, if it has a price for
that: so a conversation stays where it is cheap until somebody else is cheaper all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, log2

from attrs import evolve, field, frozen

from routerpool import Attempt, Candidate, ChatRequest, Features, Score, Usage, hookimpl
from routerpool.planning import cost_of, likely_usage

__all__ = ["FreeFirst"]

FREE, LOCAL, LAST = 0.6, 0.3, 0.1
"""What each term adds at most. LOCAL and LAST together are less than FREE, and LAST is less than LOCAL."""

KEPT = 32
"""How many answers are kept. Whenever something is vetoed the candidates are another tuple, asked about only once."""

STEPS = 4
"""In how many sizes of a request each doubling is divided; requests of one size are taken to cost the same."""

SESSIONS = 4096
"""How many conversations are remembered that a paid model has answered."""


@frozen
class Known:
    """What is known of one tuple of candidates: whether prices decide anything, and its scores by size of request."""

    candidates: Sequence[Candidate]
    by_cost: bool
    scores: dict[tuple[int, int], list[Score]] = field(factory=dict)


class FreeFirst:
    """Scores by price, then place, then strength or cost. What does not depend on a request is kept and given again."""

    default = 40
    weight = 10.0

    def __init__(self) -> None:
        self._kept: dict[int, Known] = {}
        self._read: dict[str, tuple[str, int]] = {}

    @hookimpl
    def score(self, request: ChatRequest, features: Features, candidates: Sequence[Candidate]) -> list[Score]:
        """One score for each candidate; the same list object for the same candidates and a request of the same size."""
        known = self._kept.get(id(candidates))
        if known is None or known.candidates is not candidates:
            known = self._know(candidates)
        if not known.by_cost:
            size = 0, 0
        else:
            likely = likely_usage(request, features)
            if features.session in self._read:
                return _scores(candidates, self._after_last_turn(features.session, likely))
            size = _size(likely.input_uncached), _size(likely.output)
        scores = known.scores.get(size)
        if scores is None:
            usage = Usage(input_uncached=_tokens(size[0]), output=_tokens(size[1]))
            scores = _scores(candidates, (lambda candidate: _cost(candidate, usage)) if known.by_cost else _unasked)
            if len(known.scores) >= KEPT:
                known.scores.clear()
            known.scores[size] = scores
        return scores

    @hookimpl
    def on_success(self, attempt: Attempt, usage: Usage) -> None:
        """Remember which paid model has read how much of a conversation."""
        model = attempt.candidate.model
        if model.free or not (self._read or model.prices.cached is not None):  # nothing to remember, or to forget
            return
        session = attempt.features.session
        self._read.pop(session, None)
        self._read[session] = attempt.candidate.key, usage.input
        if len(self._read) > SESSIONS:
            del self._read[next(iter(self._read))]

    def _know(self, candidates: Sequence[Candidate]) -> Known:
        if len(self._kept) >= KEPT:
            self._kept.clear()
        usage = Usage(input_uncached=1, output=1)
        priced = sum(not candidate.model.free and _cost(candidate, usage) < inf for candidate in candidates)
        known = self._kept[id(candidates)] = Known(candidates, priced > 1)
        return known

    def _after_last_turn(self, session: str, likely: Usage) -> Callable[[Candidate], float]:
        key, read = self._read[session]
        cached = min(read, likely.input_uncached)
        again = evolve(likely, input_uncached=likely.input_uncached - cached, input_cached=cached)

        def cost(candidate: Candidate) -> float:
            keeps = candidate.key == key and candidate.model.prices.cached is not None
            return _cost(candidate, again if keeps else likely)

        return cost


def _unasked(_: Candidate) -> float:
    return inf


def _cost(candidate: Candidate, usage: Usage) -> float:
    cost = cost_of(usage, candidate.model.prices, free=candidate.model.free)
    return inf if cost is None else cost


def _size(tokens: int) -> int:
    return round(STEPS * log2(tokens + 1))


def _tokens(size: int) -> int:
    return round(2 ** (size / STEPS)) - 1


def _scores(candidates: Sequence[Candidate], cost: Callable[[Candidate], float]) -> list[Score]:
    free = strengths_of([candidate for candidate in candidates if candidate.model.free])
    paid = strengths_of([candidate for candidate in candidates if not candidate.model.free], cost)
    return [_score(candidate, *(free if candidate.model.free else paid)[id(candidate)]) for candidate in candidates]


def _score(candidate: Candidate, last: str, strength: float) -> Score:
    terms = {
        "free": FREE if candidate.model.free else 0.0,
        "local": LOCAL if candidate.model.local else 0.0,
        last: LAST * strength,
    }
    return Score(candidate, sum(terms.values()), terms)


def strengths_of(
    candidates: Sequence[Candidate], cost: Callable[[Candidate], float] = _unasked
) -> dict[int, tuple[str, float]]:
    """By `id`, what orders a candidate, `cost` or `rank`, and how high it stands: from 1 down to 0, in even steps.

    The cheapest come first, equal costs by rank, then those without a price by `Model.rank`, equal ranks alike; those
    that have none of both on a step of their own in the order of the configuration. Even steps keep one far rank or
    price from making all the others look alike.
    """
    costs = [cost(candidate) for candidate in candidates]
    steps = [
        (price, *((1, place) if candidate.model.rank is None else (0, candidate.model.rank)))
        for place, (candidate, price) in enumerate(zip(candidates, costs, strict=True))
    ]
    place_of = {step: place for place, step in enumerate(sorted(set(steps)))}
    last = len(place_of) - 1
    return {
        id(candidate): ("rank" if price == inf else "cost", 1.0 - place_of[step] / last if last else 1.0)
        for candidate, price, step in zip(candidates, costs, steps, strict=True)
    }
