"""Signs of life for streams that wait for their first event, so that nobody between gives their connection up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from routerpool.hooks.isolation import locate
from routerpool.types import Answer
from routerpool.wire.answers import answer_of
from routerpool.wire.bodies import unfold
from routerpool.wire.errors import read_error
from routerpool.wire.json import dumps, loads_answer

__all__ = ["BEAT", "Heartbeat", "comment", "late_chunks", "late_error"]

log = logging.getLogger("routerpool.server")

BEAT = b": waiting\n\n"
"""A comment: readers of event streams skip it."""


class Heartbeat:
    """Has `beat` called every so many seconds, until it is stopped. What it sends commits the response.

    `told` is what the head of the response could not tell any more.
    """

    def __init__(self, seconds: float, beat: Callable[[], Awaitable[None]]) -> None:
        self.told: Mapping[str, str] = {}
        self._beating = asyncio.Lock()
        self._task = asyncio.ensure_future(self._beat(seconds, beat))

    async def _beat(self, seconds: float, beat: Callable[[], Awaitable[None]]) -> None:
        try:
            while True:
                await asyncio.sleep(seconds)
                async with self._beating:
                    await beat()
        except ConnectionError:
            pass  # the client has left: its watch sees it
        except Exception as error:
            log.error("a heartbeat failed: %s", locate(error))

    async def stop(self) -> None:
        """Let no beat come any more, and the one that is under way be over."""
        async with self._beating:
            self._task.cancel()

    def end(self) -> None:
        """Let go of it, whatever it is doing."""
        self._task.cancel()


def comment(told: Mapping[str, str]) -> bytes:
    """Headers that came too late, as a JSON object in a comment of the stream."""
    return b": " + dumps(told) + b"\n\n" if told else b""


def late_error(answer: Answer) -> dict[str, Any]:
    """A provider's refusal as the event that ends a stream: in its words, under `error`, where clients look for it."""
    try:
        document = loads_answer(answer.body)
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), dict):
        return document
    said = read_error(document)
    text = answer.body[:4096].decode("utf-8", "replace") if said is None else said.text
    return {"error": {"message": text, "type": "upstream_error", "param": None, "code": str(answer.status)}}


def late_chunks(answer: Answer) -> bytes:
    """A whole answer, such as a plugin's own, as the stream that has begun already; a ValueError where it is none."""
    document = loads_answer(answer.body)
    if answer_of(document) is None:
        raise ValueError("no chat completion")
    return unfold(document)
