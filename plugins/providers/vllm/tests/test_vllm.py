"""vLLM's own forms: overflows in three wordings, a server without tools, its list of models, what it reports."""

from __future__ import annotations

import asyncio

import pytest
from routerpool_vllm import Vllm

from routerpool import ConfigError, ProviderConfig, Usage
from routerpool.testing import ProviderContract, Upstream, make_router
from routerpool.testing.provider_contract import OPENAI_USAGES
from routerpool.wire import State, Stream, event_bytes

HELLO = [{"role": "user", "content": "Hello"}]


class TestVllm(ProviderContract):
    plugin = Vllm
    usages = (
        *OPENAI_USAGES,
        (  # as it comes unless the server was started with --enable-prompt-tokens-details
            {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38, "prompt_tokens_details": None},
            Usage(input_uncached=31, output=7, source="reported"),
        ),
    )
    forms = "forms.yaml"


def test_its_list_tells_the_window_that_the_server_was_started_with() -> None:
    entry = {"id": "Qwen/Qwen3-32B", "object": "model", "owned_by": "vllm", "max_model_len": 32768}
    [model] = Vllm().parse_models({"object": "list", "data": [entry]})
    assert (model.id, model.context, model.local, model.free) == ("Qwen/Qwen3-32B", 32768, True, True)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_arrives_under_its_new_name_and_its_old_one(name: str) -> None:
    message = {"role": "assistant", name: "Hm.", "content": None}
    plain = {"choices": [{"index": 0, "message": message, "finish_reason": "length"}]}
    chunks = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {name: "Hm."}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
    ]

    async def whole() -> None:
        async with Upstream() as up:
            config = {"plugins": {"vllm": {"base_url": up.base_url("vllm")}}}
            async with make_router(config, plugins={"vllm": Vllm}) as router:
                body = {"model": "vllm/m1", "messages": HELLO}
                up.reply("vllm", 200, plain)
                assert (await router.chat(body))["choices"][0]["message"][name] == "Hm."

    asyncio.run(whole())
    stream = Stream("vllm", lambda data: pytest.fail(str(data)))
    for chunk in chunks:
        stream.feed(event_bytes(chunk))
    assert stream.state is State.READY
    assert stream.opening().reasoning == "Hm."


def test_a_server_elsewhere_is_not_local_and_cannot_be_called_so() -> None:
    away = Vllm(ProviderConfig(base_url="https://gpu.example/v1", models=("m",)))
    assert not away.local
    assert not any(model.local or model.free for model in away.roster())
    section = {"base_url": "https://gpu.example/v1", "local": True}
    with pytest.raises(ConfigError, match="public address"):
        make_router({"plugins": {"vllm": section}}, plugins={"vllm": Vllm})


def test_its_key_is_optional_where_it_is_local() -> None:
    here = Vllm()
    here.bind({})
    assert here.idle() is None
    away = Vllm(ProviderConfig(base_url="https://gpu.example/v1", local=False))
    away.bind({})
    assert "VLLM_API_KEY" in (away.idle() or "")


def test_its_facts_have_a_date_and_a_source() -> None:
    data = Vllm().facts
    assert data.date
    assert data.source
