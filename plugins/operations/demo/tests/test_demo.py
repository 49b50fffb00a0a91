"""The tour: real requests over HTTP, and the command that is there whatever a configuration names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from routerpool_demo import Demo, tour

from routerpool.cli import cli
from routerpool.testing import PluginContract

COMMAND = [sys.executable, "-m", "routerpool", "demo"]


class TestContract(PluginContract):
    plugin = Demo


@pytest.fixture(autouse=True)
def _a_clean_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ROUTERPOOL_CONFIG", raising=False)


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args))


def test_the_tour_tells_people_what_was_decided() -> None:
    text = subprocess.run([*COMMAND, "--yes"], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert text.stderr == ""
    assert "X-Router-Tried: brook/brook-large:rate_limited" in text.stdout
    assert "–  brook/brook-large  cooldown:" in text.stdout


def test_the_tour_sends_real_requests_and_shows_what_was_decided() -> None:
    told = json.loads(subprocess.run([*COMMAND, "--json"], check=True, capture_output=True, text=True).stdout)
    plain, fallback, private, why, stream, bench = (step["requests"] for step in told["steps"])
    assert plain[0]["status"] == 200
    assert plain[0]["headers"]["X-Router-Attempts"] == "1"
    assert fallback[0]["headers"]["X-Router-Tried"] == "brook/brook-large:rate_limited"
    assert fallback[0]["headers"]["X-Router-Provider"] == "cedar"
    assert private[0]["headers"]["X-Router-Provider"] == "home"
    assert (private[1]["status"], private[1]["answer"]["error"]["code"]) == (403, "privacy_blocked")
    assert {veto["code"] for veto in why[0]["answer"]["vetoes"]} == {"cooldown"}
    assert {veto["code"] for veto in why[1]["answer"]["vetoes"]} == {"privacy"}
    assert why[0]["answer"]["ranked"][0]["strategies"]["free_first"]["terms"]
    assert stream[0]["answer"]["events"] > 5
    assert all("X-Router-Tried" not in request["headers"] for request in bench[:3])
    cooldowns = [entry for plugin in bench[3]["answer"]["plugins"] for entry in plugin["status"].get("cooldowns", ())]
    assert [entry["key"] for entry in cooldowns] == ["brook/brook-large"]


@pytest.mark.parametrize("text", [None, "plugins: {}\n", "plugins: {breaker: {}}\n", "plugins: [\n"])
def test_it_is_there_whatever_a_file_names(text: str | None) -> None:
    if text is not None:
        Path("routerpool.yaml").write_text(text)
    assert "Take a tour" in run("demo", "--help").output
    assert "Take a tour" in run("--help").output


def test_the_tour_names_the_plugins_it_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "installed", lambda: {"sandbox": None})
    result = run("demo", "--yes")
    assert result.exit_code == 1
    assert "free_first, breaker" in result.stderr


def test_making_the_command_imports_no_http() -> None:
    code = "import sys, routerpool_demo.tour; print('aiohttp' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout == "False\n"
