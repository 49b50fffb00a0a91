"""Mistral's models. What is known of them stands in `mistral.yaml`, with its date and source."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve

from routerpool import Model, OpenAIProvider
from routerpool.providers import entries_of

__all__ = ["Mistral"]

CLAIMS = {"function_calling": "tools", "vision": "vision"}
"""What its list says a model can do, and our names for it."""


class Mistral(OpenAIProvider):
    """Mistral. It refuses every field that it does not know; its list tells what each model can do."""

    data: ClassVar[str | None] = "mistral.yaml"

    def parse_models(self, payload: Any) -> list[Model]:
        """The models that chat; what the list says of one fills what the roster leaves open."""
        listed = {entry["id"]: entry for entry in entries_of(payload, "data")}
        models = super().parse_models({"data": list(listed.values())})
        return [
            _filled(model, listed[model.id]) for model in models if _says(listed[model.id], "completion_chat", True)
        ]


def _filled(model: Model, entry: dict[str, Any]) -> Model:
    told = {ours: _says(entry, theirs) for theirs, ours in CLAIMS.items()}
    claims = {name: able for name, able in told.items() if able is not None}
    window = entry.get("max_context_length")
    context = model.context or (window if isinstance(window, int) and window > 0 else None)
    return evolve(model, context=context, capabilities={**claims, **model.capabilities})


def _says(entry: dict[str, Any], what: str, otherwise: bool | None = None) -> bool | None:
    claims = entry.get("capabilities")
    said = claims.get(what) if isinstance(claims, dict) else None
    return said if isinstance(said, bool) else otherwise
