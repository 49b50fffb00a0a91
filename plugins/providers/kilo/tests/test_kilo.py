"""Kilo's own forms: a quota for all free models, no response format, a moderation model among those that answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from routerpool_kilo import Kilo

from routerpool import FailureKind, RequestError
from routerpool.testing import ProviderContract, Upstream, Witness, make_router

FREE = "kilo-auto/free"
KEY = {"KILO_API_KEY": "k"}
PLUGINS = {"kilo": Kilo}


class TestKilo(ProviderContract):
    plugin = Kilo
    forms = "forms.yaml"


def test_all_free_models_share_one_quota_and_what_is_asked_of_them_is_logged() -> None:
    kilo = Kilo(name="kilo")
    free = [model for model in kilo.roster() if model.free]
    assert [model.id for model in free] == [FREE]
    assert {model.data_policy for model in free} == {"may_train"}
    assert kilo.model("z-ai/glm-5:free").pools == free[0].pools == {"kilo::free"}
    assert not kilo.model("kilo-auto/frontier").pools
    assert kilo.pools()["kilo::free"].scope == "ip"


def test_its_models_are_listed_beside_its_chat_and_not_below_a_version() -> None:
    # `/v1/models` answers 405 (FreeLLMAPI, 2026-08-22)
    assert Kilo().list_address == "https://api.kilo.ai/api/gateway/models"


@pytest.mark.parametrize("variable", ["KILO_API_KEY", "KILOCODE_API_KEY"])
def test_its_key_has_two_names(variable: str) -> None:
    kilo = Kilo()
    kilo.bind({variable: "k"})
    assert kilo.idle() is None


def ask(text: str, prompt: str = "Hello", *, says: str = "", **more: Any) -> tuple[Any, Witness, Any]:
    """The answer that a client gets where Kilo says this, what came of it, and the body that reached Kilo."""

    async def whole() -> tuple[Any, Witness, Any]:
        witness = Witness()
        async with Upstream() as up:
            up.text("kilo", text)
            up.text("other", says or "Hello from another provider.")
            plugins = {
                "kilo": {"base_url": up.base_url("kilo"), "models": [FREE]},
                "other": {"use": "openai_compatible", "base_url": up.base_url("other"), "models": ["m1"]},
            }
            profiles = {"auto": {"models": [f"kilo/{FREE}", "other/m1"]}}
            config = {"plugins": plugins, "profiles": profiles}
            async with make_router(config, plugins=PLUGINS, env=KEY, witness=witness) as router:
                messages = [{"role": "user", "content": prompt}]
                answer = await router.chat({"model": "auto", "messages": messages, **more})
            return answer["choices"][0]["message"]["content"], witness, up.seen("kilo").last.json

    return asyncio.run(whole())


def test_a_response_format_does_not_reach_it() -> None:
    _, _, body = ask("A good day.", response_format={"type": "json_object"}, temperature=0)
    assert sorted(body) == ["messages", "model", "temperature"]


def test_who_insists_on_a_schema_is_not_sent_to_it() -> None:
    router = make_router({"plugins": {"kilo": {}}}, plugins=PLUGINS, env=KEY)
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "response_format": schema}
    with pytest.raises(RequestError) as refused:
        asyncio.run(router.chat(body))
    assert refused.value.code == "unsupported_capabilities"


@pytest.mark.parametrize("verdict", ["safe", "unsafe", " Safe.\n", "unsafe\nS1,S10"])
def test_the_verdict_of_a_moderation_model_is_no_answer(verdict: str) -> None:
    text, witness, _ = ask(verdict)
    assert text == "Hello from another provider."
    assert [failure.kind for failure in witness.failures] == [FailureKind.EMPTY]


@pytest.mark.parametrize("text", ["It is safe.", "safety first", "S1"])
def test_an_answer_that_only_sounds_like_one_arrives(text: str) -> None:
    told, witness, _ = ask(text)
    assert told == text
    assert witness.failures == []


def test_who_asks_for_a_verdict_gets_it() -> None:
    told, witness, _ = ask("unsafe", "Answer safe or unsafe: running with scissors.")
    assert told == "unsafe"
    assert witness.failures == []


def test_what_another_provider_says_is_not_kilos_to_judge() -> None:
    told, witness, _ = ask("safe", says="safe")
    assert told == "safe"
    assert [failure.kind for failure in witness.failures] == [FailureKind.EMPTY]


def test_its_list_says_which_of_the_roster_are_left() -> None:
    async def whole() -> None:
        async with Upstream() as up:
            roster = [model.id for model in Kilo().roster()]
            up.models("kilo", ["another", roster[2], roster[0]])
            config = {"plugins": {"kilo": {"base_url": up.base_url("kilo")}}}
            async with make_router(config, plugins=PLUGINS, env=KEY) as router:
                await router.catalog.refresh(router.session, all_of_them=True)
                assert [c.model.id for c in router.catalog.snapshot.candidates] == [roster[0], roster[2]]

    asyncio.run(whole())


def test_its_facts_have_a_date_and_a_source() -> None:
    data = Kilo().facts
    assert data.date
    assert "kilo.ai" in data.source
