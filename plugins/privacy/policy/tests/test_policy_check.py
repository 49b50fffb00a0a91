"""`POST /v1/router/policy/check` and `routerpool scan`: what all scanners find, told without showing it."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from routerpool_policy import Policy

from routerpool import Match, OpenAIProvider, TextScanner
from routerpool.cli import cli
from routerpool.hooks import loading as hooks
from routerpool.server import Server
from routerpool.testing import make_router

MARKER = "falcon-7f3a"


class Birds(TextScanner):
    def find(self, text: str) -> Iterable[Match]:
        return [Match("falcon", *found.span()) for found in re.finditer("falcon-[0-9a-f]+", text)]


class Broken(TextScanner):
    def find(self, text: str) -> Iterable[Match]:
        if "break" in text:
            raise RuntimeError(text)
        return ()


def asked(body: Any, headers: dict[str, str] | None = None, **sections: Any) -> tuple[int, Any, str]:
    """The status, the parsed answer and its text; nobody is asked but the policy."""
    where = {"use": "p", "base_url": "http://127.0.0.1:9/v1", "models": ["m1"]}
    plugins = {"birds": {}, "policy": {}, "far": where, "home": {**where, "local": True}} | sections
    known = {"birds": Birds, "broken": Broken, "policy": Policy, "p": OpenAIProvider}

    async def ask() -> tuple[int, Any, str]:
        app = web.Application()
        Server(make_router({"plugins": plugins}, plugins=known)).attach(app, "", root=True)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/router/policy/check"
            async with aiohttp.ClientSession() as client, client.post(url, json=body, headers=headers) as response:
                text = await response.text()
                return response.status, json.loads(text), text
        finally:
            await runner.cleanup()

    return asyncio.run(ask())


# Over HTTP


def test_a_check_tells_class_findings_and_who_may_see_it() -> None:
    status, told, text = asked({"messages": [{"role": "user", "content": f"one\ntwo {MARKER}"}]})

    assert status == 200
    assert told["privacy"] == "secret"
    assert told["blocked"] is False
    [finding] = told["findings"]
    assert (finding["rule"], finding["part"]) == ("falcon", "messages[0].content")
    assert (finding["line"], finding["column"]) == (2, 5)
    assert told["may_see"] == ["home/m1"]
    [refused] = told["must_not"]
    assert refused["candidate"] == "far/m1"
    assert "remote_allows" in refused["reason"]
    assert MARKER not in text


def test_a_text_can_be_checked_by_itself() -> None:
    _, told, _ = asked({"text": f"{MARKER}\n  {MARKER}"})
    assert [(finding["line"], finding["column"]) for finding in told["findings"]] == [(1, 1), (2, 3)]

    _, clean, _ = asked({"text": "nothing"})
    assert (clean["privacy"], clean["findings"], clean["must_not"]) == ("public", [], [])
    assert clean["may_see"] == ["far/m1", "home/m1"]


def test_a_check_takes_the_hints_of_a_request() -> None:
    assert asked({"text": "nothing"}, {"X-Router-Privacy": "private"})[1]["privacy"] == "private"
    assert asked({"text": "nothing", "router": {"privacy": "sensitive"}})[1]["privacy"] == "sensitive"


def test_what_a_scanner_blocks_is_told_as_blocked() -> None:
    status, told, text = asked({"text": f"a {MARKER}"}, birds={"action": "block"})

    assert status == 200
    assert told["blocked"] is True
    assert [finding["rule"] for finding in told["findings"]] == ["falcon"]
    assert told["findings"][0]["column"] == 3
    assert told["may_see"] == []
    assert MARKER not in text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": 3}, 400, "invalid_request"),
        ({"text": "x", "temperature": 1}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
        ([], 400, "invalid_json"),
        ({"text": "x", "model": "nobody"}, 404, "model_not_found"),
        ({"text": "break " + MARKER}, 503, "plugin_required"),
    ],
)
def test_a_check_that_cannot_be_made_is_an_error_and_no_clean_bill(body: Any, status: int, code: str) -> None:
    found, told, text = asked(body, broken={})

    assert (found, told["error"]["code"]) == (status, code)
    assert MARKER not in text


# On the command line


CONFIG = """
plugins:
  policy: {{}}
  {scanner}: {options}
"""


@pytest.fixture(autouse=True)
def _a_clean_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("ROUTERPOOL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def birds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds its plugins by their entry points; here, two more are installed than are."""

    class Offer(hooks.Installed):
        def load(self) -> type:
            return {"birds": Birds, "broken": Broken}[self.name]

    known = dict(hooks.installed())
    for name in ("birds", "broken"):
        known[name] = Offer(name, EntryPoint(name, f"tests:{name}", "routerpool"), "a test", "0")
    monkeypatch.setattr(hooks, "installed", lambda: known)


def scanned(*args: str, scanner: str = "birds", options: str = "{}", **more: Any) -> Result:
    Path("routerpool.yaml").write_text(CONFIG.format(scanner=scanner, options=options))
    result = CliRunner().invoke(cli, ["scan", *args], **more)
    assert "Traceback" not in result.output
    assert MARKER not in result.output
    return result


@pytest.mark.usefixtures("birds")
def test_scan_tells_file_line_column_and_rule() -> None:
    Path("a.txt").write_text(f"one\ntwo {MARKER}\n")
    Path("b.txt").write_text("nothing\n")

    result = scanned("a.txt", "b.txt")

    assert result.exit_code == 1
    assert result.stdout.startswith("a.txt:2:5: falcon: ")
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.usefixtures("birds")
def test_clean_files_are_exit_code_0() -> None:
    Path("b.txt").write_text("nothing\n")
    result = scanned("b.txt")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.usefixtures("birds")
@pytest.mark.parametrize("action", ["local", "block", "redact", "placeholder"])
def test_scan_finds_whatever_the_scanner_would_do_about_it(action: str) -> None:
    assert scanned("-", options=f"{{action: {action}}}", input=f"x {MARKER}").stdout.startswith("-:1:3: falcon: ")


@pytest.mark.usefixtures("birds")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_scan_reads_files_of_any_unicode_encoding(encoding: str) -> None:
    Path("a.txt").write_bytes(f"ä {MARKER}".encode(encoding))
    assert scanned("a.txt").stdout.startswith("a.txt:1:3: falcon: ")


@pytest.mark.usefixtures("birds")
def test_scan_reads_what_is_no_text_at_all() -> None:
    Path("a.bin").write_bytes(bytes(range(256)) + MARKER.encode() + b"\xff\xfe")
    assert scanned("a.bin").exit_code == 1


@pytest.mark.usefixtures("birds")
def test_what_cannot_be_read_is_exit_code_2_and_hides_no_finding() -> None:
    Path("a.txt").write_text(MARKER)
    result = scanned("missing.txt", "a.txt", ".")
    assert result.exit_code == 2
    assert "missing.txt: No such file" in result.stderr
    assert "a.txt:1:1: falcon" in result.stdout


@pytest.mark.usefixtures("birds")
def test_a_scanner_that_fails_is_exit_code_2_and_no_clean_bill() -> None:
    Path("a.txt").write_text("break")
    result = scanned("a.txt", scanner="broken")
    assert result.exit_code == 2
    assert "a.txt" in result.stderr


@pytest.mark.parametrize("named", ["policy: {}, sandbox: {}", "sandbox: {}"])
def test_nothing_that_scans_is_exit_code_2(named: str) -> None:
    Path("a.txt").write_text(MARKER)
    Path("routerpool.yaml").write_text(f"plugins: {{{named}}}")
    result = CliRunner().invoke(cli, ["scan", "a.txt"])
    assert result.exit_code == 2
    assert "put `secrets: {}` under `plugins:`" in result.stderr


@pytest.mark.parametrize(
    "text", ["plugins: {policy: {nonsense: 1}}", "plugins: {secrets: {nonsense: 1}}", "plugins: ["]
)
def test_a_configuration_with_mistakes_is_exit_code_2_and_names_them(text: str) -> None:
    Path("a.txt").write_text(MARKER)
    Path("routerpool.yaml").write_text(text)
    result = CliRunner().invoke(cli, ["scan", "a.txt"])
    assert result.exit_code == 2
    assert "routerpool.yaml:" in result.stderr


@pytest.mark.usefixtures("birds")
def test_scan_is_there_whatever_a_file_names() -> None:
    Path("a.txt").write_text(MARKER)
    Path("routerpool.yaml").write_text("plugins: {birds: {}}")
    result = CliRunner().invoke(cli, ["scan", "a.txt"])
    assert (result.exit_code, result.stdout.partition(": ")[0]) == (1, "a.txt:1:1")
    assert "Look for secrets" in CliRunner().invoke(cli, ["--help"]).output


def test_scan_holds_files_against_the_rules_of_the_policy() -> None:
    Path("a.txt").write_text("all about Project  Falcon")
    Path("routerpool.yaml").write_text("plugins: {policy: {rules: [{words: [project falcon], privacy: private}]}}")

    result = CliRunner().invoke(cli, ["scan", "a.txt"])

    assert (result.exit_code, result.stdout) == (1, "a.txt:1:1: policy.rule-1: [words]\n")


@pytest.mark.usefixtures("birds")
def test_scan_asks_no_provider_and_opens_no_store(tmp_path: Path) -> None:
    Path("a.txt").write_text(MARKER)
    more = f"  far: {{use: openai_compatible, base_url: 'http://127.0.0.1:9/v1'}}\nstore: sqlite:///{tmp_path}/r.db\n"
    Path("routerpool.yaml").write_text(CONFIG.format(scanner="birds", options="{}") + more)

    assert CliRunner().invoke(cli, ["scan", "a.txt"]).exit_code == 1
    assert not (tmp_path / "r.db").exists()


@pytest.mark.usefixtures("birds")
def test_scan_prints_json() -> None:
    Path("a.txt").write_text(f"x\n{MARKER}")
    result = scanned("a.txt", "none.txt", "--format", "json")
    assert scanned("a.txt", "none.txt", "--json").output == result.output

    told = json.loads(result.stdout)
    assert told["files"] == 1
    assert told["errors"] == [{"file": "none.txt", "error": "No such file or directory"}]
    [finding] = told["findings"]
    assert (finding["file"], finding["line"], finding["column"], finding["rule"]) == ("a.txt", 2, 1, "falcon")


@pytest.mark.usefixtures("birds")
def test_scan_prints_sarif(tmp_path: Path) -> None:
    Path("a b.txt").write_text(f"x {MARKER}")
    result = scanned("a b.txt", str(tmp_path / "a b.txt"), "--format", "sarif")

    told = json.loads(result.stdout)
    assert told["version"] == "2.1.0"
    [run] = told["runs"]
    assert run["columnKind"] == "unicodeCodePoints"
    assert run["tool"]["driver"]["rules"] == [{"id": "falcon"}]
    assert run["invocations"][0]["executionSuccessful"] is True
    first, second = run["results"]
    assert (first["ruleId"], first["ruleIndex"]) == ("falcon", 0)
    place = first["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "a%20b.txt"}, "region": {"startLine": 1, "startColumn": 3}}
    assert second["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///")
