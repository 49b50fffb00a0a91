"""Plugins found by their entry points, and made as the configuration names them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, distributions
from importlib.util import find_spec
from math import inf
from typing import Any

from attrs import asdict, define, field, frozen

from routerpool.config.sections import PluginEntry
from routerpool.config.structure import structure
from routerpool.document import Problems
from routerpool.errors import PluginError, nearest
from routerpool.hooks.compatibility import unmet
from routerpool.hookspecs import PROJECT

__all__ = ["ALWAYS", "Installed", "Instance", "installed", "make", "offers"]

ALWAYS = "always_commands"
"""The attribute of a class whose commands are there whatever a configuration names."""


@frozen
class Installed:
    """A plugin class that some distribution offers: known by name, not imported yet."""

    name: str
    entry_point: EntryPoint
    distribution: str
    version: str
    summary: str = ""

    def load(self) -> type:
        """Import the class; a PluginError tells of one that is none, or that this core is not for."""
        loaded = self.found()
        if not isinstance(loaded, type):
            raise PluginError(
                f"the entry point {self.name!r} of {self.distribution} is no class: {self.entry_point.value}"
            )
        if wrong := unmet(loaded):
            raise PluginError(f"{self.distribution} {self.version} {wrong}")
        return loaded

    def found(self) -> Any:
        """What the entry point names."""
        return self.entry_point.load()

    def declares(self, attribute: str) -> bool:
        """Whether the source of its module sets this attribute, read without importing it; True where there is none."""
        module = self.entry_point.module
        try:
            spec = _found(module)
            read = getattr(spec and spec.loader, "get_source", lambda _: None)
            text = read(module) if spec else ""
        except (ImportError, SyntaxError, ValueError):
            return True
        return text is None or re.search(rf"^\s+{attribute}\b(: [^=\n]+)? = ", text, re.MULTILINE) is not None

    def says(self, attribute: str) -> Any:
        """What the class says of itself in an attribute; None where it says nothing, or cannot be imported.

        Only a module that declares it is imported; of one that fails to be, whoever makes the plugin tells.
        """
        if not self.declares(attribute):
            return None
        with suppress(Exception, SystemExit):
            return getattr(self.load(), attribute, None)
        return None

    @property
    def always(self) -> bool:
        """Whether its commands are there whatever a configuration names."""
        if not self.declares(ALWAYS):
            return False
        try:
            return bool(getattr(self.load(), ALWAYS, False))
        except (Exception, SystemExit):  # who makes it is told why
            return True


@define
class Instance:
    """A plugin that the configuration names, and how it has behaved since the start."""

    name: str
    plugin: Any
    use: str
    distribution: str = "-"
    version: str = "-"
    required: bool = False
    enabled: bool = True
    faults: int = 0
    slow: int = 0
    last_fault: str | None = None
    weight: float = field(init=False)
    """What its `score` counts where a profile says nothing."""

    @weight.default
    def _weight(self) -> float:
        weight = getattr(self.plugin, "weight", 1.0)
        if isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < inf:
            return float(weight)
        raise PluginError(f"{self.distribution}: the class says weight = {weight!r}, and not a number of 0 or more")

    def describe(self) -> dict[str, Any]:
        """What status and `routerpool plugins` tell of it."""
        return asdict(self, recurse=False, filter=lambda field, _: field.name not in ("plugin", "weight"))


def _found(module: str) -> ModuleSpec | None:
    """The module's spec; `find_spec` would import the packages around it."""
    top, *inner = module.split(".")
    spec = find_spec(top)
    for name in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{name}", spec.submodule_search_locations)
    return spec


def installed() -> dict[str, Installed]:
    """All plugins that the installed distributions offer, by entry point name; none of them is imported.

    Two distributions that offer one name are an error which names both.
    """
    found: dict[str, Installed] = {}
    for offer in offers():
        other = found.get(offer.name)
        if other is not None:
            raise PluginError(
                f"both {other.distribution} and {offer.distribution} offer a plugin called {offer.name!r}: "
                "uninstall one of them"
            )
        found[offer.name] = offer
    return dict(sorted(found.items()))


def offers() -> Iterator[Installed]:
    """Every plugin that a distribution offers, also those whose names clash."""
    seen: set[str] = set()
    for distribution in distributions():
        name = distribution.metadata["Name"] or "?"
        if name in seen:  # an earlier entry of sys.path shadows it
            continue
        seen.add(name)
        for entry_point in distribution.entry_points:
            if entry_point.group == PROJECT:
                summary = str(distribution.metadata.json.get("summary", ""))
                yield Installed(entry_point.name, entry_point, name, distribution.version, summary)


def make(
    entries: Iterable[PluginEntry], problems: Problems, known: Mapping[str, Installed] | None = None
) -> list[Instance]:
    """Make the plugins that the configuration names, in its order; what is wrong goes to `problems`.

    An entry with `enabled: false` is not even imported.
    """
    known = installed() if known is None else known
    instances = []
    for entry in entries:
        if not entry.enabled:
            continue
        path = ("plugins", entry.name)
        offer = known.get(entry.use)
        if offer is None:
            problems.add(path, _unknown(entry.use, known))
            continue
        try:
            plugin_class = offer.load()
        except PluginError as error:
            problems.add(path, str(error))
            continue
        except (Exception, SystemExit) as error:
            who = f"{offer.distribution} {offer.version}"
            problems.add(path, f"{who} fails to import: {type(error).__name__}: {error}")
            continue
        plugin = _construct(plugin_class, entry, problems)
        if plugin is not None:
            required = bool(getattr(plugin, "required", False)) if entry.required is None else entry.required
            instances.append(Instance(entry.name, plugin, entry.use, offer.distribution, offer.version, required))
    return instances


def _unknown(name: str, known: Mapping[str, Installed]) -> str:
    if not known:
        return (
            f"no plugin is installed, so {name!r} is not found; in a checkout run `uv run --all-packages routerpool` "
            f"(a bare `uv sync` removes the plugins), elsewhere `pip install routerpool-{name.replace('_', '-')}`"
        )
    hint = nearest(name, known)
    return f"no installed plugin is called {name!r}{hint or '; installed: ' + ', '.join(known)}"


def _construct(plugin_class: type, entry: PluginEntry, problems: Problems) -> Any:
    path = ("plugins", entry.name)
    config_class = getattr(plugin_class, "Config", None)
    arguments: list[Any] = []
    if config_class is None:
        for key in entry.options:
            problems.add((*path, key), f"the plugin {entry.use!r} has no options; remove {key!r}")
        if entry.options:
            return None
    else:
        try:
            config = structure(entry.options, config_class, path, problems)
        except TypeError as error:
            problems.add(path, f"the plugin's Config cannot be read: {error}")
            return None
        if config is None:
            return None
        arguments.append(config)
    named = {"name": entry.name} if "name" in inspect.signature(plugin_class).parameters else {}
    try:
        return plugin_class(*arguments, **named)
    except ValueError as error:  # a plugin's own word on its options
        problems.add(path, str(error))
    except (Exception, SystemExit) as error:
        problems.add(path, f"the plugin cannot be made: {type(error).__name__}: {error}")
    return None
