"""Google's Gemini at its OpenAI-compatible address. What is known of it stands in `google.yaml`, dated and sourced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import evolve

from routerpool import Failure, FailureKind, Model, OpenAIProvider
from routerpool_google.tool_schema import Narrowing

__all__ = ["Google"]

WANTS_SIGNATURES = re.compile(r"gemini-(?:[3-9]|\d\d)")
NOBODYS_SIGNATURE = "skip_thought_signature_validator"
"""What Google's page on thought signatures has a history send that Gemini did not write itself."""

NO_INSTRUCTIONS = "gemma-3"
QUOTA_OF = re.compile(rb'"quotaDimensions"\s*:\s*\{[^{}]*"model"\s*:\s*"([^"]{1,100})"')
BODY_BYTES = 32 << 10


class Google(OpenAIProvider):
    """Google's Gemini. Its quotas hold for a project, whichever of its keys is used, and for each model by itself."""

    data: ClassVar[str | None] = "google.yaml"

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """Tools in the part of JSON Schema that Gemini reads, calls with a signature, no instructions for Gemma 3."""
        if isinstance(body.get("tools"), list):
            body["tools"] = [narrowed(tool) for tool in body["tools"]]
        if WANTS_SIGNATURES.match(model.id):
            body["messages"] = [signed(message) for message in body["messages"]]
        elif model.id.startswith(NO_INSTRUCTIONS):
            body["messages"] = [told_by_user(message) for message in body["messages"]]
        return body

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer that is none means; a quota that is spent belongs to the model that the answer names."""
        failure = super().failure(status, headers, body)
        if failure.kind not in (FailureKind.RATE_LIMITED, FailureKind.QUOTA_EXHAUSTED):
            return failure
        named = QUOTA_OF.search(body[:BODY_BYTES])
        model_id = named[1].decode("utf-8", "replace") if named else ""
        spent = next((name for name, pool in self.pools().items() if pool.holds(model_id)), None)
        return failure if spent is None else evolve(failure, pool=spent)


def narrowed(tool: Any) -> Any:
    """A tool whose parameters use no keyword that Gemini does not know."""
    function: Any = tool.get("function") if isinstance(tool, dict) else None
    parameters: Any = function.get("parameters") if isinstance(function, dict) else None
    if not isinstance(parameters, dict):
        return tool
    return {**tool, "function": {**function, "parameters": Narrowing(parameters).whole()}}


def signed(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message whose tool calls, of which only the first has one, carry a thought signature: their own, if it came.

    A conversation that another model has begun has none, and Gemini 3 refuses it without.
    """
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls or not isinstance(calls[0], dict) or _signature_of(calls[0]):
        return message
    extra: Any = calls[0].get("extra_content")
    google = {"google": {"thought_signature": NOBODYS_SIGNATURE}}
    first = {**calls[0], "extra_content": extra | google if isinstance(extra, dict) else google}
    return {**message, "tool_calls": [first, *calls[1:]]}


def _signature_of(call: Mapping[str, Any]) -> Any:
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    return google.get("thought_signature") if isinstance(google, dict) else None


def told_by_user(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """An instruction as a user's message: Gemma 3 refuses those of a system or a developer."""
    return {**message, "role": "user"} if message["role"] in ("system", "developer") else message
