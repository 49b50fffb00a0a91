"""A scriptable OpenAI-compatible provider on loopback, for the tests of routerpool and of its plugins.

    async with Upstream(keys={"groq": "key-groq"}) as up:
        up.script("groq", "http:429")           # the first chat request is refused, the next ones are answered
        ...                                     # let a router talk to up.base_url("groq")
        assert up.seen("groq").chat == 2

One server plays every provider; a provider is the first segment of the path and exists as soon as it is named. What
a provider does with a chat request is a fault label (`ok` is one; `routerpool.testing.faults` knows them all), taken
from the first of: the header `X-Fault`, what follows the last `+` of the model's name, the script, the schedule, the
default.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from attrs import define, field

from routerpool.testing.answers import CREATED, Answer, call_wanted, encode, openai_error
from routerpool.testing.call import BadRequest, Connection, Gone, Reader, Received, UpstreamCall, read_request
from routerpool.testing.certificate import server_context
from routerpool.testing.faults import fault_of
from routerpool.testing.messages import MessagesCall

__all__ = ["Received", "Seen", "Upstream"]

MODELS = ("m1", "m2")

CHATS: Mapping[str, type[UpstreamCall]] = {"POST /v1/chat/completions": UpstreamCall, "POST /v1/messages": MessagesCall}
"""The requests for an answer, and the wire format that each is answered in."""


@define(eq=False)
class Seen:
    """What reached one provider. It is live: it goes on counting while a test looks at it."""

    requests: list[Received] = field(factory=list)
    foreign_keys: int = 0
    """Requests that carried the key of another provider, in whatever part."""
    connections: int = 0
    """Connections that carried a request for this provider."""
    open: int = 0
    """How many of these are still open."""

    @property
    def chat(self) -> int:
        """Chat requests that arrived, answered or not."""
        return sum(request.chat for request in self.requests)

    @property
    def completed(self) -> int:
        """Answers sent to their end, refusals too."""
        return self._ended("completed")

    @property
    def aborts(self) -> int:
        """Requests whose client left before the answer was complete."""
        return self._ended("aborted")

    @property
    def last(self) -> Received:
        """The latest request; IndexError if there is none."""
        return self.requests[-1]

    def count(self, marker: str) -> int:
        """Requests that hold this text in their head or body, as it is, percent-encoded or escaped in JSON."""
        return sum(_holds(request, marker) for request in self.requests)

    def _ended(self, outcome: str) -> int:
        return sum(request.outcome == outcome for request in self.requests)


def _holds(request: Received, marker: str) -> bool:
    raw = request.head + request.body
    texts = (raw, unquote(request.path).encode(), encode(request.json) if request.json is not None else b"")
    return any(marker.encode() in text for text in texts)


@define(eq=False)
class _Provider:
    """What one provider will say, and what it has seen."""

    name: str
    text: str
    events: int | None = None
    pace: float = 0.0
    usage: Mapping[str, Any] | None = None
    models: tuple[str, ...] = MODELS
    default: str = "ok"
    script: deque[str] = field(factory=deque)
    schedule: Iterator[str] | None = None
    routes: dict[str, tuple[int, Any]] = field(factory=dict)
    reply: tuple[int, bytes, str, tuple[tuple[str, str], ...]] | None = None
    released: asyncio.Event = field(factory=asyncio.Event)
    seen: Seen = field(factory=Seen)

    def choose(self, received: Received) -> str:
        """The label that decides this chat request; one of the script or schedule is used up only when it does."""
        _, plus, suffix = received.model.rpartition("+")
        if asked := received.headers.get("x-fault") or (suffix if plus else ""):
            return asked
        if self.script:
            return self.script.popleft()
        return next(self.schedule) if self.schedule else self.default

    def answer(self, model: str, label: str, body: Any = None) -> Answer:
        """What this provider has to say to a chat request."""
        fault = fault_of(label)
        text = fault.text(self.text, fault.arg)
        events = self.events if text == self.text else None
        return Answer(self.name, model, text, events, self.usage, call_wanted(body))


@define(eq=False)
class Upstream:
    """The server. `keys` are the providers' API keys, by which it notices one that reaches the wrong provider.

    `tls` serves HTTPS with a bad certificate: selfsigned, expired or wrongname. `stop` ends every connection and
    raises what went wrong inside a fault, if anything did.
    """

    keys: Mapping[str, str] = field(factory=dict)
    tls: str | None = None
    bad_http: list[bytes] = field(init=False, factory=list)
    """The beginning of everything that was not one unambiguous HTTP/1.1 request; empty when the client is right."""
    connections: int = field(init=False, default=0)
    """Connections accepted since the start."""
    port: int = field(init=False, default=0)
    """The bound port; it stays the same when the server is stopped and started again."""
    _providers: dict[str, _Provider] = field(init=False, factory=dict)
    _tasks: dict[asyncio.Task[None], Connection] = field(init=False, factory=dict)
    _defects: list[BaseException] = field(init=False, factory=list)
    _sockets: list[socket.socket] = field(init=False, factory=list)
    _server: asyncio.Server | None = field(init=False, default=None)
    _changed: asyncio.Event = field(init=False, factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Bind a free port of 127.0.0.1 and serve."""
        context = server_context(self.tls) if self.tls else None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, "127.0.0.1", self.port, ssl=context, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, end every connection, and wait until all of it is over."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await asyncio.sleep(0)  # lets a connection that is just accepted become known
        while self._tasks:
            for connection in self._tasks.values():
                connection.writer.transport.abort()
            _, late = await asyncio.wait(list(self._tasks), timeout=1)
            for task in late:  # a fault that waits for something else than its client
                task.cancel()
        if server is not None:
            await server.wait_closed()
        for held in self._sockets:
            held.close()
        self._sockets.clear()
        if self._defects:
            raise self._defects.pop(0)

    # what a provider will say

    def base_url(self, provider: str) -> str:
        """Where this provider's OpenAI-compatible API is; Ollama's own API stands beside its `/v1`."""
        if not self.port:
            raise RuntimeError("the upstream has no address before start()")
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/{provider}/v1"

    def script(self, provider: str, *labels: str) -> None:
        """Answer the next chat requests with these faults, one each, after what is scripted already."""
        self._provider(provider).script.extend(fault_of(label).label for label in labels)

    def always(self, provider: str, label: str) -> None:
        """Answer with this fault whatever no script or schedule decides."""
        self._provider(provider).default = fault_of(label).label

    def schedule(self, provider: str, *, seed: int, weights: Mapping[str, float]) -> None:
        """Choose the fault of each chat request by these weights; the same seed gives the same sequence."""
        labels = [fault_of(label).label for label in weights]
        dice, shares = random.Random(seed), list(weights.values())
        self._provider(provider).schedule = iter(lambda: dice.choices(labels, shares)[0], None)

    def text(self, provider: str, text: str, events: int | None = None) -> None:
        """Say this; streamed in so many content events, or one for each word."""
        known = self._provider(provider)
        known.text, known.events = text, events

    def pace(self, provider: str, seconds: float) -> None:
        """Wait so long between two events of a healthy stream."""
        self._provider(provider).pace = seconds

    def usage(self, provider: str, tokens: Mapping[str, Any] | None) -> None:
        """Report this `usage` object; None is the usual one."""
        self._provider(provider).usage = tokens

    def models(self, provider: str, models: Iterable[str]) -> None:
        """List these model ids under `/v1/models`, `/api/tags` and `/api/ps`; what is asked for may be another one."""
        self._provider(provider).models = tuple(models)

    def route(self, provider: str, route: str, payload: Any, status: int = 200) -> None:
        """Answer `route`, for example "POST /api/show", with this JSON value; it goes before what is built in."""
        self._provider(provider).routes[route] = status, payload

    def reply(self, provider: str, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Answer every chat request with this: bytes as they are, a text as HTML, any other value as JSON."""
        kind = "text/html" if isinstance(body, str) else "application/json"
        data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else encode(body)
        more = dict(headers or {})
        kind = more.pop("Content-Type", kind)
        self._provider(provider).reply = status, data, kind, tuple(more.items())

    def hold(self, provider: str) -> None:
        """Let chat requests wait, after they are counted, until `release`."""
        self._provider(provider).released.clear()

    def release(self, provider: str) -> None:
        """Answer what waits since `hold`."""
        self._provider(provider).released.set()

    # what came of it

    def seen(self, provider: str) -> Seen:
        """What reached this provider so far."""
        return self._provider(provider).seen

    def expected(
        self, provider: str, model: str, stream: bool = False, *, include_usage: bool = False, fault: str = "ok"
    ) -> bytes:
        """The body of the healthy answer, byte for byte; for a stream all its events up to `[DONE]`.

        With the label of a fault of class O the same for the text that a right client must end up with.
        """
        return self._provider(provider).answer(model, fault).body(stream, include_usage)

    def expected_text(self, provider: str, fault: str = "ok") -> str:
        """The assistant's text that a right client ends up with."""
        return self._provider(provider).answer("", fault).text

    async def wait_for(self, provider: str, timeout: float = 2.0, **counts: int) -> Seen:  # noqa: ASYNC109 - not a limit but a verdict
        """Wait until this provider has seen at least these counts, or for `open` at most so many.

        The counts are chat, requests, completed, aborts, connections, foreign_keys and open. TimeoutError says how
        far it came.
        """
        seen = self._provider(provider).seen
        try:
            async with asyncio.timeout(timeout):
                while not all(_reached(seen, name, count) for name, count in counts.items()):
                    await self._changed.wait()
        except TimeoutError:
            reached = {name: _value(seen, name) for name in counts}
            raise TimeoutError(f"{provider}: waited {timeout} s for {counts}, came to {reached}") from None
        return seen

    # addresses where nobody answers

    def refused_url(self, provider: str = "refused") -> str:
        """A base URL whose port refuses connections, and which nothing else can take until `stop`."""
        bound = self._bound_socket()
        return f"http://127.0.0.1:{bound.getsockname()[1]}/{provider}/v1"

    def blackhole_url(self, provider: str = "blackhole") -> str:
        """A base URL where connecting takes for ever; nobody answers there on systems whose backlog does not end."""
        listener = self._bound_socket()
        listener.listen(0)
        for _ in range(4):  # fill the backlog, so that the greeting of a further client is dropped
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._sockets.append(filler)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/{provider}/v1"

    def _bound_socket(self) -> socket.socket:
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        self._sockets.append(bound)
        return bound

    # serving

    def _provider(self, name: str) -> _Provider:
        if name not in self._providers:
            self._providers[name] = _Provider(name, f"Hello from {name}: one two three.")
            self._providers[name].released.set()
        return self._providers[name]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        reader = Reader()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            connection = Connection(self.connections, reader, writer)
            task = asyncio.get_running_loop().create_task(self._serve(connection))
            self._tasks[task] = connection
            task.add_done_callback(self._served)

        return asyncio.StreamReaderProtocol(reader, connected)

    def _served(self, task: asyncio.Task[None]) -> None:
        connection = self._tasks.pop(task)
        for name in connection.providers:
            self._providers[name].seen.open -= 1
        if not task.cancelled() and (defect := task.exception()) is not None:
            self._defects.append(defect)
        self._notify()

    async def _serve(self, connection: Connection) -> None:
        writer = connection.writer
        try:
            while (request := await read_request(connection.reader, writer.write)) is not None:
                head, body = request
                name = urlsplit(head.target).path.split("/")[1]
                received = Received(name, head.method, head.target, head.headers, head.raw, body, connection.number)
                if not await self._exchange(received, connection):
                    break
                connection.served += 1
        except BadRequest as bad:
            self.bad_http.append(bad.args[0])
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        finally:
            writer.close()
            with suppress(OSError):  # a reset is as good an end as any
                await writer.wait_closed()

    async def _exchange(self, received: Received, connection: Connection) -> bool:
        """Answer one request; False when the connection cannot carry another one."""
        provider = self._provider(received.provider)
        path = urlsplit(received.path).path.removeprefix(f"/{received.provider}") or "/"
        wire = CHATS.get(f"{received.method} {path}")
        received.chat = wire is not None
        self._record(provider, received, connection)
        exchange = (wire or UpstreamCall)(received, connection, provider.answer(received.model, "ok", received.json))
        exchange.pace, exchange.elsewhere = provider.pace, self.base_url("evil")
        try:
            if received.chat:
                received.fault = provider.choose(received)
                self._notify()
                await self._chat(provider, exchange)
            else:
                self._notify()
                status, payload = _resource(provider, received.method, path)
                await _send(exchange, status, payload)
        except Gone:
            outcome = "aborted" if self._server else "stopped"
        else:
            outcome = "broken"
        received.outcome = "completed" if exchange.ended else outcome
        received.finished = time.monotonic()
        self._notify()
        leaves = connection.writer.transport.is_closing() or received.headers.get("connection", "").lower() == "close"
        return exchange.ended and not leaves

    def _record(self, provider: _Provider, received: Received, connection: Connection) -> None:
        seen = provider.seen
        seen.requests.append(received)
        own = self.keys.get(provider.name)
        seen.foreign_keys += any(key != own and _holds(received, key) for key in self.keys.values() if key)
        if provider.name not in connection.providers:
            connection.providers.add(provider.name)
            seen.connections += 1
            seen.open += 1

    async def _chat(self, provider: _Provider, x: UpstreamCall) -> None:
        try:
            fault = fault_of(x.received.fault)
        except ValueError as error:
            await _send(x, 400, openai_error(400, str(error), code="unknown_fault"))
            return
        if not provider.released.is_set():
            await _either_event(provider.released, x.connection.reader.gone)
        if provider.reply is not None:
            status, data, type_, headers = provider.reply
            await x.whole(status, data, type_, headers)
            return
        x.answer = provider.answer(x.received.model, fault.label, x.received.json)
        x.arg = fault.arg
        await (x.play(fault) if isinstance(x, MessagesCall) else fault.play(x))


async def _either_event(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _send(x: UpstreamCall, status: int, payload: Any) -> None:
    if isinstance(payload, str):
        await x.whole(status, payload.encode(), "text/plain; charset=utf-8")
    else:
        await x.whole(status, encode(payload))


def _value(seen: Seen, name: str) -> int:
    value = getattr(seen, name)
    return len(value) if isinstance(value, list) else int(value)


def _reached(seen: Seen, name: str, count: int) -> bool:
    return _value(seen, name) <= count if name == "open" else _value(seen, name) >= count


def _resource(provider: _Provider, method: str, path: str) -> tuple[int, Any]:
    """What a request that is no chat gets: what the test set, the lists of models, Ollama's own API, or a 404."""
    if (set_ := provider.routes.get(f"{method} {path}")) is not None:
        return set_
    if method in {"GET", "HEAD"}:
        if path == "/":
            return 200, "Ollama is running"
        if path == "/v1/models":
            listed = [
                {"id": m, "object": "model", "created": CREATED, "owned_by": provider.name} for m in provider.models
            ]
            return 200, {"object": "list", "data": listed}
        if path == "/api/version":
            return 200, {"version": "0.14.0"}
        if path in {"/api/tags", "/api/ps"}:
            return 200, {"models": [_ollama_model(model, running=path == "/api/ps") for model in provider.models]}
    return 404, openai_error(404, f"Invalid URL ({method} {path})", code="not_found")


def _ollama_model(model: str, *, running: bool) -> dict[str, Any]:
    details = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"]}
    details |= {"parameter_size": "7.6B", "quantization_level": "Q4_K_M"}
    size = 4_683_087_332
    entry = {"name": model, "model": model, "size": size, "digest": "0" * 64, "details": details}
    if running:
        return entry | {"expires_at": "2099-01-01T00:00:00Z", "size_vram": size, "context_length": 4096}
    return entry | {"modified_at": "2026-01-01T00:00:00Z"}
