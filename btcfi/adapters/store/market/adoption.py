"""The two parties that were there before accounts were: made accounts, and owners of what was sold to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import Session, col

from btcfi.adapters.store.market.accounts import register
from btcfi.adapters.store.market.tables import AccountRow, Carrier, CloseRow
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.contracts.messages import Role
from btcfi.errors import InvalidInputError
from btcfi.market.account import SignedRegistration
from btcfi.units import UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What became of the two parties."""

    accounts: Mapping[Role, AccountRow]
    options: int
    """How many had no writer and no holder, and have these two now."""


def adopt(
    session: Session, registrations: Mapping[Role, SignedRegistration], *, desk: bytes, now: UnixSeconds
) -> Adopted:
    """Register the seller and the buyer of the mailbox folders, and give them every option that is nobody's.

    desk: x-only key of this service, which both are for. Again changes nothing but what was sold meanwhile. Raises
    InvalidInputError where a name is not its folder's, or both are one, and as ``register``.
    """
    for role, signed in registrations.items():
        if (name := signed.registration.name) != role.value:
            raise InvalidInputError(
                f"{role.value}.name", repr(name), f"{role.value!r}: its messages lie in that folder"
            )
    seller, buyer = (registrations[role].registration.identity for role in (Role.SELLER, Role.BUYER))
    if seller == buyer:
        raise InvalidInputError("buyer.identity", "the seller's", "an identity of its own")
    accounts = {
        role: register(session, signed, now=now, carrier=Carrier.FOLDER, desk=desk)
        for role, signed in registrations.items()
    }
    statement = (
        update(OptionRow)
        .where(col(OptionRow.writer).is_(None), col(OptionRow.holder).is_(None))
        .values(writer=accounts[Role.SELLER].id, holder=accounts[Role.BUYER].id)
        .returning(col(OptionRow.id))
        .execution_options(synchronize_session=False)
    )
    given = [row.id for row in session.execute(statement).all()]
    session.execute(
        update(CloseRow)
        .where(col(CloseRow.writer).is_(None), col(CloseRow.holder).is_(None))
        .values(writer=accounts[Role.SELLER].id, holder=accounts[Role.BUYER].id)
        .execution_options(synchronize_session=False)
    )
    return Adopted(accounts=accounts, options=len(given))
