"""A simulated provider: answers made up inside the process, to try routerpool without keys, models or a network.

Everything it says is labelled as simulated: its models' names, the beginning of every text, the values it puts into
JSON. The same request to the same model gets the same answer. `fail` and `failure_rate` make it break on purpose, so
that falling back can be watched.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import aiohttp
from attrs import evolve, field, frozen

from routerpool import (
    Attempt,
    ChatRequest,
    Failure,
    Level,
    Model,
    ModelData,
    Pool,
    Probe,
    Provider,
    Report,
    Tier,
    hookimpl,
)
from routerpool.config import Range
from routerpool.protocols import Reply
from routerpool.providers import failure_of_answer
from routerpool.wire import dumps, event_bytes, sent_body
from routerpool_sandbox.completion import LABEL, Completion

__all__ = ["Sandbox", "SandboxConfig", "SimulatedAnswer"]

CAPABILITIES = {"tools": True, "json_schema": True, "vision": False, "web_search": False}
MODELS = (
    ModelData(id="sandbox-fast", name="Sandbox fast", tier=Tier.FAST, rank=30, context=32_768),
    ModelData(id="sandbox-balanced", name="Sandbox balanced", tier=Tier.BALANCED, rank=20, context=131_072),
    ModelData(id="sandbox-capable", name="Sandbox capable", tier=Tier.CAPABLE, rank=10, context=262_144),
)

REFUSALS: Mapping[str, tuple[int, str, str]] = {
    "rate_limited": (429, "rate_limit_exceeded", "too many requests, try again in 30 s"),
    "quota_exhausted": (429, "quota_exceeded", "the daily quota is exhausted"),
    "credit": (402, "insufficient_credit", "the account has no credit left"),
    "auth": (401, "invalid_api_key", "the API key is not valid"),
    "forbidden": (403, "permission_denied", "this key may not use the model"),
    "missing_model": (404, "model_not_found", "there is no such model"),
    "server": (500, "internal_error", "something broke"),
    "unavailable": (503, "overloaded", "server busy, try again later"),
    "too_large": (413, "context_length_exceeded", "the prompt is too long"),
    "bad_request": (400, "invalid_request", "a field has the wrong shape"),
    "content_filter": (400, "content_filter", "the content filter refused the prompt"),
}
"""What a scripted refusal looks like on the wire: status, code and text. Named as the kinds of failure are."""

Fail = Literal[
    "rate_limited",
    "quota_exhausted",
    "credit",
    "auth",
    "forbidden",
    "missing_model",
    "server",
    "unavailable",
    "too_large",
    "bad_request",
    "content_filter",
    "connect",
    "timeout",
    "silent",
    "empty",
    "cut",
]

Seconds = Annotated[float, Range(least=0, most=600)]


@frozen(kw_only=True)
class SandboxConfig:
    """What the simulated provider pretends to be."""

    models: tuple[str | ModelData, ...] = field(
        default=MODELS, metadata={"help": "its models, by id or as mappings (tier, rank, context, free, prices, …)"}
    )
    local: bool = field(default=True, metadata={"help": "pretend to be on this machine; false pretends to be remote"})
    latency_seconds: Seconds = field(default=0.05, metadata={"help": "seconds before an answer begins"})
    word_seconds: Seconds = field(default=0.01, metadata={"help": "seconds between two words of a stream"})
    fail: Fail | None = field(
        default=None,
        metadata={"help": "how it fails; silent says nothing until a limit passes, cut breaks off in the middle"},
    )
    failure_rate: Annotated[float, Range(least=0, most=1)] | None = field(
        default=None, metadata={"help": "share of requests that fail (default: all where `fail` is set, else none)"}
    )
    retry_after: Seconds | None = field(default=None, metadata={"help": "the Retry-After of its refusals, in seconds"})
    seed: int = field(default=0, metadata={"help": "decides which requests fail, and the wording of answers"})


class Sandbox:
    """A provider of the same protocol as the real ones, without a socket behind it."""

    Config = SandboxConfig
    last_resort = 20
    refresh_seconds: float | None = None

    def __init__(self, config: SandboxConfig | None = None, *, name: str = "sandbox") -> None:
        self.config = config or SandboxConfig()
        self.name = name
        self.local = self.config.local
        self._roster = tuple(self._model(entry) for entry in self.config.models)
        self._dice = random.Random(self.config.seed)
        self._answered = 0
        self._failed = 0

    def __repr__(self) -> str:
        return f"<Sandbox {self.name}, simulated>"

    # What the core asks

    @hookimpl
    def register_providers(self) -> Iterable[Provider]:
        """It brings itself."""
        return (self,)

    def bind(self, env: Mapping[str, str]) -> None:
        """It needs no key."""

    def idle(self) -> str | None:
        """It can always be used."""
        return None

    def roster(self) -> Sequence[Model]:
        """The models of its section, or the three that it has by itself."""
        return self._roster

    def pools(self) -> Mapping[str, Pool]:
        """None: nothing is counted here."""
        return {}

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """The roster: there is nobody to ask."""
        return self._roster

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What one of its refusals means, read as those of real providers are."""
        return failure_of_answer(self.name, status, headers, body)

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Reply:
        """Make up an answer, or the failure that is asked for; nothing leaves the process."""
        model = attempt.candidate.model
        fail = self._fails()
        await asyncio.sleep(self.config.latency_seconds)
        if fail is None:
            self._answered += 1
        else:
            self._failed += 1
        if fail == "silent":
            await asyncio.Event().wait()
        if fail == "timeout":
            raise TimeoutError
        if fail == "connect":
            raise aiohttp.ConnectionTimeoutError
        if fail is not None and fail in REFUSALS:
            return self._refusal(fail)
        completion = Completion.to(
            sent_body(request, model.id), f"{self.config.seed}:{model.id}", empty=fail == "empty"
        )
        return self._stream(completion, fail) if request.stream else self._plain(completion, fail)

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """Remind doctor that nothing here is real."""
        yield Report(
            level=Level.NOTE,
            text=f"{self.name} is simulated: its answers are made up",
            cure="take it out of the config once a real provider is there",
            subject=self.name,
        )

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """How many answers and failures it made up."""
        return {"simulated": True, "answered": self._answered, "failed": self._failed}

    # How it pretends

    def _model(self, entry: str | ModelData) -> Model:
        """A model of its YAML form; free unless it has prices or says otherwise."""
        data = ModelData(id=entry) if isinstance(entry, str) else entry
        name = data.name or data.id
        model = Model(
            id=data.id,
            display_name=name if "simulated" in name.lower() else f"{name} (simulated)",
            context=data.context,
            max_output=data.max_output,
            tier=data.tier,
            rank=data.rank,
            tags=frozenset({*data.tags, "simulated"}),
            capabilities={**CAPABILITIES, **data.capabilities},
            free=data.prices is None if data.free is None else data.free,
            local=self.local and data.local is not False,
            data_policy=data.data_policy or "no_training",
            settings=data.settings,
        )
        return model if data.prices is None else evolve(model, prices=data.prices)

    def _fails(self) -> Fail | None:
        rate = self.config.failure_rate
        if rate is None:
            return self.config.fail
        return (self.config.fail or "server") if self._dice.random() < rate else None

    def _refusal(self, fail: str) -> SimulatedAnswer:
        status, code, text = REFUSALS[fail]
        wait = self.config.retry_after
        if wait is None and fail == "rate_limited":
            wait = 30.0
        headers = {"Content-Type": "application/json"} | ({} if wait is None else {"Retry-After": f"{wait:g}"})
        body = dumps({"error": {"message": f"{LABEL} {text}", "type": code, "code": code}})
        return SimulatedAnswer(status, headers, [(0.0, body)])

    def _plain(self, completion: Completion, fail: str | None) -> SimulatedAnswer:
        body = dumps(completion.body())
        body = body[: len(body) // 2] if fail == "cut" else body
        return SimulatedAnswer(200, {"Content-Type": "application/json"}, [(0.0, body)])

    def _stream(self, completion: Completion, fail: str | None) -> SimulatedAnswer:
        blocks = [event_bytes(event) for event in completion.events()]
        blocks = blocks[: len(blocks) // 2] if fail == "cut" else [*blocks, b"data: [DONE]\n\n"]
        pace = self.config.word_seconds
        return SimulatedAnswer(
            200, {"Content-Type": "text/event-stream"}, [(pace if place else 0.0, b) for place, b in enumerate(blocks)]
        )


class SimulatedAnswer:
    """An answer that has begun: its parts come one after the other, each after so many seconds."""

    def __init__(self, status: int, headers: Mapping[str, str], parts: Iterable[tuple[float, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self._parts: Iterator[tuple[float, bytes]] = iter(parts)

    async def chunk(self) -> bytes:
        """The next part; b"" at the end and once it is closed."""
        seconds, data = next(self._parts, (0.0, b""))
        if seconds:
            await asyncio.sleep(seconds)
        return data

    def close(self) -> None:
        """Drop what is left."""
        self._parts = iter(())
