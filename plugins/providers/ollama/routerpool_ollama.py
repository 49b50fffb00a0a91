"""The models of an Ollama server, on this machine, in the house, or in Ollama's cloud.

    plugins:
      ollama: {}                                          # $OLLAMA_HOST, else http://127.0.0.1:11434
      cloud: {use: ollama, base_url: "https://ollama.com/v1", api_key_env: OLLAMA_API_KEY}

Chat goes through Ollama's OpenAI form, the list of models comes from `/api/tags`. A model counts as local only once
Ollama has said that it runs there: some of its models run in the cloud behind the same address. Two things of
Ollama's own cannot be set by its OpenAI form, and so not from here: how much context a model is loaded with (set
OLLAMA_CONTEXT_LENGTH at the server; `context` of a listed model is what it was trained for) and how long it stays.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from attrs import evolve
from yarl import URL

from routerpool import Detected, FailureKind, Level, Model, OpenAIProvider, Probe, ProviderConfig, Report, hookimpl
from routerpool.failures import Pattern
from routerpool.provider import may_be_local
from routerpool.upstream import HttpUpstream, read_all
from routerpool.wire import loads

__all__ = ["Ollama", "address_of"]

HERE = "http://127.0.0.1:11434"

OUT_OF_MEMORY = (
    "out of memory|out of device memory|cudaMalloc failed|hipMalloc failed|failed to allocate|allocation failed"
    "|not enough memory|insufficient memory|erroroutofmemory|vk_error_out_of_device_memory|reported out-of-memory"
)
"""The texts by which Ollama itself knows that a model did not fit."""

CAPABILITIES: Mapping[str, str] = {"tools": "tools", "vision": "vision", "thinking": "reasoning", "audio": "audio"}
"""Ollama's words for what a model can do, and ours."""


class Ollama(OpenAIProvider):
    """One Ollama server. It is local where its address is one of this machine or this network."""

    base_url = f"{HERE}/v1"
    refresh_seconds = 30.0
    patterns: Sequence[Pattern] = (
        Pattern(kind=FailureKind.UNAVAILABLE, status=503, match="server busy|maximum pending requests exceeded"),
        Pattern(kind=FailureKind.MISSING_MODEL, match="model .{1,200} not found"),
        Pattern(kind=FailureKind.SERVER, match=OUT_OF_MEMORY),
        # Of a model in Ollama's cloud, by a server that is not signed in; its own models answer all the same.
        Pattern(kind=FailureKind.FORBIDDEN, status=401, match=r"\bunauthorized\b"),
        Pattern(kind=FailureKind.FORBIDDEN, status=403, match="requires a subscription"),
    )

    def __init__(self, config: ProviderConfig | None = None, *, name: str = "") -> None:
        self.local = self.free = may_be_local(URL((config and config.base_url) or HERE).host or "")
        self._trouble: str | None = None
        super().__init__(config, name=name)

    def bind(self, env: Mapping[str, str]) -> None:
        """Take the address from OLLAMA_HOST, unless the section names one."""
        host = env.get("OLLAMA_HOST", "")
        if self.config.base_url is None and host.strip():
            try:
                self._move(address_of(host))
            except ValueError as error:
                self._trouble = f"OLLAMA_HOST cannot be used: {error}"
        super().bind(env)

    def _move(self, address: URL) -> None:
        self.base_url = f"{address}/v1"
        local = may_be_local(address.host or "")
        self.local = local if self.config.local is None else self.config.local
        self.free = local if self.config.free is None else self.config.free
        self._check_address()
        self._set_address(self.base_url)
        self._roster = self._make_roster()

    def idle(self) -> str | None:
        """Idle with an address that makes no sense, else as any provider."""
        return self._trouble or super().idle()

    # Models

    def roster(self) -> Sequence[Model]:
        """The models that the user named; none of them is local before Ollama has said so."""
        return [self._distant(model) for model in self._roster]

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """Ask for the pulled models; of those that the user named, learn what Ollama knows."""
        found = self.parse_models(await self.get(session, f"{self.root}/api/tags"))
        if self.config.models is None:
            return found
        pulled = {model.id.removesuffix(":latest"): model for model in found}
        named = [(model, pulled.get(model.id.removesuffix(":latest"))) for model in self._roster]
        return [evolve(known, id=model.id) if known else self._distant(model) for model, known in named]

    def parse_models(self, payload: Any) -> list[Model]:
        """The models of an `/api/tags` answer, without those that only embed."""
        entries = payload.get("models") if isinstance(payload, dict) else None
        pulled = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
        return [self._parsed(e) for e in pulled if isinstance(e.get("name"), str) and e["name"] and _chats(e)]

    def _parsed(self, entry: Mapping[str, Any]) -> Model:
        name = entry["name"]
        model = self.model(name if name in self._known else name.removesuffix(":latest"))
        model = evolve(model, id=name)
        details = entry.get("details")
        window = details.get("context_length") if isinstance(details, dict) else None
        if model.context is None and type(window) is int and window > 0:
            model = evolve(model, context=window)
        claims = entry.get("capabilities")
        if isinstance(claims, list):
            told = {ours: theirs in claims for theirs, ours in CAPABILITIES.items()}
            model = evolve(model, capabilities={**told, **model.capabilities})
        return self._distant(model) if entry.get("remote_host") or _in_the_cloud(name) else model

    def _distant(self, model: Model) -> Model:
        """The model as one that runs elsewhere: neither local nor free of charge, unless the user says so."""
        free = bool(self.config.free)
        return evolve(model, local=False, free=free) if self.local else model

    @property
    def root(self) -> str:
        """The address of Ollama's own API, beside its OpenAI form."""
        return (self.base_url or "").removesuffix("/v1")

    # What is here

    @hookimpl
    async def check(self, probe: Probe) -> list[Report]:  # type: ignore[override]  # a hook may be async
        """Tell doctor whether the server answers, and which version it is."""
        reports = [report for report in super().check(probe) if report.level > Level.OK]
        if self.idle() is None and (probe.network or _is_loopback(URL(self.root))):
            version = await _version(self.root, probe.timeout)
            if version is None:
                text, cure = f"nothing answers at {self.root}", "start it with `ollama serve`, or set OLLAMA_HOST"
                reports.append(Report(level=Level.WARNING, text=text, cure=cure, subject=self.name))
            else:
                reports.append(Report(level=Level.OK, text=f"Ollama {version} at {self.root}", subject=self.name))
        return reports

    @hookimpl
    async def detect(self, probe: Probe) -> list[Detected]:  # type: ignore[override]  # a hook may be async
        """Look for a server at OLLAMA_HOST, else at Ollama's usual place on this machine."""
        host = probe.env.get("OLLAMA_HOST", "")
        try:
            address = address_of(host)
        except ValueError:
            return []
        if not probe.network and not _is_loopback(address):
            return [Detected(name=self.name, source="OLLAMA_HOST is set", confidence=0.5, environment=("OLLAMA_HOST",))]
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
            return loads(await read_all(HttpUpstream(response), 1 << 20)) if response.status == 200 else None
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None


def address_of(host: str) -> URL:
    """The server's address of a value of OLLAMA_HOST, read as Ollama reads it; ValueError for what is none.

    Without a scheme the port is 11434, with one it is the scheme's own. An address to listen on, such as 0.0.0.0,
    becomes one to ask.
    """
    text = host.strip().strip("\"'").strip()
    scheme, mark, rest = text.rpartition("://")
    place, _, path = rest.partition("/")
    if not mark and place == "ollama.com":
        scheme = "https"
    scheme = scheme.lower() or "http"
    if scheme not in ("http", "https"):
        raise ValueError(f"{scheme}:// is neither http:// nor https://")
    match = re.fullmatch(r"\[(?P<six>[^\[\]]+)\](?::(?P<port6>\d+))?|(?P<name>[^:\[\]]*)(?::(?P<port>\d+))?", place)
    if match is None and place.count(":") > 1:
        name, port = place, None
    elif match is None:
        raise ValueError("write it as host, host:port or http://host:port")
    else:
        name, port = match["six"] or match["name"] or "127.0.0.1", match["port6"] or match["port"]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104 - it is replaced, not bound
    usual = 11434 if not mark and scheme == "http" else {"http": 80, "https": 443}[scheme]
    return URL.build(scheme=scheme, host=name, port=int(port or usual), path=f"/{path.strip('/')}" if path else "")


def _is_loopback(address: URL) -> bool:
    host = address.host or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _chats(entry: Mapping[str, Any]) -> bool:
    claims = entry.get("capabilities")
    return not isinstance(claims, list) or not claims or "completion" in claims


def _in_the_cloud(name: str) -> bool:
    return name.endswith(("-cloud", ":cloud"))
