"""From an exchange's rows to the one closed candle that counts. Shared by every exchange's module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from btcfi.errors import InvalidInputError, UnitOutOfRangeError
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
from btcfi.oracle.venues.evidence import Response, opened
from btcfi.oracle.venues.recorded import Answer, Query, Shelf
from btcfi.units import MAX_U32, SECONDS_PER_MINUTE, Hash32, Slot, UnixSeconds
from btcfi.units import slot as checked_slot

MAX_ROWS: Final = 2000
"""Rows of one response that are looked at. Exchanges send at most 1000 candles; we ask for two."""


LATEST_PUBLICATION: Final = 15 * 60
"""Seconds after its opening from which a minute that is not there will not come; 1 to 7 minutes were seen."""

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
    opened_at: Slot
    """The candle's opening."""
    closed: bool
    """Whether the exchange says that this is the minute's last word."""


def checked_frame(exchange: str, *, symbol: object, opened_at: object, closed: object) -> StreamFrame:
    """Return the frame of values that somebody else sent. Raises ResponseShapeError unless each is of its type."""
    if not isinstance(symbol, str) or not isinstance(closed, bool):
        raise ResponseShapeError(exchange, "a symbol as text, and whether the candle is closed as true or false")
    if isinstance(opened_at, bool) or not isinstance(opened_at, int):
        raise ResponseShapeError(exchange, "an opening in whole seconds")
    try:
        return StreamFrame(symbol=symbol, opened_at=checked_slot(opened_at), closed=closed)
    except UnitOutOfRangeError as e:
        raise ResponseShapeError(exchange, "the opening of a minute") from e


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
    most_bytes: int = 16 * 1024
    """Of one answer with candles, all of which is kept: two rows have 300 bytes, and padding would fill the disk."""
    most_market_bytes: int = 4 * 1024 * 1024
    """Of a list of markets: ccxt makes 50 bytes of memory of each."""


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
    exchange: Exchange, raw: bytes, *, venue: VenueId, slot: Slot, now: UnixSeconds, evidence: Hash32
) -> Observation:
    """Return what evidence says about ``slot``. Never raises for what the exchange sent.

    raw: the exchange's bytes below the line that says what was asked (``evidence.py``), or the bytes alone as an
    earlier release kept them. now: when the response arrived. Only a candle that had ended by then counts, and of which
    the exchange itself shows that it has: by its word, by a later row, or by its clock (``Date``); our clock alone may
    be fast. A minute that is not there while nothing later is has not been published yet; one that is absent for good,
    or without volume, had no trade: Missing, not zero.
    """
    try:
        response = opened(raw)
        _check_asked(exchange, response, venue, slot)
        rows = _rows(exchange, response.body, venue)
        found = [row for row in rows if _opened_at(row) == slot]
        newest = max((_opened_at(row) for row in rows), default=0)
        closed = _closed_candle(found, newest, response, slot=slot, now=now)
    except InvalidInputError as e:
        closed = MissingReason.MALFORMED, str(e)
    said = _observe(closed, venue, slot, now, evidence) if isinstance(closed, RawCandle) else closed
    if not isinstance(said, tuple):
        return said
    reason, detail = said
    return Missing(venue=venue, slot=slot, reason=reason, detail=detail[:200], observed_at=now, evidence=evidence)


def _closed_candle(
    found: Sequence[RawCandle], newest: int, response: Response, *, slot: Slot, now: UnixSeconds
) -> RawCandle | tuple[MissingReason, str]:
    """Return the candle of a minute that has ended, by our clock and by the exchange, or why there is none."""
    end, theirs, has_later = slot + SECONDS_PER_MINUTE, response.answered_at, newest > slot
    if end > now:
        return MissingReason.NOT_CLOSED, f"the minute ends in {end - now} s"
    if not found:
        return _absence(response, slot=slot, now=now, has_later=has_later)
    if any(row != found[0] for row in found):
        return MissingReason.MALFORMED, f"{len(found)} different candles of one minute"
    says_closed = has_later or found[0].closed or (theirs is not None and end <= theirs)
    if found[0].closed is False or not (says_closed or response.target is None):
        clock = f"by its clock it ends in {end - theirs} s" if theirs is not None else "nothing later is there"
        return MissingReason.NOT_CLOSED, f"the exchange has the minute in progress: {clock}"
    return found[0]


def _absence(response: Response, *, slot: Slot, now: UnixSeconds, has_later: bool) -> tuple[MissingReason, str]:
    """Return why a minute that has ended by our clock is not there."""
    theirs, end = response.answered_at, slot + SECONDS_PER_MINUTE
    age = (theirs or now) - slot
    if theirs is not None and theirs < end and not has_later:  # it cannot be late: our clock is fast
        return (
            MissingReason.NOT_CLOSED,
            f"not begun: by the exchange's clock it ends in {end - theirs} s",
        )
    if has_later or age >= LATEST_PUBLICATION:
        return MissingReason.NO_CANDLE, f"none of this minute {age} s after its opening"
    return MissingReason.NOT_YET, f"none of this minute and none later {age} s after its opening"


def _check_asked(exchange: Exchange, response: Response, venue: VenueId, slot: Slot) -> None:
    if response.target is None:
        return
    sent = _parts(response.target)
    if all(sent != _parts(exchange.target(name, slot)) for name in exchange.market_names(venue)):
        raise ResponseShapeError(exchange.name, f"an answer to what we ask for {venue} at {slot}")
    if not 200 <= response.status < 300:  # noqa: PLR2004 - HTTP's classes
        raise ResponseShapeError(exchange.name, f"status 200, not {response.status}")


def _parts(target: str) -> tuple[str, list[tuple[str, str]]]:
    path, _, query = target.partition("?")
    return unquote(path), sorted(parse_qsl(query, keep_blank_values=True))


def _rows(exchange: Exchange, body: bytes, venue: VenueId) -> list[RawCandle]:
    document = parse_json(body)
    try:
        rows = list(exchange.rows(document, venue))
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as e:
        raise ResponseShapeError(exchange.name, f"its documented shape ({type(e).__name__})") from e
    if len(rows) > MAX_ROWS:
        raise ResponseShapeError(exchange.name, f"at most {MAX_ROWS} rows, got {len(rows)}")
    return rows


def _opened_at(row: RawCandle) -> int:
    at = row.opened_at
    if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at <= MAX_U32 or at % SECONDS_PER_MINUTE:
        raise MalformedNumberError("opening time", repr(at)[:40], "a minute's opening in Unix seconds")
    return at


def _observe(
    row: RawCandle, venue: VenueId, slot: Slot, now: UnixSeconds, evidence: Hash32
) -> Quote | LegQuote | tuple[MissingReason, str]:
    try:
        seen = _candle_of(row, venue=venue, slot=slot, now=now, evidence=evidence)
    except MalformedNumberError as e:
        return MissingReason.OUT_OF_RANGE, str(e)
    return seen or (MissingReason.NO_TRADES, f"volume {row.volume}")


def _candle_of(
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
