"""Requests for quotes: asked, answered by offers for who asked alone, and over once taken, withdrawn or late."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from sqlalchemy import ColumnElement, delete, func, literal_column, select
from sqlmodel import Session, col

from btcfi.adapters.store.market.errors import SuspendedError
from btcfi.adapters.store.market.offers import AT_ONCE, withdraw_answers
from btcfi.adapters.store.market.tables import (
    AccountRow,
    AccountState,
    FirmOfferRow,
    QuoteRequestRow,
    RequestState,
    TakeRow,
    TakeState,
)
from btcfi.adapters.store.spine.edges import Crossing, cross, cross_all, record
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.firm_offer import OfferRule
from btcfi.market.instrument import Instrument
from btcfi.market.request import MOST_OPEN, QuoteRequest, SignedQuoteRequest, encode_signed_request
from btcfi.units import CentiBtc, Slot, UnixSeconds

if TYPE_CHECKING:
    from btcfi.adapters.store.options.sales import Market


MOST_KEPT: Final = 10_000
"""Requests of one account that are here, over or not: each is kept a day, so it asks seven times a minute all day."""


def asked_still(*, now: UnixSeconds | None = None) -> ColumnElement[bool]:
    """Return the condition that a request is open, as the partial indexes have it. now: and that it is not late."""
    # a literal, as in ``offers.still_open``
    is_open: ColumnElement[bool] = col(QuoteRequestRow.state) == literal_column("'open'")
    return is_open if now is None else is_open & (col(QuoteRequestRow.valid_until_unix) > now)


def find_request(session: Session, request_id: str) -> QuoteRequestRow:
    """Return a request. Raises NotFoundError."""
    row = session.get(QuoteRequestRow, request_id)
    if row is None:
        raise NotFoundError("request", request_id[:64], "`btcfi market requests` lists those that are open")
    return row


def locked_request(session: Session, request_id: str) -> QuoteRequestRow:
    """Return a request as it is now, to this transaction alone. Raises NotFoundError."""
    find_request(session, request_id)
    query = select(QuoteRequestRow).where(col(QuoteRequestRow.id) == request_id).with_for_update(key_share=True)
    row: QuoteRequestRow = session.execute(query, execution_options={"populate_existing": True}).scalar_one()
    return row


def post_request(
    session: Session, account: AccountRow, signed: SignedQuoteRequest, *, rule: OfferRule, market: Market,
    now: UnixSeconds,
) -> QuoteRequestRow:  # fmt: skip
    """Store an account's request, and return it; the same again changes nothing.

    The caller has checked the signature. now: the wall clock. market: whose minute tells whether the instrument is
    over. Raises SuspendedError, InvalidInputError naming the field.
    """
    wanted, name = signed.request, signed.request.id.hex()
    _refuse(account, wanted, rule, market=market, now=now)
    # one of an account at a time, so that what is counted below is still so when it is written
    mine = select(AccountRow).where(col(AccountRow.id) == account.id).with_for_update(key_share=True)
    session.execute(mine)
    if (known := session.get(QuoteRequestRow, name, populate_existing=True)) is not None:
        return known
    of_ours = col(QuoteRequestRow.account_id) == account.id
    same = session.execute(select(col(QuoteRequestRow.id)).where(of_ours, col(QuoteRequestRow.number) == wanted.number))
    if (other := same.scalar_one_or_none()) is not None:
        raise InvalidInputError("number", str(wanted.number), f"a number of its own: {other[:16]} has it")
    some = select(col(QuoteRequestRow.id)).where(of_ours).limit(MOST_KEPT).subquery()
    if session.execute(select(func.count()).select_from(some)).scalar_one() >= MOST_KEPT:
        expected = f"fewer than {MOST_KEPT:,}: each is kept for a day"
        raise InvalidInputError("requests", f"{MOST_KEPT:,} of yours are kept", expected)
    count = select(func.count()).select_from(QuoteRequestRow).where(of_ours, asked_still(now=now))
    if session.execute(count).scalar_one() >= MOST_OPEN:
        raise InvalidInputError("requests", f"{MOST_OPEN} of yours stand", f"at most {MOST_OPEN}: withdraw one")
    row = QuoteRequestRow(
        id=name, account_id=account.id, instrument=wanted.instrument.name, wanted=wanted.wanted.value,
        quantity=wanted.quantity, valid_until_unix=wanted.valid_until, number=wanted.number,
        body=json.dumps(encode_signed_request(signed)), created_at_unix=now, updated_at_unix=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "quote_request", name, RequestState.OPEN, now=now)
    return row


def _refuse(account: AccountRow, wanted: QuoteRequest, rule: OfferRule, *, market: Market, now: UnixSeconds) -> None:
    desk = json.loads(account.registration)["desk"]
    if wanted.taker.hex() != account.id:
        raise InvalidInputError("taker", wanted.taker.hex()[:16], f"{account.id[:16]}, who asks")
    if wanted.desk.hex() != desk:
        raise InvalidInputError("desk", wanted.desk.hex()[:16], f"{desk[:16]}, this service's key")
    if account.state != AccountState.OPEN:
        raise SuspendedError(account.name)
    check_asked(wanted.instrument, wanted.quantity, rule, slot=market.slot)
    if (problem := wanted.refusal(now=now)) is not None:
        raise problem


def check_asked(instrument: Instrument, quantity: CentiBtc, rule: OfferRule, *, slot: Slot) -> None:
    """Check what a request is about, whoever asks. slot: the newest priced minute. Raises InvalidInputError."""
    if instrument.expiry <= slot:
        raise InvalidInputError("instrument", f"{instrument.name} is over", "an expiry in the future")
    if not rule.least_quantity <= quantity <= rule.most_quantity:
        bounds = f"{rule.least_quantity} to {rule.most_quantity} hundredths of a bitcoin"
        raise InvalidInputError("quantity", f"{quantity}", bounds)


def withdraw_request(session: Session, account_id: str, request_id: str, *, now: UnixSeconds) -> int:
    """Withdraw a request of an account and its open answers; return how many answers. Again changes nothing.

    Raises NotFoundError, also for another's.
    """
    row = session.get(QuoteRequestRow, request_id)
    if row is None or row.account_id != account_id:  # one word for both
        raise NotFoundError("request", request_id[:64])
    row = locked_request(session, request_id)
    if row.state == RequestState.OPEN:
        cross(session, row, RequestState.WITHDRAWN, now=now)
    return withdraw_answers(session, request_id, now=now)


def fill(session: Session, row: QuoteRequestRow, *, now: UnixSeconds) -> bool:
    """End a request of whose answers as much was taken as it asked for, and return whether it is.

    row: locked by this transaction. Its other answers are withdrawn. A take that fails later does not open it again.
    """
    of_it = select(func.coalesce(func.sum(TakeRow.quantity), 0)).join(
        FirmOfferRow, col(FirmOfferRow.id) == col(TakeRow.offer_id)
    )
    query = of_it.where(col(FirmOfferRow.request_id) == row.id, col(TakeRow.state) != TakeState.FAILED)
    if session.execute(query).scalar_one() < row.quantity:
        return False
    if row.state == RequestState.OPEN:
        cross(session, row, RequestState.FILLED, now=now)
    withdraw_answers(session, row.id, now=now)
    return True


def expire_requests(session: Session, *, now: UnixSeconds) -> int:
    """Expire open requests whose second has come, AT_ONCE at most, and return how many. Answers lapse by themselves."""
    late = select(QuoteRequestRow).where(asked_still(), col(QuoteRequestRow.valid_until_unix) <= now).limit(AT_ONCE)
    locked = late.order_by(col(QuoteRequestRow.id)).with_for_update(key_share=True)
    rows = session.execute(locked, execution_options={"populate_existing": True}).scalars()
    return len(cross_all(session, [Crossing(row=row) for row in rows], RequestState.EXPIRED, now=now))


def prune_requests(session: Session, *, before: UnixSeconds) -> int:
    """Forget requests that ended and lapsed before a second, AT_ONCE at most; return how many.

    Their events go with them. No answer can come any more, and what was taken of one is kept by its offer.
    """
    query = select(col(QuoteRequestRow.id)).where(
        col(QuoteRequestRow.created_at_unix) < before, col(QuoteRequestRow.valid_until_unix) < before,
        col(QuoteRequestRow.state) != RequestState.OPEN,
    )  # fmt: skip
    ids = list(session.execute(query.order_by(col(QuoteRequestRow.created_at_unix)).limit(AT_ONCE)).scalars())
    gone = col(EventRow.entity) == "quote_request", col(EventRow.entity_id).in_(ids)
    for statement in (delete(EventRow).where(*gone), delete(QuoteRequestRow).where(col(QuoteRequestRow.id).in_(ids))):
        session.execute(statement.execution_options(synchronize_session=False))
    return len(ids)
