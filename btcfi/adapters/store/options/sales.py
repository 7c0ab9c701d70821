"""Selling an option: priced at the newest agreed price, by one path, whoever asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session

from btcfi.adapters.store.options.backlog import refuse_above
from btcfi.adapters.store.options.options import NoPriceYetError, OptionOrder, create_option, terms_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.pauses import pause_of
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.options.terms import (
    InvalidTermsError,
    OptionKind,
    OptionTerms,
    fixing_for,
    required_collateral,
    validate_terms,
)
from btcfi.oracle.fixing import MINUTE, Fixing
from btcfi.oracle.freshness import MarketStatus, market_status
from btcfi.oracle.quote import Feed
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Slot, UnixSeconds

OPTION_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""It names files in the parties' folders and stands in addresses of pages."""


class UnfitPriceError(NoPriceYetError):
    """Nothing is sold at a price that the market may have left: it is stale, thin, or its feed is halted."""

    def __init__(self, feed: str, at: Slot, status: MarketStatus) -> None:
        super().__init__(
            feed, f"{feed} is {status.value}: its newest price is of {at}; wait for the next priced minute"
        )
        self.status = status


class OrderMismatchError(ConflictError):
    """The id belongs to an option with other terms."""

    def __init__(self, option_id: str, field: str) -> None:
        super().__init__(f"option {option_id} exists with another {field}; expected the same terms, or a new order")
        self.option_id, self.field = option_id, field


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleRule:
    """What the deployment's preset and program say about every sale."""

    feed: Feed
    preset: str
    preset_sha256: str
    rate_bps: BasisPoints
    fallback_volatility_bps: int
    program: str
    program_sha256: str
    """Of the guest's flat image, hex."""
    fixing: Fixing = MINUTE
    """What settles an option whose order names nothing else."""
    refusal: Callable[[OptionTerms], InvalidTermsError | None] = lambda _: None
    """Why the parties would refuse terms, or their expiry never comes (``contracts/sellable.py``)."""
    max_backlog: int = 5_000
    """Settlements and fundings that may wait; above it nothing is sold."""


def sell(session: Session, order: Order, rule: SaleRule, *, now: UnixSeconds) -> OptionRow:
    """Price ``order`` at the newest agreed price and store the option, or return the one that it made before.

    now: the market's clock. Raises InvalidInputError and InvalidTermsError naming the field, NoPriceYetError,
    UnfitPriceError, OrderMismatchError, BacklogFullError.
    """
    from btcfi.adapters.store.options.premiums import quote  # noqa: PLC0415 - numba: many name an order, and few sell

    if OPTION_ID.fullmatch(order.option_id) is None:
        raise InvalidInputError("option id", repr(order.option_id)[:80], "1 to 64 letters, digits, - and _")
    if (known := session.get(OptionRow, order.option_id)) is not None:
        return _the_same(known, order)
    refuse_above(session, rule.max_backlog)
    spot = spot_to_sell_at(session, rule.feed, now=now)
    terms = OptionTerms(
        kind=order.kind, strike=order.strike, quantity=order.quantity, barrier=order.barrier, american=order.american,
        expiry=order.expiry, premium=Cents(0), collateral=required_collateral(order.kind, order.quantity),
        fixing=fixing_for(order.fixing, american=order.american, preset=rule.fixing),
    )  # fmt: skip
    validate_terms(terms, now=now, spot=spot)  # before pricing, which knows no field's name
    if (refusal := rule.refusal(terms)) is not None:
        raise refusal
    quoted = quote(
        session, terms, feed=rule.feed, spot=spot, now=now, rate=rule.rate_bps / 10_000,
        fallback_volatility_bps=rule.fallback_volatility_bps,
    )  # fmt: skip
    priced = OptionOrder(
        option_id=order.option_id, kind=order.kind, strike=order.strike, quantity=order.quantity,
        barrier=order.barrier, american=order.american, expiry=order.expiry,
        premium=quoted.premium, volatility=quoted.volatility, rate=rule.rate_bps, fixing=terms.fixing,
    )  # fmt: skip
    return create_option(
        session, priced, feed=rule.feed, now=now, preset=rule.preset, preset_sha256=rule.preset_sha256,
        program=rule.program, program_sha256=rule.program_sha256,
    )  # fmt: skip


def spot_to_sell_at(session: Session, feed: Feed, *, now: UnixSeconds) -> CentsPerBtc:
    """Return the newest agreed price, if it is one that the market status calls good: what is sold and quoted at.

    Who knows where the market went since a price buys at that price, and one that one venue could bend it bends.
    Raises NoPriceYetError, UnfitPriceError.
    """
    last = rounds.latest_priced(session, feed)
    if last is None or last.price_cents is None:
        raise NoPriceYetError(feed)
    at, halted = Slot(last.slot), pause_of(session, feed) is not None
    status = market_status(at, thin=_thin(last), halted=halted, now=now)
    if status is not MarketStatus.TRADING:
        raise UnfitPriceError(feed, at, status)
    return CentsPerBtc(last.price_cents)


def _thin(row: RoundRow) -> list[str]:
    # as its own rule judged it; an earlier release's report measured nothing
    found: list[str] = json.loads(row.report or "{}").get("thin", [])
    return found


def _the_same(known: OptionRow, order: Order) -> OptionRow:
    terms = terms_of(known)
    for field in ("kind", "strike", "quantity", "barrier", "american", "expiry"):
        if getattr(terms, field) != getattr(order, field):
            raise OrderMismatchError(order.option_id, field)
    if order.fixing is not None and order.fixing != terms.fixing:  # else the preset's, of the day that it was sold
        raise OrderMismatchError(order.option_id, "fixing")
    return known
