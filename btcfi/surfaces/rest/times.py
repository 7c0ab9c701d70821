"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

from btcfi.options.order import parse_time


def iso(at: int) -> str:
    """Return ``at`` in ISO 8601, UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


__all__ = ["iso", "parse_time"]
