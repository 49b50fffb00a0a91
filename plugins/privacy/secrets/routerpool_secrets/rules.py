"""Rules as data: our own file, and gitleaks files as their authors write them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from routerpool_secrets.dialect import to_python
from routerpool_secrets.values import JUDGES

__all__ = ["Allowed", "Rule", "load", "own_rules"]

ELSEWHERE = ("pem", "putty", "encoded")
"""Values that need the text around a match, or what it stands for."""

BOUNDARY = r"(?:\b|\\[nrtbf]|%[0-9A-Fa-f]{2})"
"""What stands before a token: no letter or digit, unless it belongs to an escape of JSON or of an address."""


@frozen(kw_only=True)
class Allowed:
    """What a rule's author says is no secret: patterns for the secret, the match or its line, and words in it."""

    patterns: tuple[re.Pattern[bytes], ...] = ()
    words: tuple[bytes, ...] = ()
    target: str = "secret"
    both: bool = False

    def holds(self, secret: bytes, match: bytes, line: bytes) -> bool:
        """Whether this match is allowed."""
        looked_at = {"match": match, "line": line}.get(self.target, secret)
        fits = any(pattern.search(looked_at) for pattern in self.patterns)
        lower = secret.lower()
        named = any(word in lower for word in self.words)
        if self.both and self.patterns and self.words:
            return fits and named
        return fits or named


@frozen(kw_only=True)
class Rule:
    """What one kind of secret looks like. `pattern` is in RE2's dialect; keywords are in small letters."""

    id: str
    kind: str
    pattern: str = field(repr=False)
    prefix: str = ""
    keywords: tuple[bytes, ...] = ()
    entropy: float = 0.0
    group: int = 0
    value: str = ""
    anywhere: bool = True
    """Whether a match may begin elsewhere than at a keyword."""
    closed: bool = False
    """Whether letters and digits may stand neither before the match, but for an escape, nor behind it."""
    own: bool = False
    allowed: tuple[Allowed, ...] = ()

    def python(self) -> re.Pattern[bytes]:
        """The pattern for Python's own engine."""
        return re.compile(to_python(self.pattern).encode())


def own_rules() -> tuple[Rule, ...]:
    """The rules that come with this plugin."""
    text = (Path(__file__).parent / "secrets.toml").read_text(encoding="utf-8")
    return tuple(_own(entry) for entry in tomllib.loads(text)["rules"])


def _own(entry: Mapping[str, Any]) -> Rule:
    known = {"id", "class", "prefix", "value", "keywords", "entropy", "regex", "anywhere", "inside"}
    if entry.keys() - known or entry.get("value", "pem") not in {*JUDGES, *ELSEWHERE}:
        raise ValueError(f"the rule {entry['id']} has keys or a value that mean nothing")
    pattern: str = entry["regex"]
    free = entry.get("inside", False) or pattern[0] in ':-"'
    return Rule(
        id=entry["id"],
        kind=entry["class"],
        pattern=pattern if free else BOUNDARY + (f"(?:{pattern})" if "(" in _unescaped(pattern) else f"({pattern})"),
        prefix=entry.get("prefix", ""),
        keywords=tuple(word.lower().encode() for word in entry["keywords"]),
        entropy=entry.get("entropy", 0.0),
        value=entry.get("value", ""),
        anywhere=entry.get("anywhere", False),
        closed=not free,
        own=True,
    )


def _unescaped(pattern: str) -> str:
    """The pattern with all that is no capturing group taken out, as far as it matters to find one."""
    return re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]|\(\?(?:[a-zA-Z-]*[:)])", "", pattern)


def load(path: Path) -> tuple[Rule, ...]:
    """The rules of a gitleaks file, but for those about file names; ValueError tells which of them cannot be read."""
    tree = tomllib.loads(path.read_text(encoding="utf-8"))
    everywhere = _allowlists(tree)
    found = []
    for entry in tree.get("rules", ()):
        if "regex" not in entry:
            continue
        keywords = tuple(word.lower().encode() for word in entry.get("keywords", ()))
        try:
            rule = Rule(
                id=entry["id"],
                kind="gitleaks",
                pattern=entry["regex"],
                keywords=keywords,
                entropy=float(entry.get("entropy", 0.0)),
                group=int(entry.get("secretGroup", 0)),
                allowed=(*everywhere, *_allowlists(entry)),
            )
            rule.python()
        except (KeyError, ValueError, re.error) as error:
            raise ValueError(f"{path.name}: the rule {entry.get('id', '?')!r} cannot be read: {error}") from error
        found.append(rule)
    return tuple(found)


def _allowlists(entry: Mapping[str, Any]) -> tuple[Allowed, ...]:
    lists: list[Mapping[str, Any]] = list(entry.get("allowlists", ()))
    lists += [entry["allowlist"]] if "allowlist" in entry else []
    return tuple(allowed for told in lists if (allowed := _allowed(told)) is not None)


def _allowed(told: Mapping[str, Any]) -> Allowed | None:
    both = str(told.get("condition", "OR")).upper() == "AND"
    if both and ("paths" in told or "commits" in told):  # a prompt has neither
        return None
    return Allowed(
        patterns=tuple(re.compile(to_python(pattern).encode()) for pattern in told.get("regexes", ())),
        words=tuple(word.lower().encode() for word in told.get("stopwords", ())),
        target=told.get("regexTarget", "secret"),
        both=both,
    )


def chosen(rules: Iterable[Rule], without: Sequence[str], prefix: str = "") -> tuple[Rule, ...]:
    """These rules but for some by id or class, their ids told apart by a prefix."""
    return tuple(
        evolve(rule, id=prefix + rule.id) for rule in rules if rule.id not in without and rule.kind not in without
    )
