"""Routers for tests: made of a mapping, with plugins that need no installation, and without anybody's files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

from attrs import define, field, frozen

from routerpool.config.reading import from_mapping
from routerpool.hooks.declarations import with_settings
from routerpool.hooks.loading import Installed, Instance, installed, make
from routerpool.hookspecs import PROJECT, hookimpl
from routerpool.router import Router
from routerpool.types import Attempt, Candidate, Failure, Usage, UsageRecord

__all__ = ["Witness", "make_router"]


@frozen
class _Offered(Installed):
    """A plugin class at hand, in the place of an installed one."""

    plugin: type = field(kw_only=True)

    def found(self) -> type:
        """The class."""
        return self.plugin


@define
class Witness:
    """A plugin that remembers what came of each request: failures, usage and records, in the order they came."""

    failures: list[Failure] = field(factory=list)
    answered: list[tuple[Candidate, Usage]] = field(factory=list)
    records: list[UsageRecord] = field(factory=list)

    @hookimpl
    def on_failure(self, failure: Failure) -> None:
        """Remember it, and leave the decision to others."""
        self.failures.append(failure)

    @hookimpl
    def on_success(self, attempt: Attempt, usage: Usage) -> None:
        """Remember who answered, and what it took."""
        self.answered.append((attempt.candidate, usage))

    @hookimpl
    def record_usage(self, record: UsageRecord) -> None:
        """Remember how the request ended."""
        self.records.append(record)


def make_router(
    config: Mapping[str, Any],
    *,
    plugins: Mapping[str, type] | None = None,
    env: Mapping[str, str] | None = None,
    witness: Witness | None = None,
) -> Router:
    """A router of a mapping in the configuration file's form; every defect is in one ConfigError.

    `plugins` are classes under the names by which `plugins:` uses them; they go before installed ones, which are
    looked up only where a name needs it. `env` is the whole environment, empty by default, so that no key of the
    machine gets into a test. The store is in memory unless the mapping names one.
    """
    tree = {"store": "sqlite://", **config}
    parsed, problems = from_mapping(tree, env=env or {})
    known = {name: _offer(name, plugin) for name, plugin in (plugins or {}).items()}
    if any(entry.use not in known for entry in parsed.plugins):
        known = {**installed(), **known}
    instances = make(parsed.plugins, problems, known)
    parsed = with_settings(parsed, instances, problems)
    problems.raise_if_any()
    if witness is not None:
        instances.append(Instance("witness", witness, "witness"))
    return Router(parsed, instances)


def _offer(name: str, plugin: type) -> Installed:
    entry_point = EntryPoint(name, f"{plugin.__module__}:{plugin.__qualname__}", PROJECT)
    return _Offered(name, entry_point, "a test", "0", plugin=plugin)
