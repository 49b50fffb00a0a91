"""An endpoint by its address: with a key and without, with named models and with those it lists."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from routerpool_openai_compatible import OpenAICompatible

from routerpool import ConfigError, Usage
from routerpool.testing import ProviderContract, Upstream, Witness, make_router, read_forms
from routerpool.testing.provider_contract import OPENAI_USAGES

PLUGINS = {"openai_compatible": OpenAICompatible}


USAGES = (
    *OPENAI_USAGES,
    (
        {
            "prompt_tokens": 90,
            "completion_tokens": 8,
            "total_tokens": 98,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 26,
        },
        Usage(input_uncached=26, input_cached=64, output=8, source="reported"),
    ),
    (
        {"input_tokens": 20, "output_tokens": 8, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 5},
        Usage(input_uncached=20, input_cached=70, cache_write=5, output=8, source="reported"),
    ),
)


class TestWithAKey(ProviderContract):
    plugin = OpenAICompatible
    options: ClassVar = {"api_key_env": "LAB_KEY", "models": ["m1"]}
    forms = "forms.yaml"
    usages = USAGES


class TestLocalAndWithoutAKey(ProviderContract):
    plugin = OpenAICompatible
    options: ClassVar = {"local": True, "free": True}
    forms = read_forms(Path(__file__).with_name("forms.yaml"))[:2]


def test_models_are_asked_for_unless_they_are_named() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            up.models("lab", ["big", "small"])
            up.route("shop", "GET /v1/models", {"data": [{"id": "models/far", "context_length": 4096}]})
            plugins = {
                "lab": {"use": "openai_compatible", "base_url": up.base_url("lab"), "local": True},
                "shop": {"use": "openai_compatible", "base_url": up.base_url("shop")},
                "fixed": {"use": "openai_compatible", "base_url": up.base_url("fixed"), "models": ["one"]},
            }
            async with make_router({"plugins": plugins}, plugins=PLUGINS) as router:
                candidates = {c.key: c.model for c in router.catalog.snapshot.candidates}
                assert list(candidates) == ["lab/big", "lab/small", "shop/far", "fixed/one"]
                assert candidates["lab/big"].local
                assert not candidates["shop/far"].local
                assert candidates["shop/far"].context == 4096
                assert not up.seen("fixed").requests

    asyncio.run(whole())


def test_what_the_user_says_of_a_model_stands() -> None:
    told = {"id": "m1", "context": 1234, "tier": "capable", "capabilities": {"tools": False}}
    section = {"use": "openai_compatible", "base_url": "https://api.lab.example/v1/", "models": [told, "m2"]}
    router = make_router({"plugins": {"lab": section}}, plugins=PLUGINS)
    one, two = router.providers["lab"].roster()
    assert (one.context, one.tier.name, one.capabilities) == (1234, "CAPABLE", {"tools": False})
    assert two.context is None


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({}, "base_url"),
        ({"base_url": "ftp://lab.example/v1"}, "http"),
        ({"base_url": "https://user:pass@lab.example/v1"}, "credentials"),
        ({"base_url": "https://api.lab.example/v1", "local": True}, "public address"),
        ({"base_url": "https://api.lab.example/v1", "api_key": "sk-1"}, "api_key_env"),
    ],
)
def test_a_wrong_section_says_what_to_mend(section: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make_router({"plugins": {"lab": {"use": "openai_compatible", **section}}}, plugins=PLUGINS)


@pytest.mark.parametrize("asks", [False, True])
def test_a_server_that_refuses_to_stream_its_usage_is_asked_without_from_then_on(asks: bool) -> None:
    """The first answer refuses the field by its name, whoever wished for it."""
    bodies: list[Any] = []
    witness = Witness()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        bodies.append(json.loads(await reader.readexactly(size)))
        if "stream_options" in bodies[-1]:
            status, kind, said = "400 Bad Request", "application/json", b'{"error": "unknown field stream_options"}'
        else:
            chunk = {"choices": [{"index": 0, "delta": {"content": "Hi."}, "finish_reason": "stop"}]}
            status, kind = "200 OK", "text/event-stream"
            said = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode() + said)
        writer.close()
        await writer.wait_closed()

    async def whole() -> list[Any]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            section = {"use": "openai_compatible", "base_url": f"http://127.0.0.1:{port}/v1", "models": ["m1"]}
            async with make_router({"plugins": {"lab": section}}, plugins=PLUGINS, witness=witness) as router:
                body: dict[str, Any] = {"model": "lab/m1", "messages": [{"role": "user", "content": "Hello"}]}
                if asks:
                    body["stream_options"] = {"include_usage": True}
                return [[chunk async for chunk in router.stream(body)] for _ in range(2)]

    answers = asyncio.run(whole())
    assert ["stream_options" in body for body in bodies] == [True, False, False], "it did not remember"
    assert [answer[0]["choices"][0]["delta"]["content"] for answer in answers] == ["Hi.", "Hi."]
    assert [record.usage.source for record in witness.records] == ["estimated", "estimated"]
