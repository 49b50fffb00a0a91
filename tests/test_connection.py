"""Connections that were kept alive: a stale one is no failure of the provider, a new one that breaks is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from routerpool import OpenAIProvider
from routerpool.testing import Witness, make_router
from routerpool.testing.upstream import Upstream

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
REQUESTS = 100


async def asked(up: Upstream, names: str, times: int) -> Witness:
    """So many requests, one after the other, over one router's connections."""
    witness = Witness()
    plugins = {name: {"use": "p", "base_url": up.base_url(name), "models": ["m1"]} for name in names.split()}
    async with make_router({"plugins": plugins}, plugins={"p": OpenAIProvider}, witness=witness) as router:
        for _ in range(times):
            await router.chat(BODY)
    return witness


@pytest.mark.parametrize("label", ["kaclose", "kaidle"])
def test_a_stale_connection_is_invisible_and_costs_one_more_call_at_most(label: str) -> None:
    async def main() -> None:
        async with Upstream() as up:
            up.always("a", label)
            witness = await asked(up, "a", REQUESTS)
            assert [record.tried for record in witness.records] == [("a/m1:answered",)] * REQUESTS
            assert witness.failures == []
            seen = up.seen("a")
            assert seen.connections > REQUESTS / 2, "the connections did go stale"
            assert seen.completed == REQUESTS
            assert seen.chat < 2 * REQUESTS

    asyncio.run(main())


def test_a_new_connection_that_breaks_is_a_failure_and_is_not_tried_again() -> None:
    async def main() -> None:
        async with Upstream() as up:
            up.always("a", "close")
            witness = await asked(up, "a b", 1)
            assert witness.records[0].tried == ("a/m1:server", "b/m1:answered")
            assert up.seen("a").chat == 1

    asyncio.run(main())
