"""An unmodified `openai` client through a server process: a real llama.cpp engine, and no configuration at all."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import openai
import pytest

from routerpool.testing.process import served

from .gguf_model import write_tiny_model

CURE = "needs the real engines: uv run --all-packages --group real pytest"
real = [
    pytest.mark.real,
    pytest.mark.skipif(find_spec("xllamacpp") is None or find_spec("gguf") is None, reason=CURE),
]


@pytest.fixture(params=[pytest.param("llama.cpp", marks=real), "sandbox"], scope="module")
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("home")
    if request.param == "llama.cpp":
        model = write_tiny_model(folder / "tiny.gguf", context=4096)
        (folder / "routerpool.yaml").write_text(
            f"plugins:\n  llamacpp: {{model: {model}, context: 4096, threads: 1}}\n"
        )
    with served(folder=folder) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60)


def test_a_plain_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": "Hello"}], max_tokens=40, temperature=0
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_a_streamed_answer_says_the_same(client: openai.OpenAI) -> None:
    question = {
        "model": "auto",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 40,
        "temperature": 0,
        "seed": 1,
    }
    plain = client.chat.completions.create(**question).choices[0].message.content
    stream = client.chat.completions.create(**question, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == plain
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert all(chunk.usage is None for chunk in chunks), "usage was not asked for"


def test_usage_of_a_stream_when_it_is_asked_for(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=40,
        stream=True,
        stream_options={"include_usage": True},
    )
    usage = [chunk.usage for chunk in stream if chunk.usage is not None]
    assert len(usage) == 1
    assert usage[0].completion_tokens > 0


def test_models_are_listed_and_an_exact_one_answers(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["auto", "routerpool/auto"]
    answer = client.chat.completions.create(
        model=names[-1], messages=[{"role": "user", "content": "Hello"}], max_tokens=40
    )
    assert answer.choices[0].message.content


def test_an_unknown_model_is_a_not_found_error_that_names_the_nearest(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="routerpool/fats", messages=[{"role": "user", "content": "Hello"}])
    assert raised.value.code == "model_not_found"
    assert "fast" in str(raised.value)


def test_a_private_request_is_answered_here(client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(
        model="auto",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=40,
        extra_body={"router": {"privacy": "secret"}},
    )
    assert answer.headers["X-Router-Provider"] in ("llamacpp", "smollm", "sandbox")


def test_what_is_not_implemented_is_asked_for_once(tmp_path: Path) -> None:
    asked = []
    with served(folder=tmp_path) as url:
        http = openai.DefaultHttpxClient(event_hooks={"request": [asked.append]})
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=2, http_client=http)
        with client, pytest.raises(openai.InternalServerError) as caught:
            client.embeddings.create(model="auto", input="Hello")
    assert caught.value.status_code == 501
    assert len(asked) == 1
