"""Which callers count as one: by their address, and an IPv6 network of 64 bits as one address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def who_counts(host: str) -> str:
    """Return what ``host`` is counted as: an IPv4 address itself, an IPv6 one its /64, which one subscriber holds."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def among(host: str, networks: Iterable[Network]) -> bool:
    """Return whether an address lies in one of these networks; what is no address lies in none."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in networks)
