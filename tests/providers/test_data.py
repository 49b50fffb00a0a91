"""What a provider's data file says takes effect: parameters, pools, the roster and the user's overrides of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerpool import FailureKind, Level, Limit, OpenAIProvider, Pool, RequestError
from routerpool.providers.data import Params
from routerpool.providers.settings import ProviderConfig
from routerpool.testing import Upstream, Witness, make_router
from routerpool.testing.fixtures import serving

CHAT: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
DATA = """
title: A lab
base_url: https://lab.example/v1
api_key_env: [LAB_KEY]
date: "{date}"
models_at: models
models:
  - {{id: large, context: 128000, free: true}}
  - {{id: small, context: 8000, free: true}}
  - {{id: paid}}
pools:
  - {{name: free, models: [large, small], limits: [{{amount: 50, of: requests, per: day, resets: UTC}}]}}
errors:
  - {{status: 429, match: free models a day, kind: quota_exhausted, midnight: UTC, pool: free}}
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[OpenAIProvider]:
    """A provider with a data file, in a module of its own."""
    return make_lab(tmp_path, monkeypatch, "2999-01-01")


def make_lab(folder: Path, monkeypatch: pytest.MonkeyPatch, date: str) -> type[OpenAIProvider]:
    (folder / "lab.yaml").write_text(DATA.format(date=date))
    monkeypatch.setattr("routerpool.providers.data.inspect.getfile", lambda _: str(folder / "lab.py"))
    return type("Lab", (OpenAIProvider,), {"data": "lab.yaml"})


@pytest.fixture
def up() -> Iterator[Upstream]:
    with serving(Upstream()) as upstream:
        yield upstream


# Parameters


@pytest.mark.parametrize(
    ("params", "before", "after"),
    [
        (Params(drop=("seed",)), {"seed": 1, "top_p": 1}, {"top_p": 1}),
        (Params(rename={"seed": "random_seed"}), {"seed": 1}, {"random_seed": 1}),
        (Params(rename={"seed": "random_seed"}), {"seed": 1, "random_seed": 2}, {"random_seed": 2}),
        (Params(most={"max_tokens": 10}), {"max_tokens": 99}, {"max_tokens": 10}),
        (Params(most={"max_tokens": 10}), {"max_tokens": 9}, {"max_tokens": 9}),
        (Params(most={"max_tokens": 10}), {"max_tokens": None}, {"max_tokens": None}),
        (Params(allowed={"effort": ("low", "high")}), {"effort": "xhigh"}, {}),
        (Params(allowed={"effort": ("low", "high")}), {"effort": "low"}, {"effort": "low"}),
        (Params(default={"max_tokens": 5}), {}, {"max_tokens": 5}),
        (Params(default={"max_tokens": 5}), {"max_tokens": 7}, {"max_tokens": 7}),
        (Params(default={"max_tokens": 5}), {"max_completion_tokens": 7}, {"max_completion_tokens": 7}),
        (Params(rename={"a": "b"}, drop=("b",), default={"c": 1}), {"a": 1}, {"c": 1}),
    ],
)
def test_parameters_become_what_the_provider_wants(
    params: Params, before: dict[str, Any], after: dict[str, Any]
) -> None:
    params.apply(before)
    assert before == after


names = st.sampled_from(["a", "b", "c", "max_tokens", "max_completion_tokens"])
values = st.one_of(st.none(), st.integers(-5, 50), st.text(max_size=2), st.lists(st.integers(), max_size=2))


@given(
    params=st.builds(
        Params,
        rename=st.dictionaries(names, names, max_size=2),
        drop=st.lists(names, max_size=2).map(tuple),
        most=st.dictionaries(names, st.integers(0, 20), max_size=2),
        allowed=st.dictionaries(names, st.lists(st.integers(0, 5), max_size=2).map(tuple), max_size=2),
        default=st.dictionaries(names, values, max_size=2),
    ),
    body=st.dictionaries(names, values, max_size=5),
)
def test_what_is_limited_is_within_its_limits_afterwards_unless_the_default_is_not(
    params: Params, body: dict[str, Any]
) -> None:
    params.apply(body)
    for name, value in body.items():
        if name in params.default and value == params.default[name]:
            continue
        assert name not in params.drop
        if name in params.most and isinstance(value, int):
            assert value <= params.most[name]
        if name in params.allowed:
            assert value in params.allowed[name]


# The roster and its overrides


def test_the_environment_names_models_and_the_address_and_the_users_section_goes_before_it(
    lab: type[OpenAIProvider],
) -> None:
    env = {"LAB_MODELS": " large, other ,", "LAB_BASE_URL": "http://127.0.0.1:9/v1/"}
    provider = lab(name="lab")
    provider.bind(env)
    assert [model.id for model in provider.roster()] == ["large", "other"]
    assert (provider.roster()[0].context, provider.base_url) == (128000, "http://127.0.0.1:9/v1")
    told = lab(ProviderConfig(models=("small",), base_url="http://127.0.0.1:8/v1"), name="lab")
    told.bind(env)
    assert ([model.id for model in told.roster()], told.base_url) == (["small"], "http://127.0.0.1:8/v1")
    second = lab(name="lab-2")
    second.bind({**env, "LAB_2_MODELS": "small"})
    assert [model.id for model in second.roster()] == ["small"]
    assert second.base_url == "https://lab.example/v1"


def test_an_address_of_the_environment_that_makes_no_sense_leaves_the_provider_idle(lab: type[OpenAIProvider]) -> None:
    provider = lab(name="lab")
    provider.bind({"LAB_BASE_URL": "nonsense", "LAB_KEY": "k"})
    idle = provider.idle()
    assert idle is not None
    assert idle.startswith("LAB_BASE_URL cannot be used")


@pytest.mark.parametrize(
    ("section", "listed", "models"),
    [
        ({}, ["small", "large", "new"], ["large", "small"]),
        ({}, ["something", "else"], ["large", "small", "paid"]),
        ({"discover": "all"}, ["new", "small"], ["new", "small"]),
        ({"discover": "off"}, ["new"], ["large", "small", "paid"]),
        ({"models": ["mine"]}, ["small"], ["mine"]),
    ],
    ids=["roster", "another list", "all", "off", "named"],
)
def test_its_own_list_says_which_of_the_roster_are_left(
    lab: type[OpenAIProvider], up: Upstream, section: dict[str, Any], listed: list[str], models: list[str]
) -> None:
    async def main() -> None:
        up.models("lab", listed)
        config = {"plugins": {"lab": {"base_url": up.base_url("lab"), **section}}}
        async with make_router(config, plugins={"lab": lab}, env={"LAB_KEY": "k"}) as router:
            await router.catalog.refresh(router.session, all_of_them=True)
            assert [c.model.id for c in router.catalog.snapshot.candidates] == models

    asyncio.run(main())


@pytest.mark.parametrize(("date", "warned"), [("2999-01-01", False), ("2020-01-01", True), ("", False)])
def test_doctor_warns_of_a_roster_that_is_older_than_180_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, date: str, warned: bool
) -> None:
    async def main() -> list[str]:
        config = {"plugins": {"lab": {"discover": "off"}}}
        lab = make_lab(tmp_path, monkeypatch, date)
        async with make_router(config, plugins={"lab": lab}, env={"LAB_KEY": "k"}) as router:
            reports = await router.check()
        return [report.text for report in reports if report.level is Level.WARNING]

    found = [text for text in asyncio.run(main()) if "written down on" in text]
    assert bool(found) is warned


# Pools


def test_a_pool_holds_the_models_that_its_globs_name() -> None:
    pool = Pool(name="free", models=("*:free", "router"), limits=(Limit(amount=20, of="requests", per="minute"),))
    assert [pool.holds(name) for name in ("a:free", "router", "a", "routers")] == [True, True, False, False]


@pytest.mark.parametrize(("second", "shared"), [({}, True), ({"separate_account": True}, False)])
def test_a_second_key_shares_the_quota_unless_it_is_said_to_be_of_another_account(
    lab: type[OpenAIProvider], up: Upstream, second: dict[str, Any], shared: bool
) -> None:
    """What the one instance has spent benches the models of the other, which would only spend it in vain."""

    async def main() -> None:
        from routerpool_breaker import Breaker

        address = {"base_url": up.base_url("lab"), "discover": "off"}
        plugins = {"one": {"use": "lab", **address}, "two": {"use": "lab", "api_key_env": "OTHER", **address, **second}}
        witness = Witness()
        env = {"LAB_KEY": "key-one", "OTHER": "key-two"}
        config = {"plugins": {**plugins, "breaker": {}}, "limits": {"max_attempts": 1}}
        async with make_router(config, plugins={"lab": lab, "breaker": Breaker}, env=env, witness=witness) as router:
            body = {"error": {"message": "No more free models a day."}}
            up.reply("lab", 429, body)
            with pytest.raises(RequestError):
                await router.chat({**CHAT, "model": "one/large"})
            [failure] = witness.failures
            assert (failure.kind, failure.pool) == (
                FailureKind.QUOTA_EXHAUSTED,
                "lab@" + up.base_url("lab").split("/")[2] + "::free",
            )
            assert failure.retry_after is not None
            assert 0 < failure.retry_after <= 86400
            told = await router.explain(CHAT)
            benched = {veto["candidate"] for veto in told["vetoes"] if veto["code"] == "cooldown"}
            assert benched == {"one/large", "one/small"} | ({"two/large", "two/small"} if shared else set())
            keys = [r.headers.get("authorization") for r in up.seen("lab").requests]
            assert keys == ["Bearer key-one"], "no other key was tried after the limit"

    asyncio.run(main())
