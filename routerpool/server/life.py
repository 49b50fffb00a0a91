"""A server's life: generations of one router, the swap between them, switches, and the end in good order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from aiohttp import web

from routerpool.config.sections import Config
from routerpool.errors import RequestError
from routerpool.hooks.calling import take_over
from routerpool.http.access import Access
from routerpool.http.bodies import BodyLimits
from routerpool.http.plugin_routes import routes_of
from routerpool.http.responses import Serving, Watch, Written, read_json
from routerpool.router import Router
from routerpool.server.switches import load_switches
from routerpool.types import Caller

__all__ = ["ROUTER", "Control", "Generation", "Life"]

log = logging.getLogger("routerpool.server")

ROUTER: web.AppKey[Router] = web.AppKey("routerpool", Router)
"""Where an application keeps its router (the first one, if it has several)."""

LAST_WORD_SECONDS = 0.5
"""How long before the end of `drain_seconds` the streams that are left are told that they end here."""


class Control(Protocol):
    """The way to the other workers of a server."""

    worker: str
    """Such as "1 of 2"."""
    number: int

    async def forward(self, number: int, request: web.Request, body: bytes) -> web.Response | None:
        """The answer of another worker to this request; None where there is no such worker now."""

    def tell(self, message: dict[str, Any]) -> None:
        """Have every other worker do what this one has done."""


class Generation:
    """A router and what the handlers take from its configuration; a reload swaps all of it at once."""

    def __init__(self, router: Router, number: int, watch: Watch, written: Written | None = None) -> None:
        self.router = router
        self.number = number
        self.access = Access(router.config.server)
        self.tell = router.config.transparency != "none"
        limits = router.config.limits
        self.serving = Serving(
            watch,
            BodyLimits(limits.request_bytes, limits.body_rate, router.bodies),
            self.tell,
            heartbeat=router.config.server.heartbeat_seconds,
            written=written,
        )
        self.plugin_routes = routes_of(router.hooks)


def needing_restart(before: Config, now: Config) -> list[str]:
    """What is different and is taken only by a start: where a server listens, and over how many processes."""
    names = {f"server.{name}": getattr(before.server, name) != getattr(now.server, name) for name in AT_START}
    names["server.tls"] = (before.server.tls is None) is not (now.server.tls is None)  # a certificate is read again
    names |= {f"limits.{name}": getattr(before.limits, name) != getattr(now.limits, name) for name in OF_SOCKETS}
    return [name for name, differs in names.items() if differs]


AT_START, OF_SOCKETS = ("host", "port", "base_path", "workers"), ("connections", "head_seconds")


class Life:
    """A router that takes requests, and the swap to its next generation.

    `load` makes the next generation's router of the same source; `control` passes changes on to the other workers;
    `written` is `Serving.written`.
    """

    def __init__(
        self,
        router: Router,
        *,
        load: Callable[[], Router] | None = None,
        control: Control | None = None,
        written: Written | None = None,
    ) -> None:
        self.watch = Watch()
        self._written = written
        self.generation = Generation(router, 1, self.watch, written)
        self.draining = False
        self.reloaded: list[Callable[[Router], None]] = []
        self._load = load
        self.control = control
        self._swapping = asyncio.Lock()
        self.retiring: list[Router] = []
        """Routers of older generations, which still have requests."""
        self._retiring: set[asyncio.Task[None]] = set()
        self._stopping: set[asyncio.Future[None]] = set()

    @property
    def router(self) -> Router:
        """The router of the generation that takes requests now."""
        return self.generation.router

    def live(self, app: web.Application) -> None:
        """Tie the router's life to the application's."""
        app.cleanup_ctx.append(self._life)
        app.on_shutdown.append(self._drain)
        if ROUTER not in app:
            app[ROUTER] = self.router

    # Its life

    async def _life(self, app: web.Application) -> AsyncIterator[None]:
        await self.router.start()
        try:
            await self._take_switches(self.router)
            yield
        finally:
            self.watch.close()
            for task in tuple(self._retiring):
                task.cancel()
            await asyncio.gather(*self._retiring, return_exceptions=True)
            await asyncio.gather(*self._stopping, return_exceptions=True)  # what an old generation still closes
            await self.router.stop()

    async def _drain(self, app: web.Application) -> None:
        """The application waits for its handlers now: those that take longer than we may wait get a visible end."""
        self.draining = True
        wait = max(self.router.config.server.drain - LAST_WORD_SECONDS, 0.0)
        asyncio.get_running_loop().call_later(wait, self.router.break_off)

    async def reload(self) -> dict[str, Any]:
        """Swap to a new generation, made and started before the old one is let go; a defect leaves the old one.

        Requests under way end in the generation in which they began. Raises a RouterpoolError.
        """
        if self._load is None:
            message = "this router was made of a value in memory, so there is nothing to read again"
            raise RequestError("invalid_request", message)
        async with self._swapping:
            router = await asyncio.to_thread(self._load)
            take_over(router.hooks, self.router.hooks)
            new = Generation(router, self.generation.number + 1, self.watch, self._written)
            await router.start()
            try:
                await self._take_switches(router)
            except BaseException:
                await router.stop()
                raise
            old, self.generation = self.generation, new
            self.retiring.append(old.router)
            for told in self.reloaded:
                told(router)
            lost = sorted(f"{method} {path}" for method, path in new.plugin_routes.keys() - old.plugin_routes.keys())
            lost += needing_restart(old.router.config, router.config)
            task = asyncio.ensure_future(self._retire(old.router))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return {"generation": new.number, "needs_restart": lost}

    async def _retire(self, router: Router) -> None:
        try:
            async with asyncio.timeout(router.config.limits.stream_seconds):
                await router.admission.idle()
                await router.handovers.idle()
        except TimeoutError:
            log.warning("an old generation still had requests when its time was up")
        finally:
            self.retiring.remove(router)
            stop = asyncio.ensure_future(router.stop())
            self._stopping.add(stop)
            stop.add_done_callback(self._stopping.discard)
            await asyncio.shield(stop)

    async def _take_switches(self, router: Router) -> None:
        """Take over what was switched on or off with `persist: true`; what is required, only a configuration ends."""
        for name, enabled in (await load_switches(router.store)).items():
            instance = router.hooks.instances.get(name)
            if instance is not None and (enabled or not instance.required):
                router.hooks.switch(name, enabled)

    def switch_plugin(self, name: str, enabled: bool) -> None:
        """Switch a plugin in this process; the message of another worker ends here too."""
        if name in self.router.hooks.instances and self.router.hooks.switch(name, enabled).required:
            off = "on again" if enabled else "off: requests go on without it"
            log.warning("the required plugin %s is switched %s", name, off)

    def read(self, request: web.Request, caller: Caller, limit: int | None = None) -> Awaitable[Any]:
        """The parsed body of a request to a route of ours."""
        return read_json(request, limit, limits=self.generation.serving.bodies, caller=caller)

    def open_for_requests(self) -> None:
        """Refuse a new request while those under way are waited for."""
        if self.draining:
            raise RequestError("shutting_down", "this server is shutting down; try again", retry_after=1)
