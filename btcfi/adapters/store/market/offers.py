"""Firm offers: posted in batches, withdrawn, expired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlmodel import Session

from btcfi.adapters.store.market.tables import AccountRow, FirmOfferRow
from btcfi.adapters.store.options.sales import Market
from btcfi.errors import ConflictError
from btcfi.market.firm_offer import SignedOffer
from btcfi.units import UnixSeconds

if TYPE_CHECKING:
    from btcfi.market.firm_offer import OfferRule


class OfferGoneError(ConflictError):
    """An offer that cannot be taken any more, or not so much of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What became of one offer of a batch."""

    offer_id: str
    state: str | None
    """Of the offer as it stands now; None where it was refused."""
    problem: str | None = None
    """Why it was refused, in one line, None where it was not."""
    field: str | None = None
    """Of the offer, which is wrong."""


def post_offers(
    session: Session, account: AccountRow, offers: Sequence[SignedOffer], *, rule: OfferRule, market: Market,
    now: UnixSeconds,
) -> list[Posted]:  # fmt: skip
    raise NotImplementedError


def withdraw_offers(session: Session, account_id: str, ids: Sequence[str] | None, *, now: UnixSeconds) -> int:
    raise NotImplementedError


def expire_offers(session: Session, *, now: UnixSeconds) -> int:
    raise NotImplementedError


def find_offer(session: Session, offer_id: str) -> FirmOfferRow:
    raise NotImplementedError
