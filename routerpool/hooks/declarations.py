"""What plugins bring to a router as it is made: providers, and hints of their own. Two of one name are an error."""

from __future__ import annotations

from collections.abc import Mapping

from routerpool.errors import PluginError
from routerpool.hooks.calling import Hooks
from routerpool.hooks.loading import Instance
from routerpool.protocols import Provider
from routerpool.wire.hints import HintReader, hint_readers

__all__ = ["bind_providers", "declared_hints"]


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


def _named(instance: Instance) -> str:
    return f"{instance.name!r} ({instance.distribution})"
