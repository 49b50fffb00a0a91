"""Ollama's cloud, asked directly. What is known of it stands in `ollama_cloud.yaml`, with its date and source.

The models that a local Ollama passes on to its cloud are those of the plugin `ollama`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from routerpool import Model, OpenAIProvider
from routerpool.providers import entries_of

__all__ = ["OllamaCloud"]

looks_like_a_path = re.compile(r"[/\\]|^[.~$%]").search


class OllamaCloud(OpenAIProvider):
    """Ollama's cloud. What may be used is counted per account, in a session of five hours and in a week."""

    data: ClassVar[str | None] = "ollama_cloud.yaml"

    def models_in(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """The models of `OLLAMA_CLOUD_MODELS`, else of `OLLAMA_MODELS`.

        The latter is also where a local Ollama keeps its models on disk, so a list with a path in it is no list.
        """
        named = super().models_in(env)
        if named:
            return named
        names = tuple(name.strip() for name in env.get("OLLAMA_MODELS", "").split(",") if name.strip())
        return () if any(looks_like_a_path(name) for name in names) else names

    def parse_models(self, payload: Any) -> list[Model]:
        """The models of an `/api/tags` answer; a name with two colons is a variant that cannot be asked for."""
        names = [entry["name"] for entry in entries_of(payload, "models", name="name")]
        return [self.model(name) for name in names if name.count(":") < 2]
