"""Every place where a plugin can hook in: this file is the plugin author's manual.

A plugin is a class. Its methods that carry `@hookimpl` are called at the places below, each with any subset of the
arguments named here, as `def` or as `async def`. An entry point in the group `routerpool` makes the class known under a
name, and the YAML file switches it on:

    [project.entry-points.routerpool]
    shout = "routerpool_shout:Shout"

What else the class may say of itself, each as an attribute, and none of it is needed:

- `Config`, an attrs class, describes the plugin's section of the YAML file; the plugin is then made as `cls(config)`,
  otherwise as `cls()`, and with `name=` where it takes one.
- `ProfileConfig`, an attrs class, describes what a profile may set for it under `settings:`; every hook with a plan or
  an attempt finds it as `plan.settings["shout"]`, all as by default where a profile says nothing.
- `hints` are switches that a request may bring, by name and type: `hints = {"shout": bool}` reads
  `router: {shout: true}` in the body or the header `X-Router-Shout`, and `request.hints.more["shout"]` has it.
- `weight`, what a strategy's points count where a profile says nothing (1.0 without it).
- `requires_core`, the cores it is for, such as ">=0.1,<0.3"; another core refuses it at the start. Hooks may gain
  arguments at any time, and lose none that was not marked for a whole series.
- `required = True`: where it fails, the request is refused (privacy scanners say so).
- `single_process`, why several worker processes cannot share it; `--workers` then refuses with this reason.
- `default = 40`, its place in the default set, which runs where no file says what is on; `last_resort = 20`, its place
  among those that answer there when nothing else can.
- `always_commands = True`: its commands are there whatever a file names.
- `named_only = True`, of a provider: while another one can be used, it is asked by name only.

The hooks stand below by who calls them: the start, people, then a request on its way, from the first hook to the last.
`When` says where and how often a hook is called, `Order` what becomes of several plugins' answers, and `Budget` what
one call may cost: CPU time of one plugin for what it answers most often, unless said otherwise.

What all hooks share:

- They run in the order of the YAML file's `plugins:` mapping.
- A hook that raises, or overruns its time, is left out of this request and named in log, status and metrics. The
  plugin that is `required` is not left out: the request is refused instead. Where a fault does something else, `Fault`
  says what.
- The values are shared. Answer with new ones (`attrs.evolve`), never change one in place.
- `def` where nothing is awaited is the fast form; it may answer with a coroutine where it has to wait after all.
  Nothing may block the loop: threads are for that.
"""

# The bodies are empty on purpose: pluggy reads the signatures, people read the text.
# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import pluggy

from routerpool.protocols import Provider, Rewriter, RouterView
from routerpool.types import (
    Answer,
    Attempt,
    Candidate,
    ChatRequest,
    Decision,
    Detected,
    Failure,
    Features,
    Opening,
    Plan,
    Probe,
    Report,
    Score,
    Usage,
    UsageRecord,
    Veto,
)

if TYPE_CHECKING:
    import click
    from aiohttp import web

__all__ = ["PROJECT", "hookimpl"]

PROJECT = "routerpool"
"""The entry point group, and pluggy's name for us."""

hookimpl = pluggy.HookimplMarker(PROJECT)
hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def register_providers() -> Iterable[Provider]:
    """Name the providers that this plugin brings.

    A class derived from `routerpool.OpenAIProvider` registers itself and needs no such hook.

    When: once, when the router is made: at start and at every reload.
    Order: all are collected; two providers of one name are an error.
    Fault: stops the start, or the reload, in the plugin's name.
    Budget: 1 ms, since every start waits for it; heavy modules are imported in `lifespan`.

    Example::

        from routerpool import Model, OpenAIProvider, hookimpl

        class Lab(OpenAIProvider):
            base_url = "http://127.0.0.1:9000/v1"
            local = True
            models = (Model(id="m1", local=True),)

        class Plugin:
            @hookimpl
            def register_providers(self):
                return [Lab(Lab.Config(), name="lab")]
    """


@hookspec
def register_routes() -> Iterable[web.AbstractRouteDef]:
    """Name the HTTP routes that this plugin serves, relative to the server's base path.

    `request.app[routerpool.ROUTER]` is the router, `request[routerpool.CALLER]` who calls. `routerpool.route` says who
    may: `plane` is `open` (all, without a key), `user` (who asks models), `host` (who forwards by itself) or `admin`.
    A plain aiohttp route is for admins under `/v1/router/`, else for users. A path that a reload adds is served from
    the next start on. A door that answers chats is a `routerpool.server.DoorSink` in words of its own, or an `HttpSink`
    in OpenAI's; both end in `Router.handle(request, sink)`, which answers into any `Sink`.

    When: once, when the server is made: at start and at every reload.
    Order: all are collected; of two handlers for one method and path the later plugin's counts.
    Fault: stops the start, or the reload, in the plugin's name; what a handler raises is a 500 for its own caller.
    Budget: 1 ms, since every start waits for it.

    Example::

        from aiohttp import web
        from routerpool import hookimpl, route

        class Plugin:
            @hookimpl
            def register_routes(self):
                return [route("GET", "/v1/router/hello", self.hello, plane="user")]

            async def hello(self, request):
                return web.json_response({"hello": "there"})
    """


@hookspec
def register_commands() -> Iterable[click.Command]:
    """Name the commands that this plugin adds to the command line.

    They are there where the plugin is switched on. With `always_commands = True` in its class they are there whatever
    plugins a file names, unless it says `enabled: false`: the plugin is then made without options. The line stands in
    the module that the entry point names, since only plugins whose module holds it are imported for this.

    When: when a command line is read that needs the plugins' commands, before any router is made.
    Order: all are collected; two commands of one name are an error, two groups are joined.
    Fault: leaves this plugin's commands out, and says so.
    Budget: 10 ms, since `routerpool --help` waits for it; what a command needs is imported when it runs.

    Example::

        import click
        from routerpool import hookimpl

        class Plugin:
            @hookimpl
            def register_commands(self):
                return [click.Command("hello", callback=lambda: click.echo("hello"), help="Say hello.")]
    """


@hookspec
def lifespan(router: RouterView) -> AsyncIterator[None]:
    """Open what the plugin needs before the first request, and close it after the last: one `yield` between.

    This is where heavy modules are imported, tables made and tasks started. A task is ended by who has started it;
    `PluginContract` fails where one is left behind.

    When: once around all requests of a router, after `register_*` and before the providers are asked for models.
    Order: entered in order, left in reverse, each whatever the others do.
    Fault: switches the plugin off; that of a required one stops the start.
    Budget: 100 ms to open, since every start waits for it; what takes longer begins as a task.

    Example::

        from routerpool import hookimpl

        class Plugin:
            opened = False

            @hookimpl
            async def lifespan(self, router):
                self.opened = True
                yield
                self.opened = False
    """


@hookspec
def check(probe: Probe) -> Iterable[Report]:
    """Tell `doctor` what is right and wrong, with the cure. Other machines are asked only where `probe.network`.

    When: whenever somebody asks `routerpool doctor`; without `--probe` before the plugins are opened.
    Order: all are collected, each plugin's reports in its own order.
    Budget: 1 s, since a person waits; `probe.timeout` bounds a single look.

    Example::

        from routerpool import Level, Report, hookimpl

        class Plugin:
            @hookimpl
            def check(self, probe):
                if "LAB_KEY" not in probe.env:
                    yield Report(level=Level.WARNING, text="LAB_KEY is not set", cure="export LAB_KEY=…")
    """


@hookspec
def status() -> Mapping[str, Any]:
    """Tell `/v1/router/status` how things stand, as plain JSON values, without prompts or keys.

    When: whenever somebody asks for the status; never on a request's way.
    Order: all are collected, each under its plugin's name.
    Budget: 1 ms, since running streams share the loop with it.

    Example::

        from routerpool import hookimpl

        class Plugin:
            @hookimpl
            def status(self):
                return {"seen": 3}
    """


@hookspec
def detect(probe: Probe) -> Iterable[Detected]:
    """Look what is here when there is no config: keys in the environment, servers on loopback, files.

    When: by a start without a file, by `init` and by `configure`, all plugins at once, each in a thread of its own.
    Order: all are collected; of two that found one name the more confident counts, most confident first.
    Fault: leaves out what this plugin found, and says so.
    Budget: 1 s, since somebody waits; that is `probe.timeout`.

    Example::

        from routerpool import Detected, hookimpl

        class Plugin:
            @hookimpl
            def detect(self, probe):
                if "LAB_KEY" in probe.env:
                    yield Detected(name="lab", source="LAB_KEY is set", confidence=1.0)
    """


@hookspec
def classify(request: ChatRequest, features: Features) -> Features | None:
    """Say more about the request: its task, its difficulty, how private it is.

    The core has filled in needs, tokens, session and the privacy that caller and client asked for. Privacy only
    rises: a class lower than before is ignored.

    When: first of all, once for each request that was admitted, and for each that is only explained or checked.
    Order: folded: each plugin gets what the ones before it knew; None changes nothing.
    Budget: 10 ns for each character of clean text.

    Example::

        from routerpool import Privacy, hookimpl

        class Plugin:
            required = True

            @hookimpl
            def classify(self, request, features):
                if any("project falcon" in str(m.get("content")).lower() for m in request.messages):
                    return features.raised(Privacy.SECRET)
                return None
    """


@hookspec
def veto(request: ChatRequest, features: Features, candidates: Sequence[Candidate]) -> Iterable[Veto]:
    """Say who must not answer, and why: one call for all candidates.

    A veto cannot be undone. Give the code a stable name; people read it in `explain` and on errors. `candidates` is
    the same tuple as long as nothing changes, so an answer may be kept for it.

    When: once for each request and each explanation, after `classify` and the core's own vetoes.
    Order: collected: each plugin is asked about those whom nobody before it has ruled out.
    Budget: 5 µs for 20 candidates.

    Example::

        from routerpool import Veto, hookimpl

        class Plugin:
            @hookimpl
            def veto(self, candidates):
                return [Veto(c, "too_far", "only local models at night") for c in candidates if not c.model.local]
    """


@hookspec
def score(request: ChatRequest, features: Features, candidates: Sequence[Candidate]) -> Iterable[Score]:
    """Say who should answer: points in [0, 1] for each candidate, with the named terms that they came from.

    The points count as much as the profile's `weights` say of this plugin, else as the class attribute `weight` says
    (1.0 without one); with 0 it is not asked. A term called `pinned` says that the conversation belongs to this
    candidate: where its provider states a short wait, it is waited for. A strategy that does not look at the request
    may return the same list object for the same `candidates` object.

    When: once for each request and each explanation, after `veto`, if anybody is left.
    Order: collected: the points of all strategies are added by their weights.
    Budget: 10 µs for 20 candidates.

    Example::

        from routerpool import Score, hookimpl

        class Plugin:
            @hookimpl
            def score(self, candidates):
                return [Score(c, float(c.model.free), {"free": float(c.model.free)}) for c in candidates]
    """


@hookspec
def intercept(request: ChatRequest, plan: Plan) -> Answer | None:
    """Answer instead of running the plan: a job accepted, a cached or a canned answer.

    When: once for each request, when its plan is made, also one in which nobody is left; never for explanations.
    Order: one after the other; the first answer wins, and those behind it are not asked.
    Budget: 2 µs to say None.

    Example::

        from routerpool import Answer, hookimpl

        class Plugin:
            @hookimpl
            def intercept(self, request):
                if request.model == "echo":
                    return Answer(status=200, content_type="application/json", body=b'{"choices": []}')
                return None
    """


@hookspec
def begin(request: ChatRequest, plan: Plan) -> None:
    """Take note of an intent before anything is sent, or refused because `plan.ranked` is empty.

    When: once for each request that nobody intercepts, before the first attempt.
    Order: all are told, one after the other.
    Budget: 5 µs; what is written is written behind the request's back.

    Example::

        from routerpool import hookimpl

        class Plugin:
            begun = 0

            @hookimpl
            def begin(self, plan):
                self.begun += 1
    """


@hookspec
def reserve(attempt: Attempt) -> AbstractAsyncContextManager[Any] | None:
    """Take what the attempt needs, a slot or a quota, and give it back when it is over.

    Raise `Unavailable(reason, retry_after)` from here or from `__aenter__` when there is none: the next candidate is
    tried. What was entered is left exactly once, also when the client leaves. A small class is faster than a
    generator.

    When: first in every attempt.
    Order: entered in order, left in reverse; one that is unavailable ends the attempt, and what was entered is left.
    Budget: 5 µs to take and to give back.

    Example::

        from routerpool import Unavailable, hookimpl

        class Plugin:
            free = 2

            @hookimpl
            def reserve(self, attempt):
                return self

            async def __aenter__(self):
                if not self.free:
                    raise Unavailable("both slots are taken", retry_after=1)
                self.free -= 1

            async def __aexit__(self, *exc):
                self.free += 1
    """


@hookspec
def mutate(request: ChatRequest, attempt: Attempt) -> ChatRequest | None:
    """Change what is sent to this candidate.

    A change made for one candidate never reaches another. Who answers, and whether it streams, cannot be changed here.

    When: once for each attempt, after `reserve` and before the last check of privacy and the sending.
    Order: folded, for each attempt anew from the client's request; None changes nothing.
    Budget: 5 µs to say None, 5 ns for each character of what is changed.

    Example::

        from attrs import evolve
        from routerpool import hookimpl

        class Plugin:
            @hookimpl
            def mutate(self, request, attempt):
                if attempt.candidate.model.tags >= {"thinks"}:
                    return evolve(request, params={**request.params, "reasoning_effort": "low"})
                return None
    """


@hookspec
def judge(attempt: Attempt, opening: Opening) -> Failure | None:
    """Say that this is no answer, so that the next candidate is asked.

    It sees what has come with the first meaningful event; of plain answers, and where the profile buffers, all of it.
    The core has already refused errors inside a 200, empty answers and rubbish. Where a host forwards by itself, only a
    whole answer that it hands in is seen.

    When: once for each attempt that got an answer, before the client sees any of it.
    Order: one after the other; the first failure wins, and those behind it are not asked.
    Budget: 5 µs for an opening, 5 ns for each character of a whole answer.

    Example::

        from routerpool import Failure, FailureKind, hookimpl

        class Plugin:
            @hookimpl
            def judge(self, opening):
                if opening.complete and opening.text.startswith("I cannot help"):
                    return Failure(kind=FailureKind.EMPTY, message="the model refused")
                return None
    """


@hookspec
def rewrite(attempt: Attempt) -> Rewriter | None:
    """Transform the answer of this attempt, event by event; None, and nothing is called for any chunk.

    Where a host forwards by itself, only a whole answer that it hands in can be transformed.

    When: once for each attempt whose answer goes to the client, after `judge`.
    Order: collected: each event passes the rewriters in order.
    Fault: leaves a rewriter out from there on; that of a required plugin ends the answer with an error.
    Budget: 2 µs to say None, 10 µs for each event that a rewriter takes.

    Example::

        from routerpool import hookimpl

        class Quiet:
            def event(self, event):
                for choice in event.get("choices", ()):
                    choice["delta"].pop("reasoning", None)
                yield event

            def end(self):
                return ()

            def answer(self, body):
                return body

        class Plugin:
            @hookimpl
            def rewrite(self, attempt):
                return Quiet()
    """


@hookspec
def on_failure(attempt: Attempt, failure: Failure) -> Decision | None:
    """Learn from a failure, and say how to go on; None leaves it to the others.

    Nobody can go on where `failure.first_byte_sent` is true: the client has seen a part of the answer.

    When: after each attempt that failed, also where `reserve` said no, and when a stream has broken off.
    Order: all are asked; of their answers and the core's own the gravest wins.
    Budget: 20 µs; the next candidate waits for it.

    Example::

        from routerpool import Decision, FailureKind, hookimpl

        class Plugin:
            @hookimpl
            def on_failure(self, failure):
                return Decision.ESCALATE if failure.kind is FailureKind.EMPTY else None
    """


@hookspec
def on_success(attempt: Attempt, usage: Usage) -> None:
    """Learn from an answer that is complete.

    When: once for each request that a provider answered whole, before the end of the answer goes out.
    Order: all are told, one after the other.
    Budget: 5 µs, since the end of the answer waits for it.

    Example::

        from routerpool import hookimpl

        class Plugin:
            tokens = 0

            @hookimpl
            def on_success(self, usage):
                self.tokens += usage.output
    """


@hookspec
def record_usage(record: UsageRecord) -> None:
    """Write down how a request ended, well or not.

    Awaited up to 50 ms before the client sees the end of its answer, then carried on behind it.

    When: exactly once for each request, refused ones too, before the end of the answer goes out.
    Order: all are told; those that are `async def` at the same time.
    Budget: 5 µs; rows are written in batches, behind the answers.

    Example::

        from routerpool import hookimpl

        class Plugin:
            def __init__(self):
                self.records = []

            @hookimpl
            async def record_usage(self, record):
                self.records.append(record)
    """
