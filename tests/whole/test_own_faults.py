"""What this machine runs out of is nobody's failure: no provider is blamed, and what still works is used."""

from __future__ import annotations

from typing import Any

import pytest

from routerpool import RequestError, Router
from routerpool.testing import Witness
from routerpool.testing.upstream import Upstream

from ..support.descriptors import no_descriptor_left
from ..support.house import CHAT, router_over

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_without_a_descriptor_nobody_is_blamed_and_the_client_is_told_to_come_back() -> None:
    async with Upstream() as up:
        witness = Witness()
        async with router_over(up, "a b", witness=witness) as router:
            for _ in range(5):
                with no_descriptor_left(), pytest.raises(RequestError) as raised:
                    await router.chat(CHAT)
                assert (raised.value.status, raised.value.code, raised.value.retry_after) == (503, "overloaded", 1.0)
            assert witness.failures == []
            assert router.services.failures.counts == {}
            assert up.seen("a").chat == up.seen("b").chat == 0
            await router.chat(CHAT)
            assert witness.records[-1].tried == ("a/m1:answered",)


async def test_a_connection_that_is_kept_alive_still_answers() -> None:
    async with Upstream() as up, Upstream() as other:
        witness, elsewhere = Witness(), {"a": {"base_url": other.base_url("a")}}
        async with router_over(up, "a b", options=elsewhere, witness=witness) as router:
            await router.chat({**CHAT, "model": "b/m1"})
            with no_descriptor_left():
                await router.chat(CHAT)
            assert witness.records[-1].tried == ("a/m1:overloaded", "b/m1:answered")
            assert witness.failures == []


async def test_the_breaker_benches_nobody() -> None:
    async with Upstream() as up:
        entry: dict[str, Any] = {"use": "openai_compatible", "base_url": up.base_url("a"), "models": ["m1"]}
        async with Router.of({"store": "sqlite://", "plugins": {"breaker": {}, "a": entry}}) as router:
            for _ in range(5):
                with no_descriptor_left(), pytest.raises(RequestError):
                    await router.chat(CHAT)
            assert (await router.explain(CHAT))["vetoes"] == []
            await router.chat(CHAT)
