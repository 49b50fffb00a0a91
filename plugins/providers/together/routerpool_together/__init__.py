"""Together's hosted open models. What is known of them stands in `together.yaml`, with its date and source."""

from __future__ import annotations

from typing import ClassVar

from routerpool import OpenAIProvider

__all__ = ["Together"]


class Together(OpenAIProvider):
    """Together. Its limits follow the use that is made of it; its answers say what is left."""

    data: ClassVar[str | None] = "together.yaml"
