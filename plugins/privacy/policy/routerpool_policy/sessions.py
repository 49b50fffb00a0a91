"""What the conversations of one store have reached: each one's class, for as long as it is remembered.

They are kept in this process, in one object for all that share a store's URL: a request of a new generation sees at
once what one of the old generation has learned, and looking costs no I/O. Behind the requests they are written to the
store, which makes them outlive a restart, and read from it, so that other workers know within a second. Nothing is
kept but hashes of caller and session, the class and a time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

from routerpool import Privacy
from routerpool.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData, Table

__all__ = ["Full", "Reached", "Sessions", "StoredSessions", "named", "shared_sessions"]

DAY = 86_400.0

Reached = tuple[Privacy, float]
"""A class, and until when it is remembered, in seconds since the epoch."""

NOTHING: Reached = Privacy.PUBLIC, 0.0


class Full(Exception):
    """A class that cannot be remembered: all places are taken, or all of one caller's."""

    def __init__(self, option: str, most: int) -> None:
        super().__init__(f"{most} conversations are remembered, which is all that policy.{option} allows")


class Sessions:
    """The classes by session, each kept until its time is over. Bounded: what no longer fits is `Full`, not forgotten.

    A session's name is its caller's and a colon before its own, as `named` makes it, so that one caller's sessions can
    be counted. What the store knows is taken over whatever the bounds: other processes have promised to remember it.
    """

    def __init__(
        self,
        *,
        most: int = 50_000,
        each: int | None = None,
        seconds: float = 7 * DAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.most = most
        self.each = each
        """The most of one caller; None for no bound of its own."""
        self.seconds = seconds
        self.refused = 0
        self.unsaved: dict[str, Reached] = {}
        self._clock = clock
        self._known: dict[str, Reached] = {}
        self._ends: list[tuple[float, str]] = []
        """One entry for each known session, by when its time was over as it was known first."""
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._known)

    def privacy(self, session: str) -> Privacy:
        """The class that this session has reached; PUBLIC for one that nobody knows, or no longer."""
        privacy, until = self._known.get(session, NOTHING)
        return privacy if until > self._clock() else Privacy.PUBLIC

    def rise(self, session: str, privacy: Privacy) -> bool:
        """Remember that a session has reached a class, from now on; whether that is news for the store.

        Raises Full where there is no place for one that is not known yet.
        """
        now = self._clock()
        self._forget(now)
        before = self._known.get(session)
        if before is None:
            self._check_room(session)
            before = NOTHING
        self._put(session, (max(before[0], privacy), max(before[1], now + self.seconds)))
        news = privacy > before[0] or before[1] - now < self.seconds / 2
        if news:
            self.unsaved[session] = self._known[session]
        return news

    def merge(self, rows: Mapping[str, Reached]) -> None:
        """Take over what the store says; no class is lowered, no time cut short."""
        now = self._clock()
        self._forget(now)
        for session, (privacy, until) in rows.items():
            if until > now:
                mine = self._known.get(session, NOTHING)
                self._put(session, (max(privacy, mine[0]), max(until, mine[1])))

    def taken(self) -> dict[str, Reached]:
        """What the store does not have yet, from now on the caller's to write."""
        self._forget(self._clock())
        unsaved, self.unsaved = self.unsaved, {}
        return {session: reached for session, reached in unsaved.items() if session in self._known}

    def counts(self) -> dict[str, int]:
        """How many sessions are of each class."""
        self._forget(self._clock())
        return dict(Counter(privacy.name.lower() for privacy, _ in self._known.values()))

    def _check_room(self, session: str) -> None:
        full = None
        if len(self._known) >= self.most:
            full = Full("keep_sessions", self.most)
        elif self.each is not None and self._counts[_caller(session)] >= self.each:
            full = Full("keep_sessions_per_caller", self.each)
        if full is not None:
            self.refused += 1
            raise full

    def _put(self, session: str, reached: Reached) -> None:
        if session not in self._known:
            heappush(self._ends, (reached[1], session))
            self._counts[_caller(session)] += 1
        self._known[session] = reached

    def _forget(self, now: float) -> None:
        """Let go of all whose time is over."""
        while self._ends and self._ends[0][0] <= now:
            _, session = self._ends[0]
            until = self._known[session][1]
            if until > now:  # it was used again meanwhile
                heapreplace(self._ends, (until, session))
                continue
            heappop(self._ends)
            del self._known[session]
            caller = _caller(session)
            self._counts[caller] -= 1
            if not self._counts[caller]:
                del self._counts[caller]


def named(caller: str, session: str) -> str:
    """What a session of this caller is called here: hashes of both."""
    return f"{blake2b(caller.encode('utf-8', 'replace'), digest_size=6).hexdigest()}:{session}"


def _caller(session: str) -> str:
    return session.partition(":")[0]


_SHARED: dict[str, tuple[Sessions, int]] = {}


@contextmanager
def shared_sessions(url: str, *, most: int, each: int | None, seconds: float) -> Iterator[Sessions]:
    """The one object of this process for a store's URL, as long as any router has it; the latest bounds hold.

    A reload starts the new generation before it lets the old one go, so nothing is forgotten in between.
    """
    sessions, users = _SHARED.get(url) or (Sessions(), 0)
    sessions.most, sessions.each, sessions.seconds = most, each, seconds
    _SHARED[url] = sessions, users + 1
    try:
        yield sessions
    finally:
        _, users = _SHARED.pop(url)
        if users > 1:
            _SHARED[url] = sessions, users - 1


class StoredSessions:
    """The same in a store: the table that processes share. A StoreError says why it cannot be used.

    It has at most `rows` rows, all of which are read. That is more than each process lets in, since several may let
    some in at the same moment.
    """

    def __init__(self, store: Store, rows: int) -> None:
        self._store = store
        self._rows = rows
        self._ready = False

    async def read(self, since: float = 0.0) -> dict[str, Reached]:
        """What was written after `since` and is not over. A store that nobody has made yet is not made for this."""
        if not self._store.exists():
            return {}
        table = await self._table()
        wanted = table.select().where(table.c.until > time.time(), table.c.written >= since)

        def read(connection: Connection) -> dict[str, Reached]:
            return {row.session: (Privacy(row.privacy), row.until) for row in connection.execute(wanted)}

        return await self._store.run(read)

    async def write(self, reached: Mapping[str, Reached]) -> dict[str, Reached]:
        """Keep these, never lowering a class or cutting a time short, and forget what is over; what found no place."""
        from sqlalchemy import func, select

        table = await self._table()
        now = time.time()

        def write(connection: Connection) -> dict[str, Reached]:
            connection.execute(table.delete().where(table.c.until <= now))
            room = self._rows - (connection.scalar(select(func.count()).select_from(table)) or 0)
            left: dict[str, Reached] = {}
            for names in _some(list(reached)):
                found = connection.execute(table.select().where(table.c.session.in_(names))).all()
                there = {row.session: (Privacy(row.privacy), row.until) for row in found}
                new = [name for name in names if name not in there]
                left |= {name: reached[name] for name in new[max(room, 0) :]}
                room -= len(new)
                connection.execute(table.delete().where(table.c.session.in_(list(there))))
                rows = [_row(name, reached[name], there.get(name), now) for name in names if name not in left]
                if rows:
                    connection.execute(table.insert(), rows)
            return left

        return await self._store.run(write)

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
