"""The models of an Ollama server, on this machine, in the house, or in Ollama's cloud.

    plugins:
      ollama: {keep_alive: 30m}      # at $OLLAMA_BASE_URL or $OLLAMA_HOST, else http://127.0.0.1:11434
      box: {use: ollama, base_url: "http://box:11434", models: [{id: qwen3, num_ctx: 16384}]}

Chat goes through Ollama's OpenAI form, and the list of models comes from `/api/tags`. How long a model stays loaded,
with how much context, and Ollama's other options can be said only to its own `/api/chat`: a request that asks for them,
or for whose model they are set, is translated to that and its answer back; no other one is.

A model counts as local only once Ollama has said that it runs there: some run in the cloud behind the same address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import aiohttp
from attrs import evolve
from yarl import URL

from routerpool import Attempt, ChatRequest, Detected, Level, Model, OpenAIProvider, Probe, Report, hookimpl
from routerpool.protocols import Reply
from routerpool.providers import HttpReply, ReadReply, Settings, entries_of, read_all
from routerpool.wire import parsed, serialised
from routerpool_ollama.address import address_of, is_loopback
from routerpool_ollama.native import NativeStream, UntranslatableError, chat_body, completion, refusal
from routerpool_ollama.wishes import OllamaConfig, OllamaModel, Wishes

__all__ = ["Ollama", "OllamaConfig", "OllamaModel", "address_of"]

ANSWER_BYTES = 32 << 20
"""The longest plain answer of `/api/chat` that is translated."""

CAPABILITIES: Mapping[str, str] = {"tools": "tools", "vision": "vision", "thinking": "reasoning", "audio": "audio"}
"""Ollama's words for what a model can do, and ours."""


class Ollama(OpenAIProvider):
    """One Ollama server. It is local where its address is one of this machine or this network."""

    Config = OllamaConfig
    config: OllamaConfig
    data: ClassVar[str | None] = "ollama.yaml"
    local = free = True  # at its usual address; each server has its own
    refresh_seconds = 30.0
    address_variables = ("OLLAMA_HOST",)

    def __init__(self, config: OllamaConfig | None = None, *, name: str = "") -> None:
        config = config or OllamaConfig()
        self._usual = Wishes.of(config)
        told = [model for model in config.models or () if not isinstance(model, str)]
        self._wishes = {model.id: Wishes.of(model).over(self._usual) for model in told}
        super().__init__(config, name=name)

    def read_address(self, text: str) -> str:
        """An address as OLLAMA_HOST has it."""
        return f"{str(address_of(text)).removesuffix('/v1')}/v1"

    def models_in(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """OLLAMA_MODELS is no list of models: it tells Ollama in which folder to keep them."""
        return () if self.variable("MODELS") == "OLLAMA_MODELS" else super().models_in(env)

    def use(self, settings: Settings) -> None:
        """Prepare the way to its own API too."""
        super().use(settings)
        self._native = self.prepared(f"{self.root}/api/chat")

    # Chat

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Reply:
        """POST to the OpenAI form, or to `/api/chat` what only that can do."""
        model = attempt.candidate.model
        configured, asked = self.wishes_of(model.id), Wishes.asked_by(request.params)
        if not (configured or asked):
            return await super().send(attempt, request, session)

        def payload() -> bytes:
            return serialised(chat_body(self.adapt(self.body_of(request, model), model), configured, asked))

        try:
            body = await asyncio.to_thread(payload) if request.huge else payload()
        except UntranslatableError as error:
            return ReadReply(400, {"Content-Type": "application/json"}, refusal(error))
        upstream = HttpReply(await self._native.post(session, body))
        if upstream.status != 200:
            return upstream
        identity = f"chatcmpl-{request.id}"
        if request.stream:
            return NativeStream(upstream, identity)
        try:
            answer = await read_all(upstream, ANSWER_BYTES)
        finally:
            upstream.close()
        return ReadReply(200, upstream.headers, await completion(answer, identity))

    def wishes_of(self, model_id: str) -> Wishes:
        """What the configuration wants of Ollama's own, for this model."""
        return self._wishes.get(model_id, self._usual)

    # Models

    def roster(self) -> Sequence[Model]:
        """The models that the user named; none of them is local before Ollama has said so."""
        return [self._as_loaded(self._distant(model)) for model in super().roster()]

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """Ask for the pulled models; of those that the user named, learn what Ollama knows."""
        pulled = self.parse_models(await self.get(session, f"{self.root}/api/tags"))
        if self.settings.named is None:
            return [self._as_loaded(model) for model in pulled]
        by_name = {model.id.removesuffix(":latest"): model for model in pulled}
        pairs = [(model, by_name.get(model.id.removesuffix(":latest"))) for model in super().roster()]
        named = [evolve(there, id=model.id) if there else self._distant(model) for model, there in pairs]
        return [self._as_loaded(model) for model in named]

    def parse_models(self, payload: Any) -> list[Model]:
        """The models of an `/api/tags` answer, without those that only embed."""
        return [self._parsed(entry) for entry in entries_of(payload, "models", "data", name="name") if _chats(entry)]

    def _parsed(self, entry: Mapping[str, Any]) -> Model:
        name = entry["name"]
        model = self.model(name if self.knows(name) else name.removesuffix(":latest"))
        model = evolve(model, id=name)
        details = entry.get("details")
        window = details.get("context_length") if isinstance(details, dict) else None
        if model.context is None and type(window) is int and window > 0:
            model = evolve(model, context=window)
        claims = entry.get("capabilities")
        if isinstance(claims, list):
            told = {ours: theirs in claims for theirs, ours in CAPABILITIES.items()}
            model = evolve(model, capabilities={**told, **model.capabilities})
        if entry.get("remote_host") or _in_the_cloud(name):
            return self._distant(evolve(model, pools=frozenset(self.pools())))
        return model

    def _distant(self, model: Model) -> Model:
        """The model as one that runs elsewhere: neither local nor free of charge, unless the user says so."""
        free = bool(self.config.free)
        return evolve(model, local=False, free=free) if self.local else model

    def _as_loaded(self, model: Model) -> Model:
        """The model with the context that it is loaded with, where that is set, whatever it was trained for."""
        window = self.wishes_of(model.id).window
        return model if window is None else evolve(model, context=window)

    @property
    def root(self) -> str:
        """The address of Ollama's own API, beside its OpenAI form."""
        return (self.base_url or "").removesuffix("/v1")

    # What is here

    @hookimpl
    async def check(self, probe: Probe) -> list[Report]:  # type: ignore[override]  # a hook may be async
        """Tell doctor whether the server answers, and which version it is."""
        reports = [report for report in super().check(probe) if report.level > Level.OK]
        if self.idle() is None and (probe.network or is_loopback(URL(self.root))):
            version = await _version(self.root, probe.timeout)
            if version is None:
                text, cure = f"nothing answers at {self.root}", "start it with `ollama serve`, or set OLLAMA_HOST"
                reports.append(Report(level=Level.WARNING, text=text, cure=cure, subject=self.name))
            else:
                reports.append(Report(level=Level.OK, text=f"Ollama {version} at {self.root}", subject=self.name))
        return reports

    @hookimpl
    async def detect(self, probe: Probe) -> list[Detected]:  # type: ignore[override]  # a hook may be async
        """Look for a server where the environment says, else at Ollama's usual place on this machine."""
        variable = self.address_variable(probe.env)
        try:
            address = address_of(probe.env[variable] if variable else "")
        except ValueError:
            return []
        if variable and not probe.network and not is_loopback(address):
            source = f"{variable} is set"
            return [Detected(name=self.name, source=source, confidence=0.5, environment=(variable,))]
        address = URL(str(address).removesuffix("/v1"))
        version = await _version(str(address), probe.timeout / 2)
        if version is None:
            return []
        models = self.parse_models(await _document(f"{address}/api/tags", probe.timeout / 2))
        comment = f"{len(models)} models" if models else "no model is there yet: `ollama pull qwen3`"
        source, confidence = f"Ollama {version} at {address}", 1.0 if models else 0.3
        return [Detected(name=self.name, source=source, confidence=confidence, comment=comment)]


async def _version(root: str, seconds: float) -> str | None:
    told = await _document(f"{root}/api/version", seconds)
    version = told.get("version") if isinstance(told, dict) else None
    return version if isinstance(version, str) else None


async def _document(url: str, seconds: float) -> Any:
    """A JSON document, None where there is none: silence here means that nothing is there."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            return await parsed(await read_all(HttpReply(response), 1 << 20)) if response.status == 200 else None
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None


def _chats(entry: Mapping[str, Any]) -> bool:
    claims = entry.get("capabilities")
    return not isinstance(claims, list) or not claims or "completion" in claims


def _in_the_cloud(name: str) -> bool:
    return name.endswith(("-cloud", ":cloud"))
