"""LiteLLM's deployments as candidates of ours: who is asked is ours to say, the asking stays LiteLLM's.

What a deployment is comes from LiteLLM's `model_list`: `litellm_params.model`, its address, its prices. What only you
know stands beside it:

    model_list:
      - model_name: auto
        litellm_params: {model: openai/m1, api_base: "http://127.0.0.1:9000/v1"}
        model_info: {routerpool: {free: true, tier: capable, capabilities: {tools: true}}}

A deployment is local where it says so, or where its address is this machine's and its kind of provider asks nobody
else. Everything else is remote.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp
from attrs import evolve, field, frozen
from yarl import URL

from routerpool import (
    Attempt,
    Candidate,
    ChatRequest,
    Failure,
    Model,
    ModelData,
    Pool,
    Prices,
    Provider,
    Unavailable,
    Veto,
    hookimpl,
)
from routerpool.config import Problems, structure
from routerpool.privacy import may_be_local
from routerpool.protocols import Reply
from routerpool.providers import failure_of_answer

__all__ = ["OWN", "Deployment", "Deployments", "id_of", "is_own"]

OWN = "routerpool/"
"""How the model of a deployment begins that is this very router, as LiteLLM's provider."""

ASKS_ITS_BASE = frozenset(
    {
        "openai",
        "hosted_vllm",
        "lm_studio",
        "llamafile",
        "ollama",
        "ollama_chat",
        "litellm_proxy",
        "text-completion-openai",
    }
)
"""LiteLLM's kinds of providers that ask at `api_base` and nowhere else; of the others an address proves nothing."""

CLAIMS: Mapping[str, str] = {
    "supports_function_calling": "tools",
    "supports_vision": "vision",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning",
    "supports_web_search": "web_search",
}


@frozen(kw_only=True)
class Own(ModelData):
    """What `model_info.routerpool` may say of a deployment; `provider` names its account in our figures."""

    id: str = field(default="", metadata={"help": "another id of the model"})
    provider: str | None = field(default=None, metadata={"help": "another name of the account"})


@frozen(eq=False)
class Deployment:
    """One entry of LiteLLM's `model_list`: its id there, its group, and the candidate that it is for us."""

    id: str
    group: str
    model: str
    api_base: str | None
    candidate: Candidate


class Account:
    """A provider whose requests LiteLLM sends: one key at one address, so that what both share is benched together."""

    refresh_seconds: float | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.local = False
        self.models: list[Model] = []

    def bind(self, env: Mapping[str, str]) -> None:
        """Keys are LiteLLM's business."""

    def idle(self) -> str | None:
        """Never: LiteLLM offers what it can use."""
        return None

    def roster(self) -> Sequence[Model]:
        """The models of its deployments."""
        return self.models

    def pools(self) -> Mapping[str, Pool]:
        """None is known: limits are LiteLLM's business."""
        return {}

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """The same."""
        return self.models

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Reply:
        """Nothing is sent from here; a request that comes here is tried elsewhere."""
        raise Unavailable(f"{self.name} is asked by LiteLLM only", 0.0)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer that is none means."""
        return failure_of_answer(self.name, status, headers, body)


class Deployments:
    """The plugin that brings LiteLLM's deployments, and vetoes those that LiteLLM does not offer for a request."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        entries = [entry for entry in entries if not is_own(entry)]
        self._facts = [_facts(entry) for entry in entries]
        self._accounts: dict[str, Account] = {}
        self._names: dict[tuple[str, ...], str] = {}
        self._offered: dict[str, frozenset[str]] = {}
        problems = Problems()
        self.all = tuple(self._deployment(entry, problems) for entry in entries)
        problems.raise_if_any()
        self.by_id = {deployment.id: deployment for deployment in self.all}

    def still(self, entries: Iterable[Mapping[str, Any]]) -> bool:
        """Whether LiteLLM's list is what it was."""
        return self._facts == [_facts(entry) for entry in entries if not is_own(entry)]

    def among(self, entries: Iterable[Mapping[str, Any]]) -> list[Deployment]:
        """Those of LiteLLM's entries that are known here, and are not this very router."""
        return [self.by_id[name] for entry in entries if (name := id_of(entry)) in self.by_id]

    # What LiteLLM offers

    @contextmanager
    def offered(self, request: ChatRequest, deployments: Iterable[Deployment]) -> Iterator[None]:
        """Let these, and only these, be planned for this request meanwhile."""
        self._offered[request.id] = frozenset(deployment.candidate.key for deployment in deployments)
        try:
            yield
        finally:
            del self._offered[request.id]

    @hookimpl
    def register_providers(self) -> Iterable[Provider]:
        """One for each account."""
        return tuple(self._accounts.values())

    @hookimpl
    def veto(self, request: ChatRequest, candidates: Sequence[Candidate]) -> Iterable[Veto]:
        """Whom LiteLLM does not offer; and for a request that we forward ourselves, whom only LiteLLM can ask."""
        offered = self._offered.get(request.id)
        if offered is None:
            lacking = (c for c in candidates if c.provider in self._accounts)
            return [Veto(c, "not_in_profile", "only LiteLLM can ask it") for c in lacking]
        lacking = (c for c in candidates if c.key not in offered)
        return [Veto(c, "not_in_profile", "LiteLLM does not offer it for this request") for c in lacking]

    # What a deployment is

    def _deployment(self, entry: Mapping[str, Any], problems: Problems) -> Deployment:
        group, params, info = str(entry.get("model_name")), entry["litellm_params"], entry.get("model_info") or {}
        path = ("model_list", group, "model_info", "routerpool")
        own = structure(info.get("routerpool") or {}, Own, path, problems) or Own()
        kind, model_id = _named(params)
        base = params.get("api_base") or params.get("base_url")
        host = (URL(base).host or "") if isinstance(base, str) else ""
        local = own.local if own.local is not None else kind in ASKS_ITS_BASE and _is_loopback(host)
        if own.local and not may_be_local(host or "vendor.example"):
            cure = "give it an `api_base` on this machine or network, or take `local` out"
            problems.add((*path, "local"), f"a deployment without a local address cannot be local; {cure}")
        account = self._account(own.provider or f"litellm-{kind}", kind, base, params)
        account.local = account.local or local
        model = self._distinct(account, _model(own.id or model_id, own, params, info, local=local), group)
        return Deployment(
            str(info.get("id")), group, str(params["model"]), base, Candidate(provider=account.name, model=model)
        )

    def _account(self, name: str, kind: str, base: Any, params: Mapping[str, Any]) -> Account:
        """The account of a deployment: the same for all with the same key at the same address."""
        secrets = (str(params.get(key)) for key in ("api_key", "aws_access_key_id", "litellm_credential_name"))
        identity = (name, kind, str(base), *secrets)
        if identity not in self._names:
            numbered, number = name, 1
            while numbered in self._accounts:
                number += 1
                numbered = f"{name}-{number}"
            self._names[identity] = numbered
            self._accounts[numbered] = Account(numbered)
        return self._accounts[self._names[identity]]

    def _distinct(self, account: Account, model: Model, group: str) -> Model:
        """The model under a name of its own, where the account has another one of that name."""
        ids = {known.id: known for known in account.models}
        for name in (model.id, f"{model.id}@{group}", *(f"{model.id}@{group}-{n}" for n in range(2, len(ids) + 3))):
            model = evolve(model, id=name)
            if ids.get(name, model) == model:
                break
        if model.id not in ids:
            account.models.append(model)
        return model


def id_of(entry: Mapping[str, Any]) -> str:
    """What LiteLLM calls an entry, or the entry that a request is about to be sent to."""
    return str((entry.get("model_info") or {}).get("id"))


def is_own(entry: Mapping[str, Any]) -> bool:
    """Whether a deployment is this very router, as LiteLLM's provider."""
    params = entry.get("litellm_params") or {}
    return str(params.get("model", "")).startswith(OWN) or params.get("custom_llm_provider") == OWN[:-1]


def _facts(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """All by which a deployment is another one for us."""
    params, info = entry.get("litellm_params") or {}, entry.get("model_info") or {}
    told = ("model", "custom_llm_provider", "api_base", "base_url", "api_key", "input_cost_per_token")
    return entry.get("model_name"), info.get("id"), info.get("routerpool"), *(params.get(name) for name in told)


def _named(params: Mapping[str, Any]) -> tuple[str, str]:
    """LiteLLM's kind of provider, and the model's name there."""
    kind, slash, rest = str(params["model"]).partition("/")
    if told := params.get("custom_llm_provider"):
        return str(told), rest if slash and kind == told else str(params["model"])
    return (kind, rest) if slash else ("openai", kind)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _model(model_id: str, own: Own, params: Mapping[str, Any], info: Mapping[str, Any], *, local: bool) -> Model:
    claims = {ours: info[theirs] for theirs, ours in CLAIMS.items() if isinstance(info.get(theirs), bool)}
    return Model(
        id=model_id,
        display_name=own.name,
        context=own.context or _count(info.get("max_input_tokens")),
        max_output=own.max_output or _count(info.get("max_output_tokens")),
        prices=own.prices or _prices({**info, **{k: v for k, v in params.items() if v is not None}}),
        tier=own.tier,
        rank=own.rank,
        tags=frozenset(own.tags),
        capabilities={**claims, **own.capabilities},
        free=local if own.free is None else own.free,
        local=local,
        data_policy=own.data_policy or "unknown",
        settings=own.settings,
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _prices(told: Mapping[str, Any]) -> Prices:
    """US dollars per million tokens, of LiteLLM's per token."""

    def price(name: str) -> float | None:
        value = told.get(name)
        return round(value * 1e6, 6) if isinstance(value, (int, float)) else None

    return Prices(
        input=price("input_cost_per_token"),
        cached=price("cache_read_input_token_cost"),
        cache_write=price("cache_creation_input_token_cost"),
        output=price("output_cost_per_token"),
    )
