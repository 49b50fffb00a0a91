"""Looks prices up in the package genai-prices, in a process of its own: `python -m routerpool_prices.lookup`.

That package takes half a second and 100 MB, which a server should not carry for what it asks once a day. One JSON
document comes in, one goes out:

    {"day": "2026-11-20", "questions": [{"url": "https://api.groq.com/openai/v1", "names": ["groq"], "model": "m"}]}
    {"newest": "2026-11-09", "prices": [{"input": 0.59, "output": 0.79}]}

A price that is not known is null. Nothing here may use the network.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

__all__ = ["answer", "main"]

NETWORK = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"})

FIELDS = {
    "input": ("input_mtok",),
    "cached": ("cache_read_mtok",),
    "cache_write": ("cache_write_5m_mtok", "cache_write_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok",),
    "output": ("output_mtok",),
}
"""Our names of prices, and the package's."""

BEYOND = ("requests_kcount", "output_reasoning_mtok", "output_citation_mtok")
"""Prices of something that we do not count: where a model has one, its other prices alone would be untrue."""


def main() -> None:
    """Answer the questions on stdin."""
    sys.addaudithook(_refuse)
    if hasattr(os, "nice"):
        os.nice(10)  # the requests under way go first
    asked = json.load(sys.stdin)
    json.dump(answer(asked["questions"], date.fromisoformat(asked["day"])), sys.stdout)


def _refuse(event: str, _: Any) -> None:
    if event in NETWORK:
        raise RuntimeError("prices are looked up without the network")


def answer(questions: Iterable[Mapping[str, Any]], day: date) -> dict[str, Any]:
    """The prices of that day, in the order of the questions, and the day of the newest change that is known."""
    # The reason for this process: it costs what the module's docstring says.
    from genai_prices.data_snapshot import get_snapshot

    providers = get_snapshot().providers
    return {
        "newest": _newest(providers, day),
        "prices": [_price(providers, question, day) for question in questions],
    }


def _newest(providers: Sequence[Provider], day: date) -> str | None:
    """The last day on which a price of the list changed: what it knows is as old as this, or younger."""
    starts = [
        start
        for provider in providers
        for model in provider.models
        if isinstance(model.prices, list)
        for price in model.prices
        if (start := getattr(price.constraint, "start_date", None)) is not None and start <= day
    ]
    return max(starts).isoformat() if starts else None


def _price(providers: Sequence[Provider], question: Mapping[str, Any], day: date) -> dict[str, Any] | None:
    names, reference = question["names"], question["model"]
    if "litellm" in names and "/" in reference:  # it names the provider before the model
        name, _, reference = reference.partition("/")
        names, address = [name], ""
    else:
        address = question["url"]
    provider = _provider(providers, address, names)
    model = provider.find_model(reference, all_providers=list(providers)) if provider is not None else None
    return _prices(model, day) if model is not None else None


def _provider(providers: Sequence[Provider], address: str, names: Sequence[str]) -> Provider | None:
    """Who bills: told by the address, else by the exact name; a name that only resembles one may be anybody's."""
    for provider in providers:
        if address and re.match(provider.api_pattern, address):
            return provider
    for name in names:
        for provider in providers:
            if provider.id == name.lower():
                return provider
    return None


def _prices(model: ModelInfo, day: date) -> dict[str, Any] | None:
    """What a model costs on a day; where that changes with the hour, what it costs at the dearest."""
    noon = datetime.combine(day, time(12), UTC)
    by_hour = [model.get_prices(noon + timedelta(minutes=30 * half)) for half in range(-24, 24)]
    if any(getattr(price, name) is not None for price in by_hour for name in BEYOND):
        return None
    return max((_plain(price, reference=model.id) for price in by_hour), key=_dearness)


def _dearness(prices: dict[str, Any] | None) -> tuple[float, float]:
    return (prices.get("output", 0.0), prices.get("input", 0.0)) if prices else (-1.0, -1.0)


def _plain(price: ModelPrice, reference: str) -> dict[str, Any] | None:
    """A price as plain values; each threshold of the prompt's length opens a `long` inside the one below."""
    held = {
        name: next((v for k in keys if (v := getattr(price, k)) is not None), None) for name, keys in FIELDS.items()
    }
    held = {name: value for name, value in held.items() if value is not None}
    if not held:
        return {"input": 0.0, "output": 0.0} if reference.endswith(":free") else None
    starts = sorted({tier.start for value in held.values() for tier in getattr(value, "tiers", ())})
    levels: list[dict[str, Any]] = [
        {name: _at(value, tokens) for name, value in held.items()} for tokens in (0, *starts)
    ]
    for below, above, start in zip(levels[-2::-1], levels[:0:-1], reversed(starts), strict=True):
        below |= {"over": start, "long": above}
    return levels[0]


def _at(value: Any, start: int) -> float:
    """A price for prompts of more than `start` tokens, up to the next threshold."""
    fitting = [tier.price for tier in getattr(value, "tiers", ()) if tier.start <= start and start]
    return float(fitting[-1] if fitting else getattr(value, "base", value))


if __name__ == "__main__":
    main()
