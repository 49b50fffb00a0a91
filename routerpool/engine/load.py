"""Bodies under way: what requests weigh, of everybody and of each caller, from their first byte to their end."""

from __future__ import annotations

from typing import Any

from routerpool.config.sections import LimitsConfig
from routerpool.errors import RequestError

__all__ = ["Bodies", "Body"]


class Bodies:
    """How many bytes of bodies are held, against `limits.body_bytes` and `limits.body_bytes_per_caller`.

    A single body of `limits.request_bytes` always fits, whatever the others say.
    """

    def __init__(self, limits: LimitsConfig) -> None:
        self._most = max(limits.body_bytes, limits.request_bytes)
        self._most_of_one = max(limits.body_bytes_per_caller, limits.request_bytes)
        self._held: dict[str, int] = {}
        self.held = 0
        self.refused = 0

    @property
    def crowded(self) -> bool:
        """Whether more than half of it is held."""
        return 2 * self.held > self._most

    def begin(self, caller: str) -> Body:
        """A body of this caller's, of which nothing is here yet."""
        return Body(self, caller)

    def take(self, caller: str, size: int) -> None:
        """Hold so many bytes more; a RequestError where that is too much."""
        of_one = self._held.get(caller, 0) + size
        if of_one > self._most_of_one:
            raise self._full(f"your requests hold {self._most_of_one} bytes (limits.body_bytes_per_caller)")
        if self.held + size > self._most:
            raise self._full(f"the requests under way hold {self._most} bytes (limits.body_bytes)")
        self._held[caller] = of_one
        self.held += size

    def give(self, caller: str, size: int) -> None:
        """Let go of so many bytes."""
        self.held -= size
        left = self._held.pop(caller, 0) - size
        if left > 0:
            self._held[caller] = left

    def status(self) -> dict[str, Any]:
        """The figures of this process."""
        return {"bytes": self.held, "refused": self.refused}

    def _full(self, message: str) -> RequestError:
        self.refused += 1
        return RequestError("overloaded", f"{message}; try again when some of them have ended", retry_after=1.0)


class Body:
    """One body's share of what is held."""

    __slots__ = ("_bodies", "_caller", "size")

    def __init__(self, bodies: Bodies, caller: str) -> None:
        self._bodies = bodies
        self._caller = caller
        self.size = 0

    def grow(self, size: int) -> None:
        """So many bytes more are here; a RequestError where they are too many."""
        self._bodies.take(self._caller, size)
        self.size += size

    def end(self) -> None:
        """Nothing of it is needed any more."""
        self._bodies.give(self._caller, self.size)
        self.size = 0
