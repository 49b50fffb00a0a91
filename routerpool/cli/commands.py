"""The command line. Plugins add commands by `register_commands`; a group of theirs joins the group of the same name.

Whatever brings aiohttp, plugins or the store is imported in the command that needs it, so that `routerpool --help` is
instant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from routerpool.cli.client import COMMANDS, Target, config_options, json_option, show, target_options
from routerpool.cli.groups import Commands, Root
from routerpool.cli.serve import serve_command
from routerpool.errors import ConfigError, PluginError
from routerpool.terminal import tables
from routerpool.version import __version__

if TYPE_CHECKING:
    from routerpool.router import Router
    from routerpool.types import Report

__all__ = ["cli", "main"]

KINDS = ("provider", "scanner", "strategy", "mutator", "resilience", "door", "operation")
"""The kinds of plugins, as `package.KINDS` has them: written out, so that help needs no plugin machinery."""


@click.group(cls=Root, name="routerpool", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    metavar="FILE",
    help="The configuration file; default is $ROUTERPOOL_CONFIG, ./routerpool.yaml and the usual folders.",
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    metavar="FILE",
    help="A file of variables; default is .env beside the configuration.",
)
@click.version_option(__version__, prog_name="routerpool", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, env_file: Path | None) -> None:
    """One address for every LLM client; each request goes to the cheapest model that will do it well."""
    ctx.obj = Target(config=config, env_file=env_file)


@cli.command("init")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("routerpool.yaml"),
    show_default=True,
    metavar="FILE",
    help="Where to write the configuration; .env.example goes beside it.",
)
@click.option("--force", is_flag=True, help="Overwrite what is there, after copying it to .bak.")
@json_option
def init_command(output: Path, force: bool, as_json: bool) -> None:
    """Write a commented configuration from what is found here. A file that is there stays: the new one goes beside."""
    from routerpool.cli.init import Scaffold, env_example, propose, whole
    from routerpool.config.reading import load
    from routerpool.hooks.detection import detect, zero_config
    from routerpool.hooks.loading import installed

    config, _ = load(output, text="{}")  # for the variables of the .env beside it
    known = installed()
    detection = detect(config.env, known=known)
    tree, notes = zero_config(config.env, detection=detection)
    scaffold = Scaffold(tree=tree, known=known, detection=detection)
    files = [
        propose(output, whole(scaffold), force=force),
        propose(output.with_name(".env.example"), env_example(scaffold), force=force),
    ]
    for file in files:
        file.write()
    told = {
        "files": [{"path": str(f.path), "how": f.how, "notes": f.notes, "diff": f.diff} for f in files],
        "notes": notes,
    }
    show(told, as_json, _written)


def _written(told: Mapping[str, Any]) -> Iterable[str]:
    yield from (tables.printable(note) for note in told["notes"])
    for file in told["files"]:
        yield f"{file['path']}: {file['how']}"
        yield from (tables.printable(f"  {note}") for note in file["notes"])
        yield from map(tables.printable, file["diff"])
    yield "next: `routerpool doctor`, then `routerpool serve`"


for command in (serve_command, *COMMANDS):
    cli.add_command(command)


# What is installed, and what is configured


@cli.group("plugins", cls=Commands, bare="list")
def plugins_group() -> None:
    """Look at plugins; without a command, list them."""


@plugins_group.command("list")
@config_options
@json_option
def plugins_list(target: Target, as_json: bool) -> None:
    """List all installed plugins: whether they are on, where they come from, which hooks they answer."""
    from routerpool.hooks.detection import none_installed
    from routerpool.hooks.loading import installed

    known = installed()
    if not known:
        raise none_installed()
    try:
        used = _used(target)
    except ConfigError as error:
        click.echo(f"routerpool: what is on is not known, since {error}", err=True)
        used = None
    entries = []
    for name, offer in known.items():
        hooks, fault = _hooks_of(offer)
        entries.append(
            {
                "name": name,
                "enabled": None if used is None else name in used,
                "instances": (used or {}).get(name, []),
                "distribution": offer.distribution,
                "version": offer.version,
                "summary": offer.summary,
                "hooks": hooks,
                "fault": fault,
            }
        )
    show({"plugins": entries}, as_json, lambda told: tables.plugins(told["plugins"]))


def _used(target: Target) -> dict[str, list[str]]:
    """The instances that are on, by the plugin they use."""
    from routerpool.config.reading import from_mapping, load
    from routerpool.hooks.detection import zero_config

    config, _ = load(target.config, env_file=target.env_file)
    if config.path is None:
        tree, _ = zero_config(config.env)
        config, _ = from_mapping(tree, env=config.env)
    used: dict[str, list[str]] = {}
    for entry in config.plugins:
        if entry.enabled:
            used.setdefault(entry.use, []).append(entry.name)
    return used


def _hooks_of(offer: Any) -> tuple[list[str], str | None]:
    from routerpool.hooks.calling import HOOKS

    try:
        plugin = offer.load()
    except PluginError as error:
        return [], str(error)
    except (Exception, SystemExit) as error:
        return [], f"fails to import: {type(error).__name__}: {error}"
    marks = {name: getattr(getattr(plugin, name, None), "routerpool_impl", None) for name in dir(plugin)}
    answered = {mark.get("specname") or name for name, mark in marks.items() if mark is not None}
    return [name for name in HOOKS if name in answered], None


@plugins_group.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What the plugin is to do.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="FOLDER",
    help="Where to make the package's folder; default is here.",
)
@json_option
def plugins_new(name: str, kind: str, into: Path, as_json: bool) -> None:
    """Write a package for a plugin called NAME: code that works, its tests, README, licence, CI. Then make it yours."""
    from routerpool.authoring.package import Package, check_name, write
    from routerpool.hooks.loading import installed

    package = Package(check_name(name, installed(), cli.commands), kind)
    try:
        folder = write(package, into)
    except FileExistsError as error:
        raise PluginError(f"{error.filename} is there already, and nothing is written over; take another") from error
    told = {"name": package.name, "kind": kind, "folder": str(folder), "files": list(package.files())}
    show(told, as_json, _begun)


def _begun(told: Mapping[str, Any]) -> Iterable[str]:
    yield f"{told['folder']}: a {told['kind']} plugin called {told['name']}"
    yield from (f"  {file}" for file in told["files"])
    yield f"next: cd {told['folder']} && pip install -e '.[test]' && pytest && routerpool plugins doctor {told['name']}"


@plugins_group.command("doctor")
@click.argument("name")
@config_options
@json_option
@click.pass_context
def plugins_doctor(ctx: click.Context, name: str, target: Target, as_json: bool) -> None:
    """Tell the author of the plugin NAME what is wrong or missing. Exit code 1 if something is broken."""
    from routerpool.authoring.inspection import examine_plugin
    from routerpool.config.reading import load

    config = None
    try:
        config, _ = load(target.config, env_file=target.env_file)
    except ConfigError as error:
        click.echo(f"routerpool: the configuration is left out, since {error}", err=True)
    _tell(ctx, examine_plugin(name, config), as_json)


@cli.group("config", cls=Commands)
def config_group() -> None:
    """Check the configuration, and describe it to editors."""


@config_group.command("check")
@config_options
@json_option
@click.pass_context
def config_check(ctx: click.Context, target: Target, as_json: bool) -> None:
    """Name everything that is wrong with the configuration (exit code 2), or with this machine for it (exit code 1)."""
    import asyncio

    from routerpool.types import Level

    try:
        router, _ = target.router()
    except ConfigError as error:
        if not as_json:
            raise
        problems = [{"path": p.path, "line": p.line, "message": p.message} for p in error.problems]
        show({"file": error.file, "ok": False, "problems": problems}, True, tuple)
        ctx.exit(2)
    path, warnings = router.config.path, router.overview.dangling()
    found = [r for r in asyncio.run(_preflight(router)) if r.level is Level.ERROR]
    told = {
        "file": None if path is None else str(path),
        "ok": not found,
        "problems": [{"path": r.subject, "line": None, "message": f"{r.text}; {r.cure}"} for r in found],
        "warnings": [{"path": p.path, "line": p.line, "message": p.message} for p in warnings],
        "plugins": list(router.hooks.instances),
        "providers": list(router.providers),
    }
    show(told, as_json, tables.checked)
    if found:
        ctx.exit(1)


async def _preflight(router: Router) -> list[Report]:
    """What serving needs of this machine, beside a configuration without mistakes."""
    from routerpool.cli.preflight import preflight

    try:
        return await preflight(router, listening=True)
    finally:
        await router.store.close()


@config_group.command("schema")
@json_option
def config_schema(as_json: bool) -> None:
    """Print the JSON Schema of the file, with the sections of all installed plugins, for editors."""
    from routerpool.config.reading import schema
    from routerpool.hooks.loading import installed

    sections: dict[str, type | None] = {}
    profiles: dict[str, type] = {}
    for name, offer in installed().items():
        try:
            plugin = offer.load()
            sections[name] = getattr(plugin, "Config", None)
            if hasattr(plugin, "ProfileConfig"):
                profiles[name] = plugin.ProfileConfig
        except Exception as error:
            click.echo(f"routerpool: {name} is left out, it fails to import: {error}", err=True)
    show(schema(plugins=sections, profiles=profiles), True, tuple)
    del as_json  # it is JSON in any case


@cli.command("doctor")
@target_options
@click.option("--probe", is_flag=True, help="Ask the providers whether they can be reached, too.")
@json_option
@click.pass_context
def doctor_command(ctx: click.Context, probe: bool, target: Target, as_json: bool) -> None:
    """Say what is missing and how to mend it: configuration, keys, servers. Exit code 1 if something is broken."""
    import asyncio

    from routerpool.cli.doctor import examine

    router, _ = target.router()
    _tell(ctx, asyncio.run(examine(router, network=probe, target=target)), as_json)


def _tell(ctx: click.Context, found: Iterable[Report], as_json: bool) -> None:
    """Print what was found, and end with 1 where an error is among it."""
    from routerpool.config.structure import converter

    told = converter.unstructure(list(found))
    show({"reports": told}, as_json, lambda document: tables.reports(document["reports"]))
    if any(report["level"] == "error" for report in told):
        ctx.exit(1)


@cli.command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion_command(shell: str) -> None:
    """Print what makes a shell complete routerpool's commands and options, to be read at its start.

    In ~/.bashrc: eval "$(routerpool completion bash)". In ~/.zshrc: eval "$(routerpool completion zsh)". For fish:
    routerpool completion fish > ~/.config/fish/completions/routerpool.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - for the type checker: click has these three
    click.echo(kind(cli, {}, "routerpool", "_ROUTERPOOL_COMPLETE").source())


def main() -> None:
    """What the `routerpool` command runs."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a sign is no reason to fail
    cli(prog_name="routerpool")


if __name__ == "__main__":
    main()
