"""The page of the command line: every command, ours and those of the plugins in this repository, with its options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
from markdown import anchor, paragraphs, prose, table

from plugins import shipped
from routerpool.cli.commands import cli
from routerpool.config.sections import PluginEntry
from routerpool.document import Problems
from routerpool.hooks.calling import Hooks
from routerpool.hooks.loading import ALWAYS, make

__all__ = ["commands_page"]

ABOUT = """
`routerpool --help` lists these, and `--help` behind a command tells the same as here. A plugin's commands are there
where the plugin is switched on, some wherever it is installed.
"""


def commands_page() -> str:
    """The page."""
    ours = click.Context(cli, info_name="routerpool")
    found = [*_commands(cli, ours, ""), *_of_plugins(ours)]
    always = {plugin.name for plugin in shipped() if getattr(plugin.plugin, ALWAYS, False)}
    rows = [(f"[`{path}`]({anchor(path)})", paragraphs(_help(command))[0]) for path, _, command, _ in found]
    parts = ["# Commands", prose(ABOUT), _options(cli, ours), table(("command", "what it does"), rows)]
    for path, context, command, owner in found:
        parts += [f"## {path}", f"`{' '.join([path, *command.collect_usage_pieces(context)])}`", prose(_help(command))]
        if owner:
            where = ", and is there whatever plugins a configuration names" if owner in always else ""
            parts.append(f"It comes with the plugin [`{owner}`](plugins.md{anchor(owner)}){where}.")
        parts.append(_options(command, context))
    return "\n\n".join(part for part in parts if part) + "\n"


Found = tuple[str, click.Context, click.Command, str]


def _commands(group: click.Group, context: click.Context, owner: str) -> Iterator[Found]:
    for name, command in group.commands.items():  # not what the group lists: that depends on the configuration
        inner = click.Context(command, info_name=name, parent=context)
        yield inner.command_path, inner, command, owner
        if isinstance(command, click.Group):
            yield from _commands(command, inner, owner)


def _of_plugins(context: click.Context) -> Iterator[Found]:
    for plugin in shipped():
        if "register_commands" not in plugin.hooks:
            continue
        made = make([PluginEntry(name=plugin.name, use=plugin.name)], Problems(), {plugin.name: plugin.offer})
        offered = [command for _, command in Hooks.of(made).gather("register_commands")]
        group = click.Group(commands=offered)
        yield from _commands(group, context, plugin.name)


def _help(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").replace("\b", "").partition("\f")[0]


def _options(command: click.Command, context: click.Context) -> str:
    records = [parameter.get_help_record(context) for parameter in command.params]
    told = [(f"`{record[0]}`", " ".join(record[1].split())) for record in records if record and record[1]]
    return table(("option", "what it does"), told)
