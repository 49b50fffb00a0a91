"""LiteLLM's callback: what is sent, how it went, what it took, who answered; and the last check before the socket.

    litellm_settings:
      callbacks: ["routerpool_litellm.hooks.handler"]

Chats are planned, changed and recorded as in routerpool itself. For every call of every kind the deployment that
LiteLLM has chosen is checked once more against the privacy class of what is about to be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve

from routerpool import Assignment, RequestError, Usage
from routerpool.server import routing_headers
from routerpool.wire import read_usage
from routerpool_litellm.asked import CHATS, request_of
from routerpool_litellm.deployments import Deployment, is_own
from routerpool_litellm.errand import Errand, carry, errand_of, permitted
from routerpool_litellm.failures import failure_of
from routerpool_litellm.home import Residence, home
from routerpool_litellm.host import CustomLogger, refusing

__all__ = ["Handler", "handler"]


class Handler(CustomLogger):
    """What LiteLLM calls; `arriving` is called before each request. LiteLLM sees some hooks only in the last class."""

    def __init__(self, arriving: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._arriving = arriving

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """A request has come: remember what was asked, before LiteLLM takes it apart."""
        if self._arriving is not None:
            self._arriving()
        if call_type in CHATS:
            carry(data)

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: Any,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Of deployments with the same name, those that are planned, where the routing plugin has planned."""
        errand = errand_of(request_kwargs or {})
        chosen = errand.wanted() if errand is not None else None
        if chosen is None:
            return healthy_deployments
        return [entry for entry in healthy_deployments if is_own(entry) or _id(entry) in chosen]

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any] | None:
        """The deployment is known: what is sent there, and whether it may be sent there at all."""
        if is_own({"litellm_params": kwargs}):
            return None
        kwargs = {name: value for name, value in kwargs.items() if name != "router"}
        with refusing():
            residence = await home()
            deployment = _deployment(residence, kwargs)
            kind = getattr(call_type, "value", call_type)
            if deployment is None or kind not in CHATS:
                await _check(residence, deployment, kwargs)
                return kwargs
            assignment = await _assignment(carry(kwargs), deployment, kwargs)
            return _changed(kwargs, assignment)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: Any,
        fallback_depth: int | None = None,
    ) -> None:
        """An attempt has failed: the plugins hear of it, and the plan's next candidate is reserved."""
        errand = errand_of(request_data)
        if errand is not None and errand.given:
            await errand.failed(failure_of(exception))

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """An answer is complete, streamed or not: its usage is recorded."""
        errand = errand_of(kwargs.get("litellm_params") or {})
        if errand is not None and errand.given:
            await errand.answered(_usage(response_obj))

    async def async_post_call_failure_hook(
        self,
        request_data: Mapping[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        *more: Any,
        **told: Any,
    ) -> None:
        """LiteLLM has given up: so does the plan. Of a stream that breaks off nothing else is heard."""
        errand = errand_of(request_data)
        if errand is not None:
            if errand.given:
                await errand.failed(evolve(failure_of(original_exception), first_byte_sent=errand.stream))
            await errand.give_up()

    async def async_post_call_response_headers_hook(
        self,
        data: Mapping[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: Mapping[str, str] | None = None,
        litellm_call_info: Mapping[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """Who answers, in the headers in which routerpool always tells it."""
        errand = errand_of(data)
        return routing_headers(errand.served) if errand is not None and errand.served is not None else None


handler = Handler()


def _id(entry: Mapping[str, Any]) -> str:
    return str((entry.get("model_info") or {}).get("id"))


def _deployment(residence: Residence, kwargs: Mapping[str, Any]) -> Deployment | None:
    """The deployment that LiteLLM has chosen; None where we do not know it, or it is asked at another address."""
    deployment = residence.deployments.by_id.get(_id(kwargs))
    if deployment is None or (kwargs.get("api_base") or kwargs.get("base_url")) != deployment.api_base:
        return None
    return deployment


async def _check(residence: Residence, deployment: Deployment | None, kwargs: Mapping[str, Any]) -> None:
    """Refuse what this deployment may not see; one that nobody knows is somebody else's machine."""
    errand = errand_of(kwargs) or Errand.of(kwargs)
    group = deployment.group if deployment else str(kwargs.get("model"))
    asked = Errand.of(kwargs).asked
    request = request_of(
        residence.router,
        group,
        asked,
        kwargs.get("messages") or (),
        hints=errand.hints,
        headers=errand.headers,
        caller=errand.caller,
    )
    if deployment is not None:
        allowed = bool(await permitted(request, residence, (deployment,)))
    else:
        features = await residence.router.classify(request)
        allowed = features.privacy <= residence.router.config.privacy.remote_allows
    if not allowed:
        where = deployment.candidate.key if deployment else "a deployment that is not in LiteLLM's model_list"
        raise RequestError("privacy_blocked", f"{where} may not see a request of this privacy class")


async def _assignment(errand: Errand, deployment: Deployment, kwargs: Mapping[str, Any]) -> Assignment:
    """The attempt to make at this deployment: the plan's, or where LiteLLM chose by itself, that of a plan for it."""
    assignment = errand.assignment(deployment)
    if assignment is None:
        await errand.choose(deployment.group, kwargs.get("messages") or (), (deployment,))
        assignment = errand.assignment(deployment)
    if assignment is None:
        raise RequestError("no_candidate", f"{deployment.candidate.key} does not answer this request")
    return assignment


def _changed(kwargs: dict[str, Any], assignment: Assignment) -> dict[str, Any]:
    """The arguments with what plugins have changed, and nothing else: the rest is LiteLLM's own."""
    before, after = assignment.attempt.request, assignment.request
    if after is before:
        return kwargs
    if after.messages is not before.messages:
        kwargs["messages"] = [dict(message) for message in after.messages]
    for name in before.params.keys() - after.params.keys():
        kwargs.pop(name, None)
    return kwargs | {name: value for name, value in after.params.items() if before.params.get(name) is not value}


def _usage(response: Any) -> Usage | None:
    usage = getattr(response, "usage", None)
    dumped = getattr(usage, "model_dump", None)
    return read_usage({"usage": dumped(exclude_none=True)}) if callable(dumped) else None
