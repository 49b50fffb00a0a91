"""`routerpool serve`: options, what a start shows, and the console of a server that has a terminal.

Whatever brings aiohttp, plugins or the store is imported where it is needed, so that `routerpool --help` is instant.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve

from routerpool.cli.client import ClientError, Target, config_options, json_option, show
from routerpool.terminal import tables
from routerpool.version import __version__

if TYPE_CHECKING:
    from routerpool.router import Router
    from routerpool.terminal.console import Console
    from routerpool.types import Privacy

__all__ = ["serve_command"]

RUNS_FILES, NAMES_FILE = "llamacpp", "ROUTERPOOL_GGUF"
"""The plugin that runs a model out of a file, and the variable from which it takes it where its section names none."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@click.command("serve")
@config_options
@click.option("--host", help="The address to listen on, instead of server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port, instead of server.port; 0 takes a free one.")
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A GGUF file to serve here with llama.cpp, beside what the configuration says.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that share the port.")
@click.option(
    "--log-level", type=click.Choice(("debug", "info", "warning", "error")), default="warning", show_default=True
)
@click.option(
    "--log-format",
    type=click.Choice(("auto", "text", "json")),
    default="auto",
    show_default=True,
    help="What is written of each request: a line of text, one JSON object, or (auto) a line where this is a terminal.",
)
@click.option("--quiet", is_flag=True, help="Write nothing of requests.")
@json_option
def serve_command(
    host: str | None,
    port: int | None,
    model: Path | None,
    workers: int | None,
    log_level: str,
    log_format: str,
    quiet: bool,
    as_json: bool,
    target: Target,
) -> None:
    """Serve until stopped. Without a configuration, with what is found here."""
    import logging

    from routerpool.process import standalone
    from routerpool.process import workers as several
    from routerpool.terminal.banner import banner

    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT)
    look = None if quiet else _console(log_format)
    router = _watched(_router(target, model), look)
    count = workers or router.config.server.workers

    def load() -> Router:
        return _watched(_router(target, model), look)

    def ready(served: Router, url: str) -> None:
        show(_ready(served, url, count), as_json, lambda told: banner(told, shutil.get_terminal_size().columns))
        if not as_json:
            threading.Thread(target=_tell_what_is_off, args=(served,), daemon=True).start()

    if count > 1:
        several.supervise(router, count, host, port, load=load, ready=ready)
    else:
        standalone.serve(router, host, port, load=load, ready=ready)


def _router(target: Target, file: Path | None) -> Router:
    """The configuration's router, with a provider that runs this file; a ClientError says why it cannot be run."""
    from routerpool.config.sections import PluginEntry, Plugins
    from routerpool.hooks import installed
    from routerpool.router import Router
    from routerpool.types import Level, Probe

    if file is None:
        return target.router()[0]
    if RUNS_FILES not in installed():
        raise ClientError(f"--model needs the plugin {RUNS_FILES}; pip install 'routerpool-{RUNS_FILES}[engine]'")
    os.environ[NAMES_FILE] = str(file.absolute())  # what is found without a configuration counts it in, too
    router, _ = target.router()
    entry = next((entry for entry in router.config.plugins if entry.use == RUNS_FILES), None)
    if entry is None:
        entry = PluginEntry(name=RUNS_FILES, use=RUNS_FILES)
        router = Router.of(evolve(router.config, plugins=Plugins([*router.config.plugins, entry])))
    elif {"model", "base_url"} & entry.options.keys():
        raise ClientError(f"--model: the configuration's {entry.name} has a model already; leave one of them out")
    for report in router.hooks.instances[entry.name].plugin.check(Probe(env=router.env)):
        if report.level is Level.ERROR:
            raise ClientError(f"--model: {report.text}; {report.cure}")
    return router


def _leaving(allowed: Privacy) -> str:
    """Which requests may leave this machine, in words."""
    names = [level.name.lower() for level in type(allowed)]
    free, kept = names[: allowed + 1], names[allowed + 1 :]
    leaves = f"{free[-1]}{' and below' if len(free) > 1 else ''} may leave this machine"
    return f"{leaves}; {kept[0]}{' and above stay' if len(kept) > 1 else ' stays'} here" if kept else "all may leave"


def _tell_what_is_off(router: Router) -> None:
    """Say beside the requests which keys are set whose providers the configuration leaves off."""
    from routerpool.cli.preflight import left_off

    for line in left_off(router.config):
        click.echo(tables.printable(f"  {line}"))


def _console(log_format: str) -> Callable[[], Console] | None:
    """What makes the console, anew for each generation; None where nobody would see it."""
    from routerpool.terminal.console import Console, colours

    if log_format == "auto" and not sys.stdout.isatty():
        return None
    width = shutil.get_terminal_size().columns
    return partial(Console, json=log_format == "json", width=width, colour=colours(sys.stdout, os.environ))


def _watched(router: Router, look: Callable[[], Console] | None) -> Router:
    """The router with its console."""
    from routerpool.hooks import Instance

    if look is not None and "console" not in router.hooks.instances:
        instance = Instance(
            name="console", plugin=look(), use="console", distribution="routerpool", version=__version__
        )
        router.hooks.register(instance)
    return router


def _ready(router: Router, url: str, workers: int) -> dict[str, Any]:
    """What a start tells: where it listens, what answers, what does not."""
    providers = [
        {
            "name": name,
            "models": sum(candidate.provider == name for candidate in router.catalog.snapshot.candidates),
            "local": provider.local,
            "silent": provider.idle() or router.catalog.silent.get(name),
        }
        for name, provider in router.providers.items()
    ]
    config = router.config
    return {
        "url": url,
        "version": __version__,
        "config": None if config.path is None else str(config.path),
        "keys": bool(config.server.api_keys or config.server.admin_keys),
        "plugins": len(router.hooks.instances),
        "workers": workers,
        "privacy": _leaving(config.privacy.remote_allows),
        "providers": providers,
        "notes": router.notes,
        "warnings": [problem.render(str(config.path or "configuration")) for problem in router.overview.dangling()],
    }
