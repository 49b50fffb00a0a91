"""The limit of our framework: the least that an aiohttp proxy of chat completions has to do, and nothing else.

    python contrib/benchmarks/bare.py --port 9001 --upstream http://127.0.0.1:9000/v1

It parses the JSON, rewrites the model, forwards over one shared session, reads the usage, and passes a stream on as it
comes. No routing, no fallback, no limits, no checks. With `--pass-through` not even the JSON is parsed. Everything
that makes aiohttp fast without taking anything away is used here as it is in routerpool: uvloop, orjson, no access log,
no total timeout, a frozen heap.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from collections.abc import AsyncIterator

import aiohttp
import orjson
import uvloop
from aiohttp import web

UPSTREAM: web.AppKey[str] = web.AppKey("upstream", str)
SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session", aiohttp.ClientSession)
USED: web.AppKey[dict[str, int]] = web.AppKey("used", dict[str, int])

HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
EVENTS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


async def chat(request: web.Request) -> web.StreamResponse:
    """Parse, rewrite the model, forward, read the usage."""
    app = request.app
    body = orjson.loads(await request.read())
    body["model"] = "bench"
    async with app[SESSION].post(app[UPSTREAM], data=orjson.dumps(body), headers=HEADERS) as answer:
        if body.get("stream"):
            return await relay(request, answer)
        data = await answer.read()
        app[USED]["tokens"] += orjson.loads(data)["usage"]["total_tokens"]
        return web.Response(status=answer.status, body=data, content_type="application/json")


async def relay(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Pass a stream on in the pieces in which it comes; the usage stands in the last ones."""
    response = web.StreamResponse(status=answer.status, headers=EVENTS)
    await response.prepare(request)
    last = b""
    async for data in answer.content.iter_any():
        last = data
        await response.write(data)
    await response.write_eof()
    for event in last.split(b"\n\n"):
        if b'"total_tokens"' in event:
            request.app[USED]["tokens"] += orjson.loads(event[event.find(b"{") :])["usage"]["total_tokens"]
    return response


async def pass_through(request: web.Request) -> web.StreamResponse:
    """Bytes in, bytes out."""
    app = request.app
    async with app[SESSION].post(app[UPSTREAM], data=await request.read(), headers=HEADERS) as answer:
        data = await answer.read()
        return web.Response(status=answer.status, body=data, content_type="application/json")


async def session(app: web.Application) -> AsyncIterator[None]:
    """The one client session, and what a long-lived server does with the heap of its start."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as opened:
        app[SESSION] = opened
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000)
        yield


def main() -> None:
    """Serve on the port of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="address of the provider, up to and with /v1")
    parser.add_argument("--pass-through", action="store_true", help="forward plain bodies without parsing them")
    options = parser.parse_args()
    app = web.Application(client_max_size=64 << 20)
    app[UPSTREAM], app[USED] = f"{options.upstream}/chat/completions", {"tokens": 0}
    app.router.add_post("/v1/chat/completions", pass_through if options.pass_through else chat)
    app.cleanup_ctx.append(session)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    web.run_app(app, host="127.0.0.1", port=options.port, access_log=None, print=None, backlog=1024, loop=loop)


if __name__ == "__main__":
    main()
