"""The contract over HTTP: answers, streams, errors, lists, names, hints and limits, through real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from routerpool import Features, Level, Prices, Privacy, RequestError, hookimpl, route
from routerpool.config import converter
from routerpool.errors import CODES
from routerpool.http import bodies
from routerpool.server.switches import save_switch

from ..support.house import CHAT, JSON, House, Reply, events, house, occupy

pytestmark = pytest.mark.anyio

SECRET = {"router": {"privacy": "secret"}}
IMAGE = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def told(reply: Reply) -> dict[str, str]:
    """Our own headers of an answer, without the request's id, which must be there."""
    ours = {name.lower(): value for name, value in reply.headers.items() if name.lower().startswith("x-router-")}
    assert re.fullmatch(r"[0-9a-f]{32}", ours.pop("x-router-request-id"))
    return {name.removeprefix("x-router-"): value for name, value in ours.items()}


# Answers and what is told about them


async def test_a_plain_answer_is_the_providers_own_bytes_with_the_truth_in_its_headers() -> None:
    async with house() as at:
        reply = await at.chat()
        assert reply.status == 200
        assert reply.body == at.up.expected("a", "m1")
        assert reply.headers["Content-Type"] == "application/json"
        assert told(reply) == {"provider": "a", "model": "m1", "attempts": "1", "profile": "auto"}


async def test_a_stream_is_the_providers_own_bytes_with_the_truth_in_its_headers() -> None:
    async with house() as at:
        reply = await at.chat(stream=True)
        assert reply.body == at.up.expected("a", "m1", True)
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        assert reply.headers["Cache-Control"] == "no-cache"
        assert told(reply) == {"provider": "a", "model": "m1", "attempts": "1", "profile": "auto"}


async def test_a_usage_chunk_reaches_who_asked_for_it() -> None:
    async with house() as at:
        reply = await at.chat(stream=True, stream_options={"include_usage": True})
        assert reply.body == at.up.expected("a", "m1", True, include_usage=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_tried_before_is_told(stream: bool) -> None:
    async with house("a b c") as at:
        at.up.always("a", "http:500")
        at.up.always("b", "http:429")
        reply = await at.chat(stream=stream)
        assert reply.status == 200
        expected = {"provider": "c", "model": "m1", "attempts": "3", "profile": "auto"}
        assert told(reply) == expected | {"tried": "a/m1:server, b/m1:rate_limited"}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_tells_what_was_tried(stream: bool) -> None:
    async with house("a b") as at:
        at.up.always("a", "http:401")
        at.up.always("b", "http:404")
        reply = await at.chat(stream=stream)
        headers = told(reply)
        assert (headers["attempts"], headers["tried"]) == ("2", "a/m1:auth, b/m1:missing_model")
        assert [attempt["candidate"] for attempt in reply.error["attempts"]] == ["a/m1", "b/m1"]
        assert [attempt["status"] for attempt in reply.error["attempts"]] == [401, 404]


async def test_an_error_after_attempts_tells_the_profile() -> None:
    async with house() as at:
        at.up.always("a", "http:401")
        assert told(await at.chat())["profile"] == "auto"


async def test_an_error_before_any_attempt_tells_the_profile_and_the_vetoes() -> None:
    async with house() as at:
        reply = await at.chat(SECRET, model="routerpool/fast")
        assert told(reply) == {"profile": "fast"}
        assert reply.error["vetoes"] == [
            {
                "candidate": "a/m1",
                "code": "privacy",
                "reason": "the request is secret and a is not local",
                "retry_after": None,
            }
        ]


@pytest.mark.parametrize("fault", ["http:400", "http:422", "overflow", "contentfilter"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_providers_own_refusal_is_passed_on_with_who_it_was(fault: str, stream: bool) -> None:
    async with house("a b") as at:
        at.up.always("a", fault)
        reply = await at.chat(stream=stream)
        assert reply.status in (400, 422)
        assert reply.headers["Content-Type"].startswith("application/json")
        headers = told(reply)
        assert (headers["provider"], headers["attempts"]) == ("a", "1")
        assert headers["tried"].startswith("a/m1:")
        assert reply.error["message"]
        assert at.up.seen("b").chat == 0


async def test_headers_between_provider_and_router_do_not_travel_on() -> None:
    async with house() as at:
        at.up.always("a", "headers")
        for stream in (False, True):
            reply = await at.chat(stream=stream)
            names = {name.lower() for name in reply.headers if not name.lower().startswith("x-router-")}
            plain = {"content-type", "content-length", "date", "server"}
            plain |= {"x-content-type-options", "cross-origin-resource-policy"}
            assert names == (
                plain
                if not stream
                else plain - {"content-length"} | {"transfer-encoding", "cache-control", "x-accel-buffering"}
            )
            assert reply.headers["Server"] != "upstream"


async def test_every_request_has_an_id_of_its_own_that_the_record_knows() -> None:
    async with house() as at:
        replies = [
            await at.chat(),
            await at.chat(stream=True),
            await at.chat(SECRET),
            await at.chat(model="nope"),
            await at.chat(messages=1),
        ]
        ids = [reply.headers["X-Router-Request-Id"] for reply in replies]
        assert len(set(ids)) == 5
        assert [record.request_id for record in at.witness.records] == ids[:4]


@pytest.mark.parametrize("tell", ["headers", "body", "none"])
async def test_transparency_decides_where_the_truth_stands(tell: str) -> None:
    async with house(transparency=tell) as at:
        truth = {"candidate": "a/m1", "profile": "auto", "attempts": 1}
        plain = await at.chat()
        assert plain.json.get("router") == (truth if tell == "body" else None)
        streamed = await at.chat(stream=True)
        first, *rest = events(streamed.body)
        assert first.get("router") == (truth if tell == "body" else None)
        assert not [event for event in rest if "router" in event]
        assert streamed.body.endswith(b"data: [DONE]\n\n")
        for reply in (plain, streamed):
            assert set(told(reply)) == (set() if tell == "none" else {"provider", "model", "attempts", "profile"})


async def test_without_transparency_an_error_names_no_candidate_in_its_headers() -> None:
    async with house(transparency="none") as at:
        at.up.always("a", "http:401")
        assert told(await at.chat()) == {}


async def test_an_answer_may_carry_the_name_that_was_asked_for() -> None:
    async with house(response_model="requested", aliases={"gpt-4o": "a/m1"}) as at:
        plain = await at.chat(model="gpt-4o")
        assert plain.json["model"] == "gpt-4o"
        streamed = await at.chat(model="gpt-4o", stream=True)
        assert {event["model"] for event in events(streamed.body)} == {"gpt-4o"}
        assert told(plain)["model"] == told(streamed)["model"] == "m1"
        text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events(streamed.body))
        assert text == plain.json["choices"][0]["message"]["content"] == at.up.expected_text("a")


NAUGHTY = [
    "m\r\nX-Evil: 1",
    "m\n\nbody",
    "m\x00",
    "模型 7b",
    "m\u2028",
    "ä" * 400,
    "x" * 20_000,
    "m\x7f",
    "m\t",
    '"m"',
    "%0d%0aX-Evil: 1",
]


@pytest.mark.parametrize("model", NAUGHTY, ids=[ascii(name[:12]) for name in NAUGHTY])
async def test_no_name_breaks_out_of_its_header(model: str) -> None:
    async with house("a b", options={"a": {"models": [model]}, "b": {"models": [model]}}) as at:
        for fault, status in (("ok", 200), ("http:400", 400), ("http:401", 503)):
            at.up.always("a", fault)
            at.up.always("b", fault)
            for stream in (False, True):
                reply = await at.chat(stream=stream)
                assert reply.status == status
                assert "X-Evil" not in reply.headers
                for name, value in reply.headers.items():
                    assert re.fullmatch(r"[\x20-\x7e]{0,1000}", value), (name, value)
                assert reply.body


@pytest.mark.parametrize("stream", [False, True])
async def test_all_roles_and_unknown_fields_reach_the_provider_as_they_came(stream: bool) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "u"}, {"type": "later", "later": {"x": [1]}}],
            "name": "n",
        },
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "r"},
        {"role": "tool", "tool_call_id": "c1", "content": "t"},
        {"role": "function", "name": "f", "content": "f"},
        {"role": "assistant", "content": "a", "refusal": None},
        {"role": "system", "content": "a system message in the middle"},
        {"role": "critic", "content": "of the future"},
    ]
    more = {"temperature": 0, "logit_bias": {"1": -100}, "of_the_future": {"deep": [None, True]}, "user": "\U0001f600"}
    async with house() as at:
        assert (await at.chat(messages=messages, stream=stream, **more)).status == 200
        sent = at.up.seen("a").last.json
        assert sent.pop("model") == "m1"
        assert sent.pop("messages") == messages
        if stream:
            assert sent.pop("stream") is True
            assert sent.pop("stream_options") == {"include_usage": True}
        assert sent == more


# Lists and paths


async def test_models_are_listed_auto_first_then_profiles_aliases_and_candidates() -> None:
    config = {
        "profiles": {"mine": {"models": ["a/m1"]}},
        "aliases": {"gpt-4o": "auto", "claude-*": "routerpool/capable"},
    }
    models = {"a": {"models": [{"id": "m1", "context": 8192}, "m2"]}, "idle": {"api_key_env": "UNSET"}}
    async with house("a idle b", options=models, **config) as at:
        listed = (await at.get("/v1/models")).json
        assert listed["object"] == "list"
        profiles = ["auto", "free", "fast", "balanced", "capable", "private", "mine"]
        candidates = ["a/m1", "a/m2", "b/m1"]
        assert [m["id"] for m in listed["data"]] == [
            "auto",
            *(f"routerpool/{p}" for p in profiles),
            "gpt-4o",
            *candidates,
        ]
        assert {frozenset(m) - {"context_window"} for m in listed["data"]} == {
            frozenset({"id", "object", "created", "owned_by"})
        }
        assert {m["id"]: m["owned_by"] for m in listed["data"] if "/m" in m["id"]}["a/m2"] == "a"
        assert [m.get("context_window") for m in listed["data"] if m["id"] in candidates] == [8192, None, None]
        for model in listed["data"]:
            assert (await at.chat(model=model["id"])).status != 404


async def test_models_of_a_plugin_that_is_switched_off_are_not_listed() -> None:
    async with house("a b") as at:
        await at.ask("PUT", "/v1/router/plugins/a", {"enabled": False})
        listed = [m["id"] for m in (await at.get("/v1/models")).json["data"]]
        assert "b/m1" in listed
        assert "a/m1" not in listed


ODD_IDS = [
    "m1",
    "org/model:7b",
    "with space",
    "100%",
    "a%2Fb",
    "a%20b",
    "q?x=1",
    "h#h",
    "a+b",
    "ü/模型",
    "a;b",
    "~a@b,c",
]


@pytest.mark.parametrize("name", ODD_IDS)
async def test_one_model_is_found_by_its_percent_encoded_name(name: str) -> None:
    async with house(options={"a": {"models": ODD_IDS}}) as at:
        target = "/v1/models/" + quote(f"a/{name}", safe="")
        answer = await at.raw(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["id"] == f"a/{name}"


async def test_one_model_is_found_with_its_slashes_as_they_are() -> None:
    async with house(options={"a": {"models": ["org/model:7b"]}}, aliases={"gpt-4o": "auto"}) as at:
        for name in ("a/org/model:7b", "auto", "routerpool/free", "gpt-4o"):
            assert (await at.get(f"/v1/models/{name}")).json["id"] == name
        missing = await at.get("/v1/models/a/nope")
        assert (missing.status, missing.error["code"], missing.error["param"]) == (404, "model_not_found", "model")


async def test_health_and_the_root_answer_everybody() -> None:
    async with house() as at:
        assert (await at.get("/health")).json == {"status": "ok"}
        assert b"routerpool" in (await at.get("/")).body
        for path in ("/", "/health", "/v1/models"):
            head = await at.ask("HEAD", path)
            assert (head.status, head.body) == (200, b"")


async def test_while_it_drains_health_says_so_and_chats_are_refused() -> None:
    async with house() as at:
        assert at.server is not None
        at.server.draining = True
        assert (await at.get("/health")).status == 503
        reply = await at.chat()
        assert (reply.status, reply.error["code"], reply.headers["Retry-After"]) == (503, "shutting_down", "1")
        assert at.up.seen("a").chat == 0


@pytest.mark.parametrize(
    "path",
    [
        "embeddings",
        "completions",
        "responses",
        "messages",
        "messages/count_tokens",
        "audio/speech",
        "images/generations",
        "moderations",
        "files/f1/content",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_openai_path_that_nobody_serves_is_not_implemented(method: str, path: str) -> None:
    async with house() as at:
        reply = await at.ask(method, f"/v1/{path}", {"model": "m1"} if method != "GET" else None, JSON)
        assert reply.status == 501
        assert reply.error["code"] == "not_implemented"
        assert f"/v1/{path}" in reply.error["message"]


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/", "/v1/router/nothing", "/v1/chat/completions/x", "/v1/embeddingsx"]
)
async def test_what_is_nowhere_is_not_found(path: str) -> None:
    async with house() as at:
        for method in ("GET", "POST", "PUT"):
            reply = await at.ask(method, path, {} if method != "GET" else None)
            assert (reply.status, reply.error["code"]) == (404, "not_found")


async def test_status_tells_plugins_providers_and_places() -> None:
    async with house("a idle", options={"idle": {"api_key_env": "UNSET"}}) as at:
        status = (await at.get("/v1/router/status")).json
        assert [plugin["name"] for plugin in status["plugins"]] == ["a", "idle", "witness"]
        assert [(p["name"], p["idle"], p["models"]) for p in status["providers"]] == [
            ("a", None, 1),
            ("idle", "UNSET is not set", 1),
        ]
        assert status["admission"] == {"running": 0, "waiting": 0, "streams": 0, "refused": 0}


async def test_router_models_are_the_candidates_with_what_is_known_of_them() -> None:
    model = {"id": "m1", "context": 100, "tier": "fast", "capabilities": {"tools": True}, "tags": ["z", "a"]}
    async with house(options={"a": {"models": [model], "free": True, "local": True}}) as at:
        (found,) = (await at.get("/v1/router/models")).json["candidates"]
        assert found == {
            "candidate": "a/m1", "provider": "a", "model": "m1", "display_name": None, "context": 100,
            "max_output": None, "tier": "fast", "rank": None, "free": True, "local": True, "data_policy": "unknown",
            "capabilities": {"tools": True}, "tags": ["a", "z"], "idle": None, "pools": [],
            "prices": converter.unstructure(Prices()),
        }  # fmt: skip


async def test_profiles_are_told_with_the_default() -> None:
    async with house(profiles={"mine": {"models": ["a/m1"], "description": "my order"}}, default_profile="mine") as at:
        told_ = (await at.get("/v1/router/profiles")).json
        assert told_["default"] == "mine"
        assert told_["profiles"]["mine"] == {
            "description": "my order", "cost": "free_first", "privacy": "public", "tier": None, "weights": {},
            "models": ["a/m1"], "providers": [],
        }  # fmt: skip
        assert told_["profiles"]["private"]["privacy"] == "private"
        assert told_["profiles"]["fast"]["tier"] == "fast"


async def test_a_plugin_is_switched_off_and_on_while_it_runs() -> None:
    async with house("a b") as at:
        for enabled, provider in ((False, "b"), (True, "a")):
            switched = await at.ask("PUT", "/v1/router/plugins/a", {"enabled": enabled})
            assert switched.json["enabled"] is enabled
            listed = {p["name"]: p["enabled"] for p in (await at.get("/v1/router/plugins")).json["plugins"]}
            assert listed == {"a": enabled, "b": True, "witness": True}
            assert told(await at.chat())["provider"] == provider
            vetoes = [(v["candidate"], v["code"]) for v in (await at.explain())["vetoes"]]
            assert vetoes == ([] if enabled else [("a/m1", "disabled")])


@pytest.mark.parametrize("body", [{}, {"enabled": 1}, {"enabled": None}, {"enabled": True, "more": 1}, [], None, "on"])
async def test_a_switch_is_thrown_by_nothing_but_true_and_false(body: Any) -> None:
    async with house() as at:
        reply = await at.ask("PUT", "/v1/router/plugins/a", json.dumps(body).encode())
        assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_request", "enabled")
        assert (await at.chat()).status == 200


class Everything:
    """A required plugin, as scanners are: everything is secret to it."""

    required = True

    @hookimpl
    def classify(self, features: Features) -> Features:
        return features.raised(Privacy.SECRET)


async def test_a_required_plugin_is_switched_off_with_an_admin_key_only_and_that_shows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, off = "/v1/router/plugins/guard", {"enabled": False}
    async with house(plugins={"guard": Everything}) as at:
        refused = await at.ask("PUT", path, off)
        assert (refused.status, refused.error["code"]) == (403, "admin_only")
        assert "server.admin_keys" in refused.error["message"]
        assert (await at.chat()).error["code"] == "privacy_blocked"
        assert (await at.get("/v1/router/status")).json["unprotected"] == []
    admin = {"X-Api-Key": "rp-admin"}
    async with house(
        plugins={"guard": Everything}, server={"admin_keys": ["${ADMIN}"]}, env={"ADMIN": "rp-admin"}
    ) as at:
        assert (await at.ask("PUT", path, off, admin)).json["enabled"] is False
        assert (await at.get("/v1/router/status", admin)).json["unprotected"] == ["guard"]
        assert (await at.chat(headers=admin)).status == 200
        assert [report.subject for report in await at.router.check() if report.level is Level.WARNING] == ["guard"]
        assert (await at.ask("PUT", path, {"enabled": True}, admin)).json["enabled"] is True
        assert (await at.get("/v1/router/status", admin)).json["unprotected"] == []
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [line for line in warned if "guard" in line] == [
        "the required plugin guard is switched off: requests go on without it",
        "the required plugin guard is switched on again",
    ]


async def test_a_required_plugin_is_never_switched_off_for_good(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "plugins": {"guard": Everything},
        "server": {"admin_keys": ["${ADMIN}"]},
        "env": {"ADMIN": "rp-admin"},
        "store": f"sqlite:///{tmp_path}/r.db",
    }
    admin = {"X-Api-Key": "rp-admin"}
    async with house(**given) as at:
        refused = await at.ask("PUT", "/v1/router/plugins/guard", {"enabled": False, "persist": True}, admin)
        assert (refused.status, refused.error["param"]) == (400, "persist")
        assert "`enabled: false`" in refused.error["message"]
        assert (await at.chat(headers=admin)).error["code"] == "privacy_blocked"
        await save_switch(at.router.store, "guard", False)  # as by somebody who writes into the database
    async with house(**given) as at:
        assert (await at.chat(headers=admin)).error["code"] == "privacy_blocked"


async def test_a_plugin_that_is_not_there_cannot_be_switched() -> None:
    async with house() as at:
        assert (await at.ask("PUT", "/v1/router/plugins/nope", {"enabled": False})).error["code"] == "not_found"


class Door:
    """A plugin with a route of its own."""

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        async def embed(request: web.Request) -> web.Response:
            return web.json_response({"embedded": True})

        return [web.post("/v1/embeddings", embed)]


class Page:
    """A plugin with a page to read."""

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        async def page(request: web.Request) -> web.Response:
            return web.Response(text="a page")

        return [web.get("/v1/router/page", page)]


async def test_a_plugins_route_is_served_in_place_of_not_implemented() -> None:
    async with house(plugins={"door": Door}) as at:
        assert (await at.ask("POST", "/v1/embeddings", {})).json == {"embedded": True}


async def test_a_plugins_route_may_be_a_get() -> None:
    async with house(plugins={"page": Page}) as at:
        assert (await at.get("/v1/router/page")).body == b"a page"


async def test_a_plugins_get_answers_head_too() -> None:
    async with house(plugins={"page": Page}) as at:
        assert (await at.ask("HEAD", "/v1/router/page")).status == 200


async def test_the_routes_of_a_plugin_that_is_switched_off_are_not_served() -> None:
    async with house(plugins={"door": Door}) as at:
        await at.ask("PUT", "/v1/router/plugins/door", {"enabled": False})
        assert (await at.ask("POST", "/v1/embeddings", {})).status == 404
        await at.ask("PUT", "/v1/router/plugins/door", {"enabled": True})
        assert (await at.ask("POST", "/v1/embeddings", {})).status == 200


# Names of models


@pytest.mark.parametrize(
    ("asked", "nearest"), [("a/m2", "a/m1"), ("m11", "m1"), ("autos", "auto"), ("gpt-4", "gpt-4o")]
)
async def test_an_unknown_name_is_told_the_nearest(asked: str, nearest: str) -> None:
    async with house(aliases={"gpt-4o": "auto"}) as at:
        reply = await at.chat(model=asked)
        assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")
        assert repr(asked) in reply.error["message"]
        assert repr(nearest) in reply.error["message"]
        assert at.up.seen("a").chat == 0


async def test_an_unknown_profile_is_told_the_nearest() -> None:
    async with house() as at:
        for reply in (await at.chat(model="routerpool/privat"), await at.chat(router={"profile": "privat"})):
            assert (reply.status, reply.error["code"]) == (404, "model_not_found")
            assert "'private'" in reply.error["message"]


async def test_unknown_names_may_go_to_a_profile_instead() -> None:
    async with house(unknown_model="free", options={"a": {"free": True}}) as at:
        reply = await at.chat(model="whatever-9")
        assert (reply.status, told(reply)["profile"]) == (200, "free")


@pytest.mark.parametrize(
    ("asked", "profile", "model"),
    [
        ("auto", "auto", "m1"),
        ("", "auto", "m1"),
        (None, "auto", "m1"),
        ("routerpool/fast", "fast", "m1"),
        ("gpt-4o-mini", "fast", "m1"),
        ("claude-opus-9", "capable", "m1"),
        ("claude-haiku-4", "free", "m1"),
        ("exactly", "auto", "m2"),
        ("a/m2", "auto", "m2"),
        ("m2", "auto", "m2"),
    ],
)
async def test_a_name_stands_for_a_profile_a_candidate_or_a_model(asked: Any, profile: str, model: str) -> None:
    aliases = {
        "gpt-4o-mini": "routerpool/fast",
        "claude-haiku-*": "routerpool/free",
        "claude-*": "routerpool/capable",
        "exactly": "a/m2",
    }
    async with house(aliases=aliases, options={"a": {"models": ["m1", "m2"], "free": True}}) as at:
        reply = await at.chat(model=asked)
        assert (reply.status, told(reply)["profile"], told(reply)["model"]) == (200, profile, model)


async def test_auto_is_the_default_profile_and_a_hint_chooses_another() -> None:
    async with house(default_profile="fast") as at:
        assert told(await at.chat())["profile"] == "fast"
        assert told(await at.chat(model="routerpool/auto"))["profile"] == "auto"
        assert told(await at.chat(router={"profile": "balanced"}))["profile"] == "balanced"
        assert told(await at.chat(headers={"X-Router-Profile": "capable"}))["profile"] == "capable"


@pytest.mark.parametrize(("exact", "tried"), [("strict", ["b/m1", "c/m1"]), ("first", ["b/m1", "c/m1", "a/m9"])])
async def test_a_bare_model_means_every_provider_that_has_it_and_only_or_first_those(
    exact: str, tried: list[str]
) -> None:
    async with house("a b c", options={"a": {"models": ["m9"]}}, exact=exact) as at:
        for name in "abc":
            at.up.always(name, "http:404")
        reply = await at.chat(model="m1")
        assert [attempt["candidate"] for attempt in reply.error["attempts"]] == tried


async def test_an_exact_name_is_vetoed_like_any_other() -> None:
    async with house("a b", options={"b": {"local": True}}) as at:
        reply = await at.chat(SECRET, model="a/m1")
        assert (reply.status, reply.error["code"]) == (403, "privacy_blocked")
        assert at.up.seen("a").chat == at.up.seen("b").chat == 0


# Hints


@pytest.mark.parametrize("where", ["body", "headers"])
@pytest.mark.parametrize(
    ("hints", "order"),
    [
        ({}, ["a/m1", "a/m2", "b/m1", "b/m2"]),
        ({"preferred": "b"}, ["b/m1", "b/m2", "a/m1", "a/m2"]),
        ({"preferred": "b/m2,a/m2"}, ["b/m2", "a/m2", "a/m1", "b/m1"]),
        ({"preferred": "m2"}, ["a/m2", "b/m2", "a/m1", "b/m1"]),
        ({"forbidden": "a"}, ["b/m1", "b/m2"]),
        ({"forbidden": "m1"}, ["a/m2", "b/m2"]),
        ({"forbidden": "a/m1", "preferred": "a"}, ["a/m2", "b/m1", "b/m2"]),
    ],
)
async def test_preferred_and_forbidden_decide_who_is_asked(where: str, hints: dict[str, str], order: list[str]) -> None:
    models = {"models": ["m1", "m2"]}
    async with house("a b", options={"a": models, "b": models}) as at:
        at.up.always("a", "http:404")
        at.up.always("b", "http:404")
        if where == "body":
            reply = await at.chat(router={name: value.split(",") for name, value in hints.items()})
        else:
            reply = await at.chat(headers={f"X-Router-{name.title()}": value for name, value in hints.items()})
        assert [attempt["candidate"] for attempt in reply.error["attempts"]] == order


@pytest.mark.parametrize("hint", ["preferred", "forbidden"])
async def test_a_pattern_in_place_of_a_name_is_refused_so_that_nobody_takes_it_for_obeyed(hint: str) -> None:
    async with house("a b") as at:
        reply = await at.chat(router={hint: ["a/*"]})
        assert (reply.status, reply.error["param"]) == (400, f"router.{hint}")
        reply = await at.chat(router={hint: ["[a-z]/m1"]})
        assert reply.status == 200
        assert reply.headers["X-Router-Provider"] == "a"


async def test_hints_are_not_forwarded() -> None:
    async with house() as at:
        names = {"preferredModels": ["a"], "maxQueueTimeMs": 5000, "taskType": "code", "allowAsync": False}
        assert (await at.chat(router=names, headers={"X-Router-Priority": "high"})).status == 200
        sent = at.up.seen("a").last
        assert "router" not in sent.json
        assert not [name for name in sent.headers if name.startswith("x-router")]


async def test_privacy_takes_the_higher_of_header_and_body() -> None:
    async with house() as at:
        for header, body in (("secret", "public"), ("public", "secret"), ("private", "sensitive")):
            reply = await at.chat(router={"privacy": body}, headers={"X-Router-Privacy": header})
            assert reply.error["code"] == "privacy_blocked"
        assert at.up.seen("a").chat == 0


async def test_privacy_takes_the_higher_of_two_headers() -> None:
    async with house() as at:
        for order in (("secret", "public"), ("public", "secret")):
            headers = [("Content-Type", "application/json"), *(("X-Router-Privacy", value) for value in order)]
            async with at.client.post(at.url("/v1/chat/completions"), json=CHAT, headers=headers) as response:
                assert response.status == 403


@pytest.mark.parametrize(
    ("hints", "place"),
    [
        ({"privcy": "secret"}, "router.privcy"),
        ({"privacy": "hush"}, "router.privacy"),
        ({"preferred": 5}, "router.preferred"),
        ({"preferred": [5]}, "router.preferred"),
        ({"priority": "urgent"}, "router.priority"),
        ({"mode": []}, "router.mode"),
        ({"max_seconds": -1}, "router.max_seconds"),
        ({"max_seconds": True}, "router.max_seconds"),
        ({"max_queue_seconds": "nan"}, "router.max_queue_seconds"),
        ({"allow_async": "perhaps"}, "router.allow_async"),
        ({"profile": 1}, "router.profile"),
        (["privacy"], "router"),
        ("secret", "router"),
    ],
    ids=str,
)
async def test_a_wrong_hint_is_named(hints: Any, place: str) -> None:
    async with house() as at:
        reply = await at.chat(router=hints)
        assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_request", place)
        assert at.up.seen("a").chat == 0


@pytest.mark.parametrize(
    ("header", "value"), [("X-Router-Privacy", "hush"), ("X-Router-Privcy", "x"), ("X-Router-Max-Seconds", "x")]
)
async def test_a_wrong_hint_in_a_header_is_named(header: str, value: str) -> None:
    async with house() as at:
        reply = await at.chat(headers={header: value})
        assert (reply.status, reply.error["param"]) == (400, header)


# Explain


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("plain", {}),
        ("private", SECRET),
        ("image", IMAGE),
        ("long", {"messages": [{"role": "user", "content": "word " * 3000}]}),
        ("free", {"model": "routerpool/free"}),
        ("forbidden", {"router": {"forbidden": ["home"], "preferred": ["wide/m1"]}}),
        ("exact", {"model": "home/m1"}),
        ("order", {"model": "routerpool/mine"}),
    ],
)
async def test_explain_says_what_a_request_then_does(name: str, changes: Any) -> None:
    options = {
        "small": {"models": [{"id": "m1", "context": 1000}], "free": True},
        "blind": {"models": [{"id": "m1", "capabilities": {"vision": False}}]},
        "home": {"local": True},
        "keyless": {"api_key_env": "UNSET"},
    }
    expected = {
        "plain": {},
        "private": {"small/m1": "privacy", "blind/m1": "privacy", "wide/m1": "privacy", "off/m1": "disabled"},
        "image": {"blind/m1": "capability"},
        "long": {"small/m1": "context_window"},
        "free": {"blind/m1": "cost_policy", "home/m1": "cost_policy", "wide/m1": "cost_policy"},
        "forbidden": {"home/m1": "forbidden"},
        "exact": {f"{other}/m1": "not_in_profile" for other in ("small", "blind", "wide", "off", "keyless")},
        "order": {
            "small/m1": "not_in_profile",
            "blind/m1": "not_in_profile",
            "off/m1": "not_in_profile",
            "keyless/m1": "not_in_profile",
        },
    }
    always = {"off/m1": "disabled", "keyless/m1": "no_key"}
    names = "small blind home wide off keyless"
    async with house(names, options=options, profiles={"mine": {"models": ["wide/m1", "home/*"]}}) as at:
        await at.ask("PUT", "/v1/router/plugins/off", {"enabled": False})
        for provider in names.split():
            at.up.always(provider, "http:404")
        plan = await at.explain(**changes)
        assert {veto["candidate"]: veto["code"] for veto in plan["vetoes"]} == always | expected[name]
        assert all(veto["reason"] for veto in plan["vetoes"])
        assert sum(at.up.seen(provider).chat for provider in names.split()) == 0, "explaining asks nobody"
        reply = await at.chat(**changes)
        assert [attempt["candidate"] for attempt in reply.error["attempts"]] == [
            one["candidate"] for one in plan["ranked"]
        ]
        ranked, vetoed = {one["candidate"] for one in plan["ranked"]}, {one["candidate"] for one in plan["vetoes"]}
        assert not ranked & vetoed
        assert ranked | vetoed == {f"{provider}/m1" for provider in names.split()}


async def test_explain_and_a_refusal_list_the_same_vetoes() -> None:
    async with house("a b", options={"b": {"api_key_env": "UNSET"}}) as at:
        plan, reply = await at.explain(**SECRET), await at.chat(SECRET)
        assert plan["ranked"] == []
        stripped = [{name: veto[name] for name in ("candidate", "code", "reason")} for veto in reply.error["vetoes"]]
        assert stripped == plan["vetoes"]


async def test_explain_refuses_what_a_request_would_be_refused_for() -> None:
    async with house() as at:
        for body in ({"model": "nope", "messages": CHAT["messages"]}, {"messages": []}, {**CHAT, "router": 5}):
            explained = await at.ask("POST", "/v1/router/explain", body)
            assert explained.status == (await at.ask("POST", "/v1/chat/completions", body)).status >= 400


# Every error code, by a real request

Case = Callable[[House], Awaitable[Reply]]
CASES: dict[str, tuple[dict[str, Any], Case]] = {}


def case(code: str, **config: Any) -> Callable[[Case], Case]:
    def register(ask: Case) -> Case:
        CASES[code] = config, ask
        return ask

    return register


class Guard:
    """A required plugin that fails."""

    required = True

    @hookimpl
    def classify(self, request: Any) -> Any:
        raise RuntimeError(request.messages)


class Full:
    """A plugin that has no place to remember what it must."""

    @hookimpl
    def intercept(self) -> None:
        raise RequestError("session_table_full", "too many conversations are remembered")


class Meter:
    """A plugin whose route is for hosts."""

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        async def meter(request: web.Request) -> web.Response:
            return web.Response(text="42")

        return [route("GET", "/meter", meter, plane="host")]


class Broken:
    """A plugin whose route fails."""

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        async def fail(request: web.Request) -> web.Response:
            raise RuntimeError("what the prompt said")

        return [web.post("/v1/embeddings", fail)]


case("invalid_json")(lambda at: at.ask("POST", "/v1/chat/completions", b"{"))
case("invalid_request")(lambda at: at.chat(messages="hello"))
case("unsupported_capabilities", options={"a": {"models": [{"id": "m1", "capabilities": {"vision": False}}]}})(
    lambda at: at.chat(IMAGE)
)
case("context_length_exceeded", options={"a": {"models": [{"id": "m1", "context": 10}]}})(
    lambda at: at.chat(messages=[{"role": "user", "content": "word " * 100}])
)
KEYS = {"server": {"api_keys": ["${KEY}"]}, "env": {"KEY": "rp-key-of-a-user"}}
case("missing_api_key", **KEYS)(lambda at: at.chat())
case("invalid_api_key", **KEYS)(lambda at: at.chat(headers={"X-Api-Key": "wrong"}))
case("admin_only", **KEYS)(lambda at: at.get("/v1/router/status", {"X-Api-Key": "rp-key-of-a-user"}))
case("host_only", plugins={"meter": Meter}, **KEYS)(lambda at: at.get("/meter", {"X-Api-Key": "rp-key-of-a-user"}))
case("privacy_blocked")(lambda at: at.chat(SECRET))
case("forbidden_origin")(lambda at: at.chat(headers={"Origin": "https://evil.example"}))
case("model_not_found")(lambda at: at.chat(model="nope"))
case("not_found")(lambda at: at.get("/v1/nothing"))
case("method_not_allowed")(lambda at: at.get("/v1/chat/completions"))
case("request_too_large", limits={"request_bytes": 1000})(lambda at: at.chat(user="x" * 1000))
case("unsupported_media_type")(lambda at: at.chat(headers={"Content-Type": "text/plain"}))
case("misdirected_host")(lambda at: at.chat(headers={"Host": "evil.example"}))
case("internal_error", plugins={"broken": Broken})(lambda at: at.ask("POST", "/v1/embeddings", {}))
case("not_implemented")(lambda at: at.ask("POST", "/v1/embeddings", {}))
case("plugin_required", plugins={"guard": Guard})(lambda at: at.chat())
case("session_table_full", plugins={"full": Full})(lambda at: at.chat())


@case("request_queue_full", limits={"max_concurrent": 1, "max_waiting": 0})
async def queue_full(at: House) -> Reply:
    await occupy(at)
    return await at.chat()


@case("request_queue_timeout", limits={"max_concurrent": 1, "queue_seconds": 0.05})
async def queue_timeout(at: House) -> Reply:
    await occupy(at)
    return await at.chat()


@case("quota_exhausted", limits={"budget_seconds": 0.5})
async def quota_exhausted(at: House) -> Reply:
    at.up.always("a", "ra:sec")
    return await at.chat()


@case("attempts_exhausted")
async def attempts_exhausted(at: House) -> Reply:
    at.up.always("a", "http:401")
    return await at.chat()


@case("budget_exhausted", limits={"budget_seconds": 0.1, "first_event_seconds": 5})
async def budget_exhausted(at: House) -> Reply:
    at.up.hold("a")
    return await at.chat(stream=True)


@case("no_candidate")
async def no_candidate(at: House) -> Reply:
    await at.ask("PUT", "/v1/router/plugins/a", {"enabled": False})
    return await at.chat()


@case("shutting_down")
async def shutting_down(at: House) -> Reply:
    assert at.server is not None
    at.server.draining = True
    return await at.chat()


@case("overloaded")
async def overloaded(at: House) -> Reply:
    at.router.bodies.begin("127.0.0.1").grow(64 << 20)
    return await at.chat(user="x" * (32 << 10))


@case("request_timeout")
async def request_timeout(at: House) -> Reply:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "BODY_SECONDS", 0.1)
        async with at.client.post(at.url("/v1/chat/completions"), data=slowly(), headers=JSON) as response:
            return Reply(response.status, response.headers, await response.read())


WAITABLE = {"overloaded", "request_queue_full", "request_queue_timeout", "quota_exhausted", "shutting_down"}


@pytest.mark.parametrize("code", CASES)
async def test_an_error_is_openais_object_with_the_documented_status(code: str) -> None:
    config, ask = CASES[code]
    async with house(**config) as at:
        reply = await ask(at)
        assert reply.status == CODES[code].status
        assert reply.headers["Content-Type"].startswith("application/json")
        error = reply.error
        assert (error["code"], error["type"]) == (code, CODES[code].type)
        assert isinstance(error["message"], str)
        assert error["message"]
        assert error["param"] is None or isinstance(error["param"], str)
        assert ("Retry-After" in reply.headers) is (code in WAITABLE)
        if code in WAITABLE:
            assert int(reply.headers["Retry-After"]) >= 1
        for secret in (b"Hello", b"what the prompt said", b"Traceback", b"rp-key-of-a-user", b"/routerpool/"):
            assert secret not in reply.body
        assert (await at.get("/health")).status in (200, 503), "and the server lives on"


def test_every_code_has_its_case() -> None:
    in_streams, seen_by_nobody = {"upstream_interrupted"}, {"client_gone"}
    assert set(CASES) | in_streams | seen_by_nobody == set(CODES)


async def test_a_broken_stream_ends_with_an_error_object_and_without_the_marker() -> None:
    async with house("a b") as at:
        at.up.always("a", "midclose")
        reply = await at.chat(stream=True)
        assert told(reply) == {"provider": "a", "model": "m1", "attempts": "1", "profile": "auto"}
        *_, last = events(reply.body)
        assert (last["error"]["code"], last["error"]["type"]) == ("upstream_interrupted", "api_error")
        assert b"[DONE]" not in reply.body
        assert at.up.seen("b").chat == 0


async def test_a_stated_wait_is_told_truly() -> None:
    async with house("a b", limits={"budget_seconds": 1}) as at:
        at.up.always("a", "ra:sec")
        at.up.always("b", "http:429")
        reply = await at.chat()
        assert reply.error["code"] == "quota_exhausted"
        stated = reply.error["attempts"][0]["retry_after"]
        assert stated <= int(reply.headers["Retry-After"]) < stated + 1


def test_the_headers_a_page_may_read_are_those_we_send() -> None:
    from routerpool.server.app import EXPOSED_HEADERS

    sent: Mapping[str, Any] = dict.fromkeys(EXPOSED_HEADERS.split(", "))
    assert set(sent) == {
        f"X-Router-{name}" for name in ["Provider", "Model", "Attempts", "Tried", "Profile", "Request-Id", "Ignored"]
    }


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/a%2Fm1", "GET, HEAD"),
        ("POST", "/v1/router/status", "GET, HEAD"),
    ],
)
async def test_a_path_that_is_asked_with_another_method_says_which_it_has(method: str, path: str, allow: str) -> None:
    async with house() as at:
        reply = await at.ask(method, path, {} if method in ("PUT", "POST") else None)
    assert (reply.status, reply.error["code"], reply.headers["Allow"]) == (405, "method_not_allowed", allow)


async def test_hints_that_nobody_honours_are_told_on_every_answer_until_a_plugin_does() -> None:
    class Queues:
        honours = ("mode",)

    asked = {"mode": "async", "require_gpu_only": True, "task": "chat"}
    async with house() as at:
        for stream in (False, True):
            reply = await at.chat(router=asked, stream=stream)
            assert reply.headers["X-Router-Ignored"] == "mode, require_gpu_only"
        assert (await at.chat(headers={"X-Router-Allow-Async": "1"})).headers["X-Router-Ignored"] == "allow_async"
        for plain in ({}, {"router": {"task": "chat", "mode": "auto"}}):
            assert "X-Router-Ignored" not in (await at.chat(plain)).headers
    async with house(plugins={"queues": Queues}) as at:
        assert (await at.chat(router=asked)).headers["X-Router-Ignored"] == "require_gpu_only"


async def test_the_candidates_are_shown_with_prices_and_pools() -> None:
    options = {"a": {"models": [{"id": "m1", "prices": {"input": 1.5}}]}}
    async with house(options=options) as at:
        (row,) = (await at.get("/v1/router/models")).json["candidates"]
    assert row["prices"]["input"] == 1.5
    assert row["pools"] == []
