"""Who may see a request: the one function that decides it, and what counts as local."""

from __future__ import annotations

import ipaddress

from routerpool.protocols import Provider
from routerpool.types import Candidate, Privacy

__all__ = ["may_be_local", "may_see"]


def may_see(provider: Provider, candidate: Candidate, privacy: Privacy, remote_allows: Privacy) -> bool:
    """Whether this candidate may be sent a request of this privacy class: the one place that decides it."""
    return (provider.local and candidate.model.local) or privacy <= remote_allows


def may_be_local(host: str) -> bool:
    """Whether an address can be on this machine or this network: loopback, private, link-local, or a short name."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        name = host.lower().rstrip(".")
        return "." not in name or name.endswith(
            (".localhost", ".local", ".lan", ".internal", ".home.arpa", ".intranet")
        )
    return address.is_loopback or address.is_private or address.is_link_local
