"""Free before paid, local before remote, then the stronger model.

The three terms are so far apart that none can outweigh the one before it: a paid model of the best rank stays behind
the weakest free one. Together with other strategies, the weights of the profile decide how much that counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from routerpool import Candidate, Score, hookimpl

__all__ = ["FreeFirst"]

FREE, LOCAL, RANK = 0.6, 0.3, 0.1
"""What each term adds at most. LOCAL and RANK together are less than FREE, and RANK is less than LOCAL."""

KEPT = 32
"""How many answers are kept. Whenever something is vetoed the candidates are another tuple, asked about only once."""


class FreeFirst:
    """Scores by price, then place, then rank. It does not look at the request, so answers are kept and given again."""

    default = 40
    weight = 10.0

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Sequence[Candidate], list[Score]]] = {}

    @hookimpl
    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """One score for each candidate; the same list object as long as `candidates` is the same object."""
        kept = self._kept.get(id(candidates))
        if kept is not None and kept[0] is candidates:
            return kept[1]
        strengths = strengths_of(candidates)
        scores = [_score(candidate, strengths[place]) for place, candidate in enumerate(candidates)]
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[id(candidates)] = candidates, scores
        return scores


def _score(candidate: Candidate, strength: float) -> Score:
    terms = {
        "free": FREE if candidate.model.free else 0.0,
        "local": LOCAL if candidate.model.local else 0.0,
        "rank": RANK * strength,
    }
    return Score(candidate, sum(terms.values()), terms)


def strengths_of(candidates: Sequence[Candidate]) -> list[float]:
    """From 1 for the strongest down to 0, in even steps: by `Model.rank`, equal ranks alike.

    Those without a rank come after all that have one, each on a step of its own in the order of the configuration.
    Even steps keep one far rank from making all the others look alike.
    """
    steps = [
        (1, place) if candidate.model.rank is None else (0, candidate.model.rank)
        for place, candidate in enumerate(candidates)
    ]
    place_of = {step: place for place, step in enumerate(sorted(set(steps)))}
    last = len(place_of) - 1
    return [1.0 - place_of[step] / last if last else 1.0 for step in steps]
