"""Hostile requests over a real server: what is a chat request is answered by a provider, the rest is told why not.

An oracle of Python's own JSON parser says which is which. Nothing is answered with a server error, nothing hangs, and
neither an answer nor the log repeats what was sent: every body carries a secret that is looked for.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import math
import re
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routerpool.http import bodies
from routerpool.wire.hints import LONGEST_NAME

from ..support.house import CHAT, House, Reply, house, shared

pytestmark = pytest.mark.anyio

CANARY = "sk-canary-7c1e5d90ab42"
"""Stands in every body; an answer or a log that holds it has repeated what a client sent."""
CHATS, EXPLAIN = "/v1/chat/completions", "/v1/router/explain"
MOST_DEPTH = 200
"""Nested no deeper than this, a body must be passed on."""
HANG = 5.0
BODY = json.dumps({**CHAT, "user": CANARY}).encode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever is sent, no log repeats it, and none of it is called a defect of ours."""
    caplog.set_level(logging.DEBUG)
    yield
    assert logged(caplog) == ""


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """What our own log holds of errors and of what was sent."""
    told = [record for record in caplog.records if record.name.startswith("routerpool")]
    texts = [(record.levelno, f"{record.getMessage()} {record.exc_text}") for record in told]
    return "\n".join(text for level, text in texts if level >= logging.ERROR or CANARY in text)


@asynccontextmanager
async def hostile_house() -> AsyncIterator[House]:
    async with house("a") as at:
        yield at


def wrong(reply: Reply, allowed: Iterable[int] = range(400, 500)) -> str | None:
    """What is not as it should be with a refusal: its status, its form, or that it repeats what was sent."""
    if reply.status not in allowed:
        return f"status {reply.status}: {reply.body[:200]!r}"
    if not reply.headers["Content-Type"].startswith("application/json"):
        return f"a refusal as {reply.headers['Content-Type']}"
    error = reply.error
    if not ({"message", "type", "param", "code"} <= set(error) and error["message"] and isinstance(error["code"], str)):
        return f"no error object of OpenAI's: {error}"
    if CANARY.encode() in reply.body or CANARY in str(dict(reply.headers)):
        return f"it repeats what was sent: {reply.body[:300]!r}"
    return None


def unanswered(reply: Reply, stream: bool) -> str | None:
    """What is not as it should be with an answer of provider `a`."""
    if reply.status != 200 or reply.headers.get("X-Router-Provider") != "a":
        return f"status {reply.status}: {reply.body[:200]!r}"
    whole = reply.body.endswith(b"data: [DONE]\n\n") if stream else "choices" in reply.json
    return None if whole else f"half an answer: {reply.body[-100:]!r}"


# The oracle


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [item for one in level for item in (one.values() if isinstance(one, dict) else one)
                 if isinstance(item, (dict, list))]  # fmt: skip
    return deepest


def _finite(value: Any) -> bool:
    """Whether every number is one that JSON's readers agree on to be a number."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, list):
            todo += one
        elif isinstance(one, (int, float)) and not isinstance(one, bool):
            try:
                if not math.isfinite(float(one)):
                    return False
            except OverflowError:
                return False
    return True


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def read(raw: bytes) -> Any:
    """The value of these bytes by the standard's letter, halves of emojis replaced; a ValueError if there is none."""
    value = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
    if not _finite(value):
        raise ValueError("a number beyond all numbers")
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(re.sub("[\ud800-\udfff]", "\ufffd", text))  # half a surrogate pair is no text


ALLOWED_MODELS = ("auto", "m1", "a/m1")
DESTINATIONS = {"api_base", "api_key", "base_url", "custom_llm_provider", "extra_headers", "fallbacks", "mock_response"}


def is_chat(raw: bytes) -> bool | None:
    """Whether a provider must be asked; None where both an answer and a refusal are right."""
    try:
        body = read(raw)
    except (ValueError, RecursionError) as error:
        return None if isinstance(error, RecursionError) and raw.strip().endswith((b"]", b"}")) else False
    if not isinstance(body, dict) or DESTINATIONS & set(body):
        return False
    messages, model, stream = body.get("messages"), body.get("model") or "auto", body.get("stream")
    if not isinstance(messages, list) or not messages:
        return False
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
        return False
    if not isinstance(model, str) or not (stream is None or isinstance(stream, bool)):
        return False
    if not isinstance(body.get("stream_options"), dict | None):
        return False
    if body.get("router") is not None or model not in ALLOWED_MODELS or _depth(body) > MOST_DEPTH:
        return None
    return True


def streams(raw: bytes) -> bool:
    """Whether these bytes ask for a stream."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and body.get("stream") is True


def wished(raw: bytes, reply: Reply) -> bool:
    """Whether a client got what it wished for: it has forbidden everybody, or left no time for an answer."""
    if reply.status not in (503, 504):
        return False
    hints = json.loads(raw).get("router") or {}
    wish = {"no_candidate": ("forbidden", "forbiddenModels"), "budget_exhausted": ("max_seconds",)}
    return any(name in hints for name in wish.get(reply.error["code"], ()))


async def judge(at: House, raw: bytes) -> str | None:
    """Send a body to both doors; what was wrong with what came back, in words."""
    expected = is_chat(raw)
    before = at.up.seen("a").chat
    async with asyncio.timeout(HANG):
        reply = await at.ask("POST", CHATS, raw)
        explained = await at.ask("POST", EXPLAIN, raw)
    asked = at.up.seen("a").chat - before
    if expected is None:
        expected = reply.status == 200
    complaint = unanswered(reply, streams(raw)) if expected else None if wished(raw, reply) else wrong(reply)
    if complaint is None and asked != expected:
        complaint = f"the provider was asked {asked} times"
    if complaint is None and explained.status != 200:
        complaint = "explained: " + text if (text := wrong(explained)) else None
    if complaint is None and is_chat(raw) is not None and expected != (explained.status == 200):
        complaint = f"chat says {reply.status}, explain {explained.status}"
    return complaint


async def complaints(at: House, bodies: Mapping[str, bytes]) -> dict[str, str]:
    """Everything that is wrong with the answers to these bodies."""
    return {name: told for name, raw in bodies.items() if (told := await judge(at, raw)) is not None}


# JSON of every sort

WRAPPED: Mapping[str, bytes] = {
    "alone": b"%s",
    "metadata": b'{"user":"CANARY","messages":[{"role":"user","content":"x"}],"metadata":%s}',
    "content": b'{"user":"CANARY","messages":[{"role":"user","content":%s}]}',
    "message": b'{"user":"CANARY","messages":[%s]}',
    "messages": b'{"user":"CANARY","messages":%s}',
    "role": b'{"user":"CANARY","messages":[{"role":%s,"content":"x"}]}',
    "model": b'{"user":"CANARY","messages":[{"role":"user","content":"x"}],"model":%s}',
    "tools": b'{"user":"CANARY","messages":[{"role":"user","content":"x"}],"tools":%s}',
    "stream": b'{"user":"CANARY","messages":[{"role":"user","content":"x"}],"stream":%s}',
    "router": b'{"user":"CANARY","messages":[{"role":"user","content":"x"}],"router":{"task":%s}}',
}


def wrapped(name: str, raw: bytes) -> dict[str, bytes]:
    """These bytes as the body, and as the value of fields of every kind."""
    return {
        f"{name} {place}": around.replace(b"CANARY", CANARY.encode()).replace(b"%s", raw)
        for place, around in WRAPPED.items()
    }


VALUES: Mapping[str, bytes] = {
    "minus zero": b"-0",
    "minus zero point": b"-0.0",
    "not a number": b"NaN",
    "infinity": b"Infinity",
    "minus infinity": b"-Infinity",
    "beyond a double": b"1e999",
    "below a double": b"1e-999",
    "64 bits": b"18446744073709551615",
    "65 bits": b"18446744073709551616",
    "400 digits": b"9" * 400,
    "5000 digits": b"9" * 5000,
    "leading zero": b"012",
    "hexadecimal": b"0x1F",
    "plus": b"+1",
    "bare point": b".5",
    "half a pair": b'"\\ud800"',
    "other half": b'"\\udc00\\ud800"',
    "whole pair": b'"\\ud83d\\ude00"',
    "key of half a pair": b'{"\\ud800": 1}',
    "zero sign": b'"a\\u0000b"',
    "bare zero sign": b'"a\x00b"',
    "bare line end": b'"a\nb"',
    "not utf-8": b'"\xff\xfe"',
    "overlong": b'"\xc0\xaf"',
    "surrogate in utf-8": b'"\xed\xa0\x80"',
    "latin-1": '"ä"'.encode("latin-1"),
    "unknown escape": b'"\\x41"',
    "cut escape": b'"\\u00"',
    "single quotes": b"'a'",
    "comment": b"1 /* one */",
    "two values": b"1 2",
    "cut text": b'"a',
    "empty key": b'{"": {"": []}}',
    "key twice": b'{"a": 1, "a": 2}',
    "proto": b'{"__proto__": {"a": 1}, "constructor": []}',
    "many keys": b"{" + b",".join(b'"k%d":1' % n for n in range(20_000)) + b"}",
    "deep enough": b"[" * 100 + b"]" * 100,
    "deep": b"[" * 5_000 + b"]" * 5_000,
    "very deep lists": b"[" * 100_000 + b"]" * 100_000,
    "very deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "open lists": b"[" * 100_000,
    "nothing": b"",
    "null": b"null",
    "true": b"true",
    "Python's": b"None",
}


async def test_a_value_of_any_sort_is_passed_on_or_refused_wherever_it_stands() -> None:
    async with hostile_house() as at:
        for name, raw in VALUES.items():
            assert await complaints(at, wrapped(name, raw)) == {}


async def test_the_json_test_suite_is_read_by_the_letter_wherever_it_stands() -> None:
    lines = shared("reliability", "jsontestsuite", "cases.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [one for one in map(json.loads, lines) if "b64" in one]
    assert len(cases) > 300
    async with hostile_house() as at:
        for case in cases:
            assert await complaints(at, wrapped(case["name"], base64.b64decode(case["b64"]))) == {}


WHOLE: Mapping[str, bytes] = {
    "as it should be": BODY,
    "blanks around": b" \t\r\n" + BODY + b"\r\n\t ",
    "byte order mark": b"\xef\xbb\xbf" + BODY,
    "utf-16": BODY.decode().encode("utf-16"),
    "utf-16 without a mark": BODY.decode().encode("utf-16-be"),
    "utf-32": BODY.decode().encode("utf-32"),
    "latin-1": BODY.replace(b"Hello", "Grüße".encode("latin-1")),
    "utf-8": BODY.replace(b"Hello", "Grüße".encode()),
    "twice": BODY + BODY,
    "zero byte behind": BODY + b"\0",
    "comma behind": BODY[:-1] + b",}",
    "model twice, the first wrong": BODY.replace(b'"model"', b'"model": 5, "model"', 1),
    "model twice, the last wrong": BODY[:-1] + b', "model": 5}',
    "messages twice, the last none": BODY[:-1] + b', "messages": []}',
    "stream twice": BODY[:-1] + b', "stream": true, "stream": false}',
    "destination twice": BODY[:-1] + b', "api_base": null, "api_base": "http://evil.example"}',
    "a form": b"model=auto&user=" + CANARY.encode(),
    "several parts": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + CANARY.encode() + b"\r\n--x--\r\n",
    "lines": BODY + b"\n" + BODY,
    "a list of it": b"[" + BODY + b"]",
    "a text of it": json.dumps(BODY.decode()).encode(),
    "pickled": b"\x80\x04\x95" + CANARY.encode(),
    "packed": gzip.compress(BODY),
    "xml": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
    "yaml": b"model: auto\nmessages: [{role: user, content: " + CANARY.encode() + b"}]\n",
}


async def test_a_body_that_is_almost_one_is_read_by_the_letter() -> None:
    async with hostile_house() as at:
        assert await complaints(at, WHOLE) == {}


async def test_a_body_cut_anywhere_is_refused() -> None:
    async with hostile_house() as at:
        assert await complaints(at, {str(end): BODY[:end] for end in range(len(BODY))}) == {}


# Naughty strings

NAUGHTY = [
    "",
    " ",
    "null",
    "undefined",
    "NaN",
    "\u0000",
    "\u0000\u0001\u001f\u007f\u0080\u009f",
    "\ufeff\u200b\u200d\u2060",
    "\u2028\u2029\u0085",
    "\u202etxet\u202c",
    "Ω≈ç√∫˜µ≤≥÷ \U0001f469\U0001f3fd\u200d\U0001f680",
    "Z̮̞̠͙͔ͅḀ̗̞͈̻̗Ḷ͙͎̯̹̞͓G̻O̭̗̮",
    "\uffff\ufffe\U0010ffff",
    "ÅÍÎÏ˝ÓÔÒÚÆ☃",
    "' OR '1'='1",
    "1; DROP TABLE usage;--",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}} ${7*7} <%= 7*7 %> #{7*7}",
    "${jndi:ldap://127.0.0.1/a}",
    "%s%s%s%n %(a)s {0.__class__} {}",
    "$(touch /tmp/owned) `id` ; id | id && id",
    "../../../etc/passwd\u0000.txt",
    "__import__('os').system('id')",
    "!!python/object/apply:os.system ['true']",
    "data: [DONE]\n\ndata: {}\n\n",
    "\r\nX-Injected: 1\r\n\r\nGET / HTTP/1.1\r\n",
    "\\ \" ' / \b \f \n \r \t",
    "http://169.254.169.254/latest/meta-data/",
    "a/m1/../b/m1",
    "routerpool/../auto",
    "*",
    "a/*",
    "[a-z",
    "(" * 500,
    "a" * 10_000,
]


def carrying(text: str) -> dict[str, Any]:
    """A chat request that has this text wherever a client may write what it likes."""
    function = {"name": text, "description": text, "parameters": {"type": "object", "properties": {text: {}}}}
    call = {"id": text, "type": "function", "function": {"name": text, "arguments": text}}
    return {
        "messages": [
            {"role": "system", "content": text},
            {"role": text, "content": text, "name": text},
            {"role": "assistant", "content": text, "tool_calls": [call]},
            {"role": "tool", "content": [{"type": "text", "text": text}, {"type": text}], "tool_call_id": text},
        ],
        "tools": [{"type": "function", "function": function}],
        "stop": [text],
        "user": text,
        "metadata": {text: text},
        f"x{text}": text,
    }


NAMED = ("profile", "privacy", "priority", "mode", "preferred", "max_queue_seconds", "allow_async", "task", "session")


async def naughty(at: House, text: str) -> str | None:
    """Send a text in every place where one may stand; what was wrong with what came back."""
    body = carrying(text)
    hints: dict[str, Any] = {"task": text, "session": text} if len(text) <= LONGEST_NAME else {}
    if len(text) <= LONGEST_NAME and "*" not in text:
        hints["preferred"] = [text]
    stream = bool(len(text) % 2)
    reply = await at.chat({**body, "router": hints, "stream": stream})
    if (told := unanswered(reply, stream)) is not None:
        return told
    sent = at.up.seen("a").last.json
    if {name: sent.get(name) for name in body} != body:
        return f"it was changed on its way: {sent}"
    if b"[DONE]\n\n" in reply.body[:-14] or "X-Injected" in reply.headers:
        return "it has broken out of its place"
    asked: list[dict[str, Any]] = [{"model": text}, *({"router": {name: text}} for name in NAMED)]
    for changes in asked:
        reply = await at.chat({"user": CANARY, **changes})
        told = unanswered(reply, False) if reply.status == 200 else wrong(reply, (400, 404))
        if told is not None:
            return f"{changes}: {told}"
    return None


async def test_a_naughty_string_does_no_harm_wherever_it_stands() -> None:
    async with hostile_house() as at:
        assert {text: told for text in NAUGHTY if (told := await naughty(at, text)) is not None} == {}


async def test_no_string_of_the_big_list_does_harm() -> None:
    texts = json.loads(shared("reliability", "blns", "blns.json").read_text(encoding="utf-8"))
    more = json.loads(shared("reliability", "own", "security_strings.json").read_text(encoding="utf-8"))
    texts += [
        text for name in ("dashboard_xss", "ssrf_urls", "path_traversal", "sql", "yaml_bad") for text in more[name]
    ]
    assert len(texts) > 550
    async with hostile_house() as at:
        assert {text: told for text in texts if (told := await naughty(at, text)) is not None} == {}


TOLD_IN_HEADERS = ("X-Session-Id", "X-Router-Task", "X-Router-Session", "X-Router-Privacy", "X-Router-Profile")


def sent_in_headers(text: str) -> bytes | None:
    """A request with this text in all headers we read, or None where no header may hold it."""
    value = text.strip().encode("utf-8", "surrogatepass")
    if len(value) > 4000 or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
        return None
    lines = b"".join(name.encode() + b": " + value + b"\r\n" for name in (*TOLD_IN_HEADERS, "User-Agent", "X-Other"))
    return head(b"Connection: close", b"Content-Length: %d" % len(BODY), lines[:-2]) + BODY


async def headers_judged(texts: Iterable[str]) -> dict[str, bytes]:
    """The texts that got an answer which they should not have got, and that answer."""
    found: dict[str, bytes] = {}
    async with hostile_house() as at:
        for text in texts:
            if (whole := sent_in_headers(text)) is None:
                continue
            harmless = re.sub(rb"X-Router-(Privacy|Profile): [^\r]*\r\n", b"", whole)
            taken = (200,) if len(text.strip()) <= LONGEST_NAME else (400,)
            for data, allowed in ((whole, (200, 400, 404)), (harmless, taken)):
                answer = await at.raw(data, wait=HANG)
                if not answer or int(answer[9:12]) not in allowed or CANARY.encode() in answer:
                    found[text] = answer
    return found


async def test_a_naughty_string_in_a_header_does_no_harm() -> None:
    assert len([text for text in NAUGHTY if sent_in_headers(text) is not None]) > 20
    assert await headers_judged(NAUGHTY) == {}


async def test_no_string_of_the_big_list_does_harm_in_a_header() -> None:
    texts = json.loads(shared("reliability", "blns", "blns.json").read_text(encoding="utf-8"))
    assert await headers_judged(texts) == {}


# Anything at all

LETTERS = st.text(max_size=6) | st.sampled_from(["auto", "m1", "user", "text", "*"])
TAME = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | LETTERS
WILD = TAME | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 2**64, -(2**63) - 1, 10**30, 10**400, 1e308])
WILD |= st.text(st.characters(exclude_categories=()), max_size=3)  # halves of surrogate pairs too


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any JSON value of these leaves."""

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3)

    return st.recursive(leaves, around, max_leaves=6)


ANYTHING = trees(TAME)


def often(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any] = ANYTHING) -> st.SearchStrategy[Any]:
    """Mostly the usual, once in a while the odd."""
    return st.integers(0, 11).flatmap(lambda dice: odd if dice == 11 else usual)


FIELDS = """stream_options tools tool_choice functions response_format reasoning_effort max_tokens max_completion_tokens
n stop seed temperature logit_bias"""
HINTS = """privacy profile task preferred forbidden priority mode allow_async max_queue_seconds max_seconds
require_gpu_only session taskType preferredModels forbiddenModels maxQueueTimeMs nonsense"""
URL = st.fixed_dictionaries({"url": ANYTHING})
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "file"]) | ANYTHING},
    optional={"text": ANYTHING, "image_url": ANYTHING | URL},
)
MESSAGE = st.fixed_dictionaries(
    {"role": often(st.sampled_from(["user", "tool", "system", "x"]))},
    optional={"content": ANYTHING | st.lists(PART, max_size=2), "tool_calls": ANYTHING, "name": ANYTHING},
)
OBJECTS = st.fixed_dictionaries(
    {"user": st.just(CANARY), "messages": often(st.lists(often(MESSAGE), min_size=1, max_size=3))},
    optional={
        **dict.fromkeys(FIELDS.split(), ANYTHING),
        "model": often(st.sampled_from(ALLOWED_MODELS)),
        "stream": often(st.booleans()),
        "stream_options": often(st.fixed_dictionaries({}, optional={"include_usage": ANYTHING})),
        "metadata": often(ANYTHING, trees(WILD)),
        "router": st.none() | ANYTHING | st.fixed_dictionaries({}, optional=dict.fromkeys(HINTS.split(), ANYTHING)),
    },
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A body, whole or not quite."""
    raw = json.dumps(draw(OBJECTS)).encode()
    place, length = draw(st.integers(0, len(raw))), draw(st.integers(1, 8))
    how = draw(
        st.sampled_from(
            ["whole"] * 12 + ["destination", "cut", "hole", "insert", "again", "mark", "utf-16", "deeper", "huge"]
        )
    )
    bodies: dict[str, bytes] = {
        "whole": raw,
        "destination": raw[:-1] + b',"api_base":"http://127.0.0.1:9"}',
        "cut": raw[:place],
        "hole": raw[:place] + raw[place + length :],
        "insert": raw[:place] + draw(st.binary(min_size=1, max_size=4)) + raw[place:],
        "again": raw[:-1] + b"," + raw[1:],
        "mark": b"\xef\xbb\xbf" + raw,
        "utf-16": raw.decode().encode("utf-16"),
        "deeper": raw[:-1] + b',"metadata":' + b"[" * 100 * length**2 + b"]" * 100 * length**2 + b"}",
        "huge": raw[:-1] + b',"seed":' + b"9" * 10 ** (length // 2) + b"}",
    }
    return bodies[how]


def test_no_body_is_answered_with_anything_but_an_answer_or_the_reason_why_not() -> None:
    verdicts = Counter[bool | None]({True: 0, False: 0, None: 0})
    with asyncio.Runner() as runner:
        context = hostile_house()
        at = runner.run(context.__aenter__())
        try:

            @settings(max_examples=700, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            @given(damaged())
            def check(raw: bytes) -> None:
                verdicts[is_chat(raw)] += 1
                assert runner.run(judge(at, raw)) is None, raw

            check()
            assert min(verdicts.values()) > 30, "bodies of all sorts were sent"
        finally:
            runner.run(context.__aexit__(None, None, None))


def head(*lines: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    """The head of a chat request with these lines at its end."""
    return b"\r\n".join([line, b"Host: 127.0.0.1", b"Content-Type: application/json", *lines, b"", b""])


# How a body is framed and packed


def statuses(answer: bytes) -> list[int]:
    """The statuses of the answers in these bytes."""
    return [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3})", answer, re.MULTILINE)]


async def framed(at: House, data: bytes, allowed: Iterable[int]) -> str | None:
    """What is wrong with the answer to these bytes: its statuses, or that no provider should have been asked."""
    before = at.up.seen("a").chat
    async with asyncio.timeout(HANG):
        found = statuses(answer := await at.raw(data, wait=HANG))
    if not found or not set(found) <= set(allowed):
        return f"{found}: {answer[:200]!r}"
    asked = at.up.seen("a").chat - before
    return None if asked == found.count(200) else f"the provider was asked {asked} times: {found}"


CLOSE = b"Connection: close"
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

FRAMES: Mapping[str, tuple[bytes, tuple[int, ...]]] = {
    "right": (head(CLOSE, LENGTH) + BODY, (200,)),
    "right chunks": (head(CLOSE, CHUNKED) + CHUNKS, (200,)),
    "the length twice": (head(CLOSE, LENGTH, LENGTH) + BODY, (200, 400)),
    "two lengths": (head(CLOSE, LENGTH, b"Content-Length: 5") + BODY, (400,)),
    "a list of lengths": (head(CLOSE, LENGTH + b", 5") + BODY, (400,)),
    "no number": (head(CLOSE, b"Content-Length: many") + BODY, (400,)),
    "negative": (head(CLOSE, b"Content-Length: -1") + BODY, (400,)),
    "signed": (head(CLOSE, b"Content-Length: +%d" % len(BODY)) + BODY, (400,)),
    "other digits": (head(CLOSE, "Content-Length: \u0661".encode()) + BODY, (400,)),
    "huge": (head(CLOSE, b"Content-Length: " + b"9" * 30) + BODY, (400, 413)),
    "nothing": (head(CLOSE, b"Content-Length: 0") + BODY, (400,)),
    "neither": (head(CLOSE), (400, 411)),
    "too short": (head(CLOSE, b"Content-Length: 10") + BODY, (400,)),
    "length and chunks": (head(CLOSE, LENGTH, CHUNKED) + CHUNKS, (400,)),
    "chunks and length": (head(CLOSE, CHUNKED, LENGTH) + CHUNKS, (400,)),
    "chunked twice": (head(CLOSE, CHUNKED, CHUNKED) + CHUNKS, (400, 415)),
    "chunked in vain": (head(CLOSE, CHUNKED) + BODY, (400,)),
    "an unknown coding": (head(CLOSE, b"Transfer-Encoding: gzip, chunked") + CHUNKS, (200, 400, 415, 501)),
    "a size that is no number": (head(CLOSE, CHUNKED) + b"ZZ\r\n" + BODY + b"\r\n0\r\n\r\n", (400,)),
    "a size below nothing": (head(CLOSE, CHUNKED) + b"-1\r\n" + BODY + b"\r\n0\r\n\r\n", (400,)),
    "a size beyond all sizes": (head(CLOSE, CHUNKED) + b"F" * 40 + b"\r\n" + BODY, (400, 413)),
    "a size too small": (head(CLOSE, CHUNKED) + b"5\r\n" + BODY + b"\r\n0\r\n\r\n", (400,)),
    "a bare line end": (head(CLOSE, CHUNKED) + CHUNKS.replace(b"\r\n", b"\n"), (400,)),
    "content type twice": (head(CLOSE, LENGTH, b"Content-Type: text/plain") + BODY, (200, 400, 415)),
    "sessions twice": (head(CLOSE, LENGTH, b"X-Session-Id: a", b"X-Session-Id: b") + BODY, (400,)),
    "a hint twice": (head(CLOSE, LENGTH, b"X-Router-Task: a", b"X-Router-Task: b") + BODY, (200, 400)),
    "two keys where none is wanted": (
        head(CLOSE, LENGTH, b"Authorization: Bearer a", b"Authorization: Bearer b") + BODY,
        (200, 400),
    ),
    "an expectation nobody meets": (head(CLOSE, LENGTH, b"Expect: a miracle") + BODY, (200, 400, 417)),
    "a name with a blank": (head(CLOSE, LENGTH, b"X Other: 1") + BODY, (400,)),
    "a name with a zero sign": (head(CLOSE, LENGTH, b"X-\x00: 1") + BODY, (400,)),
    "a value with a zero sign": (head(CLOSE, LENGTH, b"X-Other: a\x00b") + BODY, (400,)),
    "a folded value": (head(CLOSE, LENGTH, b"X-Other: a\r\n b") + BODY, (200, 400)),
    "32 KiB in one header": (head(CLOSE, LENGTH, b"X-Other: " + b"x" * (32 << 10)) + BODY, (400, 431)),
    "1 MiB in one header": (head(CLOSE, LENGTH, b"X-Other: " + b"x" * (1 << 20)) + BODY, (400, 431)),
    "32 KiB of a name": (head(CLOSE, LENGTH, b"x" * (32 << 10) + b": 1") + BODY, (400, 431)),
    "32 KiB of a path": (head(CLOSE, LENGTH, line=b"POST /v1/" + b"x" * (32 << 10) + b" HTTP/1.1") + BODY, (400, 414)),
    "1,000 headers": (head(CLOSE, LENGTH, *(b"X-%d: 1" % n for n in range(1000))) + BODY, (400, 431)),
    "another version": (head(CLOSE, LENGTH, line=b"POST /v1/chat/completions HTTP/3.7") + BODY, (400, 505)),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 600, (400,)),
}


@pytest.mark.parametrize("name", FRAMES)
async def test_a_frame_of_any_shape_is_read_in_one_way_or_refused(name: str) -> None:
    data, allowed = FRAMES[name]
    async with hostile_house() as at:
        assert await framed(at, data, allowed) is None
        assert await framed(at, *FRAMES["right"]) is None, "and the server still answers others"


LATE = {"silence": b"", "no size": b"ZZ\r\n", "a size too small": b"5\r\nhelloXX0\r\n\r\n"}


@pytest.mark.parametrize("late", LATE)
async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    async with hostile_house() as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        try:
            writer.write(head(CHUNKED, b"Expect: 100-continue"))
            async with asyncio.timeout(1):
                assert b" 100 " in await reader.readuntil(b"\r\n\r\n"), "the body is waited for"
                writer.write(LATE[late])
                assert statuses(await reader.readuntil(b"\r\n")) in ([400], [408])
        finally:
            writer.transport.abort()
        assert await framed(at, *FRAMES["right"]) is None


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("frame", [LENGTH, CHUNKED], ids=["length", "chunks"])
async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_defect_of_ours(
    frame: bytes, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hostile_house() as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(head(frame, b"Expect: 100-continue"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKS[:40] if frame is CHUNKED else BODY[:40])
        getattr(writer if way == "close" else writer.transport, way)()
        assert await framed(at, *FRAMES["right"]) is None
        assert len(at.witness.records) == at.up.seen("a").chat == 1
    told = logged(caplog)
    caplog.clear()
    assert told == ""


BOMB = gzip.compress(BODY[:-1] + b" " * (64 << 20) + b"}", 1)

PACKED: Mapping[str, tuple[bytes, bytes, tuple[int, ...]]] = {
    "gzip": (b"Content-Encoding: gzip", gzip.compress(BODY), (415,)),
    "a bomb": (b"Content-Encoding: gzip", BOMB, (415,)),
    "cut": (b"Content-Encoding: gzip", gzip.compress(BODY)[:20], (415,)),
    "deflate": (b"Content-Encoding: deflate", zlib.compress(BODY), (415,)),
    "br": (b"Content-Encoding: br", BODY, (400, 415)),
    "zstd": (b"Content-Encoding: zstd", BODY, (400, 415)),
    "any case": (b"Content-Encoding: GZip", gzip.compress(BODY), (415,)),
    "an unknown one": (b"Content-Encoding: rot13", BODY, (415,)),
    "a list": (b"Content-Encoding: identity, gzip", gzip.compress(BODY), (415,)),
    "twice the other way": (b"Content-Encoding: gzip\r\nContent-Encoding: identity", gzip.compress(BODY), (415,)),
    "undeclared": (b"Content-Encoding: identity", gzip.compress(BODY), (400,)),
    "none": (b"Content-Encoding: identity", BODY, (200,)),
}


@pytest.mark.parametrize("name", PACKED)
async def test_a_packed_body_is_not_unpacked(name: str) -> None:
    coding, body, allowed = PACKED[name]
    async with hostile_house() as at:
        data = head(CLOSE, coding, b"Content-Length: %d" % len(body)) + body
        assert await framed(at, data, allowed) is None


async def test_a_packed_body_is_not_unpacked_behind_a_second_header() -> None:
    packed = gzip.compress(BODY)
    async with hostile_house() as at:
        codings = b"Content-Encoding: identity\r\nContent-Encoding: gzip"
        data = head(CLOSE, codings, b"Content-Length: %d" % len(packed)) + packed
        assert await framed(at, data, (400, 415)) is None
