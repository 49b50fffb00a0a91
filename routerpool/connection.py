"""Connections to providers: kept alive between requests, and asked whether they were new."""

from __future__ import annotations

import io
from contextvars import ContextVar
from typing import Any

import aiohttp

__all__ = ["Connections", "post"]

_new: ContextVar[bool] = ContextVar("routerpool_new_connection", default=True)


class Connections(aiohttp.TCPConnector):
    """A connector that notes, for the current task, when it had to open a connection."""

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        _new.set(True)
        return await super()._create_connection(*args, **kwargs)


async def post(session: aiohttp.ClientSession, url: Any, data: bytes, headers: Any) -> aiohttp.ClientResponse:
    """POST without following redirects.

    A connection that was kept alive and turns out to be closed, before any byte came back, is no failure of the
    provider: the request is sent once more. A new connection that breaks is a failure, and is told.
    """
    _new.set(False)
    try:
        return await session.post(url, data=_body(data), headers=headers, allow_redirects=False)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        if _new.get():
            raise
    return await session.post(url, data=_body(data), headers=headers, allow_redirects=False)


def _body(data: bytes) -> bytes | io.BytesIO:
    """Plain bytes, or a file of them: from 1 MiB on aiohttp warns of bytes that go to the socket in one piece."""
    return data if len(data) <= 1 << 20 else io.BytesIO(data)
