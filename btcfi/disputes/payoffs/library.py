"""The payoffs of the field as expressions over attested minutes: what settles, and what it pays.

A *settling value* is one number of the outcomes: the price, the mean, the median, the average that is a strike. What it
pays is satoshis out of the collateral, or cents, as ``option_settlement`` computes both: the strike, the cap and the
price in cents, the quantity in hundredths of a bitcoin, one division, rounded down.

Medians are of *agreed* minutes, of which m of n oracles attest one and the same. Of the oracles' own prices a median is
left out: with one oracle silent the circuit lacks an input, and with one that equivocates a digit has two values, so a
single oracle would decide which side cannot play.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from btcfi.disputes.payoffs.expression import (
    OUTCOME_BITS,
    Expression,
    above,
    choose,
    least,
    less,
    most,
    negated,
    price,
    sum_of,
)
from btcfi.errors import InvalidInputError
from btcfi.options.terms import SATS_PER_CENTIBTC
from btcfi.oracle.announcement import CENTS_PER_DOLLAR
from btcfi.units import CentiBtc, CentsPerBtc, Sats

CENTIBTC_PER_BTC: Final = 100


class Piece(Protocol):
    """One piece of a payoff of one price, as ``btcfi.payoffs.curve.Piece`` is."""

    @property
    def start(self) -> CentsPerBtc:
        """From here on, to the next piece's start."""
        ...

    @property
    def constant(self) -> int:
        """Satoshis."""
        ...

    @property
    def numerator(self) -> int:
        """Cents times satoshis: divided by the price."""
        ...


# ---- settling values, of outcomes in dollars


def prices(events: int, bits: int = OUTCOME_BITS) -> list[Expression]:
    """Return the outcomes of so many events, in their order."""
    return [price(event, bits) for event in range(events)]


def mean(values: Sequence[Expression]) -> Expression:
    """Return the mean, to the nearest whole, half up."""
    count = len(values)
    return (sum_of(values) * 2 + count) // (2 * count)


def median(values: Sequence[Expression]) -> Expression:
    """Return the middle one. Raises InvalidInputError for an even number of values."""
    row, count = list(values), len(values)
    if count % 2 == 0:
        raise InvalidInputError("events", str(count), "an odd number: of an even one the median is a mean of two")
    # as many passes as it takes until the middle is settled: the largest of what is left to the end each time
    for last in range(count - 1, count // 2 - 1, -1):
        for place in range(last):
            row[place], row[place + 1] = least(row[place], row[place + 1]), most(row[place], row[place + 1])
    return row[count // 2]


def average_strike(values: Sequence[Expression], *, call: bool) -> Expression:
    """Return what the last value is above the mean of all, or below it for a put: rounded down to a whole, at least 0.

    The field's average-strike option, of dollars; nothing is divided but the difference, so a circuit divides nothing.
    """
    many, total = values[-1] * len(values), sum_of(values)
    return (above(many, total) if call else above(total, many)) // len(values)


def touched(values: Sequence[Expression], barrier: int, *, up: bool) -> Expression:
    """Return whether one of them is at a barrier or beyond it; up: from below. Raises InvalidInputError for none."""
    if not values:
        raise InvalidInputError("events", "none", "at least one")
    away = [less(one, barrier) if up else less(barrier, one) for one in values]
    every = away[0]
    for one in away[1:]:
        every = least(every, one)
    return negated(every)


# ---- payoffs


def cents(dollars: Expression) -> Expression:
    """Return a price in cents, as a guest is run with it: below a dollar it is one cent."""
    return most(dollars * CENTS_PER_DOLLAR, 1)


def call_gain(spot: Expression, strike: Expression | int) -> Expression:
    """Return what a call gains a bitcoin, in cents."""
    return above(spot, strike)


def put_gain(spot: Expression, strike: Expression | int) -> Expression:
    """Return what a put gains a bitcoin, in cents."""
    return above(strike, spot)


def binary_gain(spot: Expression, strike: CentsPerBtc, *, up: bool, cash: CentsPerBtc | None = None) -> Expression:
    """Return the cash beyond a strike and nothing at it, in cents a bitcoin; cash: the strike unless it is given."""
    beyond = less(strike, spot) if up else less(spot, strike)
    return choose(beyond, strike if cash is None else cash, 0)


def capped(gain: Expression, cap: CentsPerBtc) -> Expression:
    """Return a gain, or a cap where it is more."""
    return least(gain, cap)


def in_cents(gain: Expression, quantity: CentiBtc) -> Expression:
    """Return what a gain a bitcoin pays in cents, rounded down to one."""
    return gain * quantity // CENTIBTC_PER_BTC


def in_sats(gain: Expression, spot: Expression, quantity: CentiBtc, collateral: Sats) -> Expression:
    """Return what a gain a bitcoin pays in satoshis at a price in cents: rounded down, at most the collateral."""
    return least(gain * (quantity * SATS_PER_CENTIBTC) // spot, collateral)


def of_pieces(pieces: Sequence[Piece], spot: Expression, *, holder: Sats, collateral: Sats) -> Expression:
    """Return what the holder of a payoff of pieces is paid, in satoshis: what it put in, and what it gains.

    holder: the most that it can lose. A shape of **Payoffs** is such pieces. Raises InvalidInputError for none.
    """
    if not pieces:
        raise InvalidInputError("pieces", "none", "at least one")
    # over one divisor, so that one division is left; below nothing no piece pays, where it is the one that counts
    amounts = [spot * (holder + one.constant) + one.numerator for one in pieces]
    chosen = amounts[0]
    for one, amount in zip(pieces[1:], amounts[1:], strict=True):
        chosen = choose(less(spot, one.start), chosen, amount)
    return least(most(chosen, 0) // spot, collateral)


def knocked_out(ended: Expression, payout: Expression, rebate: Sats) -> Expression:
    """Return a payout, or the rebate where a barrier was touched."""
    return choose(ended, rebate, payout)
