"""The README is true: its tour runs, its examples load, its figures are those that were measured."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from routerpool.authoring.package import Package
from routerpool.config.reading import from_mapping, parse
from routerpool.testing import Upstream
from routerpool.testing.process import served

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


FILE = re.compile(r"# ([\w/]+\.(?:toml|yaml|py))\n")
"""How an example says that it is a file of its own."""


def curls() -> list[str]:
    joined = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("curl ")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour wants curl: apt-get install curl")
def test_the_curl_tour_works_with_no_configuration_at_all(tmp_path: Path) -> None:
    assert len(curls()) >= 7
    with served(folder=tmp_path) as url:
        for line in curls():
            command = [*shlex.split(line.replace("http://127.0.0.1:4545", url)), "--fail", "--max-time", "20"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            if '"stream": true' in line:
                assert done.stdout.endswith("data: [DONE]\n\n")
            elif "chat/completions" in line:
                assert json.loads(done.stdout)["choices"][0]["message"]["content"]
            else:
                assert json.loads(done.stdout)


@pytest.mark.parametrize("text", [text for text in blocks("yaml") if not FILE.match(text)])
def test_the_configuration_example_has_no_problem(text: str) -> None:
    config, problems = from_mapping(parse(text).tree, env={"HOME": "/nowhere"})
    assert list(problems) == []
    assert config.plugins


def test_every_python_example_is_python() -> None:
    examples = blocks("python")
    assert len(examples) >= 5
    for text in examples:
        compile(text, "README.md", "exec", flags=1 << 13)  # PyCF_ALLOW_TOP_LEVEL_AWAIT: a host's code awaits


def test_the_strategy_and_the_provider_of_the_readme_work() -> None:
    from routerpool.testing import make_router

    made: dict[str, type] = {}
    for text in blocks("python"):
        if "class " in text and not FILE.match(text):
            space: dict[str, type] = {}
            exec(text, space)  # the README's own code
            made |= {name.lower(): value for name, value in space.items() if name in ("Lab", "Shortest")}
    tree = {"plugins": {"lab": {}, "shortest": {}}, "profiles": {"auto": {"weights": {"shortest": 1}}}}
    router = make_router(tree, plugins=made, env={"LAB_KEY": "k"})
    told = asyncio.run(router.explain({"messages": [{"role": "user", "content": "Hello"}]}))
    assert [row["candidate"] for row in told["ranked"]] == ["lab/lab-large"]
    assert told["ranked"][0]["strategies"]["shortest"]["terms"] == {"window": 128_000}


def test_the_figures_are_those_that_were_measured() -> None:
    script = ROOT / "contrib" / "benchmarks" / "quote.py"
    result = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_files_that_the_readme_shows_are_those_that_are_written() -> None:
    files = Package("lab", "provider").files()
    shown = {named[1]: text for text in blocks("yaml") + blocks("python") if (named := FILE.match(text))}
    assert set(shown) == {"routerpool.yaml", "routerpool_lab/lab.yaml", "routerpool_lab/__init__.py"}
    for name in shown.keys() - {"routerpool.yaml"}:
        text = shown[name].partition("\n")[2]
        assert re.sub(r"\d{4}-\d\d-\d\d", "today", text) == re.sub(r"\d{4}-\d\d-\d\d", "today", files[name])


def wheel(folder: Path) -> Path:
    """The core's wheel, built of a copy: setuptools leaves things behind."""
    copy = folder / "source"
    shutil.copytree(ROOT / "routerpool", copy / "routerpool", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, copy)
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), str(copy)], check=True)
    [made] = folder.glob("*.whl")
    return made


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("uv") and shutil.which("curl")), reason="wants uv and curl")
def test_a_stranger_follows_the_page_on_publishing_to_the_letter(tmp_path: Path, upstream: Upstream) -> None:
    begin, serve, ask = blocks("bash")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "pip").write_text('#!/bin/sh\nexec uv pip "$@" --quiet\n')  # the same, from the cache
    (tools / "pip").chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    env["PATH"] = f"{tools}:{env['PATH']}"

    def bash(script: str) -> str:
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert begin.count("pip install routerpool\n") == begin.count("python3 -m venv venv") == 1
    begin = begin.replace("python3 -m venv venv", f"uv venv --quiet --python {sys.executable} venv")
    said = bash(begin.replace("pip install routerpool\n", f"pip install {wheel(tmp_path / 'dist')}\n"))
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) > 80
    assert "lab of routerpool-lab 0.1.0: nothing is missing" in said
    ours = [line for line in bash(". venv/bin/activate && uv pip freeze").splitlines() if "routerpool" in line]
    assert [line.partition("file://")[0] for line in sorted(ours)] == ["-e ", "routerpool @ "], (
        "the core and nothing else"
    )

    [config] = [text for text in blocks("yaml") if text.startswith("# routerpool.yaml\n")]
    (tmp_path / "routerpool.yaml").write_text(config)
    assert serve.splitlines() == ["export LAB_API_KEY=...", "routerpool serve"]
    program = (str(tmp_path / "venv" / "bin" / "python"), "-m", "routerpool")
    keys = {"LAB_API_KEY": "...", "LAB_BASE_URL": upstream.base_url("lab"), "PYTHONPATH": ""}
    with served(folder=tmp_path, env=keys, program=program) as url:
        assert "http://127.0.0.1:4545" in ask
        answer = json.loads(bash(ask.replace("http://127.0.0.1:4545", url)))
    assert answer["choices"][0]["message"]["content"] == "Hello from lab: one two three."
    assert upstream.seen("lab").last.json["model"] == "lab-large"
