"""The one router of a process: started at the first hook of LiteLLM's that needs it, stopped with LiteLLM's loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from attrs import define, field

from routerpool import Router, RouterpoolError
from routerpool.hooks import Instance
from routerpool_litellm.deployments import Deployments
from routerpool_litellm.host import at_shutdown, config_folder, deployments_of, proxy_router

__all__ = ["Residence", "config_path", "home"]

log = logging.getLogger("routerpool.litellm")

NAME = "litellm"
"""What status calls the plugin that knows LiteLLM's deployments."""


def config_path() -> Path | None:
    """Which `routerpool.yaml` holds: `$ROUTERPOOL_CONFIG`, else the one beside LiteLLM's config, else the usual."""
    if told := os.environ.get("ROUTERPOOL_CONFIG"):
        return Path(told)
    folder = config_folder()
    beside = folder / "routerpool.yaml" if folder else None
    return beside if beside is not None and beside.is_file() else None


@define(eq=False)
class Residence:
    """A started router, and what it knows of LiteLLM's deployments."""

    router: Router
    deployments: Deployments
    guests: int = 0
    """Answers that are under way through the router itself."""
    task: asyncio.Task[None] | None = None
    empty: asyncio.Event = field(factory=asyncio.Event)

    async def live(self, ready: asyncio.Future[None]) -> None:
        """Start the router and keep it until the loop ends, which cancels all tasks and waits for them."""
        try:
            async with self.router:
                ready.set_result(None)
                await asyncio.Event().wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[Router]:
        """The router, which is not stopped meanwhile for another one's sake."""
        self.guests += 1
        self.empty.clear()
        try:
            yield self.router
        finally:
            self.guests -= 1
            if not self.guests:
                self.empty.set()

    async def leave(self) -> None:
        """Stop the router, once all that it carries is over."""
        try:
            await self.router.handovers.idle()
            if self.guests:
                await self.empty.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop the router now; what it still carries ends with an error."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait((self.task,))


@define(eq=False)
class Home:
    """Where the router of one loop is to be had."""

    residence: Residence | None = None
    leaving: set[asyncio.Task[None]] = field(factory=set)
    lock: asyncio.Lock = field(factory=asyncio.Lock)

    async def open(self) -> Residence:
        """The router, started if it is not yet, and made anew where LiteLLM's deployments have changed."""
        entries = deployments_of(proxy_router())
        known = self.residence
        if known is not None and known.deployments.still(entries):
            return known
        async with self.lock:
            known = self.residence
            if known is not None and known.deployments.still(entries):
                return known
            self.residence = made = await self._move_in(entries)
        if known is None:
            at_shutdown(self.close)
        else:
            task = asyncio.get_running_loop().create_task(known.leave())
            self.leaving.add(task)
            task.add_done_callback(self.leaving.discard)
        return made

    async def close(self) -> None:
        """Stop the router, and those that are on their way out."""
        leaving = tuple(self.leaving)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        residence, self.residence = self.residence, None
        if residence is not None:
            await residence.stop()

    async def _move_in(self, entries: list[Mapping[str, Any]]) -> Residence:
        loop = asyncio.get_running_loop()
        try:
            made, deployments = Router.of(config_path()), Deployments(entries)
            instances = [*made.hooks.instances.values(), Instance(NAME, deployments, NAME, required=True)]
            residence = Residence(Router(made.config, instances), deployments)
            ready: asyncio.Future[None] = loop.create_future()
            residence.task = loop.create_task(residence.live(ready), name="routerpool")
            await ready
        except RouterpoolError as error:
            log.error("routerpool cannot start inside LiteLLM: %s", error)
            raise
        return residence


HOMES: WeakKeyDictionary[asyncio.AbstractEventLoop, Home] = WeakKeyDictionary()
"""LiteLLM makes its hooks out of dotted paths, so that they can share nothing but what a module holds."""


async def home() -> Residence:
    """The router of this loop and LiteLLM's deployments. ConfigError where `routerpool.yaml` is wrong."""
    return await HOMES.setdefault(asyncio.get_running_loop(), Home()).open()
