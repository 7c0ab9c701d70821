"""What people read of options: the book in pages, one option's life, settlements and their proofs, premiums.

The one place for it: console, REST, gRPC and command line ask here. What is not found is None; each surface says so in
its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, case, exists, func, or_
from sqlmodel import Session, col, select

from btcfi.adapters.store.chain import views as chain_views
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options import batches
from btcfi.adapters.store.options.building import planned_settlements, settlements_in
from btcfi.adapters.store.options.contract_tables import AttestationRow, ContractRow
from btcfi.adapters.store.options.purposes import CHILD
from btcfi.adapters.store.options.tables import (
    LOCKED_OPTIONS,
    UNEXPIRED_OPTIONS,
    OptionRow,
    PremiumRow,
    RequestState,
    SettlementRequestRow,
    SettlementRow,
    SettlementState,
)
from btcfi.adapters.store.spine import views as spine_views
from btcfi.adapters.store.spine.paging import Page, aside, newest_page, stretch
from btcfi.adapters.store.spine.tables import BlobRow, EventRow
from btcfi.bitcoin.fees import FeeRule
from btcfi.contracts.schedule import Turn
from btcfi.options.terms import OptionKind
from btcfi.units import Height

UNPROVEN: Final = (SettlementState.DUE, SettlementState.CLAIMED, SettlementState.EXECUTED)
ON_CHAIN: Final = (SettlementState.PROVEN, SettlementState.BUILT, SettlementState.BROADCAST)
"""Between the proof and the last confirmation."""

BEYOND_EVERY_ID: Final = "\U0010ffff"
"""Sorts after every character that an id may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What somebody may see: an option that a take made is its two accounts', and whoever sees everything's."""

    everything: bool = False
    account: str | None = None

    def sees(self, row: OptionRow) -> bool:
        """Return whether an option is shown."""
        return self.everything or row.take_id is None or (self.account or "") in {row.writer, row.holder}

    def of_options(self) -> list[ColumnElement[bool]]:
        """Return what an option's row must fulfil."""
        if self.everything:
            return []
        anybodys = aside(OptionRow.take_id).is_(None)
        if self.account is None:
            return [anybodys]
        own = aside(OptionRow.writer) == self.account, aside(OptionRow.holder) == self.account
        return [or_(anybodys, *own)]

    def of_settlements(self) -> list[ColumnElement[bool]]:
        """Return what a settlement's row must fulfil."""
        if self.everything:
            return []
        seen = exists().where(col(OptionRow.id) == col(SettlementRow.option_id), *self.of_options())
        return [seen]


EVERYTHING: Final = Sight(everything=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhichOptions:
    """A filter of options; what is None or empty does not matter."""

    state: str | None = None
    kind: OptionKind | None = None
    american: bool | None = None
    expiry_from: int | None = None
    """Unix seconds, inclusive, as ``expiry_to``."""
    expiry_to: int | None = None
    id_prefix: str = ""
    sight: Sight = EVERYTHING

    def conditions(self, session: Session) -> list[ColumnElement[bool]]:
        """Return what a row must fulfil."""
        where, plain = _begins(session, OptionRow.id, self.id_prefix)
        where += self.sight.of_options()
        if self.state is not None:
            where.append(plain(OptionRow.state) == self.state)
        if self.kind is not None:
            where.append(plain(OptionRow.kind) == int(self.kind))
        if self.american is not None:
            where.append(plain(OptionRow.american).is_(self.american))
        if self.expiry_from is not None:
            where.append(plain(OptionRow.expiry_unix) >= self.expiry_from)
        if self.expiry_to is not None:
            where.append(plain(OptionRow.expiry_unix) <= self.expiry_to)
        return where


@dataclass(frozen=True, slots=True, kw_only=True)
class WhichSettlements:
    """A filter of settlements; what is None or empty does not matter."""

    state: str | None = None
    option_id: str | None = None
    option_prefix: str = ""
    sight: Sight = EVERYTHING

    def conditions(self, session: Session) -> list[ColumnElement[bool]]:
        """Return what a row must fulfil."""
        where, plain = _begins(session, SettlementRow.option_id, self.option_prefix)
        where += self.sight.of_settlements()
        if self.state is not None:
            where.append(plain(SettlementRow.state) == self.state)
        if self.option_id is not None:
            where.append(col(SettlementRow.option_id) == self.option_id)
        return where


class OldestDue(NamedTuple):
    """The settlement that has waited longest for its proof."""

    created_at_unix: int
    id: str


# ---- options


def option(session: Session, option_id: str) -> OptionRow | None:
    """Return an option."""
    return session.get(OptionRow, option_id)


def option_of_transaction(session: Session, txid: str) -> OptionRow | None:
    """Return the option that a transaction of ours is for, or whose funding it is. txid: in display order."""
    row = session.get(TransactionRow, txid)
    if row is not None and row.subject is not None and (found := session.get(OptionRow, row.subject)) is not None:
        return found
    return session.exec(select(OptionRow).where(OptionRow.funding_txid == txid).limit(1)).first()


def options_at_address(session: Session, address: str, *, limit: int = 10) -> Sequence[OptionRow]:
    """Return the options whose contract's output pays to an address, the newest first: one, where keys are fresh."""
    query = select(OptionRow).where(OptionRow.address == address)
    return session.exec(query.order_by(col(OptionRow.created_at_unix).desc()).limit(limit)).all()


def option_page(
    session: Session, feed: str, which: WhichOptions, *, limit: int, cursor: str | None = None
) -> Page[OptionRow]:
    """Return one page of a feed's options, newest first. Raises NoSuchPageError."""
    query = select(OptionRow).where(OptionRow.feed == feed, *which.conditions(session))
    return newest_page(
        session, query, col(OptionRow.created_at_unix), col(OptionRow.id), limit=limit, cursor=cursor
    )  # fmt: skip


def soonest(
    session: Session, which: WhichOptions, *, feed: str | None = None, limit: int = 1_000
) -> Sequence[OptionRow]:
    """Return options, the soonest expiry first. feed: None for every feed."""
    query = select(OptionRow).where(*which.conditions(session))
    if feed is not None:
        query = query.where(OptionRow.feed == feed)
    return stretch(session, query, col(OptionRow.expiry_unix), col(OptionRow.id), beyond=None, limit=limit)


def options_by_state(session: Session) -> dict[str, int]:
    """Return how many options are in each state."""
    return spine_views.by_state(session, OptionRow)


def options_in(session: Session, states: Iterable[str]) -> int:
    """Return how many options are in one of these states."""
    return spine_views.count_in(session, OptionRow, *states)


def of_these_in(session: Session, ids: Iterable[str], states: Iterable[str]) -> Sequence[str]:
    """Return those of some options that are in one of these states."""
    query = select(OptionRow.id).where(col(OptionRow.id).in_(list(ids)), col(OptionRow.state).in_(list(states)))
    return session.exec(query).all()


def contract(session: Session, option_id: str) -> ContractRow | None:
    """Return how far an option's two parties have come."""
    return session.get(ContractRow, option_id)


def attestations_of(session: Session, option_id: str) -> Sequence[AttestationRow]:
    """Return what the oracles attested of the event that an option's contract names; none before its expiry."""
    signed = contract(session, option_id)
    if signed is None:
        return []
    query = select(AttestationRow).where(AttestationRow.event_id == signed.event_id)
    return session.exec(query.order_by(col(AttestationRow.oracle_key))).all()


def transactions_of(session: Session, option_id: str) -> list[TransactionRow]:
    """Return the transactions of an option, oldest first: its own, and the batches that pay it with others."""
    own = chain_views.transactions_of(session, option_id)
    shared = [row.txid for row in batches.ends_of_option(session, option_id)]
    found = session.exec(select(TransactionRow).where(col(TransactionRow.txid).in_(shared))).all() if shared else []
    return sorted((*own, *found), key=lambda row: (row.created_at_unix, row.purpose))


def life_of(session: Session, option_id: str) -> Sequence[EventRow]:
    """Return every edge that an option, its contract, its settlement and its transactions crossed, in order."""
    settled = settlement_of(session, option_id)
    subjects = {
        "option": [option_id],
        "contract": [option_id],
        "settlement": [] if settled is None else [settled.id],
        "chain_transaction": [row.txid for row in transactions_of(session, option_id)],
        "batch": sorted({row.batch_id for row in batches.ends_of_option(session, option_id)}),
    }
    return spine_views.events_of(session, subjects)


def locked_book(session: Session, feed: str) -> str:
    """Return what is another text whenever other options' collateral is on the chain: their hash, in order."""
    query = select(OptionRow.id).where(OptionRow.feed == feed, col(OptionRow.state).in_(LOCKED_OPTIONS))
    return sha256("\n".join(session.exec(query.order_by(col(OptionRow.id))).all()).encode()).hexdigest()


# ---- premiums


def premium(session: Session, option_id: str) -> PremiumRow | None:
    """Return the newest premium that was stored for an option."""
    return session.get(PremiumRow, option_id)


def premiums_of(session: Session, ids: Iterable[str]) -> dict[str, PremiumRow]:
    """Return the newest premium of each of some options that has one."""
    query = select(PremiumRow).where(col(PremiumRow.option_id).in_(list(ids)))
    return {row.option_id: row for row in session.exec(query).all()}


def premiums_after(
    session: Session, *, feed: str, at: int, option_id: str, limit: int = 2_000, sight: Sight = EVERYTHING
) -> Sequence[PremiumRow]:  # fmt: skip
    """Return the open options' premiums stored after ``at`` or, at that time, of a later id, in that order."""
    query = (
        select(PremiumRow)
        .join(OptionRow, col(OptionRow.id) == col(PremiumRow.option_id))
        .where(OptionRow.feed == feed, aside(OptionRow.state).in_(UNEXPIRED_OPTIONS), *sight.of_options())
    )
    columns = col(PremiumRow.priced_at_unix), col(PremiumRow.option_id)
    return stretch(session, query, *columns, beyond=(at, option_id), limit=limit)


def premiums_at(session: Session, slot: int) -> int:
    """Return how many options have a premium of the price of this minute."""
    # none is older than the price that it was computed from, and an index knows the newest
    fresh = PremiumRow.slot == slot, col(PremiumRow.priced_at_unix) >= slot
    return session.exec(select(func.count()).select_from(PremiumRow).where(*fresh)).one()


def newest_premium_unix(session: Session) -> int | None:
    """Return when a premium was last stored."""
    at = col(PremiumRow.priced_at_unix)
    return session.exec(select(at).order_by(at.desc()).limit(1)).first()


# ---- settlements


def settlement(session: Session, settlement_id: str) -> SettlementRow | None:
    """Return a settlement."""
    return session.get(SettlementRow, settlement_id)


def settlement_of(session: Session, option_id: str) -> SettlementRow | None:
    """Return an option's settlement."""
    return session.exec(select(SettlementRow).where(SettlementRow.option_id == option_id)).one_or_none()


def settlements_by_option(session: Session, option_ids: Iterable[str]) -> dict[str, SettlementRow]:
    """Return the settlements of some options that have one, by option."""
    query = select(SettlementRow).where(col(SettlementRow.option_id).in_(list(option_ids)))
    return {row.option_id: row for row in session.exec(query).all()}


def settlement_page(
    session: Session, which: WhichSettlements, *, limit: int, cursor: str | None = None
) -> Page[SettlementRow]:
    """Return one page of settlements, newest first. Raises NoSuchPageError."""
    query = select(SettlementRow).where(*which.conditions(session))
    return newest_page(
        session, query, col(SettlementRow.created_at_unix), col(SettlementRow.id), limit=limit, cursor=cursor
    )  # fmt: skip


def settlements_of(session: Session, ids: Iterable[str]) -> dict[str, SettlementRow]:
    """Return some settlements by their ids."""
    query = select(SettlementRow).where(col(SettlementRow.id).in_(list(ids)))
    return {row.id: row for row in session.exec(query).all()}


def options_of(session: Session, option_ids: Iterable[str]) -> dict[str, OptionRow]:
    """Return some options by their ids."""
    query = select(OptionRow).where(col(OptionRow.id).in_(list(option_ids)))
    return {row.id: row for row in session.exec(query).all()}


def anchor_of(row: SettlementRow, option: OptionRow) -> int | None:
    """Return what lies in the anchor of an option's settlement, sats; None before there is a transaction."""
    if row.paid_sats is None or row.returned_sats is None or row.fee_sats is None:
        return None
    return option.collateral_sats - row.paid_sats - row.returned_sats - row.fee_sats


def child_fees(session: Session, option_ids: Iterable[str]) -> dict[str, int]:
    """Return what the child that stands pays in fees, of each of some options that has one; a stranger's is not known.

    It is the anchor and a coin less the change: the anchor's value is in it, and in no fee of the settlement.
    """
    query = select(TransactionRow).where(
        col(TransactionRow.subject).in_(list(option_ids)), TransactionRow.purpose == CHILD
    )
    return child_fees_in(session.exec(query).all())


def child_fees_in(rows: Iterable[TransactionRow]) -> dict[str, int]:
    """Return the same of transactions that were read already."""
    standing = [row for row in rows if row.purpose == CHILD and row.replaced_by is None and row.fee_sats]
    return {str(row.subject): row.fee_sats for row in standing}


def settlements_by_state(session: Session) -> dict[str, int]:
    """Return how many settlements are in each state."""
    return spine_views.by_state(session, SettlementRow)


def states_of(session: Session, option_ids: Iterable[str]) -> Sequence[str]:
    """Return the states of the settlements of some options."""
    query = select(SettlementRow.state).where(col(SettlementRow.option_id).in_(list(option_ids)))
    return session.exec(query).all()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePayments:
    """The settlements of one refund height that are proven and in no block."""

    refund_height: int
    waiting: int
    """Proven: not built yet, for want of an attestation, a coin or their turn."""
    in_flight: int
    """Built or sent."""
    collateral_sats: int
    """Of all of them."""
    put_off: int
    """Of those that wait: for a later block, since the next ones are full of ours."""
    last_turn: int | None
    """The block that is planned to hold the last one that waits; None when none does."""
    late: int
    """Of those that wait: their turn is after the refund height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payments:
    """Settlements on their way to the chain, deadline first."""

    deadlines: tuple[DeadlinePayments, ...]
    share: int
    """Virtual bytes of each block that the plan takes."""
    in_flight: int
    """Settlements that are built or sent, and in no block."""


def payments(session: Session, *, tip: Height, rule: FeeRule) -> Payments:
    """Return what is proven and in no block by its deadline, with the turns that the next build will keep to."""
    plan = planned_settlements(session, tip=tip, rule=rule)
    turns: dict[int, list[Turn]] = {}
    for turn in plan.turns:
        turns.setdefault(turn.due.deadline, []).append(turn)
    waits = case((col(SettlementRow.state) == SettlementState.PROVEN, 1), else_=0)
    query = (
        select(OptionRow.refund_height, func.count(), func.sum(waits), func.sum(OptionRow.collateral_sats))
        .select_from(SettlementRow)
        .join(OptionRow, col(OptionRow.id) == col(SettlementRow.option_id))
        .where(col(SettlementRow.state).in_(ON_CHAIN))
        .group_by(col(OptionRow.refund_height))
    )
    found = []
    for height, many, waiting, sats in session.exec(query):
        mine = turns.get(height or 0, [])
        found.append(DeadlinePayments(
            refund_height=height or 0, waiting=int(waiting), in_flight=many - int(waiting), collateral_sats=int(sats),
            put_off=settlements_in(turn for turn in mine if not turn.now),
            last_turn=max((turn.block for turn in mine), default=None),
            late=settlements_in(turn for turn in mine if turn.late),
        ))  # fmt: skip
    deadlines = tuple(sorted(found, key=lambda one: one.refund_height))
    return Payments(deadlines=deadlines, share=plan.share, in_flight=sum(one.in_flight for one in found))


def parked(session: Session, *, limit: int | None = None) -> Sequence[SettlementRow]:
    """Return the settlements that wait for an operator, longest first."""
    query = (
        select(SettlementRow)
        .where(SettlementRow.state == SettlementState.PARKED)
        .order_by(col(SettlementRow.updated_at_unix))
    )
    return session.exec(query.limit(limit)).all()


def oldest_due(session: Session) -> OldestDue | None:
    """Return the settlement without a proof that became due first."""
    query = select(SettlementRow.created_at_unix, SettlementRow.id).where(col(SettlementRow.state).in_(UNPROVEN))
    found = session.exec(query.order_by(col(SettlementRow.created_at_unix)).limit(1)).first()
    return None if found is None else OldestDue(*found)


def proof_file(session: Session, row: SettlementRow) -> BlobRow | None:
    """Return the proof file of a settlement; None before it is proven."""
    return spine_views.blob(session, row.proof_sha256)


def request(session: Session, option_id: str) -> SettlementRequestRow | None:
    """Return what became of the last request to settle an option."""
    return session.get(SettlementRequestRow, option_id)


def open_requests(session: Session) -> int:
    """Return how many requests wait for an answer."""
    return spine_views.count_in(session, SettlementRequestRow, RequestState.OPEN)


def _begins(
    session: Session, column: Any, prefix: str  # noqa: ANN401 - a mapped column
) -> tuple[list[ColumnElement[bool]], Callable[[Any], Any]]:  # fmt: skip
    """Return the condition that an id begins with ``prefix``, and how to write other columns beside it.

    Exactly, without wildcards, in any collation.
    """
    if not prefix:
        return [], col
    last = prefix + BEYOND_EVERY_ID
    if session.get_bind().dialect.name == "postgresql":  # it knows how rare a prefix is, and compares bytes if told to
        of_bytes = col(column).collate("C")
        return [of_bytes >= prefix, of_bytes < last], col
    return [col(column) >= prefix, col(column) < last], aside
