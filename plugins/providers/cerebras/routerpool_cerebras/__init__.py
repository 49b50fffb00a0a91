"""Cerebras' hosted open models. What is known of them stands in `cerebras.yaml`, with its date and source."""

from __future__ import annotations

from typing import Any, ClassVar

from routerpool import Model, OpenAIProvider

__all__ = ["Cerebras"]

CAP = 16_384
"""Most tokens of an answer for which a request that names no cap is charged."""

SHARE = 4
"""No more than this part of a small model's window, so that our own cap never crowds out a long prompt."""


class Cerebras(OpenAIProvider):
    """Cerebras. What a request may cost is taken off the minute's tokens when it comes in, not when it is answered."""

    data: ClassVar[str | None] = "cerebras.yaml"

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """Always send a cap: without one the whole of the model's window counts against the limits."""
        if body.get("max_completion_tokens") is None:
            bounds = (CAP, model.max_output, model.context and model.context // SHARE)
            body["max_completion_tokens"] = min(bound for bound in bounds if bound)
        return body
