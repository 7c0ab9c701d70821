"""An option somebody thinks of buying: read from a form, priced as the sale prices it, drawn as it would pay."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from btcfi.adapters.store.options.options import SATS_PER_BTC, NoPriceYetError
from btcfi.adapters.store.options.premiums import quote as priced_as_sold
from btcfi.adapters.store.options.sales import spot_to_sell_at
from btcfi.adapters.store.prices import views as prices
from btcfi.adapters.store.spine.database import Session
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementInput
from btcfi.options.payoff import settle_in_python
from btcfi.options.terms import OptionKind, OptionTerms, fixing_for, required_collateral, validate_terms
from btcfi.oracle.fixing import Fixing, parse_fixing
from btcfi.oracle.quote import Feed
from btcfi.surfaces.rest.deps import OptionOrder
from btcfi.units import (
    MAX_U32,
    SECONDS_PER_MINUTE,
    BasisPoints,
    CentiBtc,
    Cents,
    CentsPerBtc,
    Minutes,
    Slot,
    UnixSeconds,
)
from dashboards.operator.deps import ConsoleDeps

UNITS: Final = {"minutes": 1, "hours": 60, "days": 1_440}
MAX_MINUTES: Final = 366 * 1_440
DEFAULT_VOLATILITY_BPS: Final = BasisPoints(6_000)
ORDER_ID: Final = re.compile(r"[0-9a-f]{32}")
LONGEST_NUMBER: Final = 20
POINTS: Final = 97
"""Prices at which the payoff is drawn."""

DRAWN_DEVIATIONS: Final = 4.0
"""The diagram shows this many standard deviations of the time to expiry to either side of spot and strike."""

LEAST_SHARE: Final = 0.02
LARGEST_SHARE: Final = 0.6
SECONDS_PER_YEAR: Final = 31_536_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The fields of the form, checked for form."""

    kind: OptionKind
    strike: CentsPerBtc
    quantity: CentiBtc
    barrier: CentsPerBtc | None
    american: bool
    fixing: Fixing | None
    """None: the preset's, of an American option its minute."""
    minutes: int
    """Until expiry, from the market's now."""

    def expiry(self, now: UnixSeconds) -> Slot:
        """Return the minute that settles it."""
        return Slot((now // SECONDS_PER_MINUTE + self.minutes) * SECONDS_PER_MINUTE)

    def order(self, order_id: str, now: UnixSeconds) -> OptionOrder:
        """Return what the creator of options is asked for. Raises InvalidInputError for an id that is not ours."""
        if not ORDER_ID.fullmatch(order_id):
            raise InvalidInputError("order", repr(order_id[:40]), "the id that the page gave")
        return OptionOrder(
            order_id=order_id, kind=self.kind, strike=self.strike, quantity=self.quantity, barrier=self.barrier,
            american=self.american, expiry=self.expiry(now), fixing=self.fixing,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """What the sale would ask now."""

    wanted: Wanted
    spot: CentsPerBtc
    slot: Slot
    expiry: Slot
    fixing: Fixing
    volatility_bps: int
    premium: Cents
    premium_sats: int
    collateral_sats: int
    greeks: Mapping[str, float]
    """Of the whole quantity: delta BTC, gamma BTC per 1 %, vega USD per point, theta USD per day, rho USD per point."""
    payoff: Payoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Payoff:
    """The buyer's profit at expiry, for a diagram."""

    points: tuple[tuple[int, int], ...]
    """(price, profit) in cents."""
    most: int
    """The largest payout in what is drawn, cents."""
    break_even: int | None
    """The price of the first change of sign, cents."""


def wanted_of(fields: Mapping[str, str]) -> Wanted:
    """Return the fields of the form. Raises InvalidInputError naming the first wrong one."""
    unit = fields.get("unit", "minutes")
    if unit not in UNITS:
        raise InvalidInputError("expiry", repr(unit[:20]), "minutes, hours or days")
    count = hundredths(fields.get("expires", ""), "expiry", highest=MAX_MINUTES * 100)
    minutes = count * UNITS[unit] // 100
    if not 1 <= minutes <= MAX_MINUTES:
        raise InvalidInputError("expiry", f"{minutes} minutes from now", f"1 to {MAX_MINUTES} minutes")
    barrier, fixing = fields.get("barrier", "").strip(), fields.get("fixing", "").strip()
    return Wanted(
        kind=OptionKind.from_label(fields.get("kind", "")[:40]),
        strike=CentsPerBtc(hundredths(fields.get("strike", ""), "strike", highest=MAX_U32)),
        quantity=CentiBtc(hundredths(fields.get("quantity", ""), "quantity", highest=2_100_000_000)),
        barrier=CentsPerBtc(hundredths(barrier, "barrier", highest=MAX_U32)) if barrier else None,
        american=fields.get("american", "") == "yes",
        fixing=parse_fixing(fixing) if fixing else None,
        minutes=minutes,
    )


def hundredths(text: str, field: str, *, highest: int) -> int:
    """Return a decimal of at most two places as hundredths. Raises InvalidInputError."""
    text = text.strip().replace(",", "").removeprefix("$")
    expected = f"a number from 0.01 to {Decimal(highest).scaleb(-2):,} with at most two decimals"
    try:
        number = Decimal(text if 0 < len(text) <= LONGEST_NUMBER else "none")
    except InvalidOperation as e:
        raise InvalidInputError(field, repr(text[:LONGEST_NUMBER]) if text else "nothing", expected) from e
    # compared before it is scaled: 1E+999999 would be a million digits as an integer
    if not number.is_finite() or not 0 < number <= Decimal(highest).scaleb(-2):
        raise InvalidInputError(field, text, expected)
    scaled = number.scaleb(2)
    if scaled != scaled.to_integral_value():
        raise InvalidInputError(field, text, expected)
    return int(scaled)


def quote(session: Session, deps: ConsoleDeps, wanted: Wanted, *, now: UnixSeconds) -> Quoted:
    """Return the premium that a sale would fix now.

    now: the market's clock. Raises InvalidTermsError, NoPriceYetError, UnfitPriceError.
    """
    last = prices.newest_close(session, deps.api.feed)
    if last is None:
        raise NoPriceYetError(deps.api.feed)
    spot = spot_to_sell_at(session, Feed(deps.api.feed), now=now)
    expiry = wanted.expiry(now)
    collateral = required_collateral(wanted.kind, wanted.quantity)
    terms = OptionTerms(
        kind=wanted.kind, strike=wanted.strike, quantity=wanted.quantity, barrier=wanted.barrier,
        american=wanted.american, expiry=expiry, premium=Cents(0), collateral=collateral,
        fixing=fixing_for(wanted.fixing, american=wanted.american, preset=deps.api.fixing),
    )  # fmt: skip
    validate_terms(terms, now=now, spot=spot)
    fallback = deps.api.fallback_volatility
    asked = priced_as_sold(
        session, terms, feed=Feed(deps.api.feed), spot=spot, now=now, rate=deps.api.rate,
        fallback_volatility_bps=DEFAULT_VOLATILITY_BPS if fallback is None else round(fallback * 10_000),
    )  # fmt: skip
    premium, volatility, priced = asked.premium, asked.volatility, asked.priced
    held = wanted.quantity / 100
    return Quoted(
        wanted=wanted,
        spot=spot,
        slot=last.slot,
        expiry=expiry,
        fixing=terms.window,
        volatility_bps=volatility,
        premium=premium,
        premium_sats=premium * SATS_PER_BTC // spot,
        collateral_sats=collateral,
        greeks={
            "delta": float(priced.delta[0]) * held,
            "gamma": float(priced.gamma[0]) * held * spot / 10_000,
            "vega": float(priced.vega[0]) * held,
            "theta": float(priced.theta[0]) * held,
            "rho": float(priced.rho[0]) * held,
        },
        payoff=payoff(
            terms,
            premium=premium,
            spot=spot,
            rate=BasisPoints(round(deps.api.rate * 10_000)),
            share=volatility / 10_000 * math.sqrt((expiry - now) / SECONDS_PER_YEAR) * DRAWN_DEVIATIONS,
        ),
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
                volatility=DEFAULT_VOLATILITY_BPS, observed_low=price, observed_high=price,
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
