"""What is listed: an option without a quantity, by the field's name for it, ``BTC-27NOV26-60000-C``.

The name says everything that decides money, so a name is a contract's terms but for its size:
``BTC-DATE[THHMM]-STRIKE-KIND[-KOBARRIER][-AM][-FIXING]``. Date and minute are UTC; 08:00 is left out. Cents of
a strike or a barrier stand behind a ``d``, where there are any (``0d50`` is half a dollar). KIND is ``C``, ``P``,
``BC``, ``BP``. FIXING is left out where it is the standard one: ``TWAP30`` of a European, ``MINUTE`` of an American
option. The year has two digits and is of this century: an instrument of another has no name, so there is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.options.terms import InvalidTermsError, OptionKind, OptionTerms, check_style, required_collateral
from btcfi.oracle.fixing import MINUTE, Fixing, FixingKind, WrongFixingError, parse_fixing
from btcfi.units import MAX_U32, SECONDS_PER_MINUTE, CentiBtc, Cents, CentsPerBtc, Minutes, Slot, slot

UNDERLYING: Final = "BTC"

STANDARD_FIXING: Final = Fixing(FixingKind.TWAP, Minutes(30))
"""What a name without a fixing means for a European option: part of the names, so no preset may change it."""

LONGEST_NAME: Final = 64
"""Characters."""

EXPECTED: Final = "an instrument such as BTC-27NOV26-60000-C"

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_CODES: Final = {OptionKind.CALL: "C", OptionKind.PUT: "P", OptionKind.BINARY_CALL: "BC", OptionKind.BINARY_PUT: "BP"}
_KINDS: Final = {code: kind for kind, code in _CODES.items()}
_USUAL_TIME: Final = "0800"
_FIRST, _LAST = 946_684_800, 4_102_444_740
"""The minutes that a name can say: 2000-01-01 00:00 to 2099-12-31 23:59 UTC."""
_PRICE: Final = r"(?:0|[1-9][0-9]{0,7})(?:d[0-9]{2})?"
_NAME: Final = re.compile(
    rf"BTC-(?P<day>[1-9][0-9]?)(?P<month>[A-Z]{{3}})(?P<year>[0-9]{{2}})(?:T(?P<time>[0-9]{{4}}))?-(?P<strike>{_PRICE})"
    rf"-(?P<kind>C|P|BC|BP)(?:-KO(?P<barrier>{_PRICE}))?(?P<american>-AM)?(?:-(?P<fixing>MINUTE|(?:TWAP|MEDIAN)[0-9]{{1,2}}))?"
)


class UnknownInstrumentError(InvalidInputError):
    """A name that names no instrument."""

    def __init__(self, name: object, problem: str, expected: str = EXPECTED) -> None:
        super().__init__("instrument", f"{str(name)[:LONGEST_NAME]!a} {problem}", expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """Terms without quantity and premium. Raises UnknownInstrumentError, InvalidTermsError for impossible ones.

    The collateral is no part of it: it is what ``required_collateral`` says, and no more.
    """

    kind: OptionKind
    strike: CentsPerBtc
    expiry: Slot
    """The minute that settles it, or ends its window."""
    barrier: CentsPerBtc | None = None
    """Knock-out level, as ``OptionTerms.barrier``."""
    american: bool = False
    fixing: Fixing = STANDARD_FIXING

    def __post_init__(self) -> None:
        """Check what no market decides."""
        check_style(self.fixing, american=self.american)
        if self.expiry % SECONDS_PER_MINUTE or not _FIRST <= self.expiry <= _LAST:
            raise UnknownInstrumentError(self.expiry, "has no name", "an expiry on a whole minute of 2000 to 2099")
        for field, price in (("strike", self.strike), ("barrier", self.barrier)):
            if price is not None and not 0 < price <= MAX_U32:
                raise UnknownInstrumentError(price, f"is no {field}", f"a {field} of 1 to {MAX_U32} cents")
        if self.barrier == self.strike:
            raise UnknownInstrumentError(self.barrier, "is the strike", "a barrier above it or below it")

    @property
    def name(self) -> str:
        """The one name of this instrument."""
        at = datetime.fromtimestamp(self.expiry, UTC)
        time = f"{at:%H%M}"
        parts = [
            UNDERLYING,
            f"{at.day}{_MONTHS[at.month - 1]}{at:%y}" + ("" if time == _USUAL_TIME else f"T{time}"),
            _price(self.strike),
            _CODES[self.kind],
        ]
        if self.barrier is not None:
            parts.append(f"KO{_price(self.barrier)}")
        if self.american:
            parts.append("AM")
        if self.fixing != (MINUTE if self.american else STANDARD_FIXING):
            parts.append(str(self.fixing).replace(":", "").upper())
        return "-".join(parts)

    def terms(self, quantity: CentiBtc, premium: Cents) -> OptionTerms:
        """Return what two parties sign for a quantity at a premium of the whole. Raises InvalidTermsError."""
        return OptionTerms(
            kind=self.kind, strike=self.strike, quantity=quantity, barrier=self.barrier, american=self.american,
            expiry=self.expiry, premium=premium, collateral=required_collateral(self.kind, quantity),
            fixing=self.fixing,
        )  # fmt: skip


def parse_instrument(name: str) -> Instrument:
    """Return the instrument of a name in its one spelling. Raises UnknownInstrumentError."""
    found = _NAME.fullmatch(name) if isinstance(name, str) and len(name) <= LONGEST_NAME else None
    if found is None:
        raise UnknownInstrumentError(name, "cannot be read", _meant(name))
    american = found["american"] is not None
    try:
        instrument = Instrument(
            kind=_KINDS[found["kind"]],
            strike=_cents(found["strike"]),
            expiry=_minute(found["day"], found["month"], found["year"], found["time"] or _USUAL_TIME),
            barrier=None if found["barrier"] is None else _cents(found["barrier"]),
            american=american,
            fixing=_fixing(found["fixing"], american=american),
        )
    except (ValueError, WrongFixingError) as e:
        raise UnknownInstrumentError(name, "names no minute or no window that there is") from e
    except InvalidTermsError as e:  # an American option on a window
        raise UnknownInstrumentError(name, f"cannot be: {e.problem}", e.expected) from e
    if instrument.name != name:  # one instrument, one name: a book must not be split in two
        raise UnknownInstrumentError(name, "is written in another way", instrument.name)
    return instrument


def _meant(name: object) -> str:
    """Return the one spelling of what somebody wrote in another: in small letters, with commas, ``05JAN``, ``CALL``."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        return EXPECTED
    text = re.sub(r"(?<=[0-9])[D.](?=[0-9]{2}(?:-|$))", "d", name.strip().upper().replace(",", ""))
    text = re.sub(r"^BTC-0(?=[1-9])", "BTC-", text.replace("d00", ""))
    text = re.sub(r"(?<=-)(B?[CP])(?:ALL|UT)(?=-|$)", r"\1", text)
    if text == name or _NAME.fullmatch(text) is None:
        return EXPECTED
    try:
        return parse_instrument(text).name
    except (UnknownInstrumentError, InvalidTermsError):
        return EXPECTED


def instrument_of(terms: OptionTerms) -> Instrument:
    """Return the instrument of an option's terms."""
    return Instrument(
        kind=terms.kind, strike=terms.strike, expiry=terms.expiry, barrier=terms.barrier, american=terms.american,
        fixing=terms.window,
    )  # fmt: skip


def _price(cents: CentsPerBtc) -> str:
    return f"{cents // 100}" + (f"d{cents % 100:02d}" if cents % 100 else "")


def _cents(text: str) -> CentsPerBtc:
    whole, _, fraction = text.partition("d")
    return CentsPerBtc(int(whole) * 100 + int(fraction or 0))


def _minute(day: str, month: str, year: str, time: str) -> Slot:
    at = datetime(2000 + int(year), _MONTHS.index(month) + 1, int(day), int(time[:2]), int(time[2:]), tzinfo=UTC)
    return slot(int(at.timestamp()))


def _fixing(text: str | None, *, american: bool) -> Fixing:
    if text is None:
        return MINUTE if american else STANDARD_FIXING
    return parse_fixing(re.sub(r"(?<=[A-Z])(?=[0-9])", ":", text).lower())
