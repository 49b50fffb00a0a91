"""A configuration text as a plain tree that remembers its lines, and the list of all that is wrong with it.

The YAML read here is YAML 1.2's core, taken strictly, because a router's configuration must not be guessed at:

- only `true` and `false` are truth values (`yes`, `no`, `on`, `off` are texts), only JSON's numbers are numbers
  (`08`, `1_000`, `12:30`, `0x1F`, `.nan` and `1e400` are texts), and `null`, `~` or nothing at all is null;
- keys are texts, each once in its mapping; tags, merge keys (`<<`) and a second document are refused;
- anchors may be used, but what they expand to is bounded, and so are the file's size and its depth.

`${NAME}` is expanded after parsing, in texts only, once: a value may hold anything and cannot change the structure.
`${NAME:-text}` has a default for a variable that is unset or empty, `$$` is a plain dollar sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import yaml
from attrs import Factory, define, field, frozen

from routerpool.errors import ConfigError, Problem

__all__ = ["UNSET", "Document", "EnvText", "KeyPath", "Problems", "expand", "looks_secret", "parse", "read", "scalar"]

KeyPath = tuple[str | int, ...]
"""Where a value stands: the keys and list positions that lead to it."""

MAX_BYTES: Final = 1 << 20
MAX_VALUES: Final = 100_000
MAX_DEPTH: Final = 64

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")
_NULLS: Final = ("", "~", "null", "Null", "NULL")
_TRUTHS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_FLOAT: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_CONTROL: Final = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REFERENCE: Final = re.compile(r"\$\$|\$\{([^}]*)\}?")
_VARIABLE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-([^${}]*))?")
_BARE_REFERENCE: Final = re.compile(r"[\[{,: ]\$\{")
_SECRET: Final = re.compile(r"key|token|secret|passw|passphrase|credential|authorization", re.IGNORECASE)
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][\w-]*")

# What the YAML parsers say, C and Python alike, and what it means to the writer of a file.
_COMPLAINTS: Final = (
    (r"incompatible YAML document|YAML directive|version", "this YAML version is not read; remove the %YAML line"),
    (
        r"mapping values are not allowed",
        "a ': ' stands where no key can; put the text in quotes or mend the indentation",
    ),
    (r"tab character", "a tab indents this line; use spaces"),
    (r"cannot start any token", "a text cannot begin with this character; put the text in quotes"),
    (
        r"',' or '[\]}]'|node content|expected '\]'|expected '\}'",
        "a bracket is not closed; add it, or the comma before it",
    ),
    (r"end of stream|document separator", "a quote is not closed; add it"),
    (r"unknown escape", "this backslash means nothing in double quotes; use single quotes"),
    (r"document start", "something stands behind the end of the mapping; remove it"),
    (r"expected ':'", "a key without its value; write `key: value`"),
    (r"tag", "tags (!…) are not read; remove it"),
)


class _Unset:
    """Stands where a variable was missing, so that what reads the tree does not complain a second time."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()


class EnvText(str):
    """A text into which the environment was expanded; it may stand for a number, and it is never printed."""

    __slots__ = ("defaulted", "names")

    names: tuple[str, ...]
    defaulted: bool
    """A default written in the file took part, so the file itself holds (some of) the text."""

    @classmethod
    def of(cls, text: str, names: tuple[str, ...], defaulted: bool) -> EnvText:
        """The text with the names of the variables that made it."""
        made = cls(text)
        made.names, made.defaulted = names, defaulted
        return made


@frozen
class Document:
    """A parsed configuration: a tree of dict, list, str, int, float, bool and None, and the line of each path."""

    tree: dict[str, Any] = field(factory=dict, repr=False)
    lines: Mapping[KeyPath, int] = field(factory=dict, repr=False)
    file: str = "routerpool.yaml"
    folder: Path | None = None
    """What relative paths in it are relative to; the working folder without one."""

    def line(self, path: KeyPath) -> int | None:
        """The line of this path, or of the nearest one above it that the file holds."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


@define
class Problems:
    """Everything wrong with one document, collected by whoever reads a part of it."""

    document: Document = Factory(Document)
    found: list[Problem] = field(factory=list)

    def add(self, path: KeyPath, message: str, *, at: KeyPath | None = None) -> None:
        """Report what is wrong at `path` and how to mend it; the line is that of `at`, or of `path`."""
        line = self.document.line(path if at is None else at)
        self.found.append(Problem(render(path), message, line))

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Problem]:
        """By line, problems of one line in the order they were found."""
        return iter(sorted(self.found, key=lambda problem: problem.line or 0))

    def raise_if_any(self) -> None:
        """Raise one ConfigError that holds them all, sorted by line."""
        if self.found:
            raise ConfigError(self, self.document.file)


def render(path: KeyPath) -> str:
    """The path as people write it: `plugins.groq.models[0].context`, odd keys quoted: `aliases['claude-*']`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _IDENTIFIER.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def looks_secret(path: KeyPath) -> bool:
    """Whether what stands at this path may be a credential, so that it must not be printed."""
    return any(isinstance(part, str) and _SECRET.search(part) for part in path)


def read(path: Path) -> Document:
    """The document in this file; a ConfigError with file, line and cure when it cannot be read."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"cannot be read ({error.strerror}); check the path and its rights"
        raise ConfigError([Problem("", message)], str(path)) from error
    return parse(raw, str(path))


def parse(text: str | bytes, file: str = "routerpool.yaml") -> Document:
    """The document in this text, under the rules at the head of this module; `file` is its name in errors."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        raise ConfigError([Problem("", "larger than 1 MiB, which no configuration needs; is it the right file?")], file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem("", "not UTF-8 text; save the file as UTF-8", line)], file) from error
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        message = f"the control character U+{ord(control[0]):04X} cannot stand in YAML; remove it"
        raise ConfigError([Problem("", message, line)], file)
    return _Reader(text, file).document()


def scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted text means: null, a truth value, one of JSON's numbers, or itself."""
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


class _Anchor(NamedTuple):
    value: Any
    size: int
    height: int


class _Reader:
    """Builds the tree from the parser's events, lazily, so that a bomb is refused before it unfolds."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self.anchors: dict[str, _Anchor] = {}
        self.values = 0

    def document(self) -> Document:
        """The one document of the text, which must be a mapping."""
        try:
            tree = self._root()
        except yaml.MarkedYAMLError as error:
            self._refuse_syntax(error)
        except yaml.YAMLError as error:
            raise ConfigError([Problem("", "this is not YAML; check the file's encoding")], self.file) from error
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda problem: problem.line or 0), self.file)
        if tree is None:
            self._refuse(None, "the file is empty; name at least the plugins to use, or let `routerpool init` write it")
        if not isinstance(tree, dict):
            self._refuse(self.lines[()], "the file must be a mapping of keys, such as `plugins:`")
        return Document(tree, self.lines, self.file)

    def _root(self) -> Any:
        tree = None
        started = False
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if started:
                    self._refuse(_line(event), "a second document begins here (---); keep one a file")
                started = True
            elif isinstance(event, yaml.NodeEvent):
                tree, _ = self._value(event, (), 0)
        return tree

    def _refuse(self, line: int | None, message: str, path: KeyPath = ()) -> NoReturn:
        raise ConfigError([*self.problems, Problem(render(path), message, line)], self.file)

    def _refuse_syntax(self, error: yaml.MarkedYAMLError) -> NoReturn:
        end: Any = error.problem_mark or error.context_mark
        line = end.line if end else 0
        begin = error.context_mark.line if error.context_mark else line
        lines = self.text.split("\n")
        said = error.problem or ""
        message = next((cure for sign, cure in _COMPLAINTS if re.search(sign, said)), "")
        if any(re.match(r" *\t", text) for text in lines[line : line + 1]):
            message = "a tab indents this line; use spaces"
        elif message.startswith("a bracket") and any(_BARE_REFERENCE.search(text) for text in lines[begin : line + 1]):
            message = "within [ ] and { } a ${NAME} must stand in quotes, since braces mean something there"
        self._refuse(line + 1, message or "the YAML breaks off here; check the indentation, quotes and brackets")

    def _value(self, event: Any, path: KeyPath, depth: int) -> tuple[Any, int]:
        """The value that begins with this event, and its height."""
        line = _line(event)
        self.lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, path, depth, line)
        before = self.values
        self._grow(1, depth, line, path)
        if event.tag not in _TEXT_TAGS or (event.tag and not isinstance(event, yaml.ScalarEvent)):
            self.problems.append(Problem(render(path), "tags (!…) are not read; remove it", line))
        if isinstance(event, yaml.ScalarEvent):
            value, height = self._scalar(event), 0
        elif isinstance(event, yaml.SequenceStartEvent):
            value, height = self._sequence(path, depth)
        else:
            value, height = self._mapping(path, depth)
        if event.anchor:
            self.anchors[event.anchor] = _Anchor(value, self.values - before, height)
        return value, height

    def _grow(self, size: int, depth: int, line: int, path: KeyPath) -> None:
        self.values += size
        if self.values > MAX_VALUES:
            self._refuse(line, f"more than {MAX_VALUES:,} values once anchors are expanded; write less", path)
        if depth > MAX_DEPTH:
            self._refuse(line, f"nested more than {MAX_DEPTH} levels deep; flatten it", path[:3])

    def _alias(self, name: Any, path: KeyPath, depth: int, line: int) -> tuple[Any, int]:
        anchor = self.anchors.get(name)
        if anchor is None:
            message = "this alias (*…) names no anchor (&…) that ends above it; write the value out"
            self.problems.append(Problem(render(path), message, line))
            return None, 0
        self._grow(anchor.size, depth + anchor.height, line, path)
        return anchor.value, anchor.height

    def _sequence(self, path: KeyPath, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        height = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            value, below = self._value(event, (*path, len(items)), depth + 1)
            items.append(value)
            height = max(height, below + 1)
        return items, height

    def _mapping(self, path: KeyPath, depth: int) -> tuple[dict[str, Any], int]:
        items: dict[str, Any] = {}
        height = 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = _line(event)
            key = self._key(event, path, depth, line)
            place = (*path, key)
            if key in items:
                hidden = "a key" if looks_secret(path) else f"the key {key!r}"
                message = f"{hidden} stands here and on line {self.lines[place]}; remove one of them"
                self.problems.append(Problem(render(path), message, line))
            self.lines.setdefault(place, line)
            value, below = self._value(next(self.events), place, depth + 1)
            items[key] = value
            height = max(height, below + 1)
        return items, height

    def _key(self, event: Any, path: KeyPath, depth: int, line: int) -> str:
        key = self._scalar(event) if isinstance(event, yaml.ScalarEvent) and event.tag in _TEXT_TAGS else None
        if isinstance(key, str) and key != "<<":
            return key
        if not isinstance(event, yaml.ScalarEvent):
            self._value(event, (*path, "?"), depth + 1)
        if key == "<<":
            message = "merge keys (<<) are not read; write the keys out"
        else:
            message = "a key must be a text; put it in quotes"
        self.problems.append(Problem(render(path), message, line))
        return f"?{line}:{event.start_mark.column}"

    @staticmethod
    def _scalar(event: Any) -> Any:
        plain = event.implicit[0] and event.tag is None
        return scalar(event.value) if plain else event.value


def expand(tree: Any, env: Mapping[str, str], problems: Problems, *, skip: frozenset[KeyPath] = frozenset()) -> Any:
    """The tree with `${NAME}` replaced in its texts; a missing variable is a problem and leaves UNSET there.

    What stands at the paths in `skip` is left as it is. Any mapping, list or tuple will do, so a host may pass its own.
    """

    def walk(value: Any, path: KeyPath) -> Any:
        if len(path) > MAX_DEPTH:
            problems.add(path[:3], f"nested more than {MAX_DEPTH} levels deep; flatten it")
            return UNSET
        if path in skip:
            return value
        if isinstance(value, str):
            return _expanded(value, env, path, problems)
        if isinstance(value, list | tuple):
            return [walk(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    problems.add(path, "a key must be a text")
            return {key: walk(item, (*path, key)) for key, item in value.items() if isinstance(key, str)}
        return value

    return walk(tree, ())


def _expanded(text: str, env: Mapping[str, str], path: KeyPath, problems: Problems) -> Any:
    names: list[str] = []
    broken = defaulted = False

    def substitute(match: re.Match[str]) -> str:
        nonlocal broken, defaulted
        if match[0] == "$$":
            return "$"
        variable = _VARIABLE.fullmatch(match[1])
        if variable is None or not match[0].endswith("}"):
            problems.add(path, "expected ${NAME} or ${NAME:-default}, not nested; write $$ for a plain dollar sign")
            broken = True
            return ""
        name, default = variable.groups()
        names.append(name)
        value = env.get(name)
        if default is not None and not value:
            defaulted = True
            return str(default)
        if value is None:
            problems.add(path, f"the variable {name} is not set; export it, or write it to .env beside the file")
            broken = True
            return ""
        return value

    result = _REFERENCE.sub(substitute, text)
    if broken:
        return UNSET
    return EnvText.of(result, tuple(names), defaulted) if names else result
