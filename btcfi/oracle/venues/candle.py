"""From an exchange's rows to the one closed candle that counts. Shared by every exchange's module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import (
    LEAST_LEG_VOLUME,
    LegQuote,
    MalformedNumberError,
    Missing,
    MissingReason,
    Observation,
    Quote,
    VenueId,
    check_candle,
    check_leg,
    leg_volume_of,
    parse_json,
    price_of,
    rate_of,
    volume_of,
)
from btcfi.oracle.venues.recorded import Answer, Query, Shelf
from btcfi.units import SECONDS_PER_MINUTE, Hash32, Slot, UnixSeconds

MAX_ROWS: Final = 2000
"""Rows of one response that are looked at. Exchanges send at most 1000 candles; we ask for two."""


MAX_DIGITS: Final = 18
"""Of an opening time that comes as text: enough for nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCandle:
    """One row as the exchange sent it: numbers are still its text (or an exact Decimal)."""

    opened_at: object
    """Unix seconds of the opening."""
    open: object
    high: object
    low: object
    close: object
    volume: object
    closed: bool | None = None
    """What the exchange itself says, where it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFrame:
    """What one frame of a WebSocket stream is about."""

    symbol: str
    """The market, in the stream's own spelling."""
    opened_at: int
    """Unix seconds of the candle's opening."""
    closed: bool
    """Whether the exchange says that this is the minute's last word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What we know of one exchange: how to ask ccxt for raw candles and how to read them."""

    name: str
    ccxt_id: str
    market_names: Callable[[VenueId], tuple[str, ...]]
    """``market_names(venue)`` returns the exchange's own names of the market, first the one that a replay gives it."""
    target: Callable[[str, Slot], str]
    """``target(market, slot)`` returns path and query of ``request``: what evidence must have been asked with."""
    request: Callable[[Any, str, Slot], object]
    """``request(client, market, slot)`` asks for the raw candles from ``slot`` on, by an implicit method of ccxt."""
    rows: Callable[[Any, VenueId], Iterable[RawCandle]]
    """``rows(document, venue)`` reads the parsed response; any shape error it raises means MALFORMED, and so does
    a response that names another market or interval."""
    replay: Callable[[Shelf, str, Query], Answer]
    """``replay(shelf, path, query)`` answers from recorded candles as the exchange does; ValueError: bad request."""
    stream: Callable[[Any], StreamFrame | None] | None = None
    """Reads a parsed frame of the exchange's candle stream; None where it has no such stream."""
    asks_for_coins: bool = True
    """Whether ccxt must ask for the coins too, to know the markets: Kraken's and Coinbase's names come from there."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Options of the ccxt client."""


class ResponseShapeError(InvalidInputError):
    """A response is JSON, but not this exchange's candles."""

    def __init__(self, exchange: str, expected: str) -> None:
        super().__init__("response", f"not the candles of {exchange}", expected)


def sequence_of(row: object, *, exchange: str, width: int) -> Sequence[object]:
    """Return ``row`` as a row of at least ``width`` columns. Raises ResponseShapeError."""
    if not isinstance(row, list) or len(row) < width:
        raise ResponseShapeError(exchange, f"rows of {width} columns")
    return row


def seconds_of(value: object, *, exchange: str, per_second: int = 1) -> int:
    """Return the Unix seconds of an opening: an integer or its digits, a whole second. Raises ResponseShapeError."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value % per_second:
        raise ResponseShapeError(exchange, f"an opening at a whole second, in units of 1/{per_second} s")
    return value // per_second


def seconds_of_milliseconds(value: object, *, exchange: str) -> int:
    """Return the Unix seconds of an opening in milliseconds. Raises ResponseShapeError."""
    return seconds_of(value, exchange=exchange, per_second=1000)


def read_response(
    exchange: Exchange,
    raw: bytes,
    *,
    venue: VenueId,
    slot: Slot,
    now: UnixSeconds,
    evidence: Hash32,
) -> Observation:
    """Return what a raw response says about ``slot``. Never raises for what the exchange sent.

    now: when the response arrived. Only a candle that had closed by then counts; the row in progress, which every
    exchange sends along, never does. A minute that is absent or without volume had no trade: Missing, not zero.
    """

    def missing(reason: MissingReason, detail: str) -> Missing:
        return Missing(venue=venue, slot=slot, reason=reason, detail=detail[:200], observed_at=now, evidence=evidence)

    try:
        rows = _rows(exchange, raw, venue)
        found = [row for row in rows if _opened_at(row) == slot]
    except InvalidInputError as e:
        return missing(MissingReason.MALFORMED, str(e))
    if slot + SECONDS_PER_MINUTE > now:
        return missing(MissingReason.NOT_CLOSED, f"the minute ends in {slot + SECONDS_PER_MINUTE - now} s")
    if not found:
        return missing(MissingReason.NO_CANDLE, f"{len(rows)} candles, none of this minute")
    if any(row != found[0] for row in found):
        return missing(MissingReason.MALFORMED, f"{len(found)} different candles of one minute")
    try:
        return _observe(found[0], venue=venue, slot=slot, now=now, evidence=evidence) or missing(
            MissingReason.NO_TRADES, f"volume {found[0].volume}"
        )
    except MalformedNumberError as e:
        return missing(MissingReason.OUT_OF_RANGE, str(e))


def _rows(exchange: Exchange, raw: bytes, venue: VenueId) -> list[RawCandle]:
    document = parse_json(raw)
    try:
        rows = list(exchange.rows(document, venue))
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as e:
        raise ResponseShapeError(exchange.name, f"its documented shape ({type(e).__name__})") from e
    if len(rows) > MAX_ROWS:
        raise ResponseShapeError(exchange.name, f"at most {MAX_ROWS} rows, got {len(rows)}")
    return rows


def _opened_at(row: RawCandle) -> int:
    if isinstance(row.opened_at, bool) or not isinstance(row.opened_at, int):
        raise MalformedNumberError("opening time", repr(row.opened_at)[:40], "whole seconds")
    return row.opened_at


def _observe(
    row: RawCandle, *, venue: VenueId, slot: Slot, now: UnixSeconds, evidence: Hash32
) -> Quote | LegQuote | None:
    if venue.is_leg:
        coins = leg_volume_of("volume", row.volume)
        if coins < LEAST_LEG_VOLUME:
            return None
        leg = LegQuote(
            venue=venue, slot=slot, open=rate_of("open", row.open), high=rate_of("high", row.high),
            low=rate_of("low", row.low), rate=rate_of("close", row.close), volume=coins, observed_at=now,
            evidence=evidence,
        )  # fmt: skip
        check_leg(leg)
        return leg
    volume = volume_of("volume", row.volume)
    if volume == 0:
        return None
    quote = Quote(
        venue=venue,
        slot=slot,
        open=price_of("open", row.open),
        high=price_of("high", row.high),
        low=price_of("low", row.low),
        close=price_of("close", row.close),
        volume=volume,
        observed_at=now,
        evidence=evidence,
    )
    check_candle(quote)
    return quote
