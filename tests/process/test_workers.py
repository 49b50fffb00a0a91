"""Several workers behind one socket, generations that are swapped whole, and an end that cuts nobody off."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from attrs import define, field

from routerpool import ConfigError, Router, create_app
from routerpool.process.workers import check_shareable

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
BOTH = {"1 of 2", "2 of 2"}
SANDBOX = "sandbox: {models: [sandbox-fast], latency_seconds: 0, word_seconds: 0.02}"


@define
class Process:
    """A `routerpool serve` process and what it has said so far."""

    process: subprocess.Popen[str]
    url: str
    headers: dict[str, str] = field(factory=dict)
    said: list[str] = field(factory=list)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.load(response)

    def send(self, method: str, path: str, body: Any) -> Any:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def hear(self, pattern: str) -> str:
        """Wait until it says this."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError("it ended without saying so:\n" + "".join(self.said))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=30)
        self.said.append(rest)
        return self.process.returncode

    def statuses(self, *, until: set[str]) -> dict[str, Any]:
        """What each worker says of itself. Who accepts a connection is the system's choice: bursts reach everybody."""
        told: dict[str, Any] = {}
        deadline = time.monotonic() + 20
        with ThreadPoolExecutor(16) as pool:
            while set(told) != until and time.monotonic() < deadline:
                told |= {status["worker"]: status for status in pool.map(self.get, ["/v1/router/status"] * 64)}
        return told


@contextmanager
def running(
    folder: Path,
    config: str,
    *options: str,
    env: Mapping[str, str] | None = None,
    python: tuple[str, ...] = ("-m", "routerpool"),
) -> Iterator[Process]:
    (folder / "routerpool.yaml").write_text(config)
    command = [sys.executable, *python, "serve", "--port", "0", *options]
    env = {"HOME": str(folder), "PATH": os.environ["PATH"], **(env or {})}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = Process(subprocess.Popen(command, cwd=folder, env=env, **pipes), "")
    try:
        process.url = re.search(r"http://\S+", process.hear("http://"))[0].rstrip("/")  # type: ignore[index]
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()


def store(folder: Path) -> str:
    return f"store: sqlite:///{folder}/pool.db\n"


def test_a_change_made_in_one_worker_holds_in_all_of_them(tmp_path: Path) -> None:
    with running(tmp_path, store(tmp_path) + f"plugins:\n  ranked: {{}}\n  {SANDBOX}\n", "--workers", "2") as server:
        assert set(server.statuses(until=BOTH)) == BOTH
        told = server.send("PUT", "/v1/router/plugins/ranked", {"enabled": False})
        assert (told["enabled"], told["lasts"]) == (False, "until the next reload or restart")
        deadline = time.monotonic() + 1  # seen by all within a second, says the contract
        states = server.statuses(until=BOTH)
        while any(status["plugins"][0]["enabled"] for status in states.values()) and time.monotonic() < deadline:
            states = server.statuses(until=BOTH)
        assert set(states) == BOTH
        assert [status["plugins"][0]["enabled"] for status in states.values()] == [False, False]
        assert server.end() == 0


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path, f"plugins:\n  {SANDBOX}\n", "--workers", "2") as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert "is replaced" in server.hear("worker 1 ended with -9")
        assert set(server.statuses(until=BOTH)) == BOTH
        assert server.end() == 0


def _workers(decisions: list[Any]) -> set[str]:
    """Which workers have made these."""
    return {told["report_token"].partition("-")[2] for told in decisions}


IMPATIENT = """
from routerpool.__main__ import main
from routerpool.process import standalone, workers
standalone.BEAT_SECONDS, workers.SILENT_SECONDS = 0.05, 2.0
main()
"""


def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path, f"plugins:\n  {SANDBOX}\n", "--workers", "2", python=("-c", IMPATIENT)) as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGSTOP)
        assert server.hear("worker 1 has told nothing for 2 s and is killed")
        assert "is replaced" in server.hear("worker 1 ended with -9")
        assert set(server.statuses(until=BOTH)) == BOTH
        assert server.end() == 0


def test_a_report_reaches_the_worker_that_has_decided_whoever_accepts_it(tmp_path: Path) -> None:
    key = {"KEY": "rp-of-the-workers-test"}
    config = f"server: {{host_keys: ['${{KEY}}']}}\nplugins:\n  {SANDBOX}\n"
    with running(tmp_path, config, "--workers", "2", env=key) as server:
        server.headers = {"Authorization": f"Bearer {key['KEY']}"}
        decisions: list[Any] = []
        with ThreadPoolExecutor(16) as pool:
            deadline = time.monotonic() + 20  # who accepts a connection is the system's choice
            while _workers(decisions) != {"1", "2"} and time.monotonic() < deadline:
                decisions += pool.map(lambda _: server.send("POST", "/v1/router/decide", BODY), range(64))
            used = {"prompt_tokens": 3, "completion_tokens": 4}
            reports = [{"report_token": told["report_token"], "usage": used} for told in decisions]
            told = [*pool.map(lambda report: server.send("POST", "/v1/router/report", report), reports)]
        assert _workers(decisions) == {"1", "2"}
        assert [answer["id"] for answer in told] == [decision["id"] for decision in decisions]
        assert all(answer["over"] for answer in told)
        nowhere = ["0" * 48, *(f"{'0' * 48}-{number}" for number in (1, 2, 3)), "-", "-1", "1-²", f"1-{'9' * 5000}"]
        for gone in (decisions[0]["report_token"], *nowhere):
            with pytest.raises(urllib.error.HTTPError) as refused:
                server.send("POST", "/v1/router/report", {"report_token": gone, "usage": used})
            assert (refused.value.code, json.load(refused.value)["error"]["code"]) == (404, "not_found")
        server.headers = {}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            server.send("POST", "/v1/router/report", reports[0])
        assert server.end() == 0
    assert not [*Path(tempfile.gettempdir()).glob(f"routerpool-{server.process.pid}-*")]


@pytest.mark.parametrize("workers", [1, 2])
def test_streams_end_whole_after_sigterm(tmp_path: Path, workers: int) -> None:
    async def streamed(url: str, begun: asyncio.Queue[None]) -> bytes:
        asked = {"url": f"{url}/v1/chat/completions", "json": {**BODY, "stream": True}}
        async with aiohttp.ClientSession() as session, session.post(**asked) as response:
            data = await response.content.readany()
            begun.put_nowait(None)
            return data + await response.read()

    async def all_of_them(server: Process) -> list[bytes]:
        begun: asyncio.Queue[None] = asyncio.Queue()
        tasks = [asyncio.ensure_future(streamed(server.url, begun)) for _ in range(50)]
        for _ in tasks:
            await begun.get()
        server.process.send_signal(signal.SIGTERM)
        return await asyncio.gather(*tasks)

    with running(tmp_path, f"plugins:\n  {SANDBOX}\n", "--workers", str(workers)) as server:
        answers = asyncio.run(all_of_them(server))
        assert all(answer.endswith(b"data: [DONE]\n\n") for answer in answers)
        assert server.process.wait(timeout=10) == 0


def test_sighup_reads_the_configuration_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path, f"plugins:\n  {SANDBOX}\n", "--workers", "2") as server:
        config = tmp_path / "routerpool.yaml"
        config.write_text("plugins:\n  sandbox: {modles: [x]}\n")
        server.process.send_signal(signal.SIGHUP)
        server.hear("the new configuration is not taken")
        assert "did you mean 'models'" in server.hear("modles")
        config.write_text("plugins:\n  sandbox: {models: [other]}\n")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(2):
            server.hear("generation 2")
        states = server.statuses(until=BOTH)
        assert [status["generation"] for status in states.values()] == [2, 2]
        assert server.get("/v1/models")["data"][-1]["id"] == "sandbox/other"
        assert server.end() == 0


def test_what_is_to_persist_outlives_a_reload_and_what_is_not_does_not(tmp_path: Path) -> None:
    plugins = f"plugins:\n  ranked: {{}}\n  free_first: {{}}\n  {SANDBOX}\n"
    with running(tmp_path, store(tmp_path) + plugins) as server:
        server.send("PUT", "/v1/router/plugins/ranked", {"enabled": False, "persist": True})
        server.send("PUT", "/v1/router/plugins/free_first", {"enabled": False})
        assert server.send("POST", "/v1/router/reload", {})["generation"] == 2
        states = {plugin["name"]: plugin["enabled"] for plugin in server.get("/v1/router/plugins")["plugins"]}
        assert states == {"ranked": False, "free_first": True, "sandbox": True}
        assert server.end() == 0


def test_a_second_server_on_the_port_is_an_error(tmp_path: Path) -> None:
    with running(tmp_path, f"plugins:\n  {SANDBOX}\n", "--workers", "2") as server:
        port = server.url.rpartition(":")[2]
        again = [sys.executable, "-m", "routerpool", "serve", "--port", port, "--workers", "2"]
        done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode != 0
        assert f"port {port} of 127.0.0.1 is taken" in done.stderr
        assert server.end(signal.SIGINT) == 0


def test_a_plugin_that_cannot_be_shared_refuses_several_workers() -> None:
    from routerpool.testing import make_router

    class Engine:
        single_process = "it loads the model into memory"

    with pytest.raises(ConfigError, match="it loads the model into memory; use one worker"):
        check_shareable(make_router({"plugins": {"engine": {}}}, plugins={"engine": Engine}))


def test_reloads_under_load_tear_no_request(tmp_path: Path) -> None:
    """Each request sees one generation, whole: the profile, the model and the answer belong together."""
    config = tmp_path / "routerpool.yaml"

    def write(generation: int) -> None:
        name = f"m{generation % 2}"
        text = f"store: sqlite://\nplugins:\n  sandbox: {{models: [{name}], latency_seconds: 0, word_seconds: 0}}\n"
        config.with_suffix(".new").write_text(text + f"aliases: {{same: sandbox/{name}}}\n")
        config.with_suffix(".new").replace(config)

    async def under_load() -> tuple[int, int]:
        reloads, answers, stop = 0, 0, asyncio.Event()
        async with TestServer(create_app(config)) as server, aiohttp.ClientSession() as session:

            async def load() -> None:
                nonlocal answers
                while not stop.is_set():
                    url = server.make_url("/v1/chat/completions")
                    async with session.post(
                        url, json={**BODY, "model": "same", "stream": bool(answers % 2)}
                    ) as response:
                        text = await response.text()
                        assert response.status == 200, text
                        assert f'"model":"{response.headers["X-Router-Model"]}"' in text
                        answers += 1

            tasks = [asyncio.ensure_future(load()) for _ in range(4)]
            for generation in range(2, 42):
                write(generation)
                async with session.post(server.make_url("/v1/router/reload"), json={}) as response:
                    assert (await response.json())["generation"] == generation
                    reloads += 1
            stop.set()
            await asyncio.gather(*tasks)
        return reloads, answers

    write(1)
    reloads, answers = asyncio.run(under_load())
    assert reloads == 40
    assert answers > 40


def test_a_router_made_in_memory_has_nothing_to_read_again() -> None:
    async def reloaded() -> tuple[int, str]:
        router = Router.of({"store": "sqlite://", "plugins": {"sandbox": {}}})
        async with TestServer(create_app(router)) as server, aiohttp.ClientSession() as session:
            response = await session.post(server.make_url("/v1/router/reload"), json={})
            return response.status, (await response.json())["error"]["message"]

    status, message = asyncio.run(reloaded())
    assert status == 400
    assert "made of a value in memory" in message
