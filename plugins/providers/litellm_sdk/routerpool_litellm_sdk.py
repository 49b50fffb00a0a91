"""Whatever LiteLLM's SDK reaches, as one provider: Bedrock, Vertex, Azure, watsonx and many more.

    plugins:
      litellm_sdk: {models: ["bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", "azure/my-deployment"]}
      lab: {use: litellm_sdk, models: ["openai/m1"], api_base: "http://127.0.0.1:9000/v1", local: true}

It needs LiteLLM itself, which is large: pip install "routerpool-litellm-sdk[sdk]". It is imported when the router
starts, on a thread. Models are named as LiteLLM names them. Keys are those that LiteLLM finds in the environment of the
process (`AWS_ACCESS_KEY_ID`, `AZURE_API_KEY`, …); a `.env` file beside the config is not read for them. What is left of
LiteLLM is its translation: it retries nothing, falls back to nobody, logs nothing and asks nobody for prices.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import aiohttp
from attrs import evolve, field, frozen
from yarl import URL

from routerpool import (
    Attempt,
    ChatRequest,
    Failure,
    FailureKind,
    Level,
    Model,
    ModelData,
    Pool,
    Prices,
    Probe,
    Provider,
    Report,
    hookimpl,
)
from routerpool.privacy import may_be_local
from routerpool.protocols import Reply
from routerpool.providers import DataPolicy, ErrorForm, ReadReply, failure_of_answer
from routerpool.wire import DONE, dumps, event_bytes, loads, sent_body

if TYPE_CHECKING:
    from routerpool import Router

__all__ = ["LiteLLM", "LiteLLMConfig"]

MISSING = "the package litellm is not installed"
CURE = 'install it: pip install "routerpool-litellm-sdk[sdk]"'
JSON = {"Content-Type": "application/json"}
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
CAUSES = 16
SECRET = re.compile(r"key|secret|token|credential|password", re.IGNORECASE)

PASSED = frozenset(
    (
        *("messages", "stream", "stream_options", "temperature", "top_p", "top_k", "n", "stop", "seed", "user"),
        *("max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty", "logit_bias"),
        *("logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("response_format", "reasoning_effort", "thinking", "verbosity", "modalities", "audio", "prediction"),
        *("web_search_options", "service_tier", "safety_identifier", "prompt_cache_key"),
    )
)
"""What a request may say. Any other argument is left out: of LiteLLM's own, many say where a request or a key goes."""

HONOURS_API_BASE = ("openai/", "hosted_vllm/", "lm_studio/", "llamafile/", "ollama/", "ollama_chat/", "litellm_proxy/")
"""Beginnings of models that are asked at `api_base` and nowhere else; only these can be local."""

NEEDS: Mapping[str, str] = {"tools": "tools", "functions": "tools", "web_search_options": "web_search"}
"""Parameters without which an answer is another one: where LiteLLM would drop them, the model is not asked."""

CLAIMS: Mapping[str, str] = {
    "tools": "supports_function_calling",
    "vision": "supports_vision",
    "json_schema": "supports_response_schema",
    "reasoning": "supports_reasoning",
    "web_search": "supports_web_search",
}

FORMS = (
    ErrorForm(kind=FailureKind.CONNECT, match=r"^\d* ?ConnectError "),
    ErrorForm(kind=FailureKind.SERVER, match=r"^\d* ?APIConnectionError "),
    ErrorForm(kind=FailureKind.TOO_LARGE, match=r"^\d* ?ContextWindowExceededError "),
    ErrorForm(kind=FailureKind.CONTENT_FILTER, match=r"^\d* ?ContentPolicyViolationError "),
    ErrorForm(kind=FailureKind.CREDIT, match=r"^\d* ?(?:PaymentRequiredError|BudgetExceededError) "),
    ErrorForm(kind=FailureKind.TIMEOUT, match=r"^\d* ?Timeout "),
    # Of a model that LiteLLM does not know how to ask: another candidate may do it.
    ErrorForm(kind=FailureKind.UNAVAILABLE, match=r"^\d* ?UnsupportedParamsError ", retry_after=0.0),
    *(
        ErrorForm(kind=FailureKind.UNAVAILABLE, match=rf"^\d* ?Lacks {need}\b", retry_after=0.0, lacks=need)
        for need in dict.fromkeys(NEEDS.values())
    ),
    ErrorForm(kind=FailureKind.MISSING_MODEL, match=r"LLM Provider NOT provided"),
)
"""LiteLLM's exceptions by name, where their status does not tell all."""


@frozen(kw_only=True)
class LiteLLMConfig:
    """The section of a LiteLLM provider."""

    models: tuple[str | ModelData, ...] = field(
        default=(), metadata={"help": "models by LiteLLM's names, such as bedrock/…, or as mappings"}
    )
    api_base: str | None = field(default=None, metadata={"help": "address of the API, where it is not LiteLLM's own"})
    options: dict[str, Any] = field(
        factory=dict, metadata={"help": "more arguments for LiteLLM, such as aws_region_name; no keys"}
    )
    local: bool = field(default=False, metadata={"help": "prompts stay on this machine or network"})
    free: bool = field(default=False, metadata={"help": "its models cost nothing on this account"})
    data_policy: DataPolicy = field(default="unknown", metadata={"help": "what the provider may do with prompts"})


class LiteLLM:
    """LiteLLM's SDK in this process. One instance may ask many vendors; each key is LiteLLM's to find."""

    Config = LiteLLMConfig
    refresh_seconds: float | None = 24 * 3600.0

    def __init__(self, config: LiteLLMConfig | None = None, *, name: str = "litellm_sdk") -> None:
        self.config = config or LiteLLMConfig()
        self.name = name
        self.local = self.config.local
        if secret := next((key for key in self.config.options if SECRET.search(key)), None):
            raise ValueError(f"`options.{secret}`: keys come from the environment only, by the names LiteLLM knows")
        if self.local and not may_be_local(URL(self.config.api_base or "https://vendor.example").host or ""):
            raise ValueError("`local: true` needs an `api_base` on this machine or network")
        self._roster = tuple(self._model(entry) for entry in self.config.models)
        self._sdk: Any = None
        self._loading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<LiteLLM {self.name}>"

    # What the core asks

    @hookimpl
    def register_providers(self) -> Iterable[Provider]:
        """It brings itself."""
        return (self,)

    def bind(self, env: Mapping[str, str]) -> None:
        """LiteLLM reads its keys from the process's environment by itself."""

    def idle(self) -> str | None:
        """Idle without the package, and without a model."""
        if self._sdk is None and find_spec("litellm") is None:
            return f"{MISSING}; {CURE}"
        return None if self._roster else "it has no `models`"

    def roster(self) -> Sequence[Model]:
        """The models that the user named."""
        return self._roster

    def pools(self) -> Mapping[str, Pool]:
        """None is known: each vendor has its own."""
        return {}

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """The same models, with what LiteLLM's own table of models knows of them; nobody is asked."""
        table = (await self._loaded()).model_cost
        return [_with_facts(model, table) for model in self._roster]

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        """Import LiteLLM before the first request needs it, and close what it has left open."""
        if self.idle() is not None:
            yield
            return
        if self.local:
            _spare(URL(self.config.api_base or "").host or "")
        sdk = await self._loaded()
        ours = _open(sdk)
        try:
            yield
        finally:
            await asyncio.gather(*self._closing, return_exceptions=True)
            await _close(sdk, ours)

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Reply:
        """Ask through `litellm.acompletion`; what it raises becomes an answer with a bad status."""
        sdk = await self._loaded()
        model = attempt.candidate.model
        body = sent_body(request, model.id)
        able = sdk.get_supported_openai_params(model=model.id)
        for name, need in NEEDS.items():
            if body.get(name) and able is not None and name not in able:
                return _refusal(400, f"Lacks {need}", "the model cannot use it, as far as LiteLLM knows")
        try:
            answer = await sdk.acompletion(**self._arguments(body))
        except Exception as error:  # LiteLLM raises its vendors' exceptions and its own, of a dozen families
            return _refused(error)
        return StreamedAnswer(answer, self._closing) if request.stream else _plain(answer)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What one of LiteLLM's exceptions means."""
        return failure_of_answer(self.name, status, headers, body, forms=FORMS)

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """Tell doctor whether LiteLLM is there, and how many models it is asked for."""
        if find_spec("litellm") is None:
            yield Report(level=Level.NOTE, text=f"{self.name} is idle: {MISSING}", cure=CURE, subject=self.name)
        elif not self._roster:
            cure = "name them as LiteLLM does: models: [bedrock/…]"
            yield Report(level=Level.NOTE, text=f"{self.name} has no models", cure=cure, subject=self.name)
        else:
            text = f"{self.name}: LiteLLM {_version()}, {len(self._roster)} models"
            yield Report(level=Level.OK, text=text, subject=self.name)

    # How it asks

    async def _loaded(self) -> Any:
        """The SDK, imported on a thread the first time: that takes seconds."""
        if self._sdk is None:
            async with self._loading:
                self._sdk = self._sdk or await asyncio.to_thread(_load)
        return self._sdk

    def _arguments(self, body: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {name: value for name, value in body.items() if name in PASSED}
        arguments |= self.config.options
        if self.config.api_base is not None:
            arguments["api_base"] = self.config.api_base
        quiet = {"num_retries": 0, "max_retries": 0, "drop_params": True, "no-log": True, "caching": False}
        return {**arguments, **quiet, "model": body["model"]}

    def _model(self, entry: str | ModelData) -> Model:
        told = ModelData(id=entry) if isinstance(entry, str) else entry
        return Model(
            id=told.id,
            display_name=told.name,
            context=told.context,
            max_output=told.max_output,
            tier=told.tier,
            rank=told.rank,
            tags=frozenset(told.tags),
            capabilities=told.capabilities,
            free=self.config.free if told.free is None else told.free,
            local=self.local and told.local is not False and told.id.startswith(HONOURS_API_BASE),
            prices=told.prices or Prices(),
            data_policy=told.data_policy or self.config.data_policy,
            settings=told.settings,
        )


class StreamedAnswer:
    """A stream of LiteLLM's as events. It ends with `[DONE]` only where the vendor has said why it ended."""

    def __init__(self, stream: Any, closing: set[asyncio.Task[None]]) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {"Content-Type": "text/event-stream"}
        self._stream: Any = stream
        self._closing = closing
        self._ended = False

    async def chunk(self) -> bytes:
        """The next event; b"" at the end."""
        while not self._ended:
            try:
                event = _bare(await anext(self._stream))
            except StopAsyncIteration:
                self._ended = True
                return DONE
            except Exception as error:  # as in `send`
                self._ended = True
                return b"data: " + _refused(error).body + b"\n\n"
            choices = event.get("choices")
            if any(choice.get("finish_reason") for choice in choices or ()) and not self._was_told_why():
                self._ended = True  # LiteLLM makes up a `stop` for a stream that just ends
                return b""
            if event.get("usage") and not any(c.get("delta") or c.get("finish_reason") for c in choices or ()):
                choices = []  # the chunk of usage, which has a choice here and none at OpenAI
            if choices or event.get("usage"):
                return event_bytes({**event, "choices": choices or []})
        return b""

    def _was_told_why(self) -> bool:
        told = getattr(self._stream, "received_finish_reason", "stop")
        return bool(told or getattr(self._stream, "intermittent_finish_reason", None))

    def close(self) -> None:
        """Cut the connection behind the stream; the provider waits for that at its own end."""
        stream, self._stream, self._ended = self._stream, None, True
        if stream is not None:
            task = asyncio.ensure_future(_aclose(stream))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class Refusal(ReadReply):
    """An exception as an answer with a bad status."""

    __slots__ = ("body",)

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status, headers, body)
        self.body = body


def _refused(error: Exception) -> Refusal:
    """The answer that LiteLLM's exception stands for, with the vendor's headers where it has kept them."""
    inner = getattr(error, "original_exception", None)
    if type(error).__name__ == "MidStreamFallbackError" and isinstance(inner, Exception):
        error = inner
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) and 400 <= status < 600 else 500
    told = getattr(error, "litellm_response_headers", None) or getattr(getattr(error, "response", None), "headers", {})
    causes = _causes(error)
    name = "ConnectError" if any(type(cause).__name__ == "ConnectError" for cause in causes) else type(error).__name__
    codes = [code for cause in causes if isinstance(code := getattr(cause, "code", None), str)]
    return _refusal(status, name, " ".join([str(error), *dict.fromkeys(codes)]), dict(told))


def _causes(error: BaseException | None) -> list[BaseException]:
    """An exception and those behind it: LiteLLM keeps the vendor's own code in none of its own."""
    causes: list[BaseException] = []
    while error is not None and len(causes) < CAUSES:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _refusal(status: int, name: str, words: str, headers: Mapping[str, str] = JSON) -> Refusal:
    told = {"message": words, "type": name, "param": None, "code": status}
    return Refusal(status, {**headers, **JSON}, dumps({"error": told}))


def _plain(answer: Any) -> ReadReply:
    body = _bare(answer)
    for choice in body.get("choices") or ():
        if isinstance(choice.get("message"), dict):
            choice["message"].setdefault("content", None)
    return ReadReply(200, JSON, dumps(body))


def _bare(value: Any) -> dict[str, Any]:
    """One of LiteLLM's answers as plain JSON, through its own encoder: it holds objects that no other one knows."""
    told: dict[str, Any] = loads(value.model_dump_json(exclude_none=True).encode())
    return told


# LiteLLM itself


def _load() -> Any:
    """Import LiteLLM without its network and its words. Where the host has it already, its settings are the host's."""
    first = "litellm" not in sys.modules
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import asks GitHub for prices
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # else it reads a .env of the working directory
    sdk: Any = importlib.import_module("litellm")
    if first:
        sdk.suppress_debug_info = True
        sdk.turn_off_message_logging = True
        sdk.disable_streaming_logging = True
        sdk.telemetry = False
        for name in LOGGERS:
            logging.getLogger(name).disabled = True
    return sdk


def _spare(host: str) -> None:
    """Let no client of LiteLLM's ask a proxy for this host: what is local stays so, whatever the environment says.

    They read these variables when they are made; there is no argument that reaches all of them.
    """
    shown = f"[{host}]" if ":" in host else host
    spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if shown not in (known := [name.strip() for name in spared.split(",") if name.strip()]):
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join([*known, shown])


def _open(sdk: Any) -> Any:
    """A client for the vendors that speak OpenAI's format: LiteLLM's own would follow redirects."""
    if sdk.aclient_session is not None:
        return None
    httpx = importlib.import_module("httpx")
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
    sdk.aclient_session = httpx.AsyncClient(follow_redirects=False, limits=limits)
    return sdk.aclient_session


async def _close(sdk: Any, ours: Any) -> None:
    """End what LiteLLM has left running on this loop: its logging worker and its connections."""
    worker = importlib.import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER
    await worker.clear_queue()
    await worker.stop()
    await sdk.close_litellm_async_clients()
    sdk.in_memory_llm_clients_cache.flush_cache()
    if ours is not None:
        await ours.aclose()
        sdk.aclient_session = None


async def _aclose(stream: Any) -> None:
    await stream.aclose()


def _version() -> str:
    try:
        return version("litellm")
    except PackageNotFoundError:
        return "of an unknown version"


def _with_facts(model: Model, table: Mapping[str, Any]) -> Model:
    """A model with what LiteLLM's table says of it, where the user has not."""
    told = table.get(model.id) or table.get(model.id.partition("/")[2])
    if not isinstance(told, Mapping):
        return model
    claims = {ours: bool(told[theirs]) for ours, theirs in CLAIMS.items() if told.get(theirs) is not None}
    prices = Prices(
        input=_price(told.get("input_cost_per_token")),
        cached=_price(told.get("cache_read_input_token_cost")),
        cache_write=_price(told.get("cache_creation_input_token_cost")),
        cache_write_1h=_price(told.get("cache_creation_input_token_cost_above_1hr")),
        output=_price(told.get("output_cost_per_token")),
    )
    return evolve(
        model,
        context=model.context or _tokens(told.get("max_input_tokens")),
        max_output=model.max_output or _tokens(told.get("max_output_tokens")),
        capabilities={**claims, **model.capabilities},
        prices=prices if model.prices == Prices() and not model.free else model.prices,
    )


def _tokens(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _price(value: Any) -> float | None:
    """US dollars per million tokens, of those per token."""
    return round(value * 1e6, 6) if isinstance(value, (int, float)) else None
