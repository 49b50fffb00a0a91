"""Every value that crosses a hook becomes JSON and comes back the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import attrs
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool import types
from routerpool.config import converter
from routerpool.types import (
    Answer,
    Candidate,
    Detected,
    Features,
    Finding,
    Model,
    Outcome,
    Prices,
    Privacy,
    Score,
    Tier,
    Usage,
    UsageRecord,
)

from ..support.settings import Colour

VALUES = [cls for name in types.__all__ if attrs.has(cls := getattr(types, name))]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PRICE = st.none() | st.floats(0, 1e6)
FLAT_PRICES = st.builds(Prices, input=PRICE, cached=PRICE, output=PRICE)
STRATEGIES: dict[Any, st.SearchStrategy[Any]] = {
    Any: JSON,
    str: st.text(max_size=8),
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9),
    bool: st.booleans(),
    bytes: st.binary(max_size=8),
    NoneType: st.none(),
    Prices: FLAT_PRICES | st.builds(Prices, input=PRICE, over=st.integers(), long=FLAT_PRICES),
}


@cache
def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Values of this type, as the annotations of `routerpool.types` write it."""
    kind, args = get_origin(hint) or hint, get_args(hint)
    if hint in STRATEGIES:
        return STRATEGIES[hint]
    if kind is Literal:
        return st.sampled_from(args)
    if kind in (Union, UnionType):
        return st.one_of([strategy(arg) for arg in args])
    if kind is tuple and args[-1] is not ...:
        return st.tuples(*(strategy(arg) for arg in args))
    collections: dict[Any, Callable[..., st.SearchStrategy[Any]]] = {
        tuple: lambda item, _=None: st.lists(strategy(item), max_size=2).map(tuple),
        frozenset: lambda item: st.frozensets(strategy(item), max_size=3),
        Sequence: lambda item: st.lists(strategy(item), max_size=2),
        Mapping: lambda key, item: st.dictionaries(strategy(key), strategy(item), max_size=2),
        dict: lambda key, item: st.dictionaries(strategy(key), strategy(item), max_size=2),
    }
    if kind in collections:
        return collections[kind](*args)
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    attrs.resolve_types(kind)
    fields = {field.alias: strategy(field.type) for field in attrs.fields(kind) if field.init}
    if kind is Detected:
        fields["confidence"] = st.floats(0, 1)
    return st.builds(kind, **fields)


def through_json(value: Any) -> Any:
    """What comes back of a value that was written as JSON text, from data that JSON changes nothing of."""
    data = converter.unstructure(value)
    read = json.loads(json.dumps(data))
    assert read == data
    return converter.structure(read, type(value))


@pytest.mark.parametrize("cls", VALUES, ids=lambda cls: cls.__name__)
def test_every_value_comes_back_from_json(cls: type) -> None:
    @given(strategy(cls))
    @settings(max_examples=25, deadline=None)
    def comes_back(value: Any) -> None:
        assert through_json(value) == value

    comes_back()


RECORD = UsageRecord(
    request_id="r", time=1.5, caller="ada", session="s", profile="auto", model_asked="auto", provider="groq",
    model="m", outcome=Outcome.ANSWERED, stream=False, tried=("groq/m:answered",), task=None,
    privacy=Privacy.PRIVATE, prompt_tokens=3, usage=Usage(output=2), cost=None, first_byte_ms=1.0, total_ms=2.0,
    terms={"free_first": 0.5},
)  # fmt: skip


def test_a_record_is_what_the_contract_shows() -> None:
    """Enums as words, tuples as lists, and no field that a prompt could be in."""
    assert converter.unstructure(RECORD) == {
        "request_id": "r", "time": 1.5, "caller": "ada", "session": "s", "profile": "auto", "model_asked": "auto",
        "provider": "groq", "model": "m", "outcome": "answered", "stream": False, "tried": ["groq/m:answered"],
        "task": None, "privacy": "private", "prompt_tokens": 3, "cost": None, "first_byte_ms": 1.0, "total_ms": 2.0,
        "terms": {"free_first": 0.5},
        "usage": {"input_uncached": 0, "input_cached": 0, "cache_write": 0, "cache_write_1h": 0, "output": 2,
                  "reasoning": 0, "cost": None, "source": "estimated"},
    }  # fmt: skip


def test_what_is_derived_is_left_out_and_made_again() -> None:
    candidate = Candidate(provider="groq", model=Model(id="m", tier=Tier.FAST, tags=frozenset({"b", "c", "a"})))
    data = converter.unstructure(candidate)

    assert data.keys() == {"provider", "model"}
    assert data["model"]["tier"] == "fast"
    assert data["model"]["tags"] == ["a", "b", "c"]
    assert through_json(candidate).key == "groq/m"


def test_a_truth_value_among_the_terms_is_the_number_that_it_counts_as() -> None:
    """`{"free": candidate.model.free}` is a term to a type checker, and a truth value to JSON, which is none."""
    candidate = Candidate(provider="p", model=Model(id="m"))

    assert through_json(Score(candidate, 1, {"free": True})).terms == {"free": 1.0}


class Place(NamedTuple):
    line: int
    kind: Tier


class Shade(StrEnum):
    DARK = "dark blue"


class Word(str, Enum):  # noqa: UP042  # as many write it
    ONE = "1"


def test_what_a_plugin_leaves_in_an_open_field_becomes_json_too() -> None:
    labels = {
        "finding": Finding(rule="r", part="p", redacted="…"), "tiers": [Tier.FAST], "names": {"b", "a"},
        "place": Place(3, Tier.CAPABLE), "pair": (1, None), "shade": Shade.DARK,
        "word": Word.ONE, "colour": Colour.DARK_BLUE,
    }  # fmt: skip

    assert converter.unstructure(Features(labels=labels))["labels"] == {
        "finding": {"rule": "r", "part": "p", "redacted": "…", "line": 1, "column": 1}, "tiers": ["fast"],
        "names": ["a", "b"], "place": [3, "capable"], "pair": [1, None], "shade": "dark blue",
        "word": "one", "colour": "dark_blue",
    }  # fmt: skip


@frozen
class Holder:
    thing: complex = 1j


@pytest.mark.parametrize(
    ("thing", "name"), [(object(), "object"), (b"x", "bytes"), ({"deep": [1j]}, "complex"), (Holder(), "complex")]
)
def test_what_json_has_no_form_for_is_named(thing: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} is not a type that JSON has a form for"):
        converter.unstructure(Features(labels={"mine": thing}))


@pytest.mark.parametrize("body", ["no base64!", 5, None])
def test_bytes_are_taken_as_base64_only(body: Any) -> None:
    answer = Answer(status=400, content_type="text/plain", body=b"\xff\x00")

    assert through_json(answer) == answer
    with pytest.raises(ExceptionGroup):
        converter.structure(converter.unstructure(answer) | {"body": body}, Answer)
