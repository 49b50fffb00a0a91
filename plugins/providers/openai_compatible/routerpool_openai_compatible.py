"""Any endpoint that speaks OpenAI's chat completions: a server of your own, a gateway, a provider without a plugin.

    plugins:
      lab: {use: openai_compatible, base_url: "http://127.0.0.1:9000/v1", local: true}
      shop: {use: openai_compatible, base_url: "https://api.shop.example/v1", api_key_env: SHOP_KEY}

`local: true` says that prompts stay in the house. It is never guessed: also on loopback a gateway may stand. Nothing is
known of it, so its errors and its usage are read in all the forms that others are known to send.
"""

from __future__ import annotations

from routerpool import OpenAIProvider

__all__ = ["OpenAICompatible"]


class OpenAICompatible(OpenAIProvider):
    """One endpoint, given by `base_url`; where the user names no models it is asked for them every five minutes."""

    models_at = "models"
    refresh_seconds = 300.0
