"""What LiteLLM's deployments are for us: whose they are, how they are called, what is known of them, who is local."""

from __future__ import annotations

from typing import Any

import pytest
from routerpool_litellm.deployments import Deployments

from routerpool import ConfigError, Tier
from routerpool.testing import make_router

LOOPBACK = "http://127.0.0.1:9/v1"


def entry(model: str = "openai/m1", group: str = "auto", base: str | None = None, **more: Any) -> dict[str, Any]:
    own = more.pop("own", None)
    info = {"id": more.pop("id", f"{group}-{model}-{base}"), **more.pop("info", {})}
    if own is not None:
        info["routerpool"] = own
    return {"model_name": group, "litellm_params": {"model": model, "api_base": base, **more}, "model_info": info}


def local(*arguments: Any, **more: Any) -> bool:
    (deployment,) = Deployments([entry(*arguments, **more)]).all
    return deployment.candidate.model.local


def test_only_an_address_on_this_machine_makes_a_deployment_local() -> None:
    assert local(base=LOOPBACK)
    assert local(base="http://[::1]:9/v1")
    assert local(base="http://localhost:9")
    assert not local()
    assert not local(base="https://vendor.example/v1")
    assert not local(base="http://192.168.1.7:9/v1"), "a neighbour is not known to be yours"
    assert not local(base="http://127.0.0.1.vendor.example/v1")
    assert not local("bedrock/m1", base=LOOPBACK), "nobody knows whether that provider asks there"


def test_what_the_user_says_of_it_goes_before_its_address() -> None:
    assert local(base="http://192.168.1.7:9/v1", own={"local": True})
    assert not local(base=LOOPBACK, own={"local": False})


@pytest.mark.parametrize(
    ("own", "base", "words"),
    [
        ({"local": True}, "https://vendor.example/v1", "api_base"),
        ({"local": True}, None, "api_base"),
        ({"lokal": True}, None, "lokal"),
        ({"tier": "huge"}, None, "tier"),
    ],
)
def test_what_the_user_says_wrongly_is_an_error_with_its_place(own: Any, base: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        Deployments([entry(own=own, base=base)])
    assert "model_list.auto.model_info.routerpool" in str(error.value)


def test_one_key_at_one_address_is_one_account() -> None:
    entries = [
        entry("openai/m1", api_key="a"),
        entry("openai/m2", api_key="a"),
        entry("openai/m1", group="other", api_key="a"),
        entry("openai/m1", api_key="b"),
        entry("openai/m1", base="https://elsewhere.example", api_key="a"),
        entry("groq/m1", api_key="a"),
    ]
    keys = [deployment.candidate.key for deployment in Deployments(entries).all]
    assert keys == [
        "litellm-openai/m1",
        "litellm-openai/m2",
        "litellm-openai/m1",
        "litellm-openai-2/m1",
        "litellm-openai-3/m1",
        "litellm-groq/m1",
    ]


def test_two_of_one_name_that_differ_are_told_apart() -> None:
    entries = [entry(own={"tier": "fast"}), entry(group="strong", own={"tier": "capable"})]
    first, second = (deployment.candidate for deployment in Deployments(entries).all)
    assert (first.key, second.key) == ("litellm-openai/m1", "litellm-openai/m1@strong")
    assert (first.model.tier, second.model.tier) == (Tier.FAST, Tier.CAPABLE)


def test_what_litellm_and_the_user_know_of_a_model_is_known() -> None:
    info = {"max_input_tokens": 4096, "input_cost_per_token": 1e-6, "supports_vision": True}
    own = {"provider": "lab", "id": "big", "rank": 3, "capabilities": {"tools": True}, "tags": ["x"]}
    (deployment,) = Deployments([entry("azure/m1", info=info, own=own, output_cost_per_token=2e-6)]).all
    model = deployment.candidate.model
    assert deployment.candidate.key == "lab/big"
    assert (model.context, model.rank, model.tags) == (4096, 3, {"x"})
    assert (model.prices.input, model.prices.output) == (1.0, 2.0)
    assert dict(model.capabilities) == {"vision": True, "tools": True}


def test_this_very_router_is_none_of_its_candidates() -> None:
    assert Deployments([entry("routerpool/auto"), entry("auto", custom_llm_provider="routerpool")]).all == ()


def test_a_change_that_matters_is_seen() -> None:
    known = Deployments([entry(base=LOOPBACK, id="1")])
    assert known.still([entry(base=LOOPBACK, id="1"), entry("routerpool/auto")])
    assert not known.still([entry(base="https://vendor.example", id="1")]), "the same id at another address"
    assert not known.still([])


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_whom_litellm_does_not_offer_is_not_planned_and_whom_only_litellm_asks_is_not_asked_by_us() -> None:
    deployments = Deployments([entry("openai/m1", own={"free": True}), entry("openai/m2"), entry("groq/m3")])

    class Known(type(deployments)):  # type: ignore[misc] - the very same plugin, where a class is wanted
        def __new__(cls) -> Any:
            return deployments

    lab = {"use": "openai_compatible", "base_url": LOOPBACK, "models": ["m4"], "discover": "off"}
    tree = {"plugins": {"known": {}, "lab": lab}}
    async with make_router(tree, plugins={"known": Known}) as router:
        request = router.request({"messages": [{"role": "user", "content": "Hello"}]})
        plan = await router.planner.plan(request)
        assert [candidate.key for candidate in plan.ranked] == ["lab/m4"]
        with deployments.offered(request, deployments.all[1:]):
            plan = await router.planner.plan(request)
        assert [candidate.key for candidate in plan.ranked] == ["litellm-openai/m2", "litellm-groq/m3"]
        assert {veto.code for veto in plan.vetoes} == {"not_in_profile"}
