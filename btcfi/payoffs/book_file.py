"""A net book as a file of data: TOML with an expiry, a floor, perhaps a barrier, and a table a leg.

    expiry = "2030-01-04T08:00:00Z"   # a whole minute: the one that the oracles announce
    floor = "50000"
    barrier = "130000"                # only where a leg ends by it
    [[leg]]
    kind = "call"                     # put, binary_call, binary_put, digital_call, digital_put, forward
    strike = "95000"
    quantity = "-0.10"                # BTC, below zero: sold by the holder
    cash = "1000"                     # of a digital, USD per BTC
    knock_out = true                  # ends when the barrier is touched

Numbers are texts, read as everywhere (docs/api.md, "Numbers"). Reading one runs nobody's code.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Final

from btcfi.documents import printable
from btcfi.errors import InvalidInputError
from btcfi.options.order import parse_dollars, parse_quantity, parse_time
from btcfi.payoffs.book import Book, book_of
from btcfi.payoffs.curve import MAX_LEGS, Leg, LegKind
from btcfi.records import Rule, listed, one_of, optional, record
from btcfi.units import CentsPerBtc, Slot

MAX_FILE: Final = 64 << 10


def _dollars(value: object) -> CentsPerBtc:
    if not isinstance(value, str):  # a TOML float is not what was written
        raise TypeError(value)
    return parse_dollars(value, "price")


def _quantity(value: object) -> int:
    if not isinstance(value, str):
        raise TypeError(value)
    amount = parse_quantity(value.removeprefix("-"))
    return -amount if value.startswith("-") else int(amount)


_PRICE: Final = Rule(_dollars, 'dollars per bitcoin as text, such as "95000" or "95,000.50"')
_AMOUNT: Final = Rule(_quantity, 'bitcoin in hundredths as text, such as "0.25" or "-0.10"')


@dataclass(frozen=True, slots=True, kw_only=True)
class _LegRow:
    kind: LegKind
    strike: CentsPerBtc
    quantity: int
    cash: CentsPerBtc | None = None
    knock_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    expiry: str
    leg: tuple[_LegRow, ...]
    floor: CentsPerBtc | None = None
    barrier: CentsPerBtc | None = None


_ROW: Final = record(
    _LegRow, exact=True, may_lack=("cash", "knock_out"), kind=one_of(LegKind), strike=_PRICE, quantity=_AMOUNT,
    cash=optional(_PRICE),
)  # fmt: skip
_FILE: Final = record(
    _File, exact=True, may_lack=("floor", "barrier"), leg=listed(_ROW, 4 * MAX_LEGS), floor=optional(_PRICE),
    barrier=optional(_PRICE),
)  # fmt: skip


def read_book(text: str, *, what: str) -> Book:
    """Return the book of a file. what: the file's name, for a refusal. Raises InvalidInputError naming the field."""
    try:
        stored = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise InvalidInputError(what, printable(str(e), 200), "TOML") from e
    file = _FILE.read(stored, what)
    expiry = Slot(parse_time(file.expiry, f"{what}.expiry"))
    legs = [
        (row.knock_out, Leg(kind=row.kind, strike=row.strike, quantity=row.quantity, cash=row.cash)) for row in file.leg
    ]
    return book_of(
        [leg for ends, leg in legs if not ends], knock_outs=[leg for ends, leg in legs if ends], expiry=expiry,
        floor=file.floor, barrier=file.barrier,
    )  # fmt: skip
