"""The catalog: which candidates there are, as an immutable snapshot that is swapped whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from time import monotonic, time

import aiohttp
from attrs import evolve, field, frozen

from routerpool.errors import release
from routerpool.planning.ranking import plain
from routerpool.protocols import Provider
from routerpool.providers.failures import failure_of_exception
from routerpool.providers.openai import is_complete
from routerpool.providers.replies import NotListedError
from routerpool.types import Candidate, FailureKind, Model, Prices

__all__ = ["Catalog", "Snapshot"]

log = logging.getLogger("routerpool.catalog")

DISCOVER_SECONDS = 3.0
"""A provider that does not list its models within this time keeps the roster it had."""


AGAIN_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""How soon one that listed nothing is asked again, each time in a row; never later than it would be anyway."""

NOBODY_THERE_SECONDS = 10.0
"""The longest of these where nobody answered at all, for a server that is not up yet, or restarts."""

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

    def keys_of(self, name: str) -> tuple[str, ...]:
        """The keys of the candidates that are called so: by key, by model, and at last by both as people write them."""
        if name in self.by_key:
            return (name,)
        if name in self.by_model:
            return tuple(candidate.key for candidate in self.by_model[name])
        return self._by_plain.get(plain(name), ())

    @cached_property
    def _by_plain(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for candidate in self.candidates:
            for name in {plain(candidate.key), plain(candidate.model.id)}:
                found.setdefault(name, []).append(candidate.key)
        return {name: tuple(keys) for name, keys in found.items()}


class Catalog:
    """Keeps the snapshot true to what the providers say they have.

    `silent` says why a provider listed nothing when it was asked last, `listed` when it did (seconds since 1970).
    """

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self.providers = providers
        self.silent: dict[str, str] = {}
        self.listed: dict[str, float] = {}
        self._models: dict[str, tuple[Model, ...]] = {name: tuple(p.roster()) for name, p in providers.items()}
        self._due: dict[str, float] = {}
        self._vain: dict[str, int] = {}
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
        self._vain[provider] = 0
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
        due = [provider for provider in self._listing() if all_of_them or self._due.get(provider.name, 0.0) <= now]
        await asyncio.gather(*(self._ask(provider, session) for provider in due))

    def next_turn(self) -> float:
        """Seconds until a provider's turn comes."""
        return min((self._due.get(provider.name, 0.0) for provider in self._listing()), default=1e9) - monotonic()

    def _listing(self) -> Iterator[Provider]:
        """The providers that are asked for lists."""
        for provider in self.providers.values():
            if provider.refresh_seconds is not None and provider.idle() is None:
                yield provider

    async def _ask(self, provider: Provider, session: aiohttp.ClientSession) -> None:
        name, usual = provider.name, provider.refresh_seconds or 0.0
        self._due[name] = monotonic() + usual
        try:
            async with asyncio.timeout(DISCOVER_SECONDS):
                models = await provider.discover(session)
        except Exception as error:
            reason, tries = _reason(name, error), self._vain.get(name, 0)
            nobody = _nobody_there(name, error)
            release(error)
            if self.silent.get(name) != reason:
                log.warning("cannot list the models of %s", reason)
            self.silent[name], self._vain[name] = reason, tries + 1
            wait = min(AGAIN_SECONDS[min(tries, len(AGAIN_SECONDS) - 1)], usual)
            self._due[name] = monotonic() + (min(wait, NOBODY_THERE_SECONDS) if nobody else wait)
        else:
            self.silent.pop(name, None)
            self.listed[name] = time()
            self.replace(name, models)

    def unheard(self) -> Mapping[str, tuple[str, float | None]]:
        """The providers of which no model is known: why, and in how many seconds that may change by itself."""
        return {name: self._why_none(provider) for name, provider in self.providers.items() if not self._models[name]}

    def may_grow(self, name: str) -> bool:
        """Whether a provider may have models that are not known now: it has not told them yet, or not this time."""
        provider = self.providers[name]
        if provider.refresh_seconds is None or is_complete(provider):
            return False
        return provider.idle() is not None or self._vain.get(name) != 0

    def _why_none(self, provider: Provider) -> tuple[str, float | None]:
        name, idle = provider.name, provider.idle()
        if idle is not None:
            return f"{name} is idle: {idle}", None
        if name in self.silent:
            return f"cannot list the models of {self.silent[name]}", max(self._due[name] - monotonic(), 1.0)
        if provider.refresh_seconds is not None and name not in self._vain:
            return f"cannot tell the models of {name} yet, it has just been asked for them", 1.0
        return f"{name} has no models", None

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
    if isinstance(error, NotListedError):
        return f"{provider}: {error}"
    return failure_of_exception(provider, error).message


def _nobody_there(provider: str, error: Exception) -> bool:
    return failure_of_exception(provider, error).kind in (FailureKind.CONNECT, FailureKind.TIMEOUT)
