"""What LiteLLM is left to choose from, and the last check, without a proxy around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
from routerpool_litellm.testing import NOT_INSTALLED

pytestmark = [
    pytest.mark.real,
    pytest.mark.anyio,
    pytest.mark.skipif(find_spec("litellm") is None, reason=NOT_INSTALLED),
    pytest.mark.filterwarnings("ignore"),  # LiteLLM warns of itself and of pydantic when it is imported
]

HERE = "http://127.0.0.1:9/v1"
MESSAGES = [{"role": "user", "content": "Hello"}]
PRIVATE = {"headers": {"X-Router-Privacy": "private"}}


def entry(group: str, model: str, base: str | None = None, **own: Any) -> dict[str, Any]:
    info = {"id": f"{group}-{model}", "routerpool": {"provider": model, **own}}
    return {"model_name": group, "litellm_params": {"model": f"openai/{model}", "api_base": base}, "model_info": info}


FREE, PAID = entry("auto", "free", free=True), entry("auto", "paid")
BACKUP, HOME = entry("backup", "free"), entry("backup", "home", HERE)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def handler(deploys: Callable[..., None]) -> AsyncIterator[Any]:
    from routerpool_litellm.home import HOMES
    from routerpool_litellm.hooks import Handler

    deploys([FREE, PAID, BACKUP, HOME])
    yield Handler()
    if asyncio.get_running_loop() in HOMES:
        await HOMES[asyncio.get_running_loop()].close()


async def chat(*, routed: bool, **metadata: Any) -> dict[str, Any]:
    """A chat that has come in, and to the routing plugin where that is installed."""
    from routerpool_litellm.errand import carry
    from routerpool_litellm.routing import plugin

    data = {"model": "auto", "messages": MESSAGES, "metadata": metadata}
    carry(data)
    if routed:
        names = ["openai/free", "openai/paid"]
        context = SimpleNamespace(metadata=metadata, candidate_models=list(names), signals={})
        assert (await plugin.run(context)).candidate_models == names
    return data


async def test_a_chat_that_the_plugin_has_not_seen_is_litellms_to_route(handler: Any) -> None:
    data = await chat(routed=False)
    assert await handler.async_filter_deployments("auto", [PAID, FREE], MESSAGES, data) == [PAID, FREE]


async def test_of_what_litellm_offers_the_plan_says_who_is_asked(handler: Any) -> None:
    data = await chat(routed=True)
    for offered, left in (
        ([PAID, FREE], [FREE]),
        ([FREE, PAID], [FREE]),  # asked anew without an attempt between, it is the same answer
        ([PAID], [PAID]),  # the other one is cooling down by now
        ([], []),
    ):
        assert await handler.async_filter_deployments("auto", offered, MESSAGES, data) == left


async def test_another_group_is_another_plan_whatever_litellm_told_of_the_group_before(handler: Any) -> None:
    data = await chat(routed=True, model_group="auto")
    assert await handler.async_filter_deployments("auto", [PAID, FREE], MESSAGES, data) == [FREE]
    assert await handler.async_filter_deployments("backup", [BACKUP, HOME], MESSAGES, data) != []
    assert await handler.async_filter_deployments("backup", [BACKUP], MESSAGES, data) == [BACKUP]


async def test_a_private_chat_is_left_what_may_see_it_or_refused(handler: Any) -> None:
    from routerpool_litellm.host import Refused

    data = await chat(routed=True, **PRIVATE)
    with pytest.raises(Refused) as refused:
        await handler.async_filter_deployments("auto", [PAID, FREE], MESSAGES, data)
    assert refused.value.status_code == 403
    assert await handler.async_filter_deployments("backup", [BACKUP, HOME], MESSAGES, data) == [HOME]


async def test_another_call_is_left_what_may_see_it_or_refused(handler: Any) -> None:
    from routerpool_litellm.host import Refused

    plain: dict[str, Any] = {"metadata": {"model_group": "auto"}}
    assert await handler.async_filter_deployments("backup", [BACKUP, HOME], None, plain) == [BACKUP, HOME]
    for hinted in ({"metadata": {**PRIVATE, "model_group": "auto"}}, {"router": {"privacy": "private"}}):
        assert await handler.async_filter_deployments("backup", [BACKUP, HOME], None, hinted) == [HOME]
        with pytest.raises(Refused):
            await handler.async_filter_deployments("auto", [PAID, FREE], None, hinted)


async def test_what_nobody_knows_here_is_left_to_the_last_check(handler: Any) -> None:
    own = {"model_name": "auto", "litellm_params": {"model": "routerpool/auto"}, "model_info": {"id": "own"}}
    for data in (await chat(routed=True), {"metadata": {}}):
        for unknown in (entry("auto", "new"), own):
            assert await handler.async_filter_deployments("auto", [unknown], MESSAGES, data) == [unknown]


async def test_the_last_check_hears_a_hint_in_the_body_and_does_not_send_it(handler: Any) -> None:
    from routerpool_litellm.host import Refused

    def call(at: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {**at["litellm_params"], "model_info": at["model_info"], "input": "Hello", **more}

    private = {"router": {"privacy": "private"}}
    with pytest.raises(Refused):
        await handler.async_pre_call_deployment_hook(call(BACKUP, **private), "aembedding")
    assert await handler.async_pre_call_deployment_hook(call(HOME, **private), "aembedding") == call(HOME)


async def test_a_strategy_that_takes_over_leaves_other_calls_to_litellms_own(silent: None) -> None:
    from litellm import Router
    from routerpool_litellm.host import take_over
    from routerpool_litellm.takeover import Strategy

    weighed = [(FREE, 0), (PAID, 1)]
    router = Router([{**e, "litellm_params": {**e["litellm_params"], "weight": w, "api_key": "x"}} for e, w in weighed])
    strategy = Strategy(router)
    take_over(router, strategy)
    for _ in range(20):
        for chosen in (
            await strategy.async_get_available_deployment("auto", input="Hello", request_kwargs={}),
            strategy.get_available_deployment("auto", input="Hello"),
        ):
            assert chosen["model_info"]["id"] == "auto-paid"
