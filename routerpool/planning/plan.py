"""Planning: classify, veto, score. It talks to no provider, so that explaining a decision is free and cannot lie."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from attrs import define, evolve, field

from routerpool.config.sections import Config, Profile
from routerpool.hooks.calling import Hooks, Impl
from routerpool.hooks.loading import Instance
from routerpool.planning.catalog import Catalog, Snapshot
from routerpool.planning.cost import cost_of
from routerpool.planning.explanation import likely_usage
from routerpool.planning.ranking import Ranking, in_bounds, listed_at, ordered, pinned_by, weighed
from routerpool.planning.selection import Names, Selection, standing_veto
from routerpool.planning.tokens import estimate_tokens
from routerpool.privacy.guard import may_see
from routerpool.types import Candidate, ChatRequest, Features, Plan, Privacy, Score, Tier, Veto
from routerpool.wire.request import needs_of, session_of

__all__ = ["CORE_VETOES", "Planner", "Selection"]

CORE_VETOES = (
    "no_key",
    "disabled",
    "capability",
    "context_window",
    "cost_policy",
    "privacy",
    "forbidden",
    "not_in_profile",
)
"""The stable codes of the core's own vetoes."""

NO_WINDOW = 1 << 62
"""The smallest context window where none is known."""

MANY_CHOICES = 4096
"""How many names are remembered with what they mean; globs and an `unknown_model` give clients endless ones.

They are 5 MB at most, since all names of one meaning share its lineup.
"""


T = TypeVar("T", Veto, Score)


@define
class Lineup:
    """The candidates that a selection leaves standing, what was ruled out for good, and who scores; one per snapshot.

    By what requests need it remembers the last ranking, and whether every candidate may be capable.
    """

    eligible: tuple[Candidate, ...]
    vetoes: tuple[Veto, ...]
    smallest_window: int
    order: Mapping[str, tuple[int, int, int]]
    strategies: tuple[Impl, ...]
    """Who is asked for scores, and by its name what each of them counts."""
    weights: Mapping[str, float]
    rankings: dict[frozenset[str], Ranking] = field(factory=dict)
    capable: dict[frozenset[str], bool] = field(factory=dict)

    def all_capable(self, needs: frozenset[str]) -> bool:
        """Whether no candidate is known to lack any of these capabilities."""
        told = self.capable.get(needs)
        if told is None:
            told = self.capable[needs] = not any(_incapable(candidate, needs) for candidate in self.eligible)
        return told


class Planner:
    """Makes plans over one configuration."""

    def __init__(self, config: Config, hooks: Hooks, catalog: Catalog, owners: Mapping[str, Instance]) -> None:
        self.config = config
        self.hooks = hooks
        self.catalog = catalog
        self.owners = owners
        self.names = Names(config, catalog)
        self._chosen: dict[tuple[str, str | None], tuple[Selection, Lineup]] = {}
        self._lineups: dict[tuple[str, tuple[str, ...], bool], Lineup] = {}
        self._chosen_from: tuple[Snapshot, object] | None = None

    async def plan(self, request: ChatRequest) -> Plan:
        """The plan for a request; a name that nothing has is a RequestError.

        A plan may be empty: `explanation.refusal` makes the error of it.
        """
        selection, lineup = self._choose(request)
        features = await self._classify(request, selection.profile)
        candidates, vetoes = await self._veto(request, features, selection, lineup)
        return await self._rank(request, features, selection, lineup, candidates, vetoes)

    async def classify(self, request: ChatRequest) -> Features:
        """What is known of a request, by the core and by every plugin that classifies, before anybody is chosen."""
        selection, _ = self._choose(request)
        return await self._classify(request, selection.profile)

    # What is known

    def _classify(self, request: ChatRequest, profile: Profile) -> Awaitable[Features]:
        if request.huge:
            return self._classify_huge(request, profile)
        return self.hooks.fold("classify", self._known(request, profile), self._sound_features, before=(request,))

    async def _classify_huge(self, request: ChatRequest, profile: Profile) -> Features:
        features = await asyncio.to_thread(self._known, request, profile)
        return await self.hooks.fold("classify", features, self._sound_features, before=(request,))

    def _known(self, request: ChatRequest, profile: Profile) -> Features:
        """What the core itself knows."""
        asked = request.hints.privacy or Privacy.PUBLIC
        return Features(
            task=request.hints.task,
            prompt_tokens=estimate_tokens(request.messages, request.params.get("tools")),
            needs=needs_of(request),
            privacy=max(self.config.privacy.default, profile.privacy, request.caller.privacy, asked),
            session=session_of(request),
        )

    def _sound_features(self, impl: Impl, before: Features, known: Features) -> Features:
        """What a plugin has made of features, as far as it may."""
        if not known.sound():
            self.hooks.fault(impl, "answered with features whose privacy or tokens are none")
            return before
        if known.privacy < before.privacy:
            self.hooks.fault(impl, "tried to lower the privacy class")
            known = evolve(known, privacy=before.privacy)
        return known.in_session_of(before)

    # Who must not

    def _choose(self, request: ChatRequest) -> tuple[Selection, Lineup]:
        """The selection and its field, remembered as long as neither the catalog nor the plugins change."""
        snapshot, impls = self.catalog.snapshot, self.hooks.impls
        if self._chosen_from is None or self._chosen_from[0] is not snapshot or self._chosen_from[1] is not impls:
            self._chosen, self._lineups, self._chosen_from = {}, {}, (snapshot, impls)
        key = (request.model, request.hints.profile or request.caller.profile)
        chosen = self._chosen.get(key)
        if chosen is None:
            selection = self.names.select(request.model, request.hints, request.caller)
            meant = selection.name, selection.keys, selection.strict
            lineup = self._lineups.get(meant)
            if lineup is None:
                lineup = self._lineups[meant] = self._make_lineup(selection, snapshot)
            chosen = selection, lineup
            if len(self._chosen) < MANY_CHOICES:
                self._chosen[key] = chosen
        return chosen

    def _make_lineup(self, selection: Selection, snapshot: Snapshot) -> Lineup:
        profile, eligible, vetoes = selection.profile, [], []
        order: dict[str, tuple[int, int, int]] = {}
        for position, candidate in enumerate(snapshot.candidates):
            veto = standing_veto(candidate, selection, self.catalog.providers, self.owners)
            if veto is not None:
                vetoes.append(veto)
                continue
            eligible.append(candidate)
            first = 0 if not selection.keys or candidate.key in selection.keys else 1
            listed = listed_at(candidate, profile.models) if profile.models else 0
            order[candidate.key] = (first + (listed or 0), _tier_distance(candidate, profile.tier), position)
        windows = [candidate.model.context for candidate in eligible if candidate.model.context]
        weights = {i.instance.name: profile.weights.get(i.instance.name, i.instance.weight) for i in self._strategies}
        return Lineup(
            tuple(eligible),
            tuple(vetoes),
            min(windows, default=NO_WINDOW),
            order,
            tuple(impl for impl in self._strategies if weights[impl.instance.name]),
            weights,
        )

    @property
    def _strategies(self) -> tuple[Impl, ...]:
        return self.hooks.impls["score"]

    async def _veto(
        self, request: ChatRequest, features: Features, selection: Selection, lineup: Lineup
    ) -> tuple[tuple[Candidate, ...], tuple[Veto, ...]]:
        vetoes = self._own_vetoes(request, features, selection.profile, lineup)
        left = _without(lineup.eligible, vetoes)

        def rule_out(impl: Impl, left: tuple[Candidate, ...], answer: Iterable[Any]) -> tuple[Candidate, ...]:
            if not answer:
                return left
            more = self._checked(impl, answer, Veto, left)
            vetoes.extend(more)
            return _without(left, more)

        # each is asked about those whom nobody before it has ruled out
        left = await self.hooks.fold("veto", left, rule_out, before=(request, features))
        return left, ((*lineup.vetoes, *vetoes) if vetoes else lineup.vetoes)

    def _own_vetoes(self, request: ChatRequest, features: Features, profile: Profile, lineup: Lineup) -> list[Veto]:
        tests: list[Callable[[Candidate], tuple[str, str] | None]] = []
        remote_allows = self.config.privacy.remote_allows
        if features.privacy > remote_allows:
            tests.append(lambda c: self._private(c, features.privacy, remote_allows))
        if request.hints.forbidden:
            tests.append(lambda c: _forbidden(c, request.hints.forbidden))
        if features.needs and not lineup.all_capable(features.needs):
            tests.append(lambda c: _incapable(c, features.needs))
        window = lineup.smallest_window
        if features.prompt_tokens > window:
            tests.append(lambda c: _too_small(c, features.prompt_tokens))
        if profile.cost == "budget":
            tests.append(lambda c: _too_dear(c, request, features, profile.budget_usd or 0.0))
        vetoes = []
        for candidate in lineup.eligible if tests else ():
            for test in tests:
                reason = test(candidate)
                if reason is not None:
                    vetoes.append(Veto(candidate, *reason))
                    break
        return vetoes

    def _private(self, candidate: Candidate, privacy: Privacy, remote_allows: Privacy) -> tuple[str, str] | None:
        if may_see(self.catalog.providers[candidate.provider], candidate, privacy, remote_allows):
            return None
        return "privacy", f"the request is {privacy.name.lower()} and {candidate.provider} is not local"

    def _checked(self, impl: Impl, answer: Iterable[Any], kind: type[T], candidates: Sequence[Candidate]) -> list[T]:
        """What of a hook's answer is of the right kind and about candidates that it was asked for."""
        known = {candidate.key for candidate in candidates}

        def sound(item: Any) -> bool:
            return isinstance(item, kind) and getattr(item.candidate, "key", None) in known

        return self.hooks.items(impl, answer, sound, f"{kind.__name__} of a candidate")

    # Who should

    async def _rank(
        self,
        request: ChatRequest,
        features: Features,
        selection: Selection,
        lineup: Lineup,
        candidates: tuple[Candidate, ...],
        vetoes: tuple[Veto, ...],
    ) -> Plan:
        opinions = await self._opinions(request, features, lineup, candidates)
        ranking = None if request.hints.preferred else lineup.rankings.get(features.needs)
        if ranking is None or not ranking.holds(candidates, opinions):
            opinions = tuple(self._sound(*opinion, candidates) for opinion in opinions)
            scores = weighed(opinions, candidates)
            ranked = ordered(candidates, scores, lineup.order, features.needs, request.hints.preferred)
            ranking = Ranking(candidates, opinions, ranked, scores, pinned_by(opinions))
            if not request.hints.preferred:
                lineup.rankings[features.needs] = ranking
        return Plan(
            request=request,
            features=features,
            profile=selection.name,
            ranked=ranking.ranked,
            vetoes=vetoes,
            scores=ranking.scores,
            opinions=ranking.opinions,
            pinned=ranking.pinned,
            settings=selection.profile.settings,
        )

    async def _opinions(
        self, request: ChatRequest, features: Features, lineup: Lineup, candidates: tuple[Candidate, ...]
    ) -> tuple[tuple[str, float, Sequence[Score]], ...]:
        if not candidates:
            return ()
        answers = await self.hooks.collect("score", request, features, candidates, among=lineup.strategies)
        weights = lineup.weights
        return tuple([(name := impl.instance.name, weights[name], answer) for impl, answer in answers])

    def _sound(
        self, name: str, weight: float, answer: Any, candidates: Sequence[Candidate]
    ) -> tuple[str, float, Sequence[Score]]:
        """An opinion whose every score is a number in [0, 1] about a candidate; the rest is a fault and left out."""
        impl = next(impl for impl in self.hooks.impls["score"] if impl.instance.name == name)
        scores = self._checked(impl, answer, Score, candidates)
        sound = [score for score in scores if in_bounds(score)]
        if len(sound) != len(scores):
            self.hooks.fault(impl, "gave points outside [0, 1], or terms that are none")
        whole = isinstance(answer, (list, tuple)) and len(sound) == len(answer)
        return name, weight, answer if whole else sound


def _without(candidates: tuple[Candidate, ...], vetoes: Sequence[Veto]) -> tuple[Candidate, ...]:
    """Who is left; the very same tuple when nobody is ruled out, so that strategies may keep their answer."""
    if not vetoes:
        return candidates
    out = {veto.candidate.key for veto in vetoes}
    return tuple(candidate for candidate in candidates if candidate.key not in out)


def _tier_distance(candidate: Candidate, tier: Tier | None) -> int:
    """How far a model is from the tier that a profile prefers; the stronger of two equally far ones is nearer."""
    if tier is None:
        return 0
    has = candidate.model.tier or Tier.BALANCED
    return 2 * abs(has - tier) - (1 if has > tier else 0)


def _forbidden(candidate: Candidate, names: Sequence[str]) -> tuple[str, str] | None:
    if not {candidate.provider, candidate.key, candidate.model.id}.isdisjoint(names):
        return "forbidden", "the request forbids it"
    return None


def _incapable(candidate: Candidate, needs: frozenset[str]) -> tuple[str, str] | None:
    lacks = sorted(need for need in needs if candidate.model.capabilities.get(need) is False)
    return ("capability", f"it has no {', '.join(lacks)}") if lacks else None


def _too_small(candidate: Candidate, tokens: int) -> tuple[str, str] | None:
    window = candidate.model.context
    if window is not None and tokens > window:
        return "context_window", f"about {tokens} tokens do not fit its window of {window}"
    return None


def _too_dear(candidate: Candidate, request: ChatRequest, features: Features, budget: float) -> tuple[str, str] | None:
    cost = cost_of(likely_usage(request, features), candidate.model.prices, free=candidate.model.free)
    if cost is None:
        return "cost_policy", "its price is unknown, so it cannot be kept within the budget"
    return ("cost_policy", f"about ${cost:.4f} is over the budget of ${budget:.4f}") if cost > budget else None
