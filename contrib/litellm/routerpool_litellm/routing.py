"""LiteLLM's routing plugin: it leaves LiteLLM the one name that our plan says.

    litellm_settings: {callbacks: ["routerpool_litellm.hooks.handler"]}
    router_settings: {plugins: ["routerpool_litellm.routing.plugin"]}

It needs the callback beside it, which hears how an attempt went and keeps deployments of the same name apart. A model
group that bears the name of a profile is planned by that profile, every other by the default one. Other calls than
chats are narrowed to those who may see them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from routerpool import RequestError
from routerpool_litellm.asked import request_of
from routerpool_litellm.deployments import Deployment
from routerpool_litellm.errand import Errand, errand_of, permitted
from routerpool_litellm.home import home
from routerpool_litellm.host import cooling, group_of, proxy_router, refusing

__all__ = ["Routing", "plugin"]


class Routing:
    """What LiteLLM asks before it chooses a deployment."""

    async def run(self, context: Any) -> Any:
        """Narrow `candidate_models`. Where nobody may be asked, that is an error, and never all of them."""
        names = set(context.candidate_models)
        if not names:
            return context
        with refusing():
            residence = await home()
            group = group_of(context.metadata)
            benched = await cooling(proxy_router())
            known = [d for d in residence.deployments.all if d.model in names and group in (None, d.group)]
            if not known:  # this very router as a provider, or nothing that we know: the last check is the handler's
                return context
            offered = [d for d in known if d.id not in benched] or known
            errand = errand_of({"metadata": context.metadata})
            if errand is not None:
                kept: Sequence[Deployment] = await errand.choose(offered[0].group, context.structured_messages, offered)
                context.signals["routerpool"] = kept[0].candidate.key
            else:
                kept = await _permitted(context, offered)
        context.candidate_models = [name for name in context.candidate_models if any(d.model == name for d in kept)]
        return context


plugin = Routing()


async def _permitted(context: Any, offered: list[Deployment]) -> list[Deployment]:
    residence = await home()
    errand = Errand.of({"metadata": context.metadata})
    request = request_of(
        residence.router,
        offered[0].group,
        errand.asked,
        [*context.structured_messages, *context.raw_messages],
        headers=errand.headers,
        caller=errand.caller,
    )
    kept = await permitted(request, residence, offered)
    if not kept:
        raise RequestError("privacy_blocked", "no deployment may see a request of this privacy class")
    return kept
