"""The two engines that look for rules in bytes: google-re2 where it is installed, Python's `re` otherwise.

Both go over UTF-8 bytes with ASCII classes, so that they find the same. Each keyword is looked for before any pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Protocol

from routerpool_secrets.rules import Rule

__all__ = ["Engine", "PythonEngine", "Re2Engine", "engine_for"]

WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")

MEMORY = 64 << 20
"""Bytes that the automaton of all rules may take before it begins anew."""


class Found(Protocol):
    """A match, as both engines give it."""

    def span(self, group: int = 0, /) -> tuple[int, int]:
        """From where to where."""

    def groups(self) -> Sequence[Any]:
        """The texts of the groups."""


class Engine(Protocol):
    """What finds rules in bytes."""

    name: str

    def matches(self, data: bytes, lower: bytes) -> Iterable[tuple[Rule, Found]]:
        """All matches of all rules; `lower` is `data` in small letters."""


class PythonEngine:
    """Python's own `re`: only those rules are tried whose keywords are there, and only where they stand."""

    name = "re"

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [(rule, rule.python()) for rule in rules if rule.keywords]
        self._always = [(rule, rule.python()) for rule in rules if not rule.keywords]
        self._words = tuple(dict.fromkeys(word for rule in rules for word in rule.keywords))

    def matches(self, data: bytes, lower: bytes) -> Iterator[tuple[Rule, Found]]:
        """All matches of all rules."""
        there = {word for word in self._words if word in lower}
        for rule, pattern in self._always:
            yield from ((rule, found) for found in pattern.finditer(data))
        for rule, pattern in self._rules if there else ():
            words = [word for word in rule.keywords if word in there]
            if not words:
                continue
            if rule.anywhere:
                yield from ((rule, found) for found in pattern.finditer(data))
            else:
                yield from ((rule, found) for found in self._at(pattern, rule.closed, words, data, lower))

    def _at(
        self, pattern: re.Pattern[bytes], escaped: bool, words: Sequence[bytes], data: bytes, lower: bytes
    ) -> Iterator[Found]:
        """What `finditer` would find, given that a match begins at a keyword or with an escape before it."""
        places: set[int] = set()
        for word in words:
            at = lower.find(word)
            while at >= 0:
                if not escaped or not at or data[at - 1] not in WORD:
                    places.add(at)
                elif data[at - 2 : at - 1] == b"\\":
                    places.add(at - 2)
                elif data[at - 3 : at - 2] == b"%":
                    places.add(at - 3)
                at = lower.find(word, at + 1)
        end = 0
        for place in sorted(places):
            found = pattern.match(data, place) if place >= end else None
            if found is not None:
                end = found.end()
                yield found


class Re2Engine:
    """google-re2: one automaton says in one go which rules match at all, and only these are looked up."""

    name = "re2"

    def __init__(self, rules: Sequence[Rule]) -> None:
        import re2  # type: ignore[import-not-found, import-untyped, unused-ignore]  # optional, and needed only here

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = MEMORY
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        for rule in rules:
            self._set.Add(rule.pattern.encode())
        self._set.Add(rb"\z")
        try:
            self._set.Compile()
        except re2.error:  # too many rules for one automaton: their keywords must do
            self._set = None
        self._patterns = [re2.compile(rule.pattern.encode(), options) for rule in rules]
        self._rules = rules

    def matches(self, data: bytes, lower: bytes) -> Iterator[tuple[Rule, Found]]:
        """All matches of all rules."""
        numbers = self._set.Match(data) if self._set is not None else ()
        if not numbers:  # the last one always matches: the automaton has run out of memory
            numbers = range(len(self._rules) + 1)
        if len(numbers) == 1:
            return
        for number in sorted(numbers)[:-1]:
            rule = self._rules[number]
            if not rule.keywords or any(word in lower for word in rule.keywords):
                for found in self._patterns[number].finditer(data):
                    yield rule, found


@lru_cache(maxsize=4)
def engine_for(rules: tuple[Rule, ...], wanted: str = "auto") -> Engine:
    """The engine by name: auto takes google-re2 where it is installed.

    It keeps nothing of a text, so generations with the same rules share one: a reload compiles nothing anew.
    """
    if wanted == "re2" or (wanted == "auto" and find_spec("re2") is not None):
        return Re2Engine(rules)
    return PythonEngine(rules)
