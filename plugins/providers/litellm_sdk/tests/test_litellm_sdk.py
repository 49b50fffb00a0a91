"""LiteLLM's SDK as a provider: what it says of itself, and (where LiteLLM is installed) what it does at a socket."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from typing import Any

import pytest
from routerpool_litellm_sdk import CURE, LiteLLM, LiteLLMConfig, _spare

from routerpool import ConfigError, FailureKind, Level, ModelData, Prices, RequestError
from routerpool.testing import ProviderContract, make_router
from routerpool.testing.provider_contract import Rig, modes
from routerpool.testing.upstream import Upstream

KEY = "canary-of-litellm"
HELLO = [{"role": "user", "content": "Say hello."}]
needs_sdk = pytest.mark.skipif(
    find_spec("litellm") is None, reason='needs LiteLLM itself: pip install "routerpool-litellm-sdk[sdk]"'
)
pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM warns of itself and of pydantic, on every answer


@needs_sdk
class TestLiteLLM(ProviderContract):
    plugin = LiteLLM
    forms = "forms.yaml"

    @pytest.fixture(autouse=True)
    def key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def section(self, base_url: str) -> dict[str, Any]:
        return {"models": ["openai/m1"], "api_base": base_url}

    @modes
    def test_an_answer_arrives_as_it_was_sent(self, stream: bool) -> None:
        async def body(rig: Rig) -> None:
            got = await rig.ask(stream=stream)
            assert got.error is None
            assert (got.text, got.finish) == (rig.up.expected_text(self.name), "stop")
            sent = rig.up.seen(self.name).last.json
            assert (sent["model"], sent["messages"]) == ("m1", HELLO), "the vendor's own name of the model"
            assert bool(sent.get("stream")) is stream

        self.run(body)


@pytest.fixture
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def run(body: Callable[[Rig], Awaitable[None]]) -> None:
    TestLiteLLM().run(body)


# Without LiteLLM


def test_without_the_package_it_is_idle_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool_litellm_sdk.find_spec", lambda name: None)

    async def body() -> None:
        async with make_router(
            {"plugins": {"litellm_sdk": {"models": ["openai/m1"]}}}, plugins={"litellm_sdk": LiteLLM}
        ) as router:
            assert CURE in (router.providers["litellm_sdk"].idle() or "")
            with pytest.raises(RequestError):
                await router.chat({"model": "litellm_sdk/openai/m1", "messages": HELLO})
            [report] = [r for r in await router.check() if r.subject == "litellm_sdk"]
            assert (report.level, report.cure) == (Level.NOTE, CURE)

    asyncio.run(body())


def test_without_models_it_is_idle() -> None:
    assert "models" in (LiteLLM().idle() or "") or find_spec("litellm") is None


def test_making_it_imports_nothing() -> None:
    before = set(sys.modules)
    LiteLLM(LiteLLMConfig(models=("bedrock/x",)))
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] == "litellm"}


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"options": {"api_key": "sk-1"}}, "environment"),
        ({"options": {"aws_secret_access_key": "x"}}, "environment"),
        ({"local": True}, "api_base"),
        ({"local": True, "api_base": "https://api.vendor.example/v1"}, "api_base"),
        ({"model": "x"}, "unknown key"),
    ],
)
def test_a_section_that_would_harm_is_refused(section: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make_router({"plugins": {"litellm_sdk": section}}, plugins={"litellm_sdk": LiteLLM})


def test_models_are_named_as_litellm_names_them() -> None:
    entries = ("bedrock/anthropic.claude-x-v1:0", ModelData(id="azure/mine", context=1000, free=True))
    first, second = LiteLLM(LiteLLMConfig(models=entries, data_policy="no_training")).roster()
    assert (first.id, first.local, first.data_policy) == ("bedrock/anthropic.claude-x-v1:0", False, "no_training")
    assert (second.context, second.free) == (1000, True)


def test_only_models_that_are_asked_at_the_given_address_are_local() -> None:
    config = LiteLLMConfig(models=("openai/m1", "bedrock/x"), local=True, api_base="http://127.0.0.1:9/v1")
    assert [model.local for model in LiteLLM(config).roster()] == [True, False]


# With it


@needs_sdk
@pytest.mark.usefixtures("a_key")
def test_arguments_by_which_litellm_could_be_sent_elsewhere_are_left_out() -> None:
    async def body(rig: Rig) -> None:
        odd = {
            "num_retries": 9,
            "headers": {"X-Evil": "1"},
            "aws_bedrock_runtime_endpoint": "http://127.0.0.1:1",
            "litellm_params": {"api_base": "http://127.0.0.1:1"},
            "success_callback": ["x"],
            "organization": "o",
            "seed": 7,
        }
        got = await rig.ask(**odd)
        assert got.error is None
        sent = rig.up.seen(rig.name).last
        assert sorted(sent.json) == ["messages", "model", "seed"]
        assert "x-evil" not in sent.headers
        assert sent.headers["authorization"] == f"Bearer {KEY}"

    run(body)


@needs_sdk
@pytest.mark.usefixtures("a_key")
@pytest.mark.parametrize("label", ["http:500", "http:429", "close", "http:401"])
def test_litellm_asks_once_and_never_again(label: str) -> None:
    async def body(rig: Rig) -> None:
        rig.up.always(rig.name, label)
        await rig.ask()
        await rig.ask(stream=True)
        assert rig.up.seen(rig.name).chat == 2

    run(body)


@needs_sdk
@pytest.mark.usefixtures("a_key")
def test_the_end_that_litellm_makes_up_is_not_passed_on() -> None:
    async def body(rig: Rig) -> None:
        got = await rig.ask("nodone", stream=True)
        assert isinstance(got.error, RequestError)
        assert got.finish is None

    run(body)


@needs_sdk
@pytest.mark.usefixtures("a_key")
def test_a_client_that_leaves_ends_the_stream_at_the_vendor() -> None:
    async def body(rig: Rig) -> None:
        rig.up.always(rig.name, "infinite")
        async for chunk in rig.router.stream({"model": rig.candidate.key, "messages": HELLO}):
            if chunk["choices"][0]["delta"].get("content"):
                break
        await rig.up.wait_for(rig.name, aborts=1)

    run(body)


@needs_sdk
@pytest.mark.usefixtures("a_key")
def test_its_key_is_told_to_nobody(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    async def body(rig: Rig) -> None:
        told: list[Any] = []
        for label in ("ok", "http:401", "http:400", "http:500", "midclose"):
            for stream in (False, True):
                got = await rig.ask(label, stream=stream)
                told += [got, got.error.body() if isinstance(got.error, RequestError) else got.error]
        echo = {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}
        rig.up.reply(rig.name, 401, echo)
        told += [await rig.ask(), rig.witness, await rig.router.status(), await rig.router.check()]
        assert KEY not in repr(told)

    with caplog.at_level(logging.DEBUG):
        run(body)
    assert KEY not in caplog.text
    printed = capfd.readouterr()
    assert KEY not in printed.out + printed.err
    assert "litellm" not in printed.out.lower(), "LiteLLM prints where it should be silent"


@needs_sdk
@pytest.mark.usefixtures("a_key")
def test_what_litellms_table_knows_of_a_model_is_known() -> None:
    async def body(rig: Rig) -> None:
        config = LiteLLMConfig(
            models=("openai/gpt-4o", ModelData(id="openai/gpt-4o-mini", context=7, free=True), "x/y")
        )
        known, mine, unknown = await LiteLLM(config).discover(rig.router.session)
        assert known.context is not None
        assert known.prices.input is not None
        assert known.prices.output is not None
        assert known.prices.output > known.prices.input > 0.01, "dollars per million tokens"
        assert known.capabilities["tools"] is True
        assert (mine.context, mine.prices) == (7, Prices())
        assert (unknown.context, dict(unknown.capabilities)) == (None, {})

    run(body)


@needs_sdk
@pytest.mark.usefixtures("a_key")
def test_a_model_that_cannot_use_tools_is_not_asked_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(rig: Rig) -> None:
        import litellm

        monkeypatch.setattr(litellm, "get_supported_openai_params", lambda model: ["temperature"])
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        await rig.ask(tools=[tool])
        [failure] = rig.witness.failures
        assert (failure.kind, failure.lacks, failure.retry_after) == (FailureKind.UNAVAILABLE, "tools", 0)
        assert not rig.up.seen(rig.name).chat

    run(body)


@pytest.mark.parametrize(
    ("status", "name", "words", "kind"),
    [
        (500, "APIConnectionError", "litellm.APIConnectionError: x", FailureKind.SERVER),
        (500, "ConnectError", "Connection error.", FailureKind.CONNECT),
        (400, "UnsupportedParamsError", "x does not support parameters", FailureKind.UNAVAILABLE),
        (400, "PaymentRequiredError", "pay", FailureKind.CREDIT),
        (400, "BadRequestError", "LLM Provider NOT provided. You passed model=foo", FailureKind.MISSING_MODEL),
        (400, "BadRequestError", "litellm.BadRequestError: wrong", FailureKind.BAD_REQUEST),
        (503, "ServiceUnavailableError", "down", FailureKind.SERVER),
        (403, "PermissionDeniedError", "no", FailureKind.FORBIDDEN),
    ],
)
def test_an_exception_is_of_the_kind_that_its_name_says(status: int, name: str, words: str, kind: FailureKind) -> None:
    told: Mapping[str, Any] = {"error": {"message": words, "type": name, "param": None, "code": status}}
    for answered in (status, 200):  # in a stream it comes without a status of its own
        assert LiteLLM().failure(answered, {}, json.dumps(told).encode()).kind is kind


# What is local asks no proxy


@needs_sdk
@pytest.mark.usefixtures("a_key")
@pytest.mark.parametrize("model", ["openai/m1", "hosted_vllm/m1"])
def test_a_local_instance_asks_no_proxy_whatever_the_environment_says(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with Upstream() as proxy, Upstream() as up:
            for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.base_url("proxy").removesuffix("/v1").rpartition("/")[0])
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.setenv(name, "other.example")
            section = {"models": [model], "api_base": up.base_url("lab"), "local": True}
            async with make_router({"plugins": {"litellm_sdk": section}}, plugins={"litellm_sdk": LiteLLM}) as router:
                answer = await router.chat({"model": f"litellm_sdk/{model}", "messages": HELLO})
            assert answer["choices"][0]["message"]["content"] == up.expected_text("lab")

    asyncio.run(body())


def test_a_host_is_spared_once_and_beside_those_that_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "a.example, b.example")
    monkeypatch.delenv("no_proxy", raising=False)
    for host in ("box", "::1", "box"):
        _spare(host)
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "a.example,b.example,box,[::1]"
