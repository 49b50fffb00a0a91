"""Plugins that were switched on or off at run time and are to stay so: one small table in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from routerpool.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData, Table

__all__ = ["load_switches", "save_switch"]


async def load_switches(store: Store) -> dict[str, bool]:
    """What was kept, by plugin name. A store that nobody has made yet is not made for this."""
    if not store.exists():
        return {}
    metadata, table = _table()
    await store.create(metadata)

    def read(connection: Connection) -> dict[str, bool]:
        return {row.name: bool(row.enabled) for row in connection.execute(table.select())}

    return await store.run(read)


async def save_switch(store: Store, name: str, enabled: bool) -> None:
    """Keep it for the next generation, in every process that shares the store."""
    metadata, table = _table()
    await store.create(metadata)

    def write(connection: Connection) -> None:
        connection.execute(table.delete().where(table.c.name == name))
        connection.execute(table.insert().values(name=name, enabled=enabled))

    await store.run(write)


def _table() -> tuple[MetaData, Table]:
    from sqlalchemy import Boolean, Column, MetaData, String, Table

    metadata = MetaData()
    columns: list[Any] = [Column("name", String(200), primary_key=True), Column("enabled", Boolean, nullable=False)]
    return metadata, Table("routerpool_switches", metadata, *columns)
