"""Rules that raise the class of a request by what it asks, who asks, and which files and words it names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from attrs import field, frozen

from routerpool import ChatRequest, Features, Finding, Privacy
from routerpool.privacy import Part, leaves_of, parts_of
from routerpool.wire import loads
from routerpool_policy.paths import PathPatterns

__all__ = ["Rule", "Rules"]

ARGUMENTS = re.compile(r"\.(?:arguments|input)\b")
"""Where in a message the arguments of tool calls stand, in the forms of OpenAI and of Anthropic."""

LONGEST_NAME = 256
"""Characters of a model's name that are looked at for its parts; no real one comes near."""

NamesOf = Callable[[str], Iterable[str]]

MOST_TEXTS = 20_000
"""Texts of which is remembered whether they match; two numbers each."""


@frozen(kw_only=True)
class Rule:
    """Requests that match are of no lower class than this. All the kinds of condition given must hold."""

    privacy: Privacy = field(metadata={"help": "The class to raise them to"})
    name: str | None = field(default=None, metadata={"help": "What findings call this rule; default is its number"})
    models: tuple[str, ...] = field(
        default=(), metadata={"help": "The model asked for, as names or globs, with or without its provider"}
    )
    callers: tuple[str, ...] = field(default=(), metadata={"help": "The name of the API key, as names or globs"})
    sessions: tuple[str, ...] = field(
        default=(), metadata={"help": "The client's session id, or our hash of it, as names or globs"}
    )
    paths: tuple[str, ...] = field(
        default=(), metadata={"help": "Files named in the arguments of tool calls: ~/clients/**, *.pem"}
    )
    words: tuple[str, ...] = field(default=(), metadata={"help": "Words or phrases anywhere in the request"})
    where: Literal["arguments", "everywhere"] | None = field(
        default=None, metadata={"help": "Where to look for paths and words, instead of each one's own place"}
    )

    def __attrs_post_init__(self) -> None:
        conditions = (self.models, self.callers, self.sessions, self.paths, self.words)
        if not any(conditions):
            raise ValueError("a rule needs at least one of models, callers, sessions, paths and words")
        if any(not pattern.strip() for patterns in conditions for pattern in patterns):
            raise ValueError("a rule has an empty name or pattern, which nothing can match")


class Rules:
    """The rules of one configuration, asked about request after request."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [_Compiled(rule, number) for number, rule in enumerate(rules, 1)]
        self._seen: dict[tuple[int, int, bool], tuple[_Condition, ...]] = {}
        self._conditions = [condition for rule in self._rules for condition in rule.conditions]

    def __len__(self) -> int:
        return len(self._rules)

    def matched(
        self, request: ChatRequest, features: Features, names: NamesOf = lambda model: (model,)
    ) -> Iterator[tuple[Privacy, Finding]]:
        """What the rules say that would raise this request: the class, and a finding that names rule and place.

        `names` says what else the model that is asked for is called.
        """
        open_rules = [
            rule for rule in self._rules if rule.privacy > features.privacy and rule.allows(request, features, names)
        ]
        wanted = any(rule.conditions for rule in open_rules)
        places = self._places(request) if wanted else {}
        for rule in open_rules:
            if all(condition in places for condition in rule.conditions):
                place = places[rule.conditions[0]] if rule.conditions else "request"
                yield rule.privacy, Finding(rule=f"policy.{rule.name}", part=place, redacted=rule.shown)

    def _places(self, request: ChatRequest) -> dict[_Condition, str]:
        """The conditions on texts that hold, each with the first place where it does."""
        places: dict[_Condition, str] = {}
        for part in parts_of(request):
            for condition in self._met(part):
                places.setdefault(condition, part.place)
        return places

    def _met(self, part: Part) -> tuple[_Condition, ...]:
        """The conditions that one text meets; a text that was seen before is not looked at again."""
        argued = part.message is not None and ARGUMENTS.search(part.place) is not None
        key = hash(part.text), len(part.text), argued
        met = self._seen.get(key)
        if met is None:
            texts = list(_argued(part.text)) if argued else [part.text]
            met = tuple(
                condition
                for condition in self._conditions
                if (argued or condition.everywhere) and any(condition.holds(text) for text in texts)
            )
            if len(self._seen) >= MOST_TEXTS:
                for old in list(self._seen)[: MOST_TEXTS // 2]:
                    self._seen.pop(old, None)  # another thread may have been here, too
            self._seen[key] = met
        return met


class _Condition:
    """A condition on texts: paths or words, in the arguments of tool calls or everywhere."""

    def __init__(self, found: PathPatterns | re.Pattern[str], everywhere: bool) -> None:
        self._found = found
        self.everywhere = everywhere

    def holds(self, text: str) -> bool:
        """Whether this text names one of them."""
        found = self._found
        return found.found_in(text) if isinstance(found, PathPatterns) else found.search(text) is not None


class _Compiled:
    """A rule, ready to be asked."""

    def __init__(self, rule: Rule, number: int) -> None:
        self.privacy = rule.privacy
        self.name = rule.name or f"rule-{number}"
        self.shown = "[path]" if rule.paths else "[words]" if rule.words else "[request]"
        self._rule = rule
        self.conditions = []
        if rule.paths:
            self.conditions.append(_Condition(PathPatterns(rule.paths), rule.where == "everywhere"))
        if rule.words:
            self.conditions.append(_Condition(_phrases(rule.words), rule.where != "arguments"))

    def allows(self, request: ChatRequest, features: Features, names: NamesOf) -> bool:
        """Whether the conditions on the request itself hold, or there are none."""
        rule = self._rule
        session = [name for name in (request.hints.session, features.session) if name]
        return (
            (not rule.models or _named(_with_suffixes(names(request.model)), rule.models))
            and _named([request.caller.id], rule.callers)
            and _named(session, rule.sessions)
        )


def _with_suffixes(names: Iterable[str]) -> list[str]:
    """Each name, and what is left of it without its provider: `a/b/c`, `b/c` and `c`."""
    return [name for whole in names for name in _suffixes(whole)]


def _suffixes(name: str) -> Iterator[str]:
    yield name
    while "/" in name[:LONGEST_NAME]:
        name = name.partition("/")[2]
        yield name


def _named(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _phrases(words: Sequence[str]) -> re.Pattern[str]:
    """Any of these phrases as whole words, however they are spaced and written."""
    phrases = [r"\s+".join(re.escape(word) for word in phrase.split()) for phrase in words]
    return re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)", re.IGNORECASE)


def _argued(text: str) -> Iterator[str]:
    """The texts in the arguments of a tool call, which are JSON as a rule; else the arguments as they stand."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            parsed = loads(text.encode("utf-8", "replace"))
        except ValueError:
            pass  # a model's broken JSON: then its raw text is looked at
        else:
            for found, *_ in leaves_of(parsed):
                yield found
            return
    yield text
