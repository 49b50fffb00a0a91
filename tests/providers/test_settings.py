"""What holds for a provider: its data file, its class, the user's section and the environment, each before the last."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from routerpool import Model, ModelData, OpenAIProvider, Pool, ProviderConfig
from routerpool.privacy import may_be_local
from routerpool.providers.data import Family, Params, ProviderData
from routerpool.providers.roster import Roster
from routerpool.providers.settings import Declarations, Settings, facts_of, settle
from routerpool.refusals.resets import HeaderSpec

FILE = ProviderData(
    title="of the file",
    base_url="https://file.example/v1",
    api_key_env=("FILE_KEY",),
    headers={"X-One": "file", "X-Two": "file"},
    models=(ModelData(id="large", context=9), ModelData(id="small")),
    pools=(Pool(name="of the file"),),
    resets=(HeaderSpec("x-file-reset"),),
    params=Params(drop=("seed",)),
)


class Silent(Declarations):
    """A class that leaves everything to its file."""


class Told(Declarations):
    title = "of the class"
    base_url = "https://class.example/v1"
    api_key_env = "CLASS_KEY"
    headers: Mapping[str, str] = {"X-Two": "class"}
    shared_quotas = (Pool(name="of the class"),)
    resets = (HeaderSpec("x-file-reset", window="class"), HeaderSpec("retry-later"))
    params = Params(drop=("user",))


def settled(
    facts: ProviderData = FILE, env: Mapping[str, str] | None = None, account: str = "lab", **more: Any
) -> Settings:
    """The settings of a section without a word, or with those of `section`."""
    section = ProviderConfig(**more.pop("section", {}))
    return settle(facts, section, env or {}, account=account, **more)


def test_the_class_goes_before_its_file_and_lists_are_joined() -> None:
    facts = facts_of(Told(), FILE)

    assert (facts.title, facts.base_url, facts.api_key_env) == (Told.title, Told.base_url, ("CLASS_KEY",))
    assert facts.headers == {"X-One": "file", "X-Two": "class"}
    assert [pool.name for pool in facts.pools] == ["of the class", "of the file"]
    assert [spec.name for spec in facts.resets][:3] == ["x-file-reset", "retry-later", "x-file-reset"]
    assert facts.params == FILE.params
    assert facts.models == FILE.models


def test_a_class_without_a_word_leaves_the_file_as_it_is_but_for_the_common_resets() -> None:
    facts = facts_of(Silent(), FILE)

    assert evolve(facts, resets=FILE.resets) == FILE
    assert facts.resets[0] == FILE.resets[0]
    assert "x-ratelimit-reset" in {spec.name for spec in facts.resets}


def test_a_spelling_of_ones_own_replaces_the_common_one() -> None:
    own = HeaderSpec("x-ratelimit-reset", window="mine")
    facts = facts_of(Silent(), ProviderData(resets=(own,)))

    assert [spec for spec in facts.resets if spec.name == own.name] == [own]


ENV = {"LAB_URL": "http://127.0.0.1:5/v1/", "FILE_KEY": " k ", "MINE": "m"}


@pytest.mark.parametrize(
    ("section", "env", "more", "expected"),
    [
        ({}, {}, {}, {"base_url": "https://file.example/v1", "key": None, "named": None}),
        ({}, ENV, {}, {"base_url": "https://file.example/v1", "key": "k", "key_from": "FILE_KEY"}),
        ({}, ENV, {"address": "LAB_URL"}, {"base_url": "http://127.0.0.1:5/v1", "account": "lab"}),
        (
            {"base_url": "http://x/v1/", "api_key_env": "FILE_KEY"},
            ENV,
            {"address": "LAB_URL"},
            {"base_url": "http://x/v1", "account": "lab@x:80"},
        ),
        ({"api_key_env": "MINE"}, ENV, {}, {"key": "m", "key_from": "MINE", "key_variables": ("MINE",)}),
        ({}, {}, {"named": ("m1",)}, {"named": ("m1",)}),
        ({"models": ("m2",)}, {}, {"named": ("m1",)}, {"named": ("m2",)}),
        ({"models": ()}, {}, {"named": ("m1",)}, {"named": ()}),
        ({"base_url": "https://file.example/v1"}, {}, {}, {"account": "lab"}),
        ({"base_url": "http://x/v1", "separate_account": True}, {}, {"account": "second"}, {"account": "second"}),
    ],
)
def test_the_section_goes_before_the_environment_and_both_before_the_author(
    section: dict[str, Any], env: dict[str, str], more: dict[str, Any], expected: dict[str, Any]
) -> None:
    settings = settled(env=env, section=section, **more)

    assert {name: getattr(settings, name) for name in expected} == expected
    assert settings.wrong is settings.unfit is None


def test_headers_are_those_of_every_request_then_the_authors_then_the_users() -> None:
    headers = settled(section={"headers": {"x-one": "mine", "USER-AGENT": "me"}}).headers

    assert dict(headers) == {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "USER-AGENT": "me",
        "x-one": "mine",
        "X-Two": "file",
    }


OTHERS = [
    *("2130706433", "0x7f000001", "0x7f.1", "127.1", "017700000001", "134744072", "0x08080808"),
    *("169.254.169.254", "169.254.170.2", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "metadata.google.internal"),
    *("8.8.8.8", "[2001:4860:4860::8888]", "[::ffff:8.8.8.8]", "api.example"),
]
"""Hosts that are not in the house, or that a resolver may read as somebody else's."""


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"base_url": "nonsense"}, "`base_url` must be an http:// or https:// address, not 'nonsense'"),
        ({"base_url": "https://u:p@x.example"}, "`base_url` must not hold credentials or a query"),
        ({"base_url": "https://x.example?k=1"}, "`base_url` must not hold credentials or a query"),
        ({"base_url": "https://x.example", "local": True}, "`local: true`, but x.example is a public address"),
        *(({"base_url": f"http://{host}/v1", "local": True}, "`local: true`, but ") for host in OTHERS),
        ({"base_url": "http://[::1"}, "Invalid"),
        ({"headers": {"X-A": "a\r\nb"}}, "the header 'X-A' holds a character that no header can carry"),
    ],
)
def test_what_is_wrong_with_a_section_is_told_in_words_and_stops_the_provider_from_being_made(
    section: dict[str, Any], words: str
) -> None:
    told = settled(section=section).wrong

    assert told is not None
    assert told.startswith(words)
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        type("Lab", (OpenAIProvider,), {"base_url": FILE.base_url})(ProviderConfig(**section))


def test_a_provider_without_an_address_says_where_to_give_one() -> None:
    told = settled(ProviderData()).wrong

    assert told is not None
    assert told.startswith("`base_url` is missing; add the address of the API")


def complaining(text: str) -> str:
    raise ValueError(f"{text} will not do")


@pytest.mark.parametrize(
    ("env", "more", "words"),
    [
        ({"AT": "nonsense"}, {}, "AT cannot be used: `base_url` must be an http:// or https:// address"),
        ({"AT": "this"}, {"read": complaining}, "AT cannot be used: this will not do"),
        ({"AT": "http://h/v1", "FILE_KEY": "a\nb"}, {}, "FILE_KEY holds a character that no header can carry"),
    ],
)
def test_what_is_unfit_in_the_environment_is_told_by_its_variable_and_the_last_good_address_stays(
    env: dict[str, str], more: dict[str, Any], words: str
) -> None:
    settings = settled(env=env, address="AT", **more)

    assert settings.unfit is not None
    assert settings.unfit.startswith(words)
    assert settings.wrong is None
    assert settings.key is None
    assert settings.base_url == ("http://h/v1" if "FILE_KEY" in env else FILE.base_url)


def test_no_settings_tell_their_key_or_their_headers() -> None:
    settings = settled(env={"FILE_KEY": "sk-secret"}, section={"headers": {"X-A": "hidden"}})

    assert settings.key == "sk-secret"
    assert "sk-secret" not in repr(settings)
    assert "hidden" not in repr(settings)


claims = st.sampled_from([None, True, False])
places = st.sampled_from(["http://127.0.0.1:9", "http://box.local/v1", "https://gpu.example/v1", "http://10.0.0.5"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "192.168.1.7", "[fd00:ec2::253]", "[fe80::1]", "[::ffff:10.0.0.1]", "gpu-1", "m.lan"]
)
def test_what_is_on_this_machine_or_network_may_be_local(host: str) -> None:
    assert settled(section={"base_url": f"http://{host}/v1", "local": True}).wrong is None


@given(native=st.booleans(), gratis=st.booleans(), local=claims, free=claims, section=st.none() | places, at=places)
def test_nothing_is_local_at_a_public_address_nor_free_there_because_it_would_be_local(
    native: bool, gratis: bool, local: bool | None, free: bool | None, section: str | None, at: str
) -> None:
    facts = ProviderData(base_url="http://127.0.0.1:1/v1", local=native, free=gratis)
    config = {"base_url": section, "local": local, "free": free}
    settings = settled(facts, {"AT": at}, section=config, address="AT")

    if settings.wrong or settings.unfit:
        assert local, "only who claims to be local can be wrong here"
        return
    public = not may_be_local(URL(settings.base_url).host or "")
    assert not (settings.local and public)
    assert settings.local is (not public and native if local is None else local)
    assert settings.free is (gratis and not (native and public) if free is None else free)


def test_settling_reads_and_changes_nothing_else() -> None:
    facts, env = facts_of(Told(), FILE), {"CLASS_KEY": "k", "LAB_URL": "http://127.0.0.1:5/v1"}
    section = ProviderConfig(headers={"X-A": "1"})
    before = repr((facts, section, env))

    first, second = (settle(facts, section, env, account="lab", address="LAB_URL") for _ in range(2))

    assert first == second
    assert first.headers is not second.headers
    assert repr((facts, section, env)) == before


# The roster


def roster(facts: ProviderData = FILE, **more: Any) -> Roster:
    return Roster(facts, settled(facts, **more))


def test_what_the_user_names_is_known_as_the_author_knows_it_and_the_rest_stays_known_too() -> None:
    large = ModelData(id="large", max_output=7, local=True)
    models = roster(section={"models": (large, "other")})

    assert [(m.id, m.context, m.max_output, m.local) for m in models.models] == [
        ("large", 9, 7, False),
        ("other", None, None, False),
    ]
    assert "small" in models
    assert "third" not in models
    assert models.model("large") == models.models[0]


def test_a_model_that_nobody_listed_is_of_its_family_and_draws_on_its_pools() -> None:
    facts = ProviderData(
        base_url="https://lab.example/v1",
        families=(Family(models=("*:free",), free=True, data_policy="may_train", tags=("shared",)),),
        pools=(Pool(name="free", models=("*:free",)),),
    )

    model = roster(facts).model("x:free")

    assert (model.free, model.data_policy, model.tags, model.pools) == (True, "may_train", {"shared"}, {"lab::free"})
    assert roster(facts, section={"data_policy": "no_training"}).model("x:free").data_policy == "no_training"
    assert roster(facts).model("x") == Model(id="x")


STRANGERS = (
    "https://evil.test/v1",
    "https://file.example.evil.test/v1",
    "https://notfile.test/v1",
    "http://10.0.0.7/v1",
)


@pytest.mark.parametrize("address", STRANGERS)
def test_a_vendors_own_key_goes_to_another_host_only_if_the_section_names_it(address: str) -> None:
    env = {"FILE_KEY": "of-the-vendor"}
    told = settled(env=env, section={"base_url": address})
    assert (told.key, told.key_from) == (None, None)
    assert told.unfit is not None
    assert "api_key_env: FILE_KEY" in told.unfit
    named = settled(env=env, section={"base_url": address, "api_key_env": "FILE_KEY"})
    assert (named.key, named.unfit) == ("of-the-vendor", None)


@pytest.mark.parametrize(
    ("facts", "address"),
    [
        (FILE, "https://file.example/v2"),
        (evolve(FILE, base_url="https://api.vendor.example/v1"), "https://gateway.vendor.example/v1"),
        (FILE, "http://127.0.0.1:9/v1"),
        (FILE, "http://localhost:9/v1"),
        (evolve(FILE, local=True), "http://box:9/v1"),
        (evolve(FILE, base_url=None), "https://mine.example/v1"),
    ],
)
def test_a_key_goes_to_its_own_host_to_this_machine_and_to_a_server_of_ones_own(
    facts: ProviderData, address: str
) -> None:
    assert settled(facts, env={"FILE_KEY": "k"}, section={"base_url": address}).key == "k"


def test_who_sets_the_environment_has_the_key_and_may_send_it_where_it_says() -> None:
    told = settled(env={"FILE_KEY": "k", "LAB_BASE_URL": "https://gateway.example/v1"}, address="LAB_BASE_URL")
    assert (told.base_url, told.key) == ("https://gateway.example/v1", "k")
