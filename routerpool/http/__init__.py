"""HTTP without routes: who may call, bodies on their way in, answers on their way out.

In: a request of aiohttp's. Out: a caller, a parsed body, and the engine's answers and errors in OpenAI's form.

`access` says who may call; `bodies` says which bodies are read and how far; `responses` reads them and writes answers,
`doors` in other dialects; `heartbeats` shows those who wait for a stream that it is still to come; `plugin_routes` is
about the routes that plugins bring.
"""

from routerpool.http.doors import DoorSink
from routerpool.http.plugin_routes import CALLER, route
from routerpool.http.responses import HttpSink, json_response, read_json, routing_headers

__all__ = ["CALLER", "DoorSink", "HttpSink", "json_response", "read_json", "route", "routing_headers"]
