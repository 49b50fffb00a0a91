"""What serving needs before it listens is what doctor and `config check` look at."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from routerpool.cli import cli
from routerpool.cli.preflight import preflight
from routerpool.testing import make_router
from routerpool.types import Level, Report

SANDBOX = {"plugins": {"sandbox": {}}}


def found(tree: dict[str, Any], **options: bool) -> list[Report]:
    async def whole() -> list[Report]:
        router = make_router({**SANDBOX, **tree})
        try:
            return await preflight(router, **options)
        finally:
            await router.store.close()

    return [report for report in asyncio.run(whole()) if report.level is not Level.OK]


def test_a_machine_that_is_ready_has_nothing_against_it(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    assert found({"store": f"sqlite:///{tmp_path}/store.db", "server": {"port": 0}}) == []


def test_an_open_server_without_keys_is_refused_as_serve_does() -> None:
    [report] = found({"server": {"host": "0.0.0.0", "port": 0}})
    assert (report.level, report.subject) == (Level.ERROR, "server.host")
    assert "server.api_keys" in report.cure


def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    tls = {"cert": str(tmp_path / "no.pem"), "key": str(tmp_path / "no.key")}
    [report] = found({"server": {"port": 0, "tls": tls}})
    assert (report.level, report.subject) == (Level.ERROR, "server.tls")


def test_a_plugin_that_several_workers_cannot_share_is_told() -> None:
    class Alone:
        single_process = "it counts in memory"

        from routerpool import hookimpl

        @hookimpl
        def status(self) -> dict[str, Any]:
            return {}

    async def whole() -> list[Report]:
        tree = {"plugins": {"sandbox": {}, "alone": {}}, "server": {"workers": 2, "port": 0}}
        router = make_router(tree, plugins={"alone": Alone})
        return await preflight(router)

    assert [report.subject for report in asyncio.run(whole()) if report.level is Level.ERROR] == ["server.workers"]


def test_a_port_that_is_taken_is_a_warning_and_a_server_of_ours_may_have_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tree = {"server": {"port": taken.getsockname()[1]}}
        [report] = found(tree)
        assert (report.level, report.subject) == (Level.WARNING, "server.port")
        assert "--port" in report.cure
        assert found(tree, listening=True) == []


def test_a_store_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_text("not a database, but long enough to be looked at as one" * 20)
    [report] = found({"store": f"sqlite:///{tmp_path}/store.db", "server": {"port": 0}})
    assert (report.level, report.subject) == (Level.ERROR, "store")


def test_a_store_that_can_never_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [report] = found({"store": f"sqlite:///{tmp_path}/file/store.db", "server": {"port": 0}})
    assert "no folder" in report.text


def test_looking_leaves_no_table_and_makes_no_database(tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "store.db").touch()
    found({"store": f"sqlite:///{tmp_path}/store.db"})
    found({"store": f"sqlite:///{tmp_path}/other.db"})
    with sqlite3.connect(tmp_path / "store.db") as database:
        assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    database.close()
    assert not (tmp_path / "other.db").exists()


# The commands


def run(*args: str, text: str, tmp_path: Path) -> Any:
    file = tmp_path / "routerpool.yaml"
    file.write_text(text)
    return CliRunner().invoke(cli, ["--config", str(file), *args])


def test_config_check_fails_where_serve_would(tmp_path: Path) -> None:
    result = run("config", "check", text="server: {host: 0.0.0.0}\nplugins: {sandbox: {}}\n", tmp_path=tmp_path)
    assert result.exit_code == 1
    assert "server.host" in result.output
    assert "server.api_keys" in result.output


def test_doctor_fails_where_serve_would(tmp_path: Path) -> None:
    text = "server: {tls: {cert: no.pem, key: no.key}}\nplugins: {sandbox: {}}\n"
    result = run("doctor", text=text, tmp_path=tmp_path)
    assert result.exit_code == 1
    assert str(tmp_path / "no.pem") in result.output


def test_doctor_names_keys_that_are_set_and_providers_that_are_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "k")
    result = run("doctor", text="plugins: {sandbox: {}}\n", tmp_path=tmp_path)
    assert "GROQ_API_KEY is set, groq is off" in result.output
    assert "add `groq: {}`" in result.output


def test_doctor_says_nothing_of_a_provider_that_is_on_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "k")
    result = run("doctor", text="plugins: {mine: {use: groq}}\n", tmp_path=tmp_path)
    assert "groq is off" not in result.output


def test_a_key_in_the_file_beside_the_configuration_counts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GROQ_API_KEY=k\n")
    result = run("doctor", text="plugins: {sandbox: {}}\n", tmp_path=tmp_path)
    assert "groq is off" in result.output
