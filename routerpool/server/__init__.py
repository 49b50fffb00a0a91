"""HTTP: who may call, the routes, and a router's life behind them.

In: requests over a socket. Out: the engine's answers and errors as responses, in OpenAI's form.

`access` says who may call, `app` holds the routes and `life` the router behind them, with its reloads and its end;
`bodies` says which bodies are read and how far, `responses` reads them and writes answers, `doors` in other dialects;
`heartbeats` shows those who wait for a stream that it is still to come; `plugin_routes` and `switches` are about
plugins, `guide` and `decisions` serve hosts that forward requests themselves.
"""

from routerpool.server.app import Server, create_app, setup
from routerpool.server.doors import DoorSink
from routerpool.server.guide import ASSIGNMENT, middleware
from routerpool.server.life import ROUTER
from routerpool.server.plugin_routes import CALLER, route
from routerpool.server.responses import HttpSink, json_response, read_json, routing_headers

__all__ = [
    "ASSIGNMENT",
    "CALLER",
    "ROUTER",
    "DoorSink",
    "HttpSink",
    "Server",
    "create_app",
    "json_response",
    "middleware",
    "read_json",
    "route",
    "routing_headers",
    "setup",
]
