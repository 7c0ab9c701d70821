"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

from btcfi.errors import InvalidInputError, UnitOutOfRangeError
from btcfi.units import UnixSeconds, unix_seconds


def parse_time(text: str, field: str) -> UnixSeconds:
    """Return a time given in ISO 8601 with a zone, or in seconds since 1970. Raises InvalidInputError."""
    text = text.strip()
    try:
        if text.isascii() and text.isdigit() and len(text) < 20:  # noqa: PLR2004 - more digits are no time
            return unix_seconds(int(text))
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise InvalidInputError(field, f"{text!r} names no time zone", "a zone, e.g. 2026-12-31T08:00:00Z")
        return unix_seconds(int(moment.timestamp()))
    except (UnitOutOfRangeError, OverflowError) as e:
        raise InvalidInputError(field, repr(text), "a time from 1970 to 2106") from e
    except ValueError as e:
        raise InvalidInputError(field, repr(text), "ISO 8601 with a zone, or seconds since 1970") from e


def iso(at: int) -> str:
    """Return ``at`` in ISO 8601, UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
