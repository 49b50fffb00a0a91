"""What `serve` needs before it listens, looked at without serving: `doctor` and `config check` run it, too.

So that neither says that all is well where a start would be refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from routerpool.config.sections import Config
from routerpool.errors import ConfigError
from routerpool.hooks.loading import Installed, installed
from routerpool.process.standalone import ListenError, bind, certificate, check_exposure
from routerpool.process.workers import check_shareable
from routerpool.providers.openai import OpenAIProvider
from routerpool.router import Router
from routerpool.store import StoreError
from routerpool.types import Level, Report

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["left_off", "preflight"]

SCRATCH = "routerpool_doctor"


async def preflight(router: Router, *, listening: bool = False) -> list[Report]:
    """Every reason for which a start would be refused, each with its cure; the store is opened and written.

    `listening` leaves the port out: a server of ours has it.
    """
    return [*_configured(router), *(() if listening else _port(router)), *await _store(router)]


def _configured(router: Router) -> Iterator[Report]:
    """What the configuration says of this machine: who may come in, certificates, workers."""
    server = router.config.server
    checks: tuple[Callable[[], object], ...] = (
        lambda: check_exposure(server, server.host),
        lambda: certificate(server),
        lambda: check_shareable(router) if server.workers > 1 else None,
    )
    for check in checks:
        try:
            check()
        except ConfigError as error:
            for problem in error.problems:
                text, _, cure = problem.message.partition("; ")
                yield Report(level=Level.ERROR, text=text, cure=cure or f"mend {problem.path}", subject=problem.path)


def _port(router: Router) -> Iterator[Report]:
    server = router.config.server
    try:
        bind(server.host, server.port).close()
    except ListenError as error:
        text, _, cure = str(error).partition("; ")
        cure = cure or "mend server.host or server.port"
        yield Report(level=Level.WARNING, text=text, cure=cure, subject="server.port")


async def _store(router: Router) -> list[Report]:
    store, place = router.store, str(router.store.status()["url"])
    if not store.exists():
        reason = _unwritable(place)
        cure = "name another place in `store`"
        return [] if reason is None else [Report(level=Level.ERROR, text=reason, cure=cure, subject="store")]
    try:
        await store.run(_write)
    except StoreError as error:
        text, _, cure = str(error).rpartition("; ")
        return [Report(level=Level.ERROR, text=text or cure, cure=cure if text else "see `store`", subject="store")]
    return [Report(level=Level.OK, text=f"{place} can be written", subject="store")]


def _write(connection: Connection) -> None:
    connection.exec_driver_sql(f"CREATE TABLE {SCRATCH} (n INTEGER)")
    connection.exec_driver_sql(f"DROP TABLE {SCRATCH}")


def _unwritable(url: str) -> str | None:
    """Why an SQLite file that is not there yet cannot be made; None where it can, or where nobody can tell."""
    scheme, _, rest = url.partition(":///")
    if not scheme.startswith("sqlite") or not rest or rest == ":memory:":
        return None
    folder = Path(rest.partition("?")[0]).absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        return f"the database cannot be made: {folder} is no folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"the database cannot be made: {folder} cannot be written"


def left_off(config: Config) -> list[str]:
    """The keys that are set and whose providers a configuration leaves off, with what to add; nothing is asked.

    "GROQ_API_KEY is set, groq is off: add `groq: {}`".
    """
    if config.path is None:  # then all that was seen is on
        return []
    used = {entry.use for entry in config.plugins} | {entry.name for entry in config.plugins}
    lines = []
    for name, offer in installed().items():
        variable = None if name in used else _key_of(offer, config.env)
        if variable is not None:
            lines.append(f"{variable} is set, {name} is off: add `{name}: {{}}`")
    return lines


def _key_of(offer: Installed, env: Mapping[str, str]) -> str | None:
    """The variable of this environment that holds a key of an installed provider."""
    try:
        plugin = offer.load()
        provider = plugin() if issubclass(plugin, OpenAIProvider) else None
    except (Exception, SystemExit):  # what is broken is told by `routerpool plugins`
        return None
    if provider is None or provider.facts.experimental:
        return None
    return next((variable for variable in provider.key_variables if env.get(variable)), None)
