"""GitHub Models. What is known of them stands in `github.yaml`, with its date and source: the service was retired."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from attrs import evolve

from routerpool import Detected, Level, Model, OpenAIProvider, Probe, Report, hookimpl
from routerpool.providers import entries_of

__all__ = ["GitHub"]

RETIRED = "2026-07-30"
FREE_CAP = 4000
"""Most tokens of an answer on the free plan; more is a 400."""

CAPS = ("max_tokens", "max_completion_tokens")
SENSES = {"image": "vision", "audio": "audio"}


class GitHub(OpenAIProvider):
    """GitHub Models: others' models for a GitHub account, with a small daily quota for each."""

    data: ClassVar[str | None] = "github.yaml"

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """On the free plan no answer is asked for that is longer than allowed."""
        for name in CAPS if model.free else ():
            if isinstance(body.get(name), int) and body[name] > FREE_CAP:
                body[name] = FREE_CAP
        return body

    def parse_models(self, payload: Any) -> list[Model]:
        """The catalog's entries that answer in text, with what it says of their limits and senses."""
        entries = entries_of(payload)
        return [self._of_catalog(entry) for entry in entries if "text" in _words(entry, "supported_output_modalities")]

    def _of_catalog(self, entry: dict[str, Any]) -> Model:
        model = self.model(entry["id"])
        limits, senses = entry.get("limits"), _words(entry, "supported_input_modalities")
        limits = limits if isinstance(limits, dict) else {}
        claims = {ours: theirs in senses for theirs, ours in SENSES.items()} if senses else {}
        if able := _words(entry, "capabilities"):
            claims["tools"] = "tool-calling" in able
        tier = entry.get("rate_limit_tier")
        return evolve(
            model,
            display_name=model.display_name or (entry["name"] if isinstance(entry.get("name"), str) else None),
            context=model.context or _count(limits, "max_input_tokens"),
            max_output=model.max_output or _count(limits, "max_output_tokens"),
            capabilities={**claims, **model.capabilities},
            tags=model.tags | {f"tier-{tier}"} if isinstance(tier, str) and tier else model.tags,
        )

    @hookimpl
    def detect(self, probe: Probe) -> Iterable[Detected]:
        """Nothing: a GITHUB_TOKEN is set for many reasons, and the service is gone."""
        return ()

    @hookimpl
    def check(self, probe: Probe) -> Iterable[Report]:
        """What every provider tells doctor, and that this one was retired."""
        yield from super().check(probe)
        text = f"{self.name}: GitHub retired GitHub Models on {RETIRED}"
        yield Report(level=Level.WARNING, text=text, cure="take the plugin out of the config", subject=self.name)


def _words(entry: dict[str, Any], name: str) -> list[str]:
    words = entry.get(name)
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []


def _count(limits: dict[str, Any], name: str) -> int | None:
    count = limits.get(name)
    return count if isinstance(count, int) and count > 0 else None
