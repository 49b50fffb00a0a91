"""The OpenAI-compatible provider, which most of them are.

A provider plugin is usually a class with a few declarations, or a data file; `adapt`, `failure` and `parse_models`
are there for what differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, ClassVar, Literal, NamedTuple

import aiohttp
from attrs import evolve, field, frozen
from multidict import CIMultiDict
from yarl import URL

from routerpool.hookspecs import hookimpl
from routerpool.privacy.guard import may_be_local
from routerpool.protocols import Provider, Reply
from routerpool.providers.connection import PreparedPost, fits_header
from routerpool.providers.data import DataPolicy, ModelData, Params, ProviderData, load_data
from routerpool.providers.failures import ErrorForm, failure_of_answer
from routerpool.providers.replies import HttpReply, ReadReply, read_all
from routerpool.providers.resets import DEFAULT_SPECS, HeaderSpec
from routerpool.types import (
    Attempt,
    ChatRequest,
    Detected,
    Failure,
    Level,
    Model,
    Pool,
    Probe,
    Report,
)
from routerpool.wire.json import loads
from routerpool.wire.request import sent_body, serialised

__all__ = [
    "ModelData",
    "OpenAIProvider",
    "Outgoing",
    "ProviderConfig",
]


ROSTER_SECONDS = 3600.0
"""How often a provider with a roster is asked which of it is left."""

OLD_DAYS = 180
"""From this age on doctor warns of a roster: the models of free tiers change with the seasons."""


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
    data_policy: DataPolicy | None = field(default=None, metadata={"help": "what the provider may do with prompts"})
    discover: Literal["roster", "all", "off"] | None = field(
        default=None,
        metadata={"help": "what its own list is for: to see who is left of the roster, all of it, or off"},
    )
    separate_account: bool = field(
        default=False, metadata={"help": "its key belongs to another account: no quota is shared with other instances"}
    )
    headers: dict[str, str] = field(factory=dict, metadata={"help": "more headers for every request"}, repr=False)


class Outgoing(NamedTuple):
    """What would be posted and where, for a host that posts it itself. The headers hold the provider's key."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Outgoing {self.url}>"


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
    errors: Sequence[ErrorForm] = ()
    resets: Sequence[HeaderSpec] = ()
    params: Params = Params()
    shared_quotas: Sequence[Pool] = ()
    models_at: str | None = None
    refresh_seconds: float | None = None

    def __init__(self, config: ProviderConfig | None = None, *, name: str = "") -> None:
        config = config or self.Config()
        self.config = config
        self.name = name or type(self).__name__.lower()
        self._take_data()
        self.base_url = (config.base_url or self.base_url or "").rstrip("/")
        self.local = self.local if config.local is None else config.local
        self.free = self.free if config.free is None else config.free
        self._settle()
        variables = config.api_key_env or self.api_key_env
        self.key_variables = (variables,) if isinstance(variables, str) else tuple(variables)
        self._key: str | None = None
        self._key_from: str | None = None
        self._unfit: str | None = None
        self._named = config.models
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
        failure = failure_of_answer(self.name, status, headers, body, forms=self.errors, specs=self._specs)
        if failure.answer is not None and self._key and self._key.encode() in failure.answer.body:
            hidden = failure.answer.body.replace(self._key.encode(), b"[key]")  # its own words may quote our key
            failure = evolve(failure, answer=evolve(failure.answer, body=hidden))
        return failure if failure.pool is None else evolve(failure, pool=self.pool_key(failure.pool))

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
        """Take the key from the first of its variables that is set, and `<NAME>_BASE_URL` and `<NAME>_MODELS`.

        What the user's section says goes before those two. A section `second: {use: groq}` reads `SECOND_…`.
        """
        self._take_overrides(env)
        for variable in self.key_variables:
            if env.get(variable):
                key = env[variable].strip()
                if not fits_header(key):
                    self._unfit = f"{variable} holds a character that no header can carry, such as a line break"
                    return
                self._key, self._key_from = key, variable
                break
        self._set_address(str(self.base_url))

    def idle(self) -> str | None:
        """A provider that wants a key and has none is idle."""
        if self._unfit is not None:
            return self._unfit
        if self.key_variables and not self._key and not self.local:
            return f"{' or '.join(self.key_variables)} is not set"
        return None

    def roster(self) -> Sequence[Model]:
        """The models of the user's list, else of the plugin."""
        return self._roster

    def pools(self) -> Mapping[str, Pool]:
        """The quotas of the data file and of `shared_quotas`."""
        return {self.pool_key(pool.name): pool for pool in self.shared_quotas}

    def model(self, model_id: str) -> Model:
        """What the roster knows of a model, else a model with the provider's own defaults."""
        return self._known.get(model_id) or self._unknown(model_id)

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """Ask its list of models, unless the user has named them: which of the roster still exist, or all there are.

        A list that has none of the roster is taken for a list of something else, and changes nothing.
        """
        wanted = self.discovery
        if wanted == "off" or self.models_at is None:
            return self._roster
        listed = self.parse_models(await self.get(session, self.list_address))
        if wanted == "all":
            return listed
        there = {model.id: model for model in listed}
        return [there[model.id] for model in self._roster if model.id in there] or self._roster

    @property
    def list_address(self) -> str:
        """Where its list of models is, whether it is asked for or not."""
        return str(URL(f"{self.base_url}/").join(URL(self.models_at or "models")))

    @property
    def discovery(self) -> Literal["roster", "all", "off"]:
        """What its own list is used for: all of it where no roster is known, else to see which of those are left."""
        if self._named or self.models_at is None:
            return "off"
        return self.config.discover or ("roster" if self._roster else "all")

    @property
    def prices_as(self) -> str:
        """The name by which price lists know this provider."""
        return self._data.prices_as or self.name

    def pool_key(self, pool: str) -> str:
        """The name of a shared quota over all instances of one account."""
        return f"{self.name if self.config.separate_account else self._account}::{pool}"

    async def get(self, session: aiohttp.ClientSession, url: str) -> Any:
        """GET one of the provider's own JSON documents, with its key, at most 8 MiB.

        A redirect, and an error or a bare value in place of a document, are no answer: whoever took one for a list
        would find it empty, and lose all models.
        """
        target = URL(url)
        if target.origin() != self._url.origin():
            raise ValueError(f"{self.name} may ask only its own address")
        async with session.get(target, headers=self._headers, allow_redirects=False) as response:
            response.raise_for_status()
            if response.status >= 300:
                raise aiohttp.ClientResponseError(
                    response.request_info, response.history, status=response.status, headers=response.headers
                )
            document = loads(await read_all(HttpReply(response), 8 << 20))
        if not isinstance(document, dict | list) or (isinstance(document, dict) and document.get("error")):
            raise ValueError("an error or a bare value in place of a document")
        return document

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Reply:
        """POST the adapted body to `/chat/completions`."""
        model = attempt.candidate.model
        body = self._body(request, model)
        said = self._session_line(attempt)
        upstream = HttpReply(await self._target.post(session, serialised(self.adapt(body, model)), said))
        if upstream.status not in (400, 422) or "stream_options" not in body or _asks_usage(request):
            return upstream
        # Our own wish for usage must not cost the client its answer: a server that refuses it is asked without.
        refusal = await read_all(upstream, 1 << 20)
        upstream.close()
        if b"stream_options" not in refusal:
            return ReadReply(upstream.status, upstream.headers, refusal)
        self._no_stream_options = True
        body.pop("stream_options")
        return HttpReply(await self._target.post(session, serialised(self.adapt(body, model)), said))

    def outgoing(self, attempt: Attempt, request: ChatRequest) -> Outgoing | None:
        """What `send` posts and where; None for a provider that sends in a way of its own."""
        if type(self).send is not OpenAIProvider.send:
            return None
        model = attempt.candidate.model
        headers = dict(self._headers)
        name, _, value = self._session_line(attempt).decode().strip().partition(": ")
        if name:
            headers[name] = value
        return Outgoing(url=str(self._url), headers=headers, body=self.adapt(self._body(request, model), model))

    def _body(self, request: ChatRequest, model: Model) -> dict[str, Any]:
        body = sent_body(request, model.id)
        self.params.apply(body)
        if self._no_stream_options:
            body.pop("stream_options", None)
        return body

    def _session_line(self, attempt: Attempt) -> bytes:
        """The header that keeps a conversation together there; our hash of it, never the client's own name for it."""
        name = self._data.session_header
        if name is None or name in self._headers:  # the user's own word goes before ours
            return b""
        return f"{name}: {attempt.features.session}\r\n".encode()

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
            if self._named is None and (days := _age(self._data.date)) > OLD_DAYS and self._roster:
                text = f"what {self.name} is known to have was written down on {self._data.date}, {days} days ago"
                cure = "update the plugin, or name its models in `models:`"
                yield Report(level=Level.WARNING, text=text, cure=cure, subject=self.name)
        if self._key and self._url.scheme == "http" and not self.local:
            yield Report(
                level=Level.WARNING,
                text=f"{self.name} sends its key unencrypted to {self._url.host}",
                cure="use an https:// base_url",
                subject=self.name,
            )

    @hookimpl
    def detect(self, probe: Probe) -> Iterable[Detected]:
        """A key in the environment is enough to propose this provider, unless it is an experiment."""
        if self._data.experimental:
            return
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
        kind = self.data.partition(".")[0] if self.data else self.name
        address = self.config.base_url or data.base_url or ""
        self._account = kind if address == data.base_url else f"{kind}@{URL(address).authority}"
        self.headers = {**data.headers, **self.headers}
        self.errors = (*self.errors, *data.errors)
        self.resets = (*self.resets, *data.resets)
        own = {spec.name for spec in self.resets}
        self._specs = (*self.resets, *(spec for spec in DEFAULT_SPECS if spec.name not in own))
        self.shared_quotas = (*self.shared_quotas, *data.pools)
        self.first_event_seconds = data.first_event_seconds
        self.params = self.params if data.params == Params() else data.params
        self.models_at = self.models_at or data.models_at
        if self.models_at is not None and self.refresh_seconds is None:
            self.refresh_seconds = ROSTER_SECONDS

    def _take_overrides(self, env: Mapping[str, str]) -> None:
        variable = f"{self._prefix}_BASE_URL"
        if self.config.base_url is None and env.get(variable):
            before, self.base_url = self.base_url, env[variable].strip().rstrip("/")
            try:
                self._settle()
                self._check_address()
            except ValueError as error:
                self.base_url, self._unfit = before, f"{variable} cannot be used: {error}"
            self._roster = self._make_roster()
        named = self.models_in(env)
        if self.config.models is None and named:
            self._named = named
            self._roster = self._make_roster()

    @property
    def _prefix(self) -> str:
        return re.sub(r"\W", "_", self.name).upper()

    def models_in(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """The models that the environment names, separated by commas."""
        return tuple(name.strip() for name in env.get(f"{self._prefix}_MODELS", "").split(",") if name.strip())

    def _settle(self) -> None:
        """What is local by nature is not so at a public address; who says himself that it is, is told instead."""
        host = URL(self.base_url or "").host
        if self.config.local is None and self.local and host and not may_be_local(host):
            self.local, self.free = False, bool(self.config.free)

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
        self._target = PreparedPost(self._url, self._headers)

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
        if self._named is None:
            return tuple(declared)
        chosen = [
            self._known.get(entry) or self.model_of(ModelData(id=entry))
            if isinstance(entry, str)
            else self.model_of(entry, self._known.get(entry.id))
            for entry in self._named
        ]
        self._known |= {model.id: model for model in chosen}
        return tuple(chosen)

    def _unknown(self, model_id: str) -> Model:
        """A model of which nothing is known but whose it is."""
        pools = self._pools_of(model_id)
        model = Model(id=model_id, local=self.local, free=self.free, data_policy=self.data_policy, pools=pools)
        for family in self._data.families:
            if family.holds(model_id):
                model = evolve(
                    model,
                    free=model.free if family.free is None else family.free,
                    data_policy=self.config.data_policy or family.data_policy or model.data_policy,
                    capabilities={**model.capabilities, **family.capabilities},
                    tags=model.tags | frozenset(family.tags),
                )
        return model

    def _pools_of(self, model_id: str) -> frozenset[str]:
        return frozenset(self.pool_key(pool.name) for pool in self.shared_quotas if pool.holds(model_id))

    def model_of(self, data: ModelData, known: Model | None = None) -> Model:
        """A Model of its YAML form, over what is known of it and the provider's own defaults."""
        known = known or self._unknown(data.id)
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
            "pools": self._pools_of(data.id) or None,
        }
        return evolve(known, **{name: value for name, value in given.items() if value is not None})


def _age(day: str) -> int:
    """Days since a date such as 2026-07-18; 0 for what is none."""
    try:
        return (datetime.now(UTC).date() - date.fromisoformat(day)).days
    except ValueError:
        return 0


def _asks_usage(request: ChatRequest) -> bool:
    return bool((request.params.get("stream_options") or {}).get("include_usage"))
