"""Recorded candles, and what an exchange's module needs to answer from them as the exchange itself does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from btcfi.oracle.quote import VenueId
from btcfi.units import SECONDS_PER_MINUTE, Slot

Answer = tuple[int, bytes]
"""HTTP status and body."""

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One recorded minute; the numbers are the recording's own text."""

    slot: Slot
    open: str
    high: str
    low: str
    close: str
    volume: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The recorded candles of one exchange, from which its module answers."""

    candles: Mapping[VenueId, Mapping[Slot, Candle]]
    response: Callable[[VenueId, Slot], Answer | None]
    """The answer that was recorded for a minute, None where there is none."""
    now: float
    """What the exchange's clock says, Unix seconds."""
    at: int | None = None
    """The minute that the client is at, where it says so: for an exchange whose request names no minute."""

    def markets(self, name_of: Callable[[VenueId], str]) -> dict[str, VenueId]:
        """Return the markets by the name that the exchange gives them."""
        return {name_of(venue): venue for venue in sorted(self.candles)}

    def coins(self) -> list[str]:
        """Return the currencies of all markets, once each."""
        return sorted({coin for venue in self.candles for coin in (venue.base, venue.quote)})

    def newest(self, venue: VenueId) -> Candle:
        """Return the last candle of a market."""
        return self.window(venue, None, None, 1)[0]

    def window(self, venue: VenueId, first: int | None, last: int | None, limit: int) -> list[Candle]:
        """Return the candles of the window, oldest first; without a first, the newest of the recording."""
        rows = self.candles[venue]
        if first is None:
            return [rows[s] for s in sorted(rows)[-limit:]]
        begin = -(-first // SECONDS_PER_MINUTE) * SECONDS_PER_MINUTE
        end = begin + SECONDS_PER_MINUTE if last is None else min(last, begin + limit * SECONDS_PER_MINUTE)
        wanted = range(begin, end + 1, SECONDS_PER_MINUTE)
        return [rows[Slot(s)] for s in wanted if Slot(s) in rows][:limit]

    def recorded(self, venue: VenueId, first: int | None) -> Answer | None:
        """Return the answer that was recorded for the minute ``first``, byte for byte."""
        return self.response(venue, Slot(first)) if first is not None else None


def json_answer(status: int, document: object) -> Answer:
    """Return ``document`` as an exchange sends JSON."""
    return status, json.dumps(document, separators=(",", ":")).encode()


def iso8601(at: int) -> str:
    """Return Unix seconds as ``2023-03-11T08:00:00Z``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix_of_iso8601(text: str) -> int:
    """Return the Unix seconds of ``iso8601``'s text. Raises ValueError."""
    return int(datetime.fromisoformat(text).timestamp())
