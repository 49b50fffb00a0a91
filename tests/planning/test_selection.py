"""What a model's name means: whose it is exactly, as people write it, by a glob, or nobody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from routerpool import Caller, Hints, Model, OpenAIProvider, RequestError, Router
from routerpool.planning.selection import Selection
from routerpool.testing import make_router


class Lab(OpenAIProvider):
    base_url = "http://127.0.0.1:9/v1"


def router_of(models: Mapping[str, tuple[str, ...]], **config: Any) -> Router:
    """A router whose providers have these models."""
    plugins = {name: {"use": "lab", "models": list(ids)} for name, ids in models.items()}
    return make_router({"plugins": plugins, **config}, plugins={"lab": Lab})


def meant(router: Router, name: str) -> Selection:
    return router.planner.names.select(name, Hints(), Caller())


HOUSE: dict[str, Any] = {
    "models": {"a": ("m", "Qwen/Qwen3"), "b": ("n", "llama3:latest", "GPT-Next")},
    "aliases": {"Qwen*": "b/n", "routerpool/odd*": "b/n", "*": "a/m", "n": "a/m"},
}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("n", "a/m"),  # an exact alias goes before all
        ("b/n", "b/n"),
        ("Qwen/Qwen3", "a/Qwen/Qwen3"),
        ("qwen/QWEN3", "a/Qwen/Qwen3"),
        ("Qwen9", "b/n"),
        ("gpt-next", "b/GPT-Next"),
        ("B/GPT-NEXT ", "b/GPT-Next"),
        ("llama3", "b/llama3:latest"),
        ("b/llama3", "b/llama3:latest"),
        ("llama3:8b", "a/m"),
        ("routerpool/odd-one", "b/n"),
        ("routerpool/unheard-of", "a/m"),
        ("anything", "a/m"),
    ],
)
def test_what_is_somebodys_own_name_goes_before_globs(name: str, keys: str) -> None:
    assert meant(router_of(**HOUSE), name).keys == (keys,)


@pytest.mark.parametrize("name", ["auto", "", "routerpool/auto", "routerpool/free", "free"])
def test_profiles_go_before_globs(name: str) -> None:
    selection = meant(router_of(**HOUSE), name)
    assert (selection.name, selection.keys) == (name.removeprefix("routerpool/") or "auto", ())


def test_the_default_profile_stands_behind_auto_and_its_alias() -> None:
    router = router_of({"a": ("m",)}, default_profile="free", aliases={"best": "auto"})
    assert [meant(router, name).name for name in ("auto", "best", "routerpool/auto")] == ["free", "free", "auto"]


def test_names_that_differ_in_case_alone_are_told_apart_where_they_are_exact() -> None:
    router = router_of({"a": ("m", "M")})
    assert [meant(router, name).keys for name in ("a/m", "a/M", "M")] == [("a/m",), ("a/M",), ("a/M",)]
    assert meant(router, "A/m").keys == ("a/m", "a/M")


def test_a_tag_that_the_user_wrote_or_left_out_is_the_same_model() -> None:
    assert meant(router_of({"a": ("llama3",)}), "llama3:latest").keys == ("a/llama3",)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("a/nn", "no candidate, profile or alias is called 'a/nn'; GET /v1/models lists them; did you mean 'a/n'?"),
        ("A/NN", "did you mean 'a/n'?"),
        ("best", "no candidate, profile or alias is called 'opnai/n', for which 'best' stands;"),
        ("x-1", "is called 'a/none', for which 'x-1' stands;"),
        ("routerpool/fre", "there is no profile 'fre'; did you mean 'free'?"),
        ("wrong", "there is no profile 'fas'; did you mean 'fast'?"),
    ],
)
def test_a_name_that_is_nobodys_is_told_with_the_nearest(asked: str, words: str) -> None:
    aliases = {"best": "opnai/n", "x-*": "a/none"}
    router = router_of({"a": ("n",)}, aliases=aliases)
    object.__setattr__(router.config, "aliases", {**aliases, "wrong": "routerpool/fas"})
    with pytest.raises(RequestError) as caught:
        meant(router, asked)
    assert caught.value.code == "model_not_found"
    assert words in caught.value.message


def test_an_unknown_name_and_an_alias_of_one_go_to_the_profile_for_them() -> None:
    router = router_of({"a": ("n",)}, aliases={"best": "b/x"}, unknown_model="fast")
    assert [meant(router, name).name for name in ("what", "best")] == ["fast", "fast"]


def test_a_profile_and_a_request_name_models_as_people_write_them() -> None:
    models = {"a": ("Llama3:latest", "other")}
    router = router_of(models, profiles={"p": {"models": ["A/llama3"]}})
    lineup = router.planner._make_lineup(meant(router, "routerpool/p"), router.catalog.snapshot)
    assert [candidate.key for candidate in lineup.eligible] == ["a/Llama3:latest"]


def test_the_own_name_of_a_model_is_what_is_sent() -> None:
    router = router_of({"a": ("Llama3:latest",)})
    (key,) = meant(router, "llama3").keys
    assert router.catalog.snapshot.by_key[key].model == Model(id="Llama3:latest")


def test_a_models_own_name_goes_before_a_profiles() -> None:
    selection = meant(router_of({"a": ("free",)}), "free")
    assert (selection.name, selection.keys) == ("auto", ("a/free",))
