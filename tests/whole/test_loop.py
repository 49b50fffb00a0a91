"""No request holds the loop for long, whatever it or its answer is made of: the streams of others go on meanwhile."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest

from routerpool import create_app
from routerpool.testing import make_router
from routerpool.testing.upstream import Upstream

from ..support.growth import BODIES, CHUNKS, STREAMS, chat, sse, user
from ..support.steps import Loop, held

pytestmark = pytest.mark.anyio

MOST_SECONDS = 0.05
"""CPU of the loop's thread that one step may take, says the contract."""

SMALL, LARGE = 160 << 10, 24 << 20
"""Bytes of a body, in the normal run and every night."""

ROUNDS = 8
"""The best of so many counts, and the first that is good: a busy machine's caches are none of ours."""

JSON = {"Content-Type": "application/json"}
SECRET = 'password = "hunter2xY9zQ8"\n'
MODELS = [f"model-{number}" for number in range(300)]
RULES = [
    {"privacy": "private", "paths": ["~/clients/**", "*.pem"]},
    {"privacy": "private", "words": ["project falcon"]},
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _message(unit: str) -> Callable[[int], Any]:
    return lambda size: chat(messages=[user(unit * (size // len(unit)))])


def _few(most: int, make: Callable[[int], Any]) -> Callable[[int], Any]:
    """So that it stays below the most values that a body may hold."""
    return lambda size: make(min(size, most))


MANY = 4 << 20
REQUESTS: Mapping[str, Callable[[int], Any]] = {
    **{name: _few(MANY, make) for name, make in BODIES.items() if name.startswith(("many", "content", "tools"))},
    **{
        f"a text of {unit!r}": _message(unit)
        for unit in ("word ", "1", ":", "/", '"', "\u200b", "a@b.de ", "4111 1111 1111 1111 ", SECRET, "/home/a/x.pem ")
    },
    "many secrets": _few(MANY, lambda size: chat(messages=[user(SECRET)] * (size // 60))),
    "data URLs": _message("data:text/plain;base64,aGVsbG8gd29ybGQ= "),
    "many names": lambda _: chat(router={"forbidden": ["x" * 250] * 64, "preferred": ["model-7"] * 64}),
    "a name that nobody has": lambda _: {**chat(), "model": "model-" + "x" * 58},
}


@asynccontextmanager
async def serving(action: str) -> AsyncIterator[tuple[Loop, Upstream, aiohttp.ClientSession]]:
    async with Upstream() as up:

        def provider(name: str) -> dict[str, Any]:
            return {"use": "openai_compatible", "base_url": up.base_url(name), "models": MODELS, "local": True}

        plugins = {
            "secrets": {"action": action},
            "pii": {"action": action},
            "policy": {"rules": RULES},
            **{name: {} for name in ("free_first", "ranked")},
            **{name: provider(name) for name in "ab"},
        }
        with held(lambda: create_app(make_router({"plugins": plugins}))) as loop:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{loop.port}", headers=JSON) as client:
                await asked(loop, client, chat())  # what is made once is made now
                yield loop, up, client


async def asked(loop: Loop, client: aiohttp.ClientSession, body: Any) -> int:
    """The status of the answer to a body; the loop's steps are those of this request alone."""
    raw = io.BytesIO(orjson.dumps(body))
    loop.forget()
    async with client.post("/v1/chat/completions", data=raw) as response:
        await response.read()
        return response.status


REFUSED = frozenset({413, 503})
"""How a request of full size may be answered as well: as JSON it is beyond `limits.request_bytes` or holds too many
values, or a scanner, which is required, is not through with it in time."""


async def longest(action: str, size: int, refusals: frozenset[int] = frozenset()) -> dict[str, str]:
    """The requests of which a step was too long, or whose answer is another one than is due."""
    wrong: dict[str, str] = {}
    async with serving(action) as (loop, _, client):
        for name, make in REQUESTS.items():
            status, spent, where = 0, 1e9, ""
            for _ in range(ROUNDS):
                status = await asked(loop, client, make(size))
                spent, where = min((spent, where), loop.longest)
                if spent < MOST_SECONDS:
                    break
            due = {404} if "nobody" in name else {200} | refusals
            if spent > MOST_SECONDS or status not in due:
                wrong[name] = f"{status}, {spent * 1e3:.0f} ms in {where}"
    return wrong


@pytest.mark.parametrize("action", ["local", "placeholder"])
async def test_no_request_holds_the_loop_for_long(action: str) -> None:
    assert await longest(action, SMALL) == {}


async def answered(size: int) -> dict[str, str]:
    """The answers, streams and errors of providers of which a step was too long."""
    wrong: dict[str, str] = {}
    answers: dict[str, tuple[int, str, bytes]] = {}
    for name, make in CHUNKS.items():
        chunk = make(size)
        whole = {"choices": [{"message": choice.get("delta", {})} for choice in chunk["choices"]]}
        answers[f"plain: {name}"] = 200, "application/json", orjson.dumps(whole)
        answers[f"an error: {name}"] = 400, "application/json", orjson.dumps({"error": {"message": make(size)}})
        answers[f"a large event: {name}"] = 200, "text/event-stream", sse(make(min(size, 900 << 10)))
    for name, make_bytes in STREAMS.items():
        answers[f"a stream: {name}"] = 200, "text/event-stream", make_bytes(size)
    async with serving("placeholder") as (loop, up, client):
        for name, (status, kind, raw) in answers.items():
            for provider in "ab":
                up.reply(provider, status, raw, {"Content-Type": kind})
            stream = kind == "text/event-stream"
            seen, spent, where = up.seen("a").chat, 1e9, ""
            for _ in range(ROUNDS):
                await asked(loop, client, chat(stream=stream, messages=[user(f"It is {SECRET}")]))
                spent, where = min((spent, where), loop.longest)
                if spent < MOST_SECONDS:
                    break
            assert up.seen("a").chat > seen
            if spent > MOST_SECONDS:
                wrong[name] = f"{spent * 1e3:.0f} ms in {where}"
    return wrong


async def test_no_answer_holds_the_loop_for_long() -> None:
    assert await answered(SMALL) == {}


@pytest.mark.nightly
async def test_no_request_holds_the_loop_for_long_at_full_size() -> None:
    assert await longest("local", LARGE, REFUSED) == {}


@pytest.mark.nightly
async def test_no_answer_holds_the_loop_for_long_at_full_size() -> None:
    assert await answered(LARGE) == {}


async def test_the_measure_sees_a_step_that_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool.wire.request.is_heavy", lambda *_, **__: False)
    async with serving("local") as (loop, _, client):
        assert await asked(loop, client, REQUESTS["many fields"](1 << 20)) == 200
        assert loop.longest[0] > MOST_SECONDS
