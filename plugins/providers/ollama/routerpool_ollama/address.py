"""Where an Ollama server is, as its own variable says it."""

from __future__ import annotations

import ipaddress
import re

from yarl import URL

__all__ = ["address_of", "is_loopback"]


def address_of(host: str) -> URL:
    """The server's address of a value of OLLAMA_HOST, read as Ollama reads it; ValueError for what is none.

    Without a scheme the port is 11434, with one it is the scheme's own. An address to listen on, such as 0.0.0.0,
    becomes one to ask.
    """
    text = host.strip().strip("\"'").strip()
    scheme, mark, rest = text.rpartition("://")
    place, _, path = rest.partition("/")
    if not mark and place == "ollama.com":
        scheme = "https"
    scheme = scheme.lower() or "http"
    if scheme not in ("http", "https"):
        raise ValueError(f"{scheme}:// is neither http:// nor https://")
    match = re.fullmatch(r"\[(?P<six>[^\[\]]+)\](?::(?P<port6>\d+))?|(?P<name>[^:\[\]]*)(?::(?P<port>\d+))?", place)
    if match is None and place.count(":") > 1:
        name, port = place, None
    elif match is None:
        raise ValueError("write it as host, host:port or http://host:port")
    else:
        name, port = match["six"] or match["name"] or "127.0.0.1", match["port6"] or match["port"]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104 - it is replaced, not bound
    usual = 11434 if not mark and scheme == "http" else {"http": 80, "https": 443}[scheme]
    return URL.build(scheme=scheme, host=name, port=int(port or usual), path=f"/{path.strip('/')}" if path else "")


def is_loopback(address: URL) -> bool:
    """Whether it is an address of this machine."""
    host = address.host or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
