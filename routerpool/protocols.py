"""What crosses a hook and is no value: things with a life of their own, by what is asked of them.

A plugin that brings one of these needs no class of ours; the shape is enough.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from routerpool.types import Attempt, Caller, Candidate, ChatRequest, Failure, Features, Model, Pool, Prices

if TYPE_CHECKING:
    import aiohttp

__all__ = ["CatalogView", "Headers", "Provider", "Reply", "Rewriter", "RouterView", "SnapshotView"]

Headers = Iterable[tuple[str, str]]
"""The headers of a client's request, of which `X-Router-…` are hints."""


class Reply(Protocol):
    """An answer that has begun: its head is here, its body is still to come."""

    status: int
    headers: Mapping[str, str]

    def chunk(self) -> Awaitable[bytes]:
        """The next bytes of the body as they come, decoded; b"" at its end."""

    def close(self) -> None:
        """Give the connection back if the body is read to its end, else cut it."""


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

    def pools(self) -> Mapping[str, Pool]:
        """The quotas that its models share, by the names that stand in `Model.pools`; {} where none is known."""

    async def discover(self, session: aiohttp.ClientSession) -> Sequence[Model]:
        """The models it says it has; may raise what the HTTP client raises."""

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Reply:
        """Send the request and wait for the head of the answer; no redirect is followed, no failure retried."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer that is none means."""


class Rewriter(Protocol):
    """What `rewrite` answers with: a transformer of one attempt's answer, made once and fed in order."""

    def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """The events to send instead of this parsed `chat.completion.chunk`; none holds it back."""

    def end(self) -> Iterable[dict[str, Any]]:
        """What was held back and must go out before the terminal marker."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The plain answer to send instead of this one."""


class SnapshotView(Protocol):
    """All candidates at one moment, in the order of the configuration."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All of them."""

    @property
    def by_key(self) -> Mapping[str, Candidate]:
        """The same by their keys."""


class CatalogView(Protocol):
    """What a plugin reads of the catalog, and tells it."""

    @property
    def snapshot(self) -> SnapshotView:
        """The candidates of now; swapped whole when something changes."""

    def watch(self, heed: Callable[[], None]) -> Callable[[], None]:
        """Call `heed` at every new snapshot, until what this returns is called; it must neither raise nor wait."""

    def price(self, listed: Mapping[str, Prices], *, stated: Mapping[str, Prices] | None = None) -> None:
        """Take prices by candidate key, for models that bring none; `stated` ones go before what a model brings."""


class RouterView(Protocol):
    """What `lifespan` is given: the router itself (`routerpool.Router`), by what plugins use of it."""

    env: Mapping[str, str]
    """The environment, with the `.env` beside the config merged in."""

    @property
    def providers(self) -> Mapping[str, Provider]:
        """The providers by name."""

    @property
    def catalog(self) -> CatalogView:
        """Which candidates there are."""

    @property
    def session(self) -> aiohttp.ClientSession:
        """The one HTTP client of this router, open between start and stop."""

    async def classify(self, request: ChatRequest) -> Features:
        """What is known of a request before anybody answers it, as a plan would see it; nothing is sent anywhere."""

    async def chat(
        self, body: Mapping[str, Any], caller: Caller | None = None, *, headers: Headers = ()
    ) -> dict[str, Any]:
        """Answer a chat-completions body with a whole answer."""

    def stream(
        self, body: Mapping[str, Any], caller: Caller | None = None, *, headers: Headers = ()
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Answer with chunks as they come; leaving the loop ends the request upstream."""

    async def explain(self, body: Mapping[str, Any], caller: Caller | None = None) -> dict[str, Any]:
        """The plan for a body, as `routerpool explain` shows it; nothing is sent anywhere."""
