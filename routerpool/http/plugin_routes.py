"""The HTTP routes that plugins bring, each isolated from the server and from the others."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from attrs import frozen

from routerpool.errors import PluginError, RequestError
from routerpool.hooks.calling import Hooks
from routerpool.hooks.isolation import locate, ours_to_end
from routerpool.hooks.loading import Instance
from routerpool.http.access import PLANES, Plane
from routerpool.types import Caller

__all__ = ["CALLER", "Inner", "PluginRoute", "plane_of", "route", "routes_of"]

CALLER: web.RequestKey[Caller] = web.RequestKey("routerpool_caller", Caller)
"""Where a plugin's route finds who calls it."""

PLANE = "routerpool_plane"
"""Where a route definition keeps who may call it."""

Inner = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
"""A handler behind the access checks."""


def route(
    method: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], *, plane: Plane
) -> web.RouteDef:
    """A route for `register_routes` that says who may call it.

    `open` is for all, without a key; `user` for those who ask models, `host` for hosts that forward by themselves, and
    `admin` for those who look after the router, each with a key of its own or of a later one, where any are configured.
    """
    if plane not in PLANES:
        raise ValueError(f"a plane is one of {', '.join(PLANES)}, not {plane!r}")
    return web.RouteDef(method, path, handler, {PLANE: plane})


def plane_of(told: web.RouteDef) -> Plane:
    """Who may call a route: it says so, or lies under `/v1/router/`, which is for admins, or is for users."""
    usual: Plane = "admin" if told.path.startswith("/v1/router/") else "user"
    plane: Plane = told.kwargs.get(PLANE, usual)
    return plane


@frozen
class PluginRoute:
    """A plugin's handler behind its isolation, and who may call it."""

    inner: Inner
    plane: Plane


def routes_of(hooks: Hooks) -> Mapping[tuple[str, str], PluginRoute]:
    """The routes that plugins register, by method and path; one without an async handler is a PluginError."""
    routes: dict[tuple[str, str], PluginRoute] = {}
    for instance, told in hooks.gather("register_routes"):
        if not isinstance(told, web.RouteDef) or not inspect.iscoroutinefunction(told.handler):
            raise PluginError(f"plugin {instance.name!r} may register routes with async handlers only, not {told!r}")
        routes[told.method, told.path] = PluginRoute(_isolated(hooks, instance, told.handler), plane_of(told))
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
