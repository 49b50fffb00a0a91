"""What `routerpool doctor` makes of every kind of answer to its question for models."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from routerpool import Level, OpenAIProvider, Report
from routerpool.cli.doctor import examine
from routerpool.testing import make_router
from routerpool.testing.process import served

from ..support.replies import ANYTHING, replies

REFUSED = "lab refuses the key ({})", "mend LAB_KEY", Level.ERROR
NO_LIST = "lab answers, but lists no models ({})", "", Level.OK
BROKEN = "lab answers {}", "try again later", Level.WARNING
AWAY = "lab cannot be reached: lab: {}", "look at the network, or take it out", Level.WARNING

ANSWERS: dict[str, tuple[dict[str, Any], tuple[str, str, Level], str]] = {
    **{code: ({"status": int(code)}, REFUSED, code) for code in ("401", "403")},
    **{code: ({"status": int(code)}, NO_LIST, code) for code in ("302", "400", "404", "405", "429")},
    **{code: ({"status": int(code)}, BROKEN, code) for code in ("500", "502", "503")},
    "an error inside a 200": ({"payload": {"error": {"message": "sk-1"}}}, AWAY, "its answer cannot be read"),
    "a page": ({"body": "<p>Sign in"}, AWAY, "its answer cannot be read"),
    "null": ({"body": "null"}, AWAY, "its answer cannot be read"),
    "no answer": ({"exception": TimeoutError()}, AWAY, "no answer in time"),
    "an end": ({"exception": aiohttp.ServerDisconnectedError()}, AWAY, "it closed the connection without an answer"),
}


class Lab(OpenAIProvider):
    api_key_env = "LAB_KEY"


def examined(*, network: bool, base_url: str = "https://lab.example/v1", **reply: Any) -> list[Report]:
    """What the doctor says of Lab where each of its GETs is answered by this."""
    config = {"plugins": {"lab": {"base_url": base_url, "models": ["m1"]}}}
    router = make_router(config, plugins={"lab": Lab}, env={"LAB_KEY": "sk-1"})
    with replies() as said:
        said.get(ANYTHING, repeat=True, **reply)
        reports = asyncio.run(examine(router, network=network))
        assert len(said.requests) == (network or "127.0.0.1" in base_url)
    assert "sk-1" not in repr(reports)
    return reports


@pytest.mark.parametrize("label", ANSWERS)
def test_each_answer_is_told_with_its_cure(label: str) -> None:
    reply, (text, cure, level), detail = ANSWERS[label]
    [report] = [r for r in examined(network=True, **reply) if detail in r.text]
    assert (report.text, report.cure, report.level) == (text.format(detail), cure, level)
    assert report.subject == "lab"


def test_a_list_is_told_with_the_time_it_took() -> None:
    [report] = [r for r in examined(network=True, payload={"data": [{"id": "m2"}]}) if "answers" in r.text]
    assert report.level is Level.OK
    assert report.text.startswith("lab answers in ")
    assert report.text.endswith(" ms, 1 models")


def test_without_network_only_loopback_is_asked() -> None:
    here = examined(network=False, base_url="http://127.0.0.1:9/v1", status=503)
    assert [r.text for r in here if "503" in r.text] == ["lab answers 503"]
    assert not [r for r in examined(network=False, status=503) if "answers" in r.text or "reached" in r.text]


def test_what_is_required_and_switched_off_in_the_running_server_is_a_warning(tmp_path: Path) -> None:
    key = "rp-admin-5b0c"
    (tmp_path / "routerpool.yaml").write_text(
        "store: 'sqlite://'\n"
        "server: {admin_keys: ['${ADMIN}']}\n"
        "plugins: {sandbox: {models: [m1]}, ranked: {required: true}}\n"
    )
    warning = "the required plugin 'ranked' is switched off: requests go on without it"
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "ADMIN": key, "ROUTERPOOL_API_KEY": key}

    def doctor(url: str) -> str:
        command = [sys.executable, "-m", "routerpool", "doctor", "--url", url]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout

    with served(folder=tmp_path, env={"ADMIN": key}) as url:
        assert warning not in doctor(url)
        asked = urllib.request.Request(
            f"{url}/v1/router/plugins/ranked",
            data=b'{"enabled": false}',
            headers={"X-Api-Key": key, "Content-Type": "application/json"},
            method="PUT",
        )
        urllib.request.urlopen(asked).close()
        assert warning in doctor(url)
    assert warning not in doctor(url), "where no server runs, nothing is switched off"


def looked_at(section: dict[str, Any], env: dict[str, str]) -> list[Report]:
    """What the doctor says, without asking beyond this machine, of Lab with this section."""
    router = make_router({"plugins": {"lab": {"models": ["m1"], **section}}}, plugins={"lab": Lab}, env=env)
    with replies() as said:
        said.get(ANYTHING, repeat=True, payload={"data": []})
        return asyncio.run(examine(router))


def test_providers_that_all_lack_their_keys_are_an_error() -> None:
    [report] = [r for r in looked_at({"base_url": "https://lab.example/v1"}, {}) if r.subject == "catalog"]
    assert report.level is Level.ERROR
    assert "no candidate can answer: all 1 are of providers that are idle or off" in report.text
    assert "set a provider's key" in report.cure
    keyed = looked_at({"base_url": "https://lab.example/v1"}, {"LAB_KEY": "sk-1"})
    assert [r for r in keyed if r.subject == "catalog"] == []


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"base_url": "http://127.0.0.1:9/v1"}, True),
        ({"base_url": "http://127.0.0.1:9/v1", "local": True}, False),
        ({"base_url": "http://127.0.0.1:9/v1", "local": False}, False),
        ({"base_url": "https://lab.example/v1"}, False),
    ],
)
def test_a_server_on_this_machine_that_counts_as_remote_is_told_unless_the_user_has_said_so(
    section: dict[str, Any], told: bool
) -> None:
    reports = [r for r in looked_at(section, {"LAB_KEY": "sk-1"}) if "counts as remote" in r.text]
    assert bool(reports) is told
    assert all("local: true" in r.cure for r in reports)
