"""Names in a configuration that lead nowhere: of providers, strategies and models; and profiles that cannot answer.

They are warnings and no errors: a plugin that is not there today may be tomorrow. What a provider may have that has not
listed its models yet is not complained of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import frozen

from routerpool.config.sections import Config, Profile
from routerpool.document import KeyPath, Problems
from routerpool.errors import Problem, nearest
from routerpool.hooks.calling import Hooks
from routerpool.planning.catalog import Catalog
from routerpool.planning.ranking import listed_at
from routerpool.planning.selection import PROFILES
from routerpool.privacy.guard import may_see

__all__ = ["dangling"]

GLOB = frozenset("*?[")


def dangling(config: Config, hooks: Hooks, catalog: Catalog) -> list[Problem]:
    """All names that lead nowhere, each with its place in the file and the nearest name."""
    problems = Problems(config.document)
    looked = _Look(config, hooks, catalog)
    for path, message in looked.all():
        problems.add(path, message)
    return list(problems)


@frozen
class _Look:
    config: Config
    hooks: Hooks
    catalog: Catalog

    def all(self) -> Iterator[tuple[KeyPath, str]]:
        for alias, aim in self.config.aliases.items():
            if (wrong := self._no_model(aim)) is not None:
                yield ("aliases", alias), wrong
        written = self.config.document.tree.get("profiles") or {}  # those that are built in are nobody's mistake
        for name, profile in self.config.profiles.items():
            if name in written:
                yield from self._profile(("profiles", name), profile)

    @property
    def _entries(self) -> Mapping[str, bool]:
        return {entry.name: entry.enabled for entry in self.config.plugins}

    def _profile(self, path: KeyPath, profile: Profile) -> Iterator[tuple[KeyPath, str]]:
        strategies = {impl.instance.name for impl in self.hooks.impls["score"]}
        for name in profile.weights:
            if name not in strategies and self._entries.get(name, True):
                yield (*path, "weights", name), f"no strategy is called {name!r}{_nearest(name, strategies)}"
        wrong = False
        providers = self.catalog.providers
        for index, name in enumerate(profile.providers):
            if name not in providers and self._entries.get(name, True):
                wrong = True
                yield (*path, "providers", index), f"no provider is called {name!r}{_nearest(name, providers)}"
        for index, name in enumerate(profile.models):
            if (complaint := self._no_model(name, globs=True)) is not None:
                wrong = True
                yield (*path, "models", index), complaint
        if not wrong and not self._may_answer(profile):
            yield path, "it can never answer: no candidate is left by its providers, models, cost and privacy together"

    def _no_model(self, name: str, *, globs: bool = False) -> str | None:
        """What is wrong with a model's name; None where somebody has it, or may have it."""
        snapshot = self.catalog.snapshot
        if name in ("auto", "") or name.startswith(PROFILES) or snapshot.keys_of(name):
            return None
        if not globs and set(name) & GLOB:
            return f"{name!r} is no model's name: an alias may be a glob, what it stands for may not"
        if globs and any(listed_at(candidate, (name,)) is not None for candidate in snapshot.candidates):
            return None
        provider, slash, _ = name.partition("/")
        if slash and self._entries.get(provider) is False:
            return None
        providers = self.catalog.providers
        is_one = slash and provider in providers
        misspelt = "" if is_one else nearest(provider, providers).replace("mean", "mean the provider")
        if not misspelt and self._may_come(provider if is_one else None):
            return None
        return f"no candidate is called {name!r}{nearest(name, [*snapshot.by_key, *snapshot.by_model]) or misspelt}"

    def _may_come(self, provider: str | None) -> bool:
        """Whether this provider, or any, may still tell of models that are not known now."""
        names = self.catalog.providers if provider is None else (provider,)
        return any(self.catalog.may_grow(name) for name in names)

    def _may_answer(self, profile: Profile) -> bool:
        names = [name for name in self.catalog.providers if not profile.providers or name in profile.providers]
        if any(self.catalog.may_grow(name) for name in names):
            return True
        allows = self.config.privacy.remote_allows
        return any(
            candidate.provider in names
            and (not profile.models or listed_at(candidate, profile.models) is not None)
            and (profile.cost != "free_only" or candidate.model.free)
            and may_see(self.catalog.providers[candidate.provider], candidate, profile.privacy, allows)
            for candidate in self.catalog.snapshot.candidates
        )


def _nearest(name: str, known: Mapping[str, object] | set[str]) -> str:
    return nearest(name, known) or ("; there are " + ", ".join(sorted(known)) if known else "; there is none")
