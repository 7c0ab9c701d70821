"""How a take fails: by whose fault, what becomes of its contract, and when nothing of it can be funded any more.

A contract that the buyer can fund is not taken back by a word: both sides are told, each takes its coins home, and the
take has failed once the chain has spent one of them elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, or_, select
from sqlalchemy.exc import NoResultFound
from sqlmodel import Session, col

from btcfi.adapters.store.market import takes
from btcfi.adapters.store.market.carrying import AT_ONCE, has_written, owners_of, sent_at, turn_of
from btcfi.adapters.store.market.offers import withdraw_offers
from btcfi.adapters.store.market.tables import PENDING_TAKES, Fault, FirmOfferRow, OfferState, TakeRow, TakeState
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.cancelling import NotCancellableError
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState
from btcfi.adapters.store.options.tables import UNFUNDED_OPTIONS, OptionRow, OptionState
from btcfi.adapters.store.spine.edges import Work, enqueue
from btcfi.adapters.store.spine.times import lapsed
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts.messages import Role
from btcfi.errors import BtcfiError
from btcfi.units import UnixSeconds

log = logging.getLogger(__name__)

LOOKED_UP: Final = 100
"""Fundings whose coins are asked of the node at one block: each has two messages to be read."""

_TELL: Final = Work(flow="exchange")
"""Both sides' coins are free once they know."""


def fail_by(session: Session, option_id: str, role: Role, problem: str, *, now: UnixSeconds) -> bool:
    """Note that a side has not done its part of a take, and return whether there was one under way.

    The sale is taken back; where the buyer could fund it already, both are told to take their coins home.
    """
    take = takes.take_of_option(session, option_id)
    if take is None or take.state not in PENDING_TAKES:
        return False
    contracts.note_refusal(session, option_id, role.value, problem, now=now)
    with suppress(NotCancellableError):  # the option has failed, so both are told; ``fail_lost`` ends the take, too
        takes.fail_take(session, option_id, fault=fault_of(session, take, role), problem=problem, now=now)
    enqueue(session, [_TELL], now=now)
    return True


def fail_by_us(session: Session, option_id: str, problem: str, *, now: UnixSeconds) -> None:
    """Note that a take has failed by none of its sides."""
    takes.fail_take(session, option_id, fault=Fault.DESK, problem=problem, now=now)
    enqueue(session, [_TELL], now=now)


def fail_of(session: Session, account: str, problem: str, *, now: UnixSeconds) -> None:
    """Fail the takes of an account that are not signed by both, by its fault: what it said is not its word any more."""
    query = (
        select(col(TakeRow.option_id), col(OptionRow.writer))
        .join(OptionRow, col(OptionRow.id) == col(TakeRow.option_id))
        .where(col(TakeRow.state) == TakeState.TAKEN, or_(col(TakeRow.maker) == account, col(TakeRow.taker) == account))
        .order_by(col(TakeRow.option_id))
    )
    for option_id, writer in session.execute(query).all():
        fail_by(session, option_id, Role.SELLER if writer == account else Role.BUYER, problem, now=now)


def stand_down(session: Session, *, now: UnixSeconds) -> None:
    """End what a restored store has under way: offers that stand, and takes that are not signed by both.

    Their makers may have withdrawn them since, or signed what was taken; who is asked again does not answer again, and
    it would be its fault. Nobody loses anything: an offer is posted again, and what was funded needs no service.
    """
    under_way = select(col(TakeRow.option_id)).where(col(TakeRow.state) == TakeState.TAKEN)
    for option_id in session.execute(under_way.order_by(col(TakeRow.option_id))).scalars().all():
        with suppress(NotCancellableError):  # it is funded, and ``takes.follow`` says so
            fail_by_us(session, option_id, "the service was restored from a backup", now=now)
    standing = select(col(FirmOfferRow.account_id)).where(
        col(FirmOfferRow.state).in_((OfferState.OPEN, OfferState.TAKEN))
    )
    for account in session.execute(standing.distinct().order_by(col(FirmOfferRow.account_id))).scalars().all():
        withdraw_offers(session, account, None, now=now)


def fault_of(session: Session, take: TakeRow, role: Role) -> Fault:
    """Return whose fault a side's silence or lie is."""
    owners = owners_of(session, take.option_id)
    return Fault.MAKER if owners is not None and owners.of(role) == take.maker else Fault.TAKER


def late(session: Session, *, now: UnixSeconds, seconds: int) -> list[tuple[str, Role, str]]:
    """Return the takes whose turn somebody has let pass: the option, the side, what it has not answered.

    A side's time runs from our letter to it. Whose answer waits for us is not late, however late we are.
    """
    query = (
        select(ContractRow)
        .join(TakeRow, col(TakeRow.option_id) == col(ContractRow.option_id))
        .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
        .where(
            col(TakeRow.state).in_(PENDING_TAKES),
            col(OptionRow.state).in_(UNFUNDED_OPTIONS),
            # whose buyer was late already: both were told, and the chain says what becomes of it
            (col(OptionRow.state) != OptionState.FAILED) | (col(ContractRow.state) != ContractState.CHECKED)
            | col(ContractRow.last_error).startswith(contracts.waits(Role.BUYER.value)),
            # not from its last change: whatever a side writes about it would begin the time anew
            lapsed(col(ContractRow.created_at_unix), now, seconds),
        )
        .order_by(col(ContractRow.created_at_unix), col(ContractRow.option_id))
    )  # fmt: skip
    found = []
    for row in session.execute(query.limit(AT_ONCE)).scalars():
        turn, owners = turn_of(row.state), owners_of(session, row.option_id)
        if turn is None or owners is None or (account := owners.of(turn[0])) is None:
            continue
        sent = sent_at(session, account, f"{row.option_id}.{turn[1]}")
        if sent is not None and now - sent >= seconds and not has_written(session, account, row.option_id):
            found.append((row.option_id, *turn))
    return found


def stuck_with_us(session: Session, *, now: UnixSeconds, seconds: int) -> list[str]:
    """Return the options of takes that are not checked so long after they were made: no side was late, so we are.

    Counted from the contract's order, and of one that is not ordered from the take.
    """
    ordered = select(ContractRow).where(col(ContractRow.option_id) == col(TakeRow.option_id))
    lately = ordered.where(~lapsed(col(ContractRow.created_at_unix), now, seconds))
    query = select(col(TakeRow.option_id)).where(
        col(TakeRow.state) == TakeState.TAKEN, lapsed(col(TakeRow.created_at_unix), now, seconds), ~lately.exists()
    )
    return list(session.execute(query.limit(AT_ONCE)).scalars())


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfunded:
    """A take whose funding the seller has signed, and no block holds."""

    option_id: str
    coins: Mapping[OutPoint, Role]
    """Whose coins it spends: where a block spends one of them otherwise, it can confirm no more."""
    funding: OutPoint
    """Its collateral: where that is there, a block holds it after all."""
    blamed: Role | None
    """Who let its turn pass before, so that the other side took its coins home; None: nobody did."""


def may_be_lost(session: Session, *, now: UnixSeconds, seconds: int, turn: int) -> list[Unfunded]:
    """Return the takes whose funding the seller has signed and no block holds, for so long.

    turn: where there are more than LOOKED_UP, each turn gives others.
    """
    query = (
        select(ContractRow, OptionRow)
        .join(TakeRow, col(TakeRow.option_id) == col(ContractRow.option_id))
        .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
        .where(
            col(TakeRow.state).in_((*PENDING_TAKES, TakeState.FUNDED)),
            col(ContractRow.state).in_((ContractState.CHECKED, ContractState.FUNDED)),
            col(OptionRow.state).in_(UNFUNDED_OPTIONS),
            lapsed(col(ContractRow.updated_at_unix), now, seconds),
        )
        .order_by(col(ContractRow.option_id))
    )
    many = session.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    found = []
    for row, option in session.execute(query.offset(turn * LOOKED_UP % max(many, 1)).limit(LOOKED_UP)):
        try:
            offer, accepted = contracts.halves_of(session, row)
        except (BtcfiError, LookupError, TypeError, ValueError, NoResultFound) as e:  # the others' can be looked up
            log.warning("the messages of %s are damaged: %s: %s", row.option_id, type(e).__name__, e)
            continue
        coins = {coin.outpoint: offer.role for coin in offer.party.coins}
        coins |= {coin.outpoint: offer.role.other for coin in accepted.party.coins}
        blamed = Role.BUYER if option.state == OptionState.FAILED else None
        funding = contracts.funding_outpoint(option)
        found.append(Unfunded(option_id=row.option_id, coins=coins, funding=funding, blamed=blamed))
    return found


def fail_lost(session: Session, option_id: str, role: Role | None, *, now: UnixSeconds) -> None:
    """Note that the funding of a take can confirm no more: a block has spent a coin of it otherwise.

    role: whose fault it is. None: both sides' coins are gone, and who began is not known; then it is neither's.
    """
    take = takes.take_of_option(session, option_id)
    if take is None or take.state == TakeState.FAILED:
        return
    problem, option = "a block has spent a coin of its funding otherwise", session.get_one(OptionRow, option_id)
    if option.last_error is None and role is not None:
        contracts.note_refusal(session, option_id, role.value, problem, now=now)
    fault = Fault.DESK if role is None else fault_of(session, take, role)
    takes.fail_take(
        session, option_id, fault=fault, problem=option.last_error or problem, now=now, dead=True
    )  # fmt: skip
    enqueue(session, [_TELL], now=now)
