"""The catalog: which candidates there are, as an immutable snapshot that is swapped whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, time

import aiohttp
from attrs import evolve, field, frozen

from routerpool.errors import release
from routerpool.protocols import Provider
from routerpool.providers.failures import failure_of_exception
from routerpool.types import Candidate, Model, Prices

__all__ = ["Catalog", "Snapshot"]

log = logging.getLogger("routerpool.catalog")

DISCOVER_SECONDS = 3.0
"""A provider that does not list its models within this time keeps the roster it had."""


UNPRICED = Prices()


@frozen
class Snapshot:
    """All candidates at one moment, in the order of the configuration."""

    candidates: tuple[Candidate, ...]
    by_key: Mapping[str, Candidate] = field(init=False, repr=False)
    by_model: Mapping[str, tuple[Candidate, ...]] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        by_model: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            by_model.setdefault(candidate.model.id, []).append(candidate)
        # attrs' own way to fill a derived field of a frozen class
        object.__setattr__(self, "by_key", {candidate.key: candidate for candidate in self.candidates})
        object.__setattr__(self, "by_model", {name: tuple(found) for name, found in by_model.items()})


class Catalog:
    """Keeps the snapshot true to what the providers say they have.

    `silent` says why a provider listed nothing when it was asked last, `listed` when it did (seconds since 1970).
    """

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self.providers = providers
        self.silent: dict[str, str] = {}
        self.listed: dict[str, float] = {}
        self._models: dict[str, tuple[Model, ...]] = {name: tuple(p.roster()) for name, p in providers.items()}
        self._asked: dict[str, float] = {}
        self._learned: dict[tuple[str, str], dict[str, bool]] = {}
        self._stated: Mapping[str, Prices] = {}
        self._listed: Mapping[str, Prices] = {}
        self._watchers: list[Callable[[], None]] = []
        self.snapshot = self._make()

    def watch(self, heed: Callable[[], None]) -> Callable[[], None]:
        """Call `heed` at every new snapshot, until what this returns is called; it must neither raise nor wait."""
        self._watchers.append(heed)
        return lambda: self._watchers.remove(heed)

    def models_of(self, provider: str) -> tuple[Model, ...]:
        """The models of a provider as it has them, without what traffic and price lists add."""
        return self._models[provider]

    def replace(self, provider: str, models: Sequence[Model]) -> bool:
        """Take a provider's models; whether that made a new snapshot."""
        models = tuple(models)
        if self._models.get(provider) == models:
            return False
        self._models[provider] = models
        self._swap()
        return True

    def price(self, listed: Mapping[str, Prices], *, stated: Mapping[str, Prices] | None = None) -> None:
        """Take prices by candidate key, instead of those of the last call; they hold for models that come later too.

        `stated` goes before what a model brings itself; `listed` is for models that bring no price at all.
        """
        if (listed, stated or {}) != (self._listed, self._stated):
            self._listed, self._stated = dict(listed), dict(stated or {})
            self._swap()

    def learn(self, candidate: Candidate, capability: str, able: bool) -> None:
        """Take what traffic has shown of a candidate: a claim that is found wrong, or one that nobody had made."""
        known = candidate.model.capabilities.get(capability)
        if known is able or (able and known is not None):
            return
        learned = self._learned.setdefault((candidate.provider, candidate.model.id), {})
        if learned.get(capability) is not able:
            learned[capability] = able
            self._swap()

    async def refresh(self, session: aiohttp.ClientSession, *, all_of_them: bool = False) -> None:
        """Ask the providers whose turn it is for their models, at once; silence is noted and changes nothing."""
        now = monotonic()
        due = [
            provider
            for name, provider in self.providers.items()
            if provider.refresh_seconds is not None
            and provider.idle() is None
            and (all_of_them or now - self._asked.get(name, -1e9) >= provider.refresh_seconds)
        ]
        await asyncio.gather(*(self._ask(provider, session) for provider in due))

    async def _ask(self, provider: Provider, session: aiohttp.ClientSession) -> None:
        self._asked[provider.name] = monotonic()
        try:
            async with asyncio.timeout(DISCOVER_SECONDS):
                models = await provider.discover(session)
        except Exception as error:
            reason = _reason(provider.name, error)
            release(error)
            if self.silent.get(provider.name) != reason:
                log.warning("cannot list the models of %s", reason)
            self.silent[provider.name] = reason
        else:
            self.silent.pop(provider.name, None)
            self.listed[provider.name] = time()
            self.replace(provider.name, models)

    def _swap(self) -> None:
        self.snapshot = self._make()
        for heed in tuple(self._watchers):
            heed()

    def _make(self) -> Snapshot:
        return Snapshot(
            tuple(
                self._candidate(Candidate(provider=name, model=model))
                for name in self.providers
                for model in self._models[name]
            )
        )

    def _candidate(self, candidate: Candidate) -> Candidate:
        """A candidate with what traffic has shown of it, and with the price that others know."""
        provider, model = candidate.provider, candidate.model
        learned = self._learned.get((provider, model.id))
        if learned:
            model = evolve(model, capabilities={**model.capabilities, **learned})
        prices = self._stated.get(candidate.key)
        if prices is None and model.prices == UNPRICED:
            prices = self._listed.get(candidate.key)
        if prices is not None:
            model = evolve(model, prices=prices)
        return candidate if model is candidate.model else Candidate(provider=provider, model=model)


def _reason(provider: str, error: Exception) -> str:
    """Why a provider lists no models, in words that quote nothing of its answer."""
    if isinstance(error, aiohttp.ClientResponseError) and error.headers is not None:  # else it was none of HTTP
        return f"{provider}: it answered {error.status}"
    return failure_of_exception(provider, error).message
