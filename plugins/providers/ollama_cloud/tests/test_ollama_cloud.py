"""What is Ollama's cloud's own: a variable of two meanings, windows of a week and of five hours, its list of models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from routerpool_ollama_cloud import OllamaCloud

from routerpool.providers import NotListedError
from routerpool.testing import ProviderContract, Upstream, make_router

KEY = {"OLLAMA_API_KEY": "k"}
PLUGINS = {"ollama_cloud": OllamaCloud}


def limit(window: str) -> str:
    return (
        f"you (somebody) have reached your {window} usage limit, upgrade for higher limits: https://ollama.com/upgrade"
    )


class TestOllamaCloud(ProviderContract):
    plugin = OllamaCloud
    models_route = "GET /api/tags"
    forms = "forms.yaml"

    def listing(self, models: Sequence[Any]) -> Any:
        return {"models": list(models)}

    def entry(self, model_id: str) -> Any:
        return {"name": model_id, "model": model_id, "size": 1, "details": {}}


def bound(name: str = "ollama_cloud", **env: str) -> Sequence[str]:
    """The models of an instance in this environment."""
    cloud = OllamaCloud(name=name)
    cloud.bind(env)
    return [model.id for model in cloud.roster()]


ROSTER = [model.id for model in OllamaCloud().roster()]


def test_ollamas_variable_names_models_of_the_cloud() -> None:
    assert bound(OLLAMA_MODELS="glm-5.2, gpt-oss:20b,") == ["glm-5.2", "gpt-oss:20b"]


@pytest.mark.parametrize(
    "value",
    [
        "/usr/share/ollama/.ollama/models",
        "~/models",
        "./models",
        "..",
        "models/ollama",
        "D:\\ollama",
        "C:/ollama",
        "$HOME",
        "%USERPROFILE%",
        "glm-5.2,/srv/models",
        "",
        " , ",
    ],
)
def test_where_the_variable_holds_a_path_it_is_the_folder_of_a_local_ollama(value: str) -> None:
    assert bound(OLLAMA_MODELS=value) == ROSTER


def test_its_own_variable_goes_before_ollamas() -> None:
    assert bound(OLLAMA_MODELS="glm-5.2", OLLAMA_CLOUD_MODELS="gpt-oss:20b") == ["gpt-oss:20b"]
    assert bound(OLLAMA_MODELS="/srv/models", OLLAMA_CLOUD_MODELS="gpt-oss:20b") == ["gpt-oss:20b"]
    assert bound("work", OLLAMA_MODELS="glm-5.2", WORK_MODELS="gpt-oss:120b") == ["gpt-oss:120b"]


def discovered(*names: Any, **section: Any) -> Sequence[str]:
    """The models that a router has where the cloud lists these names."""

    async def whole() -> Sequence[str]:
        async with Upstream() as up:
            up.route("cloud", "GET /api/tags", {"models": [{"name": name} for name in names]})
            config = {"plugins": {"ollama_cloud": {"base_url": up.base_url("cloud"), **section}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                return [c.model.id for c in router.catalog.snapshot.candidates]

    return asyncio.run(whole())


def test_a_name_with_two_colons_is_left_out() -> None:
    names = ["gpt-oss:20b", "gpt-oss:20b:high", "a:b:c:d", "kimi-k2.6", "", 7, None]
    assert discovered(*names, discover="all") == ["gpt-oss:20b", "kimi-k2.6"]


def test_the_list_says_which_of_the_roster_are_left() -> None:
    assert discovered("kimi-k2.6", "glm-5.2", "gpt-oss:120b") == ["gpt-oss:120b", "glm-5.2"]


@pytest.mark.parametrize("payload", [[], {"models": None}])
def test_a_list_may_be_empty(payload: Any) -> None:
    assert OllamaCloud().parse_models(payload) == []


@pytest.mark.parametrize("payload", [None, {"models": {"a": 1}}, {"data": [{"id": "x"}]}])
def test_what_is_no_list_is_not_taken_for_an_empty_one(payload: Any) -> None:
    with pytest.raises(NotListedError):
        OllamaCloud().parse_models(payload)


def test_the_key_is_a_bearer_and_nothing_else() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            config = {"plugins": {"ollama_cloud": {"base_url": up.base_url("cloud")}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                await router.chat({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]})
            for request in up.seen("cloud").requests:
                assert request.headers["authorization"] == "Bearer k"
                assert "x-api-key" not in request.headers

    asyncio.run(whole())


def test_all_models_share_the_windows_of_the_account() -> None:
    cloud = OllamaCloud(name="ollama_cloud")
    assert {pool for model in cloud.roster() for pool in model.pools} == {"ollama_cloud::account"}
    limits = cloud.pools()["ollama_cloud::account"].limits
    assert [(limit.amount, limit.of) for limit in limits] == [(1, "concurrent")]


def test_its_facts_have_a_date_and_a_source_and_nothing_is_local() -> None:
    cloud = OllamaCloud()
    assert cloud.facts.date
    assert "ollama.com" in cloud.facts.source
    assert all(model.free and not model.local for model in cloud.roster())
