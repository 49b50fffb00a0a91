"""LiteLLM's guardrail for the privacy classes: every call of every kind is scanned before anything else is done.

    guardrails:
      - guardrail_name: routerpool
        litellm_params:
          guardrail: routerpool_litellm.guard.PrivacyGuard
          mode: pre_call
          default_on: true
          when_private: route           # or block (the default), redact
          local_model: home             # where `route` leads: a model group of yours that is local

The scanners are those of `routerpool.yaml`, and what they redact is redacted here. `when_private` is for requests of a
class that remote providers may not see. LiteLLM starts without a guardrail whose section it cannot read, and says so
only in its log; one whose options are ours and wrong refuses all that comes to it. Placeholders are not restored in
answers here; `routerpool_litellm.llm` does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from attrs import evolve

from routerpool import Attempt, Candidate, ChatRequest, Features, Model, RequestError, Router, TextScanner
from routerpool_litellm.asked import asked_of, caller_of, headers_of, request_of
from routerpool_litellm.home import home
from routerpool_litellm.host import CustomGuardrail, refusing

__all__ = ["PrivacyGuard"]

log = logging.getLogger("routerpool.litellm")

ACTIONS = ("block", "redact", "route")


class PrivacyGuard(CustomGuardrail):
    """What LiteLLM makes of the `guardrails:` section; `when_private` and `local_model` are ours."""

    def __init__(self, when_private: Any = "block", local_model: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.action = when_private
        self.local_model = local_model
        self.wrong = _wrong(when_private, local_model)
        if self.wrong:
            log.error("the guardrail %s refuses all requests: %s", self.guardrail_name, self.wrong)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any] | None:
        """Scan what has been asked; the changed data, None where nothing is to be done."""
        with refusing():
            if self.wrong:
                raise RequestError("plugin_required", "the guardrail's options are wrong; LiteLLM's log says how")
            router = (await home()).router
            request = request_of(
                router,
                str(data.get("model") or ""),
                asked_of(data),
                data.get("messages") or (),
                stream=bool(data.get("stream")),
                hints=data.get("router"),
                headers=headers_of(data),
                caller=caller_of(data),
            )
            features = await router.classify(request)
            too_private = features.privacy > router.config.privacy.remote_allows
            if too_private and self.action == "route":
                return {**data, "model": self.local_model}
            changed = await _redacted(router, request, features, all_of_it=too_private and self.action == "redact")
            if too_private and (changed is request or await _still_private(router, changed)):
                raise RequestError("privacy_blocked", "no provider outside may see a request of this privacy class")
            return None if changed is request else _put_back(data, request, changed)


def _wrong(action: Any, local_model: str | None) -> str | None:
    if action not in ACTIONS:
        return f"`when_private` must be one of {', '.join(ACTIONS)}"
    if action == "route" and not local_model:
        return "`when_private: route` needs `local_model`, the name of a model group that is local"
    return None


async def _redacted(router: Router, request: ChatRequest, features: Features, *, all_of_it: bool) -> ChatRequest:
    """The request without what the scanners take out: what they were told to, or all that they find."""
    original = evolve(request, messages=(), params={}) if all_of_it else request
    somewhere = Candidate(provider="litellm", model=Model(id=request.model))
    told = evolve(features, privacy=router.config.privacy.remote_allows) if all_of_it else features
    attempt = Attempt(request=original, features=told, candidate=somewhere, number=1, started=perf_counter())
    for impl in router.hooks.impls["mutate"]:
        if isinstance(impl.instance.plugin, TextScanner):
            request = await router.hooks.run(impl, request, attempt) or request
    return request


async def _still_private(router: Router, request: ChatRequest) -> bool:
    return (await router.classify(request)).privacy > router.config.privacy.remote_allows


def _put_back(data: Mapping[str, Any], before: ChatRequest, after: ChatRequest) -> dict[str, Any]:
    """LiteLLM's data with what has changed."""
    changed = dict(data)
    if after.messages is not before.messages:
        changed["messages"] = list(after.messages)
    if after.params.get("metadata") is not before.params.get("metadata"):
        raise RequestError("privacy_blocked", "`metadata` holds what must be redacted, and LiteLLM keeps copies of it")
    return changed | {name: value for name, value in after.params.items() if before.params.get(name) is not value}
