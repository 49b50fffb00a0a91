"""The server as a process of its own: the loop, the socket, signals, draining. None of it runs when we are mounted."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from routerpool.config.sections import ServerConfig
from routerpool.errors import ConfigError, Problem, RouterpoolError
from routerpool.http.access import is_loopback
from routerpool.process.connections import IDLE_SECONDS, Connections
from routerpool.process.written import able, written
from routerpool.router import Router
from routerpool.server.app import Server

__all__ = ["ListenError", "bind", "certificate", "check_exposure", "serve", "serve_socket", "url_of"]

log = logging.getLogger("routerpool.standalone")

YOUNG_OBJECTS = 20_000
"""gc's first threshold once the plugins are up: measured to cut the p99 of a plain request to a quarter."""

BACKLOG = 1024
BEAT_SECONDS = 2.0
"""How often a worker tells its supervisor that its loop goes round."""

READ_BYTES = 1 << 16
"""How much of a body may wait for its reader; twice as much stops the client."""

LINGER_SECONDS = 1.0
"""How long a body is read and dropped that nobody wanted, behind a GET for instance; one that is refused is not."""


class ListenError(RouterpoolError):
    """The address cannot be listened on; the text says why and what to do."""


def check_exposure(config: ServerConfig, host: str) -> None:
    """Refuse to open a server without keys to other machines, unless the configuration says that this is meant."""
    if is_loopback(host) or not config.keyless or config.allow_unauthenticated:
        return
    message = (
        f"listening on {host} lets other machines in, and no key is asked for; set server.api_keys, "
        "listen on 127.0.0.1, or say server.allow_unauthenticated: true"
    )
    raise ConfigError([Problem("server.host", message)])


def bind(host: str, port: int) -> socket.socket:
    """One listening socket. A port that is taken is an error: two servers never share one by accident."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(f"cannot listen on {host}: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} of {host} is taken, perhaps by another routerpool; choose one with --port"
        else:
            message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise ListenError(message) from None
    return listener


def url_of(config: ServerConfig, host: str, listener: socket.socket) -> str:
    """Where people find what this socket serves."""
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if config.tls else "http"
    return f"{scheme}://{shown}:{listener.getsockname()[1]}{config.base_path.rstrip('/')}"


def serve(
    router: Router,
    host: str | None = None,
    port: int | None = None,
    *,
    load: Callable[[], Router] | None = None,
    ready: Callable[[Router, str], None] | None = None,
) -> None:
    """Serve in this process until SIGTERM or SIGINT, then drain: streams end within `drain_seconds`.

    `load` makes the router of a reload (SIGHUP, `POST /v1/router/reload`); `ready` gets the router and the server's
    URL once it answers; port 0 takes a free one.
    """
    config = router.config.server
    host = host or config.host
    check_exposure(config, host)
    listener = bind(host, config.port if port is None else port)
    with listener:  # a mistake in the configuration may show before anybody serves it
        url = url_of(config, host, listener)
        serve_socket(router, listener, load=load, ready=None if ready is None else lambda: ready(router, url))


def serve_socket(
    router: Router,
    listener: socket.socket,
    *,
    load: Callable[[], Router] | None = None,
    ready: Callable[[], None] | None = None,
    control: WorkerControl | None = None,
) -> None:
    """Serve a socket that listens already, on a loop of its own; one worker does this, or a server alone."""
    logging.getLogger("aiohttp.server").addFilter(Unquoting())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can be answered: its default would end us
    with _runner() as runner:
        runner.run(_serve(router, listener, load, ready, control))


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # not built for this platform
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _serve(
    router: Router,
    listener: socket.socket,
    load: Callable[[], Router] | None,
    ready: Callable[[], None] | None,
    control: WorkerControl | None,
) -> None:
    config = router.config.server
    tls = certificate(config)
    app = web.Application()
    server = Server(router, load=load, control=control, written=written if able() else None)
    server.reloaded.append(lambda new: _read_certificate(tls, new.config.server))
    server.attach(app, config.base_path.rstrip("/"), root=True, whole=True)
    own: dict[str, Any] = {
        "access_log": None,
        "lingering_time": LINGER_SECONDS,
        "keepalive_timeout": IDLE_SECONDS,
        "auto_decompress": False,  # bodies that come packed are refused, and not unpacked before
        "read_bufsize": READ_BYTES,
    }
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=config.drain, **own)
    connections = Connections(router.config.limits)
    serving: asyncio.Server | None = None
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _ask_to_stop, loop, stop)
    await runner.setup()
    try:
        serving = await connections.listen(runner, listener, tls, BACKLOG, **own)
        if control is not None:
            await web.UnixSite(runner, control.address(control.number)).start()
        reloads = Reloads(server)
        loop.add_signal_handler(signal.SIGHUP, reloads.ask)
        if control is not None:
            control.attach(server, reloads, stop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        if ready is not None:
            ready()
        await stop.wait()
        server.draining = True
        if (waiting := _under_way(server)) is not None:
            log.warning("stopping: waiting up to %g s for %s; Ctrl-C ends them at once", config.drain, waiting)
    finally:
        if serving is not None:
            serving.close()
        await runner.cleanup()


def _ask_to_stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Begin to drain; a Ctrl-C that follows ends the process as if nobody listened to it."""
    stop.set()
    loop.remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _under_way(server: Server) -> str | None:
    """What a stop waits for, in words, requests of older generations among it; None where that is nothing."""
    places = [router.admission for router in (server.router, *server.retiring)]
    counts = {
        "request": sum(place.running + place.waiting for place in places),
        "stream": sum(place.streams for place in places),
    }
    return " and ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count) or None


FRAMING = frozenset(["connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"])
"""What a message says of its own connection, which is another one when it is passed on."""


class Unquoting(logging.Filter):
    """Keeps what aiohttp says of malformed requests out of the log: it quotes their lines, with the keys in them.

    Of a body that cannot be unpacked one line is left of a page.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record may be written."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, web.RequestPayloadError):
            record.msg, record.args, record.exc_info = "a client's body is not what its headers say", (), None
        return not isinstance(error, HttpProcessingError)


class Reloads:
    """Reloads asked for by a signal or by the supervisor: one at a time, and told in the log."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def ask(self) -> None:
        """Reload as soon as no other reload is under way."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        while True:
            self._again = False
            try:
                told = await self._server.reload()
                log.warning("the configuration was read again: generation %s", told["generation"])
                if told["needs_restart"]:
                    log.warning("only a restart takes what has changed in %s", ", ".join(told["needs_restart"]))
            except RouterpoolError as error:
                log.error("the new configuration is not taken, the old one stays:\n%s", error)
            if not self._again:
                return


class WorkerControl:
    """A worker's end of the wire to its supervisor: lines of JSON both ways.

    In the folder `sockets` every worker also serves a socket of its own, by which the others pass on what only it can
    answer.
    """

    def __init__(self, wire: socket.socket, number: int, count: int, sockets: Path) -> None:
        self.number = number
        self.worker = f"{number} of {count}"
        self._sockets = sockets
        self._wire = wire
        self._rest = b""
        wire.setblocking(False)

    def tell(self, message: dict[str, Any]) -> None:
        """Have the supervisor pass this on to the other workers."""
        with suppress(OSError):  # a supervisor that is gone is seen by `attach`
            self._wire.send(json.dumps(message).encode() + b"\n")

    def address(self, number: int) -> str:
        """Where a worker serves for the others alone."""
        return str(self._sockets / f"{number}.sock")

    async def forward(self, number: int, request: web.Request, body: bytes) -> web.Response | None:
        """The answer of another worker to this request; None where there is no such worker now."""
        connector = aiohttp.UnixConnector(self.address(number))
        kept = {name: value for name, value in request.headers.items() if name.lower() not in FRAMING}
        try:
            async with (
                aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
                session.request(request.method, f"http://worker{request.rel_url}", data=body, headers=kept) as answer,
            ):
                told = {name: value for name, value in answer.headers.items() if name.lower() not in FRAMING}
                return web.Response(status=answer.status, body=await answer.read(), headers=told)
        except aiohttp.ClientError:
            return None

    def attach(self, server: Server, reloads: Reloads, stop: asyncio.Event) -> None:
        """Listen for what the other workers did; end with the supervisor."""
        loop = asyncio.get_running_loop()

        def heard() -> None:
            try:
                data = self._wire.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                loop.remove_reader(self._wire.fileno())
                stop.set()
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["do"] == "switch":
                    server.switch_plugin(message["name"], message["enabled"])
                elif message["do"] == "reload":
                    reloads.ask()

        loop.add_reader(self._wire.fileno(), heard)
        self.tell({"do": "ready"})

        def beat() -> None:
            self.tell({"do": "beat"})
            loop.call_later(BEAT_SECONDS, beat)

        beat()


def certificate(config: ServerConfig) -> ssl.SSLContext | None:
    """What TLS is served with, if at all; a ConfigError where the certificate or its key cannot be read."""
    if config.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls.cert, config.tls.key)
    except (OSError, ssl.SSLError) as error:
        message = f"cannot read the certificate {config.tls.cert} and its key: {error.strerror or type(error).__name__}"
        raise ConfigError([Problem("server.tls", message)]) from None
    return context


def _read_certificate(context: ssl.SSLContext | None, config: ServerConfig) -> None:
    """New connections get the certificate that is in the file now."""
    if context is None or config.tls is None:
        return
    try:
        context.load_cert_chain(config.tls.cert, config.tls.key)
    except (OSError, ssl.SSLError) as error:
        log.error("the certificate %s cannot be read, the old one stays: %s", config.tls.cert, type(error).__name__)
