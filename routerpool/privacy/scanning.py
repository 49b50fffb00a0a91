"""The scanner that plugins derive from: one method says what is in a text, all that follows from it stands here.

    class Falcon(TextScanner):
        def find(self, text):
            for match in re.finditer("project falcon", text):
                yield Match("falcon", *match.span())

Of a conversation only what is new in a turn costs anything (see `verdicts`). A scanner is `required`: when it fails, no
request is sent.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import orjson
from attrs import asdict, field, frozen

from routerpool.errors import RequestError, nearest
from routerpool.hookspecs import hookimpl
from routerpool.privacy.parts import (
    LARGE_NUMBER,
    ORDINARY,
    SCALARS,
    Part,
    fields_of,
    leaves_of,
    parts_of,
    place_of,
    rewritten,
)
from routerpool.privacy.placeholders import Restorer, redaction, standin, standins_in, unescaped
from routerpool.privacy.verdicts import Key, Match, Verdicts, room_in
from routerpool.protocols import Rewriter
from routerpool.types import NO_HINTS, Attempt, ChatRequest, Features, Finding, Level, Privacy, Probe, Report

__all__ = ["Action", "Match", "ScannerConfig", "TextScanner"]

MOST_FINDINGS = 100
"""Findings that one request tells of."""

LONGEST_NAMED = 4096
"""Characters of a text, and of the key that it stands under, that are judged together, too."""

REST = re.compile(r"\S*")

UNSENT = ("model", "router")
"""Places of what is never sent on, and so cannot be redacted there."""

NAMING = re.compile(r"secret|token|passw|pwd|key|credential|auth", re.IGNORECASE)
ROLES = frozenset({"system", "user", "assistant", "tool", "developer", "function"})

Action: TypeAlias = Literal["local", "block", "redact", "placeholder"]


@frozen(kw_only=True)
class ScannerConfig:
    """What follows when something is found; every scanner's section has these."""

    action: Action = field(
        default="local",
        metadata={"help": "local models only, block the request, redact, or a placeholder restored in the answer"},
    )
    actions: dict[str, Action] = field(factory=dict, metadata={"help": "Another action, by rule or by class of rules"})
    level: Privacy = field(default=Privacy.SECRET, metadata={"help": "The class that a request with findings rises to"})


class _Marked(NamedTuple):
    """A text of a request in which something was found."""

    place: str
    text: str
    matches: tuple[Match, ...]


class TextScanner:
    """Finds texts of a kind in requests and acts on them. Derive from it and write `find`.

    `action` local raises the request's privacy class to `level`; block refuses it; redact and placeholder change what
    is sent. What another plugin's `mutate` adds before this one is scanned, too, and redacted.
    """

    Config: ClassVar[type[ScannerConfig]] = ScannerConfig
    required: ClassVar[bool] = True
    shortest: ClassVar[int] = 1
    """Texts of fewer characters hold nothing; they are not looked at."""
    threaded: ClassVar[bool] = False
    """Whether `find` is so slow that it always runs in a thread."""
    named: ClassVar[bool] = False
    """Whether a text may also be found by its name: `api_key="…"` where it stands under the key `api_key`."""

    def __init__(self, config: ScannerConfig | None = None, *, name: str = "") -> None:
        self.config = config or self.Config()
        self.name = name or type(self).__name__.lower()
        self._clean: dict[Key, None] = {}
        self._verdicts = Verdicts(self.find, self.name, shortest=self.shortest)
        self.check_actions()

    def check_actions(self) -> None:
        """Refuse a section whose `actions` name what no rule and no class is called."""
        rules = self.rules()
        if rules is None or not self.config.actions:
            return
        rules = set(rules)
        classes = {self.class_of(rule) for rule in rules}
        for name in self.config.actions:
            if name not in rules and name not in classes:
                known = nearest(name, rules | classes) or f"; the classes are {', '.join(sorted(classes))}"
                raise ValueError(f"`actions` names {name!r}, which is no rule and no class{known}")

    # What scanners write

    def find(self, text: str) -> Iterable[Match]:
        """What is in this text. May run in a thread; called once for each text."""
        raise TypeError(f"{type(self).__name__} has no `find`")

    def rules(self) -> Iterable[str] | None:
        """The names of all rules, by which `actions` is checked; None when they are not known beforehand."""
        return None

    def class_of(self, rule: str) -> str:
        """The class of a rule, by which `actions` may name many at once."""
        return rule

    def prefix_of(self, rule: str) -> str:
        """What every text that this rule finds begins with, if that is public: findings show it."""
        return ""

    # What is in a text

    def scan(self, text: str, part: str = "text") -> list[Finding]:
        """All findings of one text, in its order; they tell place, kind and length of a match, never the match."""
        return list(self._findings(part, text, self.matches_of(text)))

    def matches_of(self, text: str, key: str | int | None = None) -> tuple[Match, ...]:
        """What is in a text that stands under this key, as it was found before or is found now."""
        matches = self._verdicts.of(text)
        if matches or not self.named or type(key) is not str or key in ORDINARY:
            return matches
        if not NAMING.search(key, max(0, len(key) - LONGEST_NAMED)) or key == text:
            return matches
        lead = f'{key[-LONGEST_NAMED:]}="'
        told = text[:LONGEST_NAMED]
        start, end = len(lead), len(lead) + len(told)
        found = self._verdicts.of(f'{lead}{told}"')
        return tuple(
            Match(rule, first - start, REST.match(text, last - start).end() if last == end else last - start)  # type: ignore[union-attr]  # it always matches
            for rule, first, last in found
            if start <= first and last <= end
        )

    def _findings(self, place: str, text: str, matches: Iterable[Match]) -> Iterator[Finding]:
        line, begin, seen = 1, -1, 0
        for match in matches:
            line += text.count("\n", seen, match.start)
            begin = max(begin, text.rfind("\n", seen, match.start))
            seen = match.start
            column = match.start - begin
            yield Finding(rule=match.rule, part=place, redacted=self._redacted(text, match), line=line, column=column)

    def _redacted(self, text: str, match: Match) -> str:
        prefix = self.prefix_of(match.rule)
        shown = prefix if text.startswith(prefix, match.start) else ""
        return f"{shown}… ({match.end - match.start} characters)"

    # What is in a request

    @hookimpl(specname="classify")
    def ask(self, request: ChatRequest, features: Features) -> Awaitable[Features | None] | None:
        """The hook: nothing at once where all of a request is known to be clean, else `classify`."""
        return None if not request.huge and _plainly_in(self._clean, request) else self.classify(request, features)

    async def classify(self, request: ChatRequest, features: Features) -> Features | None:
        """Raise the class, refuse the request, or leave word for `mutate`, by what is found in it."""
        if self.threaded or request.heavy:
            return await self._verdicts.in_thread(self._classified, request, features)
        return self._classified(request, features)

    def _classified(self, request: ChatRequest, features: Features) -> Features | None:
        clean = self._clean
        marked: list[_Marked] = []
        for place, value, _ in fields_of(request):
            seen = _key_of(value)
            if seen in clean:
                continue
            before = len(marked)
            for text, container, name, suffix in leaves_of(value, place):
                matches = self.matches_of(text, name)
                if matches:
                    marked.append(_Marked(place_of(container, name) + suffix, text, matches))
            if seen is not None and len(marked) == before:
                room_in(clean)[seen] = None
        return self._judged(marked, features) if marked else None

    def _judged(self, marked: Sequence[_Marked], features: Features) -> Features:
        findings = list(islice((finding for text in marked for finding in self._findings(*text)), MOST_FINDINGS))
        wanted: dict[Action, int] = {}
        for place, _, matches in marked:
            for match in matches:
                action = self.action_of(match.rule)
                if action in CHANGING and place.startswith(UNSENT):
                    action = "block"
                wanted[action] = wanted.get(action, 0) + 1
        if "block" in wanted:
            told = [f"{finding.rule} in {finding.part}" for finding in findings]
            raise RequestError(
                "privacy_blocked",
                f"the request holds what {self.name} blocks: {', '.join(dict.fromkeys(told))}",
                details={"findings": [asdict(finding) for finding in findings]},
            )
        level = self.config.level if "local" in wanted else Privacy.PUBLIC
        features = features.raised(level, findings)
        changing = {action: count for action, count in wanted.items() if action in CHANGING}
        return features.labelled(**{self.name: changing}) if changing else features

    def action_of(self, rule: str) -> Action:
        """What follows from a finding of this rule: its own action, that of its class, or that of all."""
        actions = self.config.actions
        return actions.get(rule) or actions.get(self.class_of(rule)) or self.config.action

    # What is sent, and what comes back

    @hookimpl(specname="mutate")
    def change(self, request: ChatRequest, attempt: Attempt) -> ChatRequest | Awaitable[ChatRequest | None] | None:
        """The hook: `mutate`, in a thread where there is much to go through."""
        if request is attempt.request and self.name not in attempt.features.labels:
            return None
        return (
            self._verdicts.in_thread(self.mutate, request, attempt) if request.heavy else self.mutate(request, attempt)
        )

    def mutate(self, request: ChatRequest, attempt: Attempt) -> ChatRequest | None:
        """Take out what must not be sent, also where another plugin has brought it in."""
        wanted = attempt.features.labels.get(self.name)
        if not wanted and (request is attempt.request or not self._brought(request, attempt.request)):
            return None
        standins = self._standins(attempt) if wanted and "placeholder" in wanted else {}
        allowed = attempt.features.privacy >= self.config.level

        def change(part: Part) -> str | None:
            matches = self.matches_of(part.text, part.key)
            return self._without(part, matches, standins, allowed) if matches else None

        changed = rewritten(request, change)
        return None if changed is request else changed

    def _brought(self, request: ChatRequest, original: ChatRequest) -> bool:
        """Whether there is something to find in what other plugins have changed."""
        before = {id(value) for _, value, _ in fields_of(original)}
        for place, value, _ in fields_of(request):
            if id(value) in before or _key_of(value) in self._clean:
                continue
            if any(self.matches_of(text, name) for text, _, name, _ in leaves_of(value, place)):
                return True
        return False

    def _without(self, part: Part, matches: Sequence[Match], standins: Mapping[str, str], allowed: bool) -> str | None:
        """The text with its matches replaced, where they overlap as one; None when all may stay."""
        pieces, kept = [], 0
        for match in matches:
            action = self.action_of(match.rule)
            start, end = _span(part, match)
            if end <= kept or (action not in CHANGING and allowed):
                continue
            stands = standins.get(_meant(part, start, end)) if action == "placeholder" and start >= kept else None
            pieces += [part.text[kept:start], stands or redaction(match.rule)]
            kept = end
        return "".join([*pieces, part.text[kept:]]) if pieces else None

    def _standins(self, attempt: Attempt) -> Mapping[str, str]:
        """What stands for which text of the client's request, kept for the answer that names it."""
        made = attempt.notes.get(self.name)
        if made is None:
            made = attempt.notes[self.name] = self._numbered(attempt.request)
        standins: Mapping[str, str] = made
        return standins

    def _numbered(self, request: ChatRequest) -> dict[str, str]:
        """What stands for which text of this request: numbered in its order, the same for every attempt."""
        originals: dict[str, str] = {}
        taken: set[str] = set()
        for part in parts_of(request):
            taken.update(standins_in(part.text))
            for match in self.matches_of(part.text, part.key):
                if self.action_of(match.rule) == "placeholder":
                    originals.setdefault(_meant(part, *_span(part, match)), match.rule)
        made: dict[str, str] = {}
        number = 0
        for original, rule in originals.items():
            number += 1
            while standin(rule, number) in taken:
                number += 1
            made[original] = standin(rule, number)
        return made

    @hookimpl
    def rewrite(self, attempt: Attempt) -> Rewriter | None:
        """Put the originals back where the answer names their placeholders."""
        wanted = attempt.features.labels.get(self.name)
        if not wanted or "placeholder" not in wanted:
            return None
        return Restorer({made: original for original, made in self._standins(attempt).items()})

    # What is told

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """How many texts were scanned and are remembered, and what was found, by rule."""
        verdicts = self._verdicts
        return {"scanned": verdicts.scanned, "remembered": len(verdicts), "found": dict(verdicts.found)}

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """Whether the scanner scans at all."""
        list(self.find("a text"))
        yield Report(level=Level.OK, text=f"{self.name} scans requests; default action: {self.config.action}")


CHANGING: frozenset[Action] = frozenset({"redact", "placeholder"})


def _plainly_in(clean: Mapping[Key, None], request: ChatRequest) -> bool:
    """Whether all of a request is known to be clean, of those of the usual form: what is asked of every request."""
    if request.native is not None or request.hints is not NO_HINTS:
        return False
    for key, value in request.params.items():
        if key not in ORDINARY or (type(value) is int and not -LARGE_NUMBER <= value <= LARGE_NUMBER):
            return False
        if type(value) not in SCALARS and (type(value) is not str or (hash(value), len(value)) not in clean):
            return False
    for message in request.messages:
        if type(message) is not dict or len(message) != 2 or message.get("role") not in ROLES:
            return False
        content = message.get("content")
        if type(content) is not str or (hash(content), len(content)) not in clean:
            return False
    model = request.model
    return (hash(model), len(model)) in clean


def _key_of(value: Any) -> Key | None:
    """What a field of a request is remembered by once it is known to be clean; None when that cannot be told."""
    if type(value) is dict and len(value) == 2:
        content = value.get("content")
        if type(content) is str and value.get("role") in ROLES:
            return hash(content), len(content)
    if type(value) is str:
        return hash(value), len(value)
    try:
        written = orjson.dumps(value)
    except TypeError:  # nothing that came as JSON, or half a character
        return None
    return hash(written), -len(written)


def _span(part: Part, match: Match) -> tuple[int, int]:
    """From where to where a match is replaced; in JSON no escape is cut in two."""
    _, start, end = match
    if part.key == "arguments":
        tail = part.text[start:end]
        end -= (len(tail) - len(tail.rstrip("\\"))) % 2
    return start, end


def _meant(part: Part, start: int, end: int) -> str:
    """The text that was found; the arguments of a tool call are JSON, in which it is escaped."""
    found = part.text[start:end]
    return unescaped(found) if part.key == "arguments" and "\\" in found else found
