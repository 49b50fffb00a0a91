"""What `doctor` says of a provider without asking it: whether its key is there, is safe, and its roster young."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

from yarl import URL

from routerpool.privacy.guard import is_loopback
from routerpool.providers.data import ProviderData
from routerpool.providers.settings import Settings
from routerpool.types import Level, Model, Report

__all__ = ["findings"]

OLD_DAYS = 180
"""From this age on doctor warns of a roster: the models of free tiers change with the seasons."""


def findings(
    name: str, idle: str | None, facts: ProviderData, settings: Settings, models: Sequence[Model], *, placed: bool
) -> Iterator[Report]:
    """All that can be told of the provider of this name, with these models, which is `idle` for this reason or none.

    `placed` says that the user has said himself whether it is local.
    """
    if idle:
        page = facts.key_page
        cure = f"get a key at {page} and set it" if page else "set it, or take the plugin out of the config"
        yield Report(level=Level.NOTE, text=f"{name} is idle: {idle}", cure=cure, subject=name)
    else:
        source = f"key from {settings.key_from}" if settings.key else "needs no key"
        yield Report(level=Level.OK, text=f"{name}: {source}, {len(models)} models", subject=name)
        if settings.named is None and (days := _age(facts.date)) > OLD_DAYS and models:
            text = f"what {name} is known to have was written down on {facts.date}, {days} days ago"
            cure = "update the plugin, or name its models in `models:`"
            yield Report(level=Level.WARNING, text=text, cure=cure, subject=name)
    if settings.key_mended:
        text = f"{settings.key_from} holds more than the key, such as quotes or `Bearer`, which {name} leaves out"
        yield Report(level=Level.NOTE, text=text, cure="write the bare key", subject=name)
    if settings.spurned_proxy is not None:
        text = f"{settings.spurned_proxy.variable} is set, and {name} is asked without that proxy"
        cure = "say `trust_env: true` if it is to be used, or add the host to NO_PROXY"
        yield Report(level=Level.NOTE, text=text, cure=cure, subject=name)
    url = URL(settings.base_url)
    if url.host and is_loopback(url.host) and not settings.local and not placed:
        text = f"{name} is on this machine and counts as remote: private requests do not go there"
        cure = "say `local: true` if it sends nothing on, `local: false` if it does"
        yield Report(level=Level.NOTE, text=text, cure=cure, subject=name)
    if settings.key and url.scheme == "http" and not settings.local:
        text = f"{name} sends its key unencrypted to {url.host}"
        yield Report(level=Level.WARNING, text=text, cure="use an https:// base_url", subject=name)


def _age(day: str) -> int:
    """Days since a date such as 2026-07-18; 0 for what is none."""
    try:
        return (datetime.now(UTC).date() - date.fromisoformat(day)).days
    except ValueError:
        return 0
