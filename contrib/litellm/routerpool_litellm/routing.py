"""LiteLLM's routing plugin: it has LiteLLM choose whom our plan says.

    litellm_settings: {callbacks: ["routerpool_litellm.hooks.handler"]}
    router_settings: {plugins: ["routerpool_litellm.routing.plugin"]}

It needs the callback beside it, and does no more than say that a chat is to be planned: which model group LiteLLM has
come to by its fallbacks, and which deployments it offers of that one, it tells the callback only. A model group that
bears the name of a profile is planned by that profile, every other by the default one.
"""

from __future__ import annotations

from typing import Any

from routerpool_litellm.errand import errand_of

__all__ = ["Routing", "plugin"]


class Routing:
    """What LiteLLM asks before it chooses a deployment."""

    async def run(self, context: Any) -> Any:
        """Leave `candidate_models` as they are: LiteLLM would hold a narrower list against its fallbacks too."""
        errand = errand_of({"metadata": context.metadata})
        if errand is not None:
            errand.routed = True
        return context


plugin = Routing()
