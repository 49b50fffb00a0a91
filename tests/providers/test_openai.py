"""What a plugin may override of the OpenAI-compatible provider, and what it may read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve

from routerpool import ChatRequest, Model, OpenAIProvider, ProviderConfig
from routerpool.providers.settings import Settings
from routerpool.testing import Upstream, make_router


class Odd(OpenAIProvider):
    """A provider that is odd in everything that can be told."""

    base_url = "https://odd.example/v1"
    api_key_env = "ODD_KEY"
    models = ("m1",)
    path = "talk"
    address_variables = ("ODD_HOST",)

    def key_headers(self, key: str) -> Mapping[str, str]:
        return {"X-Key": key}

    def read_address(self, text: str) -> str:
        return f"http://{text}/v1"

    def models_in(self, env: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(env.get("ODD_LIST", "").split())

    def settle(self, env: Mapping[str, str]) -> Settings:
        settings = super().settle(env)
        return evolve(settings, base_url=settings.base_url.replace("odd.example", "even.example"))

    def use(self, settings: Settings) -> None:
        super().use(settings)
        self.other = self.prepared(f"{settings.base_url}/other")


def test_what_a_plugin_overrides_is_what_holds() -> None:
    odd = Odd(name="odd")
    assert str(odd.chat_url) == "https://even.example/v1/talk"
    assert (odd.idle(), [model.id for model in odd.roster()]) == ("ODD_KEY is not set", ["m1"])

    odd.bind({"ODD_HOST": "127.0.0.1:5", "ODD_KEY": "k", "ODD_LIST": "m2 m3"})

    assert (str(odd.chat_url), odd.base_url) == ("http://127.0.0.1:5/v1/talk", "http://127.0.0.1:5/v1")
    assert str(odd.other.url) == "http://127.0.0.1:5/v1/other"
    assert odd.request_headers["X-Key"] == "k"
    assert "Authorization" not in odd.request_headers
    assert (odd.idle(), [model.id for model in odd.roster()]) == (None, ["m2", "m3"])


def test_its_own_variable_goes_before_those_that_others_know() -> None:
    odd = Odd(name="odd-2")
    odd.bind({"ODD_HOST": "one:1", "ODD_2_BASE_URL": "two:2"})

    assert odd.base_url == "http://two:2/v1"
    assert odd.address_variable({"ODD_HOST": "one:1", "ODD_2_BASE_URL": " "}) == "ODD_HOST"


def test_what_is_used_later_is_asked_from_then_on() -> None:
    async def main() -> None:
        async with Upstream() as up:
            config = {"plugins": {"lab": {"use": "p", "base_url": "http://127.0.0.1:9/v1", "models": ["m1"]}}}
            async with make_router(config, plugins={"p": OpenAIProvider}) as router:
                lab = router.providers["lab"]
                assert isinstance(lab, OpenAIProvider)
                lab.use(evolve(lab.settings, base_url=up.base_url("lab"), key="later"))
                await router.chat({"model": "lab/m1", "messages": [{"role": "user", "content": "Hello"}]})
            assert up.seen("lab").last.headers["authorization"] == "Bearer later"

    asyncio.run(main())


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("asked", "sent"), [(99_999, 4096), (4096, 4096), (12, 12), ("many", "many"), (True, True)])
def test_an_answers_cap_is_cut_to_what_the_model_can_give(name: str, asked: Any, sent: Any) -> None:
    provider = OpenAIProvider(ProviderConfig(base_url="http://127.0.0.1:9/v1"), name="lab")
    request = ChatRequest(id="r", model="m", messages=[], params={name: asked})
    assert provider.body_of(request, Model(id="m", max_output=4096))[name] == sent
    assert provider.body_of(request, Model(id="m"))[name] == asked
    assert request.params[name] == asked
