"""The groups of the command line: where plugins' commands join ours, and where every error ends in words.

Plugins are made only for a name that is none of ours, and for `--help`, so what makes them is imported there; a
configuration that is broken then costs the commands of plugins and nothing else.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from routerpool.cli.client import Target
from routerpool.errors import ConfigError, PluginError, RouterpoolError, nearest
from routerpool.terminal import tables

__all__ = ["Commands", "Failed", "Root"]

DEBUG = "ROUTERPOOL_DEBUG"
ARGUMENTS = "routerpool.arguments"
FILES = {"config": "--config", "env_file": "--env-file"}


class Failed(click.ClickException):
    """An error in words that say the cure, instead of a traceback."""

    prefix = "routerpool: "

    def show(self, file: Any = None) -> None:
        """Print it to stderr."""
        click.echo(self.prefix + tables.printable(self.message), err=True)


class Misconfigured(Failed):
    """All that is wrong with a configuration, one on a line, which begins with the place so that editors jump to it."""

    exit_code = 2
    prefix = ""


class Commands(click.Group):
    """A group that plugins add to. `bare` is the command that runs when none is named."""

    def __init__(self, *args: Any, bare: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bare = bare

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`routerpool plugins --json` means `routerpool plugins list --json`."""
        completing = ctx.resilient_parsing  # then the names of the group's commands are asked for
        if self.bare and not completing and (not args or (args[0].startswith("-") and args[0] != "--help")):
            args.insert(0, self.bare)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Ours in a beginner's order, then those of plugins; what is wrong with these goes below the list."""
        try:
            theirs = sorted(_additions(self, ctx))
        except RouterpoolError as error:
            _notes(ctx).append(str(error))
            theirs = []
        return [*self.commands, *(name for name in theirs if name not in self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of ours, else one of a plugin."""
        return self.commands.get(cmd_name) or _additions(self, ctx).get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for one that is nowhere, and why plugins' names may be missing."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            said = error.format_message()
            if "id you mean" not in said and args and not args[0].startswith("-"):
                said = f"No such command {args[0]!r}{nearest(args[0], self.list_commands(ctx)) or '.'}"
            notes = "".join(f"\nCommands of plugins may be missing: {note}" for note in _notes(ctx))
            raise click.UsageError(said + notes, ctx) from error

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What kept commands of plugins out of the list."""
        super().format_epilog(ctx, formatter)
        for note in _notes(ctx):
            formatter.write_paragraph()
            formatter.write_text(f"Commands of plugins may be missing: {note}")


class Root(Commands):
    """The command line itself, where every error ends in words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note which file a command line names behind a command, since that one may be a plugin's of this very file."""
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; with ROUTERPOOL_DEBUG=1 errors keep their traceback."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if os.environ.get(DEBUG) or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise
            raise _failed(error) from error


def _failed(error: Exception) -> Failed:
    if isinstance(error, ConfigError):
        return Misconfigured(str(error))
    if isinstance(error, RouterpoolError):
        return Failed(str(error))
    if isinstance(error, OSError) and error.strerror:
        return Failed(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    from routerpool.hooks.isolation import locate

    return Failed(f"a defect, {locate(error)}; {DEBUG}=1 shows the traceback")


# Commands of plugins


def _notes(ctx: click.Context) -> list[str]:
    notes: list[str] = ctx.find_root().meta.setdefault("routerpool.notes", [])
    return notes


def _target(ctx: click.Context) -> Target:
    root = ctx.find_root()
    told = {name: root.params.get(name) or _written(root, option) for name, option in FILES.items()}
    return Target(config=told["config"], env_file=told["env_file"])


def _written(root: click.Context, option: str) -> Path | None:
    """The file that an option names anywhere in the command line, as both ways of writing it go."""
    args: list[str] = root.meta.get(ARGUMENTS, [])
    for place, word in enumerate(args):
        if word == "--":
            break
        if word == option and place + 1 < len(args):
            return Path(args[place + 1])
        if word.startswith(f"{option}="):
            return Path(word.removeprefix(f"{option}="))
    return None


def _additions(group: Commands, ctx: click.Context) -> Mapping[str, click.Command]:
    """What plugins add to this group of ours, by name."""
    meta = ctx.find_root().meta
    if "routerpool.commands" not in meta:
        from routerpool.cli import additions

        meta["routerpool.commands"] = additions.offered(_target(ctx), _notes(ctx))
    offered: list[tuple[str, click.Command]] = meta["routerpool.commands"]
    if ctx.parent is None:
        return _joined(offered, group.commands)
    inner = [(who, c) for who, command in offered if command.name == group.name for c in _inner(command)]
    return _joined(inner, group.commands)


def _inner(command: click.Command) -> Iterable[click.Command]:
    return command.commands.values() if isinstance(command, click.Group) else ()


def _joined(
    offered: Iterable[tuple[str, click.Command]], ours: Mapping[str, click.Command]
) -> dict[str, click.Command]:
    """The offered commands by name, groups of one name made one; a name that two offer is a PluginError."""
    owners = dict.fromkeys(ours, "routerpool itself")
    found: dict[str, click.Command] = {}
    for who, command in offered:
        name = command.name or ""
        other = found.get(name) or ours.get(name)
        if other is None:
            owners[name], found[name] = who, command
        elif not (isinstance(other, click.Group) and isinstance(command, click.Group)):
            raise PluginError(
                f"both {owners[name]} and {who} offer a command called {name!r}; switch one of them off in `plugins:`"
            )
        elif name in found:
            both = [(owners[name], c) for c in _inner(other)] + [(who, c) for c in _inner(command)]
            found[name] = click.Group(name, commands=_joined(both, {}), help=other.help)
    return found
