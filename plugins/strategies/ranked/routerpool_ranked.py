"""The stronger model first, whatever it costs and wherever it runs: a waterfall by `Model.rank`.

Ranks come from the providers' data files or from `rank:` in a `models:` list; lower is stronger, equal ranks score
alike. Models without a rank come after all that have one, in the order of the configuration: a rank is knowledge,
and what is unknown waits behind it. Where no model has a rank, that is the order of the configuration itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from routerpool import Candidate, Score, hookimpl

__all__ = ["Ranked"]

KEPT = 32
"""How many answers are kept. Whenever something is vetoed the candidates are another tuple, asked about only once."""


class Ranked:
    """Scores by rank alone. It does not look at the request, so answers are kept and given again."""

    weight = 1.0

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Sequence[Candidate], list[Score]]] = {}

    @hookimpl
    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """From 1 for the strongest down to 0, in even steps; the same list object for the same `candidates` object.

        The one term tells where the points come from: `rank`, or `position` for a model without a rank.
        """
        kept = self._kept.get(id(candidates))
        if kept is not None and kept[0] is candidates:
            return kept[1]
        steps = [
            (1, place) if candidate.model.rank is None else (0, candidate.model.rank)
            for place, candidate in enumerate(candidates)
        ]
        place_of = {step: place for place, step in enumerate(sorted(set(steps)))}
        last = len(place_of) - 1
        scores = []
        for candidate, step in zip(candidates, steps, strict=True):
            points = 1.0 - place_of[step] / last if last else 1.0
            scores.append(Score(candidate, points, {"position" if step[0] else "rank": points}))
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[id(candidates)] = candidates, scores
        return scores
