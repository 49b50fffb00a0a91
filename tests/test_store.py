"""The store on real files, real processes and, where the server is installed, a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, exc, select

from routerpool import store as store_module
from routerpool.errors import RouterpoolError
from routerpool.store import Store, StoreError

T = TypeVar("T")

METADATA = MetaData()
COUNTERS = Table(
    "counters", METADATA, Column("name", String, primary_key=True), Column("value", Integer, nullable=False)
)


def read(connection: Connection) -> int | None:
    return connection.execute(select(COUNTERS.c.value).where(COUNTERS.c.name == "a")).scalar()


def begin_at_zero(connection: Connection) -> None:
    connection.execute(COUNTERS.insert().values(name="a", value=0))


def raise_by_one(connection: Connection) -> None:
    """Read, then write what was read plus one: the update that is lost when two do it at the same time."""
    value = connection.execute(select(COUNTERS.c.value).where(COUNTERS.c.name == "a")).scalar_one()
    connection.execute(COUNTERS.update().where(COUNTERS.c.name == "a").values(value=value + 1))


def run(url: str | Path, work: Any) -> Any:
    """Run one transaction on a store of its own, its tables made before."""

    async def body() -> Any:
        store = Store(str(url) if isinstance(url, str) else f"sqlite:///{url}")
        try:
            await store.create(METADATA)
            return await store.run(work)
        finally:
            await store.close()

    return asyncio.run(body())


def refused(url: str | Path) -> StoreError:
    with pytest.raises(StoreError) as caught:
        run(url, lambda connection: connection.exec_driver_sql("SELECT 1"))
    return caught.value


def with_store(url: str, body: Any) -> Any:
    async def main() -> Any:
        store = Store(url)
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(main())


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 20)


WORKER = """
import asyncio, sys, time
import sqlalchemy.dialects.sqlite
from sqlalchemy import Column, Integer, MetaData, String, Table
from routerpool.store import Store

metadata = MetaData()
Table("counters", metadata, Column("name", String, primary_key=True), Column("value", Integer, nullable=False))

def raise_by_one(connection):
    value = connection.exec_driver_sql("SELECT value FROM counters WHERE name = 'a'").scalar_one()
    time.sleep(0.001)
    connection.exec_driver_sql(f"UPDATE counters SET value = {value + 1} WHERE name = 'a'")

async def use(url):
    store = Store(url)
    await store.create(metadata)
    for _ in range(int(sys.argv[1])):
        await store.run(raise_by_one)
    await store.close()

for url in sys.argv[2:]:
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(use(url))
print("done", flush=True)
"""


def workers(count: int, rounds: int, *urls: str) -> None:
    """`count` processes, released together for each URL, each making the tables and raising the counter `rounds` times.

    Each reads the counter and writes what it read plus one: the update that is lost when two do it at the same time.
    """
    command = [sys.executable, "-c", WORKER, str(rounds), *urls]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(count)]
    try:
        for _ in urls:
            assert [process.stdout.readline() for process in processes] == ["ready\n"] * count
            for process in processes:
                process.stdin.write("go\n")
                process.stdin.flush()
        assert [process.stdout.readline() for process in processes] == ["done\n"] * count
    finally:
        for process in processes:
            process.kill()
        errors = [process.communicate()[1] for process in processes]
        print(*errors, sep="\n")


# --- the light constructor, the URL


def test_making_a_store_imports_and_opens_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from routerpool.store import Store\n"
        "store = Store(sys.argv[1]); print(store.status()['opened'], 'sqlalchemy' in sys.modules)"
    )
    command = [sys.executable, "-c", script, f"sqlite:///{tmp_path}/folder/x.db"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "False False\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["", "routerpool.db", "mysql://h/d", "sqlite+aiosqlite:///x.db", "postgresql"])
def test_a_url_of_another_kind_is_refused_with_the_forms_that_work(url: str) -> None:
    with pytest.raises(StoreError, match="sqlite:////path/to/file or postgresql\\+psycopg://") as caught:
        Store(url)
    assert caught.value.kind == "url"
    assert isinstance(caught.value, RouterpoolError)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter2@127.0.0.1:1/db",
        "postgresql+psycopg://me:hunter2/@x@127.0.0.1:1/db",
        "postgresql+psycopg://a@b:hunter2@127.0.0.1:1/db",
        "postgresql+psycopg://127.0.0.1:1/db?user=me&password=hunter2",
        "postgresql://me:hunter2@127.0.0.1:port/db",
        "postgresql+asyncpg://me:hunter2@127.0.0.1:1/db",
        "mysql://me:hunter2@127.0.0.1/db",
    ],
)
def test_the_password_is_never_shown(url: str) -> None:
    async def body() -> str:
        store = Store(url)
        shown = f"{store!r} {store.status()}"
        try:
            await store.run(read)
        finally:
            await store.close()
        return shown

    with pytest.raises(StoreError) as caught:
        asyncio.run(body())
    assert "***" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    if not url.startswith("mysql"):
        store = Store(url)
        assert "***" in repr(store)
        assert "hunter2" not in f"{store!r} {store.status()}"


def test_a_missing_driver_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("psycopg", "psycopg2", "pg8000"):
        monkeypatch.setitem(sys.modules, name, None)
    for url in ("postgresql://127.0.0.1:1/db", "postgres://127.0.0.1:1/db", "postgresql+psycopg://127.0.0.1:1/db"):
        error = refused(url)
        assert error.kind == "driver"
        assert "pip install 'psycopg[binary]'" in str(error)


def test_the_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run("sqlite:///~/deep/er/x.db", begin_at_zero)
    assert run(tmp_path / "deep/er/x.db", read) == 0


def test_a_store_in_memory_keeps_its_rows_until_it_is_closed() -> None:
    async def body(store: Store) -> int | None:
        await store.create(METADATA)
        await store.run(begin_at_zero)
        return await store.run(read)

    for url in ("sqlite://", "sqlite:///:memory:"):
        assert with_store(url, body) == 0


# --- transactions


def test_work_is_committed_on_return_and_rolled_back_on_its_error(tmp_path: Path) -> None:
    def fail(connection: Connection) -> None:
        raise_by_one(connection)
        raise LookupError("mine")

    async def body(store: Store) -> list[int | None]:
        await store.create(METADATA)
        await store.run(begin_at_zero)
        await store.run(raise_by_one)
        with pytest.raises(LookupError, match="mine"):
            await store.run(fail)
        return [await store.run(read)]

    assert with_store(f"sqlite:///{tmp_path}/x.db", body) == [1]
    assert run(tmp_path / "x.db", read) == 1


def test_work_runs_off_the_loop_always_on_the_same_thread(tmp_path: Path) -> None:
    async def body(store: Store) -> set[int]:
        return set(await asyncio.gather(*[store.run(lambda _: threading.get_ident()) for _ in range(20)]))

    threads = with_store(f"sqlite:///{tmp_path}/x.db", body)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_sqlite_is_set_up_for_several_processes(tmp_path: Path) -> None:
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")

    def settings(connection: Connection) -> list[Any]:
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert run(tmp_path / "x.db", settings) == ["wal", 1, 1, 5000]


def test_an_error_in_a_statement_comes_out_as_it_is_without_the_values(tmp_path: Path) -> None:
    def twice(connection: Connection) -> None:
        for _ in range(2):
            connection.execute(COUNTERS.insert().values(name="a private word", value=1))

    with pytest.raises(exc.IntegrityError) as caught:
        run(tmp_path / "x.db", twice)
    assert "a private word" not in str(caught.value)


def test_no_update_is_lost_between_processes(tmp_path: Path) -> None:
    run(tmp_path / "x.db", begin_at_zero)
    workers(3, 100, f"sqlite:///{tmp_path}/x.db")
    assert run(tmp_path / "x.db", read) == 300


def test_processes_that_open_a_new_file_at_once_all_find_their_tables(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}/x.db" for number in range(8)]
    workers(4, 0, *[f"sqlite:///{file}" for file in files])
    assert [run(file, read) for file in files] == [None] * len(files)


def test_a_cancelled_call_ends_its_transaction_whole_and_one_that_waits_is_never_begun(tmp_path: Path) -> None:
    begun, go_on, other = threading.Event(), threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        raise_by_one(connection)
        begun.set()
        assert go_on.wait(20)
        raise_by_one(connection)

    async def body(store: Store) -> int | None:
        await store.create(METADATA)
        await store.run(begin_at_zero)
        running = asyncio.ensure_future(store.run(slow))
        await until(begun)
        queued = asyncio.ensure_future(store.run(lambda _: other.set()))
        await asyncio.sleep(0)
        assert store.status()["waiting"] == 2
        for task in (running, queued):
            task.cancel()
        assert [type(end) for end in await asyncio.gather(running, queued, return_exceptions=True)] == [
            asyncio.CancelledError,
            asyncio.CancelledError,
        ]
        go_on.set()
        return await store.run(read)

    assert with_store(f"sqlite:///{tmp_path}/x.db", body) == 2
    assert not other.is_set()


def test_the_status_counts_transactions_and_names_the_last_failure(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.mkdir()

    async def body(store: Store) -> list[dict[str, Any]]:
        seen = []
        with pytest.raises(StoreError):
            await store.create(METADATA)
        seen.append(store.status())
        path.rmdir()
        await store.create(METADATA)
        seen.append(store.status())
        return seen

    url = f"sqlite:///{path}"
    common = {"url": url, "dialect": "sqlite", "waiting": 0, "errors": 1}
    assert with_store(url, body) == [
        {**common, "opened": False, "transactions": 0, "error": "folder"},
        {**common, "opened": True, "transactions": 1, "error": None},
    ]


def test_closing_lets_what_was_submitted_finish_and_is_final(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(20)
        begin_at_zero(connection)

    async def body() -> None:
        store = Store(f"sqlite:///{tmp_path}/x.db")
        await store.create(METADATA)
        calls = [asyncio.ensure_future(store.run(work)) for work in (slow, raise_by_one)]
        await until(begun)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="closed"):
            await store.run(read)
        go_on.set()
        await closing
        await asyncio.gather(*calls)
        await store.close()
        assert not store.status()["opened"]

    asyncio.run(body())
    assert run(tmp_path / "x.db", read) == 1
    assert not (tmp_path / "x.db-wal").exists()


def test_closing_breaks_off_a_statement_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CLOSE_SECONDS", 0.2)
    begun = threading.Event()

    def endless(connection: Connection) -> None:
        begun.set()
        connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        )

    async def body() -> None:
        store = Store(f"sqlite:///{tmp_path}/x.db")
        call = asyncio.ensure_future(store.run(endless))
        await until(begun)
        await store.close()
        with pytest.raises(exc.OperationalError, match="interrupted"):
            await call

    asyncio.run(asyncio.wait_for(body(), 20))


def test_a_store_opened_before_a_fork_is_refused_in_the_child(tmp_path: Path) -> None:
    script = """
import asyncio, os, sys
from routerpool.store import Store, StoreError

opened, unopened = Store(sys.argv[1]), Store(sys.argv[1])
asyncio.run(opened.run(lambda c: c.exec_driver_sql("CREATE TABLE t (x)")))
child = os.fork()
asyncio.run(unopened.run(lambda c: c.exec_driver_sql("INSERT INTO t VALUES (1)")))
if child == 0:
    try:
        asyncio.run(opened.run(lambda c: None))
    except StoreError as error:
        print(error.kind, error, flush=True)
    asyncio.run(opened.close())
    os._exit(0)
os.waitpid(child, 0)
print(asyncio.run(opened.run(lambda c: c.exec_driver_sql("SELECT count(*) FROM t").scalar())))
"""
    command = [sys.executable, "-c", script, f"sqlite:///{tmp_path}/x.db"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    first, second = answer.stdout.splitlines()
    assert first.startswith("forked ")
    assert "open it in each worker" in first
    assert second == "2"


# --- files, and what can be wrong with them


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_folders_and_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    modes: dict[str, str] = {}

    def look(connection: Connection) -> None:
        begin_at_zero(connection)
        for path in [tmp_path / "a", *tmp_path.glob("a/**/*")]:
            modes[str(path.relative_to(tmp_path))] = oct(stat.S_IMODE(path.stat().st_mode))

    before = os.umask(umask)
    try:
        run(tmp_path / "a/b/x.db", look)
    finally:
        os.umask(before)
    files = dict.fromkeys(("a/b/x.db", "a/b/x.db-wal", "a/b/x.db-shm"), "0o600")
    assert modes == {"a": "0o700", "a/b": "0o700", **files}


def test_a_file_that_others_could_read_is_made_private_and_rights_are_never_added(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    run(path, begin_at_zero)
    path.chmod(0o644)
    run(path, raise_by_one)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o444)
    run_or_refused = refused(path).kind if os.geteuid() else run(path, read)
    assert run_or_refused in {"read_only", 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_the_rights_of_what_a_link_leads_to_stay_as_they_are(tmp_path: Path) -> None:
    real, link = tmp_path / "shared.db", tmp_path / "x.db"
    run(real, begin_at_zero)
    real.chmod(0o644)
    link.symlink_to(real)
    run(link, raise_by_one)
    assert stat.S_IMODE(real.stat().st_mode) == 0o644
    run(real, raise_by_one)
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def filled(path: Path) -> bytes:
    def fill(connection: Connection) -> None:
        connection.execute(COUNTERS.insert(), [{"name": f"{number:0>40}", "value": number} for number in range(2000)])

    run(path, fill)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda good: good[:15], "not_a_database"),
        (lambda good: good[:100], "corrupt"),
        (lambda good: good[:4096], "corrupt"),
        (lambda good: good[: len(good) // 2], "corrupt"),
        (lambda good: good[:-4096], "corrupt"),
        (lambda good: b"\0" * 4096 + good[4096:], "not_a_database"),
        (lambda good: b"some notes of mine\n" * 40, "not_a_database"),
    ],
)
def test_a_damaged_file_is_refused_with_its_path_and_stays_as_it_is(tmp_path: Path, damage: Any, kind: str) -> None:
    path = tmp_path / "x.db"
    damaged = damage(filled(path))
    path.write_bytes(damaged)
    error = refused(path)
    assert error.kind == kind
    assert str(error).startswith(f"{path}: ")
    assert "restore a backup" in str(error)
    assert path.read_bytes() == damaged


def test_an_empty_file_is_a_new_database_as_it_is_to_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch(0o644)
    run(path, begin_at_zero)
    assert run(path, read) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_damage_inside_is_reported_when_it_is_met(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    good = filled(path)
    path.write_bytes(good[: 4096 * 2] + b"\xff" * (len(good) - 4096 * 2))
    with pytest.raises(StoreError) as caught:
        run(path, lambda connection: connection.exec_driver_sql("SELECT sum(value) FROM counters").scalar())
    assert caught.value.kind == "corrupt"


def test_a_folder_or_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").mkdir()
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "x.db", tmp_path / "file/x.db"):
        error = refused(path)
        assert error.kind == "folder"
        assert str(path) in str(error)
    assert (tmp_path / "file").read_text() == "mine"


OTHER_USER = """
import asyncio, os, sys
from routerpool.store import Store, StoreError
import sqlalchemy.dialects.sqlite, sqlalchemy.pool, sqlite3, encodings.idna

if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for url in sys.argv[1:]:
    try:
        asyncio.run(Store(url).run(lambda c: None))
        print("went through")
    except StoreError as error:
        print(error.kind, error)
"""


def test_a_folder_or_a_file_that_cannot_be_written_is_refused_with_the_cure() -> None:
    """As another user when the tests run as root, whom no mode stops; so outside of root's own temporary folder."""
    top = Path(tempfile.mkdtemp())
    try:
        sealed, locked = top / "sealed", top / "locked"
        for folder in (sealed, locked):
            run(folder / "x.db", begin_at_zero)
        (locked / "x.db").chmod(0o444)
        locked.chmod(0o777)
        sealed.chmod(0o555)
        top.chmod(0o555)
        urls = [f"sqlite:///{path}" for path in (sealed / "x.db", sealed / "new.db", locked / "x.db", top / "new/x.db")]
        command = [sys.executable, "-c", OTHER_USER, *urls]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    finally:
        top.chmod(0o700)
        shutil.rmtree(top)
    assert [line.split()[0] for line in lines] == ["read_only", "folder", "read_only", "folder"]
    assert [url.removeprefix("sqlite:///") in line for url, line in zip(urls, lines, strict=True)] == [True] * 4
    assert all("user" in line for line in lines)


def test_a_full_disk_is_reported_and_the_store_goes_on_when_there_is_space(tmp_path: Path) -> None:
    def much(connection: Connection) -> None:
        connection.execute(COUNTERS.insert(), [{"name": f"{number:0>40}", "value": number} for number in range(2000)])

    async def body(store: Store) -> list[Any]:
        await store.create(METADATA)
        await store.run(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 8").scalar())
        with pytest.raises(StoreError) as caught:
            await store.run(much)
        await store.run(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 10000").scalar())
        await store.run(begin_at_zero)
        count = await store.run(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM counters").scalar())
        return [caught.value.kind, count]

    assert with_store(f"sqlite:///{tmp_path}/x.db", body) == ["full", 1]


def test_a_lock_is_waited_for_up_to_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 0.3)
    path = tmp_path / "x.db"
    run(path, begin_at_zero)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    async def body(store: Store) -> list[Any]:
        await store.create(METADATA)
        other.execute("BEGIN IMMEDIATE")
        before = time.monotonic()
        with pytest.raises(StoreError) as caught:
            await store.run(raise_by_one)
        assert 0.2 < time.monotonic() - before < 3
        threading.Timer(0.1, other.execute, ["ROLLBACK"]).start()
        await store.run(raise_by_one)
        return [caught.value.kind, str(path) in str(caught.value), await store.run(read)]

    try:
        assert with_store(f"sqlite:///{path}", body) == ["busy", True, 1]
    finally:
        other.close()


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_file_of_the_old_journal_that_is_locked_at_the_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    path = tmp_path / "x.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE t (x)")
    other.execute(lock)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(store_module, "PATIENCE_SECONDS", 0.2)
            assert refused(path).kind == "busy"
        threading.Timer(0.2, other.execute, ["ROLLBACK"]).start()
        run(path, begin_at_zero)
    finally:
        other.close()
    assert run(path, read) == 0


# --- the schema


def test_a_table_with_other_columns_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    run(path, lambda connection: None)
    later = MetaData()
    Table("counters", later, Column("name", String, primary_key=True), Column("amount", Integer))
    Table("another", later, Column("id", Integer, primary_key=True))

    async def body(store: Store) -> str:
        with pytest.raises(StoreError) as caught:
            await store.create(later)
        assert caught.value.kind == "schema"
        tables = await store.run(
            lambda connection: connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars()
        )
        assert "another" not in list(tables)
        return str(caught.value)

    text = with_store(f"sqlite:///{path}", body)
    for part in (str(path), "'counters' lacks column 'amount'", "'counters' has an unknown column 'value'"):
        assert part in text


# --- PostgreSQL

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class Cluster:
    """A private server on a loopback port, in a folder of its own; run as `postgres` by root, who may not run one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = "postgres" if os.geteuid() == 0 else None
        self.bin = BINARIES[-1].parent
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def command(self, *arguments: str) -> None:
        command = [str(self.bin / arguments[0]), *arguments[1:]]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PGPASSWORD": "hunter2"}
        done = subprocess.run(
            command, user=self.user, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout.decode()

    def start(self) -> None:
        options = f"-F -c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder} -c max_connections=20"
        # A log file, since the server would inherit the pipe and keep it open.
        log = str(self.folder / "log")
        self.command("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self.command("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def sql(self, statement: str) -> None:
        self.command("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "pool", "-d", "postgres", "-c", statement)

    def processes(self) -> list[int]:
        """The server's process and its children."""
        first = int((self.folder / "data/postmaster.pid").read_text().splitlines()[0])
        return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]

    def url(self, database: str = "postgres", password: str = "hunter2") -> str:
        return f"postgresql+psycopg://pool:{password}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("psycopg", reason="no driver: pip install 'psycopg[binary]', or sync with --group real")
    if not BINARIES:
        pytest.skip("no PostgreSQL server under /usr/lib/postgresql: apt-get install postgresql")
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("root may not run PostgreSQL and there is no user postgres: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    cluster = Cluster(folder)
    try:
        (folder / "password").write_text("hunter2\n")
        if cluster.user:
            for path in (folder, folder / "password"):
                shutil.chown(path, cluster.user)
        data, password = str(folder / "data"), str(folder / "password")
        cluster.command("initdb", "-D", data, "-U", "pool", "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync")
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def database(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """The URL of a new, empty database."""
    name = f"d{abs(hash(request.node.name))}"
    cluster.sql(f"CREATE DATABASE {name}")
    return cluster.url(name)


@pytest.mark.real
def test_postgres_commits_rolls_back_and_works_on_several_threads(database: str) -> None:
    gate = threading.Barrier(3)

    def together(connection: Connection) -> int:
        gate.wait(20)
        return connection.exec_driver_sql("SELECT 1").scalar_one()

    def fail(connection: Connection) -> None:
        raise_by_one(connection)
        raise LookupError("mine")

    async def body(store: Store) -> list[Any]:
        await store.create(METADATA)
        await store.run(begin_at_zero)
        await store.run(raise_by_one)
        with pytest.raises(LookupError, match="mine"):
            await store.run(fail)
        ones = await asyncio.gather(*[store.run(together) for _ in range(3)])
        connections = await store.run(
            lambda connection: connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            ).scalar()
        )
        return [await store.run(read), ones, connections, store.status()["dialect"]]

    value, ones, connections, dialect = with_store(database, body)
    assert (value, ones, dialect) == (1, [1, 1, 1], "postgresql")
    assert 3 <= connections <= 4


@pytest.mark.real
def test_postgres_loses_no_update_between_processes_and_makes_tables_once(database: str) -> None:
    run(database, lambda connection: connection.exec_driver_sql("DROP TABLE counters"))
    workers(3, 0, database)
    run(database, begin_at_zero)
    workers(3, 50, database)
    assert run(database, read) == 150


@pytest.mark.real
@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
def test_postgres_keeps_text_whatever_the_encoding_of_the_server(cluster: Cluster, encoding: str) -> None:
    name = f"text_{encoding.lower()}"
    cluster.sql(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")

    def keep(connection: Connection) -> str:
        connection.execute(COUNTERS.insert().values(name="Größe – 大", value=1))
        return connection.execute(select(COUNTERS.c.name)).scalar_one()

    assert run(cluster.url(name), keep) == "Größe – 大"


@pytest.mark.real
def test_postgres_tables_that_another_process_is_making_are_waited_for(database: str) -> None:
    made, go_on = threading.Event(), threading.Event()

    def make(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('routerpool.schema'))")
        METADATA.create_all(connection)
        made.set()
        assert go_on.wait(20)

    def waiting(connection: Connection) -> int:
        return connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one()

    async def body(store: Store) -> int | None:
        first = asyncio.ensure_future(store.run(make))
        await until(made)
        second = asyncio.ensure_future(store.create(METADATA))
        async with asyncio.timeout(10):
            while not await store.run(waiting):
                await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.gather(first, second)
        return await store.run(read)

    assert with_store(database, body) is None


@pytest.mark.real
def test_postgres_is_reached_by_the_plain_url(database: str) -> None:
    for scheme in ("postgresql", "postgres"):
        run(database.replace("postgresql+psycopg", scheme), lambda connection: None)


@pytest.mark.real
def test_postgres_refusals_say_the_cure_and_not_the_password(cluster: Cluster, database: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = cluster.url().replace(str(cluster.port), str(free.getsockname()[1]))
        for url, word in (
            (nobody, "see that it runs"),
            (cluster.url(password="hunter22"), "authentication failed"),
            (cluster.url("missing"), "does not exist"),
        ):
            error = refused(url)
            assert error.kind in {"unreachable", "access"}
            assert word in str(error)
            assert "hunter2" not in "".join(traceback.format_exception(error))


@pytest.mark.real
def test_postgres_locks_are_waited_for_up_to_the_bound(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 1.0)
    run(database, begin_at_zero)
    locked, go_on = threading.Event(), threading.Event()

    def lock(connection: Connection) -> None:
        connection.exec_driver_sql("LOCK TABLE counters IN ACCESS EXCLUSIVE MODE")
        locked.set()
        assert go_on.wait(20)

    async def body(store: Store) -> str:
        holder = asyncio.ensure_future(store.run(lock))
        await until(locked)
        with pytest.raises(StoreError) as caught:
            await store.run(raise_by_one)
        go_on.set()
        await holder
        await store.run(raise_by_one)
        return caught.value.kind

    assert with_store(database, body) == "busy"


@pytest.mark.real
def test_a_postgres_that_was_restarted_is_used_again(cluster: Cluster, database: str) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def interrupted(connection: Connection) -> None:
        raise_by_one(connection)
        begun.set()
        assert go_on.wait(60)
        raise_by_one(connection)

    async def body(store: Store) -> list[Any]:
        await store.create(METADATA)
        await store.run(begin_at_zero)
        call = asyncio.ensure_future(store.run(interrupted))
        await until(begun)
        await asyncio.to_thread(cluster.stop)
        go_on.set()
        kinds = []
        for broken in (call, store.run(read)):
            with pytest.raises(StoreError) as caught:
                await broken
            kinds.append(caught.value.kind)
        await asyncio.to_thread(cluster.start)
        return [*kinds, await store.run(read), store.status()["error"]]

    assert with_store(database, body) == ["unreachable", "unreachable", 0, None]


@pytest.mark.real
def test_closing_leaves_a_postgres_that_hangs(cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(store_module, "PATIENCE_SECONDS", 2.0)

    async def body() -> StoreError:
        store = Store(database)
        await store.create(METADATA)
        processes = cluster.processes()
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            call = asyncio.ensure_future(store.run(read))
            await asyncio.sleep(0)
            await store.close()
            with pytest.raises(StoreError) as caught:
                await call
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)
        return caught.value

    assert asyncio.run(asyncio.wait_for(body(), 20)).kind == "unreachable"


@pytest.mark.real
def test_a_postgres_table_with_other_columns_is_refused(database: str) -> None:
    later = MetaData()
    Table("counters", later, Column("name", String, primary_key=True))
    run(database, lambda connection: None)

    async def body(store: Store) -> str:
        with pytest.raises(StoreError, match="'counters' has an unknown column 'value'") as caught:
            await store.create(later)
        return caught.value.kind

    assert with_store(database, body) == "schema"
