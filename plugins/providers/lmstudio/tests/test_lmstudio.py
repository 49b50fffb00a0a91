"""LM Studio's own forms: its list of models, models that are loaded on demand and unloaded again, overflows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from routerpool_lmstudio import LmStudio

from routerpool import AnswerError, FailureKind, ProviderConfig
from routerpool.testing import ProviderContract, Upstream, Witness, make_router

PLUGINS = {"lmstudio": LmStudio}
HELLO = [{"role": "user", "content": "Hello"}]
KEEP = (
    "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 13055>= n_ctx: "
    "4096). Try to load the model with a larger context length, or provide a shorter input."
)


class TestLmStudio(ProviderContract):
    plugin = LmStudio
    forms = "forms.yaml"
    models_route = "GET /api/v1/models"

    def listing(self, models: Sequence[Any]) -> Any:
        return {"models": list(models)}

    def entry(self, model_id: str) -> Any:
        return {"type": "llm", "key": model_id, "loaded_instances": [], "max_context_length": 32768}


class TestAnOlderOne(ProviderContract):
    plugin = LmStudio
    forms = "forms.yaml"


def models_of(route: str, payload: Any, status: int = 200) -> Mapping[str, Any]:
    """The models that a router has of an LM Studio that answers this."""

    async def whole() -> Mapping[str, Any]:
        async with Upstream() as up:
            up.route("lmstudio", route, payload, status)
            config = {"plugins": {"lmstudio": {"base_url": up.base_url("lmstudio")}}}
            async with make_router(config, plugins=PLUGINS) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                return {c.model.id: c.model for c in router.catalog.snapshot.candidates}

    return asyncio.run(whole())


def test_its_own_list_tells_windows_and_abilities() -> None:
    loaded = {"id": "seer", "config": {"context_length": 8192}}
    models = models_of(
        "GET /api/v1/models",
        {
            "models": [
                {
                    "type": "llm",
                    "key": "qwen/seer",
                    "display_name": "Seer",
                    "loaded_instances": [loaded],
                    "max_context_length": 131072,
                    "capabilities": {"vision": True, "trained_for_tool_use": False},
                },
                {"type": "llm", "key": "plain", "loaded_instances": [], "max_context_length": 32768},
                {"type": "embedding", "key": "text-embedding-nomic", "max_context_length": 2048},
                {"type": "llm", "key": 7},
            ]
        },
    )
    assert list(models) == ["qwen/seer", "plain"]
    seer, plain = models["qwen/seer"], models["plain"]
    assert (seer.context, seer.display_name, seer.local, seer.free) == (8192, "Seer", True, True)
    assert seer.capabilities == {"vision": True, "tools": False}
    assert (plain.context, dict(plain.capabilities)) == (32768, {})


def test_a_version_without_its_own_list_is_asked_for_openais() -> None:
    models = models_of("GET /v1/models", {"object": "list", "data": [{"id": "old", "object": "model"}]})
    assert list(models) == ["old"]


def test_a_list_that_fails_is_not_taken_for_an_old_version() -> None:
    assert models_of("GET /api/v1/models", {"error": "busy"}, 500) == {}


def test_a_model_that_is_still_loading_answers_late_and_is_waited_for() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            config = {"plugins": {"lmstudio": {"base_url": up.base_url("lmstudio")}}}
            async with make_router(config, plugins=PLUGINS) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                up.hold("lmstudio")
                asked = asyncio.ensure_future(router.chat({"model": "lmstudio/m1", "messages": HELLO, "ttl": 300}))
                await up.wait_for("lmstudio", chat=1)
                assert not asked.done()
                up.release("lmstudio")
                answer = await asked
            assert answer["choices"][0]["message"]["content"] == up.expected_text("lmstudio")
            assert up.seen("lmstudio").last.json["ttl"] == 300

    asyncio.run(whole())


def test_an_overflow_in_place_of_a_stream_is_one_too() -> None:
    async def whole() -> None:
        witness = Witness()
        async with Upstream() as up:
            up.reply("lmstudio", 200, {"error": {"message": KEEP}})
            config = {"plugins": {"lmstudio": {"base_url": up.base_url("lmstudio")}}}
            async with make_router(config, plugins=PLUGINS, witness=witness) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                with pytest.raises(AnswerError):
                    await anext(router.stream({"model": "lmstudio/m1", "messages": HELLO}))
        assert [failure.kind for failure in witness.failures] == [FailureKind.TOO_LARGE]

    asyncio.run(whole())


def test_the_variable_of_other_programs_moves_it_and_its_own_goes_before() -> None:
    one, two, public = LmStudio(name="lmstudio"), LmStudio(name="lmstudio"), LmStudio(name="lmstudio")
    one.bind({"LM_STUDIO_API_BASE": "http://box:9/v1"})
    two.bind({"LM_STUDIO_API_BASE": "http://box:9/v1", "LMSTUDIO_BASE_URL": "http://den:8/v1"})
    public.bind({"LM_STUDIO_API_BASE": "https://studio.example/v1"})
    assert (one.base_url, two.base_url) == ("http://box:9/v1", "http://den:8/v1")
    assert (public.base_url, public.local, public.free) == ("https://studio.example/v1", False, False)


def test_its_token_is_optional_where_it_is_local() -> None:
    here = LmStudio()
    here.bind({})
    assert here.idle() is None
    away = LmStudio(ProviderConfig(base_url="https://studio.example/v1", local=False))
    away.bind({})
    assert "LM_STUDIO_API_KEY" in (away.idle() or "")
