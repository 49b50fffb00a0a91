"""What `routerpool init` writes: a commented configuration, and an example of the `.env` file beside it.

A file that is there is somebody's, and stays as it is: what would be written goes beside it as `.new`, with the
difference told, unless its owner says `--force`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import field, frozen

from routerpool.config.schema import plain
from routerpool.config.sections import Config, LimitsConfig, PrivacyConfig, ServerConfig
from routerpool.config.structure import keys_of
from routerpool.document import scalar
from routerpool.errors import RouterpoolError
from routerpool.hooks.detection import SWITCHED_ON, Detection, Sighting
from routerpool.hooks.loading import Installed

__all__ = ["Proposal", "Scaffold", "env_example", "propose", "whole"]

_PLAIN: Final = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./~+-]*(?::(?=[A-Za-z0-9_./])[A-Za-z0-9_./~+-]*)*")
_UNWRITABLE: Final = re.compile("[^ -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")

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
            if seen.detected.confidence < SWITCHED_ON and seen.detected.name not in self.plugins
        }
        for name, offer in self.known.items():
            if name not in used and name not in found:
                needs = " (needs options)" if name in self.detection.wanting else ""
                found[name] = ({}, offer.summary + needs)
        return found


@frozen
class Proposal:
    """A text and where it goes: `created`, `kept`, `overwritten`, or `beside` a file that stays as it is."""

    path: Path
    how: str
    text: str = field(repr=False)
    notes: tuple[str, ...] = ()
    diff: tuple[str, ...] = field(default=(), repr=False)

    def write(self) -> None:
        """Do it; what is overwritten is kept as `.bak`."""
        if self.how == "overwritten":
            shutil.copy2(self.path, _backup(self.path))
        if self.how != "kept":
            _put(self.path, self.text)


def propose(path: Path, text: str, *, force: bool = False) -> Proposal:
    """Where this text goes that is meant for `path`; nothing is written yet.

    A RouterpoolError tells of a `.new` that says something else: it may be an earlier run's or its owner's.
    """
    if not path.exists():
        return Proposal(path, "created", text)
    old, new = _lines(path), text.splitlines()
    if old == new:
        return Proposal(path, "kept", text, ("nothing would be written otherwise today",))
    if force:
        return Proposal(path, "overwritten", text, (f"the old one is {_backup(path)}",))
    beside = path.with_name(path.name + ".new")
    if beside.exists() and _lines(beside) != new:
        raise RouterpoolError(f"{beside} is there already; take what you want from it, and move it away")
    notes = (
        f"{path} is yours and stays as it is; take what you want from {beside.name},",
        "or say --force, which puts it in the old one's place and keeps that as .bak",
    )
    diff = unified_diff(old, new, str(path), str(beside), lineterm="")
    return Proposal(beside, "beside", text, notes, tuple(diff))


def _backup(path: Path) -> Path:
    return path.with_name(path.name + ".bak")


def _lines(path: Path) -> list[str]:
    return path.read_bytes().decode("utf-8", "replace").splitlines()


def _put(path: Path, text: str) -> None:
    """Write the file in one step, so that a full disk or a power cut cannot lose an old one; for its owner alone."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.tmp")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
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
        text = "" if value is None else _size(value) if "bytes" in key or key == "body_rate" else inline(value)
        head = "" if key in shown or key in given else "# "
        rows.append((f"{indent}{head}{key}: {text}".rstrip(), str(attribute.metadata.get("help", ""))))
    width = min(max((len(row) for row, _ in rows), default=0), 44)
    for row, told in rows:
        yield f"{row:<{width}}  # {told}" if told else row


def _size(count: Any) -> str:
    """A number of bytes as people write it."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if isinstance(count, int) and count and not count % size:
            return f"{count // size}{unit}"
    return inline(count)


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
        yield from _entry(scaffold, name, section)
    off = scaffold.off()
    if off:
        yield ""
        yield "  # Installed and off; take the # away to switch one on."
        yield from (_off_line(name, section, told) for name, (section, told) in off.items())


def _entry(scaffold: Scaffold, name: str, section: Mapping[str, Any]) -> Iterator[str]:
    seen = scaffold.sighting(name)
    offer = scaffold.known.get(section.get("use", name))
    told = one_line(seen.detected.source if seen else offer.summary if offer else "")
    if seen and seen.detected.comment:
        told += f": {one_line(seen.detected.comment)}"
    instance = scaffold.detection.instances.get(section.get("use", name))
    config = getattr(type(instance.plugin), "Config", None) if instance else None
    if config is None:
        yield f"  {inline(name)}: {inline(section)}" + (f"  # {told}" if told else "")
        return
    active = {key: value for key, value in section.items() if key not in keys_of(config)}
    yield f"  {inline(name)}:" + (f"  # {told}" if told else "")
    yield from (f"    {inline(key)}: {inline(value)}" for key, value in active.items())
    yield from _options(config, (), "    ", section)


def _off_line(name: str, section: Mapping[str, Any], told: str) -> str:
    return f"  # {inline(name)}: {inline(section)}" + (f"  # {one_line(told)}" if told else "")


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


# The keys


def env_example(scaffold: Scaffold) -> str:
    """Every variable that a key may stand in, commented out, with the page where each gets its key."""
    lines = [
        "# Copy this file to .env beside routerpool.yaml and fill in the keys you have. One is enough to begin with;",
        "# where a provider has two lines, either will do.",
    ]
    for told, variables in _keys(scaffold):
        lines += ["", f"# {told}", *(f"# {name}=" for name in variables)]
    return "\n".join(lines) + "\n"


def _keys(scaffold: Scaffold) -> Iterator[tuple[str, tuple[str, ...]]]:
    """For every installed provider that wants a key: who it is and where to get one, and the variables."""
    from routerpool.providers.openai import OpenAIProvider  # here, because it brings aiohttp

    for name, instance in scaffold.detection.instances.items():
        plugin = instance.plugin
        if not isinstance(plugin, OpenAIProvider) or not plugin.key_variables or plugin.facts.experimental:
            continue
        page, told = plugin.facts.key_page, one_line(plugin.facts.title or name)
        yield (f"{told}: get a key at {one_line(page)}" if page else told), plugin.key_variables
