"""attrs classes as JSON Schema (draft 2020-12), for editors and for documentation: what `structure` reads, described.

Every class becomes a definition of its own, so a class may hold itself. A place that wants a number, a truth value
or a choice also takes a text with `${NAME}`, as the reader does.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin

import attrs
from attrs import define, field

from routerpool.config.structure import keys_of
from routerpool.config.words import Pattern, Range, Size, word_of

__all__ = ["Describer"]

_SCALARS: Final[dict[Any, dict[str, Any]]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
}
_SIZE: Final = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+ ?([kKMG]i?B|B)$|[$][{]"}]
}
_VARIABLE: Final = {"type": "string", "pattern": "[$][{][A-Za-z_][A-Za-z0-9_]*(:-[^${}]*)?[}]"}


@define
class Describer:
    """Collects the definitions of the classes that it is asked about."""

    definitions: dict[str, Any] = field(factory=dict)

    def of(self, hint: Any) -> dict[str, Any]:
        """The schema of a value of this type."""
        origin, args = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return self._bounded(args)
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.of(arg) for arg in args]}
        if origin is Literal:
            return _or_variable({"enum": list(args)})
        if hint is Size:
            return dict(_SIZE)
        if isinstance(hint, NewType):
            return self.of(hint.__supertype__)
        if hint in _SCALARS:
            described = dict(_SCALARS[hint])
            return _or_variable(described) if hint in (bool, int, float) else described
        return self._composite(origin or hint, args)

    def _composite(self, kind: Any, args: tuple[Any, ...]) -> dict[str, Any]:
        if hasattr(kind, "to_schema"):
            return dict(kind.to_schema(self))
        if attrs.has(kind):
            return self.reference(kind)
        if not isinstance(kind, type):  # the parameter of a generic class
            return {}
        if issubclass(kind, Enum):
            return _or_variable({"enum": [word_of(member) for member in kind]})
        if issubclass(kind, Mapping):
            keys, items = args or (str, Any)
            names = {"propertyNames": names} if (names := self.of(keys)) != {"type": "string"} else {}
            return {"type": "object", "additionalProperties": self.of(items), **names}
        if kind is tuple and args and args[-1] is not Ellipsis:
            return {
                "type": "array",
                "prefixItems": [self.of(arg) for arg in args],
                "items": False,
                "minItems": len(args),
            }
        if issubclass(kind, (list, tuple, set, frozenset, Sequence)):
            return {"type": "array", "items": self.of(args[0]) if args else {}}
        return {}  # a plugin's own type, of which only its hook knows the form

    def _bounded(self, args: tuple[Any, ...]) -> dict[str, Any]:
        inner, *rules = args
        bounds: dict[str, Any] = {}
        for rule in rules:
            if isinstance(rule, Range | Pattern):
                bounds |= rule.to_schema()
        described = self.of(inner)
        if "anyOf" in described:
            first, *others = described["anyOf"]
            return described | {"anyOf": [first | bounds, *others]}
        return described | bounds

    def reference(self, cls: type) -> dict[str, Any]:
        """A reference to the definition of this attrs class, which is made on first sight."""
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name not in self.definitions:
            self.definitions[name] = {}  # so that a class that holds itself ends here
            self.definitions[name] = self.section(cls)
        return {"$ref": f"#/$defs/{name}"}

    def section(self, cls: type) -> dict[str, Any]:
        """The schema of one section: its keys with their help texts and defaults, and no others."""
        properties = {}
        for key, (attribute, hint) in keys_of(cls).items():
            described = self.of(hint)
            if help_text := attribute.metadata.get("help"):
                described["description"] = help_text
            default = plain(attribute.default)
            if default is not attrs.NOTHING and not isinstance(default, dict):
                described["default"] = default
            properties[key] = described
        required = [key for key, (attribute, _) in keys_of(cls).items() if attribute.default is attrs.NOTHING]
        shape = {"type": "object", "properties": properties, "additionalProperties": False}
        return shape | ({"required": required} if required else {})


def _or_variable(described: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [described, dict(_VARIABLE)]}


def plain(value: Any) -> Any:
    """A default as YAML would write it; NOTHING where there is none, or where it depends on the instance."""
    if value is attrs.NOTHING:  # which is itself a member of an Enum
        return value
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]  # the stubs call Factory a function; it is a class
        return attrs.NOTHING if value.takes_self else plain(value.factory())
    if isinstance(value, Enum):
        return word_of(value)
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, tuple | list):
        items = [plain(item) for item in value]
        return attrs.NOTHING if attrs.NOTHING in items else items
    if attrs.has(type(value)):
        return attrs.NOTHING
    return str(value) if isinstance(value, Path) else value
