"""What `routerpool init` writes: a commented configuration, and an example of the `.env` file beside it.

A second run never changes what stands in a file. New plugins are inserted as lines of their own, and the result is
parsed again: unless it says exactly the old things plus the new ones, it is written beside the file as `.new`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import field, frozen

from routerpool.config.document import Document, parse, read, scalar
from routerpool.config.schema import plain
from routerpool.config.sections import Config, LimitsConfig, PrivacyConfig, ServerConfig
from routerpool.config.shape import keys_of
from routerpool.errors import ConfigError
from routerpool.hooks.detection import SANDBOX, SURE, Detection, Sighting
from routerpool.hooks.loading import Installed

__all__ = ["Scaffold", "Written", "write_env_example", "write_yaml"]

_PLAIN: Final = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./~+-]*(?::(?=[A-Za-z0-9_./])[A-Za-z0-9_./~+-]*)*")
_UNWRITABLE: Final = re.compile("[^ -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_BLOCK: Final = re.compile(r"plugins\s*:\s*(#.*)?")

_HEAD: Final = """\
# The configuration of routerpool, written by `routerpool init`.
# What is commented out is the default. `routerpool config check` says what is wrong, `routerpool doctor` what is
# missing; keys stand in the environment or in a `.env` file beside this one, never here.
"""

_PROFILES: Final = """\
# Profiles of your own, besides auto, free, fast, balanced, capable and private. Clients ask for `routerpool/<name>`.
# profiles:
#   mine:
#     description: an order of my own
#     models: [groq/llama-3.3-70b-versatile, "ollama/*"]

# Model names that clients ask for, and what they mean here.
# aliases:
#   gpt-4o-mini: routerpool/auto
#   "claude-*": routerpool/capable
"""


@frozen(kw_only=True)
class Scaffold:
    """What is to be written: the tree to run with, everything that is installed, and what was detected."""

    tree: Mapping[str, Any]
    known: Mapping[str, Installed]
    detection: Detection

    @property
    def plugins(self) -> Mapping[str, Mapping[str, Any]]:
        """The sections to switch on, by name."""
        return self.tree.get("plugins") or {}

    def sighting(self, name: str) -> Sighting | None:
        """What was seen under this name."""
        return next((seen for seen in self.detection.found if seen.detected.name == name), None)

    def off(self) -> dict[str, tuple[Mapping[str, Any], str]]:
        """What is installed or was seen without being sure, and is not switched on: section and description."""
        used = {section.get("use", name) for name, section in self.plugins.items()}
        found: dict[str, tuple[Mapping[str, Any], str]] = {
            seen.detected.name: (seen.section, f"{seen.detected.source}, perhaps")
            for seen in self.detection.found
            if seen.detected.confidence < SURE and seen.detected.name not in self.plugins
        }
        for name, offer in self.known.items():
            if name not in used and name not in found:
                needs = " (needs options)" if name in self.detection.wanting else ""
                found[name] = ({}, offer.summary + needs)
        return found


@frozen
class Written:
    """What a file became: `created`, `kept`, `extended`, `overwritten`, or `beside` when it could not be merged."""

    path: Path
    how: str
    notes: list[str] = field(factory=list)


def write_yaml(scaffold: Scaffold, path: Path, *, force: bool = False) -> Written:
    """Write the configuration, or add what is new to the one that is there; `force` keeps the old one as `.bak`.

    A ConfigError tells that the file which is there cannot be parsed.
    """
    if not path.exists():
        _put(path, whole(scaffold))
        return Written(path, "created")
    if force:
        backup = path.with_name(path.name + ".bak")
        shutil.copy2(path, backup)
        _put(path, whole(scaffold))
        return Written(path, "overwritten", [f"the old one is {backup}"])
    old = read(path)
    text = path.read_bytes().decode("utf-8")
    addition = _Addition(scaffold, old, text)
    if not addition.lines and not addition.replaced:
        return Written(path, "kept", addition.notes)
    merged = addition.merged()
    if merged is None:
        beside = path.with_name(path.name + ".new")
        _put(beside, whole(scaffold))
        note = f"{path} is written in a way that new plugins cannot be added to safely; take what you want from here"
        return Written(beside, "beside", [*addition.notes, note])
    _put(path, merged)
    return Written(path, "extended", addition.notes)


def _put(path: Path, text: str) -> None:
    """Replace the file in one step, so that a full disk or a power cut cannot lose the old one."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.tmp")
    fresh.write_text(text, encoding="utf-8", newline="")
    if target.exists():
        shutil.copymode(target, fresh)
    fresh.replace(target)


# A whole file


def whole(scaffold: Scaffold) -> str:
    """The whole commented configuration."""
    parts = [
        _HEAD,
        "\n".join(_section("server", ServerConfig, _help(Config, "server"), shown=("host", "port"))),
        "\n".join(_section("limits", LimitsConfig, _help(Config, "limits"))),
        "\n".join(_section("privacy", PrivacyConfig, _help(Config, "privacy"), shown=("default", "remote_allows"))),
        "\n".join(_plugins(scaffold)),
        _PROFILES.rstrip("\n"),
        "\n".join(_others()),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _help(cls: type, key: str) -> str:
    attribute, _ = keys_of(cls)[key]
    return str(attribute.metadata.get("help", ""))


def _section(name: str, cls: type, told: str, shown: tuple[str, ...] = ()) -> Iterator[str]:
    yield f"# {told}"
    if not shown:
        yield f"# {name}:"
        yield from ("# " + line.replace("# ", "", 1) for line in _options(cls, shown, "  "))
        return
    yield f"{name}:"
    yield from _options(cls, shown, "  ")


def _options(cls: type, shown: Iterable[str], indent: str, given: Mapping[str, Any] | None = None) -> Iterator[str]:
    """A line for each key of a section with its help, commented out unless it is shown or given."""
    given = given or {}
    rows = []
    for key, (attribute, _) in keys_of(cls).items():
        default = plain(attribute.default)
        value = given.get(key, None if default is attrs.NOTHING else default)
        text = "" if value is None else _size(value) if key.endswith("_bytes") else inline(value)
        head = "" if key in shown or key in given else "# "
        rows.append((f"{indent}{head}{key}: {text}".rstrip(), str(attribute.metadata.get("help", ""))))
    width = min(max((len(row) for row, _ in rows), default=0), 44)
    for row, told in rows:
        yield f"{row:<{width}}  # {told}" if told else row


def _size(count: Any) -> str:
    return inline(count) if not isinstance(count, int) or count % (1 << 20) else f"{count >> 20}MiB"


def _others() -> Iterator[str]:
    told = ("server", "limits", "privacy", "plugins", "profiles", "aliases")
    rows = [key for key in keys_of(Config) if key not in told]
    yield "# Everything else."
    for key in rows:
        default = plain(keys_of(Config)[key][0].default)
        text = "" if default is None or default is attrs.NOTHING else " " + inline(default)
        yield f"# {key}:{text}  # {_help(Config, key)}"


def _plugins(scaffold: Scaffold) -> Iterator[str]:
    yield f"# {_help(Config, 'plugins')}"
    yield "plugins:" if scaffold.plugins else "plugins: {}"
    for name, section in scaffold.plugins.items():
        yield from _entry(scaffold, name, section, "  ")
    off = scaffold.off()
    if off:
        yield ""
        yield "  # Installed and off; take the # away to switch one on."
        yield from (_off_line(name, section, told, "  ") for name, (section, told) in off.items())


def _entry(scaffold: Scaffold, name: str, section: Mapping[str, Any], indent: str) -> Iterator[str]:
    seen = scaffold.sighting(name)
    offer = scaffold.known.get(section.get("use", name))
    told = one_line(seen.detected.source if seen else offer.summary if offer else "")
    if seen and seen.detected.comment:
        told += f": {one_line(seen.detected.comment)}"
    instance = scaffold.detection.instances.get(section.get("use", name))
    config = getattr(type(instance.plugin), "Config", None) if instance else None
    if config is None:
        yield f"{indent}{inline(name)}: {inline(section)}" + (f"  # {told}" if told else "")
        return
    active = {key: value for key, value in section.items() if key not in keys_of(config)}
    yield f"{indent}{inline(name)}:" + (f"  # {told}" if told else "")
    yield from (f"{indent}  {inline(key)}: {inline(value)}" for key, value in active.items())
    yield from _options(config, (), indent + "  ", section)


def _off_line(name: str, section: Mapping[str, Any], told: str, indent: str) -> str:
    return f"{indent}# {inline(name)}: {inline(section)}" + (f"  # {one_line(told)}" if told else "")


def inline(value: Any) -> str:
    """A value on one line, as the strict reader of `document` takes it back."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{inline(str(key))}: {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    if isinstance(value, str) and scalar(value) == value and _PLAIN.fullmatch(value):
        return value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _UNWRITABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str) -> str:
    """A text that cannot leave its comment."""
    return " ".join(text.split())


# An addition to a file that is there


class _Addition:
    """What a new run would add to the file: lines for its `plugins:` block, and its own comments to take back."""

    def __init__(self, scaffold: Scaffold, old: Document, text: str) -> None:
        self.scaffold, self.old, self.text = scaffold, old, text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.indent = self._indent()
        self.entries: dict[str, Mapping[str, Any]] = {}
        self.lines: list[str] = []
        self.replaced: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self._compare()

    def _old_plugins(self) -> Mapping[str, Any]:
        plugins = self.old.tree.get("plugins")
        return plugins if isinstance(plugins, Mapping) else {}

    def _indent(self) -> str:
        first = next(iter(self._old_plugins()), None)
        line = self.old.lines.get(("plugins", first)) if first is not None else None
        text = _rows(self.text)[line - 1] if line else "  "
        return text[: len(text) - len(text.lstrip(" "))] or "  "

    def _compare(self) -> None:
        old = self._old_plugins()
        uses = [section.get("use", name) if isinstance(section, Mapping) else name for name, section in old.items()]
        off = {name: _off_line(name, *entry, self.indent) for name, entry in _could_be_off(self.scaffold).items()}
        written = set(_rows(self.text))
        for name, section in self.scaffold.plugins.items():
            if name in old or ("use" not in section and name in uses) or (name == SANDBOX and old):
                continue
            lines = list(_entry(self.scaffold, name, section, self.indent))
            if off.get(name) in written:  # our own comment, as we wrote it
                self.replaced[off[name]] = lines
            elif self._commented(name):
                self.notes.append(f"{name} is commented out in the file, so it stays off")
                continue
            else:
                self.lines += lines
            self.entries[name] = section
            seen = self.scaffold.sighting(name)
            self.notes.append(f"added {name}" + (f": {seen.detected.source}" if seen else ""))
        for name, (section, told) in self.scaffold.off().items():
            if name not in old and name not in uses and not self._commented(name):
                self.lines.append(_off_line(name, section, told, self.indent))

    def _commented(self, name: str) -> bool:
        return re.search(rf"^\s*#\s*['\"]?{re.escape(name)}['\"]?\s*:", self.text, re.MULTILINE) is not None

    def merged(self) -> str | None:
        """The text with what is new; None when it would not say exactly the old things and the new ones."""
        rows = self._inserted(_rows(self.text))
        if rows is None:
            return None
        merged = self.newline.join(rows) + self.newline
        wanted = {**self._old_plugins(), **self.entries}
        try:
            tree = parse(merged, str(self.old.file)).tree
        except ConfigError:
            return None
        return merged if _meaning(tree) == _meaning({**self.old.tree, "plugins": wanted}) else None

    def _inserted(self, rows: list[str]) -> list[str] | None:
        if "plugins" not in self.old.tree:
            return [*rows, "", "plugins:", *(line for lines in self.replaced.values() for line in lines), *self.lines]
        start = self.old.lines[("plugins",)]
        if not _BLOCK.fullmatch(rows[start - 1].rstrip()):
            return None
        end = start
        for index in range(start, len(rows)):
            row = rows[index]
            if row.strip() and not row.lstrip().startswith("#"):
                if not row.startswith(" "):
                    break
                end = index + 1
            elif row.startswith(" ") and row.strip():  # an indented comment is part of the block
                end = index + 1
        grown = [*rows[:end], *self.lines, *rows[end:]]
        return [line for row in grown for line in self.replaced.get(row, [row])]


def _rows(text: str) -> list[str]:
    """The lines as the YAML parser counts them."""
    return text.removesuffix("\n").replace("\r\n", "\n").split("\n")


def _meaning(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its empty sections written in one way."""
    plugins = tree.get("plugins")
    sections = plugins.items() if isinstance(plugins, Mapping) else ()
    return {**tree, "plugins": {name: section or None for name, section in sections}}


def _could_be_off(scaffold: Scaffold) -> dict[str, tuple[Mapping[str, Any], str]]:
    """What an earlier run may have written as switched off, and this one switches on."""
    return {name: ({}, offer.summary) for name, offer in scaffold.known.items()}


# The keys


def write_env_example(scaffold: Scaffold, path: Path, *, force: bool = False) -> Written:
    """Write the variables that the installed providers read, with the page where each gets its key.

    A file that is there keeps its text, and gets the variables that it does not name.
    """
    groups = list(_keys(scaffold))
    old = path.read_bytes().decode("utf-8") if path.exists() and not force else ""
    newline = "\r\n" if "\r\n" in old else "\n"
    lines = [] if old else ["# Copy this file to .env beside routerpool.yaml and fill in the keys you have."]
    for told, variables in groups:
        new = [name for name in variables if not re.search(rf"\b{re.escape(name)}\s*=", old)]
        if new:
            lines += ["", f"# {told}", *(f"# {name}=" for name in new)]
    if old and not lines:
        return Written(path, "kept")
    how = "extended" if old else "overwritten" if path.exists() else "created"
    if how == "overwritten":
        shutil.copy2(path, path.with_name(path.name + ".bak"))
    if old and not old.endswith("\n"):
        old += newline
    _put(path, old + newline.join(lines) + newline)
    return Written(path, how)


def _keys(scaffold: Scaffold) -> Iterator[tuple[str, tuple[str, ...]]]:
    """For every installed provider that wants a key: who it is and where to get one, and the variables."""
    from routerpool.providers.data import load_data  # here, like the provider
    from routerpool.providers.openai import OpenAIProvider  # here, because it brings aiohttp

    for name, instance in scaffold.detection.instances.items():
        plugin = instance.plugin
        if not isinstance(plugin, OpenAIProvider) or not plugin.key_variables:
            continue
        page = load_data(type(plugin), plugin.data).key_page if plugin.data else ""
        told = one_line(plugin.title or name)
        yield (f"{told}: get a key at {one_line(page)}" if page else told), plugin.key_variables
