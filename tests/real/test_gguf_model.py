"""The generated model in a real llama.cpp: what the other tests in this folder rely on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .gguf_model import write_tiny_model

pytestmark = pytest.mark.real
CURE = "needs the wheels of a real engine: uv run --all-packages --group real pytest -m real"
TOOL = {
    "type": "function",
    "function": {
        "name": "forecast",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}},
            "required": ["city", "unit"],
        },
    },
}


def engine(model: Path, context: int = 4096) -> Any:
    """A llama.cpp server on a free loopback port; deleting the last reference stops it."""
    xllamacpp = pytest.importorskip("xllamacpp", reason=CURE)
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {"tiny"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = context
    params.cpuparams.n_threads = 1
    params.warmup = params.ui = False
    params.verbosity = 0
    return xllamacpp.Server(params)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf", reason=CURE)
    pytest.importorskip("numpy", reason=CURE)
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    server = engine(model)
    yield server.listening_address
    del server


def ask(url: str, **body: Any) -> tuple[int, str]:
    """Post a chat completion and answer its status and its text."""

    async def post() -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as got:
            return got.status, await got.text()

    return asyncio.run(post())


def asking(**more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "Will it rain?"}], "seed": 1, **more}


def words_known(text: str) -> bool:
    from .gguf_model import WORDS

    return bool(text.split()) and set(text.split()) <= set(WORDS.split())


def test_the_same_bytes_are_written_each_time_and_they_are_few(model: Path, tmp_path: Path) -> None:
    again = write_tiny_model(tmp_path / "again.gguf").read_bytes()
    assert again == model.read_bytes()
    assert len(again) < 1_000_000


def test_a_plain_answer_is_made_of_words_and_is_counted(url: str) -> None:
    status, text = ask(url, **asking(max_tokens=20))
    answer = json.loads(text)
    assert status == 200
    assert answer["model"] == "tiny"
    assert words_known(answer["choices"][0]["message"]["content"])
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


def test_answers_end_by_themselves_and_by_the_limit(url: str) -> None:
    reasons = set()
    for seed in range(4):
        reasons |= {
            json.loads(ask(url, **asking(seed=seed, max_tokens=limit))[1])["choices"][0]["finish_reason"]
            for limit in (3, 1000)
        }
    assert reasons == {"length", "stop"}


def test_a_streamed_answer_ends_with_usage_and_the_terminal_marker(url: str) -> None:
    _, text = ask(url, **asking(max_tokens=8, stream=True, stream_options={"include_usage": True}))
    *events, done = [line.removeprefix("data: ") for line in text.splitlines() if line]
    chunks = [json.loads(event) for event in events]
    said = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert done == "[DONE]"
    assert words_known(said)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 8


@pytest.mark.parametrize("choice", ["required", "auto"])
@pytest.mark.parametrize("seed", range(3))
def test_an_offered_tool_is_called_with_arguments_of_its_schema(url: str, choice: str, seed: int) -> None:
    status, text = ask(url, **asking(seed=seed, tools=[TOOL], tool_choice=choice, max_tokens=200))
    [first] = json.loads(text)["choices"]
    [call] = first["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert (status, first["finish_reason"], call["function"]["name"]) == (200, "tool_calls", "forecast")
    assert isinstance(arguments["city"], str)
    assert arguments["unit"] in {"celsius", "kelvin"}


def test_a_tools_result_is_answered_in_words(url: str) -> None:
    function = {"name": "forecast", "arguments": '{"city":"Bonn","unit":"kelvin"}'}
    calls = [{"id": "1", "type": "function", "function": function}]
    turn = [{"role": "assistant", "content": None, "tool_calls": calls}]
    turn += [{"role": "tool", "tool_call_id": "1", "content": "sun"}]
    messages = [*asking()["messages"], *turn]
    _, text = ask(url, **asking(messages=messages, tools=[TOOL], max_tokens=12))
    assert words_known(json.loads(text)["choices"][0]["message"]["content"])


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(model: Path) -> None:
    small = engine(write_tiny_model(model.with_name("small.gguf"), context=256), context=256)
    status, text = ask(small.listening_address, **asking(messages=[{"role": "user", "content": "rain " * 300}]))
    error = json.loads(text)["error"]
    assert (status, error["type"], error["n_ctx"]) == (400, "exceed_context_size_error", 256)
    assert error["n_prompt_tokens"] > 256
