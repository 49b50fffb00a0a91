"""The commands that plugins add: of those that are enabled, and of those whose commands are there in any case.

It makes plugins, so it is imported only for a command line that needs their commands.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

import click

from routerpool.cli.client import Target
from routerpool.config.reading import load
from routerpool.config.sections import PluginEntry
from routerpool.document import Problems
from routerpool.errors import PluginError, RouterpoolError
from routerpool.hooks import loading
from routerpool.hooks.calling import Hooks
from routerpool.hooks.detection import default_plugins
from routerpool.hooks.loading import Installed, Instance, make

__all__ = ["offered"]


def offered(target: Target, notes: list[str]) -> list[tuple[str, click.Command]]:
    """Every command that a plugin adds, and who brings it. What is broken is left out and noted."""
    try:
        known = loading.installed()
    except RouterpoolError as error:
        notes.append(str(error))
        return []
    entries = _named(target, known, notes)
    problems = Problems()
    instances = make(entries, problems, known)
    if problems:
        notes.append("the configuration has mistakes; `routerpool config check` names them")
    told = {instance.use for instance in instances} | {entry.use for entry in entries if not entry.enabled}
    for entry in _always(known, told):
        problems = Problems()
        instances += make([entry], problems, known)
        notes += [f"{entry.name} of {known[entry.name].distribution}: {problem.message}" for problem in problems]
    return [
        (f"{instance.name} ({instance.distribution} {instance.version})", command)
        for instance in instances
        for command in _commands(instance, notes)
    ]


def _named(target: Target, known: Mapping[str, Installed], notes: list[str]) -> list[PluginEntry]:
    """What the configuration names; the default set without one, nothing where it cannot be read."""
    try:
        config, _ = load(target.config, env_file=target.env_file)
    except RouterpoolError as error:
        notes.append(str(error))
        return []
    if config.path is None:
        return [PluginEntry(name=name, use=name) for name in default_plugins(known)]
    return list(config.plugins)


def _always(known: Mapping[str, Installed], told: Container[str]) -> Iterator[PluginEntry]:
    """The plugins whose commands are there in any case, but for those that the file makes or switches off."""
    for name, offer in known.items():
        if name not in told and offer.always:
            yield PluginEntry(name=name, use=name)


def _commands(instance: Instance, notes: list[str]) -> list[click.Command]:
    try:
        commands = [command for _, command in Hooks.of([instance]).gather("register_commands")]
        for command in commands:
            if not isinstance(command, click.Command):
                raise PluginError(f"it registers something that is no command: {type(command).__name__}")
    except Exception as error:
        notes.append(f"{instance.name} of {instance.distribution}: {type(error).__name__}: {error}")
        return []
    return commands
