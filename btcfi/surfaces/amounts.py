"""What a person types for an option: dollars, bitcoin, a minute. One reader for every command."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from btcfi.options.terms import MAX_QUANTITY, InvalidTermsError
from btcfi.surfaces.rest.times import parse_time
from btcfi.units import (
    MAX_U32,
    SECONDS_PER_MINUTE,
    CentiBtc,
    CentsPerBtc,
    Minutes,
    Slot,
    UnixSeconds,
    slot_of,
    unix_seconds,
)

CENTS: Final = 2
"""Decimals of a dollar, and of the hundredths of a bitcoin that the guest counts in."""

LONGEST_NUMBER: Final = 40
"""Characters: more is no amount, and Decimal would spend minutes on a million digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """A minute, or a distance from the market's now."""

    at: Slot | None = None
    after: Minutes | None = None

    def slot(self, now: UnixSeconds) -> Slot:
        """Return the minute. Raises UnitOutOfRangeError after the year 2106."""
        if self.at is not None:
            return self.at
        return Slot(unix_seconds(slot_of(now) + (self.after or 0) * SECONDS_PER_MINUTE))


def parse_dollars(text: str, field: str) -> CentsPerBtc:
    """Return a price such as ``60000``, ``60000.50`` or ``60000 USD`` in cents, exactly. Raises InvalidTermsError."""
    number = text.strip().upper().removesuffix("USD").rstrip()
    return CentsPerBtc(_scaled(number, field, highest=MAX_U32, expected="USD per BTC with at most two decimals"))


def parse_quantity(text: str) -> CentiBtc:
    """Return a quantity such as ``0.25`` or ``0.25 BTC`` in hundredths, exactly. Raises InvalidTermsError."""
    number = text.strip().upper().removesuffix("BTC").rstrip()
    expected = "BTC in whole hundredths"
    return CentiBtc(_scaled(number, "quantity", highest=MAX_QUANTITY, expected=expected))


def parse_expiry(text: str) -> Expiry:
    """Return the expiry that ISO 8601 with a zone, unix seconds or ``+MINUTES`` mean. Raises InvalidTermsError."""
    if not text.startswith("+"):
        at = parse_time(text, "expiry")
        if at % SECONDS_PER_MINUTE:
            raise InvalidTermsError("expiry", f"{text} is not on a minute", "a whole minute")
        return Expiry(at=Slot(at))
    minutes = text[1:]
    if not (minutes.isascii() and minutes.isdigit() and len(minutes) <= 8 and int(minutes)):  # noqa: PLR2004 - as said
        raise InvalidTermsError("expiry", repr(text[:LONGEST_NUMBER]), "+MINUTES: 1 to 8 digits, above 0")
    return Expiry(after=Minutes(int(minutes)))


def _scaled(text: str, field: str, *, highest: int, expected: str) -> int:
    expected = f"{expected}, from 0.01 to {Decimal(highest).scaleb(-CENTS)}"
    try:
        number = Decimal(text if len(text) <= LONGEST_NUMBER else "no number")
    except InvalidOperation as e:
        raise InvalidTermsError(field, repr(text[:LONGEST_NUMBER]), expected) from e
    # compared before it is scaled: 1E+999999 would be a million digits as an integer
    if not number.is_finite() or not 0 < number <= Decimal(highest).scaleb(-CENTS):
        raise InvalidTermsError(field, text, expected)
    scaled = number.scaleb(CENTS)
    if scaled != scaled.to_integral_value():
        raise InvalidTermsError(field, text, expected)
    return int(scaled)
