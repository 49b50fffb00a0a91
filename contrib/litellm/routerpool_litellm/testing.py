"""Runs a real LiteLLM proxy as a process of its own, for tests that meet it as its users do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

__all__ = ["NOT_INSTALLED", "CannotStart", "Proxy", "proxied"]

NOT_INSTALLED = "needs LiteLLM's proxy: uv run --all-packages --group real pytest"
"""Why a test that meets LiteLLM may be skipped, and the only reason for that."""

KEY = "sk-of-the-proxy-under-test-0000000000000000000000"
"""The proxy's own key; LiteLLM does not start without one."""

START_SECONDS = 90.0
STOP_SECONDS = 20.0

SILENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks GitHub for prices
    "LITELLM_MODE": "PRODUCTION",  # else it reads a .env of the working directory
    "LITELLM_TELEMETRY": "False",
    "LITELLM_MASTER_KEY": KEY,
}


@frozen
class Proxy:
    """A running proxy: where it is, its key, and where its output goes."""

    url: str
    key: str
    log: Path
    pid: int


class CannotStart(Exception):
    """LiteLLM is not installed. One that is there and does not start, for whatever it lacks, is a failure."""


@contextmanager
def proxied(folder: Path, config: Mapping[str, Any], env: Mapping[str, str] | None = None) -> Iterator[Proxy]:
    """A proxy started in `folder` over this `config.yaml`, beside whatever `routerpool.yaml` lies there.

    It is ended by SIGTERM. What it printed is in `proxy.log`, and in the error when it does not start; where there is
    no LiteLLM at all, that is CannotStart.
    """
    program = Path(sys.executable).with_name("litellm")
    if not program.is_file():
        raise CannotStart(NOT_INSTALLED)
    folder.mkdir(parents=True, exist_ok=True)
    path, log = folder / "config.yaml", folder / "proxy.log"
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    port = _free_port()
    command = [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**_environment(folder), **SILENT, **(env or {})}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(url, process, log)
            yield Proxy(url, KEY, log, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": str(folder)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health/liveliness", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    said = log.read_text(errors="replace")
    if missing := re.search(r"ModuleNotFoundError: .*", said):
        raise AssertionError(f"LiteLLM's proxy lacks a package: {missing[0]}; add it to the group `real`")
    raise AssertionError(f"the proxy did not start:\n{said[-8000:]}")
