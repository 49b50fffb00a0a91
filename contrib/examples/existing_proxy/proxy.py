"""A small reverse proxy in front of one LLM provider, as it may have stood somewhere for years."""

import os
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

URL = os.environ.get("UPSTREAM_URL", "https://api.openai.com/v1/chat/completions")
HEADERS = {"Authorization": f"Bearer {os.environ.get('UPSTREAM_KEY', '')}"}
CLIENT = web.AppKey("client", aiohttp.ClientSession)


async def chat(request: web.Request) -> web.StreamResponse:
    """Forward a chat completion, and pass on what comes back as it comes."""
    url, headers, body = URL, HEADERS, await request.json()
    client = request.app[CLIENT]
    async with client.post(url, headers=headers, json=body, allow_redirects=False) as upstream:
        response = web.StreamResponse(status=upstream.status, headers={"Content-Type": upstream.content_type})
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def client(app: web.Application) -> AsyncIterator[None]:
    """One HTTP client for all requests."""
    async with aiohttp.ClientSession() as session:
        app[CLIENT] = session
        yield


app = web.Application(client_max_size=32 << 20)
app.cleanup_ctx.append(client)
app.router.add_post("/v1/chat/completions", chat)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
