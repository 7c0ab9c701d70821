"""The chain as the store knows it: the service's coins, our transactions, and the walk along the blocks.

A transaction is stored with its raw bytes before it is sent; outpoints are watched, not txids; a reorganisation is
unwound block by block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, select, update
from sqlmodel import Session, col

from btcfi.adapters.chain.node import Block
from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow, WalletOutpointRow
from btcfi.adapters.store.chain.transactions import (
    Signed,
    adopt,
    find_settlement,
    put_transaction,
    put_transactions,
    settled,
    settlement_of,
)
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.edges import Crossing, count, cross, cross_all, upsert
from btcfi.bitcoin.fees import (
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut, parse_transaction
from btcfi.bitcoin.wallet import COINBASE_MATURITY, Coin
from btcfi.contracts.option import FUNDING_OUTPUT
from btcfi.contracts.settle import Child, CompletedCet, build_child, complete_cet
from btcfi.errors import BtcfiError, NotFoundError, RetryableError
from btcfi.units import Hash32, Height, Sats, Txid, UnixSeconds, display_txid, parse_txid

SERVICE: Final = "service"
"""Whose coins the wallet's are: they pay the fees of settlements, and belong to no party."""

CHILD_COIN: Final = Sats(20_000)
"""A coin of at least this size pays for a settlement: 50 sat/vB for the CET and its child."""

SPLIT_COIN: Final = Sats(50_000)
"""What a large coin is split into, so that many settlements of one minute have a confirmed coin each."""

MAX_SPLIT: Final = 2_000
"""Coins of one split: 86 kvB, and nodes relay 100."""

_LIVE: Final = ("CREATED", "ACTIVE", "EXPIRED")

REPLACED_CHILD: Final = "child replaced by "
"""What the purpose of a child begins with, once another child has taken its place."""

RESEND_SECONDS: Final = 10
"""A transaction that no block holds is sent again this often: a node may have forgotten it."""


class NoCoinError(RetryableError):
    """The service's wallet has no confirmed coin for a settlement's fee."""

    def __init__(self, needed: Sats) -> None:
        super().__init__(f"the service's wallet has no confirmed coin of {needed} sats; send some to its address")
        self.needed = needed


# ---- the service's wallet


def split_coins(
    session: Session, wallet: TaprootKey, *, want: int, rate: SatsPerKvb, tip: Height, now: UnixSeconds
) -> bool:
    """Split a large coin when fewer than half of ``want`` are there, or too few for the busiest expiry minute to come.

    A settlement needs a confirmed coin of its own. False when nothing was split: no need, or no coin is large enough.
    """
    waiting = select(func.count()).select_from(TransactionRow)
    if session.execute(
        waiting.where(col(TransactionRow.purpose) == "split", col(TransactionRow.state).in_(("built", "broadcast")))
    ).scalar_one():
        return False
    ready, busiest = mature_coins(session, tip=tip), min(MAX_SPLIT, busiest_minute(session))
    if ready * 2 >= want and ready >= busiest:
        return False
    for wanted in (max(want, busiest), want):
        fee = fee_for(vsize_of(OVERHEAD_WEIGHT + P2TR_INPUT_WEIGHT + (wanted + 1) * P2TR_OUTPUT_WEIGHT), rate)
        large = pick_coin(session, Sats(SPLIT_COIN * (wanted + 1) + fee), tip=tip)
        if large is not None:
            _split(session, wallet, large, wanted, fee, now=now)
            return True
    return False


def busiest_minute(session: Session) -> int:
    """Return how many options the expiry minute has that most of them wait for."""
    waiting = select(func.count().label("options")).where(col(OptionRow.state).in_(("CREATED", "ACTIVE")))
    each = waiting.group_by(col(OptionRow.expiry_unix)).subquery()
    return int(session.execute(select(func.max(each.c.options))).scalar_one() or 0)


def _split(
    session: Session, wallet: TaprootKey, large: WalletOutpointRow, many: int, fee: Sats, *, now: UnixSeconds
) -> None:
    spent = TxOut(value=Sats(large.value_sats), script=wallet.script)
    rest = Sats(large.value_sats - many * SPLIT_COIN - fee)
    outputs = [*[TxOut(value=SPLIT_COIN, script=wallet.script)] * many, TxOut(value=rest, script=wallet.script)]
    plain = Transaction(version=2, inputs=(TxIn(outpoint=outpoint_of(large.outpoint)),), outputs=tuple(outputs))
    signed = plain.with_witness(0, [wallet.sign_input(plain, 0, [spent])])
    split = Signed(
        transaction=signed, purpose="split", option_id=display_txid(signed.txid), spends=outpoint_of(large.outpoint),
        fee=fee,
    )  # fmt: skip
    reserve_coin(large, split.option_id)
    put_transaction(session, split, now=now)


def mature_coins(session: Session, *, tip: Height) -> int:
    """Return how many coins of the service can pay for a settlement in the next block."""
    query = select(func.count()).select_from(WalletOutpointRow).where(
        col(WalletOutpointRow.party) == SERVICE, col(WalletOutpointRow.state) == "available",
        col(WalletOutpointRow.mature_height) <= tip + 1, col(WalletOutpointRow.value_sats) >= CHILD_COIN,
    )  # fmt: skip
    return int(session.execute(query).scalar_one())


def pick_coin(session: Session, least: Sats, *, tip: Height) -> WalletOutpointRow | None:
    """Return the smallest coin that is large enough and may be spent in the block after ``tip``."""
    return next(iter(pick_coins(session, least, tip=tip, many=1)), None)


def pick_coins(session: Session, least: Sats, *, tip: Height, many: int) -> list[WalletOutpointRow]:
    """Return up to ``many`` coins that are large enough and may be spent in the block after ``tip``, smallest first."""
    query = select(WalletOutpointRow).where(
        col(WalletOutpointRow.party) == SERVICE, col(WalletOutpointRow.state) == "available",
        col(WalletOutpointRow.mature_height) <= tip + 1, col(WalletOutpointRow.value_sats) >= least,
    )  # fmt: skip
    ordered = query.order_by(col(WalletOutpointRow.value_sats), col(WalletOutpointRow.outpoint))
    return list(session.execute(ordered.limit(many)).scalars())


def reserve_coin(coin: WalletOutpointRow, by: str) -> None:
    """Keep a coin for one transaction."""
    coin.state, coin.reserved_by = "reserved", by


# ---- settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A settlement whose CET is complete, with the child that pays for it."""

    settlement: SettlementRow
    option: OptionRow
    coin: WalletOutpointRow
    cet: CompletedCet
    child: Child
    signed_child: Transaction

    @property
    def txid(self) -> str:
        """The CET's, in display order."""
        return display_txid(self.cet.transaction.txid)

    def transactions(self) -> tuple[Signed, Signed]:
        """Return the two as they are stored."""
        option_id = self.option.id
        return (
            Signed(transaction=self.cet.transaction, purpose="settlement", option_id=option_id,
                   spends=contracts.funding_outpoint(self.option), fee=self.cet.anchor),
            Signed(transaction=self.signed_child, purpose="child", option_id=option_id,
                   spends=self.cet.anchor_outpoint, fee=self.child.fee),
        )  # fmt: skip


def build_settlements(
    session: Session, ids: Sequence[str], wallet: TaprootKey, *, rate: SatsPerKvb, tip: Height, now: UnixSeconds
) -> int:
    """Complete the CETs of attested outcomes, and their fee-paying children: proven -> built. Returns how many.

    One that cannot be built keeps why, and harms no other: too few oracles have attested, no coin is left for its fee,
    an attestation or a signature is wrong.
    """
    query = select(SettlementRow, OptionRow).join(OptionRow, col(OptionRow.id) == col(SettlementRow.option_id))
    waiting = session.execute(query.where(col(SettlementRow.id).in_(ids), col(SettlementRow.state) == "proven")).all()
    executables = contracts.executables_of(session, [option for _, option in waiting])
    coins = iter(pick_coins(session, CHILD_COIN, tip=tip, many=len(waiting)))
    ready = []
    for settlement, option in waiting:
        try:
            executable = executables.get(option.id)
            if executable is None:
                raise NotFoundError("checked contract", option.id)
            cet = complete_cet(
                executable.plan, buyer=executable.buyer, seller=executable.seller, attestations=executable.attestations
            )
            coin = next(coins, None)
            if coin is None:
                raise NoCoinError(CHILD_COIN)
            root = Hash32(bytes.fromhex(settlement.proof_root or ""))
            child, signed = signed_child(cet, coin, wallet, rate=rate, root=root)
        except BtcfiError as e:
            settlement.last_error = str(e)
        else:
            ready.append(
                Ready(settlement=settlement, option=option, coin=coin, cet=cet, child=child, signed_child=signed)
            )
    return _store_built(session, ready, now=now)


def _store_built(session: Session, ready: Sequence[Ready], *, now: UnixSeconds) -> int:
    crossings = [
        Crossing(row=one.settlement, fence=one.settlement.fence, changes={"txid": one.txid, "last_error": None})
        for one in ready
    ]
    moved = {one.row.id for one in cross_all(session, crossings, "built", now=now)}
    ours = [one for one in ready if one.settlement.id in moved]
    known = rows_of(session, [one.txid for one in ours])
    fresh = [one for one in ours if one.txid not in known]
    for one in ours:
        if one.txid in known:  # a party was faster with the same CET
            adopt(session, known[one.txid], one.settlement, fee=one.cet.anchor, now=now)
    query = select(col(TransactionRow.option_id)).where(
        col(TransactionRow.purpose) == "child", col(TransactionRow.option_id).in_([one.option.id for one in fresh])
    )
    paid = set(session.execute(query).scalars())  # by a party, in a block that was reorganised
    built = []
    for one in fresh:
        cet, child = one.transactions()
        built.append(cet)
        if one.option.id not in paid:
            reserve_coin(one.coin, one.option.id)
            built.append(child)
    put_transactions(session, built, now=now)
    return len(ours)


def signed_child(
    cet: CompletedCet,
    coin: WalletOutpointRow,
    wallet: TaprootKey,
    *,
    rate: SatsPerKvb,
    root: Hash32,
    replaces: Child | None = None,
) -> tuple[Child, Transaction]:
    """Return a CET's child, and the same signed by the wallet. Raises as ``build_child``."""
    output = TxOut(value=Sats(coin.value_sats), script=wallet.script)
    child = build_child(
        cet, Coin(outpoint=outpoint_of(coin.outpoint), output=output), change_script=wallet.script, rate=rate,
        proof_root=root, replaces=replaces,
    )  # fmt: skip
    return child, child.transaction.with_witness(1, [wallet.sign_input(child.transaction, 1, child.spent)])


def to_settle(session: Session, *, limit: int = 256) -> list[str]:
    """Return the proven settlements that an attestation completes, oldest first."""
    query = select(col(SettlementRow.id)).where(
        col(SettlementRow.state) == "proven", col(SettlementRow.reason) == "expiry"
    )
    return list(session.execute(query.order_by(col(SettlementRow.updated_at_unix)).limit(limit)).scalars())


# ---- broadcasting and watching


def to_send(session: Session, *, now: UnixSeconds, limit: int = 256) -> list[list[Transaction]]:
    """Return what must be sent, oldest first: new ones, and those that no block holds for a while. Again is harmless.

    A CET pays no fee of its own, so it goes together with its child; everything else goes alone.
    """
    fresh = (col(TransactionRow.state) == "built") | (
        (col(TransactionRow.state) == "broadcast") & (col(TransactionRow.updated_at_unix) <= now - RESEND_SECONDS)
    )
    query = select(TransactionRow).where(fresh, col(TransactionRow.purpose) != "outside")
    rows = session.execute(query.order_by(col(TransactionRow.created_at_unix)).limit(limit)).scalars().all()
    cets = {row.option_id: row for row in rows if row.purpose == "settlement"}
    children = {row.option_id: row for row in rows if row.purpose == "child"}
    packages = []
    for row in rows:
        if row.purpose == "child" and row.option_id in cets:
            continue  # it goes with its parent
        child = children.get(row.option_id) if row.purpose == "settlement" else None
        packages.append([parse_transaction(bytes.fromhex(r.raw_hex)) for r in (row, child) if r is not None])
    return packages


def mark_sent(session: Session, txids: Iterable[Txid], *, now: UnixSeconds) -> None:
    """Record that the node has taken transactions."""
    rows = rows_of(session, map(display_txid, txids)).values()
    for row in rows:
        if row.state == "broadcast":
            row.updated_at_unix = now
    fresh = cross_all(session, [Crossing(row=row) for row in rows if row.state == "built"], "broadcast", now=now)
    sent = [one.row.option_id for one in fresh if one.row.purpose == "settlement"]
    query = select(SettlementRow).where(col(SettlementRow.option_id).in_(sent), col(SettlementRow.state) == "built")
    crossings = [
        Crossing(row=row, fence=row.fence, changes={"broadcast_at_unix": now})
        for row in (session.execute(query).scalars() if sent else ())
    ]
    cross_all(session, crossings, "broadcast", now=now)


def mark_refused(session: Session, reasons: Mapping[Txid, str], *, now: UnixSeconds) -> None:
    """Keep why the node refused transactions; they are sent again at the next watch."""
    rows = rows_of(session, map(display_txid, reasons))
    for txid, reason in reasons.items():
        row = rows[display_txid(txid)]
        row.last_error, row.updated_at_unix = reason, now


def rows_of(session: Session, txids: Iterable[str]) -> dict[str, TransactionRow]:
    """Return those of the transactions that are stored, by txid in display order."""
    wanted = list(txids)
    query = select(TransactionRow).where(col(TransactionRow.txid).in_(wanted))
    return {row.txid: row for row in session.execute(query).scalars()} if wanted else {}


def walked_to(session: Session) -> BlockRow | None:
    """Return the newest block that was walked."""
    return session.execute(select(BlockRow).order_by(col(BlockRow.height).desc()).limit(1)).scalar_one_or_none()


def unwind(session: Session, height: int, *, now: UnixSeconds) -> None:
    """Take back one walked block that the chain has dropped, with everything that it confirmed."""
    session.execute(delete(BlockRow).where(col(BlockRow.height) == height))
    # a coin that pays for something stays kept for it: our own transactions are mined again
    unused = (col(WalletOutpointRow.height) == height) & (col(WalletOutpointRow.state) == "available")
    session.execute(delete(WalletOutpointRow).where(unused))
    for row in session.execute(select(TransactionRow).where(col(TransactionRow.height) == height)).scalars():
        if row.purpose == "outside":
            session.delete(row)  # whether it comes again is the next walk's to see
        elif row.state in {"confirmed", "final"}:
            _undo(session, row, now)
            cross(
                session, row, "broadcast", now=now, changes={"height": None, "block_hash": None}, detail="reorganised"
            )
        elif row.state == "conflicted":  # its rival is gone: it may confirm after all
            cross(session, row, "broadcast", now=now, changes={"height": None}, detail="its rival was reorganised")


def _undo(session: Session, row: TransactionRow, now: UnixSeconds) -> None:
    if row.state != "final" or row.purpose not in {"funding", "settlement"}:
        return
    option = session.get_one(OptionRow, row.option_id)
    if row.purpose == "funding" and option.state == "ACTIVE":
        cross(session, option, "CREATED", now=now, detail="funding reorganised")
    if row.purpose == "settlement":
        settlement = settlement_of(session, row.option_id)
        cross(session, settlement, "broadcast", now=now, fence=settlement.fence, detail="reorganised")
        cross(session, option, "EXPIRED", now=now, detail="settlement reorganised")


def walk(session: Session, block: Block, height: Height, script: bytes, *, now: UnixSeconds) -> None:
    """Take one block in: our confirmations, the wallet's new and spent outputs, and spends that are not ours.

    script: the service's wallet.
    """
    ours = {row.txid: row for row in _waiting(session)}
    watched = defaultdict(list)
    for waiting in ours.values():
        watched[waiting.spends].append(waiting)
    found = {"height": height, "block_hash": block.header.hash.hex()}
    fundings = _unknown_fundings(session, [display_txid(one.txid) for one in block.transactions])
    collaterals = _live_collaterals(session, block)
    mined = []
    for transaction in block.transactions:
        txid = display_txid(transaction.txid)
        row: TransactionRow | None = ours.get(txid)
        if row is None and txid in fundings:  # the buyer's broadcast was faster than its message
            seen = Signed(
                transaction=transaction, purpose="funding", option_id=fundings[txid],
                spends=transaction.inputs[0].outpoint, fee=Sats(0),
            )  # fmt: skip
            row = put_transaction(session, seen, now=now)
        for rival in [one for txin in transaction.inputs for one in watched[str(txin.outpoint)] if one.txid != txid]:
            if row is not None:
                _outdone(session, rival, txid, now)
            else:
                _conflict(session, rival, txid, height, now)
        if row is None:
            _take_outside(session, transaction, collaterals, found, now)
            _take_child(session, transaction, found, now)
            continue
        mined.append(row)
        if row.purpose.startswith(REPLACED_CHILD):
            row.purpose = "child"  # a block took the version that we had replaced
    mark_sent(session, [parse_txid(row.txid) for row in mined], now=now)
    cross_all(session, [Crossing(row=row, changes=found) for row in mined], "confirmed", now=now)
    _take_outputs(session, block, script, height)
    session.add(BlockRow(height=height, hash=block.header.hash.hex()))


def _waiting(session: Session) -> list[TransactionRow]:
    """Return what a block may confirm: what was sent, and the versions that it replaced."""
    unmined = col(TransactionRow.state).in_(("built", "broadcast"))
    replaced = (col(TransactionRow.state) == "replaced") & col(TransactionRow.spends).in_(
        select(col(TransactionRow.spends)).where(unmined)
    )
    return list(session.execute(select(TransactionRow).where(unmined | replaced)).scalars())


def _unknown_fundings(session: Session, txids: list[str]) -> dict[str, str]:
    query = select(col(OptionRow.funding_txid), col(OptionRow.id)).where(
        col(OptionRow.funding_txid).in_(txids), col(OptionRow.state) == "CREATED",
        ~select(TransactionRow).where(col(TransactionRow.txid) == OptionRow.funding_txid).exists(),
    )  # fmt: skip
    return {str(txid): option_id for txid, option_id in session.execute(query)}


def _conflict(session: Session, row: TransactionRow, txid: str, height: Height, now: UnixSeconds) -> None:
    """Somebody else has spent what we wanted to. The height says which block must go for that to change."""
    if row.state == "replaced":
        return
    kept = None if row.purpose == "child" else height
    cross(session, row, "conflicted", now=now, changes={"height": kept}, detail=f"spent by {txid}")
    if row.purpose == "child":  # somebody else paid the CET's fee: our coin is free again
        rename_child(session, row, txid)


def _outdone(session: Session, row: TransactionRow, txid: str, now: UnixSeconds) -> None:
    """Another version of the same transaction of ours was mined."""
    if row.state == "replaced":
        return
    cross(session, row, "replaced", now=now, detail=f"{txid} was mined instead")
    if row.purpose == "child":
        rename_child(session, row, txid)


def rename_child(session: Session, row: TransactionRow, txid: str) -> None:
    """Make room for the child that takes a child's place, and free the coin that was kept for it."""
    row.purpose = REPLACED_CHILD + txid
    freed = update(WalletOutpointRow).where(
        col(WalletOutpointRow.reserved_by) == row.option_id, col(WalletOutpointRow.state) == "reserved"
    )
    session.execute(freed.values(state="available", reserved_by=None))
    session.expire_all()


def _live_collaterals(session: Session, block: Block) -> dict[str, OptionRow]:
    """Return, by funding txid, the options whose collateral a block may spend."""
    inputs = [txin.outpoint for one in block.transactions for txin in one.inputs]
    txids = {display_txid(outpoint.txid) for outpoint in inputs if outpoint.index == FUNDING_OUTPUT}
    query = select(OptionRow).where(col(OptionRow.funding_txid).in_(txids), col(OptionRow.state).in_(_LIVE))
    return {str(option.funding_txid): option for option in session.execute(query).scalars()}


def _take_outside(
    session: Session, transaction: Transaction, collaterals: Mapping[str, OptionRow], found: dict[str, object],
    now: UnixSeconds,
) -> None:  # fmt: skip
    """Keep a spend of an option's collateral that is not ours: a refund, a close between the parties, their own CET."""
    spent = [txin.outpoint for txin in transaction.inputs if txin.outpoint.index == FUNDING_OUTPUT]
    for option in [collaterals[name] for o in spent if (name := display_txid(o.txid)) in collaterals]:
        count(session, "outside_spends")
        option.last_error = f"the collateral was spent outside the service, by {display_txid(transaction.txid)}"
        spend = Signed(
            transaction=transaction, purpose="outside", option_id=option.id,
            spends=contracts.funding_outpoint(option), fee=Sats(0),
        )  # fmt: skip
        row = put_transaction(session, spend, now=now)
        cross(session, row, "confirmed", now=now, changes=found)


def _take_child(session: Session, transaction: Transaction, found: dict[str, object], now: UnixSeconds) -> None:
    """Keep a party's child of a CET: it carries the proof root where ours would."""
    if transaction.version != TRUC_VERSION:
        return
    cet = session.get(TransactionRow, display_txid(transaction.inputs[0].outpoint.txid))
    if cet is not None and cet.purpose in {"outside", "settlement"}:
        theirs = Signed(
            transaction=transaction, purpose="child", option_id=cet.option_id, spends=transaction.inputs[0].outpoint,
            fee=Sats(0),
        )  # fmt: skip
        row = put_transaction(session, theirs, now=now)
        cross(session, row, "confirmed", now=now, changes=found)


def _take_outputs(session: Session, block: Block, script: bytes, height: Height) -> None:
    """Take the outputs that a block gives to the service's wallet, then those that it spends, also of its own."""
    paid = [
        {"outpoint": str(one.outpoint(index)), "party": SERVICE, "value_sats": output.value, "state": "available",
         "height": height, "mature_height": height + (COINBASE_MATURITY if place == 0 else 1)}
        for place, one in enumerate(block.transactions)
        for index, output in enumerate(one.outputs) if output.script == script
    ]  # fmt: skip
    if paid:
        session.execute(upsert(session, WalletOutpointRow).on_conflict_do_nothing(index_elements=["outpoint"]), paid)
    spent = [str(txin.outpoint) for one in block.transactions for txin in one.inputs]
    session.execute(update(WalletOutpointRow).where(col(WalletOutpointRow.outpoint).in_(spent)).values(state="spent"))


def finalize(session: Session, *, tip: Height, confirmations: int, now: UnixSeconds) -> int:
    """Make final what is deep enough, and move options with it; return how many became final."""
    query = select(TransactionRow).where(
        col(TransactionRow.state) == "confirmed", col(TransactionRow.height) <= tip - confirmations + 1
    )
    deep = [Crossing(row=row) for row in session.execute(query).scalars()]
    rows = [one.row for one in cross_all(session, deep, "final", now=now)]
    _funded(session, [row.option_id for row in rows if row.purpose == "funding"], now)
    settled(session, [row.option_id for row in rows if row.purpose == "settlement"], now)
    for row in rows:
        if row.purpose == "outside":
            _ended_outside(session, row, now)
    return len(rows)


def _funded(session: Session, option_ids: Sequence[str], now: UnixSeconds) -> None:
    query = select(OptionRow).where(col(OptionRow.id).in_(option_ids), col(OptionRow.state) == "CREATED")
    crossings = [Crossing(row=row, detail="its funding is final") for row in session.execute(query).scalars()]
    cross_all(session, crossings, "ACTIVE", now=now)


def _ended_outside(session: Session, row: TransactionRow, now: UnixSeconds) -> None:
    """End an option whose collateral the parties have paid out without us, by a refund or a close of their own."""
    if parse_transaction(bytes.fromhex(row.raw_hex)).version == TRUC_VERSION:
        return  # their CET is ours: it is matched when the settlement is built
    option = session.get_one(OptionRow, row.option_id)
    settlement = find_settlement(session, option.id)
    if settlement is not None and contracts.close_seen(session, option, settlement, row, now=now):
        return
    detail = f"ended outside the service by {row.txid}"
    if option.state == "ACTIVE":
        cross(session, option, "EXPIRED", now=now, detail=detail)
    if option.state == "EXPIRED":
        cross(session, option, "ABANDONED", now=now, detail=detail)
        if settlement is not None and settlement.state in {"due", "claimed", "executed", "proven", "built"}:
            cross(session, settlement, "parked", now=now, fence=settlement.fence, detail=detail,
                  changes={"last_error": detail})  # fmt: skip


def transaction_of(session: Session, option_id: str, purpose: str) -> TransactionRow | None:
    """Return an option's funding, settlement or child transaction."""
    query = select(TransactionRow).where(
        col(TransactionRow.option_id) == option_id, col(TransactionRow.purpose) == purpose
    )
    return session.execute(query).scalar_one_or_none()


def outpoint_of(name: str) -> OutPoint:
    """Return the outpoint of its text, ``txid:vout`` in display order."""
    txid, index = name.split(":")
    return OutPoint(txid=parse_txid(txid), index=int(index))
