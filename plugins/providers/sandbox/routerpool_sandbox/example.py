"""A small value that a JSON Schema allows, for requests that want their answer or their tool call in a shape.

Schemas come from clients: what makes no sense in one is passed over, and none costs more than `NODES` values in depth
`DEPTH`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["example_of"]

NODES, DEPTH = 500, 50
CHARACTERS = 10_000

FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "simulated@example.com",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example_of(schema: Any) -> Any:
    """A value that the schema allows. `pattern`, `not` and conditions are not looked at."""
    return _Example(schema).of(schema)


class _Example:
    """One walk through one schema."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.left = NODES

    def of(self, schema: Any, depth: int = 0) -> Any:
        self.left -= 1
        if not isinstance(schema, Mapping) or self.left < 0 or depth > DEPTH:
            return None
        if "const" in schema:
            return schema["const"]
        if options := _list(schema, "enum"):
            return options[0]
        if isinstance(schema.get("$ref"), str):
            return self.of(self.resolved(schema["$ref"]), depth + 1)
        if options := _list(schema, "anyOf") or _list(schema, "oneOf"):
            return self.of(_simplest(options), depth + 1)
        if _list(schema, "allOf"):
            return self.of(self.merged(schema), depth + 1)
        return self.of_type(_type(schema), schema, depth + 1)

    def of_type(self, kind: Any, schema: Mapping[str, Any], depth: int) -> Any:
        if kind == "object":
            members = schema.get("properties")
            members = members if isinstance(members, Mapping) else {}
            names = [name for name in _list(schema, "required") if isinstance(name, str)]
            return {name: self.of(members.get(name, {}), depth) for name in names}
        if kind == "array":
            values = [self.of(item, depth) for item in _list(schema, "prefixItems")]
            while len(values) < _count(schema, "minItems", 0) and self.left > 0:
                values.append(self.of(schema.get("items", {}), depth))
            return values
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        if kind == "boolean":
            return False
        return None if kind == "null" else _string(schema)

    def resolved(self, reference: str) -> Any:
        """What `#/$defs/name` means."""
        found = self.root
        for key in reference.removeprefix("#").split("/")[1:]:
            found = found.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        return found

    def merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema with the parts of its `allOf` joined into one."""
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in _list(schema, "allOf"):
            if isinstance(part, Mapping) and isinstance(part.get("$ref"), str):
                part = self.resolved(part["$ref"])
            for key, value in (part if isinstance(part, Mapping) else {}).items():
                known = merged.get(key)
                if isinstance(known, list) and isinstance(value, list):
                    merged[key] = [*known, *value]
                elif isinstance(known, Mapping) and isinstance(value, Mapping):
                    merged[key] = {**known, **value}
                else:
                    merged[key] = value
        return merged


def _type(schema: Mapping[str, Any]) -> Any:
    kinds = schema.get("type")
    if isinstance(kinds, list) and kinds:
        return kinds[0]
    if isinstance(kinds, str):
        return kinds
    return "object" if "properties" in schema else "array" if "items" in schema or "prefixItems" in schema else "string"


def _simplest(options: Sequence[Any]) -> Any:
    """The first option that does not refer to another, so that a recursive schema comes to its end."""
    return next((option for option in options if isinstance(option, Mapping) and "$ref" not in option), options[0])


def _list(schema: Mapping[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _count(schema: Mapping[str, Any], key: str, default: int) -> int:
    value = _bound(schema, key)
    return default if value is None else int(min(max(value, 0), CHARACTERS))


def _bound(schema: Mapping[str, Any], key: str) -> float | None:
    value = schema.get(key)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """The number within the bounds that is nearest to 0 from above, or the highest one."""
    step = 1 if whole else 0.5
    low, above = _bound(schema, "minimum"), _bound(schema, "exclusiveMinimum")
    high, below = _bound(schema, "maximum"), _bound(schema, "exclusiveMaximum")
    value = max(0, *(bound for bound in (low, None if above is None else above + step) if bound is not None), 0)
    value = min([value, *(bound for bound in (high, None if below is None else below - step) if bound is not None)])
    multiple = _bound(schema, "multipleOf")
    if multiple and multiple > 0:
        value = -(-value // multiple) * multiple
    return int(value) if whole else value


def _string(schema: Mapping[str, Any]) -> str:
    text = FORMATS.get(str(schema.get("format")), "simulated").ljust(_count(schema, "minLength", 0), ".")
    return text[: _count(schema, "maxLength", CHARACTERS)]
