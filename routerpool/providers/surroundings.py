"""What people write around an address and a key, and what lies between us and a provider: proxies and certificates."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed does not know it

from yarl import URL

from routerpool.privacy.guard import may_be_local

__all__ = ["TRUST", "Proxy", "api_address", "bare_key", "proxy_for", "trusted_authorities"]

ENDPOINTS = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings", "/models")
"""Ends of addresses that lead to one endpoint of an API; people copy them whole out of a manual."""

TRUST = "ROUTERPOOL_TRUST_ENV"
"""The variable that lets all providers use the environment's proxies, as `trust_env: true` does."""

AROUND_KEYS = " \t\r\n\"'`\ufeff\u200b\u00a0"


def api_address(text: str, usual: str | None) -> str:
    """The address of an API as it was meant: without blanks and quotes around it, and without a slash at its end.

    Of an endpoint's whole address the API's. Where no path is written it gets that of the `usual` address, or `/v1`
    where none is known, since there nearly all are; one at the root is told by the whole address of its chat.
    """
    address = text.strip(AROUND_KEYS).rstrip("/")
    for endpoint in ENDPOINTS:
        if address.endswith(endpoint):
            return address.removesuffix(endpoint).rstrip("/")
    _, _, rest = address.partition("://")
    if not rest or any(sign in rest for sign in "/?#"):
        return address
    return address + ("/v1" if usual is None else URL(usual).path.rstrip("/"))


def bare_key(text: str, variable: str) -> str:
    """The key that a variable's value means: without what is copied along with keys, such as quotes and `Bearer`."""
    key = text.strip(AROUND_KEYS)
    while (rest := _before_keys(variable).sub("", key, count=1).strip(AROUND_KEYS)) != key:
        key = rest
    return key


@lru_cache(maxsize=256)
def _before_keys(variable: str) -> re.Pattern[str]:
    return re.compile(rf"\A(?:{re.escape(variable)}\s*=|authorization\s*:|bearer(?=\s|\Z))", re.IGNORECASE)


class Proxy(NamedTuple):
    """A proxy that the environment names, in which variable; `url` is None where it is of a kind that we cannot use."""

    variable: str
    url: URL | None


def proxy_for(address: str, env: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment has for an address. What may be local is asked past it, and so is NO_PROXY's."""
    url = URL(address)
    host = url.host or ""
    names = [f"{url.scheme}_proxy".upper(), "ALL_PROXY"]
    found = next((name for upper in names for name in (upper.lower(), upper) if env.get(name, "").strip()), None)
    if found is None or not host or may_be_local(host):
        return None
    spared = env.get("no_proxy") or env.get("NO_PROXY")
    if spared and proxy_bypass_environment(f"{host}:{url.port}", {"no": spared}):
        return None
    text = env[found].strip()
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        return Proxy(found, None)
    return Proxy(found, proxy if proxy.scheme in ("http", "https") and proxy.host else None)


@lru_cache(maxsize=64)
def trusted_authorities(file: Path) -> ssl.SSLContext:
    """A TLS context that trusts the certificates in this file beside the system's; a ValueError says what is wrong."""
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"`ca_file`: {file} holds no certificates that can be read; give a PEM file") from error
    return context
