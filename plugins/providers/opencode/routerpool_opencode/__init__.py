"""OpenCode's gateway, experimental: Zen, which is paid by the request, and Go, which is a subscription.

    plugins:
      opencode: {}                              # Zen
      go: {use: opencode, service: go}          # Go, with the same key

What is known of the two stands in `opencode.yaml` and `opencode_go.yaml`, with its date and source. Each model is
served at exactly one of OpenAI's chat completions, OpenAI's Responses, Anthropic's Messages and Google's API; here are
those of the first. Zen's free models may answer OpenCode's own client only.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from attrs import field, frozen

from routerpool import Model, OpenAIProvider, ProviderConfig

__all__ = ["Opencode", "OpencodeConfig"]

ELSEWHERE = ("claude-", "gemini-", "gpt-")
"""What the models are called that are not served as chat completions."""


@frozen(kw_only=True)
class OpencodeConfig(ProviderConfig):
    """The section of a service of OpenCode's."""

    service: Literal["zen", "go"] = field(
        default="zen", metadata={"help": "zen, by the request, or go, a subscription"}
    )


class Opencode(OpenAIProvider):
    """OpenCode's Zen, or its Go."""

    Config: ClassVar[type[ProviderConfig]] = OpencodeConfig
    data: ClassVar[str | None] = "opencode.yaml"

    def __init__(self, config: ProviderConfig | None = None, *, name: str = "") -> None:
        if isinstance(config, OpencodeConfig) and config.service == "go":
            self.data = "opencode_go.yaml"  # type: ignore[misc]  # the section says which of the two files it is
        super().__init__(config, name=name)

    def parse_models(self, payload: Any) -> list[Model]:
        """Those of its models that can be asked for here."""
        return [model for model in super().parse_models(payload) if not model.id.startswith(ELSEWHERE)]
