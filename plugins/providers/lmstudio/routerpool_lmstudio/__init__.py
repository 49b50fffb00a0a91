"""The models of LM Studio. What is known of its ways stands in `lmstudio.yaml`, with its date and source.

    plugins:
      lmstudio: {}                     # $LMSTUDIO_BASE_URL or $LM_STUDIO_API_BASE, else http://localhost:1234/v1

A model that is not loaded is loaded by the first request for it, which then waits for that; a `ttl` in a request, in
seconds, says how long it stays. It counts as local where its address is one of this machine or network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import aiohttp
from attrs import evolve

from routerpool import Model, OpenAIProvider
from routerpool.providers import NotListedError, entries_of

__all__ = ["LmStudio"]

REFUSED = (401, 403)
"""The key is not taken, and will not be for another list."""

SENSES: Mapping[str, str] = {"vision": "vision", "trained_for_tool_use": "tools"}
"""LM Studio's words for what a model can do, and ours."""


class LmStudio(OpenAIProvider):
    """One LM Studio server."""

    data: ClassVar[str | None] = "lmstudio.yaml"
    refresh_seconds = 60.0
    address_variables = ("LM_STUDIO_API_BASE",)  # by which other programs know its address

    async def listing(self, session: aiohttp.ClientSession) -> list[Model]:
        """Ask its own list of models; a version that is too old for one is asked for OpenAI's.

        One before 0.4 answers to a path that it does not know with a success and an error in it.
        """
        try:
            return await super().listing(session)
        except (aiohttp.ClientResponseError, NotListedError) as error:
            if isinstance(error, aiohttp.ClientResponseError) and (error.status in REFUSED or error.status >= 500):
                raise
        return self.parse_models(await self.get(session, f"{self.base_url}/models"))

    def parse_models(self, payload: Any) -> list[Model]:
        """The models of either list, without those that only embed."""
        if not (isinstance(payload, dict) and isinstance(payload.get("models"), list)):
            return super().parse_models(payload)
        entries = entries_of(payload, "models", name="key")
        return [self._parsed(entry) for entry in entries if entry.get("type") != "embedding"]

    def _parsed(self, entry: Mapping[str, Any]) -> Model:
        model = self.model(entry["key"])
        window = _window(entry)
        if model.context is None and window is not None:
            model = evolve(model, context=window)
        if model.display_name is None and isinstance(entry.get("display_name"), str):
            model = evolve(model, display_name=entry["display_name"])
        claims = entry.get("capabilities")
        if isinstance(claims, dict):
            told = {ours: claims[theirs] for theirs, ours in SENSES.items() if isinstance(claims.get(theirs), bool)}
            model = evolve(model, capabilities={**told, **model.capabilities})
        return model


def _window(entry: Mapping[str, Any]) -> int | None:
    """The window that the model is loaded with; of one that is not loaded the most that it can have."""
    loaded = entry.get("loaded_instances")
    configs = [each.get("config") for each in loaded if isinstance(each, dict)] if isinstance(loaded, list) else []
    windows = [config.get("context_length") for config in configs if isinstance(config, dict)]
    told = [window for window in windows if type(window) is int and window > 0]
    most = entry.get("max_context_length")
    return min(told) if told else most if type(most) is int and most > 0 else None
