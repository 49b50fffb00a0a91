"""Plain answers whose heads we write ourselves: the same as aiohttp's, whatever the client speaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from attrs import evolve

from routerpool import Answer, Candidate, Model
from routerpool.engine.sinks import Served
from routerpool.http.responses import HttpSink, Serving, Watch
from routerpool.process import written as module
from routerpool.process.written import WrittenAnswer, able, written
from routerpool.testing.upstream import Upstream

from ..support.attacked import attacked
from ..support.house import CHAT, running

pytestmark = pytest.mark.anyio

SERVED = Served(
    request_id="a1",
    profile="näh",
    candidate=Candidate(provider="lab", model=Model(id="m\r\nX-Evil: 1")),
    attempts=1,
    tried="",
)
WAYS = {
    "1.1": b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n",
    "1.1, closing": b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "1.0": b"GET %b HTTP/1.0\r\nHost: a\r\n\r\n",
    "1.0, kept": b"GET %b HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def answer_of(size: int = 20) -> Answer:
    return Answer(status=200, content_type="application/json", body=json.dumps("x" * size).encode())


@asynccontextmanager
async def both(answer: Answer) -> AsyncIterator[int]:
    """A port on which `/ours` is written by us, and `/theirs` by aiohttp."""

    async def ours(_: web.Request) -> web.StreamResponse:
        response = written(answer, SERVED)
        assert response is not None
        return response

    async def theirs(request: web.Request) -> web.StreamResponse:
        sink = HttpSink(request, Serving(Watch(), None))  # type: ignore[arg-type]  # no body is read
        await sink.plain(answer, SERVED)
        assert isinstance(sink.response, web.Response)
        return sink.response

    app = web.Application()
    app.router.add_get("/ours", ours)
    app.router.add_get("/theirs", theirs)
    async with running(app) as port:
        yield port


async def asked(port: int, data: bytes) -> tuple[dict[str, str], bytes, bool]:
    """The head of the answer without its date, its body, and whether the connection is kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(5):
            writer.write(data)
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            assert first.split(" ", 1)[1] == "200 OK"
            head = dict(line.split(": ", 1) for line in lines)
            assert len(head) == len(lines)
            assert head.pop("Date").endswith(" GMT")
            body = await reader.readexactly(int(head["Content-Length"]))
            writer.write(data)
            return head, body, bool(await reader.read(1))
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("size", [0, 20, 200_000])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_an_answer_is_the_one_that_aiohttp_would_have_written(way: bytes, size: int) -> None:
    async with both(answer_of(size)) as port:
        ours = await asked(port, way % b"/ours")
        assert ours == await asked(port, way % b"/theirs")
        assert ours[1] == answer_of(size).body
        assert "X-Evil" not in ours[0]


@pytest.mark.parametrize(
    ("answer", "served"),
    [
        (evolve(answer_of(), status=400), SERVED),
        (answer_of(), evolve(SERVED, tried="a/m:server")),
        (answer_of(), evolve(SERVED, ignored="mode")),
        (answer_of(), evolve(SERVED, candidate=None)),
    ],
    ids=["a refusal", "after others", "hints unheard", "a plugin's"],
)
def test_what_is_not_of_the_usual_form_is_left_to_aiohttp(answer: Answer, served: Served) -> None:
    assert written(answer, served) is None


def test_an_aiohttp_that_keeps_its_state_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert able()
    monkeypatch.setattr(module, "INNER_NAMES", (*module.INNER_NAMES, "_nothing_of_this_name"))
    assert not able()


async def test_to_a_client_that_has_left_it_is_a_connection_error() -> None:
    class Gone:
        transport = None

    with pytest.raises(ConnectionResetError):
        await WrittenAnswer(b"", b"").prepare(Gone())  # type: ignore[arg-type]


async def test_a_server_of_our_own_writes_them_and_keeps_its_connections(tmp_path: Path) -> None:
    body = json.dumps(CHAT).encode()
    data = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    data += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    async with Upstream() as up, attacked(tmp_path, provider=up.base_url("a")) as server:
        head, answer, kept = await asked(server.port, data)
    assert kept
    assert list(head)[-1] == "Content-Length"  # aiohttp writes its own name last
    assert head["X-Router-Provider"] == "a"
    assert json.loads(answer)["object"] == "chat.completion"
