"""The sections of the configuration as frozen values; every field's help text feeds the docs and the JSON Schema.

Their annotations are the whole truth about what may stand in YAML: `structure` reads by them, `schema` describes them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from attrs import asdict, field, frozen

from routerpool.config.schema import Describer
from routerpool.config.structure import converter, gathered, keys_of, salvaged
from routerpool.config.words import Pattern, Range, Refused, Size, describe
from routerpool.document import Document, EnvText
from routerpool.types import Privacy, Tier

__all__ = [
    "BUILT_IN_PROFILES",
    "NAME",
    "ApiKey",
    "Config",
    "LimitsConfig",
    "PluginEntry",
    "Plugins",
    "PrivacyConfig",
    "Profile",
    "ServerConfig",
    "TlsConfig",
]

MIB: Final = 1 << 20

NAME: Final = Pattern(r"[a-z0-9][a-z0-9_.-]*", "a name of small letters, digits, '_', '.' and '-'")
_KEY_NAME: Final = Pattern(r"[A-Za-z0-9][A-Za-z0-9_.@-]*", "a name of letters, digits, '_', '.', '@' and '-'")
_BASE_PATH: Final = Pattern(r"/|(/[A-Za-z0-9._~-]+)+", "a path such as / or /llm, with no slash at its end")
_STORE: Final = Pattern(r"[a-z0-9]+(\+[a-z0-9_]+)?://\S*", "a database URL such as sqlite:///~/routerpool.db")
_HOST: Final = Pattern(
    r"\*|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]",
    "the name of a host alone, such as llm.example.org, without https://, port and path",
)
_ORIGIN: Final = Pattern(
    r"\*|null|[a-z][a-z0-9+.-]*://[^/\sA-Z*?#@]+",
    "an origin as browsers send it, such as https://app.example: in small letters, with no slash or path at its end",
)
_HASH: Final = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")

Name = Annotated[str, NAME]
# The upper bounds are far beyond sense; they stop a slip of the hand before it becomes an overflow or a fork bomb.
_DRAIN_SECONDS: Final = 8.0 if os.getpid() == 1 else 30.0  # workers are forked from the one that has read this
WEEK: Final = 7 * 24 * 3600
MANY: Final = 1_000_000
Count = Annotated[int, Range(least=1, most=MANY)]
Seconds = Annotated[float, Range(above=0, most=WEEK)]
Bytes = Annotated[Size, Range(least=1, most=1 << 40)]
Weight = Annotated[float, Range(least=0, most=MANY)]


@frozen(kw_only=True)
class _KeyEntry:
    """An API key written as a mapping."""

    name: Annotated[str, _KEY_NAME] | None = field(
        default=None, metadata={"help": "What logs and usage call the key's owner"}
    )
    key: str | None = field(
        default=None, repr=False, metadata={"help": "The key, as ${NAME} of a variable that holds it"}
    )
    sha256: str | None = field(default=None, repr=False, metadata={"help": "The SHA-256 of the key, in hexadecimal"})
    profile: Name | None = field(default=None, metadata={"help": "The profile of requests that name none"})
    privacy: Privacy | None = field(default=None, metadata={"help": "The lowest privacy class of its requests"})


@frozen(kw_only=True)
class ApiKey:
    """A key that opens the server: only its SHA-256 is kept, in small hexadecimal letters, never the key."""

    name: str = field(metadata={"help": "What logs and usage call the key's owner"})
    sha256: str = field(repr=False, metadata={"help": "The SHA-256 of the key, in hexadecimal"})
    profile: str | None = field(default=None, metadata={"help": "The profile of requests that name none"})
    privacy: Privacy | None = field(default=None, metadata={"help": "The lowest privacy class of its requests"})

    @staticmethod
    def to_schema(describer: Describer) -> dict[str, Any]:
        """A text in one of its two forms, or a mapping."""
        text = {"type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$|[$][{]"}
        return {"anyOf": [text, describer.reference(_KeyEntry)]}


@converter.register_structure_hook
def _api_key(tree: Any, _: Any) -> ApiKey:
    """Read `${NAME}`, `sha256:HEX` or a mapping with one of the two."""
    if not isinstance(tree, str | Mapping):
        raise Refused(lambda path: f"expected ${{NAME}}, sha256:HEX or a mapping, got {describe(tree, path)}")
    section = tree if isinstance(tree, Mapping) else {"key": tree}
    entry = converter.structure(section, _KeyEntry)
    given = [kind for kind in ("key", "sha256") if section.get(kind) is not None]
    if len(given) != 1:
        raise Refused("a key needs either key: ${NAME} or sha256: HEX, and not both")
    below = given if isinstance(tree, Mapping) else []
    raw = section[given[0]]
    sha256 = _sha256(raw, given[0] == "key", below)
    name = entry.name or (raw.names[0] if isinstance(raw, EnvText) else f"key-{sha256[:8]}")
    return ApiKey(name=name, sha256=sha256, profile=entry.profile, privacy=entry.privacy)


def _sha256(raw: str, clear: bool, below: list[str]) -> str:
    """The hash that the configuration gives, or that of the key which a variable holds."""
    if not clear or raw.startswith("sha256:"):
        match = _HASH.fullmatch(raw)
        if match is None:
            what = "expected the 64 hexadecimal digits of a SHA-256; `printf %s KEY | sha256sum` prints them"
            raise Refused(what, *below)
        return match[1].lower()
    if not isinstance(raw, EnvText) or raw.defaulted:
        what = "a clear-text key must not stand in the file; write ${NAME} and set NAME, or sha256:HEX"
        raise Refused(what, *below)
    if not re.fullmatch(r"[!-~]+", raw):
        rule = "is no key: it must be ASCII without spaces, and not empty"
        raise Refused(lambda path: f"{describe(raw, path)} {rule}", *below)
    return hashlib.sha256(raw.encode()).hexdigest()


@frozen(kw_only=True)
class TlsConfig:
    """The server's certificate, where it speaks HTTPS itself."""

    cert: Path = field(metadata={"help": "The file with the certificate chain (PEM)"})
    key: Path = field(metadata={"help": "The file with the private key (PEM)"})


@frozen(kw_only=True)
class ServerConfig:
    """Where the server listens, and whom it lets in."""

    host: str = field(default="127.0.0.1", metadata={"help": "The address to listen on"})
    port: Annotated[int, Range(least=0, most=65535)] = field(
        default=4545, metadata={"help": "The TCP port; 0 takes a free one"}
    )
    base_path: Annotated[str, _BASE_PATH] = field(default="/", metadata={"help": "The prefix of every route"})
    workers: Annotated[int, Range(least=1, most=256)] = field(
        default=1, metadata={"help": "Processes that share the port"}
    )
    api_keys: tuple[ApiKey, ...] = field(
        default=(), metadata={"help": "Keys for requests; without any none is asked for"}
    )
    host_keys: tuple[ApiKey, ...] = field(
        default=(), metadata={"help": "Keys for hosts that forward by themselves and ask whom"}
    )
    admin_keys: tuple[ApiKey, ...] = field(default=(), metadata={"help": "Keys for what changes or shows the router"})
    allowed_hosts: tuple[Annotated[str, _HOST], ...] = field(
        default=(), metadata={"help": "Host names it answers to besides loopback"}
    )
    allowed_origins: tuple[Annotated[str, _ORIGIN], ...] = field(
        default=(), metadata={"help": "Web pages that may call it, as https://host"}
    )
    allow_unauthenticated: bool = field(
        default=False, metadata={"help": "Whether to listen beyond loopback without API keys"}
    )
    tls: TlsConfig | None = field(default=None, metadata={"help": "The certificate and its key, for HTTPS"})
    drain_seconds: Annotated[float, Range(least=0, most=WEEK)] | None = field(
        default=None,
        metadata={"help": "How long running answers may go on when the server stops: 30, or 8 as a container's PID 1"},
    )
    heartbeat_seconds: Annotated[float, Range(least=0, most=WEEK)] = field(
        default=0.0,
        metadata={"help": "Between comments to a stream that waits for its first event; 0 sends none"},
    )

    @property
    def keyless(self) -> bool:
        """Whether nobody is asked for a key."""
        return not (self.api_keys or self.host_keys or self.admin_keys)

    @property
    def drain(self) -> float:
        """The seconds of `drain_seconds`; docker kills what has not ended ten seconds after it was asked to."""
        return _DRAIN_SECONDS if self.drain_seconds is None else self.drain_seconds


@frozen(kw_only=True)
class LimitsConfig:
    """How long, how often, how much and how many at once. Providers, models and profiles may set some of them."""

    max_attempts: Count = field(default=6, metadata={"help": "Upstream requests for one request at most"})
    budget_seconds: Seconds = field(default=120.0, metadata={"help": "Until something is sent to the client"})
    connect_seconds: Seconds = field(default=10.0, metadata={"help": "Until a connection to a provider stands"})
    first_event_seconds: Seconds = field(default=60.0, metadata={"help": "Until a stream's first meaningful event"})
    idle_seconds: Seconds = field(default=60.0, metadata={"help": "Between two content events of a stream"})
    stream_seconds: Seconds = field(default=3600.0, metadata={"help": "For a whole stream, however lively it is"})
    plain_seconds: Seconds = field(
        default=110.0, metadata={"help": "For a whole plain answer while another candidate is left to be asked"}
    )
    answer_seconds: Seconds = field(
        default=600.0, metadata={"help": "For a whole plain answer where nobody else is left"}
    )
    report_seconds: Seconds = field(
        default=600.0, metadata={"help": "Until a host that forwards itself must have told how an attempt went"}
    )
    max_concurrent: Count = field(default=100, metadata={"help": "Requests at once before they are answered"})
    max_streams: Count = field(default=1000, metadata={"help": "Answers at once that are being sent"})
    max_waiting: Annotated[int, Range(least=0, most=MANY)] = field(
        default=200, metadata={"help": "Requests that may wait for a slot"}
    )
    queue_seconds: Seconds = field(default=30.0, metadata={"help": "How long a request may wait for a slot"})
    request_bytes: Bytes = field(default=Size(32 * MIB), metadata={"help": "The largest body of a request"})
    body_bytes: Bytes = field(
        default=Size(256 * MIB), metadata={"help": "Bodies of requests under way, of all callers of a worker"}
    )
    body_bytes_per_caller: Bytes = field(
        default=Size(64 * MIB), metadata={"help": "Bodies of requests under way, of one key or, without keys, address"}
    )
    body_rate: Bytes = field(
        default=Size(1 << 10), metadata={"help": "The least of a body that must come in a second, after 5 s"}
    )
    head_seconds: Seconds = field(default=10.0, metadata={"help": "Until the head of a request is here"})
    connections: Count | None = field(
        default=None, metadata={"help": "Clients' connections to a worker at once; null is 80 % of its descriptors"}
    )
    upstream_bytes: Bytes = field(default=Size(32 * MIB), metadata={"help": "The largest plain answer of a provider"})
    event_bytes: Bytes = field(default=Size(32 * MIB), metadata={"help": "The largest single event of a stream"})


@frozen(kw_only=True)
class PrivacyConfig:
    """Which requests may leave the machine."""

    default: Privacy = field(default=Privacy.PUBLIC, metadata={"help": "The class of a request that states none"})
    remote_allows: Privacy = field(
        default=Privacy.PUBLIC, metadata={"help": "The highest class that a remote provider may see"}
    )


@frozen(kw_only=True)
class _Switches:
    """The keys of every plugin's section that are the core's."""

    use: Name = field(metadata={"help": "The installed plugin, where the key is another name"})
    enabled: bool = field(default=True, metadata={"help": "Whether to import it at all"})
    required: bool | None = field(
        default=None, metadata={"help": "Whether requests are refused when it fails; null leaves it to the plugin"}
    )


@frozen(kw_only=True)
class PluginEntry(_Switches):
    """One entry of `plugins:`. Its options are still a raw tree: the plugin's own `Config` is their shape."""

    name: str = field(metadata={"internal": True, "help": "The instance's name, the key in YAML"})
    options: Mapping[str, Any] = field(
        factory=dict, repr=False, metadata={"internal": True, "help": "Everything else in the entry"}
    )
    line: int | None = field(default=None, metadata={"internal": True, "help": "Where the entry stands"})


class Plugins(tuple[PluginEntry, ...]):
    """The entries of `plugins:` in the order of the file, which is the order of calls."""

    __slots__ = ()

    @classmethod
    def salvaged(cls, tree: Any) -> Plugins:
        """The entries of a tree in which something is wrong, as far as they can be made.

        So that what is wrong in one does not hide what is wrong in the options of the others.
        """
        entries = []
        for name, section in tree.items() if isinstance(tree, Mapping) else ():
            with suppress(TypeError, ValueError):
                entries.append(_entry(name, section, lambda switches: salvaged(switches, _Switches)))
        return cls(entries)


@converter.register_structure_hook
def _plugins(tree: Any, _: Any) -> Plugins:
    """Read a mapping of names."""
    if not isinstance(tree, Mapping):
        cure = "write `name: {}` for each plugin"
        raise Refused(lambda path: f"expected a mapping, got {describe(tree, path)}; {cure}")
    entries = ((name, partial(_entry, name, section, _switches)) for name, section in tree.items())
    return Plugins(gathered(entries, Plugins))


def _switches(tree: Mapping[str, Any]) -> dict[str, Any]:
    return asdict(converter.structure(tree, _Switches))


def _entry(name: str, section: Any, read: Callable[[Mapping[str, Any]], dict[str, Any]]) -> PluginEntry:
    section = {} if section is None else section
    if wrong := NAME.check(name):
        raise Refused(wrong)
    if not isinstance(section, Mapping):
        cure = "write {} for no options"
        raise Refused(lambda path: f"expected a mapping, got {describe(section, path)}; {cure}")
    switches = {key: section[key] for key in keys_of(_Switches) if key in section}
    options = {key: value for key, value in section.items() if key not in switches}
    return PluginEntry(name=name, options=options, **read({"use": name} | switches))


@frozen(kw_only=True)
class Profile:
    """A way to choose: what is weighed, what is allowed, and what happens when it does not work out."""

    description: str = field(default="", metadata={"help": "What people read in lists"})
    weights: dict[str, Weight] = field(
        factory=dict,
        metadata={"help": "What a strategy counts, instead of its own weight; 0 leaves it unasked"},
    )
    models: tuple[str, ...] = field(default=(), metadata={"help": "Only these, in this order, before any score"})
    providers: tuple[str, ...] = field(default=(), metadata={"help": "Only these providers; empty means all"})
    privacy: Privacy = field(default=Privacy.PUBLIC, metadata={"help": "The lowest privacy class of its requests"})
    cost: Literal["free_first", "free_only", "budget", "quality"] = field(
        default="free_first", metadata={"help": "What an answer may cost; free_only and budget rule candidates out"}
    )
    budget_usd: Annotated[float, Range(above=0, most=MANY)] | None = field(
        default=None, metadata={"help": "The most that one request may cost, in US dollars; for cost: budget"}
    )
    tier: Tier | None = field(default=None, metadata={"help": "The strength class to prefer"})
    max_attempts: Count | None = field(default=None, metadata={"help": "Instead of limits.max_attempts"})
    too_large: Literal["pass", "next"] = field(
        default="pass", metadata={"help": "When a provider finds the prompt too long: pass that on, or try the next"}
    )
    buffer: bool = field(default=False, metadata={"help": "Whether a stream is held until it is whole and judged"})
    exact: Literal["strict", "first"] | None = field(default=None, metadata={"help": "Instead of the general exact"})
    settings: dict[str, Any] = field(
        factory=dict, metadata={"help": "What plugins do otherwise in this profile, by their names in `plugins`"}
    )

    def __attrs_post_init__(self) -> None:
        if self.cost == "budget" and self.budget_usd is None:
            raise ValueError("cost: budget needs budget_usd, the most that one request may cost")


BUILT_IN_PROFILES: Final[Mapping[str, Profile]] = {
    "auto": Profile(description="free before paid, local before remote; then the strongest free, the cheapest paid"),
    "free": Profile(description="free models only", cost="free_only"),
    "fast": Profile(description="small, quick models first", tier=Tier.FAST),
    "balanced": Profile(description="models of middle strength first", tier=Tier.BALANCED),
    "capable": Profile(description="the strongest models first", tier=Tier.CAPABLE),
    "private": Profile(description="nothing leaves the machines that may see private text", privacy=Privacy.PRIVATE),
}


@frozen(kw_only=True)
class Config:
    """The whole configuration, read and checked."""

    server: ServerConfig = field(default=ServerConfig(), metadata={"help": "Where it listens, and whom it lets in"})
    store: Annotated[str, _STORE] = field(
        default="sqlite:///~/.local/share/routerpool/routerpool.db",
        repr=False,
        metadata={"help": "The database's URL; ~ is the home directory"},
    )
    limits: LimitsConfig = field(default=LimitsConfig(), metadata={"help": "Times, counts and sizes"})
    privacy: PrivacyConfig = field(default=PrivacyConfig(), metadata={"help": "What may leave the machine"})
    plugins: Plugins = field(default=Plugins(), metadata={"help": "The plugins in use, in the order of their calls"})
    profiles: dict[Name, Profile] = field(
        factory=dict, metadata={"help": "Profiles by name, besides (or instead of) the built-in ones"}
    )
    default_profile: str = field(default="auto", metadata={"help": "The profile of a request that names none"})
    aliases: dict[str, str] = field(
        factory=dict, metadata={"help": "Model names, or globs of them, and what they stand for"}
    )
    exact: Literal["strict", "first"] = field(
        default="strict", metadata={"help": "A model named by its bare id: only that one, or that one first"}
    )
    unknown_model: str | None = field(
        default=None, metadata={"help": "The profile for unknown model names, instead of an error"}
    )
    response_model: Literal["served", "requested"] = field(
        default="served", metadata={"help": "Which model's name an answer carries"}
    )
    transparency: Literal["headers", "body", "none"] = field(
        default="headers", metadata={"help": "Where an answer says how it was routed"}
    )
    trust_env: bool = field(
        default=False, metadata={"help": "Whether providers elsewhere are asked by way of HTTPS_PROXY, past NO_PROXY"}
    )
    path: Path | None = field(
        default=None, metadata={"internal": True, "help": "The file that was read; None without one"}
    )
    document: Document = field(
        factory=Document, repr=False, eq=False, metadata={"internal": True, "help": "What was read, for its lines"}
    )
    env: Mapping[str, str] = field(
        factory=dict, repr=False, metadata={"internal": True, "help": "The environment, and below it that of .env"}
    )

    def alias(self, model: str) -> str:
        """What a name stands for: that of its alias, else of the first glob that takes it, else itself."""
        return self.aliases.get(model) or self.glob(model) or model

    def glob(self, model: str) -> str | None:
        """What the first glob among the aliases that matches this name stands for."""
        return next((aim for glob, aim in self.aliases.items() if fnmatch.fnmatchcase(model, glob)), None)
