"""OpenRouter's gateway. What is known of it stands in `openrouter.yaml`, with its date and source."""

from __future__ import annotations

from typing import Any, ClassVar

from routerpool import Model, OpenAIProvider

__all__ = ["OpenRouter"]

SEARCH = {"type": "openrouter:web_search"}
"""OpenRouter's own tool, which works with any of its models, and is paid for even where the model is free."""


class OpenRouter(OpenAIProvider):
    """OpenRouter. All its free models share one quota, in which failed attempts count too."""

    data: ClassVar[str | None] = "openrouter.yaml"

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """A search is a tool of OpenRouter's own, and no `tool_choice` can insist on it."""
        tools = body.get("tools") or ()
        others = [tool for tool in tools if not _searches(tool)]
        if len(others) == len(tools):
            return body
        kept = {name: value for name, value in body.items() if name != "tool_choice"}
        return kept | {"tools": [*others, SEARCH]}


def _searches(tool: Any) -> bool:
    return isinstance(tool, dict) and str(tool.get("type")).startswith("web_search")
