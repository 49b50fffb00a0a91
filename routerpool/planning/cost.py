"""What an answer costs."""

from __future__ import annotations

from routerpool.types import Prices, Usage

__all__ = ["cost_of"]


def cost_of(usage: Usage, prices: Prices, *, free: bool = False) -> float | None:
    """US dollars for this usage, or None when a price that it needs is unknown.

    What the provider itself says goes before all (`usage.cost`, which then marks the cost as its own), also where we
    took its answers for free. A cached or written token without a price of its own costs what an uncached one does,
    one that is written for an hour what one that is written for five minutes does.
    """
    if usage.cost is not None:
        return usage.cost
    if free:
        return 0.0
    while prices.long is not None and prices.over is not None and usage.input > prices.over:
        prices = prices.long
    cached = prices.cached if prices.cached is not None else prices.input
    written = prices.cache_write if prices.cache_write is not None else prices.input
    parts = (
        (usage.input_uncached, prices.input),
        (usage.input_cached, cached),
        (usage.cache_write, written),
        (usage.cache_write_1h, prices.cache_write_1h if prices.cache_write_1h is not None else written),
        (usage.output, prices.output),
    )
    total = 0.0
    for tokens, price in parts:
        if tokens and price is None:
            return None
        total += tokens * (price or 0.0)
    return total / 1e6
