"""Deciding over HTTP: a host in any language asks whom, forwards by itself, and reports how it went."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from attrs import evolve

from routerpool import Candidate, ChatRequest, Features, Opening, Privacy, Score, Veto, hookimpl
from routerpool.server.app import create_app
from routerpool.testing.upstream import Upstream
from routerpool.wire import json as wire_json

from ..support.house import CHAT, House, Reply, house, running, until

pytestmark = pytest.mark.anyio

USED = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def deciding(names: str = "a b", **config: Any) -> AsyncIterator[House]:
    """A server that nobody asks to forward."""
    async with house(names, **config) as at:
        yield at
        assert [at.up.seen(name).chat for name in names.split()] == [0] * len(names.split())


async def decide(at: House, headers: Any = None, **changes: Any) -> Reply:
    return await at.ask("POST", "/v1/router/decide", {**CHAT, **changes}, headers)


async def report(at: House, token: str, headers: Any = None, **told: Any) -> Reply:
    return await at.ask("POST", "/v1/router/report", {"report_token": token, **told}, headers)


A = {"candidate": "a/m1", "provider": "a", "model": "m1"}
B = {"candidate": "b/m1", "provider": "b", "model": "m1"}


async def test_a_decision_names_whom_to_ask_and_why() -> None:
    async with deciding() as at:
        told = (await decide(at)).json
        explained = await at.explain()

        assert told["candidate"] == A
        assert told["report_within_seconds"] == 600
        rows = ("candidate", "points", "strategies", "free", "local")
        assert told["ranked"] == [{name: row[name] for name in rows} for row in explained["ranked"]]
        assert (told["vetoes"], told["profile"], told["privacy"]) == (explained["vetoes"], "auto", "public")
        assert "body" not in told, "the client's own body may be sent as it is"
        assert [entry["candidate"] for entry in told["ranked"]] == ["a/m1", "b/m1"]
        assert at.router.handovers.status()["open"] == 1
        assert (await report(at, told["report_token"], usage=USED)).json == {
            "id": told["id"],
            "over": True,
            "candidate": None,
        }
        (record,) = at.witness.records
        assert (record.request_id, record.outcome, record.usage.output) == (told["id"], "answered", 5)


class Moody:
    """Likes another candidate with every request, and forbids one to those who say please."""

    likes = 0.0

    @hookimpl
    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        self.likes = 1 - self.likes
        return [Score(c, abs(self.likes - i), {"mood": self.likes}) for i, c in enumerate(candidates)]

    @hookimpl
    def veto(self, request: ChatRequest, candidates: Sequence[Candidate]) -> list[Veto]:
        return [Veto(c, "rude", "no") for c in candidates if "please" in str(request.messages) and c.provider == "a"]


async def test_a_decision_is_told_as_it_was_made_whatever_was_told_before() -> None:
    profiles = {"auto": {"weights": {"moody": 1}}}
    async with deciding(plugins={"moody": Moody}, profiles=profiles) as at:
        first, second = [(await decide(at)).json for _ in range(2)]
        assert [told["candidate"]["provider"] for told in (first, second)] == ["a", "b"]
        for told in (first, second):
            assert told["ranked"][0]["candidate"] == told["candidate"]["candidate"]
            assert told["ranked"][0]["points"] == 1
        polite = (await decide(at, messages=[{"role": "user", "content": "please"}])).json
        assert [veto["candidate"] for veto in polite["vetoes"]] == ["a/m1"]
        assert [row["candidate"] for row in polite["ranked"]] == ["b/m1"]


async def test_a_failure_brings_the_next_candidate() -> None:
    async with deciding() as at:
        made = (await decide(at)).json
        decision = made["report_token"]
        failure = {"status": 429, "headers": {"Retry-After": "30"}, "body": {"error": {"message": "slow down"}}}

        told = (await report(at, decision, failure=failure)).json
        assert told == {"id": made["id"], "over": False, "candidate": B}
        over = (await report(at, decision, failure={"kind": "quota_exhausted", "retry_after": 60})).json

        assert (over["over"], over["candidate"]) == (True, None)
        assert over["error"]["code"] == "quota_exhausted"
        assert [(a["kind"], a["retry_after"]) for a in over["error"]["attempts"]] == [
            ("rate_limited", 30.0),
            ("quota_exhausted", 60),
        ]
        assert at.witness.records[0].outcome == "failed"


async def test_a_stream_that_broke_off_is_the_end() -> None:
    async with deciding() as at:
        decision = (await decide(at, stream=True)).json["report_token"]

        told = (await report(at, decision, failure={"kind": "timeout", "first_byte_sent": True}, first_byte_ms=12)).json
        assert (told["over"], told["candidate"]) == (True, None)
        assert at.witness.records[0].outcome == "truncated"


class Marked:
    """Takes a word out before it is sent, and puts it back into the answer."""

    @hookimpl
    def mutate(self, request: ChatRequest) -> ChatRequest | None:
        text = json.dumps(request.messages)
        return evolve(request, messages=json.loads(text.replace("falcon", "BIRD"))) if "falcon" in text else None

    @hookimpl
    def rewrite(self) -> Any:
        return self

    def event(self, event: Any) -> Any:
        return (event,)

    def end(self) -> Any:
        return ()

    def answer(self, body: Any) -> Any:
        return json.loads(json.dumps(body).replace("BIRD", "falcon"))

    @hookimpl
    def judge(self, opening: Opening) -> None:
        assert opening.complete


async def test_what_plugins_take_out_is_told_and_an_answer_gets_it_back() -> None:
    async with deciding(plugins={"marked": Marked}) as at:
        told = (await decide(at, messages=[{"role": "user", "content": "a falcon"}])).json
        assert told["body"] == {"model": "m1", "messages": [{"role": "user", "content": "a BIRD"}]}
        assert "falcon" not in json.dumps(told)

        message = {"role": "assistant", "content": "what a BIRD"}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USED}
        over = (await report(at, told["report_token"], answer=answer)).json
        assert over["answer"]["choices"][0]["message"]["content"] == "what a falcon"


async def test_a_large_answer_that_a_host_reports_is_parsed_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, threads = wire_json.loads, []

    def spy(data: bytes, most: int = wire_json.MOST_VALUES) -> Any:
        if len(data) >= wire_json.LARGE:
            threads.append(threading.get_ident())
        return loads(data, most)

    monkeypatch.setattr(wire_json, "loads", spy)
    async with deciding() as at:
        token = (await decide(at)).json["report_token"]
        message = {"role": "assistant", "content": "a" * wire_json.LARGE}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USED}
        over = (await report(at, token, answer=answer)).json
        assert over["answer"]["choices"][0]["message"] == message
    assert threads, "the answer was parsed"
    assert threading.get_ident() not in threads


class Secret:
    @hookimpl
    def classify(self, features: Features) -> Features:
        return features.raised(Privacy.SECRET)


async def test_what_may_go_to_nobody_is_refused_and_leaves_nothing_open() -> None:
    async with deciding(plugins={"secret": Secret}) as at:
        refused = await decide(at)
        assert (refused.status, refused.error["code"]) == (403, "privacy_blocked")
        assert refused.headers["X-Router-Request-Id"]
        assert at.router.handovers.status()["open"] == 0


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ({}, "says one of usage, failure, answer, outcome"),
        ({"usage": USED, "outcome": "answered"}, "says one of"),
        ({"usage": {}}, "`usage` must be"),
        ({"usage": 3}, "`usage` must be"),
        ({"answer": []}, "`answer` must be"),
        ({"outcome": "fine"}, "`outcome` must be one of answered"),
        ({"outcome": ["answered"]}, "`outcome` must be one of answered"),
        ({"failure": "oops"}, "`failure` must be an object"),
        ({"failure": {}}, "`failure` needs the `status`"),
        ({"failure": {"kind": "broken"}}, "`failure` needs the `status`"),
        ({"failure": {"status": True}}, "`failure` needs the `status`"),
        ({"failure": {"status": 9}}, "`failure` needs the `status`"),
        ({"failure": {"status": 429, "headers": {"a": 1}}}, "`failure.headers` must be"),
        ({"failure": {"status": 429, "headers": [1]}}, "`failure.headers` must be"),
        ({"failure": {"kind": "server", "retry_after": -1}}, "`failure.retry_after` must be"),
        ({"failure": {"kind": "server", "retry_after": "soon"}}, "`failure.retry_after` must be"),
        ({"failure": {"kind": "server", "first_byte_sent": 1}}, "`failure.first_byte_sent` must be"),
        ({"usage": USED, "first_byte_ms": "5"}, "`first_byte_ms` must be"),
        ({"usage": USED, "candidate": 5}, "`candidate` must be the one that was handed out, a/m1"),
        ({"usage": USED, "candidate": "b/m1"}, "`candidate` must be the one that was handed out, a/m1"),
        ({"failure": {"kind": "auth"}, "candidate": "b/m1"}, "`candidate` must be the one that was handed out, a/m1"),
        ({"usge": USED}, "did you mean 'usage'?"),
    ],
)
async def test_a_report_that_is_none_is_refused_and_the_decision_stays_open(told: dict[str, Any], what: str) -> None:
    async with deciding() as at:
        decision = (await decide(at)).json["report_token"]

        refused = await report(at, decision, **told)
        assert refused.status == 400
        assert what in refused.error["message"]
        assert (await report(at, decision, outcome="answered")).status == 200


@pytest.mark.parametrize("body", [b"[]", b"3", b'{"report_token": 3}', b'{"usage": {}}', b"{"])
async def test_a_body_that_names_no_decision_is_refused(body: bytes) -> None:
    async with deciding() as at:
        assert (await at.ask("POST", "/v1/router/report", body)).status == 400


async def test_a_decision_is_gone_after_its_end() -> None:
    async with deciding() as at:
        decision = (await decide(at)).json["report_token"]
        await report(at, decision, outcome="cancelled")

        for gone in (decision, "0" * 32):
            refused = await report(at, gone, usage=USED)
            assert (refused.status, refused.error["code"]) == (404, "not_found")


async def test_a_decision_that_is_never_reported_is_released_and_shows() -> None:
    async with deciding(limits={"report_seconds": 0.05}) as at:
        await decide(at)
        await until(lambda: at.router.handovers.status()["open"] == 0)

        told = (await at.get("/v1/router/status")).json["decisions"]
        assert (told["open"], told["released"]) == (0, 1)


PLANES = {"api_keys": ("ann",), "host_keys": ("bob", "eve"), "admin_keys": ("root",)}
SERVER = {plane: [{"name": name, "key": f"${{{name}}}"} for name in names] for plane, names in PLANES.items()}
KEYS = {name: {"Authorization": f"Bearer rp-{name}"} for names in PLANES.values() for name in names}
KEYED: dict[str, Any] = {"server": SERVER, "env": {name: f"rp-{name}" for name in KEYS}}


async def test_decisions_are_for_hosts_and_nobody_reports_on_anothers() -> None:
    async with deciding(plugins={"marked": Marked}, **KEYED) as at:
        assert (await decide(at)).status == 401
        refused = await decide(at, KEYS["ann"])
        assert (refused.status, refused.error["code"]) == (403, "host_only")
        assert (await decide(at, KEYS["root"])).status == 200
        made = await decide(at, KEYS["bob"], messages=[{"role": "user", "content": "a falcon"}])
        token = made.json["report_token"]
        answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "BIRD"}}]}

        for name in ("eve", "root", "ann"):
            foreign = await report(at, token, KEYS[name], answer=answer)
            assert foreign.status == (403 if name == "ann" else 404)
            assert b"falcon" not in foreign.body
            assert b"BIRD" not in foreign.body
        told = await report(at, token, KEYS["bob"], answer=answer)
        assert (told.status, told.json["over"], b"falcon" in told.body) == (200, True, True)
        assert at.witness.records[-1].caller == "bob"


async def test_what_headers_and_records_tell_of_a_decision_opens_nothing() -> None:
    async with deciding(**KEYED) as at:
        made = (await decide(at, KEYS["bob"])).json
        assert made["id"] not in made["report_token"]
        for guess in (made["id"], made["report_token"][:-1], made["report_token"].upper(), f"{made['id']}-1", ""):
            assert (await report(at, guess, KEYS["bob"], outcome="answered")).status == 404
        assert (await report(at, made["report_token"], KEYS["bob"], outcome="answered")).json["id"] == made["id"]
        assert at.witness.records[0].request_id == made["id"]


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP"])
async def test_without_keys_decisions_are_for_this_machine_alone(header: str) -> None:
    async with deciding() as at:
        assert (await decide(at)).status == 200
        refused = await decide(at, {header: "for=203.0.113.7"})
        assert (refused.status, refused.error["code"]) == (403, "host_only")
        assert "server.host_keys" in refused.error["message"]


@pytest.mark.parametrize(
    "failure",
    [
        {"status": 429, "headers": {"Retry-After": "86400"}},
        {"status": 429, "body": {"error": {"message": "Please try again in 23h59m0s."}}},
        {"kind": "quota_exhausted", "retry_after": 86_400},
    ],
    ids=["header", "words", "kind"],
)
async def test_of_a_claimed_wait_a_minute_is_believed_and_nothing_else_is_learned(failure: Any) -> None:
    async with deciding("a", **KEYED) as at:
        token = (await decide(at, KEYS["bob"])).json["report_token"]
        over = (await report(at, token, KEYS["bob"], failure=failure)).json
        assert [attempt["retry_after"] for attempt in over["error"]["attempts"]] == [60.0]


async def test_what_a_host_says_of_a_candidates_abilities_is_not_learned() -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]
    body = {"error": {"message": "This model does not support image input."}}
    async with deciding("a") as at:
        for _ in range(2):
            token = (await decide(at, messages=image)).json["report_token"]
            await report(at, token, failure={"status": 400, "body": body})
        assert at.witness.failures[0].lacks == "vision"
        assert (await at.explain(messages=image))["vetoes"] == []


async def test_a_decision_ends_in_the_generation_in_which_it_was_made(tmp_path: Path) -> None:
    async with Upstream() as up:
        entry = {"use": "openai_compatible", "base_url": up.base_url("a"), "models": ["m1"]}
        file = tmp_path / "routerpool.yaml"
        file.write_text(json.dumps({"store": "sqlite://", "plugins": {"a": entry}}), encoding="utf-8")
        async with running(create_app(file)) as port, aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{port}/v1/router"
            async with client.post(f"{url}/decide", json=CHAT) as response:
                decision = (await response.json())["report_token"]
            async with client.post(f"{url}/reload", json={}) as response:
                assert (await response.json())["generation"] == 2
            async with client.post(f"{url}/report", json={"report_token": decision, "usage": USED}) as response:
                assert (response.status, (await response.json())["over"]) == (200, True)


async def test_reports_on_one_decision_do_not_meet() -> None:
    async with deciding() as at:
        decision = (await decide(at)).json["report_token"]

        replies = await asyncio.gather(*(report(at, decision, outcome="answered") for _ in range(5)))
        assert [reply.status for reply in replies].count(200) == 1
        assert len(at.witness.records) == 1
