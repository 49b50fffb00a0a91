"""`routerpool serve --model FILE`: a model out of a file answers, without a configuration and beside one."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from routerpool.testing.process import served

from .gguf_model import write_tiny_model

CURE = "needs the real engines: uv run --all-packages --group real pytest"
real = pytest.mark.skipif(find_spec("xllamacpp") is None or find_spec("gguf") is None, reason=CURE)


def asked(url: str, path: str, body: Any = None) -> tuple[dict[str, str], Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return dict(response.headers), json.load(response)


@real
@pytest.mark.real
@pytest.mark.parametrize("config", [None, "plugins:\n  sandbox: {}\n", "plugins:\n  llamacpp: {context: 2048}\n"])
def test_a_file_is_served(config: str | None, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    model = write_tiny_model(tmp_path / "models" / "tiny.gguf", context=2048)
    if config is not None:
        (tmp_path / "routerpool.yaml").write_text(config)
    with served("--model", "models/tiny.gguf", folder=tmp_path) as url:
        chat = {"model": model.stem, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
        headers, answer = asked(url, "/v1/chat/completions", chat)
        assert (headers["X-Router-Provider"], answer["object"]) == ("llamacpp", "chat.completion")
        names = [entry["id"] for entry in asked(url, "/v1/models")[1]["data"]]
        assert "llamacpp/tiny" in names
        assert not any(name.startswith("smollm/") for name in names)


@pytest.mark.parametrize(
    ("content", "config", "words"),
    [
        (b"<html>", None, "it is no GGUF file; download it again"),
        (b"GGUF", None, "it is cut off"),
        (
            b"GGUF" + b"\3\0\0\0" + bytes(16),
            "plugins: {llamacpp: {base_url: 'http://127.0.0.1:9/v1'}}",
            "has a model already",
        ),
    ],
    ids=["a page", "cut", "another one configured"],
)
def test_what_cannot_be_served_is_said_with_its_cure(
    content: bytes, config: str | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(content)
    if config is not None:
        (tmp_path / "routerpool.yaml").write_text(config)
    command = [sys.executable, "-m", "routerpool", "serve", "--port", "0", "--model", str(file)]
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OLLAMA_HOST": "127.0.0.1:9"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert words in done.stderr
