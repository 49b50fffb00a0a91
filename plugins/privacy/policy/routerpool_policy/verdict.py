"""What is found in a request or a text by all scanners that are on, and what follows for who may see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from routerpool import CALLER, ChatRequest, Finding, PluginError, RequestError, TextScanner, read_json
from routerpool.hooks import locate
from routerpool.server import json_response

if TYPE_CHECKING:
    from routerpool import Router
    from routerpool_policy import Policy

__all__ = ["answer_check", "found_in", "shown"]

ONLY_TEXT = frozenset({"text", "router", "model"})
"""The fields of a body that asks about a text instead of a chat."""


async def answer_check(router: Router, policy: Policy, request: web.Request) -> web.Response:
    """The answer to `POST /v1/router/policy/check`."""
    body = _as_chat(await read_json(request, router.config.limits.request_bytes))
    asked = router.request(body, request[CALLER], request.headers.items())
    return json_response(await _verdict(router, policy, asked))


def _as_chat(body: Any) -> Any:
    """A chat body of `{"text": …}`; anything else is taken to be one."""
    if not isinstance(body, dict) or "text" not in body or "messages" in body:
        return body
    if not isinstance(body["text"], str):
        raise RequestError("invalid_request", "`text` must be a text", param="text")
    other = sorted(body.keys() - ONLY_TEXT)
    if other:
        raise RequestError("invalid_request", f"`{other[0]}` does not go with `text`", param=other[0])
    rest = {key: value for key, value in body.items() if key != "text"}
    return {**rest, "messages": [{"role": "user", "content": body["text"]}]}


async def _verdict(router: Router, policy: Policy, request: ChatRequest) -> dict[str, Any]:
    """The class, the findings, and every candidate that may see the request or must not, with the reason."""
    try:
        features = await router.classify(request)
    except RequestError as error:
        if error.code != "privacy_blocked":
            raise
        told = {"privacy": None, "blocked": True, "reason": error.message}
        return {**told, "findings": error.details.get("findings", []), "may_see": [], "must_not": []}
    objections = {c.key: policy.objection(c, features.privacy) for c in router.catalog.snapshot.candidates}
    return {
        "privacy": features.privacy.name.lower(),
        "blocked": False,
        "findings": [shown(finding) for finding in features.findings],
        "may_see": [key for key, reason in objections.items() if reason is None],
        "must_not": [{"candidate": key, "reason": reason} for key, reason in objections.items() if reason is not None],
    }


async def found_in(router: Router, text: str) -> list[Finding]:
    """All findings of a text, whatever the scanners would do about them; one that fails is a RouterpoolError.

    Scanners of the common form are asked for the text itself; the others see it as a message would show it to them.
    """
    found: list[Finding] = []
    for instance in router.hooks.instances.values():
        if instance.enabled and isinstance(instance.plugin, TextScanner):
            try:
                found += instance.plugin.scan(text)
            except Exception as error:
                raise PluginError(f"the scanner {instance.name!r} failed: {locate(error)}") from error
    message = {"role": "user", "content": text}
    try:
        features = await router.classify(router.request({"messages": [message]}))
    except RequestError as error:
        if error.code != "privacy_blocked":
            raise
        return found
    known = {(finding.rule, finding.line, finding.column) for finding in found}
    found += [f for f in features.findings if (f.rule, f.line, f.column) not in known]
    if not found and features.privacy > router.config.privacy.default:
        found.append(Finding(rule=features.privacy.name.lower(), part="text", redacted="a plugin raised its class"))
    return sorted(found, key=lambda finding: (finding.line, finding.column))


def shown(finding: Finding) -> Mapping[str, Any]:
    """A finding as plain JSON values."""
    return {
        "rule": finding.rule,
        "part": finding.part,
        "redacted": finding.redacted,
        "line": finding.line,
        "column": finding.column,
    }
