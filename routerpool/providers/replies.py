"""An answer that has begun: its head is here, its body is read in bounded steps."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp

from routerpool.protocols import Reply
from routerpool.providers.connection import Received
from routerpool.providers.forms import Form, form_of, unwrapped
from routerpool.wire.json import parsed

__all__ = ["HttpReply", "NotListedError", "ReadReply", "begun", "read_all", "read_document"]

DOCUMENT_BYTES = 8 << 20
"""How large a list of models may be, and whatever else a provider tells of itself."""

PACKED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})
"""The encodings that there are. Servers also write a charset or `none` there, which all clients take for none."""

HEAD_BYTES = 1 << 14
"""Within so many bytes a body shows what it is."""


class HttpReply:
    """An answer over HTTP as a Reply, inflated by us in bounded steps where it comes compressed."""

    __slots__ = ("_inflater", "_response", "chunk", "headers", "status")

    def __init__(self, response: Received | aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        encoding = response.headers.get("Content-Encoding")
        packed = "" if encoding is None else ", ".join(_packed(encoding))
        self._inflater = _Inflater(packed) if packed else None
        # The connection goes back to the pool by itself once the body is read to its end.
        self.chunk: Callable[[], Awaitable[bytes]] = self._inflated if self._inflater else response.content.readany

    async def _inflated(self) -> bytes:
        assert self._inflater is not None  # noqa: S101 - for the type checker: see __init__
        while not (data := self._inflater.more()):
            packed = await self._response.content.readany()
            if not packed:
                return self._inflater.flush()
            self._inflater.feed(packed)
        return data

    def close(self) -> None:
        """Cut the connection unless the body is read to its end."""
        if self._response.connection is not None:  # else it is back in the pool already
            self._response.close()


class ReadReply:
    """An answer whose body has been read already."""

    __slots__ = ("_body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    async def chunk(self) -> bytes:
        """All of it, then nothing."""
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """There is nothing left to close."""


def _packed(encoding: str) -> list[str]:
    return [name for each in encoding.lower().split(",") if (name := each.strip()) in PACKED]


class _Inflater:
    """gzip and deflate in steps of at most 64 KiB, so that a bomb meets the reader's own cap first."""

    STEP = 1 << 16

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise ValueError(f"an answer in the encoding {encoding!r}, which was not asked for")
        self._encoding = encoding
        self._engine = zlib.decompressobj(31 if "gzip" in encoding else 15)
        self._packed = b""
        self._begun = False

    def feed(self, packed: bytes) -> None:
        """Take the next compressed bytes."""
        self._packed += packed

    def more(self) -> bytes:
        """Up to one step of what is inflated; b"" when more input is needed."""
        if not self._packed:
            return b""
        try:
            data = self._engine.decompress(self._packed, self.STEP)
        except zlib.error as error:
            if self._begun or self._encoding != "deflate":
                raise ValueError("an answer whose compression is broken") from error
            self._engine = zlib.decompressobj(-15)  # some servers call the raw format deflate
            data = self._engine.decompress(self._packed, self.STEP)
        self._begun = True
        self._packed = self._engine.unconsumed_tail
        return data

    def flush(self) -> bytes:
        """What is left when the input has ended; a cut stream is a ValueError."""
        data = self._engine.flush()
        if not self._engine.eof:
            raise ValueError("a compressed answer that is cut short")
        return data


class NotListedError(ValueError):
    """What came in place of a list of models, in words of ours."""


async def read_all(reply: Reply, limit: int) -> bytes:
    """The whole body, or a ValueError once it is longer than `limit` bytes."""
    parts, size = [], 0
    try:
        while data := await reply.chunk():
            size += len(data)
            if size > limit:
                reply.close()
                raise ValueError("a body longer than its limit")
            parts.append(data)
        return b"".join(parts)
    finally:
        parts.clear()  # an error holds this frame, and may be held for long


async def read_document(response: aiohttp.ClientResponse) -> Any:
    """The JSON document, an object or an array, that a provider answered a GET with.

    A redirect, and an error or a bare value in place of a document, are no answer: whoever took one for a list would
    find it empty, and lose all models. They raise a NotListedError, a status that is no success a ClientResponseError.
    """
    response.raise_for_status()
    if response.status >= 300:
        raise aiohttp.ClientResponseError(
            response.request_info, response.history, status=response.status, headers=response.headers
        )
    document = await parsed(await read_all(HttpReply(response), DOCUMENT_BYTES))
    if isinstance(document, dict) and document.get("error"):
        raise NotListedError("it answered with an error inside a success")
    if not isinstance(document, dict | list):
        raise NotListedError("it answered with a bare value")
    return document


async def begun(reply: Reply) -> tuple[bytes, bool]:
    """The first bytes of a body, and whether they begin a stream of events, whatever its headers say.

    Those of any other body come without the byte order mark, blanks and comments before it; b"" where there are none.
    """
    head = b""
    while data := await reply.chunk():
        head = head + data if head else data
        form = form_of(head)
        if form is not None:
            return (head, True) if form is Form.EVENTS else (unwrapped(head), False)
        if len(head) > HEAD_BYTES:
            break
    return head, True
