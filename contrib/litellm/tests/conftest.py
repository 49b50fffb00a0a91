"""A proxy process for the tests of this folder, and a plugin of a stranger's in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import yaml
from attrs import define
from routerpool_litellm.testing import CannotStart, Proxy, proxied

from routerpool.testing.fixtures import serving
from routerpool.testing.upstream import Upstream

NOTEBOOK = '''
"""A stranger's plugin: writes down every record, and leaves its mark on what is sent."""

import json
from pathlib import Path

from attrs import evolve, field, frozen

from routerpool import hookimpl


@frozen(kw_only=True)
class Config:
    path: Path = field(metadata={"help": "where the records go"})


class Notebook:
    Config = Config

    def __init__(self, config):
        self.path = config.path

    def write(self, told):
        with self.path.open("a") as book:
            book.write(json.dumps(told) + "\\n")

    @hookimpl
    async def lifespan(self, router):
        yield
        self.write({"id": "", "closed": True})

    @hookimpl
    def mutate(self, request, attempt):
        return evolve(request, params={**request.params, "seed": 4711})

    @hookimpl
    def record_usage(self, record):
        told = {
            "id": record.request_id, "profile": record.profile, "provider": record.provider, "model": record.model,
            "outcome": record.outcome.value, "tried": record.tried, "stream": record.stream,
            "privacy": record.privacy.name, "input": record.usage.input, "output": record.usage.output,
            "source": record.usage.source, "caller": record.caller, "cost": record.cost,
        }
        self.write(told)
'''


@pytest.fixture
def silent() -> None:
    """LiteLLM imported as our own provider does it: without its network and its words."""
    from routerpool_litellm_sdk import LiteLLM

    asyncio.run(LiteLLM().discover(None))  # type: ignore[arg-type] - nobody is asked


@pytest.fixture
def deploys(silent: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[list[dict[str, Any]]], None]:
    """Says which deployments the LiteLLM of this process has, beside the `routerpool.yaml` in `tmp_path`."""
    from routerpool_litellm import home

    (tmp_path / "routerpool.yaml").write_text("store: 'sqlite://'\nplugins: {free_first: {}}\n")
    monkeypatch.setenv("ROUTERPOOL_CONFIG", str(tmp_path / "routerpool.yaml"))
    proxy = SimpleNamespace(model_list=[])
    monkeypatch.setattr(home, "proxy_router", lambda: proxy)
    return lambda entries: setattr(proxy, "model_list", entries)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from outside the repository that holds an installed plugin."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "stranger_notebook.py").write_text(NOTEBOOK)
    info = folder / "stranger_notebook-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger-notebook\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[routerpool]\nnotebook = stranger_notebook:Notebook\n")
    return folder


@define
class Setting:
    """An unmodified OpenAI client, a real proxy, our scriptable upstream behind it, and the notebook."""

    up: Upstream
    proxy: Proxy
    client: openai.OpenAI
    book: Path
    read: int = 0

    def say(self, text: str, model: str = "auto", **more: Any) -> Any:
        """A chat with one message; the client retries nothing."""
        return self.client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)

    def raw(self, text: str, model: str = "auto", **more: Any) -> Any:
        """The same, with the head of the answer."""
        return self.client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": text}], **more
        )

    def forget(self) -> None:
        """Leave behind what was written down so far."""
        self.read = len(self._lines())

    def records(self, count: int = 1) -> list[dict[str, Any]]:
        """The records since then, as soon as there are so many: LiteLLM tells of answers in its own time."""
        self.until(lambda: len(self.read_all()) >= count)
        return self.read_all()

    def record_of(self, answer: Any) -> dict[str, Any]:
        """The record of an answer, by the id in its head, as soon as there is one."""
        told = answer.headers["x-router-request-id"]
        self.until(lambda: any(record["id"] == told for record in self.read_all()))
        return next(record for record in self.read_all() if record["id"] == told)

    def until(self, true: Callable[[], bool], seconds: float = 15.0) -> None:
        """Wait until something is so that another process does."""
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, f"not so after {seconds} s\n{self.proxy.log.read_text()[-4000:]}"
            time.sleep(0.02)

    def read_all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._lines()[self.read :]]

    def _lines(self) -> list[str]:
        """The lines that are whole by now."""
        return self.book.read_text().split("\n")[:-1] if self.book.exists() else []


Start = Callable[[Mapping[str, Any], Mapping[str, Any], Upstream], Any]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Start:
    """What starts a proxy: over LiteLLM's configuration, ours, and an upstream that runs already."""

    @contextmanager
    def started(config: Mapping[str, Any], ours: Mapping[str, Any], up: Upstream) -> Iterator[Setting]:
        folder = tmp_path_factory.mktemp("proxy")
        book = folder / "book.jsonl"
        plugins = {**ours.get("plugins", {}), "notebook": {"path": str(book)}}
        tree = {"store": f"sqlite:///{folder}/store.db", **ours, "plugins": plugins}
        (folder / "routerpool.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        try:
            with proxied(folder, config, {"PYTHONPATH": str(site)}) as proxy:
                client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=proxy.key, max_retries=0, timeout=30)
                with client:
                    yield Setting(up, proxy, client, book)
            _ended_well(proxy, book)
        except CannotStart as reason:
            pytest.skip(str(reason))

    return started


def _ended_well(proxy: Proxy, book: Path) -> None:
    """The router was stopped with its proxy, and left nothing open."""
    log = proxy.log.read_text()
    for word in ("Unclosed", "never awaited", "Task was destroyed"):
        assert word not in log
    if book.exists():
        assert json.loads(book.read_text().splitlines()[-1]) == {"id": "", "closed": True}


@pytest.fixture(scope="session")
def up() -> Iterator[Upstream]:
    with serving(Upstream()) as served:
        yield served


@pytest.fixture(scope="session")
def proxy(start: Start, up: Upstream) -> Iterator[Setting]:
    """A proxy that has our router as a provider, and deployments of its own behind guardrails that a client names."""
    remote = {"use": "openai_compatible", "base_url": up.base_url("remote"), "models": ["m1"], "local": False}
    home = {**remote, "base_url": up.base_url("home"), "local": True}
    ours = {
        "plugins": {"secrets": {}, "pii": {"action": "redact"}, "remote": remote, "home": home},
        "profiles": {"auto": {"models": ["remote/m1", "home/m1"]}, "mine": {"models": ["home/m1"]}},
    }
    guard = {"guardrail": "routerpool_litellm.guard.PrivacyGuard", "mode": "pre_call"}
    own = {name: {"model": f"routerpool/{name}"} for name in ("auto", "mine", "remote/m1", "nobody")}
    others = {
        name: {"model": "openai/m1", "api_base": up.base_url(name), "api_key": "x"} for name in ("remote", "home")
    }
    guards = {
        "block": {},
        "redact": {"when_private": "redact"},
        "route": {"when_private": "route", "local_model": "home"},
        "wrong": {"when_private": "route"},
    }
    config = {
        "model_list": [{"model_name": name, "litellm_params": told} for name, told in {**own, **others}.items()],
        "litellm_settings": {
            "custom_provider_map": [{"provider": "routerpool", "custom_handler": "routerpool_litellm.llm.handler"}],
            "num_retries": 0,
        },
        "guardrails": [
            {"guardrail_name": name, "litellm_params": {**guard, **options}} for name, options in guards.items()
        ],
    }
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    up.route("remote", "POST /v1/embeddings", {"object": "list", "data": [vector], "model": "m1", "usage": usage})
    with start(config, ours, up) as setting:
        yield setting


@pytest.fixture
def at(proxy: Setting) -> Setting:
    """The same, with a healthy upstream and an empty notebook."""
    for name in ("remote", "home"):
        proxy.up.always(name, "ok")
    proxy.forget()
    return proxy
