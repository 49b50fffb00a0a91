"""A strategy of LiteLLM's that chooses the deployment itself, instead of narrowing what LiteLLM chooses from.

    litellm_settings: {callbacks: ["routerpool_litellm.takeover.handler"]}

It stands in the place of `hooks.handler` and `routing.plugin`. LiteLLM still says which deployments are healthy, may be
used by this key and this team, and fit in a budget; of those, our plan says who is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routerpool import RequestError
from routerpool_litellm.deployments import is_own
from routerpool_litellm.errand import carry
from routerpool_litellm.home import home
from routerpool_litellm.hooks import Handler
from routerpool_litellm.host import CustomRoutingStrategyBase, originally, proxy_router, refusing, take_over

__all__ = ["Strategy", "Takeover", "handler"]


class Strategy(CustomRoutingStrategyBase):
    """What a router of LiteLLM's asks for a deployment. Only chats are planned; the rest is chosen as before."""

    def __init__(self, router: Any) -> None:
        self.router = router

    async def async_get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,  # noqa: A002 - LiteLLM calls it by this name
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """The deployment to ask now."""
        told = {"model": model, "messages": messages, "input": input, "specific_deployment": specific_deployment}
        request = {} if request_kwargs is None else request_kwargs
        if messages is None or specific_deployment:
            return await originally(self.router, "async_get_available_deployment")(**told, request_kwargs=request)
        healthy = await self.router.async_get_healthy_deployments(**told, request_kwargs=request)
        if isinstance(healthy, Mapping) or any(is_own(entry) for entry in healthy):
            return healthy if isinstance(healthy, Mapping) else healthy[0]
        with refusing():
            return await self._chosen(model, messages, healthy, request)

    async def _chosen(self, model: str, messages: Any, healthy: list[Any], request: dict[str, Any]) -> Any:
        residence = await home()
        entries = {str((entry.get("model_info") or {}).get("id")): entry for entry in healthy}
        offered = [residence.deployments.by_id[name] for name in entries if name in residence.deployments.by_id]
        kept = await carry(request).choose(model, messages, offered)
        if not kept:
            raise RequestError("no_candidate", "none of LiteLLM's deployments may answer this request")
        return entries[kept[0].id]

    def get_available_deployment(self, *positional: Any, **told: Any) -> Any:
        """The synchronous way, which cannot wait for a plan: LiteLLM chooses, and the last check is the handler's."""
        return originally(self.router, "get_available_deployment")(*positional, **told)


class Takeover:
    """Brings the strategy to the proxy's router, whenever that is a new one."""

    def __init__(self) -> None:
        self._taken: Any = None

    def __call__(self) -> None:
        """Take the proxy's router over, before it is asked."""
        router = proxy_router()
        if router is not None and router is not self._taken:
            take_over(router, Strategy(router))
            self._taken = router


handler = Handler(arriving=Takeover())
