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

from routerpool.config import from_mapping, parse
from routerpool.testing.process import served

from .shelf import install

ROOT = Path(__file__).resolve().parent.parent
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


def test_a_provider_written_from_the_readme_alone_is_installed_and_passes_its_contract(tmp_path: Path) -> None:
    source, site = tmp_path / "routerpool-lab", tmp_path / "site"
    for text in [text for language in ("toml", "yaml", "python") for text in blocks(language)]:
        if named := FILE.match(text):
            path = source / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    assert len([path for path in source.rglob("*") if path.is_file()]) == 4
    install(source, site)
    run = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--rootdir", str(source), "tests"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(run, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 80
