"""The Kilo gateway. What is known of it stands in `kilo.yaml`, with its date and source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from routerpool import Attempt, Failure, FailureKind, OpenAIProvider, Opening, hookimpl

__all__ = ["Kilo"]

VERDICT = re.compile(r"\s*(?:un)?safe[.\s]*(?:S\d+[,\s]*)*", re.IGNORECASE)
"""All that a moderation model says: whether a text is safe, and which of its rules it breaks."""


class Kilo(OpenAIProvider):
    """Kilo's gateway. What is asked of its free models is logged."""

    data: ClassVar[str | None] = "kilo.yaml"

    @hookimpl
    def judge(self, attempt: Attempt, opening: Opening) -> Failure | None:
        """Among the free models is one that moderates, and answers whatever it is asked with its verdict.

        That can be told of a whole answer only: of one that is not streamed, or where the profile buffers. Who asks
        for a verdict in so many words gets it.
        """
        if attempt.candidate.provider != self.name or not opening.complete or opening.tool_calls:
            return None
        if not VERDICT.fullmatch(opening.text) or _speaks_of_safety(attempt.request.messages):
            return None
        return Failure(kind=FailureKind.EMPTY, message=f"{self.name}: a moderation model answered")


def _speaks_of_safety(messages: Sequence[Mapping[str, Any]]) -> bool:
    return any("safe" in str(message.get("content")).lower() for message in messages)
