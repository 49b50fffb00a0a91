"""Any endpoint that speaks OpenAI's chat completions: vLLM, LM Studio, a gateway, a provider without a plugin.

    plugins:
      lab: {use: openai_compatible, base_url: "http://127.0.0.1:9000/v1", local: true}
      mistral: {use: openai_compatible, base_url: "https://api.mistral.ai/v1", api_key_env: MISTRAL_API_KEY}

`local: true` says that prompts stay in the house. It is never guessed: also on loopback a gateway may stand.
"""

from __future__ import annotations

from routerpool import OpenAIProvider

__all__ = ["OpenAICompatible"]


class OpenAICompatible(OpenAIProvider):
    """One endpoint, given by `base_url`; where the user names no models it is asked for them every five minutes."""

    models_at = "models"
    refresh_seconds = 300.0
