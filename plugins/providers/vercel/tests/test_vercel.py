"""The forms of Vercel's AI Gateway: limits that are its own, and those of the providers behind it."""

from __future__ import annotations

import asyncio

import pytest
from routerpool_vercel import Vercel

from routerpool.testing import ProviderContract, Upstream, make_router

KEY = {"AI_GATEWAY_API_KEY": "k"}
PLUGINS = {"vercel": Vercel}


class TestVercel(ProviderContract):
    plugin = Vercel
    forms = "forms.yaml"


@pytest.mark.parametrize("variable", ["AI_GATEWAY_API_KEY", "VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"])
def test_its_key_has_three_names(variable: str) -> None:
    vercel = Vercel()
    vercel.bind({variable: "k"})
    assert vercel.idle() is None
    assert vercel.settings.key_from == variable


def test_all_models_draw_on_one_credit_and_none_is_free_of_charge() -> None:
    vercel = Vercel(name="vercel")
    assert {pool for model in vercel.roster() for pool in model.pools} == {"vercel::credit"}
    assert not any(model.free for model in vercel.roster())
    [limit] = vercel.pools()["vercel::credit"].limits
    assert (limit.amount, limit.of, limit.per) == (5, "usd", "month")


def test_its_list_says_which_of_the_roster_are_left() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            roster = [model.id for model in Vercel().roster()]
            up.models("vercel", ["another", roster[2], roster[0]])
            config = {"plugins": {"vercel": {"base_url": up.base_url("vercel")}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                assert [c.model.id for c in router.catalog.snapshot.candidates] == [roster[0], roster[2]]

    asyncio.run(whole())


def test_its_facts_have_a_date_and_a_source() -> None:
    data = Vercel().facts
    assert data.date
    assert "vercel.com" in data.source
