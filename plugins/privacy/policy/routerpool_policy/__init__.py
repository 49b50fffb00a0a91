"""How private a request is, and who may see it.

The class of a request comes from whoever knows something of it: scanners, the client, the API key, the profile, and
the rules here. It only rises, and it stays with the conversation: what one turn has revealed, later turns may repeat
in other words. What a class means is decided here as well: a provider that may train on prompts gets no private ones,
and lists say who may or must not see which class.

`privacy.remote_allows` of the core bounds all of this: nothing here lets a remote provider see more than that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

from attrs import field, frozen

from routerpool import (
    Candidate,
    ChatRequest,
    Features,
    Finding,
    Level,
    Plan,
    Privacy,
    Probe,
    Report,
    RequestError,
    Veto,
    hookimpl,
)
from routerpool.config import Range
from routerpool.privacy import may_see
from routerpool.store import StoreError
from routerpool.wire import session_of
from routerpool_policy.rules import Rule, Rules
from routerpool_policy.sessions import DAY, Full, Sessions, StoredSessions, named, shared_sessions

if TYPE_CHECKING:
    import click
    from aiohttp import web

    from routerpool import Router

__all__ = ["Lists", "Policy", "PolicyConfig", "Rule"]

log = logging.getLogger("routerpool.policy")

LOOK_SECONDS = 0.5
"""How often we look what other workers have learned, so that it is known everywhere within a second."""

OVERLAP_SECONDS = 60.0
"""How far back a look goes beyond the last one, since the clocks of several machines differ."""

IN_MEMORY = ("sqlite://", "sqlite:///:memory:")
"""Stores that nobody else can read and that end with the process: nothing is written there."""


@frozen(kw_only=True)
class Lists:
    """Providers, candidates or globs of them, by class; each list holds for its class and the higher ones."""

    public: tuple[str, ...] | None = field(default=None, metadata={"help": "For every request"})
    private: tuple[str, ...] | None = field(default=None, metadata={"help": "For private requests and above"})
    sensitive: tuple[str, ...] | None = field(default=None, metadata={"help": "For sensitive and secret requests"})
    secret: tuple[str, ...] | None = field(default=None, metadata={"help": "For secret requests"})

    def up_to(self, privacy: Privacy) -> list[tuple[str, ...]]:
        """The lists that hold for a request of this class."""
        lists = (self.public, self.private, self.sensitive, self.secret)
        return [names for names in lists[: privacy + 1] if names is not None]

    def names(self) -> set[str]:
        """Everything that is named in any of them."""
        return {name for names in self.up_to(Privacy.SECRET) for name in names}


@frozen(kw_only=True)
class PolicyConfig:
    """What raises a request's class, and who may see which class."""

    rules: tuple[Rule, ...] = field(
        default=(), metadata={"help": "What makes requests private: models, callers, sessions, paths, words"}
    )
    findings: dict[str, Privacy] = field(
        factory=dict, metadata={"help": "The class that a scanner's findings raise to, by rule or glob of rules"}
    )
    may_train: Privacy = field(
        default=Privacy.PUBLIC, metadata={"help": "The highest class for providers that may train on prompts"}
    )
    unknown: Privacy = field(
        default=Privacy.PUBLIC,
        metadata={"help": "The highest class for providers of which nobody says whether they train on prompts"},
    )
    allow: Lists = field(
        default=Lists(), metadata={"help": "The only remote providers or candidates that may see a class"}
    )
    deny: Lists = field(default=Lists(), metadata={"help": "Providers or candidates, also local ones, that must not"})
    keep_days: Annotated[float, Range(above=0, most=365)] = field(
        default=7.0, metadata={"help": "How long a conversation's class is remembered after its last request"}
    )
    keep_sessions: Annotated[int, Range(least=1, most=1_000_000)] = field(
        default=50_000,
        metadata={"help": "How many conversations above the default class are remembered; a new one more is refused"},
    )
    keep_sessions_per_caller: Annotated[int, Range(least=1, most=1_000_000)] | None = field(
        default=None,
        metadata={
            "help": "How many of them may be one caller's (default: a quarter; all where there is one key at most)"
        },
    )


class Policy:
    """Raises the class of requests by rules and by what their conversation has been, and vetoes by class."""

    Config = PolicyConfig
    default = 30
    required = True
    always_commands = True

    def __init__(self, config: PolicyConfig | None = None) -> None:
        self.config = config or PolicyConfig()
        self.problem: str | None = None
        self._rules = Rules(self.config.rules)
        self._limits = {privacy: _Limits.of(self.config, privacy) for privacy in Privacy}
        self._sessions = Sessions(
            most=self.config.keep_sessions,
            each=self.config.keep_sessions_per_caller,
            seconds=self.config.keep_days * DAY,
        )
        self._floor = Privacy.PUBLIC
        self._news = asyncio.Event()
        self._router: Router | None = None

    # Its life

    @hookimpl
    async def lifespan(self, router: Router) -> AsyncIterator[None]:
        """Take over what other generations and workers know, and keep in step with them.

        A store that cannot be read stops the start: without it, conversations that were secret would begin anew.
        """
        url = router.config.store
        self._router, self._floor = router, router.config.privacy.default
        most, each = self.config.keep_sessions, self._each(router.config.server)
        with shared_sessions(url, most=most, each=each, seconds=self.config.keep_days * DAY) as self._sessions:
            if url in IN_MEMORY:
                yield
                return
            stored = StoredSessions(router.store, 2 * most)
            self._sessions.merge(await stored.read())
            task = asyncio.create_task(self._keep(stored))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait((task,))
                await self._write(stored)

    def _each(self, server: Any) -> int | None:
        """How many conversations may be one caller's: nobody is to fill the places of others."""
        several = len(server.api_keys) + len(server.host_keys) + len(server.admin_keys) > 1
        usual = max(self.config.keep_sessions // 4, 1) if several else None
        return usual if self.config.keep_sessions_per_caller is None else self.config.keep_sessions_per_caller

    async def _keep(self, stored: StoredSessions) -> None:
        looked = time.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            await self._write(stored)
            now = time.time()
            if now - looked >= LOOK_SECONDS and await self._read(stored, looked - OVERLAP_SECONDS):
                looked = now

    async def _write(self, stored: StoredSessions) -> None:
        unsaved = self._sessions.taken()
        if not unsaved:
            return
        try:
            left = await stored.write(unsaved)
        except BaseException as error:
            self._sessions.unsaved = {**unsaved, **self._sessions.unsaved}  # for the next try, or the next generation
            if not isinstance(error, StoreError):
                raise
            self._failed(str(error))
            return
        self._sessions.unsaved = {**left, **self._sessions.unsaved}
        if left:
            self._failed(f"there is no place for {len(left)} more; raise policy.keep_sessions")
        else:
            self.problem = None

    async def _read(self, stored: StoredSessions, since: float) -> bool:
        try:
            self._sessions.merge(await stored.read(since))
        except StoreError as error:
            self._failed(str(error))
            return False
        return True

    def _failed(self, why: str) -> None:
        if self.problem is None:
            log.error("the classes of conversations are kept in this process only: %s", why)
        self.problem = why

    # How private

    @property
    def looks(self) -> bool:
        """Whether it looks at the text of requests itself."""
        return bool(self._rules)

    @hookimpl(trylast=True)
    def classify(self, request: ChatRequest, features: Features) -> Features | Awaitable[Features | None] | None:
        """Raise the request to what its conversation has reached, and to what findings and rules say."""
        if request.heavy and self._rules:
            return asyncio.to_thread(self._classified, request, features)
        return self._classified(request, features)

    def _classified(self, request: ChatRequest, features: Features) -> Features | None:
        known = features
        reached = self._sessions.privacy(_session(request, features)) if self._sessions else Privacy.PUBLIC
        if reached > known.privacy:
            word = f"an earlier turn was {reached.name.lower()}"
            known = known.raised(reached, [Finding(rule="policy.session", part="session", redacted=word)])
        if self.config.findings and known.findings:
            known = known.raised(max(map(self._weight, known.findings)))
        if self._rules:
            matched = list(self._rules.matched(request, known, self._names))
            if matched:
                known = known.raised(max(privacy for privacy, _ in matched), [finding for _, finding in matched])
        return None if known is features else known

    def _names(self, model: str) -> Iterable[str]:
        """What a model that is asked for may be called in a rule: also what it stands for, and whose it may be."""
        if self._router is None:
            return (model,)
        aims = {model, self._router.config.alias(model)}
        return (*aims, *(key for aim in aims for key in self._router.catalog.snapshot.keys_of(aim)))

    def _weight(self, finding: Finding) -> Privacy:
        weights = self.config.findings.items()
        return max((privacy for rule, privacy in weights if fnmatchcase(finding.rule, rule)), default=Privacy.PUBLIC)

    @hookimpl(tryfirst=True)
    def intercept(self, request: ChatRequest, plan: Plan) -> None:
        """The conversation has reached this class from now on, also where nobody may answer: trying again in other
        words does not get it through. A plan that is only explained does not come here and leaves no trace.

        What every request of this caller is at least needs no memory. A class that cannot be remembered is a request
        that is refused.
        """
        privacy = plan.features.privacy
        if privacy is Privacy.PUBLIC:
            return
        if privacy <= max(self._floor, request.caller.privacy):
            return
        try:
            if self._sessions.rise(_session(request, plan.features), privacy):
                self._news.set()
        except Full as full:  # sent now, its next turn could go anywhere
            cure = "go on in an earlier conversation, or have that raised"
            raise RequestError("session_table_full", f"{full}; {cure}") from None

    # Who may see it

    @hookimpl
    def veto(self, features: Features, candidates: Sequence[Candidate]) -> Iterable[Veto]:
        """Whoever may not see a request of this class."""
        limits = self._limits[features.privacy]
        if limits.nothing:
            return ()
        vetoes = []
        for candidate in candidates:
            reason = limits.against(candidate, local=self._is_local(candidate))
            if reason is not None:
                vetoes.append(Veto(candidate, "privacy", reason))
        return vetoes

    def _is_local(self, candidate: Candidate) -> bool:
        if self._router is None:
            return candidate.model.local
        return may_see(self._router.providers[candidate.provider], candidate, Privacy.SECRET, Privacy.PUBLIC)

    def objection(self, candidate: Candidate, privacy: Privacy) -> str | None:
        """Why this candidate may not see a request of this class, by the core's word and ours; None if it may."""
        if self._router is None:
            raise RuntimeError("the policy is not started; its router's lifespan does that")
        provider = self._router.providers[candidate.provider]
        if not may_see(provider, candidate, privacy, self._router.config.privacy.remote_allows):
            return f"{candidate.provider} is not local, and privacy.remote_allows ends below {privacy.name.lower()}"
        return self._limits[privacy].against(candidate, local=self._is_local(candidate))

    # Telling

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        """`POST /v1/router/policy/check`: the class of a request, why, and who may see it."""
        from routerpool import route  # here, because it brings aiohttp, which `scan` does without

        return [route("POST", "/v1/router/policy/check", self.examine, plane="user")]

    async def examine(self, request: web.Request) -> web.Response:
        """The verdict on a chat body, or on `{"text": …}`, for whoever may ask models; nothing is sent anywhere."""
        from routerpool_policy.verdict import answer_check

        if self._router is None:
            raise RuntimeError("the policy is not started; its router's lifespan does that")
        return await answer_check(self._router, self, request)

    @hookimpl
    def register_commands(self) -> Iterable[click.Command]:
        """`routerpool scan`."""
        from routerpool_policy.scan import scan_command

        return [scan_command]

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """How many conversations are remembered in which class, and whether they reach the store."""
        return {
            "sessions": self._sessions.counts(),
            "refused": self._sessions.refused,
            "rules": len(self._rules),
            "problem": self.problem,
        }

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """What of the policy says nothing: names that nobody has, lists that the core's own limit makes void."""
        if self._router is None:
            return
        candidates = self._router.catalog.snapshot.candidates
        named = self.config.allow.names() | self.config.deny.names()
        idle = sorted(name for name in named if not any(_is_named(c, (name,)) for c in candidates))
        if idle:
            text = f"`allow` or `deny` names what is no candidate: {', '.join(idle[:5])}"
            yield Report(level=Level.WARNING, text=text, cure="see `routerpool models`", subject="policy")
        most = self._router.config.privacy.remote_allows
        for name, highest in (("may_train", self.config.may_train), ("unknown", self.config.unknown)):
            if highest > most:
                text = f"`{name}: {highest.name.lower()}` has no effect: privacy.remote_allows ends before it"
                yield Report(level=Level.NOTE, text=text, cure="raise privacy.remote_allows, too", subject="policy")
        if self._sessions.refused:
            text = f"{self._sessions.refused} requests were refused, since no more conversations can be remembered"
            yield Report(level=Level.WARNING, text=text, cure="raise policy.keep_sessions", subject="policy")


@frozen
class _Limits:
    """What the policy says to requests of one class."""

    privacy: Privacy
    allowed: list[tuple[str, ...]]
    denied: tuple[str, ...]
    trains: bool
    unknown: bool

    @classmethod
    def of(cls, config: PolicyConfig, privacy: Privacy) -> _Limits:
        """The limits that a configuration sets for a class; `trains` and `unknown`: whether such providers may."""
        denied = tuple(name for names in config.deny.up_to(privacy) for name in names)
        allowed = config.allow.up_to(privacy)
        return cls(privacy, allowed, denied, privacy <= config.may_train, privacy <= config.unknown)

    @property
    def nothing(self) -> bool:
        """Whether everybody may."""
        return not self.allowed and not self.denied and self.trains and self.unknown

    def against(self, candidate: Candidate, *, local: bool) -> str | None:
        """Why this candidate may not see such a request, or None."""
        name = self.privacy.name.lower()
        if _is_named(candidate, self.denied):
            return f"the policy denies it {name} requests"
        if local:
            return None
        if not all(_is_named(candidate, names) for names in self.allowed):
            return f"the policy allows {name} requests to others only"
        if candidate.model.data_policy == "may_train" and not self.trains:
            return f"the request is {name} and {candidate.provider} may train on it"
        if candidate.model.data_policy == "unknown" and not self.unknown:
            return f"the request is {name} and nobody says whether {candidate.provider} trains on it (data_policy)"
        return None


def _session(request: ChatRequest, features: Features) -> str:
    """The conversation's hash, also where a plugin has answered with features of its own and left it out."""
    return named(request.caller.id, features.session or session_of(request))


def _is_named(candidate: Candidate, names: Sequence[str]) -> bool:
    """Whether a list holds its provider, its key, or a glob of the key."""
    return any(name == candidate.provider or fnmatchcase(candidate.key, name) for name in names)
