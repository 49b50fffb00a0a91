"""Somebody's program with routerpool in it: mounted under /llm, guiding a handler, or only deciding in the process.

    python contrib/benchmarks/host.py --port 9001 --config bench.yaml mounted|guided
    python contrib/benchmarks/host.py --config bench.yaml deciding --seconds 2

The last one prints microseconds of CPU for each `Router.plan` with its `Router.report`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import AsyncIterator

import aiohttp
import orjson
import uvloop
from aiohttp import web
from load import request_bytes

import routerpool

SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session", aiohttp.ClientSession)


async def chat(request: web.Request) -> web.StreamResponse:
    """Forward what the router hands over."""
    url, headers, body = request["routerpool"].outgoing
    async with request.app[SESSION].post(url, data=orjson.dumps(body), headers=headers) as answer:
        if not body.get("stream"):
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def session(app: web.Application) -> AsyncIterator[None]:
    """The one client session, and what a long-lived server does with the heap of its start."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as opened:
        app[SESSION] = opened
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000)
        yield


async def deciding(config: str, seconds: float) -> float:
    """CPU of a plan and its report, in microseconds, as often as it goes in these seconds."""
    body = orjson.loads(request_bytes(2000, host="").partition(b"\r\n\r\n")[2])
    used = routerpool.Usage(input_uncached=500, output=20)
    async with routerpool.Router.of(config) as router:
        for count in (200, 0):  # the first ones warm up
            done, began, before = 0, time.perf_counter(), time.process_time()
            while done < count or (not count and time.perf_counter() - began < seconds):
                await router.report(await router.hand_over(body), used)
                done += 1
        return (time.process_time() - before) / done * 1e6


def main() -> None:
    """Serve on the port of the command line, or decide for a while."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--config", required=True, help="the configuration of routerpool")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("mode", choices=("mounted", "guided", "deciding"))
    options = parser.parse_args()
    if options.mode == "deciding":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(runner.run(deciding(options.config, options.seconds)))
        return
    app = web.Application(client_max_size=64 << 20)
    if options.mode == "mounted":
        routerpool.setup(app, options.config, prefix="/llm")
    else:
        app.middlewares.append(routerpool.middleware(app, options.config))
        app.router.add_post("/v1/chat/completions", chat)
    app.cleanup_ctx.append(session)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    web.run_app(app, host="127.0.0.1", port=options.port, access_log=None, print=None, backlog=1024, loop=loop)


if __name__ == "__main__":
    main()
