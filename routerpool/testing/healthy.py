"""The healthy answer and every odd but right way of giving it (class O)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from attrs import evolve

from routerpool.testing.answers import DONE, encode, sse
from routerpool.testing.call import JSON, SSE, UpstreamCall
from routerpool.testing.registry import fault

__all__ = ["completion", "either", "ok"]


async def _send(x: UpstreamCall, events: Sequence[bytes], gap: float = 0.0) -> None:
    await x.head(type_=SSE)
    for index, event in enumerate(events):
        if gap and index:
            await x.pause(gap)
        await x.chunk(event, last=index == len(events) - 1)


async def either(x: UpstreamCall, plain: bytes, events: Sequence[bytes]) -> None:
    """Answer with this body, or with these events where a stream was asked for."""
    if x.stream:
        await _send(x, events)
    else:
        await x.whole(200, plain)


def completion(x: UpstreamCall, **choice: Any) -> bytes:
    plain = x.answer.plain()
    plain["choices"][0] |= choice
    return encode(plain)


@fault(both="O")
async def ok(x: UpstreamCall) -> None:
    """The healthy answer."""
    if x.stream:
        await _send(x, x.answer.stream(x.include_usage), x.pace)
    else:
        await x.whole(200, x.answer.body(False))


@fault("slow:0.3", both="O", takes=float)
async def slow(x: UpstreamCall) -> None:
    """Healthy, but the first byte comes after this many seconds."""
    await x.pause(x.arg)
    await ok(x)


@fault("paced:0.05", both="O", takes=float)
async def paced(x: UpstreamCall) -> None:
    """Healthy, with this many seconds between two events, or between the quarters of a plain body."""
    if x.stream:
        await _send(x, x.answer.stream(x.include_usage), x.arg)
        return
    body = x.answer.body(False)
    await x.head()
    step = len(body) // 4 + 1
    for start in range(0, len(body), step):
        await x.chunk(body[start : start + step])
        await x.pause(x.arg)
    await x.end()


@fault("long:200", both="O", takes=int, text=lambda _, words: " ".join(f"w{n}" for n in range(words)))
async def long(x: UpstreamCall) -> None:
    """Healthy, with this many content events."""
    await ok(x)


@fault("ssesplit:1", "ssesplit:7", "ssesplit:200", both="O", takes=int)
async def ssesplit(x: UpstreamCall) -> None:
    """Healthy; the body arrives in two pieces, cut at this byte offset."""
    body = x.answer.body(x.stream, x.include_usage)
    await x.head()
    await x.chunk(body[: x.arg])
    await x.pause(0.003)
    await x.chunk(body[x.arg :], last=True)


@fault(both="O")
async def ssebytes(x: UpstreamCall) -> None:
    """Healthy; every byte of the body is a chunk of its own."""
    await x.head()
    for byte in x.answer.body(x.stream, x.include_usage):
        await x.chunk(bytes([byte]))
    await x.end()


class Style(NamedTuple):
    """A permitted way of writing events: how the stream is written, and what its text has in addition."""

    write: Callable[[list[bytes]], bytes] = b"".join
    mark: str = ""


STYLES = {
    "crlf": Style(lambda events: b"".join(events).replace(b"\n", b"\r\n")),
    "cr": Style(lambda events: b"".join(events).replace(b"\n", b"\r")),
    "comment": Style(lambda events: b"".join(b": ping\n\n: inside\n" + event for event in events)),
    "multiline": Style(lambda events: b"".join(e.replace(b"data: {", b"data: {\ndata: ", 1) for e in events)),
    "nospace": Style(lambda events: b"".join(event.replace(b"data: ", b"data:", 1) for event in events)),
    "bom": Style(lambda events: b"\xef\xbb\xbf" + b"".join(events)),
    "eventid": Style(lambda events: b"".join(b"event: message\nid: 7\n" + event for event in events)),
    "retry": Style(lambda events: b"retry: 1000\n\n" + b"".join(events)),
    "nolastblank": Style(lambda events: b"".join(events)[:-1]),
    "u2028": Style(mark="\u2028next"),
    "u0085": Style(mark="\u0085next"),
}


@fault(
    *(f"ssestyle:{name}" for name in STYLES),
    stream="O",
    takes=STYLES.__getitem__,
    text=lambda text, style: text + style.mark,
)
async def ssestyle(x: UpstreamCall) -> None:
    """Healthy events in another permitted way of writing them: ends of lines, comments, fields, characters."""
    if not x.stream:
        await ok(x)
        return
    await _send(x, [x.arg.write(x.answer.stream(x.include_usage))])


@fault("enc:gzip", "enc:deflate", both="O", takes={"gzip": 31, "deflate": 15}.__getitem__)
async def enc(x: UpstreamCall) -> None:
    """Healthy, compressed whether or not the client offered it."""
    coder = zlib.compressobj(wbits=x.arg)
    await x.head(headers=[("content-encoding", "gzip" if x.arg == 31 else "deflate")])
    for event in x.answer.stream(x.include_usage) if x.stream else [x.answer.body(False)]:
        await x.chunk(coder.compress(event) + coder.flush(zlib.Z_SYNC_FLUSH))
    await x.chunk(coder.flush(), last=True)


@fault(both="O")
async def headers(x: UpstreamCall) -> None:
    """Healthy, with headers that are between the provider and its client only and must not travel on."""
    private = [("set-cookie", "upstream=1; Path=/"), ("server", "upstream"), ("alt-svc", 'h3=":443"')]
    body = x.answer.body(x.stream, x.include_usage)
    await x.whole(200, body, SSE if x.stream else JSON, [*private, ("keep-alive", "timeout=5")])


@fault(both="O")
async def usagenull(x: UpstreamCall) -> None:
    """Healthy, but it never says what it used."""
    plain = encode(x.answer.plain() | {"usage": None})
    await either(x, plain, x.answer.stream(include_usage=False))


@fault(both="O", text=lambda *_: "")
async def lengthempty(x: UpstreamCall) -> None:
    """No text and the finish reason `length`: legitimate where all tokens went into reasoning."""
    x.answer = evolve(x.answer, text="", finish="length", call=None)
    await ok(x)


@fault(stream="O")
async def nofinish_done(x: UpstreamCall) -> None:
    """Content and `[DONE]` without a finish reason; in a plain answer it is null."""
    events = [sse(x.answer.opening()), *map(sse, x.answer.contents()), DONE]
    await either(x, completion(x, finish_reason=None), events)


@fault(stream="O")
async def finish_nodone(x: UpstreamCall) -> None:
    """Content and a finish reason, then the stream ends without `[DONE]`; a plain answer is healthy."""
    await either(x, x.answer.body(False), x.answer.stream(x.include_usage)[:-1])
