"""Who is let in: Host, Origin, content type, keys and planes, over real sockets and byte by byte where that matters."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from routerpool import CALLER, hookimpl, route
from routerpool.http.access import PLANES, is_loopback

from ..support.house import CHAT, House, Reply, shared
from ..support.house import house as served

pytestmark = pytest.mark.anyio

USER_KEY, ADMIN_KEY = "rp-user-3b1f0c77e2", "rp-admin-90d2ab41c6"
ENV = {"USER_KEY": USER_KEY, "ADMIN_KEY": ADMIN_KEY}
KEYS = {
    "api_keys": ["${USER_KEY}"],
    "admin_keys": [{"name": "root", "sha256": hashlib.sha256(ADMIN_KEY.encode()).hexdigest()}],
}
BODY = json.dumps(CHAT).encode()
PAGE = "https://page.example"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def house(
    server: Mapping[str, Any] | None = None, plugins: Mapping[str, type] | None = None
) -> AsyncIterator[House]:
    async with served("a", server=server or {}, plugins=plugins, env=ENV) as at:
        yield at


async def chat(at: House, **headers: str) -> Reply:
    """A chat request with these headers, their names with underscores."""
    return await at.chat(headers={name.replace("_", "-"): value for name, value in headers.items()})


def statuses(answer: bytes) -> list[int]:
    """The statuses of the answers in these bytes."""
    return [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3})", answer, re.MULTILINE)]


def code(answer: bytes) -> str | None:
    """The code of the error object that ends these bytes."""
    try:
        return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"])
    except ValueError:
        return None


def post(
    path: str = "/v1/chat/completions",
    *headers: str,
    body: bytes = BODY,
    host: str | None = "127.0.0.1",
    length: bool = True,
) -> bytes:
    """The bytes of one POST that asks for the connection to be closed."""
    lines = [f"POST {path} HTTP/1.1"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += ["Content-Type: application/json", "Connection: close"]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


# The Host header


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LocalHost:80",
        "[::1]",
        "[::1]:4545",
        "192.168.1.7:4545",
        "0.0.0.0:4545",
        "lab.example:443",
    ],
)
async def test_a_host_that_is_an_address_or_one_of_ours_is_answered(host: str) -> None:
    async with house({"allowed_hosts": ["Lab.example"]}) as at:
        answer = await at.raw(post(host=host))
        assert statuses(answer) == [200], answer
        assert at.up.seen("a").chat == 1


FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:4545",
    "localhost.",
    "localhost.:4545",
    "127.0.0.1.nip.io",
    "localhost.evil.example",
    "evil.example@127.0.0.1",
    "127.0.0.1@evil.example",
    "127.0.0.1:1@evil.example",
    "127.0.0.1:x",
    "127.0.0.1:",
    "localhost:80:80",
    "localhost:+80",
    "2130706433",
    "0x7f.1",
    "127.1",
    "017700000001",
    "127.0.0.1,evil.example",
    "[::1",
    "::1",
    "[::1]evil.example",
    "[::1]evil:80",
    "http://127.0.0.1",
    "127.0.0.1/evil.example",
    "*.localhost",
    "*",
    "xn--lcalhost-n1a",
    "löcalhost",
]
BRACKETS = ["[[::1]]", "]127.0.0.1[", "[127.0.0.1"]


@pytest.mark.parametrize(
    "host",
    [
        *FOREIGN_HOSTS,
        "",
        "127.0.0.1 evil.example",
        "localhost\\evil.example",
        *BRACKETS,
    ],
)
async def test_a_host_that_is_none_of_ours_reaches_nothing(host: str) -> None:
    async with house() as at:
        answer = await at.raw(post(host=host))
        assert statuses(answer) in ([421], [400]), answer
        assert at.up.seen("a").chat == 0


@pytest.mark.parametrize(
    "data",
    [
        post(host=None),
        post("/v1/chat/completions", "Host: evil.example"),
        post("/v1/chat/completions", "Host: 127.0.0.1", host="evil.example"),
        b"GET /v1/models HTTP/1.0\r\n\r\n",
    ],
    ids=["none", "second foreign", "first foreign", "http/1.0 without one"],
)
async def test_a_request_without_exactly_one_host_reaches_nothing(data: bytes) -> None:
    async with house() as at:
        answer = await at.raw(data)
        assert statuses(answer) in ([421], [400]), answer
        assert at.up.seen("a").chat == 0


async def test_the_target_of_an_absolute_form_does_not_replace_the_host() -> None:
    async with house() as at:
        answer = await at.raw(post("http://127.0.0.1/v1/chat/completions", host="evil.example"))
        assert statuses(answer) == [421]
        assert at.up.seen("a").chat == 0


@pytest.mark.parametrize("path", ["/health", "/", "/v1/models", "/v1/router/status", "/v1/embeddings", "/v1/nothing"])
async def test_a_foreign_host_is_told_so_on_every_route(path: str) -> None:
    async with house() as at:
        answer = await at.get(path, {"Host": "evil.example"})
        assert answer.status == 421
        assert answer.error["code"] == "misdirected_host"


async def test_any_host_may_be_allowed() -> None:
    async with house({"allowed_hosts": ["*"], **KEYS}) as at:
        assert (await chat(at, Host="whatever.example", X_Api_Key=USER_KEY)).status == 200


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("::ffff:127.0.0.1", True)],
)
def test_loopback_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.7", "localhost.evil.example", "127.0.0.1.nip.io"])
def test_what_others_can_reach_is_no_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_an_address_in_the_form_of_the_other_kind_is_no_other_address() -> None:
    assert not is_loopback("::ffff:192.168.1.7")


# Web pages of others


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
async def test_our_own_pages_and_listed_ones_may_ask(headers: Mapping[str, str]) -> None:
    async with house({"allowed_origins": [PAGE]}) as at:
        said = {name.replace("-", "_"): value.format(port=at.port) for name, value in headers.items()}
        assert (await chat(at, **said)).status == 200


FOREIGN_PAGES: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://localhost:{port}"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Origin": "http://127.0.0.1:{port}@evil.example"},
    {"Origin": "file://127.0.0.1:{port}"},
    {"Origin": "chrome-extension://127.0.0.1:{port}"},
    {"Origin": "127.0.0.1:{port}"},
    {"Origin": "https://page.example.evil.example"},
    {"Origin": "https://PAGE.example:444"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "rubbish"},
]


@pytest.mark.parametrize("headers", FOREIGN_PAGES, ids=str)
async def test_a_page_of_another_origin_reaches_no_provider(headers: Mapping[str, str]) -> None:
    async with house({"allowed_origins": [PAGE]}) as at:
        said = {name.replace("-", "_"): value.format(port=at.port) for name, value in headers.items()}
        answer = await chat(at, **said)
        assert answer.status == 403
        assert answer.error["code"] == "forbidden_origin"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert at.up.seen("a").chat == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/router/explain"),
        ("PUT", "/v1/router/plugins/a"),
        ("DELETE", "/v1/models"),
        ("PATCH", "/v1/router/x"),
    ],
)
async def test_a_foreign_page_may_write_nowhere(method: str, path: str) -> None:
    async with house() as at:
        answer = await at.ask(method, path, {"enabled": False}, {"Origin": "https://evil.example"})
        assert answer.status == 403
        assert (await chat(at)).status == 200, "the plugin is still on"


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/router/status", "/v1/nothing"])
@pytest.mark.parametrize("headers", FOREIGN_PAGES, ids=str)
async def test_a_foreign_page_may_not_read_either(path: str, headers: Mapping[str, str]) -> None:
    async with house({"allowed_origins": [PAGE]}) as at:
        said = {name: value.format(port=at.port) for name, value in headers.items()}
        for more in ({}, {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, {"Sec-Fetch-Mode": "cors"}):
            answer = await at.get(path, {**said, **more})
            assert (answer.status, answer.error["code"]) == (403, "forbidden_origin")
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


async def test_a_link_to_us_may_be_followed_but_not_into_a_frame() -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    async with house() as at:
        assert (await at.get("/", link)).status == 200
        assert (await at.get("/", {**link, "Sec-Fetch-Dest": "iframe"})).status == 403
        assert (await chat(at, **{name.replace("-", "_"): value for name, value in link.items()})).status == 403


async def test_a_listed_page_has_no_admin_plane_where_no_key_is_asked_for() -> None:
    page = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
    asked = [("GET", "/v1/router/status"), ("PUT", "/v1/router/plugins/a"), ("POST", "/v1/router/decide")]
    async with house({"allowed_origins": [PAGE]}) as at:
        assert (await at.ask("POST", "/v1/chat/completions", CHAT, page)).status == 200
        assert (await at.get("/v1/models", page)).status == 200
        for method, path in asked:
            answer = await at.ask(method, path, None if method == "GET" else {"enabled": False}, page)
            assert (answer.status, answer.error["code"]) == (403, "forbidden_origin")
    async with house({"allowed_origins": [PAGE], **KEYS}) as at:
        keyed = {**page, "X-Api-Key": ADMIN_KEY}
        assert [(await at.ask(m, p, None if m == "GET" else {"enabled": True}, keyed)).status for m, p in asked] == [
            200,
            200,
            400,
        ]


async def test_every_answer_of_ours_is_shielded_from_other_pages() -> None:
    async with house({"allowed_origins": [PAGE]}) as at:
        for answer in (
            await at.chat(),
            await at.chat(stream=True),
            await at.chat(model="nope"),
            await at.chat(headers={"Origin": PAGE}),
            await at.get("/health"),
            await at.get("/"),
            await at.get("/v1/nothing"),
            await at.get("/v1/models", {"Host": "evil.example"}),
            await at.ask("OPTIONS", "/v1/models", headers={"Origin": PAGE}),
        ):
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_a_listed_page_may_read_answers_streams_and_errors() -> None:
    async with house({"allowed_origins": [PAGE]}) as at:
        url, headers = "/v1/chat/completions", {"Origin": PAGE}
        for body, status in ((BODY, 200), (json.dumps({**CHAT, "stream": True}).encode(), 200), (b"{", 400)):
            answer = await at.ask("POST", url, body, headers)
            assert answer.status == status
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert "X-Router-Provider" in answer.headers["Access-Control-Expose-Headers"]
            assert answer.headers["Vary"] == "Origin"


async def test_a_preflight_is_answered_for_listed_pages_only() -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    async with house({"allowed_origins": [PAGE], **KEYS}) as at:
        for path in ("/v1/chat/completions", "/v1/models", "/v1/embeddings"):
            answer = await at.ask("OPTIONS", path, headers={**asked, "Origin": PAGE})
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
            assert "POST" in answer.headers["Access-Control-Allow-Methods"]
            refused = await at.ask("OPTIONS", path, headers={**asked, "Origin": "https://evil.example"})
            assert refused.status >= 400
            assert "Access-Control-Allow-Origin" not in refused.headers


# What a body is declared as


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"]
)
async def test_json_is_taken(kind: str) -> None:
    async with house() as at:
        assert (await chat(at, Content_Type=kind)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Type: text/plain"],
        ["Content-Type: application/x-www-form-urlencoded"],
        ["Content-Type: multipart/form-data; boundary=x"],
        ["Content-Type: text/plain; application/json"],
        ["Content-Type: text/plain, application/json"],
        ["Content-Type: "],
        [],
        ["Content-Type: application/json", "Content-Encoding: gzip"],
        ["Content-Type: application/json", "Content-Encoding: deflate"],
        ["Content-Type: application/json", "Content-Encoding: identity, gzip"],
    ],
    ids=str,
)
async def test_a_body_that_is_not_declared_as_plain_json_is_refused(headers: list[str]) -> None:
    async with house() as at:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += f"Content-Length: {len(BODY)}\r\n" + "".join(f"{line}\r\n" for line in headers)
        answer = await at.raw(head.encode() + b"\r\n" + BODY)
        assert statuses(answer) == [415], answer
        assert code(answer) == "unsupported_media_type"
        assert at.up.seen("a").chat == 0


async def test_an_openai_path_nobody_serves_says_so_whatever_is_sent_there() -> None:
    async with house() as at:
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = await at.ask("POST", "/v1/audio/transcriptions", b"--x--", form)
        assert answer.status == 501


# Keys


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {USER_KEY}"},
        {"Authorization": f"bearer {USER_KEY}"},
        {"Authorization": f"BEARER   {USER_KEY} "},
        {"X-Api-Key": USER_KEY},
        {"x-api-key": ADMIN_KEY},
        {"Authorization": "Basic dXNlcjpwYXNz", "X-Api-Key": USER_KEY},
    ],
    ids=["bearer", "lower", "upper and spaces", "x-api-key", "admin key", "beside a proxy's own"],
)
async def test_a_key_of_the_servers_opens_it(headers: Mapping[str, str]) -> None:
    async with house(KEYS) as at:
        answer = await at.chat(headers=headers)
        assert answer.status == 200
        assert at.witness.records[-1].caller == ("root" if ADMIN_KEY in headers.values() else "USER_KEY")


STRANGERS: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, "missing_api_key"),
    "empty bearer": ({"Authorization": "Bearer "}, "missing_api_key"),
    "no scheme": ({"Authorization": USER_KEY}, "missing_api_key"),
    "other scheme": ({"Authorization": f"Basic {USER_KEY}"}, "missing_api_key"),
    "empty x-api-key": ({"X-Api-Key": ""}, "missing_api_key"),
    "other": ({"Authorization": "Bearer sk-other"}, "invalid_api_key"),
    "prefix": ({"Authorization": f"Bearer {USER_KEY[:-1]}"}, "invalid_api_key"),
    "longer": ({"Authorization": f"Bearer {USER_KEY}x"}, "invalid_api_key"),
    "case": ({"Authorization": f"Bearer {USER_KEY.upper()}"}, "invalid_api_key"),
    "two": ({"Authorization": f"Bearer {USER_KEY}, Bearer x"}, "invalid_api_key"),
    "its hash": ({"Authorization": f"Bearer {hashlib.sha256(USER_KEY.encode()).hexdigest()}"}, "invalid_api_key"),
    "not ascii": ({"Authorization": "Bearer schl\u00fcssel"}, "invalid_api_key"),
    "wrong x-api-key": ({"X-Api-Key": "sk-other"}, "invalid_api_key"),
}


@pytest.mark.parametrize(("headers", "expected"), STRANGERS.values(), ids=STRANGERS)
async def test_who_brings_no_key_of_the_servers_is_not_let_in(headers: Mapping[str, str], expected: str) -> None:
    async with house(KEYS) as at:
        answer = await at.chat(headers=headers)
        assert answer.status == 401
        assert answer.error["code"] == expected
        assert at.up.seen("a").chat == 0


async def test_a_key_that_is_no_text_is_a_wrong_key() -> None:
    async with house(KEYS) as at:
        answer = await at.raw(post().replace(b"Connection", b"X-Api-Key: \xff\xfe\xed\xa0\x80\r\nConnection", 1))
        assert statuses(answer) in ([401], [400])


async def test_a_clients_key_reaches_no_provider() -> None:
    async with house(KEYS) as at:
        assert (await chat(at, Authorization=f"Bearer {USER_KEY}", X_Api_Key=ADMIN_KEY, Cookie="c=1")).status == 200
        sent = at.up.seen("a").last
        assert at.up.seen("a").count(USER_KEY) == at.up.seen("a").count(ADMIN_KEY) == 0
        assert "cookie" not in sent.headers


async def test_with_admin_keys_alone_everybody_is_asked_for_one() -> None:
    async with house({"admin_keys": ["${ADMIN_KEY}"]}) as at:
        assert (await chat(at)).status == 401
        assert (await chat(at, X_Api_Key=ADMIN_KEY)).status == 200


async def test_with_user_keys_alone_nobody_is_an_admin_and_the_error_says_how_to_become_one() -> None:
    async with house({"api_keys": ["${USER_KEY}"]}) as at:
        answer = await at.get("/v1/router/status", {"X-Api-Key": USER_KEY})
        assert answer.status == 403
        assert "server.admin_keys" in answer.error["message"]


async def test_keys_stand_in_no_log_record_or_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hashes = [hashlib.sha256(key.encode()).hexdigest() for key in (USER_KEY, ADMIN_KEY)]
    async with house(KEYS) as at:
        for key in (USER_KEY, ADMIN_KEY, "rp-wrong-77aa"):
            for answer in (await chat(at, X_Api_Key=key), await at.get("/v1/router/status", {"X-Api-Key": key})):
                body = answer.body.decode()
                assert not [text for text in (USER_KEY, ADMIN_KEY, "rp-wrong-77aa", *hashes) if text in body]
        told = caplog.text + repr(at.witness.records) + repr(at.router.config)
        told += "".join(str(vars(record)) for record in caplog.records if record.name.startswith("routerpool"))
    assert not [text for text in (USER_KEY, ADMIN_KEY, "rp-wrong-77aa", *hashes) if text in told]


async def test_a_keys_own_profile_and_privacy_hold_for_its_requests() -> None:
    key = {"key": "${USER_KEY}", "name": "lawyer", "privacy": "secret", "profile": "fast"}
    async with house({"api_keys": [key]}) as at:
        answer = await chat(at, X_Api_Key=USER_KEY, X_Router_Privacy="public")
        assert answer.error["code"] == "privacy_blocked"
        assert answer.headers["X-Router-Profile"] == "fast"
        assert at.up.seen("a").chat == 0


# Every route


class MoreRoutes:
    """A plugin with routes on both planes, so that the matrix below sees those too."""

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        async def hello(request: web.Request) -> web.Response:
            return web.Response(text="hello")

        return [
            web.post("/v1/embeddings", hello),
            web.put("/v1/router/more/{name}", hello),
            web.patch("/v1/router/more", hello),
        ]


OPEN = {"/health", "/", "/v1/{tail}", "/{tail}"}
FOR_USERS = {f"/v1/router/{name}" for name in ("explain", "models", "profiles")}


def routes(app: web.Application) -> list[tuple[str, str, bool]]:
    """Method, a path, and whether it is for admins, of every route that is not open."""
    found = []
    for served_route in app.router.routes():
        path = served_route.resource.canonical if served_route.resource is not None else ""
        if path not in OPEN:
            admin = path.startswith("/v1/router/") and path not in FOR_USERS
            found.append((served_route.method, re.sub(r"\{\w+\}", "a", path), admin))
    return found


async def test_every_route_that_is_not_open_asks_for_a_key_and_admin_routes_for_an_admins() -> None:
    async with house(KEYS, plugins={"more": MoreRoutes}) as at:
        matrix = routes(at.app)
        assert {path for _, path, admin in matrix if admin} >= {
            "/v1/router/status",
            "/v1/router/plugins/a",
            "/v1/router/more/a",
        }
        assert {path for _, path, admin in matrix if not admin} >= {
            "/v1/chat/completions",
            "/v1/models",
            "/v1/embeddings",
        }
        wrong: list[Any] = []

        async def see(method: str, path: str, headers: Mapping[str, str], expected: int | None) -> None:
            """Expect this status, or None for anything but a refusal."""
            answer = await at.ask(method, path, {"enabled": True} if method not in ("GET", "HEAD") else None, headers)
            if answer.status != expected if expected else answer.status in (401, 403):
                wrong.append((method, path, dict(headers), answer.status))

        for method, path, admin in matrix:
            await see(method, path, {}, 401)
            await see(method, f"{path}?api_key={ADMIN_KEY}&key={ADMIN_KEY}", {}, 401)
            await see(method, path, {"X-Api-Key": "sk-wrong"}, 401)
            await see(method, path, {"Authorization": f"Basic {ADMIN_KEY}"}, 401)
            await see(method, path, {"Cookie": f"key={ADMIN_KEY}", "X-HTTP-Method-Override": "GET"}, 401)
            await see(method, path, {"X-Api-Key": USER_KEY}, 403 if admin else None)
            await see(method, path, {"X-Api-Key": ADMIN_KEY}, None)
        assert wrong == []


@pytest.mark.parametrize(
    "path",
    [
        "//v1/router/status",
        "/v1//router/status",
        "/v1/router/status/",
        "/v1/router/%73tatus",
        "/v1/router%2fstatus",
        "/v1/./router/status",
        "/v1/models/../router/status",
        "/v1/models/%2e%2e/router/status",
        "/v1/router/status;x=/v1/router/models",
        "/v1/router/status%00",
        "/V1/router/status",
        "/v1/router/models/../status",
        "/v1/router/explain/../status",
        "/health/../v1/router/status",
        "http://127.0.0.1/v1/router/status",
        "/v1/router/status?x=/v1/router/models",
        "/v1/router/status#/v1/router/models",
    ],
)
async def test_no_spelling_of_a_path_opens_an_admin_route(path: str) -> None:
    async with house(KEYS) as at:
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Api-Key: {USER_KEY}\r\n".encode()
            kind = b"Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
            answer = await at.raw(head + kind)
            assert statuses(answer)[0] in (400, 403, 404, 405), answer
            assert b"candidates" not in answer


class Planes:
    """A plugin with one route on each plane."""

    @hookimpl
    def register_routes(self) -> Iterable[web.RouteDef]:
        async def told(request: web.Request) -> web.Response:
            return web.Response(text=request[CALLER].plane)

        return [route("GET", f"/{plane}-page", told, plane=plane) for plane in PLANES]


HOST_KEY = "rp-host-5d17ce02aa"


async def test_a_plugins_route_says_who_may_call_it_and_a_later_key_opens_the_earlier_planes() -> None:
    keys = {**KEYS, "host_keys": ["${HOST_KEY}"]}
    async with served("a", server=keys, plugins={"planes": Planes}, env={**ENV, "HOST_KEY": HOST_KEY}) as at:
        asked = {"none": "", "user": USER_KEY, "host": HOST_KEY, "admin": ADMIN_KEY}
        seen = {
            name: [(await at.get(f"/{plane}-page", {"X-Api-Key": key})).status for plane in PLANES]
            for name, key in asked.items()
        }
        refused = await at.get("/host-page", {"X-Api-Key": USER_KEY})

    assert seen == {
        "none": [200, 401, 401, 401],
        "user": [200, 200, 403, 403],
        "host": [200, 200, 200, 403],
        "admin": [200, 200, 200, 200],
    }
    assert refused.error["code"] == "host_only"


async def test_without_keys_each_route_has_its_own_caller() -> None:
    async with house(plugins={"planes": Planes}) as at:
        seen = [(await at.get(f"/{plane}-page")).body.decode() for plane in PLANES]

    assert seen == ["user", "user", "host", "admin"]


@pytest.mark.parametrize("plane", ["root", "", None])
def test_a_plane_that_is_none_is_refused_where_it_is_written(plane: Any) -> None:
    async def told(request: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(ValueError, match="open, user, host, admin"):
        route("GET", "/page", told, plane=plane)


async def test_open_routes_ask_for_no_key() -> None:
    async with house(KEYS) as at:
        for path in ("/health", "/"):
            assert (await at.get(path)).status == 200
            assert (await at.ask("HEAD", path)).status == 200


async def test_without_keys_everybody_is_an_admin() -> None:
    async with house() as at:
        assert (await at.get("/v1/router/status")).status == 200


# Requests that two servers read differently

MARKED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Session-Id: smuggled\r\n"
SMUGGLED = MARKED + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


@pytest.fixture(scope="module")
def gadgets() -> Mapping[str, list[str]]:
    found: Mapping[str, list[str]] = json.loads(shared("reliability", "own", "http1_gadgets.json").read_text("utf-8"))
    return found


async def judged(at: House, cases: Mapping[str, bytes], allowed: Iterable[int]) -> dict[str, Any]:
    """The cases whose answers were none of these statuses; a connection that was closed without a word is fine."""
    answers = await asyncio.gather(*(at.raw(data, wait=0.5) for data in cases.values()))
    return {
        case: answer[:120]
        for case, answer in zip(cases, answers, strict=True)
        if not set(statuses(answer)) <= set(allowed)
    }


async def test_a_body_whose_length_is_told_twice_smuggles_no_second_request(gadgets: Mapping[str, list[str]]) -> None:
    cases = {}
    for gadget in gadgets["header_gadgets"]:
        if not gadget.lower().startswith(
            ("content-length", "host", "expect", "upgrade", "authorization", "connection")
        ):
            body = b"0\r\n\r\n" + SMUGGLED
            cases[gadget] = post("/v1/chat/completions", gadget, body=body).replace(b"Connection: close\r\n", b"")
    assert len(cases) > 20
    async with house() as at:
        assert await judged(at, cases, (400, 413, 415, 421)) == {}
        assert at.up.seen("a").chat == 0


async def test_a_doubtful_content_length_is_refused(gadgets: Mapping[str, list[str]]) -> None:
    found = [gadget for gadget in gadgets["header_gadgets"] if gadget.lower().startswith("content-length")]
    assert len(found) > 10
    async with house() as at:
        cases = {g: post("/v1/chat/completions", g, body=b"hello" + SMUGGLED, length=False) for g in found}
        assert await judged(at, cases, (400, 413)) == {}
        assert at.up.seen("a").chat == 0


async def test_doubtful_hosts_are_refused(gadgets: Mapping[str, list[str]]) -> None:
    found = [gadget for gadget in gadgets["header_gadgets"] if gadget.startswith("Host:")]
    ours = {"Host: [::1]:4545", "Host: 0.0.0.0:4545"}
    assert ours < set(found)
    async with house() as at:
        assert (
            await judged(
                at, {g: post("/v1/chat/completions", g, host=None) for g in found if g not in ours}, (400, 421)
            )
            == {}
        )
        assert at.up.seen("a").chat == 0
        assert await judged(at, {g: post("/v1/chat/completions", g, host=None) for g in ours}, (200,)) == {}


async def test_doubtful_chunks_are_refused(gadgets: Mapping[str, list[str]]) -> None:
    found = gadgets["chunk_bodies"]
    assert len(found) > 10
    async with house() as at:
        cases = {
            chunks: post(
                "/v1/chat/completions", "Transfer-Encoding: chunked", body=chunks.encode() + SMUGGLED, length=False
            )
            for chunks in found
        }
        assert await judged(at, cases, (400,)) == {}
        assert at.up.seen("a").chat == 0
        assert (await chat(at)).status == 200, "and the server still answers others"


async def test_doubtful_request_lines_are_refused(gadgets: Mapping[str, list[str]]) -> None:
    plain = "POST  /v1/chat/completions HTTP/1.1"  # some parsers take the two spaces, and nobody reads them otherwise
    found = [line for line in gadgets["request_lines"] if "//evil.example" not in line and line != plain]
    assert len(found) > 10
    async with house() as at:
        cases = {line: post().replace(b"POST /v1/chat/completions HTTP/1.1", line.encode(), 1) for line in found}
        assert await judged(at, cases, (400, 404, 405, 505)) == {}
        assert at.up.seen("a").chat == 0


async def test_an_absolute_target_of_another_host_reaches_nothing() -> None:
    async with house() as at:
        answer = await at.raw(post("http://evil.example/v1/chat/completions"))
        assert statuses(answer)[0] in (400, 404, 421)
        assert at.up.seen("a").chat == 0


async def test_headers_about_the_connection_do_not_change_who_is_let_in(gadgets: Mapping[str, list[str]]) -> None:
    tricks = ("Expect", "Connection", "Upgrade", "Authorization", "X-Forwarded-Host", "X-HTTP-Method-Override")
    found = [gadget for gadget in gadgets["header_gadgets"] if gadget.startswith(tricks)]
    assert len(found) == len(tricks) + 1
    async with house(KEYS) as at:
        assert await judged(at, {g: post("/v1/chat/completions", g) for g in found}, (100, 400, 401)) == {}
        assert at.up.seen("a").chat == 0
