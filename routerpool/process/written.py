"""Plain answers of a server of our own, written in one piece: nobody else has a say in their heads.

aiohttp makes a map of headers for every response, asks the application's signals, and writes the map. Here what all
answers of one candidate have in common is written once, and nobody has to be asked: an application that has mounted us
gets aiohttp's own responses. What is taken of aiohttp's inside is in `INNER_NAMES`; without it, ours are aiohttp's too.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache

from aiohttp import HttpVersion10, web
from aiohttp.http import SERVER_SOFTWARE

from routerpool.engine.sinks import Served
from routerpool.http.responses import SHIELD, header, routing_headers
from routerpool.types import Answer

__all__ = ["INNER_NAMES", "WrittenAnswer", "able", "written"]

INNER_NAMES = ("_eof_sent", "_keep_alive")
"""What aiohttp's responses keep, by names that its manual does not promise: whether they are sent, and what follows."""

COPIED_BYTES = 1 << 16
"""Up to this size a body is sent in one piece with its head; a longer one is not copied."""


class WrittenAnswer(web.StreamResponse):
    """A whole answer; it is sent when aiohttp prepares it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        super().__init__()
        self._head = head
        self._whole = body

    @property
    def prepared(self) -> bool:
        """Its head is written: nobody adds to it."""
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send all of it, once."""
        if self._eof_sent:
            return
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        keep = self._keep_alive = request.keep_alive if self._keep_alive is None else self._keep_alive
        self._eof_sent = True
        if keep is (request.version == HttpVersion10):  # else each goes without saying
            connection = b"Connection: keep-alive\r\n\r\n" if keep else b"Connection: close\r\n\r\n"
        else:
            connection = b"\r\n"
        if len(self._whole) < COPIED_BYTES:
            transport.write(b"%b%b%b" % (self._head, connection, self._whole))
        else:
            transport.writelines((self._head, connection, self._whole))

    async def write_eof(self, data: bytes = b"") -> None:
        """It is sent already."""


def written(answer: Answer, served: Served) -> web.StreamResponse | None:
    """The response of a plain answer; None where it is not of the usual form, and aiohttp makes it."""
    candidate = served.candidate
    if candidate is None or answer.status != 200 or served.tried or served.ignored:
        return None
    common = _lines(answer.content_type, candidate.provider, candidate.model.id, served.attempts, served.profile)
    own = b"X-Router-Request-Id: %b\r\nDate: %b\r\nContent-Length: %d\r\n"
    head = common + own % (header(served.request_id).encode(), _date(int(time.time())), len(answer.body))
    return WrittenAnswer(head, answer.body)


def able() -> bool:
    """Whether this aiohttp has what is taken of its inside."""
    return all(hasattr(web.StreamResponse, name) for name in INNER_NAMES)


@lru_cache(maxsize=1024)
def _lines(content_type: str, provider: str, model: str, attempts: int, profile: str) -> bytes:
    told = routing_headers(Served(request_id="", profile=profile, candidate=None, attempts=attempts, tried=""))
    headers = {
        "Content-Type": header(content_type),
        **{name: value for name, value in told.items() if name != "X-Router-Request-Id"},
        "X-Router-Provider": header(provider),
        "X-Router-Model": header(model),
        **SHIELD,
        "Server": SERVER_SOFTWARE,
    }
    return "".join(["HTTP/1.1 200 OK\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items())]).encode()


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
