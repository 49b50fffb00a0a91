"""The models that a provider is known to have, each with all that is known of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve

from routerpool.providers.data import ModelData, ProviderData
from routerpool.providers.replies import NotListedError
from routerpool.providers.settings import Settings
from routerpool.types import Model

__all__ = ["Roster", "entries_of", "listed"]


class Roster:
    """The models of one provider under its settings. It is made once of these and does not change.

    `models` are those that the user has named, else all that the author has listed. What the author knows of a model
    counts in both, and of one that nobody has listed, what holds for its family and for the whole provider.
    """

    def __init__(self, facts: ProviderData, settings: Settings) -> None:
        self._facts = facts
        self._settings = settings
        self.pools = {f"{settings.account}::{pool.name}": pool for pool in facts.pools}
        self._by_id: dict[str, Model] = {}
        listed = [entry if isinstance(entry, Model) else self._model(entry) for entry in settings.models]
        self._by_id = {model.id: model for model in listed}
        if settings.named is not None:
            listed = [self._model(entry) for entry in settings.named]
            self._by_id |= {model.id: model for model in listed}
        self.models = tuple(listed)

    def __contains__(self, model_id: str) -> bool:
        return model_id in self._by_id

    def model(self, model_id: str) -> Model:
        """What is known of a model."""
        return self._by_id.get(model_id) or self._unlisted(model_id)

    def _model(self, entry: str | ModelData) -> Model:
        """A model of its YAML form, over what is known of it."""
        if isinstance(entry, str):
            return self.model(entry)
        base = self.model(entry.id)
        given: dict[str, Any] = {
            "display_name": entry.name,
            "context": entry.context,
            "max_output": entry.max_output,
            "tier": entry.tier,
            "rank": entry.rank,
            "tags": frozenset(entry.tags) or None,
            "capabilities": {**base.capabilities, **entry.capabilities} or None,
            "free": entry.free,
            "local": entry.local if entry.local is None else entry.local and self._settings.local,
            "prices": entry.prices,
            "data_policy": entry.data_policy,
            "settings": entry.settings or None,
            "pools": self._pools_of(entry.id) or None,
        }
        return evolve(base, **{name: value for name, value in given.items() if value is not None})

    def _unlisted(self, model_id: str) -> Model:
        """A model of which nothing is known but whose it is, and of which family."""
        facts, settings = self._facts, self._settings
        model = Model(
            id=model_id,
            local=settings.local,
            free=settings.free,
            data_policy=settings.data_policy or facts.data_policy,
            pools=self._pools_of(model_id),
        )
        for family in facts.families:
            if family.holds(model_id):
                model = evolve(
                    model,
                    free=model.free if family.free is None else family.free,
                    data_policy=settings.data_policy or family.data_policy or model.data_policy,
                    capabilities={**model.capabilities, **family.capabilities},
                    tags=model.tags | frozenset(family.tags),
                )
        return model

    def _pools_of(self, model_id: str) -> frozenset[str]:
        return frozenset(name for name, pool in self.pools.items() if pool.holds(model_id))


def entries_of(payload: Any, *keys: str, name: str = "id") -> list[dict[str, Any]]:
    """The entries of a list of models, which stands under one of these keys or alone; null is one that is empty.

    Each has a text under `name`; a bare text is that of an entry without more. Other rubbish is left out. A document
    that has no list, and a list of nothing but rubbish, is a NotListedError: nobody must take it for "no models".
    """
    key = next((key for key in keys if isinstance(payload, dict) and key in payload), None)
    found = payload if key is None else payload[key] or []
    if not isinstance(found, list):
        raise NotListedError("it answered with something that is no list of models")
    entries = [{name: entry} if isinstance(entry, str) else entry for entry in found]
    named = [e for e in entries if isinstance(e, dict) and isinstance(e.get(name), str) and e[name]]
    if found and not named:
        raise NotListedError("it answered with a list of something else than models")
    return named


def listed(payload: Any, model_of: Callable[[str], Model]) -> list[Model]:
    """The models of a list in OpenAI's form or a bare one, over what `model_of` knows of them."""
    models = []
    for entry in entries_of(payload, "data", "models"):
        model = model_of(entry["id"].removeprefix("models/"))
        window = entry.get("context_window") or entry.get("context_length") or entry.get("max_model_len")
        if model.context is None and isinstance(window, int):
            model = evolve(model, context=window)
        models.append(model)
    return models
