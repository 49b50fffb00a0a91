"""Three plugins as a stranger writes them, with nothing but the pages for authors: short, and they work at once.

A strategy, a mutator with a switch and a setting by profile, and a door that streams.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from routerpool import OpenAIProvider, create_app
from routerpool.testing import Upstream, make_router

from ..support.house import running

MOST_LINES = 70

STRATEGY = '''
from routerpool import Score, hookimpl


class Shortest:
    """The shorter a model's name, the better."""

    weight = 2.0

    @hookimpl
    def score(self, candidates):
        return [Score(c, 1 / len(c.model.id), {"short": 1 / len(c.model.id)}) for c in candidates]
'''

MUTATOR = '''
from attrs import evolve, field, frozen
from routerpool import hookimpl


@frozen
class PerProfile:
    word: str = field(default="please", metadata={"help": "what is said at the end"})


class Polite:
    """Says please, unless the request says `rude`."""

    ProfileConfig = PerProfile
    hints = {"rude": bool}

    def __init__(self, name="polite"):
        self.name = name

    @hookimpl
    def mutate(self, request, attempt):
        word = {"role": "system", "content": attempt.plan.settings[self.name].word}
        if request.hints.more.get("rude") or word in request.messages:
            return None
        return evolve(request, messages=[*request.messages, word])
'''

DOOR = """
from routerpool import CALLER, hookimpl, read_json, route
from routerpool.server import DoorSink


class Words(DoorSink):
    content_type = "text/plain"

    def body(self, answer):
        return {"said": answer["choices"][0]["message"]["content"]}

    def event(self, event):
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"]).encode()

    def end(self):
        return b""

    def error(self, error):
        return f" [{error.code}]".encode()


class Door:
    @hookimpl
    async def lifespan(self, router):
        self.router = router
        yield

    @hookimpl
    def register_routes(self):
        return [route("POST", "/v1/words", self.answer, plane="user")]

    async def answer(self, request):
        asked = self.router.request(await read_json(request), request[CALLER], request.headers.items())
        return await Words(request).serve(self.router, asked)
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, type]]:
    """The three as modules that somebody has installed."""
    monkeypatch.syspath_prepend(tmp_path)
    sources = {"stranger_strategy": STRATEGY, "stranger_mutator": MUTATOR, "stranger_door": DOOR}
    modules: dict[str, ModuleType] = {}
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
        modules[name] = __import__(name)
    yield {
        "shortest": modules["stranger_strategy"].Shortest,
        "polite": modules["stranger_mutator"].Polite,
        "door": modules["stranger_door"].Door,
        "lab": OpenAIProvider,
    }
    for name in sources:
        sys.modules.pop(name, None)


@asynccontextmanager
async def served(up: Upstream, plugins: dict[str, type]) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    config = {
        "plugins": {
            "lab": {"base_url": up.base_url("lab"), "models": ["a-long-name", "short"]},
            "shortest": {},
            "polite": {},
            "door": {},
        },
        "profiles": {"formal": {"settings": {"polite": {"word": "if you would be so kind"}}}},
    }
    app = create_app(make_router(config, plugins=plugins))
    async with running(app) as port, aiohttp.ClientSession() as client:
        yield client, f"http://127.0.0.1:{port}/v1"


def test_the_three_together_take_few_lines() -> None:
    lines = [line for source in (STRATEGY, MUTATOR, DOOR) for line in source.strip().splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


def test_the_strategy_decides_by_the_weight_of_its_class(plugins: dict[str, type]) -> None:
    async def whole() -> None:
        async with Upstream() as up, served(up, plugins) as (client, url):
            body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
            async with client.post(f"{url}/chat/completions", json=body) as response:
                assert response.headers["X-Router-Model"] == "short"
            async with client.post(f"{url}/router/explain", json=body) as response:
                told = await response.json()
            assert told["ranked"][0]["strategies"]["shortest"]["weight"] == 2.0

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("model", "more", "headers", "said"),
    [
        ("auto", {}, {}, ["please"]),
        ("routerpool/formal", {}, {}, ["if you would be so kind"]),
        ("auto", {"router": {"rude": True}}, {}, []),
        ("routerpool/formal", {}, {"X-Router-Rude": "true"}, []),
    ],
)
def test_the_mutator_follows_profile_and_switch(
    model: str, more: dict[str, Any], headers: dict[str, str], said: list[str], plugins: dict[str, type]
) -> None:
    async def whole() -> None:
        async with Upstream() as up, served(up, plugins) as (client, url):
            body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
            async with client.post(f"{url}/chat/completions", json=body, headers=headers) as response:
                assert response.status == 200
            sent = up.seen("lab").last.json
        assert [message["content"] for message in sent["messages"][1:]] == said
        assert "router" not in sent

    asyncio.run(whole())


def test_a_switch_that_nobody_declares_is_an_error_with_the_nearest(plugins: dict[str, type]) -> None:
    async def whole() -> None:
        async with Upstream() as up, served(up, plugins) as (client, url):
            body = {"messages": [{"role": "user", "content": "Hello"}], "router": {"ruder": True}}
            async with client.post(f"{url}/chat/completions", json=body) as response:
                assert response.status == 400
                assert "did you mean 'rude'" in (await response.json())["error"]["message"]

    asyncio.run(whole())


def test_the_door_answers_plain_and_streams(plugins: dict[str, type]) -> None:
    async def whole() -> None:
        async with Upstream() as up, served(up, plugins) as (client, url):
            body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
            async with client.post(f"{url}/words", json=body) as response:
                said = json.loads(await response.read())["said"]
            async with client.post(f"{url}/words", json={**body, "stream": True}) as response:
                assert response.content_type == "text/plain"
                streamed = (await response.read()).decode()
        assert said
        assert streamed == said

    asyncio.run(whole())
