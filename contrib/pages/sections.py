"""Sections of the configuration as tables: key, type and bounds, default, meaning, read from their attrs classes.

`routerpool.config` reads them, as it reads the configuration itself: what stands in a table is what is accepted.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin

import attrs
from attrs import define, field
from markdown import anchor, plainly, prose, table

from routerpool.config.schema import Describer, plain
from routerpool.config.sections import MIB, Config, Plugins
from routerpool.config.structure import converter, keys_of
from routerpool.config.words import Pattern, Range, Size, expected, word_of

__all__ = ["Shapes", "configuration_page"]

HEAD = ("key", "type", "default", "what it is")


ABOUT = """
Every key of `routerpool.yaml` but those of the plugins, which stand with [each plugin](plugins.md). `${NAME}` takes a
variable of the environment wherever a value stands. `routerpool config check` names all mistakes at once; `routerpool
config schema` is all of this, plugins included, for your editor.
"""


def configuration_page() -> str:
    """The page of the core's own sections."""
    shapes = Shapes({Plugins: "the [plugins](plugins.md), each under its name"})
    whole = shapes.table(Config)
    parts = [
        "# Configuration",
        prose(ABOUT),
        whole,
        *shapes.pages("##"),
    ]
    return "\n\n".join(parts) + "\n"


@define
class Shapes:
    """Tables of sections, and the sections that stand within them, each told once, in the order of their mention.

    `told` are types that another place tells of, with the words that lead there; `owner` is put before the
    names, since on one page several may call their sections alike.
    """

    told: Mapping[type, str] = field(factory=dict)
    owner: str = ""
    _waiting: dict[type, str] = field(factory=dict, init=False)

    def table(self, cls: type, without: Iterable[str] = (), **defaults: str) -> str:
        """The table of one section; nothing where it has no keys, or no others than those left out.

        `defaults` are the words for those that its class cannot know.
        """
        rows = [
            (f"`{key}`", self.kind(hint), defaults.get(key) or _default(attribute, hint), _help(attribute))
            for key, (attribute, hint) in keys_of(cls).items()
            if key not in without
        ]
        return table(HEAD, rows)

    @property
    def mentioned(self) -> dict[type, str]:
        """What was mentioned, with words that lead to it within the page."""
        return {cls: f"[{_word(cls)}]({anchor(heading)})" for cls, heading in self._waiting.items()}

    def pages(self, level: str) -> Iterator[str]:
        """Headings of this level, texts and tables of all that was mentioned and of what these mention in turn."""
        done = 0
        while done < len(self._waiting):
            cls, heading = list(self._waiting.items())[done]
            done += 1
            yield f"{level} {heading}"
            yield prose(inspect.getdoc(cls) or "")
            yield _forms(cls) if hasattr(cls, "to_schema") else self.table(cls)

    def kind(self, hint: Any) -> str:
        """What a value of this type looks like in YAML, in words."""
        origin, args = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return " ".join([self.kind(args[0]), *(f"({_bounds(rule)})" for rule in args[1:])])
        if origin in (Union, types.UnionType):
            return " or ".join(dict.fromkeys(self.kind(arg) for arg in args if arg is not type(None)))
        if origin is Literal:
            return ", ".join(f"`{arg}`" for arg in args)
        if hint is Size:
            return "size such as `32MiB`"
        if isinstance(hint, NewType):
            return self.kind(hint.__supertype__)
        if hint in (Any, object):
            return "anything"
        return self._composite(origin or hint, args)

    def _composite(self, kind: type, args: tuple[Any, ...]) -> str:
        if kind in self.told:
            return self.told[kind]
        if attrs.has(kind):
            return self._section(kind)
        if issubclass(kind, Enum):
            return ", ".join(f"`{word_of(member)}`" for member in kind)
        if issubclass(kind, Mapping) and args:
            return f"mapping of {self.kind(args[0])} to {self.kind(args[1])}"
        if issubclass(kind, (tuple, list, set, frozenset, Sequence)) and not issubclass(kind, str) and args:
            return "list of " + self.kind(args[0])
        return expected(kind).removeprefix("a ")

    def _section(self, cls: type) -> str:
        word = _word(cls)
        name = f"{self.owner}: {word}" if self.owner else word
        self._waiting.setdefault(cls, name)
        return f"[{word}]({anchor(name)})"


def _forms(cls: Any) -> str:
    """What a class tells of itself that reads another form than its fields."""
    describer = Describer()
    cls.to_schema(describer)
    rows = [
        (f"`{key}`", plainly(schema.get("description", "")))
        for section in describer.definitions.values()
        for key, schema in section.get("properties", {}).items()
    ]
    return prose(inspect.getdoc(converter.get_structure_hook(cls)) or "") + "\n\n" + table(("key", "what it is"), rows)


def _word(cls: type) -> str:
    return cls.__name__.removesuffix("Config")


def _bounds(rule: Range | Pattern) -> str:
    if isinstance(rule, Pattern):
        return plainly(rule.words)
    if rule.least is not None and rule.most is not None:
        return f"{rule.least:,} to {rule.most:,}"
    bounds = (("at least", rule.least), ("more than", rule.above), ("at most", rule.most))
    return ", ".join(f"{words} {bound:,}" for words, bound in bounds if bound is not None)


def _help(attribute: attrs.Attribute[Any]) -> str:
    words: str = attribute.metadata.get("help", "")
    return plainly(words[:1].upper() + words[1:])


def _default(attribute: attrs.Attribute[Any], hint: Any) -> str:
    if attribute.default is attrs.NOTHING:
        return "required"
    value = plain(attribute.default)
    if value is attrs.NOTHING or value is None or value in ("", [], {}):
        return ""
    if Size in (hint, *get_args(hint), getattr(hint, "__origin__", None)) and value % MIB == 0:
        return f"`{value // MIB}MiB`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"
