"""What rounding costs: payoffs at every whole dollar at once, and a premium's bias and spread under a rule of payouts.

The payoff is written again here, in numpy, and divides once; ``tests/property/contracts/test_contracts_rounding.py``
holds the buckets against it at every price.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import ndtr

from btcfi.contracts.buckets import payout_buckets
from btcfi.contracts.option import split
from btcfi.contracts.payouts import guest_payouts
from btcfi.options.terms import SATS_PER_CENTIBTC, OptionKind, OptionTerms, required_collateral
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats
from tests.support.contracts import event

TOP = 1 << 18
DOLLARS = np.arange(TOP, dtype=np.int64)
CENTS = np.maximum(DOLLARS * 100, 1)
"""What ``OracleEvent.price_of`` gives for every outcome of 18 digits."""
VOLATILITY = 0.6
YEAR = 365 * 24
HOURS = {"1 h": 1, "1 d": 24, "7 d": 168, "90 d": 2_160}
SIZES = (1, 10, 100)
"""Hundredths of a bitcoin."""


@dataclass(frozen=True, kw_only=True)
class Payoff:
    """An option's payout in sats at many prices: one division, a barrier that the price itself touches included."""

    kind: OptionKind
    strike: int
    quantity: int
    barrier: int | None = None

    @property
    def collateral(self):
        return required_collateral(self.kind, CentiBtc(self.quantity))

    def at(self, cents):
        difference = self.strike - cents if self.kind.is_put else cents - self.strike
        inside = np.maximum(difference, 0)
        if self.kind.is_binary:
            inside = np.where(difference > 0, self.strike, 0)
        if self.barrier is not None:
            touched = cents >= self.barrier if self.barrier > self.strike else cents <= self.barrier
            inside = np.where(touched, 0, inside)
        return np.minimum(inside * self.quantity * SATS_PER_CENTIBTC // cents, self.collateral)

    def exact(self, dollars):
        """The same at prices between the dollars, not rounded."""
        difference = (self.strike / 100 - dollars) * (1 if self.kind.is_put else -1)
        return np.minimum(np.maximum(difference, 0) * self.quantity * SATS_PER_CENTIBTC / dollars, self.collateral)

    def payouts(self, prices):
        """As a contract asks: the payout function of ``payout_buckets``."""
        return [Sats(one) for one in self.at(np.array(prices, dtype=np.int64)).tolist()]

    def guest(self, program):
        """The payout function of the guest program itself."""
        terms = OptionTerms(
            kind=self.kind, strike=CentsPerBtc(self.strike), quantity=CentiBtc(self.quantity), barrier=self.barrier,
            american=False, expiry=event().expiry, premium=Cents(100), collateral=self.collateral,
        )  # fmt: skip
        return guest_payouts(terms, program)

    @property
    def breakpoints(self):
        return tuple(CentsPerBtc(one) for one in (self.strike, self.barrier) if one is not None)

    def buckets(self, rule, premium, payouts=None):
        return payout_buckets(
            event(), payouts or self.payouts, rule=rule, premium=Sats(premium), collateral=self.collateral,
            breakpoints=self.breakpoints,
        )  # fmt: skip


def table(buckets, bits=18):
    """The payout of every outcome."""
    return np.repeat([one.payout for one in buckets], [1 << (bits - one.length) for one in buckets])


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a rule does to a buyer, in per cent of the premium; and its signatures for one set of oracles."""

    premium: int
    bias: float
    rms: float
    signatures: int


def cost(payoff, hours, rule, *, payouts=None, nearest=True, spot=100_000):
    """The cost of a rule, the attested dollar and dust included, at a lognormal price after so many hours."""
    spread = VOLATILITY * sqrt(hours / YEAR)
    low, high = spot * np.exp(-7 * spread), min(spot * np.exp(7 * spread), TOP - 1)
    edges = np.linspace(low, high, 400_001)
    weights = np.diff(ndtr((np.log(edges / spot) + spread * spread / 2) / spread))
    prices = (edges[:-1] + edges[1:]) / 2
    exact = payoff.exact(prices)
    premium = float(exact @ weights)
    buckets = payoff.buckets(rule, int(premium), payouts)
    levels = {one.payout: split(payoff.collateral, one.payout, Sats(0), nearest=nearest)[0] for one in buckets}
    paid = table([type(one)(prefix=one.prefix, length=one.length, payout=levels[one.payout]) for one in buckets])
    error = paid[(prices + 0.5).astype(np.int64)] - exact
    return Cost(
        premium=int(premium), bias=float(error @ weights) / premium * 100,
        rms=sqrt(float(error**2 @ weights)) / premium * 100, signatures=len(buckets),
    )  # fmt: skip
