"""How a take fails: by whose fault, what becomes of its contract, and when nothing of it can be funded any more.

A contract that the buyer can fund is not taken back by a word: both sides are told, each takes its coins home, and the
take has failed once the chain has spent one of them elsewhere.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, or_, select
from sqlalchemy.exc import NoResultFound
from sqlmodel import Session, col

from btcfi.adapters.store.market import letters, takes, transfer_rounds
from btcfi.adapters.store.market.carrying import (
    AT_ONCE,
    STEPS,
    MarketPart,
    has_answered,
    market_part,
    owners_of,
    sent_at,
    turn_of,
)
from btcfi.adapters.store.market.offers import withdraw_offers
from btcfi.adapters.store.market.tables import PENDING_TAKES, Fault, FirmOfferRow, OfferState, TakeRow, TakeState
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.cancelling import NotCancellableError
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState
from btcfi.adapters.store.options.tables import (
    LOCKED_OPTIONS,
    SETTLED_OPTIONS,
    UNFUNDED_OPTIONS,
    OptionRow,
    OptionState,
)
from btcfi.adapters.store.spine.edges import Work, enqueue
from btcfi.adapters.store.spine.times import lapsed
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts.messages import Role
from btcfi.errors import BtcfiError
from btcfi.market.account import WrongSignatureError, decode_signed_registration
from btcfi.market.firm_offer import (
    check_offer,
    check_take,
    decode_signed_offer,
    decode_signed_take,
)
from btcfi.units import UnixSeconds

log = logging.getLogger(__name__)

LOOKED_UP: Final = 100
"""Fundings whose coins are asked of the node at one block: each has two messages to be read."""

ANSWERABLE_SECONDS: Final = 5
"""Within which an honest side may not have answered yet: three are usual. What ends sooner it refuses rightly."""

SCRIPTS_OF: Final = 8
"""Contracts of each side of an account that are asked for its scripts."""

_AGREES: Final = ("proposal", "offer")
"""Kinds of ours at which a side agrees to a deal, or does not."""

_NAMES_COINS: Final = ("offer", "accept")

FAIR_SECONDS: Final = 10
"""So long a maker has had in all before what it leaves unsigned at a deal's end is its fault.

Who takes chooses that end, also a second from now, and may use up most of it: blamed for that, every offer of a maker
could be broken for nothing.
"""

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
        fault = fault_of(session, take, role)
        if fault is Fault.MAKER and _had_no_time(session, take, role, now=now):
            fault = Fault.DESK
        takes.fail_take(session, option_id, fault=fault, problem=problem, now=now)
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
        .with_for_update(of=OptionRow)  # all of them before the first one's offers, as who fails one of them does
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
    transfer_rounds.stand_down(session, now=now)


def cancel(session: Session, take: TakeRow, account: str, *, now: UnixSeconds) -> TakeRow:
    """Take a take back because a side of it wants to, before both have signed; again changes nothing.

    Whoever cancels has not kept its word: of a maker it costs what its silence costs, the offer and its rank, only
    sooner. account: one of the two. Raises NotCancellableError.
    """
    if take.state == TakeState.FAILED:
        return take
    if take.state != TakeState.TAKEN:
        raise NotCancellableError(take.option_id, f"its take is {take.state}: both have signed")
    fault = Fault.MAKER if account == take.maker else Fault.TAKER
    done = takes.fail_take(session, take.option_id, fault=fault, problem=f"cancelled by its {fault}", now=now)
    enqueue(session, [_TELL], now=now)
    return done


def fault_of(session: Session, take: TakeRow, role: Role) -> Fault:
    """Return whose fault a side's silence or lie is."""
    owners = owners_of(session, take.option_id)
    return Fault.MAKER if owners is not None and owners.of(role) == take.maker else Fault.TAKER


@dataclass(frozen=True, slots=True, kw_only=True)
class Excuse:
    """Why a side refuses a message rightly, by what we have ourselves."""

    blamed: Role | None
    """Whose fault it is; None: neither side's."""
    problem: str


def excuse(session: Session, row: ContractRow, role: Role, kind: str) -> Excuse | None:
    """Return why a side refuses our message of a kind rightly, None where nothing that we have says so.

    role: who refuses. A side that answers by its rules must not lose its rank by what the other one has arranged.
    """
    part, owners = market_part(session, row.option_id), owners_of(session, row.option_id)
    account = None if owners is None else owners.of(role)
    if part is None or account is None:
        return None
    return (
        _of_other_keys(part)
        or _of_its_time(part, role, kind, sent=sent_at(session, account, f"{row.option_id}.{kind}"))
        or _of_its_coins(session, row, role, kind, account)
    )


def _of_other_keys(part: MarketPart) -> Excuse | None:
    """Return who has registered other keys since it signed: nobody can check its word any more."""
    offer, take = decode_signed_offer(json.loads(part.offer)), decode_signed_take(json.loads(part.take))
    maker, texts = offer.offer.side.role, {Role.SELLER: part.seller, Role.BUYER: part.buyer}
    keys = {role: decode_signed_registration(json.loads(text)).registration.request_key for role, text in texts.items()}
    for role, check in (
        (maker, lambda: check_offer(offer, keys[maker])), (maker.other, lambda: check_take(take, keys[maker.other]))
    ):  # fmt: skip
        try:
            check()
        except WrongSignatureError:
            return Excuse(blamed=role, problem=f"the {role.value} has registered other keys since it signed")
    return None


def _of_its_time(part: MarketPart, role: Role, kind: str, *, sent: UnixSeconds | None) -> Excuse | None:
    """Return whose doing it is that the maker got our message when there was no time left to answer it."""
    offer, take = decode_signed_offer(json.loads(part.offer)).offer, decode_signed_take(json.loads(part.take)).take
    if role is not offer.side.role or kind not in _AGREES or sent is None:
        return None
    for what, until in (("take", take.valid_until), ("offer", offer.valid_until)):
        if until < sent + ANSWERABLE_SECONDS:
            # an offer's end is in the book for all to see: only who kept the maker waiting until then is to blame
            blamed = None if what == "offer" and kind == "proposal" else role.other
            return Excuse(blamed=blamed, problem=f"the {what} was over within seconds of our letter to its maker")
    return None


def _of_its_coins(session: Session, row: ContractRow, role: Role, kind: str, account: str) -> Excuse | None:
    """Return who names a coin that is the other side's: it pays to a script of which that one has spent coins."""
    if kind not in _NAMES_COINS:
        return None
    own = _scripts_of(session, account)
    if kind == "accept":  # the offer named them first, and whoever accepted it has not said that they are its own
        own |= {coin.output.script for coin in contracts.coins_of(session, row, "offer")}
    if any(coin.output.script in own for coin in contracts.coins_of(session, row, kind)):
        return Excuse(blamed=role.other, problem=f"the {role.other.value} names a coin of the other side's as its own")
    return None


def _scripts_of(session: Session, account: str) -> set[bytes]:
    """Return the scripts of the coins that an account brought to its newest funded contracts: its wallet's.

    Of what is funded alone, where it has signed for them: a script that a message only names may be anybody's.
    """
    found: set[bytes] = set()
    for owner, kind, kept in (
        (OptionRow.writer, "offer", ContractRow.offer_sha256), (OptionRow.holder, "accept", ContractRow.accept_sha256)
    ):  # fmt: skip
        query = (
            select(ContractRow)
            .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
            .where(
                col(owner) == account, col(kept).is_not(None),
                col(OptionRow.state).in_((*LOCKED_OPTIONS, *SETTLED_OPTIONS)),
            )
            .order_by(col(ContractRow.created_at_unix).desc(), col(ContractRow.option_id))
        )  # fmt: skip
        for row in session.execute(query.limit(SCRIPTS_OF)).scalars():
            found |= {coin.output.script for coin in contracts.coins_of(session, row, kind)}
    return found


def _had_no_time(session: Session, take: TakeRow, role: Role, *, now: UnixSeconds) -> bool:
    """Return whether a deal's time was over before its maker had its share of it. role: the maker's.

    A maker's time runs from each letter of ours to it to our next one to the other side.
    """
    owners = owners_of(session, take.option_id)
    assert owners is not None  # noqa: S101 - a take has an option
    sent = [
        None if (account := owners.of(each)) is None else sent_at(session, account, f"{take.option_id}.{kind}")
        for _, each, kind in STEPS
    ]
    turns = [at for at, (_, each, _) in enumerate(STEPS) if each is role and sent[at] is not None]
    if not turns:  # it has no letters: its messages lie in a folder
        return False
    until: int = json.loads(take.body)["valid_until_unix"]
    if len(turns) == 1:  # it agrees while its offer stands, and what it has agreed to it may sign a while later
        until = min(until, session.get_one(FirmOfferRow, take.offer_id).valid_until_unix)
    ends = [*sent[1:], None]
    had = sum(max(min(now if (end := ends[at]) is None else end, until) - (sent[at] or 0), 0) for at in turns)
    return now >= until and had < FAIR_SECONDS


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
            | col(ContractRow.last_error).startswith(contracts.waits(Role.BUYER.value)),  # which tells nobody
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
        if sent is not None and now - sent >= seconds and not has_answered(session, account, row.option_id, turn[1]):
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
    refused: bool = False
    """Whether the blamed buyer says that the seller's signatures, which we cannot read, are none."""

    def fault(self, gone: Collection[OutPoint]) -> Role | None:
        """Return whose fault it is that a block has spent these of its coins otherwise; None: that cannot be said.

        A seller that has signed goes home at once when it is told, for a fee. Who leaves its coin where it is while the
        buyer's went on has perhaps sealed no signatures at all, which would cost it nothing. Where nobody was blamed
        and both sides' coins are gone, it is not known whose went first.
        """
        roles = {self.coins[one] for one in gone}
        if self.refused and self.blamed is Role.BUYER and Role.SELLER not in roles:
            return None
        if self.blamed is None and len(roles) > 1:
            return None
        return self.blamed or next(iter(roles))


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
        blamed = None
        if option.state == OptionState.FAILED:  # its buyer's turn, unless the seller's coins were seen to be gone
            blamed = (
                Role.SELLER if (row.last_error or "").startswith(f"the {Role.SELLER.value} refused: ") else Role.BUYER
            )
        refused = (
            blamed is not None
            and option.holder is not None
            and (letters.said(session, option.holder, f"{row.option_id}.sign.refused") is not None)
        )
        found.append(
            Unfunded(
                option_id=row.option_id, coins=coins, funding=contracts.funding_outpoint(option), blamed=blamed,
                refused=refused,
            )
        )  # fmt: skip
    return found


def fail_lost(session: Session, option_id: str, role: Role | None, *, now: UnixSeconds) -> None:
    """Note that the funding of a take can confirm no more: a block has spent a coin of it otherwise.

    role: whose fault it is; None: that cannot be said.
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
