"""What people read of the market."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from btcfi.adapters.store.market.tables import AccountRow, FirmOfferRow, TakeRow
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.paging import Page
from btcfi.units import UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSides:
    """The open offers of one instrument, on each side the best first."""

    bids: Sequence[FirmOfferRow]
    asks: Sequence[FirmOfferRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """One side of one instrument: its best price, and what there is."""

    price_sats: int
    price_cents: int
    """Of the first offer at the best price."""
    quantity: int
    """At the best price; hundredths of a bitcoin, as the next one."""
    depth: int
    """At every price."""
    offers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRow:
    """One instrument of an expiry that has open offers."""

    instrument: str
    bid: Top | None
    ask: Top | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A take as everybody may see it: no account."""

    at_unix: int
    id: str
    instrument: str
    side: str
    """``buy`` where the taker bought, else ``sell``."""
    quantity: int
    price_sats: int
    price_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One option of an account."""

    option: OptionRow
    role: str
    """``writer`` or ``holder``."""
    take: TakeRow | None
    """None of an option that no take made."""


def book(
    session: Session, instrument: str, now: UnixSeconds, *, account: str | None = None, limit: int = 200
) -> BookSides:  # fmt: skip
    raise NotImplementedError


def chain(session: Session, expiry: int, now: UnixSeconds) -> list[ChainRow]:
    raise NotImplementedError


def offers_of(
    session: Session, account: str | None, *, state: str | None = None, limit: int, cursor: str | None = None
) -> Page[FirmOfferRow]:  # fmt: skip
    """account: None: everybody's, for the operator; as everywhere below."""
    raise NotImplementedError


def takes_of(session: Session, account: str | None, *, limit: int, cursor: str | None = None) -> Page[TakeRow]:
    raise NotImplementedError


def take_of(session: Session, account: str | None, take_id: str) -> TakeRow | None:
    raise NotImplementedError


def fills(session: Session, account: str | None, *, limit: int, cursor: str | None = None) -> Page[TakeRow]:
    raise NotImplementedError


def positions(session: Session, account: str | None, *, limit: int, cursor: str | None = None) -> Page[Held]:
    raise NotImplementedError


def trades(
    session: Session, *, instrument: str | None = None, limit: int, cursor: str | None = None
) -> Page[Trade]:  # fmt: skip
    raise NotImplementedError


def accounts(session: Session, *, limit: int, cursor: str | None = None) -> Page[AccountRow]:
    raise NotImplementedError
