"""What the oracle network's aggregator keeps, and reads back after a restart. Messages are bytes here, as they came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import update
from sqlmodel import Session, SQLModel, col, select

from btcfi.adapters.store.prices.network_tables import (
    OracleCommitmentRow,
    OracleEquivocationRow,
    OracleRoundRow,
    OracleSubmissionRow,
)
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import upsert
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.oracle.quote import Feed
from btcfi.units import Slot, UnixSeconds

TABLES: Final = (
    BlobRow,
    QuoteRow,
    RoundRow,
    OracleSubmissionRow,
    OracleCommitmentRow,
    OracleEquivocationRow,
    OracleRoundRow,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One accepted submission."""

    slot: Slot
    node_id: str
    message: bytes
    received_at: UnixSeconds
    evidence_sha256: str | None = None
    raw_response: bytes = b""
    """What the evidence is the hash of, where the node sent it along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRound:
    """What the aggregator concluded for one minute."""

    slot: Slot
    report: str
    """Canonical JSON."""
    report_hash: str
    rule: str
    """JSON of the rule, the registered venues and the legs."""
    closed_at: UnixSeconds


def create_tables(store: Store) -> None:
    """Create the aggregator's tables where they do not exist: a database of its own has no Alembic."""
    tables = [SQLModel.metadata.tables[str(table.__tablename__)] for table in TABLES]
    SQLModel.metadata.create_all(store.engine, tables=tables)


def add_submissions(session: Session, feed: Feed, many: Iterable[Submission]) -> None:
    """Store submissions with the responses that they rest on; storing one again changes nothing."""
    submissions, blobs = [], {}
    for one in many:
        submissions.append(
            {
                "feed": feed,
                "slot": one.slot,
                "node_id": one.node_id,
                "message": one.message,
                "received_at_unix": one.received_at,
            }
        )
        if one.raw_response and one.evidence_sha256 is not None:
            name = one.evidence_sha256
            blobs[name] = {"sha256": name, "body": one.raw_response, "created_at_unix": one.received_at}
    _insert_new(session, OracleSubmissionRow, submissions, ["feed", "slot", "node_id"])
    _insert_new(session, BlobRow, list(blobs.values()), ["sha256"])


def add_equivocation(
    session: Session, feed: Feed, slot: Slot, node_id: str, *, first: bytes, second: bytes, now: UnixSeconds
) -> None:
    """Store both sides of a contradiction, once."""
    row = {
        "feed": feed, "slot": slot, "node_id": node_id, "first": first, "second": second, "seen_at_unix": now,
    }  # fmt: skip
    _insert_new(session, OracleEquivocationRow, [row], ["feed", "slot", "node_id"])


def add_commitment(session: Session, feed: Feed, slot: Slot, node_id: str, *, message: bytes, now: UnixSeconds) -> None:
    """Store a commitment, once."""
    row = {"feed": feed, "slot": slot, "node_id": node_id, "message": message, "received_at_unix": now}
    _insert_new(session, OracleCommitmentRow, [row], ["feed", "slot", "node_id"])


def add_round(session: Session, feed: Feed, final: FinalRound) -> None:
    """Store a final report, once."""
    row = {
        "feed": feed, "slot": final.slot, "report": final.report, "report_hash": final.report_hash,
        "rule": final.rule, "signatures": "{}", "closed_at_unix": final.closed_at,
    }  # fmt: skip
    _insert_new(session, OracleRoundRow, [row], ["feed", "slot"])


def set_signatures(session: Session, feed: Feed, slot: Slot, signatures: str) -> None:
    """Store who has signed a round's report so far. signatures: JSON, node id to hex."""
    session.execute(
        update(OracleRoundRow)
        .where(col(OracleRoundRow.feed) == feed, col(OracleRoundRow.slot) == slot)
        .values(signatures=signatures)
    )


def final_rounds(session: Session, feed: Feed, start: int, end: int) -> Sequence[OracleRoundRow]:
    """Return the final rounds of start <= slot < end, oldest first."""
    query = select(OracleRoundRow).where(OracleRoundRow.feed == feed)
    query = query.where(col(OracleRoundRow.slot) >= start, col(OracleRoundRow.slot) < end)
    return session.exec(query.order_by(col(OracleRoundRow.slot))).all()


def submissions(session: Session, feed: Feed, start: int, end: int) -> Sequence[OracleSubmissionRow]:
    """Return the submissions of start <= slot < end."""
    table = OracleSubmissionRow
    query = select(table).where(table.feed == feed, col(table.slot) >= start, col(table.slot) < end)
    return session.exec(query.order_by(col(table.id))).all()


def commitments(session: Session, feed: Feed, start: int, end: int) -> Sequence[OracleCommitmentRow]:
    """Return the commitments of start <= slot < end."""
    table = OracleCommitmentRow
    query = select(table).where(table.feed == feed, col(table.slot) >= start, col(table.slot) < end)
    return session.exec(query.order_by(col(table.id))).all()


def equivocations(session: Session, feed: Feed, start: int, end: int) -> Sequence[OracleEquivocationRow]:
    """Return the contradictions of start <= slot < end."""
    table = OracleEquivocationRow
    query = select(table).where(table.feed == feed, col(table.slot) >= start, col(table.slot) < end)
    return session.exec(query.order_by(col(table.id))).all()


def _insert_new(session: Session, table: type[SQLModel], rows: list[dict[str, Any]], unique: list[str]) -> None:
    if rows:  # on the connection: the session's own way keeps books of each row, at eight times the price
        statement = upsert(session, table).on_conflict_do_nothing(index_elements=unique)
        session.connection().execute(statement, rows)
