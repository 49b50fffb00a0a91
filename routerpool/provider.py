"""Providers: the protocol that the engine speaks to them, and the OpenAI-compatible one that most of them are.

A provider plugin is usually a class with a few declarations, or a data file; `adapt`, `failure` and `parse_models`
are there for what differs.
"""

from __future__ import annotations

import inspect
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import aiohttp
from attrs import evolve, field, frozen
from multidict import CIMultiDict
from yarl import URL

from routerpool.connection import Target, fits_header
from routerpool.document import Problems, read
from routerpool.failures import Pattern, failure_of_answer
from routerpool.hookspecs import hookimpl
from routerpool.request import sent_body, serialised
from routerpool.resets import DEFAULT_SPECS, HeaderSpec
from routerpool.shape import structure
from routerpool.types import (
    Attempt,
    Candidate,
    ChatRequest,
    Detected,
    Failure,
    Level,
    Model,
    Prices,
    Privacy,
    Probe,
    Report,
    Tier,
)
from routerpool.upstream import HeardUpstream, HttpUpstream, Upstream, read_all
from routerpool.wire import loads

__all__ = [
    "ModelData",
    "OpenAIProvider",
    "Provider",
    "ProviderConfig",
    "ProviderData",
    "may_be_local",
    "may_see",
]


class Provider(Protocol):
    """What the core asks of a provider. One instance is one account at one address."""

    name: str
    local: bool
    refresh_seconds: float | None
    """How often `discover` is asked again; None when the roster does not change by itself."""

    def bind(self, env: Mapping[str, str]) -> None:
        """Take what the environment holds for it: keys, an address. Called once, before anything else."""

    def idle(self) -> str | None:
        """Why it cannot be used now, such as a missing key; None when it can."""

    def roster(self) -> Sequence[Model]:
        """The models it is known to have, without asking it."""

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """The models it says it has; may raise what the HTTP client raises."""

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Upstream:
        """Send the request and wait for the head of the answer; no redirect is followed, no failure retried."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer that is none means."""


@frozen(kw_only=True)
class ModelData:
    """A model as YAML tells it, in a data file or in a user's `models:` list."""

    id: str = field(metadata={"help": "the provider's own name of the model"})
    name: str | None = field(default=None, metadata={"help": "a name for people"})
    context: int | None = field(default=None, metadata={"help": "context window in tokens"})
    max_output: int | None = field(default=None, metadata={"help": "most tokens of one answer"})
    tier: Tier | None = field(default=None, metadata={"help": "strength class"})
    rank: int | None = field(default=None, metadata={"help": "order by strength, lower is stronger"})
    tags: tuple[str, ...] = field(default=(), metadata={"help": "free words for strategies"})
    capabilities: dict[str, bool] = field(factory=dict, metadata={"help": "claims: tools, vision, json_schema, …"})
    free: bool | None = field(default=None, metadata={"help": "whether it costs nothing on this account"})
    local: bool | None = field(default=None, metadata={"help": "whether prompts stay on this machine"})
    prices: Prices | None = field(default=None, metadata={"help": "US dollars per million tokens"})
    data_policy: Literal["unknown", "may_train", "no_training"] | None = field(
        default=None, metadata={"help": "what the provider may do with prompts"}
    )
    settings: dict[str, Any] = field(factory=dict, metadata={"help": "sections of other plugins, by plugin name"})


@frozen(kw_only=True)
class ProviderData:
    """What is known of a provider, in the YAML file beside its module: facts with a date and a source."""

    title: str = ""
    base_url: str | None = None
    api_key_env: tuple[str, ...] = ()
    key_page: str = ""
    terms: str = ""
    local: bool = False
    free: bool = False
    data_policy: Literal["unknown", "may_train", "no_training"] = "unknown"
    models: tuple[ModelData, ...] = ()
    resets: tuple[HeaderSpec, ...] = ()
    errors: tuple[Pattern, ...] = ()
    drop: tuple[str, ...] = ()
    date: str = ""
    source: str = ""


@frozen(kw_only=True)
class ProviderConfig:
    """The section of an OpenAI-compatible provider; what is left out comes from the plugin."""

    base_url: str | None = field(default=None, metadata={"help": "address of the API, up to and with /v1"})
    api_key_env: str | None = field(default=None, metadata={"help": "environment variable that holds the key"})
    models: tuple[str | ModelData, ...] | None = field(
        default=None, metadata={"help": "only these models, by id or as mappings"}
    )
    local: bool | None = field(default=None, metadata={"help": "prompts stay on this machine or network"})
    free: bool | None = field(default=None, metadata={"help": "its models cost nothing on this account"})
    data_policy: Literal["unknown", "may_train", "no_training"] | None = field(
        default=None, metadata={"help": "what the provider may do with prompts"}
    )
    headers: dict[str, str] = field(factory=dict, metadata={"help": "more headers for every request"}, repr=False)


class OpenAIProvider:
    """A provider that speaks OpenAI's chat completions. Derive from it and declare; it registers itself.

    `data` names a YAML file beside the module (see `ProviderData`); the other attributes win over it, and the user's
    section wins over both.
    """

    Config: ClassVar[type[ProviderConfig]] = ProviderConfig
    data: ClassVar[str | None] = None
    title: str = ""
    base_url: str | None = None
    api_key_env: str | Sequence[str] = ()
    local: bool = False
    free: bool = False
    models: Sequence[Model | str] = ()
    headers: Mapping[str, str] = {}
    patterns: Sequence[Pattern] = ()
    resets: Sequence[HeaderSpec] = ()
    drop: Sequence[str] = ()
    discovers: ClassVar[bool] = False
    refresh_seconds: float | None = None

    def __init__(self, config: ProviderConfig | None = None, *, name: str = "") -> None:
        config = config or self.Config()
        self.config = config
        self.name = name or type(self).__name__.lower()
        self._take_data()
        self.base_url = (config.base_url or self.base_url or "").rstrip("/")
        self.local = self.local if config.local is None else config.local
        self.free = self.free if config.free is None else config.free
        variables = config.api_key_env or self.api_key_env
        self.key_variables = (variables,) if isinstance(variables, str) else tuple(variables)
        self._key: str | None = None
        self._key_from: str | None = None
        self._unfit: str | None = None
        self._no_stream_options = False
        if not self.base_url:
            raise ValueError("`base_url` is missing; add the address of the API, such as http://127.0.0.1:9000/v1")
        self._check_address()
        self._set_address(self.base_url)
        self._roster = self._make_roster()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # What plugins override

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """The body as this provider wants it; `body` is a copy of the first level."""
        return body

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer that is none means; the data file's error forms come first."""
        specs = (*self.resets, *DEFAULT_SPECS)
        return failure_of_answer(self.name, status, headers, body, patterns=self.patterns, specs=specs)

    def parse_models(self, payload: Any) -> list[Model]:
        """The models of a `GET /models` answer; what the roster knows of them is kept."""
        entries = payload.get("data") if isinstance(payload, dict) else payload
        found = []
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                model = self.model(entry["id"].removeprefix("models/"))
                window = entry.get("context_window") or entry.get("context_length") or entry.get("max_model_len")
                if model.context is None and isinstance(window, int):
                    model = evolve(model, context=window)
                found.append(model)
        return found

    # What the core asks

    @hookimpl
    def register_providers(self) -> Iterable[Provider]:
        """A provider plugin brings itself."""
        return (self,)

    def bind(self, env: Mapping[str, str]) -> None:
        """Take the key from the first of its variables that is set."""
        for variable in self.key_variables:
            if env.get(variable):
                key = env[variable].strip()
                self._unfit = None if fits_header(key) else variable
                self._key, self._key_from = (None if self._unfit else key), variable
                break
        self._set_address(str(self.base_url))

    def idle(self) -> str | None:
        """A provider that wants a key and has none is idle."""
        if self._unfit is not None:
            return f"{self._unfit} holds a character that no header can carry, such as a line break"
        if self.key_variables and not self._key and not self.local:
            return f"{' or '.join(self.key_variables)} is not set"
        return None

    def roster(self) -> Sequence[Model]:
        """The models of the user's list, else of the plugin."""
        return self._roster

    def model(self, model_id: str) -> Model:
        """What the roster knows of a model, else a model with the provider's own defaults."""
        known = self._known.get(model_id)
        return known or Model(id=model_id, local=self.local, free=self.free, data_policy=self.data_policy)

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """Ask `GET /models`, unless the user has named the models."""
        if self.config.models is not None or not self.discovers:
            return self._roster
        return self.parse_models(await self.get(session, f"{self.base_url}/models"))

    async def get(self, session: aiohttp.ClientSession, url: str) -> Any:
        """GET one of the provider's own JSON documents, with its key, at most 8 MiB."""
        target = URL(url)
        if target.origin() != self._url.origin():
            raise ValueError(f"{self.name} may ask only its own address")
        async with session.get(target, headers=self._headers, allow_redirects=False) as response:
            response.raise_for_status()
            return loads(await read_all(HttpUpstream(response), 8 << 20))

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Upstream:
        """POST the adapted body to `/chat/completions`."""
        model = attempt.candidate.model
        body = sent_body(request, model.id)
        for name in self.drop:
            body.pop(name, None)
        if self._no_stream_options:
            body.pop("stream_options", None)
        upstream = HttpUpstream(await self._target.post(session, serialised(self.adapt(body, model))))
        if upstream.status not in (400, 422) or "stream_options" not in body or _asks_usage(request):
            return upstream
        # Our own wish for usage must not cost the client its answer: a server that refuses it is asked without.
        said = await read_all(upstream, 1 << 20)
        upstream.close()
        if b"stream_options" not in said:
            return HeardUpstream(upstream.status, upstream.headers, said)
        self._no_stream_options = True
        body.pop("stream_options")
        return HttpUpstream(await self._target.post(session, serialised(self.adapt(body, model))))

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """Tell doctor whether the key is there and the address is safe for it."""
        idle = self.idle()
        if idle:
            page = self._data.key_page
            cure = f"get a key at {page} and set it" if page else "set it, or take the plugin out of the config"
            yield Report(level=Level.NOTE, text=f"{self.name} is idle: {idle}", cure=cure, subject=self.name)
        else:
            source = f"key from {self._key_from}" if self._key else "needs no key"
            yield Report(level=Level.OK, text=f"{self.name}: {source}, {len(self._roster)} models", subject=self.name)
        if self._key and self._url.scheme == "http" and not self.local:
            yield Report(
                level=Level.WARNING,
                text=f"{self.name} sends its key unencrypted to {self._url.host}",
                cure="use an https:// base_url",
                subject=self.name,
            )

    @hookimpl
    def detect(self, probe: Probe) -> Iterable[Detected]:
        """A key in the environment is enough to propose this provider."""
        for variable in self.key_variables:
            if probe.env.get(variable):
                yield Detected(
                    name=self.name,
                    source=f"{variable} is set",
                    confidence=1.0,
                    environment=(variable,),
                    comment=self.title,
                )
                return

    # How it is made

    def _take_data(self) -> None:
        self._data = load_data(type(self), self.data) if self.data else ProviderData()
        data = self._data
        self.title = self.title or data.title
        self.base_url = self.base_url or data.base_url
        self.api_key_env = self.api_key_env or data.api_key_env
        self.local = self.local or data.local
        self.free = self.free or data.free
        self.data_policy = self.config.data_policy or data.data_policy
        self.patterns = (*self.patterns, *data.errors)
        self.resets = (*self.resets, *data.resets)
        self.drop = (*self.drop, *data.drop)

    def _check_address(self) -> None:
        url = URL(self.base_url or "")
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"`base_url` must be an http:// or https:// address, not {self.base_url!r}")
        if url.user or url.password or url.query_string:
            raise ValueError("`base_url` must not hold credentials or a query; name the key by `api_key_env`")
        if self.local and not may_be_local(url.host):
            raise ValueError(
                f"`local: true`, but {url.host} is a public address; a private request would leave the house"
            )

    def _set_address(self, base_url: str) -> None:
        self._url = URL(f"{base_url}/chat/completions")
        self._headers = self._make_headers()
        self._target = Target(self._url, self._headers)

    def _make_headers(self) -> CIMultiDict[str]:
        headers = CIMultiDict(
            {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "routerpool"}
        )
        headers.update(self.headers)
        headers.update(self.config.headers)
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _make_roster(self) -> tuple[Model, ...]:
        declared = [self.model_of(data) for data in self._data.models]
        declared += [entry if isinstance(entry, Model) else self.model_of(ModelData(id=entry)) for entry in self.models]
        self._known = {model.id: model for model in declared}
        if self.config.models is None:
            return tuple(declared)
        chosen = [
            self._known.get(entry) or self.model_of(ModelData(id=entry))
            if isinstance(entry, str)
            else self.model_of(entry, self._known.get(entry.id))
            for entry in self.config.models
        ]
        self._known |= {model.id: model for model in chosen}
        return tuple(chosen)

    def model_of(self, data: ModelData, known: Model | None = None) -> Model:
        """A Model of its YAML form, over what is known of it and the provider's own defaults."""
        known = known or Model(id=data.id, local=self.local, free=self.free, data_policy=self.data_policy)
        given: dict[str, Any] = {
            "display_name": data.name,
            "context": data.context,
            "max_output": data.max_output,
            "tier": data.tier,
            "rank": data.rank,
            "tags": frozenset(data.tags) or None,
            "capabilities": {**known.capabilities, **data.capabilities} or None,
            "free": data.free,
            "local": data.local if data.local is None else data.local and self.local,
            "prices": data.prices,
            "data_policy": data.data_policy,
            "settings": data.settings or None,
        }
        return evolve(known, **{name: value for name, value in given.items() if value is not None})


def _asks_usage(request: ChatRequest) -> bool:
    return bool((request.params.get("stream_options") or {}).get("include_usage"))


def may_see(provider: Provider, candidate: Candidate, privacy: Privacy, remote_allows: Privacy) -> bool:
    """Whether this candidate may be sent a request of this privacy class: the one place that decides it."""
    return (provider.local and candidate.model.local) or privacy <= remote_allows


def may_be_local(host: str) -> bool:
    """Whether an address can be on this machine or this network: loopback, private, link-local, or a short name."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        name = host.lower().rstrip(".")
        return "." not in name or name.endswith(
            (".localhost", ".local", ".lan", ".internal", ".home.arpa", ".intranet")
        )
    return address.is_loopback or address.is_private or address.is_link_local


def load_data(owner: type, name: str) -> ProviderData:
    """The data file `name` beside the module of `owner`; a defect in it is a ConfigError with its line."""
    path = Path(inspect.getfile(owner)).with_name(name)
    document = read(path)
    problems = Problems(document)
    data = structure(document.tree, ProviderData, (), problems)
    problems.raise_if_any()
    return data or ProviderData()
