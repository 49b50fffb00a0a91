"""A conversation keeps the class that it has reached: over turns, reloads, restarts and workers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from routerpool_policy import Policy
from routerpool_policy.sessions import Full, Sessions, StoredSessions, named

from routerpool import (
    Caller,
    Candidate,
    Features,
    OpenAIProvider,
    PluginError,
    Privacy,
    RequestError,
    Router,
    Score,
    hookimpl,
)
from routerpool.server import Server
from routerpool.testing import Upstream, make_router
from routerpool.testing.process import served

SECRET = {"privacy": "secret"}


class Pin:
    """What a pin does: whoever answered a conversation first gets all the points for it."""

    def __init__(self) -> None:
        self.pinned: dict[str, str] = {}

    @hookimpl
    def score(self, features: Features, candidates: Sequence[Candidate]) -> list[Score]:
        key = self.pinned.get(features.session)
        return [Score(c, float(c.key == key)) for c in candidates]

    @hookimpl
    def on_success(self, attempt: Any) -> None:
        self.pinned.setdefault(attempt.features.session, attempt.candidate.key)


def routed(up: Upstream, policy: Mapping[str, Any] | None = None, **config: Any) -> Router:
    """A router over a remote provider, which is asked first, and a local one."""
    plugins = {
        "policy": dict(policy or {}),
        "pin": {},
        "far": {"use": "p", "base_url": up.base_url("far"), "models": ["m1"]},
        "home": {"use": "p", "base_url": up.base_url("home"), "models": ["m1"], "local": True},
    }
    known = {"policy": Policy, "pin": Pin, "p": OpenAIProvider}
    return make_router({"plugins": plugins, **config}, plugins=known)


async def turn(router: Router, *said: str, session: str = "s", **hints: Any) -> str:
    """Who answered a turn of a conversation."""
    messages = [{"role": "user", "content": text} for text in said or ("Hello",)]
    answer = await router.chat({"messages": messages, "router": {"session": session, **hints}})
    return str(answer["choices"][0]["message"]["content"]).split(":")[0].removeprefix("Hello from ")


def stored(path: Path) -> list[tuple[str, int]]:
    with suppress(sqlite3.OperationalError):
        if not path.exists():  # looking must not make it
            return []
        connection = sqlite3.connect(path)
        try:
            return connection.execute("SELECT session, privacy FROM routerpool_policy_sessions").fetchall()
        finally:
            connection.close()
    return []


async def until(true: Any) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


def test_a_class_sticks_to_its_conversation_and_evicts_a_pin_made_before() -> None:
    async def talk() -> None:
        async with Upstream() as up, routed(up) as router:
            assert await turn(router) == "far"
            pin = router.hooks.instances["pin"].plugin
            assert list(pin.pinned.values()) == ["far/m1"], "the conversation is pinned to a remote candidate"
            assert await turn(router, "Hello", "the secret", **SECRET) == "home"
            assert await turn(router, "Hello", "and now in public") == "home"
            assert await turn(router, session="other") == "far"
            assert up.seen("far").chat == 2

            plan = await router.explain({"messages": [{"role": "user", "content": "x"}], "router": {"session": "s"}})
            assert plan["features"]["privacy"] == "secret"
            assert [finding["rule"] for finding in plan["features"]["findings"]] == ["policy.session"]
            assert [veto["candidate"] for veto in plan["vetoes"]] == ["far/m1"]

    asyncio.run(talk())


def test_a_conversation_is_known_by_its_beginning_where_the_client_names_none() -> None:
    async def talk() -> None:
        async with Upstream() as up, routed(up) as router:
            first = [{"role": "user", "content": "Hello"}]
            await router.chat({"messages": first, "router": SECRET})
            await router.chat({"messages": [*first, {"role": "user", "content": "more"}]})
            await router.chat({"messages": [{"role": "user", "content": "Something else"}]})
            assert up.seen("home").chat == 2
            assert up.seen("far").chat == 1

    asyncio.run(talk())


def test_a_plugin_that_forgets_the_conversation_does_not_free_it() -> None:
    class Forgetful:
        @hookimpl
        def classify(self) -> Features:
            return Features(task="chat")

    async def talk() -> None:
        async with Upstream() as up:
            plugins = {name: {"use": "p", "base_url": up.base_url(name), "models": ["m1"]} for name in ("far", "home")}
            plugins["home"] |= {"local": True}
            known = {"policy": Policy, "forgetful": Forgetful, "p": OpenAIProvider}
            async with make_router({"plugins": {"policy": {}, "forgetful": {}, **plugins}}, plugins=known) as router:
                assert await turn(router, **SECRET) == await turn(router) == "home"
                assert await turn(router, session="other") == "far"

    asyncio.run(talk())


def test_what_is_only_explained_leaves_no_trace() -> None:
    async def talk() -> None:
        async with Upstream() as up, routed(up) as router:
            body = {"messages": [{"role": "user", "content": "x"}], "router": {"session": "s", **SECRET}}
            await router.explain(body)
            await router.classify(router.request(body))
            assert await turn(router) == "far"

    asyncio.run(talk())


def test_a_refused_turn_raises_its_conversation_too() -> None:
    async def talk() -> None:
        async with Upstream() as up, routed(up, {"deny": {"secret": ["home"]}}) as router:
            with pytest.raises(RequestError, match="privacy class"):
                await turn(router, **SECRET)
            with pytest.raises(RequestError, match="privacy class"):
                await turn(router, "the same in other words")
            assert up.seen("far").chat == up.seen("home").chat == 0

    asyncio.run(talk())


@asynccontextmanager
async def reloadable(up: Upstream, **config: Any) -> AsyncIterator[tuple[Server, str]]:
    """A server over such a router, whose reloads make a new one, and its URL."""
    app, server = web.Application(), Server(routed(up, **config), load=lambda: routed(up, **config))
    server.attach(app, "", root=True)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("store", ["file", "memory"])
def test_a_reload_forgets_no_conversation(tmp_path: Path, store: str) -> None:
    url = f"sqlite:///{tmp_path}/r.db" if store == "file" else "sqlite://"

    async def talk() -> None:
        async with Upstream() as up, reloadable(up, store=url) as (server, _):
            assert await turn(server.router, **SECRET) == "home"
            for _ in range(3):
                old = server.router
                await server.reload()
                assert server.router is not old
                assert await turn(server.router) == "home"
            assert up.seen("far").chat == 0

    asyncio.run(talk())


def test_what_ends_in_the_old_generation_is_known_in_the_new_one() -> None:
    async def talk() -> None:
        async with Upstream() as up, reloadable(up) as (server, _):
            up.hold("home")
            late = asyncio.ensure_future(turn(server.router, **SECRET))
            await up.wait_for("home", chat=1)
            await server.reload()
            assert late.done() is False
            follow = asyncio.ensure_future(turn(server.router))
            await up.wait_for("home", chat=2)
            up.release("home")
            assert await late == await follow == "home"
            assert up.seen("far").chat == 0

    asyncio.run(talk())


def test_a_restart_forgets_no_conversation(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/r.db"

    async def talk() -> None:
        async with Upstream() as up:
            async with routed(up, store=url) as router:
                assert await turn(router, **SECRET) == "home"
                assert await turn(router, session="t", privacy="private") == "home"
                assert await turn(router, session="u") == "far"
            assert sorted(privacy for _, privacy in stored(tmp_path / "r.db")) == [1, 3]
            async with routed(up, store=url) as router:
                assert await turn(router) == "home"
                assert await turn(router, session="t") == "home"
                assert await turn(router, session="u") == "far"

    asyncio.run(talk())


def test_another_worker_knows_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes have two memories: here, two in one process, which share nothing but the file."""
    url = f"sqlite:///{tmp_path}/r.db"

    async def talk() -> float:
        loop = asyncio.get_running_loop()
        async with Upstream() as up, routed(up, store=url) as here:
            with monkeypatch.context() as patch:
                patch.setattr("routerpool_policy.sessions._SHARED", {})
                other = routed(up, store=url)
                await other.start()
            try:
                mine, theirs = (r.hooks.instances["policy"].plugin._sessions for r in (here, other))
                assert mine is not theirs
                assert await turn(here, **SECRET) == "home"
                started = loop.time()
                await until(lambda: theirs.counts() == {"secret": 1})
                took = loop.time() - started
                assert await turn(other) == "home"
            finally:
                await other.stop()
            return took

    assert min(asyncio.run(talk()) for _ in range(2)) < 1.0


def test_a_broken_store_stops_the_start_and_later_only_the_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routerpool.store.PATIENCE_SECONDS", 0.2)
    path = tmp_path / "r.db"

    async def talk() -> None:
        async with Upstream() as up:
            path.write_bytes(b"no database at all" * 100)
            with pytest.raises(PluginError, match="the required plugin 'policy' failed to start"):
                await routed(up, store=f"sqlite:///{path}").start()
            path.unlink()
            async with routed(up, store=f"sqlite:///{path}") as router:
                policy = router.hooks.instances["policy"].plugin
                assert await turn(router, **SECRET) == "home"
                await until(lambda: stored(path))
                with closing(sqlite3.connect(path, isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")  # and keeps it locked
                    assert await turn(router, session="t", **SECRET) == "home"
                    await until(lambda: policy.problem is not None)
                    assert await turn(router) == await turn(router, session="t") == "home"
                    assert policy.status()["problem"] == policy.problem

    asyncio.run(talk())


@pytest.mark.parametrize("store", ["sqlite://", "sqlite:///{}/r.db"], ids=["memory", "file"])
def test_no_conversation_is_sent_whose_class_cannot_be_remembered(tmp_path: Path, store: str) -> None:
    async def talk() -> None:
        async with Upstream() as up, routed(up, {"keep_sessions": 3}, store=store.format(tmp_path)) as router:
            for session in "abc":
                assert await turn(router, session=session, **SECRET) == "home"
            with pytest.raises(RequestError, match="raise") as refused:
                await turn(router, session="d", **SECRET)
            assert (refused.value.code, refused.value.status) == ("session_table_full", 503)
            assert up.seen("home").chat == 3
            assert await turn(router, session="d") == "far", "what is public needs no place"
            for session in "abc":
                assert await turn(router, session=session) == "home"
            policy = router.hooks.instances["policy"].plugin
            assert policy.status()["refused"] == 1
            assert "raise policy.keep_sessions" in [report.cure for report in await router.check()]

    asyncio.run(talk())


def test_a_key_that_fills_its_places_takes_none_of_anothers(tmp_path: Path) -> None:
    names = ("ann", "bob")
    server = {"api_keys": [{"name": name, "sha256": str(number) * 64} for number, name in enumerate(names)]}

    async def said(router: Router, caller: str, session: str, **hints: Any) -> int:
        body = {"messages": [{"role": "user", "content": "x"}], "router": {"session": session, **hints}}
        try:
            await router.chat(body, Caller(id=caller))
        except RequestError as error:
            return error.status
        return 200

    async def talk() -> None:
        async with Upstream() as up, routed(up, {"keep_sessions": 8}, server=server) as router:
            assert [await said(router, "ann", f"{number}", **SECRET) for number in range(4)] == [200, 200, 503, 503]
            assert [await said(router, "bob", f"{number}", **SECRET) for number in range(2)] == [200, 200]
            for caller in names:
                assert [await said(router, caller, f"{number}") for number in range(2)] == [200, 200]
            assert up.seen("far").chat == 0

    asyncio.run(talk())


def test_the_table_holds_no_more_rows_than_it_may_and_what_is_left_over_stays_known(tmp_path: Path) -> None:
    """Several processes may each let some in at the same moment; here, one of them has let in too many."""

    async def talk() -> None:
        async with Upstream() as up, routed(up, {"keep_sessions": 2}, store=f"sqlite:///{tmp_path}/r.db") as router:
            policy = router.hooks.instances["policy"].plugin
            policy._sessions.most = 9
            for number in range(6):
                assert await turn(router, session=f"{number}", **SECRET) == "home"
            await until(lambda: policy.problem is not None)
            assert len(stored(tmp_path / "r.db")) == 4
            assert "raise policy.keep_sessions" in policy.problem
            for number in range(6):
                assert await turn(router, session=f"{number}") == "home"
            kept = StoredSessions(router.store, 100)
            assert await kept.write(policy._sessions.taken()) == {}
            assert len(await kept.read()) == 6

    asyncio.run(talk())


def test_nothing_is_stored_for_what_is_as_public_as_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "r.db"

    async def talk() -> None:
        async with Upstream() as up, routed(up, store=f"sqlite:///{path}", privacy={"default": "private"}) as router:
            assert await turn(router) == "home"
            await router.chat({"messages": [{"role": "user", "content": "x"}]}, Caller(id="ci", privacy=Privacy.SECRET))
            assert router.hooks.instances["policy"].plugin.status()["sessions"] == {}

    asyncio.run(talk())
    assert not path.exists()


# The memory itself


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_class_is_forgotten_only_when_its_time_is_over() -> None:
    clock = Clock()
    sessions = Sessions(seconds=10, clock=clock)
    assert sessions.rise("s", Privacy.SECRET)
    clock.now = 6
    assert sessions.rise("s", Privacy.PRIVATE), "its time in the store must grow"
    clock.now = 15
    assert sessions.privacy("s") is Privacy.SECRET
    clock.now = 16
    assert sessions.privacy("s") is Privacy.PUBLIC
    assert sessions.counts() == {}


def test_a_full_memory_forgets_nothing_and_lets_nobody_in_before_a_time_is_over() -> None:
    clock = Clock()
    sessions = Sessions(most=2, seconds=10, clock=clock)
    sessions.rise("a", Privacy.SECRET)
    clock.now = 5
    sessions.rise("b", Privacy.SECRET)
    with pytest.raises(Full, match=r"2 conversations are remembered, .* policy\.keep_sessions allows"):
        sessions.rise("c", Privacy.PRIVATE)
    assert sessions.privacy("c") is Privacy.PUBLIC
    assert not sessions.rise("b", Privacy.PRIVATE), "one that is known goes on"
    assert (sessions.privacy("a"), sessions.privacy("b"), sessions.refused) == (Privacy.SECRET, Privacy.SECRET, 1)
    clock.now = 10
    assert sessions.rise("c", Privacy.PRIVATE)
    assert sessions.counts() == {"secret": 1, "private": 1}


def test_one_callers_conversations_take_no_place_of_anothers() -> None:
    clock = Clock()
    sessions = Sessions(most=10, each=2, seconds=10, clock=clock)
    for name in "ab":
        sessions.rise(named("ann", name), Privacy.SECRET)
    with pytest.raises(Full, match=r"2 .* policy\.keep_sessions_per_caller"):
        sessions.rise(named("ann", "c"), Privacy.SECRET)
    assert sessions.rise(named("bob", "c"), Privacy.SECRET)
    clock.now = 10
    assert sessions.rise(named("ann", "c"), Privacy.SECRET)


def test_what_others_have_promised_to_remember_is_taken_over_beyond_all_bounds() -> None:
    sessions = Sessions(most=2, each=1, seconds=10, clock=Clock())
    sessions.rise("mine", Privacy.SECRET)
    sessions.merge(dict.fromkeys("abcd", (Privacy.SECRET, 3.0)))
    assert sessions.counts() == {"secret": 5}
    assert list(sessions.taken()) == ["mine"], "and nothing that is unsaved is lost over it"


ACTIONS = st.one_of(
    st.tuples(st.just("rise"), st.sampled_from("abc"), st.sampled_from(Privacy)),
    st.tuples(st.just("merge"), st.sampled_from("abc"), st.sampled_from(Privacy), st.floats(0, 40)),
    st.tuples(st.just("wait"), st.floats(0, 6)),
)


@settings(max_examples=200, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=30))
def test_a_class_only_rises_while_it_is_remembered(actions: list[Any]) -> None:
    clock = Clock()
    sessions = Sessions(seconds=10, clock=clock)
    model: dict[str, tuple[Privacy, float]] = {}
    for action, *args in actions:
        if action == "wait":
            clock.now += args[0]
        elif action == "rise":
            sessions.rise(args[0], args[1])
            before = model.get(args[0], (Privacy.PUBLIC, 0.0))
            before = before if before[1] > clock.now else (Privacy.PUBLIC, 0.0)
            model[args[0]] = max(before[0], args[1]), max(before[1], clock.now + 10)
        elif args[2] > clock.now:
            sessions.merge({args[0]: (args[1], args[2])})
            before = model.get(args[0], (Privacy.PUBLIC, 0.0))
            before = before if before[1] > clock.now else (Privacy.PUBLIC, 0.0)
            model[args[0]] = max(before[0], args[1]), max(before[1], args[2])
        for name in "abc":
            privacy, until = model.get(name, (Privacy.PUBLIC, 0.0))
            assert sessions.privacy(name) is (privacy if until > clock.now else Privacy.PUBLIC)
        sessions.merge({})
        assert len(sessions) == sum(until > clock.now for _, until in model.values())


def test_the_server_shows_how_many_conversations_are_of_which_class() -> None:
    async def ask() -> Any:
        async with Upstream() as up, reloadable(up) as (server, url), aiohttp.ClientSession() as client:
            await turn(server.router, **SECRET)
            async with client.get(f"{url}/v1/router/status") as response:
                return await response.json()

    told = asyncio.run(ask())
    [policy] = [plugin["status"] for plugin in told["plugins"] if plugin["name"] == "policy"]
    assert policy == {"sessions": {"secret": 1}, "refused": 0, "rules": 0, "problem": None}


def test_real_workers_share_what_they_know(tmp_path: Path) -> None:
    """Two processes behind one socket; who answers is the system's choice, so it is asked until both have."""
    (tmp_path / "routerpool.yaml").write_text(
        f"store: sqlite:///{tmp_path}/r.db\n"
        "plugins:\n"
        "  policy: {}\n"
        "  far: {use: sandbox, local: false, models: [m1], latency_seconds: 0}\n"
        "  near: {use: sandbox, local: true, models: [m2], latency_seconds: 0}\n"
    )

    async def ask(url: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        async with (
            aiohttp.ClientSession() as client,
            client.request(method, url + path, json=body, headers=headers) as r,
        ):
            return r.headers.get("X-Router-Provider"), await r.json()

    async def talk(url: str) -> None:
        chat = "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}
        assert (await ask(url, *chat))[0] == "far"
        assert (await ask(url, *chat, **{"X-Session-Id": "s", "X-Router-Privacy": "secret"}))[0] == "near"
        known: set[str] = set()
        async with asyncio.timeout(20):
            while len(known) < 2:
                _, told = await ask(url, "GET", "/v1/router/status")
                [policy] = [plugin["status"] for plugin in told["plugins"] if plugin["name"] == "policy"]
                if policy["sessions"] == {"secret": 1}:
                    known.add(told["worker"])
        for _ in range(10):
            assert (await ask(url, *chat, **{"X-Session-Id": "s"}))[0] == "near"

    with served("--workers", "2", folder=tmp_path) as url:
        asyncio.run(talk(url))
