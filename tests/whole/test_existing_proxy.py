"""The example of a proxy that somebody has: before, and after three lines, as a process and in a runner."""

from __future__ import annotations

import asyncio
import difflib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from routerpool.testing.upstream import Upstream

from ..support.house import CHAT, Reply, running
from ..support.shelf import Shelf

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "contrib" / "examples" / "existing_proxy"
PAGE = (ROOT / "contrib" / "docs" / "hosts.md").read_text()

TALLY = """
from routerpool import hookimpl
import json, os

class Plugin:
    @hookimpl
    def record_usage(self, record):
        with open(os.environ["TALLY"], "a") as file:
            file.write(json.dumps([record.outcome, record.provider, record.usage.output]) + "\\n")
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_three_lines_make_the_difference_and_both_stand_on_the_page_for_hosts() -> None:
    before, after = ((EXAMPLE / name).read_text() for name in ("proxy.py", "routed.py"))
    diff = [*difflib.unified_diff(before.splitlines(), after.splitlines(), "proxy.py", "routed.py", n=1, lineterm="")]

    assert len([line for line in diff[2:] if line.startswith("+") and line[1:].strip()]) == 3
    assert f"```python\n{before}```" in PAGE
    assert "```diff\n" + "\n".join(diff) + "\n```" in PAGE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example's files, a plugin of somebody's beside them, and the file that it counts in."""
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, tmp_path)
    Shelf(tmp_path).put("tally", TALLY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TALLY", str(tmp_path / "tally"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(folder: Path, up: Upstream) -> None:
    far = {"use": "openai_compatible", "models": ["m1"]}
    plugins = {
        "secrets": {},
        "policy": {},
        "tally": {},
        "a": {**far, "base_url": up.base_url("a")},
        "b": {**far, "base_url": up.base_url("b")},
        "home": {**far, "base_url": up.base_url("home"), "local": True},
    }
    profiles = {"auto": {"models": ["a/m1", "b/m1", "home/m1"]}}
    tree = {"store": "sqlite://", "plugins": plugins, "profiles": profiles}
    (folder / "routerpool.yaml").write_text(json.dumps(tree))


@asynccontextmanager
async def by_run_app(folder: Path, script: str, up: Upstream) -> AsyncIterator[int]:
    """The script as its own process, as its `web.run_app` runs it; it must end well on SIGTERM."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "TALLY")},
        "PYTHONPATH": str(folder),
        "PORT": "0",
        "UPSTREAM_URL": f"{up.base_url('a')}/chat/completions",
        "HOME": str(folder),
    }
    process = subprocess.Popen(
        [sys.executable, "-u", script], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = await asyncio.to_thread(process.stdout.readline)
        yield int(line.split("127.0.0.1:")[1].split()[0])
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == 0


@asynccontextmanager
async def by_app_runner(folder: Path, script: str, up: Upstream) -> AsyncIterator[int]:
    """The script's application in a runner of our own."""
    spec = importlib.util.spec_from_file_location(f"existing_{Path(script).stem}", folder / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.URL = f"{up.base_url('a')}/chat/completions"
    app: web.Application = module.app
    async with running(app) as port:
        yield port


RUNNERS = pytest.mark.parametrize("runner", [by_run_app, by_app_runner])


async def chat(port: int, **changes: Any) -> Reply:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with aiohttp.ClientSession() as client, client.post(url, json={**CHAT, **changes}) as response:
        return Reply(response.status, response.headers, await response.read())


@RUNNERS
async def test_before_it_is_a_plain_reverse_proxy(runner: Any, folder: Path) -> None:
    async with Upstream() as up, runner(folder, "proxy.py", up) as port:
        for stream in (False, True):
            assert (await chat(port, model="m1", stream=stream)).body == up.expected("a", "m1", stream)
        up.always("a", "http:429")
        assert (await chat(port, model="m1")).status == 429


@RUNNERS
async def test_after_three_lines_it_routes_falls_back_keeps_secrets_and_counts(runner: Any, folder: Path) -> None:
    secret = [{"role": "user", "content": "deploy with ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"}]
    async with Upstream() as up:
        configure(folder, up)
        async with runner(folder, "routed.py", up) as port:
            for stream in (False, True):
                assert (await chat(port, stream=stream)).body == up.expected("a", "m1", stream)
                up.always("a", "http:429")
                assert (await chat(port, stream=stream)).body == up.expected("b", "m1", stream)
                up.always("a", "ok")
                assert (await chat(port, stream=stream, messages=secret)).body == up.expected("home", "m1", stream)
            assert (up.seen("a").chat, up.seen("b").chat, up.seen("home").chat) == (4, 2, 2)
            assert b"ghp_" not in b"".join(call.body for name in "ab" for call in up.seen(name).requests)
    told = [json.loads(line) for line in (folder / "tally").read_text().splitlines()]
    assert [row[:2] for row in told] == [["answered", name] for name in ("a", "b", "home")] * 2
    assert all(output > 0 for _, _, output in told)


def test_the_examples_own_configuration_has_no_mistake() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "routerpool", "config", "check"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
