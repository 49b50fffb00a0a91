"""The page at `/`: small, without a script, and silent about what is not for everybody."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from ..support.house import house

pytestmark = pytest.mark.anyio

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
KEYS = {"server": {"api_keys": ["sha256:" + hashlib.sha256(b"rp-user-3b1f0c77e2").hexdigest()]}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_a_browser_gets_a_page_with_the_base_url_and_who_can_answer() -> None:
    async with house("near far idle", options={"near": {"local": True}, "idle": {"api_key_env": "UNSET"}}) as at:
        reply = await at.get("/", HTML)
        page = Page(reply.body.decode())
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        assert f"http://127.0.0.1:{at.port}/v1" in page.text
        assert re.search(r"near\s*1 model, on this machine", page.text)
        assert re.search(r"far\s*1 model", page.text)
        assert "idle" not in page.text
        for link in page.links:
            assert (await at.get(link)).status == 200


async def test_it_has_no_script_loads_nothing_and_allows_nothing_else() -> None:
    async with house() as at:
        reply = await at.get("/", HTML)
    page, policy = Page(reply.body.decode()), reply.headers["Content-Security-Policy"]
    assert not {"script", "img", "link", "iframe", "form"} & set(page.tags)
    assert "default-src 'none'" in policy
    style = re.search(r"<style>(.*?)</style>", reply.body.decode(), re.DOTALL)
    assert style is not None
    assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy
    assert "style=" not in reply.body.decode()
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


async def test_where_keys_are_wanted_a_stranger_learns_no_more_than_that_it_runs() -> None:
    async with house("secretlab", **KEYS) as at:
        page = Page((await at.get("/", HTML)).body.decode())
        assert "secretlab" not in page.text
        assert "wants a key" in page.text


async def test_behind_a_base_path_the_address_and_links_have_it() -> None:
    async with house(server={"base_path": "/llm"}) as at:
        page = Page((await at.get("/llm/", HTML)).body.decode())
        assert f"http://127.0.0.1:{at.port}/llm/v1" in page.text
        assert all(link.startswith("/llm/") for link in page.links)


async def test_a_name_breaks_out_of_nothing() -> None:
    async with house(server={**KEYS["server"], "allowed_hosts": ["*"]}) as at:
        raw = await at.raw(b"GET / HTTP/1.1\r\nHost: a<b>'\"&c\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
    assert b"<b>" not in raw


async def test_others_get_a_line() -> None:
    async with house() as at:
        assert (await at.get("/")).body.startswith(b"routerpool is here")
