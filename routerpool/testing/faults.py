"""What providers are known to get wrong (classes R, F and S); with `healthy` the whole register of faults."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import chain, repeat
from typing import Any

from attrs import evolve

from routerpool.testing.answers import CREATED, DONE, encode, openai_error, sse
from routerpool.testing.call import JSON, SSE, UpstreamCall
from routerpool.testing.healthy import completion, either, ok
from routerpool.testing.registry import FAULTS, Fault, fault, fault_of, faults_of_class
from routerpool.testing.retry_after import RETRY_AFTER_FORMS, google_error

__all__ = ["FAULTS", "Fault", "fault_of", "faults_of_class"]


# refusals


@fault("http:400", "http:413", "http:422", both="F", takes=int)
@fault(*(f"http:{code}" for code in (401, 402, 403, 404, 408, 429, 500, 502, 503, 504, 529)), both="R", takes=int)
async def http(x: UpstreamCall) -> None:
    """The status given, with OpenAI's error body for it."""
    await x.whole(x.arg, encode(openai_error(x.arg)))


@fault(*(f"ra:{form}" for form in RETRY_AFTER_FORMS), both="R", takes=RETRY_AFTER_FORMS.__getitem__)
async def ra(x: UpstreamCall) -> None:
    """429 that states a wait in this form; `RETRY_AFTER_FORMS` knows the true one."""
    stated, body = x.arg.build(time.time())
    await x.whole(429, body, headers=stated)


@fault(both="R")
async def geminiday(x: UpstreamCall) -> None:
    """429 of a spent daily quota in Gemini's form: the short delay it states does not help before midnight Pacific."""
    await x.whole(429, encode(google_error("Day", "34.4s")))


@fault(both="F")
async def overflow(x: UpstreamCall) -> None:
    """400: the prompt is longer than the context window."""
    message = "This model's maximum context length is 8192 tokens, however you requested 9001 tokens."
    await x.whole(400, encode(openai_error(400, message, code="context_length_exceeded")))


@fault(both="R")
async def notools(x: UpstreamCall) -> None:
    """400: this model cannot use tools, whatever was asked."""
    await x.whole(400, encode(openai_error(400, '"m1" does not support tools')))


@fault(stream="O")
async def nostreamoptions(x: UpstreamCall) -> None:
    """400 for a stream that carries `stream_options`, healthy without."""
    if x.include_usage:
        message = "Unrecognized request argument supplied: stream_options"
        await x.whole(400, encode(openai_error(400, message)))
    else:
        await ok(x)


@fault(both="F")
async def contentfilter(x: UpstreamCall) -> None:
    """400: the provider's content policy refuses the prompt."""
    message = "The response was filtered due to the prompt triggering the content management policy."
    await x.whole(400, encode(openai_error(400, message, code="content_filter")))


@fault("redirect", "redirect:302", "redirect:308", both="R", takes=lambda code: int(code or 307))
async def redirect(x: UpstreamCall) -> None:
    """307 (or the status given) to the provider `evil`, which no request may ever reach."""
    await x.whole(x.arg, b"", headers=[("location", f"{x.elsewhere}/chat/completions")])


# a 200 that is no answer


@fault(both="R")
async def err200(x: UpstreamCall) -> None:
    """200 with an error object as its JSON body, also where a stream was asked for."""
    await x.whole(200, encode(openai_error(500, "Provider returned error")))


@fault(both="R")
async def html(x: UpstreamCall) -> None:
    """200 with a page of HTML."""
    await x.whole(200, b"<!doctype html><title>Sign in</title><p>Please sign in.", "text/html; charset=utf-8")


@fault(both="R")
async def empty(x: UpstreamCall) -> None:
    """200 of the right type and of length 0."""
    await x.whole(200, b"", SSE if x.stream else JSON)


@fault("json:null", "json:[]", "json:42", both="R", takes=json.loads)
async def json_(x: UpstreamCall) -> None:
    """200 whose body, or whose first event, is this JSON value."""
    await either(x, encode(x.arg), [sse(x.arg), DONE])


@fault(both="R")
async def nochoices(x: UpstreamCall) -> None:
    """200 with an empty list of choices; in a stream such a chunk and `[DONE]`."""
    chunk = x.answer.opening() | {"choices": []}
    await either(x, encode(x.answer.plain() | {"choices": []}), [sse(chunk), DONE])


@fault(both="R")
async def nullcontent(x: UpstreamCall) -> None:
    """200 with null content, no tool call, and the finish reason `stop`."""
    message = {"role": "assistant", "content": None}
    events = [sse(x.answer.chunk(message)), sse(x.answer.chunk({}, "stop")), DONE]
    await either(x, completion(x, message=message, finish_reason="stop"), events)


@fault(both="R")
async def roleonly(x: UpstreamCall) -> None:
    """200 with empty content and the finish reason `stop`; in a stream the role chunk is all there is."""
    x.answer = evolve(x.answer, text="", call=None)
    await ok(x)


@fault(both="R")
async def truncjson(x: UpstreamCall) -> None:
    """200 with the first half of the JSON in right framing; in a stream the first content event is cut."""
    body = x.answer.body(False)
    event = sse(next(x.answer.contents()))
    await either(x, body[: len(body) // 2], [sse(x.answer.opening()), event[: len(event) // 2]])


@fault(both="R")
async def badutf8(x: UpstreamCall) -> None:
    """200 whose content is not UTF-8."""
    answer = evolve(x.answer, text="CUT", events=None, call=None)
    events = [event.replace(b"CUT", b"\xff\xfe\xc3") for event in answer.stream(x.include_usage)]
    await either(x, answer.body(False).replace(b"CUT", b"\xff\xfe\xc3"), events)


@fault(both="R")
async def deepjson(x: UpstreamCall) -> None:
    """200 with JSON nested 100,000 deep."""
    body = b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    await either(x, body, [b"data: " + body + b"\n\n", DONE])


@fault(both="R")
async def hugeint(x: UpstreamCall) -> None:
    """200 with an integer of 5,000 digits, which Python's own parser refuses."""
    digits, created = b"9" * 5000, b"%d" % CREATED
    events = [event.replace(created, digits) for event in x.answer.stream(x.include_usage)]
    await either(x, x.answer.body(False).replace(created, digits), events)


@fault(stream="R")
async def emptystream(x: UpstreamCall) -> None:
    """200 stream that ends at once; a plain answer is `empty`."""
    if not x.stream:
        await empty(x)
        return
    await x.head()
    await x.end()


@fault(stream="R")
async def donestream(x: UpstreamCall) -> None:
    """200 stream of nothing but `[DONE]`; a plain answer is `empty`."""
    await either(x, b"", [DONE])


@fault(stream="R")
async def err1st(x: UpstreamCall) -> None:
    """200 stream whose first event is an error; a plain answer is `err200`."""
    body = openai_error(429, "Provider returned error")
    await either(x, encode(body), [sse(body), DONE])


# broken framing


def _cut(x: UpstreamCall) -> tuple[bytes, bytes]:
    """The opening of the answer and the rest of it, for faults that fail before any content."""
    body = x.answer.body(x.stream, x.include_usage)
    size = len(sse(x.answer.opening())) if x.stream else len(body) - 10
    return body[:size], body[size:]


@fault(both="R")
async def clshort(x: UpstreamCall) -> None:
    """Announces less than it sends: what is announced holds no content, and the surplus poisons the connection."""
    first, rest = _cut(x)
    await x.raw(x.head_bytes(length=len(first)) + first + rest)


@fault(both="R")
async def cllong(x: UpstreamCall) -> None:
    """Announces more than it sends, then closes; in a stream no content was sent."""
    first, rest = _cut(x)
    await x.raw(x.head_bytes(length=len(first + rest) + 100) + first)


@fault(both="R")
async def badchunk(x: UpstreamCall) -> None:
    """A chunk without content, 50 ms later a chunk size that is no number, then the end of the connection."""
    await x.head()
    await x.chunk(_cut(x)[0])
    await x.pause(0.05)
    await x.raw(b"ZZZ\r\n")


@fault(both="R")
async def badstatus(x: UpstreamCall) -> None:
    """Something that is not HTTP."""
    await x.raw(b"220 mail.invalid ESMTP ready\r\n\r\n")


@fault(both="R")
async def bigheader(x: UpstreamCall) -> None:
    """Healthy but for a header of 100 kB."""
    body = x.answer.body(x.stream, x.include_usage)
    await x.whole(200, body, SSE if x.stream else JSON, [("x-padding", "p" * 100_000)])


# silence and slowness


@fault(both="R")
async def hang(x: UpstreamCall) -> None:
    """Takes the request and never answers."""
    await x.silence()


@fault(both="R")
async def close(_: UpstreamCall) -> None:
    """Takes the request and closes the connection without a byte."""


@fault(both="R")
async def rst(x: UpstreamCall) -> None:
    """Takes the request and resets the connection without a byte."""
    x.reset()


def _seconds(text: str) -> float:
    return float(text or 0.5)


@fault(both="R", takes=_seconds)
async def slowhead(x: UpstreamCall) -> None:
    """Healthy, but one byte each half second (or the seconds given), from the status line on."""
    body = x.answer.body(x.stream, x.include_usage)
    await _dribble(x, x.head_bytes(length=len(body)) + body)


@fault(both="R", takes=_seconds)
async def slowbody(x: UpstreamCall) -> None:
    """Healthy head at once, then one byte of the body each half second (or the seconds given)."""
    body = x.answer.body(x.stream, x.include_usage)
    await x.raw(x.head_bytes(length=len(body)))
    await _dribble(x, body)


async def _dribble(x: UpstreamCall, data: bytes) -> None:
    for index in range(len(data)):
        await x.raw(data[index : index + 1], last=index == len(data) - 1)
        await x.pause(x.arg)


@fault(both="R")
async def headstall(x: UpstreamCall) -> None:
    """The head of a good answer, then silence."""
    await x.head()
    await x.silence()


@fault(both="R", takes=lambda text: float(text or 0.05))
async def commentstall(x: UpstreamCall) -> None:
    """Never content, but each 50 ms (or the seconds given) a sign of life: a comment, or a blank in a plain body."""
    await x.head()
    while True:
        await x.chunk(b": keep-alive\n\n" if x.stream else b"\n")
        await x.pause(x.arg)


@fault(both="R")
async def kaclose(x: UpstreamCall) -> None:
    """Healthy for the first request of a connection; the next one finds it closed, without a byte."""
    if not x.connection.served:
        await ok(x)


@fault(both="R")
async def kaidle(x: UpstreamCall) -> None:
    """Healthy, then resets the idle connection 50 ms later, whatever has come in meanwhile."""
    await ok(x)
    await x.pause(0.05)
    x.reset()


# too much

_MEBI = 2**20


@cache
def _packed_blanks(mebibytes: int) -> tuple[bytes, Any]:
    coder = zlib.compressobj(1, wbits=31)
    return b"".join(coder.compress(b" " * _MEBI) for _ in range(mebibytes)), coder


@fault(both="R", takes=lambda size: int(size or 200))
async def bomb(x: UpstreamCall) -> None:
    """A good answer behind 200 MiB (or the number given) of blanks, gzipped to less than 1 MiB."""
    packed, coder = _packed_blanks(x.arg)
    coder = coder.copy()
    await x.head(headers=[("content-encoding", "gzip")])
    await x.chunk(packed)
    blank_line = b"\n\n" if x.stream else b""
    tail = coder.compress(blank_line + x.answer.body(x.stream, x.include_usage)) + coder.flush()
    await x.chunk(tail, last=True)


async def _flood(x: UpstreamCall, before: bytes, pieces: Iterator[bytes], after: bytes) -> None:
    await x.head()
    for piece in chain([before], pieces):
        await x.chunk(piece)
    await x.chunk(after, last=True)


@fault(both="R")
async def endless(x: UpstreamCall) -> None:
    """A body that never ends, as fast as it is read; in a stream an event that never ends."""
    await _flood(x, b'data: {"id":"' if x.stream else b'{"id":"', repeat(b"a" * 65536), b"")


@fault(both="R", takes=lambda size: int(size or 64))
async def bigevent(x: UpstreamCall) -> None:
    """Well formed, but one event (or the plain answer's content) is 64 MiB (or the number given) long."""
    answer = evolve(x.answer, text="CUT", events=None, call=None)
    before, after = answer.body(x.stream, x.include_usage).split(b"CUT")
    await _flood(x, before, repeat(b"a" * 65536, x.arg * 16), after)


# breaking off in the middle


async def _half(x: UpstreamCall) -> None:
    """Begin well and stop in the middle: some content is with the client, the end is not."""
    await x.head()
    if not x.stream:
        body = x.answer.body(False)
        await x.chunk(body[: len(body) // 2])
        return
    contents = list(x.answer.contents())
    for event in [x.answer.opening(), *contents[: max(1, len(contents) // 2)]]:
        await x.event(event)


@fault(plain="R", stream="S")
async def stall(x: UpstreamCall) -> None:
    """Half of the answer, then silence."""
    await _half(x)
    await x.silence()


@fault(plain="R", stream="S")
async def midclose(x: UpstreamCall) -> None:
    """Half of the answer, then the connection is closed."""
    await _half(x)


@fault(plain="R", stream="S")
async def midrst(x: UpstreamCall) -> None:
    """Half of the answer, then, 20 ms later, the connection is reset."""
    await _half(x)
    await x.pause(0.02)  # a reset may overtake what was sent just before it
    x.reset()


@fault(plain="R", stream="S")
async def midchunk(x: UpstreamCall) -> None:
    """Half of the answer, 50 ms later a chunk size that is no number, then the end of the connection."""
    await _half(x)
    await x.pause(0.05)
    await x.raw(b"ZZZ\r\n")


@fault(plain="R", stream="S")
async def nodone(x: UpstreamCall) -> None:
    """Half of the answer, then its proper end: neither a finish reason nor `[DONE]`."""
    await _half(x)
    await x.end()


@fault(plain="R", stream="S")
async def miderr(x: UpstreamCall) -> None:
    """Half of the answer, then an error object, then the proper end."""
    await _half(x)
    error = openai_error(500, "The model runner has unexpectedly stopped.")
    await x.chunk(sse(error) if x.stream else encode(error), last=True)


@fault(plain="R", stream="S")
async def midjunk(x: UpstreamCall) -> None:
    """A piece in the middle of the answer is not JSON; the rest, up to `[DONE]`, is right."""
    body = x.answer.body(False).replace(b'"choices":', b'"choices"{junk', 1)
    events = x.answer.stream(x.include_usage)
    middle = max(2, len(list(x.answer.contents())) // 2)
    events[middle] = b"data: {junk\n\n"
    await either(x, body, events)


@fault(stream="S")
async def infinite(x: UpstreamCall) -> None:
    """Content events for ever, one each millisecond (or the provider's pace); a plain answer is `endless`."""
    if not x.stream:
        await endless(x)
        return
    await x.head()
    await x.event(x.answer.opening())
    while True:
        await x.event(x.answer.chunk({"content": "again "}))
        await x.pause(x.pace or 0.001)
