"""Anchoring: what the service agreed on, announced and proved goes under one Merkle root into one transaction.

A batch is an ordered list of items that only grows at its end. Each version of its transaction spends the same coin and
commits to the batch's first ``count`` items; while none is mined, a newer one replaces the older by its fee. Whichever
confirms, what it leaves out goes into the next batch.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import String, case, cast, func, select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import UNMINED, TransactionRow, TransactionState, WalletOutpointRow
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.chain.walk import walked_to
from btcfi.adapters.store.chain.wallet import NoCoinError, pick_coin, reserve_coin
from btcfi.adapters.store.options import batches
from btcfi.adapters.store.options.anchor_tables import AnchorItemRow, AnchorRow
from btcfi.adapters.store.options.contract_tables import OracleEventRow
from btcfi.adapters.store.options.purposes import ANCHOR
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.adapters.store.prices.rounds import Register
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow, RoundState
from btcfi.adapters.store.spine.edges import cross
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb, choose_rate, fee_for
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import Transaction, TxOut, parse_outpoint, parse_transaction
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.anchor import MAX_LEAVES, AnchorItem, AnchorKind, AnchorTransaction, anchor_root, build_anchor
from btcfi.contracts.messages import decode_announcement
from btcfi.errors import BtcfiError, NotFoundError, RetryableError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.consensus import decode_outcome
from btcfi.oracle.quote import Feed, Observation, read_observation
from btcfi.oracle.report import RoundReport, evidence_root, report_hash, rule_hash
from btcfi.units import Hash32, Height, Sats, Slot, Txid, UnixSeconds, display_txid, hash32

ANCHOR_COIN: Final = Sats(10_000)
"""A coin of at least this size pays for an anchor: 60 sat/vB, and too small a coin for a settlement will do."""

COIN_DEPTH: Final = 6
"""Blocks on a coin before an anchor spends it: a later batch must not hang on an earlier one that may still change."""

ITEMS_AT_ONCE: Final = 5_000
"""Items of each kind that one run takes: three days of minutes; what is older follows in the next runs."""

_MINED: Final = (TransactionState.CONFIRMED, TransactionState.FINAL)


class AnchorNotFinalError(RetryableError):
    """Something is anchored, or will be, but not yet under enough blocks to be relied on."""

    def __init__(self, what: str, *, confirmations: int, needed: int) -> None:
        super().__init__(f"the anchor of {what} has {confirmations} of {needed} confirmations; try again later")
        self.what, self.confirmations, self.needed = what, confirmations, needed


class EvidenceChangedError(BtcfiError):
    """What the store holds now is not what was anchored."""

    def __init__(self, what: str, *, anchored: Hash32, found: Hash32) -> None:
        super().__init__(f"{what} was anchored as {anchored.hex()}, and the store now gives {found.hex()}")
        self.what, self.anchored, self.found = what, anchored, found


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing to anchor."""

    item: AnchorItem
    subject: str
    part: str = ""
    context: str = ""


# ---- what is to be anchored


def unanchored(session: Session, register: Register) -> list[Found]:
    """Return what no batch holds: reports of priced rounds, announcements, proof roots; oldest first of each."""
    return [*_prices(session, register), *_announcements(session), *_proof_roots(session)]


def price_subject(feed: Feed, slot: Slot) -> str:
    """Return how the price of a minute is called among the anchored items."""
    return f"{feed}@{slot}"


def _prices(session: Session, register: Register) -> list[Found]:
    known = select(AnchorItemRow).where(
        col(AnchorItemRow.kind) == AnchorKind.PRICE,
        col(AnchorItemRow.subject) == col(RoundRow.feed) + "@" + cast(col(RoundRow.slot), String),
    )
    query = select(RoundRow).where(
        col(RoundRow.feed) == register.feed, col(RoundRow.state) == RoundState.PRICED, ~known.exists()
    )
    rows = session.execute(query.order_by(col(RoundRow.slot)).limit(ITEMS_AT_ONCE)).scalars().all()
    if not rows:
        return []
    rule = rule_hash(register.rule, register.venues, register.legs)
    observations = _observations(session, register.feed, first=rows[0].slot, last=rows[-1].slot)
    return [
        Found(
            item=AnchorItem(kind=AnchorKind.PRICE, digest=report_hash(_report(row, observations[row.slot], rule))),
            subject=price_subject(register.feed, Slot(row.slot)),
            context=rule.hex(),
        )
        for row in rows
    ]


def _observations(session: Session, feed: str, *, first: int, last: int) -> dict[int, list[Observation]]:
    found: dict[int, list[Observation]] = defaultdict(list)
    query = select(col(QuoteRow.slot), col(QuoteRow.body)).where(
        col(QuoteRow.feed) == feed, col(QuoteRow.slot) >= first, col(QuoteRow.slot) <= last
    )
    for slot, body in session.execute(query):
        found[slot].append(read_observation(body))
    return found


def _report(row: RoundRow, observations: Sequence[Observation], rule: Hash32) -> RoundReport:
    return RoundReport(
        feed=Feed(row.feed), outcome=decode_outcome(json.loads(row.report or "{}")), rule_hash=rule,
        evidence_root=evidence_root(observations),
    )  # fmt: skip


def _announcements(session: Session) -> list[Found]:
    known = select(AnchorItemRow).where(
        col(AnchorItemRow.kind) == AnchorKind.ANNOUNCEMENT, col(AnchorItemRow.subject) == col(OracleEventRow.id)
    )
    query = select(OracleEventRow).where(~known.exists())
    ordered = query.order_by(col(OracleEventRow.created_at_unix), col(OracleEventRow.id)).limit(ITEMS_AT_ONCE)
    return [
        Found(
            item=AnchorItem(kind=AnchorKind.ANNOUNCEMENT, digest=one.digest()),
            subject=row.id,
            part=one.oracle_key.hex(),
        )
        for row in session.execute(ordered).scalars()
        for one in map(decode_announcement, json.loads(row.announcements))
    ]


def _proof_roots(session: Session) -> list[Found]:
    known = select(AnchorItemRow).where(
        col(AnchorItemRow.kind) == AnchorKind.PROOF_ROOT, col(AnchorItemRow.subject) == col(SettlementRow.id),
        col(AnchorItemRow.digest) == col(SettlementRow.proof_root),
    )  # fmt: skip
    query = select(SettlementRow).where(col(SettlementRow.proof_root).is_not(None), ~known.exists())
    ordered = query.order_by(col(SettlementRow.created_at_unix), col(SettlementRow.id)).limit(ITEMS_AT_ONCE)
    return [
        Found(
            item=AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=hash32(bytes.fromhex(row.proof_root or ""))),
            subject=row.id,
        )
        for row in session.execute(ordered).scalars()
    ]


# ---- the transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """The newest batch and the versions of its transaction, the one that pays most last."""

    number: int
    versions: list[tuple[AnchorRow, TransactionRow]]

    @property
    def waits(self) -> bool:
        """Whether one of its versions was sent and none is mined."""
        states = {sent.state for _, sent in self.versions}
        return not states & set(_MINED) and bool(states & set(UNMINED))

    @property
    def mined_items(self) -> int:
        """How many of its items a block holds."""
        return max((anchor.count for anchor, sent in self.versions if sent.state in _MINED), default=0)


def _newest(session: Session) -> _Batch:
    number = session.execute(select(func.max(col(AnchorRow.batch)))).scalar_one()
    query = select(AnchorRow, TransactionRow).join(TransactionRow, col(TransactionRow.txid) == col(AnchorRow.txid))
    rows = session.execute(query.where(col(AnchorRow.batch) == number).order_by(col(TransactionRow.fee_sats)))
    return _Batch(number=number or 0, versions=[(anchor, sent) for anchor, sent in rows])


def items_of(session: Session, batch: int, *, start: int = 0, stop: int = MAX_LEAVES) -> list[AnchorItemRow]:
    """Return a batch's items in their order."""
    query = select(AnchorItemRow).where(
        col(AnchorItemRow.batch) == batch, col(AnchorItemRow.position) >= start, col(AnchorItemRow.position) < stop
    )
    return list(session.execute(query.order_by(col(AnchorItemRow.position))).scalars())


def anchor_found(
    session: Session,
    found: Sequence[Found],
    wallet: TaprootKey,
    *,
    estimate: SatsPerKvb | None,
    rule: FeeRule,
    tip: Height,
    now: UnixSeconds,
) -> Txid | None:
    """Store the transaction that anchors ``found`` and whatever no block holds yet; None when there is nothing to do.

    While the newest anchor waits it is replaced, by the same coin. Raises NoCoinError. Call it with the wallet's lease.
    """
    newest = _newest(session)
    if newest.waits:
        late = tip - min(sent.built_height or tip for _, sent in newest.versions)
        rate = choose_rate(estimate, rule, blocks_late=late)
        return _replace(session, newest, found, wallet, rate=rate, now=now)
    left = items_of(session, newest.number, start=newest.mined_items)
    wanted = [_found(row) for row in left] + list(found)
    if not wanted:
        return None
    row = pick_coin(session, ANCHOR_COIN, tip=Height(tip - COIN_DEPTH))
    if row is None:
        raise NoCoinError(ANCHOR_COIN)
    batch, wanted = newest.number + 1, wanted[:MAX_LEAVES]
    _append(session, batch, 0, wanted)
    made = build_anchor(
        anchor_root([one.item for one in wanted]), _coin(row, wallet), change_script=wallet.script,
        rate=choose_rate(estimate, rule),
    )  # fmt: skip
    txid, _ = _store(session, made, wallet, batch=batch, count=len(wanted), now=now)
    reserve_coin(row, display_txid(txid))
    return txid


def _replace(
    session: Session, newest: _Batch, found: Sequence[Found], wallet: TaprootKey, *, rate: SatsPerKvb, now: UnixSeconds
) -> Txid | None:
    anchor, dearest = newest.versions[-1]
    plain = parse_transaction(bytes.fromhex(dearest.raw_hex))
    kept = items_of(session, newest.number)
    added = list(found)[: MAX_LEAVES - len(kept)]
    if not added and dearest.state in UNMINED and fee_for(plain.vsize, rate) <= dearest.fee_sats:
        return None
    kept_coin = session.get_one(WalletOutpointRow, dearest.spends)
    coin = _coin(kept_coin, wallet)
    replaced = AnchorTransaction(
        transaction=plain, spent=coin.output, root=hash32(bytes.fromhex(anchor.root)), fee=Sats(dearest.fee_sats)
    )
    items = [_found(one).item for one in kept] + [one.item for one in added]
    try:
        made = build_anchor(anchor_root(items), coin, change_script=wallet.script, rate=rate, replaces=replaced)
    except InsufficientFundsError as e:
        dearest.last_error = f"cannot be replaced, its coin is too small: {e}"
        return None
    _append(session, newest.number, len(kept), added)
    txid, stored = _store(session, made, wallet, batch=newest.number, count=len(items), now=now)
    stored.built_height = dearest.built_height
    reserve_coin(kept_coin, display_txid(txid))
    for _, sent in newest.versions:
        if sent.state in UNMINED:
            cross(session, sent, TransactionState.REPLACED, now=now, detail=f"replaced by {display_txid(txid)}")
    return txid


def _coin(row: WalletOutpointRow, wallet: TaprootKey) -> Coin:
    return Coin(
        outpoint=parse_outpoint(row.outpoint), output=TxOut(value=Sats(row.value_sats), script=wallet.script)
    )  # fmt: skip


def _append(session: Session, batch: int, start: int, found: Sequence[Found]) -> None:
    session.add_all(
        AnchorItemRow(
            batch=batch, position=position, kind=one.item.kind, subject=one.subject, part=one.part,
            digest=one.item.digest.hex(), context=one.context,
        )
        for position, one in enumerate(found, start)
    )  # fmt: skip
    session.flush()


def _store(
    session: Session, made: AnchorTransaction, wallet: TaprootKey, *, batch: int, count: int, now: UnixSeconds
) -> tuple[Txid, TransactionRow]:
    signed = made.transaction.with_witness(0, [wallet.sign_input(made.transaction, 0, [made.spent])])
    name = display_txid(signed.txid)
    session.add(AnchorRow(txid=name, batch=batch, count=count, root=made.root.hex(), created_at_unix=now))
    anchor = Signed(transaction=signed, purpose=ANCHOR, subject=None, spends=signed.inputs[0].outpoint, fee=made.fee)
    return signed.txid, put_transaction(session, anchor, now=now)


def _found(row: AnchorItemRow) -> Found:
    item = AnchorItem(kind=AnchorKind(row.kind), digest=hash32(bytes.fromhex(row.digest)))
    return Found(item=item, subject=row.subject, part=row.part, context=row.context)


# ---- from an item to its block


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """Where an item is anchored: everything that a proof needs but the block."""

    found: Found
    items: list[AnchorItem]
    index: int
    transaction: Transaction
    block_hash: Hash32


def find_anchored(session: Session, kind: AnchorKind, subject: str, part: str = "", *, confirmations: int) -> Anchored:
    """Return where something is anchored for good.

    confirmations: what counts as final. Raises NotFoundError when it was never taken into an anchor,
    AnchorNotFinalError while its anchor is not deep enough.
    """
    what = f"{kind.name.lower().replace('_', ' ')} {subject}"
    of_it = select(AnchorItemRow, AnchorRow, TransactionRow).where(
        col(AnchorItemRow.kind) == kind, col(AnchorItemRow.subject) == subject, col(AnchorItemRow.part) == part,
        col(AnchorRow.batch) == col(AnchorItemRow.batch), col(AnchorRow.count) > col(AnchorItemRow.position),
        col(TransactionRow.txid) == col(AnchorRow.txid),
    )  # fmt: skip
    order = {TransactionState.FINAL.value: 0, TransactionState.CONFIRMED.value: 1}
    best = case(order, value=col(TransactionRow.state), else_=2)
    newest = col(AnchorItemRow.batch).desc()
    first = session.execute(of_it.order_by(best, newest).limit(1)).first()
    final = first is not None and first[2].state == TransactionState.FINAL
    if kind is AnchorKind.PROOF_ROOT and not final and (batched := _in_a_batch(session, subject)) is not None:
        return batched
    if first is None:
        raise NotFoundError("anchor", what, "the next `chain.anchor` takes what is new; see BTCFI_ANCHOR_SECONDS")
    item, anchor, sent = first
    if sent.state != TransactionState.FINAL:
        raise AnchorNotFinalError(what, confirmations=_depth(session, sent), needed=confirmations)
    rows = items_of(session, item.batch, stop=anchor.count)
    return Anchored(
        found=_found(item), items=[_found(row).item for row in rows], index=item.position,
        transaction=parse_transaction(bytes.fromhex(sent.raw_hex)),
        block_hash=hash32(bytes.fromhex(sent.block_hash or "")),
    )  # fmt: skip


def _in_a_batch(session: Session, settlement_id: str) -> Anchored | None:
    """Return where a settlement's proof root stands under the root of the final batch that pays it."""
    row = session.get(SettlementRow, settlement_id)
    ends = [] if row is None else batches.batch_of(session, row)
    place = next((one.position for one in ends if row is not None and one.option_id == row.option_id), None)
    sent = None if row is None or place is None else session.get(TransactionRow, row.txid)
    if sent is None or place is None or sent.state != TransactionState.FINAL:
        return None
    items = batches.leaves_of(ends)
    return Anchored(
        found=Found(item=items[place], subject=settlement_id), items=items, index=place,
        transaction=parse_transaction(bytes.fromhex(sent.raw_hex)),
        block_hash=hash32(bytes.fromhex(sent.block_hash or "")),
    )  # fmt: skip


def _depth(session: Session, sent: TransactionRow) -> int:
    tip = walked_to(session)
    return 0 if sent.height is None or tip is None else tip.height - sent.height + 1


def anchored_report(session: Session, found: Found) -> RoundReport:
    """Return the report of an anchored price, made again from the store. Raises EvidenceChangedError."""
    feed, _, slot = found.subject.rpartition("@")
    query = select(RoundRow).where(col(RoundRow.feed) == feed, col(RoundRow.slot) == int(slot))
    row = session.execute(query).scalar_one()
    seen = _observations(session, feed, first=row.slot, last=row.slot)[row.slot]
    report = _report(row, seen, hash32(bytes.fromhex(found.context)))
    _unchanged(f"the price of {found.subject}", found.item.digest, report_hash(report))
    return report


def announcements_of(session: Session, event_id: str) -> list[Announcement]:
    """Return what the oracles announced of an event. Raises NotFoundError."""
    row = session.get(OracleEventRow, event_id)
    if row is None:
        raise NotFoundError("oracle event", event_id)
    return [decode_announcement(one) for one in json.loads(row.announcements)]


def _unchanged(what: str, anchored: Hash32, found: Hash32) -> None:
    if anchored != found:
        raise EvidenceChangedError(what, anchored=anchored, found=found)
