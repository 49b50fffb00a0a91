"""What one provider says in its own way, as data: an answer that is none, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from routerpool.types import FailureKind

__all__ = ["Form"]


@frozen(kw_only=True)
class Form:
    """An error as a provider is known to send it, and the failure that it must become.

    `name` says what has happened, in words. `body` is JSON, a text (HTML) or bytes. `wait` is in seconds, None where
    nothing is said, and is compared to `within` seconds. `pool` is the name of the quota, as the data file calls it;
    `source` is where the form is known from, with its date.
    """

    name: str
    status: int
    body: Any
    kind: FailureKind
    headers: Mapping[str, str] = field(factory=dict)
    wait: float | None = None
    within: float = 1.5
    pool: str | None = None
    lacks: str | None = None
    source: str = ""
