"""What a type wants and what a value is, in the words of errors; nothing that may be a secret is ever quoted.

Whoever refuses a value seldom knows where it stands, and the place decides what may be told. So a refusal holds words
that wait for the path: `Refused` is raised deep in the reading and spoken when the way back to the file is known.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin

import attrs

from routerpool.document import EnvText, KeyPath, looks_secret

__all__ = [
    "Pattern",
    "Range",
    "Refused",
    "Size",
    "Unheld",
    "complaint",
    "describe",
    "expected",
    "hidden",
    "meant_for",
    "mismatch",
    "name_of",
    "word_of",
]

Size = NewType("Size", int)
"""A number of bytes; in YAML a whole number or a text such as `32MiB` or `20MB`."""

_SHOWN: Final = 40
_NAMES: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
_NAMES_BY_ORIGIN: Final = (((dict, Mapping), "a mapping"), ((tuple, list, set, frozenset, Sequence), "a list"))


@attrs.frozen
class Range:
    """Bounds of a number, both inclusive unless `above` is given: `Annotated[float, Range(above=0)]`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def check(self, value: Any) -> str | None:
        """What is wrong with this number, without naming it, or None."""
        too_low = (self.least is not None and value < self.least) or (self.above is not None and value <= self.above)
        if not too_low and (self.most is None or value <= self.most):
            return None
        low = f"at least {self.least}" if self.least is not None else f"more than {self.above}"
        if self.most is None:
            return f"must be {low}"
        if self.least is None and self.above is None:
            return f"must be at most {self.most}"
        return f"must be {low} and at most {self.most}"

    def to_schema(self) -> dict[str, Any]:
        """The bounds as JSON Schema."""
        bounds = {"minimum": self.least, "maximum": self.most, "exclusiveMinimum": self.above}
        return {name: bound for name, bound in bounds.items() if bound is not None}


@attrs.frozen
class Pattern:
    """The form of a text, as a regular expression for the whole of it and as words: `expected <words>`."""

    expression: str
    words: str

    def check(self, value: Any) -> str | None:
        """What is wrong with this text, without naming it, or None."""
        return None if re.fullmatch(self.expression, value) else f"expected {self.words}"

    def to_schema(self) -> dict[str, Any]:
        """The form as JSON Schema."""
        return {"pattern": f"^(?:{self.expression})$"}


class Refused(ValueError):
    """A value that is not taken. `words` may be a function of the path, `below` leads to the part that is meant.

    Its words are always told, while those of any other ValueError are hidden where the value may be a secret.
    """

    def __init__(self, words: str | Callable[[KeyPath], str], *below: str | int) -> None:
        super().__init__(words)
        self._words, self.below = words, below

    def told(self, path: KeyPath) -> str:
        """What is wrong with the value that stands at this path."""
        return self._words if isinstance(self._words, str) else self._words(path)


class Unheld(TypeError):
    """A type that no configuration can hold: a mistake of the class's author, not of the file's."""

    def __init__(self, hint: Any) -> None:
        super().__init__(f"{name_of(hint)} is not a type that a configuration can hold")


def name_of(hint: Any) -> str:
    """The name of a type, for the author of a class."""
    return getattr(hint, "__qualname__", None) or str(hint)


def mismatch(value: Any, hint: Any, cure: Callable[[KeyPath], str] | None = None) -> Refused:
    """The refusal of a value that is no such type, with its cure."""

    def told(path: KeyPath) -> str:
        wanted = expected(hint)
        mended = cure(path) if cure is not None else ""
        if value is None:
            mended = "; give it a value or leave the key out"
        elif wanted == "a list" and not isinstance(value, Mapping):
            mended = "; put it in [ ]"
        return f"expected {wanted}, got {describe(value, path)}{mended}"

    return Refused(told)


def complaint(error: Exception, raw: Any, path: KeyPath) -> str:
    """What a class said of a value; nothing of it where its words may quote a credential or a variable's value."""
    if hidden(raw, path):
        return "the value breaks a rule of this key (not shown, since it may hold a secret)"
    return str(error.args[0] if error.args else error)


def describe(value: Any, path: KeyPath) -> str:
    """How a wrong value is named in an error: never its text where it may be a credential or came from `${NAME}`."""
    secret = looks_secret(path)
    if value is None:
        return "nothing (null)"
    if isinstance(value, EnvText):
        return "what " + " and ".join(f"${{{name}}}" for name in value.names) + " holds"
    if isinstance(value, bool):
        return "a truth value" if secret else str(value).lower()
    if isinstance(value, int | float):
        return "a number" if secret else f"the number {value}"
    if isinstance(value, str):
        if secret:
            return "a text"
        return f"the text {value!r}" if len(value) <= _SHOWN else f"a text of {len(value)} characters"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def hidden(raw: Any, path: KeyPath) -> bool:
    """Whether errors must not quote what the tree holds here: a credential perhaps, or a variable's value."""
    if isinstance(raw, Mapping):
        return any(hidden(item, (*path, key)) for key, item in raw.items())
    if isinstance(raw, list | tuple):
        return any(hidden(item, path) for item in raw)
    return isinstance(raw, EnvText) or looks_secret(path)


def expected(hint: Any) -> str:
    """The words for what this type wants."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return expected(args[0])
    if origin is Literal:
        return _one_of(args)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(expected(arg) for arg in args if arg is not type(None)))
    if hint is Size:
        return "a size in bytes such as 1000000 or 32MiB"
    kind = origin or hint
    if kind in _NAMES:
        return _NAMES[kind]
    if isinstance(kind, type):
        if issubclass(kind, Enum):
            return _one_of(word_of(member) for member in kind)
        if attrs.has(kind) and not hasattr(kind, "to_schema"):  # which tells of a form of its own
            return "a mapping"
        for kinds, words in _NAMES_BY_ORIGIN:
            if issubclass(kind, kinds):
                return words
        if kind not in (Any, object, type(None)):
            return f"a {kind.__name__}"
    return "another value"


def meant_for(value: Any, hint: Any) -> bool:
    """Whether a wrong value was most likely meant for this one of several types."""
    if isinstance(value, bool | int | float | str):
        kinds = (_NAMES[type(value)], _NAMES[float]) if type(value) is int else (_NAMES.get(type(value), ""),)
    else:
        kinds = ("a mapping",) if isinstance(value, Mapping) else ("a list",)
    return expected(hint) in kinds


def word_of(member: Enum) -> str:
    """How a member of an enum is written: a StrEnum's value, any other's name in small letters."""
    return str(member.value) if isinstance(member, StrEnum) else member.name.lower()


def _one_of(options: Iterable[Any]) -> str:
    return "one of " + ", ".join(str(option) for option in options)
