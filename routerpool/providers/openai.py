"""The OpenAI-compatible provider, which most of them are.

A provider plugin is usually a class with a few declarations, or a data file; `adapt`, `failure` and `parse_models`
are there for what differs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import aiohttp
from attrs import evolve
from yarl import URL

from routerpool.hookspecs import hookimpl
from routerpool.protocols import Provider, Reply
from routerpool.providers.checkup import findings
from routerpool.providers.connection import PreparedPost
from routerpool.providers.data import SYNONYMS, ProviderData, leave_out, load_data
from routerpool.providers.failures import failure_of_answer, refused_fields
from routerpool.providers.replies import HttpReply, read_document
from routerpool.providers.roster import Roster, listed
from routerpool.providers.settings import Declarations, ProviderConfig, Settings, facts_of, settle
from routerpool.types import Attempt, ChatRequest, Detected, Failure, Model, Pool, Probe, Report
from routerpool.wire.mask import Mask
from routerpool.wire.request import sent_body, serialised

__all__ = ["OpenAIProvider", "Outgoing", "is_complete"]

ROSTER_SECONDS = 3600.0
"""How often a provider with a roster is asked which of it is left."""

_no_word = re.compile(r"\W")


class Outgoing(NamedTuple):
    """What would be posted and where, for a host that posts it itself. The headers hold the provider's key."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Outgoing {self.url}>"


class OpenAIProvider(Declarations):
    """A provider that speaks OpenAI's chat completions. Derive from it and declare; it registers itself.

    What it declares is told at `Declarations`. A word of the class goes before the data file's, the user's section
    before both, and where that says nothing, the environment: `<NAME>_BASE_URL`, `<NAME>_MODELS`.

    Override what differs. On the wire: `adapt`, `failure`, `parse_models`, `key_headers`; where that is not enough,
    `send` and `discover`. At the start: `read_address` and `models_in` read the environment, `settle` has the last word
    on the settings, `use` makes what hangs on them.

    Read, and do not set: `config`, the user's section; `facts`, what class and file say; `settings`, what holds now,
    with the key; `chat_url` and `request_headers`, where chat is posted and what goes with every request. `local`,
    `free` and `base_url` of an instance are those of its settings.
    """

    Config: ClassVar[type[ProviderConfig]] = ProviderConfig
    refresh_seconds: float | None = None

    def __init__(self, config: ProviderConfig | None = None, *, name: str = "") -> None:
        self.config = config or self.Config()
        self.name = name or type(self).__name__.lower()
        self.facts = facts_of(self, load_data(type(self), self.data) if self.data else ProviderData())
        self.first_event_seconds = self.facts.first_event_seconds
        if self.facts.models_at is not None and self.refresh_seconds is None:
            self.refresh_seconds = ROSTER_SECONDS
        self._refused: frozenset[str] = frozenset()
        settings = self.settle({})
        if settings.wrong is not None:
            raise ValueError(settings.wrong)
        self.use(settings)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # What plugins override

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """The body as this provider wants it; `body` is a copy of the first level."""
        return body

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer that is none means; the data file's error forms come first."""
        failure = failure_of_answer(
            self.name, status, headers, body, forms=self.facts.errors, specs=self.facts.resets, key=self.settings.key
        )
        if failure.again:
            refused = refused_fields(status, body)
            self._refused = self._refused - {SYNONYMS.get(name) for name in refused} | refused
        return failure if failure.pool is None else evolve(failure, pool=self.pool_key(failure.pool))

    def parse_models(self, payload: Any) -> list[Model]:
        """The models of a `GET /models` answer; what the roster knows of them is kept. See `entries_of`."""
        return listed(payload, self.model)

    def key_headers(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key."""
        return {"Authorization": f"Bearer {key}"}

    def read_address(self, text: str) -> str:
        """The `base_url` that a variable's value means; a ValueError says why it means none."""
        return text

    def models_in(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """The models that the environment names, separated by commas."""
        return tuple(name.strip() for name in env.get(self.variable("MODELS"), "").split(",") if name.strip())

    def settle(self, env: Mapping[str, str]) -> Settings:
        """What holds in this environment. It changes nothing; `bind` and the construction use what it answers."""
        account = self.data.partition(".")[0] if self.data and not self.config.separate_account else self.name
        return settle(
            self.facts,
            self.config,
            env,
            account=account,
            models=tuple(self.models),
            named=self.models_in(env),
            address=self.address_variable(env),
            read=self.read_address,
        )

    def use(self, settings: Settings) -> None:
        """Let these settings hold from now on, and make anew all that hangs on them."""
        self.settings = settings
        self.base_url, self.local, self.free = settings.base_url, settings.local, settings.free
        self.chat_url = URL(f"{settings.base_url}/{self.path}")
        self.request_headers = settings.headers.copy()
        if settings.key:
            self.request_headers.update(self.key_headers(settings.key))
        self.mask = Mask.of(settings.key)
        session_header = self.facts.session_header  # the user's own word goes before ours
        self._session_header = session_header if session_header not in settings.headers else None
        self._roster = Roster(self.facts, settings)
        self._chat = self.prepared(str(self.chat_url))

    # What the core asks

    @hookimpl
    def register_providers(self) -> Iterable[Provider]:
        """A provider plugin brings itself."""
        return (self,)

    def bind(self, env: Mapping[str, str]) -> None:
        """Take the key from the first of its variables that is set, and `<NAME>_BASE_URL` and `<NAME>_MODELS`.

        What the user's section says goes before those two. A section `second: {use: groq}` reads `SECOND_…`.
        """
        self.use(self.settle(env))

    def idle(self) -> str | None:
        """A provider that wants a key and has none is idle."""
        if (settings := self.settings).unfit is not None:
            return settings.unfit
        if settings.key_variables and not settings.key and not settings.local:
            return f"{' or '.join(settings.key_variables)} is not set"
        return None

    def roster(self) -> Sequence[Model]:
        """The models of the user's list, else of the plugin."""
        return self._roster.models

    def pools(self) -> Mapping[str, Pool]:
        """The quotas of the data file and of `shared_quotas`."""
        return self._roster.pools

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """Ask its list of models, unless the user has named them: which of the roster still exist, or all there are.

        A list that has none of the roster is taken for a list of something else, and changes nothing.
        """
        if self.discovery == "off":
            return self._roster.models
        models = await self.listing(session)
        if self.discovery == "all":
            return models
        by_id = {model.id: model for model in models}
        return [by_id[model.id] for model in self._roster.models if model.id in by_id] or self._roster.models

    async def listing(self, session: aiohttp.ClientSession) -> list[Model]:
        """All models of its own list, which is asked for; what is no list raises, as `read_document` says."""
        return self.parse_models(await self.get(session, self.list_address))

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Reply:
        """POST the adapted body to `chat_url`."""
        model = attempt.candidate.model
        line = self._session_line(attempt)
        given = self, request, model
        payload = await asyncio.to_thread(_payload, *given) if request.huge else _payload(*given)
        return HttpReply(await self._chat.post(session, payload, line))

    # What plugins and hosts may ask

    def variable(self, what: str) -> str:
        """The environment's name for a thing of this instance: `GROQ_BASE_URL` for the `BASE_URL` of `groq`."""
        return f"{_no_word.sub('_', self.name).upper()}_{what}"

    def address_variable(self, env: Mapping[str, str]) -> str | None:
        """The variable of this environment that says where it is, if one does."""
        return next((n for n in (self.variable("BASE_URL"), *self.address_variables) if env.get(n, "").strip()), None)

    def model(self, model_id: str) -> Model:
        """What the roster knows of a model, else a model with the provider's own defaults."""
        return self._roster.model(model_id)

    def knows(self, model_id: str) -> bool:
        """Whether somebody has listed this model: the data file, the class or the user."""
        return model_id in self._roster

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The variables of the environment that may hold its key."""
        return self.settings.key_variables

    @property
    def list_address(self) -> str:
        """Where its list of models is, whether it is asked for or not."""
        return str(URL(f"{self.base_url}/").join(URL(self.facts.models_at or "models")))

    @property
    def discovery(self) -> Literal["roster", "all", "off"]:
        """What its own list is used for: all of it where no roster is known, else to see which of those are left."""
        if self.settings.named or self.facts.models_at is None:
            return "off"
        return self.config.discover or ("roster" if self._roster.models else "all")

    @property
    def prices_as(self) -> str:
        """The name by which price lists know this provider."""
        return self.facts.prices_as or self.name

    def pool_key(self, pool: str) -> str:
        """The name of a shared quota over all instances of one account."""
        return f"{self.settings.account}::{pool}"

    async def get(self, session: aiohttp.ClientSession, url: str) -> Any:
        """GET one of the provider's own JSON documents, with its key, as `read_document` reads it."""
        target = URL(url)
        if target.origin() != self.chat_url.origin():
            raise ValueError(f"{self.name} may ask only its own address")
        way = self.settings.way
        async with session.get(target, headers=self.request_headers, allow_redirects=False, **way) as response:
            return await read_document(response)

    def prepared(self, url: str) -> PreparedPost:
        """A POST to another of its addresses, with its headers; make it in `use`, and use it often."""
        return PreparedPost(URL(url), self.request_headers, **self.settings.way)

    def body_of(self, request: ChatRequest, model: Model) -> dict[str, Any]:
        """The body of a request as `adapt` gets it, with the parameters that this provider takes."""
        body = sent_body(request, model.id)
        self.facts.params.apply(body)
        if model.max_output is not None:
            _clamp(body, model.max_output)
        if self._refused:
            leave_out(body, self._refused)
        return body

    def outgoing(self, attempt: Attempt, request: ChatRequest) -> Outgoing | None:
        """What `send` posts and where; None for a provider that sends in a way of its own."""
        if type(self).send is not OpenAIProvider.send:
            return None
        model = attempt.candidate.model
        headers = dict(self.request_headers)
        if self._session_header is not None:
            headers[self._session_header] = attempt.features.session
        return Outgoing(str(self.chat_url), headers, self.adapt(self.body_of(request, model), model))

    def _session_line(self, attempt: Attempt) -> bytes:
        """The header that keeps a conversation together there; our hash of it, never the client's own name for it."""
        name = self._session_header
        return b"" if name is None else f"{name}: {attempt.features.session}\r\n".encode()

    # What people ask

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """Tell doctor whether the key is there and the address is safe for it."""
        return findings(
            self.name, self.idle(), self.facts, self.settings, self._roster.models, placed=self.config.local is not None
        )

    @hookimpl
    def detect(self, probe: Probe) -> Iterable[Detected]:
        """A key in the environment is enough to propose this provider, unless it is an experiment."""
        variable = next((name for name in self.key_variables if probe.env.get(name)), None)
        if variable is not None and not self.facts.experimental:
            source, words = f"{variable} is set", self.facts.title
            yield Detected(name=self.name, source=source, confidence=1.0, environment=(variable,), comment=words)


def _payload(provider: OpenAIProvider, request: ChatRequest, model: Model) -> bytes:
    """The body as it is sent; of a heavy request it is made in a thread."""
    return serialised(provider.adapt(provider.body_of(request, model), model))


def is_complete(provider: Provider) -> bool:
    """Whether a provider has no models but those of its roster, whatever its own list says."""
    if not isinstance(provider, OpenAIProvider):
        return provider.refresh_seconds is None
    return provider.settings.named is not None or (bool(provider._roster.models) and provider.discovery != "all")


def _clamp(body: dict[str, Any], most: int) -> None:
    """Cut what a client allows an answer to what the model can give: servers refuse the request for more."""
    for name in SYNONYMS:
        asked = body.get(name)
        if type(asked) is int and asked > most:
            body[name] = most
