"""The server: the contract's routes, and a router's life behind them.

In: requests over a socket. Out: the engine's answers and errors as responses, in OpenAI's form.

`app` holds the routes and `life` the router behind them, with its reloads and its end; `paths` helps who has lost the
way, and `front` is the page at `/`; `switches` keeps which plugins are on; `guide` and `decisions` serve hosts that
forward requests themselves.
"""

from routerpool.http.doors import DoorSink
from routerpool.http.plugin_routes import CALLER, route
from routerpool.http.responses import HttpSink, json_response, read_json, routing_headers
from routerpool.server.app import Server, create_app, setup
from routerpool.server.guide import ASSIGNMENT, middleware
from routerpool.server.life import ROUTER

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
