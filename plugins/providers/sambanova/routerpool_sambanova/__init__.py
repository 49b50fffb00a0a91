"""SambaNova's hosted open models. What is known of them stands in `sambanova.yaml`, with its date and source."""

from __future__ import annotations

from typing import ClassVar

from routerpool import OpenAIProvider

__all__ = ["SambaNova"]


class SambaNova(OpenAIProvider):
    """SambaNova. Requests are limited per model, by minute and by day; tokens per day over the whole account."""

    data: ClassVar[str | None] = "sambanova.yaml"
