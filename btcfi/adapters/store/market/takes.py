"""Takes: one transaction each, from the offer's quantity to the option that both signed texts make."""

from __future__ import annotations

from sqlmodel import Session

from btcfi.adapters.store.market.tables import TakeRow
from btcfi.adapters.store.options.sales import Market, SaleRule
from btcfi.market.firm_offer import SignedTake
from btcfi.units import UnixSeconds


def take(
    session: Session, signed: SignedTake, *, rule: SaleRule, now: UnixSeconds, wall: UnixSeconds,
    before: Market | None = None,
) -> TakeRow:  # fmt: skip
    """now: the market's clock. wall: the wall's, by which offers and takes hold. before: as ``read_market`` has it."""
    raise NotImplementedError


def mark_checked(session: Session, option_id: str, *, now: UnixSeconds) -> bool:
    raise NotImplementedError


def mark_funded(session: Session, option_id: str, *, now: UnixSeconds) -> bool:
    raise NotImplementedError


def fail_take(
    session: Session, option_id: str, *, fault: str, problem: str, now: UnixSeconds, dead: bool = False
) -> TakeRow:  # fmt: skip
    """dead: the caller has seen that the funding can confirm no more, so also what is signed by both is taken back."""
    raise NotImplementedError


def overdue(session: Session, *, now: UnixSeconds, seconds: int) -> list[tuple[TakeRow, str]]:
    raise NotImplementedError
