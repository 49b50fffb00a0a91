"""The forms of NVIDIA's hosted models: a limit that no header tells of, functions that are degraded or not there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from routerpool_nvidia import Nvidia

from routerpool import FailureKind
from routerpool.testing import ProviderContract, Upstream, Witness, make_router

HELLO = [{"role": "user", "content": "Hello"}]
KEY = {"NVIDIA_API_KEY": "k"}
PLUGINS = {"nvidia": Nvidia}
FUNCTION = "9b96341b-9791-4db9-a00d-4e43aa192a39"


class TestNvidia(ProviderContract):
    plugin = Nvidia
    forms = "forms.yaml"


@pytest.mark.parametrize("variable", ["NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"])
def test_its_key_has_two_names(variable: str) -> None:
    nvidia = Nvidia()
    nvidia.bind({variable: "k"})
    assert nvidia.idle() is None


def test_all_models_share_the_accounts_limit() -> None:
    nvidia = Nvidia(name="nvidia")
    assert {pool for model in nvidia.roster() for pool in model.pools} == {"nvidia::account"}
    assert nvidia.model("any/other").pools == {"nvidia::account"}


@pytest.mark.parametrize(("asked", "reaches"), [(True, None), (False, False), (None, None)])
def test_it_is_never_asked_for_several_calls_at_once(asked: bool | None, reaches: bool | None) -> None:
    async def whole() -> dict[str, Any]:
        async with Upstream() as up:
            config = {"plugins": {"nvidia": {"base_url": up.base_url("nvidia")}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                more = {} if asked is None else {"parallel_tool_calls": asked}
                await router.chat({"model": "auto", "messages": HELLO, **more})
            return up.seen("nvidia").last.json

    assert asyncio.run(whole()).get("parallel_tool_calls") is reaches


def test_a_model_that_the_account_may_not_call_stays_in_the_catalog() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            roster = [model.id for model in Nvidia().roster()]
            up.models("nvidia", roster[:2])
            up.reply("nvidia", 404, {"status": 404, "detail": f"Function '{FUNCTION}': Not found for account 'x'"})
            config = {"plugins": {"nvidia": {"base_url": up.base_url("nvidia")}}, "limits": {"max_attempts": 1}}
            witness = Witness()
            async with make_router(config, plugins=PLUGINS, env=KEY, witness=witness) as router:
                with pytest.raises(Exception, match="nvidia answered 404"):
                    await router.chat({"model": f"nvidia/{roster[0]}", "messages": HELLO})
                await router.catalog.refresh(router.session, all_of_them=True)
                assert [c.model.id for c in router.catalog.snapshot.candidates] == roster[:2]
            assert [failure.kind for failure in witness.failures] == [FailureKind.FORBIDDEN]

    asyncio.run(whole())


def test_a_stream_whose_head_comes_long_before_its_first_token_is_waited_for() -> None:
    chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "At last."}}]}
    last = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

    async def whole() -> None:
        begun, prefilled = asyncio.Event(), asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            await writer.drain()
            begun.set()
            await prefilled.wait()
            events = [f"data: {json.dumps(event)}\n\n" for event in (chunk, last)]
            writer.write("".join([*events, "data: [DONE]\n\n"]).encode())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            config = {"plugins": {"nvidia": {"base_url": url, "models": ["m1"]}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                got: list[str] = []

                async def listen() -> None:
                    async for event in router.stream({"model": "auto", "messages": HELLO}):
                        got.extend(choice["delta"].get("content") or "" for choice in event["choices"])

                listening = asyncio.create_task(listen())
                await begun.wait()
                assert got == []
                prefilled.set()
                await listening
                assert "".join(got) == "At last."

    asyncio.run(whole())


def test_its_facts_have_a_date_a_source_and_the_terms() -> None:
    nvidia = Nvidia()
    assert nvidia.facts.date
    assert nvidia.facts.source
    assert "evaluation" in nvidia.facts.terms
    assert all(model.free for model in nvidia.roster())
