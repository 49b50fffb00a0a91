"""Every way in which a plugin can fail, at every place where the core calls it.

The matrix is `PLACES` × `WAYS`: the hooks of the manual and the objects that hooks answer with, against what goes
wrong there. A cell that makes no sense is named in `LEFT_OUT` under the word that says why.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from itertools import product
from math import nan
from pathlib import Path
from types import FunctionType
from typing import Any

import click
import pytest
from aiohttp import web
from attrs import define, evolve, field, frozen
from click.testing import CliRunner

from routerpool import (
    Answer,
    Candidate,
    ConfigError,
    Detected,
    Failure,
    FailureKind,
    Features,
    Level,
    Model,
    OpenAIProvider,
    Outcome,
    PluginError,
    Report,
    RequestError,
    Router,
    Score,
    Unavailable,
    UsageRecord,
    Veto,
    create_app,
    hookimpl,
)
from routerpool.cli.commands import cli
from routerpool.hooks import calling as hooks_module
from routerpool.hooks.calling import HOOKS
from routerpool.hooks.detection import zero_config
from routerpool.hooks.loading import Installed
from routerpool.planning import fallback
from routerpool.testing import Witness, make_router
from routerpool.testing.upstream import Upstream
from routerpool.wire.errors import error_event
from routerpool.wire.json import dumps
from routerpool.wire.sse import DONE

from ..support.house import CHAT, House, house, until
from ..support.shelf import Shelf

CANARY = "canary-51c0de"
SECONDS = 0.05
"""What a hook, an opening and a closing may take where one hangs."""
PATIENCE = 10.0
"""After this long a cell has hung."""


# The ways


@frozen
class Way:
    """How something fails: what it does, and what is told of it behind the hook's name ("" where it is no fault)."""

    does: Callable[..., Any]
    told: str = ""
    slow: bool = False


def raises(*_: Any) -> None:
    raise OSError(CANARY)


async def raises_later(*_: Any) -> None:
    await asyncio.sleep(0)
    raise KeyError(CANARY)


def raises_midway(*_: Any) -> Iterator[None]:
    yield from ()
    raise LookupError(CANARY)


def exits(*_: Any) -> None:
    raise SystemExit(CANARY)


async def exits_later(*_: Any) -> None:
    await asyncio.sleep(0)
    raise SystemExit(CANARY)


def cancels(*_: Any) -> None:
    raise asyncio.CancelledError(CANARY)


async def cancels_later(*_: Any) -> None:
    await asyncio.sleep(0)
    raise asyncio.CancelledError(CANARY)


def closes(*_: Any) -> None:
    raise GeneratorExit(CANARY)


async def hangs(*_: Any) -> None:
    await asyncio.Event().wait()


def blocks(*_: Any) -> None:
    time.sleep(2 * SLOW)


async def blocks_later(*_: Any) -> None:
    await asyncio.sleep(0)
    time.sleep(2 * SLOW)


def is_busy(*_: Any) -> None:
    raise Unavailable(CANARY, 1.0)


def is_busy_for_nan(*_: Any) -> None:
    raise Unavailable(CANARY, nan)


def refuses(*_: Any) -> None:
    raise RequestError("privacy_blocked", CANARY)


SLOW = 0.01


def at(error: str) -> str:
    """Where one of the functions above raises this error, as status tells it."""
    return rf"{error} at test_plugin_faults\.py:\d+ in \w+"


WAYS: Mapping[str, Way] = {
    "raises": Way(raises, at("OSError")),
    "raises later": Way(raises_later, at("KeyError")),
    "raises midway": Way(raises_midway, at("LookupError")),
    "exits": Way(exits, at("SystemExit")),
    "exits later": Way(exits_later, at("SystemExit")),
    "cancels": Way(cancels, at("CancelledError")),
    "cancels later": Way(cancels_later, at("CancelledError")),
    "closes": Way(closes, at("GeneratorExit")),
    "hangs": Way(hangs, "TimeoutError at .+"),
    "is busy": Way(is_busy, at("Unavailable")),
    "refuses": Way(refuses, at("RequestError")),
    "blocks": Way(blocks, slow=True),
    "blocks later": Way(blocks_later, slow=True),
}


# What is answered that nobody can use, by place: wrong types, right types with rubbish in them, NaN, strangers

STRANGER = Candidate(provider="ghost", model=Model(id="m1"))


class Passing:
    """A rewriter that changes nothing."""

    def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return [event]

    def end(self) -> Iterable[dict[str, Any]]:
        return ()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return body


class Half:
    """A rewriter that has `event` only."""

    def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return [event]


class Unawaitable:
    """A reservation whose methods are no coroutines."""

    def __aenter__(self) -> None: ...

    def __aexit__(self, *_: object) -> None: ...


def spoiled(*args: Any) -> Any:
    """What came, changed in place to something that is no JSON."""
    args[-1]["spoiled"] = object()
    return args[-1] if "message" in args[-1]["choices"][0] else [args[-1]]


Answers = Mapping[str, Mapping[str, Callable[..., Any]]]

WRONG: Mapping[str, Answers] = {
    "wrong type": {
        "register_providers": {"a number": lambda *_: 3, "numbers": lambda *_: [3]},
        "register_routes": {"a number": lambda *_: 3, "numbers": lambda *_: [3]},
        "register_commands": {"a number": lambda *_: 3, "numbers": lambda *_: [3]},
        "lifespan": {"a number": lambda *_: 3, "a generator": lambda *_: iter([None])},
        "check": {
            "a number": lambda *_: 3,
            "numbers": lambda *_: [3],
            "a text": lambda *_: "fine",
            "a broken iterator": lambda *_: map(int, "x"),
        },
        "status": {"a text": lambda *_: "fine"},
        "detect": {"a number": lambda *_: 3, "texts": lambda *_: ["groq"]},
        "classify": {"a text": lambda *_: "secret", "a list": lambda self, features: [features]},
        "veto": {
            "a number": lambda *_: 3,
            "scores": lambda self, candidates: [Score(candidates[0], 1.0)],
            "a broken iterator": lambda *_: map(int, "x"),
        },
        "score": {
            "a number": lambda *_: 3,
            "a candidate": lambda self, candidates: [candidates[0]],
            "vetoes": lambda self, candidates: [Veto(candidates[0], "no", "no")],
            "a broken iterator": lambda *_: map(int, "x"),
        },
        "intercept": {"a mapping": lambda *_: {"choices": []}},
        "reserve": {"a text": lambda *_: "a slot"},
        "mutate": {"features": lambda *_: Features()},
        "judge": {"a truth": lambda *_: True},
        "rewrite": {"a truth": lambda *_: True, "half a rewriter": lambda *_: Half()},
        "on_failure": {"a number": lambda *_: 3},
        "reserve.enter": {"no coroutine": lambda *_: None},
        "reserve.exit": {"no coroutine": lambda *_: None},
        "rewrite.event": {"nothing": lambda *_: None, "a number": lambda *_: 3, "texts": lambda *_: ["x"]},
        "rewrite.end": {"nothing": lambda *_: None, "a number": lambda *_: 3, "texts": lambda *_: ["x"]},
        "rewrite.answer": {"nothing": lambda *_: None, "a number": lambda *_: 3},
        "register_routes.handler": {"nothing": lambda *_: None, "a text": lambda *_: "hello"},
        "import": {"a number": lambda *_: 3},
    },
    "rubbish": {
        "check": {"no level": lambda *_: [Report(level="bad", text="it is odd")]},
        "status": {"no JSON": lambda *_: {"seen": object()}},
        "detect": {"no mapping": lambda *_: [Detected(name="x", source="x", confidence=1.0, options=3)]},
        "classify": {"no privacy": lambda self, features: evolve(features, privacy=None)},
        "veto": {"no code": lambda self, candidates: [Veto(c, ["odd"], "odd") for c in candidates[:1]]},
        "score": {
            "text points": lambda self, candidates: [Score(candidates[0], "0.5")],
            "no points": lambda self, candidates: [Score(candidates[0], None)],
            "no terms": lambda self, candidates: [Score(candidates[0], 0.5, None)],
        },
        "intercept": {
            "a text body": lambda *_: Answer(status=200, content_type="a/b", body="{}"),
            "a text status": lambda *_: Answer(status="200", content_type="a/b", body=b"{}"),
        },
        "reserve": {"no coroutines": lambda *_: Unawaitable()},
        "mutate": {
            "no messages": lambda self, request: evolve(request, messages=None),
            "no parameters": lambda self, request: evolve(request, params=3),
        },
        "judge": {"no kind": lambda *_: Failure(kind="odd", message="odd")},
        "rewrite.event": {"no JSON": lambda *_: [{"x": object()}], "spoiled": spoiled},
        "rewrite.end": {"no JSON": lambda *_: [{"x": object()}]},
        "rewrite.answer": {"no JSON": lambda *_: {"x": object()}, "spoiled": spoiled},
    },
    "NaN": {
        "detect": {"confidence": lambda *_: [Detected(name="x", source="x", confidence=nan)]},
        "classify": {"tokens": lambda self, features: evolve(features, prompt_tokens=nan)},
        "veto": {"wait": lambda self, candidates: [Veto(candidates[0], "no", "no", retry_after=nan)]},
        "score": {"points": lambda self, candidates: [Score(candidates[0], nan)]},
        "intercept": {"status": lambda *_: Answer(status=nan, content_type="a/b", body=b"{}")},
        "reserve": {"wait": is_busy_for_nan},
        "judge": {"wait": lambda *_: Failure(kind=FailureKind.EMPTY, message="odd", retry_after=nan)},
    },
    "unknown candidate": {
        "veto": {
            "a stranger": lambda *_: [Veto(STRANGER, "no", "no")],
            "a key": lambda *_: [Veto("one/m1", "no", "no")],
        },
        "score": {"a stranger": lambda *_: [Score(STRANGER, 1.0)], "a key": lambda *_: [Score("one/m1", 1.0)]},
    },
}


# The places

ASKED_ONCE = ("rewrite.event", "rewrite.end", "rewrite.answer", "status", "check")
"""Where one plain and one streamed request, and one look at the router, come by once; elsewhere they do twice."""

REQUEST = ("classify", "veto", "score", "intercept", "begin", "reserve", "mutate", "judge", "rewrite")
LEARNING = ("on_failure", "on_success", "record_usage")
RESERVATION = ("reserve.enter", "reserve.exit")
REWRITER = ("rewrite.event", "rewrite.end", "rewrite.answer")
START = ("register_providers", "register_routes", "register_commands", "detect")
LIFE = ("lifespan", "lifespan.open", "lifespan.close")
MAKING = ("import", "made")
ROUTE = ("register_routes.handler",)

REFUSED = frozenset({*REQUEST, "reserve.enter", *REWRITER})
"""Where a required plugin's fault refuses the request, as the manual says; behind these the answer is under way."""

PLACES = (*HOOKS, "lifespan.open", "lifespan.close", *RESERVATION, *REWRITER, *ROUTE, *MAKING)

TYPED = ("classify", "mutate", "judge", "intercept", "on_failure", "status")
"""Hooks that answer with one value of one type; status tells which type they answered with."""

SYNC = (*START[:3], *REWRITER, *MAKING)
ITEMS = ("check", "veto", "score", "detect", *START[:3], "rewrite.event", "rewrite.end")

LEFT_OUT: Mapping[str, Mapping[str, Iterable[str]]] = {
    "raises": {},
    "raises later": {"sync": SYNC, "form": ("lifespan",)},
    "raises midway": {"whole": {*PLACES} - {*ITEMS}},
    "exits": {},
    "exits later": {"sync": SYNC, "form": ("lifespan",)},
    "cancels": {"taskless": (*START, *MAKING)},
    "cancels later": {"sync": SYNC, "taskless": ("detect",), "form": ("lifespan",)},
    "closes": {"taskless": (*START, *MAKING)},
    "hangs": {"sync": SYNC, "form": ("lifespan",), "waits": ("reserve.enter",), "own": ROUTE},
    "is busy": {"meant": ("reserve", "reserve.enter"), "same": (*START, *LIFE, *MAKING, *ROUTE, *REWRITER)},
    "refuses": {"meant": (*REQUEST, "reserve.enter", *ROUTE), "same": (*START, *LIFE, *MAKING, *REWRITER)},
    "blocks": {"early": (*START, *LIFE, *MAKING), "untimed": (*RESERVATION, *REWRITER, *ROUTE)},
    "blocks later": {"sync": SYNC, "early": ("detect", *LIFE), "untimed": (*RESERVATION, *ROUTE)},
    "wrong type": {
        "unread": ("begin", "on_success", "record_usage", "lifespan.open", "lifespan.close"),
        "own": ("made",),
    },
    "rubbish": {
        "unread": ("begin", "on_success", "record_usage", *LIFE, *RESERVATION),
        "plain": ("on_failure", "rewrite", *MAKING),
        "typed": (*START[:3], *ROUTE),
    },
    "NaN": {
        "numberless": {*PLACES}
        - {"detect", "classify", "veto", "score", "intercept", "reserve", "judge", "status"}
        - {"mutate", *REWRITER},
        "null": ("status", "mutate", *REWRITER),
    },
    "unknown candidate": {"nobody": {*PLACES} - {"veto", "score"}},
}
"""The cells that make no sense, by way, and why in a word.

sync: nothing is awaited there. form: a hook of this form has no such moment, the places behind the dot have it.
whole: it answers with one thing, not with items. taskless: nobody's task runs there, so there is nothing to cancel.
waits: a slot that is not granted is waited for; it has a test of its own. own: it has a test of its own, or is the
plugin's own business. meant: this is how one says no there. same: no other error means more there. early: nobody is
answered yet. untimed: only hooks are timed. unread: nobody reads the
answer. plain: there is nothing inside. typed: what is inside has types of its own. numberless: no number is answered.
null: JSON has no NaN, so it is written as null. nobody: no candidate is answered.
"""


def left_out(way: str, place: str) -> str | None:
    """Why this cell is not there, in a word."""
    return next((word for word, places in LEFT_OUT[way].items() if place in places), None)


@frozen
class Cell:
    """One way to fail at one place."""

    place: str
    kind: str
    way: Way
    label: str = ""

    @property
    def hook(self) -> str:
        return self.place.partition(".")[0]

    @property
    def late(self) -> bool:
        """Whether a stream is under way before anybody can know."""
        return self.place in REWRITER or (self.place, self.kind) == ("rewrite", "wrong type")

    def __str__(self) -> str:
        return "-".join(filter(None, (self.place, self.kind, self.label)))


def cells() -> Iterator[Cell]:
    for place, (kind, way) in product(PLACES, WAYS.items()):
        if left_out(kind, place) is None:
            yield Cell(place, kind, way)
    for kind, answers in WRONG.items():
        for place, does in answers.items():
            for label, function in does.items():
                typed = kind == "wrong type" and place in TYPED
                yield Cell(place, kind, Way(function, r"answered with \w+ instead of \w+" if typed else ".+"), label)


CELLS = list(cells())


def each(chosen: Callable[[Cell], bool]) -> pytest.MarkDecorator:
    """These cells."""
    return pytest.mark.parametrize("cell", [cell for cell in CELLS if chosen(cell)], ids=str)


def either(chosen: Callable[[Cell], bool]) -> pytest.MarkDecorator:
    """These cells, of a plugin that is required and of one that is not."""
    runs = [
        pytest.param(cell, required, id=f"{cell}{then}")
        for cell in CELLS
        for required, then in ((False, "-optional"), (True, "-required"))
        if chosen(cell)
    ]
    return pytest.mark.parametrize(("cell", "required"), runs)


def test_every_cell_is_there_or_says_in_a_word_why_not() -> None:
    there = {(cell.kind, cell.place) for cell in CELLS}
    out = {(way, place) for way, words in LEFT_OUT.items() for places in words.values() for place in places}

    assert there | out == set(product([*WAYS, *WRONG], PLACES))
    assert not there & out
    assert sum(len(tuple(places)) for words in LEFT_OUT.values() for places in words.values()) == len(out)


# The plugins


def in_time(does: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The same as a coroutine, for the methods that are awaited."""

    async def method(*args: Any) -> Any:
        done = does(*args)
        return await done if inspect.isawaitable(done) else done

    return method


def life(opens: Callable[..., Any], closes: Callable[..., Any]) -> Callable[..., AsyncIterator[None]]:
    """A lifespan that does these before and behind its `yield`."""

    async def lifespan(self: object) -> AsyncIterator[None]:
        await in_time(opens)(self)
        yield
        await in_time(closes)(self)

    return lifespan


def nothing(*_: Any) -> None: ...


def passing(part: str, does: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a rewriter, or a route's handler, that does this beside its work."""

    def method(*args: Any) -> Any:
        does()
        return web.Response() if part == "handler" else getattr(Passing, part)(*args)

    return method


def faulty(cell: Cell) -> type:
    """The plugin that fails in this cell."""
    does, (hook, _, part) = cell.way.does, cell.place.partition(".")
    if part == "open":
        does = life(cell.way.does, nothing)
    elif part == "close":
        does = life(nothing, cell.way.does)
    elif hook == "reserve" and part:
        method = does if cell.kind == "wrong type" else in_time(does)
        methods = {"__aenter__": in_time(nothing), "__aexit__": in_time(nothing), f"__a{part}__": method}
        slot = type("Slot", (), methods)
        does = lambda self: slot()  # noqa: E731 - one of several
    elif hook == "rewrite" and part:
        rewriter = type("Rewriter", (Passing,), {part: cell.way.does if cell.way.told else passing(part, does)})
        does = lambda self: rewriter()  # noqa: E731 - one of several
    elif part == "handler":
        handler = in_time(does if cell.way.told else passing(part, does))
        does = lambda self: [web.get("/v1/mine", handler)]  # noqa: E731 - one of several
    return type("Mine", (), {hook: hookimpl(copied(does))})


def copied(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a plugin's own, since pluggy writes its marks on it."""
    assert isinstance(function, FunctionType)
    return FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )


class Beside:
    """A plugin that is well: it answers the same hook, and counts how often it is asked and closed."""

    def __init__(self) -> None:
        self.asked = self.closed = 0


ANSWERS: Mapping[str, Any] = {
    "check": [Report(level=Level.OK, text="beside is well")],
    "status": {"well": True},
    "detect": [Detected(name="beside", source="beside is here", confidence=1.0)],
    "register_commands": [click.Command("hello", callback=lambda: click.echo("hello there"))],
    "register_providers": (),
    "register_routes": (),
}


def beside(hook: str) -> type:
    """The plugin that is well."""

    def well(self: Beside) -> Any:
        self.asked += 1
        return ANSWERS.get(hook)

    async def lifespan(self: Beside) -> AsyncIterator[None]:
        self.asked += 1
        yield
        self.closed += 1

    return type("Beside", (Beside,), {hook: hookimpl(lifespan if hook == "lifespan" else well)})


@define
class Kept:
    """A sink that keeps the bytes a client would see, and the error that ended them."""

    body: bytes = b""
    error: RequestError | None = None

    def watch(self, leave: Callable[[str], None]) -> None: ...

    async def plain(self, answer: Answer, served: object) -> None:
        self.body = answer.body

    async def open(self, served: object) -> None: ...

    async def write(self, block: bytes) -> None:
        self.body += block

    async def fail(self, error: RequestError) -> None:
        self.body += error_event(error)
        self.error = error

    async def close(self, rest: bytes) -> None:
        self.body += rest + DONE


@define
class Bench:
    """A started router with the faulty plugin, one that is well, and two providers."""

    cell: Cell
    required: bool
    up: Upstream
    router: Router
    log: pytest.LogCaptureFixture
    records: list[UsageRecord]
    failures: list[Failure]

    @property
    def beside(self) -> Beside:
        plugin: Beside = self.router.hooks.instances["beside"].plugin
        return plugin

    async def ask(self, stream: bool) -> None:
        """One request, which goes as if the plugin were not there, or is refused in its name."""
        name = "two" if self.cell.hook == "on_failure" else "one"
        if name == "two":
            self.up.script("one", "http:500")
        sink = Kept()
        refused = None
        try:
            await self.router.handle(self.router.request(CHAT, stream=stream), sink)
        except RequestError as error:
            refused = error
        if not self.refuses(stream):
            assert refused is None
            assert sink.error is None
            assert sink.body == self.up.expected(name, "m1", stream)
            return
        if stream and self.cell.late:
            refused = sink.error
            assert sink.body.endswith(error_event(refused or RequestError("not_found", "")))
        else:
            assert sink.body == b""
        assert refused is not None
        assert (refused.code, refused.status, refused.details) == ("plugin_required", 503, {"plugin": "mine"})
        assert "'mine'" in refused.message
        assert CANARY not in json.dumps(refused.body())

    def refuses(self, stream: bool) -> bool:
        """Whether the fault refuses such a request."""
        if not (self.required and self.cell.way.told and self.cell.place in REFUSED):
            return False
        return self.cell.place not in REWRITER or stream is (self.cell.place != "rewrite.answer")

    async def named(self, times: int) -> None:
        """Status names the plugin and the place, the log too, and neither quotes it."""
        cell = self.cell
        told = json.loads(dumps(await self.router.status()))
        [entry] = [entry for entry in told["plugins"] if entry["name"] == "mine"]
        assert (entry["faults"], entry["slow"]) == (times * bool(cell.way.told), times * cell.way.slow)
        if cell.way.told:
            assert re.fullmatch(f"{cell.hook}: {cell.way.told}", entry["last_fault"])
        lines = [record for record in self.log.records if "plugin mine" in record.getMessage()]
        assert len(lines) == times * bool(cell.way.told or cell.way.slow)
        what = f"plugin mine .* {cell.way.told}" if cell.way.told else "plugin mine held the loop for .*"
        assert all(re.fullmatch(what, record.getMessage()) for record in lines)
        assert CANARY not in json.dumps(told) + self.log.text


@asynccontextmanager
async def bench(cell: Cell, required: bool, log: pytest.LogCaptureFixture) -> AsyncIterator[Bench]:
    """A bench that is gone in time."""
    async with asyncio.timeout(PATIENCE), Upstream() as up:
        witness = Witness()
        plugins: dict[str, Any] = {"mine": {"required": required}, "beside": {}}
        for name in ("one", "two"):
            plugins[name] = {"use": "lab", "base_url": up.base_url(name), "models": ["m1"]}
        if cell.hook == "lifespan":
            plugins = {"beside": plugins.pop("beside"), **plugins}
        router = make_router(
            {"plugins": plugins, "profiles": {"auto": {"weights": {"mine": 1, "beside": 1}}}},
            plugins={"mine": faulty(cell), "beside": beside(cell.hook), "lab": OpenAIProvider},
            witness=witness,
        )
        router.hooks.seconds = SECONDS if cell.kind == "hangs" else 60.0
        async with router:
            yield Bench(cell, required, up, router, log, witness.records, witness.failures)


# The stages: how a place is come by, and what must come of it


async def at_requests(cell: Cell, required: bool, log: pytest.LogCaptureFixture) -> None:
    """A plain and a streamed request are answered byte for byte, and nobody is blamed but the plugin."""
    async with bench(cell, required, log) as at:
        for stream in (False, True):
            await at.ask(stream)
        await until(lambda: len(at.records) == 2)
        await at.router.services.recorder.drain()
        await at.named(1 if cell.place in ASKED_ONCE else 2)
        refused = [at.refuses(stream) for stream in (False, True)]
        if not any(refused):
            assert at.beside.asked == 2
        broken = Outcome.TRUNCATED if cell.late else Outcome.FAILED
        outcomes = [Outcome.FAILED if refused[0] else Outcome.ANSWERED, broken if refused[1] else Outcome.ANSWERED]
        assert [record.outcome for record in at.records] == outcomes
        assert len(at.failures) == (2 if cell.hook == "on_failure" else 0)
        if all(refused) and cell.hook not in ("judge", "rewrite"):
            assert at.up.seen("one").chat == at.up.seen("two").chat == 0


async def at_a_look(cell: Cell, required: bool, log: pytest.LogCaptureFixture) -> None:
    """Who looks at the router sees what all the others tell; requests do not notice."""
    async with bench(cell, required, log) as at:
        if cell.hook == "check":
            reports = await at.router.check()
            assert "beside is well" in [report.text for report in reports]
            assert all(isinstance(report.level, Level) for report in reports)
        await at.named(1)
        assert at.beside.asked == 1
        for stream in (False, True):
            await at.ask(stream)


async def at_the_opening(cell: Cell, required: bool, log: pytest.LogCaptureFixture) -> None:
    """The plugin is switched off and named; a required one stops the start, and what was open is closed."""
    if required and cell.way.told:
        with pytest.raises(PluginError, match="the required plugin 'mine' failed to start"):
            async with bench(cell, required, log):
                raise AssertionError("it has started")
        return
    async with bench(cell, required, log) as at:
        for stream in (False, True):
            await at.ask(stream)
        await at.named(1)
        assert at.router.hooks.instances["mine"].enabled is not bool(cell.way.told)
    assert (at.beside.asked, at.beside.closed) == (1, 1)


async def at_the_closing(cell: Cell, required: bool, log: pytest.LogCaptureFixture) -> None:
    """The stop ends in time, the others are closed, and the plugin is named."""
    async with bench(cell, required, log) as at:
        for stream in (False, True):
            await at.ask(stream)
    assert at.beside.closed == 1
    mine = at.router.hooks.instances["mine"]
    assert mine.faults == bool(cell.way.told)
    if cell.way.told:
        assert re.fullmatch(f"lifespan: {cell.way.told}", mine.last_fault or "")
        assert "plugin mine" in log.text
    assert CANARY not in log.text


async def at_a_route(cell: Cell, required: bool, log: pytest.LogCaptureFixture) -> None:
    """The caller of the route gets an error of ours, and the server goes on."""
    async with asyncio.timeout(PATIENCE), house(plugins={"mine": faulty(cell)}) as at:
        at.router.hooks.instances["mine"].required = required
        reply = await at.get("/v1/mine")
        if not cell.way.told:
            assert reply.status == 200
        else:
            assert (reply.status, reply.error["code"]) == (500, "internal_error")
            assert "'mine'" in reply.error["message"]
            assert CANARY.encode() not in reply.body
        [entry] = [entry for entry in (await at.get("/v1/router/plugins")).json["plugins"] if entry["name"] == "mine"]
        assert entry["faults"] == bool(cell.way.told)
        if cell.way.told:
            assert re.fullmatch(f"register_routes: {cell.way.told}", entry["last_fault"])
        assert CANARY not in log.text
        assert (await at.chat()).body == at.up.expected("a", "m1")


Stage = Callable[[Cell, bool, pytest.LogCaptureFixture], Coroutine[Any, Any, None]]

STAGES: Mapping[str, Stage] = {
    **dict.fromkeys((*REQUEST, *LEARNING, *RESERVATION, *REWRITER), at_requests),
    **dict.fromkeys(("status", "check"), at_a_look),
    **dict.fromkeys(("lifespan", "lifespan.open"), at_the_opening),
    "lifespan.close": at_the_closing,
    **dict.fromkeys(ROUTE, at_a_route),
}


@pytest.fixture(autouse=True)
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for; what hangs is given up soon, and only what blocks is slow, however busy the machine is."""
    cell = getattr(request.node, "callspec", None) and request.node.callspec.params.get("cell")
    monkeypatch.setattr(fallback, "RETRY_BASE_SECONDS", 0.0)
    monkeypatch.setattr(hooks_module, "SLOW_SECONDS", SLOW if cell and cell.way.slow else 60.0)
    seconds = SECONDS if cell and cell.kind == "hangs" else 60.0
    for name in ("OPEN_SECONDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(hooks_module, name, seconds, raising=False)


@either(lambda cell: cell.place in STAGES)
def test_a_plugin_that_fails_while_the_router_runs(
    cell: Cell, required: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "routerpool")
    asyncio.run(STAGES[cell.place](cell, required, caplog))


# At the start nothing runs yet: the error of the configuration names the plugin, or the list of what was found does


@frozen
class Offered(Installed):
    """A plugin at hand, in the place of an installed one."""

    plugin: type = field(kw_only=True)

    def load(self) -> type:
        return self.plugin


def offer(monkeypatch: pytest.MonkeyPatch, **plugins: type) -> None:
    """Have these plugins installed, and no others."""
    found = {
        name: Offered(name, EntryPoint(name, "test:Plugin", "routerpool"), f"routerpool-{name}", "1.0", plugin=plugin)
        for name, plugin in plugins.items()
    }
    monkeypatch.setattr("routerpool.hooks.loading.installed", lambda: found)
    monkeypatch.setattr("routerpool.hooks.detection.installed", lambda: found)


def configured(folder: Path, required: bool) -> Path:
    """A file that names both plugins."""
    path = folder / "routerpool.yaml"
    path.write_text(f"store: sqlite://\nplugins:\n  mine: {{required: {str(required).lower()}}}\n  beside: {{}}\n")
    return path


@either(
    lambda cell: (
        cell.place
        in (
            "register_providers",
            "register_routes",
        )
    )
)
def test_a_plugin_that_cannot_register_stops_the_start_in_its_name(
    cell: Cell, required: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, mine=faulty(cell), beside=beside(cell.hook))

    with pytest.raises(PluginError) as refused:
        create_app(Router.of(configured(tmp_path, required)))
    assert "'mine'" in str(refused.value)


@either(lambda cell: cell.place == "register_commands")
def test_a_plugin_whose_commands_fail_costs_only_its_own(
    cell: Cell, required: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, mine=faulty(cell), beside=beside(cell.hook))
    config = ["--config", str(configured(tmp_path, required))]

    run = CliRunner().invoke(cli, [*config, "--help"])
    assert run.exit_code == 0
    assert "mine of routerpool-mine" in " ".join(run.output.split())
    assert CliRunner().invoke(cli, [*config, "hello"]).output == "hello there\n"


@each(lambda cell: cell.place == "detect")
def test_a_plugin_that_cannot_look_around_is_named_and_the_others_are_found(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, mine=faulty(cell), beside=beside(cell.hook))

    tree, notes = zero_config({}, timeout=0.5 if cell.kind == "hangs" else 20)
    assert list(tree["plugins"]) == ["beside"]
    [note] = [note for note in notes if "mine" in note]
    assert re.search(r"TimeoutError|longer than" if cell.kind == "hangs" else cell.way.told, note)
    assert CANARY not in note


STATEMENTS = {"raises": f"raise OSError({CANARY!r})", "exits": f"raise SystemExit({CANARY!r})"}

SOURCES = {
    ("import", "raises"): (
        f"class Plugin: ...\n{STATEMENTS['raises']}",
        "routerpool-mine 1.0 fails to import: OSError",
    ),
    ("import", "exits"): (
        f"class Plugin: ...\n{STATEMENTS['exits']}",
        "routerpool-mine 1.0 fails to import: SystemExit",
    ),
    ("import", "wrong type"): (
        "class Plugin: ...\nPlugin = 3",
        "the entry point 'mine' of routerpool-mine is no class",
    ),
    ("made", "raises"): (f"def __init__(self):\n    {STATEMENTS['raises']}", "the plugin cannot be made: OSError"),
    ("made", "exits"): (f"def __init__(self):\n    {STATEMENTS['exits']}", "the plugin cannot be made: SystemExit"),
}
"""What such a plugin looks like, and what is told of it."""


@either(lambda cell: cell.place in MAKING)
def test_a_plugin_that_cannot_be_made_is_a_mistake_of_the_configuration(
    cell: Cell, required: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf.alone(tmp_path / "site", monkeypatch)
    source, told = SOURCES[cell.place, cell.kind]
    shelf.put("mine", source)
    shelf.put("beside", "def __init__(self):\n    raise ValueError('it is told of as well')")
    config = configured(tmp_path, required)

    with pytest.raises(ConfigError) as refused:
        Router.of(config)
    assert [problem.path for problem in refused.value.problems] == ["plugins.mine", "plugins.beside"]
    line = str(refused.value).splitlines()[0]
    assert line.startswith(f"{config}:3: plugins.mine: ")
    assert told in line
    run = CliRunner().invoke(cli, ["--config", str(config), "config", "check"])
    assert run.exit_code == 2
    assert "plugins.mine: " in run.stderr
    assert "Traceback" not in run.output


@each(lambda cell: cell.place in MAKING)
def test_a_plugin_that_cannot_be_made_is_not_asked_what_is_here(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf.alone(tmp_path / "site", monkeypatch)
    source, _ = SOURCES[cell.place, cell.kind]
    shelf.put("mine", source)
    look = "yield Detected(name='beside', source='beside is here', confidence=1.0)"
    shelf.put("beside", f"@hookimpl\ndef detect(self):\n    {look}")

    tree, notes = zero_config({}, timeout=20)
    assert list(tree["plugins"]) == ["beside"]
    assert "mine" in " ".join(notes)


# Over HTTP the same holds for the commonest ways


COMMONEST = ("raises", "exits", "cancels", "hangs")


@either(lambda cell: STAGES.get(cell.place) is at_requests and cell.kind in COMMONEST)
def test_a_client_sees_no_more_of_a_fault_than_the_contract_says(
    cell: Cell, required: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        weights = {"auto": {"weights": {"mine": 1}}}
        async with asyncio.timeout(PATIENCE), house("one two", plugins={"mine": faulty(cell)}, profiles=weights) as at:
            at.router.hooks.instances["mine"].required = required
            at.router.hooks.seconds = SECONDS if cell.kind == "hangs" else 60.0
            for stream in (False, True):
                await ask_over_http(at, cell, required, stream)
            told = (await at.get("/v1/router/status")).json
            [entry] = [entry for entry in told["plugins"] if entry["name"] == "mine"]
            assert entry["faults"] == (1 if cell.place in ASKED_ONCE else 2)
            assert re.fullmatch(f"{cell.hook}: {cell.way.told}", entry["last_fault"])
            assert CANARY not in json.dumps(told)

    asyncio.run(main())
    assert "Traceback" not in caplog.text
    assert CANARY not in caplog.text


async def ask_over_http(at: House, cell: Cell, required: bool, stream: bool) -> None:
    """One request: the right bytes, or the one error of the contract."""
    name = "two" if cell.hook == "on_failure" else "one"
    if name == "two":
        at.up.script("one", "http:500")
    reply = await at.chat(stream=stream)
    refused = required and cell.place in REFUSED
    if cell.place in REWRITER:
        refused = refused and stream is (cell.place != "rewrite.answer")
    if not refused:
        assert (reply.status, reply.headers["X-Router-Provider"]) == (200, name)
        assert reply.body == at.up.expected(name, "m1", stream)
        return
    if stream and cell.late:
        error = json.loads(reply.body.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
        assert reply.status == 200
        assert DONE not in reply.body
    else:
        assert reply.status == 503
        error = reply.error
    assert (error["code"], error["plugin"]) == ("plugin_required", "mine")
    assert b"Traceback" not in reply.body
    assert CANARY.encode() not in reply.body


# What has a test of its own


def test_a_reservation_that_is_never_granted_is_waited_for_within_the_budget(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cell = Cell("reserve.enter", "hangs", WAYS["hangs"])

    async def main() -> None:
        async with bench(cell, False, caplog) as at:
            with pytest.raises(RequestError) as refused:
                await at.router.handle(at.router.request(CHAT | {"router": {"max_seconds": 0.1}}), Kept())
            assert refused.value.code == "budget_exhausted"
            assert "one/m1: mine granted nothing in time" in refused.value.message
            assert at.up.seen("one").chat == at.up.seen("two").chat == 0

    asyncio.run(main())


def test_a_route_that_hangs_holds_nobody_but_its_own_client() -> None:
    class Plugin:
        def __init__(self) -> None:
            self.asked, self.go_on = asyncio.Event(), asyncio.Event()

        @hookimpl
        def register_routes(self) -> Iterable[web.RouteDef]:
            return [web.get("/v1/mine", self.hang)]

        async def hang(self, request: web.Request) -> web.Response:
            self.asked.set()
            await self.go_on.wait()
            return web.Response()

    async def main() -> None:
        async with asyncio.timeout(PATIENCE), house(plugins={"mine": Plugin}) as at:
            plugin = at.router.hooks.instances["mine"].plugin
            hanging = asyncio.create_task(at.get("/v1/mine"))
            await plugin.asked.wait()
            assert (await at.chat()).body == at.up.expected("a", "m1")
            assert not hanging.done()
            plugin.go_on.set()
            assert (await hanging).status == 200

    asyncio.run(main())


def test_a_route_that_fails_in_the_middle_of_its_answer_breaks_off_visibly() -> None:
    class Plugin:
        @hookimpl
        def register_routes(self) -> Iterable[web.RouteDef]:
            return [web.get("/v1/mine", self.begin)]

        async def begin(self, request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"the first part")
            raise OSError(CANARY)

    async def main() -> None:
        async with asyncio.timeout(PATIENCE), house(plugins={"mine": Plugin}) as at:
            came = await at.raw(b"GET /v1/mine HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert came.count(b"HTTP/1.1") == came.count(b"the first part") == 1
            assert not came.endswith(b"0\r\n\r\n")
            assert at.router.hooks.instances["mine"].faults == 1

    asyncio.run(main())


def test_what_a_rewriter_held_back_goes_through_those_behind_it_although_one_before_it_failed() -> None:
    class Bad(Passing):
        def end(self) -> Iterable[dict[str, Any]]:
            raise OSError(CANARY)

    class Holding(Passing):
        def __init__(self) -> None:
            self.held: list[dict[str, Any]] = []

        def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
            self.held.append(event)
            return ()

        def end(self) -> Iterable[dict[str, Any]]:
            return self.held

    class Marking(Passing):
        def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
            return [{**event, "marked": True}]

    def rewriting(rewriter: type) -> type:
        return type("Plugin", (), {"rewrite": hookimpl(lambda self: rewriter())})

    async def main() -> None:
        async with Upstream() as up:
            plugins = {"bad": rewriting(Bad), "holding": rewriting(Holding), "marking": rewriting(Marking)}
            one = {"use": "lab", "base_url": up.base_url("one"), "models": ["m1"]}
            entries = {"bad": {}, "holding": {}, "marking": {}, "one": one}
            router = make_router({"plugins": entries}, plugins={**plugins, "lab": OpenAIProvider})
            async with router:
                events = [event async for event in router.stream(CHAT)]
            assert events
            assert all(event.get("marked") for event in events)

    asyncio.run(main())
