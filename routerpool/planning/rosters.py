"""What each provider listed last, kept in the store: who only asks about routing then need ask no provider.

A list is kept with a digest of what it was asked by (address, variable of the key, models named); where these have
changed since, it is not used.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from routerpool.config.structure import converter
from routerpool.planning.catalog import Catalog
from routerpool.protocols import Provider
from routerpool.store import Store, StoreError
from routerpool.types import Model
from routerpool.wire.json import dumps, loads

if TYPE_CHECKING:
    import aiohttp
    from sqlalchemy import Connection, MetaData, Table

__all__ = ["Rosters"]

log = logging.getLogger("routerpool.catalog")

REFRESH_SECONDS, SOONEST_SECONDS = 5.0, 0.2
"""How often, at least and at most, we look whose turn it is to be asked for its models."""


class Rosters:
    """The lists of one catalog in one store. `ages` says how many seconds old each list is that was recalled."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self._kept: dict[str, float] = {}
        self.ages: dict[str, float] = {}

    async def first(self, session: aiohttp.ClientSession, *, asking: bool) -> None:
        """Ask every provider for its models, or (not `asking`) recall what they listed last."""
        if asking:
            await self._catalog.refresh(session, all_of_them=True)
        else:
            await self.recall()

    async def follow(self, first: asyncio.Future[None], session: aiohttp.ClientSession, *, asking: bool) -> None:
        """From the first look on: keep what was listed, and ask whoever's turn it is; for ever."""
        await first
        while asking:
            await self.keep()
            await asyncio.sleep(min(max(self._catalog.next_turn(), SOONEST_SECONDS), REFRESH_SECONDS))
            await self._catalog.refresh(session)

    async def keep(self) -> None:
        """Write down the lists that have come since the last call; a store that fails costs nothing but them."""
        new = {name: at for name, at in self._catalog.listed.items() if self._kept.get(name) != at}
        if not new:
            return
        rows = [
            {"provider": name, "asked": self._asked(name), "listed": at, "models": self._written(name)}
            for name, at in new.items()
        ]
        metadata, table = _described()

        def write(connection: Connection) -> None:
            connection.execute(table.delete().where(table.c.provider.in_(list(new))))
            connection.execute(table.insert(), rows)

        try:
            await self._store.create(metadata)
            await self._store.run(write)
        except StoreError as error:
            log.warning("the lists of models are not kept: %s", error)
        self._kept |= new

    async def recall(self) -> None:
        """Give the catalog the lists that were kept, of providers that would be asked for theirs."""
        wanted = {name for name, provider in self._catalog.providers.items() if asks(provider)}
        if not wanted or not self._store.exists():
            return
        metadata, table = _described()
        try:
            await self._store.create(metadata)
            rows = await self._store.run(lambda connection: connection.execute(table.select()).all())
        except StoreError as error:
            log.warning("no lists of models are recalled: %s", error)
            return
        for row in rows:
            if row.provider in wanted and row.asked == self._asked(row.provider):
                self._catalog.replace(row.provider, _read(row.models))
                self.ages[row.provider] = max(0.0, time.time() - row.listed)

    def unlisted(self) -> Iterable[str]:
        """The providers that would be asked for their models, and of which no list was recalled."""
        return (name for name, p in self._catalog.providers.items() if asks(p) and name not in self.ages)

    def _written(self, name: str) -> str:
        return dumps(converter.unstructure(list(self._catalog.models_of(name)))).decode()

    def _asked(self, name: str) -> str:
        provider: Any = self._catalog.providers[name]
        told = [
            getattr(provider, "list_address", ""),
            *getattr(provider, "key_variables", ()),
            *(model.id for model in provider.roster()),
        ]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()


def asks(provider: Provider) -> bool:
    """Whether a provider is asked for its models."""
    off = getattr(provider, "discovery", None) == "off"
    return provider.refresh_seconds is not None and provider.idle() is None and not off


def _read(models: str) -> list[Model]:
    try:
        return [converter.structure(model, Model) for model in loads(models.encode())]
    except Exception:  # of another version, or not ours: cattrs raises a family of its own
        log.warning("a list of models that was kept cannot be read")
        return []


@cache
def _described() -> tuple[MetaData, Table]:
    from sqlalchemy import Column, Float, MetaData, String, Table, Text

    metadata = MetaData()
    columns: list[Any] = [
        Column("provider", String(200), primary_key=True),
        Column("asked", String(64), nullable=False),
        Column("listed", Float, nullable=False),
        Column("models", Text, nullable=False),
    ]
    return metadata, Table("routerpool_rosters", metadata, *columns)


def told(ages: Mapping[str, float], unlisted: Iterable[str]) -> str:
    """How old the lists are that were recalled, in words; nothing where no provider has one."""
    parts = [f"{name} {_ago(seconds)}" for name, seconds in ages.items()]
    parts += [f"{name} never" for name in unlisted]
    return f"models as listed last: {', '.join(parts)}; --refresh asks for them anew" if parts else ""


def _ago(seconds: float) -> str:
    for size, word in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {word if number > 1 else word[:-1]} ago"
    return "just now"
