"""Every place where a plugin can hook in: this file is the plugin author's manual.

A plugin is a class. Its methods that carry `@hookimpl` are called at the places below, each with any subset of the
arguments named here, as `def` or as `async def`. A class attribute `Config`, an attrs class, describes the plugin's
section of the YAML file; the plugin is then made as `cls(config)`, otherwise as `cls()`. An entry point in the group
`routerpool` makes the class known under a name, and the YAML file switches it on:

    [project.entry-points.routerpool]
    shout = "routerpool_shout:Shout"

What all hooks share:

- They run in the order of the YAML file's `plugins:` mapping.
- A hook that raises, or overruns its time, is left out of this request and named in log, status and metrics. The
  plugin that is marked `required: true` is not left out: the request is refused instead. Privacy scanners say so
  themselves with a class attribute `required = True`.
- A plugin that several worker processes cannot share says why in an attribute `single_process`; `--workers` then
  refuses with this reason.
- The values are shared. Answer with new ones (`attrs.evolve`), never change one in place.
- `def` where nothing is awaited is the fast form. Nothing may block the loop: threads are for that.
"""

# The bodies are empty on purpose: pluggy reads the signatures, people read the text.
# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

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

if TYPE_CHECKING:  # The specs are the lowest layer that names these; importing them would turn the house upside down.
    import click
    from aiohttp import web

    from routerpool.provider import Provider
    from routerpool.router import Router

__all__ = ["PROJECT", "Rewriter", "hookimpl"]

PROJECT = "routerpool"
"""The entry point group, and pluggy's name for us."""

hookimpl = pluggy.HookimplMarker(PROJECT)
hookspec = pluggy.HookspecMarker(PROJECT)


class Rewriter(Protocol):
    """What `rewrite` answers with: a transformer of one attempt's answer, made once and fed in order."""

    def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """The events to send instead of this parsed `chat.completion.chunk`; none holds it back."""

    def end(self) -> Iterable[dict[str, Any]]:
        """What was held back and must go out before the terminal marker."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The plain answer to send instead of this one."""


@hookspec
def register_providers() -> Iterable[Provider]:
    """Name the providers that this plugin brings. Asked once, at start.

    A class derived from `routerpool.OpenAIProvider` registers itself and needs no such hook.

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
    """Name the HTTP routes that this plugin serves, relative to the server's base path. Asked once, at start.

    `request.app[routerpool.ROUTER]` is the router. The access checks of the server hold for these routes too: paths
    under `/v1/router/` need an admin key where admin keys are configured.

    Example::

        from aiohttp import web
        from routerpool import hookimpl

        class Plugin:
            @hookimpl
            def register_routes(self):
                return [web.get("/v1/router/hello", self.hello)]

            async def hello(self, request):
                return web.json_response({"hello": "there"})
    """


@hookspec
def register_commands() -> Iterable[click.Command]:
    """Name the commands that this plugin adds to the command line. A group joins the group of the same name.

    Example::

        import click
        from routerpool import hookimpl

        class Plugin:
            @hookimpl
            def register_commands(self):
                return [click.Command("hello", callback=lambda: click.echo("hello"), help="Say hello.")]
    """


@hookspec
def lifespan(router: Router) -> AsyncIterator[None]:
    """Open what the plugin needs before the first request, and close it after the last: one `yield` between.

    Entered in order, left in reverse. This is where heavy modules are imported, tables made and tasks started.

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

    Asked by a start without a file, by `init` and by `configure`.

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
    """Say more about the request; each plugin gets what the ones before it knew, None changes nothing.

    The core has filled in needs, tokens, session and the privacy that caller and client asked for. Privacy only
    rises: a class lower than before is ignored. Budget: 10 ns for each character of clean text.

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
    """Say who must not answer, and why: one call for all candidates that nobody has ruled out yet.

    A veto cannot be undone. Give the code a stable name; people read it in `explain` and on errors. `candidates` is
    the same tuple as long as nothing changes, so an answer may be kept for it.

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

    Asked only when the profile gives this plugin a weight. The points of all strategies are added by weight. A
    strategy that does not look at the request may return the same list object for the same `candidates` object.

    Example::

        from routerpool import Score, hookimpl

        class Plugin:
            @hookimpl
            def score(self, candidates):
                return [Score(c, float(c.model.free), {"free": float(c.model.free)}) for c in candidates]
    """


@hookspec
def intercept(request: ChatRequest, plan: Plan) -> Answer | None:
    """Answer instead of running the plan: a job accepted, a cached or a canned answer. The first answer wins.

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
    """Change what is sent to this candidate; None changes nothing.

    Each attempt starts from the client's request, so a change made for one candidate never reaches another. Who
    answers, and whether it streams, cannot be changed here.

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
    """Say that this is no answer, before the client has seen any of it.

    Called when the first meaningful event is there; for plain answers, and where the profile buffers, with all of it.
    The core has already refused errors inside a 200, empty answers and rubbish.

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
    """Learn from a failure, and say how to go on; of all the answers and the core's own the gravest wins.

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
    """Write down how a request ended: exactly once for each, whatever happened.

    Awaited up to 50 ms before the client sees the end of its answer, then carried on behind it.

    Example::

        from routerpool import hookimpl

        class Plugin:
            def __init__(self):
                self.records = []

            @hookimpl
            async def record_usage(self, record):
                self.records.append(record)
    """
