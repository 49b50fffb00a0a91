"""OpenAI's own models. What is known of them stands in `openai.yaml`, with its date and source."""

from __future__ import annotations

from typing import ClassVar

from routerpool import OpenAIProvider

__all__ = ["OpenAI"]


class OpenAI(OpenAIProvider):
    """OpenAI. Its limits count requests and tokens by the minute, for each model."""

    data: ClassVar[str | None] = "openai.yaml"
