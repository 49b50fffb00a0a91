"""JSON Schema cut down to what Gemini reads in a tool's parameters; any other keyword is a 400."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define

__all__ = ["Narrowing"]

KEPT = frozenset(
    {"type", "format", "title", "description", "nullable", "enum", "default", "example", "pattern", "required"}
    | {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
    | {"propertyOrdering"}
)
"""Keywords that are taken over as they are."""

ANYTHING = {"type": "object"}
"""What stands for a schema that goes on for ever, or for too long."""


@define
class Narrowing:
    """One tool's schema on its way: references are written out, alternatives and types of OpenAPI 3.0 replace others.

    `left` bounds how many schemas are written, since references can name each other over and over; `deepest` how
    far they nest.
    """

    root: Mapping[str, Any]
    left: int = 5000
    deepest: int = 40

    def whole(self) -> dict[str, Any]:
        """The schema from its root."""
        return self.schema(self.root, 0)

    def schema(self, given: Any, depth: int) -> dict[str, Any]:
        """A schema at some depth."""
        self.left -= 1
        if self.left < 0 or depth > self.deepest:
            return dict(ANYTHING)
        given = self.resolved(given)
        out = {name: value for name, value in given.items() if name in KEPT}
        if isinstance(given.get("properties"), dict):
            out["properties"] = {name: self.schema(part, depth + 1) for name, part in given["properties"].items()}
        if "items" in given:
            out["items"] = self.schema(given["items"], depth + 1)
        choices = given.get("anyOf") or given.get("oneOf")
        if isinstance(choices, list):
            out["anyOf"] = [self.schema(part, depth + 1) for part in choices]
        for part in given["allOf"] if isinstance(given.get("allOf"), list) else ():
            out = joined(out, self.schema(part, depth + 1))
        return typed(out, given)

    def resolved(self, given: Any) -> dict[str, Any]:
        """A schema that is no reference, if it was one; `true` allows anything, and so does what is no schema."""
        for _ in range(self.deepest):
            if not isinstance(given, dict):
                return {}
            reference = given.get("$ref")
            if not isinstance(reference, str):
                return given
            target = self.target(reference)
            given = {**(target if isinstance(target, dict) else {}), **without_reference(given)}
        return {}

    def target(self, reference: str) -> Any:
        """What a reference within the same schema names, None where it names nothing."""
        place: Any = self.root
        for step in filter(None, reference.removeprefix("#").split("/")):
            place = place.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(place, dict) else None
        return place


def without_reference(given: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside a reference, such as a description."""
    return {name: value for name, value in given.items() if name != "$ref"}


def joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two schemas that hold at once."""
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**one["properties"], **other["properties"]}
    if isinstance(one.get("required"), list) and isinstance(other.get("required"), list):
        both["required"] = [*one["required"], *other["required"]]
    return both


def typed(out: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """One type, and `nullable`, for a list of types; `enum` for a constant; no `enum` of anything but texts."""
    kinds = given.get("type")
    if isinstance(kinds, list):
        named = [kind for kind in kinds if kind != "null"]
        del out["type"]
        if len(named) == 1:
            out["type"] = named[0]
        elif named and "anyOf" not in out:
            out["anyOf"] = [{"type": kind} for kind in named]
        if "null" in kinds:
            out["nullable"] = True
    if "const" in given:
        out["enum"] = [given["const"]]
    values = out.get("enum")
    if values is not None and not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        del out["enum"]
    return out
