"""Random net books: up to 64 signed legs of one expiry, their value written once more in fractions of nothing else."""

import random

import numpy as np

from btcfi.payoffs.curve import Leg, LegKind, curve_of
from btcfi.units import CentsPerBtc

PLAIN = (LegKind.CALL, LegKind.PUT, LegKind.CALL, LegKind.PUT, LegKind.BINARY_CALL, LegKind.BINARY_PUT)


def random_legs(draw: random.Random, most=64):
    """Signed legs as a market has them: strikes on dollars and between them, some far away, some of forwards."""
    legs = []
    for _ in range(draw.randint(1, most)):
        kind = draw.choice([*PLAIN, draw.choice(tuple(LegKind))])
        strike = draw.choice([100 * draw.randrange(60_000, 150_000, 500), draw.randrange(1_000_000, 26_500_000)])
        cash = draw.randrange(1, 5_000_000) if kind.is_digital else None
        quantity = draw.choice((1, -1)) * draw.randrange(1, 200)
        legs.append(Leg(kind=kind, strike=CentsPerBtc(strike), quantity=quantity, cash=cash))
    return legs


def random_book(draw: random.Random, most=64):
    """A book's legs, its floor and its curve."""
    legs, floor = random_legs(draw, most), CentsPerBtc(draw.choice([draw.randrange(2, 6_000_000), 5_000_000]))
    return legs, floor, curve_of(legs, floor=floor)


def dollars(leg, cents):
    """What one leg of one bitcoin pays at prices in cents, in cents: by the formula, without pieces."""
    strike = int(leg.strike)
    if leg.kind is LegKind.CALL:
        return np.maximum(cents - strike, 0)
    if leg.kind is LegKind.PUT:
        return np.maximum(strike - cents, 0)
    if leg.kind is LegKind.FORWARD:
        return cents - strike
    above = leg.kind in {LegKind.BINARY_CALL, LegKind.DIGITAL_CALL}
    return np.where(cents > strike if above else cents < strike, strike if leg.cash is None else int(leg.cash), 0)


def summed(legs, floor, cents):
    """What a book's holder gains at prices in cents, in satoshis: signed cents summed, divided once, rounded down.

    A book of 64 legs is below 2**45 cents times hundredths, and a hundredth of a bitcoin is 10**6 satoshis: 2**65, so
    the division is done in two.
    """
    at = np.maximum(cents, floor)
    total = sum(leg.quantity * dollars(leg, at) for leg in legs)
    whole, rest = np.divmod(total, at)
    return whole * 1_000_000 + rest * 1_000_000 // at
