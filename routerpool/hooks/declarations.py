"""What plugins bring to a router as it is made: providers, hints, and what profiles may set for them.

Two providers, or two hints, of one name are an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from routerpool.config.sections import Config, Profile
from routerpool.config.structure import structure
from routerpool.document import Problems
from routerpool.errors import PluginError, nearest
from routerpool.hooks.calling import Hooks
from routerpool.hooks.loading import Instance
from routerpool.protocols import Provider
from routerpool.wire.hints import AWAITED, HintReader, hint_readers

__all__ = ["bind_providers", "declared_hints", "unheeded_hints", "with_settings"]


def bind_providers(hooks: Hooks, env: Mapping[str, str]) -> tuple[dict[str, Provider], dict[str, Instance]]:
    """The providers that plugins register, each bound to `env`, and the plugin that brings each, by their names."""
    providers: dict[str, Provider] = {}
    owners: dict[str, Instance] = {}
    for instance, provider in hooks.gather("register_providers"):
        if not isinstance(getattr(provider, "name", None), str):
            raise PluginError(
                f"plugin {_named(instance)} registers something that is no provider: {type(provider).__name__}"
            )
        other = owners.get(provider.name)
        if other is not None:
            raise PluginError(
                f"both {_named(other)} and {_named(instance)} bring a provider called {provider.name!r}; "
                f"rename one of them in `plugins:`"
            )
        provider.bind(env)
        providers[provider.name], owners[provider.name] = provider, instance
    return providers, owners


def declared_hints(hooks: Hooks) -> Mapping[str, HintReader]:
    """What reads the hints that plugins have declared, by the hints' names."""
    readers: dict[str, HintReader] = {}
    owners: dict[str, Instance] = {}
    for instance in hooks.instances.values():
        try:
            declared = hint_readers(getattr(instance.plugin, "hints", {}))
        except (TypeError, ValueError, AttributeError) as error:
            raise PluginError(f"plugin {_named(instance)} declares hints that nobody can read: {error}") from None
        for name in declared.keys() & owners.keys():
            if owners[name].use != instance.use:
                raise PluginError(
                    f"both {_named(owners[name])} and {_named(instance)} declare a hint {name!r}; "
                    f"switch one of them off"
                )
        readers |= declared
        owners |= dict.fromkeys(declared, instance)
    return readers


def with_settings(config: Config, instances: Sequence[Instance], problems: Problems) -> Config:
    """The configuration with the `settings` of each profile as their plugins declare them: by `ProfileConfig`.

    Every plugin that has one finds an instance of it in every profile. What is wrong goes to `problems`.
    """
    classes = {
        instance.name: cls
        for instance in instances
        if (cls := getattr(instance.plugin, "ProfileConfig", None)) is not None
    }
    if not classes and not any(profile.settings for profile in config.profiles.values()):
        return config
    named = [entry.name for entry in config.plugins]
    profiles = {}
    for name, profile in config.profiles.items():
        path = ("profiles", name, "settings")
        for plugin in (plugin for plugin in profile.settings if plugin not in classes):  # in the file's order
            if plugin not in named:
                problems.add((*path, plugin), f"`plugins` names no plugin {plugin!r}{nearest(plugin, named)}")
            elif any(instance.name == plugin for instance in instances):  # else it is off, and nobody knows
                problems.add((*path, plugin), f"the plugin {plugin!r} has nothing that a profile can set; remove it")
        profiles[name] = evolve(profile, settings=_settings(profile, classes, path, problems))
    return evolve(config, profiles=profiles)


def _settings(
    profile: Profile, classes: Mapping[str, type], path: tuple[str, ...], problems: Problems
) -> dict[str, Any]:
    settings = {}
    for name, cls in classes.items():
        section = profile.settings.get(name)
        if isinstance(section, cls):  # of a configuration that was made ready before
            settings[name] = section
            continue
        try:
            settings[name] = structure({} if section is None else section, cls, (*path, name), problems)
        except TypeError as error:
            problems.add((*path, name), f"the plugin's ProfileConfig cannot be read: {error}")
    return settings


def unheeded_hints(hooks: Hooks) -> frozenset[str]:
    """The core's hints that no plugin honours."""
    honoured = {name for i in hooks.instances.values() for name in getattr(i.plugin, "honours", ())}
    return frozenset(AWAITED) - honoured


def _named(instance: Instance) -> str:
    return f"{instance.name!r} ({instance.distribution})"
