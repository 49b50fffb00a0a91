"""The scriptable upstream does what its docstrings say, seen from a raw socket."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Self

import aiohttp
import pytest
from attrs import evolve

from routerpool.testing.call import UpstreamCall
from routerpool.testing.faults import FAULTS, fault_of, faults_of_class
from routerpool.testing.retry_after import RETRY_AFTER_FORMS
from routerpool.testing.upstream import Upstream

KEYS = {"groq": "key-groq-1", "google": "key-google-2"}
MODES = {"plain": False, "stream": True}


def run(main: Callable[[Upstream], Awaitable[None]], **options: Any) -> None:
    """Run a test's body beside an upstream, and check that the upstream leaves nothing behind."""

    async def whole() -> None:
        async with Upstream(keys=KEYS, **options) as up:
            await main(up)
            began = time.monotonic()
        assert time.monotonic() - began < 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


class Got(NamedTuple):
    """What a raw client saw: `end` is complete, closed, reset, silent or bad (framing)."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    end: str

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known == name), "")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One raw connection, which knows HTTP only as far as a strict reader must."""

    def __init__(self, up: Upstream, provider: str = "groq") -> None:
        self.up, self.provider = up, provider

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.up.port, limit=2**26)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(ConnectionError):  # the fault under test reset the connection
            await self.writer.wait_closed()

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    def ask(self, label: str = "", *, stream: bool = False, model: str = "m1", **body: Any) -> None:
        body |= {"model": f"{model}+{label}" if label else model, "stream": stream}
        self.request("POST", f"/{self.provider}/v1/chat/completions", json.dumps(body).encode())

    def request(self, method: str, target: str, body: bytes = b"", headers: str = "") -> None:
        head = f"{method} {target} HTTP/1.1\r\nHost: up\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.send(head.encode() + body)

    async def answer(self, silence: float = 2, no_body: bool = False) -> Got:
        """Read one answer; `silence` is how long nothing may come before it counts as silent."""
        self._raw, body = b"", b""
        status, headers, end = 0, [], ""
        try:
            head = (await self._until(b"\r\n\r\n", silence)).decode("latin-1")
            match = re.fullmatch(r"HTTP/1\.1 (\d{3}) .+", head.split("\r\n")[0])
            if match is None:
                return Got(0, [], head.encode(), "bad")
            lines = (line.partition(":") for line in head.split("\r\n")[1:] if line)
            status, headers = int(match[1]), [(name.lower(), value.strip()) for name, _, value in lines]
            known = dict(headers)
            if no_body:
                return Got(status, headers, b"", "complete")
            if "content-length" in known:
                while len(body) < int(known["content-length"]):
                    body += await self._some(int(known["content-length"]) - len(body), silence)
                return Got(status, headers, body, "complete")
            while True:
                size = (await self._until(b"\r\n", silence))[:-2]
                if not re.fullmatch(rb"[0-9a-f]+", size):
                    end = "bad"
                    break
                data = await self._exactly(int(size, 16) + 2, silence)
                body += data[:-2]
                if size == b"0":
                    end = "complete"
                    break
        except asyncio.IncompleteReadError as error:
            body, end = body + error.partial, "closed"
        except ConnectionResetError:
            end = "reset"
        except TimeoutError:
            end = "silent"
        return Got(status, headers, body, end)

    async def _until(self, mark: bytes, silence: float) -> bytes:
        async with asyncio.timeout(silence):
            return await self.reader.readuntil(mark)

    async def _exactly(self, size: int, silence: float) -> bytes:
        async with asyncio.timeout(silence):
            return await self.reader.readexactly(size)

    async def _some(self, size: int, silence: float) -> bytes:
        async with asyncio.timeout(silence):
            data = await self.reader.read(size)
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        return data

    async def gone(self) -> str:
        """How the connection ends from here: closed, reset, or open if it does not."""
        try:
            async with asyncio.timeout(2):
                return "open" if await self.reader.read(1) else "closed"
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "open"


async def once(up: Upstream, label: str, *, stream: bool = False, silence: float = 2, **body: Any) -> Got:
    async with Client(up) as client:
        client.ask(label, stream=stream, **body)
        return await client.answer(silence)


def events_of(body: bytes) -> list[str]:
    """The data of every event, after the rules of the standard, but with a last event that lacks its blank line."""
    found, data = [], []
    for line in re.split(r"\r\n|\r|\n", body.decode().removeprefix("\ufeff")):
        name, _, value = line.partition(":")
        if line == "" and data:
            found.append("\n".join(data))
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))
    return found + (["\n".join(data)] if data else [])


def chunks_of(got: Got) -> list[Any]:
    return [json.loads(data) for data in events_of(got.body) if data != "[DONE]"]


def text_of(got: Got) -> str:
    if got.header("content-type") != "text/event-stream":
        return got.json["choices"][0]["message"]["content"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(got) if chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def finish_of(got: Got) -> str | None:
    found = [chunk["choices"][0]["finish_reason"] for chunk in chunks_of(got) if chunk["choices"]]
    return next((reason for reason in found if reason), None)


def every(letter: str) -> list[Any]:
    cases = [(label, mode) for label, modes in faults_of_class(letter).items() for mode in modes]
    return [pytest.param(label, MODES[mode], id=f"{label}-{mode}") for label, mode in cases]


# --- healthy answers


def test_the_answer_is_what_expected_says_byte_for_byte() -> None:
    async def main(up: Upstream) -> None:
        for stream in (False, True):
            got = await once(up, "", stream=stream)
            assert (got.status, got.end) == (200, "complete")
            assert got.body == up.expected("groq", "m1", stream)
        asked = await once(up, "", stream=True, stream_options={"include_usage": True})
        assert asked.body == up.expected("groq", "m1", True, include_usage=True)
        *_, finish, usage = chunks_of(asked)
        assert finish["choices"][0]["finish_reason"] == "stop"
        assert usage["choices"] == []
        assert usage["usage"] == {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18}
        assert "groq" in up.expected_text("groq")
        assert up.expected_text("google") != up.expected_text("groq")

    run(main)


@pytest.mark.parametrize(("label", "stream"), every("O"))
def test_a_right_client_ends_up_with_the_whole_text_of_a_right_answer(label: str, stream: bool) -> None:
    async def main(up: Upstream) -> None:
        got = await once(up, label, stream=stream)
        if label.startswith("enc:"):
            assert got.header("content-encoding") == label[4:]
            got = got._replace(body=zlib.decompress(got.body, 47))
        assert (got.status, got.end) == (200, "complete")
        assert text_of(got) == up.expected_text("groq", label)
        assert up.seen("groq").last.outcome == "completed"

    run(main)


ODD_STREAMS: dict[str, Callable[[Got], bool]] = {
    "ssestyle:crlf": lambda got: got.body.count(b"\n") == got.body.count(b"\r\n") > 4,
    "ssestyle:cr": lambda got: b"\n" not in got.body,
    "ssestyle:comment": lambda got: got.body.count(b"\n: inside\n") > 4,
    "ssestyle:multiline": lambda got: b"data: {\ndata: " in got.body,
    "ssestyle:nospace": lambda got: b"data: " not in got.body,
    "ssestyle:bom": lambda got: got.body.startswith(b"\xef\xbb\xbfdata"),
    "ssestyle:eventid": lambda got: got.body.count(b"event: message\nid: 7\ndata") > 4,
    "ssestyle:retry": lambda got: got.body.startswith(b"retry: 1000\n\n"),
    "ssestyle:nolastblank": lambda got: got.body.endswith(b"[DONE]\n") and not got.body.endswith(b"\n\n"),
    "ssestyle:u2028": lambda got: "\u2028".encode() in got.body,
    "ssestyle:u0085": lambda got: "\u0085".encode() in got.body,
    "usagenull": lambda got: not any("usage" in chunk for chunk in chunks_of(got)),
    "lengthempty": lambda got: finish_of(got) == "length" and text_of(got) == "",
    "nofinish_done": lambda got: finish_of(got) is None and got.body.endswith(b"[DONE]\n\n"),
    "finish_nodone": lambda got: finish_of(got) == "stop" and b"[DONE]" not in got.body,
    "headers": lambda got: bool(got.header("set-cookie") and got.header("alt-svc")),
    "long:200": lambda got: len(chunks_of(got)) == 203,
    "enc:gzip": lambda got: got.body.count(b"\0\0\xff\xff") > 5,  # what ends a part that can be read by itself
    "enc:deflate": lambda got: got.body.count(b"\0\0\xff\xff") > 5,
}


@pytest.mark.parametrize("label", ODD_STREAMS)
def test_an_odd_stream_is_odd_in_the_way_it_says(label: str) -> None:
    async def main(up: Upstream) -> None:
        got = await once(up, label, stream=True, stream_options={"include_usage": True})
        assert ODD_STREAMS[label](got)
        if label == "usagenull":
            assert (await once(up, label)).json["usage"] is None
        if label == "nofinish_done":
            assert (await once(up, label)).json["choices"][0]["finish_reason"] is None

    run(main)


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
def test_a_cut_body_arrives_in_the_pieces_asked_for(stream: bool) -> None:
    async def main(up: Upstream) -> None:
        async def sizes(label: str) -> list[int]:
            async with Client(up) as client:
                client.ask(label, stream=stream)
                await client.reader.readuntil(b"\r\n\r\n")
                raw = await client.reader.readuntil(b"\r\n0\r\n\r\n")
            found, at = [], 0
            while (end := raw.index(b"\r\n", at)) and (size := int(raw[at:end], 16)):
                found.append(size)
                at = end + size + 4
            return found

        for cut in (0, 7, 99_999):
            whole = len(up.expected("groq", f"m1+ssesplit:{cut}", stream))
            assert await sizes(f"ssesplit:{cut}") == ([7, whole - 7] if cut == 7 else [whole])
        assert set(await sizes("ssebytes")) == {1}

    run(main)


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
def test_slow_answers_take_their_time(stream: bool) -> None:
    async def main(up: Upstream) -> None:
        async def first_and_all(label: str) -> tuple[float, float]:
            began = time.monotonic()
            async with Client(up) as client:
                client.ask(label, stream=stream)
                head = await client.reader.readuntil(b"\r\n\r\n")
                first = time.monotonic() - began
                size = re.search(rb"content-length: (\d+)", head)
                await (client.reader.readexactly(int(size[1])) if size else client.reader.readuntil(b"\r\n0\r\n\r\n"))
            return first, time.monotonic() - began

        first, _ = await first_and_all("slow:0.1")
        assert first >= 0.1
        first, whole = await first_and_all("paced:0.03")
        assert first < whole / 2
        assert whole >= 0.09
        up.pace("groq", 0.02)
        assert (await first_and_all("ok"))[1] >= (0.16 if stream else 0)

    run(main)


def test_events_come_one_by_one() -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:
            client.ask("long:200", stream=True)
            reads = 0
            data = b""
            while not data.endswith(b"\r\n0\r\n\r\n"):
                data += await client.reader.read(2**16)
                reads += 1
        assert reads > 50

    run(main)


def test_text_events_usage_and_models_can_be_set() -> None:
    async def main(up: Upstream) -> None:
        up.text("groq", "abcdefghij", events=4)
        up.usage("groq", {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}})
        got = await once(up, "", stream=True, stream_options={"include_usage": True})
        chunks = chunks_of(got)
        assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:5]] == ["ab", "cde", "fg", "hij"]
        assert chunks[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}
        assert text_of(got) == "abcdefghij"
        assert up.expected_text("google") == "Hello from google: one two three."

    run(main)


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "days", "unit"],
        },
    },
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_demanded_tool_is_called_with_arguments_of_its_schema(choice: Any) -> None:
    async def main(up: Upstream) -> None:
        plain = (await once(up, "", tools=[TOOL], tool_choice=choice)).json["choices"][0]
        assert plain["finish_reason"] == "tool_calls"
        assert plain["message"]["content"] is None
        called = plain["message"]["tool_calls"][0]["function"]
        assert called["name"] == "weather"
        assert json.loads(called["arguments"]) == {"city": "text", "days": 1, "unit": "C"}
        got = await once(up, "", stream=True, tools=[TOOL], tool_choice=choice)
        calls = [c["choices"][0]["delta"]["tool_calls"][0] for c in chunks_of(got)[1:-1]]
        assert calls[0]["id"] == plain["message"]["tool_calls"][0]["id"]
        assert len(calls) > 4
        assert "".join(call["function"]["arguments"] for call in calls) == called["arguments"]
        assert finish_of(got) == "tool_calls"
        assert text_of(await once(up, "", tools=[TOOL], tool_choice="auto")) == up.expected_text("groq")
        assert (await once(up, "", tools=["what?"], tool_choice="required")).status == 200

    run(main)


# --- refusals and answers that are none


@pytest.mark.parametrize(("label", "stream"), [c for c in [*every("R"), *every("F")] if c.values[0][:5] == "http:"])
def test_a_status_comes_with_an_error_of_openais_form(label: str, stream: bool) -> None:
    async def main(up: Upstream) -> None:
        got = await once(up, label, stream=stream)
        assert got.status == int(label[5:])
        assert got.header("content-type") == "application/json"
        assert set(got.json["error"]) == {"message", "type", "param", "code"}
        assert got.json["error"]["message"]

    run(main)


def test_a_status_that_is_not_listed_plays_too() -> None:
    async def main(up: Upstream) -> None:
        assert (await once(up, "http:418")).status == 418

    run(main)


def stated_wait(form: str, got: Got, now: float) -> float | None:
    """The wait of each form, read again by the rules of who sends it."""
    header, error = got.header, got.json[0]["error"] if isinstance(got.json, list) else got.json["error"]
    resets = (header("x-ratelimit-reset-requests"), header("x-ratelimit-reset-tokens"))
    readings: dict[str, Callable[[], float | None]] = {
        "ms": lambda: int(header("retry-after-ms")) / 1000,
        "none": lambda: None if not [n for n, _ in got.headers if "retry" in n or "limit" in n] else 0,
        "neg": lambda: None if float(header("retry-after")) < 0 else 0,
        "junk": lambda: None if not re.search(r"\d", header("retry-after")) else 0,
        "xsec": lambda: float(header("x-ratelimit-reset")),
        "epoch": lambda: float(header("x-ratelimit-reset")) - now,
        "openrouter": lambda: int(error["metadata"]["headers"]["X-RateLimit-Reset"]) / 1000 - now,
        "groqonly": lambda: {"7.66s": 7.66}[resets[1]],
        "groqday": lambda: {"2h13m7.5s": 2 * 3600 + 13 * 60 + 7.5}[resets[0]],
        "msform": lambda: {"850ms": 0.85}[resets[1]],
        "anthropic": lambda: datetime.fromisoformat(header("anthropic-ratelimit-requests-reset")).timestamp() - now,
        "draft": lambda: float(header("ratelimit-reset")),
        "draft8": lambda: float(re.findall(r"t=(\d+)", header("ratelimit"))[0]),
        "dup": lambda: max(float(value) for name, value in got.headers if name == "retry-after"),
        "gemini": lambda: float(error["details"][1]["retryDelay"].rstrip("s")),
        "geministr": lambda: float(re.findall(r"retry in ([\d.]+)s", error["message"])[0]),
    }
    if "date" in form:
        dates = [parsedate_to_datetime(header(name)) for name in ("retry-after", "date")]
        return max(0, (dates[0] - dates[1]).total_seconds())
    return readings[form]() if form in readings else float(header("retry-after"))


@pytest.mark.parametrize("form", RETRY_AFTER_FORMS)
def test_a_form_of_retry_after_states_its_wait(form: str) -> None:
    async def main(up: Upstream) -> None:
        now = time.time()
        got = await once(up, f"ra:{form}", stream=True)
        assert got.status == 429
        truth = RETRY_AFTER_FORMS[form].seconds
        assert stated_wait(form, got, now) == (truth if truth is None else pytest.approx(truth, abs=0.5))

    run(main)


def not_json(got: Got) -> bool:
    """The body, or the first event that holds more than a role, is refused by Python's parser."""
    stream = got.header("content-type") == "text/event-stream"
    try:
        [json.loads(data) for data in events_of(got.body)] if stream else json.loads(got.body)
    except (ValueError, RecursionError):
        return True
    return False


def only_done(got: Got) -> bool:
    return got.body == b"data: [DONE]\n\n"


def first_event(value: Any) -> Callable[[Got], bool]:
    return lambda got: events_of(got.body)[0] == json.dumps(value)


Check = Callable[[Got], bool]
NO_ANSWERS: dict[str, tuple[Check, Check]] = {
    "err200": (lambda got: "error" in got.json, lambda got: got.header("content-type") == "application/json"),
    "html": (lambda got: got.body.startswith(b"<!doctype"), lambda got: got.header("content-type")[:9] == "text/html"),
    "empty": (lambda got: got.body == b"", lambda got: got.body == b"" and got.header("content-length") == "0"),
    "json:null": (lambda got: got.json is None, first_event(None)),
    "json:[]": (lambda got: got.json == [], first_event([])),
    "json:42": (lambda got: got.json == 42, first_event(42)),
    "nochoices": (lambda got: got.json["choices"] == [], lambda got: [c["choices"] for c in chunks_of(got)] == [[]]),
    "nullcontent": (lambda got: text_of(got) is None, lambda got: finish_of(got) == "stop" and text_of(got) == ""),
    "roleonly": (lambda got: text_of(got) == "", lambda got: finish_of(got) == "stop" and text_of(got) == ""),
    "truncjson": (not_json, lambda got: not_json(got) and b"[DONE]" not in got.body),
    "badutf8": (lambda got: b"\xff" in got.body and not_json(got), lambda got: b"\xff" in got.body),
    "deepjson": (not_json, lambda got: got.body.count(b"[") > 100_000),
    "hugeint": (not_json, lambda got: not_json(got) and got.body.endswith(b"[DONE]\n\n")),
    "emptystream": (lambda got: got.body == b"", lambda got: got.body == b"" and not got.header("content-length")),
    "donestream": (lambda got: got.body == b"", only_done),
    "err1st": (lambda got: "error" in got.json, lambda got: "error" in chunks_of(got)[0]),
}


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
@pytest.mark.parametrize("label", NO_ANSWERS)
def test_a_200_that_is_no_answer(label: str, stream: bool) -> None:
    async def main(up: Upstream) -> None:
        got = await once(up, label, stream=stream)
        assert (got.status, got.end) == (200, "complete")
        assert NO_ANSWERS[label][stream](got)

    run(main)


REFUSALS: dict[str, Check] = {
    "overflow": lambda got: got.status == 400 and got.json["error"]["code"] == "context_length_exceeded",
    "contentfilter": lambda got: got.status == 400 and got.json["error"]["code"] == "content_filter",
    "notools": lambda got: got.status == 400 and "does not support tools" in got.json["error"]["message"],
    "geminiday": lambda got: got.status == 429 and "PerDay" in str(got.json[0]["error"]["details"]),
    "redirect": lambda got: got.status == 307 and got.header("location").endswith("/evil/v1/chat/completions"),
    "redirect:302": lambda got: got.status == 302,
    "redirect:308": lambda got: got.status == 308,
}


@pytest.mark.parametrize("label", REFUSALS)
def test_a_refusal_says_what_it_is(label: str) -> None:
    async def main(up: Upstream) -> None:
        assert REFUSALS[label](await once(up, label))
        assert REFUSALS[label](await once(up, label, stream=True))

    run(main)


# --- broken transport

BROKEN: dict[str, Check] = {
    "cllong": lambda got: got.end == "closed" and "three" not in text_in(got.body)[-12:],
    "badchunk": lambda got: got.end == "bad",
    "badstatus": lambda got: got.status == 0 and got.end == "bad",
    "close": lambda got: got.end == "closed" and got.status == 0,
    "rst": lambda got: got.end == "reset" and got.status == 0,
    "hang": lambda got: got.end == "silent" and got.status == 0,
    "headstall": lambda got: got.end == "silent" and got.status == 200 and not got.body,
    "stall": lambda got: got.end == "silent" and halved(got),
    "midclose": lambda got: got.end == "closed" and halved(got),
    "midrst": lambda got: got.end == "reset" and halved(got),
    "midchunk": lambda got: got.end == "bad" and halved(got),
    "nodone": lambda got: got.end == "complete" and halved(got),
}


def text_in(body: bytes) -> str:
    return body.decode(errors="replace")


def halved(got: Got) -> bool:
    """Some content came, but neither the end of it nor a mark of its end."""
    text = text_in(got.body)
    return "Hello" in text and "three" not in text and '"stop"' not in text and "[DONE]" not in text


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
@pytest.mark.parametrize("label", BROKEN)
def test_a_broken_answer_breaks_in_its_way(label: str, stream: bool) -> None:
    async def main(up: Upstream) -> None:
        up.text("groq", "Hello " + "and so on " * 12 + "three")
        silent = label in {"hang", "headstall", "stall"}
        got = await once(up, label, stream=stream, silence=0.2 if silent else 2)
        assert BROKEN[label](got)
        seen = await up.wait_for("groq", aborts=int(silent), open=0)
        assert seen.last.outcome == ("aborted" if silent else "completed" if label == "nodone" else "broken")

    run(main)


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
def test_surplus_bytes_follow_an_answer_that_announced_too_little(stream: bool) -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:
            client.ask("clshort", stream=stream)
            got = await client.answer()
            assert got.end == "complete"
            assert (got.body + await client.reader.read()) == up.expected("groq", "m1+clshort", stream)
            assert not_json(got) if not stream else text_of(got) == ""

    run(main)


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
def test_a_big_header_is_100_kb(stream: bool) -> None:
    async def main(up: Upstream) -> None:
        got = await once(up, "bigheader", stream=stream)
        assert len(got.header("x-padding")) == 100_000
        assert text_of(got) == up.expected_text("groq")

    run(main)


def test_an_error_or_junk_in_the_middle() -> None:
    async def main(up: Upstream) -> None:
        error = await once(up, "miderr", stream=True)
        assert "error" in chunks_of(error)[-1]
        assert finish_of(error._replace(body=error.body.rpartition(b"data:")[0])) is None
        assert text_of(error._replace(body=error.body.rpartition(b"data:")[0])) == "Hello from groq: "
        assert not_json(await once(up, "miderr"))
        junk = await once(up, "midjunk", stream=True)
        assert events_of(junk.body)[-1] == "[DONE]"
        assert sum(data.startswith("{junk") for data in events_of(junk.body)) == 1
        assert not_json(await once(up, "midjunk"))

    run(main)


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
@pytest.mark.parametrize("label", ["slowhead", "slowbody"])
def test_a_dribble_comes_byte_by_byte(label: str, stream: bool) -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:
            client.ask(f"{label}:0.05", stream=stream)
            if label == "slowbody":
                await client.reader.readuntil(b"\r\n\r\n")
            began = time.monotonic()
            await client.reader.readexactly(4)
            assert time.monotonic() - began > 0.14
        await up.wait_for("groq", aborts=1)
        assert fault_of(label).arg == 0.5
        got = await once(up, f"{label}:0", stream=stream)
        assert text_of(got) == up.expected_text("groq")

    run(main)


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
def test_signs_of_life_without_content_go_on_until_the_client_leaves(stream: bool) -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:
            client.ask("commentstall:0.01", stream=stream)
            await client.reader.readuntil(b"\r\n\r\n")
            signs = (await client.reader.readexactly(95 if stream else 60)).splitlines()
            assert set(signs) <= ({b": keep-alive", b"", b"e"} if stream else {b"", b"1"})
        await up.wait_for("groq", aborts=1)

    run(main)


def test_a_kept_connection_is_closed_on_the_next_request() -> None:
    async def main(up: Upstream) -> None:
        up.always("groq", "kaclose")
        async with Client(up) as client:
            client.ask()
            assert (await client.answer()).end == "complete"
            client.ask()
            assert (await client.answer())[::3] == (0, "closed")
        seen = await up.wait_for("groq", chat=2, open=0)
        assert (seen.connections, seen.completed) == (1, 1)

    run(main)


def test_a_kept_connection_is_reset_while_idle() -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:
            client.ask("kaidle")
            assert (await client.answer()).end == "complete"
            answered = time.monotonic()
            client.ask()  # lost: it comes before the reset and is never read
            assert await client.gone() == "reset"
            assert time.monotonic() - answered > 0.03
        seen = await up.wait_for("groq", completed=1, open=0)
        assert seen.chat == 1

    run(main)


# --- too much


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
def test_a_bomb_is_small_on_the_wire_and_a_good_answer_inside(stream: bool) -> None:
    async def main(up: Upstream) -> None:
        got = await once(up, "bomb:8", stream=stream)
        assert len(got.body) < 2**16
        inside = zlib.decompress(got.body, 47)
        assert len(inside) > 8 * 2**20
        assert inside.endswith(up.expected("groq", "m1+bomb:8", stream))
        assert fault_of("bomb").arg == 200

    run(main)


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
@pytest.mark.parametrize("label", ["endless", "infinite"])
def test_what_never_ends_goes_on_until_the_client_leaves(label: str, stream: bool) -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:
            client.ask(label, stream=stream)
            size = 20_000 if (label, stream) == ("infinite", True) else 4 * 2**20
            data = await client.reader.readexactly(size)
            assert (b'"again "' in data) == ((label, stream) == ("infinite", True))
        await up.wait_for("groq", aborts=1, open=0)

    run(main)


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
def test_a_big_event_is_well_formed(stream: bool) -> None:
    async def main(up: Upstream) -> None:
        got = await once(up, "bigevent:2", stream=stream)
        assert text_of(got) == "a" * 2 * 2**20
        assert fault_of("bigevent").arg == 64

    run(main)


def test_every_listed_fault_is_observed_by_a_test() -> None:
    alone = {"clshort", "bigheader", "miderr", "midjunk", "slowhead", "slowbody", "commentstall", "kaclose", "kaidle"}
    alone |= {"bomb", "endless", "infinite", "bigevent"}
    observed = alone | set(NO_ANSWERS) | set(REFUSALS) | set(BROKEN) | set(faults_of_class("O"))
    observed |= {label for label in FAULTS if label.startswith(("http:", "ra:"))}
    assert observed == set(FAULTS)
    assert all(fault.what for fault in FAULTS.values())


def test_the_classes_cover_every_fault_and_tell_plain_from_stream() -> None:
    listed = {letter: faults_of_class(letter) for letter in "RFSO"}
    assert set().union(*listed.values()) == set(FAULTS)
    assert listed["F"] == dict.fromkeys(
        ["http:400", "http:413", "http:422", "overflow", "contentfilter"], ("plain", "stream")
    )
    assert listed["S"]["midclose"] == ("stream",)
    assert listed["R"]["midclose"] == ("plain",)
    assert listed["R"]["err1st"] == ("stream",)


# --- choosing the fault


def test_header_then_model_then_script_then_schedule_then_default() -> None:
    async def main(up: Upstream) -> None:
        up.always("groq", "http:500")
        up.script("groq", "http:502", "ok")
        async with Client(up) as client:

            async def status(model: str = "m1", header: str = "") -> int:
                body = json.dumps({"model": model}).encode()
                client.request("POST", "/groq/v1/chat/completions", body, header)
                return (await client.answer()).status

            assert await status("m1+http:503", "X-Fault: http:504\r\n") == 504
            assert await status("m1+http:503") == 503
            assert await status() == 502
            assert await status() == 200
            assert await status() == 500
            up.schedule("groq", seed=1, weights={"http:529": 1})
            assert await status() == 529
            up.script("groq", "ok")
            assert [await status(), await status()] == [200, 529]
            assert await status("m1+nonsense") == 400
        labels = [request.fault for request in up.seen("groq").requests]
        assert labels[:3] == ["http:504", "http:503", "http:502"]

    run(main)


def test_a_schedule_is_the_same_for_the_same_seed() -> None:
    async def sequence(seed: int) -> list[str]:
        async with Upstream() as up:
            up.schedule("groq", seed=seed, weights={"ok": 3, "http:500": 1})
            async with Client(up) as client:
                for _ in range(40):
                    client.ask()
                    await client.answer()
            return [request.fault for request in up.seen("groq").requests]

    async def main() -> None:
        first = await sequence(7)
        assert first == await sequence(7)
        assert first != await sequence(8)
        assert 20 < first.count("ok") < 40

    asyncio.run(main())


@pytest.mark.parametrize("label", ["nonsense", "http:abc", "ra:never", "enc:br", "hang:3", "ssestyle:x", ""])
def test_a_label_that_means_nothing_is_refused_at_once(label: str) -> None:
    up = Upstream()
    for use in (up.script, up.always):
        with pytest.raises(ValueError, match="no such fault"):
            use("groq", label)
    with pytest.raises(ValueError, match="no such fault"):
        up.schedule("groq", seed=1, weights={label: 1})


# --- what is seen


def test_a_request_is_kept_as_it_came() -> None:
    async def main(up: Upstream) -> None:
        body = json.dumps({"model": "m1", "messages": [{"role": "user", "content": "grüße"}]}).encode()
        async with Client(up) as client:
            client.request("POST", "/groq/v1/chat/completions?a=1", body, "X-Thing: One\r\nX-Thing: two\r\n")
            await client.answer()
        last = up.seen("groq").last
        assert (last.method, last.path, last.body, last.model) == (
            "POST", "/groq/v1/chat/completions?a=1", body, "m1",
        )  # fmt: skip
        assert last.headers["x-thing"] == "One, two"
        assert last.json["messages"][0]["content"] == "grüße"
        assert last.finished is not None
        assert last.started <= last.finished <= time.monotonic()

    run(main)


@pytest.mark.parametrize("coding", ["chunked", "length"])
def test_bodies_of_both_framings_and_interim_answers_are_understood(coding: str) -> None:
    async def main(up: Upstream) -> None:
        body = json.dumps({"model": "m1", "pad": "x" * 300_000})

        async def parts() -> Any:
            yield body[:1000].encode()
            yield body[1000:].encode()

        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            data = parts() if coding == "chunked" else body.encode()
            async with session.post(up.base_url("groq") + "/chat/completions", data=data, expect100=True) as answer:
                assert await answer.read() == up.expected("groq", "m1")
        assert up.seen("groq").last.body == body.encode()
        assert ("transfer-encoding" in up.seen("groq").last.headers) == (coding == "chunked")
        assert up.bad_http == []

    run(main)


def test_a_key_of_another_provider_is_noticed_wherever_it_stands() -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:

            async def send(target: str = "/groq/v1/models", body: bytes = b"", header: str = "") -> None:
                client.request("POST", target, body, header)
                await client.answer()

            await send(header="Authorization: Bearer key-groq-1\r\n")
            assert up.seen("groq").foreign_keys == 0
            await send(header="Authorization: Bearer key-google-2\r\n")
            await send(header="X-Api-Key: key-google-2\r\n")
            await send(body=b'{"user": "key-google-2"}')
            await send(body=b'{"user": "key\\u002dgoogle-2"}')
            await send("/groq/v1/models?key=key%2dgoogle-2")
            assert up.seen("groq").foreign_keys == 5
            await send("/evil/v1/chat/completions", header="Authorization: Bearer key-groq-1\r\n")
            assert up.seen("evil").foreign_keys == 1

    run(main)


def test_a_marker_is_counted_in_head_and_body() -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:
            for content in ("the märker here", "nothing"):
                client.ask(messages=[{"role": "user", "content": content}])
                await client.answer()
            client.request("GET", "/groq/v1/models", headers="X-Note: marker-2\r\n")
            await client.answer()
        seen = up.seen("groq")
        assert (seen.count("märker"), seen.count("marker-2"), seen.count("absent")) == (1, 1, 0)
        assert (seen.chat, len(seen.requests), seen.connections) == (2, 3, 1)
        assert up.seen("google").count("märker") == 0

    run(main)


@pytest.mark.parametrize("stream", MODES.values(), ids=MODES)
def test_a_held_request_waits_and_its_client_may_leave(stream: bool) -> None:
    async def main(up: Upstream) -> None:
        up.hold("groq")
        async with Client(up) as stays, Client(up, "google") as other:
            async with Client(up) as leaves:
                leaves.ask(stream=stream)
                stays.ask(stream=stream)
                await up.wait_for("groq", chat=2)
                other.ask()
                assert (await other.answer()).status == 200
                assert up.seen("groq").completed == 0
            await up.wait_for("groq", aborts=1, open=1)
            up.release("groq")
            assert (await stays.answer()).end == "complete"
            await up.wait_for("groq", completed=1)
        assert up.seen("groq").aborts == 1

    run(main)


def test_a_client_that_leaves_in_the_middle_is_seen_at_once() -> None:
    async def main(up: Upstream) -> None:
        up.pace("groq", 30)
        async with Client(up) as client:
            client.ask(stream=True)
            await client.reader.readuntil(b"assistant")
            left = time.monotonic()
        seen = await up.wait_for("groq", aborts=1)
        assert time.monotonic() - left < 0.5
        assert (seen.chat, seen.completed) == (1, 0)

    run(main)


def test_waiting_in_vain_says_how_far_it_came() -> None:
    async def main(up: Upstream) -> None:
        await once(up, "")
        with pytest.raises(TimeoutError, match=r"groq: waited 0.05 s for {'chat': 2}, came to {'chat': 1}"):
            await up.wait_for("groq", timeout=0.05, chat=2)

    run(main)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET /groq/v1/models HTTP/1.0\r\nHost: up\r\n\r\n",
        b"GET /groq/v1/models HTTP/1.1\r\n\r\n",
        b"GET  /groq HTTP/1.1\r\nHost: up\r\n\r\n",
        b"GET /groq HTTP/1.1\nHost: up\n\r\n\r\n",
        b"POST /groq HTTP/1.1\r\nHost: up\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /groq HTTP/1.1\r\nHost: up\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /groq HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /groq HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        b"GET /groq HTTP/1.1\r\nHost: up\r\nX-A : b\r\n\r\n",
        b"GET /groq HTTP/1.1\r\nHost: up\r\nX-A: b\r\n folded\r\n\r\n",
    ],
)
def test_what_is_not_one_clear_request_is_refused_and_kept(raw: bytes) -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:
            client.send(raw)
            assert (await client.answer()).status == 400
            assert await client.gone() in {"closed", "reset"}
        assert len(up.bad_http) == 1
        assert raw.startswith(up.bad_http[0])
        assert up.seen("groq").requests == []

    run(main)


# --- other paths and addresses


def test_models_and_ollamas_own_paths() -> None:
    async def main(up: Upstream) -> None:
        async with Client(up) as client:

            async def get(target: str, method: str = "GET") -> Got:
                client.request(method, target)
                return await client.answer(no_body=method == "HEAD")

            assert [model["id"] for model in (await get("/groq/v1/models")).json["data"]] == ["m1", "m2"]
            up.models("ollama", ["qwen:7b"])
            tags = (await get("/ollama/api/tags")).json["models"]
            assert [(tag["name"], tag["details"]["parameter_size"]) for tag in tags] == [("qwen:7b", "7.6B")]
            assert (await get("/ollama/api/tags", "HEAD")).status == 200
            assert (await get("/ollama/api/ps")).json["models"][0]["size_vram"] > 0
            assert "version" in (await get("/ollama/api/version")).json
            assert [(await get(path)).body for path in ("/ollama", "/ollama/")] == [b"Ollama is running"] * 2
            up.route("ollama", "GET /api/ps", {"models": []})
            assert (await get("/ollama/api/ps")).json == {"models": []}
            up.route("ollama", "POST /api/show", {"error": "model 'x' not found"}, status=404)
            assert (await get("/ollama/api/show", "POST")).json == {"error": "model 'x' not found"}
            missing = await get("/groq/v1/nothing")
            assert (missing.status, missing.json["error"]["code"]) == (404, "not_found")
            assert (await get("/")).status == 200
            assert (await get("/groq/v1/chat/completions")).status == 404
        assert up.seen("groq").chat == 0

    run(main)


def test_addresses_where_nobody_answers() -> None:
    async def main(up: Upstream) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.3)) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.post(up.refused_url() + "/chat/completions")
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                await session.post(up.blackhole_url() + "/chat/completions")
            assert time.monotonic() - began >= 0.25

    run(main)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
@pytest.mark.parametrize(
    ("kind", "complaint"), [("selfsigned", "self.signed"), ("expired", "expired"), ("wrongname", "IP address mismatch")]
)
def test_a_bad_certificate_is_bad_in_its_way_and_nothing_is_received(kind: str, complaint: str) -> None:
    async def main(up: Upstream) -> None:
        assert up.base_url("groq").startswith("https://")
        trusting = ssl.create_default_context()
        if kind != "selfsigned":  # trusts the certificate itself, so that only its other defect is left
            loose = ssl.create_default_context()
            loose.check_hostname, loose.verify_mode = False, ssl.CERT_NONE
            _, writer = await asyncio.open_connection("127.0.0.1", up.port, ssl=loose)
            der = writer.get_extra_info("ssl_object").getpeercert(True)
            writer.close()
            await writer.wait_closed()
            trusting.load_verify_locations(cadata=der)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError, match=complaint):
                await session.post(up.base_url("groq") + "/chat/completions", json={}, ssl=trusting)
            async with session.post(up.base_url("google") + "/chat/completions", json={}, ssl=False) as answer:
                assert answer.status == 200
        assert up.seen("groq").requests == []

    run(main, tls=kind)


# --- the end


def test_stop_ends_every_kind_of_waiting_without_counting_it_as_the_clients_leaving() -> None:
    async def main() -> None:
        up = Upstream()
        await up.start()
        labels = ["hang", "headstall", "stall", "slow:60", "slowhead:60", "paced:60", "endless", "infinite", "ok"]
        up.hold("held")
        clients = []
        for label, provider in [*((label, "groq") for label in labels), ("ok", "held")]:
            client = await Client(up, provider).__aenter__()
            client.ask(label, stream=True)
            clients.append(client)
        await up.wait_for("groq", chat=len(labels), completed=1)
        await up.wait_for("held", chat=1)
        began = time.monotonic()
        await up.stop()
        assert time.monotonic() - began < 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (up.seen("groq").aborts, up.seen("groq").open) == (0, 0)
        assert {request.outcome for request in up.seen("groq").requests} == {"stopped", "completed"}
        for client in clients:
            await client.__aexit__()

    asyncio.run(main())


def test_stop_ends_a_fault_that_waits_for_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(_: UpstreamCall) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        up = Upstream()
        await up.start()
        async with Client(up) as client:
            client.ask("hang")
            await up.wait_for("groq", chat=1)
            await asyncio.wait_for(up.stop(), 3)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    monkeypatch.setitem(FAULTS, "hang", evolve(FAULTS["hang"], play=sleep))
    asyncio.run(main())


def test_a_stopped_upstream_comes_back_at_its_address() -> None:
    async def main() -> None:
        up = Upstream()
        with pytest.raises(RuntimeError, match="no address"):
            up.base_url("groq")
        await up.start()
        url = up.base_url("groq")
        await once(up, "")
        await up.stop()
        with pytest.raises(ConnectionRefusedError):
            await once(up, "")
        await up.start()
        assert up.base_url("groq") == url
        assert (await once(up, "")).status == 200
        assert up.seen("groq").chat == 2
        await up.stop()

    asyncio.run(main())


def test_a_defect_inside_a_fault_is_raised_at_the_end() -> None:
    async def main(up: Upstream) -> None:
        up.usage("groq", {"prompt_tokens": object()})
        await once(up, "")

    with pytest.raises(TypeError, match="not JSON serializable"):
        run(main)


def test_faults_work_on_the_other_event_loop_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with Upstream() as up:
            assert (await once(up, "rst")).end == "reset"
            assert (await once(up, "midrst", stream=True)).end == "reset"
            assert (await once(up, "hang", silence=0.2)).end == "silent"
            await up.wait_for("groq", aborts=1, open=0)
            assert (await once(up, "", stream=True)).body == up.expected("groq", "m1", True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
