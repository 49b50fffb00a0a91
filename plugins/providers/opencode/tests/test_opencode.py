"""OpenCode's own forms: two services behind one key, refusals that are a 401 whatever they mean, sessions."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from routerpool_opencode import Opencode, OpencodeConfig

from routerpool import ConfigError
from routerpool.testing import ProviderContract, Upstream, make_router

HELLO = [{"role": "user", "content": "Hello"}]
KEY = {"OPENCODE_API_KEY": "k"}
PLUGINS = {"opencode": Opencode}


class TestZen(ProviderContract):
    plugin = Opencode
    forms = ("forms.yaml", "zen_forms.yaml")


class TestGo(ProviderContract):
    plugin = Opencode
    options: ClassVar = {"service": "go"}
    forms = ("forms.yaml", "go_forms.yaml")


def made(**section: Any) -> Any:
    return make_router({"plugins": {"opencode": section}}, plugins=PLUGINS, env=KEY).providers["opencode"]


def test_the_two_services_have_an_address_and_models_each_and_share_the_key() -> None:
    zen, go = made(), made(service="go")
    assert zen.base_url == "https://opencode.ai/zen/v1"
    assert go.base_url == "https://opencode.ai/zen/go/v1"
    assert zen.key_variables == go.key_variables == ("OPENCODE_API_KEY", "OPENCODE_ZEN_API_KEY")
    assert zen.facts.experimental
    assert go.facts.experimental
    assert not any(model.free for model in go.roster())


def test_another_service_is_an_error() -> None:
    with pytest.raises(ConfigError, match="service"):
        made(service="black")


def test_the_free_models_share_a_quota_and_may_learn_from_what_they_are_asked() -> None:
    free = [model for model in made().roster() if model.free]
    assert [model.id for model in free] == ["big-pickle", "nemotron-3-super-free", "deepseek-v4-flash-free"]
    assert {model.data_policy for model in free} == {"may_train"}
    assert all(model.pools == {"opencode::free"} for model in free)
    assert not any(model.pools for model in made().roster() if not model.free)


def test_the_models_of_go_share_the_subscription() -> None:
    go = made(service="go")
    assert {pool for model in go.roster() for pool in model.pools} == {"opencode_go::subscription"}
    limits = go.pools()["opencode_go::subscription"].limits
    assert [(limit.amount, limit.per) for limit in limits] == [(12, "5h"), (30, "week"), (60, "month")]


def test_models_that_are_served_in_another_form_are_left_out() -> None:
    names = ["big-pickle", "claude-opus-4-6", "gpt-5.4", "gemini-3-flash", "glm-5"]
    found = Opencode(OpencodeConfig()).parse_models({"data": [{"id": name} for name in names]})
    assert [model.id for model in found] == ["big-pickle", "glm-5"]


def sessions(**section: Any) -> list[str | None]:
    """The sessions of two requests of one conversation."""

    async def whole() -> list[str | None]:
        async with Upstream() as up:
            config = {"plugins": {"opencode": {"base_url": up.base_url("oc"), **section}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                for _ in range(2):
                    await router.chat({"model": "auto", "messages": HELLO})
            chats = [request for request in up.seen("oc").requests if request.chat]
            return [request.headers.get("x-opencode-session") for request in chats]

    return asyncio.run(whole())


def test_a_request_to_go_has_a_session() -> None:
    first, second = sessions(service="go")
    assert first
    assert first == second
    assert HELLO[0]["content"] not in first


def test_a_request_to_zen_has_none_unless_the_user_wants_one() -> None:
    assert sessions() == [None, None]
    assert sessions(service="go", headers={"x-opencode-session": "mine"}) == ["mine", "mine"]


def test_its_list_says_which_of_the_roster_are_left() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            roster = [model.id for model in Opencode().roster()]
            up.models("opencode", ["another", roster[2], roster[0]])
            config = {"plugins": {"opencode": {"base_url": up.base_url("opencode")}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                assert [c.model.id for c in router.catalog.snapshot.candidates] == [roster[0], roster[2]]

    asyncio.run(whole())


def test_its_facts_have_a_date_and_a_source() -> None:
    for section in ({}, {"service": "go"}):
        data = made(**section).facts
        assert data.date
        assert "opencode.ai" in data.source
