"""aioresponses, for plain GET calls of which a status and a body are all that matters.

It answers in place of aiohttp's session, so nothing of it is about sockets: streams, cuts and slow servers have the
scriptable `Upstream`. What the router POSTs goes another way, and is not caught by it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses.core
from aioresponses import aioresponses as Replies

__all__ = ["ANYTHING", "Replies", "replies"]

ANYTHING = re.compile(".*")
"""Every address."""


class _Response(aiohttp.ClientResponse):
    """aiohttp 3.14 wants a `stream_writer`, of which aioresponses 0.7.9 does not know."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=Mock(output_size=0), **kwargs)


@contextmanager
def replies() -> Iterator[Replies]:
    """What sessions get while this is open: nothing but what is said here."""
    wanted = "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters
    usual = aioresponses.core.ClientResponse
    aioresponses.core.ClientResponse = _Response if wanted else usual
    try:
        with Replies() as said:
            yield said
    finally:
        aioresponses.core.ClientResponse = usual
