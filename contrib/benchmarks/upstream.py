"""A provider that costs little: a plain answer of 1 KB, or a stream of so many events with such a pause between them.

    python contrib/benchmarks/upstream.py --port 9000

A request says in its text which stream it wants, whatever its model: `bench:64x5` is 64 events of text 5 ms apart,
after one with the role alone, as OpenAI's begin. Without that it gets the plain answer. In the text, since a router
chooses the model and some proxies drop other fields.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from functools import cache
from typing import cast

import orjson
import uvloop

__all__ = ["ANSWER_MARK", "stream_text"]

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
SCRIPT = re.compile(rb"bench:(\d+)x(\d+)")

ANSWER_MARK = b"chatcmpl-bench"
"""What stands in every answer, plain or streamed."""


def stream_text(events: int) -> str:
    """The text of a whole stream."""
    return "".join(f" w{index}" for index in range(events))


def plain_answer() -> bytes:
    """A whole HTTP answer with a body of about 1 KB."""
    text = "The quick brown fox jumps over the lazy dog, and nobody minds. " * 11
    message = {"role": "assistant", "content": text, "refusal": None}
    usage = {"prompt_tokens": 512, "completion_tokens": 160, "total_tokens": 672}
    body = {
        "id": ANSWER_MARK.decode(),
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage,
    }
    return _answer(orjson.dumps(body))


def _answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)
PLAIN = plain_answer()
MODELS = _answer(orjson.dumps({"object": "list", "data": [{"id": "bench", "object": "model"}]}))


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@cache
def stream_pieces(events: int, with_usage: bool) -> tuple[bytes, ...]:
    """The pieces of a stream as they are written: head and role, every event, then the end."""

    def event(delta: dict[str, str], finish: str | None = None) -> bytes:
        chunk = {
            "id": ANSWER_MARK.decode(),
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "bench",
            "system_fingerprint": "fp_bench",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        }
        return _framed(b"data: " + orjson.dumps(chunk | {"usage": None} if with_usage else chunk) + b"\n\n")

    first = STREAM_HEAD + event({"role": "assistant", "content": ""})
    words = (event({"content": f" w{index}"}) for index in range(events))
    last = event({}, "stop")
    if with_usage:
        usage = {"prompt_tokens": 512, "completion_tokens": events, "total_tokens": 512 + events}
        chunk = {"id": ANSWER_MARK.decode(), "object": "chat.completion.chunk", "created": 1, "model": "bench"}
        last += _framed(b"data: " + orjson.dumps(chunk | {"choices": [], "usage": usage}) + b"\n\n")
    return first, *words, last + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client: requests one after the other, each answered before the next is read."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = b""
        self._pieces: tuple[bytes, ...] = ()
        self._next = 0
        self._pause = 0.0
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from it

    def connection_lost(self, exc: Exception | None) -> None:
        """End the stream that is under way."""
        self._pieces = ()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._full = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._full = False
        if self._pieces:
            self._send()

    def data_received(self, data: bytes) -> None:
        """Answer once a request is here in whole."""
        self._buffer = data = self._buffer + data if self._buffer else data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head, start = data[: head_end + 2], head_end + 4
        length = LENGTH.search(head)
        if length is not None:
            if len(data) - start < int(length[1]):
                return
        elif CHUNKED.search(head) and not data.endswith(b"0\r\n\r\n"):
            return
        self._buffer = b""
        self._answer(head, data)

    def _answer(self, head: bytes, data: bytes) -> None:
        if head.startswith(b"GET"):
            self._transport.write(MODELS)
            return
        place = data.find(b"bench:", len(head))
        script = SCRIPT.match(data, place) if place >= 0 else None
        if script is None:
            self._transport.write(PLAIN)
            return
        self._pieces = stream_pieces(int(script[1]), b'"include_usage"' in data)
        self._next, self._pause = 0, int(script[2]) / 1e3
        self._send()

    def _send(self) -> None:
        if self._full or self._next >= len(self._pieces):
            return
        self._transport.write(self._pieces[self._next])
        self._next += 1
        if self._next == len(self._pieces):
            self._pieces = ()
        elif not self._full:
            if self._pause:
                self._loop.call_later(self._pause, self._send)
            else:
                self._loop.call_soon(self._send)


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Serve on the port of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
