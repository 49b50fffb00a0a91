"""A plugin's section with each type that one may want, every key of the core's, and what is said of a text."""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
from attrs import field, frozen, validators

from routerpool import document
from routerpool.config import sections
from routerpool.config.reading import from_mapping, load, schema
from routerpool.config.sections import (
    Config,
    LimitsConfig,
    PluginEntry,
    PrivacyConfig,
    Profile,
    ServerConfig,
    TlsConfig,
)
from routerpool.config.structure import keys_of, structure
from routerpool.config.words import Pattern, Range, Size
from routerpool.errors import ConfigError

ENV = {"HOME": "/home/ada"}
CANARY = "sk-canary-7f3a91"
HEX = hashlib.sha256(b"hello").hexdigest()


class Colour(Enum):
    RED = "r"
    DARK_BLUE = "b"


@frozen(kw_only=True)
class Price:
    input: float = field(default=0.0, metadata={"help": "per million tokens"})
    currency: Literal["usd", "eur"] = "usd"


@frozen(kw_only=True)
class Entry:
    id: str
    context: int | None = None
    prices: Price = Price()
    tags: frozenset[str] = frozenset()


@frozen(kw_only=True)
class Plugin:
    """A third party's section, with each type that a plugin may want."""

    base_url: str = "http://localhost"
    api_key_env: str | None = None
    seconds: float = field(default=5.0, validator=validators.gt(0))
    retries: Annotated[int, Range(least=0, most=9)] = 2
    local: bool = False
    colour: Colour = Colour.RED
    mode: Literal["fast", "slow", 3] = "fast"
    models: tuple[str | Entry, ...] = ()
    list_of: list[int] = field(factory=list)
    pair: tuple[int, str] = (1, "a")
    by_name: dict[str, Entry] = field(factory=dict)
    level: int | str = 0
    cap: Size = field(default=Size(10))
    word: Annotated[str, Pattern("[a-z]+", "small letters")] = "a"
    anything: Any = None
    password: str = field(default="", validator=validators.max_len(12), repr=False)
    folder: Path = Path()
    low: int = 0
    high: int = field(default=10)

    @high.validator
    def _above_low(self, attribute: Any, value: int) -> None:
        if value < self.low:
            raise ValueError("high must not be below low")


def complaints(text: str, env: dict[str, str] | None = None) -> list[str]:
    """Each problem of this YAML, as it is printed."""
    try:
        load(text=text, env=ENV if env is None else env)[1].raise_if_any()
    except ConfigError as error:
        return str(error).replace("routerpool.yaml:", "").splitlines()
    return []


def plugin(env: dict[str, str] | None = None, **options: Any) -> tuple[Plugin | None, list[str]]:
    """The section of a plugin called p, made through the whole way of a configuration."""
    config, problems = from_mapping({"plugins": {"p": options}}, env=ENV if env is None else env)
    made = structure(config.plugins[0].options, Plugin, ("plugins", "p"), problems)
    return made, [f"{problem.path}: {problem.message}" for problem in problems]


SECTIONS: list[tuple[tuple[str | int, ...], type]] = [
    ((), Config),
    (("server",), ServerConfig),
    (("server", "tls"), TlsConfig),
    (("server", "api_keys", 0), sections._KeyEntry),
    (("server", "admin_keys", 0), sections._KeyEntry),
    (("limits",), LimitsConfig),
    (("privacy",), PrivacyConfig),
    (("profiles", "mine"), Profile),
    (("plugins", "p"), PluginEntry),
]
KEYS = [((*path, key), hint) for path, cls in SECTIONS for key, (_, hint) in keys_of(cls).items()]
KEY_IDS = [document.render(path) for path, _ in KEYS]


def tree_with(path: tuple[str | int, ...], value: Any) -> Any:
    """A right tree, but for this value."""
    for part in reversed(path):
        value = [value] if part == 0 else {part: value}
    if path[:2] == ("server", "tls") and len(path) > 2:
        value["server"]["tls"] = {"cert": "a", "key": "b"} | value["server"]["tls"]
    if path[2:3] == (0,) and path[3] not in ("key", "sha256"):
        value["server"][path[1]][0]["sha256"] = HEX
    return value


SCHEMA = schema(plugins={"groq": Plugin, "openai_compatible": Entry, "secrets": None, "p": None})
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
