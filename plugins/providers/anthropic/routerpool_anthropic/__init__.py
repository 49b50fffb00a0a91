"""Anthropic's models over their own Messages API. What is known of them stands in `anthropic.yaml`.

    plugins:
      anthropic: {}                                                     # ANTHROPIC_API_KEY
      gateway: {use: anthropic, base_url: "http://127.0.0.1:9000/v1", api_key_env: GATEWAY_KEY}

Requests come in OpenAI's form and are translated there and back (`question`, `turns`, `answer`). Betas are switched on
by a header: `headers: {anthropic-beta: "…"}`. How a model wants to be asked is told by `settings: {anthropic: {…}}` of
a listed model (see `Ways`); the roster knows it of its own, and the API's list of models tells it of the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import aiohttp
from attrs import evolve

from routerpool import Attempt, ChatRequest, Failure, Model, OpenAIProvider
from routerpool.protocols import Reply
from routerpool.providers import ReadReply, entries_of
from routerpool.wire import dumps, loads
from routerpool_anthropic.answer import translated
from routerpool_anthropic.question import Untranslatable, Ways, question

__all__ = ["Anthropic", "Ways"]

JSON = {"Content-Type": "application/json"}
DATED = re.compile(r"-20\d{6}\Z")


class Anthropic(OpenAIProvider):
    """Anthropic's API. Its limits are those of an organisation, per minute and per class of models."""

    data: ClassVar[str | None] = "anthropic.yaml"
    path = "messages"

    # The wire

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """The Messages request that asks the same."""
        return question(body, self._informed(model))

    async def send(self, attempt: Attempt, request: ChatRequest, session: aiohttp.ClientSession) -> Reply:
        """POST to `/messages`; the answer comes as a chat completion, whole or streamed."""
        try:
            upstream = await super().send(attempt, request, session)
        except Untranslatable as error:
            words = {"type": "untranslatable", "message": f"the Messages API cannot carry {error}"}
            return ReadReply(400, JSON, dumps({"error": words}))
        return translated(upstream)

    def _informed(self, model: Model) -> Model:
        """A model with what the roster knows of it under its name without a date."""
        known = self.model(DATED.sub("", model.id))
        return evolve(model, settings=model.settings or known.settings, max_output=model.max_output or known.max_output)

    def key_headers(self, key: str) -> Mapping[str, str]:
        """It has a header of its own for keys."""
        return {"x-api-key": key}

    # Errors

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What Anthropic's error means. What is the client's own fault it reads in OpenAI's form."""
        failure = super().failure(status, headers, body)
        error = _error_of(body) if failure.answer is not None else None
        if failure.answer is None or error is None:
            return failure
        words = {"message": error.get("message"), "type": error.get("type"), "param": None, "code": error.get("type")}
        answer = evolve(failure.answer, content_type="application/json", body=dumps({"error": words}))
        return evolve(failure, answer=answer)

    # Models

    def parse_models(self, payload: Any) -> list[Model]:
        """The models of Anthropic's list, which tells what each can do; one with a date is known without it too."""
        found: dict[str, Model] = {}
        for entry in entries_of(payload, "data"):
            if entry.get("lifecycle") != "retired":
                plain = DATED.sub("", entry["id"])
                name = plain if self.knows(plain) else entry["id"]
                found.setdefault(name, _with_facts(self.model(name), entry))
        return list(found.values())


def _error_of(body: bytes) -> dict[str, Any] | None:
    try:
        told = loads(body)
    except ValueError:
        return None
    error = told.get("error") if isinstance(told, dict) else None
    return error if isinstance(error, dict) else None


def _with_facts(model: Model, entry: Mapping[str, Any]) -> Model:
    """A model with what the list tells of it, where the roster or the user has not said so."""
    told = entry.get("capabilities")
    told = told if isinstance(told, dict) else {}
    claims = {"vision": "image_input", "files": "pdf_input", "json_schema": "structured_outputs"}
    known = {ours: _can(told, theirs) for ours, theirs in {**claims, "reasoning": "thinking"}.items() if theirs in told}
    window, most, title = entry.get("max_input_tokens"), entry.get("max_tokens"), entry.get("display_name")
    return evolve(
        model,
        display_name=model.display_name or (title if isinstance(title, str) else None),
        context=model.context or (window if type(window) is int and window > 0 else None),
        max_output=model.max_output or (most if type(most) is int and most > 0 else None),
        capabilities={**known, **model.capabilities},
        settings=model.settings or ({"anthropic": _ways(told)} if "thinking" in told else {}),
    )


def _ways(told: Mapping[str, Any]) -> dict[str, Any]:
    """How to ask a model for thinking; one that cannot be told to stop, and one that takes a budget only, say so."""
    thinking = told["thinking"] if isinstance(told["thinking"], dict) else {}
    types = thinking.get("types")
    types = types if isinstance(types, dict) else {}
    adaptive = _can(types, "adaptive")
    always = adaptive and "disabled" in types and not _can(types, "disabled")
    effort = told.get("effort")
    xhigh = isinstance(effort, dict) and _can(effort, "xhigh")
    return {"thinking": "always" if always else "adaptive" if adaptive else "budget", "xhigh": xhigh}


def _can(told: Mapping[str, Any], name: str) -> bool:
    value = told.get(name)
    return isinstance(value, dict) and value.get("supported") is True
