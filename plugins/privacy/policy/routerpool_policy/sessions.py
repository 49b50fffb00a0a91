"""What the conversations of one store have reached: each one's class, for as long as it is remembered.

They are kept in this process, in one object for all that share a store's URL: a request of a new generation sees at
once what one of the old generation has learned, and looking costs no I/O. Behind the requests they are written to the
store, which makes them outlive a restart, and read from it, so that other workers know within a second. Nothing is
kept but the session's hash, the class and a time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from routerpool import Privacy
from routerpool.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData, Table

__all__ = ["Reached", "Sessions", "StoredSessions", "shared_sessions"]

DAY = 86_400.0

Reached = tuple[Privacy, float]
"""A class, and until when it is remembered, in seconds since the epoch."""

NOTHING: Reached = Privacy.PUBLIC, 0.0


class Sessions:
    """The classes by session. Bounded: when it is full, what was used longest ago makes room, and is counted."""

    def __init__(self, *, most: int = 20_000, seconds: float = 7 * DAY, clock: Callable[[], float] = time.time) -> None:
        self.most = most
        self.seconds = seconds
        self.evicted = 0
        self.unsaved: dict[str, Reached] = {}
        self._clock = clock
        self._known: dict[str, Reached] = {}

    def __len__(self) -> int:
        return len(self._known)

    def privacy(self, session: str) -> Privacy:
        """The class that this session has reached; PUBLIC for one that nobody knows, or no longer."""
        known = self._known.get(session)
        if known is None:
            return Privacy.PUBLIC
        if known[1] <= self._clock():
            del self._known[session]
            return Privacy.PUBLIC
        return known[0]

    def rise(self, session: str, privacy: Privacy) -> bool:
        """Remember that a session has reached a class, from now on; whether that is news for the store."""
        now = self._clock()
        before = self._taken_out(session, now)
        self._put(session, (max(before[0], privacy), max(before[1], now + self.seconds)))
        news = privacy > before[0] or before[1] - now < self.seconds / 2
        if news:
            self.unsaved[session] = self._known[session]
        return news

    def merge(self, rows: Mapping[str, Reached]) -> None:
        """Take over what the store says; no class is lowered, no time cut short."""
        now = self._clock()
        for session, (privacy, until) in rows.items():
            if until > now:
                mine = self._taken_out(session, now)
                self._put(session, (max(privacy, mine[0]), max(until, mine[1])))

    def taken(self) -> dict[str, Reached]:
        """What the store does not have yet, from now on the caller's to write."""
        unsaved, self.unsaved = self.unsaved, {}
        return {session: reached for session, reached in unsaved.items() if session in self._known}

    def counts(self) -> dict[str, int]:
        """How many sessions are of each class."""
        now = self._clock()
        return dict(Counter(privacy.name.lower() for privacy, until in self._known.values() if until > now))

    def _taken_out(self, session: str, now: float) -> Reached:
        known = self._known.pop(session, NOTHING)
        return known if known[1] > now else NOTHING

    def _put(self, session: str, reached: Reached) -> None:
        while len(self._known) >= self.most:
            first = next(iter(self._known))
            _, until = self._known.pop(first)
            self.evicted += until > self._clock()
        self._known[session] = reached


_SHARED: dict[str, tuple[Sessions, int]] = {}


@contextmanager
def shared_sessions(url: str, *, most: int, seconds: float) -> Iterator[Sessions]:
    """The one object of this process for a store's URL, as long as any router has it; the latest bounds hold.

    A reload starts the new generation before it lets the old one go, so nothing is forgotten in between.
    """
    sessions, users = _SHARED.get(url) or (Sessions(), 0)
    sessions.most, sessions.seconds = most, seconds
    _SHARED[url] = sessions, users + 1
    try:
        yield sessions
    finally:
        _, users = _SHARED.pop(url)
        if users > 1:
            _SHARED[url] = sessions, users - 1


class StoredSessions:
    """The same in a store: the table that processes share. A StoreError says why it cannot be used."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ready = False

    async def read(self, most: int, since: float = 0.0) -> dict[str, Reached]:
        """What was written after `since` and is not over, what lasts longest at the end.

        A store that nobody has made yet is not made for this.
        """
        if not self._store.exists():
            return {}
        table = await self._table()
        wanted = table.select().where(table.c.until > time.time(), table.c.written >= since)

        def read(connection: Connection) -> dict[str, Reached]:
            rows = connection.execute(wanted.order_by(table.c.until.desc()).limit(most)).all()
            return {row.session: (Privacy(row.privacy), row.until) for row in reversed(rows)}

        return await self._store.run(read)

    async def write(self, reached: Mapping[str, Reached]) -> None:
        """Keep these, never lowering a class or cutting a time short, and forget what is over."""
        table = await self._table()
        now = time.time()

        def write(connection: Connection) -> None:
            connection.execute(table.delete().where(table.c.until <= now))
            for names in _some(list(reached)):
                found = connection.execute(table.select().where(table.c.session.in_(names))).all()
                there = {row.session: (Privacy(row.privacy), row.until) for row in found}
                connection.execute(table.delete().where(table.c.session.in_(list(there))))
                connection.execute(table.insert(), [_row(name, reached[name], there.get(name), now) for name in names])

        await self._store.run(write)

    async def _table(self) -> Table:
        metadata, table = _described()
        if not self._ready:
            await self._store.create(metadata)
            self._ready = True
        return table


def _some(names: list[str], most: int = 500) -> Iterable[list[str]]:
    """A statement takes so many at once."""
    return (names[start : start + most] for start in range(0, len(names), most))


def _row(session: str, reached: Reached, there: Reached | None, now: float) -> dict[str, Any]:
    known, until = there or NOTHING
    return {
        "session": session,
        "privacy": int(max(reached[0], known)),
        "until": max(reached[1], until),
        "written": now,
    }


@cache
def _described() -> tuple[MetaData, Table]:
    from sqlalchemy import Column, Float, Integer, MetaData, String, Table

    metadata = MetaData()
    columns: list[Any] = [
        Column("session", String(64), primary_key=True),
        Column("privacy", Integer, nullable=False),
        Column("until", Float, nullable=False, index=True),
        Column("written", Float, nullable=False, index=True),
    ]
    return metadata, Table("routerpool_policy_sessions", metadata, *columns)
