"""Streams that real providers have sent: cut anywhere, they come out as they went in."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from routerpool.types import Failure, FailureKind
from routerpool.wire.json import loads
from routerpool.wire.stream import State, Stream

from ..support.house import shared

CHAT = (
    "azure-model-router.1",
    "cererebras-structured-output-tools.1",
    "deepseek-reasoning",
    "deepseek-tool-call",
    "groq-text",
    "groq-tool-call",
    "mistral-incremental-tool-call",
    "mistral-reasoning",
    "mistral-text",
    "mistral-tool-call",
    "openai-text",
    "xai-tool-call",
)
"""The recordings in the chat-completions dialect; the others are of wire formats that a provider plugin translates."""


UNNUMBERED = ("cererebras-structured-output-tools.1", "mistral-tool-call")
"""Those whose tool calls have no index, or (two answers in one recording) the same one twice."""


def _without_numbers(event: bytes) -> Any:
    chunk = loads(event.removeprefix(b"data: "))
    for choice in chunk["choices"]:
        for call in choice["delta"].get("tool_calls") or ():
            call.pop("index", None)
    return chunk


def recorded(name: str) -> list[bytes]:
    """The payloads of a recording that are chunks of a chat completion."""
    lines = Path(shared("reliability", "streams", f"{name}.chunks.txt")).read_bytes().splitlines()
    return [line for line in lines if b'"chat.completion.chunk"' in line]


def drive(pieces: list[bytes]) -> tuple[bytes, Stream]:
    def explain(data: bytes) -> Failure:
        return Failure(kind=FailureKind.SERVER, message=data.decode())

    stream, out = Stream("p", explain, strip_usage=False), b""
    for piece in [*pieces, None]:
        out += stream.end() if piece is None else stream.feed(piece)
        if stream.state is State.READY:
            out += stream.open()
    return out, stream


@pytest.mark.parametrize("name", CHAT)
def test_a_recorded_stream_comes_out_whole_however_it_is_cut(name: str) -> None:
    chunks = recorded(name)
    if not chunks:
        pytest.skip(f"{name} holds another wire format")
    whole = b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    body = whole.removesuffix(b"data: [DONE]\n\n")
    expected, stream = drive([whole])
    if name in UNNUMBERED:
        assert [_without_numbers(event) for event in expected.split(b"\n\n")[:-1]] == [
            _without_numbers(event) for event in body.split(b"\n\n")[:-1]
        ]
    else:
        assert expected == body
    assert stream.state is State.DONE
    assert stream.usage is not None or b'"usage":{' not in body
    chance = random.Random(name)
    for _ in range(60):
        places = sorted(chance.sample(range(1, len(whole)), min(chance.randint(1, 40), len(whole) - 1)))
        pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
        out, stream = drive(pieces)
        assert out == expected, places
        assert stream.state is State.DONE, places


@pytest.mark.parametrize("name", CHAT)
def test_a_recorded_stream_that_is_cut_short_is_never_taken_for_whole(name: str) -> None:
    chunks = recorded(name)
    ends = [index for index, chunk in enumerate(chunks) if any(c.get("finish_reason") for c in loads(chunk)["choices"])]
    if not ends:
        pytest.skip(f"{name} holds no finish of the chat dialect")
    whole = b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks[: ends[0]])
    chance = random.Random(name)
    for place in [len(whole), *(chance.randrange(1, len(whole)) for _ in range(40))]:
        _, stream = drive([whole[:place]])
        assert stream.state in (State.BROKEN, State.FAILED), place


def test_the_recordings_are_valid_json() -> None:
    assert all(isinstance(json.loads(chunk), dict) for name in CHAT for chunk in recorded(name))
