"""What a model name chose, and whom that rules out for as long as neither the catalog nor the plugins change."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from routerpool.config.sections import Config, Profile
from routerpool.errors import RequestError, nearest
from routerpool.hooks.loading import Instance
from routerpool.planning.catalog import Catalog
from routerpool.planning.ranking import listed_at
from routerpool.protocols import Provider
from routerpool.types import Caller, Candidate, Hints, Veto

__all__ = ["Names", "Selection", "standing_veto"]

PROFILES = "routerpool/"
"""What the names of profiles begin with, where a model is named."""


OTHER_ASKED = "another model was asked for by name"
"""The reason that rules out everybody else where a model is asked for strictly."""


@frozen
class Selection:
    """What a model name chose: a profile, and for an exact name the candidates that it means, strictly or first."""

    name: str
    profile: Profile
    keys: tuple[str, ...] = ()
    strict: bool = True


class Names:
    """What the names of models mean, under one configuration and its catalog."""

    def __init__(self, config: Config, catalog: Catalog) -> None:
        self._config = config
        self._catalog = catalog

    def select(self, name: str, hints: Hints, caller: Caller) -> Selection:
        """What a client means by its `model`.

        An exact alias goes first, then what is a profile's or a candidate's own name, then the globs among the aliases.
        """
        config = self._config
        default = hints.profile or caller.profile or config.default_profile
        selection = self._named(config.aliases.get(name, name), default)
        if selection is None and name not in config.aliases:
            aim = config.glob(name)
            selection = None if aim is None else self._named(aim, default)
        if selection is None and config.unknown_model is not None:
            selection = self._profile(config.unknown_model)
        if selection is None:
            raise self._unknown(name)
        return selection

    def _named(self, name: str, default: str) -> Selection | None:
        if name in ("auto", ""):
            return self._profile(default)
        if name.startswith(PROFILES):
            profile = name.removeprefix(PROFILES)
            return self._profile(profile) if profile in self._config.profiles else None
        keys = self._catalog.snapshot.keys_of(name)
        if not keys:  # a model's name goes before a profile's: who asks for a model means it
            return self._profile(name) if name in self._config.profiles else None
        selection = self._profile(default)
        strict = (selection.profile.exact or self._config.exact) == "strict"
        return Selection(selection.name, selection.profile, keys, strict)

    def _profile(self, name: str) -> Selection:
        profile = self._config.profiles.get(name)
        if profile is None:
            raise self._no_profile(name)
        return Selection(name, profile)

    def _no_profile(self, name: str) -> RequestError:
        profiles = self._config.profiles
        hint = nearest(name, profiles) or f"; there are {', '.join(profiles)}"
        return RequestError("model_not_found", f"there is no profile {name!r}{hint}", param="model")

    def _unknown(self, asked: str) -> RequestError:
        """The error of a name that is nobody's, as far as is known: a provider may not have told its models yet."""
        snapshot, aliases = self._catalog.snapshot, self._config.aliases
        name = aliases.get(asked) or self._config.glob(asked) or asked
        if name.startswith(PROFILES):
            return self._no_profile(name.removeprefix(PROFILES))
        meant = f"{name!r}" if name == asked else f"{name!r}, for which {asked!r} stands"
        unheard = self._catalog.unheard()
        provider = name.partition("/")[0]
        told = {provider: unheard[provider]} if provider in unheard and "/" in name else unheard
        waits = [wait for _, wait in told.values() if wait is not None]
        reasons = "; ".join(reason for reason, _ in told.values())
        if waits:
            message = f"nobody is known to have {meant}: {reasons}"
            return RequestError("no_candidate", message, retry_after=min(waits), details={"vetoes": []})
        known = [*snapshot.by_key, *snapshot.by_model, *aliases, "auto"]
        message = f"no candidate, profile or alias is called {meant}; GET /v1/models lists them{nearest(name, known)}"
        message += f"; {reasons}" if told is not unheard else ""
        return RequestError("model_not_found", message, param="model")


def standing_veto(
    candidate: Candidate, selection: Selection, providers: Mapping[str, Provider], owners: Mapping[str, Instance]
) -> Veto | None:
    """Why a candidate cannot answer whatever is asked under this selection; None where it can."""
    profile, name = selection.profile, candidate.provider
    if selection.keys and selection.strict and candidate.key not in selection.keys:
        return Veto(candidate, "not_in_profile", OTHER_ASKED)
    if not selection.keys or not selection.strict:
        if profile.providers and name not in profile.providers:
            return Veto(candidate, "not_in_profile", f"profile {selection.name} does not use {name}")
        if profile.models and listed_at(candidate, profile.models) is None:
            return Veto(candidate, "not_in_profile", f"profile {selection.name} does not list it")
    if not owners[name].enabled:
        return Veto(candidate, "disabled", f"{name} is switched off")
    idle = providers[name].idle()
    if idle is not None:
        return Veto(candidate, "no_key", idle)
    if not _is_named(candidate, selection) and _steps_aside(name, providers, owners):
        return Veto(candidate, "not_in_profile", f"{name} is asked by name only while others are here")
    if profile.cost == "free_only" and not candidate.model.free:
        return Veto(candidate, "cost_policy", f"profile {selection.name} uses free models only")
    return None


def _is_named(candidate: Candidate, selection: Selection) -> bool:
    profile = selection.profile
    if candidate.key in selection.keys or candidate.provider in profile.providers:
        return True
    return bool(profile.models) and listed_at(candidate, profile.models) is not None


def _steps_aside(name: str, providers: Mapping[str, Provider], owners: Mapping[str, Instance]) -> bool:
    """Whether a provider is `named_only`, and another one that is not can be used."""
    if not getattr(providers[name], "named_only", False):
        return False
    return any(
        owners[other].enabled and provider.idle() is None and not getattr(provider, "named_only", False)
        for other, provider in providers.items()
    )
