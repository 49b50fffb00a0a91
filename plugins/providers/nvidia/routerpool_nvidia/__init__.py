"""The models that NVIDIA hosts. What is known of them stands in `nvidia.yaml`, with its date and source."""

from __future__ import annotations

from typing import ClassVar

from routerpool import OpenAIProvider

__all__ = ["Nvidia"]


class Nvidia(OpenAIProvider):
    """NVIDIA's hosted NIMs, for evaluation only. All models share one limit, which no header tells of."""

    data: ClassVar[str | None] = "nvidia.yaml"
