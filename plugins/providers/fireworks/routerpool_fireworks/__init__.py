"""Fireworks' hosted open models. What is known of them stands in `fireworks.yaml`, with its date and source."""

from __future__ import annotations

from typing import ClassVar

from routerpool import OpenAIProvider

__all__ = ["Fireworks"]


class Fireworks(OpenAIProvider):
    """Fireworks. Its limits count tokens by the minute, and grow and shrink with the account's use."""

    data: ClassVar[str | None] = "fireworks.yaml"
