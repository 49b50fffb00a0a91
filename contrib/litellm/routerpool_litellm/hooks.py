"""LiteLLM's callback: what is sent, how it went, what it took, who answered; and the last check before the socket.

    litellm_settings:
      callbacks: ["routerpool_litellm.hooks.handler"]

Chats are planned, changed and recorded as in routerpool itself. Whom to ask is the plan's to say where the routing
plugin stands beside it, else LiteLLM's. Every other call is left those deployments that may see it, as far as LiteLLM
shows it before it chooses. And for every call of every kind the deployment that LiteLLM has chosen is checked once more
against the privacy class of what is about to be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import evolve

from routerpool import Assignment, ChatRequest, RequestError, Usage
from routerpool.server import routing_headers
from routerpool.wire import read_usage
from routerpool_litellm.asked import CHATS, request_of
from routerpool_litellm.deployments import Deployment, id_of, is_own
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
        """Whom LiteLLM may choose from; where nobody may be asked that is an error, and never all of them.

        It is asked before each attempt, with what LiteLLM offers then of the group that it has come to.
        """
        kwargs = request_kwargs or {}
        errand = errand_of(kwargs)
        if errand is not None and not errand.routed:
            return healthy_deployments
        with refusing():
            residence = await home()
            offered = residence.deployments.among(healthy_deployments)
            if not offered:  # this very router as a provider, or nothing that we know: there the last check must do
                return healthy_deployments
            if errand is not None:
                kept: Iterable[Deployment] = await errand.choose(model, messages or (), offered)
            else:
                kept = await permitted(_request(residence, model, messages, kwargs), residence, offered)
        ids = {deployment.id for deployment in kept}
        return [entry for entry in healthy_deployments if id_of(entry) in ids]

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any] | None:
        """The deployment is known: what is sent there, and whether it may be sent there at all."""
        if is_own({"litellm_params": kwargs}):
            return None
        kwargs = dict(kwargs)
        with refusing():
            residence = await home()
            deployment = _deployment(residence, kwargs)
            kind = getattr(call_type, "value", call_type)
            if deployment is None or kind not in CHATS:
                await _check(residence, deployment, kwargs)
            else:
                kwargs = _changed(kwargs, await _assignment(carry(kwargs), deployment, kwargs))
        kwargs.pop("router", None)
        return kwargs

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


def _deployment(residence: Residence, kwargs: Mapping[str, Any]) -> Deployment | None:
    """The deployment that LiteLLM has chosen; None where we do not know it, or it is asked at another address."""
    deployment = residence.deployments.by_id.get(id_of(kwargs))
    if deployment is None or (kwargs.get("api_base") or kwargs.get("base_url")) != deployment.api_base:
        return None
    return deployment


def _request(residence: Residence, group: str, messages: Any, kwargs: Mapping[str, Any]) -> ChatRequest:
    """A call of LiteLLM's as it stands now, whatever was asked when it came."""
    now = Errand.of(kwargs)
    told = errand_of(kwargs) or now
    return request_of(
        residence.router,
        group,
        now.asked,
        messages or (),
        hints=told.hints,
        headers=told.headers,
        caller=told.caller,
    )


async def _check(residence: Residence, deployment: Deployment | None, kwargs: Mapping[str, Any]) -> None:
    """Refuse what this deployment may not see; one that nobody knows is somebody else's machine."""
    group = deployment.group if deployment else str(kwargs.get("model"))
    request = _request(residence, group, kwargs.get("messages"), kwargs)
    if deployment is not None:
        await permitted(request, residence, (deployment,))
        return
    features = await residence.router.classify(request)
    if features.privacy > residence.router.config.privacy.remote_allows:
        where = "a deployment that is not in LiteLLM's model_list"
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
