"""What a start shows: where it listens, what answers, what is off and why, and what to set to use it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from routerpool.terminal.tables import printable

__all__ = ["banner"]

LABEL = 9
"""How wide the words at the left are."""

MOST_OFF = 4
"""How many are named that are off; the rest is a count."""


def banner(told: Mapping[str, Any], width: int = 80) -> Iterator[str]:
    """The lines of a start, none wider than `width` but for addresses that are."""
    name, url = f" routerpool {told['version']}", told["url"]
    yield f"{name}{' ' * max(width - len(name) - len(url), 2)}{url}"
    yield ""
    yield from _wrapped("answers", _answering(told["providers"]), width)
    yield from _off(told["providers"], width)
    if told["notes"]:
        yield from _wrapped("found", told["notes"], width)
    yield from _wrapped("privacy", [told["privacy"]], width)
    yield from _wrapped("config", _config(told), width)
    base = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    yield f" {'use':<{LABEL}}OPENAI_BASE_URL={base}/v1 OPENAI_API_KEY={'<your key>' if told['keys'] else 'unused'}"
    yield ""


def _answering(providers: Sequence[Mapping[str, Any]]) -> list[str]:
    shown = [
        f"{provider['name']} {provider['models']}{' (local)' if provider['local'] else ''}"
        for provider in providers
        if not provider["silent"] and provider["models"]
    ]
    return shown or ["nobody: set a provider's key, start Ollama, or name plugins in routerpool.yaml"]


def _off(providers: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """Who cannot answer and why; those that only lack a key are counted."""
    troubled = [provider for provider in providers if provider["silent"] or not provider["models"]]
    keyless = [provider for provider in troubled if (provider["silent"] or "").endswith(" is not set")]
    named = [provider for provider in troubled if provider not in keyless]
    if len(keyless) <= 2:
        named, keyless = troubled, []
    wide = max((len(provider["name"]) for provider in named[:MOST_OFF]), default=0)
    lines = [
        f"! {provider['name']:<{wide}}  {provider['silent'] or 'it has no model to answer with'}"
        for provider in named[:MOST_OFF]
    ]
    more = len(named[MOST_OFF:]) + len(keyless)
    if more:
        why = "without a key" if not named[MOST_OFF:] else "more"
        lines.append(f"  {more} {why}: routerpool doctor")
    for number, line in enumerate(lines):
        label = "off" if number == 0 else ""
        yield printable(f" {label:<{LABEL}}{line}")[: max(width, 40)]


def _config(told: Mapping[str, Any]) -> list[str]:
    where = told["config"] or "none, this is what was found here (`routerpool init` writes it down)"
    many = "1 worker" if told["workers"] == 1 else f"{told['workers']} workers"
    return [where, f"{told['plugins']} plugins", many]


def _wrapped(label: str, items: Sequence[str], width: int) -> Iterator[str]:
    text = " · ".join(printable(item).replace("\n", " ") for item in items)
    lines = textwrap.wrap(text, max(width - LABEL - 1, 30), break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        yield f" {label if number == 0 else '':<{LABEL}}{line.removeprefix('· ')}"
