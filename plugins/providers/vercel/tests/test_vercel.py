"""The forms of Vercel's AI Gateway: limits that are its own, and those of the providers behind it."""

from __future__ import annotations

import asyncio

import pytest
from routerpool_vercel import Vercel

from routerpool import FailureKind
from routerpool.testing import Form, ProviderContract, Upstream, make_router

KEY = {"AI_GATEWAY_API_KEY": "k"}
PLUGINS = {"vercel": Vercel}
SOURCE = "vercel.com/docs/ai-gateway, 2026-09-08"
BALANCE = "Insufficient balance or no resource package. Please recharge."


class TestVercel(ProviderContract):
    plugin = Vercel
    forms = (
        Form(
            name="a free team asks too often",
            status=429,
            body={"error": {"message": "Rate limit exceeded for this model.", "type": "rate_limit_exceeded"}},
            kind=FailureKind.RATE_LIMITED,
            source=SOURCE,
        ),
        Form(
            name="the credit of the provider behind it is spent, and not the team's",
            status=429,
            body={
                "error": {
                    "message": BALANCE,
                    "type": "AI_APICallError",
                    "param": {"error": BALANCE, "statusCode": 429, "name": "AI_APICallError", "isRetryable": True},
                }
            },
            kind=FailureKind.RATE_LIMITED,
            source="vercel/ai #9290, 2025-10-08",
        ),
        Form(
            name="the provider behind it says in its own body that its quota is spent",
            status=429,
            body={"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota"}},
            kind=FailureKind.RATE_LIMITED,
            source=SOURCE,
        ),
        Form(
            name="the wait that the provider behind it states counts",
            status=429,
            body={"error": {"message": "Rate limit reached. Please try again in 41.724s.", "type": "tokens"}},
            kind=FailureKind.RATE_LIMITED,
            wait=41.724,
            within=0.01,
            source=SOURCE,
        ),
        Form(
            name="the month's credit is spent",
            status=402,
            body={"error": {"message": "Insufficient funds. Please add credits.", "type": "insufficient_funds"}},
            kind=FailureKind.CREDIT,
            source=SOURCE,
        ),
    )


@pytest.mark.parametrize("variable", ["AI_GATEWAY_API_KEY", "VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"])
def test_its_key_has_three_names(variable: str) -> None:
    vercel = Vercel()
    vercel.bind({variable: "k"})
    assert vercel.idle() is None
    assert vercel._key_from == variable


def test_all_models_draw_on_one_credit_and_none_is_free_of_charge() -> None:
    vercel = Vercel(name="vercel")
    assert {pool for model in vercel.roster() for pool in model.pools} == {"vercel::credit"}
    assert not any(model.free for model in vercel.roster())
    [limit] = vercel.pools[0].limits
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
    data = Vercel()._data
    assert data.date
    assert "vercel.com" in data.source
