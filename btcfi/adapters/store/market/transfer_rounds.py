"""The rounds of a transfer in the store: what was said, what is owed, and how it is signed by all or comes to nothing.

The service has no key: it checks each word by its own records of the old contract, and can make of all of them the one
transaction that the three have signed, or none. What is said is checked before the store is locked, since it never
changes; the lock decides which word was first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import delete, exists, func, or_
from sqlmodel import Session, col, select

from btcfi.adapters.store.chain.tables import UNMINED, TransactionRow, TransactionState
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.market import letters, transfers
from btcfi.adapters.store.market.carrying import sent_at
from btcfi.adapters.store.market.offers import lose_rank
from btcfi.adapters.store.market.tables import DESK, LetterRow
from btcfi.adapters.store.market.transfer_tables import (
    ConsentState,
    TransferConsentRow,
    TransferOfferRow,
    TransferOfferState,
    TransferRow,
    TransferState,
    TransferWordRow,
)
from btcfi.adapters.store.market.transfers import Moment, withdraw_words
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.cancelling import NotCancellableError, cancel_sale
from btcfi.adapters.store.options.options import event_of, locked_option
from btcfi.adapters.store.options.purposes import OUTSIDE
from btcfi.adapters.store.options.reopened import store_reopened
from btcfi.adapters.store.options.tables import SETTLED_OPTIONS, OptionRow, OptionState
from btcfi.adapters.store.spine.edges import Work, cross
from btcfi.bitcoin.transaction import OutPoint, Transaction, parse_transaction
from btcfi.contracts.messages import Role
from btcfi.contracts.reopen import Held, Reopened, Statement, reopen
from btcfi.contracts.setup import SetupPolicy
from btcfi.contracts.splice import Owner
from btcfi.documents import printable
from btcfi.errors import InvalidInputError
from btcfi.market import transfer_letters as messages
from btcfi.market.transfer import TransferPart, check_part, decode_part
from btcfi.market.transferring import OWED, Failure, Round, Said, Transfer
from btcfi.oracle.announcement import DigitPoints, OracleEvent
from btcfi.units import Hash32, Sats, UnixSeconds, display_txid, hash32

TRANSFER: Final = "transfer"
"""The purpose of its transaction, whose subject is the new option."""

ALL: Final = "all"
"""What ``TransferRow.said`` says once every round is over."""

AT_ONCE: Final = 500
MAX_PROBLEM: Final = 300
LOOKED_UP: Final = 100
"""Transfers whose coins are asked of the node at one block."""

_ACCOUNTS: Final = {Owner.SELLER: "seller", Owner.HOLDER: "holder", Owner.NEWCOMER: "newcomer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A transfer as the store has it, and what its new contract is computed from."""

    row: TransferRow
    transfer: Transfer = field(repr=False)
    part: TransferPart = field(repr=False)
    buckets: Sequence[Any] = field(repr=False)
    """Of the old contract, whose terms the new one has."""
    event: OracleEvent

    @property
    def take_id(self) -> Hash32:
        """Its name in letters."""
        return hash32(bytes.fromhex(self.row.id))

    def agreed(self, points: tuple[DigitPoints, ...] | None = None) -> Transfer:
        """Return the transfer with what all halves mean, once all are here; seconds of work at the most.

        points: of the event's oracles, where they are known. Raises what ``reopen`` raises, which is nobody's fault.
        """
        owed = self.transfer.owed()
        if owed is not None and owed[0] is Round.HALF:
            return self.transfer
        return self.transfer.agree(lambda said: self.reopened(said, points))

    def reopened(self, said: Statement, points: tuple[DigitPoints, ...] | None = None) -> Reopened:
        """Return what a statement of this transfer means. Raises as ``reopen``."""
        terms = self.transfer.held.terms
        policy = SetupPolicy(min_refund_delay=terms.refund_height - terms.expiry_height)
        return reopen(said, _no_payouts, event=self.event, policy=policy, buckets=self.buckets, points=points)


def _no_payouts(prices: Sequence[Any]) -> Sequence[Sats]:
    """Compute nothing: the buckets of the old contract are those of the new one."""
    raise InvalidInputError("payouts", f"{len(prices)} prices", "the old contract's buckets")


def account_in(row: TransferRow, owner: Owner) -> str:
    """Return the account of one of the three."""
    name: str = getattr(row, _ACCOUNTS[owner])
    return name


def owner_in(row: TransferRow, account: str) -> Owner | None:
    """Return which of the three an account is; None: none of them."""
    return next((owner for owner in Owner if account_in(row, owner) == account), None)


def find(session: Session, option_id: str, prefix: str) -> TransferRow | None:
    """Return the transfer of an option whose id begins so, None where there is none or more than one."""
    query = select(TransferRow).where(
        TransferRow.option_id == option_id, col(TransferRow.id).startswith(prefix, autoescape=True)
    )
    found = session.exec(query.limit(2)).all()
    return found[0] if len(found) == 1 else None


def words(session: Session, transfer_id: str) -> dict[tuple[Round, Owner], Said]:
    """Return every word of a transfer that is here."""
    query = select(TransferWordRow).where(TransferWordRow.transfer_id == transfer_id)
    return {
        (Round(one.said), Owner(one.owner)): messages.decode_word(Round(one.said), json.loads(one.body)).word
        for one in session.exec(query).all()
    }


def load(session: Session, row: TransferRow) -> Loaded:
    """Return a transfer, by our own records of the old contract. Raises InvalidInputError where these are damaged."""
    option = session.get_one(OptionRow, row.option_id)
    part = decode_part(json.loads(row.part))
    deal = check_part(part, desk=part.offer.offer.desk)
    kept = contracts.find_contract(session, option.id)
    plans = contracts.executables_of(session, [option])
    if kept is None or option.id not in plans:
        raise InvalidInputError("transfer", "the old contract is not known here", "one that was checked")
    first, second = contracts.halves_of(session, kept)
    keys = {first.role: first.party.key, first.role.other: second.party.key}
    plan = plans[option.id].plan
    held = Held(terms=first.terms, contract=plan.contract, funding=plan.funding)
    transfer = Transfer(
        deal=deal, held=held, buyer_key=keys[Role.BUYER], seller_key=keys[Role.SELLER], said=words(session, row.id)
    )
    return Loaded(row=row, transfer=transfer, part=part, buckets=plan.buckets, event=event_of(option))


def asked_at(session: Session, loaded: Loaded, said: Round) -> dict[Owner, UnixSeconds]:
    """Return when each owner of a round was asked for its word; who was not is left out."""
    row, name = loaded.row, messages.letter_name(loaded.row.option_id, loaded.take_id, messages.ask_of(said))
    found = {owner: sent_at(session, account_in(row, owner), name) for owner in OWED[said]}
    return {owner: at for owner, at in found.items() if at is not None}


def has_answered(session: Session, loaded: Loaded, owner: Owner, said: Round) -> bool:
    """Return whether an owner's word, or its refusal, waits for us: then it is not the owner that is late."""
    names = [
        messages.letter_name(loaded.row.option_id, loaded.take_id, kind)
        for kind in (messages.kind_of(said), f"{messages.ask_of(said)}.refused")
    ]
    query = select(LetterRow.id).where(
        LetterRow.sender == account_in(loaded.row, owner), LetterRow.recipient == DESK,
        col(LetterRow.handled_at_unix).is_(None), col(LetterRow.name).in_(names),
    )  # fmt: skip
    return session.exec(query.limit(1)).first() is not None


def over_by(session: Session, row: TransferRow, at: Moment) -> str:
    """Return why it is too late for a transfer, by the chain and the market as we see them; empty while it is not."""
    return transfers.over_by(session, session.get_one(OptionRow, row.option_id), at) or ""


def was_asked(session: Session, account: str, name: str) -> bool:
    """Return whether we have ever written an account a letter of this name."""
    return letters.holds(session, account, name)


# ---- lists that the clock goes through


def owing(session: Session) -> list[TransferRow]:
    """Return the transfers of which words are owed, the oldest first."""
    query = select(TransferRow).where(TransferRow.state == TransferState.TAKEN.value)
    return list(
        session.exec(query.order_by(col(TransferRow.created_at_unix), col(TransferRow.id)).limit(AT_ONCE)).all()
    )


def sent(session: Session) -> list[tuple[TransferRow, Transaction]]:
    """Return the transfers that a node has taken, with what is sent, the newest first: the three are told of them."""
    query = (
        select(TransferRow, TransactionRow)
        .join(TransactionRow, col(TransactionRow.txid) == col(TransferRow.txid))
        .where(
            TransferRow.state == TransferState.SIGNED.value, TransactionRow.purpose == TRANSFER,
            col(TransactionRow.state).in_(
                (TransactionState.BROADCAST, TransactionState.CONFIRMED, TransactionState.FINAL)
            ),
        )
        .order_by(col(TransferRow.updated_at_unix).desc(), col(TransferRow.id))
    )  # fmt: skip
    return [(row, parse_transaction(bytes.fromhex(one.raw_hex))) for row, one in session.exec(query.limit(AT_ONCE))]


def lately_over(session: Session, *, since: UnixSeconds) -> list[TransferRow]:
    """Return the transfers that came to nothing since a second: the three are told, once."""
    query = select(TransferRow).where(
        TransferRow.state == TransferState.OVER.value, col(TransferRow.updated_at_unix) >= since
    )
    return list(session.exec(query.order_by(col(TransferRow.updated_at_unix).desc()).limit(AT_ONCE)).all())


def unmined(session: Session, *, turn: int) -> list[tuple[TransferRow, Transaction]]:
    """Return the signed transfers that no block holds. turn: where there are more than LOOKED_UP, each gives others."""
    query = (
        select(TransferRow, TransactionRow)
        .join(TransactionRow, col(TransactionRow.txid) == col(TransferRow.txid))
        .where(TransferRow.state == TransferState.SIGNED.value, col(TransactionRow.state).in_(UNMINED))
        .order_by(col(TransferRow.id))
    )
    of_any = select(func.count()).select_from(TransferRow).where(TransferRow.state == TransferState.SIGNED.value)
    many = session.exec(of_any).one()
    first = turn * LOOKED_UP % many if many > LOOKED_UP else 0
    rows = session.exec(query.offset(first).limit(LOOKED_UP)).all()
    return [(row, parse_transaction(bytes.fromhex(one.raw_hex))) for row, one in rows]


def overtaken(session: Session) -> list[TransferRow]:
    """Return the signed transfers whose old contract was settled instead, for good."""
    query = (
        select(TransferRow)
        .join(TransactionRow, col(TransactionRow.txid) == col(TransferRow.txid))
        .join(OptionRow, col(OptionRow.id) == col(TransferRow.option_id))
        .where(
            TransferRow.state == TransferState.SIGNED.value, col(OptionRow.state).in_(SETTLED_OPTIONS),
            col(TransactionRow.state).in_((TransactionState.CONFLICTED, TransactionState.REPLACED)),
        )
    )  # fmt: skip
    return list(session.exec(query.limit(AT_ONCE)).all())


def mined_unknown(session: Session) -> list[TransferRow]:
    """Return the transfers that a block holds although this store does not know them as signed: a restored one's."""
    query = (
        select(TransferRow)
        .join(TransactionRow, col(TransactionRow.txid) == col(TransferRow.txid))
        .where(col(TransferRow.state).in_((TransferState.TAKEN, TransferState.OVER)), TransactionRow.purpose == OUTSIDE)
    )
    return list(session.exec(query.limit(AT_ONCE)).all())


# ---- what is said


def keep_word(
    session: Session, transfer_id: str, owner: Owner, said: Round, word: Said, *, now: UnixSeconds
) -> bool:  # fmt: skip
    """Keep one checked word, and return whether it is new: the first one counts, and none that comes too late."""
    row = _locked(session, transfer_id)
    key = (transfer_id, said.value, owner.value)
    if row.state != TransferState.TAKEN or session.get(TransferWordRow, key, populate_existing=True) is not None:
        return False
    session.add(
        TransferWordRow(
            transfer_id=transfer_id, said=said.value, owner=owner.value, said_at_unix=now,
            body=json.dumps(messages.encode_word(hash32(bytes.fromhex(transfer_id)), said, word)),
        )
    )  # fmt: skip
    session.flush()
    row.said, row.updated_at_unix = _owed(session, transfer_id), now
    session.flush()
    return True


def _owed(session: Session, transfer_id: str) -> str:
    query = select(TransferWordRow.said, TransferWordRow.owner).where(TransferWordRow.transfer_id == transfer_id)
    known = set(session.exec(query).all())
    for one, owners in OWED.items():
        if any((one.value, owner.value) not in known for owner in owners):
            return one.value
    return ALL


def note_agreed(session: Session, transfer_id: str, reopened: Reopened, *, now: UnixSeconds) -> None:
    """Note the transaction that all halves together mean, before anybody signs: by it a block's is recognised."""
    row = _locked(session, transfer_id)
    row.txid, row.fee_sats = display_txid(reopened.splice.transaction.txid), reopened.splice.fee
    row.updated_at_unix = now
    session.flush()


def sign(
    session: Session, transfer: Transfer, made: Transaction, *, now: UnixSeconds, market: UnixSeconds, network: str
) -> bool:  # fmt: skip
    """Have a transaction sent that all three have signed, with the newcomer's option beside the old one.

    Return whether that is new. transfer: with every word. made: ``Transfer.finish``.
    """
    name = transfer.deal.take_id.hex()
    row = _locked(session, name)
    if row.state != TransferState.TAKEN or transfer.reopened is None:
        return False
    splice = transfer.reopened.splice
    _store_new(session, row, transfer, now=now, market=market, network=network)
    signed = Signed(
        transaction=made, purpose=TRANSFER, subject=row.new_option_id, spends=transfer.held.funding, fee=splice.fee
    )
    put_transaction(session, signed, now=now)
    changes = {"txid": display_txid(made.txid), "fee_sats": splice.fee}
    return cross(session, row, TransferState.SIGNED, now=now, changes=changes, work=[Work(flow="send")])


def adopt_mined(
    session: Session, transfer: Transfer, *, now: UnixSeconds, market: UnixSeconds, network: str
) -> TransactionRow | None:  # fmt: skip
    """Take a transfer that a block holds for what it is, where this store was restored from before it was signed.

    None where the new contract's signatures are not here: the two settle it by themselves then, as they can anyhow.
    """
    row = _locked(session, transfer.deal.take_id.hex())
    found = session.get(TransactionRow, row.txid or "")
    if found is None or found.purpose != OUTSIDE or transfer.reopened is None:
        return None
    if row.state not in (TransferState.TAKEN, TransferState.OVER) or not _has_presigned(transfer.said):
        return None
    option = _store_new(session, row, transfer, now=now, market=market, network=network)
    found.purpose, found.subject, found.fee_sats = TRANSFER, option.id, transfer.reopened.splice.fee
    session.get_one(OptionRow, row.option_id).last_error = None
    session.flush()
    changes = {"fault": None, "problem": None}
    cross(session, row, TransferState.SIGNED, now=now, changes=changes, detail="a block holds it")
    return found


def _has_presigned(said: Mapping[tuple[Round, Owner], Said]) -> bool:
    return all((Round.PRESIGNED, owner) in said for owner in OWED[Round.PRESIGNED])


def _store_new(
    session: Session, row: TransferRow, transfer: Transfer, *, now: UnixSeconds, market: UnixSeconds, network: str
) -> OptionRow:  # fmt: skip
    assert transfer.reopened is not None  # noqa: S101 - both callers have looked
    presigned = {
        role: bytes(transfer.said[Round.PRESIGNED, owner])  # type: ignore[arg-type]
        for role, owner in ((Role.SELLER, Owner.SELLER), (Role.BUYER, Owner.NEWCOMER))
    }
    old = session.get_one(OptionRow, row.option_id)
    return store_reopened(
        session, old, row.new_option_id, transfer.reopened, presigned, holder=row.newcomer, now=now, market=market,
        network=network,
    )  # fmt: skip


# ---- how it comes to nothing


def fail(
    session: Session, transfer_id: str, failure: Failure, *, now: UnixSeconds, dead: bool = False
) -> bool:  # fmt: skip
    """Note that a transfer has come to nothing and by whom, and return whether that is new.

    dead: what is signed is over, too: the chain has spent a coin of it otherwise, for good. A holder at fault has
    broken its offer; else that is where it was. A seller at fault has broken its consent, and its offers stand last.
    """
    row = _locked(session, transfer_id)
    signed = row.state == TransferState.SIGNED
    if row.state != TransferState.TAKEN and not (dead and signed):
        return False
    fault = None if failure.blamed is None else failure.blamed.value
    changes = {"fault": fault, "problem": printable(failure.problem, MAX_PROBLEM)}
    if not cross(session, row, TransferState.OVER, now=now, changes=changes, detail=changes["problem"] or ""):
        return False
    if signed:
        _give_up(session, row, now)
    offer = session.get_one(TransferOfferRow, row.offer_id, with_for_update=True, populate_existing=True)
    if not failure.offer_stands:
        if offer.state != TransferOfferState.BROKEN:
            cross(session, offer, TransferOfferState.BROKEN, now=now, detail=f"transfer {row.id[:16]}")
    elif offer.state == TransferOfferState.TAKEN:
        option = session.get_one(OptionRow, row.option_id)
        lapsed = offer.valid_until_unix <= now or option.state != OptionState.ACTIVE
        cross(session, offer, TransferOfferState.EXPIRED if lapsed else TransferOfferState.OPEN, now=now)
    if not failure.consent_stands:
        consent = session.get_one(TransferConsentRow, row.consent_id, with_for_update=True, populate_existing=True)
        if consent.state != ConsentState.BROKEN:
            cross(session, consent, ConsentState.BROKEN, now=now, detail=f"transfer {row.id[:16]}")
        lose_rank(session, row.seller, now=now)
    return True


def stand_down(session: Session, *, now: UnixSeconds) -> None:
    """End what a restored store has under way, by nobody's fault, and withdraw every word that stands.

    Who is asked again does not answer again, or has signed what is not here. What a block holds is adopted all the
    same, and what is signed is sent as ever.
    """
    for row in owing(session):
        fail(session, row.id, Failure(blamed=None, problem="the service was restored from a backup"), now=now)
    withdraw_words(session, None, now=now)


def fail_of(session: Session, account: str, problem: str, *, now: UnixSeconds) -> None:
    """End the transfers of an account that are not signed, by its fault, and withdraw what it has said.

    Its words were signed by keys that nobody can check them by any more.
    """
    query = select(TransferRow.id).where(
        TransferRow.state == TransferState.TAKEN.value,
        or_(*(col(getattr(TransferRow, name)) == account for name in _ACCOUNTS.values())),
    )
    for name in session.exec(query.order_by(TransferRow.id)).all():
        owner = owner_in(session.get_one(TransferRow, name), account)
        fail(session, name, Failure(blamed=owner, problem=problem), now=now)
    withdraw_words(session, account, now=now)


def forget_words(session: Session, *, before: UnixSeconds) -> int:
    """Forget what was said in transfers that ended before a second, and return of how many words.

    The three texts stay, and the new contract keeps its own signatures.
    """
    ended = select(TransferRow.id).where(
        col(TransferRow.state).in_((TransferState.DONE, TransferState.OVER)), col(TransferRow.updated_at_unix) < before,
        exists().where(col(TransferWordRow.transfer_id) == col(TransferRow.id)),
    )  # fmt: skip
    ids = list(session.exec(ended.order_by(col(TransferRow.updated_at_unix)).limit(AT_ONCE)).all())
    gone = delete(TransferWordRow).where(col(TransferWordRow.transfer_id).in_(ids))
    return int(session.execute(gone.execution_options(synchronize_session=False)).rowcount)  # type: ignore[attr-defined]


def _give_up(session: Session, row: TransferRow, now: UnixSeconds) -> None:
    """Give up the newcomer's option and the transaction: a block that holds it after all brings both back."""
    try:
        cancel_sale(session, row.new_option_id, by="a transfer that came to nothing", now=now, dead=True)
    except NotCancellableError:  # a block has it; what the walk says counts
        return
    found = session.get(TransactionRow, row.txid or "")
    if found is not None and found.state in UNMINED:
        cross(session, found, TransactionState.CONFLICTED, now=now, detail="a coin of it was spent otherwise")


def note_gone(
    session: Session, transfer_id: str, *, height: int | None, block: str | None, now: UnixSeconds
) -> None:  # fmt: skip
    """Note since which block a coin of a signed transfer is spent otherwise; None: none is."""
    row = _locked(session, transfer_id)
    if row.state == TransferState.SIGNED and (row.gone_height, row.gone_block) != (height, block):
        row.gone_height, row.gone_block, row.updated_at_unix = height, block, now
        session.flush()


def coins_of(transaction: Transaction) -> tuple[OutPoint, ...]:
    """Return what a transfer spends, the old collateral first."""
    return tuple(txin.outpoint for txin in transaction.inputs)


def _locked(session: Session, transfer_id: str) -> TransferRow:
    """Return a transfer as it is now, to this transaction alone; its option is locked before it."""
    locked_option(session, session.get_one(TransferRow, transfer_id).option_id)
    return session.get_one(TransferRow, transfer_id, with_for_update=True, populate_existing=True)
