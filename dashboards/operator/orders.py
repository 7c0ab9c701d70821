"""An option somebody thinks of buying: read from a form, priced as the sale prices it, drawn as it would pay."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from btcfi.adapters.store.options.options import SATS_PER_BTC
from btcfi.adapters.store.options.sales import Quote
from btcfi.adapters.store.options.sales import quote as quote_as_sold
from btcfi.adapters.store.spine.database import Session
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.options.expiry import SettlementInput
from btcfi.options.order import Order, Wanted, parse_distance, read_wanted
from btcfi.options.payoff import settle_in_python
from btcfi.options.terms import InvalidTermsError, OptionTerms
from btcfi.oracle.fixing import Fixing
from btcfi.units import MAX_U32, BasisPoints, Cents, CentsPerBtc, Minutes, Slot, UnixSeconds
from dashboards.operator.deps import ConsoleDeps

DRAWN_VOLATILITY_BPS: Final = BasisPoints(6_000)
"""The settlement's input has one; what is paid at expiry does not depend on it."""

ORDER_ID: Final = re.compile(r"[0-9a-f]{32}")
SHOWN: Final = re.compile(r"([0-9]{1,10})\.([0-9]{1,10})\.([0-9]{1,10})\.([0-9a-f]{16})")
"""What a quote's fragment has the form send back: limit in cents, expiry, when it was made, of which terms."""

POINTS: Final = 97
"""Prices at which the payoff is drawn."""

DRAWN_DEVIATIONS: Final = 4.0
"""The diagram shows this many standard deviations of the time to expiry to either side of spot and strike."""

LEAST_SHARE: Final = 0.02
LARGEST_SHARE: Final = 0.6
SECONDS_PER_YEAR: Final = 31_536_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """What the sale would ask now."""

    quote: Quote
    expiry: Slot
    fixing: Fixing
    greeks: Mapping[str, float]
    """Of the whole quantity: delta BTC, gamma BTC per 1 %, vega USD per point, theta USD per day, rho USD per point."""
    payoff: Payoff
    shown: str
    """What the form sends back with the order: nothing is sold but what this page showed, and not above its premium."""
    valid_seconds: int

    @property
    def spot(self) -> CentsPerBtc:
        """The price that it is made at."""
        return self.quote.market.spot

    @property
    def volatility_bps(self) -> int:
        """What it is priced with."""
        return self.quote.market.volatility

    @property
    def premium(self) -> Cents:
        """Of the whole quantity."""
        return self.quote.premium

    @property
    def premium_sats(self) -> int:
        """What the funding pays for it."""
        return self.quote.premium_sats

    @property
    def collateral_sats(self) -> int:
        """What the writer locks."""
        return self.quote.terms.collateral


@dataclass(frozen=True, slots=True, kw_only=True)
class Payoff:
    """The buyer's profit at expiry, for a diagram."""

    points: tuple[tuple[int, int], ...]
    """(price, profit) in cents."""
    most: int
    """The largest payout in what is drawn, cents."""
    break_even: int | None
    """The price of the first change of sign, cents."""


class NotShownError(InvalidInputError):
    """An order without the quote that its page showed, or with one of other terms."""

    def __init__(self, problem: str) -> None:
        super().__init__("quote", problem, "the quote of these terms, as the page shows it now: read it, press again")


def wanted_of(fields: Mapping[str, str]) -> Wanted:
    """Return the fields of the form. Raises InvalidTermsError, WrongFixingError naming the first wrong one."""
    american = fields.get("american", "")
    if american not in {"", "yes"}:
        raise InvalidTermsError("american", repr(american[:20]), "yes, or nothing")
    return read_wanted(
        kind=fields.get("kind", ""), strike=fields.get("strike", ""), quantity=fields.get("quantity", ""),
        expiry=parse_distance(fields.get("expires", ""), fields.get("unit", "minutes")),
        barrier=fields.get("barrier", "") or None, american=american == "yes", fixing=fields.get("fixing", "") or None,
    )  # fmt: skip


def order_of(wanted: Wanted, order_id: str, shown: str) -> Order:
    """Return what the creator of options is asked for: the option that the page showed, at most at its premium.

    shown: the quote as the page had it. Its numbers are the buyer's own to choose, so they need no signature: a higher
    limit or a younger quote costs only who sends them, and the sale is at the price of its moment all the same.
    Raises NotShownError, InvalidInputError for an id that is not ours.
    """
    if not ORDER_ID.fullmatch(order_id):
        raise InvalidInputError("order", repr(order_id[:40]), "the id that the page gave")
    parts = SHOWN.fullmatch(shown)
    if parts is None:
        raise NotShownError(f"{shown[:60]!r} is no quote" if shown else "missing")
    limit, expiry, at = (int(part) for part in parts.groups()[:3])
    if parts[4] != _digest(wanted):
        raise NotShownError("it is of other terms")
    if max(limit, expiry, at) > MAX_U32 or not limit:
        raise NotShownError(f"{shown[:60]!r} is out of range")
    return Order(
        option_id=order_id, kind=wanted.kind, strike=wanted.strike, quantity=wanted.quantity, barrier=wanted.barrier,
        american=wanted.american, expiry=Slot(expiry), fixing=wanted.fixing, max_premium=Cents(limit),
        quoted_at=UnixSeconds(at),
    )  # fmt: skip


def _digest(wanted: Wanted) -> str:
    """Return what tells the terms of one form from another's."""
    return sha256(repr(wanted).encode()).hex()[:16]


def quote(session: Session, deps: ConsoleDeps, wanted: Wanted, *, now: UnixSeconds) -> Quoted:
    """Return what a sale would ask now, drawn.

    now: the market's clock. Raises InvalidTermsError, NoPriceYetError, UnfitPriceError.
    """
    order = wanted.order("", now)
    made = quote_as_sold(session, order, deps.api.quote_rule, now=now, wall=deps.api.clock())
    spot, volatility, priced = made.market.spot, made.market.volatility, made.priced
    held = wanted.quantity / 100
    return Quoted(
        quote=made,
        expiry=order.expiry,
        fixing=made.terms.window,
        greeks={
            "delta": float(priced.delta[0]) * held,
            "gamma": float(priced.gamma[0]) * held * spot / 10_000,
            "vega": float(priced.vega[0]) * held,
            "theta": float(priced.theta[0]) * held,
            "rho": float(priced.rho[0]) * held,
        },
        payoff=payoff(
            made.terms,
            premium=made.premium,
            spot=spot,
            rate=deps.api.quote_rule.rate_bps,
            share=volatility / 10_000 * math.sqrt((order.expiry - now) / SECONDS_PER_YEAR) * DRAWN_DEVIATIONS,
        ),
        shown=f"{made.premium}.{order.expiry}.{made.at}.{_digest(wanted)}",
        valid_seconds=made.valid_until - made.at,
    )


def payoff(terms: OptionTerms, *, premium: int, spot: int, rate: BasisPoints, share: float) -> Payoff:
    """Return the profit at expiry by the settlement's own rule, at prices up to ``share`` around spot and strike."""
    share = min(max(share, LEAST_SHARE), LARGEST_SHARE)
    low = min(spot, terms.strike, terms.barrier or spot) * (1 - share)
    high = max(spot, terms.strike, terms.barrier or spot) * (1 + share)
    regular = {round(low + (high - low) * i / (POINTS - 1)) for i in range(POINTS)}
    # a cent to either side of every corner, so that a jump is drawn as one
    corners = {edge + side for edge in (terms.strike, terms.barrier or terms.strike) for side in (-1, 0, 1)}
    points: list[tuple[int, int]] = []
    most, break_even = 0, None
    for price in sorted(CentsPerBtc(p) for p in regular | corners if 0 < p <= MAX_U32):
        paid = settle_in_python(
            SettlementInput(
                option_type=int(terms.kind), strike=terms.strike, spot=price, quantity=terms.quantity,
                barrier_level=terms.barrier or CentsPerBtc(0), early_exercise=0, time_to_expiry=Minutes(0),
                volatility=DRAWN_VOLATILITY_BPS, observed_low=price, observed_high=price,
                premium=Cents(min(premium, MAX_U32)), rate=rate, collateral=terms.collateral,
            )
        )  # fmt: skip
        worth = min(paid.payout, paid.payout_sats * price // SATS_PER_BTC + 1)
        profit = worth - premium
        if points and break_even is None and (points[-1][1] < 0) != (profit < 0):
            break_even = price
        points.append((price, profit))
        most = max(most, worth)
    return Payoff(points=tuple(points), most=most, break_even=break_even)
