"""Every hook does what the manual says: one test for each, through a real router and over real sockets."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from attrs import define, evolve, field
from click.testing import CliRunner

from routerpool import (
    ROUTER,
    Answer,
    Attempt,
    Candidate,
    ChatRequest,
    Decision,
    Failure,
    FailureKind,
    Features,
    Level,
    Model,
    OpenAIProvider,
    Opening,
    Outcome,
    Plan,
    Privacy,
    Probe,
    Report,
    RequestError,
    Router,
    Score,
    Unavailable,
    Usage,
    UsageRecord,
    Veto,
    create_app,
    hookimpl,
)
from routerpool.cli.commands import cli
from routerpool.hooks.calling import HOOKS
from routerpool.hooks.detection import zero_config
from routerpool.testing import Witness, make_router
from routerpool.testing.upstream import Upstream

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}


class Lab(OpenAIProvider):
    """A provider that lets a test send it private requests."""

    models = (Model(id="m1", local=True, free=True),)


@define
class House:
    """A started router over the upstream's providers, and what came of its requests."""

    up: Upstream
    router: Router
    witness: Witness = field(factory=Witness)

    async def chat(self, **changes: Any) -> str:
        """The text of a plain answer."""
        answer = await self.router.chat({**BODY, **changes})
        text: str = answer["choices"][0]["message"]["content"]
        return text

    async def stream(self, **changes: Any) -> str:
        """The text of a streamed answer."""
        events = [event async for event in self.router.stream({**BODY, **changes})]
        return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])

    @property
    def record(self) -> UsageRecord:
        """The record of the one request."""
        [record] = self.witness.records
        return record

    def chats(self) -> list[int]:
        """How many chat requests each of the two providers has seen."""
        return [self.up.seen("one").chat, self.up.seen("two").chat]


Visit = Callable[[House], Coroutine[Any, Any, None]]


def live(plugin: type | None, visit: Visit, providers: str = "one two", **config: Any) -> None:
    """Start a router with this plugin before the providers, and let a test use it."""

    async def main() -> None:
        async with Upstream() as up:
            entries: dict[str, Any] = {"mine": {}} if plugin else {}
            for name in providers.split():
                entries[name] = {"use": "lab", "base_url": up.base_url(name), "local": name == "one"}
            witness = Witness()
            known = {"lab": Lab, **({"mine": plugin} if plugin else {})}
            made = make_router({"plugins": entries, **config}, plugins=known, witness=witness)
            async with made as router:
                await visit(House(up, router, witness))

    asyncio.run(main())


def mine(house: House) -> Any:
    """The plugin under test."""
    return house.router.hooks.instances["mine"].plugin


def test_the_first_of_two_equal_candidates_answers_when_no_plugin_has_an_opinion() -> None:
    async def visit(house: House) -> None:
        assert await house.chat() == house.up.expected_text("one")
        assert await house.stream() == house.up.expected_text("one")
        assert house.chats() == [2, 0]

    live(None, visit)


# At the start


def test_hook_register_providers() -> None:
    class Plugin:
        @hookimpl
        def register_providers(self) -> Iterable[OpenAIProvider]:
            return [Extra(Extra.Config(), name=name) for name in ("left", "right")]

    class Extra(OpenAIProvider):
        base_url = "http://127.0.0.1:9/v1"
        models = ("m9",)

    async def visit(house: House) -> None:
        keys = [candidate.key for candidate in house.router.catalog.snapshot.candidates]
        assert keys == ["left/m9", "right/m9", "one/m1"]
        for name in ("left", "right"):
            provider = house.router.providers[name]
            assert isinstance(provider, OpenAIProvider)
            provider.use(evolve(provider.settings, base_url=house.up.base_url(name)))
        assert await house.chat(model="right/m9") == house.up.expected_text("right")
        assert (house.record.provider, house.record.model) == ("right", "m9")

    live(Plugin, visit, providers="one")


class Routes:
    """Serves one route that asks the router, and one that tells of it."""

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/v1/say", self.say), self.telling("/v1/hello/{who}", self.tell)]

    def telling(self, path: str, handler: Any) -> web.RouteDef:
        return web.route("GET", path, handler)

    async def say(self, request: web.Request) -> web.Response:
        answer = await request.app[ROUTER].chat({**BODY, **await request.json()})
        return web.json_response(answer["choices"][0]["message"])

    async def tell(self, request: web.Request) -> web.Response:
        return web.json_response({"who": request.match_info["who"], "known": list(request.app[ROUTER].providers)})


def serve(plugin: type, visit: Callable[[TestClient[Any, Any], Upstream], Coroutine[Any, Any, None]]) -> None:
    """Serve a router with this plugin and one provider over HTTP."""

    async def main() -> None:
        async with Upstream() as up:
            entries = {"mine": {}, "one": {"use": "lab", "base_url": up.base_url("one")}}
            app = create_app(make_router({"plugins": entries}, plugins={"mine": plugin, "lab": Lab}))
            async with TestClient(TestServer(app)) as client:
                await visit(client, up)

    asyncio.run(main())


def test_hook_register_routes() -> None:
    async def visit(client: TestClient[Any, Any], up: Upstream) -> None:
        response = await client.post("/v1/say", json={"temperature": 0})
        assert (response.status, (await response.json())["content"]) == (200, up.expected_text("one"))
        assert up.seen("one").last.json["temperature"] == 0
        response = await client.get("/v1/hello/ada")
        assert await response.json() == {"who": "ada", "known": ["one"]}
        assert (await client.post("/v1/hello/ada", json={})).status == 405

    serve(Routes, visit)


def test_a_plugin_may_register_a_route_by_web_get_as_the_manual_does() -> None:
    class Plugin(Routes):
        def telling(self, path: str, handler: Any) -> web.RouteDef:
            return web.get(path, handler)

    async def visit(client: TestClient[Any, Any], up: Upstream) -> None:
        assert (await client.get("/v1/hello/ada")).status == 200

    serve(Plugin, visit)


COMMANDS = """
import click
from routerpool import hookimpl

class Hello:
    @hookimpl
    def register_commands(self):
        return [click.Command("hello", callback=lambda: click.echo("hello there"), help="Say hello.")]
"""


@pytest.fixture
def hello(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that switches on an installed plugin with a command of its own."""
    (tmp_path / "odd_hello.py").write_text(COMMANDS)
    info = tmp_path / "hello-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[routerpool]\nhello = odd_hello:Hello\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "odd_hello", raising=False)
    importlib.invalidate_caches()
    config = tmp_path / "routerpool.yaml"
    config.write_text("store: sqlite://\nplugins:\n  hello: {}\n")
    return config


def test_hook_register_commands(hello: Path) -> None:
    run = CliRunner().invoke(cli, ["--config", str(hello), "hello"])
    assert (run.exit_code, run.output) == (0, "hello there\n")
    assert "Say hello." in CliRunner().invoke(cli, ["--config", str(hello), "--help"]).output

    hello.write_text("store: sqlite://\nplugins:\n  hello: {enabled: false}\n")
    assert CliRunner().invoke(cli, ["--config", str(hello), "hello"]).exit_code == 2


def test_hook_lifespan() -> None:
    log: list[str] = []

    class Plugin:
        @hookimpl
        async def lifespan(self, router: Router) -> AsyncIterator[None]:
            log.append(f"open with {len(router.providers)} and {'a' if router.session else 'no'} session")
            yield
            log.append(f"close with {'a' if not router.session.closed else 'no'} session")

    async def visit(house: House) -> None:
        await house.chat()
        log.append("requests")

    live(Plugin, visit)
    assert log == ["open with 2 and a session", "requests", "close with a session"]


# What people ask


def test_hook_check() -> None:
    class Plugin:
        @hookimpl
        def check(self, probe: Probe) -> Iterable[Report]:
            if "LAB_KEY" not in probe.env:
                yield Report(level=Level.WARNING, text="LAB_KEY is not set", cure="export it", subject="mine")
            if probe.network:
                yield Report(level=Level.OK, text="the lab answers", subject="mine")

    async def visit(house: House) -> None:
        for network, texts in ((False, ["LAB_KEY is not set"]), (True, ["LAB_KEY is not set", "the lab answers"])):
            reports = await house.router.check(network=network)
            assert [report.text for report in reports if report.subject == "mine"] == texts

    live(Plugin, visit)


def test_hook_status() -> None:
    class Plugin:
        seen = 0

        @hookimpl
        def begin(self) -> None:
            self.seen += 1

        @hookimpl
        async def status(self) -> Mapping[str, Any]:
            return {"seen": self.seen}

    async def visit(house: House) -> None:
        await house.chat()
        await house.chat()
        told = json.loads(json.dumps(await house.router.status()))
        assert [entry["status"] for entry in told["plugins"] if entry["name"] == "mine"] == [{"seen": 2}]

    live(Plugin, visit)


DETECT = """
from routerpool import Detected, OpenAIProvider, hookimpl

class Hello(OpenAIProvider):
    base_url = "http://127.0.0.1:9/v1"
    models = ("m1",)

    @hookimpl
    def detect(self, probe):
        if "LAB_URL" in probe.env:
            options = {"base_url": probe.env["LAB_URL"]}
            yield Detected(name="lab", source="LAB_URL is set", confidence=0.9, options=options)
"""


def test_hook_detect(hello: Path, upstream: Upstream) -> None:
    (hello.parent / "odd_hello.py").write_text(DETECT)
    tree, notes = zero_config({"LAB_URL": upstream.base_url("lab")}, timeout=20)
    assert tree["plugins"]["lab"] == {"use": "hello", "base_url": upstream.base_url("lab")}
    assert "LAB_URL is set → lab" in notes

    async def ask() -> None:
        async with make_router({"plugins": {"lab": tree["plugins"]["lab"]}}) as router:
            await router.chat(BODY)

    asyncio.run(ask())
    assert upstream.seen("lab").chat == 1
    assert "lab" not in zero_config({}, timeout=20)[0]["plugins"]


# Deciding


def test_hook_classify() -> None:
    class Plugin:
        @hookimpl
        def classify(self, request: ChatRequest, features: Features) -> Features | None:
            if "falcon" in str(request.messages[-1]["content"]):
                return evolve(features.raised(Privacy.SECRET), task="secret_project")
            return None

    async def visit(house: House) -> None:
        house.up.always("one", "http:500")
        assert await house.chat() == house.up.expected_text("two")
        with pytest.raises(RequestError) as refused:
            await house.chat(messages=[{"role": "user", "content": "project falcon"}])
        assert refused.value.code == "attempts_exhausted"
        assert house.up.seen("two").count("falcon") == 0
        assert house.up.seen("one").count("falcon") > 0
        told = [(record.privacy, record.task) for record in house.witness.records]
        assert told == [(Privacy.PUBLIC, None), (Privacy.SECRET, "secret_project")]

    live(Plugin, visit)


def test_hook_veto() -> None:
    class Plugin:
        @hookimpl
        def veto(self, candidates: tuple[Candidate, ...]) -> Iterable[Veto]:
            return [Veto(c, "too_far", "it is far", retry_after=7.0) for c in candidates if c.provider == "one"]

    async def visit(house: House) -> None:
        assert await house.chat() == house.up.expected_text("two")
        assert house.chats() == [0, 1]
        told = await house.router.explain(BODY)
        assert {"candidate": "one/m1", "code": "too_far", "reason": "it is far"} in told["vetoes"]
        with pytest.raises(RequestError) as refused:
            await house.chat(model="one/m1")
        assert (refused.value.code, refused.value.retry_after) == ("no_candidate", 7.0)
        assert house.chats() == [0, 1]

    live(Plugin, visit)


def test_hook_score() -> None:
    class Plugin:
        @hookimpl
        def score(self, candidates: tuple[Candidate, ...]) -> Iterable[Score]:
            return [Score(c, float(c.provider == "two"), {"second": float(c.provider == "two")}) for c in candidates]

    async def visit(house: House) -> None:
        assert await house.chat() == house.up.expected_text("two")
        assert house.record.terms == {"mine": 1.0}
        told = await house.router.explain(BODY)
        assert [entry["candidate"] for entry in told["ranked"]] == ["two/m1", "one/m1"]
        assert told["ranked"][0]["strategies"] == {"mine": {"points": 1.0, "weight": 5.0, "terms": {"second": 1.0}}}

    live(Plugin, visit, profiles={"auto": {"weights": {"mine": 5}}})


# Acting


def test_hook_intercept() -> None:
    canned = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "canned"}}]}

    class Plugin:
        @hookimpl
        async def intercept(self, request: ChatRequest, plan: Plan) -> Answer | None:
            assert plan.request is request
            if plan.features.task == "cached":
                return Answer(status=200, content_type="application/json", body=json.dumps(canned).encode())
            return None

    async def visit(house: House) -> None:
        assert await house.chat(router={"task": "cached"}) == "canned"
        assert house.chats() == [0, 0]
        assert (house.record.outcome, house.record.provider) == (Outcome.ANSWERED, None)
        assert await house.chat() == house.up.expected_text("one")

    live(Plugin, visit)


def test_hook_begin() -> None:
    class Plugin:
        def __init__(self) -> None:
            self.begun: list[tuple[str, str]] = []
            self.chats: Callable[[], list[int]] = list

        @hookimpl
        async def begin(self, request: ChatRequest, plan: Plan) -> None:
            self.begun.append((request.id, plan.ranked[0].key if plan.ranked else ""))
            assert self.chats() == [0, 0]

    async def visit(house: House) -> None:
        mine(house).chats = house.chats
        await house.chat()
        assert mine(house).begun == [(house.record.request_id, "one/m1")]
        assert house.router.hooks.instances["mine"].faults == 0
        mine(house).chats = lambda: [0, 0]
        with pytest.raises(RequestError):
            await house.chat(router={"forbidden": list(house.router.providers)})
        refused = house.witness.records[1].request_id
        assert mine(house).begun[1:] == [(refused, "")], "also of a request that nobody may answer"

    live(Plugin, visit)


def test_hook_reserve() -> None:
    class Plugin:
        def __init__(self) -> None:
            self.free = 1
            self.log: list[str] = []

        @hookimpl
        def reserve(self, attempt: Attempt) -> Slot | None:
            return Slot(self) if attempt.candidate.provider == "one" else None

    class Slot:
        def __init__(self, plugin: Plugin) -> None:
            self.plugin = plugin

        async def __aenter__(self) -> None:
            if not self.plugin.free:
                raise Unavailable("the slot is taken", retry_after=3)
            self.plugin.free -= 1
            self.plugin.log.append("taken")

        async def __aexit__(self, *exc: object) -> None:
            self.plugin.free += 1
            self.plugin.log.append("given back")

    async def visit(house: House) -> None:
        house.up.hold("one")
        first = asyncio.create_task(house.chat())
        await house.up.wait_for("one", chat=1)
        assert await house.chat() == house.up.expected_text("two")
        assert house.witness.failures == [
            Failure(kind=FailureKind.UNAVAILABLE, message="the slot is taken", retry_after=3)
        ]
        house.up.release("one")
        assert await first == house.up.expected_text("one")
        assert mine(house).log == ["taken", "given back"]
        assert mine(house).free == 1

    live(Plugin, visit)


def test_hook_mutate() -> None:
    class Plugin:
        @hookimpl
        def mutate(self, request: ChatRequest, attempt: Attempt) -> ChatRequest | None:
            if attempt.candidate.provider == "two":
                return None
            params = {**request.params, "reasoning_effort": "low"}
            return evolve(request, params=params, messages=[*request.messages, {"role": "user", "content": "Briefly."}])

    async def visit(house: House) -> None:
        house.up.script("one", "http:500")
        await house.chat(temperature=0.5)
        sent = [house.up.seen(name).last.json for name in ("one", "two")]
        assert sent[0]["reasoning_effort"] == "low"
        assert [message["content"] for message in sent[0]["messages"]] == ["Hello", "Briefly."]
        assert sent[1] == {"model": "m1", "messages": BODY["messages"], "temperature": 0.5}

    live(Plugin, visit)


def test_hook_judge() -> None:
    class Plugin:
        def __init__(self) -> None:
            self.openings: list[Opening] = []

        @hookimpl
        def judge(self, attempt: Attempt, opening: Opening) -> Failure | None:
            self.openings.append(opening)
            if opening.text.startswith("Sorry"):
                return Failure(kind=FailureKind.EMPTY, message="the model refused")
            return None

    async def visit(house: House) -> None:
        house.up.text("one", "Sorry, I will not.")
        assert await house.chat() == house.up.expected_text("two")
        assert house.record.tried == ("one/m1:empty", "two/m1:answered")
        plain = mine(house).openings[0]
        assert (plain.text, plain.complete, plain.finish_reason) == ("Sorry, I will not.", True, "stop")
        assert plain.body["choices"][0]["message"]["content"] == "Sorry, I will not."
        house.witness.records.clear()

        assert await house.stream() == house.up.expected_text("two")
        assert house.record.tried == ("one/m1:empty", "two/m1:answered")
        assert mine(house).openings[2].text.startswith("Sorry")
        house.witness.records.clear()

        assert await house.stream(router={"profile": "held"}) == house.up.expected_text("two")
        assert (mine(house).openings[-2].text, mine(house).openings[-2].complete) == ("Sorry, I will not.", True)

    live(Plugin, visit, profiles={"held": {"buffer": True}})


def test_hook_rewrite() -> None:
    class Louder:
        """Shouts, and holds back the last word until the end."""

        def __init__(self) -> None:
            self.held: list[dict[str, Any]] = []

        def event(self, event: dict[str, Any]) -> Iterable[dict[str, Any]]:
            for choice in event["choices"]:
                choice["delta"]["content"] = (choice["delta"].get("content") or "").upper()
            yield from self.held
            self.held = [event]

        def end(self) -> Iterable[dict[str, Any]]:
            return self.held

        def answer(self, body: dict[str, Any]) -> dict[str, Any]:
            message = body["choices"][0]["message"]
            message["content"] = message["content"].upper()
            return body

    class Plugin:
        made = 0

        @hookimpl
        def rewrite(self, attempt: Attempt) -> Louder | None:
            self.made += 1
            return Louder() if attempt.candidate.provider == "one" else None

    async def visit(house: House) -> None:
        assert await house.chat() == house.up.expected_text("one").upper()
        assert await house.stream() == house.up.expected_text("one").upper()
        assert await house.stream(model="two/m1") == house.up.expected_text("two")
        assert mine(house).made == 3

    live(Plugin, visit)


# Learning


def test_hook_on_failure() -> None:
    class Plugin:
        def __init__(self) -> None:
            self.failures: list[tuple[str, int, FailureKind, int | None]] = []

        @hookimpl
        async def on_failure(self, attempt: Attempt, failure: Failure) -> Decision | None:
            self.failures.append((attempt.candidate.key, attempt.number, failure.kind, failure.status))
            return Decision.STOP if attempt.request.params.get("user") == "strict" else None

    async def visit(house: House) -> None:
        house.up.always("one", "http:500")
        assert await house.chat() == house.up.expected_text("two")
        with pytest.raises(RequestError) as refused:
            await house.chat(user="strict")
        assert refused.value.code == "attempts_exhausted"
        assert mine(house).failures == [("one/m1", 1, FailureKind.SERVER, 500)] * 2
        assert house.chats() == [2, 1]

    live(Plugin, visit)


def test_hook_on_success() -> None:
    class Plugin:
        def __init__(self) -> None:
            self.seen: list[tuple[str, int, Usage]] = []

        @hookimpl
        def on_success(self, attempt: Attempt, usage: Usage) -> None:
            self.seen.append((attempt.candidate.key, attempt.number, usage))

    async def visit(house: House) -> None:
        house.up.script("one", "http:500")
        house.up.usage("two", {"prompt_tokens": 9, "completion_tokens": 4})
        await house.chat()
        await house.stream(model="two/m1")
        usage = Usage(input_uncached=9, output=4, source="reported")
        assert mine(house).seen == [("two/m1", 2, usage), ("two/m1", 1, usage)]

    live(Plugin, visit)


class Awaited:
    def __init__(self) -> None:
        self.records: list[UsageRecord] = []

    @hookimpl
    async def record_usage(self, record: UsageRecord) -> None:
        await asyncio.sleep(0)
        self.records.append(record)


class Plain(Awaited):
    @hookimpl
    def record_usage(self, record: UsageRecord) -> None:  # type: ignore[override]
        self.records.append(record)


class Later(Awaited):
    @hookimpl
    def record_usage(self, record: UsageRecord) -> Any:
        return self._write(record)

    async def _write(self, record: UsageRecord) -> None:
        await asyncio.sleep(0)
        self.records.append(record)


@pytest.mark.parametrize("kind", [Awaited, Plain, Later])
def test_hook_record_usage(kind: type) -> None:
    async def visit(house: House) -> None:
        house.up.usage("two", {"prompt_tokens": 9, "completion_tokens": 4})
        house.up.script("one", "http:500", "http:400")
        await house.chat()
        with pytest.raises(Exception, match="400"):
            await house.chat()
        with pytest.raises(RequestError):
            await house.chat(model="nobody")
        answered, failed, unknown = mine(house).records
        assert (answered.outcome, answered.provider, answered.model) == (Outcome.ANSWERED, "two", "m1")
        assert answered.tried == ("one/m1:server", "two/m1:answered")
        assert (answered.usage.input, answered.usage.output, answered.usage.source) == (9, 4, "reported")
        assert 0 < answered.first_byte_ms <= answered.total_ms
        assert (failed.outcome, failed.tried) == (Outcome.FAILED, ("one/m1:bad_request",))
        assert (unknown.outcome, unknown.tried, unknown.model_asked) == (Outcome.FAILED, (), "nobody")

    live(kind, visit)


def test_every_hook_of_the_manual_has_its_test_here() -> None:
    here = {name for name, value in globals().items() if inspect.isfunction(value)}

    assert {f"test_hook_{name}" for name in HOOKS} == {name for name in here if name.startswith("test_hook_")}
