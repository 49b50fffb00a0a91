"""How things stand: what `status`, `profiles`, `plugins` and `doctor` tell of a router, as plain JSON values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from routerpool.config.structure import converter
from routerpool.engine.admission import Admission
from routerpool.engine.handover import Handovers
from routerpool.engine.journey import Services
from routerpool.engine.load import Bodies
from routerpool.errors import Problem
from routerpool.hooks.calling import Impl
from routerpool.hooks.loading import Instance
from routerpool.planning.catalog import Catalog
from routerpool.planning.dangling import dangling
from routerpool.store import Store
from routerpool.types import Level, Probe, Report
from routerpool.wire.json import dumps

__all__ = ["Overview", "unprotected"]

TOLD_OF_A_PROFILE = ("description", "cost", "privacy", "tier", "models", "providers")


@frozen
class Overview:
    """The parts of a router that have something to tell. `owners` are the plugins by the providers they bring."""

    services: Services
    catalog: Catalog
    owners: Mapping[str, Instance]
    admission: Admission
    bodies: Bodies
    handovers: Handovers
    store: Store
    notes: list[str]

    def profiles(self) -> dict[str, dict[str, Any]]:
        """Every profile; its weights are what each strategy counts in it, those that nobody brings among them."""
        own = {impl.instance.name: impl.instance.weight for impl in self.services.hooks.impls["score"]}
        profiles = self.services.config.profiles
        written = converter.unstructure(profiles)
        return {
            name: {key: written[name][key] for key in TOLD_OF_A_PROFILE} | {"weights": {**own, **profile.weights}}
            for name, profile in profiles.items()
        }

    def answering(self) -> list[tuple[str, int, bool]]:
        """The providers that can be asked now: name, number of models, and whether it is on this machine."""
        counts = Counter(candidate.provider for candidate in self.catalog.snapshot.candidates)
        return [
            (name, counts[name], provider.local)
            for name, provider in self.services.providers.items()
            if counts[name] and self.owners[name].enabled and provider.idle() is None
        ]

    def plugins(self) -> list[dict[str, Any]]:
        """Every plugin that the configuration names, with the hooks it answers."""
        hooks = self.services.hooks
        return [
            {**instance.describe(), "hooks": [hook for hook, impls in hooks.impls.items() if _answers(impls, instance)]}
            for instance in hooks.instances.values()
        ]

    async def status(self) -> dict[str, Any]:
        """How things stand in this process; a plugin's own words are its answer to the hook `status`."""
        hooks = self.services.hooks
        plugins = {}
        for impl, answer in await hooks.collect("status"):
            try:
                dumps(answer)
            except TypeError:
                hooks.fault(impl, "answered with values that are no JSON")
            else:
                plugins[impl.instance.name] = answer
        return {
            "plugins": [{**i.describe(), "status": plugins.get(i.name, {})} for i in hooks.instances.values()],
            "providers": [self._provider(name) for name in self.services.providers],
            "candidates": len(self.catalog.snapshot.candidates),
            "admission": self.admission.status(),
            "bodies": self.bodies.status(),
            "retries": self.services.retries.status(),
            "refusals": self.services.failures.counts,
            "decisions": self.handovers.status(),
            "store": self.store.status(),
            "unprotected": hooks.unprotected,
            "notes": self.notes,
        }

    def _provider(self, name: str) -> dict[str, Any]:
        provider = self.services.providers[name]
        return {
            "name": name,
            "local": provider.local,
            "enabled": self.owners[name].enabled,
            "idle": provider.idle(),
            "silent": self.catalog.silent.get(name),
            "models": sum(c.provider == name for c in self.catalog.snapshot.candidates),
        }

    def dangling(self) -> list[Problem]:
        """The names in the configuration that lead nowhere, as far as the providers have told their models."""
        return dangling(self.services.config, self.services.hooks, self.catalog)

    async def check(self, env: Mapping[str, str], *, network: bool) -> list[Report]:
        """What `doctor` tells: every plugin's findings, and what the core sees itself."""
        hooks = self.services.hooks
        reports = [Report(level=Level.NOTE, text=note, subject="start") for note in self.notes]
        reports += map(unprotected, hooks.unprotected)
        for impl, answer in await hooks.collect("check", Probe(env=env, network=network)):
            reports += hooks.items(impl, answer, lambda item: isinstance(item, Report), "report")
        for name, reason in self.catalog.silent.items():
            cure = f"start {name}, or take it out"
            reports.append(Report(level=Level.WARNING, text=f"cannot list models: {reason}", cure=cure, subject=name))
        for problem in self.dangling():
            cure = f"mend it in {self.services.config.path or 'the configuration'}"
            text = f"{problem.path}: {problem.message}"
            reports.append(Report(level=Level.WARNING, text=text, cure=cure, subject="config"))
        return [*reports, *self._nobody()]

    def _nobody(self) -> Iterator[Report]:
        """That no request at all can be answered."""
        cure = "set a provider's key, start Ollama, or name plugins in routerpool.yaml"
        candidates, providers = self.catalog.snapshot.candidates, self.services.providers
        if not candidates:
            yield Report(level=Level.ERROR, text="there is no candidate at all", cure=cure, subject="catalog")
        elif not any(self.owners[c.provider].enabled and providers[c.provider].idle() is None for c in candidates):
            text = f"no candidate can answer: all {len(candidates)} are of providers that are idle or off"
            yield Report(level=Level.ERROR, text=text, cure=cure, subject="catalog")


def unprotected(name: str) -> Report:
    """What doctor tells of a required plugin that is switched off."""
    text = f"the required plugin {name!r} is switched off: requests go on without it"
    cure = f'PUT /v1/router/plugins/{name} with {{"enabled": true}}, or restart'
    return Report(level=Level.WARNING, text=text, cure=cure, subject=name)


def _answers(impls: tuple[Impl, ...], instance: Instance) -> bool:
    return any(impl.instance is instance for impl in impls)
