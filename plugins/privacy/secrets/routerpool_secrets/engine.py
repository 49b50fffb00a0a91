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
"""Bytes that an automaton may take before it begins anew."""

COMMON = frozenset(
    b"-- :// . s. ey api app auth access account client key _key license pass password secret token".split()
)
"""Keywords that texts about programs are full of: going over the text once takes less time than looking at each."""

FEW = 16
"""Keywords of a rule up to which it takes less time to look for them than for the pattern itself."""

MANY = 64
"""Keywords of a rule from which on the whole text is gone over instead of each of their places."""


class Found(Protocol):
    """A match, as both engines give it."""

    def span(self, group: int = 0, /) -> tuple[int, int]:
        """From where to where."""

    @property
    def re(self) -> Any:
        """The pattern, whose `groups` says how many there are."""


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
        words = dict.fromkeys(word for rule in rules for word in rule.keywords)
        self._words = tuple(word for word in words if word.split() == [word])
        self._spaced = tuple(word for word in words if word.split() != [word])

    def matches(self, data: bytes, lower: bytes) -> Iterator[tuple[Rule, Found]]:
        """All matches of all rules."""
        distinct = b" ".join(set(lower.split()))  # texts repeat themselves: half of it is left to go through
        there = {word for word in self._words if word in distinct}
        there.update(word for word in self._spaced if word in lower)
        for rule, pattern in self._always:
            yield from ((rule, found) for found in pattern.finditer(data))
        for rule, pattern in self._rules if there else ():
            words = [word for word in rule.keywords if word in there]
            if not words:
                continue
            if rule.anywhere:
                yield from ((rule, found) for found in pattern.finditer(data))
            else:
                places = (place for word in words for place in _places(lower, word))
                yield from ((rule, found) for found in _at(pattern, rule.closed, places, data))


class Re2Engine:
    """google-re2: one automaton finds the keywords, and only what they belong to is looked for, where they stand.

    An automaton of the rules themselves would be slow on new text: its states are made as it reads, and there are as
    many of them as there are ways for counted repetitions of several rules to stand side by side.
    """

    name = "re2"

    def __init__(self, rules: Sequence[Rule]) -> None:
        import re2  # type: ignore[import-not-found, import-untyped, unused-ignore]  # optional, and needed only here

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = MEMORY
        options.log_errors = False
        self._rules = [(rule, re2.compile(rule.pattern.encode(), options)) for rule in rules]
        self._asked = [n for n, rule in enumerate(rules) if not rule.keywords or not COMMON.isdisjoint(rule.keywords)]
        asked = set(self._asked)
        self._numbers: dict[bytes, list[int]] = {}
        for number, rule in enumerate(rules):
            for word in rule.keywords if number not in asked else ():
                self._numbers.setdefault(word, []).append(number)
        self._standing = _standing(self._numbers)
        try:
            self._words = re2.compile(b"|".join(re.escape(word) for word in self._standing) or rb"\z.", options)
        except re2.error:  # more keywords than one automaton holds: each is looked for by itself
            self._asked, self._words = list(range(len(rules))), re2.compile(rb"\z.", options)

    def matches(self, data: bytes, lower: bytes) -> Iterator[tuple[Rule, Found]]:
        """All matches of all rules."""
        wanted: dict[int, list[int]] = {}
        for number in self._asked:
            words = self._rules[number][0].keywords
            if not 0 < len(words) <= FEW or any(word in lower for word in words):
                wanted[number] = []
        for hit in self._words.finditer(lower):
            place = hit.start()
            for further, word in self._standing[hit[0]]:
                if lower.startswith(word, place + further):
                    for number in self._numbers[word]:
                        wanted.setdefault(number, []).append(place + further)
        for number in sorted(wanted):
            rule, pattern = self._rules[number]
            places = wanted[number]
            if rule.anywhere or not 0 < len(places) < MANY:
                yield from ((rule, found) for found in pattern.finditer(data))
            else:
                yield from ((rule, found) for found in _at(pattern, rule.closed, places, data))


def _places(lower: bytes, word: bytes) -> Iterator[int]:
    at = lower.find(word)
    while at >= 0:
        yield at
        at = lower.find(word, at + 1)


def _at(pattern: Any, escaped: bool, places: Iterable[int], data: bytes) -> Iterator[Found]:
    """What `finditer` would find, given that a match begins at these places of keywords or with an escape before."""
    begins: set[int] = set()
    for at in places:
        if not escaped or not at or data[at - 1] not in WORD:
            begins.add(at)
        elif data[at - 2 : at - 1] == b"\\":
            begins.add(at - 2)
        elif data[at - 3 : at - 2] == b"%":
            begins.add(at - 3)
    end = 0
    for place in sorted(begins):
        found = pattern.match(data, place) if place >= end else None
        if found is not None:
            end = found.end()
            yield found


def _standing(words: Iterable[bytes]) -> dict[bytes, list[tuple[int, bytes]]]:
    """The words that begin with no other one, each with all that may stand in its place or begin within it.

    So no word is overlooked, though matches of one pattern never overlap.
    """
    known = frozenset(words)
    shortest = sorted(word for word in known if not any(word[:end] in known for end in range(1, len(word))))
    return {
        word: [
            (at, other)
            for at in range(len(word))
            for other in known
            if other.startswith(word[at:]) or word.startswith(other, at)
        ]
        for word in shortest
    }


@lru_cache(maxsize=4)
def engine_for(rules: tuple[Rule, ...], wanted: str = "auto") -> Engine:
    """The engine by name: auto takes google-re2 where it is installed.

    It keeps nothing of a text, so generations with the same rules share one: a reload compiles nothing anew.
    """
    if wanted == "re2" or (wanted == "auto" and find_spec("re2") is not None):
        return Re2Engine(rules)
    return PythonEngine(rules)
