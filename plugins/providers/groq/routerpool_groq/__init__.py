"""Groq's hosted open models. What is known of them stands in `groq.yaml`, with its date and source."""

from __future__ import annotations

from typing import Any, ClassVar

from routerpool import Model, OpenAIProvider
from routerpool.providers import entries_of

__all__ = ["Groq"]

NOT_FOR_SEARCH = ("tool_choice", "tools", "web_search_options", "max_tokens", "max_completion_tokens")
"""What a compound model refuses, or does not need, when it searches."""


class Groq(OpenAIProvider):
    """Groq. Its requests are limited per day and its tokens per minute, both for the whole organisation."""

    data: ClassVar[str | None] = "groq.yaml"

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """Compound models search the web by a switch of their own instead of OpenAI's tool."""
        if not (model.capabilities.get("web_search") and _wants_search(body)):
            return body
        kept = {name: value for name, value in body.items() if name not in NOT_FOR_SEARCH}
        return kept | {"compound_custom": {"tools": {"enabled_tools": ["web_search"]}}}

    def parse_models(self, payload: Any) -> list[Model]:
        """Its list names models that are out of service, and says so."""
        return super().parse_models(
            [entry for entry in entries_of(payload, "data") if entry.get("active") is not False]
        )


def _wants_search(body: dict[str, Any]) -> bool:
    kinds = [str(tool.get("type")) for tool in body.get("tools") or () if isinstance(tool, dict)]
    return "web_search_options" in body or any(kind.startswith("web_search") for kind in kinds)
