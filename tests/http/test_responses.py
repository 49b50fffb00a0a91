"""Bodies of requests: too large, rubbish, well-formed nonsense; none of it is answered with a server error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st

from ..support.house import CHAT, JSON, house

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/router/explain"])
async def test_a_body_over_the_limit_is_refused_however_it_is_sent(path: str) -> None:
    async with house(limits={"request_bytes": 2000}) as at:
        fits = json.dumps({**CHAT, "user": ""}).encode()
        fits = fits.replace(b'"user": ""', b'"user": "' + b"x" * (2000 - len(fits)) + b'"')
        assert len(fits) == 2000

        async def chunks(data: bytes) -> Any:
            for start in range(0, len(data), 700):
                yield data[start : start + 700]

        for body, status in ((fits, 200), (fits + b" ", 413)):
            assert (await at.ask("POST", path, body)).status == status
            async with at.client.post(at.url(path), data=chunks(body), headers=JSON) as response:
                assert response.status == status
                if status == 413:
                    assert (await response.json())["error"]["code"] == "request_too_large"
        assert at.up.seen("a").chat == (2 if "chat" in path else 0)


async def test_a_declared_length_over_the_limit_is_refused_before_anything_is_sent() -> None:
    async with house() as at:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = await at.raw(f"{head}Content-Length: {1 << 40}\r\nConnection: close\r\n\r\n".encode(), wait=1)
        assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large() -> None:
    async with house(limits={"request_bytes": 1000}) as at:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        part = b"400\r\n" + b"x" * 1024 + b"\r\n"
        answer = await at.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + part, wait=1)
        assert answer.startswith(b"HTTP/1.1 413 "), "though the body has not ended"


async def test_a_body_of_very_many_values_is_refused_and_said_to_be() -> None:
    async with house() as at:
        body = b'{"model": "auto", "messages": [' + b"[]," * 400_000 + b"[]]}"
        answer = await at.ask("POST", "/v1/chat/completions", body)
        assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")
        assert "250,000 values" in answer.json["error"]["message"]


RUBBISH: dict[str, bytes] = {
    "nothing": b"",
    "cut": b'{"model": "auto", "mess',
    "list": b"[]",
    "null": b"null",
    "number": b"42",
    "text": b'"hello"',
    "true": b"true",
    "latin-1": '{"model": "ä"}'.encode("latin-1"),
    "utf-16": '{"model": "auto"}'.encode("utf-16"),
    "bom": b"\xef\xbb\xbf{}",
    "nan": b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
    "infinity": b'{"messages": [{"role": "user", "content": "x"}], "temperature": -Infinity}',
    "trailing comma": b'{"messages": [],}',
    "single quotes": b"{'messages': []}",
    "comment": b"{} // x",
    "two documents": b"{}{}",
    "zero bytes": b"\0" * 100,
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "form": b"model=auto&messages=x",
    "python": b"{'a': None}",
    "control sign": b'{"model": "a\nb"}',
}


@pytest.mark.parametrize("body", RUBBISH.values(), ids=RUBBISH)
async def test_rubbish_is_a_bad_request(body: bytes) -> None:
    async with house() as at:
        for path in ("/v1/chat/completions", "/v1/router/explain"):
            reply = await at.ask("POST", path, body)
            assert reply.status == 400
            assert reply.error["code"] in ("invalid_json", "invalid_request")
        assert at.up.seen("a").chat == 0


async def test_a_number_of_too_many_digits_breaks_nothing() -> None:
    async with house() as at:
        body = b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 5000 + b"}"
        assert (await at.ask("POST", "/v1/chat/completions", body)).status in (200, 400)


WELL_FORMED_NONSENSE: dict[str, dict[str, Any]] = {
    "no messages": {"messages": []},
    "messages null": {"messages": None},
    "messages object": {"messages": {"role": "user", "content": "x"}},
    "message text": {"messages": ["hello"]},
    "message without role": {"messages": [{"content": "x"}]},
    "role number": {"messages": [{"role": 1, "content": "x"}]},
    "model number": {"model": 5},
    "model list": {"model": ["a/m1"]},
    "stream text": {"stream": "yes"},
    "stream number": {"stream": 1},
    "stream_options list": {"stream_options": []},
    "api_base": {"api_base": "https://evil.example/v1"},
    "api_key": {"api_key": "sk"},
    "extra_headers": {"extra_headers": {"a": "b"}},
}


@pytest.mark.parametrize("changes", WELL_FORMED_NONSENSE.values(), ids=WELL_FORMED_NONSENSE)
async def test_a_field_of_the_wrong_shape_is_named(changes: dict[str, Any]) -> None:
    async with house() as at:
        reply = await at.chat(changes)
        assert (reply.status, reply.error["code"]) == (400, "invalid_request")
        assert reply.error["param"].partition("[")[0] in changes
        assert at.up.seen("a").chat == 0


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


ODD: list[Any] = [
    pytest.param({"messages": [{"role": "user", "content": 5}]}, id="content number"),
    pytest.param({"messages": [{"role": "user", "content": {"a": 1}}]}, id="content object"),
    pytest.param({"messages": [{"role": "user", "content": [5, None, "x"]}]}, id="parts of any kind"),
    pytest.param({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, id="text number"),
    pytest.param(
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 5}]}]}, id="image number"
    ),
    pytest.param({"messages": [{"role": "assistant", "tool_calls": 5}]}, id="tool_calls number"),
    pytest.param({"tools": "all"}, id="tools text"),
    pytest.param({"tools": {"type": "function"}}, id="tools object"),
    pytest.param({"tools": [None, 5, {"type": 5}]}, id="tools of any kind"),
    pytest.param({"max_tokens": "5", "n": 0}, id="max_tokens text"),
    pytest.param({"max_tokens": 10**18}, id="max_tokens huge"),
    pytest.param({"response_format": {"type": []}}, id="format type list"),
    pytest.param({"reasoning_effort": {}}, id="effort object"),
    pytest.param({"router": {"session": "\x00\u2028"}}, id="session odd"),
    pytest.param({"metadata": nested(240)}, id="deep field"),
    pytest.param({"tools": 5}, id="tools number"),
    pytest.param(
        {"messages": [{"role": "user", "content": [{"type": []}]}]},
        id="part type list",
    ),
    pytest.param({"router": {"privacy": 5}}, id="privacy number"),
    pytest.param(
        {"messages": [{"role": "user", "content": nested(400)}]},
        id="deeper content",
    ),
    pytest.param({"metadata": nested(400)}, id="deeper field"),
]


@pytest.mark.parametrize("changes", ODD)
async def test_what_is_odd_is_passed_on_or_refused_and_blamed_on_nobody_else(changes: dict[str, Any]) -> None:
    async with house() as at:
        for stream in (False, True):
            assert (await at.chat(changes, stream=stream)).status in (200, 400)
        assert (await at.ask("POST", "/v1/router/explain", {**CHAT, **changes})).status in (200, 400)
        assert at.witness.failures == []


SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = """model messages stream stream_options tools tool_choice functions response_format reasoning_effort max_tokens
max_completion_tokens router metadata user n stop seed"""
HINTS = """privacy profile task preferred forbidden priority mode allow_async max_queue_seconds require_gpu_only session
preferredModels maxQueueTimeMs"""
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "tool", "system", "x"])},
    optional={
        "content": VALUES
        | st.lists(
            st.fixed_dictionaries({"type": VALUES | st.sampled_from(["text", "image_url"])}, optional={"text": VALUES}),
            max_size=2,
        ),
        "tool_calls": VALUES,
        "name": VALUES,
    },
)
BODIES = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGE, min_size=1, max_size=3) | VALUES},
    optional={
        **{name: VALUES for name in FIELDS.split() if name != "messages"},
        "router": VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(HINTS.split(), VALUES)),
    },
)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_large_answer_arrives_whole(stream: bool) -> None:
    async with house() as at:
        at.up.text("a", "x" * (3 << 20), 30)
        assert (await at.chat(stream=stream)).body == at.up.expected("a", "m1", stream)


async def test_a_large_body_raises_no_warning_on_its_way_to_the_provider() -> None:
    async with house() as at:
        assert (await at.chat(user="x" * (2 << 20))).status == 200
