"""Closes at a price that both sides of an option name: their two halves, put together here and sent at once.

    offered -> answered -> signed -> done, or over

The service has no key: it checks each side's partial signature, and can make of them the one transaction that both have
signed, or none. What lapses before both are here is over, and its half is finished by nobody any more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.handlers import BlockView, Purpose
from btcfi.adapters.store.chain.tables import TransactionRow, TransactionState
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.market.tables import PENDING_CLOSES, CloseRow, CloseState
from btcfi.adapters.store.market.transfer_tables import UNDER_WAY, TransferRow
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.on_chain import give_up_settlements
from btcfi.adapters.store.options.options import locked_option
from btcfi.adapters.store.options.settled import find_settlement
from btcfi.adapters.store.options.tables import UNSENT_SETTLEMENTS, OptionRow, OptionState, SettlementState
from btcfi.adapters.store.spine.edges import Work, cross, record
from btcfi.adapters.store.spine.times import lapsed
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.messages import Role, contract_id
from btcfi.documents import printable
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.market import closing as messages
from btcfi.market.closing import CloseLast, CloseOffer, CloseTake, TooLateToCloseError, check_timely
from btcfi.units import Hash32, Height, UnixSeconds, display_txid

CLOSE: Final = "close"
"""The purpose of its transaction, whose subject is the option."""

MOST_OPEN: Final = 8
"""Offers of one side to close one option that stand at once."""

AT_ONCE: Final = 500
MAX_PROBLEM: Final = 300


class NotClosableError(ConflictError):
    """An option of which nothing is closed: not funded yet, over, or being closed or settled already."""

    def __init__(self, option_id: str, problem: str) -> None:
        super().__init__(f"option {option_id[:40]} is not closed: {problem}")
        self.option_id, self.problem = option_id, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something is asked."""

    now: UnixSeconds
    """The wall's, by which offers hold."""
    market: UnixSeconds
    """The market's, by which an option expires."""
    tip: Height
    last_blocks: int
    """Before the expiry height, in which nothing is closed."""
    least_rate: SatsPerKvb
    """What a close has to pay to be mined soon: one that waits for long is a free option of whoever has it."""


def offer_close(session: Session, option_id: str, by: Role, offer: CloseOffer, *, at: Moment) -> CloseRow:
    """Keep an offer to close of one side; the same again is the same one.

    Raises NotClosableError, TooLateToCloseError, InvalidInputError, NotFoundError.
    """
    name = offer.id.hex()
    if (known := session.get(CloseRow, name)) is not None:
        if known.option_id != option_id or known.by != by.value:
            raise InvalidInputError("close.contract_id", "of another option", f"{option_id[:40]}'s")
        return known
    option = _closable(session, option_id, offer, at)
    if (known := session.get(CloseRow, name, populate_existing=True)) is not None:
        return known  # the same one was read by another process meanwhile
    if offer.valid_until > at.now + messages.LONGEST_SECONDS:
        raise InvalidInputError("close.valid_until", f"{offer.valid_until}", "within a day")
    _closing(session, option, offer)
    standing = select(func.count()).where(
        col(CloseRow.option_id) == option_id, col(CloseRow.by) == by.value, col(CloseRow.state) == CloseState.OFFERED
    )
    if session.execute(standing).scalar_one() >= MOST_OPEN:
        raise NotClosableError(option_id, f"{MOST_OPEN} offers of one side stand already; let one lapse")
    today = select(func.count()).where(
        col(CloseRow.option_id) == option_id,
        col(CloseRow.by) == by.value,
        col(CloseRow.created_at_unix) > at.now - messages.LONGEST_SECONDS,
    )
    if session.execute(today).scalar_one() >= messages.MOST_A_DAY:
        raise NotClosableError(option_id, f"{messages.MOST_A_DAY} offers of one side within a day; wait with the next")
    row = CloseRow(
        id=name, option_id=option_id, by=by.value, body=json.dumps(messages.encode_offer(offer)),
        payout_sats=offer.payout, valid_until_unix=offer.valid_until, created_at_unix=at.now, updated_at_unix=at.now,
        writer=option.writer, holder=option.holder,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "market_close", name, CloseState.OFFERED, now=at.now, detail=f"option {option_id}, by its {by}")
    return row


def answer_close(session: Session, option_id: str, role: Role, take: CloseTake, *, at: Moment) -> CloseRow:
    """Keep the other side's half, checked; from here on the proposer may sign. Raises as ``offer_close``.

    Of one option one offer is answered at a time. Raises WrongSignatureError for a half that is none.
    """
    row, offer, option = _open(session, option_id, take.offer_id, at)
    if row.by == role.value:
        raise InvalidInputError("close", "is answered by who offers it", f"the {role.other}'s word")
    if row.answer is not None:
        return row
    busy = select(CloseRow).where(
        col(CloseRow.option_id) == option_id,
        col(CloseRow.state).in_((CloseState.ANSWERED, CloseState.SIGNED, CloseState.DONE)),
    )
    if session.execute(busy.limit(1)).first() is not None:
        raise NotClosableError(option_id, "another offer to close it is answered; wait until that one lapses")
    moves = select(TransferRow).where(col(TransferRow.option_id) == option_id, col(TransferRow.state).in_(UNDER_WAY))
    if session.execute(moves.limit(1)).first() is not None:
        raise NotClosableError(option_id, "its position is on the way to another holder; wait what becomes of that")
    nonces = _in_order(role, take.nonce, offer.nonce)
    _closing(session, option, offer).check(role.value, nonces, take.partial)
    changes = {"answer": json.dumps(messages.encode_take(take))}
    cross(session, row, CloseState.ANSWERED, now=at.now, changes=changes)
    return row


def finish_close(session: Session, option_id: str, role: Role, last: CloseLast, *, at: Moment) -> Transaction:
    """Put both halves together, and have the close sent; the same again gives the same one. Raises as above."""
    found = session.get(CloseRow, last.offer_id.hex())
    if found is not None and found.option_id == option_id and found.state in (CloseState.SIGNED, CloseState.DONE):
        return closed_of(session, found)
    row, offer, option = _open(session, option_id, last.offer_id, at)
    if row.by != role.value or row.answer is None:
        raise InvalidInputError("close", "is not answered, or another's", "the last word of who offered it")
    if at.now - row.updated_at_unix >= messages.FINISH_SECONDS:
        raise TooLateToCloseError(f"it was answered more than {messages.FINISH_SECONDS} s ago")
    answer = messages.decode_take(json.loads(row.answer))
    nonces, partials = _in_order(role, offer.nonce, answer.nonce), _in_order(role, last.partial, answer.partial)
    closing = _closing(session, option, offer)
    closed = closing.finish(nonces, partials)
    changes = {
        "txid": display_txid(closed.txid), "paid_sats": closing.close.payout, "fee_sats": closing.close.fee,
        "returned_sats": closing.close.seller_return,
    }  # fmt: skip
    cross(session, row, CloseState.SIGNED, now=at.now, changes=changes, work=[Work(flow="send")])
    signed = Signed(
        transaction=closed, purpose=CLOSE, subject=option_id, spends=contracts.funding_outpoint(option),
        fee=closing.close.fee,
    )  # fmt: skip
    put_transaction(session, signed, now=at.now)
    return closed


def refuse_close(
    session: Session, close_id: str, problem: str, *, now: UnixSeconds, overtaken: bool = False
) -> bool:  # fmt: skip
    """Note that nothing comes of an offer to close, and return whether that is new; what is signed goes on.

    overtaken: a block has spent the collateral of a signed one otherwise.
    """
    row = session.get_one(CloseRow, close_id)
    if row.state not in (*PENDING_CLOSES, *((CloseState.SIGNED,) if overtaken else ())):
        return False
    changes = {"problem": printable(problem, MAX_PROBLEM)}
    return cross(session, row, CloseState.OVER, now=now, changes=changes, detail=changes["problem"])


def find_close(session: Session, option_id: str, prefix: str) -> CloseRow | None:
    """Return the offer to close an option whose id begins so, None where there is none or more than one."""
    query = select(CloseRow).where(
        col(CloseRow.option_id) == option_id, col(CloseRow.id).startswith(prefix, autoescape=True)
    )
    found = list(session.execute(query.limit(2)).scalars())
    return found[0] if len(found) == 1 else None


def lapsed_closes(session: Session, *, now: UnixSeconds) -> list[CloseRow]:
    """Return the offers to close whose time is over and of which not both halves are here.

    One that is answered is so after FINISH_SECONDS: its maker has only to sign, and waits for the price.
    """
    unfinished = (col(CloseRow.state) == CloseState.ANSWERED) & lapsed(
        col(CloseRow.updated_at_unix), now, messages.FINISH_SECONDS
    )
    query = select(CloseRow).where(
        col(CloseRow.state).in_(PENDING_CLOSES), (col(CloseRow.valid_until_unix) <= now) | unfinished
    )
    return list(session.execute(query.order_by(col(CloseRow.id)).limit(AT_ONCE)).scalars())


def sent_closes(session: Session) -> list[CloseRow]:
    """Return the closes that a node has taken, the newest first: both sides are told of them."""
    query = (
        select(CloseRow)
        .join(TransactionRow, col(TransactionRow.txid) == col(CloseRow.txid))
        .where(
            col(CloseRow.state) == CloseState.SIGNED,
            col(TransactionRow.state).not_in((TransactionState.BUILT, TransactionState.CONFLICTED)),
        )
        .order_by(col(CloseRow.updated_at_unix).desc(), col(CloseRow.id))
    )
    return list(session.execute(query.limit(AT_ONCE)).scalars())


def overtaken_closes(session: Session) -> list[CloseRow]:
    """Return the closes whose collateral a block has spent otherwise."""
    query = (
        select(CloseRow)
        .join(TransactionRow, col(TransactionRow.txid) == col(CloseRow.txid))
        .where(col(CloseRow.state) == CloseState.SIGNED, col(TransactionRow.state) == TransactionState.CONFLICTED)
    )
    return list(session.execute(query.limit(AT_ONCE)).scalars())


def closed_of(session: Session, row: CloseRow) -> Transaction:
    """Return the signed close of a row. Raises NotFoundError before there is one."""
    sent = session.get(TransactionRow, row.txid or "")
    if sent is None:
        raise NotFoundError("close", row.id[:16], "both sides have not signed it")
    return parse_transaction(bytes.fromhex(sent.raw_hex))


def offer_of(row: CloseRow) -> CloseOffer:
    """Return the offer to close of a row."""
    return messages.decode_offer(json.loads(row.body))


def go_of(row: CloseRow) -> dict[str, Any]:
    """Return what the proposer is told once the other side has answered."""
    answer = messages.decode_take(json.loads(row.answer or "{}"))
    return messages.encode_go(messages.CloseGo(offer_id=answer.offer_id, nonce=answer.nonce))


def _open(session: Session, option_id: str, offer_id: Hash32, at: Moment) -> tuple[CloseRow, CloseOffer, OptionRow]:
    locked_option(session, option_id)  # of two halves that come at once one is first
    row = session.get(CloseRow, offer_id.hex(), with_for_update=True, populate_existing=True)
    if row is None or row.option_id != option_id:
        raise NotFoundError("offer to close", offer_id.hex()[:16], "it is not known here")
    if row.state not in PENDING_CLOSES:
        raise NotClosableError(option_id, f"the offer to close is {row.state}")
    offer = offer_of(row)
    return row, offer, _closable(session, option_id, offer, at)


def _closable(session: Session, option_id: str, offer: CloseOffer, at: Moment) -> OptionRow:
    option = locked_option(session, option_id)
    if option.state != OptionState.ACTIVE:
        raise NotClosableError(option_id, f"it is {option.state}, and only what is funded and not over is closed")
    if find_settlement(session, option_id) is not None:
        raise NotClosableError(option_id, "it is being settled")
    if at.market >= option.expiry_unix:
        raise TooLateToCloseError("its expiry has passed")
    if option.expiry_height is None:
        raise NotClosableError(option_id, "its contract is not known here")
    if offer.rate < at.least_rate:
        raise NotClosableError(option_id, f"{offer.rate:,} sat/kvB is offered, and {at.least_rate:,} asked for now")
    check_timely(
        now=at.now, valid_until=offer.valid_until, tip=at.tip, expiry_height=Height(option.expiry_height),
        last_blocks=at.last_blocks,
    )  # fmt: skip
    return option


def _closing(session: Session, option: OptionRow, offer: CloseOffer) -> Closing:
    """Return the close that an offer means, of the contract as both have signed it. Raises InvalidInputError."""
    kept = contracts.find_contract(session, option.id)
    plans = contracts.executables_of(session, [option])
    if kept is None or option.id not in plans:
        raise NotClosableError(option.id, "its contract is not known here")
    first, second = contracts.halves_of(session, kept)
    plan = plans[option.id].plan
    if contract_id(first, second.party) != offer.contract_id:
        raise InvalidInputError("close.contract_id", offer.contract_id.hex()[:16], f"{option.id[:40]}'s")
    if offer.payout > plan.contract.collateral:
        raise InvalidInputError("close.payout_sats", f"{offer.payout:,}", f"at most {plan.contract.collateral:,}")
    close = build_close(plan.contract, plan.funding, payout=offer.payout, rate=offer.rate)
    keys = {first.role: first.party.key, first.role.other: second.party.key}
    return Closing(close, buyer_key=keys[Role.BUYER], seller_key=keys[Role.SELLER])


def _in_order(role: Role, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
    return (ours, theirs) if role is Role.BUYER else (theirs, ours)


# ---- the chain


class _Nothing:
    """What a block says of closes that we have not stored: we have stored each before it was sent."""

    def known(self, txid: str) -> Signed | None:  # noqa: ARG002 - as the protocol has it
        return None

    def foreign(self, session: Session, transaction: Transaction) -> Signed | None:  # noqa: ARG002 - as above
        return None


class ClosesOnChain:
    """The market's part in the walk (``ChainHandler``): a close that is final ends its option."""

    purposes: tuple[Purpose, ...] = (Purpose(name=CLOSE),)

    def view(self, session: Session, block: object) -> BlockView:  # noqa: ARG002 - as the protocol has it
        """Look at nothing."""
        return _Nothing()

    def sent(self, session: Session, rows: Any, now: UnixSeconds) -> None:  # noqa: ANN401 - as the protocol has it
        """Do nothing: a close that waits is no close yet."""

    def final(self, session: Session, rows: Any, now: UnixSeconds) -> None:  # noqa: ANN401 - as above
        """End the options whose closes are deep enough."""
        for one in rows:
            row = _row_of(session, one)
            if row is not None and cross(session, row, CloseState.DONE, now=now):
                _end(session, session.get_one(OptionRow, row.option_id), row, now)
                give_up_settlements(session, one, now)

    def undone(self, session: Session, row: TransactionRow, now: UnixSeconds) -> None:
        """Take back the end of an option whose close a reorganisation took from under six blocks."""
        close = _row_of(session, row)
        if row.state != TransactionState.FINAL or close is None or close.state != CloseState.DONE:
            return
        cross(session, close, CloseState.SIGNED, now=now, detail="reorganised")
        option = session.get_one(OptionRow, close.option_id)
        if option.state == OptionState.ABANDONED:
            cross(session, option, OptionState.EXPIRED, now=now, detail="its close was reorganised")

    def coins_needed(self, session: Session) -> int:  # noqa: ARG002 - as the protocol has it
        """Return 0: a close pays its own fee."""
        return 0


CLOSES_ON_CHAIN: Final = ClosesOnChain()


def _row_of(session: Session, sent: TransactionRow) -> CloseRow | None:
    query = select(CloseRow).where(col(CloseRow.txid) == sent.txid)
    row: CloseRow | None = session.execute(query).scalar_one_or_none()
    return row


def _end(session: Session, option: OptionRow, row: CloseRow, now: UnixSeconds) -> None:
    detail = f"closed by both sides: {row.paid_sats:,} sats to the holder, {row.returned_sats:,} to the writer"
    if option.state == OptionState.ACTIVE:
        cross(session, option, OptionState.EXPIRED, now=now, detail=detail)
    if option.state != OptionState.EXPIRED:
        return
    cross(session, option, OptionState.ABANDONED, now=now, detail=detail)
    settlement = find_settlement(session, option.id)
    if settlement is not None and settlement.state in UNSENT_SETTLEMENTS:  # it came due while the close waited
        cross(session, settlement, SettlementState.PARKED, now=now, fence=settlement.fence, detail=detail,
              changes={"last_error": detail})  # fmt: skip
