"""The oracles' side of a contract: events announced, attested once, and published to both parties."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from sqlalchemy import ColumnElement, and_, func, select, tuple_
from sqlmodel import Session, col

from btcfi.adapters.store.options import holds
from btcfi.adapters.store.options.contract_tables import AttestationRow, ContractRow, OracleEventRow
from btcfi.adapters.store.options.options import Condition
from btcfi.adapters.store.options.rules import note_waiting
from btcfi.adapters.store.options.tables import OptionRow, OptionState, SettlementRow
from btcfi.adapters.store.spine.edges import Work, enqueue, upsert
from btcfi.adapters.store.spine.times import lapsed
from btcfi.contracts.messages import (
    decode_announcement,
    decode_attestation,
    encode_announcement,
    encode_attestation,
)
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import Announcement, OracleEvent
from btcfi.oracle.attestation import Attestation
from btcfi.units import Hash32, UnixSeconds

PARTIES_WAIT_SECONDS: Final = 3600
"""How long the parties leave the settlement to the service."""

AT_ONCE: Final = 500
"""Attestations of one look."""

FIRST: Final = ("", "")
"""Before every event and oracle."""

_NAMED: Final = (col(AttestationRow.event_id), col(AttestationRow.oracle_key))


def announcements_of(session: Session, event: OracleEvent) -> tuple[Announcement, ...] | None:
    """Return what the oracles announced of an event, None before they did."""
    return announcements_by_id(session, event.id.hex()) or None


def announcements_by_id(session: Session, event_id: str) -> tuple[Announcement, ...]:
    """Return what the oracles announced of the event with this id, nothing before they did."""
    row = session.get(OracleEventRow, event_id)
    return () if row is None else announced_in(row)


def announced_in(row: OracleEventRow) -> tuple[Announcement, ...]:
    """Return the announcements of a row. Raises InvalidInputError for one of another event than the row's.

    An id is the hash of all that an event says: a row whose announcements were exchanged would have the oracles asked
    for, and a contract settled by, what nobody sold.
    """
    announced = tuple(decode_announcement(one) for one in json.loads(row.announcements))
    for one in announced:
        if (said := one.event.id.hex()) != row.id:
            raise InvalidInputError(
                "oracle_event", f"announcements of {said[:16]} in the row of {row.id[:16]}", "its own"
            )
    return announced


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


def unattested(session: Session, *, limit: int = 100, turn: int = 0) -> list[str]:
    """Return the events that expired options wait for, of which an oracle's attestation is still missing.

    Not those that an operator must decide first. turn: where there are more than ``limit``, each turn gives others, so
    that many whose oracles are gone keep nobody waiting.
    """
    waiting = (
        select(col(ContractRow.event_id))
        .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
        .where(_settles_by_attestation())
    )
    held = holds.held_ids(session)
    every = sorted({event for event in session.execute(waiting.distinct()).scalars() if event not in held})
    start = turn * limit % len(every) if len(every) > limit else 0
    now = [*every[start:], *every[:start]][:limit]
    query = select(col(OracleEventRow.id), col(OracleEventRow.announcements)).where(col(OracleEventRow.id).in_(now))
    announced = {row[0]: row[1] for row in session.execute(query)}
    signed = select(col(AttestationRow.event_id), func.count()).where(
        col(AttestationRow.event_id).in_(announced), col(AttestationRow.body).is_not(None)
    )
    counted = {row[0]: row[1] for row in session.execute(signed.group_by(col(AttestationRow.event_id)))}
    return [event for event, text in announced.items() if counted.get(event, 0) < len(json.loads(text))]


def _settles_by_attestation() -> ColumnElement[bool]:
    """Say of an option that it waits for its oracles: one that was exercised early is closed by its two parties."""
    at_expiry = select(col(SettlementRow.id)).where(
        col(SettlementRow.option_id) == OptionRow.id, col(SettlementRow.reason) == "expiry"
    )
    return and_(col(OptionRow.state) == OptionState.EXPIRED, at_expiry.exists())


def to_collect(session: Session, event_id: str) -> tuple[tuple[Announcement, ...], tuple[str, ...]]:
    """Return what was announced of an event, for its attestations to be checked against, and what is wrong with it.

    Nothing while it is held.
    """
    try:
        return (() if event_id in holds.held_ids(session) else announcements_by_id(session, event_id)), ()
    except InvalidInputError as e:
        return (), (str(e),)


def note_unheld(session: Session, event_id: str, reason: str | None) -> None:
    """Keep, on every option that waits for an event, which hash is missing to attest it, or forget it."""
    query = select(OptionRow).join(ContractRow, col(ContractRow.option_id) == col(OptionRow.id))
    for option in session.execute(query.where(col(ContractRow.event_id) == event_id)).scalars():
        note_waiting(option, reason)


def publish(
    session: Session, event_id: str, attestations: Sequence[Attestation], reasons: Sequence[str], *, now: UnixSeconds
) -> None:  # fmt: skip
    """Keep checked attestations, say why others are missing, and have the settlements that waited for them sent.

    An oracle's first attestation of an event stays: a second one with another outcome is said, and nothing is done by
    it.
    """
    problems, new = list(reasons), 0
    for one in attestations:
        row = session.get(AttestationRow, (one.oracle_key.hex(), event_id))
        if row is not None and row.outcome != one.outcome:
            problems.append(f"oracle {one.oracle_key.hex()[:16]} attested {row.outcome} before and now {one.outcome}")
            continue
        if row is None:
            row = AttestationRow(
                oracle_key=one.oracle_key.hex(), event_id=event_id, outcome=one.outcome, claimed_at_unix=now
            )
            session.add(row)
        new += row.body is None
        row.body = row.body or json.dumps(encode_attestation(one))
    session.flush()
    note_oracles(session, event_id, [*problems, *_differing(session, event_id)])
    enqueue(session, [Work(flow="send")] if new else [], now=now)


ORACLES: Final = "oracles: "
"""How a note about them begins, so that it can be taken away again."""


def note_oracles(session: Session, event_id: str, problems: Sequence[str]) -> None:
    """Keep, on every option that waits for an event, why attestations are missing or differ, or forget it."""
    query = select(OptionRow).join(ContractRow, col(ContractRow.option_id) == col(OptionRow.id))
    waiting = query.where(col(ContractRow.event_id) == event_id, _settles_by_attestation())
    for option in session.execute(waiting).scalars():
        if option.last_error is None or option.last_error.startswith(ORACLES):
            option.last_error = f"{ORACLES}{'; '.join(problems)}"[:MAX_NOTE] if problems else None


def note_unannounced(session: Session, option_id: str, problems: Sequence[str]) -> None:
    """Keep on an option why its oracles have not announced its event; forgotten once they have."""
    option = session.get_one(OptionRow, option_id)
    option.last_error = f"{ORACLES}{'; '.join(problems)}"[:MAX_NOTE]


MAX_NOTE: Final = 1_000
"""Characters of a note."""


def _differing(session: Session, event_id: str) -> list[str]:
    """Return, in words, that the oracles attest different outcomes, nothing when they agree."""
    query = select(AttestationRow).where(
        col(AttestationRow.event_id) == event_id, col(AttestationRow.body).is_not(None)
    )
    by_outcome: dict[int, list[str]] = {}
    for row in session.execute(query.order_by(col(AttestationRow.oracle_key))).scalars():
        by_outcome.setdefault(row.outcome, []).append(row.oracle_key[:16])
    if len(by_outcome) < 2:  # noqa: PLR2004 - one cannot differ
        return []
    return [
        "they differ: "
        + ", ".join(f"{outcome} by {' and '.join(keys)}" for outcome, keys in sorted(by_outcome.items()))
    ]


def claimed_by(session: Session, oracle_key: str) -> list[tuple[Hash32, int]]:
    """Return what an oracle has claimed in this store, signed or not: events and their outcomes."""
    query = select(col(AttestationRow.event_id), col(AttestationRow.outcome)).where(
        col(AttestationRow.oracle_key) == oracle_key
    )
    return [(Hash32(bytes.fromhex(event)), outcome) for event, outcome in session.execute(query)]


def event_ids(session: Session) -> list[str]:
    """Return the id of every event that was announced for a contract."""
    return list(session.execute(select(col(OracleEventRow.id))).scalars())


def named_keys(session: Session) -> frozenset[str]:
    """Return the oracle keys (hex) that open contracts name, and the newest announced event."""
    open_ones = (
        select(col(OracleEventRow.announcements))
        .join(ContractRow, col(ContractRow.event_id) == col(OracleEventRow.id))
        .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
        .where(col(OptionRow.state).in_(OptionRow.__machine__.pending))
    )
    newest = select(col(OracleEventRow.announcements)).order_by(col(OracleEventRow.created_at_unix).desc()).limit(1)
    texts = {*session.execute(open_ones).scalars(), *session.execute(newest).scalars()}
    return frozenset(one["oracle_key"] for text in texts for one in json.loads(text))


def letter_name(event_id: str, oracle_key: bytes) -> str:
    """Return the name under which an attestation is told, in folders and letters."""
    return f"{event_id[:32]}-{oracle_key.hex()[:16]}.attestation"


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


def published(
    session: Session, *, now: UnixSeconds, after: tuple[str, str] = FIRST
) -> list[tuple[str, Attestation]]:  # fmt: skip
    """Return, by event, the attestations that the parties are told: they may settle by themselves with them.

    That is when every option of the event has ended, so that nobody races the service; or PARTIES_WAIT_SECONDS after
    the attestation, when the service has failed to settle. AT_ONCE at most, behind the event and the oracle of the last
    one of the look before: whoever has many events of its own attested keeps nobody else's from being told.
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
        ~alive | lapsed(col(AttestationRow.claimed_at_unix), now, PARTIES_WAIT_SECONDS),
        tuple_(*_NAMED) > after,
    )
    rows = session.execute(query.order_by(*_NAMED).limit(AT_ONCE)).scalars()
    return [(row.event_id, _attested(row.body or "")) for row in rows]
