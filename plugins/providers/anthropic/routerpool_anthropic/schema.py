"""JSON schemas as Anthropic's structured outputs take them: closed objects, and no bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["closed"]

BOUNDS = frozenset(
    (
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
    )
)
"""Keywords that are answered with a 400. What they say is told in the description instead, where a model reads it."""

FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")  # all it knows
)
MAPPED = ("properties", "$defs", "definitions")
"""Keywords that hold schemas by name."""

DEPTH = 64


def closed(schema: Any, depth: int = 0) -> Any:
    """A schema that asks for the same as far as it can: every object closed, every bound put into words."""
    if not isinstance(schema, Mapping) or depth > DEPTH:
        return schema
    kept: dict[str, Any] = {}
    said: list[str] = []
    for name, value in schema.items():
        unknown_format = name == "format" and value not in FORMATS
        if name in BOUNDS or unknown_format or (name == "minItems" and value not in (0, 1)):
            said.append(f"{name}: {value}")
        elif name in MAPPED and isinstance(value, Mapping):
            kept[name] = {key: closed(inner, depth + 1) for key, inner in value.items()}
        elif name in ("items", "additionalProperties"):
            kept[name] = closed(value, depth + 1)
        elif name in ("anyOf", "allOf", "oneOf") and isinstance(value, list):
            kept["anyOf" if name == "oneOf" else name] = [closed(inner, depth + 1) for inner in value]
        else:
            kept[name] = value
    if kept.get("type") == "object" or "properties" in kept:
        kept["additionalProperties"] = False
    if said:
        kept["description"] = f"{kept.get('description', '')} ({', '.join(said)})".strip()
    return kept
