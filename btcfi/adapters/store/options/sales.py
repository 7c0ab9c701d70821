"""Quoting an option and selling it: one price, one floor, one rounding, whichever door the order comes through.

``quote_at`` prices an order in a market, ``read_market`` reads that market from the store, ``sell`` does both in one
transaction. A quote is a limit: at or below it the sale is at the price of its own moment, above it there is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from sqlmodel import Session

from btcfi.adapters.store.options.backlog import refuse_above
from btcfi.adapters.store.options.options import (
    NoPriceYetError,
    OptionOrder,
    create_option,
    least_premium,
    sats_of,
    terms_of,
)
from btcfi.adapters.store.options.premiums import counted_from, open_windows, total_premium, volatility_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.fixings import said_since
from btcfi.adapters.store.prices.pauses import pause_of
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.options.order import Order, PriceMovedError, QuoteExpiredError
from btcfi.options.terms import InvalidTermsError, OptionTerms, fixing_for, required_collateral, validate_terms
from btcfi.oracle.fixing import MINUTE, Fixing, Said
from btcfi.oracle.freshness import MarketStatus, market_status
from btcfi.oracle.quote import Feed
from btcfi.pricing.premium import Book, Premiums, PriceableOption, premiums
from btcfi.units import BasisPoints, Cents, CentsPerBtc, Sats, Slot, UnixSeconds

OPTION_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""It names files in the parties' folders and stands in addresses of pages."""

QUOTE_SECONDS: Final = 30
"""A quote's life where a deployment says nothing else: half a minute, since a new price comes with each."""


class UnfitPriceError(NoPriceYetError):
    """Nothing is sold at a price that the market may have left: it is stale, thin, or its feed is halted."""

    def __init__(self, feed: str, at: Slot, status: MarketStatus, why: str = "") -> None:
        said = f" ({why})" if why else ""
        super().__init__(
            feed, f"{feed} is {status.value}{said}: its newest price is of {at}; wait for the next priced minute"
        )
        self.status = status


class OrderMismatchError(ConflictError):
    """The id belongs to an option with other terms."""

    def __init__(self, option_id: str, field: str) -> None:
        super().__init__(f"option {option_id} exists with another {field}; expected the same terms, or a new order")
        self.option_id, self.field = option_id, field


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRule:
    """What the deployment's preset says about every premium."""

    feed: Feed
    rate_bps: BasisPoints
    fallback_volatility_bps: int
    """Yearly, while the store holds too few prices to estimate one."""
    fixing: Fixing = MINUTE
    """What settles an option whose order names nothing else."""
    quote_seconds: int = QUOTE_SECONDS
    """How long a premium that was shown is a limit to sell by."""
    refusal: Callable[[OptionTerms], InvalidTermsError | None] = lambda _: None
    """Why the parties would refuse terms, or their expiry never comes (``contracts/sellable.py``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleRule(QuoteRule):
    """What the deployment's preset and program say about every sale."""

    preset: str
    preset_sha256: str
    program: str
    program_sha256: str
    """Of the guest's flat image, hex."""
    max_backlog: int = 5_000
    """Settlements and fundings that may wait; above it nothing is sold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What premiums are made of besides an order: the newest agreed price, and what the store's minutes say."""

    feed: Feed
    spot: CentsPerBtc
    slot: Slot
    """The minute that the price is of."""
    closed_at: UnixSeconds | None
    """When that was agreed, by the wall clock; None: not known."""
    thin: tuple[str, ...]
    """Why it is too thin to settle on, as its own rule judged it; empty where it is not."""
    halted: bool
    volatility: BasisPoints
    """Per square-root year, 1/100 %."""
    samples: int
    """Returns that it rests on; 0: the preset's number."""
    said: Mapping[Slot, Said]
    """What the closed minutes of the windows say that may be open."""

    def status(self, *, now: UnixSeconds, wall: UnixSeconds | None = None) -> MarketStatus:
        """Return whether the price may be used. now: the market's clock. wall: the wall's."""
        return market_status(
            self.slot, thin=self.thin, halted=self.halted, now=now, closed_at=self.closed_at, wall=wall
        )

    def raise_if_unfit(self, *, now: UnixSeconds, wall: UnixSeconds | None = None) -> None:
        """Refuse to sell or quote here unless the market's status is good. Raises UnfitPriceError.

        Who knows where the market went since a price buys at that price, and one that one venue could bend it bends.
        """
        status = self.status(now=now, wall=wall)
        if status is not MarketStatus.TRADING:
            why = ", ".join(self.thin) if status is MarketStatus.THIN else ""
            raise UnfitPriceError(self.feed, self.slot, status, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What an option costs at one moment, the whole of it, and the terms that it would be sold with."""

    terms: OptionTerms
    """With this premium and the collateral."""
    premium_sats: Sats
    """What the funding pays the seller for it."""
    market: Market
    priced: Premiums
    """A book of one: per BTC, before any rounding or floor, its Greeks too."""
    at: UnixSeconds
    """When it was made, by the wall clock."""
    valid_until: UnixSeconds
    """From this second on no sale takes it as a limit."""

    @property
    def premium(self) -> Cents:
        """The premium of the whole quantity."""
        return self.terms.premium


def read_market(
    session: Session, rule: QuoteRule, *, now: UnixSeconds, before: Market | None = None
) -> Market | None:  # fmt: skip
    """Return the newest market in the store, however old or thin; None before the first priced minute.

    now: the market's clock. before: one that was read by this rule, whose volatility is taken while its minute is the
    newest; it is read from a month of rounds. A sale gives none.
    """
    last = rounds.latest_priced(session, rule.feed)
    if last is None or last.price_cents is None:
        return None
    if before is not None and before.slot == last.slot:
        level, samples = before.volatility, before.samples
    else:
        found = volatility_of(session, rule.feed, fallback_bps=rule.fallback_volatility_bps)
        level, samples = found.level, found.samples
    closed = last.closed_at_unix
    # what an earlier release's report did not measure it does not say
    thin: list[str] = json.loads(last.report or "{}").get("thin", [])
    return Market(
        feed=rule.feed, spot=CentsPerBtc(last.price_cents), slot=Slot(last.slot),
        closed_at=None if closed is None else UnixSeconds(closed), thin=tuple(thin),
        halted=pause_of(session, rule.feed) is not None, volatility=BasisPoints(level), samples=samples,
        said=said_since(session, rule.feed, open_windows(now)),
    )  # fmt: skip


def quote_at(
    market: Market, order: Order, rule: QuoteRule, *, now: UnixSeconds, wall: UnixSeconds | None = None
) -> Quote:  # fmt: skip
    """Return what ``order`` costs in ``market``: its limit is not looked at.

    now: the market's clock. wall: the wall's, where the door knows one. The dollar total of the whole quantity is
    rounded up once, to the cent, and is never less than what the chain can pay.
    Raises UnfitPriceError, InvalidTermsError naming the field.
    """
    market.raise_if_unfit(now=now, wall=wall)
    terms = OptionTerms(
        kind=order.kind, strike=order.strike, quantity=order.quantity, barrier=order.barrier, american=order.american,
        expiry=order.expiry, premium=Cents(0), collateral=required_collateral(order.kind, order.quantity),
        fixing=fixing_for(order.fixing, american=order.american, preset=rule.fixing),
    )  # fmt: skip
    validate_terms(terms, now=now, spot=market.spot)  # before pricing, which knows no field's name
    if (refusal := rule.refusal(terms)) is not None:
        raise refusal
    priced = premiums(
        Book.of([cast("PriceableOption", terms)]), spot=market.spot, volatility=market.volatility / 10_000,
        rate=rule.rate_bps / 10_000, now=counted_from(market.slot), known=market.said,
    )  # fmt: skip
    whole = Cents(int(total_premium(priced.premium, terms.quantity)[0]))
    asked = Cents(max(whole, least_premium(market.spot)))
    terms = replace(terms, premium=asked)
    validate_terms(terms, now=now, spot=market.spot)  # the premium too has a largest value
    at = now if wall is None else wall
    return Quote(
        terms=terms, premium_sats=sats_of(asked, market.spot), market=market, priced=priced, at=at,
        valid_until=UnixSeconds(at + rule.quote_seconds),
    )  # fmt: skip


def quote(
    session: Session, order: Order, rule: QuoteRule, *, now: UnixSeconds, wall: UnixSeconds | None = None
) -> Quote:  # fmt: skip
    """Return what ``order`` costs at the newest agreed price, as ``sell`` would ask in the same moment.

    Raises NoPriceYetError, UnfitPriceError, InvalidTermsError naming the field.
    """
    market = read_market(session, rule, now=now)
    if market is None:
        raise NoPriceYetError(rule.feed)
    return quote_at(market, order, rule, now=now, wall=wall)


def sell(
    session: Session, order: Order, rule: SaleRule, *, now: UnixSeconds, wall: UnixSeconds | None = None
) -> OptionRow:  # fmt: skip
    """Quote ``order`` and store the option at that premium, or return the one that it made before.

    now: the market's clock. wall: the wall's, by which an order's quote and a recording's last price are old; every
    door gives it. Raises InvalidInputError and InvalidTermsError naming the field, NoPriceYetError, UnfitPriceError,
    QuoteExpiredError, PriceMovedError, OrderMismatchError, BacklogFullError.
    """
    if OPTION_ID.fullmatch(order.option_id) is None:
        raise InvalidInputError("option id", repr(order.option_id)[:80], "1 to 64 letters, digits, - and _")
    if (known := session.get(OptionRow, order.option_id)) is not None:
        return _the_same(known, order)
    refuse_above(session, rule.max_backlog)
    if order.quoted_at is not None:
        age = (now if wall is None else wall) - order.quoted_at
        # one of the future would live for ever; two hosts' clocks may differ by less than a quote's life
        if abs(age) > rule.quote_seconds:
            raise QuoteExpiredError(age_seconds=age, valid_seconds=rule.quote_seconds)
    quoted = quote(session, order, rule, now=now, wall=wall)
    if order.max_premium is not None and quoted.premium > order.max_premium:
        raise PriceMovedError(premium=quoted.premium, limit=order.max_premium)
    priced = OptionOrder(
        option_id=order.option_id, kind=order.kind, strike=order.strike, quantity=order.quantity,
        barrier=order.barrier, american=order.american, expiry=order.expiry, premium=quoted.premium,
        volatility=quoted.market.volatility, rate=rule.rate_bps, fixing=quoted.terms.fixing,
    )  # fmt: skip
    return create_option(
        session, priced, feed=rule.feed, now=now, preset=rule.preset, preset_sha256=rule.preset_sha256,
        program=rule.program, program_sha256=rule.program_sha256,
    )  # fmt: skip


def _the_same(known: OptionRow, order: Order) -> OptionRow:
    terms = terms_of(known)
    for field in ("kind", "strike", "quantity", "barrier", "american", "expiry"):
        if getattr(terms, field) != getattr(order, field):
            raise OrderMismatchError(order.option_id, field)
    if order.fixing is not None and order.fixing != terms.fixing:  # else the preset's, of the day that it was sold
        raise OrderMismatchError(order.option_id, "fixing")
    return known


__all__ = [
    "OPTION_ID", "QUOTE_SECONDS", "Market", "Order", "OrderMismatchError", "Quote", "QuoteRule", "SaleRule",
    "UnfitPriceError", "quote", "quote_at", "read_market", "sell",
]  # fmt: skip
