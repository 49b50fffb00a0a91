"""The router: one configuration's plugins, catalog, planner and engine, ready to answer. No HTTP server in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp

from routerpool.config import reading as configuration
from routerpool.config.sections import Config
from routerpool.document import Problems
from routerpool.engine.admission import Admission
from routerpool.engine.exchange import Exchange
from routerpool.engine.handover import AttemptReport, AttemptResult, Handover, Handovers, HostsExchange
from routerpool.engine.journey import Journey, Services
from routerpool.engine.load import Bodies
from routerpool.engine.record import Recorder
from routerpool.engine.run import Run
from routerpool.engine.sinks import EventSink, PlainSink, Sink, parsed_error
from routerpool.errors import AnswerError, RequestError, RouterpoolError
from routerpool.hooks.calling import Hooks
from routerpool.hooks.declarations import bind_providers, declared_hints, unheeded_hints, with_settings
from routerpool.hooks.detection import zero_config
from routerpool.hooks.loading import Instance, make
from routerpool.overview import Overview
from routerpool.planning.catalog import Catalog
from routerpool.planning.explanation import explain
from routerpool.planning.plan import Planner
from routerpool.planning.rosters import Rosters
from routerpool.protocols import Headers
from routerpool.providers.connection import open_session
from routerpool.providers.surroundings import TRUST
from routerpool.store import Store
from routerpool.types import (
    Attempt,
    Caller,
    Candidate,
    ChatRequest,
    Features,
    Report,
)
from routerpool.wire.json import parsed
from routerpool.wire.request import new_id, parse_chat

__all__ = ["Router", "Source"]

log = logging.getLogger("routerpool")

FIRST_LOOK_SECONDS = 0.5
"""How long a start waits for the providers' lists of models; what comes later joins the catalog then."""

Attempts = Callable[[Journey, Attempt], Exchange]
"""What makes the exchange of one attempt with its candidate."""

Source = str | Path | Mapping[str, Any] | Config | None
"""What a router can be made of."""


class Router:
    """Answers chat requests over the configured plugins. Use it as an async context manager.

    async with Router.of("routerpool.yaml") as router:
        answer = await router.chat({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]})
    """

    def __init__(self, config: Config, instances: list[Instance], env: Mapping[str, str] | None = None) -> None:
        self.config = config
        self.env = config.env if env is None else env
        self.hooks = Hooks.of(instances)
        trust = {TRUST: "true"} if config.trust_env else {}
        self.providers, self.owners = bind_providers(self.hooks, {**self.env, **trust})
        self.catalog = Catalog(self.providers)
        self.hints = declared_hints(self.hooks)
        self.planner = Planner(config, self.hooks, self.catalog, self.owners)
        self.services = Services(
            *(config, self.hooks, self.providers, lambda: self.session, self.catalog.learn, Recorder(self.hooks)),
            *(self.catalog.unheard, unheeded_hints(self.hooks)),
        )
        self.admission = Admission(config.limits)
        self.bodies = Bodies(config.limits)
        self.handovers = Handovers(config.limits.max_streams, config.limits.report_seconds)
        self.store = Store(config.store)
        self.rosters = Rosters(self.store, self.catalog)
        self.lists = True
        self.notes: list[str] = []
        at_work = self.admission, self.bodies, self.handovers
        self.overview = Overview(self.services, self.catalog, self.owners, *at_work, self.store, self.notes)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._stack = AsyncExitStack()

    @classmethod
    def of(cls, source: Source = None, *, env_file: str | Path | None = None) -> Self:
        """Make a router of a file's path, a mapping in the file's form, or a Config; all defects are one ConfigError.

        None looks the file up where `routerpool serve` does; with no file there, the router is made of what is found
        on this machine, and `notes` says what that was.
        """
        notes: list[str] = []
        problems: Problems
        if isinstance(source, Config):
            config, problems = source, Problems()
        elif isinstance(source, Mapping):
            config, problems = configuration.from_mapping(source)
        else:
            config, problems = configuration.load(source, env_file=env_file)
            if config.path is None:
                tree, notes = zero_config(config.env)
                config, problems = configuration.from_mapping(tree, env=config.env)
        instances = make(config.plugins, problems)
        config = with_settings(config, instances, problems)
        if problems:
            with suppress(RouterpoolError):  # all at once: what can be made shows which names lead nowhere
                problems.found += cls(config, instances).overview.dangling()
            problems.raise_if_any()
        router = cls(config, instances)
        router.notes += notes
        return router

    # Its life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The one HTTP client of this router, open between start and stop."""
        if self._session is None:
            raise RuntimeError("the router is not started; use `async with router:`")
        return self._session

    async def start(self) -> None:
        """Open the HTTP client and the plugins, and ask the providers for their models.

        With `lists = False` nobody is asked: the lists that the store has kept are used instead.
        """
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            self._session = await stack.enter_async_context(open_session(self.config.limits.connect_seconds))
            stack.push_async_callback(self.store.close)
            await stack.enter_async_context(self.hooks.lifespan(self))
            first = asyncio.ensure_future(self.rosters.first(self.session, asking=self.lists))
            watch = asyncio.ensure_future(self.rosters.follow(first, self.session, asking=self.lists))
            stack.push_async_callback(_ended, watch)
            stack.push_async_callback(self.services.recorder.drain)
            stack.push_async_callback(self.handovers.idle)
            await asyncio.wait((first,), timeout=FIRST_LOOK_SECONDS)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Close everything in reverse; answers under way are ended, since waiting for them is the server's business."""
        self.break_off()
        await self._stack.aclose()
        self._session = None

    def break_off(self) -> None:
        """End the requests under way: streams with an error event, the others with 503."""
        for journey in tuple(self.services.journeys):
            journey.deadline.leave("shutting_down")

    # What it does

    async def handle(self, request: ChatRequest, sink: Sink, exchange: Attempts = Exchange) -> None:
        """Answer a request into a sink: admitted, planned, run, recorded.

        Raises RequestError when the sink got nothing; once it has begun, errors go into the sink. `exchange` makes
        what asks one candidate.
        """
        async with Journey(self.services, request, sink, self._loop) as journey, self.admission.place(journey):
            journey.plan = await self.planner.plan(request)
            await Run(journey, exchange).carry_out()

    async def hand_over(
        self,
        body: Mapping[str, Any] | ChatRequest,
        caller: Caller | None = None,
        *,
        headers: Headers = (),
        seconds: float | None = None,
        claims: bool = False,
    ) -> Handover:
        """Decide who answers a body, and leave the forwarding to the host, which must `report` how it went.

        The first candidate's reservations are taken, and given back by the report, or after `seconds`
        (`limits.report_seconds`). A plan that leaves nobody, and a body that is blocked, is a RequestError. `claims` is
        for those who hand it on to another process: see `Attempt.claimed`.
        """
        request = body if isinstance(body, ChatRequest) else self.request(body, caller, headers=headers)
        handover = Handover(request, self.handovers.seconds if seconds is None else seconds, claims=claims)
        await self.handovers.begin(handover, self._handed_over(handover))
        return handover

    async def _handed_over(self, handover: Handover) -> None:
        """Carry out a request whose attempts a host makes; in a task of its own, which holds its reservations."""
        request = handover.request
        async with Journey(self.services, request, handover, self._loop) as journey, self.handovers.place(journey):
            journey.plan = handover.plan = await self.planner.plan(request)
            await Run(journey, HostsExchange).carry_out()

    async def report(
        self,
        handover: Handover,
        outcome: AttemptResult,
        *,
        candidate: Candidate | str | None = None,
        first_byte_ms: float | None = None,
    ) -> Candidate | None:
        """Tell how an attempt of a host's went; the candidate to ask next, None when the request is over.

        `outcome` is a Usage (it answered), a Failure, the provider's whole Answer, which is then judged and rewritten
        as one of our own, or an Outcome without more. A Failure with `first_byte_sent` ends the request, and so does
        None: the host gives up, and has not asked the candidate. `candidate` names the one that was asked, where that
        was not `handover.candidate`; `first_byte_ms` counts from the handover.
        """
        asked = handover.asked(candidate, self.catalog.snapshot.by_key)
        await handover.reported(AttemptReport(outcome, asked, first_byte_ms))
        return handover.candidate

    async def turn_away(self, refused: RequestError, request_id: str, caller: Caller) -> None:
        """Refuse a request before its body is read, so that a flood costs little."""
        unread = ChatRequest(id=request_id, model="", messages=(), caller=caller)
        async with Journey(self.services, unread, PlainSink(), self._loop):
            raise refused

    def request(
        self,
        body: Any,
        caller: Caller | None = None,
        headers: Headers = (),
        *,
        request_id: str | None = None,
        **changes: Any,
    ) -> ChatRequest:
        """A ChatRequest of a body in OpenAI's form and the client's headers; `changes` replace fields of the body."""
        return parse_chat(
            {**body, **changes} if changes else body,
            request_id=request_id or new_id(),
            headers=headers,
            caller=caller,
            hints=self.hints,
        )

    async def chat(
        self, body: Mapping[str, Any], caller: Caller | None = None, *, headers: Headers = ()
    ) -> dict[str, Any]:
        """Answer a chat-completions body with a whole answer; a provider's own refusal is an AnswerError.

        A plugin that serves a route hands on who calls it and the `headers`, which may hold hints.
        """
        sink = PlainSink()
        await self.handle(self.request(body, caller, headers, stream=False), sink)
        answer = sink.answer
        if answer.status >= 400:
            raise AnswerError(answer.status, parsed_error(answer))
        document = await parsed(answer.body)
        return document if isinstance(document, dict) else {}

    async def stream(
        self, body: Mapping[str, Any], caller: Caller | None = None, *, headers: Headers = ()
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Answer with chunks as they come; leaving the loop ends the request upstream."""
        sink = EventSink()
        task = asyncio.ensure_future(self.handle(self.request(body, caller, headers, stream=True), sink))
        task.add_done_callback(sink.done)
        try:
            async for event in sink.events():
                yield event
        finally:
            await _ended(task)

    async def explain(self, body: Mapping[str, Any], caller: Caller | None = None) -> dict[str, Any]:
        """The plan for a body, as `routerpool explain` shows it; nothing is sent anywhere."""
        request = self.request(body, caller)
        return explain(await self.planner.plan(request))

    async def classify(self, request: ChatRequest) -> Features:
        """What is known of a request before anybody answers it, as a plan would see it; nothing is sent anywhere.

        A RequestError says what a real request would be refused with: a plugin that blocks it, a required one that
        failed.
        """
        return await self.planner.classify(request)

    def profiles(self) -> dict[str, dict[str, Any]]:
        """Every profile as plain JSON values."""
        return self.overview.profiles()

    def plugins(self) -> list[dict[str, Any]]:
        """Every plugin that the configuration names, with the hooks it answers."""
        return self.overview.plugins()

    async def status(self) -> dict[str, Any]:
        """How things stand in this process."""
        return await self.overview.status()

    async def check(self, *, network: bool = False) -> list[Report]:
        """What `doctor` tells: every plugin's findings, and what the core sees itself."""
        return await self.overview.check(self.env, network=network)


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait until it is over; what it raised was told elsewhere or is our own cancelling."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()
