"""Which callers count as one: by their address, and an IPv6 network of 64 bits as one address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import unquote

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


def who_calls(peer: str) -> str:
    """Return what a gRPC call's peer is counted as; ``ipv4:192.0.2.7:5``, ``ipv6:%5B::1%5D:5``, or another kind."""
    kind, _, rest = unquote(peer).partition(":")
    return who_counts(rest.rpartition(":")[0].strip("[]")) if kind in {"ipv4", "ipv6"} else peer[:64]


def among(host: str, networks: Iterable[Network]) -> bool:
    """Return whether an address lies in one of these networks; what is no address lies in none."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in networks)
