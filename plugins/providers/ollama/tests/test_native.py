"""What only `/api/chat` can do: when it is asked, how a request is translated to it and its answer back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from routerpool_ollama import Ollama
from routerpool_ollama.native import LINE_BYTES, NativeStream

from routerpool import AnswerError, ConfigError, FailureKind, RequestError
from routerpool.testing import Upstream, Witness, make_router
from routerpool.testing.provider_contract import TOOL
from routerpool.wire import EVENT_VALUES, State, Stream

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = "POST /api/chat"
PIXEL = "iVBORw0KGgo="
COUNTS = {"total_duration": 9, "prompt_eval_count": 26, "eval_count": 298}


def line(content: str = "", **more: Any) -> dict[str, Any]:
    """One line of a stream."""
    message = {"role": "assistant", "content": content, **more}
    return {"model": "m1", "created_at": "2026-11-20T00:00:00Z", "message": message, "done": False}


def last(reason: str = "stop", **more: Any) -> dict[str, Any]:
    """The line that ends a stream."""
    return {**line(**more), "done": True, "done_reason": reason, **COUNTS}


def text(lines: Sequence[Any]) -> str:
    """Lines as they go over the wire."""
    return "".join(json.dumps(each) + "\n" for each in lines)


class Asked:
    """What came of one request to an Ollama that answers `/api/chat` with this."""

    def __init__(self) -> None:
        self.path = ""
        self.sent: Any = None
        self.answer: Any = None
        self.chunks: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.witness = Witness()

    @property
    def kinds(self) -> list[FailureKind]:
        return [failure.kind for failure in self.witness.failures]


def ask(
    answer: Any = None,
    *,
    section: Mapping[str, Any] | None = None,
    stream: bool = False,
    status: int = 200,
    **more: Any,
) -> Asked:
    """Send one request through a router."""
    asked = Asked()

    async def whole() -> None:
        async with Upstream() as up:
            up.route("ollama", CHAT, last(content="Hi.") if answer is None else answer, status)
            plugins = {"ollama": {"base_url": up.base_url("ollama"), **(section or {})}}
            config = {"plugins": plugins, "limits": {"max_attempts": 1}}
            async with make_router(config, plugins={"ollama": Ollama}, witness=asked.witness) as router:
                before = len(up.seen("ollama").requests)
                body = {"model": "ollama/m1", "messages": HELLO, **more}
                try:
                    if stream:
                        asked.chunks += [chunk async for chunk in router.stream(body)]
                    else:
                        asked.answer = await router.chat(body)
                except (RequestError, AnswerError) as error:
                    asked.error = error
                posts = [each for each in up.seen("ollama").requests[before:] if each.method == "POST"]
            if posts:
                asked.path, asked.sent = posts[-1].path.removeprefix("/ollama"), posts[-1].json

    asyncio.run(whole())
    return asked


# When


@pytest.mark.parametrize(
    ("section", "more"),
    [
        ({}, {"keep_alive": "10m"}),
        ({}, {"keep_alive": 0}),
        ({}, {"num_ctx": 8192}),
        ({}, {"options": {"num_gpu": 1}}),
        ({"keep_alive": "10m"}, {}),
        ({"keep_alive": 0}, {}),
        ({"num_ctx": 8192}, {}),
        ({"options": {"num_gpu": 1}}, {}),
        ({"models": [{"id": "m1", "num_ctx": 8192}]}, {}),
        ({"models": [{"id": "m1", "keep_alive": -1}]}, {}),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_what_only_its_own_chat_can_do_is_asked_there(
    section: dict[str, Any], more: dict[str, Any], stream: bool
) -> None:
    answer = text([line("Hi."), last()]) if stream else None
    asked = ask(answer, section=section, stream=stream, **more)
    assert (asked.error, asked.path, asked.sent["stream"]) == (None, "/api/chat", stream)


@pytest.mark.parametrize(
    ("section", "more"),
    [
        ({}, {}),
        ({}, {"temperature": 0, "max_tokens": 5, "tools": [TOOL], "reasoning_effort": "low"}),
        ({}, {"keep_alive": None, "num_ctx": None, "options": {}}),
        ({"options": {}}, {}),
        ({"models": ["m1", {"id": "m2", "num_ctx": 8192}]}, {}),
    ],
)
def test_everything_else_goes_to_the_openai_form(section: dict[str, Any], more: dict[str, Any]) -> None:
    assert ask(section=section, **more).path == "/v1/chat/completions"


def test_the_narrower_wish_wins() -> None:
    section = {
        "keep_alive": "5m",
        "num_ctx": 1000,
        "options": {"num_gpu": 1, "top_k": 1, "temperature": 0.1},
        "models": [{"id": "m1", "num_ctx": 2000, "options": {"num_gpu": 2}}],
    }
    usual = ask(section=section).sent
    assert usual["keep_alive"] == "5m"
    assert usual["options"] == {"num_ctx": 2000, "num_gpu": 2, "top_k": 1, "temperature": 0.1, "top_p": 1.0}
    own = ask(section=section, temperature=0.7, num_ctx=3000, keep_alive=0, options={"top_k": 9}).sent
    assert own["keep_alive"] == 0
    assert own["options"] == {"num_ctx": 3000, "num_gpu": 2, "top_k": 9, "temperature": 0.7, "top_p": 1.0}


def test_a_model_has_the_context_that_it_is_loaded_with() -> None:
    models = [{"id": "m1", "context": 131072, "num_ctx": 4096}, {"id": "m2", "context": 131072}]

    async def whole(section: dict[str, Any]) -> dict[str, int | None]:
        async with Upstream() as up:
            config = {"plugins": {"ollama": {"base_url": up.base_url("ollama"), **section}}}
            async with make_router(config, plugins={"ollama": Ollama}) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                return {c.model.id: c.model.context for c in router.catalog.snapshot.candidates}

    assert asyncio.run(whole({"models": models})) == {"m1": 4096, "m2": 131072}
    assert asyncio.run(whole({"num_ctx": 512})) == {"m1": 512, "m2": 512}


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"keep_alive": [1]}, "keep_alive"),
        ({"num_ctx": 0}, "num_ctx"),
        ({"num_ctx": "8k"}, "num_ctx"),
        ({"options": [1]}, "options"),
        ({"models": [{"id": "m1", "num_ctxt": 1}]}, "num_ctx"),
    ],
)
def test_a_wrong_section_says_what_to_mend(section: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make_router({"plugins": {"ollama": section}}, plugins={"ollama": Ollama})


@pytest.mark.parametrize("keep", ["30m", "1h30m", "-1s", "1.5h", 0, -1, 90, 1.5])
def test_every_way_of_saying_a_time_is_passed_on(keep: Any) -> None:
    assert ask(section={"keep_alive": keep}).sent["keep_alive"] == keep


# Requests


def test_a_conversation_is_translated() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "forecast", "arguments": '{"city": "Ulm"}'}}
    messages = [
        {"role": "developer", "content": "Be short."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "text", "text": "And the weather?"},
            ],
        },
        {"role": "assistant", "content": None, "reasoning": "A tool.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "Rain.", "reasoning_content": "Done."},
        {"role": "user", "content": "Thanks"},
    ]
    sent = ask(messages=messages, keep_alive="1m").sent
    assert sent["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is this?\nAnd the weather?", "images": [PIXEL]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "A tool.",
            "tool_calls": [{"id": "c1", "function": {"name": "forecast", "arguments": {"city": "Ulm"}}}],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "c1", "tool_name": "forecast"},
        {"role": "assistant", "content": "Rain.", "thinking": "Done."},
        {"role": "user", "content": "Thanks"},
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"max_tokens": 5}, {"num_predict": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"num_predict": 7}),
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"stop": ["A", "B"]}, {"stop": ["A", "B"]}),
        ({"seed": 4, "top_p": 0.5}, {"seed": 4, "top_p": 0.5}),
        ({"frequency_penalty": 0.5, "presence_penalty": 1}, {"frequency_penalty": 0.5, "presence_penalty": 1}),
        ({"n": 1, "user": "u", "logit_bias": {"1": 1}}, {}),
    ],
)
def test_sampling_fields_become_options(more: dict[str, Any], said: dict[str, Any]) -> None:
    sent = ask(keep_alive=60, **more).sent
    assert sent["options"] == {"temperature": 1.0, "top_p": 1.0, **said}
    assert sorted(sent) == ["keep_alive", "messages", "model", "options", "stream"]


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "format", "json"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            "format",
            SCHEMA,
        ),
        ({"response_format": {"type": "text"}}, "format", None),
        ({"reasoning_effort": "high"}, "think", "high"),
        ({"reasoning_effort": "none"}, "think", False),
        ({"reasoning": {"effort": "low"}}, "think", "low"),
        ({"think": True}, "think", True),
        ({"tools": [TOOL]}, "tools", [TOOL]),
        ({"tools": [TOOL], "tool_choice": "none"}, "tools", None),
        ({"truncate": False}, "truncate", False),
        ({"logprobs": True, "top_logprobs": 2}, "top_logprobs", 2),
    ],
)
def test_other_fields_have_names_of_their_own(more: dict[str, Any], field: str, value: Any) -> None:
    assert ask(keep_alive=60, **more).sent.get(field) == value


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://pics.example/1.png"}}]},
            FailureKind.UNAVAILABLE,
        ),
        ({"role": "user", "content": [{"type": "image_url", "image_url": None}]}, FailureKind.UNAVAILABLE),
        ({"role": "user", "content": [{"type": "input_audio"}]}, FailureKind.BAD_REQUEST),
        ({"role": "user", "content": 7}, FailureKind.BAD_REQUEST),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a":'}}]},
            FailureKind.BAD_REQUEST,
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]},
            FailureKind.BAD_REQUEST,
        ),
        ({"role": "assistant", "tool_calls": [7]}, FailureKind.BAD_REQUEST),
    ],
)
def test_what_it_cannot_be_asked_is_refused_as_its_openai_form_refuses_it(
    message: dict[str, Any], kind: FailureKind
) -> None:
    asked = ask(messages=[message], num_ctx=512)
    assert (asked.path, asked.kinds) == ("", [kind])
    assert asked.error is not None


# Answers


def test_a_whole_answer_is_translated() -> None:
    call = {"id": "c7", "function": {"index": 0, "name": "forecast", "arguments": {"city": "Ulm"}}}
    asked = ask(last(content="Look:", thinking="Hm.", tool_calls=[call, {"function": {"name": "now"}}]), num_ctx=512)
    [choice] = asked.answer["choices"]
    assert (asked.answer["object"], asked.answer["model"]) == ("chat.completion", "m1")
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert (message["role"], message["content"], message["reasoning"]) == ("assistant", "Look:", "Hm.")
    one, two = message["tool_calls"]
    assert one == {
        "index": 0,
        "id": "c7",
        "type": "function",
        "function": {"name": "forecast", "arguments": '{"city":"Ulm"}'},
    }
    assert (two["index"], two["function"]) == (1, {"name": "now", "arguments": "{}"})
    assert two["id"].startswith("call_")
    assert asked.answer["usage"] == {"prompt_tokens": 26, "completion_tokens": 298, "total_tokens": 324}
    usage = asked.witness.records[0].usage
    assert (usage.source, usage.input, usage.output) == ("reported", 26, 298)


@pytest.mark.parametrize(("reason", "finish"), [("stop", "stop"), ("length", "length"), (None, "stop")])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_reason_of_the_end_is_told(reason: Any, finish: str, stream: bool) -> None:
    answer = last(reason, content="Hi.")
    asked = ask(text([answer]) if stream else answer, stream=stream, keep_alive=1)
    choices = [chunk["choices"][0] for chunk in asked.chunks] if stream else asked.answer["choices"]
    assert choices[-1]["finish_reason"] == finish


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_count_that_is_left_out_is_0(stream: bool) -> None:
    answer = last(content="Hi.")
    del answer["prompt_eval_count"]  # so it is where the whole prompt was still in the cache
    asked = ask(text([answer]) if stream else answer, stream=stream, keep_alive=1)
    usage = asked.witness.records[0].usage
    assert (usage.source, usage.input, usage.output) == ("reported", 0, 298)


@pytest.mark.parametrize("reason", ["load", "unload"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_that_it_only_loaded_or_unloaded_the_model_is_no_answer(reason: str, stream: bool) -> None:
    asked = ask(text([last(reason)]) if stream else last(reason), stream=stream, keep_alive=0)
    assert isinstance(asked.error, RequestError)
    assert asked.kinds == [FailureKind.EMPTY]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_token_probabilities_arrive(stream: bool) -> None:
    told = [{"token": "Hi", "logprob": -0.1}]
    answer = {**last(content="Hi."), "logprobs": told}
    asked = ask(text([answer]) if stream else answer, stream=stream, keep_alive=1, logprobs=True)
    choice = asked.chunks[0]["choices"][0] if stream else asked.answer["choices"][0]
    assert choice["logprobs"] == {"content": told}


THOUGHT = [line(thinking="Hm"), line(thinking=".")]
CALLS = [
    line(tool_calls=[{"function": {"index": 0, "name": "forecast", "arguments": {"city": "Ulm"}}}]),
    line(tool_calls=[{"function": {"index": 0, "name": "forecast", "arguments": {"city": "Bonn"}}}]),
]


def test_a_stream_is_translated() -> None:
    lines = [*THOUGHT, line("He"), line("llo"), line(), *CALLS, last()]
    asked = ask(text(lines), stream=True, num_ctx=512, stream_options={"include_usage": True})
    assert asked.error is None
    choices = [choice for chunk in asked.chunks for choice in chunk["choices"]]
    deltas = [choice["delta"] for choice in choices]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("reasoning") or "" for delta in deltas) == "Hm."
    assert "".join(delta.get("content") or "" for delta in deltas) == "Hello"
    calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
    assert [call["index"] for call in calls] == [0, 1]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"city": "Ulm"}, {"city": "Bonn"}]
    assert len({call["id"] for call in calls}) == 2
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert asked.chunks[-1]["choices"] == []
    assert asked.chunks[-1]["usage"]["total_tokens"] == 324
    assert len({chunk["id"] for chunk in asked.chunks}) == 1
    assert asked.witness.records[0].usage.output == 298


def test_usage_that_the_client_did_not_ask_for_is_recorded_and_kept_back() -> None:
    asked = ask(text([line("Hi."), last()]), stream=True, num_ctx=512)
    assert all(chunk["choices"] for chunk in asked.chunks)
    assert asked.witness.records[0].usage.input == 26


ROOM = {"error": "llama-server reported out-of-memory during startup: cudaMalloc failed"}


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([ROOM], FailureKind.SERVER),
        ([line(), ROOM], FailureKind.SERVER),
        ([{"error": 'model "m1" not found'}], FailureKind.MISSING_MODEL),
        (["rubbish"], FailureKind.SERVER),
        ([], FailureKind.EMPTY),
    ],
)
def test_a_stream_that_fails_before_it_says_anything_is_a_failure(lines: list[Any], kind: FailureKind) -> None:
    asked = ask(text(lines), stream=True, num_ctx=512)
    assert isinstance(asked.error, RequestError)
    assert (asked.kinds, asked.chunks) == ([kind], [])


@pytest.mark.parametrize(
    "rest", [[ROOM], ["rubbish"], [line("llo")], [last("load")], []], ids=["error", "rubbish", "cut", "load", "nothing"]
)
def test_a_stream_that_breaks_off_does_not_end_well(rest: list[Any]) -> None:
    """The rest comes once the client has its first chunk, from a server that does nothing else."""
    witness, chunks = Witness(), []

    async def whole() -> None:
        begun = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
            if request.startswith(b"POST /api/chat "):
                writer.write(head + text([line("He")]).encode())
                await begun.wait()
                writer.write(text(rest).encode())
            else:
                writer.write(head + b'{"models": []}')
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            section = {"base_url": f"http://127.0.0.1:{port}", "models": [{"id": "m1", "num_ctx": 512}]}
            config = {"plugins": {"ollama": section}, "limits": {"max_attempts": 1}}
            async with make_router(config, plugins={"ollama": Ollama}, witness=witness) as router:
                stream = router.stream({"model": "ollama/m1", "messages": HELLO})
                chunks.append(await anext(stream))
                begun.set()
                with pytest.raises(RequestError) as caught:
                    chunks.extend([chunk async for chunk in stream])
        assert caught.value.code == "upstream_interrupted"

    asyncio.run(whole())
    assert chunks[0]["choices"][0]["delta"]["content"] == "He"
    assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])
    assert [failure.kind for failure in witness.failures] == [FailureKind.INTERRUPTED]


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (404, {"error": "model 'm1' not found"}, FailureKind.MISSING_MODEL),
        (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, FailureKind.UNAVAILABLE),
        (500, ROOM, FailureKind.SERVER),
        (401, {"error": "unauthorized", "signin_url": "https://ollama.example"}, FailureKind.FORBIDDEN),
        (200, ROOM, FailureKind.SERVER),
        (200, {"hello": "there"}, FailureKind.SERVER),
        (200, "<html>", FailureKind.SERVER),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_its_refusals_are_understood(status: int, answer: Any, kind: FailureKind, stream: bool) -> None:
    asked = ask(answer, status=status, stream=stream, keep_alive=1)
    assert isinstance(asked.error, RequestError)
    assert asked.kinds == ([FailureKind.EMPTY] if stream and answer == {"hello": "there"} else [kind])


class Pieces:
    """An upstream that gives these bytes piece by piece."""

    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, *pieces: bytes) -> None:
        self.left = list(pieces)
        self.closed = False

    async def chunk(self) -> bytes:
        return self.left.pop(0) if self.left else b""

    def close(self) -> None:
        self.closed = True


async def heard(upstream: Pieces) -> bytes:
    stream, out = NativeStream(upstream, "chatcmpl-1"), b""
    while data := await stream.chunk():
        out += data
    stream.close()
    return out


def test_a_stream_may_be_cut_anywhere_and_need_not_end_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool_ollama.native.time.time", lambda: 7.0)
    body = text([line("Grüße "), line("dir"), last()]).encode()
    whole = asyncio.run(heard(Pieces(body)))
    stream = Stream("ollama", lambda data: pytest.fail(str(data)))
    stream.feed(whole)
    assert (stream.state, stream.opening().text, stream.finish_reason) == (State.READY, "Grüße dir", "stop")
    assert stream.ended
    for place in range(1, len(body)):
        upstream = Pieces(body[:place], body[place:])
        assert asyncio.run(heard(upstream)) == whole
        assert upstream.closed
    assert asyncio.run(heard(Pieces(body.rstrip()))) == whole
    assert asyncio.run(heard(Pieces(body.replace(b"\n", b"\r\n\r\n")))) == whole


def test_a_line_that_never_ends_is_not_kept_for_ever() -> None:
    with pytest.raises(ValueError, match="longer than its limit"):
        asyncio.run(heard(Pieces(*[b"x" * (LINE_BYTES // 2)] * 3)))


def test_a_client_that_leaves_ends_the_request_at_ollama() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            up.route("ollama", CHAT, text([line("He"), line("llo")]))
            config = {"plugins": {"ollama": {"base_url": up.base_url("ollama"), "num_ctx": 512}}}
            async with make_router(config, plugins={"ollama": Ollama}) as router:
                stream = router.stream({"model": "ollama/m1", "messages": HELLO})
                assert (await anext(stream))["choices"][0]["delta"]["content"] == "He"
                await stream.aclose()
            await up.wait_for("ollama", open=0)

    asyncio.run(whole())


def test_the_key_goes_along() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            up.route("ollama", CHAT, last(content="Hi."))
            section = {"base_url": up.base_url("ollama"), "api_key_env": "CLOUD_KEY", "keep_alive": 60}
            config = {"plugins": {"ollama": section}}
            async with make_router(config, plugins={"ollama": Ollama}, env={"CLOUD_KEY": "canary"}) as router:
                await router.chat({"model": "ollama/m1", "messages": HELLO})
            assert up.seen("ollama").last.path.endswith("/api/chat")
            assert up.seen("ollama").last.headers["authorization"] == "Bearer canary"

    asyncio.run(whole())


def test_a_line_of_more_values_than_an_event_may_hold_is_left_to_the_streams_reader() -> None:
    crowded = text([{**line("lo"), "more": [0] * EVENT_VALUES}]).encode()
    assert asyncio.run(heard(Pieces(crowded))) == b"data: " + crowded + b"\n"
