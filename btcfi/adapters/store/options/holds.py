"""What the oracles may have attested after the backup that this store was restored from.

An oracle that attests two outcomes of one event gives its key away, and a restored ledger has forgotten what was
attested since the backup. So a restore holds every event whose outcome the backup does not decide and whose minute was
over when it was restored: nothing is attested or settled by it until an operator imports what was published, or says
that nothing was.
"""

from __future__ import annotations

import json
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.options.contract_tables import AttestationRow, OracleEventRow
from btcfi.adapters.store.options.hold_tables import HeldEventRow, HoldState
from btcfi.adapters.store.options.rules import RuleOf
from btcfi.adapters.store.prices.fixings import fixing_of
from btcfi.adapters.store.spine.edges import Work, enqueue, record
from btcfi.contracts.messages import decode_announcement, decode_attestation, encode_attestation
from btcfi.errors import BtcfiError, NotFoundError, NotHeldError
from btcfi.oracle.announcement import Announcement, OracleEvent, check_announcement
from btcfi.oracle.attestation import (
    AlreadyAttestedError,
    Attestation,
    EventHeldError,
    WrongAttestationError,
    check_attestation,
)
from btcfi.oracle.quote import Feed
from btcfi.units import Hash32, UnixSeconds

_KNOWN: Final = "btcfi.held_events"
"""In ``Session.info``: the few rows, read once a transaction, since thousands of options ask for them."""


def hold_undecided(session: Session, rule_of: RuleOf, *, taken_at: UnixSeconds, now: UnixSeconds) -> list[HeldEventRow]:
    """Hold what may have been attested between a backup and its restore; call it before anything else runs.

    taken_at: the backup's time. now: the restore's. An event that the backup's own prices decide is left alone, for its
    outcome can only be the same; one that expires later cannot have been attested. One whose preset is
    not here is held.
    """
    events = select(OracleEventRow).where(col(OracleEventRow.expiry_unix) <= max(now, taken_at))
    rows = []
    for event in session.execute(events.order_by(col(OracleEventRow.expiry_unix), col(OracleEventRow.id))).scalars():
        row = session.get(HeldEventRow, event.id) or HeldEventRow(event_id=event.id)
        if row.state == HoldState.IMPORTED or _decided(session, event, rule_of):
            continue
        _hold(session, row, taken_at=taken_at, now=now, detail=f"restored from a backup of {taken_at}")
        rows.append(row)
    session.flush()
    session.info.pop(_KNOWN, None)
    return rows


def _hold(session: Session, row: HeldEventRow, *, taken_at: UnixSeconds, now: UnixSeconds, detail: str) -> None:
    row.state, row.taken_at_unix, row.held_at_unix, row.decided_at_unix = HoldState.HELD, taken_at, now, None
    session.add(row)
    record(session, "held_event", row.event_id, HoldState.HELD, now=now, detail=detail)


def forget_unsigned(session: Session) -> int:
    """Delete, from tables that nobody vouches for, each attestation that its oracle has not signed; return how many.

    An oracle of an earlier release takes what it attested from these rows (``attesting.claimed_by``).
    """
    many = 0
    for event in session.execute(select(col(AttestationRow.event_id)).distinct()).scalars().all():
        row, announced = session.get(OracleEventRow, event), dict[str, Announcement]()
        if row is not None:
            announced = {one.oracle_key.hex(): one for one in _announced(row)}
        for said in session.execute(select(AttestationRow).where(col(AttestationRow.event_id) == event)).scalars():
            if said.oracle_key not in announced or not _signed(said, announced[said.oracle_key]):
                session.delete(said)
                many += 1
    session.flush()
    return many


def hold_unattested(session: Session, *, taken_at: UnixSeconds, now: UnixSeconds) -> list[HeldEventRow]:
    """Hold, as ``hold_undecided`` does, by tables that nobody vouches for: no price of theirs decides an event.

    Call it behind ``forget_unsigned``. What all of its oracles have signed is left alone, and what one of them has and
    was imported; so is what expires later, by the event that they announced.
    """
    rows = []
    for event in session.execute(select(OracleEventRow).order_by(col(OracleEventRow.id))).scalars().all():
        announced = _announced(event)
        said = select(AttestationRow).where(col(AttestationRow.event_id) == event.id)
        signed = {one.oracle_key: one.outcome for one in session.execute(said).scalars()}
        row = session.get(HeldEventRow, event.id) or HeldEventRow(event_id=event.id)
        imported = row.state == HoldState.IMPORTED and row.outcome in signed.values()
        later = bool(announced) and announced[0].event.expiry > max(now, taken_at)
        if imported or later or (announced and all(one.oracle_key.hex() in signed for one in announced)):
            continue
        row.outcome = None
        _hold(session, row, taken_at=taken_at, now=now, detail=f"restored from a backup of {taken_at}, of version 1")
        rows.append(row)
    session.flush()
    session.info.pop(_KNOWN, None)
    return rows


def _announced(row: OracleEventRow) -> list[Announcement]:
    """Return the announcements of a row that its oracles signed for this event; nothing where one is another's."""
    try:
        announced = [decode_announcement(one) for one in json.loads(row.announcements)]
        for one in announced:
            check_announcement(one, expected=announced[0].event)
    except (BtcfiError, ValueError, TypeError, KeyError, AttributeError):
        return []
    return announced if announced and announced[0].event.id.hex() == row.id else []


def _signed(row: AttestationRow, announced: Announcement) -> bool:
    try:
        said = decode_attestation(json.loads(row.body or ""))
        check_attestation(said, announced)
    except (BtcfiError, ValueError, TypeError, KeyError, AttributeError):
        return False
    return said.outcome == row.outcome


def _decided(session: Session, event: OracleEventRow, rule_of: RuleOf) -> bool:
    (announced, *_) = json.loads(event.announcements)
    promised = decode_announcement(announced).event
    if promised.id.hex() != event.id:
        return False  # what the row says of its event is another's
    try:
        rule = rule_of(promised.preset_hash.hex())
    except NotHeldError:
        return False
    return fixing_of(session, Feed(event.feed), promised.fixing, promised.expiry, rule) is not None


def held_events(session: Session) -> list[tuple[HeldEventRow, OracleEventRow]]:
    """Return what waits for an operator, soonest expiry first."""
    query = select(HeldEventRow, OracleEventRow).join(
        OracleEventRow, col(OracleEventRow.id) == col(HeldEventRow.event_id)
    )
    query = query.where(col(HeldEventRow.state) == HoldState.HELD)
    ordered = query.order_by(col(OracleEventRow.expiry_unix), col(OracleEventRow.id))
    return [(held, event) for held, event in session.execute(ordered)]


def imported_outcome(session: Session, event: OracleEvent) -> int | None:
    """Return the outcome of an imported attestation: it decides, whatever a later minute says."""
    known = _known(session)
    row = known.get(event.id.hex()) if known else None
    return None if row is None else row.outcome


def held_ids(session: Session) -> frozenset[str]:
    """Return the ids of the events by which nothing may be attested or settled yet."""
    return frozenset(row.event_id for row in _known(session).values() if row.state == HoldState.HELD)


def allow(session: Session, event: Hash32, outcome: int) -> int:
    """Return the outcome that an oracle may attest. Raises EventHeldError while an operator has not decided."""
    row = session.get(HeldEventRow, event.hex())
    if row is not None and row.state == HoldState.HELD:
        raise EventHeldError(event)
    return outcome if row is None or row.outcome is None else row.outcome


def import_attestation(session: Session, attestation: Attestation, *, now: UnixSeconds, by: str) -> bool:
    """Take a published attestation into the ledger and release its event with that outcome; False if it was known.

    Raises NotFoundError for an event that this store has never announced, WrongAttestationError for a forged one,
    AlreadyAttestedError when this oracle's ledger says another outcome.
    """
    event_id, key = attestation.event.hex(), attestation.oracle_key.hex()
    event = session.get(OracleEventRow, event_id)
    if event is None:
        raise NotFoundError("announced event", event_id, "it was announced after the backup, or by another service")
    announced = {one.oracle_key: one for one in map(decode_announcement, json.loads(event.announcements))}
    if attestation.oracle_key not in announced:
        raise WrongAttestationError(attestation.event, f"{key[:16]} is no oracle of it")
    check_attestation(attestation, announced[attestation.oracle_key])
    row = session.get(AttestationRow, (key, event_id))
    if row is not None and row.outcome != attestation.outcome:
        raise AlreadyAttestedError(event=attestation.event, attested=row.outcome, asked=attestation.outcome)
    new = row is None
    row = row or AttestationRow(oracle_key=key, event_id=event_id, outcome=attestation.outcome, claimed_at_unix=now)
    row.body = row.body or json.dumps(encode_attestation(attestation))
    session.add(row)
    held = session.get(HeldEventRow, event_id)
    if held is not None and held.outcome is None:
        said = f"outcome {attestation.outcome} by oracle {key[:16]}, imported by {by}"
        _decide(session, held, event, HoldState.IMPORTED, now=now, detail=said)
        held.outcome = attestation.outcome
    session.flush()
    return new


def release(session: Session, event_id: str, *, now: UnixSeconds, by: str) -> None:
    """Release an event on an operator's word that no attestation of it was published. Raises NotFoundError."""
    held, event = session.get(HeldEventRow, event_id), session.get(OracleEventRow, event_id)
    if held is None or event is None or held.state != HoldState.HELD:
        raise NotFoundError("held event", event_id, "`btcfi oracle held` lists them")
    _decide(session, held, event, HoldState.RELEASED, now=now, detail=f"{by} says that none was published")
    session.flush()


def _decide(
    session: Session, held: HeldEventRow, event: OracleEventRow, state: str, *, now: UnixSeconds, detail: str
) -> None:
    held.state, held.decided_at_unix = state, now
    session.info.pop(_KNOWN, None)
    record(session, "held_event", held.event_id, state, now=now, detail=detail)
    enqueue(session, [Work(flow="expire_due", arguments=(event.feed,))], now=now)


def _known(session: Session) -> dict[str, HeldEventRow]:
    found: dict[str, HeldEventRow] | None = session.info.get(_KNOWN)
    if found is None:
        found = {row.event_id: row for row in session.execute(select(HeldEventRow)).scalars()}
        session.info[_KNOWN] = found
    return found
