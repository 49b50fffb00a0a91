"""Runs `routerpool serve` as a process of its own, for tests that meet the program as a newcomer does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(
    *options: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = (sys.executable, "-m", "routerpool"),
) -> Iterator[str]:
    """The URL of a server started in `folder` with an environment that holds no keys; it is stopped by SIGTERM.

    `program` is the routerpool of another environment, where it is not this one's that is meant.
    """
    command = [*program, "serve", "--port", "0", *options]
    environment = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "OLLAMA_HOST": "127.0.0.1:9",  # nobody: a developer's own Ollama must not answer our tests
        **(env or {}),
    }
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line
            found = re.search(r"http://127\.0\.0\.1:\d+\S*", line)
            if found:
                yield found[0].rstrip("/")
                break
        else:
            raise AssertionError(f"the server did not start:\n{said}")
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0, said + rest
