"""Lists of models that are none, from every provider: nothing is lost by them, and why is told."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest

from routerpool import Model, OpenAIProvider, Router
from routerpool.testing import make_router

from ..support.replies import ANYTHING, replies
from ..support.shelf import ours

ADDRESS = "https://lab.example/v1"
CLASSES = {name: plugin for name, plugin in ours("providers").items() if issubclass(plugin, OpenAIProvider)}
ERROR = {"error": {"message": "The key sk-1 is wrong.", "code": 7}}
UNREADABLE = "its answer cannot be read"

REFUSALS = (400, 401, 403, 404, 429, 503)
NO_LISTS: dict[str, tuple[dict[str, Any], str]] = {
    **{str(code): ({"status": code, "payload": ERROR}, f"it answered {code}") for code in REFUSALS},
    "500 and a page": ({"status": 500, "body": "<h1>Oops", "content_type": "text/html"}, "it answered 500"),
    "a redirect": ({"status": 302, "headers": {"location": "https://evil.example/"}, "payload": {}}, "it answered 302"),
    "an error inside a 200": ({"payload": ERROR}, UNREADABLE),
    "a text as the error": ({"payload": {"error": "busy"}}, UNREADABLE),
    "null": ({"body": "null"}, UNREADABLE),
    "a number": ({"body": "7"}, UNREADABLE),
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
