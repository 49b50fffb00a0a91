"""What is here when there is no configuration: keys in the environment, servers on loopback, files.

`detect` asks every installed plugin; `zero_config` makes of the answers the configuration that a start without a file
runs with, and the notes that say so. Each plugin is asked in a thread of its own: the process may have an event loop
already or none yet, some hooks block, and none may hold up the start. The threads are daemons, so that a look which
hangs cannot hold up the end either.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from threading import Thread
from time import monotonic
from typing import Any

from attrs import field, frozen

from routerpool.config.sections import NAME, PluginEntry
from routerpool.document import Problems
from routerpool.errors import PluginError
from routerpool.hooks.calling import Hooks, Impl
from routerpool.hooks.isolation import locate
from routerpool.hooks.loading import Installed, Instance, installed, make
from routerpool.types import Detected, Probe

__all__ = ["SWITCHED_ON", "Detection", "Sighting", "default_plugins", "detect", "none_installed", "zero_config"]

DETECT_SECONDS = 2.0
"""How long all plugins together may look around."""

SWITCHED_ON = 0.5
"""From this confidence on what was seen is switched on; below, it is only told."""


@frozen
class Sighting:
    """Something that a plugin saw, and whether that plugin brings a provider."""

    installed: Installed
    detected: Detected
    answers: bool

    @property
    def section(self) -> dict[str, Any]:
        """What stands under the sighting's name in `plugins:`."""
        use = {} if self.detected.name == self.installed.name else {"use": self.installed.name}
        return use | dict(self.detected.options)


@frozen(kw_only=True)
class Detection:
    """What all installed plugins saw, most certain first.

    `instances` are the plugins that can be made without options, by name; `wanting` names those that cannot;
    `faults` says which ones failed, and how.
    """

    found: tuple[Sighting, ...] = ()
    instances: Mapping[str, Instance] = field(factory=dict)
    wanting: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def none_installed() -> PluginError:
    """The error of an installation without any plugin, which can answer nothing."""
    return PluginError(
        "no plugin is installed, so nothing can answer. In a checkout, run `uv run --all-packages routerpool serve` "
        "(a bare `uv sync` removes the plugins); elsewhere, install some: `pip install 'routerpool[default,providers]'`"
    )


def default_plugins(known: Mapping[str, Installed]) -> list[str]:
    """The default set: the plugins whose class says a place in it (`default = 40`), in the order of these places."""
    return _placed(known, "default")


def _placed(known: Mapping[str, Installed], attribute: str) -> list[str]:
    """The names of the plugins whose class has a number in this attribute, the lowest first."""
    places = {name: offer.says(attribute) for name, offer in known.items()}
    return sorted((name for name, place in places.items() if type(place) is int), key=lambda name: (places[name], name))


def detect(
    env: Mapping[str, str],
    *,
    timeout: float = DETECT_SECONDS,
    known: Mapping[str, Installed] | None = None,
) -> Detection:
    """Ask every installed plugin what it sees here, all at once, for at most `timeout` seconds.

    A plugin that cannot be imported, needs options, raises or takes too long is named and left out; only two
    distributions that offer one name are an error, a PluginError.
    """
    known = installed() if known is None else known
    instances: dict[str, Instance] = {}
    wanting: list[str] = []
    faults: list[str] = []
    looks: list[_Look] = []
    probe = Probe(env=env, timeout=timeout / 2)
    for name, offer in known.items():
        try:
            instance = _made(offer)
            if instance is None:
                wanting.append(name)
                continue
            instances[name] = instance
            hooks = Hooks.of([instance])
        except (Exception, SystemExit) as error:
            text = error if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            faults.append(f"{name} ({offer.distribution} {offer.version}) cannot be used: {text}")
            continue
        answers = bool(hooks.impls["register_providers"])
        looks += [_Look(offer, impl, probe, timeout, answers) for impl in hooks.impls["detect"]]
    found = _gathered(looks, timeout, faults)
    return Detection(found=found, instances=instances, wanting=tuple(wanting), faults=tuple(faults))


def _made(offer: Installed) -> Instance | None:
    """The plugin with its default options; None when it cannot do without any. What its import raises is raised."""
    offer.load()
    made = make([PluginEntry(name=offer.name, use=offer.name)], Problems(), {offer.name: offer})
    return made[0] if made else None


class _Look(Thread):
    """One plugin looking around."""

    def __init__(self, offer: Installed, impl: Impl, probe: Probe, seconds: float, answers: bool) -> None:
        super().__init__(name=f"detect-{offer.name}", daemon=True)
        self.offer = offer
        self.answers = answers
        self.seen: tuple[Any, ...] | None = None
        self.fault: str | None = None
        self._impl, self._probe, self._seconds = impl, probe, seconds

    def run(self) -> None:
        """Call the hook, whatever its form; an error is kept, without its text, which may quote a key."""
        try:
            result = self._impl.call(self._probe)
            if inspect.isawaitable(result) or inspect.isasyncgen(result):
                result = asyncio.run(_awaited(result, self._seconds))
            self.seen = tuple(result or ())
        except BaseException as error:  # nothing is above a thread: even a SystemExit must be told of
            self.fault = locate(error)


async def _awaited(result: Any, seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return [item async for item in result] if inspect.isasyncgen(result) else await result


def _gathered(looks: list[_Look], timeout: float, faults: list[str]) -> tuple[Sighting, ...]:
    end = monotonic() + timeout
    for look in looks:
        look.start()
    sightings: dict[str, Sighting] = {}
    for look in looks:
        look.join(max(0.0, end - monotonic()))
        if look.seen is None:
            faults.append(f"{look.offer.name} was left out: {look.fault or f'it looked longer than {timeout:g} s'}")
        for item in look.seen or ():
            wrong = NAME.check(item.name) if isinstance(item, Detected) else "it saw something that is no Detected"
            if wrong:
                faults.append(f"{look.offer.name} was left out: {wrong}")
                continue
            other = sightings.get(item.name)
            if other is None or other.detected.confidence < item.confidence:
                sightings[item.name] = Sighting(look.offer, item, look.answers)
    return tuple(sorted(sightings.values(), key=lambda sighting: -sighting.detected.confidence))


def zero_config(
    env: Mapping[str, str], *, timeout: float = DETECT_SECONDS, detection: Detection | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The configuration to run with when there is no file, as a tree in the file's form, and notes that say why.

    The default set as far as it is installed, then what was seen, most certain first; a last resort (a plugin whose
    class says `last_resort`, the one with the lowest number of those that are here) only when nothing else can answer.
    Without any plugin there is nothing to run: a PluginError that says the cure.
    """
    known = installed()
    if not known:
        raise none_installed()
    detection = detect(env, timeout=timeout, known=known) if detection is None else detection
    plugins: dict[str, dict[str, Any]] = {name: {} for name in default_plugins(known)}
    resorts = [name for name in _placed(known, "last_resort") if _is_here(name, detection)]
    notes = []
    answered = False
    for sighting in detection.found:
        name, source = sighting.detected.name, sighting.detected.source
        if sighting.installed.says("last_resort") is not None or name in plugins:
            continue
        if sighting.detected.confidence < SWITCHED_ON:
            notes.append(f"{source}: perhaps {name}, left off; `routerpool init` writes it down to be switched on")
            continue
        plugins[name] = sighting.section
        answered = answered or sighting.answers
        notes.append(f"{source} → {name}")
    if not answered and resorts:
        plugins[resorts[0]] = {}
        notes.append(f"no key and no server found → {resorts[0]}: {known[resorts[0]].summary or 'a last resort'}")
    elif not answered:
        notes.append("no key and no server found; set a provider's key, start Ollama, or write a routerpool.yaml")
    notes += detection.faults
    if detection.wanting:
        notes.append("only by a section of their own, since they need to be told more: " + ", ".join(detection.wanting))
    return {"plugins": plugins}, notes


def _is_here(name: str, detection: Detection) -> bool:
    """Whether a last resort can be used: one that looks around has seen what it needs, another needs nothing."""
    instance = detection.instances.get(name)
    if instance is None:
        return False
    return not hasattr(instance.plugin, "detect") or any(s.installed.name == name for s in detection.found)
