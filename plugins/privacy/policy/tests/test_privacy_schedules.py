"""Whatever happens, in whatever order: what is secret stays at home, and no key reaches anybody but its provider.

One server over real sockets, several providers, plugins that misbehave, reloads in between. Hypothesis makes up what
happens; after each step everything that left the process is searched: what remote providers got, what clients were
told, every log line at DEBUG, every byte of the database. `ROUTERPOOL_SCHEDULES=10000` is the nightly form.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import attrs
import pytest
from aiohttp import web
from attrs import define, evolve, field, frozen
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from routerpool_policy import Policy

from routerpool import (
    Attempt,
    Candidate,
    Decision,
    Features,
    Match,
    OpenAIProvider,
    Plan,
    Privacy,
    Router,
    Score,
    TextScanner,
    UsageRecord,
    hookimpl,
)
from routerpool.server import Server
from routerpool.testing import Upstream, make_router

SCHEDULES = int(os.environ.get("ROUTERPOOL_SCHEDULES", "1000"))
STEPS = 8

REMOTE, LOCAL = ("r1", "r2", "parrot"), ("home", "mimic")
KEYS = {name: f"canary-{name}-0123456789abcdef" for name in (*REMOTE, *LOCAL)}
CLIENT_KEYS = {name: f"client-{name}-0123456789abcdef" for name in ("plain", "vault", "chief")}
LIMITS = {
    "first_event_seconds": 0.3,
    "idle_seconds": 0.3,
    "answer_seconds": 0.3,
    "budget_seconds": 3,
    "max_attempts": 8,
}
FAULTS = (
    *("ok", "ok", "http:400", "http:401", "http:404", "http:429", "http:500", "close", "err200", "html", "empty"),
    *("emptystream", "midclose", "redirect", "overflow", "contentfilter", "notools"),
)
NUMBERS = itertools.count(1)


# Plugins that misbehave


@define
class Mischief:
    """What the plugins below do wrong at the moment: the house's, since a reload makes new plugins."""

    deeds: set[str] = field(factory=set)
    crash: bool = False


MISCHIEF = Mischief()
HOOKS = ("classify", "veto", "score", "intercept", "begin", "reserve", "mutate", "judge", "rewrite", "on_failure")
DEEDS = (
    *(f"raise:{hook}" for hook in HOOKS),
    "lower",
    "forget",
    "homely",
    "escalate",
    "again",
    "stop",
    "hijack",
    "meddle",
)


def does(deed: str, told: Any = None) -> bool:
    """Whether this is to be done; a deed of raising is done here, with all that it knows in the error's text."""
    if deed.startswith("raise:") and deed in MISCHIEF.deeds:
        raise RuntimeError(f"{told} {getattr(told, 'messages', '')} {KEYS}")
    return deed in MISCHIEF.deeds


class Rogue:
    """Fails in any hook, lowers classes, wants remote candidates at any price, and rewrites plans."""

    @hookimpl
    def classify(self, request: Any, features: Features) -> Features | None:
        does("raise:classify", request)
        if does("forget"):
            return Features()
        return evolve(features, privacy=Privacy.PUBLIC, findings=()) if does("lower") else None

    @hookimpl
    def veto(self, request: Any) -> Any:
        does("raise:veto", request)
        return ["nobody"] if does("meddle") else ()

    @hookimpl
    def score(self, request: Any, candidates: Sequence[Candidate]) -> list[Score]:
        does("raise:score", request)
        return [Score(c, float(c.model.local is does("homely"))) for c in candidates]

    @hookimpl
    def intercept(self, request: Any) -> None:
        does("raise:intercept", request)

    @hookimpl
    def begin(self, request: Any, plan: Plan) -> None:
        if does("hijack"):  # as a plan that is stale, or made by somebody who asked nobody
            everybody = HERE.server.router.catalog.snapshot.candidates
            object.__setattr__(plan, "ranked", tuple(sorted(everybody, key=lambda c: c.model.local)))
        does("raise:begin", request)

    @hookimpl
    def reserve(self, attempt: Attempt) -> None:
        does("raise:reserve", attempt.request)

    @hookimpl
    def mutate(self, request: Any) -> Any:
        does("raise:mutate", request)
        return evolve(request, params={**request.params, "model": "r1/m1"}) if does("meddle") else None

    @hookimpl
    def judge(self, attempt: Attempt) -> None:
        does("raise:judge", attempt.request)

    @hookimpl
    def rewrite(self, attempt: Attempt) -> None:
        does("raise:rewrite", attempt.request)

    @hookimpl
    def on_failure(self, attempt: Attempt) -> Decision:
        does("raise:on_failure", attempt.request)
        wishes = {"stop": Decision.STOP, "escalate": Decision.ESCALATE, "again": Decision.RETRY}
        return max((wish for deed, wish in wishes.items() if does(deed)), default=Decision.NEXT)


class Pin:
    """Keeps each conversation where it was, over reloads."""

    pinned: ClassVar[dict[str, str]] = {}

    @hookimpl
    def score(self, features: Features, candidates: Sequence[Candidate]) -> list[Score]:
        return [Score(c, float(self.pinned.get(features.session) == c.key)) for c in candidates]

    @hookimpl
    def on_success(self, attempt: Attempt) -> None:
        self.pinned.setdefault(attempt.features.session, attempt.candidate.key)


class Book:
    """Writes every record into the database, with all that it holds."""

    @hookimpl
    async def lifespan(self, router: Router) -> Any:
        from sqlalchemy import Column, MetaData, String, Table

        self.store, metadata = router.store, MetaData()
        self.table = Table("book", metadata, Column("told", String))
        await self.store.create(metadata)
        yield

    @hookimpl
    async def record_usage(self, record: UsageRecord) -> None:
        told = json.dumps(attrs.asdict(record), default=str)

        def write(connection: Any) -> None:
            connection.execute(self.table.insert().values(told=told))
            connection.exec_driver_sql("DELETE FROM book WHERE rowid < (SELECT max(rowid) - 100 FROM book)")

        await self.store.run(write)


class Birds(TextScanner):
    """Finds falcons, where it does not crash."""

    def find(self, text: str) -> Iterable[Match]:
        if MISCHIEF.crash:
            raise RuntimeError(f"cannot scan {text}")
        return [Match("falcon", *found.span()) for found in re.finditer("falcon-vk[0-9]{8}wj", text)]


# How a secret is sent


@frozen
class Said:
    """A body, the texts by which it would be known anywhere, and whether a scanner can see its marker."""

    body: dict[str, Any]
    needles: tuple[str, ...]
    visible: bool = True


def _user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **more}


def _called(arguments: str, result: str = "done", **call: Any) -> dict[str, Any]:
    made = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": arguments}, **call}
    return {
        "messages": [
            {"role": "user", "content": "Read it"},
            {"role": "assistant", "content": None, "tool_calls": [made]},
            {"role": "tool", "tool_call_id": made["id"], "content": result},
        ]
    }


def _tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}, **more}}


def _data_url(text: str) -> str:
    return "data:text/plain;base64," + base64.b64encode(text.encode()).decode()


VISIBLE: dict[str, Callable[[str], dict[str, Any]]] = {
    "user": lambda m: _user(f"tell me of {m}"),
    "system": lambda m: {"messages": [{"role": "system", "content": m}, {"role": "user", "content": "Hello"}]},
    "developer": lambda m: {"messages": [{"role": "developer", "content": m}, {"role": "user", "content": "Hello"}]},
    "assistant": lambda m: {"messages": [{"role": "assistant", "content": m}, {"role": "user", "content": "Hello"}]},
    "tool result": lambda m: _called("{}", m),
    "tool arguments": lambda m: _called(json.dumps({"q": m})),
    "key of arguments": lambda m: _called(json.dumps({m: 1})),
    "id of a call": lambda m: _called("{}", id=m),
    "content part": lambda m: _user([{"type": "text", "text": f"see {m}"}]),
    "unknown part": lambda m: _user([{"type": "text", "text": "x"}, {"type": "thought", "deep": [{"er": m}]}]),
    "image": lambda m: _user([{"type": "image_url", "image_url": {"url": f"https://example.com/{m}.png"}}]),
    "alt text": lambda m: _user([{"type": "image_url", "image_url": {"url": "https://example.com/x", "alt": m}}]),
    "data url": lambda m: _user([{"type": "file", "file": {"file_data": _data_url(f"a long text of {m} here")}}]),
    "data url in text": lambda m: _user(f"look: {_data_url(f'a long text of {m} here')} there"),
    "name": lambda m: {"messages": [{"role": "user", "name": m, "content": "Hello"}]},
    "refusal": lambda m: {
        "messages": [{"role": "assistant", "content": "", "refusal": m}, {"role": "user", "content": "Hello"}]
    },
    "metadata": lambda m: _user("Hello", metadata={"project": m}),
    "key of metadata": lambda m: _user("Hello", metadata={m: "project"}),
    "user field": lambda m: _user("Hello", user=m),
    "stop": lambda m: _user("Hello", stop=["x", m]),
    "prediction": lambda m: _user("Hello", prediction={"type": "content", "content": m}),
    "unknown field": lambda m: _user("Hello", extra={"a": [{"b": {"c": m}}]}),
    "name of a field": lambda m: _user("Hello", **{m: 1}),
    "tool description": lambda m: _user("Hello", tools=[_tool("read", description=f"reads {m}")]),
    "tool name": lambda m: _user("Hello", tools=[_tool(m)]),
    "schema": lambda m: _user("Hello", tools=[_tool("read", parameters={"properties": {m: {"type": "string"}}})]),
}
"""Where a scanner must see it."""

BLIND: dict[str, Callable[[str], Said]] = {
    "base64": lambda m: Said(
        _user(base64.b64encode(m.encode()).decode()), (base64.b64encode(m.encode()).decode(),), False
    ),
    "hex": lambda m: Said(_user(m.encode().hex()), (m.encode().hex(),), False),
    "backwards": lambda m: Said(_user(m[::-1]), (m[::-1],), False),
    "spaced": lambda m: Said(_user(" ".join(m)), (" ".join(m),), False),
    "zero width": lambda m: Said(_user("\u200b".join(m)), ("\u200b".join(m), "\\u200b".join(m)), False),
    "two messages": lambda m: Said(
        {"messages": [{"role": "user", "content": m[:14]}, {"role": "user", "content": m[14:] + m[:14][::-1]}]},
        (m[:14], m[:14][::-1]),
        False,
    ),
    "two keys": lambda m: Said(_user("Hello", metadata={m[:14]: 1, m[14:]: 2}), (m[:14],), False),
}
"""Where a scanner may not see it: then the request must say itself that it is secret, or a rule or its session does."""

WAYS = ("scanner", "header", "body", "profile", "key", "path", "words")


def said(marker: str, place: str) -> Said:
    """A body that holds this marker there."""
    if place in BLIND:
        return BLIND[place](marker)
    body = VISIBLE[place](marker)
    data_urls = re.findall("base64,([A-Za-z0-9+/=]+)", json.dumps(body))
    return Said(body, (marker, *data_urls))


# The house


@define
class Reply:
    status: int
    data: bytes
    """Headers and body."""

    @property
    def code(self) -> str | None:
        """The code of an error of ours."""
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            return str(json.loads(self.data.partition(b"\0")[2])["error"]["code"])
        return None


class Lines(logging.Handler):
    """Every line that is logged, as a log file would have it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s %(args)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class House:
    """The server, what it talks to, and all that came out of it and has not been looked at yet."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self.loop = asyncio.new_event_loop()
        self.up = Upstream(keys=KEYS)
        self.lines = Lines()
        self.replies: list[Reply] = []
        self.looked: dict[str, int] = {}
        self.leaks: list[str] = []
        self.asked: dict[str, int] = dict.fromkeys(("r1", "r2", "home", "secret at home", "reload", "reply"), 0)
        self.server: Server
        self.client: aiohttp.ClientSession
        self.url = ""

    def made(self) -> Router:
        """A router of the next generation."""
        options: dict[str, Any] = {"use": "p", "models": ["m1"]}
        providers = {
            name: options | {"base_url": self.up.base_url(name), "api_key_env": f"KEY_{name.upper()}"}
            for name in (*REMOTE, *LOCAL)
        }
        for name in LOCAL:
            providers[name]["local"] = True
        policy = {
            "rules": [
                {"paths": ["~/clients/**"], "privacy": "secret"},
                {"words": ["project osprey"], "privacy": "secret"},
            ],
            **self.config.get("policy", {}),
        }
        plugins = {"rogue": {}, "pin": {}, "policy": policy, "birds": {}, "book": {}, **providers}
        keys = [
            {"name": name, "sha256": sha256(key.encode()).hexdigest(), "privacy": floor}
            for (name, key), floor in zip(CLIENT_KEYS.items(), ("public", "secret", "public"), strict=True)
        ]
        tree = {
            "server": {"api_keys": keys[:2], "admin_keys": keys[2:]},
            "store": f"sqlite:///{self.folder}/r.db",
            "limits": LIMITS,
            "privacy": {"remote_allows": self.config.get("remote_allows", "public")},
            "plugins": plugins,
            "profiles": {
                "auto": {"weights": {"rogue": 1, "pin": 100}},
                "vault": {"weights": {"rogue": 1}, "privacy": "secret"},
            },
        }
        known = {"rogue": Rogue, "pin": Pin, "policy": Policy, "birds": Birds, "book": Book, "p": OpenAIProvider}
        return make_router(tree, plugins=known, env={f"KEY_{name.upper()}": key for name, key in KEYS.items()})

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def open(self, stack: ExitStack) -> None:
        await self.up.start()
        self.server = Server(self.made(), load=self.made)
        app = web.Application()
        self.server.attach(app, "", root=True)
        runner = web.AppRunner(app, lingering_time=0.1, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.client = aiohttp.ClientSession()
        up, client = self.up, self.client

        async def close() -> None:
            await client.close()
            await runner.cleanup()
            await up.stop()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:  # generations that a reload has just let go close behind the server
                await asyncio.wait(left, timeout=10)

        stack.callback(lambda: self.run(close()))

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str = "plain", patience: float = 5.0, **headers: str
    ) -> Reply | None:
        """A request and all of its answer; None when the client has left before."""
        told = {"Authorization": f"Bearer {CLIENT_KEYS[key]}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        status, data = 0, b""
        try:
            async with (
                asyncio.timeout(patience),
                self.client.request(method, self.url + path, json=body, headers=told) as answer,
            ):
                status, data = answer.status, repr(answer.raw_headers).encode() + b"\0"
                async for block in answer.content.iter_any():
                    data += block
        except TimeoutError:
            return None
        except aiohttp.ClientPayloadError:
            pass  # a stream that is broken off for all to see: what came of it counts
        reply = Reply(status, data)
        self.replies.append(reply)
        self.asked["reply"] += 1
        return reply

    # What came out

    def look(self, needles: Sequence[str]) -> None:
        """Search what came out since the last look; AssertionError says where something was that must not be."""
        keys = [key.encode() for key in KEYS.values()]
        clients = [key.encode() for key in CLIENT_KEYS.values()]
        wanted = [needle.encode() for needle in needles]
        for name in (*REMOTE, *LOCAL, "evil"):
            requests = self.up.seen(name).requests
            for received in requests[self.looked.get(name, 0) :]:
                data = received.head + received.body
                local = name in LOCAL
                found = [n for n in (*clients, *(() if local else wanted)) if n in data]
                assert not found, f"{name} got {found}: {data[:2000]!r}"
                assert sum(key in data for key in keys) <= 1
                if name in self.asked:
                    self.asked[name] += received.chat
                self.asked["secret at home"] += local and any(n in data for n in wanted)
            self.looked[name] = len(requests)
            assert self.up.seen(name).foreign_keys == 0, f"{name} got a key of another"
        assert self.up.seen("evil").requests == []
        told = [("a client", reply.data) for reply in self.replies]
        told += [("a log line", line.encode("utf-8", "replace")) for line in self.lines.lines]
        self.replies.clear()
        self.lines.lines.clear()
        self.search(told, [*wanted, *keys, *clients])

    def look_at_files(self, needles: Sequence[str]) -> None:
        """Search every byte of the database and of what stands beside it."""
        files = [(path.name, path.read_bytes()) for path in self.folder.iterdir()]
        assert files
        self.search(files, [needle.encode() for needle in (*needles, *KEYS.values(), *CLIENT_KEYS.values())])

    @staticmethod
    def search(told: Iterable[tuple[str, bytes]], wanted: Iterable[bytes]) -> None:
        for where, data in told:
            found = [needle for needle in wanted if needle in data]
            assert not found, f"{where} tells {found}: {data[:2000]!r}"


async def both(first: Any, second: Any) -> Any:
    """What the first of two comes to, once both are done."""
    return (await asyncio.gather(first, second))[0]


HERE: House


@contextmanager
def living_in(folder: Path, config: dict[str, Any]) -> Iterator[House]:
    """A house that is open, whose log is at DEBUG."""
    global HERE
    root = logging.getLogger()
    level = root.level
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr("routerpool.planning.fallback.RETRY_BASE_SECONDS", 0.0)
        HERE = house = House(folder, config)
        stack.callback(house.loop.close)
        patch.setattr(root, "handlers", [house.lines])  # pytest's own would keep all of it
        root.setLevel(logging.DEBUG)
        stack.callback(root.setLevel, level)
        house.run(house.open(stack))
        yield house


# What may happen


PROVIDERS = ("r1", "r2", "home")
DEED_SETS = st.sets(st.sampled_from(DEEDS), max_size=4)
CHANGES = st.one_of(
    st.tuples(st.sampled_from(PROVIDERS), st.sampled_from(FAULTS)),
    st.tuples(st.just("deeds"), DEED_SETS),
    st.tuples(st.sampled_from(("reload", "reload", "home")), st.just("ok")),
)
LOOKS = tuple(f"router/{name}" for name in ("explain", "policy/check", "status", "plugins", "models", "profiles"))


class Schedule(RuleBasedStateMachine):
    """One course of events, with a marker and conversations of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.number = next(NUMBERS)
        self.marker = f"falcon-vk{self.number:08d}wj"
        self.needles: list[str] = [self.marker]
        self.secret: set[int] = set()
        self.begun: dict[int, int] = {}
        self.turns = 0
        MISCHIEF.deeds, MISCHIEF.crash = set(), False

    @initialize(faults=st.tuples(*[st.sampled_from(FAULTS)] * 3), deeds=DEED_SETS)
    def begin(self, faults: Sequence[str], deeds: set[str]) -> None:
        up = HERE.up
        for name, fault in zip(PROVIDERS, faults, strict=True):
            up.always(name, fault)
        MISCHIEF.deeds = deeds
        up.reply("parrot", 401, {"error": {"message": f"Incorrect API key provided: {KEYS['parrot']}"}})
        up.reply("mimic", 500, {"error": {"message": f"cannot say {self.marker}", "param": self.marker}})

    @rule(change=CHANGES)
    def something_changes(self, change: tuple[str, Any]) -> None:
        """A provider begins to fail, plugins misbehave in other ways, or the configuration is read again."""
        what, how = change
        if what == "reload":
            HERE.run(HERE.server.reload())
            HERE.asked["reload"] += 1
        elif what == "deeds":
            MISCHIEF.deeds = how
        else:
            HERE.up.always(what, how)

    @rule(session=st.integers(0, 2), stream=st.booleans())
    def something_harmless_is_said(self, session: int, stream: bool) -> None:
        self.turns += 1
        text = f"plain-vk{self.number:08d}wj-{self.turns}-"
        if session in self.secret:
            self.needles.append(text)
        self.send(_user(text), session, stream)

    @rule(
        session=st.integers(0, 2),
        place=st.sampled_from((*VISIBLE, *BLIND)),
        way=st.sampled_from(WAYS),
        stream=st.booleans(),
        meanwhile=st.sampled_from((None, None, None, None, None, "leaves", "reload")),
    )
    def a_secret_is_said(self, session: int, place: str, way: str, stream: bool, meanwhile: str | None) -> None:
        told = said(self.marker, place)
        self.needles += told.needles
        body, headers = dict(told.body), {}
        if way == "scanner" and not told.visible and session not in self.secret:
            way = "header"
        if way == "header":
            headers["X_Router_Privacy"] = "secret"
        elif way == "body":
            body["router"] = {"privacy": "secret"}
        elif way == "profile":
            body["model"] = "routerpool/vault"
        elif way == "path":
            body["messages"] = [*_called('{"path": "/home/bob/clients/x"}')["messages"], *body["messages"]]
        elif way == "words":
            body["messages"] = [*body["messages"], {"role": "user", "content": "Project  Osprey"}]
        key = "vault" if way == "key" else "plain"
        patience = 0.004 if meanwhile == "leaves" else 5.0
        reply = self.send(body, session, stream, meanwhile, key=key, patience=patience, **headers)
        if key == "vault":
            return
        if reply is None:  # nobody knows whether it was begun: the conversation is not gone on with
            self.begun[session] = self.begun.get(session, 0) + 1
            self.secret.discard(session)
        elif reply.code != "plugin_required":
            self.secret.add(session)

    @rule(place=st.sampled_from(tuple(VISIBLE)), session=st.integers(0, 2))
    def the_scanner_crashes(self, place: str, session: int) -> None:
        before = {name: len(HERE.up.seen(name).requests) for name in (*REMOTE, *LOCAL)}
        self.turns += 1
        fresh = f"fresh-vk{self.number:08d}wj-{self.turns}-"  # what was scanned before is not scanned again
        body = said(self.marker, place).body
        MISCHIEF.crash = True
        reply = self.send({**body, "messages": [*body["messages"], {"role": "user", "content": fresh}]}, session, False)
        MISCHIEF.crash = False
        assert reply is not None
        assert reply.code == "plugin_required"
        for name, count in before.items():
            assert not any(fresh.encode() in received.body for received in HERE.up.seen(name).requests[count:])

    @rule(place=st.sampled_from((*VISIBLE, *BLIND)), session=st.integers(0, 2), path=st.sampled_from(LOOKS))
    def somebody_looks(self, place: str, session: int, path: str) -> None:
        told = said(self.marker, place)
        self.needles += told.needles
        asking = path in ("router/explain", "router/policy/check")
        headers = {"X_Session_Id": self.name_of(session)}
        method, body = ("POST", told.body) if asking else ("GET", None)
        reply = HERE.run(HERE.ask(method, f"/v1/{path}", body, key="chief", **headers))
        assert reply is not None
        assert reply.status == 200
        assert not asking or not told.visible or b'"secret"' in reply.data

    def name_of(self, session: int) -> str:
        return f"conversation-{self.number}-{session}-{self.begun.get(session, 0)}"

    def send(
        self, body: dict[str, Any], session: int, stream: bool, meanwhile: str | None = None, **how: Any
    ) -> Reply | None:
        """A chat request in a conversation, perhaps while the configuration is reloaded."""
        body = {"model": "auto", "stream": stream, **body}
        how["X_Session_Id"] = self.name_of(session)
        asking = HERE.ask("POST", "/v1/chat/completions", body, **how)
        if meanwhile == "reload":
            HERE.asked["reload"] += 1
            asking = both(asking, HERE.server.reload())
        reply: Reply | None = HERE.run(asking)
        return reply

    @invariant()
    def nothing_has_leaked(self) -> None:
        try:
            HERE.look(self.needles)
        except AssertionError as leak:
            HERE.leaks.append(str(leak))
            raise

    def teardown(self) -> None:
        self.nothing_has_leaked()
        HERE.look_at_files(self.needles)


HOUSES: dict[str, dict[str, Any]] = {
    "strict": {},
    "trusting": {"remote_allows": "private", "policy": {"may_train": "secret", "unknown": "secret"}},
    "lists": {
        "remote_allows": "sensitive",
        "policy": {"unknown": "sensitive", "allow": {"private": ["r2"]}, "deny": {"sensitive": ["r2"]}},
    },
    "careless": {"remote_allows": "sensitive", "policy": {"unknown": "secret", "findings": {"*": "secret"}}},
}


def live(house: House, count: int, *phases: Phase) -> None:
    """So many schedules; AssertionError with the first leak. Real sockets never do the same twice: that is no news."""
    try:
        run_state_machine_as_test(
            Schedule,
            settings=settings(
                max_examples=count,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=phases or tuple(Phase),
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Flaky:
        assert not house.leaks, house.leaks[0]
        raise


@pytest.mark.slow
@pytest.mark.parametrize("name", HOUSES)
def test_whatever_happens_a_secret_and_a_key_stay_where_they_belong(name: str, tmp_path: Path) -> None:
    with living_in(tmp_path, HOUSES[name]) as house:
        live(house, -(-SCHEDULES // len(HOUSES)))
        assert min(house.asked.values()) > 0, f"nothing is shown by what did not happen: {house.asked}"


MUTATIONS: dict[str, tuple[str, Any]] = {
    "the guard at the socket": ("routerpool.engine.exchange.may_see", lambda *_: True),
    "the memory of conversations": ("routerpool_policy.sessions.Sessions.privacy", lambda *_: Privacy.PUBLIC),
    "the rules": ("routerpool_policy.rules.Rules.matched", lambda *_: ()),
    "faults without their text": ("routerpool.hooks.calling.locate", str),
    "decoded data URLs": ("routerpool.privacy.parts._decoded", lambda *_: ()),
    "what is required": ("routerpool.hooks.calling.REFUSABLE", frozenset()),
}


@pytest.mark.parametrize("gone", MUTATIONS)
def test_the_schedules_notice_when_this_is_gone(gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTATIONS[gone])
    with living_in(tmp_path, {}) as house, pytest.raises((AssertionError, Flaky)):
        live(house, 3000, Phase.generate)
