"""The HTTP server: the contract's routes over one router, alone or inside somebody's aiohttp application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web
from attrs import evolve

from routerpool.config.structure import converter
from routerpool.errors import RequestError, RouterpoolError, defect
from routerpool.hooks.isolation import locate
from routerpool.http.access import Access, Plane
from routerpool.http.bodies import answer_unread, end_body, expect_nothing, send_continue
from routerpool.http.plugin_routes import CALLER, Inner
from routerpool.http.responses import SERVING, SHIELD, HttpSink, Serving, error_response, json_response
from routerpool.planning.explanation import explain
from routerpool.router import Router, Source
from routerpool.server.decisions import Decisions
from routerpool.server.front import front
from routerpool.server.life import ROUTER, Life
from routerpool.server.paths import lost
from routerpool.server.switches import save_switch
from routerpool.types import Caller, Candidate
from routerpool.wire.request import new_id

__all__ = ["CALLER", "ROUTER", "Server", "create_app", "setup"]

log = logging.getLogger("routerpool.server")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

EXPOSED_HEADERS = ", ".join(
    f"X-Router-{name}" for name in ("Provider", "Model", "Attempts", "Tried", "Profile", "Request-Id", "Ignored")
)
"""Our headers, so that a page of an allowed origin may read them."""


def create_app(config: Source | Router = None) -> web.Application:
    """An application that serves a router under the config's base path. What is wrong is one ConfigError."""
    app = web.Application()
    server = serving(config)
    server.attach(app, server.router.config.server.base_path.rstrip("/"), root=True, whole=True)
    return app


def setup(app: web.Application, config: Source | Router = None, *, prefix: str = "") -> Router:
    """Mount a router into an application under `prefix` ("" is its root) and tie its life to the application's.

    The routes are the application's own: its middlewares see them, its limits and its runner's settings hold, except
    that bodies may be as large as `limits.request_bytes` says. `/` stays the application's.
    """
    server = serving(config)
    server.mount(app, prefix)
    return server.router


def serving(source: Source | Router) -> Server:
    """The handlers of a router; those of one that is made here can be reloaded."""
    if isinstance(source, Router):
        return Server(source)
    return Server(Router.of(source), load=lambda: Router.of(source))


def cors_of(access: Access, origin: str | None) -> Mapping[str, str]:
    """The headers of every answer of ours, and those for pages of a listed origin."""
    if origin is None or (origin not in access.origins and "*" not in access.origins):
        return SHIELD
    return {
        **SHIELD,
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": EXPOSED_HEADERS,
        "Vary": "Origin",
    }


class Server(Life):
    """The handlers of a router."""

    def mount(self, app: web.Application, prefix: str) -> None:
        """Add the routes under a prefix in somebody's application; with "" its root stays its own."""
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ValueError(f"the prefix must begin with a slash and not end with one, such as /llm, not {prefix!r}")
        self.attach(app, prefix, root=bool(prefix))

    def attach(self, app: web.Application, prefix: str, *, root: bool, whole: bool = False) -> None:
        """Add the routes and the router's life to an application; `root` is ours, or the `whole` of it."""
        decisions = Decisions(self)
        routes: list[tuple[str, str, Inner, Plane]] = [
            ("GET", "/health", self.health, "open"),
            ("GET", "/v1/models", self.models, "user"),
            ("GET", "/v1/models/{model:.+}", self.model, "user"),
            ("POST", "/v1/chat/completions", self.chat, "user"),
            ("GET", "/v1/router/status", self.status, "admin"),
            ("GET", "/v1/router/models", self.candidates, "user"),
            ("POST", "/v1/router/explain", self.explain, "user"),
            ("POST", "/v1/router/decide", decisions.decide, "host"),
            ("POST", "/v1/router/report", decisions.report, "host"),
            ("GET", "/v1/router/profiles", self.profiles, "user"),
            ("GET", "/v1/router/plugins", self.plugins, "admin"),
            ("PUT", "/v1/router/plugins/{name}", self.switch, "admin"),
            ("POST", "/v1/router/reload", self.reload_route, "admin"),
        ]
        for method, path, inner, plane in routes:
            handler = self.guarded(inner, plane)
            app.router.add_route(method, prefix + path, handler, expect_handler=expect_nothing)
            if method == "GET":
                app.router.add_route("HEAD", prefix + path, handler)
        for method, path in self.generation.plugin_routes:
            handler = self.guarded(self._plugin_route(method, path), partial(self._plane, method, path))
            app.router.add_route(method, prefix + path, handler, expect_handler=expect_nothing)
            if method == "GET" and ("HEAD", path) not in self.generation.plugin_routes:
                app.router.add_route("HEAD", prefix + path, handler)
        if root:
            for path in (f"{prefix}/", prefix) if prefix else ("/",):
                app.router.add_get(path, self.guarded(self.root, "open"))
        self._prefix = prefix
        self._paths = {path for _, path, *_ in routes} | {path for _, path in self.generation.plugin_routes}
        for tail in (f"{prefix}/v1/", *(["/"] if whole else ())):  # what else lies beside us is the application's
            app.router.add_route("*", f"{tail}{{tail:.*}}", self.guarded(self.missing, "open"))
        self.live(app)

    def _plugin_route(self, method: str, path: str) -> Inner:
        async def inner(request: web.Request, caller: Caller) -> web.StreamResponse:
            route = self.generation.plugin_routes.get((method, path))
            if route is None:
                raise RequestError("not_found", "the plugin that served this path is no longer there")
            if method == "POST":  # a page to read may be read to the end
                self.open_for_requests()
            request[SERVING] = self._serving(request)
            if "Expect" in request.headers:  # it may read its body in another way than by `read_json`
                await send_continue(request)
            return await route.inner(request, caller)

        return inner

    def _plane(self, method: str, path: str) -> Plane:
        """Who may call a plugin's route now; a reload may have changed it, or taken it away."""
        route = self.generation.plugin_routes.get((method, path))
        return "admin" if route is None else route.plane

    def guarded(self, inner: Inner, plane: Plane | Callable[[], Plane]) -> Handler:
        """A handler behind the access checks, whose errors are OpenAI error objects and never tracebacks."""

        async def handler(request: web.Request) -> web.StreamResponse:
            headers = request.headers
            cors = cors_of(self.generation.access, headers.get("Origin"))
            try:
                target = request.host if "Host" in headers else None
                wanted = plane if isinstance(plane, str) else plane()
                access = self.generation.access
                caller = access.check(request.method, headers, wanted, target=target)
                if wanted == "host" and access.open:
                    access.check_near(request.remote, headers)
                response = await inner(request, caller)
            except RequestError as error:
                return await answer_unread(request, error_response(error, cors, tell=self.generation.tell))
            except web.HTTPException:
                raise
            except Exception as error:
                log.error("%s %s failed: %s", request.method, request.path, locate(error))
                return await answer_unread(request, error_response(defect(), cors))
            finally:
                end_body(request)
            if not response.prepared:
                response.headers.update(cors)
            return response

        return handler

    def _serving(self, request: web.Request) -> Serving:
        """What the sink of a request needs."""
        origin, serving = request.headers.get("Origin"), self.generation.serving
        return serving if origin is None else evolve(serving, extra=cors_of(self.generation.access, origin))

    # For those who ask models

    async def chat(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """`POST /v1/chat/completions`: an answer, plain or streamed."""
        self.open_for_requests()
        generation, request_id = self.generation, new_id()
        router = generation.router
        if (refused := router.admission.refusal()) is not None:
            refused.request_id = request_id
            await router.turn_away(refused, request_id, caller)
        sink = HttpSink(request, self._serving(request))
        try:
            body = await self.read(request, caller)
            asked = router.request(body, caller, request.headers.items(), request_id=request_id)
        except RequestError as error:
            error.request_id = request_id
            raise
        return await sink.serve(router, asked)

    async def models(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/models`: auto, profiles, aliases, then candidates."""
        return json_response({"object": "list", "data": list(self._listed().values())})

    async def model(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/models/{model}`: one of these."""
        name = request.match_info["model"]
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
            provider, owner = self.router.providers[candidate.provider], self.router.owners[candidate.provider]
            if owner.enabled and provider.idle() is None:
                entry = _model_entry(candidate.key, candidate.provider)
                if candidate.model.context is not None:
                    entry["context_window"] = candidate.model.context
                listed.setdefault(candidate.key, entry)
        return listed

    async def explain(self, request: web.Request, caller: Caller) -> web.Response:
        """`POST /v1/router/explain`: the plan for a chat body; nothing is sent anywhere."""
        body = await self.read(request, caller)
        asked = self.router.request(body, caller, request.headers.items())
        return json_response(explain(await self.router.planner.plan(asked)))

    async def profiles(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/router/profiles`: the ways to choose, by name."""
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
        """`GET /v1/router/status`: how things stand in this process; `worker` says which one it is."""
        told = await self.router.status()
        worker = self.control.worker if self.control is not None else "1 of 1"
        return json_response({"worker": worker, "generation": self.generation.number, **told})

    async def plugins(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /v1/router/plugins`: those that the configuration names."""
        return json_response({"plugins": self.router.plugins()})

    async def switch(self, request: web.Request, caller: Caller) -> web.Response:
        """`PUT /v1/router/plugins/{name}`: `{"enabled": true|false, "persist": true|false}`, for all workers."""
        name = request.match_info["name"]
        body = await self.read(request, caller, 1 << 16)
        enabled = body.get("enabled") if isinstance(body, dict) else None
        persist = body.get("persist", False) if isinstance(body, dict) else None
        if not isinstance(enabled, bool) or not isinstance(persist, bool) or not set(body) <= {"enabled", "persist"}:
            message = 'send {"enabled": true} or {"enabled": false}, and "persist": true to keep it over restarts'
            raise RequestError("invalid_request", message, param="enabled")
        if name not in self.router.hooks.instances:
            raise RequestError("not_found", f"no plugin is called {name!r}; GET /v1/router/plugins lists them")
        if self.router.hooks.instances[name].required and not enabled:
            self.generation.access.check_release(name, persist)
        if persist:
            await save_switch(self.router.store, name, enabled)
        self.switch_plugin(name, enabled)
        if self.control is not None:
            self.control.tell({"do": "switch", "name": name, "enabled": enabled})
        lasts = "over reloads and restarts" if persist else "until the next reload or restart"
        return json_response({**self.router.hooks.instances[name].describe(), "persist": persist, "lasts": lasts})

    async def reload_route(self, request: web.Request, caller: Caller) -> web.Response:
        """`POST /v1/router/reload`: read the configuration again, in every worker, or keep what is."""
        try:
            told = await self.reload()
        except RequestError:
            raise
        except RouterpoolError as error:
            problems = str(error).splitlines()
            message = "the new configuration is not taken, the old one stays: " + "; ".join(problems)
            raise RequestError("invalid_request", message, details={"problems": problems}) from None
        if self.control is not None:
            self.control.tell({"do": "reload"})
        worker = self.control.worker if self.control is not None else "1 of 1"
        return json_response({"reloaded": True, "worker": worker, **told})

    # For everybody

    async def health(self, request: web.Request, caller: Caller) -> web.Response:
        """`GET /health`: 200 while requests are taken."""
        if self.draining:
            return json_response({"status": "shutting_down"}, 503)
        return json_response({"status": "ok"})

    async def root(self, request: web.Request, caller: Caller) -> web.Response:
        """`/`: a page for people, and a line for clients that look whether somebody is there."""
        answers = self.router.overview.answering() if self.generation.access.open else None
        return front(request, self._prefix, answers, serving=not self.draining)

    async def missing(self, request: web.Request, caller: Caller) -> web.Response:
        """Every other path: 501 for what OpenAI has, else 404 with the right one, and the answer to a preflight."""
        if request.method == "OPTIONS" and cors_of(self.generation.access, request.headers.get("Origin")) is not SHIELD:
            allowed = {
                "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
                "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "*"),
                "Access-Control-Max-Age": "600",
            }
            return web.Response(status=204, headers=allowed)
        raise await lost(request, self._prefix, self._paths)


def _model_entry(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _candidate_entry(candidate: Candidate, idle: str | None) -> dict[str, Any]:
    model = converter.unstructure(evolve(candidate.model, settings={}))  # which are the plugins' own business
    told = {key: value for key, value in model.items() if key not in ("id", "settings")}
    return {"candidate": candidate.key, "provider": candidate.provider, "model": model["id"], **told, "idle": idle}
