"""What people read of swaps: whether any are listed, and the sums that must agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, select

from btcfi.adapters.store.swaps.tables import SwapBalanceRow, SwapBookRow, SwapRow, SwapSubcontractRow
from btcfi.units import Sats


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Everybody's money."""

    paid_in: Sats
    margins: Sats
    balances: Sats
    burned: Sats
    paid_out: Sats

    @property
    def missing(self) -> int:
        """What was paid in and is nowhere: nothing."""
        return self.paid_in - self.margins - self.balances - self.burned - self.paid_out


def are_any_listed(session: Session) -> bool:
    """Return whether a contract is listed."""
    return session.exec(select(SwapRow.id).limit(1)).first() is not None


def sums(session: Session) -> Sums:
    """Return everybody's money, from the rows alone."""

    def total(column: Any) -> Sats:  # noqa: ANN401 - a column
        found = session.execute(select(func.coalesce(func.sum(column), 0))).scalar_one()
        return Sats(int(found))

    return Sums(
        paid_in=total(SwapBookRow.paid_in_sats),
        margins=Sats(total(SwapBookRow.margin_sats) + total(SwapSubcontractRow.margin_sats)),
        balances=total(SwapBalanceRow.amount_sats), burned=total(SwapBookRow.burned_sats),
        paid_out=total(SwapBalanceRow.paid_out_sats),
    )  # fmt: skip
