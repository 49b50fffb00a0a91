"""What cattrs would make of a value by itself is what our table says, or a mistake of the class's author."""

import re
import typing
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, IntFlag, StrEnum
from importlib import import_module
from pathlib import Path, PosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar, Union, get_origin

import pytest
from attrs import field, frozen, make_class
from cattrs import Converter

from routerpool.config import converter
from routerpool.config.structure import structure
from routerpool.config.words import Range
from routerpool.document import Problems
from routerpool.types import Outcome, Privacy

from ..support.settings import Colour

Metres = NewType("Metres", int)
T = TypeVar("T")


@frozen
class Box(Generic[T]):
    thing: T


class Name(str):
    __slots__ = ()


class Number(int):
    pass


class Pair(NamedTuple):
    one: int
    two: int


class Keys(TypedDict):
    one: int


@dataclass
class Data:
    one: int = 0


class Word(str, Enum):  # noqa: UP042  # as many write it
    ONE = "1"


class Bits(IntFlag):
    ONE = 1


class Shade(StrEnum):
    DARK = "dark blue"


MODULES = ("builtins", "collections", "collections.abc", "datetime", "decimal", "enum", "fractions", "ipaddress",
           "numbers", "pathlib", "re", "types", "typing", "uuid")  # fmt: skip
MINE = (Name, Number, Pair, Keys, Data, Word, Bits, Privacy, Outcome, Metres, Colour, Box[int], Literal["a"])
TABLE = {bool, int, float, str, Path, Any, dict, Mapping, list, tuple, set, frozenset, Sequence, Annotated, Union,
         Literal, Box, Metres}  # fmt: skip
SAMPLES = (
    "12",
    b"12",
    5,
    1,
    1.5,
    True,
    None,
    "a",
    "1",
    "r",
    "answered",
    ["1"],
    ["1", "2"],
    {"a": "1"},
    {"one": "1"},
    {"thing": "1"},
)


def _hints() -> Iterator[Any]:
    """Every type that Python's own modules offer, bare and with parameters, and some of those that people make."""
    for module in map(import_module, MODULES):
        for name, kind in sorted(vars(module).items()):
            if not name.startswith("_") and (isinstance(kind, type) or module is typing):
                yield kind
                for parameters in (int, (int, ...), (str, int)):
                    with suppress(Exception):
                        yield kind[parameters]
    yield from MINE


def _takes_something(hint: Any) -> bool:
    """Whether a converter as cattrs makes it structures anything as this type."""
    for sample in SAMPLES:
        with suppress(Exception):
            BARE.structure(sample, hint)
            return True
    return False


BARE = Converter()
STRUCTURED = [*dict.fromkeys(hint for hint in _hints() if _takes_something(hint))]


@pytest.mark.parametrize("hint", STRUCTURED, ids=str)
def test_what_a_bare_converter_takes_is_in_our_table_or_the_authors_error(hint: Any) -> None:
    kind = get_origin(hint) or hint
    holder = make_class("Holder", {"key": field(type=hint)})
    if kind in TABLE or (isinstance(kind, type) and issubclass(kind, Enum)):
        assert structure({}, holder, (), Problems()) is None  # for want of the key alone
    else:
        name = getattr(hint, "__qualname__", None) or str(hint)
        with pytest.raises(TypeError, match=f"^{re.escape(name)} is not a type that a configuration can hold"):
            structure({}, holder, (), Problems())
        with pytest.raises(TypeError, match=re.escape(name)):
            converter.structure("12", hint)


def test_the_walk_meets_what_is_known_to_be_coerced() -> None:
    known = {bytes, deque, Counter, PosixPath, typing.Final, *MINE}

    assert known <= {get_origin(hint) or hint for hint in STRUCTURED} | set(STRUCTURED)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "5"), (int, 1.5), (int, True), (float, "1.5"), (float, True), (str, 5), (str, b"x"), (str, ["a"]),
        (bool, 1), (bool, "false"), (bool, "true"), (list[int], "12"), (list, "12"), (list[str], {"a": 1}),
        (tuple[str, ...], "ab"), (tuple[str, str], "ab"), (set[str], "ab"), (frozenset[str], {"a": 1}),
        (Sequence[str], "ab"), (dict, [("a", 1)]), (dict[str, int], {1: 1}), (Privacy, 1), (Word, 1), (Colour, "r"),
        (Literal[1], True), (Metres, "5"), (int | None, "5"), (Annotated[int, Range(most=9)], "5"), (list[Any], "12"),
        (float, float("inf")), (float, float("nan")),
    ],
    ids=str,
)  # fmt: skip
def test_nothing_is_coerced(hint: Any, value: Any) -> None:
    problems = Problems()
    holder = make_class("Holder", {"key": field(type=hint)})

    assert structure({"key": value}, holder, (), problems) is None
    assert [problem.path.split(".")[0].split("[")[0] for problem in problems] == ["key"]


@pytest.mark.parametrize(
    ("hint", "word", "member"),
    [(Privacy, "secret", Privacy.SECRET), (Word, "one", Word.ONE), (Colour, "dark_blue", Colour.DARK_BLUE),
     (Outcome, "failed", Outcome.FAILED), (Bits, "one", Bits.ONE), (Shade, "dark blue", Shade.DARK)],
)  # fmt: skip
def test_an_enum_is_read_by_its_word_whatever_it_descends_from(hint: Any, word: str, member: Any) -> None:
    holder = make_class("Holder", {"key": field(type=hint)})

    assert structure({"key": word}, holder, (), Problems()).key is member
