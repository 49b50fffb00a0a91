"""What a quota plugin sees of the limits that a provider is known to have, from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from routerpool_groq import Groq
from routerpool_litellm_sdk import LiteLLM
from routerpool_sandbox import Sandbox

from routerpool import Limit, OpenAIProvider, Pool, Router, hookimpl
from routerpool.testing import make_router


class Ledger:
    """A plugin that keeps count, and so has to know the limits of every candidate."""

    def __init__(self) -> None:
        self.limits: dict[str, tuple[Limit, ...]] = {}

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        for candidate in router.catalog.snapshot.candidates:
            pools = router.providers[candidate.provider].pools()
            self.limits[candidate.key] = tuple(limit for name in candidate.model.pools for limit in pools[name].limits)
        yield


def seen(providers: dict[str, Any], **classes: type) -> dict[str, tuple[Limit, ...]]:
    """What the plugin learns at the start of a router with these providers."""

    async def main() -> dict[str, tuple[Limit, ...]]:
        keys = {"GROQ_API_KEY": "k"}
        router = make_router({"plugins": {"ledger": {}, **providers}}, plugins={"ledger": Ledger, **classes}, env=keys)
        async with router:
            ledger: Ledger = router.hooks.instances["ledger"].plugin
            return ledger.limits

    return asyncio.run(main())


def test_a_plugin_sees_the_limits_of_groqs_models() -> None:
    sleeping = {"base_url": "http://127.0.0.1:9/v1", "discover": "off"}
    limits = seen({"groq": {**sleeping, "local": False}}, groq=Groq)

    assert limits["groq/llama-3.3-70b-versatile"] == (
        Limit(amount=1000, of="requests", per="day"),
        Limit(amount=12000, of="tokens", per="minute"),
    )
    assert all(limits.values()), "each of its models has limits"


def test_two_keys_of_one_account_name_the_same_pools_and_another_account_its_own() -> None:
    one, two = Groq(name="groq"), Groq(name="second")
    other = Groq(Groq.Config(separate_account=True), name="third")

    assert list(one.pools().items()) == list(two.pools().items())
    assert [name.partition("::")[0] for name in other.pools()] == ["third"] * len(one.pools())
    assert {name for model in other.roster() for name in model.pools} == set(other.pools())


def test_a_class_declares_quotas_as_a_data_file_does() -> None:
    class Lab(OpenAIProvider):
        base_url = "http://127.0.0.1:9/v1"
        models = ("m1", "m2")
        shared_quotas = (Pool(name="day", models=("m2",)),)

    lab = Lab(Lab.Config(separate_account=True), name="lab")

    assert lab.pools() == {"lab::day": Lab.shared_quotas[0]}
    assert [model.pools for model in lab.roster()] == [frozenset(), {"lab::day"}]


@pytest.mark.parametrize("plugin", [Sandbox, LiteLLM])
def test_a_provider_that_knows_of_none_says_so(plugin: type[Sandbox | LiteLLM]) -> None:
    assert plugin().pools() == {}
