"""Contracts as the service sees them: ordered, carried between the parties, checked, and settled by attestation.

It keeps what it needs to settle in their stead, and never has a key of theirs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import func, or_, select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.options.attesting import attestations_of, unattested
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState, OracleEventRow
from btcfi.adapters.store.options.options import changed, locked_option, terms_of
from btcfi.adapters.store.options.purposes import FUNDING, SETTLEMENT
from btcfi.adapters.store.options.rules import note_waiting
from btcfi.adapters.store.options.settled import adopt, found_settlement, in_words, paid_columns, pays
from btcfi.adapters.store.options.tables import (
    LOCKED_OPTIONS,
    OptionRow,
    OptionState,
    SettlementRow,
    SettlementState,
)
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.edges import Work, count, cross, record
from btcfi.adapters.store.spine.tables import BlobRow, EventRow
from btcfi.adapters.store.spine.times import lapsed
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint, Transaction, parse_transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.bitcoin.witness import WrongWitnessError, check_witness, has_checkable_witness
from btcfi.contracts.buckets import STANDARD_TOLERANCE, PackedBuckets, ToleranceRule
from btcfi.contracts.execution import ExecutionPlan
from btcfi.contracts.messages import (
    CET_FEE,
    SEALED_WITNESSES,
    VERSION,
    Accept,
    CloseOrder,
    ContractTerms,
    Offer,
    Order,
    Role,
    Sign,
    Withdrawal,
    decode_accept,
    decode_announcement,
    decode_offer,
    decode_order,
    decode_sign,
    encode_close_proposal,
    encode_order,
    encode_proposal,
    encode_withdrawal,
)
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.contracts.option import FUNDING_OUTPUT, OptionContract, expected_height
from btcfi.contracts.paid import check_close_pays
from btcfi.contracts.payouts import breakpoints_of, encode_terms
from btcfi.contracts.setup import Agreement
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError, NotHeldError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import Attestation
from btcfi.units import Height, Sats, UnixSeconds, display_txid, parse_txid

log = logging.getLogger(__name__)

CLOSE_SUFFIX: Final = "~close"
"""Tells the files of a close from those of the setup of the same option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractRule:
    """What a preset says about contracts."""

    payouts: ToleranceRule
    threshold: int
    rate: SatsPerKvb
    refund_delay_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The three messages of a contract, and the option that it is about."""

    option: OptionRow
    offer: Offer
    accepted: Accept
    signed: Sign
    sealed: bool
    """Whether the seller's witnesses of the funding are sealed to the buyer, so that we cannot check them."""


# ---- setting up


def order_contract(
    session: Session, option: OptionRow, announcements: tuple[Announcement, ...], rule: ContractRule, *,
    tip: Height, now: UnixSeconds,
) -> None:  # fmt: skip
    """Write down what both parties are asked to sign up to: the first state of a contract.

    tip: the node's, not what was walked: from a height long past the collateral would return before the expiry.
    A sale that was cancelled meanwhile is ordered no more.
    """
    if locked_option(session, option.id).state != OptionState.CREATED:
        return
    expiry = expected_height(tip, option.expiry_unix - option.listed_slot)
    terms = terms_of(option)
    contract = ContractTerms(
        option=encode_terms(terms), collateral=terms.collateral, premium=Sats(option.premium_sats),
        expiry_height=expiry, refund_height=Height(expiry + rule.refund_delay_blocks), rate=rule.rate,
        rule=rule.payouts, breakpoints=breakpoints_of(terms),
        announcements=announcements, threshold=rule.threshold,
    )  # fmt: skip
    session.add(
        ContractRow(
            option_id=option.id,
            event_id=announcements[0].event.id.hex(),
            expiry_height=contract.expiry_height,
            refund_height=contract.refund_height,
            order=json.dumps(encode_order(Order(terms=contract, role=Role.SELLER))),
            created_at_unix=now,
            updated_at_unix=now,
        )
    )
    session.flush()
    if (waiting := session.get(OptionRow, option.id)) is not None:
        waiting.last_error = None  # what it waited for, such as an oracle that was away
    record(session, "contract", option.id, ContractState.ORDERED, now=now)


def unfinished(session: Session) -> list[ContractRow]:
    """Return the contracts that are not funded yet."""
    query = select(ContractRow).where(col(ContractRow.state).in_(ContractRow.__machine__.pending))
    return list(session.execute(query.order_by(col(ContractRow.created_at_unix), col(ContractRow.option_id))).scalars())


_WITHDRAWAL: Final = "withdrawal"
"""Entity of the event that says that both parties were told of a sale that came to nothing."""


WITHDRAWN_AT_ONCE: Final = 200
"""Sales that came to nothing of which one look tells."""


def withdrawn(session: Session, *, after: str = "", limit: int = WITHDRAWN_AT_ONCE) -> list[ContractRow]:
    """Return the contracts whose parties are to be told that the sale came to nothing, and were not told yet.

    Those of cancelled sales, and of failed ones for which the seller has named coins; one whose buyer waits for coins
    may go on by itself, and so may one that the seller has signed: its coins are not free, so nobody is told. But of a
    take both are, also then: who has signed its funding takes its coins home by spending them. By their options' names,
    behind ``after``: those that cannot be told now keep nobody else waiting.
    """
    told = select(EventRow).where(
        col(EventRow.entity) == _WITHDRAWAL, col(EventRow.entity_id) == col(ContractRow.option_id)
    )
    offered = (ContractState.OFFERED, ContractState.ACCEPTED)
    error = func.coalesce(col(ContractRow.last_error), "")
    waiting = or_(*(error.startswith(waits(role.value), autoescape=True) for role in Role))
    failed = (col(OptionRow.state) == OptionState.FAILED) & col(ContractRow.state).in_(offered)
    signed = col(ContractRow.state).in_((ContractState.CHECKED, ContractState.FUNDED))
    taken = col(OptionRow.take_id).is_not(None) & col(OptionRow.state).in_((OptionState.FAILED, OptionState.CANCELLED))
    ended = (failed | (taken & signed)) & ~waiting
    query = (
        select(ContractRow)
        .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
        .where(
            (col(ContractRow.state) == ContractState.CANCELLED) | ended,
            ~told.exists(),
            col(ContractRow.option_id) > after,
        )
        .order_by(col(ContractRow.option_id))
    )
    return list(session.execute(query.limit(limit)).scalars())


def withdrawal_of(row: ContractRow) -> dict[str, Any]:
    """Return what both parties are told of a sale that came to nothing."""
    return encode_withdrawal(Withdrawal(offer_id=row.offer_id or ""))


def note_withdrawn(session: Session, option_id: str, *, now: UnixSeconds) -> None:
    """Write down that both parties were told."""
    record(session, _WITHDRAWAL, option_id, "told", now=now)


def proposal_of(row: ContractRow) -> dict[str, Any]:
    """Return what the seller is asked to offer: nobody's word until its mandate allows it."""
    return encode_proposal(_ordered(row))


def _ordered(row: ContractRow) -> Order:
    """Return what was ordered. What an earlier release ordered and nobody has offered yet is of today's version."""
    order = decode_order(json.loads(row.order))
    if order.terms.version == VERSION or row.state != ContractState.ORDERED:
        return order
    rule = ToleranceRule(tolerance=STANDARD_TOLERANCE)
    return replace(order, terms=replace(order.terms, version=VERSION, cet_fee=CET_FEE, rule=rule))


_WENT_ON: Final = {"last_error": None}
"""What a message that is taken changes besides: an earlier one's error would keep a lost check from being repaired."""


def take_offer(session: Session, option_id: str, message: dict[str, Any], *, now: UnixSeconds) -> None:
    """Keep the seller's offer. Raises InvalidInputError when it says anything else than was ordered."""
    row = session.get_one(ContractRow, option_id)
    if row.state != ContractState.ORDERED:
        return
    offer = decode_offer(message)
    if offer.terms != _ordered(row).terms or offer.role is not Role.SELLER:
        raise InvalidInputError("offer", "differs from the order", "the ordered terms, offered by the seller")
    changes = {"offer_id": offer.id.hex(), "offer_sha256": keep_message(session, message, now)} | _WENT_ON
    if cross(session, row, ContractState.OFFERED, now=now, changes=changes):
        _takes_heart(session, option_id, now)


def take_accept(session: Session, option_id: str, message: dict[str, Any], *, now: UnixSeconds) -> None:
    """Keep the buyer's answer. Raises InvalidInputError when it answers another offer."""
    row = session.get_one(ContractRow, option_id)
    if row.state != ContractState.OFFERED:
        return
    if decode_accept(message).offer_id.hex() != row.offer_id:
        raise InvalidInputError("accept.offer_id", "another offer's", f"{row.offer_id}")
    changes = {"accept_sha256": keep_message(session, message, now)} | _WENT_ON
    if cross(session, row, ContractState.ACCEPTED, now=now, changes=changes):
        _takes_heart(session, option_id, now)


def take_sign(session: Session, option_id: str, message: dict[str, Any], *, now: UnixSeconds) -> None:
    """Keep the seller's signatures and have them checked before the buyer gets them."""
    row = session.get_one(ContractRow, option_id)
    if row.state != ContractState.ACCEPTED:
        return
    decode_sign(message)
    changes = {"sign_sha256": keep_message(session, message, now)} | _WENT_ON
    check = Work(flow="check_contract", arguments=(option_id,))
    if cross(session, row, ContractState.SIGNED, now=now, changes=changes, work=[check]):
        _takes_heart(session, option_id, now)


def find_contract(session: Session, option_id: str) -> ContractRow | None:
    """Return the contract of an option, None before it is ordered."""
    return session.get(ContractRow, option_id)


def setup_of(session: Session, option_id: str) -> Setup | None:
    """Return the messages of a contract that waits for its check, None when it does not."""
    row = session.get_one(ContractRow, option_id)
    return _messages(session, row) if row.state == ContractState.SIGNED else None


def accepted_of(session: Session, option_id: str) -> tuple[OptionRow, Offer, Accept] | None:
    """Return an offer and its answer that the seller has still to sign, None where it has."""
    row = session.get_one(ContractRow, option_id)
    if row.state != ContractState.ACCEPTED:
        return None
    return session.get_one(OptionRow, option_id), *halves_of(session, row)


def coins_of(session: Session, row: ContractRow, kind: str) -> tuple[Coin, ...]:
    """Return the coins that one side's message names, or signs for. kind: ``offer``, ``accept`` or ``sign``."""
    if kind in {"offer", "sign"}:
        return decode_offer(message_of(session, row.offer_sha256)).party.coins
    return decode_accept(message_of(session, row.accept_sha256)).party.coins


def halves_of(session: Session, row: ContractRow) -> tuple[Offer, Accept]:
    """Return an offer and its answer, as they were kept."""
    offer, answer = message_of(session, row.offer_sha256), message_of(session, row.accept_sha256)
    return decode_offer(offer), decode_accept(answer)


def mark_checked(
    session: Session, option_id: str, agreement: Agreement, *, now: UnixSeconds, network: str
) -> None:  # fmt: skip
    """Keep the plan that we computed and checked every signature against: signed -> checked."""
    row, option = session.get_one(ContractRow, option_id), session.get_one(OptionRow, option_id)
    packed = pack(agreement, _messages(session, row))
    changes = {"contract_id": agreement.id.hex(), "plan_sha256": store_blob(session, packed, now=now).hex()}
    if row.state != ContractState.SIGNED or not cross(
        session, row, ContractState.CHECKED, now=now, changes=changes, work=[Work(flow="exchange")]
    ):
        return
    note_plan(option, agreement, event_id=row.event_id, network=network)


def note_plan(option: OptionRow, agreement: Agreement, *, event_id: str, network: str) -> None:
    """Have an option's row say where its collateral is to lie, and by whose keys and oracles."""
    contract = agreement.plan.contract
    option.address = encode_address(contract.funding_txout().script, network)
    option.funding_txid = display_txid(agreement.funding.transaction.txid)
    option.expiry_height, option.refund_height = contract.expiry_height, contract.refund_height
    option.contract = json.dumps({
        "buyer_key": contract.buyer_key.hex(), "seller_key": contract.seller_key.hex(),
        "internal_key": contract.internal_key.hex(), "tree": contract.tree,
        "buyer_script": contract.buyer_script.hex(), "seller_script": contract.seller_script.hex(),
        "event_id": event_id, "oracles": [one.oracle_key.hex() for one in agreement.plan.announcements],
        "threshold": agreement.plan.threshold, "buckets": len(agreement.plan.buckets),
    })  # fmt: skip


def is_locked(session: Session, option_id: str) -> bool:
    """Return whether an option's collateral is in a block."""
    option = session.get(OptionRow, option_id)
    return option is not None and option.state in LOCKED_OPTIONS


def take_funded(session: Session, option_id: str, message: dict[str, Any], *, now: UnixSeconds) -> None:
    """Keep the funding that both have signed; we broadcast it, too. Raises InvalidInputError for another one."""
    row, option = session.get_one(ContractRow, option_id), session.get_one(OptionRow, option_id)
    if row.state != ContractState.CHECKED:
        return
    funding = _transaction(message)
    if display_txid(funding.txid) != option.funding_txid:
        raise InvalidInputError("funded.transaction", display_txid(funding.txid), f"{option.funding_txid}")
    _check_witnesses(session, row, funding)
    spends = funding.inputs[0].outpoint
    known = session.get(TransactionRow, option.funding_txid)
    option.last_error = None
    changes, work = {"last_error": None}, [Work(flow="send")]
    funded = cross(session, row, ContractState.FUNDED, now=now, changes=changes, work=work)
    if funded:
        _takes_heart(session, option_id, now)
    if funded and known is None:
        signed = Signed(transaction=funding, purpose=FUNDING, subject=option_id, spends=spends, fee=Sats(0))
        put_transaction(session, signed, now=now)


def _check_witnesses(session: Session, row: ContractRow, funding: Transaction) -> None:
    """Check that a funding is signed: its id is that of one that is not. Raises InvalidInputError."""
    offer, accepted = halves_of(session, row)
    coins = {coin.outpoint: coin.output for coin in (*offer.party.coins, *accepted.party.coins)}
    spent = [coins[one.outpoint] for one in funding.inputs]
    for index, given in enumerate(funding.inputs):
        if not has_checkable_witness(spent[index].script):
            continue  # an earlier release's, which the node tells
        try:
            check_witness(funding, index, spent, given.witness)
        except WrongWitnessError as e:
            raise InvalidInputError(f"funded.transaction, input {index}", e.problem, "a signature of it") from e


def repair(session: Session, *, now: UnixSeconds, stale_seconds: int) -> list[Work]:
    """Return what must be started again: checks that nobody finished, events that nobody attested."""
    query = select(col(ContractRow.option_id)).where(
        col(ContractRow.state) == ContractState.SIGNED,
        lapsed(col(ContractRow.updated_at_unix), now, stale_seconds),
        col(ContractRow.last_error).is_(None),  # what failed its check is the parties' to mend
    )
    unchecked = session.execute(query.limit(100)).scalars()
    checks = [Work(flow="check_contract", arguments=(option_id,)) for option_id in unchecked]
    waiting = unattested(session, turn=now // max(stale_seconds, 1))
    return checks + [Work(flow="attest", arguments=(event,)) for event in waiting]


def note_error(session: Session, option_id: str, error: str, *, now: UnixSeconds) -> None:
    """Keep why a message was not taken, for whoever looks why an option is not funded."""
    row, option = session.get(ContractRow, option_id), session.get(OptionRow, option_id)
    if row is None or option is None:
        return
    row.last_error, row.updated_at_unix = error, now
    option.last_error = error
    count(session, "refused_contract_messages")


def note_refusal(session: Session, option_id: str, party: str, reason: str, *, now: UnixSeconds) -> None:
    """Keep why a party refused, and call a sale failed that nothing is funded of; the party may take it after all."""
    note_error(session, option_id, f"the {party} refused: {reason}", now=now)
    option = session.get(OptionRow, option_id)
    if option is not None and option.state == OptionState.CREATED:
        cross(session, option, OptionState.FAILED, now=now, detail=f"the {party} refused")


def waits(party: str) -> str:
    """Return how the error begins of a contract of which a party waits for something."""
    return f"the {party} waits: "


def is_waiting(error: str | None) -> bool:
    """Return whether a contract's error is what one of its parties waits for: it may go on by itself."""
    return error is not None and error.startswith(tuple(waits(role.value) for role in Role))


def note_waits(session: Session, option_id: str, party: str, reason: str, *, now: UnixSeconds) -> None:
    """Keep what a party waits for, and call a sale failed that nothing is funded of, until its party goes on."""
    row, option = session.get(ContractRow, option_id), session.get(OptionRow, option_id)
    if row is None or option is None:
        return
    row.last_error = option.last_error = f"{waits(party)}{reason}"
    row.updated_at_unix = now
    if option.state == OptionState.CREATED:
        cross(session, option, OptionState.FAILED, now=now, detail=f"the {party} waits for coins")


def _takes_heart(session: Session, option_id: str, now: UnixSeconds) -> None:
    """Take back that a sale had failed: its party has answered after all."""
    option = session.get_one(OptionRow, option_id)
    if option.state == OptionState.FAILED:
        cross(session, option, OptionState.CREATED, now=now, changes={"last_error": None}, detail="the parties went on")


def note_unheld(session: Session, option_id: str, reason: str) -> None:
    """Keep which hash is missing here, and leave the contract as it is: no party can mend that."""
    note_waiting(session.get_one(OptionRow, option_id), reason)


def _messages(session: Session, row: ContractRow) -> Setup:
    option, (offer, accepted) = session.get_one(OptionRow, row.option_id), halves_of(session, row)
    message = message_of(session, row.sign_sha256)
    return Setup(
        option=option, offer=offer, accepted=accepted, signed=decode_sign(message),
        sealed=option.writer is not None and SEALED_WITNESSES in message,
    )  # fmt: skip


def keep_message(session: Session, message: dict[str, Any], now: UnixSeconds) -> str:
    """Keep a message as a blob, and return its name."""
    return store_blob(session, json.dumps(message).encode(), now=now).hex()


def message_of(session: Session, sha256: str | None) -> dict[str, Any]:
    """Return a kept message."""
    body: dict[str, Any] = json.loads(session.get_one(BlobRow, sha256).body)
    return body


def agreed_terms(session: Session, option_id: str) -> ContractTerms:
    """Return the terms that both parties have signed for an option. Raises NotFoundError while there are none."""
    row = session.get(ContractRow, option_id)
    if row is None or row.offer_sha256 is None:
        raise NotFoundError("contract", option_id, "an option whose seller has made an offer")
    return decode_offer(message_of(session, row.offer_sha256)).terms


def kept_messages(session: Session, option_id: str) -> dict[str, dict[str, Any]]:
    """Return what both parties have said so far to set a contract up, by kind: ``offer``, ``accept``, ``sign``."""
    row = session.get(ContractRow, option_id)
    if row is None:
        return {}
    hashes = {"offer": row.offer_sha256, "accept": row.accept_sha256, "sign": row.sign_sha256}
    return {kind: message_of(session, sha256) for kind, sha256 in hashes.items() if sha256 is not None}


# ---- settling


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """What it takes to settle a contract by attestation."""

    plan: ExecutionPlan
    buyer: bytes
    """Pre-signatures of all buckets."""
    seller: bytes
    attestations: list[Attestation]


def pack(agreement: Agreement, kept: Setup) -> bytes:
    """Return what settling needs, as one blob: a line of JSON, the buckets, the buyer's and the seller's signatures."""
    contract, plan = agreement.plan.contract, agreement.plan
    signatures = {kept.offer.role: kept.signed.presignatures, kept.offer.role.other: kept.accepted.presignatures}
    buckets = PackedBuckets.pack(plan.buckets)
    head = {
        "buyer_key": contract.buyer_key.hex(), "seller_key": contract.seller_key.hex(),
        "buyer_script": contract.buyer_script.hex(), "seller_script": contract.seller_script.hex(),
        "internal_key": contract.internal_key.hex(), "tree": contract.tree, "collateral": contract.collateral,
        "expiry_height": contract.expiry_height, "refund_height": contract.refund_height, "threshold": plan.threshold,
        "oracles": [one.oracle_key.hex() for one in plan.announcements], "cet_fee": plan.cet_fee,
        "nearest_dust": contract.nearest_dust,
        "sizes": [len(buckets), len(signatures[Role.BUYER]), len(signatures[Role.SELLER])],
    }  # fmt: skip
    return json.dumps(head).encode() + b"\n" + buckets + signatures[Role.BUYER] + signatures[Role.SELLER]


Named = tuple[str | None, str, OutPoint]
"""What a contract is settled by: the hash of its plan with all signatures, its event, its collateral's outpoint."""


def named_of(session: Session, options: Sequence[OptionRow]) -> dict[str, Named]:
    """Return, by option, by what its contract is settled: two equal ones have equal plans."""
    query = select(col(ContractRow.option_id), col(ContractRow.plan_sha256), col(ContractRow.event_id))
    wanted = {option.id: option for option in options if option.funding_txid}
    rows = session.execute(query.where(col(ContractRow.option_id).in_(wanted))) if wanted else ()
    return {name: (plan, event, funding_outpoint(wanted[name])) for name, plan, event in rows}


def executables_of(
    session: Session, options: Sequence[OptionRow], *, damaged_apart: bool = False
) -> dict[str, Executable]:  # fmt: skip
    """Return, by option, its plan as it was checked, both parties' pre-signatures, and the attestations so far.

    damaged_apart: leave out, and say, what the store has damaged, so that one option's trouble is no other's; only for
    a caller to whom a missing one proves nothing.
    """
    query = (
        select(ContractRow, BlobRow, OracleEventRow)
        .join(BlobRow, col(BlobRow.sha256) == col(ContractRow.plan_sha256))
        .join(OracleEventRow, col(OracleEventRow.id) == col(ContractRow.event_id))
        .where(col(ContractRow.option_id).in_([option.id for option in options]))
    )
    by_id = {option.id: option for option in options}
    found = session.execute(query).all() if options else []
    attested = {event: attestations_of(session, event) for event in {row.event_id for row, _, _ in found}}
    read = {}
    for row, plan, event in found:
        try:
            option, said = by_id[row.option_id], attested[row.event_id]
            read[option.id] = _executable(option, plan.body, event.announcements, said)
        except (BtcfiError, ValueError, KeyError, TypeError) as e:
            if not damaged_apart:
                raise
            log.warning("the stored contract of %s is damaged: %s: %s", row.option_id, type(e).__name__, e)
    return read


def _executable(option: OptionRow, packed: bytes, announcements: str, attested: list[Attestation]) -> Executable:
    line, _, rest = packed.partition(b"\n")
    head = json.loads(line)
    first, second, _third = head["sizes"]
    contract = OptionContract(
        buyer_key=bytes.fromhex(head["buyer_key"]), seller_key=bytes.fromhex(head["seller_key"]),
        buyer_script=bytes.fromhex(head["buyer_script"]), seller_script=bytes.fromhex(head["seller_script"]),
        collateral=Sats(head["collateral"]), expiry_height=Height(head["expiry_height"]),
        refund_height=Height(head["refund_height"]), internal_key=bytes.fromhex(head["internal_key"]),
        tree=head["tree"], min_refund_delay=head["refund_height"] - head["expiry_height"],
        nearest_dust=head.get("nearest_dust", False),  # plans of versions 1 and 2 say none
    )  # fmt: skip
    announced = _announced(announcements)
    plan = ExecutionPlan(
        contract=contract, funding=funding_outpoint(option), buckets=PackedBuckets(rest[:first]),
        announcements=tuple(announced[key] for key in head["oracles"]), threshold=head["threshold"],
        cet_fee=Sats(head.get("cet_fee", 0)),  # plans of version 1 say none
    )  # fmt: skip
    return Executable(
        plan=plan, buyer=rest[first : first + second], seller=rest[first + second :], attestations=attested
    )


@lru_cache(maxsize=64)
def _announced(text: str) -> dict[str, Announcement]:
    return {one.oracle_key.hex(): one for one in map(decode_announcement, json.loads(text))}


def funding_outpoint(option: OptionRow) -> OutPoint:
    """Return the outpoint that holds an option's collateral."""
    return OutPoint(txid=parse_txid(option.funding_txid or ""), index=FUNDING_OUTPUT)


def closes(
    session: Session, rate_of: Callable[[str], SatsPerKvb]
) -> list[tuple[str, dict[str, Any], str | None]]:  # fmt: skip
    """Return every proven early exercise: its option, the close that is proposed, the error that was noted last.

    rate_of: the fee rate of a preset, by its hash (hex); what it does not have is left out, and noted.
    """
    query = (
        select(SettlementRow, ContractRow, OptionRow)
        .join(ContractRow, col(ContractRow.option_id) == col(SettlementRow.option_id))
        .join(OptionRow, col(OptionRow.id) == col(SettlementRow.option_id))
    )
    query = query.where(
        col(SettlementRow.state) == SettlementState.PROVEN, col(SettlementRow.reason) == "early_exercise"
    )
    proposals = []
    for row, contract, option in session.execute(query.limit(200)):
        try:
            if (error := changed(option, contract.event_id)) is not None:
                raise error
            rate = rate_of(option.preset_sha256)
        except NotHeldError as e:  # the others can still be closed
            note_waiting(row, str(e))
            continue
        close = CloseOrder(
            offer_id=bytes.fromhex(contract.offer_id or ""), payout=Sats(row.payout_sats or 0), rate=rate,
            guest_input=bytes.fromhex(row.input_hex),
        )  # fmt: skip
        proposals.append((row.option_id, encode_close_proposal(close), contract.last_error))
    return proposals


def take_closed(session: Session, option_id: str, message: dict[str, Any], *, now: UnixSeconds) -> None:
    """Keep the close that both have signed. Raises InvalidInputError unless it pays what the guest computed."""
    option = session.get_one(OptionRow, option_id)
    row = found_settlement(session, option_id)
    if row is None or not _waits_for_close(row):
        return
    closed = _transaction(message)
    fee = _check_close(session, option, row, closed)
    _check_close_signed(session, option, closed)
    txid = display_txid(closed.txid)
    paid = pays(option, closed)
    changes = {"txid": txid, **paid_columns(paid)}
    if not cross(
        session, row, SettlementState.BUILT, now=now, fence=row.fence, changes=changes, work=[Work(flow="send")],
        detail=in_words(row, paid),
    ):  # fmt: skip
        return
    if (known := session.get(TransactionRow, txid)) is not None:
        adopt(session, known, row, fee=fee, now=now)
        return
    signed = Signed(transaction=closed, purpose=SETTLEMENT, subject=option_id, spends=funding_outpoint(option), fee=fee)
    put_transaction(session, signed, now=now)


def close_seen(
    session: Session, option: OptionRow, row: SettlementRow, mined: TransactionRow, *, now: UnixSeconds
) -> bool:
    """Take a mined spend as the close of an early exercise whose message has not come; False when it is none."""
    if not _waits_for_close(row):
        return False
    closed = parse_transaction(bytes.fromhex(mined.raw_hex))
    try:
        fee = _check_close(session, option, row, closed)
    except InvalidInputError:
        return False
    paid = pays(option, closed)
    changes = {"txid": mined.txid, "last_error": None, **paid_columns(paid)}
    said = in_words(row, paid)
    if cross(session, row, SettlementState.BUILT, now=now, fence=row.fence, changes=changes, detail=said):
        adopt(session, mined, row, fee=fee, now=now)
    return True


def _waits_for_close(row: SettlementRow) -> bool:
    return row.state == SettlementState.PROVEN and row.reason == "early_exercise"


def _check_close(session: Session, option: OptionRow, row: SettlementRow, closed: Transaction) -> Sats:
    """Return the fee of a close that pays what the guest computed, by the dust rule of the contract's version.

    Raises InvalidInputError for any other.
    """
    said = read_record(closed.outputs[-1].script)
    root = bytes.fromhex(row.proof_root or "")
    if closed.inputs[0].outpoint != funding_outpoint(option) or said != (RecordType.SETTLEMENT_PROOF, root):
        raise InvalidInputError("closed.transaction", "another contract's or another proof's", "this early exercise's")
    kept = json.loads(option.contract or "{}")
    collateral, nearest = Sats(option.collateral_sats), agreed_terms(session, option.id).nearest_dust
    return check_close_pays(
        closed, payout=Sats(row.payout_sats or 0), collateral=collateral, nearest=nearest,
        buyer_script=bytes.fromhex(kept["buyer_script"]), seller_script=bytes.fromhex(kept["seller_script"]),
    )  # fmt: skip


def _check_close_signed(session: Session, option: OptionRow, closed: Transaction) -> None:
    """Check that both have signed a close: one side alone can name its outputs. Raises InvalidInputError."""
    if len(closed.inputs) != 1:
        raise InvalidInputError("closed.transaction", f"{len(closed.inputs)} inputs", "the contract's own alone")
    funding = session.get(TransactionRow, option.funding_txid)
    if funding is None:
        return  # a block has told us of it, and the node tells whether this spends it
    spent = parse_transaction(bytes.fromhex(funding.raw_hex)).outputs[closed.inputs[0].outpoint.index]
    try:
        check_witness(closed, 0, [spent], closed.inputs[0].witness)
    except WrongWitnessError as e:
        raise InvalidInputError("closed.transaction", e.problem, "a signature of it by both") from e


def _transaction(message: dict[str, Any]) -> Transaction:
    try:
        found = parse_transaction(bytes.fromhex(message["transaction"]))
    except (KeyError, TypeError, ValueError) as e:
        raise InvalidInputError("transaction", "missing or not hex", "a raw transaction") from e
    if not found.inputs or not found.outputs:
        raise InvalidInputError("transaction", "spends or pays nothing", "a raw transaction")
    return found
