"""Ranking: what strategies said of candidates, weighed, and the order that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from attrs import frozen

from routerpool.types import Candidate, Score

__all__ = ["Ranking", "in_bounds", "listed_at", "ordered", "pinned_by", "plain", "weighed"]

PINNED = "pinned"
"""The term by which a strategy says that a conversation belongs to a candidate, which is waited for a little."""

NUMBERS = (float, int)


@frozen
class Ranking:
    """What the strategies said of these very candidates, and the order that came of it."""

    asked: tuple[Candidate, ...]
    opinions: tuple[tuple[str, float, Sequence[Score]], ...]
    ranked: tuple[Candidate, ...]
    scores: Mapping[str, Score]
    pinned: str | None

    def holds(self, asked: tuple[Candidate, ...], opinions: Sequence[tuple[str, float, Any]]) -> bool:
        """Whether every strategy gave the very answer, for the very candidates, that it gave then."""
        if self.asked is not asked or len(self.opinions) != len(opinions):
            return False
        for old, new in zip(self.opinions, opinions, strict=True):  # noqa: SIM110 - asked of every request
            if old[2] is not new[2]:
                return False
        return True


def in_bounds(score: Score) -> bool:
    return isinstance(score.points, NUMBERS) and 0.0 <= score.points <= 1.0 and isinstance(score.terms, Mapping)


def plain(name: str) -> str:
    """A name of a model as people write it: without blanks around it, in small letters, and without Ollama's `:latest`.

    What is sent is always the provider's own name.
    """
    return name.strip().casefold().removesuffix(":latest")


def listed_at(candidate: Candidate, models: Sequence[str]) -> int | None:
    """The place of a candidate in an explicit order of keys, model ids or globs; None when it is not there."""
    for place, pattern in enumerate(models):
        if pattern in (candidate.key, candidate.model.id) or fnmatchcase(candidate.key, pattern):
            return place
        if plain(pattern) in (plain(candidate.key), plain(candidate.model.id)):
            return place
    return None


def weighed(
    opinions: Sequence[tuple[str, float, Sequence[Score]]], candidates: Sequence[Candidate]
) -> Mapping[str, Score]:
    """The weighted mean of all opinions for each candidate; its terms are what each strategy contributed."""
    total = sum(weight for _, weight, _ in opinions) or 1.0
    terms: dict[str, dict[str, float]] = {candidate.key: {} for candidate in candidates}
    for name, weight, scores in opinions:
        for score in scores:
            terms[score.candidate.key][name] = score.points * weight / total
    return {c.key: Score(c, min(sum(terms[c.key].values()), 1.0), terms[c.key]) for c in candidates}


def ordered(
    candidates: Sequence[Candidate],
    scores: Mapping[str, Score],
    order: Mapping[str, tuple[int, int, int]],
    needs: frozenset[str],
    preferred: Sequence[str],
) -> tuple[Candidate, ...]:
    """Best first: what the request prefers, what the profile lists, known capability, tier, points, then the config."""

    def place(candidate: Candidate) -> tuple[float, ...]:
        listed, distance, position = order[candidate.key]
        wish = _wished(candidate, preferred) if preferred else 0
        unknown = any(need not in candidate.model.capabilities for need in needs)
        return wish, listed, unknown, distance, -scores[candidate.key].points, position

    return tuple(sorted(candidates, key=place))


def _wished(candidate: Candidate, preferred: Sequence[str]) -> int:
    names = (candidate.provider, candidate.key, candidate.model.id)
    return next((place for place, name in enumerate(preferred) if name in names), len(preferred))


def pinned_by(opinions: Sequence[tuple[str, float, Sequence[Score]]]) -> str | None:
    """The candidate to which a strategy has pinned the conversation: it says so by a term of this name."""
    for _, _, scores in opinions:
        for score in scores:
            if score.terms.get(PINNED):
                return score.candidate.key
    return None
