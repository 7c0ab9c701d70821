"""The API's questions to the store, and its cursors."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import Session, col, select

from btcfi.adapters.store.options.tables import OptionRow, PremiumRow, SettlementRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.tables import BlobRow, EventRow
from btcfi.errors import NotFoundError
from btcfi.options.terms import OptionKind
from btcfi.surfaces.rest import schemas
from btcfi.surfaces.rest.errors import NoSuchPageError, NotProvenError

MAX_INTEGER = 2**63 - 1


def encode_cursor(at: int, key: str) -> str:
    """Return the cursor of the row with this time and key: opaque to callers."""
    return base64.urlsafe_b64encode(f"{at}:{key}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[int, str]:
    """Return the time and key of a cursor. Raises NoSuchPageError."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("utf-8")
        at, key = text.split(":", 1)
        place = int(at)
    except (ValueError, binascii.Error, UnicodeDecodeError) as e:
        raise NoSuchPageError from e
    if not 0 <= place <= MAX_INTEGER or "\x00" in key or encode_cursor(place, key) != cursor:
        raise NoSuchPageError
    return place, key


def option_of(row: OptionRow) -> schemas.Option:
    """Return the outside's view of an option."""
    return schemas.Option(
        id=row.id,
        state=schemas.OptionState(row.state),
        type=schemas.OptionType(OptionKind(row.kind).label),
        strike_cents=row.strike_cents,
        quantity_centi_btc=row.quantity_centi_btc,
        barrier_cents=row.barrier_cents,
        american=row.american,
        expiry_unix=row.expiry_unix,
        premium_cents=row.premium_cents,
        premium_sats=row.premium_sats,
        collateral_sats=row.collateral_sats,
        taproot_address=row.address,
        funding_txid=row.funding_txid,
        created_at_unix=row.created_at_unix,
    )


def settlement_of(row: SettlementRow) -> schemas.Settlement:
    """Return the outside's view of a settlement."""
    return schemas.Settlement(
        id=row.id,
        option_id=row.option_id,
        state=schemas.SettlementState(row.state),
        reason=row.reason,
        slot_unix=row.slot,
        price_cents=row.price_cents,
        payout_cents=row.payout_cents,
        payout_sats=row.payout_sats,
        steps=row.steps,
        proof_root=row.proof_root,
        txid=row.txid,
        attempts=row.attempts,
        last_error=row.last_error,
        updated_at_unix=row.updated_at_unix,
    )


def premiums(session: Session, *, feed: str, at: int, option_id: str, limit: int = 2_000) -> list[PremiumRow]:
    """Return the open options' premiums stored after ``at`` or, at that time, of a later id, in that order."""
    later = or_(
        col(PremiumRow.priced_at_unix) > at,
        and_(col(PremiumRow.priced_at_unix) == at, col(PremiumRow.option_id) > option_id),
    )
    query = (
        select(PremiumRow)
        .join(OptionRow, col(OptionRow.id) == col(PremiumRow.option_id))
        .where(OptionRow.feed == feed, col(OptionRow.state).in_(("CREATED", "ACTIVE")), later)
    )
    return list(session.exec(query.order_by(col(PremiumRow.priced_at_unix), col(PremiumRow.option_id)).limit(limit)))


def premium_of(row: PremiumRow) -> schemas.StoredPremium:
    """Return the outside's view of a stored premium."""
    return schemas.StoredPremium(slot_unix=row.slot, **row.model_dump(exclude={"slot"}))


def option(session: Session, option_id: str) -> OptionRow:
    """Return an option's row. Raises NotFoundError."""
    row = session.get(OptionRow, option_id)
    if row is None:
        raise NotFoundError("option", option_id)
    return row


def settlement(session: Session, settlement_id: str) -> SettlementRow:
    """Return a settlement's row. Raises NotFoundError."""
    row = session.get(SettlementRow, settlement_id)
    if row is None:
        raise NotFoundError("settlement", settlement_id)
    return row


def stored_premium(session: Session, option_id: str) -> PremiumRow:
    """Return the newest stored premium of an option. Raises NotFoundError."""
    option(session, option_id)
    row = session.get(PremiumRow, option_id)
    if row is None:
        raise NotFoundError("premium of option", option_id, "it is stored with the next priced minute")
    return row


def proof_bytes(session: Session, settlement_id: str) -> tuple[bytes, str]:
    """Return a settlement's proof file and its SHA-256. Raises NotFoundError, NotProvenError."""
    row = settlement(session, settlement_id)
    blob = session.get(BlobRow, row.proof_sha256) if row.proof_sha256 else None
    if blob is None:
        raise NotProvenError(settlement_id, row.state)
    return bytes(blob.body), blob.sha256


def options(
    session: Session, *, feed: str, where: list[ColumnElement[bool]], limit: int, cursor: str | None
) -> schemas.OptionPage:  # fmt: skip
    """Return one page of options, newest first. Raises NoSuchPageError."""
    rows = session.exec(
        select(OptionRow)
        .where(OptionRow.feed == feed, *where, *_before(OptionRow.created_at_unix, OptionRow.id, cursor))
        .order_by(col(OptionRow.created_at_unix).desc(), col(OptionRow.id).desc())
        .limit(limit + 1)
    ).all()
    last = encode_cursor(rows[limit - 1].created_at_unix, rows[limit - 1].id) if len(rows) > limit else None
    return schemas.OptionPage(items=[option_of(row) for row in rows[:limit]], next_cursor=last)


def settlements(
    session: Session, *, where: list[ColumnElement[bool]], limit: int, cursor: str | None
) -> schemas.SettlementPage:  # fmt: skip
    """Return one page of settlements, newest first. Raises NoSuchPageError."""
    rows = session.exec(
        select(SettlementRow)
        .where(*where, *_before(SettlementRow.created_at_unix, SettlementRow.id, cursor))
        .order_by(col(SettlementRow.created_at_unix).desc(), col(SettlementRow.id).desc())
        .limit(limit + 1)
    ).all()
    last = encode_cursor(rows[limit - 1].created_at_unix, rows[limit - 1].id) if len(rows) > limit else None
    return schemas.SettlementPage(items=[settlement_of(row) for row in rows[:limit]], next_cursor=last)


def prices(
    session: Session, *, feed: str, start: int, end: int, limit: int, cursor: str | None
) -> schemas.PricePage:  # fmt: skip
    """Return one page of agreed minutes from ``start`` to before ``end``, newest first. Raises NoSuchPageError."""
    newest = min(end, decode_cursor(cursor)[0]) if cursor is not None else end
    rows = session.exec(
        select(RoundRow)
        .where(
            RoundRow.feed == feed, RoundRow.state == "priced", col(RoundRow.slot) >= start, col(RoundRow.slot) < newest
        )
        .order_by(col(RoundRow.slot).desc())
        .limit(limit + 1)
    ).all()
    last = encode_cursor(rows[limit - 1].slot, "") if len(rows) > limit else None
    return schemas.PricePage(items=[price_of(row) for row in rows[:limit]], next_cursor=last)


def price_of(row: RoundRow) -> schemas.Price:
    """Return the outside's view of a priced round."""
    return schemas.Price(
        slot_unix=row.slot, price_cents=row.price_cents or 0, low_cents=row.low_cents, high_cents=row.high_cents
    )


def events(
    session: Session, *, entity: str, after: int, entity_id: str | None = None, limit: int = 500
) -> list[schemas.Event]:  # fmt: skip
    """Return the events of one kind of row after an id, oldest first."""
    query = select(EventRow).where(EventRow.entity == entity, col(EventRow.id) > after)
    if entity_id is not None:
        query = query.where(EventRow.entity_id == entity_id)
    rows = session.exec(query.order_by(col(EventRow.id)).limit(limit)).all()
    return [schemas.Event(**row.model_dump(exclude={"fence"})) for row in rows]


def _before(time: Any, key: Any, cursor: str | None) -> list[ColumnElement[bool]]:  # noqa: ANN401 - mapped columns
    if cursor is None:
        return []
    at, last = decode_cursor(cursor)
    return [or_(time < at, and_(time == at, key < last))]


def inserts(session: Session, statement: Any) -> bool:  # noqa: ANN401 - either dialect's Insert
    """Execute an INSERT that does nothing on conflict; return whether it inserted."""
    # what it returns, not rowcount: PostgreSQL's driver has no count for an INSERT of a mapped class
    quiet = statement.on_conflict_do_nothing()
    return session.execute(quiet.returning(*quiet.table.primary_key)).first() is not None
