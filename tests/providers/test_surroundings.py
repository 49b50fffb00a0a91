"""What people write around addresses and keys, and the way to a provider by a proxy or under a certificate."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from routerpool import ConfigError, OpenAIProvider, ProviderConfig
from routerpool.providers.surroundings import api_address, bare_key, proxy_for
from routerpool.testing import Upstream, make_router

from ..support.house import running

HELLO = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}


class Lab(OpenAIProvider):
    base_url = "https://api.lab.example/openai/v1"
    api_key_env = "LAB_KEY"


class Anywhere(OpenAIProvider):
    pass


def lab(section: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None) -> Lab:
    provider = Lab(ProviderConfig(**(section or {})), name="lab")
    provider.bind(env or {})
    return provider


# Addresses


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (" http://box:1/v1 ", "http://box:1/v1"),
        ('"http://box:1/v1/"', "http://box:1/v1"),
        ("http://box:1/v1/\n", "http://box:1/v1"),
        ("http://box:1/v1/chat/completions", "http://box:1/v1"),
        ("http://box:1/v1/chat/completions/", "http://box:1/v1"),
        ("http://box:1/v1/models", "http://box:1/v1"),
        ("http://box:1/v1/responses", "http://box:1/v1"),
        ("http://box:1/v1/messages", "http://box:1/v1"),
        ("http://box:1", "http://box:1/v1"),
        ("http://box:1/", "http://box:1/v1"),
        ("http://[::1]:9", "http://[::1]:9/v1"),
        ("http://box:1/chat/completions", "http://box:1"),  # the root itself, told by the whole address
        ("http://box:1/api", "http://box:1/api"),
    ],
)
def test_an_address_is_taken_as_it_was_meant(written: str, meant: str) -> None:
    assert api_address(written, None) == meant
    assert Anywhere(ProviderConfig(base_url=written), name="a").base_url == meant
    moved = Anywhere(ProviderConfig(base_url="http://x/v1"), name="a")
    assert moved.base_url == "http://x/v1"


def test_an_address_without_a_path_gets_that_of_the_usual_one() -> None:
    assert lab({"base_url": "https://proxy.example"}).base_url == "https://proxy.example/openai/v1"
    assert lab(env={"LAB_BASE_URL": "https://proxy.example/"}).base_url == "https://proxy.example/openai/v1"
    assert lab(env={"LAB_BASE_URL": " 'https://proxy.example/v9/chat/completions'"}).base_url == (
        "https://proxy.example/v9"
    )
    assert lab().base_url == "https://api.lab.example/openai/v1"
    assert api_address("https://api.deep.example", "https://api.deep.example") == "https://api.deep.example"


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        ("http://box:1/v1#models", "must not hold a fragment"),
        ("http://my box:1/v1", "blanks"),
        ("http://box:1/v1?key=k", "must not hold credentials or a query; name the key by `api_key_env`"),
        ("http://box:1/v1/chat/completions?api-version=7", "a query"),
        (
            "localhost:1234/v1",
            "must be an http:// or https:// address, not 'localhost:1234/v1'; write http://localhost",
        ),
        ("ftp://box/v1", "must be an http:// or https:// address"),
        ("", "`base_url` is missing"),
        ("   ", "`base_url` is missing"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_with_the_cure(written: str, cure: str) -> None:
    with pytest.raises(ConfigError, match=r"plugins\.a") as caught:
        make_router({"plugins": {"a": {"base_url": written}}}, plugins={"a": Anywhere})
    assert cure in str(caught.value)


# Keys


@pytest.mark.parametrize(
    "written",
    [
        " sk-1 ", "sk-1\n", "sk-1\r\n", "\"sk-1\"", "'sk-1'", "Bearer sk-1", "bearer  sk-1", "\"Bearer sk-1\"\n",
        "LAB_KEY=sk-1", "LAB_KEY=\"sk-1\"", "Authorization: Bearer sk-1", "\ufeffsk-1", "`sk-1`",
    ],
)  # fmt: skip
def test_a_key_is_taken_without_what_was_copied_with_it(written: str) -> None:
    assert bare_key(written, "LAB_KEY") == "sk-1"
    provider = lab(env={"LAB_KEY": written})
    assert provider.request_headers["Authorization"] == "Bearer sk-1"
    assert provider.idle() is None


def test_doctor_says_that_a_key_was_mended_and_shows_none_of_it() -> None:
    (said,) = [report for report in lab(env={"LAB_KEY": "'sk-1'"}).check(None) if "more than the key" in report.text]  # type: ignore[arg-type]
    assert said.text.startswith("LAB_KEY holds more than the key")
    assert "sk-1" not in str(said)
    for clean in ("sk-1", "sk-1\n"):
        assert not [report for report in lab(env={"LAB_KEY": clean}).check(None) if "more than" in report.text]  # type: ignore[arg-type]


@pytest.mark.parametrize("written", ["", "  ", '""', "Bearer "])
def test_a_key_of_nothing_is_none(written: str) -> None:
    assert lab(env={"LAB_KEY": written}).idle() == "LAB_KEY is not set"


# Proxies

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("address", "env", "proxy"),
    [
        ("https://a.example/v1", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://a.example/v1", {"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, PROXY),
        ("https://a.example/v1", {"HTTP_PROXY": PROXY}, None),
        ("http://a.example/v1", {"HTTP_PROXY": PROXY}, PROXY),
        ("https://a.example/v1", {"ALL_PROXY": PROXY}, PROXY),
        ("https://a.example/v1", {"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ("https://a.example/v1", {"HTTPS_PROXY": PROXY, "NO_PROXY": "b.example, .example"}, None),
        ("https://a.example/v1", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ("https://a.example/v1", {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.example:443"}, None),
        ("https://a.example/v1", {"HTTPS_PROXY": PROXY, "NO_PROXY": "b.example"}, PROXY),
        ("http://127.0.0.1:8/v1", {"HTTP_PROXY": PROXY}, None),
        ("http://192.168.1.4:8/v1", {"HTTP_PROXY": PROXY}, None),
        ("http://localhost:8/v1", {"ALL_PROXY": PROXY}, None),
        ("https://a.example/v1", {"HTTPS_PROXY": "  "}, None),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_has_for_an_address(
    address: str, env: dict[str, str], proxy: str | None
) -> None:
    found = proxy_for(address, env)
    assert (None if found is None else str(found.url).rstrip("/")) == proxy


def test_a_proxy_is_used_only_where_somebody_says_so_and_doctor_tells_of_one_that_is_not() -> None:
    env = {"LAB_KEY": "k", "HTTPS_PROXY": PROXY}
    unused = lab(env=env)
    assert unused.settings.proxy is None
    (said,) = [report for report in unused.check(None) if "proxy" in report.text]  # type: ignore[arg-type]
    assert said.text == "HTTPS_PROXY is set, and lab is asked without that proxy"
    for used in (lab({"trust_env": True}, env), lab(env={**env, "ROUTERPOOL_TRUST_ENV": "1"})):
        assert used.settings.proxy is not None
        assert not [report for report in used.check(None) if "proxy" in report.text]  # type: ignore[arg-type]
    general = make_router({"trust_env": True, "plugins": {"lab": {}}}, plugins={"lab": Lab}, env=env)
    assert general.providers["lab"].settings.proxy is not None  # type: ignore[attr-defined]
    spared = make_router({"trust_env": True, "plugins": {"lab": {"trust_env": False}}}, plugins={"lab": Lab}, env=env)
    assert spared.providers["lab"].settings.proxy is None  # type: ignore[attr-defined]


def test_a_proxy_of_another_kind_leaves_the_provider_idle_with_the_reason() -> None:
    env = {"LAB_KEY": "k", "ALL_PROXY": "socks5://proxy.example:1080"}
    assert lab({"trust_env": True}, env).idle() == "ALL_PROXY names no http:// or https:// proxy"


@asynccontextmanager
async def proxy(status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """A forward proxy that answers by itself, and what it was asked."""
    seen: list[str] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(f"{request.method} {request.url}")
        document: Any = ANSWER if request.method == "POST" else {"data": [{"id": "m1"}]}
        return web.json_response(document if status == 200 else {}, status=status)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    async with running(app) as port:
        yield f"http://127.0.0.1:{port}", seen


class Far(OpenAIProvider):
    models_at = "models"
    refresh_seconds = 300.0


def test_chat_and_lists_go_by_the_proxy() -> None:
    async def whole() -> list[str]:
        async with proxy() as (url, seen):
            config = {"plugins": {"a": {"base_url": "http://api.far.example/v1", "trust_env": True}}}
            async with make_router(config, plugins={"a": Far}, env={"HTTP_PROXY": url}) as router:
                assert (await router.chat(HELLO))["choices"] == ANSWER["choices"]
        return seen

    assert asyncio.run(whole()) == [
        "GET http://api.far.example/v1/models",
        "POST http://api.far.example/v1/chat/completions",
    ]


# Certificates


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_a_ca_file_is_trusted_beside_the_systems(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"

    async def whole() -> None:
        async with Upstream(tls="selfsigned") as up:
            authority.write_text(await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", up.port)))
            section = {"base_url": up.base_url("a")}
            async with make_router({"plugins": {"a": section}}, plugins={"a": Far}) as router:
                assert router.catalog.silent == {"a": "a: its TLS certificate is not valid"}
            section["ca_file"] = str(authority)
            async with make_router({"plugins": {"a": section}}, plugins={"a": Far}) as router:
                assert router.catalog.silent == {}
                assert (await router.chat(HELLO))["choices"]

    asyncio.run(whole())


def test_a_ca_file_that_holds_none_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("empty.pem", "missing.pem"):
        section = {"base_url": "https://a.example/v1", "ca_file": str(tmp_path / name)}
        with pytest.raises(ConfigError, match=r"`ca_file`: .* holds no certificates that can be read"):
            make_router({"plugins": {"a": section}}, plugins={"a": Anywhere})
