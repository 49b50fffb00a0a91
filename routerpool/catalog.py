"""The catalog: which candidates there are, as an immutable snapshot that is swapped whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import monotonic

import aiohttp
from attrs import evolve, field, frozen

from routerpool.failures import failure_of_exception
from routerpool.provider import Provider
from routerpool.types import Candidate, Model

__all__ = ["Catalog", "Snapshot"]

log = logging.getLogger("routerpool.catalog")

DISCOVER_SECONDS = 3.0
"""A provider that does not list its models within this time keeps the roster it had."""


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
    """Keeps the snapshot true to what the providers say they have."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self.providers = providers
        self.silent: dict[str, str] = {}
        self._models: dict[str, tuple[Model, ...]] = {name: tuple(p.roster()) for name, p in providers.items()}
        self._asked: dict[str, float] = {}
        self._learned: dict[tuple[str, str], dict[str, bool]] = {}
        self.snapshot = self._make()

    def replace(self, provider: str, models: Sequence[Model]) -> bool:
        """Take a provider's models; whether that made a new snapshot."""
        models = tuple(models)
        if self._models.get(provider) == models:
            return False
        self._models[provider] = models
        self.snapshot = self._make()
        return True

    def learn(self, candidate: Candidate, capability: str, able: bool) -> None:
        """Take what traffic has shown of a candidate: a claim that is found wrong, or one that nobody had made."""
        known = candidate.model.capabilities.get(capability)
        if known is able or (able and known is not None):
            return
        learned = self._learned.setdefault((candidate.provider, candidate.model.id), {})
        if learned.get(capability) is not able:
            learned[capability] = able
            self.snapshot = self._make()

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
            reason = failure_of_exception(provider.name, error).message
            if self.silent.get(provider.name) != reason:
                log.warning("cannot list the models of %s", reason)
            self.silent[provider.name] = reason
        else:
            self.silent.pop(provider.name, None)
            self.replace(provider.name, models)

    def _make(self) -> Snapshot:
        return Snapshot(
            tuple(
                Candidate(provider=name, model=self._with_learned(name, model))
                for name in self.providers
                for model in self._models[name]
            )
        )

    def _with_learned(self, provider: str, model: Model) -> Model:
        learned = self._learned.get((provider, model.id))
        return evolve(model, capabilities={**model.capabilities, **learned}) if learned else model
