"""The HTTP routes that plugins bring, each isolated from the server and from the others."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from routerpool.errors import PluginError, RequestError
from routerpool.hooks.calling import Hooks
from routerpool.hooks.isolation import locate, ours_to_end
from routerpool.hooks.loading import Instance
from routerpool.types import Caller

__all__ = ["CALLER", "Inner", "routes_of"]

CALLER: web.RequestKey[Caller] = web.RequestKey("routerpool_caller", Caller)
"""Where a plugin's route finds who calls it."""

Inner = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
"""A handler behind the access checks."""


def routes_of(hooks: Hooks) -> Mapping[tuple[str, str], Inner]:
    """The handlers that plugins register, by method and path; one that is no async handler is a PluginError."""
    routes: dict[tuple[str, str], Inner] = {}
    for instance, route in hooks.gather("register_routes"):
        if not isinstance(route, web.RouteDef) or not inspect.iscoroutinefunction(route.handler):
            raise PluginError(f"plugin {instance.name!r} may register routes with async handlers only, not {route!r}")
        routes[route.method, route.path] = _isolated(hooks, instance, route.handler)
    return routes


def _isolated(hooks: Hooks, instance: Instance, handler: Callable[[web.Request], Awaitable[Any]]) -> Inner:
    async def inner(request: web.Request, caller: Caller) -> web.StreamResponse:
        if not instance.enabled:
            raise RequestError("not_found", f"the plugin {instance.name!r} is switched off")
        request[CALLER] = caller
        try:
            response = await handler(request)
        except (RequestError, web.HTTPException):
            raise
        except BaseException as error:
            if ours_to_end(error) or request.transport is None:  # that the client has gone is nobody's fault
                raise
            what = locate(error)
        else:
            if isinstance(response, web.StreamResponse):
                return response
            what = f"answered with {type(response).__name__} instead of a response"
        hooks.blame(instance, "register_routes", what)
        if request.writer.output_size and request.transport is not None:  # a part is out: break off visibly
            request.transport.abort()
        raise RequestError("internal_error", f"the plugin {instance.name!r} failed; the log names the place")

    return inner
