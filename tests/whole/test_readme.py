"""The README and the pages are true: tours run, examples load, tutorials pass, figures are those that were measured."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from routerpool.authoring.package import KINDS, Package, write
from routerpool.config.reading import from_mapping
from routerpool.document import parse
from routerpool.hooks.loading import installed, make
from routerpool.testing import Upstream
from routerpool.testing.process import served

from ..support.pages import DOCS, EXAMPLES, FILE, README, ROOT, blocks, files
from ..support.shelf import install

AUTHORING = DOCS / "authoring.md"


def curls() -> list[str]:
    joined = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("curl ")]


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(README.read_text().splitlines()) <= 300, "what is more has its place in contrib/docs"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour wants curl: apt-get install curl")
def test_the_curl_tour_works_with_no_configuration_at_all(tmp_path: Path) -> None:
    assert len(curls()) >= 8
    with served(folder=tmp_path) as url:
        for line in curls():
            command = [*shlex.split(line.replace("http://127.0.0.1:4545", url)), "--fail", "--max-time", "60"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            if '"stream": true' in line:
                assert done.stdout.endswith("data: [DONE]\n\n")
            elif "chat/completions" in line:
                assert json.loads(done.stdout)["choices"][0]["message"]["content"]
            else:
                assert json.loads(done.stdout)


YAML = [
    pytest.param(text, id=f"{page.stem}-{text.split(':')[0]}") for page in EXAMPLES for text in blocks("yaml", page)
]


@pytest.mark.parametrize("text", [text for text in YAML if not FILE.match(str(text.values[0]))])
def test_a_configuration_example_has_no_problem(text: str) -> None:
    told = {name: f"told-{name}" for name in re.findall(r"\$\{(\w+)\}", text)}
    config, problems = from_mapping(parse(text).tree, env={"HOME": "/nowhere", **told})
    assert config.plugins
    known = installed()
    make([entry for entry in config.plugins if entry.use in known], problems, known)  # the tutorial's own are not
    assert list(problems) == []


def test_every_python_example_is_python() -> None:
    examples = blocks("python")
    assert len(examples) >= 12
    for text in examples:
        compile(text, "page.md", "exec", flags=1 << 13)  # PyCF_ALLOW_TOP_LEVEL_AWAIT: a host's code awaits


@pytest.mark.parametrize("text", [text for page in EXAMPLES for text in blocks("yml", page)])
def test_what_belongs_to_others_is_yaml_at_least(text: str) -> None:
    assert parse(text).tree


def test_the_strategy_and_the_provider_of_the_readme_work() -> None:
    from routerpool.testing import make_router

    made: dict[str, type] = {}
    for text in blocks("python", README):
        if "class " in text:
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


# The tutorial


def test_the_files_of_a_provider_that_the_tutorial_shows_are_those_that_are_written() -> None:
    written = Package("lab", "provider").files()
    shown = {name: text for name, text in files(AUTHORING).items() if name in written and "lab" in text}
    assert set(shown) == {"routerpool_lab/lab.yaml", "routerpool_lab/__init__.py", "tests/forms.yaml"}
    for name, text in shown.items():
        assert re.sub(r"\d{4}-\d\d-\d\d", "today", text) == re.sub(r"\d{4}-\d\d-\d\d", "today", written[name])


def test_every_kind_of_plugin_is_in_the_tutorials_table() -> None:
    assert [kind for kind in KINDS if f"\n| `{kind}` |" not in AUTHORING.read_text()] == []


@pytest.mark.parametrize(("name", "kind"), [("shortest", "strategy"), ("terse", "mutator")])
def test_a_plugin_of_the_tutorial_passes_its_own_ci(name: str, kind: str, tmp_path: Path) -> None:
    folder = write(Package(name, kind), tmp_path)
    for path, text in files(AUTHORING).items():
        if name in path:
            assert (folder / path).is_file(), "it takes the place of a sample"
            (folder / path).write_text(text)
    install(folder, tmp_path / "site")

    def python(*command: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    if find_spec("ruff"):
        python("ruff", "check", "--no-cache", ".")
        python("ruff", "format", "--no-cache", "--diff", ".")
    passed = re.search(r"(\d+) passed", python("pytest", "-q", "-p", "no:cacheprovider", "-n0"))
    assert passed is not None
    assert int(passed[1]) > 10
    assert "nothing is missing" in python("routerpool", "plugins", "doctor", name)


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
    begin, serve, ask = blocks("bash", AUTHORING)
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

    (tmp_path / "routerpool.yaml").write_text(files(AUTHORING)["routerpool.yaml"])
    assert serve.splitlines() == ["export LAB_API_KEY=...", "routerpool serve"]
    program = (str(tmp_path / "venv" / "bin" / "python"), "-m", "routerpool")
    keys = {"LAB_API_KEY": "...", "LAB_BASE_URL": upstream.base_url("lab"), "PYTHONPATH": ""}
    with served(folder=tmp_path, env=keys, program=program) as url:
        assert "http://127.0.0.1:4545" in ask
        answer = json.loads(bash(ask.replace("http://127.0.0.1:4545", url)))
    assert answer["choices"][0]["message"]["content"] == "Hello from lab: one two three."
    assert upstream.seen("lab").last.json["model"] == "lab-large"
