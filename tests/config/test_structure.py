"""How sections are read: types, validators, bounds, each fault at its place, and types that plugins register."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, NewType, TypeVar

import jsonschema
import pytest
from attrs import field, fields_dict, frozen, make_class, validators
from hypothesis import given, settings
from hypothesis import strategies as st

from routerpool import document
from routerpool.config import converter
from routerpool.config.reading import from_mapping, schema
from routerpool.config.schema import Describer
from routerpool.config.structure import structure
from routerpool.config.words import Pattern, Range, Size
from routerpool.document import Problems

from ..support.settings import CANARY, ENV, Colour, Entry, Plugin, Price, plugin


def test_a_plugins_section_takes_the_usual_types() -> None:
    made, found = plugin(
        base_url="http://x", api_key_env="KEY", seconds=3, retries=9, local=True, colour="dark_blue", mode=3,
        models=["a", {"id": "b", "context": 5, "prices": {"input": 1, "currency": "eur"}, "tags": ["x", "x"]}],
        list_of=[1, 2], pair=[5, "z"], by_name={"k": {"id": "c"}}, level="high", cap="1kB", word="ab",
        anything={"a": [None]}, password="short", folder="/a/b", low=3, high=4,
    )  # fmt: skip

    assert found == []
    assert made == Plugin(
        base_url="http://x", api_key_env="KEY", seconds=3.0, retries=9, local=True, colour=Colour.DARK_BLUE, mode=3,
        models=("a", Entry(id="b", context=5, prices=Price(input=1.0, currency="eur"), tags=frozenset({"x"}))),
        list_of=[1, 2], pair=(5, "z"), by_name={"k": Entry(id="c")}, level="high", cap=Size(1000), word="ab",
        anything={"a": [None]}, password="short", folder=Path("/a/b"), low=3, high=4,
    )  # fmt: skip
    assert type(made.seconds) is float


def test_an_empty_section_is_all_defaults() -> None:
    assert plugin() == (Plugin(), [])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"models": [{"id": 5}]}, "models[0].id: expected a text, got the number 5; put it in quotes"),
        ({"models": ["a", {}]}, "models[1].id: is missing; give it a text"),
        ({"models": [5]}, "models[0]: expected a text or a mapping, got the number 5"),
        ({"models": [{"id": "a", "contxt": 5}]}, "models[0].contxt: unknown key; did you mean 'context'?"),
        ({"models": [{"id": "a", "context": "big"}]}, "models[0].context: expected a whole number, got the text 'big'"),
        ({"by_name": {"a b": {}}}, "by_name['a b'].id: is missing; give it a text"),
        ({"seconds": -1}, "seconds: 'seconds' must be > 0: -1.0"),
        ({"low": 5, "high": 4}, ": high must not be below low"),
        ({"low": 50}, ": high must not be below low"),
        ({"retries": 10}, "retries: must be at least 0 and at most 9, got the number 10"),
        ({"pair": [1]}, "pair: expected 2 items, got 1"),
        ({"pair": [1, 2]}, "pair[1]: expected a text, got the number 2; put it in quotes"),
        ({"mode": "fats"}, "mode: expected one of fast, slow, 3, got the text 'fats'; did you mean 'fast'?"),
        ({"mode": "3"}, "mode: expected one of fast, slow, 3, got the text '3'; write it without quotes"),
        ({"mode": True}, "mode: expected one of fast, slow, 3, got true"),
        ({"colour": "r"}, "colour: expected one of red, dark_blue, got the text 'r'"),
        ({"level": 1.5}, "level: expected a whole number or a text, got the number 1.5"),
        ({"local": "false"}, "local: expected true or false, got the text 'false'; write it without quotes"),
        ({"local": 1}, "local: expected true or false, got the number 1"),
        ({"list_of": [True]}, "list_of[0]: expected a whole number, got true"),
        ({"list_of": "12"}, "list_of: expected a list, got the text '12'; put it in [ ]"),
        ({"word": "A"}, "word: expected small letters"),
        ({"folder": 5}, "folder: expected a path, got the number 5; put it in quotes"),
        ({"password": CANARY}, "password: the value breaks a rule of this key (not shown, since it may hold a secret)"),
        ({"seconds": "${NEGATIVE}"},
         "seconds: the value breaks a rule of this key (not shown, since it may hold a secret)"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_plugins_section_stands_at_its_field(options: dict[str, Any], line: str) -> None:
    made, found = plugin(env=ENV | {"NEGATIVE": "-12345"}, **options)

    assert made is None
    assert found == [f"plugins.p{'' if line.startswith(':') else '.'}{line}"]


def test_validators_speak_even_when_another_field_is_wrong() -> None:
    _, found = plugin(seconds=-1, retries="x")

    assert found == [
        "plugins.p.seconds: 'seconds' must be > 0: -1.0",
        "plugins.p.retries: expected a whole number, got the text 'x'",
    ]


def test_a_missing_variable_in_a_plugins_section_is_reported_once() -> None:
    made, found = plugin(retries="${ABSENT}", models=["${ABSENT}"])

    assert made is None
    assert [line.split(":")[0] for line in found] == ["plugins.p.retries", "plugins.p.models[0]"]


def test_a_variable_in_a_plugins_section_becomes_its_type() -> None:
    made, _ = plugin(env={"N": "7", "T": "x"}, retries="${N}", base_url="${N}", level="${T}", mode="slow")

    assert made is not None
    assert (made.retries, made.base_url, made.level) == (7, "7", "x")
    assert type(made.base_url) is str


Metres = NewType("Metres", int)


@frozen(kw_only=True)
class Bounds:
    height: Annotated[Metres, Range(least=2)] = Metres(2)
    depth: Annotated[float, Range(most=5)] = 0.0
    folder: Path | None = None
    values: list[Any] = field(factory=list, validator=validators.max_len(1))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"height": 1}, "must be at least 2, got the number 1"),
        ({"depth": 6}, "must be at most 5, got the number 6"),
        ({"folder": "~nobody-of-this-name/x"}, "expected a path, got the text '~nobody-of-this-name/x'"),
        ({"values": ["a", document.EnvText.of(CANARY, ("C",), False)]},
         "the value breaks a rule of this key (not shown, since it may hold a secret)"),
    ],
)  # fmt: skip
def test_bounds_on_one_side_new_types_and_homes(tree: Any, message: str) -> None:
    problems = Problems()

    assert structure(tree, Bounds, (), problems) is None
    assert [problem.message for problem in problems] == [message]
    assert structure({"height": 2, "folder": "~/x"}, Bounds, (), problems) == Bounds(folder=Path.home() / "x")
    assert jsonschema.Draft202012Validator(schema(plugins={"b": Bounds})).is_valid({"plugins": {"b": {"height": 2}}})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)
       | st.dictionaries(st.sampled_from([*fields_dict(Plugin)]) | st.text(), inner)))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_tree_is_either_an_instance_or_a_problem(tree: Any) -> None:
    problems = Problems()

    made = structure(tree, Plugin, (), problems)

    assert (made is None) == (len(problems) > 0)


@frozen(kw_only=True)
class Words:
    ranks: dict[Annotated[str, Pattern("[a-z]+", "small letters")], int]


def test_a_wrong_key_and_what_stands_under_it_are_both_told() -> None:
    problems = Problems()

    assert structure({"ranks": {"A": "x", "B": document.UNSET, "c": 1}}, Words, (), problems) is None
    assert [f"{problem.path}: {problem.message}" for problem in problems] == [
        "ranks.A: expected small letters",
        "ranks.A: expected a whole number, got the text 'x'",
        "ranks.B: expected small letters",
    ]


@frozen
class Tree:
    name: str
    below: tuple[Tree, ...] = ()
    other: Tree | None = None


T = TypeVar("T")


@frozen
class Box(Generic[T]):
    thing: T
    more: list[T] = field(factory=list)


@frozen
class Boxes:
    number: Box[int]
    text: Box[str] | None = None


def test_classes_may_hold_themselves_and_be_generic() -> None:
    problems = Problems()

    read = structure({"name": "a", "below": [{"name": "b", "other": {"name": "c"}}]}, Tree, (), problems)
    assert read == Tree("a", (Tree("b", (), Tree("c")),))
    assert structure({"number": {"thing": 1, "more": [2]}}, Boxes, (), problems) == Boxes(Box(1, [2]))
    assert structure({"number": {"thing": "1", "more": ["2"]}, "text": {"thing": 3}}, Boxes, (), problems) is None
    assert structure({"name": "a", "below": [{"name": "b", "other": {}}]}, Tree, ("t",), problems) is None
    assert [problem.path for problem in problems] == [
        "number.thing",
        "number.more[0]",
        "text.thing",
        "t.below[0].other.name",
    ]


def test_what_a_missing_variable_leaves_is_no_value_even_where_anything_is() -> None:
    assert plugin(anything="${ABSENT}")[0] is None


def test_keys_that_are_unknown_are_told_before_those_that_are_wrong() -> None:
    assert [line.split(": ")[0] for line in plugin(retries="x", modle=1, local=5)[1]] == [
        "plugins.p.modle",
        "plugins.p.retries",
        "plugins.p.local",
    ]


@frozen(kw_only=True)
class Odds:
    """What is rare: a key without its underscore, a field that is none, bounds of what may be missing, a choice."""

    _count: Annotated[int | None, Range(least=1)] = 1
    made: int = field(default=0, metadata={"internal": True})
    either: Entry | Price | None = None


def test_private_fields_internal_ones_and_bounds_of_what_may_be_missing() -> None:
    problems = Problems()

    assert structure({"count": None}, Odds, (), problems) == Odds(count=None)
    assert structure({"count": 0, "made": 1}, Odds, (), problems) is None
    assert [f"{problem.path}: {problem.message}" for problem in problems] == [
        "made: unknown key; known here: count, either",
        "count: must be at least 1, got the number 0",
    ]


def test_of_two_sections_that_a_value_may_be_the_nearer_one_complains() -> None:
    problems = Problems()

    assert structure({"either": {"input": "x"}}, Odds, (), problems) is None
    assert [f"{problem.path}: {problem.message}" for problem in problems] == [
        "either.input: expected a number, got the text 'x'"
    ]


# Types that plugins register


@frozen
class Minutes:
    """A time that is written as `5m`."""

    count: int

    @staticmethod
    def to_schema(describer: Describer) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[0-9]+m$"}


@converter.register_structure_hook
def _minutes(tree: Any, _: Any) -> Minutes:
    """Read `5m`."""
    if not isinstance(tree, str) or not tree.endswith("m"):
        raise ValueError(f"expected a time such as 5m, not {tree!r}")
    return Minutes(int(tree[:-1]))


Even = NewType("Even", int)


def _even(tree: Any, _: Any) -> Even:
    number = converter.structure(tree, int)
    if number % 2:
        raise ValueError("must be even")
    return Even(number)


converter.register_structure_hook(Even, _even)


@frozen(kw_only=True)
class Timer:
    """What a plugin with types of its own may call its Config."""

    every: Minutes = field(metadata={"help": "how often"})
    token_for: Minutes | None = None
    at: tuple[Minutes | int, ...] = ()
    pairs: Even = Even(0)


def timer(**options: Any) -> tuple[Timer | None, list[str]]:
    config, problems = from_mapping({"plugins": {"t": options}}, env=ENV | {"SECRET": CANARY, "TIME": "7m"})
    made = structure(config.plugins[0].options, Timer, ("plugins", "t"), problems)
    return made, [f"{problem.path}: {problem.message}" for problem in problems]


def test_a_plugin_reads_types_of_its_own_in_its_section() -> None:
    made, found = timer(every="5m", at=["2m", 3, "${TIME}"], pairs=4)

    assert found == []
    assert made == Timer(every=Minutes(5), at=(Minutes(2), 3, Minutes(7)), pairs=Even(4))


def test_what_a_plugins_own_type_refuses_stands_at_its_place_and_quotes_no_secret() -> None:
    hidden = "the value breaks a rule of this key (not shown, since it may hold a secret)"

    assert timer(every=5, at=["2m", "3"], pairs="4")[1] == [
        "plugins.t.every: expected a time such as 5m, not 5",
        "plugins.t.at[1]: expected a Minutes or a whole number, got the text '3'",
        "plugins.t.pairs: expected a whole number, got the text '4'; write it without quotes",
    ]
    assert timer(pairs=3)[1] == ["plugins.t.every: is missing; give it a Minutes", "plugins.t.pairs: must be even"]
    assert timer(every="${SECRET}", token_for=CANARY)[1] == [
        f"plugins.t.every: {hidden}",
        f"plugins.t.token_for: {hidden}",
    ]


def test_a_plugins_own_type_is_described_to_editors() -> None:
    described = schema(plugins={"timer": Timer})

    assert described["$defs"]["plugin:timer"]["properties"]["every"] == Minutes.to_schema(Describer()) | {
        "description": "how often"
    }


def test_a_type_that_tells_nothing_of_itself_may_be_anything_to_editors() -> None:
    class Odd:
        pass

    holder = make_class("Holder", {"odd": field(type=Odd), "box": field(type=Box[int])})
    keys = schema(plugins={"holder": holder})["$defs"]["plugin:holder"]["properties"]

    assert keys["odd"] == {}
    assert keys["box"]["$ref"].endswith("Box")


def test_a_type_may_be_registered_after_its_section_was_read() -> None:
    @frozen
    class Late:
        word: str = ""

    holder = make_class("Holder", {"late": field(type=Late | None, default=None)})
    assert structure({"late": {"word": "a"}}, holder, (), Problems()) == holder(Late("a"))

    converter.register_structure_hook(Late, lambda tree, _: Late(f"<{tree}>"))
    assert structure({"late": "a"}, holder, (), Problems()) == holder(Late("<a>"))


def test_a_union_may_be_registered_as_one() -> None:
    union = Minutes | Tree
    converter.register_structure_hook(union, lambda tree, _: Minutes(len(tree)))
    holder = make_class("Holder", {"either": field(type=union)})

    assert structure({"either": "xyz"}, holder, (), Problems()) == holder(Minutes(3))


@pytest.mark.parametrize("kind", [bool, int, str, Size, Path, list, dict, Sequence])
def test_how_the_types_of_all_are_read_is_not_for_one_plugin_to_change(kind: Any) -> None:
    with pytest.raises(TypeError, match="is read by routerpool itself; register a class or a NewType of your own"):
        converter.register_structure_hook(kind, lambda tree, _: tree)


def test_a_defect_of_a_plugins_hook_is_no_mistake_in_a_file() -> None:
    class Odd:
        pass

    class Raw:
        pass

    converter.register_structure_hook(Odd, lambda tree, _: {}["absent"])
    converter.register_structure_hook(Raw, lambda tree, _: converter.structure(tree, bytes))
    holder = make_class("Holder", {"odd": field(type=tuple[Odd, ...], default=()), "raw": field(type=Raw, default="")})
    either = make_class("Either", {"raw": field(type=Raw | str)})

    with pytest.raises(KeyError, match="absent"):
        structure({"odd": [1]}, holder, (), Problems())
    for cls in (holder, either):
        with pytest.raises(TypeError, match=r"^bytes is not a type that a configuration can hold"):
            structure({"raw": "x"}, cls, (), Problems())


# What is the author's error


@frozen
class Impossible:
    call: bytes = b""


def test_a_type_that_no_configuration_can_hold_is_the_authors_error() -> None:
    with pytest.raises(TypeError, match="bytes"):
        structure({"call": "x"}, Impossible, (), Problems())


@frozen
class Unresolved:
    price: Decimal | None = None  # noqa: F821  # the name is missing on purpose


def test_an_annotation_that_cannot_be_resolved_is_the_authors_error() -> None:
    with pytest.raises(TypeError, match="name 'Decimal' is not defined; import it where it runs"):
        structure({}, Unresolved, (), Problems())
