"""What a data URL holds is text where it is compressed, wide, or a picture's own words."""

from __future__ import annotations

import base64
import gzip
import struct
import time
import zlib

import pytest

from routerpool.privacy import parts_of
from routerpool.privacy.packed import MOST_INFLATED, packed_text
from routerpool.privacy.parts import Part, rewritten
from routerpool.wire import parse_chat

TEXT = "the key is in here, and it is a secret to everybody"


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def picture(*chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + body + chunk(b"IEND", b"")


HIDING = {
    "plain": TEXT.encode(),
    "utf-16": TEXT.encode("utf-16"),
    "utf-16-le": TEXT.encode("utf-16-le"),
    "utf-16-be": TEXT.encode("utf-16-be"),
    "gzip": gzip.compress(TEXT.encode()),
    "gzip of utf-16": gzip.compress(TEXT.encode("utf-16")),
    "tEXt": picture(chunk(b"tEXt", b"Comment\0" + TEXT.encode())),
    "zTXt": picture(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(TEXT.encode()))),
    "iTXt": picture(chunk(b"iTXt", b"Comment\0\0\0en\0Comment\0" + TEXT.encode())),
    "packed iTXt": picture(chunk(b"iTXt", b"Comment\0\1\0en\0Comment\0" + zlib.compress(TEXT.encode()))),
}


@pytest.mark.parametrize("form", HIDING)
def test_a_text_is_seen_and_can_be_changed_in_every_form(form: str) -> None:
    url = f"data:application/octet-stream;base64,{base64_of(HIDING[form])}"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    asked = parse_chat({"messages": [{"role": "user", "content": content}]}, request_id="r")

    def change(part: Part) -> str | None:
        return part.text.replace(TEXT, "nothing") if TEXT in part.text else None

    assert any(TEXT in part.text for part in parts_of(asked))
    changed = rewritten(asked, change)
    assert changed is not asked
    assert not any(TEXT in part.text for part in parts_of(changed))


@pytest.mark.parametrize(
    "data", [picture(), b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8, b"\x1f\x8b\x08broken", b"\0" * 90]
)
def test_what_is_no_text_stays_as_it_is(data: bytes) -> None:
    assert packed_text(base64_of(data)) is None


def test_what_is_packed_to_burst_costs_a_multiple_of_what_was_sent() -> None:
    bomb = base64_of(gzip.compress(b"a" * (64 << 20)))
    started = time.thread_time()
    packed = packed_text(bomb)
    assert packed is not None
    assert len(packed.text) <= MOST_INFLATED * len(bomb)
    assert time.thread_time() - started < 5


def test_a_large_number_is_a_text_and_a_small_one_is_none() -> None:
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "metadata": {"card": 4111111111111111, "n": 7},
        "seed": 4111111111111111,
    }
    asked = parse_chat(body, request_id="r")
    texts = [part.text for part in parts_of(asked)]
    assert texts.count("4111111111111111") == 2
    assert "7" not in texts
    changed = rewritten(asked, lambda part: "[card]" if part.text == "4111111111111111" else None)
    assert (changed.params["metadata"], changed.params["seed"]) == ({"card": "[card]", "n": 7}, "[card]")
    assert rewritten(asked, lambda part: None) is asked
