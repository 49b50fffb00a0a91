"""An endpoint by its address: with a key and without, with named models and with those it lists."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from routerpool_openai_compatible import OpenAICompatible

from routerpool import ConfigError
from routerpool.testing import ProviderContract, Upstream, make_router

PLUGINS = {"openai_compatible": OpenAICompatible}


class TestWithAKey(ProviderContract):
    plugin = OpenAICompatible
    options: ClassVar = {"api_key_env": "LAB_KEY", "models": ["m1"]}


class TestLocalAndWithoutAKey(ProviderContract):
    plugin = OpenAICompatible
    options: ClassVar = {"local": True, "free": True}


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
