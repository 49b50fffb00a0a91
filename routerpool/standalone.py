"""The server as a process of its own: the loop, the socket, signals, draining. None of it runs when we are mounted."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import ssl
from collections.abc import Callable

from aiohttp import web

from routerpool.access import is_loopback
from routerpool.errors import ConfigError, Problem, RouterpoolError
from routerpool.router import Router
from routerpool.sections import ServerConfig
from routerpool.server import Server

__all__ = ["ListenError", "check_exposure", "serve"]

log = logging.getLogger("routerpool.standalone")

YOUNG_OBJECTS = 20_000
"""gc's first threshold once the plugins are up: measured to cut the p99 of a plain request to a quarter."""


class ListenError(RouterpoolError):
    """The address cannot be listened on; the text says why and what to do."""


def check_exposure(config: ServerConfig, host: str) -> None:
    """Refuse to open a server without keys to other machines, unless the configuration says that this is meant."""
    if is_loopback(host) or config.api_keys or config.allow_unauthenticated:
        return
    message = (
        f"listening on {host} lets other machines in, and no key is asked for; set server.api_keys, "
        "listen on 127.0.0.1, or say server.allow_unauthenticated: true"
    )
    raise ConfigError([Problem("server.host", message)])


def serve(
    router: Router, host: str | None = None, port: int | None = None, *, ready: Callable[[str], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain: no new request is taken, streams end within `drain_seconds`.

    `ready` gets the server's URL once it listens; port 0 takes a free one.
    """
    config = router.config.server
    host = host or config.host
    check_exposure(config, host)
    runner = _runner()
    with runner:
        runner.run(_serve(router, host, config.port if port is None else port, ready))


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # not built for this platform
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _serve(router: Router, host: str, port: int, ready: Callable[[str], None] | None) -> None:
    config = router.config.server
    app = web.Application()
    server = Server(router)
    server.attach(app, config.base_path.rstrip("/"), root=True)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=config.drain_seconds)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await runner.setup()
    try:
        await _listen(runner, host, port, _tls(config))
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        if ready is not None:
            bound = runner.addresses[0][1]
            scheme = "https" if config.tls else "http"
            shown = f"[{host}]" if ":" in host else host
            ready(f"{scheme}://{shown}:{bound}{config.base_path.rstrip('/')}")
        await stop.wait()
        server.draining = True
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int, tls: ssl.SSLContext | None) -> None:
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls, backlog=1024).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} of {host} is taken, perhaps by another routerpool; choose one with --port"
        else:
            message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise ListenError(message) from None


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    if config.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls.cert, config.tls.key)
    except (OSError, ssl.SSLError) as error:
        message = f"cannot read the certificate {config.tls.cert} and its key: {error.strerror or type(error).__name__}"
        raise ConfigError([Problem("server.tls", message)]) from None
    return context
