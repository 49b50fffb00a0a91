"""Workers AI's own forms: an account in the address, errors by number, contents that are texts, its search."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from routerpool_cloudflare import Cloudflare

from routerpool.providers import NotListedError
from routerpool.testing import ProviderContract, Upstream, make_router
from routerpool.testing.provider_contract import Rig

ACCOUNT = "0123456789abcdef0123456789abcdef"
ENV = {"CLOUDFLARE_API_TOKEN": "k"}
MODEL = "@cf/openai/gpt-oss-120b"
HELLO = [{"role": "user", "content": "Hello"}]
SEARCH = "GET /models/search"


class TestCloudflare(ProviderContract):
    plugin = Cloudflare
    models_route = SEARCH
    forms = "forms.yaml"

    def listing(self, models: Sequence[Any]) -> Any:
        return {"result": list(models), "success": True, "errors": [], "messages": []}

    def entry(self, model_id: str) -> Any:
        return {"id": "a-uuid", "name": model_id, "task": {"id": "a-uuid", "name": "Text Generation"}}

    @asynccontextmanager
    async def rig(self, *, with_keys: bool = True) -> AsyncIterator[Rig]:
        async with super().rig(with_keys=with_keys) as rig:
            rig.up.route(self.name, self.models_route, self.listing([self.entry(MODEL)]))
            yield rig


def sent(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """What reaches Cloudflare of a conversation."""

    async def whole() -> dict[str, Any]:
        async with Upstream() as up:
            config = {"plugins": {"cloudflare": {"base_url": up.base_url("cloudflare"), "discover": "off"}}}
            async with make_router(config, plugins={"cloudflare": Cloudflare}, env=ENV) as router:
                await router.chat({"model": f"cloudflare/{MODEL}", "messages": messages, **more})
            return up.seen("cloudflare").last.json

    return asyncio.run(whole())


# The account


def test_the_account_is_a_part_of_the_address() -> None:
    provider = Cloudflare()
    provider.bind({**ENV, "CLOUDFLARE_ACCOUNT_ID": f" {ACCOUNT}\n"})
    assert provider.idle() is None
    assert provider.base_url == f"https://api.cloudflare.com/client/v4/accounts/{ACCOUNT}/ai/v1"
    address = f"https://api.cloudflare.com/client/v4/accounts/{ACCOUNT}/ai/models/search"
    assert provider.list_address.partition("?")[0] == address


@pytest.mark.parametrize("account", ["", "../../user", "a/b", "a?b"])
def test_without_an_account_it_is_idle_and_says_what_to_set(account: str) -> None:
    provider = Cloudflare()
    provider.bind({**ENV, "CLOUDFLARE_ACCOUNT_ID": account})
    assert "CLOUDFLARE_ACCOUNT_ID" in (provider.idle() or "")


def test_the_missing_key_is_told_first() -> None:
    provider = Cloudflare()
    provider.bind({})
    assert "CLOUDFLARE_API_TOKEN" in (provider.idle() or "")


def test_a_second_account_has_a_variable_of_its_own() -> None:
    env = {**ENV, "CLOUDFLARE_ACCOUNT_ID": "one", "SECOND_ID": "two"}
    plugins = {
        "cloudflare": {},
        "second": {"use": "cloudflare", "account_id_env": "SECOND_ID", "separate_account": True},
    }
    router = make_router({"plugins": plugins}, plugins={"cloudflare": Cloudflare}, env=env)
    addresses = [str(provider.base_url).split("/")[6] for provider in router.providers.values()]
    assert addresses == ["one", "two"]


def test_an_address_that_is_given_whole_needs_no_account() -> None:
    provider = Cloudflare(Cloudflare.Config(base_url="https://gateway.ai.cloudflare.com/v1/a/g/workers-ai/v1"))
    provider.bind(ENV)
    assert provider.idle() is None
    env = {**ENV, "CLOUDFLARE_BASE_URL": "https://gateway.ai.cloudflare.com/v1/a/g/workers-ai/v1"}
    router = make_router({"plugins": {"cloudflare": {}}}, plugins={"cloudflare": Cloudflare}, env=env)
    assert router.providers["cloudflare"].idle() is None


def test_all_models_draw_on_one_allowance() -> None:
    router = make_router({"plugins": {"cloudflare": {}}}, plugins={"cloudflare": Cloudflare}, env=ENV)
    pools = {model.pools for model in router.providers["cloudflare"].roster()}
    assert pools == {frozenset({"cloudflare::neurons", "cloudflare::text-generation"})}


# What is sent


def test_no_content_beside_tool_calls_becomes_an_empty_text() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "assistant", "tool_calls": [call]},
    ]
    answers = [{"role": "tool", "tool_call_id": "c1", "content": "dry"}]
    body = sent([*HELLO, *said, *answers])
    wanted = {"role": "assistant", "content": "", "tool_calls": [call]}
    assert body["messages"] == [*HELLO, wanted, wanted, *answers]
    assert said[0]["content"] is None


def test_parts_that_are_all_texts_become_one() -> None:
    parts = [{"type": "text", "text": "Say"}, {"type": "text", "text": "hello."}]
    body = sent([{"role": "user", "content": parts}])
    assert body["messages"] == [{"role": "user", "content": "Say\nhello."}]


def test_parts_with_another_kind_among_them_stay_as_they_are() -> None:
    content = [{"type": "text", "text": "Say"}, {"type": "other", "text": "hello."}]
    body = sent([{"role": "user", "content": content}])
    assert body["messages"][0]["content"] == content


@pytest.mark.parametrize(
    ("asked", "cap"),
    [({}, 4096), ({"max_tokens": 9}, 9), ({"max_completion_tokens": 9}, 9)],
    ids=["none", "old", "new"],
)
def test_an_answer_is_not_cut_at_256_tokens(asked: dict[str, int], cap: int) -> None:
    body = sent(HELLO, **asked)
    assert (body["max_tokens"], "max_completion_tokens" in body) == (cap, False)


# Its search of models


def test_the_search_tells_windows_and_tools_and_who_writes_text() -> None:
    told = [{"property_id": "context_window", "value": "24000"}, {"property_id": "function_calling", "value": "true"}]
    text = {"name": "Text Generation"}
    listed = [
        {"id": "1", "name": "@cf/new", "task": text, "properties": told},
        {"id": "2", "name": "@cf/embedding", "task": {"name": "Text Embeddings"}},
        {"id": "3", "name": MODEL, "task": text, "properties": [{"property_id": "context_window", "value": "soon"}]},
        {"id": "4", "name": "@cf/bare", "task": text, "properties": {"context_window": 3}},
        {"id": "5", "name": "@cf/odd", "task": "Text Generation"},
    ]
    new, known, bare = Cloudflare().parse_models({"result": listed})
    assert (new.id, new.context, dict(new.capabilities)) == ("@cf/new", 24000, {"tools": True})
    assert (known.id, known.context) == (MODEL, 128000)
    assert (bare.id, bare.context) == ("@cf/bare", None)


@pytest.mark.parametrize(("total", "kept"), [(1, 1), (101, 6)])
def test_a_search_with_more_pages_proves_no_model_gone(total: int, kept: int) -> None:
    entry = {"name": "@cf/new", "task": {"name": "Text Generation"}}
    payload = {"result": [entry], "result_info": {"page": 1, "per_page": 100, "count": 1, "total_count": total}}
    assert len(Cloudflare().parse_models(payload)) == kept


@pytest.mark.parametrize("payload", [[], {"result": None}])
def test_a_list_may_be_empty(payload: Any) -> None:
    assert Cloudflare().parse_models(payload) == []


@pytest.mark.parametrize("payload", [None, {"result": 3}, {}])
def test_what_is_no_list_is_not_taken_for_an_empty_one(payload: Any) -> None:
    with pytest.raises(NotListedError):
        Cloudflare().parse_models(payload)


def test_its_facts_have_a_date_and_a_source_and_are_free() -> None:
    cloudflare = Cloudflare()
    assert cloudflare.facts.date == "2026-09-17"
    assert "developers.cloudflare.com" in cloudflare.facts.source
    assert all(model.free and not model.local for model in cloudflare.roster())
