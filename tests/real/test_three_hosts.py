"""Plugins in a folder outside the repository, one routerpool.yaml, three hosts: alone, in aiohttp, in LiteLLM."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from attrs import frozen

from routerpool.testing.fixtures import serving
from routerpool.testing.process import served
from routerpool.testing.upstream import Upstream

pytestmark = pytest.mark.real

PLUGINS = '''
"""The plugins of a company: who answers first, what must not leave, what was used."""

import json
from pathlib import Path

from attrs import field, frozen

from routerpool import Match, ScannerConfig, Score, TextScanner, hookimpl


class Favourite:
    """Likes one provider best."""

    @frozen(kw_only=True)
    class Config:
        provider: str = field(metadata={"help": "whom it likes"})

    def __init__(self, config):
        self.provider = config.provider

    @hookimpl
    def score(self, candidates):
        return [Score(c, float(c.provider == self.provider), {"liked": float(c.provider == self.provider)})
                for c in candidates]


class Falcon(TextScanner):
    """Keeps the project's name in the house."""

    Config = ScannerConfig

    def find(self, text):
        at = text.find("falcon")
        return [Match("project_name", at, at + 6)] if at >= 0 else []


class Tally:
    """Writes down what was used."""

    @frozen(kw_only=True)
    class Config:
        path: Path = field(metadata={"help": "where"})

    def __init__(self, config):
        self.path = config.path

    @hookimpl
    def record_usage(self, record):
        with self.path.open("a") as file:
            told = [record.outcome, record.provider, record.stream, record.usage.output, record.privacy.name]
            file.write(json.dumps(told) + "\\n")
'''

ENTRIES = "[routerpool]\n" + "".join(
    f"{name} = house_rules:{name.title()}\n" for name in ("favourite", "falcon", "tally")
)

PROXY = """
from aiohttp import web
import routerpool

app = web.Application()
routerpool.setup(app, "routerpool.yaml", prefix="/llm")
web.run_app(app, host="127.0.0.1", port=0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the hosts run: the plugins are installed in `site`, the configuration beside it."""
    site = tmp_path / "site"
    info = site / "house_rules-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "house_rules.py").write_text(PLUGINS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: house-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return tmp_path


def configure(folder: Path, up: Upstream) -> None:
    far = {"use": "openai_compatible", "models": ["m1"], "local": False}
    plugins = {
        "falcon": {},
        "favourite": {"provider": "second"},
        "tally": {"path": str(folder / "tally")},
        **{name: {**far, "base_url": up.base_url(name)} for name in ("first", "second")},
        "home": {**far, "base_url": up.base_url("home"), "local": True},
    }
    tree = {"store": "sqlite://", "plugins": plugins, "profiles": {"auto": {"weights": {"favourite": 1}}}}
    (folder / "routerpool.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


@frozen
class Place:
    """Where a host answers, and the key that it wants."""

    url: str
    key: str = "none"


@contextmanager
def alone(folder: Path) -> Iterator[Place]:
    with served(folder=folder, env={"PYTHONPATH": str(folder / "site")}) as url:
        yield Place(f"{url}/v1")


@contextmanager
def in_aiohttp(folder: Path) -> Iterator[Place]:
    (folder / "host.py").write_text(PROXY)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(folder / "site")}
    process = subprocess.Popen(
        [sys.executable, "-u", "host.py"], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        yield Place(f"{found[0]}/llm/v1")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


@contextmanager
def in_litellm(folder: Path) -> Iterator[Place]:
    testing = pytest.importorskip("routerpool_litellm.testing", reason="the adapter for LiteLLM is not installed")
    config = {
        "model_list": [{"model_name": "auto", "litellm_params": {"model": "routerpool/auto"}}],
        "litellm_settings": {
            "custom_provider_map": [{"provider": "routerpool", "custom_handler": "routerpool_litellm.llm.handler"}],
            "num_retries": 0,
        },
    }
    try:
        with testing.proxied(folder, config, {"PYTHONPATH": str(folder / "site")}) as proxy:
            yield Place(f"{proxy.url}/v1", proxy.key)
    except testing.CannotStart as reason:
        pytest.skip(str(reason))


Host = Callable[[Path], AbstractContextManager[Place]]


def text_of(answer: Any, *, stream: bool) -> str:
    if stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize("host", [alone, in_aiohttp, in_litellm])
def test_the_same_plugins_do_the_same_in_every_host(host: Host, folder: Path) -> None:
    with serving(Upstream()) as up:
        configure(folder, up)
        with (
            host(folder) as place,
            openai.OpenAI(base_url=place.url, api_key=place.key, max_retries=0, timeout=30) as client,
        ):

            def said(content: str, *, stream: bool) -> str:
                body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": content}]}
                return text_of(client.chat.completions.create(**body, stream=stream), stream=stream)

            for stream in (False, True):
                assert said("Hello", stream=stream) == up.expected_text("second"), "the strategy is asked"
                up.always("second", "http:429")
                assert said("Hello", stream=stream) == up.expected_text("first"), "who is limited is passed over"
                up.always("second", "ok")
                assert said("the falcon flies", stream=stream) == up.expected_text("home"), "the name stays here"
            assert all(b"falcon" not in call.body for name in ("first", "second") for call in up.seen(name).requests)
            rows = records(folder / "tally", 6)
    assert [row[:3] for row in rows] == [
        ["answered", name, stream] for stream in (False, True) for name in ("second", "first", "home")
    ]
    assert all(output > 0 for _, _, _, output, _ in rows)
    assert [row[4] for row in rows].count("PUBLIC") == 4


def records(path: Path, count: int, seconds: float = 10.0) -> list[Any]:
    """What was written down, once it is so much: a host may tell of an answer a moment after it."""
    until = time.monotonic() + seconds
    while len(lines := path.read_text().splitlines() if path.exists() else []) < count and time.monotonic() < until:
        time.sleep(0.02)
    return [json.loads(line) for line in lines]
