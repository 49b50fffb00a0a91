"""What a model name chose, and whom that rules out for as long as neither the catalog nor the plugins change."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from routerpool.config.sections import Profile
from routerpool.hooks.loading import Instance
from routerpool.planning.ranking import listed_at
from routerpool.protocols import Provider
from routerpool.types import Candidate, Veto

__all__ = ["Selection", "standing_veto"]


@frozen
class Selection:
    """What a model name chose: a profile, and for an exact name the candidates that it means, strictly or first."""

    name: str
    profile: Profile
    keys: tuple[str, ...] = ()
    strict: bool = True


def standing_veto(
    candidate: Candidate, selection: Selection, providers: Mapping[str, Provider], owners: Mapping[str, Instance]
) -> Veto | None:
    """Why a candidate cannot answer whatever is asked under this selection; None where it can."""
    profile, name = selection.profile, candidate.provider
    if selection.keys and selection.strict and candidate.key not in selection.keys:
        return Veto(candidate, "not_in_profile", "another model was asked for by name")
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
