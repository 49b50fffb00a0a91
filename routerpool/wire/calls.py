"""The numbers of streamed tool calls: by them a client puts the fragments of each call together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Numbering"]


class Numbering:
    """Numbers the tool calls of one choice, where a provider gives no `index`, or the same one to all of them.

    A fragment with an id of its own and a name begins a call; one without belongs to the call of its index, or to the
    latest. An index that makes sense is left as it is.
    """

    __slots__ = ("_by_id", "_by_index", "_free", "_ids", "_latest", "changed")

    def __init__(self) -> None:
        self._by_index: dict[int, int] = {}
        self._by_id: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._free = 0  # none between the count of calls and this is free, so that nobody looks at them again
        self._latest: int | None = None
        self.changed = False
        """Whether any call has got another number than it came with."""

    def number(self, fragments: Sequence[Any]) -> list[int | None]:
        """The number of each fragment of one chunk; None for what is no fragment."""
        given: set[int] = set()
        return [self._one(each, given) if isinstance(each, dict) else None for each in fragments]

    def _one(self, fragment: dict[str, Any], given: set[int]) -> int:
        index, id_, function = fragment.get("index"), fragment.get("id"), fragment.get("function")
        index = index if type(index) is int and index >= 0 else None
        id_ = id_ if isinstance(id_, str) else ""
        named = bool(isinstance(function, dict) and function.get("name"))
        number = self._known(index, id_, named, given)
        if number is None:
            number = index if index is not None and index not in self._ids else self._next()
        if id_ or number not in self._ids:
            self._ids[number] = id_
            self._by_id[id_] = number
        if index is not None:
            given.add(index)
            self._by_index[index] = number
        self._latest = number
        self.changed = self.changed or number != index
        return number

    def _next(self) -> int:
        number = max(self._free, len(self._ids))
        while number in self._ids:
            number += 1
        self._free = number
        return number

    def _known(self, index: int | None, id_: str, named: bool, given: set[int]) -> int | None:
        """The call that a fragment goes on with; None where it begins one."""
        if index is None:
            if id_:
                return self._by_id.get(id_)
            return None if named else self._latest
        number = self._by_index.get(index)
        if number is None:
            return None
        if id_ and id_ != self._ids[number] and self._ids[number] and named:
            return self._by_id.get(id_)
        return None if named and index in given and not id_ else number
