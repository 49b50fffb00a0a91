"""The configuration: YAML to frozen values, and everything that is wrong with it in one list.

`load` never stops at the first mistake. It returns the configuration, with defaults where a part was wrong, and the
`Problems` found so far; whoever makes the plugins structures their sections into the same list, and the caller ends
with `problems.raise_if_any()`. Only a text that is no YAML at all raises at once.

`document` says which YAML is read and how `${NAME}` is expanded, `structure` how strictly values are taken, and
`sections` what the keys are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen
from dotenv import dotenv_values

from routerpool.config.ownership import check_owner
from routerpool.config.schema import Describer
from routerpool.config.sections import (
    BUILT_IN_PROFILES,
    NAME,
    ApiKey,
    Config,
    PluginEntry,
    Plugins,
    Profile,
    ServerConfig,
)
from routerpool.config.structure import salvaged, structure
from routerpool.config.words import hidden
from routerpool.document import Document, KeyPath, Problems, expand, parse, read
from routerpool.errors import ConfigError, Problem, nearest

__all__ = ["find", "from_mapping", "load", "schema"]

FILE: Final = "routerpool.yaml"
_RELATIVE: Final = re.compile(r"^(sqlite(?:\+[a-z0-9_]+)?:///)(?![/~?]|:memory:|file:)(.+)", re.DOTALL)
PLANES: Final = ("api_keys", "host_keys", "admin_keys")
_HOME_IN_URL: Final = re.compile(r"^([a-z0-9+_]+:///)~(?=/)")


def load(
    path: str | Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    env_file: str | Path | None = None,
    text: str | None = None,
) -> tuple[Config, Problems]:
    """The configuration in this file, or where `find` finds one, or in `text`; all defaults where there is none.

    `.env` beside the file, or `env_file`, fills in what `env` (the process's environment) does not have; neither is
    changed. A ConfigError tells of a file that is missing or cannot be parsed, and of one in the working folder, or the
    `.env` there, that nobody has named and somebody else could have written; all else is in the problems.
    """
    given = os.environ if env is None else env
    found = (None if path is None else Path(path)) if text is not None else find(path, given)
    beside = None if found is None else found.parent / ".env"
    if path is None and found is not None and found.parent == Path() and not given.get("ROUTERPOOL_CONFIG"):
        check_owner(found, "--config")
        if beside is not None and env_file is None and beside.is_file():
            check_owner(beside, "--env-file")
    if env_file is not None:
        beside = Path(env_file)
        if not beside.is_file():
            raise ConfigError([Problem("", "there is no such file; mend --env-file or leave it out")], str(beside))
    merged = _dotenv(beside) | dict(given)
    if text is not None:
        document = parse(text, FILE if found is None else str(found))
    else:
        document = Document(file=FILE) if found is None else read(found)
    if found is not None:
        document = evolve(document, folder=found.parent)
    return _configured(document, merged, found)


def from_mapping(tree: Mapping[str, Any], *, env: Mapping[str, str] | None = None) -> tuple[Config, Problems]:
    """The configuration in a mapping, as a host may write it in Python; problems then have a path but no line."""
    merged = dict(os.environ if env is None else env)
    return _configured(Document(tree=dict(tree), file="configuration"), merged, None)


def find(
    explicit: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    home: Path | None = None,
    system: Path = Path("/etc/routerpool"),
) -> Path | None:
    """The configuration file: the one asked for, `$ROUTERPOOL_CONFIG`, then here, in the home and in the system.

    A file that was asked for and is missing is a ConfigError; None means that there is none at all.
    """
    env = os.environ if env is None else env
    asked = explicit or env.get("ROUTERPOOL_CONFIG")
    if asked:
        if not os.access(asked, os.F_OK):
            source = "--config" if explicit else "$ROUTERPOOL_CONFIG"
            message = f"there is no such file; mend {source}, or let `routerpool init` write one"
            raise ConfigError([Problem("", message)], str(asked))
        return Path(asked)
    home = _home(env) if home is None else home
    folders = [Path(), *([home / ".config" / "routerpool"] if home else []), system]
    return next((folder / FILE for folder in folders if os.access(folder / FILE, os.F_OK)), None)


def _home(env: Mapping[str, str]) -> Path | None:
    home = env.get("HOME") or env.get("USERPROFILE")
    try:
        return Path(home) if home else Path.home()
    except RuntimeError:  # a user that the system does not know
        return None


def _dotenv(file: Path | None) -> dict[str, str]:
    """The variables of a .env file, taken as they are written; nothing where there is no file."""
    if file is None or not file.is_file():
        return {}
    try:
        values = dotenv_values(file, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = "cannot be read; check its rights, and save it as UTF-8"
        raise ConfigError([Problem("", message)], str(file)) from error
    return {name: value for name, value in values.items() if value is not None}


def _configured(document: Document, env: Mapping[str, str], path: Path | None) -> tuple[Config, Problems]:
    problems = Problems(document)
    tree = expand(document.tree, env, problems, skip=_switched_off(document.tree))
    config = structure(tree, Config, (), problems)
    if config is None:
        config = Config(**salvaged(tree, Config) | {"plugins": Plugins.salvaged(tree.get("plugins"))})
    _Check(config, tree, problems).run()
    config = evolve(
        config,
        plugins=Plugins(evolve(entry, line=document.line(("plugins", entry.name))) for entry in config.plugins),
        profiles={**BUILT_IN_PROFILES, **config.profiles},
        store=_store(config.store, env, problems, document.folder),
        path=path,
        document=document,
        env=env,
    )
    return config, problems


def _switched_off(tree: Mapping[str, Any]) -> frozenset[KeyPath]:
    """The plugins with `enabled: false`: their variables need not be set."""
    plugins = tree.get("plugins")
    entries = plugins.items() if isinstance(plugins, Mapping) else ()
    return frozenset(
        ("plugins", name) for name, entry in entries if isinstance(entry, Mapping) and entry.get("enabled") is False
    )


def _store(url: str, env: Mapping[str, str], problems: Problems, folder: Path | None) -> str:
    relative = _RELATIVE.match(url)
    if relative is not None and folder is not None:
        return f"{relative[1]}{(folder / relative[2]).absolute().as_posix()}"
    match = _HOME_IN_URL.match(url)
    if match is None:
        return url
    home = _home(env)
    if home is None:
        problems.add(("store",), "~ is unknown because HOME is not set; write the folder out")
        return url
    return match[1] + home.as_posix() + url[match.end() :]


@frozen
class _Check:
    """What no section can know by itself: whether the names in it are those of profiles, and each key is there once."""

    config: Config
    tree: Mapping[str, Any]
    problems: Problems

    def run(self) -> None:
        """Add what is wrong to the problems."""
        self._profile(("default_profile",), self.config.default_profile)
        self._profile(("unknown_model",), self.config.unknown_model)
        for alias, aim in self.config.aliases.items():
            self._alias(("aliases", alias), alias, aim)
        if self.config.server.keyless:
            self._keyless(self.config.server)
        for plane in PLANES:
            self._keys(("server", plane), getattr(self.config.server, plane))

    def _keyless(self, server: ServerConfig) -> None:
        """Names by which any web page gets in where no key keeps it out."""
        for origin in {"*", "null"}.intersection(server.allowed_origins):
            whose = "any web page" if origin == "*" else "any page without an origin of its own, such as a frame,"
            what = f"{origin!r}: {whose} could use this router; name the pages, or set server.api_keys"
            self.problems.add(("server", "allowed_origins"), what)
        if "*" in server.allowed_hosts:
            what = (
                "'*': any web page could use this router by a name of its own; name the hosts, or set server.api_keys"
            )
            self.problems.add(("server", "allowed_hosts"), what)

    def _secret(self, path: KeyPath) -> bool:
        value: Any = self.tree
        for part in path:
            value = value[part]
        return hidden(value, path)

    def _profile(self, path: KeyPath, name: str | None) -> None:
        # The tree's own profiles, since one that is wrong in itself is no reason to complain of its name as well.
        own = self.tree.get("profiles")
        names = [*BUILT_IN_PROFILES, *(own if isinstance(own, Mapping) else ())]
        if name is None or name in names:
            return
        everything = "; profiles: " + ", ".join(names)
        if self._secret(path):
            self.problems.add(path, "there is no profile of this name" + everything)
        else:
            self.problems.add(path, f"there is no profile {name!r}" + (nearest(name, names) or everything))

    def _alias(self, path: KeyPath, alias: str, aim: str) -> None:
        prefix, _, profile = aim.partition("/")
        if prefix == "routerpool":
            self._profile(path, profile)
        elif aim != alias and self.config.aliases.get(aim, aim) != aim:
            shown = "this" if self._secret(path) else repr(aim)
            self.problems.add(path, f"{shown} is an alias too, and aliases are followed once; write what it stands for")

    def _keys(self, path: KeyPath, keys: Sequence[ApiKey]) -> None:
        for index, key in enumerate(keys):
            self._profile((*path, index, "profile"), key.profile)
            for plane in PLANES[: PLANES.index(str(path[-1]))]:
                if any(other.sha256 == key.sha256 for other in getattr(self.config.server, plane)):
                    self.problems.add((*path, index), f"is a key of server.{plane}, too; whom it is for must be plain")
            for other, earlier in enumerate(keys[:index]):
                if earlier.sha256 == key.sha256:
                    self.problems.add((*path, index), f"is the same key as entry [{other}]; remove one of them")
                elif earlier.name == key.name:
                    self.problems.add((*path, index), f"has the name of entry [{other}]; give each key its own")


def schema(
    config_cls: type = Config,
    plugins: Mapping[str, type | None] | None = None,
    profiles: Mapping[str, type] | None = None,
) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file, for editors; `plugins` maps each installed plugin to its `Config`.

    An entry under a plugin's name is that plugin's section; under any other name it must say which plugin it uses.
    `profiles` maps those that have one to their `ProfileConfig`.
    """
    describer = Describer()
    root = describer.section(config_cls)
    switches = describer.section(PluginEntry)["properties"]
    anonymous: dict[str, Any] = {"type": ["object", "null"], "properties": switches}
    sections = {}
    for name, cls in (plugins or {}).items():
        section = describer.section(cls) if cls is not None else {"properties": {}, "additionalProperties": False}
        type_ = "object" if section.get("required") else ["object", "null"]
        describer.definitions[f"plugin:{name}"] = section | {
            "type": type_,
            "properties": section["properties"] | switches,
        }
        sections[name] = {
            "if": {"type": "object", "required": ["use"]},
            "then": {"$ref": "#/$defs/plugin"},
            "else": _reference(name),
        }
    if sections:
        uses = {"use": switches["use"] | {"enum": list(sections)}}
        chosen = [{"if": {"properties": {"use": {"const": name}}}, "then": _reference(name)} for name in sections]
        anonymous |= {"type": "object", "required": ["use"], "properties": switches | uses, "allOf": chosen}
    describer.definitions["plugin"] = anonymous
    root["properties"]["plugins"] |= {
        "type": "object",
        "properties": sections,
        "propertyNames": NAME.to_schema(),
        "additionalProperties": {"$ref": "#/$defs/plugin"},
    }
    if profiles:
        settings = describer.definitions[f"{Profile.__module__}.{Profile.__qualname__}"]["properties"]["settings"]
        settings["properties"] = {name: describer.section(cls) for name, cls in profiles.items()}
    del root["properties"]["plugins"]["items"], root["properties"]["plugins"]["default"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "routerpool configuration",
        **root,
        "$defs": describer.definitions,
    }


def _reference(plugin: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/plugin:{plugin}"}
