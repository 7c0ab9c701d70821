"""Times as people write them."""

from __future__ import annotations

from btcfi.documents import iso
from btcfi.options.order import parse_time

__all__ = ["iso", "parse_time"]
