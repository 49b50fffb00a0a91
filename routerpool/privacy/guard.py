"""Who may see a request: the one function that decides it, and what counts as local."""

from __future__ import annotations

import ipaddress
import re

from routerpool.protocols import Provider
from routerpool.types import Candidate, Privacy

__all__ = ["is_loopback", "may_be_local", "may_see"]


def may_see(provider: Provider, candidate: Candidate, privacy: Privacy, remote_allows: Privacy) -> bool:
    """Whether this candidate may be sent a request of this privacy class: the one place that decides it."""
    return (provider.local and candidate.model.local) or privacy <= remote_allows


def may_be_local(host: str) -> bool:
    """Whether an address can be on this machine or this network: loopback, private, link-local, or a short name.

    A number that is no address as people write it (`2130706433`, `0x7f.1`) may be any address to a resolver, and a
    cloud's metadata service is somebody else's machine.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        name = host.lower().rstrip(".")
        if name in METADATA_NAMES or NUMBER.fullmatch(name.rpartition(".")[2]):
            return False
        return "." not in name or name.endswith(
            (".localhost", ".local", ".lan", ".internal", ".home.arpa", ".intranet")
        )
    address = getattr(address, "ipv4_mapped", None) or address
    if any(address in network for network in METADATA if network.version == address.version):
        return False
    return address.is_loopback or address.is_private or address.is_link_local


METADATA = tuple(ipaddress.ip_network(told) for told in ("169.254.0.0/16", "fd00:ec2::254/128", "fd20:ce::254/128"))
"""Where clouds tell a machine's secrets: EC2, Azure and most others at the first, EC2 and Google over IPv6."""

METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})

NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""The last part of a name that resolvers take for an address, as the URL standard says."""


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
