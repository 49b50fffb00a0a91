"""A strategy of LiteLLM's that chooses the deployment itself, instead of narrowing what LiteLLM chooses from.

    litellm_settings: {callbacks: ["routerpool_litellm.takeover.handler"]}

It stands in the place of `hooks.handler` and `routing.plugin`. LiteLLM still says which deployments are healthy, may be
used by this key and this team, and fit in a budget; of those, our plan says who is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routerpool_litellm.deployments import id_of, is_own
from routerpool_litellm.errand import Errand, errand_of
from routerpool_litellm.home import home
from routerpool_litellm.hooks import Handler
from routerpool_litellm.host import (
    CustomRoutingStrategyBase,
    healthy,
    originally,
    originally_at_once,
    proxy_router,
    refusing,
    take_over,
)

__all__ = ["Strategy", "Takeover", "handler"]


class Strategy(CustomRoutingStrategyBase):
    """What a router of LiteLLM's asks for a deployment. Only chats are planned; the rest is chosen as LiteLLM does."""

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
        told = {"messages": messages, "input": input, "specific_deployment": specific_deployment}
        request = {} if request_kwargs is None else request_kwargs
        errand = errand_of(request)
        if errand is None or specific_deployment:
            return await originally(self.router, model, request, **told)
        entries = await healthy(self.router, model, request, **told)
        if isinstance(entries, Mapping) or any(is_own(entry) for entry in entries):
            return entries if isinstance(entries, Mapping) else entries[0]
        with refusing():
            return await _chosen(errand, model, messages, entries)

    def get_available_deployment(self, *positional: Any, **told: Any) -> Any:
        """The synchronous way, which cannot wait for a plan: LiteLLM chooses, and the last check is the handler's."""
        return originally_at_once(self.router, *positional, **told)


async def _chosen(errand: Errand, model: str, messages: Any, entries: list[Any]) -> Any:
    offered = (await home()).deployments.among(entries)
    kept = await errand.choose(model, messages or (), offered)
    return next(entry for entry in entries if id_of(entry) == kept[0].id)


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
