"""`/`: a small page for people who open the server in a browser, and a line of text for everybody else.

There is no script on it, and nothing is loaded. Who can answer is told to those whom nobody asks for a key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from aiohttp import web

from routerpool.http.responses import SHIELD
from routerpool.version import __version__

__all__ = ["front"]

STYLE = """
:root{color-scheme:light dark;--bg:#f6f8fa;--text:#151a20;--muted:#515761;--line:#e2e4e7;--accent:#007470}
@media(prefers-color-scheme:dark){:root{--bg:#0b0d11;--text:#ebedf0;--muted:#a4aab2;--line:#23272d;--accent:#57d9cc}}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.5 system-ui,sans-serif}
main{max-width:40rem;margin:0 auto;padding:3rem 1.25rem}
h1{font-size:1.25rem;margin:0 0 1.5rem}h2{font-size:1rem;margin:2rem 0 .5rem}
small,p.off{color:var(--muted)}a{color:var(--accent)}
ul{margin:0;padding:0;list-style:none}
li,pre{border-top:1px solid var(--line);padding:.5rem 0;margin:0}
pre{overflow-x:auto;border-bottom:1px solid var(--line)}
"""

_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
GUARD = {
    **SHIELD,
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

LINE = "routerpool is here; point your client's base URL at this address with /v1 behind it\n"


def front(
    request: web.Request, prefix: str, answers: Sequence[tuple[str, int, bool]] | None, *, serving: bool = True
) -> web.Response:
    """The page, where one is asked for. `answers` are the providers (name, models, local), None: it is not told."""
    if "text/html" not in request.headers.get("Accept", ""):
        return web.Response(text=LINE, headers=SHIELD)
    address = escape(f"{request.scheme}://{request.host}{prefix}/v1")
    if answers is None:
        who = "<p class=off>This server wants a key: its models are listed to those who send one.</p>"
    elif not answers:
        who = "<p class=off>Nobody yet. <code>routerpool doctor</code> says what is missing.</p>"
    else:
        items = [
            f"<li>{escape(name)} <small>{count} model{'s' * (count != 1)}{', on this machine' * local}</small></li>"
            for name, count, local in answers
        ]
        who = f"<ul>{''.join(items)}</ul>"
    state = "It runs." if serving else "It is shutting down."
    body = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>routerpool</title><style>{STYLE}</style><main><h1>routerpool <small>{__version__}</small></h1>"
        f"<p>{state} Paste this base URL into a client of OpenAI's API:</p><pre>{address}</pre>"
        f"<h2>Who can answer</h2>{who}<h2>More</h2><ul>"
        f"<li><a href='{escape(prefix)}/health'>health</a></li><li><a href='{escape(prefix)}/v1/models'>models</a></li>"
        f"<li><code>routerpool --help</code> <small>and the folder contrib/docs say the rest</small></li></ul></main>"
    )
    return web.Response(text=body, content_type="text/html", charset="utf-8", headers=GUARD)
