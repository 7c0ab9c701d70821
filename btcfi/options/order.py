"""What somebody wants to buy, and the one reader of what a person or a program writes for it.

Every door reads numbers here: the command line, the console's form, the body and the query of the REST API, a party's
option. A number has one meaning or none: digits 0 to 9, commas only where they part groups of three, a point, at most
two decimals. Everything else is refused by the name of its field, because each of the other spellings has been read as
another amount by somebody's parser (docs/api.md, "Numbers").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from btcfi.documents import KeyTwiceError, parse_json
from btcfi.errors import ConflictError, InvalidInputError, UnitOutOfRangeError
from btcfi.options.terms import MAX_QUANTITY, InvalidTermsError, OptionKind
from btcfi.oracle.fixing import Fixing, WrongFixingError, parse_fixing
from btcfi.units import (
    MAX_MONEY_SATS,
    MAX_U32,
    SECONDS_PER_MINUTE,
    CentiBtc,
    Cents,
    CentsPerBtc,
    Minutes,
    Sats,
    Slot,
    UnixSeconds,
    slot_of,
    unix_seconds,
)

DECIMALS: Final = 2
"""Of a dollar, and of the hundredths of a bitcoin that the guest counts in."""

LONGEST_NUMBER: Final = 40
"""Characters: more is no amount."""

_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.[0-9]{1,2})?")
_DOLLARS: Final = re.compile(r"\$?(?P<prefixed>[0-9.,]+)|(?P<plain>[0-9.,]+) ?USD", re.ASCII | re.IGNORECASE)
_BITCOIN: Final = re.compile(r"(?P<plain>[0-9.,]+)(?: ?BTC)?", re.ASCII | re.IGNORECASE)
_MINUTES: Final = re.compile(r"\+[0-9]{1,8}")
_SECONDS: Final = re.compile(r"[0-9]{1,19}")
_FRACTION: Final = re.compile(r"[.,][0-9]*[1-9]")
"""Of a second, in ISO 8601; one of zeros says nothing, and JavaScript writes it."""

UNITS: Final = {"minutes": 1, "hours": 60, "days": 1_440}
"""In which a distance to the expiry may be given."""

MAX_MINUTES: Final = 366 * 1_440
"""The longest such distance."""

_SHOWN: Final = 40


class Number(str):
    """A JSON number as it was written: what it means is read like every other number's text."""

    __slots__ = ()


class PriceMovedError(ConflictError):
    """The premium at the sale is above the limit that the buyer was shown."""

    def __init__(self, *, premium: Cents, limit: Cents) -> None:
        super().__init__(
            f"the premium is now {usd(premium)}, above the limit of {usd(limit)}; nothing was sold: quote again"
        )
        self.premium, self.limit = premium, limit


class QuoteExpiredError(ConflictError):
    """The quote that the buyer was shown is older than quotes live, or is of another clock."""

    def __init__(self, *, age_seconds: int, valid_seconds: int) -> None:
        said = f"is {age_seconds} s old" if age_seconds >= 0 else f"lies {-age_seconds} s in the future"
        super().__init__(f"the quote {said}, and a quote is good for {valid_seconds} s; nothing was sold: quote again")
        self.age_seconds, self.valid_seconds = age_seconds, valid_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """A minute, or a distance from the market's now."""

    at: Slot | None = None
    after: Minutes | None = None

    def slot(self, now: UnixSeconds) -> Slot:
        """Return the minute. Raises InvalidTermsError after the year 2106."""
        if self.at is not None:
            return self.at
        try:
            return Slot(unix_seconds(slot_of(now) + (self.after or 0) * SECONDS_PER_MINUTE))
        except UnitOutOfRangeError as e:
            raise InvalidTermsError("expiry", f"{self.after} minutes from now", "a minute before the year 2106") from e


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants to buy; premium and collateral follow from it and the market."""

    option_id: str
    """Chosen by who asks: the same id twice is the same option."""
    kind: OptionKind
    strike: CentsPerBtc
    quantity: CentiBtc
    barrier: CentsPerBtc | None
    american: bool
    expiry: Slot
    fixing: Fixing | None = None
    """What settles it. None: as the deployment's preset says, of an American one its minute."""
    max_premium: Cents | None = None
    """Of the whole: above it nothing is sold, below it at the price of the moment. None: whatever it costs then."""
    quoted_at: UnixSeconds | None = None
    """When the limit was shown, by the wall clock of who quoted; an old quote sells nothing. None: it is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The terms of an order as a person names them: the expiry may be a distance."""

    kind: OptionKind
    strike: CentsPerBtc
    quantity: CentiBtc
    barrier: CentsPerBtc | None
    american: bool
    expiry: Expiry
    fixing: Fixing | None
    """None: the preset's, of an American option its minute."""

    def order(
        self,
        option_id: str,
        now: UnixSeconds,
        *,
        max_premium: Cents | None = None,
        quoted_at: UnixSeconds | None = None,
    ) -> Order:
        """Return the order. now: the market's clock. Raises InvalidTermsError for an expiry after the year 2106."""
        return Order(
            option_id=option_id, kind=self.kind, strike=self.strike, quantity=self.quantity, barrier=self.barrier,
            american=self.american, expiry=self.expiry.slot(now), fixing=self.fixing, max_premium=max_premium,
            quoted_at=quoted_at,
        )  # fmt: skip


def read_wanted(
    *, kind: str, strike: str, quantity: str, expiry: Expiry, barrier: str | None = None, american: bool = False,
    fixing: str | None = None,
) -> Wanted:  # fmt: skip
    """Return the terms that texts name. Raises InvalidTermsError and WrongFixingError naming the first wrong field."""
    return Wanted(
        kind=parse_kind(kind),
        strike=parse_dollars(strike, "strike"),
        quantity=parse_quantity(quantity),
        barrier=None if barrier is None else parse_dollars(barrier, "barrier"),
        american=american,
        expiry=expiry,
        fixing=None if fixing is None else read_fixing(fixing),
    )


# ---- the fields


def parse_kind(text: str) -> OptionKind:
    """Return the kind of ``call``, ``binary_put``, also written ``Binary-Put``. Raises InvalidTermsError."""
    return OptionKind.from_label(text[:_SHOWN].lower().replace("-", "_"))


def parse_dollars(text: object, field: str) -> CentsPerBtc:
    """Return a price such as ``60000``, ``60,000.50``, ``$60000`` or ``60000 USD`` in cents, exactly.

    Raises InvalidTermsError naming ``field``.
    """
    expected = _expected("USD per BTC with at most two decimals", MAX_U32, "60000.50 or 60,000.50")
    return CentsPerBtc(_hundredths(text, field, _DOLLARS, highest=MAX_U32, expected=expected))


def parse_amount(text: object, field: str) -> Cents:
    """Return an amount of dollars, written as a price is, in cents. Raises InvalidTermsError naming ``field``."""
    expected = _expected("USD with at most two decimals", MAX_U32, "12.50 or 1,250.00")
    return Cents(_hundredths(text, field, _DOLLARS, highest=MAX_U32, expected=expected))


def parse_quantity(text: object, field: str = "quantity") -> CentiBtc:
    """Return a quantity such as ``0.25`` or ``0.25 BTC`` in hundredths, exactly. Raises InvalidTermsError."""
    expected = _expected("BTC in whole hundredths", MAX_QUANTITY, "0.25")
    return CentiBtc(_hundredths(text, field, _BITCOIN, highest=MAX_QUANTITY, expected=expected))


def parse_sats(text: str, field: str) -> Sats:
    """Return whole satoshis, ``129,090`` or ``129090``. Raises InvalidTermsError naming ``field``."""
    digits = text.strip(" ")
    found = len(digits) <= LONGEST_NUMBER and "." not in digits and _NUMBER.fullmatch(digits)
    number = int(digits.replace(",", "")) if found else -1
    if not 0 <= number <= MAX_MONEY_SATS:
        expected = f"whole satoshis, 0 to {MAX_MONEY_SATS}: digits 0-9, commas between groups of three"
        raise InvalidTermsError(field, repr(text[:_SHOWN]), expected)
    return Sats(number)


def parse_expiry(text: str) -> Expiry:
    """Return the expiry that ISO 8601 with a zone, unix seconds or ``+MINUTES`` mean. Raises InvalidTermsError."""
    if not text.startswith("+"):
        at = parse_time(text, "expiry")
        if at % SECONDS_PER_MINUTE:
            raise InvalidTermsError("expiry", f"{text} is not on a minute", "a whole minute")
        return Expiry(at=Slot(at))
    if not (_MINUTES.fullmatch(text) and int(text)):
        raise InvalidTermsError("expiry", repr(text[:_SHOWN]), "+MINUTES: 1 to 8 digits, above 0")
    return Expiry(after=Minutes(int(text)))


def parse_distance(count: object, unit: str) -> Expiry:
    """Return the expiry that ``1.5`` and ``hours`` mean. Raises InvalidTermsError unless that is whole minutes."""
    if unit not in UNITS:
        raise InvalidTermsError("expiry", repr(unit[:_SHOWN]), "minutes, hours or days")
    expected = _expected(f"a number of {unit}", MAX_MINUTES * 100 // UNITS[unit], "1.5" if unit != "minutes" else "90")
    minutes, rest = divmod(
        _hundredths(count, "expiry", _NUMBER, highest=MAX_MINUTES * 100 // UNITS[unit], expected=expected)
        * UNITS[unit],
        100,
    )
    if rest:
        raise InvalidTermsError("expiry", f"{str(count)[:_SHOWN]} {unit}", "a whole number of minutes")
    return Expiry(after=Minutes(minutes))


def parse_time(text: str, field: str) -> UnixSeconds:
    """Return a time given in ISO 8601 with a zone, or in seconds since 1970; whole seconds.

    Raises InvalidInputError, also for a fraction of a second, since what is cut off is another time.
    """
    text = text.strip(" ")
    try:
        if _SECONDS.fullmatch(text):
            return unix_seconds(int(text))
        # a calendar may read other digits than ours, and a thin space between date and time
        moment = datetime.fromisoformat(text if text.isascii() else "")
        if _FRACTION.search(text):  # also one that the calendar cuts off
            problem = f"{text[:_SHOWN]!r} has a fraction of a second"
            raise InvalidInputError(field, problem, "whole seconds, e.g. 2026-12-31T08:00:00Z")
        if moment.tzinfo is None:
            raise InvalidInputError(field, f"{text[:_SHOWN]!r} names no time zone", "a zone, e.g. 2026-12-31T08:00:00Z")
        return unix_seconds(int(moment.timestamp()))
    except (UnitOutOfRangeError, OverflowError) as e:
        raise InvalidInputError(field, repr(text[:_SHOWN]), "a time from 1970 to 2106") from e
    except ValueError as e:
        raise InvalidInputError(field, repr(text[:_SHOWN]), "ISO 8601 with a zone, or seconds since 1970") from e


def read_fixing(text: str) -> Fixing:
    """Return the fixing of its one spelling. Raises WrongFixingError."""
    if not text.isascii():
        raise WrongFixingError("fixing", repr(text[:_SHOWN]), "minute, twap:N or median:N, in ASCII")
    return parse_fixing(text)


def usd(cents: int) -> str:
    """Return cents as dollars to read, e.g. ``$1,234.50``."""
    return f"${cents // 100:,}.{cents % 100:02d}"


# ---- JSON and forms


def read_body(raw: bytes, what: str = "body") -> Any:  # noqa: ANN401 - JSON is any shape until a reader has looked
    """Return the value of a JSON body that every parser reads alike, its fractions as ``Number``.

    Raises InvalidInputError: also for NaN and Infinity, and for a key that stands twice, which it names.
    """
    try:
        return parse_json(raw, what, fraction=Number)
    except KeyTwiceError as e:
        raise InvalidInputError(e.key, "stands twice in an object", "each key once") from e


def refuse_twice(names: Mapping[str, int]) -> None:
    """Refuse a form or a query that gives a field more than once; names: how often each came.

    Which of two counts is nobody's to guess. Raises InvalidInputError naming the field.
    """
    for name, count in names.items():
        if count > 1:
            raise InvalidInputError(name[:_SHOWN], f"stands {count} times", "each field once")


# ---- numbers


def _expected(what: str, highest: int, example: str) -> str:
    most = Decimal(highest).scaleb(-DECIMALS)
    return f"{what}, from 0.01 to {most}, digits 0-9 and no comma but between groups of three, e.g. {example}"


def _hundredths(value: object, field: str, form: re.Pattern[str], *, highest: int, expected: str) -> int:
    """Return a positive number of at most two decimals, as it is written, in hundredths."""
    text = _text(value, field, expected)
    shown = repr(text[:_SHOWN]) if text else "nothing"
    found = form.fullmatch(text) if len(text) <= LONGEST_NUMBER else None
    digits = next((part for part in found.groups() if part is not None), found[0]) if found is not None else ""
    if not _NUMBER.fullmatch(digits):
        raise InvalidTermsError(field, shown, expected)
    whole, _, fraction = digits.replace(",", "").partition(".")
    number = int(whole) * 10**DECIMALS + int(fraction.ljust(DECIMALS, "0") if fraction else 0)
    if not 0 < number <= highest:
        raise InvalidTermsError(field, shown, expected)
    return number


def _text(value: object, field: str, expected: str) -> str:
    if isinstance(value, str):
        return str(value).strip(" ")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise InvalidTermsError(field, f"{value!r:.40}", expected)
    return str(value)


__all__ = [
    "DECIMALS", "LONGEST_NUMBER", "MAX_MINUTES", "UNITS", "Expiry", "Number", "Order", "PriceMovedError",
    "QuoteExpiredError", "Wanted", "parse_amount", "parse_distance", "parse_dollars", "parse_expiry", "parse_kind",
    "parse_quantity", "parse_sats", "parse_time", "read_body", "read_fixing", "read_wanted", "refuse_twice", "usd",
]  # fmt: skip
