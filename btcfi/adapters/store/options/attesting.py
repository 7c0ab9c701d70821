"""The oracles' side of a contract: events announced, attested once, and published to both parties."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.options import holds
from btcfi.adapters.store.options.contract_tables import AttestationRow, ContractRow, OracleEventRow
from btcfi.adapters.store.options.options import Condition
from btcfi.adapters.store.options.rules import RuleOf, note_waiting
from btcfi.adapters.store.options.tables import OptionRow, OptionState
from btcfi.adapters.store.prices.fixings import fixing_of
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import Work, enqueue, upsert
from btcfi.contracts.messages import (
    decode_announcement,
    decode_attestation,
    encode_announcement,
    encode_attestation,
)
from btcfi.oracle.announcement import Announcement, OracleEvent
from btcfi.oracle.attestation import Attestation
from btcfi.oracle.quote import Feed
from btcfi.units import CentsPerBtc, Hash32, Slot, UnixSeconds

PARTIES_WAIT_SECONDS: Final = 3600
"""How long the parties leave the settlement to the service."""


def announcements_of(session: Session, event: OracleEvent) -> tuple[Announcement, ...] | None:
    """Return what the oracles announced of an event, None before they did."""
    return announcements_by_id(session, event.id.hex()) or None


def announcements_by_id(session: Session, event_id: str) -> tuple[Announcement, ...]:
    """Return what the oracles announced of the event with this id, nothing before they did."""
    row = session.get(OracleEventRow, event_id)
    return () if row is None else tuple(decode_announcement(one) for one in json.loads(row.announcements))


def store_event(
    session: Session, event: OracleEvent, condition: Condition, announcements: Sequence[Announcement], *,
    now: UnixSeconds,
) -> None:  # fmt: skip
    """Store the announcements of an event; storing them again changes nothing."""
    statement = upsert(session, OracleEventRow).values(
        id=event.id.hex(), feed=event.feed, expiry_unix=event.expiry, barrier_cents=condition.barrier,
        barrier_above=condition.above, since_slot=condition.since,
        announcements=json.dumps([encode_announcement(one) for one in announcements]), created_at_unix=now,
    )  # fmt: skip
    session.execute(statement.on_conflict_do_nothing(index_elements=["id"]))


def unattested(session: Session, *, limit: int = 100) -> list[str]:
    """Return the events that expired options wait for, that no oracle has attested and no operator must decide."""
    waiting = (
        select(col(ContractRow.event_id))
        .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
        .where(
            col(OptionRow.state) == OptionState.EXPIRED,
            ~select(AttestationRow)
            .where(col(AttestationRow.event_id) == ContractRow.event_id, col(AttestationRow.body).is_not(None))
            .exists(),
        )
    )
    held = holds.held_ids(session)
    return [event for event in session.execute(waiting.distinct().limit(limit)).scalars() if event not in held]


def to_attest(session: Session, event_id: str, rule_of: RuleOf) -> tuple[tuple[Announcement, ...], int]:
    """Return an event's announcements and its outcome; no announcements while its fixing is not known.

    By the event's own preset. Raises NotHeldError when that is not here.
    """
    row = session.get_one(OracleEventRow, event_id)
    announcements = tuple(decode_announcement(one) for one in json.loads(row.announcements))
    event = announcements[0].event
    rule = rule_of(event.preset_hash.hex())
    fixed = fixing_of(session, Feed(row.feed), event.fixing, event.expiry, rule)
    if fixed is None:
        return (), 0
    barrier = None if row.barrier_cents is None else CentsPerBtc(row.barrier_cents)
    condition = Condition(barrier=barrier, above=row.barrier_above, since=Slot(row.since_slot))
    return announcements, condition.outcome(session, event, fixed.price)


def note_unheld(session: Session, event_id: str, reason: str | None) -> None:
    """Keep, on every option that waits for an event, which hash is missing to attest it, or forget it."""
    query = select(OptionRow).join(ContractRow, col(ContractRow.option_id) == col(OptionRow.id))
    for option in session.execute(query.where(col(ContractRow.event_id) == event_id)).scalars():
        note_waiting(option, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLedger:
    """The oracles' ledger in the store: the first outcome of an event is committed before anything is signed."""

    store: Store
    now: UnixSeconds

    def claim(self, *, oracle_key: bytes, event: Hash32, outcome: int) -> int:
        """Record the outcome unless one stands there; return the one that stands there now. Raises EventHeldError."""
        with self.store.transaction() as session:
            if (allowed := holds.allow(session, event, outcome)) != outcome:
                return allowed
            statement = upsert(session, AttestationRow).values(
                oracle_key=oracle_key.hex(), event_id=event.hex(), outcome=outcome, claimed_at_unix=self.now
            )
            session.execute(statement.on_conflict_do_nothing(index_elements=["oracle_key", "event_id"]))
            return session.get_one(AttestationRow, (oracle_key.hex(), event.hex())).outcome


def publish(session: Session, attestations: Sequence[Attestation], *, now: UnixSeconds) -> None:
    """Keep attestations beside their claimed outcomes, and have the settlements that waited for them sent."""
    for one in attestations:
        row = session.get_one(AttestationRow, (one.oracle_key.hex(), one.event.hex()))
        row.body = json.dumps(encode_attestation(one))
    for event in {one.event.hex() for one in attestations}:
        note_unheld(session, event, None)
    enqueue(session, [Work(flow="send")] if attestations else [], now=now)


def attestations_of(session: Session, event_id: str) -> list[Attestation]:
    """Return the attestations of an event, by oracle key."""
    query = select(AttestationRow).where(
        col(AttestationRow.event_id) == event_id, col(AttestationRow.body).is_not(None)
    )
    rows = session.execute(query.order_by(col(AttestationRow.oracle_key))).scalars()
    return [_attested(row.body or "") for row in rows]


@lru_cache(maxsize=256)
def _attested(text: str) -> Attestation:
    return decode_attestation(json.loads(text))


def published(session: Session, *, now: UnixSeconds) -> list[tuple[str, Attestation]]:
    """Return, by event, the attestations that the parties are told: they may settle by themselves with them.

    That is when every option of the event has ended, so that nobody races the service; or PARTIES_WAIT_SECONDS after
    the attestation, when the service has failed to settle.
    """
    alive = (
        select(ContractRow)
        .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
        .where(col(ContractRow.event_id) == AttestationRow.event_id, col(OptionRow.state) == OptionState.EXPIRED)
        .exists()
    )
    query = select(AttestationRow).where(
        col(AttestationRow.body).is_not(None),
        col(AttestationRow.claimed_at_unix) > now - 2 * PARTIES_WAIT_SECONDS,
        ~alive | (col(AttestationRow.claimed_at_unix) <= now - PARTIES_WAIT_SECONDS),
    )
    rows = session.execute(query.limit(500)).scalars()
    return [(row.event_id, _attested(row.body or "")) for row in rows]
