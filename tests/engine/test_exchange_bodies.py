"""One exchange over real sockets: a body is what its bytes are, and a finished answer has ended, however it ends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from attrs import field, frozen

from routerpool.engine import exchange
from routerpool.wire.sse import DONE

from ..support.house import House, Reply, events, house

pytestmark = pytest.mark.anyio

SSE, JSON = "text/event-stream", "application/json"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def chunk(delta: Any = None, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish, **more}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def sse(*given: Any) -> bytes:
    return b"".join(
        b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n" for each in given
    )


def whole(message: Any = None, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    message = message or {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": finish, **more}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return {"id": "p1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


HELLO, STOP = chunk({"role": "assistant", "content": "hello"}), chunk(finish="stop")
USAGE = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


PAUSE_SECONDS = 0.3


@frozen
class Saying:
    """What a provider answers with, and what it does then: `close` the connection, `abort` it, or `wait`.

    What is `later` comes with a pause before each piece.
    """

    body: bytes
    type: str | None = SSE
    then: str = "close"
    headers: Mapping[str, str] = field(factory=dict)
    later: Sequence[bytes] = ()


@asynccontextmanager
async def between(said: Saying, **config: Any) -> AsyncIterator[House]:
    """A server before two providers: `a` says this, `b` is healthy."""
    async with _served(said) as url, house("a b", options={"a": {"base_url": url}}, **config) as at:
        yield at


@asynccontextmanager
async def _served(said: Saying) -> AsyncIterator[str]:
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has gone
            length = re.search(rb"(?i)content-length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(length[1]) if length else 0)
            lines = [f"{name}: {value}" for name, value in said.headers.items()]
            lines += [f"Content-Type: {said.type}"] if said.type else []
            head = "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *lines])
            body = b"%x\r\n%b\r\n" % (len(said.body), said.body) if said.body else b""
            writer.write(head.encode() + b"\r\n\r\n" + body)
            for piece in said.later:
                await asyncio.sleep(PAUSE_SECONDS)
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if said.then == "close":
                writer.write(b"0\r\n\r\n")
            await writer.drain()
            if said.then == "wait":
                await reader.read()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


async def streamed(said: Saying, body: Mapping[str, Any] | None = None, **config: Any) -> Reply:
    async with between(said, **config) as at:
        return await at.chat(body, stream=True)


async def plain(said: Saying, **config: Any) -> Reply:
    async with between(said, **config) as at:
        return await at.chat()


def text_of(reply: Reply) -> str:
    found = [choice["delta"].get("content") or "" for event in events(reply.body) for choice in event["choices"]]
    return "".join(found)


def by_a(reply: Reply) -> bool:
    return reply.headers["X-Router-Provider"] == "a" and "X-Router-Tried" not in reply.headers


# A body is what its bytes are


@pytest.mark.parametrize("type_", [JSON, "text/html", "text/plain", "application/octet-stream", None])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b": hello\n\n", b"\r\n", b"retry: 3\n\n"])
async def test_a_stream_is_one_whatever_its_type_says(type_: str | None, before: bytes) -> None:
    reply = await streamed(Saying(before + sse(HELLO, STOP) + DONE, type_))

    assert by_a(reply)
    assert text_of(reply) == "hello"
    assert reply.body.endswith(DONE)


CALL = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize("type_", [JSON, SSE, None])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b": wait\n\n: wait\n\n", b"\n  "])
@pytest.mark.parametrize("asked", [False, True])
async def test_a_whole_answer_for_a_stream_is_sent_as_chunks(type_: str | None, before: bytes, asked: bool) -> None:
    said = whole({"role": "assistant", "content": "hello", "reasoning": "hm", "tool_calls": [CALL]}, "tool_calls")
    options = {"stream_options": {"include_usage": True}} if asked else None
    reply = await streamed(Saying(before + json.dumps(said).encode(), type_), options)

    chunks = list(events(reply.body))
    assert by_a(reply)
    assert reply.body.endswith(DONE)
    assert {each["object"] for each in chunks} == {"chat.completion.chunk"}
    deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert text_of(reply) == "hello"
    assert [call for delta in deltas for call in delta.get("tool_calls", ())] == [{**CALL, "index": 0}]
    assert [choice["finish_reason"] for each in chunks for choice in each["choices"]] == [None, "tool_calls"]
    assert [each["usage"] for each in chunks if "usage" in each] == ([said["usage"]] if asked else [])


@pytest.mark.parametrize("type_", [SSE, JSON, "text/plain", None])
async def test_a_stream_for_a_plain_request_is_one_answer(type_: str | None) -> None:
    fragments = [
        chunk({"tool_calls": [{"index": 0, **CALL, "function": {"name": "look", "arguments": '{"a"'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
    ]
    said = sse(HELLO, chunk({"content": " you"}), chunk({"reasoning": "hm"}), *fragments, chunk(finish="tool_calls"))
    reply = await plain(Saying(b": wait\n\n" + said + sse(USAGE) + DONE, type_))

    message = reply.json["choices"][0]["message"]
    assert by_a(reply)
    assert (reply.json["object"], reply.json["id"], reply.json["usage"]) == ("chat.completion", "c1", USAGE["usage"])
    assert (message["role"], message["content"], message["reasoning"]) == ("assistant", "hello you", "hm")
    assert message["tool_calls"] == [{**CALL, "function": {"name": "look", "arguments": '{"a": 1}'}}]
    assert reply.json["choices"][0]["finish_reason"] == "tool_calls"
    assert reply.headers["Content-Type"].startswith(JSON)


@pytest.mark.parametrize("cut", [sse(HELLO), sse(HELLO)[:-20], sse(HELLO, {"error": {"message": "broke"}})])
async def test_a_stream_for_a_plain_request_that_is_cut_is_no_answer(cut: bytes) -> None:
    assert (await plain(Saying(cut, JSON))).headers["X-Router-Tried"] == "a/m1:server"


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b": wait\n\n: wait\n", b"\n\n \t", b"\xef\xbb\xbf: wait\r\n\r\n"])
async def test_what_keeps_a_connection_open_before_a_plain_answer_is_left_out(before: bytes) -> None:
    body = json.dumps(whole()).encode()
    reply = await plain(Saying(before + body, JSON))

    assert by_a(reply)
    assert reply.body == body


@pytest.mark.parametrize("body", [b"<!doctype html><p>data: x", b"Bad Gateway", b"database: down", b'"text"', b"[]"])
@pytest.mark.parametrize("type_", [SSE, JSON, "text/html", None])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_neither_is_no_answer_whatever_its_type(body: bytes, type_: str | None, stream: bool) -> None:
    async with between(Saying(body, type_)) as at:
        reply = await at.chat(stream=stream)

    assert reply.status == 200
    assert reply.headers["X-Router-Provider"] == "b"
    assert "a/m1:" in reply.headers["X-Router-Tried"]


async def test_an_error_is_one_whatever_its_type_says() -> None:
    error = json.dumps({"error": {"message": "slow down", "code": 429}}).encode()
    for stream, type_ in ((True, SSE), (True, JSON), (True, None), (False, SSE)):
        async with between(Saying(error, type_)) as at:
            assert (await at.chat(stream=stream)).headers["X-Router-Tried"] == "a/m1:rate_limited"


@pytest.mark.parametrize("encoding", ["utf-8", "none", "identity", "UTF-8, identity", "", "ascii"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_encoding_that_is_none_is_none(encoding: str, stream: bool) -> None:
    body = sse(HELLO, STOP) + DONE if stream else json.dumps(whole()).encode()
    headers = {"Content-Encoding": encoding}
    async with between(Saying(body, SSE if stream else JSON, headers=headers)) as at:
        assert by_a(await at.chat(stream=stream))


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
async def test_an_encoding_that_we_cannot_read_is_a_failure(encoding: str) -> None:
    reply = await plain(Saying(json.dumps(whole()).encode(), JSON, headers={"Content-Encoding": encoding}))

    assert reply.headers["X-Router-Tried"] == "a/m1:server"


# Finished but not ended


ENDS = ["wait", "close", "abort"]


@pytest.mark.parametrize("then", ENDS)
@pytest.mark.parametrize("after", [b"", sse(USAGE), b": still here\n\n", b'data: {"id":"c1","cho', sse(USAGE)[:-30]])
@pytest.mark.parametrize("buffer", [False, True])
async def test_a_finished_answer_has_ended_however_its_connection_does(then: str, after: bytes, buffer: bool) -> None:
    async with between(Saying(sse(HELLO, STOP) + after, then=then), profiles={"auto": {"buffer": buffer}}) as at:
        reply = await at.chat(stream=True)

        assert by_a(reply)
        assert text_of(reply) == "hello"
        assert reply.body.endswith(DONE)
        assert [record.outcome for record in await at.recorded()] == ["answered"]


async def test_a_finished_answer_waits_for_its_end_for_two_seconds_and_not_for_the_idle_limit() -> None:
    async with between(Saying(sse(HELLO, STOP), then="wait"), limits={"idle_seconds": 0.2}) as at:
        reply = await at.chat(stream=True)

    assert reply.body.endswith(DONE)


EARLY = [chunk({"content": "a"}, finish="stop"), chunk({"content": "b"}, finish="stop"), chunk(finish="stop")]


@pytest.mark.parametrize("marker", [DONE, b""], ids=["marked", "unmarked"])
async def test_a_server_that_writes_a_finish_reason_into_every_chunk_is_heard_to_its_end(
    marker: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "FINISHED_SECONDS", 0.1)
    saying = Saying(sse(EARLY[0]), later=[sse(EARLY[1]), sse(EARLY[2]) + marker])
    async with between(saying, limits={"idle_seconds": 5}) as at:
        reply = await at.chat(stream=True)
        assert text_of(reply) == "ab"
        assert reply.body.endswith(DONE)


@pytest.mark.parametrize("ping", [b": ping\n\n", sse({**EARLY[0], "choices": []})], ids=["comments", "empty chunks"])
async def test_signs_of_life_behind_a_finish_reason_put_its_end_off_no_further(
    ping: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "FINISHED_SECONDS", 0.1)
    saying = Saying(sse(EARLY[0]), later=[ping] * 20)  # every 0.3 s, for 6 s
    async with between(saying, limits={"idle_seconds": 1}) as at:
        async with asyncio.timeout(4):
            reply = await at.chat(stream=True)
        assert text_of(reply) == "a"
        assert reply.body.endswith(DONE)


async def test_what_is_finished_with_its_last_words_ends_after_the_idle_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "FINISHED_SECONDS", 0.1)
    async with between(Saying(sse(EARLY[0]), then="wait"), limits={"idle_seconds": 0.5}) as at:
        reply = await at.chat(stream=True)
        assert text_of(reply) == "a"
        assert reply.body.endswith(DONE)


@pytest.mark.parametrize("then", ENDS)
async def test_an_answer_that_is_not_finished_is_never_taken_for_whole(then: str) -> None:
    reply = await streamed(Saying(sse(HELLO), then=then), limits={"idle_seconds": 0.2})

    assert text_of_broken(reply) == "upstream_interrupted"
    assert DONE not in reply.body


def text_of_broken(reply: Reply) -> Any:
    return list(events(reply.body))[-1].get("error", {}).get("code")


@pytest.mark.parametrize("then", ["close", "abort"])
async def test_an_answer_of_several_choices_is_finished_when_each_of_them_is(then: str) -> None:
    both = [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk(finish="stop")]
    half = await streamed(Saying(sse(*both), then=then), {"n": 2})
    never = await streamed(Saying(sse(both[0], both[2]), then=then), {"n": 2})
    done = await streamed(Saying(sse(*both, chunk(finish="length", index=1)), then=then), {"n": 2})

    assert [text_of_broken(reply) for reply in (half, never)] == ["upstream_interrupted"] * 2
    assert done.body.endswith(DONE)


BROKEN: dict[str, Any] = {
    "error": chunk(finish="error"),
    "an error and its finish": chunk(finish="error", error={"code": 502, "message": "gone"}),
    "an error alone": chunk(error={"code": 502, "message": "gone"}),
    "an interrupted inference": chunk(finish="insufficient_system_resource"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_choice_that_tells_of_an_error_is_a_failure(name: str) -> None:
    first = await streamed(Saying(sse(HELLO, BROKEN[name]) + DONE))
    choice = dict(BROKEN[name]["choices"][0])
    choice["message"] = {"role": "assistant", "content": "hel"}
    del choice["delta"]
    body = await plain(Saying(json.dumps(whole() | {"choices": [choice]}).encode(), JSON))

    assert first.headers["X-Router-Tried"] == body.headers["X-Router-Tried"] == "a/m1:server"


async def test_an_empty_finish_reason_is_none_in_the_middle_and_no_end() -> None:
    words = [chunk({"content": "hel"}, ""), chunk({"content": "lo"}, "")]
    well = await streamed(Saying(sse(*words, STOP) + DONE))
    broken = [await streamed(Saying(sse(*words, *more) + DONE)) for more in ([], [chunk(finish="")])]
    body = await plain(Saying(json.dumps(whole(finish="")).encode(), JSON))

    assert text_of(well) == "hello"
    assert well.body.endswith(DONE)
    assert {reply.headers["X-Router-Tried"] for reply in [*broken, body]} == {"a/m1:server"}


# How long an answer may be


@pytest.mark.parametrize("kind", ["choices", "thoughts", "characters"])
async def test_the_cap_counts_neither_thoughts_nor_chunks_and_knows_the_choices(kind: str) -> None:
    said = {
        "choices": [chunk({"content": "word "}, index=index) for _ in range(400) for index in range(4)],
        "thoughts": [chunk({"reasoning": "long and longer thoughts " * 9}) for _ in range(900)] + [HELLO],
        "characters": [chunk({"content": "x"}) for _ in range(1600)],
    }[kind]
    many = 4 if kind == "choices" else 1
    ends = [chunk(finish="stop", index=index) for index in range(many)]
    reply = await streamed(Saying(sse(*said, *ends) + DONE), {"n": many, "max_tokens": 300 if many == 4 else 20})

    assert reply.body.endswith(DONE)


@pytest.mark.parametrize("what", ["content", "arguments"])
async def test_an_answer_far_beyond_its_cap_is_a_failure(what: str) -> None:
    call = {"index": 0, "function": {"arguments": "again " * 20}}
    delta = {"content": "again " * 20} if what == "content" else {"tool_calls": [call]}
    reply = await streamed(Saying(sse(HELLO, *[chunk(delta)] * 200, STOP) + DONE), {"max_tokens": 20})

    assert reply.headers["X-Router-Tried"] == "a/m1:server"


# What is passed on with a rewriter


async def test_an_event_that_is_no_chunk_is_left_alone_by_rewriting() -> None:
    own = b'event: tool.progress\ndata: {"title": "looking", "step": 1}\n\n'
    said = Saying(sse(HELLO) + own + sse(STOP) + DONE)
    for config in ({"response_model": "requested"}, {"transparency": "body"}, {}):
        reply = await streamed(said, **config)
        assert own in reply.body
        assert reply.body.endswith(DONE)


@pytest.mark.parametrize("config", [{}, {"response_model": "requested"}])
async def test_halves_of_an_emoji_reach_the_client_and_make_one(config: dict[str, Any]) -> None:
    halves = [chunk({"content": "\ud83d"}), chunk({"content": "\ude00"})]
    reply = await streamed(Saying(sse(HELLO, *halves, STOP) + DONE), **config)
    said = await plain(Saying(json.dumps(whole({"content": "cut \ud83d"})).encode(), JSON), **config)

    assert text_of(reply) == "hello\ud83d\ude00"
    assert said.json["choices"][0]["message"]["content"] == "cut \ud83d"


async def test_half_an_emoji_in_a_request_is_a_replacement_character() -> None:
    async with house("a") as at:
        body = rb'{"model": "auto", "messages": [{"role": "user", "content": "cut \ud83d \\ud83d \ud83d\ude00"}]}'
        reply = await at.ask("POST", "/v1/chat/completions", body)

        assert reply.status == 200
        assert at.up.seen("a").last.json["messages"][0]["content"] == "cut \ufffd \\ud83d \U0001f600"


async def test_numbers_that_json_does_not_know_pass_in_answers() -> None:
    body = json.dumps(whole(logprobs={"content": [{"token": "a", "logprob": float("-inf")}], "x": float("nan")}))
    reply = await plain(Saying(body.encode(), JSON))

    assert by_a(reply)
    assert reply.body == body.encode()
