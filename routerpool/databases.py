"""The two databases beneath the store: how each is opened, kept private, and what its errors mean to an operator."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from routerpool.errors import RouterpoolError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.exc import DBAPIError

__all__ = ["PATIENCE_SECONDS", "StoreError", "database_of"]

PATIENCE_SECONDS = 5.0
"""How long a transaction waits for the locks of another process, or for a connection, before it fails as `busy`."""

_EMPTY_SECONDS = 2.0
_POSTGRES_CONNECTIONS: Final = 4
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
# By SQLSTATE, or by how it begins.
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

    `kind` is one word: url, driver, folder, not_a_database, corrupt, empty, moved, read_only, access, full, busy, io,
    unreachable, schema, forked or closed.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Database:
    """What SQLite and PostgreSQL have in common.

    Each adds `engine()`, not connected yet; `failure(error)`, the error in an operator's words, or None when it is
    about the statement and not about the database; and `abort()`, which ends the statements under way.
    """

    def __init__(self, url: str) -> None:
        self.public = self.place = _public(url)
        self._url = url
        self._raw: set[Any] = set()

    def check(self) -> None:
        """StoreError when the database in use is no longer the one that was opened."""

    def exists(self) -> bool:
        """Whether there is something to open; a server is taken to be there."""
        return True

    def lock_schema(self, connection: Connection) -> None:
        """Let one process at a time make tables."""

    def repeatable(self, error: DBAPIError) -> bool:
        """Whether the transaction lost a race to another and would do if it was run again."""
        return False

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
    _path: Path | None = None
    _identity: tuple[int, int] | None = None

    def engine(self) -> Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.pool import QueuePool, StaticPool

        url = _parsed(self._url, self.public)
        options: dict[str, Any] = {"poolclass": StaticPool}
        if url.database and url.database != ":memory:":
            self._path = _file(url.database, self.public)
            self.place = str(self._path)
            _prepare(self._path)
            self._identity = _identity(self._path)
            url = url.set(database=self.place)
            options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
        arguments = {"timeout": PATIENCE_SECONDS, "check_same_thread": False}
        engine = create_engine(url, hide_parameters=True, connect_args=arguments, **options)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return self._watch(engine)

    def exists(self) -> bool:
        name = self._url.partition("://")[2].partition("?")[0].removeprefix("/")
        return self._path is not None or (name not in ("", ":memory:") and Path(name).expanduser().exists())

    def check(self) -> None:
        if self._path is not None and _identity(self._path) != self._identity:
            cure = "put it back, or restart to use what is there now"
            raise StoreError("moved", f"{self.place}: the file was removed or replaced while in use; {cure}")

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
    threads = _POSTGRES_CONNECTIONS
    probe = "SELECT 1"
    _aborted = False

    def engine(self) -> Engine:
        from sqlalchemy import create_engine, event

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
                pool_size=_POSTGRES_CONNECTIONS,
                max_overflow=0,
                pool_pre_ping=True,
                connect_args={} if own_bound else {"connect_timeout": int(PATIENCE_SECONDS)},
            )
        except ImportError as error:
            cure = f"pip install '{_DRIVERS[driver]}'"
            raise StoreError("driver", f"{self.public}: its driver is not installed ({error}); {cure}") from error
        event.listen(engine, "do_connect", self._connecting)
        return self._watch(engine)

    def lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('routerpool.schema'))")

    def repeatable(self, error: DBAPIError) -> bool:
        return _sqlstate(error) in {"40001", "40P01"}

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
        # A server that hangs never answers, and its threads would keep the process alive.
        self._aborted = True
        for raw in tuple(self._raw):
            if hasattr(raw, "fileno"):
                # The driver's own error says that the connection is closed already, which is what is wanted.
                with suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as connection:
                    connection.shutdown(socket.SHUT_RDWR)

    def _connecting(self, *_: Any) -> None:
        if self._aborted:
            raise StoreError("closed", f"{self.place}: the store was closed while the database did not answer")

    def _connected(self, raw: Any, _record: Any) -> None:
        super()._connected(raw, _record)
        cursor = raw.cursor()
        cursor.execute(f"SET lock_timeout = {int(PATIENCE_SECONDS * 1000)}")
        cursor.close()
        raw.commit()


def database_of(url: str) -> _SQLite | _Postgres:
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


def _file(name: str, public: str) -> Path:
    try:
        return Path(name).expanduser().absolute()
    except RuntimeError as error:
        raise StoreError("url", f"{public}: the home directory is unknown; write the path out") from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _prepare(path: Path) -> None:
    """Make folder and file with private modes, and refuse what SQLite would explain badly or write over."""
    try:
        for folder in reversed(path.parents):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
        if path.is_dir():
            raise StoreError("folder", f"{path}: a folder is in the way; name a file in it")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            cure = "SQLite keeps files beside the database, so give the folder to this user or name another place"
            raise StoreError("read_only", f"{path}: user {os.geteuid()} may not write in its folder; {cure}")
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            os.close(descriptor)
        except FileExistsError:
            _refuse_empty(path)
            _make_private(path)
            if not os.access(path, os.R_OK | os.W_OK):  # SQLite would begin reading transactions in silence
                cure = "give it to this user or name another file"
                raise StoreError("read_only", f"{path}: user {os.geteuid()} may not write it; {cure}") from None
    except OSError as error:
        cure = "name a place that this user can write"
        raise StoreError("folder", f"{path}: {error.strerror} ({error.filename}); {cure}") from error


def _refuse_empty(path: Path) -> None:
    """Refuse a file of no bytes: SQLite would begin anew in what may be the remains of a truncated database.

    One byte is none to SQLite. The process that makes a file fills it within a moment, so that moment is waited for.
    """
    deadline = time.monotonic() + _EMPTY_SECONDS
    while path.stat().st_size <= 1:
        if time.monotonic() > deadline:
            cure = "restore a backup, or remove it to begin anew"
            raise StoreError("empty", f"{path}: the file is empty, as if truncated; {cure}")
        time.sleep(0.01)


def _make_private(path: Path) -> None:
    """Take the rights of the group and of others away from the database and the files beside it."""
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError, PermissionError):  # a file that is another user's is theirs to protect
            mode = file.stat().st_mode & 0o777
            if mode & 0o077:
                file.chmod(mode & 0o700)
