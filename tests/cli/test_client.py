"""What a command says of every kind of answer from the address that `--url` names."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from routerpool.cli.client import ClientError, Connection

from ..support.replies import ANYTHING, replies

BASE = "http://127.0.0.1:4545"
STRANGER = f"{BASE} answered {{}} and is no routerpool; check --url and --base-path"


def error(code: str, message: str = "No.") -> dict[str, Any]:
    return {"payload": {"error": {"code": code, "message": message}}}


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "a page": ({"body": "<h1>It works!"}, STRANGER.format(200)),
    "nothing": ({"body": ""}, STRANGER.format(200)),
    "null": ({"body": "null"}, STRANGER.format(200)),
    "a redirect": ({"status": 302, "headers": {"location": "/login"}}, STRANGER.format(302)),
    "another's 404": ({"status": 404, "body": "404 page not found"}, STRANGER.format(404)),
    "another's JSON": ({"status": 500, "payload": {"error": "Oops."}}, STRANGER.format(500)),
    "a list": ({"status": 400, "payload": [1]}, STRANGER.format(400)),
    "an error of ours": ({"status": 404, **error("model_not_found")}, "model_not_found: No."),
    "an error without a code": ({"status": 404, "payload": {"error": {"message": "No."}}}, "error: No."),
    "a missing key": (
        {"status": 401, **error("missing_api_key")},
        "missing_api_key: No.; put one into ROUTERPOOL_API_KEY",
    ),
    "the wrong plane": ({"status": 403, **error("admin_only")}, "admin_only: No.; put one into ROUTERPOOL_API_KEY"),
    "escapes for a terminal": ({"status": 400, **error("x", "\x1b[2Jgone")}, "x: [2Jgone"),
    "no answer": ({"exception": TimeoutError()}, f"no server answers at {BASE}; start one with `routerpool serve`"),
    "an end": ({"exception": aiohttp.ServerDisconnectedError()}, f"{BASE} broke off: ServerDisconnectedError"),
    "half a body": ({"exception": aiohttp.ClientPayloadError()}, f"{BASE} broke off: ClientPayloadError"),
    "no address": ({"exception": aiohttp.InvalidURL(BASE)}, f"{BASE} is no address; write it as"),
}


def got(**reply: Any) -> Any:
    """What a command gets where its GET is answered by this; the request carries its key and follows no redirect."""

    async def whole() -> Any:
        async with aiohttp.ClientSession() as session:
            with replies() as said:
                said.get(ANYTHING, **reply)
                try:
                    return await Connection(session, BASE, {"Authorization": "Bearer k"}).get("/v1/models")
                finally:
                    [(request,)] = said.requests.values()
                    assert request.kwargs["headers"] == {"Authorization": "Bearer k"}
                    assert request.kwargs["allow_redirects"] is False

    return asyncio.run(whole())


@pytest.mark.parametrize("document", [{"data": []}, [], {"error": None}, 0, "text"])
def test_a_document_arrives_as_it_is(document: Any) -> None:
    assert got(payload=document) == document


@pytest.mark.parametrize("label", REFUSALS)
def test_what_is_no_document_is_told_with_the_cure(label: str) -> None:
    reply, text = REFUSALS[label]
    with pytest.raises(ClientError) as caught:
        got(**reply)
    assert str(caught.value).startswith(text)
