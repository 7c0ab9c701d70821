"""The keys by which a deployment's own price workers sign what venues said: one a venue, each a node of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

from btcfi.adapters.files import write_private
from btcfi.errors import NotFoundError
from btcfi.oracle.quote import VenueId
from btcfi.oracle.round_book import NodeInfo, Registry
from btcfi.secp256k1 import public_key_xonly


def node_of(venue: VenueId) -> str:
    """Return the name of a venue's node: ``kraken-BTC-USD``."""
    return f"{venue.exchange}-{venue.base}-{venue.quote}"


def read_node_key(folder: Path, venue: VenueId) -> bytes:
    """Return the secret of a venue's node. Raises NotFoundError."""
    file = folder / f"{node_of(venue)}.key"
    try:
        return file.read_bytes()
    except FileNotFoundError as e:
        raise NotFoundError("node key", str(file), "`btcfi prepare` makes it") from e


def make_node_keys(folder: Path, venues: Iterable[VenueId]) -> Registry:
    """Make the keys that are missing, and return who may speak: the nodes of these venues."""
    nodes = {}
    for venue in venues:
        file = folder / f"{node_of(venue)}.key"
        if not file.exists():
            write_private(file, secrets.token_bytes(32), fresh=True)
        nodes[node_of(venue)] = NodeInfo(
            node_id=node_of(venue), venue=venue, public_key=public_key_xonly(file.read_bytes())
        )
    return Registry(nodes=nodes)
