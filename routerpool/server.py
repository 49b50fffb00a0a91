"""The HTTP server: the contract's routes over one router, alone or inside somebody's aiohttp application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from routerpool.access import Access, Plane
from routerpool.config import Config
from routerpool.errors import PluginError, RequestError
from routerpool.hooks import locate
from routerpool.request import parse_chat
from routerpool.responses import HttpSink, Watch, error_response, json_response, read_json
from routerpool.router import Router, new_id
from routerpool.types import Caller, Candidate

__all__ = ["CALLER", "ROUTER", "Server", "create_app", "setup"]

log = logging.getLogger("routerpool.server")

ROUTER: web.AppKey[Router] = web.AppKey("routerpool", Router)
"""Where an application keeps its router (the first one, if it has several)."""

CALLER: web.RequestKey[Caller] = web.RequestKey("routerpool_caller", Caller)
"""Where a plugin's route finds who calls it."""

Source = str | Path | Mapping[str, Any] | Config | Router | None
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Inner = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]

USER_ROUTES = ("/v1/router/explain", "/v1/router/profiles", "/v1/router/models", "/v1/router/policy/")
"""Router routes for those who ask models; every other one under /v1/router/ is for admins."""

OPENAI_PATHS = frozenset(
    [
        *("assistants", "audio", "batches", "completions", "containers", "conversations", "embeddings", "evals"),
        *("files", "fine_tuning", "images", "messages", "moderations", "organization", "realtime", "responses"),
        *("threads", "uploads", "vector_stores", "videos"),
    ]
)
"""First words of the OpenAI and Anthropic paths that no plugin serves yet: 501, so that a client is told the truth."""

TOLD = ", ".join(f"X-Router-{name}" for name in ("Provider", "Model", "Attempts", "Tried", "Profile", "Request-Id"))
"""Our headers, so that a page of an allowed origin may read them."""


def create_app(config: Source = None) -> web.Application:
    """An application that serves a router under the config's base path. What is wrong is one ConfigError."""
    app = web.Application()
    router = _router(config)
    base = router.config.server.base_path.rstrip("/")
    Server(router).attach(app, base, root=True)
    return app


def setup(app: web.Application, config: Source = None, *, prefix: str = "") -> Router:
    """Mount a router into an application under `prefix` ("" is its root) and tie its life to the application's.

    The routes are the application's own: its middlewares see them, its limits and its runner's settings hold, except
    that bodies may be as large as `limits.request_bytes` says. `/` stays the application's.
    """
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError(f"the prefix must begin with a slash and not end with one, such as /llm, not {prefix!r}")
    router = _router(config)
    Server(router).attach(app, prefix, root=bool(prefix))
    return router


def _router(source: Source) -> Router:
    return source if isinstance(source, Router) else Router.of(source)


class Server:
    """The handlers of one router."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.access = Access(router.config.server)
        self.watch = Watch()
        self.draining = False
        self._limit = router.config.limits.request_bytes
        self._tell = router.config.transparency != "none"

    def attach(self, app: web.Application, prefix: str, *, root: bool) -> None:
        """Add the routes and the router's life to an application."""
        routes: list[tuple[str, str, Inner, Plane]] = [
            ("GET", "/health", self.health, "open"),
            ("GET", "/v1/models", self.models, "user"),
            ("GET", "/v1/models/{model:.+}", self.model, "user"),
            ("POST", "/v1/chat/completions", self.chat, "user"),
            ("GET", "/v1/router/status", self.status, "admin"),
            ("GET", "/v1/router/models", self.candidates, "user"),
            ("POST", "/v1/router/explain", self.explain, "user"),
            ("GET", "/v1/router/profiles", self.profiles, "user"),
            ("GET", "/v1/router/plugins", self.plugins, "admin"),
            ("PUT", "/v1/router/plugins/{name}", self.switch, "admin"),
        ]
        for method, path, inner, plane in routes:
            handler = self.guarded(inner, plane)
            app.router.add_route(method, prefix + path, handler)
            if method == "GET":
                app.router.add_route("HEAD", prefix + path, handler)
        self._attach_plugins(app, prefix)
        if root:
            for path in (f"{prefix}/", prefix) if prefix else ("/",):
                app.router.add_get(path, self.guarded(self.root, "open"))
        app.router.add_route("*", prefix + "/v1/{tail:.*}", self.guarded(self.missing, "open"))
        app.cleanup_ctx.append(self._life)
        if ROUTER not in app:
            app[ROUTER] = self.router

    def _attach_plugins(self, app: web.Application, prefix: str) -> None:
        for instance, route in self.router.hooks.gather("register_routes"):
            if not isinstance(route, web.RouteDef) or not asyncio.iscoroutinefunction(route.handler):
                raise PluginError(
                    f"plugin {instance.name!r} may register routes with async handlers only, not {route!r}"
                )
            admin = route.path.startswith("/v1/router/") and not route.path.startswith(USER_ROUTES)
            handler = self.guarded(_alone(route.handler), "admin" if admin else "user")
            app.router.add_route(route.method, prefix + route.path, handler, **route.kwargs)

    async def _life(self, app: web.Application) -> AsyncIterator[None]:
        async with self.router:
            yield
            self.watch.close()

    def guarded(self, inner: Inner, plane: Plane) -> Handler:
        """A handler behind the access checks, whose errors are OpenAI error objects and never tracebacks."""

        async def handler(request: web.Request) -> web.StreamResponse:
            headers = request.headers
            cors = self._cors(headers.get("Origin"))
            try:
                caller = self.access.check(request.method, headers, plane)
                response = await inner(request, caller)
            except RequestError as error:
                return error_response(error, cors)
            except web.HTTPException:
                raise
            except Exception as error:
                log.error("%s %s failed: %s", request.method, request.path, locate(error))
                message = "a defect of routerpool; its log names the place"
                return error_response(RequestError("internal_error", message), cors)
            if cors and not response.prepared:
                response.headers.update(cors)
            return response

        return handler

    def _cors(self, origin: str | None) -> dict[str, str]:
        if origin is None or not (origin in self.access.origins or "*" in self.access.origins):
            return {}
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": TOLD, "Vary": "Origin"}

    # For those who ask models

    async def chat(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """`POST /v1/chat/completions`, plain and streamed."""
        if self.draining:
            raise RequestError("shutting_down", "this server is shutting down; try again", retry_after=1)
        request_id = new_id()
        sink = HttpSink(request, self.watch, self._cors(request.headers.get("Origin")), tell=self._tell)
        try:
            body = await read_json(request, self._limit)
            asked = parse_chat(body, request_id=request_id, headers=request.headers.items(), caller=caller)
            await self.router.handle(asked, sink)
        except RequestError as error:
            error.request_id = request_id
            raise
        finally:
            self.watch.remove(sink)
        if sink.response is None:
            raise RequestError("internal_error", "no answer was made")
        return sink.response

    async def models(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/models`: auto, profiles, aliases, then candidates."""
        return json_response({"object": "list", "data": list(self._listed().values())})

    async def model(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/models/{model}`."""
        name = unquote(request.match_info["model"])
        found = self._listed().get(name)
        if found is None:
            raise RequestError("model_not_found", f"there is no model called {name!r}", param="model")
        return json_response(found)

    def _listed(self) -> dict[str, dict[str, Any]]:
        config = self.router.config
        names = ["auto", *(f"routerpool/{name}" for name in config.profiles)]
        names += [alias for alias in config.aliases if not set(alias) & set("*?[")]
        listed = {name: _model_entry(name, "routerpool") for name in names}
        for candidate in self.router.catalog.snapshot.candidates:
            if self.router.providers[candidate.provider].idle() is None:
                entry = _model_entry(candidate.key, candidate.provider)
                if candidate.model.context is not None:
                    entry["context_window"] = candidate.model.context
                listed.setdefault(candidate.key, entry)
        return listed

    async def explain(self, request: web.Request, caller: Caller) -> web.Response:
        """`POST /v1/router/explain`: the plan for a chat body; nothing is sent anywhere."""
        body = await read_json(request, self._limit)
        asked = parse_chat(body, request_id=new_id(), headers=request.headers.items(), caller=caller)
        plan, _ = await self.router.planner.plan(asked)
        return json_response(self.router.planner.explain(plan))

    async def profiles(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/router/profiles`."""
        return json_response({"default": self.router.config.default_profile, "profiles": self.router.profiles()})

    async def candidates(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/router/models`: every candidate with what is known of it."""
        router = self.router
        entries = [
            _candidate_entry(candidate, router.providers[candidate.provider].idle())
            for candidate in router.catalog.snapshot.candidates
        ]
        return json_response({"candidates": entries})

    # For those who look after the router

    async def status(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/router/status`: of this process."""
        return json_response(await self.router.status())

    async def plugins(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/router/plugins`: those that the configuration names."""
        return json_response({"plugins": self.router.plugins()})

    async def switch(self, request: web.Request, caller: Caller) -> web.Response:
        """`PUT /v1/router/plugins/{name}` with `{"enabled": true|false}`."""
        name = unquote(request.match_info["name"])
        body = await read_json(request, 1 << 16)
        enabled = body.get("enabled") if isinstance(body, dict) else None
        if not isinstance(enabled, bool) or (isinstance(body, dict) and set(body) != {"enabled"}):
            raise RequestError("invalid_request", 'send {"enabled": true} or {"enabled": false}', param="enabled")
        if name not in self.router.hooks.instances:
            raise RequestError("not_found", f"no plugin is called {name!r}; GET /v1/router/plugins lists them")
        instance = self.router.hooks.switch(name, enabled)
        return json_response({**instance.describe(), "lasts": "until the next reload or restart"})

    # For everybody

    async def health(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /health`: 200 while requests are taken."""
        if self.draining:
            return json_response({"status": "shutting_down"}, 503)
        return json_response({"status": "ok"})

    async def root(self, request: web.Request, caller: Caller) -> web.Response:
        """`/`: a line for people and for clients that look whether somebody is there."""
        return web.Response(
            text="routerpool is here; point your client's base URL at this address with /v1 behind it\n"
        )

    async def missing(self, request: web.Request, caller: Caller) -> web.Response:
        """Every other path under /v1: 501 for what OpenAI has, else 404, and the answer to a browser's preflight."""
        if request.method == "OPTIONS" and self._cors(request.headers.get("Origin")):
            allowed = {
                "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
                "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "*"),
                "Access-Control-Max-Age": "600",
            }
            return web.Response(status=204, headers=allowed)
        tail = request.match_info["tail"]
        if tail.partition("/")[0] in OPENAI_PATHS:
            raise RequestError("not_implemented", f"no enabled plugin serves /v1/{tail}; see `routerpool plugins`")
        raise RequestError("not_found", f"there is no {request.method} /v1/{tail}")


def _alone(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Inner:
    async def inner(request: web.Request, caller: Caller) -> web.StreamResponse:
        request[CALLER] = caller
        return await handler(request)

    return inner


def _model_entry(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _candidate_entry(candidate: Candidate, idle: str | None) -> dict[str, Any]:
    model = candidate.model
    return {
        "candidate": candidate.key,
        "provider": candidate.provider,
        "model": model.id,
        "display_name": model.display_name,
        "context": model.context,
        "max_output": model.max_output,
        "tier": model.tier.name.lower() if model.tier else None,
        "rank": model.rank,
        "free": model.free,
        "local": model.local,
        "data_policy": model.data_policy,
        "capabilities": dict(model.capabilities),
        "tags": sorted(model.tags),
        "idle": idle,
    }
