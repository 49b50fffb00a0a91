"""The page of HTTP: every route and whom it is for, and every code of an error."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from markdown import anchor, paragraphs, prose, table

from plugins import shipped
from routerpool.errors import CODES
from routerpool.http.access import Plane
from routerpool.http.plugin_routes import Inner, plane_of
from routerpool.server.app import Server
from routerpool.testing import make_router

__all__ = ["http_page"]

ABOUT = """
All paths stand under `server.base_path`, or under the prefix of the application that the router is mounted in. What is
answered to GET is answered to HEAD.

Without keys in the configuration the routes are open to whoever reaches the server, but for three things: hosts' routes
answer this machine only, a required plugin is switched off by an admin's key alone, and web pages of
`server.allowed_origins` have users' routes and no others. With any, those for users want one
of `server.api_keys`, as `Authorization: Bearer KEY`, those for hosts that forward by themselves one of
`server.host_keys`, and those for admins one of `server.admin_keys`; a later key opens the earlier routes, too.
"""
ERRORS = """
Errors are OpenAI's error objects with one of these codes. A provider's own refusal of a request (400, 413, 422) is
passed on as it is. `Retry-After` is there where waiting helps.
"""
Row = tuple[str, str, str]


def http_page() -> str:
    """The page."""
    errors = [(f"`{name}`", str(code.status), f"`{code.type}`", code.meaning) for name, code in CODES.items()]
    parts = [
        "# HTTP",
        prose(ABOUT),
        table(("route", "for", "what it does"), [*_ours(), *_of_plugins()]),
        "## Errors",
        prose(ERRORS),
        table(("code", "status", "type", "when"), errors),
    ]
    return "\n\n".join(parts) + "\n"


class Listed(Server):
    """A server whose handlers are not guarded but remembered."""

    def guarded(self, inner: Inner, plane: Plane) -> Any:
        """The handler as it is, and whom it is for."""
        self.planes: dict[Any, Plane] = {**getattr(self, "planes", {}), inner: plane}
        return inner


def _ours() -> Iterator[Row]:
    app, server = web.Application(), Listed(make_router({}))
    server.attach(app, "", root=True)
    for route in app.router.routes():
        if route.method == "HEAD" or route.resource is None:
            continue
        path = re.sub(r":[^}]+\}", "}", route.resource.canonical)
        method = "any" if route.method == "*" else route.method
        yield f"`{method} {path}`", _plane(server.planes[route.handler]), _told(route.handler)


def _of_plugins() -> Iterator[Row]:
    names = {plugin.name: {} for plugin in shipped() if "register_routes" in plugin.hooks}
    for instance, route in make_router({"plugins": names}).hooks.gather("register_routes"):
        owner = f"[`{instance.name}`](plugins.md{anchor(instance.name)})"
        told = f"{_told(route.handler)} With the plugin {owner}."
        yield f"`{route.method} {route.path}`", _plane(plane_of(route)), told


def _plane(plane: str) -> str:
    return {"open": "everybody", "user": "users", "host": "hosts", "admin": "admins"}[plane]


def _told(handler: Any) -> str:
    words = re.sub(r"^`[^`]*`[:,.]? *", "", paragraphs(inspect.getdoc(handler) or "")[0])
    return words[:1].upper() + words[1:]
