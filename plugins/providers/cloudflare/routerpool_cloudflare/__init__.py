"""Cloudflare's Workers AI. What is known of it stands in `cloudflare.yaml`, with its date and source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import evolve, field, frozen

from routerpool import Model, OpenAIProvider, ProviderConfig
from routerpool.providers import Settings, entries_of

__all__ = ["Cloudflare", "CloudflareConfig"]

PLACE = "ACCOUNT_ID"
"""Where the account stands in the address of the data file."""

ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,64}")
TASK = "Text Generation"
CLAIMS = {"function_calling": "tools", "vision": "vision", "reasoning": "reasoning"}


@frozen(kw_only=True)
class CloudflareConfig(ProviderConfig):
    """The section of Cloudflare."""

    account_id_env: str = field(
        default="CLOUDFLARE_ACCOUNT_ID", metadata={"help": "environment variable that holds the account's id"}
    )


class Cloudflare(OpenAIProvider):
    """Workers AI. The account is a part of its address, and a day's allowance is one for all of its models."""

    Config: ClassVar[type[ProviderConfig]] = CloudflareConfig
    data: ClassVar[str | None] = "cloudflare.yaml"
    config: CloudflareConfig

    def settle(self, env: Mapping[str, str]) -> Settings:
        """Put the account into the address, unless that was given whole."""
        settings = super().settle(env)
        account = env.get(self.config.account_id_env, "").strip()
        if not ACCOUNT.fullmatch(account):
            return settings
        return evolve(settings, base_url=settings.base_url.replace(PLACE, account))

    def idle(self) -> str | None:
        """Without an account there is no address to send to."""
        missing = super().idle()
        if missing is None and PLACE in self.settings.base_url:
            return f"{self.config.account_id_env} is not set to the id of an account"
        return missing

    def adapt(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """The text of messages as texts: many of its models take neither null nor a list of parts."""
        body["messages"] = [with_text(message) for message in body["messages"]]
        return body

    def parse_models(self, payload: Any) -> list[Model]:
        """The models of its search that write text. A list with more pages cannot show that one of ours is gone."""
        listed = entries_of(payload, "result", name="name")
        models = [self._of_search(entry) for entry in listed if _task(entry) == TASK]
        info = payload.get("result_info") if isinstance(payload, dict) else None
        total = info.get("total_count") if isinstance(info, dict) else None
        if isinstance(total, int) and total > len(listed):
            ids = {model.id for model in models}
            models += [model for model in self.roster() if model.id not in ids]
        return models

    def _of_search(self, entry: dict[str, Any]) -> Model:
        model = self.model(entry["name"])
        told = _properties(entry)
        claims = {ours: told[theirs] == "true" for theirs, ours in CLAIMS.items() if theirs in told}
        window = told.get("context_window", "")
        context = model.context or (int(window) if window.isascii() and window.isdigit() and int(window) else None)
        return evolve(model, context=context, capabilities={**claims, **model.capabilities})


def with_text(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message whose content is a text, if it is nothing else than that; images stay the parts that they are."""
    content = message.get("content")
    if content is None:
        return {**message, "content": ""}
    if isinstance(content, list):
        texts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
        ]
        if all(isinstance(text, str) for text in texts):
            return {**message, "content": "\n".join(map(str, texts))}
    return message


def _task(entry: dict[str, Any]) -> Any:
    task = entry.get("task")
    return task.get("name") if isinstance(task, dict) else None


def _properties(entry: dict[str, Any]) -> dict[str, str]:
    told = entry.get("properties")
    parts = told if isinstance(told, list) else ()
    pairs = [(part.get("property_id"), part.get("value")) for part in parts if isinstance(part, dict)]
    return {name: str(value) for name, value in pairs if isinstance(name, str)}
