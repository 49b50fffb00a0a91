"""Lists of models that are none, from every provider: nothing is lost by them, and why is told."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from attrs import evolve

from routerpool import Model, OpenAIProvider, ProviderConfig, RequestError, Router
from routerpool.testing import Upstream, make_router

from ..support.house import until
from ..support.replies import ANYTHING, replies
from ..support.shelf import ours

ADDRESS = "https://lab.example/v1"
CLASSES = {
    name: plugin
    for name, plugin in ours("providers").items()
    if issubclass(plugin, OpenAIProvider) and issubclass(plugin.Config, ProviderConfig)  # else it is nowhere else
}
ERROR = {"error": {"message": "The key sk-1 is wrong.", "code": 7}}
UNREADABLE = "its answer cannot be read"
NO_LIST = "it answered with something that is no list of models"

REFUSALS = (400, 401, 403, 404, 429, 503)
NO_LISTS: dict[str, tuple[dict[str, Any], str]] = {
    **{str(code): ({"status": code, "payload": ERROR}, f"it answered {code}") for code in REFUSALS},
    "500 and a page": ({"status": 500, "body": "<h1>Oops", "content_type": "text/html"}, "it answered 500"),
    "a redirect": ({"status": 302, "headers": {"location": "https://evil.example/"}, "payload": {}}, "it answered 302"),
    "an error inside a 200": ({"payload": ERROR}, "it answered with an error inside a success"),
    "a text as the error": ({"payload": {"error": "busy"}}, "it answered with an error inside a success"),
    "null": ({"body": "null"}, "it answered with a bare value"),
    "a number": ({"body": "7"}, "it answered with a bare value"),
    "an object without a list": ({"payload": {"message": "Not found"}}, NO_LIST),
    "an object in place of a list": ({"payload": {"data": {"a": 1}, "models": {"a": 1}, "result": {"a": 1}}}, NO_LIST),
    "a list of something else": ({"payload": [1, {"x": 2}]}, "it answered with a list of something else than models"),
    "a page": ({"body": "<!doctype html>", "content_type": "text/html"}, UNREADABLE),
    "half a document": ({"body": '{"data": [{"id": "m1"}'}, UNREADABLE),
    "nothing": ({"body": ""}, UNREADABLE),
}
FAILURES: dict[Exception, str] = {
    TimeoutError(): "no answer in time",
    aiohttp.ConnectionTimeoutError(): "no connection in time",
    aiohttp.ServerDisconnectedError(): "it closed the connection without an answer",
    aiohttp.ClientOSError(): "the connection broke",
    aiohttp.ClientPayloadError(): "it broke off in the middle of its answer",
    aiohttp.ClientResponseError(Mock(), (), status=400): "it does not speak HTTP properly",  # as its parser raises it
}
NO_LISTS |= {reason: ({"exception": error}, reason) for error, reason in FAILURES.items()}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lab(name: str) -> Router:
    """A router of this one provider, which has its key and at least one model."""
    config: dict[str, Any] = {"plugins": {name: {"base_url": ADDRESS}}}
    variables = make_router(config, plugins={name: CLASSES[name]}).providers[name].key_variables  # type: ignore[attr-defined]
    if variables:
        config["plugins"][name]["api_key_env"] = variables[0]
    router = make_router(config, plugins={name: CLASSES[name]}, env=dict.fromkeys(variables, "sk-1"))
    if not router.catalog.snapshot.candidates:
        router.catalog.replace(name, [Model(id="found before")])
    return router


async def refreshed(router: Router, **reply: Any) -> list[str]:
    """Ask all providers for their lists, which answer this; the hosts that were asked."""
    async with aiohttp.ClientSession() as session:
        with replies() as said:
            said.get(ANYTHING, repeat=True, **reply)
            await router.catalog.refresh(session, all_of_them=True)
            return [str(url.host) for _, url in said.requests]


@pytest.mark.parametrize("label", NO_LISTS)
@pytest.mark.parametrize("name", CLASSES)
def test_what_is_no_list_loses_no_model_and_is_told(name: str, label: str) -> None:
    reply, reason = NO_LISTS[label]
    router = lab(name)
    before = router.catalog.snapshot
    assert set(asyncio.run(refreshed(router, **reply))) == {"lab.example"}
    assert router.catalog.snapshot is before
    assert router.catalog.silent == {name: f"{name}: {reason}"}


def test_a_list_that_comes_again_is_taken_and_ends_the_silence() -> None:
    router = lab("openai_compatible")
    for _ in range(2):
        asyncio.run(refreshed(router, status=503))
        assert router.catalog.silent
        asyncio.run(refreshed(router, payload={"data": [{"id": "m1"}, {"id": "m2"}]}))
        assert router.catalog.silent == {}
        assert [candidate.model.id for candidate in router.catalog.snapshot.candidates] == ["m1", "m2"]


@pytest.mark.parametrize("payload", [{"data": []}, {"models": []}, {"models": None}, []])
def test_a_server_that_has_no_model_now_has_none(payload: Any) -> None:
    for name in ("openai_compatible", "ollama", "lmstudio", "vllm"):
        router = lab(name)
        asyncio.run(refreshed(router, payload=payload))
        assert router.catalog.silent == {}
        assert router.catalog.snapshot.candidates == ()


@pytest.mark.parametrize(
    "own", [{"status": 404}, {"status": 405}, {"status": 302}, {"payload": {"error": "Unexpected"}}]
)
def test_an_lm_studio_without_a_list_of_its_own_is_asked_for_openais(own: dict[str, Any]) -> None:
    async def look() -> Router:
        router = lab("lmstudio")
        async with aiohttp.ClientSession() as session:
            with replies() as said:
                said.get("https://lab.example/api/v1/models", **own)
                said.get("https://lab.example/v1/models", payload={"data": [{"id": "qwen3"}]})
                await router.catalog.refresh(session, all_of_them=True)
        return router

    router = asyncio.run(look())
    assert [candidate.key for candidate in router.catalog.snapshot.candidates] == ["lmstudio/qwen3"]
    assert router.catalog.silent == {}


def test_a_list_of_bare_names_is_one() -> None:
    router = lab("openai_compatible")
    asyncio.run(refreshed(router, payload=["m1", "m2"]))
    assert [candidate.model.id for candidate in router.catalog.snapshot.candidates] == ["m1", "m2"]


# Who is not there yet


async def failing(router: Router, **reply: Any) -> list[float]:
    """In how many seconds it is asked again, after each of eight failures in a row."""
    waits = []
    for _ in range(8):
        await refreshed(router, **reply)
        waits.append(round(router.catalog.next_turn()))
    return waits


def test_one_that_listed_nothing_is_asked_again_soon_and_then_less_often() -> None:
    router = lab("openai_compatible")
    assert asyncio.run(failing(router, status=503)) == [1, 2, 5, 10, 30, 60, 300, 300]
    asyncio.run(refreshed(router, payload={"data": []}))
    assert round(router.catalog.next_turn()) == 300
    assert asyncio.run(failing(router, status=503))[0] == 1


def test_one_where_nobody_answers_at_all_is_never_left_alone_for_long() -> None:
    refused = aiohttp.ClientConnectorError(Mock(), OSError(111, "refused"))
    assert asyncio.run(failing(lab("openai_compatible"), exception=refused)) == [1, 2, 5, 10, 10, 10, 10, 10]


def test_no_wait_is_longer_than_the_usual_one() -> None:
    assert asyncio.run(failing(lab("ollama"), status=503)) == [1, 2, 5, 10, 30, 30, 30, 30]


@pytest.mark.anyio
async def test_a_server_that_starts_after_the_router_is_named_until_it_is_found() -> None:
    async with Upstream() as up:
        config = {"plugins": {"a": {"use": "openai_compatible", "base_url": f"http://127.0.0.1:{free_port()}/v1"}}}
        router = make_router(config, plugins={"openai_compatible": CLASSES["openai_compatible"]})
        async with router:
            for name in ("a/m1", "m1", "auto"):
                with pytest.raises(RequestError) as caught:
                    await router.chat({"model": name, "messages": [{"role": "user", "content": "Hello"}]})
                assert caught.value.code == "no_candidate"
                assert "cannot list the models of a: the connection was refused" in caught.value.message
                assert 0 < (caught.value.retry_after or 0) <= 10
            provider: Any = router.providers["a"]
            provider.use(evolve(provider.settings, base_url=up.base_url("a")))
            await until(lambda: "a/m1" in router.catalog.snapshot.by_key)
            await router.chat({"model": "a/m1", "messages": [{"role": "user", "content": "Hello"}]})
            with pytest.raises(RequestError) as caught:
                await router.chat({"model": "a/other", "messages": [{"role": "user", "content": "Hello"}]})
            assert caught.value.code == "model_not_found"


def test_who_has_no_models_for_another_reason_is_told_with_it() -> None:
    router = lab("openai_compatible")
    asyncio.run(refreshed(router, payload={"data": []}))
    assert router.catalog.unheard() == {"openai_compatible": ("openai_compatible has no models", None)}
    fresh = make_router({"plugins": {"vllm": {}}}, plugins=CLASSES)
    assert fresh.catalog.unheard()["vllm"][0].startswith("cannot tell the models of vllm yet")
