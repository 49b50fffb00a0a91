"""The one database that plugins and worker processes share: SQLite in a file by default, PostgreSQL by URL.

A plugin hands `Store.run` a function of one connection. It runs as one transaction on a thread of the store, so the
event loop never waits for a disk. Transactions are serializable on both databases: what a function has read is still
true when it writes, also with several worker processes, so a limit that is checked and then used up holds.

Beneath it stand the two databases: how each is opened, kept private, and what its errors mean to an operator.
SQLAlchemy is imported when the store is first used, never by importing this module.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from routerpool.errors import RouterpoolError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, MetaData
    from sqlalchemy.exc import DBAPIError

__all__ = ["CLOSE_SECONDS", "PATIENCE_SECONDS", "Store", "StoreError"]

CLOSE_SECONDS = 10.0
"""How long `Store.close` waits for the transactions under way before it breaks them off."""

PATIENCE_SECONDS = 5.0
"""How long a transaction waits for the locks of another process, or for a connection, before it fails as `busy`."""

T = TypeVar("T")

_DRIVERS: Final = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "pg8000": "pg8000"}
_BUSY: Final = 5
_LOCKED: Final = ("busy", "another process keeps it locked; find it (`fuser` on the file) and let it finish")
# By SQLite's primary result code.
_SQLITE_FAILURES: Final[Mapping[int, tuple[str, str]]] = {
    _BUSY: _LOCKED,
    6: _LOCKED,
    8: ("read_only", "it cannot be written; give the file and its folder to the user that runs routerpool"),
    10: ("io", "the disk failed to read or write it; look at the system's log and the free space"),
    11: ("corrupt", "it is damaged or cut short; restore a backup, or move it away to begin with an empty one"),
    13: ("full", "there is no space left for it; free some, and the next transaction succeeds"),
    14: ("folder", "it cannot be opened; see that its folder exists and belongs to the user that runs routerpool"),
    26: ("not_a_database", "it is not an SQLite database; name another file, restore a backup, or move it away"),
}
# By SQLSTATE, or by how it begins. A transaction that lost a race would do if it was run again.
_LOST_RACES: Final = frozenset({"40001", "40P01"})
_POSTGRES_FAILURES: Final[Mapping[str, tuple[str, str]]] = {
    "53100": ("full", "there is no space left on its disk; free some, and the next transaction succeeds"),
    "53300": ("busy", "it has no connection left; raise its max_connections or run fewer workers"),
    "55P03": ("busy", "another session keeps the rows or tables locked; find it in pg_stat_activity"),
    "42501": ("access", "this user lacks a right; GRANT USAGE, CREATE ON SCHEMA public to it, or give it the tables"),
    "3D000": ("unreachable", "there is no database of this name; make it with createdb"),
    "25006": ("read_only", "it takes no writes (a standby?); name the primary in the URL"),
    "40": ("busy", "other transactions kept changing the same rows; try again"),
    "28": ("access", "it does not let this user in; check the user and the password in the URL"),
    "08": ("unreachable", "the connection is lost; see that it runs"),
    "57P": ("unreachable", "it is shutting down or starting; the next transaction asks again"),
}


class StoreError(RouterpoolError):
    """The database cannot be used; the text names the file or the URL (without its password), and the cure.

    `kind` is one word: url, driver, folder, not_a_database, corrupt, read_only, access, full, busy, io, unreachable,
    schema, forked or closed.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Store:
    """One database, opened by its first use.

    A `StoreError` leaves the store usable: the next transaction tries again, so a database that comes back is used.
    A store that was opened must not be carried over a fork: open it in each worker.
    """

    def __init__(self, url: str) -> None:
        """Take the URL and open nothing; StoreError (`url`) when it names neither SQLite nor PostgreSQL."""
        self._database = _database_of(url)
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._executor = ThreadPoolExecutor(self._database.threads, thread_name_prefix="routerpool-store")
        self._engine: Engine | None = None
        self._pending: set[Future[Any]] = set()
        self._pid = 0
        self._closed = False
        self._transactions = 0
        self._errors = 0
        self._error: str | None = None

    def __repr__(self) -> str:
        return f"Store({self._database.public!r})"

    async def run(self, work: Callable[[Connection], T]) -> T:
        """`work(connection)` as one transaction on a thread of the store: committed when it returns, else rolled back.

        Fetch rows inside `work`: results end with the transaction. PostgreSQL may have to roll `work` back and call it
        again when another worker wrote the same rows, so it must touch nothing but its connection. What `work` raises
        comes out as it is, SQLAlchemy's errors about a statement too; StoreError says that the database itself fails.

        Waiting is not bounded here (a database may hang): use `asyncio.timeout`. A cancelled call that has begun ends
        its transaction on its thread and drops the result; one that still waits for the thread is never begun.
        """
        return await asyncio.wrap_future(self._submit(lambda: self._transact(work)))

    async def create(self, metadata: MetaData) -> None:
        """Make the tables of `metadata` that are missing, also when several processes do so at once.

        StoreError (`schema`) when a table is there with other columns, since every later statement would fail; then
        nothing is made.
        """

        def make(connection: Connection) -> None:
            if self._database.schema_lock:
                connection.exec_driver_sql(self._database.schema_lock)
            self._compare(connection, metadata)
            metadata.create_all(connection)

        await asyncio.wrap_future(self._submit(lambda: self._transact(make, self._database.schema_isolation)))

    def status(self) -> dict[str, Any]:
        """What an operator looks at, without asking the database.

        `url` (without password), `dialect`, `opened`, `transactions` (committed so far), `waiting` (submitted and not
        ended), `errors` (StoreErrors so far), `error` (the kind of the last transaction's, None when it succeeded).
        """
        return {
            "url": self._database.public,
            "dialect": self._database.dialect,
            "opened": self._engine is not None and not self._closed,
            "transactions": self._transactions,
            "waiting": len(self._pending),
            "errors": self._errors,
            "error": self._error,
        }

    def exists(self) -> bool:
        """Whether there is something to open: an SQLite file that is there, or a server, which is not asked."""
        return self._database.exists()

    async def close(self) -> None:
        """Let what was submitted finish (for at most `CLOSE_SECONDS`), then close the database for good.

        StoreError (`busy`) when a transaction had to be broken off and still does not end.
        """
        with self._lock:
            opened = not self._closed and self._pid == os.getpid()
            self._closed = True
        if opened:
            await asyncio.to_thread(self._end)

    def _submit(self, job: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self._closed:
                raise StoreError("closed", f"{self._database.public}: the store is closed; make a new one")
            self._pid = self._pid or os.getpid()
            if self._pid != os.getpid():
                cure = "open it in each worker"
                raise StoreError("forked", f"{self._database.public}: the store was opened before the fork; {cure}")
            future = self._executor.submit(job)
            self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def _transact(self, work: Callable[[Connection], T], isolation: str = "") -> T:
        from sqlalchemy.exc import DBAPIError

        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                engine = self._ready()
                if isolation:
                    engine = engine.execution_options(isolation_level=isolation)
                with engine.begin() as connection:
                    result = work(connection)
            except StoreError as error:
                self._failed(error)
                raise
            except DBAPIError as error:
                if _sqlstate(error) in _LOST_RACES and time.monotonic() < deadline:
                    time.sleep(random.uniform(0.001, 0.02))
                    continue
                failure = self._database.failure(error)
                if failure is None:
                    raise
                self._failed(failure)
                raise failure from error
            with self._lock:
                self._transactions += 1
                self._error = None
            return result

    def _ready(self) -> Engine:
        with self._opening:
            if self._engine is None:
                engine = self._database.engine()
                try:
                    with engine.connect() as connection:
                        connection.exec_driver_sql(self._database.probe)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
        return self._engine

    def _failed(self, error: StoreError) -> None:
        with self._lock:
            self._errors += 1
            self._error = error.kind

    def _compare(self, connection: Connection, metadata: MetaData) -> None:
        from sqlalchemy import inspect

        inspector = inspect(connection)
        problems: list[str] = []
        for table in metadata.sorted_tables:
            if inspector.has_table(table.name, schema=table.schema):
                there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
                wanted, title = {column.name for column in table.columns}, f"table {table.fullname!r}"
                problems += [f"{title} lacks column {name!r}" for name in sorted(wanted - there)]
                problems += [f"{title} has an unknown column {name!r}" for name in sorted(there - wanted)]
        if problems:
            cure = "another version made it; install that version, or rename the table so that a new one is made"
            raise StoreError("schema", f"{self._database.place}: {'; '.join(problems)}; {cure}")

    def _end(self) -> None:
        _, left = wait(set(self._pending), timeout=CLOSE_SECONDS)
        if left:
            self._database.abort()
            _, left = wait({future for future in left if not future.cancel()}, timeout=PATIENCE_SECONDS + 1)
        self._executor.shutdown(wait=not left, cancel_futures=True)
        if self._engine is not None:
            self._engine.dispose()
        if left:
            raise StoreError("busy", f"{self._database.place}: a transaction has not ended after {CLOSE_SECONDS:g} s")


class _Database:
    """What the two databases beneath a store, SQLite and PostgreSQL, have in common.

    Each adds `engine()`, not connected yet; `failure(error)`, the error in an operator's words, or None when it is
    about the statement and not about the database; and `abort()`, which ends the statements under way. Where a server
    lets several processes make tables at once, `schema_lock` is the statement that has them do it in turn.
    """

    schema_lock = schema_isolation = ""

    def __init__(self, url: str) -> None:
        self.public = self.place = _public(url)
        self._url = url
        self._raw: set[Any] = set()

    def exists(self) -> bool:
        """Whether there is something to open; a server is taken to be there."""
        return True

    def _watch(self, engine: Engine) -> Engine:
        from sqlalchemy import event

        event.listen(engine, "connect", self._connected)
        event.listen(engine, "close", lambda raw, _record: self._raw.discard(raw))
        return engine

    def _connected(self, raw: Any, _record: Any) -> None:
        self._raw.add(raw)


class _SQLite(_Database):
    """A file (or memory): one connection on one thread; other processes are kept out by the file's lock."""

    dialect = "sqlite"
    threads = 1
    probe = "SELECT count(*) FROM sqlite_master"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        name = url.partition("://")[2].partition("?")[0].removeprefix("/")
        self._path = Path(name).expanduser().absolute() if name not in ("", ":memory:") else None

    def engine(self) -> Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.pool import StaticPool

        url = _parsed(self._url, self.public)
        if self._path is not None:
            self.place = str(self._path)
            _prepare(self._path)
            url = url.set(database=self.place)
        arguments = {"timeout": PATIENCE_SECONDS, "check_same_thread": False}
        engine = create_engine(url, poolclass=StaticPool, hide_parameters=True, connect_args=arguments)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return self._watch(engine)

    def exists(self) -> bool:
        return self._path is not None and self._path.exists()

    def failure(self, error: DBAPIError) -> StoreError | None:
        known = _SQLITE_FAILURES.get(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF)
        return StoreError(known[0], f"{self.place}: {known[1]}") if known else None

    def abort(self) -> None:
        for raw in tuple(self._raw):
            raw.interrupt()

    def _connected(self, raw: Any, _record: Any) -> None:
        super()._connected(raw, _record)
        raw.isolation_level = None  # BEGIN is ours: the driver's own comes too late to cover what was read before
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                raw.execute("PRAGMA journal_mode = WAL")
                break
            except raw.OperationalError as error:  # the one lock that SQLite does not always wait for by itself
                if error.sqlite_errorcode & 0xFF != _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        raw.execute("PRAGMA synchronous = NORMAL")
        raw.execute("PRAGMA foreign_keys = ON")


class _Postgres(_Database):
    """A small pool of connections, each used by one thread at a time."""

    dialect = "postgresql"
    threads = 4
    probe = "SELECT 1"
    schema_lock = "SELECT pg_advisory_xact_lock(hashtext('routerpool.schema'))"
    # A snapshot taken before that lock was granted would not show what its last holder made.
    schema_isolation = "READ COMMITTED"

    def engine(self) -> Engine:
        from sqlalchemy import create_engine

        url = _parsed(self._url, self.public)
        driver = url.drivername.partition("+")[2] or next(filter(find_spec, _DRIVERS), "psycopg")
        if driver not in _DRIVERS:
            raise StoreError("url", f"{self.public}: the driver {driver!r} is not one of {', '.join(_DRIVERS)}")
        # pg8000 has no bound for connecting alone: its own would end every statement that takes longer.
        own_bound = driver == "pg8000" or "connect_timeout" in url.query
        try:
            engine = create_engine(
                url.set(drivername=f"postgresql+{driver}"),
                hide_parameters=True,
                isolation_level="SERIALIZABLE",
                client_encoding="utf8",  # else text from a server without an encoding (SQL_ASCII) comes as bytes
                pool_size=self.threads,
                max_overflow=0,
                pool_pre_ping=True,
                connect_args={} if own_bound else {"connect_timeout": int(PATIENCE_SECONDS)},
            )
        except ImportError as error:
            cure = f"pip install '{_DRIVERS[driver]}'"
            raise StoreError("driver", f"{self.public}: its driver is not installed ({error}); {cure}") from error
        return self._watch(engine)

    def failure(self, error: DBAPIError) -> StoreError | None:
        state = _sqlstate(error)
        for beginning, (kind, cure) in _POSTGRES_FAILURES.items():
            if state.startswith(beginning):
                return StoreError(kind, f"{self.place}: {cure}")
        stateless = not state and type(error).__name__ in {"OperationalError", "InterfaceError"}
        if error.connection_invalidated or stateless:
            reason = (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]
            return StoreError("unreachable", f"{self.place}: {reason}; see that it runs and lets this user in")
        return None

    def abort(self) -> None:
        # A server that hangs never answers, and the threads that wait for it would keep the process alive.
        for raw in tuple(self._raw):
            # What the driver raises says that the connection is closed already, which is what is wanted.
            with suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as connection:
                connection.shutdown(socket.SHUT_RDWR)

    def _connected(self, raw: Any, _record: Any) -> None:
        super()._connected(raw, _record)
        cursor = raw.cursor()
        cursor.execute(f"SET lock_timeout = {int(PATIENCE_SECONDS * 1000)}")
        cursor.close()
        raw.commit()


def _database_of(url: str) -> _SQLite | _Postgres:
    """The database that this URL names; StoreError (`url`) when it names neither of the two."""
    scheme, colon, _ = url.partition("://")
    if colon and scheme in {"sqlite", "sqlite+pysqlite"}:
        return _SQLite(url)
    if colon and scheme.partition("+")[0] in {"postgresql", "postgres"}:
        return _Postgres(url)
    forms = "sqlite:////path/to/file or postgresql+psycopg://user@host/database"
    raise StoreError("url", f"{_public(url)}: not the URL of a store; write {forms}")


def _public(url: str) -> str:
    """The URL without its password, also one among the options; rather too much is hidden than too little."""
    url = re.sub(r"^([^:/]*://[^:/]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*", r"\1***", url, flags=re.IGNORECASE)


def _parsed(url: str, public: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # their text may quote the password
        raise StoreError("url", f"{public}: not a database URL; percent-encode special characters in it") from None


def _sqlstate(error: DBAPIError) -> str:
    orig = error.orig
    state = getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None)
    first = orig.args[0] if orig is not None and orig.args else None
    return str(state or (first.get("C") if isinstance(first, dict) else None) or "")


def _prepare(path: Path) -> None:
    """Make folder and file with private modes, and refuse what SQLite would explain badly."""
    try:
        for folder in reversed(path.parents):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
        if path.is_dir():
            raise StoreError("folder", f"{path}: a folder is in the way; name a file in it")
        try:
            # Never opened where it is there: to close it again would give up the locks that this process holds on it.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            with suppress(PermissionError):  # another user's file is theirs to protect, as is what a link leads to
                path.chmod(path.stat().st_mode & (0o7777 if path.is_symlink() else 0o700))
            if not os.access(path, os.R_OK | os.W_OK):  # SQLite would begin reading transactions in silence
                cure = "give it to this user or name another file"
                raise StoreError("read_only", f"{path}: user {os.geteuid()} may not write it; {cure}") from None
    except OSError as error:
        cure = "name a place that this user can write"
        raise StoreError("folder", f"{path}: {error.strerror} ({error.filename}); {cure}") from error
