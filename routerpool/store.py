"""The one database that plugins and worker processes share: SQLite in a file by default, PostgreSQL by URL.

A plugin hands `Store.run` a function of one connection. It runs as one transaction on a thread of the store, so the
event loop never waits for a disk. Transactions are serializable on both databases: what a function has read is still
true when it writes, also with several worker processes, so a limit that is checked and then used up holds.

SQLAlchemy is imported when the store is first used, never by importing this module.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from routerpool.databases import PATIENCE_SECONDS, StoreError, database_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData

__all__ = ["CLOSE_SECONDS", "PATIENCE_SECONDS", "Store", "StoreError"]

CLOSE_SECONDS = 10.0
"""How long `Store.close` waits for the transactions under way before it breaks them off."""

T = TypeVar("T")


class Store:
    """One database, opened by its first use.

    A `StoreError` leaves the store usable: the next transaction tries again, so a database that comes back is used.
    A store that was opened must not be carried over a fork: open it in each worker.
    """

    def __init__(self, url: str) -> None:
        """Take the URL and open nothing; StoreError (`url`) when it names neither SQLite nor PostgreSQL."""
        self._database = database_of(url)
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
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
            self._database.lock_schema(connection)
            self._compare(connection, metadata)
            metadata.create_all(connection)

        # A snapshot taken before the schema's lock was granted would not show what its last holder made.
        await asyncio.wrap_future(self._submit(lambda: self._transact(make, isolation="READ COMMITTED")))

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
            opened = self._executor is not None and not self._closed and self._pid == os.getpid()
            self._closed = True
        if opened:
            await asyncio.to_thread(self._end)

    def _submit(self, job: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self._closed:
                raise StoreError("closed", f"{self._database.public}: the store is closed; make a new one")
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._database.threads, thread_name_prefix="routerpool-store")
                self._pid = os.getpid()
            if self._pid != os.getpid():
                cure = "open it in each worker"
                raise StoreError("forked", f"{self._database.public}: the store was opened before the fork; {cure}")
            future = self._executor.submit(job)
            self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def _transact(self, work: Callable[[Connection], T], isolation: str | None = None) -> T:
        from sqlalchemy.exc import DBAPIError

        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                engine = self._ready()
                if isolation and self._database.dialect != "sqlite":
                    engine = engine.execution_options(isolation_level=isolation)
                with engine.begin() as connection:
                    result = work(connection)
            except StoreError as error:
                self._failed(error)
                raise
            except DBAPIError as error:
                if self._database.repeatable(error) and time.monotonic() < deadline:
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
        self._database.check()
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
            if not inspector.has_table(table.name, schema=table.schema):
                continue
            there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
            wanted = {column.name for column in table.columns}
            problems += [f"table {table.fullname!r} lacks column {name!r}" for name in sorted(wanted - there)]
            problems += [f"table {table.fullname!r} has an unknown column {name!r}" for name in sorted(there - wanted)]
        if problems:
            cure = "another version made it; install that version, or rename the table so that a new one is made"
            raise StoreError("schema", f"{self._database.place}: {'; '.join(problems)}; {cure}")

    def _end(self) -> None:
        _, left = wait(set(self._pending), timeout=CLOSE_SECONDS)
        if left:
            self._database.abort()
            _, left = wait({future for future in left if not future.cancel()}, timeout=PATIENCE_SECONDS + 1)
        if self._executor is not None:
            self._executor.shutdown(wait=not left, cancel_futures=True)
        if self._engine is not None:
            self._engine.dispose()
        if left:
            raise StoreError("busy", f"{self._database.place}: a transaction has not ended after {CLOSE_SECONDS:g} s")
