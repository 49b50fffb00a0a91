"""What a body is, whatever its headers say of it: JSON, a stream of events, or something else."""

from __future__ import annotations

import re
from enum import Enum

from routerpool.wire.sse import MARK

__all__ = ["Form", "form_of", "unwrapped"]

PREFACE = re.compile(rb"(?:[ \t\r\n]|:[^\r\n]*+[\r\n])*+")
"""Blanks and comments, with which servers keep a connection open until the answer is there."""

FIELDS = (b"data", b"event", b"id", b"retry")


class Form(Enum):
    """What a body is."""

    JSON = "json"
    EVENTS = "events"
    OTHER = "other"


def unwrapped(body: bytes) -> bytes:
    """A body without a byte order mark, and without the blanks and comments before it."""
    body = body.removeprefix(MARK)
    found = PREFACE.match(body)
    return body[found.end() :] if found is not None and found.end() else body


def form_of(head: bytes) -> Form | None:
    """What a body is, by its first bytes; None where these do not tell it yet."""
    if len(head) < len(MARK) and MARK.startswith(head):
        return None
    said = unwrapped(head)
    if not said or said.startswith(b":"):
        return None
    if said[:1] in b"{[":
        return Form.JSON
    field = re.match(rb"[a-z]*", said)
    name = field[0] if field is not None else b""
    if len(name) == len(said) and any(known.startswith(name) for known in FIELDS):
        return None
    return Form.EVENTS if name in FIELDS and said[len(name) : len(name) + 1] in (b":", b"\n", b"\r") else Form.OTHER
