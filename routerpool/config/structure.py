"""Trees made into values by one cattrs converter, strictly, and all that is wrong with a tree at its place.

The core's sections, every plugin's `Config` and the data files of providers go through `structure`. It understands str,
int, float, bool, None, `Size`, Literal, enums (as `word_of` writes them), Path, tuples, lists, sets, dicts with text
keys, attrs classes (generic and recursive ones too), NewTypes and unions of these; `Annotated[int, Range(0, 9)]` bounds
a number and `Annotated[str, Pattern(…)]` a text wherever they stand. Nothing is coerced: `"5"` is no number and `1` no
text. Only what `${NAME}` brought may become a number or a truth value, since an environment holds nothing but text.

A type that is written in another form registers a hook, and a `to_schema(describe)` of its own tells editors of it:

    @converter.register_structure_hook
    def _minutes(tree: Any, _: Any) -> Minutes: ...  # a ValueError says what is wrong with the tree

cattrs is permissive by nature: it makes a list of "12" and bytes of anything. Whatever is neither in the table here nor
registered is therefore `Unheld`, the error of whoever wrote the class.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from enum import Enum
from functools import lru_cache, partial
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, NewType, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
    override,
)
from cattrs.gen import make_dict_structure_fn

from routerpool.config.scalars import FOLDER, SCALARS, choice, is_enum, read_scalar
from routerpool.config.words import (
    Pattern,
    Range,
    Refused,
    Unheld,
    complaint,
    describe,
    expected,
    meant_for,
    mismatch,
    name_of,
)
from routerpool.document import UNSET, KeyPath, Problems, looks_secret
from routerpool.errors import nearest

__all__ = ["Hook", "converter", "gathered", "keys_of", "salvaged", "structure", "unwritten"]

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]

_UNIONS: Final = (Union, types.UnionType)
_SEQUENCES: Final[dict[Any, Callable[[list[Any]], Any]]] = {
    list: list, Sequence: list, tuple: tuple, set: set, frozenset: frozenset,
}  # fmt: skip
_MAPPINGS: Final = (dict, Mapping)
_NOTES: Final = (AttributeValidationNote, IterableValidationNote)


class _Strict(Converter):
    """cattrs' converter, which takes no class for what it only descends from, and nobody's word on the types here."""

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> Hook:  # noqa: A002  # cattrs calls it so
        """The hook of this type; of a `class Name(str)`, of which cattrs would make a mere text, there is none."""
        hook: Hook = super().get_structure_hook(type, cache_result)
        if hook is read_scalar and type not in SCALARS and not is_enum(type):
            raise Unheld(type)
        return hook

    def register_structure_hook(self, cl: Any, func: Any = None) -> Any:
        """Take a hook for a type of somebody's own; how those of the table are read is not theirs to change."""
        if func is None:  # a decorator, and cattrs comes back with the type that its function answers
            return super().register_structure_hook(cl)
        if cl in SCALARS or cl in _SEQUENCES or cl in _MAPPINGS:
            raise TypeError(f"{name_of(cl)} is read by routerpool itself; register a class or a NewType of your own")
        if get_origin(cl) in _UNIONS:  # cattrs would keep it where our own hook for unions hides it
            return self.register_structure_hook_func(lambda hint: hint == cl, func)
        return super().register_structure_hook(cl, func)


def structure(tree: Any, cls: type[T], path: KeyPath, problems: Problems) -> T | None:
    """The tree as an instance of this attrs class, or None with everything that is wrong in `problems`.

    Unknown keys, missing keys, wrong types and what a field's validator refuses are each reported at their own path;
    what a class refuses that looks at several fields stands at the section. A TypeError tells the author of the class
    that a field's annotation is not one that a configuration can hold.
    """
    hook = converter.get_structure_hook(cls)
    within = FOLDER.set(problems.document.folder)
    try:
        made: T = hook(tree, cls)
    except Exception as error:
        for fault in _faults(error, tree, path):
            problems.add(fault.path, fault.message, at=fault.at)
        return None
    finally:
        FOLDER.reset(within)
    return made


def salvaged(tree: Any, cls: type) -> dict[str, Any]:
    """What is right by itself in a section that is wrong as a whole, by key; `structure` has told of the rest."""
    values = {}
    for key, (_, hint) in keys_of(cls).items():
        if isinstance(tree, Mapping) and key in tree:
            with suppress(Exception):
                values[key] = converter.structure(tree[key], hint)
    return values


@lru_cache(maxsize=256)
def keys_of(cls: type) -> dict[str, tuple[attrs.Attribute[Any], Any]]:
    """The keys of a section: each field of its class with its resolved type.

    Fields with `internal` in their metadata are no keys: the reader of the configuration sets them.
    """
    try:
        attrs.resolve_types(cls)
    except NameError as error:
        raise TypeError(f"{name_of(cls)}: {error}; import it where it runs, not under TYPE_CHECKING") from error
    return {
        field.alias or field.name: (field, field.type or Any)
        for field in attrs.fields(cls)
        if field.init and not field.metadata.get("internal")
    }


def gathered(readings: Iterable[tuple[str | int, Callable[[], Any]]], hint: Any) -> list[Any]:
    """What all these readings bring, or one error with what is wrong in each, under its key or position."""
    read, wrong = [], []
    for place, take in readings:
        try:
            read.append(take())
        except Exception as error:
            error.add_note(IterableValidationNote(f"at {place!r}", place, hint))
            wrong.append(error)
    if wrong:
        raise IterableValidationError(f"in {name_of(hint)}", wrong, hint)
    return read


def _origin(hint: Any) -> Any:
    return get_origin(hint) or hint


# What is wrong


class _Key(str):
    """A key that is wrong itself, whatever stands under it."""

    __slots__ = ()


class _Fault(NamedTuple):
    """One thing that is wrong: where it is reported, in which words, and whose line it has."""

    path: KeyPath
    message: str
    at: KeyPath


def _faults(error: Exception, tree: Any, path: KeyPath) -> Iterator[_Fault]:
    """All that an error of the converter's tells of this tree; what is nobody's mistake in a file is raised again."""
    if tree is UNSET:
        return
    if isinstance(error, BaseValidationError):
        unknown_first = sorted(error.exceptions, key=lambda inner: not isinstance(inner, ForbiddenExtraKeysError))
        for inner in unknown_first:
            yield from _faults_within(inner, error.cl, tree, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        yield from _unknown_keys(error, tree, path)
    elif isinstance(error, Refused):
        place = (*path, *error.below)
        yield _Fault(place, error.told(place), place)
    elif isinstance(error, TypeError | ValueError) and not isinstance(error, Unheld):
        yield _Fault(path, complaint(error, tree, path), path)
    else:
        raise error


def _faults_within(error: Any, cls: type, tree: Any, path: KeyPath) -> Iterator[_Fault]:
    """Those of a part of the tree: of a key or a position, if the error has a note of it, else of the whole."""
    note: Any = next((note for note in getattr(error, "__notes__", ()) if isinstance(note, _NOTES)), None)
    if note is None:
        yield from _faults(error, tree, path)
        return
    is_field = isinstance(note, AttributeValidationNote)
    part: Any = attrs.fields_dict(cls)[note.name].alias if is_field else note.index
    place = (*path, part)
    if is_field and isinstance(error, KeyError) and part not in tree:
        yield _Fault(place, f"is missing; give it {expected(note.type)}", place)
    elif isinstance(part, _Key):
        yield from _faults(error, part, place)
    else:
        inside = (isinstance(tree, Mapping) and part in tree) or (isinstance(tree, list | tuple) and part < len(tree))
        yield from _faults(error, tree[part] if inside else tree, place)


def _unknown_keys(error: ForbiddenExtraKeysError, tree: Mapping[str, Any], path: KeyPath) -> Iterator[_Fault]:
    names = list(keys_of(error.cl))
    for key in tree:
        if key in error.extra_fields:
            cure = nearest(key, names) or (
                "; known here: " + ", ".join(names) if names else "; nothing can be set here"
            )
            place = (*path, key)
            # Under a credential's path the key itself may be the credential, written one level too deep.
            yield _Fault(path if looks_secret(path) else place, "unknown key" + cure, place)


# How each type is read: the table. cattrs asks for its hooks from the last to the first.


def unwritten(hint: Any) -> Callable[[Any], Any]:
    """The hook of what is written by none."""

    def unwritable(_: Any) -> Any:
        raise TypeError(f"{name_of(hint)} is not a type that JSON has a form for")

    return unwritable


converter: Final = _Strict(
    forbid_extra_keys=True,
    unstruct_collection_overrides={AbstractSet: sorted, tuple: list},
    unstructure_fallback_factory=unwritten,
)
"""Reads every section of the configuration; a plugin registers types of its own with it. `values` has it write JSON."""


@converter.register_structure_hook_factory(lambda _: True)
def _unheld(hint: Any) -> Hook:
    raise Unheld(hint)


@converter.register_structure_hook_factory(attrs.has)
def _section(cls: Any, converter: Converter) -> Hook:
    origin = _origin(cls)
    known = keys_of(origin)
    changed: dict[str, Any] = {
        field.name: override(omit=True) for field in attrs.fields(origin) if field.metadata.get("internal")
    }
    for field, _ in known.values():
        if field.validator is not None and field.converter is None:
            changed[field.name] = override(struct_hook=_validated(field, converter))
    read = make_dict_structure_fn(
        cls, converter, _cattrs_use_alias=True, _cattrs_use_linecache=False, _cattrs_detailed_validation=True, **changed
    )

    def section(tree: Any, _: Any) -> Any:
        if not isinstance(tree, Mapping):
            raise mismatch(tree, origin)
        return read(tree, cls)

    return section


def _validated(field: attrs.Attribute[Any], converter: Converter) -> Hook:
    """The reading of a field together with its own attrs validator, so that what that says is said at the field."""
    validator: Any = field.validator

    def validated(value: Any, hint: Any) -> Any:
        read = converter.structure(value, hint)
        with suppress(AttributeError):  # it looks at other fields: the making of the instance asks it again, with them
            validator(None, field, read)
        return read

    return validated


@converter.register_structure_hook_factory(lambda hint: _origin(hint) in _MAPPINGS)
def _mapping(hint: Any, converter: Converter) -> Hook:
    of_key, of_item = get_args(hint) or (str, Any)
    read_key, read_item = converter.get_structure_hook(of_key), converter.get_structure_hook(of_item)

    def readings(value: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
        for key, item in value.items():
            yield _Key(key), partial(read_key, key, of_key)
            yield key, partial(read_item, item, of_item)

    def mapping(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise mismatch(value, hint)
        read = gathered(readings(value), hint)
        return dict(zip(read[::2], read[1::2], strict=True))

    return mapping


@converter.register_structure_hook_factory(lambda hint: _origin(hint) in _SEQUENCES)
def _sequence(hint: Any, converter: Converter) -> Hook:
    kind, args = _origin(hint), get_args(hint)
    fixed = kind is tuple and bool(args) and args[-1] is not Ellipsis
    hooks = [(converter.get_structure_hook(item), item) for item in (args if fixed else args[:1] or (Any,))]
    make = _SEQUENCES[kind]

    def sequence(value: Any, _: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise mismatch(value, hint)
        if fixed and len(value) != len(hooks):
            raise Refused(f"expected {len(hooks)} items, got {len(value)}")
        each = enumerate(zip(value, hooks if fixed else repeat(hooks[0]), strict=False))
        return make(gathered(((index, partial(hook, item, of)) for index, (item, (hook, of)) in each), hint))

    return sequence


@converter.register_structure_hook_factory(lambda hint: isinstance(hint, NewType))
def _new_type(hint: Any, converter: Converter) -> Hook:
    hook = converter.get_structure_hook(hint.__supertype__)
    return lambda value, _: hook(value, hint.__supertype__)


@converter.register_structure_hook_factory(lambda hint: _origin(hint) is Annotated)
def _bounded(hint: Any, converter: Converter) -> Hook:
    inner, *extras = get_args(hint)
    rules = [rule for rule in extras if isinstance(rule, Range | Pattern)]
    hook = converter.get_structure_hook(inner)

    def bounded(value: Any, _: Any) -> Any:
        read = hook(value, inner)
        for rule in rules if read is not None else ():
            if wrong := rule.check(read):
                raise Refused(partial(_out_of_bounds, wrong, value) if isinstance(rule, Range) else wrong)
        return read

    return bounded


def _out_of_bounds(wrong: str, value: Any, path: KeyPath) -> str:
    return f"{wrong}, got {describe(value, path)}"


@converter.register_structure_hook_factory(lambda hint: _origin(hint) in _UNIONS)
def _union(hint: Any, converter: Converter) -> Hook:
    """The first member that takes the value; else the complaints of the one that it was most likely meant for."""
    members = [member for member in get_args(hint) if member is not type(None)]
    optional = len(members) < len(get_args(hint))
    hooks = [(converter.get_structure_hook(member), member) for member in members]
    only = hooks[0] if len(hooks) == 1 else None

    def union(value: Any, _: Any) -> Any:
        if value is None and optional:
            return None
        if only is not None:
            return only[0](value, only[1])
        complaints = []
        for hook, member in hooks:
            try:
                return hook(value, member)
            except (TypeError, ValueError, BaseValidationError) as error:
                if isinstance(error, Unheld):
                    raise
                if meant_for(value, member):
                    complaints.append(error)
        if not complaints:
            raise mismatch(value, hint)
        raise min(complaints, key=lambda error: sum(1 for _ in _faults(error, value, ())))

    return union


def _anything(value: Any, _: Any) -> Any:
    if value is UNSET:
        raise Refused("")  # never told, since nothing is told of what a missing variable has left
    return value


converter.register_structure_hook_func(lambda hint: hint is Any or hint is object, _anything)
converter.register_structure_hook_func(lambda hint: _origin(hint) is Literal, choice)
converter.register_structure_hook_func(lambda hint: hint in SCALARS, read_scalar)
for _kind in (str, bytes, int, float, Path, Enum):  # cattrs looks these up before all others, with all descendants
    Converter.register_structure_hook(converter, _kind, read_scalar)
