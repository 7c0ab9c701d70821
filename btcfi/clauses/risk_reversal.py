"""Rubin's risk reversal: who holds bitcoin and wants dollars within a range, as outcomes of a bet.

Integers as in the published code (prices in ten-thousandths of a dollar, a level each dollar), without its faults:
there ``amount * price`` overflows 64 bits above 368.9 BTC at $50,000, a range down to nothing divides by zero, and the
check behind it can't fire on unsigned numbers. Here numbers have no width and each of these is an answer or a refusal.
Source: Rubin (2021), ``RiskReversal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from btcfi.clauses.bet import Outcome, divided
from btcfi.errors import InvalidInputError
from btcfi.units import Sats, sats

ONE_UNIT: Final = 10_000
"""Price units of a dollar."""

MAX_LEVELS: Final = 1_000_000
"""Of one table: $1,000,000 of range at a dollar each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a level pays to whom; user + operator is the same at every level."""

    level: int
    user: Sats
    operator: Sats


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskReversal:
    """A position whose dollar value stays what it is between two prices."""

    amount: Sats
    """The user's bitcoin."""
    current: int
    """The price now, in ten-thousandths of a dollar."""
    down: tuple[int, int]
    """How far it holds below, as a fraction of the price: (7, 91) is 7/91."""
    up: tuple[int, int]

    def __post_init__(self) -> None:
        """Raise InvalidInputError for amounts, prices and fractions that make no range."""
        sats(self.amount)
        if self.amount < 1 or self.current < 1:
            raise InvalidInputError("risk reversal", f"{self.amount} sats at {self.current}", "both above 0")
        for name, (top, bottom) in (("down", self.down), ("up", self.up)):
            if bottom < 1 or top < 0:
                raise InvalidInputError(name, f"{top}/{bottom}", "a fraction, not below 0")
        if self.bottom < ONE_UNIT:
            raise InvalidInputError("down", f"{self.down[0]}/{self.down[1]}", "a range that ends at $1 or above")
        if self.levels > MAX_LEVELS:
            raise InvalidInputError("range", f"{self.levels} levels", f"at most {MAX_LEVELS}")

    @property
    def bottom(self) -> int:
        """The lowest level: rounded down to a dollar."""
        return (self.current - self.current * self.down[0] // self.down[1]) // ONE_UNIT * ONE_UNIT

    @property
    def top(self) -> int:
        """The highest: rounded up to a dollar."""
        return -(-(self.current + self.current * self.up[0] // self.up[1]) // ONE_UNIT) * ONE_UNIT

    @property
    def levels(self) -> int:
        """How many rows its table has."""
        return (self.top - self.bottom) // ONE_UNIT + 1

    @property
    def max_amount(self) -> Sats:
        """What the contract must hold: the user's bitcoin and what the operator adds for the lowest level."""
        return Sats(self.amount * self.current // self.bottom)

    def row(self, level: int) -> Row:
        """Return what a level of the range pays. Raises InvalidInputError for another."""
        if not self.bottom <= level <= self.top:
            raise InvalidInputError("level", str(level), f"{self.bottom} to {self.top}")
        user = Sats(self.amount * self.current // level)
        return Row(level=level, user=user, operator=Sats(self.max_amount - user))

    def rows(self) -> tuple[Row, ...]:
        """Return the whole table, a row each dollar."""
        return tuple(self.row(level) for level in range(self.bottom, self.top + 1, ONE_UNIT))


def outcomes_of(rows: Iterable[Row], *, user_script: bytes, operator_script: bytes) -> tuple[Outcome, ...]:
    """Return the outcomes of a table; a part below dust as in every contract."""
    return tuple(
        Outcome(
            level=row.level,
            pays=divided(
                Sats(row.user + row.operator), row.user, script=user_script, rest_script=operator_script
            ),
        )
        for row in rows
    )  # fmt: skip


def thinned(rows: Sequence[Row], count: int) -> tuple[Row, ...]:
    """Return ``count`` rows of a table, its ends among them, evenly apart. Raises InvalidInputError."""
    if not 2 <= count <= len(rows):  # noqa: PLR2004 - both ends
        raise InvalidInputError("levels", str(count), f"2 to {len(rows)}")
    return tuple(rows[place * (len(rows) - 1) // (count - 1)] for place in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The published formulas in exact numbers: bitcoin and dollars."""

    added: Fraction
    """Y, what the operator adds: Y * current = a (X + Y)."""
    gained: Fraction
    """Z, what the operator may gain: (current + b)(X - Z) = current * X."""
    gained_usd: Fraction
    """Z at the upper price, which is b * X dollars."""
    value_usd: Fraction
    """What the user's bitcoin is worth between the two prices."""


def identity(*, amount: Fraction, current: Fraction, a: Fraction, b: Fraction) -> Identity:
    """Return Y and Z of X bitcoin at a price that may fall by ``a`` or rise by ``b`` dollars.

    Raises InvalidInputError unless 0 <= a < current, b >= 0 and X > 0.
    """
    if not (0 <= a < current and b >= 0 and amount > 0):
        raise InvalidInputError("risk reversal", f"X {amount}, price {current}, a {a}, b {b}", "0 <= a < price, b >= 0")
    gained = b * amount / (b + current)
    return Identity(
        added=a * amount / (current - a),
        gained=gained,
        gained_usd=gained * (current + b),
        value_usd=amount * current,
    )
