"""Numbers as people read them, in one form everywhere; each function names its forms.

What is unknown is a dash, never a zero.
"""

from __future__ import annotations

__all__ = ["UNKNOWN", "amount", "duration", "middle", "money"]

UNKNOWN = "–"


def amount(count: int | None) -> str:
    """Tokens and counts: 4,812; from 100,000 on three figures, such as 182k and 1.73M."""
    if count is None:
        return UNKNOWN
    if count < 100_000:
        return f"{count:,}"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            scaled = count / size
            return f"{scaled:.{0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2}f}{letter}"
    return f"{count:,}"


def duration(milliseconds: float | None) -> str:
    """Time that was spent, two units at most: 88ms, 2.41s, 14.2s, 4m 12s, 9h 26m, 6d 4h."""
    if milliseconds is None:
        return UNKNOWN
    if milliseconds < 999.5:
        return f"{milliseconds:.0f}ms"
    seconds = milliseconds / 1e3
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for size, unit, next_size, next_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // next_size}{next_unit}"
    return f"{whole}s"


def money(dollars: float | None) -> str:
    """US dollars: $75.36; below ten cents four decimals, $0.0143; less than half of the last one is about nothing."""
    if dollars is None:
        return UNKNOWN
    if 0 < dollars < 0.00005:
        return "<$0.0001"
    return f"${dollars:,.2f}" if dollars == 0 or dollars >= 0.1 else f"${dollars:.4f}"


def middle(name: str, width: int) -> str:
    """A candidate's name cut in the middle of its model where it is too long, so that provider and ending stay."""
    if len(name) <= width:
        return name
    if width < 2:
        return "…"[:width]
    provider, slash, _ = name.partition("/")
    first = len(provider) + len(slash) + 3
    head = min(first, (width - 1) // 2) if slash else (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"
