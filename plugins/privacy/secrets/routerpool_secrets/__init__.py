"""Finds keys, tokens and passwords in every part of a request, so that they stay where they are.

The rules are data (secrets.toml), and any gitleaks file may be named beside them. Where google-re2 is installed it does
the looking, otherwise Python's `re`; both find the same.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

from attrs import field, frozen

from routerpool import Level, Match, Probe, Report, ScannerConfig, TextScanner, hookimpl
from routerpool_secrets.engine import Found, engine_for
from routerpool_secrets.rules import Rule, chosen, load, own_rules
from routerpool_secrets.values import JUDGES, LONGEST_NAME, entropy_of, is_example, names_no_secret, text_of

__all__ = ["Secrets", "SecretsConfig"]

DEEPEST = 3
"""How often a secret may be in base64 one over the other."""

PACKED = b"H4sI"
"""How base64 of gzip begins."""

SHORTEST_KEY = 32
"""Characters of base64 without which a key's first line is only talk of one."""

UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Characters that nobody sees, and that would keep a pattern from matching."""

KEY_BODY = re.compile(rb"(?:[A-Za-z0-9+/=\s:,.()<>@\\-]|(?<=\\)[nr])*")
KEY_END = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
HEX = re.compile(rb" ?[0-9a-f]{0,64}")
WIDE = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]")
TAGS = re.compile("[\U000e0021-\U000e007e]")
NO_TAGS = re.compile("[^\U000e0021-\U000e007e]")
ASCII_OF_TAGS = {0xE0000 + sign: sign for sign in range(0x21, 0x7F)}
"""Nobody sees these, but many models read them as the letters that they are made after."""

NARROW = {0xFF01 + at: 0x21 + at for at in range(94)}
"""Full-width letters, which models read like others."""

ASCII = bytes(range(0x80))
CONTINUING = bytes(range(0x80, 0xC0))
BASE64 = re.compile(rb"[A-Za-z0-9+/=]")
WRAPPED = re.compile(rb"(?:(?:\\r)?(?:\\n|\r?\n)[ \t>|]{0,8}[A-Za-z0-9+/_-]{2,}={0,2}(?=[\s\\\"'`<,;)]|\Z))*")
"""The further lines of base64 that is cut into lines; in JSON a line's end is written as an escape."""
BELOW = re.compile(rb"(?>[^\r\n]*(?:[\r\n]|\\n))(?!.*value)", re.DOTALL | re.IGNORECASE)
ELEMENT = re.compile(rb"[^=]>\s*(?:<!\[CDATA\[)?\Z")
ELEMENT_END = re.compile(rb"\s*(?:</|\]\]>)")
NAME_ALONE = re.compile(
    rb"(?:[a-z]+[ _.-]{0,2})?(?:key|secret|token|credential|password|passwd|pwd|passphrase)s?[ \t]?(?:is|was)?"
    rb"[\x60\"'* \t]*(?:[:=].*)?(?:\r|\n|\\n)",
    re.IGNORECASE,
)
VALUE_ALONE = re.compile(rb"[ \t\"'\x60*,]*(?:[\r\n]|\\[rn]|\Z)")
LINE = re.compile(rb"[\r\n]+|\\[rn]")


@frozen(kw_only=True)
class SecretsConfig(ScannerConfig):
    """What is looked for, and what follows."""

    rules: tuple[Path, ...] = field(default=(), metadata={"help": "gitleaks files whose rules are looked for as well"})
    builtin: bool = field(default=True, metadata={"help": "Whether the plugin's own rules are looked for"})
    without: tuple[str, ...] = field(default=(), metadata={"help": "Rules or classes of rules to leave out"})
    allow: tuple[str, ...] = field(default=(), metadata={"help": "Patterns of values that are no secrets here"})
    engine: Literal["auto", "re2", "re"] = field(
        default="auto", metadata={"help": "What looks: google-re2, Python's re, or the former where it is installed"}
    )


class Secrets(TextScanner):
    """The scanner of secrets."""

    Config: ClassVar[type[ScannerConfig]] = SecretsConfig
    default = 20
    shortest = 8
    named = True

    def __init__(self, config: SecretsConfig | None = None, *, name: str = "secrets") -> None:
        config = config or SecretsConfig()
        self._auto = config.engine == "auto"
        self._rules = self._chosen(config)
        self._by_id = {rule.id: rule for rule in self._rules}
        self._groups: dict[str, list[int]] = {}
        try:
            self._allowed = [re.compile(pattern.encode()) for pattern in config.allow]
        except re.error as error:
            raise ValueError(f"`allow` has a pattern that cannot be read: {error}") from error
        try:
            self._engine = engine_for(self._rules, config.engine)
        except ImportError as error:
            raise ValueError("engine: re2 needs google-re2; pip install 'routerpool-secrets[re2]'") from error
        super().__init__(config, name=name)

    def _chosen(self, config: SecretsConfig) -> tuple[Rule, ...]:
        rules = chosen(own_rules(), config.without) if config.builtin else ()
        taken = {rule.id for rule in rules}
        for path in config.rules:
            try:
                more = load(path)
            except OSError as error:
                raise ValueError(f"`rules` names {path}, which cannot be read: {error.strerror}") from error
            for rule in chosen(more, config.without):
                rules += chosen([rule], (), "gitleaks-" if rule.id in taken else "")
        if not rules:
            raise ValueError("no rule is left to look for; take out `builtin: false` or name files in `rules`")
        return rules

    # What the core asks

    def find(self, text: str) -> Iterable[Match]:
        """The secrets in a text."""
        if text.isascii():
            return self._matches(text)
        strange = text.encode("utf-8", "surrogatepass").translate(None, ASCII).decode("utf-8", "surrogatepass")
        if WIDE.search(strange):
            text = text.translate(NARROW)
        if UNSEEN.search(strange):
            found = self._unhidden(text)
            if TAGS.search(strange):
                return list({*found, *self._unhidden(NO_TAGS.sub(" ", text).translate(ASCII_OF_TAGS))})
            return found
        return self._matches(text)

    def _unhidden(self, text: str) -> list[Match]:
        """The secrets in a text as it is without what nobody sees, at their places in the text."""
        before = [match.start() - n for n, match in enumerate(UNSEEN.finditer(text))]
        found = self._matches(UNSEEN.sub("", text))
        return [Match(r, s + bisect_right(before, s), e + bisect_right(before, e - 1)) for r, s, e in found]

    def rules(self) -> Iterable[str]:
        """The ids of all rules in use."""
        return self._by_id

    def class_of(self, rule: str) -> str:
        """The class of a rule."""
        return self._by_id[rule].kind

    def prefix_of(self, rule: str) -> str:
        """What is public of every secret of this rule."""
        return self._by_id[rule].prefix

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """Which engine looks, for how many rules."""
        name = self._engine.name
        yield Report(level=Level.OK, text=f"{len(self._rules)} rules are looked for by {name}")
        if name == "re" and self._auto:
            yield Report(
                level=Level.NOTE,
                text="google-re2 is not installed, so that scanning takes more time",
                cure="pip install 'routerpool-secrets[re2]'",
            )

    # What is in a text

    def _matches(self, text: str) -> list[Match]:
        data = text.encode("utf-8", "surrogatepass")
        spans = list(self._spans(data))
        if not spans:
            return []
        spans = _distinct(spans)
        if len(data) != len(text):
            spans = list(_in_characters(spans, data))
        return [Match(rule.id, start, end) for start, end, rule in spans]

    def _spans(self, data: bytes, depth: int = 0, *, unpacked: bool = False) -> Iterator[tuple[int, int, Rule]]:
        """Where there are secrets; `depth` says how often this has been in base64, `unpacked` whether in gzip, too."""
        looked = 0
        for rule, found in self._engine.matches(data, data.lower()):
            if rule.value != "encoded":
                span = self._secret(rule, found, data)
                if span is not None:
                    yield *span, rule
            elif depth < DEEPEST and found.span()[0] >= looked:
                start, end = found.span()
                if data[end - 1] != 61:  # a sign at the end of base64
                    end = WRAPPED.match(data, end).end()  # type: ignore[union-attr]  # it always matches
                looked = end
                encoded = data[start:end]
                if self._hides(encoded, depth, unpacked) and not any(
                    pattern.search(encoded) for pattern in self._allowed
                ):
                    yield start, end, rule

    def _secret(self, rule: Rule, found: Found, data: bytes) -> tuple[int, int] | None:
        """Where the secret of a match stands, if it is one."""
        start, end = self._group(rule, found)
        if rule.value in ("pem", "putty"):
            return _key(rule.value, start, end, data)
        whole_start, whole_end = found.span()
        if rule.closed and end == whole_end < len(data) and _word(data[end - 1]) and _word(data[end]):
            return None
        secret = data[start:end]
        if rule.value == "password":
            secret = secret.removesuffix(b"]]").rstrip(b",;:.")
            end = start + len(secret)
        if start == end or (rule.entropy and entropy_of(secret) <= rule.entropy):
            return None
        if rule.own and not self._plausible(rule, secret, data, (whole_start, start, end)):
            return None
        if rule.allowed:
            match, line = data[whole_start:whole_end], _line(data, whole_start, whole_end)
            if any(allowed.holds(secret, match, line) for allowed in rule.allowed):
                return None
        if any(pattern.search(secret) for pattern in self._allowed):
            return None
        return start, end

    def _group(self, rule: Rule, found: Found) -> tuple[int, int]:
        """The group that holds the secret: the one that the rule names, else the first that has matched, else all."""
        numbers = self._groups.get(rule.id)
        if numbers is None:
            known = range(1, found.re.groups + 1)
            numbers = self._groups[rule.id] = [n for n in known if rule.group in (0, n)]
        for number in numbers:
            start, end = found.span(number)
            if start < end:
                return start, end
        return found.span()

    def _plausible(self, rule: Rule, secret: bytes, data: bytes, at: tuple[int, int, int]) -> bool:
        """Whether what one of our own rules has found is more than its form."""
        whole, start, end = at
        if is_example(secret) or (rule.value and not JUDGES[rule.value](secret)):
            return False
        if rule.value == "token" and data[end : end + 1] == b"(":  # the name of what is called
            return False
        if not rule.id.startswith(("assigned-", "flag-")):
            return True
        lead = data[whole:start]
        if ELEMENT.search(lead):
            if ELEMENT_END.match(data, end) is None:
                return False
        elif BELOW.match(lead) and not _below(data, whole, start, end):
            return False
        return not names_no_secret(data[max(0, whole - LONGEST_NAME) : whole], lead)

    def _hides(self, encoded: bytes, depth: int, unpacked: bool) -> bool:
        """Whether base64 stands for a text with a secret in it: all of its lines together, or one of them.

        What came out of gzip is not looked at for more of it: each time costs up to 32 times as much.
        """
        inflate = not unpacked and PACKED in encoded
        lines = LINE.split(encoded)
        told = [text_of(b"".join(lines), inflate=inflate)]
        if len(lines) > 1:
            told.append(b"\n".join([text_of(line, inflate=inflate) for line in lines]))
        return any(True for text in told for _ in self._spans(text, depth + 1, unpacked=unpacked or inflate))


def _key(kind: str, start: int, end: int, data: bytes) -> tuple[int, int] | None:
    """A private key from its first line to its last, or as far as it goes; None where there is only a first line.

    What is looked for ends at the next key's first line at the latest, so that many of them cost no more than one.
    """
    if kind == "putty":
        following = data.find(b"PuTTY-User-Key-File-", end)
        following = following if following >= 0 else len(data)
        last = data.find(b"Private-MAC:", end, following)
        if last >= 0:
            return start, last + len(HEX.match(data, last + 12)[0]) + 12  # type: ignore[index]  # it always matches
        body = KEY_BODY.match(data, end, following)[0].rstrip()  # type: ignore[index]  # so does this
        return (start, end + len(body)) if b"Private-Lines:" in body else None
    last = data.find(b"-----", end)
    last = last if last >= 0 else len(data)
    closing = KEY_END.match(data, last)
    body = data[end:last] if closing else KEY_BODY.match(data, end, last)[0].rstrip()  # type: ignore[index]
    if len(BASE64.findall(body[:4096])) < SHORTEST_KEY:
        return None
    return start, closing.end() if closing else end + len(body)


def _below(data: bytes, whole: int, start: int, end: int) -> bool:
    """Whether a value below its name is meant by it: each stands alone, or the name is followed by a sign."""
    if VALUE_ALONE.match(data, end) is None:
        return False
    if re.search(rb"[:=]", data[whole:start]):
        return True
    return NAME_ALONE.match(data, whole, start) is not None and data[whole - 1 : whole].strip(b" \t\r\n*>#\"'`") == b""


def _word(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122 or byte == 95


def _line(data: bytes, start: int, end: int) -> bytes:
    last = data.find(b"\n", end)
    return data[data.rfind(b"\n", 0, start) + 1 : last if last >= 0 else len(data)]


def _distinct(spans: list[tuple[int, int, Rule]]) -> list[tuple[int, int, Rule]]:
    """Of matches that lie within one another the outer one; of equal ones that of the rule that stands first."""
    kept: list[tuple[int, int, Rule]] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not kept or span[1] > kept[-1][1]:
            kept.append(span)
    return kept


def _in_characters(spans: Iterable[tuple[int, int, Rule]], data: bytes) -> Iterator[tuple[int, int, Rule]]:
    """Places in bytes as places in characters; a character that a match cuts belongs to it."""
    at = counted = 0
    for start, end, rule in spans:
        while 0x80 <= data[start] < 0xC0:
            start -= 1
        counted += len(data[at:start].translate(None, CONTINUING))
        at = start
        yield counted, counted + len(data[start:end].translate(None, CONTINUING)), rule
