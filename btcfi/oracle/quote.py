"""What one venue says about one minute: a quote, a leg's rate, or the reason why there is neither.

A venue is one market of one exchange, ``kraken:BTC/USD``. Numbers enter here once, as the decimal text that the
exchange sent, and become integers; no float touches them (docs/oracle.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NewType, NoReturn

from btcfi.errors import InvalidInputError
from btcfi.units import (
    MAX_MONEY_SATS,
    MAX_U32,
    SECONDS_PER_MINUTE,
    CentsPerBtc,
    Hash32,
    Sats,
    Slot,
    UnixSeconds,
    hash32,
    unix_seconds,
)
from btcfi.units import slot as checked_slot

Feed = NewType("Feed", str)
"""What is priced, base and quote: ``BTC/USD``."""

Rate = NewType("Rate", int)
"""Dollars for one coin of a stablecoin, in 1e-8 dollars: 100_000_000 is par."""

BTC_USD: Final = Feed("BTC/USD")
"""The only feed so far: US dollars for one bitcoin."""

PAR: Final = Rate(100_000_000)
"""One coin, one dollar."""

DOLLAR: Final = "USD"
"""The quote currency that needs no conversion."""

LOWEST_PRICE: Final = CentsPerBtc(1_000_00)
"""Sanity: below $1,000 (last seen in March 2017) a number is a mistake in a unit, not a price."""

HIGHEST_PRICE: Final = CentsPerBtc(MAX_U32)
"""Sanity: the guest's word ends at $42,949,672.95."""

LOWEST_RATE: Final = Rate(10_000_000)
HIGHEST_RATE: Final = Rate(200_000_000)
"""Sanity for a leg, $0.10 to $2.00: outside it the coin is no stablecoin any more."""

LEAST_LEG_VOLUME: Final = 100 * 10**8
"""100 coins: whoever trades less in a minute says nothing about what a hundred million of them are worth."""

MAX_LEG_VOLUME: Final = 10**12 * 10**8
"""A million million coins."""

MAX_NUMBER_TEXT: Final = 40
"""Characters of one number. Exchanges send at most 20; more is an attack on the parser."""

_EXACT: Final = Context(prec=2 * MAX_NUMBER_TEXT, Emax=10_000, Emin=-10_000, rounding=ROUND_HALF_EVEN)
_LARGEST_BEFORE_SCALING: Final = Decimal(10) ** 20


class MalformedNumberError(InvalidInputError):
    """A field that should be a decimal number is not one, or not a finite one, or beyond every sane range."""


class MalformedVenueError(InvalidInputError):
    """A venue's text form is not ``exchange:BASE/QUOTE``."""

    def __init__(self, text: str) -> None:
        super().__init__("venue", repr(text[:80]), "exchange:BASE/QUOTE, such as kraken:BTC/USD")


class MalformedObservationError(InvalidInputError):
    """A stored or received observation does not decode."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class VenueId:
    """One market of one exchange."""

    exchange: str
    """The exchange's name in ``btcfi.oracle.venues``, lower case."""
    base: str
    quote: str

    def __str__(self) -> str:
        return f"{self.exchange}:{self.base}/{self.quote}"

    @property
    def symbol(self) -> str:
        """``BASE/QUOTE``, the unified symbol of ccxt."""
        return f"{self.base}/{self.quote}"

    @property
    def is_leg(self) -> bool:
        """Whether this market prices a stablecoin in dollars instead of bitcoin."""
        return self.base != "BTC"


@lru_cache(maxsize=1024)
def parse_venue(text: str) -> VenueId:
    """Return the venue of ``exchange:BASE/QUOTE``. Raises MalformedVenueError."""
    exchange, colon, symbol = text.partition(":")
    base, slash, quote = symbol.partition("/")
    parts = (exchange, base, quote)
    if not (colon and slash) or not all(p.isascii() and p.isalnum() and len(p) <= 32 for p in parts):  # noqa: PLR2004 - a name, not a novel
        raise MalformedVenueError(text)
    if exchange != exchange.lower() or base != base.upper() or quote != quote.upper():
        raise MalformedVenueError(text)
    return VenueId(exchange=exchange, base=base, quote=quote)


class MissingReason(StrEnum):
    """Why a venue has no quote for a slot. The text is what reports, metrics and the database carry."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    RATE_LIMITED = "rate_limited"
    """418 or 429 that says nothing of how long; asked again with the next minute, not before."""
    FORBIDDEN = "forbidden"
    """403 or 451, mostly a geo-block; asking again makes it worse, so it is not retried."""
    SERVER_ERROR = "server_error"
    CLIENT_ERROR = "client_error"
    """Another 4xx: our request is wrong for this exchange."""
    REDIRECTED = "redirected"
    """A 3xx; an exchange's API never redirects, so whoever does is not the exchange."""
    TOO_LARGE = "too_large"
    UNKNOWN_MARKET = "unknown_market"
    MALFORMED = "malformed"
    """Not JSON, truncated, HTML, or another shape than this exchange's candles."""
    OUT_OF_RANGE = "out_of_range"
    """NaN, infinite, zero, negative or beyond the sanity range; or a low above its high."""
    NO_CANDLE = "no_candle"
    """The minute is absent for good, since a later one is there or it is long past: nobody traded."""
    NO_TRADES = "no_trades"
    """The minute is there with volume 0: its close is an older minute's."""
    NOT_CLOSED = "not_closed"
    """The candle is still in progress, or lies in the future."""
    VENUE_ERROR = "venue_error"
    """The exchange answered with an error of its own."""
    SILENT = "silent"
    """No node submitted for this venue."""
    CLOCK_SKEW = "clock_skew"
    """Its node's clock is off by more than the preset allows."""
    STALE = "stale"
    """Its node spoke only about minutes that are over."""
    NOT_REVEALED = "not_revealed"
    """Its node committed to a price and did not reveal it."""
    REFUSED = "refused"
    """Its node's message was refused for another reason, given in the detail."""
    # the place of a reason is signed (submission.py): a new one goes to the end
    NOT_YET = "not_yet"
    """The exchange has not published the minute so far: none later is there either. Some are minutes late at times."""
    ASKED_TO_WAIT = "asked_to_wait"
    """418 or 429 with a time before which the exchange wants to hear nothing; the detail names it."""


AWAITED: Final = frozenset({MissingReason.NOT_YET, MissingReason.NOT_CLOSED})
"""What may still become a quote within the round: worth asking again before the round is closed."""


class MinuteNotClosedError(InvalidInputError):
    """Somebody wants a minute opened, fetched or closed that has not ended."""

    def __init__(self, at: Slot, now: UnixSeconds) -> None:
        ends_in = at + SECONDS_PER_MINUTE - now
        super().__init__("slot", f"{at}, which ends in {ends_in} s", "a minute that has ended")
        self.slot, self.ends_in = at, ends_in


def check_ended(at: Slot, now: UnixSeconds) -> None:
    """Raise MinuteNotClosedError for a minute that has not ended at ``now``, whoever asks for it."""
    if at + SECONDS_PER_MINUTE > now:
        raise MinuteNotClosedError(at, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One venue's closed one-minute candle of bitcoin."""

    venue: VenueId
    slot: Slot
    """The minute's opening second."""
    open: CentsPerBtc
    high: CentsPerBtc
    low: CentsPerBtc
    close: CentsPerBtc
    """Prices in hundredths of the venue's own quote currency, rounded half-even. A USDT price is not dollars yet."""
    volume: Sats
    """Bitcoin traded in the minute, in 1e-8 BTC, above 0."""
    observed_at: UnixSeconds
    """When the response arrived, by the clock of who fetched it."""
    evidence: Hash32
    """SHA-256 of the raw response that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegQuote:
    """One venue's closed one-minute candle of a stablecoin in dollars; rates in 1e-8 dollars, rounded half-even.

    One that an earlier release stored or signed has volume 0 and its close for every rate: it knew no more.
    """

    venue: VenueId
    slot: Slot
    open: Rate
    high: Rate
    low: Rate
    rate: Rate
    """Close of the minute: what converts."""
    volume: int
    """Coins traded in the minute, in 1e-8 coins: at least LEAST_LEG_VOLUME."""
    observed_at: UnixSeconds
    evidence: Hash32
    """SHA-256 of the raw response that says so."""

    @property
    def is_bare(self) -> bool:
        """Whether it is an earlier release's, of which only the close is known."""
        return self.volume == 0


def bare_leg(*, venue: VenueId, slot: Slot, rate: Rate, observed_at: UnixSeconds, evidence: Hash32) -> LegQuote:
    """Return an earlier release's word about a leg, of which only the close is known."""
    return LegQuote(
        venue=venue, slot=slot, open=rate, high=rate, low=rate, rate=rate, volume=0, observed_at=observed_at,
        evidence=evidence,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """No quote from this venue for this slot, and why. Absence is data: the quorum decides what it means."""

    venue: VenueId
    slot: Slot
    reason: MissingReason
    detail: str
    """One line for an operator: what was seen."""
    observed_at: UnixSeconds
    evidence: Hash32 | None = None
    """SHA-256 of the raw response, where one came."""


Observation = Quote | LegQuote | Missing


def decimal_of(field: str, value: object) -> Decimal:
    """Return the exact decimal of a JSON string or number. Raises MalformedNumberError for anything else or non-finite.

    A float is refused: it means that somebody parsed the JSON before us.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise MalformedNumberError(field, f"{type(value).__name__} {str(value)[:40]!r}", "a decimal number as text")
    if isinstance(value, int) and not -MAX_MONEY_SATS * 1000 < value < MAX_MONEY_SATS * 1000:
        raise MalformedNumberError(field, "a whole number of absurd size", "a price or a volume")
    text = str(value)
    if not text or len(text) > MAX_NUMBER_TEXT or not text.isascii() or "_" in text:
        raise MalformedNumberError(field, f"{text[:40]!r}", f"a decimal number of at most {MAX_NUMBER_TEXT} characters")
    try:
        number = _EXACT.create_decimal(text)
    except ArithmeticError as e:
        raise MalformedNumberError(field, f"{text!r}", "a decimal number") from e
    if not number.is_finite():
        raise MalformedNumberError(field, f"{text!r}", "a finite number")
    return number


def scaled(field: str, value: object, *, digits: int, low: int, high: int) -> int:
    """Return ``value * 10**digits`` rounded half-even, when it lies within ``low``..``high``.

    Raises MalformedNumberError otherwise: the one gate between an exchange's text and an integer of ours.
    """
    number = decimal_of(field, value)
    if abs(number) >= _LARGEST_BEFORE_SCALING:
        raise MalformedNumberError(field, f"{value!s}", f"{low} to {high} in units of 1e-{digits}")
    whole = int(_EXACT.to_integral_value(_EXACT.scaleb(number, digits)))
    if not low <= whole <= high:
        raise MalformedNumberError(field, f"{value!s}", f"{low} to {high} in units of 1e-{digits}")
    return whole


def price_of(field: str, value: object) -> CentsPerBtc:
    """Return an exchange's price text in cents, half-even, within the sanity range. Raises MalformedNumberError."""
    return CentsPerBtc(scaled(field, value, digits=2, low=LOWEST_PRICE, high=HIGHEST_PRICE))


def rate_of(field: str, value: object) -> Rate:
    """Return a leg's price text in 1e-8 dollars, half-even, within the sanity range. Raises MalformedNumberError."""
    return Rate(scaled(field, value, digits=8, low=LOWEST_RATE, high=HIGHEST_RATE))


def leg_volume_of(field: str, value: object) -> int:
    """Return a stablecoin market's volume text in 1e-8 coins. Raises MalformedNumberError."""
    return scaled(field, value, digits=8, low=0, high=MAX_LEG_VOLUME)


def volume_of(field: str, value: object) -> Sats:
    """Return an exchange's volume text in 1e-8 BTC, 0 to 21 million BTC. Raises MalformedNumberError."""
    return Sats(scaled(field, value, digits=8, low=0, high=MAX_MONEY_SATS))


def parse_json(raw: bytes | str) -> Any:  # noqa: ANN401 - JSON is any shape until the venue's module has looked
    """Return the document with every non-integer number as Decimal. Raises MalformedObservationError, nothing else."""
    try:
        return json.loads(raw, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, ArithmeticError) as e:
        raise MalformedObservationError("response", f"not JSON ({type(e).__name__})", "the exchange's JSON") from e


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def encode_observation(observation: Observation) -> dict[str, object]:
    """Return the JSON form that the database and the messages carry; hex hashes, units in the names."""
    head: dict[str, object] = {
        "venue": str(observation.venue),
        "slot": observation.slot,
        "observed_at_unix": observation.observed_at,
        "evidence": observation.evidence.hex() if observation.evidence is not None else None,
    }
    if isinstance(observation, Quote):
        return {
            "kind": "quote",
            **head,
            "open_cents": observation.open,
            "high_cents": observation.high,
            "low_cents": observation.low,
            "close_cents": observation.close,
            "volume_sats": observation.volume,
        }
    if isinstance(observation, LegQuote):
        if observation.is_bare:
            return {"kind": "leg", **head, "rate_e8": observation.rate}
        return {
            "kind": "leg",
            **head,
            "open_e8": observation.open,
            "high_e8": observation.high,
            "low_e8": observation.low,
            "rate_e8": observation.rate,
            "volume_e8": observation.volume,
        }
    return {"kind": "missing", **head, "reason": observation.reason.value, "detail": observation.detail}


_JSON: Final = json.JSONDecoder()


def read_observation(text: str) -> Observation:
    """Return the record of ``encode_observation`` from its JSON text. Raises as ``decode_observation`` does."""
    try:
        raw, end = _JSON.raw_decode(text)
    except (ValueError, RecursionError) as e:
        raise MalformedObservationError("observation", "no JSON", "one JSON object") from e
    if end != len(text):
        raise MalformedObservationError("observation", f"something follows at {end}", "one JSON object")
    return decode_observation(raw)


def decode_observation(raw: dict[str, Any]) -> Observation:
    """Return the record of ``encode_observation``; the inverse, with every range checked.

    Raises MalformedObservationError (or UnitOutOfRangeError, MalformedVenueError, MalformedNumberError, all
    InvalidInputError).
    """
    try:
        return _decode(raw)
    except (KeyError, TypeError, AttributeError) as e:
        raise MalformedObservationError("observation", f"{type(e).__name__} {e}", "a quote, leg or missing") from e
    except ValueError as e:
        raise MalformedObservationError("observation", str(e)[:80], "hex digests and a known reason") from e


def _decode(raw: dict[str, Any]) -> Observation:
    venue, at, evidence = parse_venue(raw["venue"]), unix_seconds(raw["observed_at_unix"]), raw["evidence"]
    opened = checked_slot(raw["slot"])
    match raw["kind"]:
        case "quote":
            first, high, low, last, volume = (
                raw["open_cents"], raw["high_cents"], raw["low_cents"], raw["close_cents"], raw["volume_sats"]
            )  # fmt: skip
            quote = Quote(
                venue=venue, slot=opened, open=first, high=high, low=low, close=last, volume=volume, observed_at=at,
                evidence=hash32(bytes.fromhex(evidence)),
            )  # fmt: skip
            # one look at a candle that is in order; only another is looked at field by field, for its error
            if not (
                type(first) is type(high) is type(low) is type(last) is type(volume) is int
                and LOWEST_PRICE <= low <= first <= high <= HIGHEST_PRICE
                and low <= last <= high
                and 1 <= volume <= MAX_MONEY_SATS
            ):
                for field in ("open_cents", "high_cents", "low_cents", "close_cents"):
                    _whole(raw, field, LOWEST_PRICE, HIGHEST_PRICE)
                _whole(raw, "volume_sats", 1, MAX_MONEY_SATS)
                check_candle(quote)
            return quote
        case "leg":
            rate, said = Rate(_whole(raw, "rate_e8", LOWEST_RATE, HIGHEST_RATE)), hash32(bytes.fromhex(evidence))
            if "volume_e8" not in raw:
                return bare_leg(venue=venue, slot=opened, rate=rate, observed_at=at, evidence=said)
            first, high, low = (
                Rate(_whole(raw, name, LOWEST_RATE, HIGHEST_RATE)) for name in ("open_e8", "high_e8", "low_e8")
            )
            leg = LegQuote(
                venue=venue, slot=opened, open=first, high=high, low=low, rate=rate, observed_at=at, evidence=said,
                volume=_whole(raw, "volume_e8", LEAST_LEG_VOLUME, MAX_LEG_VOLUME),
            )  # fmt: skip
            check_leg(leg)
            return leg
        case "missing":
            return Missing(
                venue=venue,
                slot=opened,
                reason=MissingReason(raw["reason"]),
                detail=str(raw["detail"]),
                observed_at=at,
                evidence=hash32(bytes.fromhex(evidence)) if evidence is not None else None,
            )
        case other:
            raise MalformedObservationError("kind", repr(other)[:40], "quote, leg or missing")


def check_candle(quote: Quote) -> None:
    """Raise MalformedNumberError unless low <= open, close <= high and somebody traded."""
    if not quote.low <= min(quote.open, quote.close) <= max(quote.open, quote.close) <= quote.high:
        raise MalformedNumberError(
            "candle",
            f"open {quote.open}, high {quote.high}, low {quote.low}, close {quote.close}",
            "low <= open, close <= high",
        )
    if quote.volume < 1:
        raise MalformedNumberError("volume", str(quote.volume), "above 0")


def check_leg(leg: LegQuote) -> None:
    """Raise MalformedNumberError unless low <= open, close <= high."""
    if not leg.low <= min(leg.open, leg.rate) <= max(leg.open, leg.rate) <= leg.high:
        raise MalformedNumberError(
            "candle",
            f"open {leg.open}, high {leg.high}, low {leg.low}, close {leg.rate}",
            "low <= open, close <= high",
        )


def _whole(raw: dict[str, Any], field: str, low: int, high: int) -> int:
    value = raw[field]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise MalformedNumberError(field, repr(value)[:40], f"a whole number from {low} to {high}")
    return value
