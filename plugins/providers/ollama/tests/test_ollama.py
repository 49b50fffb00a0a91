"""What is Ollama's own: its list of models, its cloud, its address, its errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from routerpool_ollama import Ollama, OllamaConfig, address_of

from routerpool import Level, Probe, RequestError
from routerpool.providers import NotListedError
from routerpool.testing import Form, ProviderContract, Upstream, make_router, read_forms

HELLO = [{"role": "user", "content": "Hello"}]
FORMS, CLOUD_FORMS = (read_forms(Path(__file__).with_name(name)) for name in ("forms.yaml", "cloud_forms.yaml"))


class TestOllama(ProviderContract):
    plugin = Ollama
    forms = "forms.yaml"


class TestNamedModels(ProviderContract):
    plugin = Ollama
    options: ClassVar = {"models": ["m1"]}
    forms = FORMS[:1]


class TestModelsOfItsCloud(ProviderContract):
    plugin = Ollama
    options: ClassVar = {"models": ["gpt-oss:120b-cloud"]}
    forms = "cloud_forms.yaml"


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "model": name, "size": 1, "details": {"context_length": 40960}, **more}


TAGS = [
    entry("qwen3:latest", capabilities=["completion", "tools", "thinking"]),
    entry("gpt-oss:120b-cloud", remote_host="https://ollama.com:443", remote_model="gpt-oss:120b"),
    entry("mine", remote_host="https://ollama.com:443", capabilities=["completion"]),
    entry("nomic-embed-text", capabilities=["embedding"]),
    entry("old", details={}),
    {"model": "nameless"},
    None,
]


def models_of(payload: Any, **section: Any) -> Mapping[str, Any]:
    """The models that a router has of an Ollama with this `/api/tags`."""

    async def whole() -> Mapping[str, Any]:
        async with Upstream() as up:
            up.route("ollama", "GET /api/tags", payload)
            config = {"plugins": {"ollama": {"base_url": up.base_url("ollama"), **section}}}
            async with make_router(config, plugins={"ollama": Ollama}) as router:
                return {c.model.id: c.model for c in router.catalog.snapshot.candidates}

    return asyncio.run(whole())


def test_the_pulled_models_come_with_what_ollama_knows_of_them() -> None:
    models = models_of({"models": TAGS})
    assert list(models) == ["qwen3:latest", "gpt-oss:120b-cloud", "mine", "old"]
    assert models["qwen3:latest"].context == 40960
    assert models["qwen3:latest"].capabilities == {"tools": True, "reasoning": True, "vision": False, "audio": False}
    assert (models["old"].context, dict(models["old"].capabilities)) == (None, {})


def test_models_of_ollamas_cloud_are_neither_local_nor_free() -> None:
    models = models_of({"models": TAGS})
    assert [name for name, model in models.items() if model.local] == ["qwen3:latest", "old"]
    assert [name for name, model in models.items() if model.free] == ["qwen3:latest", "old"]


def test_a_named_model_is_the_pulled_one_with_what_the_user_says_of_it() -> None:
    told = {"id": "qwen3", "context": 8192, "rank": 3}
    models = models_of({"models": TAGS}, models=[told, "mine", "absent"])
    assert list(models) == ["qwen3", "mine", "absent"]
    qwen = models["qwen3"]
    assert (qwen.context, qwen.rank, qwen.local, qwen.capabilities["tools"]) == (8192, 3, True, True)
    assert not models["mine"].local
    assert not models["absent"].local


def test_nothing_is_local_before_ollama_has_said_so() -> None:
    provider = Ollama(OllamaConfig(models=("qwen3",)))
    assert [model.local for model in provider.roster()] == [False]


@pytest.mark.parametrize("payload", [[], {"models": None}, {"data": []}])
def test_a_list_may_be_empty(payload: Any) -> None:
    assert Ollama().parse_models(payload) == []


@pytest.mark.parametrize("payload", [None, {"models": {"a": 1}}, {}])
def test_what_is_no_list_is_not_taken_for_an_empty_one(payload: Any) -> None:
    with pytest.raises(NotListedError):
        Ollama().parse_models(payload)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:8080", "http://box:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:80", "http://127.0.0.1"),
        ("[::]:9000", "http://[::1]:9000"),
        ("[fd00::7]", "http://[fd00::7]:11434"),
        ("::1", "http://[::1]:11434"),
        ("http://box", "http://box"),
        ("https://box", "https://box"),
        ("HTTP://box:1234/ollama/", "http://box:1234/ollama"),
        ("ollama.com", "https://ollama.com"),
        (" 'http://box:9' ", "http://box:9"),
    ],
)
def test_the_address_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert str(address_of(host)) == url


@pytest.mark.parametrize("host", ["ftp://box", "box:port", "box:99999", "[::1", "http://a b"])
def test_an_address_that_makes_no_sense_makes_it_idle(host: str) -> None:
    provider = Ollama()
    provider.bind({"OLLAMA_HOST": host})
    assert "OLLAMA_HOST" in (provider.idle() or "")


def test_the_environment_moves_it_and_a_public_address_is_not_local() -> None:
    home, away, told = Ollama(), Ollama(), Ollama(OllamaConfig(base_url="http://127.0.0.1:5/v1"))
    for provider, host in ((home, "box:1234"), (away, "ollama.com"), (told, "box")):
        provider.bind({"OLLAMA_HOST": host})
    assert (home.base_url, home.local, home.free, home.idle()) == ("http://box:1234/v1", True, True, None)
    assert (away.base_url, away.local, away.free) == ("https://ollama.com/v1", False, False)
    assert told.base_url == "http://127.0.0.1:5/v1"


def test_its_own_variable_goes_before_ollamas_and_needs_no_path() -> None:
    for address in ("http://den:8", "http://den:8/", "http://den:8/v1"):
        provider = Ollama(name="ollama")
        provider.bind({"OLLAMA_BASE_URL": address, "OLLAMA_HOST": "box"})
        assert (provider.base_url, provider.local, provider.idle()) == ("http://den:8/v1", True, None)
        assert Ollama(OllamaConfig(base_url=address)).base_url == "http://den:8/v1"


def test_ollamas_folder_of_models_is_no_list_of_models() -> None:
    provider, other = Ollama(name="ollama"), Ollama(name="box")
    for each in (provider, other):
        each.bind({"OLLAMA_MODELS": "/usr/share/ollama/models", "BOX_MODELS": "a, b"})
    assert [model.id for model in provider.roster()] == []
    assert [model.id for model in other.roster()] == ["a", "b"]


def test_requests_go_where_the_environment_says() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            host = up.base_url("ollama").removesuffix("/v1")
            config = {"plugins": {"ollama": {}}}
            async with make_router(config, plugins={"ollama": Ollama}, env={"OLLAMA_HOST": host}) as router:
                answer = await router.chat({"model": "ollama/m1", "messages": HELLO})
            assert answer["choices"][0]["message"]["content"] == up.expected_text("ollama")

    asyncio.run(whole())


@pytest.mark.parametrize("own", FORMS + CLOUD_FORMS, ids=lambda form: form.name)
def test_its_errors_are_understood_in_its_own_form_too(own: Form) -> None:
    error = own.body["error"]
    body = {"error": error["message"] if isinstance(error, dict) else error}
    failure = Ollama(name="ollama").failure(own.status, {}, json.dumps(body).encode())
    assert (failure.kind, failure.lacks) == (own.kind, own.lacks)
    assert failure.pool == (own.pool and f"ollama::{own.pool}")


def test_models_of_its_cloud_share_the_accounts_time_and_no_others_do() -> None:
    models = models_of({"models": TAGS})
    cloud = {"ollama::cloud-session", "ollama::cloud-week"}
    pools = {
        name: {pool.split("@")[0] + "::" + pool.partition("::")[2] for pool in m.pools} for name, m in models.items()
    }
    assert pools == {"qwen3:latest": set(), "gpt-oss:120b-cloud": cloud, "mine": cloud, "old": set()}


def test_a_stream_that_the_runner_drops_is_not_taken_for_whole() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            up.always("ollama", "nodone")
            config = {"plugins": {"ollama": {"base_url": up.base_url("ollama")}}}
            async with make_router(config, plugins={"ollama": Ollama}) as router:
                with pytest.raises(RequestError, match="broke off"):
                    async for _ in router.stream({"model": "ollama/m1", "messages": HELLO}):
                        pass

    asyncio.run(whole())


def test_a_running_server_is_found_and_said_to_run() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            host = up.base_url("box").removesuffix("/v1")
            probe = Probe(env={"OLLAMA_HOST": host})
            [found] = await Ollama(name="ollama").detect(probe)
            assert (found.name, found.confidence, dict(found.options)) == ("ollama", 1.0, {})
            assert "0.14.0" in found.source
            provider = Ollama()
            provider.bind(probe.env)
            assert [report.level for report in await provider.check(probe)] == [Level.OK]
            up.models("box", [])
            [empty] = await Ollama().detect(probe)
            assert empty.confidence < 0.5
            assert "ollama pull" in empty.comment

    asyncio.run(whole())


def test_where_nothing_answers_nothing_is_found() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            env = {"OLLAMA_HOST": up.refused_url().removesuffix("/v1")}
            up.route("other", "GET /api/version", "hello")
            other = {"OLLAMA_HOST": up.base_url("other").removesuffix("/v1")}
            assert await Ollama().detect(Probe(env=env)) == []
            assert await Ollama().detect(Probe(env=other)) == []
            provider = Ollama()
            provider.bind(env)
            [report] = await provider.check(Probe(env=env))
            assert (report.level, "ollama serve" in report.cure) == (Level.WARNING, True)

    asyncio.run(whole())


def test_a_server_elsewhere_is_proposed_without_being_asked() -> None:
    [found] = asyncio.run(Ollama().detect(Probe(env={"OLLAMA_HOST": "192.0.2.1"}, timeout=0.01)))
    assert found.environment == ("OLLAMA_HOST",)


def test_a_model_that_is_still_loading_answers_late_and_is_waited_for() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            config = {"plugins": {"ollama": {"base_url": up.base_url("ollama")}}}
            async with make_router(config, plugins={"ollama": Ollama}) as router:
                up.hold("ollama")
                asked = asyncio.ensure_future(router.chat({"model": "ollama/m1", "messages": HELLO}))
                await up.wait_for("ollama", chat=1)
                assert not asked.done()
                up.release("ollama")
                answer = await asked
            assert answer["choices"][0]["message"]["content"] == up.expected_text("ollama")

    asyncio.run(whole())


def test_its_facts_have_a_date_and_a_source() -> None:
    data = Ollama().facts
    assert data.date
    assert data.source
    assert all(pool.date and pool.source for pool in data.pools)
