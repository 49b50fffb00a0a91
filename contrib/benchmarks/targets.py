"""What is measured: each proxy as a process of its own, with its CPU time and memory read from the kernel."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import yaml
from attrs import Factory, define, evolve
from load import request_bytes

from routerpool.hooks.detection import default_plugins
from routerpool.hooks.loading import installed

__all__ = ["PEERS", "NotHere", "Target", "bare_proxy", "before", "hosts", "routerpool", "served", "upstream"]

HERE = Path(__file__).parent
CANDIDATES = 20
START_SECONDS = 60.0


class NotHere(Exception):
    """A proxy that cannot be started here; the text says why and what to do."""


@define
class Target:
    """One process that answers chat completions."""

    name: str
    command: Sequence[str]
    port: int
    env: Mapping[str, str] = Factory(dict)
    headers: str = ""
    key: str = "none"
    path: str = "/v1/chat/completions"
    process: subprocess.Popen[bytes] | None = None
    said: IO[bytes] = Factory(tempfile.TemporaryFile)

    def request(
        self, size: int = 2000, *, script: str | None = None, tools: bool = False, accents: bool = False
    ) -> bytes:
        """A request for this one."""
        host = f"127.0.0.1:{self.port}"
        return request_bytes(
            size,
            host=host,
            script=script,
            tools=tools,
            accents=accents,
            key=self.key,
            headers=self.headers,
            path=self.path,
        )

    def start(self) -> float:
        """Start it, and say how many seconds went by until its first answer."""
        env = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/"), **self.env}
        began = time.perf_counter()
        self.process = subprocess.Popen(self.command, env=env, stdout=subprocess.DEVNULL, stderr=self.said)
        request = self.request()
        while time.perf_counter() - began < START_SECONDS:
            if self.process.poll() is not None:
                raise NotHere(f"{self.name} ended at once: {self._last_words()}")
            if _answers(self.port, request):
                return time.perf_counter() - began
            time.sleep(0.005)
        self.stop()
        raise NotHere(f"{self.name} gave no answer within {START_SECONDS:g} s: {self._last_words()}")

    def _last_words(self) -> str:
        self.said.seek(0)
        return self.said.read().decode("utf-8", "replace").strip()[-600:] or "it said nothing"

    def stop(self) -> None:
        """End it, and whatever of its children it leaves behind."""
        if self.process is None:
            return
        pids = self.pids()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def again(self) -> Target:
        """The same on another port, not started yet."""
        port = free_port()
        command = [part.replace(str(self.port), str(port)) for part in self.command]
        return evolve(self, port=port, command=command, process=None, said=tempfile.TemporaryFile())

    def pids(self) -> list[int]:
        """The process and its descendants."""
        found, waiting = [], [self.process.pid] if self.process else []
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += map(int, task.read_text().split())
        return found

    def cpu(self) -> float:
        """Seconds of CPU that it has used so far, in user and kernel mode, threads that have ended among them."""
        # The kernel's clock of another process, as clock_getcpuclockid(3) makes it; it counts nanoseconds.
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self.pids())

    def rss(self) -> int:
        """Bytes of memory that it holds, pages shared with others counted in full."""
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in self.pids())

    def peak(self) -> int:
        """The most bytes of memory that it has held since `forget_peak`, each process at its own worst."""
        return sum(_kibibytes(Path(f"/proc/{pid}/status"), "VmHWM:") for pid in self.pids())

    def forget_peak(self) -> None:
        """Let `peak` count from what it holds now."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # see proc(5): 5 resets the peak

    def pss(self) -> int:
        """Bytes of memory that it holds, pages shared with others counted in part."""
        return sum(_kibibytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in self.pids())


def _kibibytes(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this kernel does not tell {name[:-1]} in {file}")


def _answers(port: int, request: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request)
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _script(name: str, file: str, *arguments: str) -> Target:
    port = free_port()
    return Target(name, [sys.executable, str(HERE / file), "--port", str(port), *arguments], port)


def upstream() -> Target:
    """The provider behind all of them."""
    return _script("direct", "upstream.py")


def bare_proxy(behind: Target, *, pass_through: bool = False) -> Target:
    """The bare aiohttp proxy."""
    address = ["--upstream", f"http://127.0.0.1:{behind.port}/v1"]
    return _script("pass" if pass_through else "bare", "bare.py", *address, *["--pass-through"] * pass_through)


def routerpool(behind: Target, folder: Path) -> Target:
    """Routerpool with its default plugins, as far as they are installed, and 20 candidates from 20 providers."""
    address = f"http://127.0.0.1:{behind.port}/v1"
    labs = {f"lab{number}": {"base_url": address, "models": [f"model-{number}"]} for number in range(CANDIDATES)}
    limits = {"max_concurrent": 1000, "max_streams": 1000, "max_waiting": 1000}
    return served(folder, labs, limits=limits)


def hosts(folder: Path) -> Sequence[Target]:
    """The same routerpool in an application of somebody's, guiding a handler of its, and deciding for a host.

    Nobody reports on these decisions, so what is measured contains letting go of each.
    """
    config = folder / "bench.yaml"
    mounted = _script("mounted", "host.py", "--config", str(config), "mounted")
    guided = _script("guided", "host.py", "--config", str(config), "guided")
    inner = folder / "decide"
    inner.mkdir(exist_ok=True)
    limits = {"max_concurrent": 1000, "max_streams": 100_000, "max_waiting": 1000, "report_seconds": 0.05}
    told = {**yaml.safe_load(config.read_text()), "limits": limits, "store": f"sqlite:///{inner}/routerpool.db"}
    (inner / "bench.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
    port = free_port()
    command = [sys.executable, "-m", "routerpool", "serve", "--config", str(inner / "bench.yaml"), "--port", str(port)]
    deciding = Target("decide", command, port, env={"HOME": str(inner)}, path="/v1/router/decide")
    return [evolve(mounted, path="/llm/v1/chat/completions"), guided, deciding]


def served(folder: Path, providers: Mapping[str, Mapping[str, object]], **config: object) -> Target:
    """Routerpool as `routerpool serve` runs it, with the default plugins that are installed.

    The providers are OpenAI-compatible ones; `config` is the rest of the file, which is `bench.yaml` in the folder.
    """
    plugins: dict[str, object] = {name: {} for name in default_plugins(installed())}
    plugins |= {name: {"use": "openai_compatible", **options} for name, options in providers.items()}
    path = folder / "bench.yaml"
    told = {"store": f"sqlite:///{folder}/routerpool.db", **config, "plugins": plugins}
    path.write_text(yaml.safe_dump(told, sort_keys=False))
    return _serving("routerpool", Path(sys.executable), path)


def before(ours: Target, worktree: Path, folder: Path) -> Target:
    """Routerpool as it is in another worktree, in that one's own environment, over the same configuration as ours."""
    python = worktree / ".venv" / "bin" / "python"
    if not python.exists():
        raise NotHere(f"{worktree} has no environment; `uv sync --all-packages` there makes one")
    inner = folder / "before"
    inner.mkdir(exist_ok=True)
    config = yaml.safe_load(Path(ours.command[ours.command.index("--config") + 1]).read_text())
    path = inner / "bench.yaml"
    path.write_text(yaml.safe_dump({**config, "store": f"sqlite:///{inner}/routerpool.db"}, sort_keys=False))
    return _serving("before", python, path)


def _serving(name: str, python: Path, config: Path) -> Target:
    port = free_port()
    command = [str(python), "-P", "-m", "routerpool", "serve", "--config", str(config), "--port", str(port)]
    return Target(name, command, port, env={"HOME": str(config.parent)})


def litellm(behind: Target, folder: Path) -> Target:
    """LiteLLM's proxy with one deployment, from the environment or from the PATH."""
    beside = Path(sys.executable).with_name("litellm")
    command = str(beside) if importlib.util.find_spec("litellm") and beside.exists() else shutil.which("litellm")
    if command is None:
        raise NotHere(
            "litellm is not installed: `uv venv FOLDER && uv pip install --python FOLDER/bin/python 'litellm[proxy]'`, "
            "then run this with FOLDER/bin on the PATH"
        )
    parameters = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{behind.port}/v1", "api_key": "none"}
    path = folder / "litellm.yaml"
    path.write_text(yaml.safe_dump({"model_list": [{"model_name": "auto", "litellm_params": parameters}]}))
    port = free_port()
    arguments = ["--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    key = f"sk-{secrets.token_hex(32)}"  # it does not start without one
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": key}
    return Target("litellm", [command, *arguments], port, env=env, key=key)


def portkey(behind: Target, _: Path) -> Target:
    """Portkey's gateway from the folder that PORTKEY_GATEWAY names; it needs no file of ours."""
    node, place = shutil.which("node"), os.environ.get("PORTKEY_GATEWAY")
    server = Path(place or ".") / "build" / "start-server.js"
    if node is None or place is None or not server.exists():
        raise NotHere(
            "Portkey's gateway is not here: it needs node; `npm install --prefix FOLDER @portkey-ai/gateway`, "
            "then run this with PORTKEY_GATEWAY=FOLDER/node_modules/@portkey-ai/gateway"
        )
    port = free_port()
    headers = f"x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:{behind.port}/v1\r\n"
    env = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    return Target("portkey", [node, str(server), f"--port={port}", "--headless"], port, env=env, headers=headers)


PEERS = {"litellm": litellm, "portkey": portkey}
"""The proxies that `--with` adds."""
