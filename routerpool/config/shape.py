"""attrs classes as the shape of a configuration: a tree made into their values, strictly, and their JSON Schema.

The core's sections and every plugin's `Config` go through the same `structure`. It understands str, int, float, bool,
None, `Size`, Literal, enums (by name, lower case), Path, tuples, lists, sets, dicts with text keys, attrs classes and
unions of these; `Annotated[int, Range(0, 9)]` bounds a number and `Annotated[str, Pattern(…)]` a text wherever they
stand. Nothing is coerced: `"5"` is no number and `1` no text. Only what `${NAME}` brought may become a number or a
truth value, since an environment holds nothing but text.

A class that reads another form than its fields has a classmethod `from_tree(tree, path, problems)`, which returns the
value or `INVALID`, and `to_schema(describe)`, which returns the JSON Schema of that form.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Final, Literal, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

from routerpool.config.document import UNSET, EnvText, KeyPath, Problems, looks_secret, scalar
from routerpool.errors import nearest

__all__ = [
    "INVALID",
    "Pattern",
    "Range",
    "Size",
    "describe",
    "expected",
    "fields_of",
    "hidden",
    "keys_of",
    "structure",
]

T = TypeVar("T")

INVALID: Final = object()
"""Stands for a value that is wrong; why stands in the problems."""

Size = NewType("Size", int)
"""A number of bytes; in YAML a whole number or a text such as `32MiB` or `20MB`."""

_UNITS: Final = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9} | {
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([kKMG]i?B|B|)")
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


def structure(tree: Any, cls: type[T], path: KeyPath, problems: Problems) -> T | None:
    """The tree as an instance of this attrs class, or None with everything that is wrong in `problems`.

    Unknown keys, missing keys, wrong types and what the class's own validators refuse are each reported at their own
    path. A TypeError tells the author of the class that a field's annotation is not one that a configuration can hold.
    """
    value = _value(tree, cls, path, problems)
    return None if value is INVALID else cast("T", value)


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
            return _one_of([member.name.lower() for member in kind])
        if attrs.has(kind):
            return "a mapping"
        for kinds, words in _NAMES_BY_ORIGIN:
            if issubclass(kind, kinds):
                return words
    return "another value"


def _one_of(options: Iterable[Any]) -> str:
    return "one of " + ", ".join(str(option) for option in options)


def _mismatch(value: Any, hint: Any, path: KeyPath, problems: Problems, cure: str = "") -> Any:
    wanted = expected(hint)
    if value is None:
        cure = "; give it a value or leave the key out"
    elif wanted == "a list" and not isinstance(value, Mapping):
        cure = "; put it in [ ]"
    problems.add(path, f"expected {wanted}, got {describe(value, path)}{cure}")
    return INVALID


def _value(value: Any, hint: Any, path: KeyPath, problems: Problems) -> Any:
    if value is UNSET:
        return INVALID
    origin = get_origin(hint)
    if hint is Any or hint is object:
        return value
    if origin is Annotated:
        return _annotated(value, hint, path, problems)
    if origin in (Union, types.UnionType):
        return _union(value, hint, path, problems)
    if origin is Literal:
        return _choice(value, {str(option): option for option in get_args(hint)}, hint, path, problems)
    if isinstance(hint, NewType) and hint is not Size:
        return _value(value, hint.__supertype__, path, problems)
    if origin is not None or hint in (dict, list, tuple, set, frozenset, Mapping, Sequence):
        return _collection(value, hint, path, problems)
    return _single(value, hint, path, problems)


def _single(value: Any, hint: Any, path: KeyPath, problems: Problems) -> Any:
    if hint in _SCALARS:
        read = _SCALARS[hint](value)
        return _mismatch(value, hint, path, problems, _cure(value, hint)) if read is INVALID else read
    if hasattr(hint, "from_tree"):
        return hint.from_tree(value, path, problems)
    if attrs.has(hint):
        return _instance(value, hint, path, problems)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _choice(value, {member.name.lower(): member for member in hint}, hint, path, problems)
    raise TypeError(f"{_hint_name(hint)} at {path} is not a type that a configuration can hold")


def _hint_name(hint: Any) -> str:
    """The name of a type, for the author of a class."""
    return getattr(hint, "__qualname__", None) or str(hint)


def _number(value: Any, kind: type) -> Any:
    read = scalar(value) if isinstance(value, EnvText) else value
    if kind is float and type(read) is int and abs(read) < 10**300:
        read = float(read)
    if isinstance(read, float) and not math.isfinite(read):
        return INVALID
    return read if type(read) is kind else INVALID


def _size(value: Any) -> Any:
    if type(value) is int and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or (not match[2] and not isinstance(value, EnvText)) or match[2] not in _UNITS:
        return INVALID
    return int(match[1]) * _UNITS[match[2]]


def _path(value: str) -> Any:
    try:
        return Path(value).expanduser()
    except RuntimeError:  # `~somebody` who does not exist here
        return INVALID


_SCALARS: Final[dict[Any, Callable[[Any], Any]]] = {
    bool: lambda value: _number(value, bool),
    int: lambda value: _number(value, int),
    float: lambda value: _number(value, float),
    str: lambda value: str(value) if isinstance(value, str) else INVALID,
    Path: lambda value: _path(value) if isinstance(value, str) else INVALID,
    Size: _size,
    type(None): lambda value: None if value is None else INVALID,
}


def _cure(value: Any, hint: Any) -> str:
    if hint in (str, Path) and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if isinstance(value, str) and not isinstance(value, EnvText) and _SCALARS[hint](scalar(value)) is not INVALID:
        return "; write it without quotes"
    return ""


def _choice(value: Any, options: Mapping[str, Any], hint: Any, path: KeyPath, problems: Problems) -> Any:
    typed = scalar(value) if isinstance(value, EnvText) else value
    for name, option in options.items():
        named = isinstance(option, str | Enum) and isinstance(value, str) and value == name
        if named or (type(option) is type(typed) and option == typed):
            return option
    cure = ""
    if isinstance(value, str) and not hidden(value, path):
        cure = "; write it without quotes" if value in options else nearest(value, options)
    return _mismatch(value, hint, path, problems, cure)


def _annotated(value: Any, hint: Any, path: KeyPath, problems: Problems) -> Any:
    inner, *rules = get_args(hint)
    read = _value(value, inner, path, problems)
    if read is INVALID or read is None:
        return read
    for rule in rules:
        wrong = rule.check(read) if isinstance(rule, Range | Pattern) else None
        if wrong:
            got = f", got {describe(value, path)}" if isinstance(rule, Range) else ""
            problems.add(path, wrong + got)
            return INVALID
    return read


def _union(value: Any, hint: Any, path: KeyPath, problems: Problems) -> Any:
    """The first member that takes the value; else the complaints of the one that it was most likely meant for."""
    members = [member for member in get_args(hint) if member is not type(None)]
    if value is None and len(members) < len(get_args(hint)):
        return None
    if len(members) == 1:
        return _value(value, members[0], path, problems)
    complaints = []
    for member in members:
        scratch = problems.scratch()
        read = _value(value, member, path, scratch)
        if read is not INVALID:
            return read
        if expected(member) in _kinds(value):
            complaints.append(scratch)
    if not complaints:
        return _mismatch(value, hint, path, problems)
    problems.extend(min(complaints, key=len))
    return INVALID


def _kinds(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool | int | float | str):
        return (_NAMES[type(value)], _NAMES[float]) if type(value) is int else (_NAMES.get(type(value), ""),)
    return ("a mapping",) if isinstance(value, Mapping) else ("a list",)


def _collection(value: Any, hint: Any, path: KeyPath, problems: Problems) -> Any:
    kind, args = get_origin(hint) or hint, get_args(hint)
    if not isinstance(kind, type):
        raise TypeError(f"{_hint_name(hint)} is not a type that a configuration can hold")
    if issubclass(kind, Mapping):
        return _mapping(value, hint, args or (str, Any), path, problems)
    if not isinstance(value, list | tuple):
        return _mismatch(value, hint, path, problems)
    fixed = kind is tuple and args and args[-1] is not Ellipsis
    if fixed and len(args) != len(value):
        problems.add(path, f"expected {len(args)} items, got {len(value)}")
        return INVALID
    hints = args if fixed else [args[0] if args else Any] * len(value)
    items = [_value(item, hints[index], (*path, index), problems) for index, item in enumerate(value)]
    if any(item is INVALID for item in items):
        return INVALID
    return kind(items) if kind in (list, set, frozenset) else tuple(items)


def _mapping(value: Any, hint: Any, args: tuple[Any, ...], path: KeyPath, problems: Problems) -> Any:
    if not isinstance(value, Mapping):
        return _mismatch(value, hint, path, problems)
    pairs = [
        (_value(key, args[0], (*path, key), problems), _value(item, args[1], (*path, key), problems))
        for key, item in value.items()
    ]
    return INVALID if any(part is INVALID for pair in pairs for part in pair) else dict(pairs)


def fields_of(tree: Any, cls: type, path: KeyPath, problems: Problems) -> tuple[dict[str, Any], bool]:
    """The fields of an attrs class that the tree gives rightly, by their key, and whether nothing was wrong.

    Fields with `internal` in their metadata are no keys: the reader of the configuration sets them.
    """
    if not isinstance(tree, Mapping):
        _mismatch(tree, cls, path, problems)
        return {}, False
    known = keys_of(cls)
    whole = _refuse_unknown(tree, known, path, problems)
    values: dict[str, Any] = {}
    for key, (attribute, hint) in known.items():
        if key in tree:
            values[key] = _value(tree[key], hint, (*path, key), problems)
        elif attribute.default is attrs.NOTHING:
            problems.add((*path, key), f"is missing; give it {expected(hint)}")
            whole = False
    values = {key: value for key, value in values.items() if value is not INVALID}
    whole &= values.keys() == tree.keys() & known.keys()
    for key in list(values):
        if not _validated(known[key][0], values, tree[key], (*path, key), problems):
            del values[key]
            whole = False
    return values, whole


@lru_cache(maxsize=256)
def keys_of(cls: type) -> dict[str, tuple[attrs.Attribute[Any], Any]]:
    """The keys of a section: each field of its class with its resolved type."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise TypeError(f"{_hint_name(cls)}: {error}; import it where it runs, not under TYPE_CHECKING") from error
    return {
        field.alias or field.name: (field, hints.get(field.name, field.type or Any))
        for field in attrs.fields(cls)
        if field.init and not field.metadata.get("internal")
    }


def _refuse_unknown(tree: Mapping[str, Any], known: Iterable[str], path: KeyPath, problems: Problems) -> bool:
    names = list(known)
    unknown = [key for key in tree if key not in names]
    for key in unknown:
        cure = nearest(key, names) or ("; known here: " + ", ".join(names) if names else "; nothing can be set here")
        # Under a credential's path the key itself may be the credential, written one level too deep.
        problems.add(path if looks_secret(path) else (*path, key), "unknown key" + cure, at=(*path, key))
    return not unknown


def _validated(
    attribute: attrs.Attribute[Any], values: Mapping[str, Any], raw: Any, path: KeyPath, problems: Problems
) -> bool:
    """Whether the field's own attrs validator takes the value; what it says is reported at the field."""
    if attribute.validator is None or attribute.converter is not None:
        return True
    try:
        attribute.validator(SimpleNamespace(**values), attribute, values[path[-1]])  # type: ignore[index]  # the last part is this key
    except AttributeError:
        return True  # it looks at other fields: the making of the instance asks it again, with all of them
    except (TypeError, ValueError) as error:
        problems.add(path, _complaint(error, raw, path))
        return False
    return True


def _instance(tree: Any, cls: type, path: KeyPath, problems: Problems) -> Any:
    values, whole = fields_of(tree, cls, path, problems)
    if not whole:
        return INVALID
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        problems.add(path, _complaint(error, tree, path))
        return INVALID


def _complaint(error: Exception, raw: Any, path: KeyPath) -> str:
    """What a class said of a value; nothing of it where its words may quote a credential or a variable's value."""
    if hidden(raw, path):
        return "the value breaks a rule of this key (not shown, since it may hold a secret)"
    return str(error.args[0] if error.args else error)


def hidden(raw: Any, path: KeyPath) -> bool:
    """Whether errors must not quote what the tree holds here: a credential perhaps, or a variable's value."""
    if isinstance(raw, Mapping):
        return any(hidden(item, (*path, key)) for key, item in raw.items())
    if isinstance(raw, list | tuple):
        return any(hidden(item, path) for item in raw)
    return isinstance(raw, EnvText) or looks_secret(path)
