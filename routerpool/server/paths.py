"""Paths that nobody serves: what a client is told, so that it finds the right one."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

from routerpool.errors import RequestError, nearest

__all__ = ["lost", "meant"]

OPENAI_PATHS = frozenset(
    [
        *("assistants", "audio", "batches", "completions", "containers", "conversations", "embeddings", "evals"),
        *("files", "fine_tuning", "images", "messages", "moderations", "organization", "realtime", "responses"),
        *("threads", "uploads", "vector_stores", "videos"),
    ]
)
"""First words of the OpenAI and Anthropic paths that no plugin serves yet: 501, so that a client is told the truth."""

NOT_AGAIN = {"x-should-retry": "false"}
"""OpenAI's and Anthropic's own clients ask again after a 501, unless they are told that it does not help."""

MOST_PARTS = 16
"""The most parts of a path for which a right one is sought."""

SHOWN = 200
"""The most characters of a path in an error."""


async def lost(request: web.Request, prefix: str, known: Collection[str]) -> RequestError:
    """The error of a request that no route takes; `known` are our own paths, which stand under `prefix`."""
    asked = request.path
    if methods := await _methods_of(request):
        words = f"{asked[:SHOWN]} takes {' and '.join(methods)}, not {request.method}"
        return RequestError("method_not_allowed", words, headers={"Allow": ", ".join(methods)})
    path = asked.removeprefix(prefix)
    right = meant(path, known)
    if right is not None and prefix + right != asked:
        cure = f"it is {prefix}{right}; a client's base URL ends in {prefix}/v1"
        words = f"there is no {request.method} {asked[:SHOWN]}: {cure}"
        return RequestError("not_found", words, details={"path": prefix + right})
    first, _, rest = path.lstrip("/").partition("/")
    if first == "v1" and rest.partition("/")[0] in OPENAI_PATHS:
        words = (
            f"no plugin that is on serves {asked[:SHOWN]}; `routerpool plugins` says what the installed ones are for"
        )
        return RequestError("not_implemented", words, headers=NOT_AGAIN)
    return RequestError("not_found", f"there is no {request.method} {asked[:SHOWN]}{nearest(path, known)}")


def meant(path: str, known: Collection[str]) -> str | None:
    """The path of ours that one ends in: `/v1` is missing or there twice, or something else stands before it."""
    parts = [part for part in path.split("/") if part]
    if len(parts) > MOST_PARTS:
        return None
    for start in range(len(parts)):
        rest = "/".join(parts[start:])
        for right in (f"/{rest}", f"/v1/{rest}"):
            if right in known:
                return right
    return None


async def _methods_of(request: web.Request) -> list[str]:
    """The methods that this path has, where it has any."""
    found: set[str] = set()
    for resource in request.app.router.resources():
        _, allowed = await resource.resolve(request)
        found |= allowed
    return sorted(found - {"*"})
