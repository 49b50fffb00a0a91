"""Vercel's AI Gateway. What is known of it stands in `vercel.yaml`, with its date and source."""

from __future__ import annotations

from typing import ClassVar

from routerpool import OpenAIProvider

__all__ = ["Vercel"]


class Vercel(OpenAIProvider):
    """Vercel's AI Gateway. Its models are paid for from a credit, a small one of which is new every month."""

    data: ClassVar[str | None] = "vercel.yaml"
