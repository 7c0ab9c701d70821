"""The chain as the store knows it: wallet outpoints, our transactions, and the walk along the blocks.

A transaction is stored with its raw bytes before it is sent; outpoints are watched, not txids; a reorganisation is
unwound block by block.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlmodel import Session, col

from btcfi.adapters.node import Block
from btcfi.adapters.store.edges import cross, record, upsert
from btcfi.adapters.store.options import terms_of
from btcfi.adapters.store.tables import BlockRow, OptionRow, SettlementRow, TransactionRow, WalletOutpointRow
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxOut, parse_transaction
from btcfi.bitcoin.wallet import COINBASE_MATURITY, Coin
from btcfi.contracts import option as contract_of
from btcfi.contracts.metadata import OptionMetadata
from btcfi.contracts.option import Contribution, OptionContract
from btcfi.units import Hash32, Height, Sats, Txid, UnixSeconds, display_txid, parse_txid

BLOCKS_PER_MINUTE_DIVISOR = 10
"""A block every ten minutes, on average: how an expiry time becomes an expiry height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """The two parties whose keys this chain worker holds (spine: both; docs/contract.md has them apart)."""

    buyer: TaprootKey
    seller: TaprootKey

    def scripts(self) -> dict[bytes, str]:
        """Return party by output script."""
        return {self.buyer.script: "buyer", self.seller.script: "seller"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingRule:
    """What a preset says about the contract."""

    refund_delay_blocks: int
    rate: SatsPerKvb


# ---- funding


def unfunded(session: Session, *, limit: int = 256) -> list[OptionRow]:
    """Return the options that have no funding transaction yet."""
    query = select(OptionRow).where(col(OptionRow.state) == "CREATED", col(OptionRow.funding_txid).is_(None))
    return list(session.execute(query.order_by(col(OptionRow.id)).limit(limit)).scalars())


def build_funding(
    session: Session, option: OptionRow, parties: Parties, rule: FundingRule, *, tip: Height, now: UnixSeconds
) -> bool:
    """Build, sign and store an option's funding; False when the wallet has no mature coins for it yet."""
    seller_coins = _coins(session, "seller", parties.seller, amount=option.collateral_sats, tip=tip)
    buyer_coins = _coins(session, "buyer", parties.buyer, amount=option.premium_sats, tip=tip)
    if not seller_coins or not buyer_coins:
        return False
    blocks = max(0, (option.expiry_unix - option.listed_slot) // 60) // BLOCKS_PER_MINUTE_DIVISOR
    # an American option may be settled at once
    expiry_height = Height(tip if option.american else tip + blocks)
    contract = OptionContract(
        buyer_key=parties.buyer.internal_key, seller_key=parties.seller.internal_key,
        buyer_script=parties.buyer.script, seller_script=parties.seller.script,
        collateral=Sats(option.collateral_sats), expiry_height=expiry_height,
        refund_height=Height(tip + blocks + rule.refund_delay_blocks),
    )  # fmt: skip
    terms = terms_of(option)
    funding = contract_of.build_funding(
        contract, premium=Sats(option.premium_sats),
        seller=Contribution(coins=seller_coins, change_script=parties.seller.script),
        buyer=Contribution(coins=buyer_coins, change_script=parties.buyer.script), rate=rule.rate,
        metadata=OptionMetadata(
            option_type=int(terms.kind), strike=terms.strike, expiry_height=expiry_height,
            oracle_commitment=Hash32(bytes.fromhex(option.preset_sha256)),
        ),
    )  # fmt: skip
    keys = {parties.buyer.script: parties.buyer, parties.seller.script: parties.seller}
    signed = contract_of.complete_funding(funding, contract_of.sign_funding(funding, keys))
    _reserve(session, [coin.outpoint for coin in seller_coins + buyer_coins], option.id)
    _store(session, signed, purpose="funding", option_id=option.id, spends=seller_coins[0].outpoint, fee=funding.fee,
           now=now)  # fmt: skip
    option.funding_txid = display_txid(signed.txid)
    option.address = encode_address(contract.funding_txout().script)
    option.expiry_height, option.refund_height = contract.expiry_height, contract.refund_height
    option.contract = json.dumps({
        "buyer_key": contract.buyer_key.hex(), "seller_key": contract.seller_key.hex(),
        "buyer_script": contract.buyer_script.hex(), "seller_script": contract.seller_script.hex(),
    })  # fmt: skip
    return True


def contract_from(option: OptionRow) -> OptionContract:
    """Return the contract of a funded option."""
    kept = {name: bytes.fromhex(text) for name, text in json.loads(option.contract or "{}").items()}
    return OptionContract(
        buyer_key=kept["buyer_key"],
        seller_key=kept["seller_key"],
        buyer_script=kept["buyer_script"],
        seller_script=kept["seller_script"],
        collateral=Sats(option.collateral_sats),
        expiry_height=Height(option.expiry_height or 0),
        refund_height=Height(option.refund_height or 0),
    )


def _coins(session: Session, party: str, key: TaprootKey, *, amount: int, tip: Height) -> tuple[Coin, ...]:
    """Pick mature coins, smallest sufficient first, else largest first until they suffice."""
    margin = 100_000  # covers any fee that the contract's rate can ask
    query = select(WalletOutpointRow).where(
        col(WalletOutpointRow.party) == party, col(WalletOutpointRow.state) == "available",
        col(WalletOutpointRow.mature_height) <= tip + 1,
    )  # fmt: skip
    single = session.execute(
        query.where(col(WalletOutpointRow.value_sats) >= amount + margin)
        .order_by(col(WalletOutpointRow.value_sats), col(WalletOutpointRow.outpoint))
        .limit(1)
    ).scalar_one_or_none()
    rows = [single] if single else []
    if not rows:
        total = 0
        for row in session.execute(query.order_by(col(WalletOutpointRow.value_sats).desc()).limit(100)).scalars():
            rows.append(row)
            total += row.value_sats
            if total >= amount + margin:
                break
        if total < amount + margin:
            return ()
    return tuple(
        Coin(outpoint=_outpoint(r.outpoint), output=TxOut(value=Sats(r.value_sats), script=key.script)) for r in rows
    )


def _reserve(session: Session, outpoints: list[OutPoint], option_id: str) -> None:
    names = [_name(o) for o in outpoints]
    statement = update(WalletOutpointRow).where(col(WalletOutpointRow.outpoint).in_(names))
    session.execute(statement.values(state="reserved", reserved_by=option_id))
    session.expire_all()


# ---- settlement


def build_settlement(
    session: Session, settlement: SettlementRow, parties: Parties, rule: FundingRule, *, now: UnixSeconds
) -> bool:
    """Build, co-sign and store the settlement of a proven option: proven -> built."""
    option = session.get_one(OptionRow, settlement.option_id)
    contract = contract_from(option)
    funding = OutPoint(txid=parse_txid(option.funding_txid or ""), index=contract_of.FUNDING_OUTPUT)
    built = contract_of.build_settlement(
        contract, funding, payout=Sats(settlement.payout_sats or 0),
        proof_root=Hash32(bytes.fromhex(settlement.proof_root or "")), rate=rule.rate,
    )  # fmt: skip
    signed = contract_of.complete_settlement(
        built, seller=contract_of.sign_settlement(built, parties.seller.secret),
        buyer=contract_of.sign_settlement(built, parties.buyer.secret),
    )  # fmt: skip
    if not cross(session, settlement, "built", now=now, fence=settlement.fence,
                 changes={"txid": display_txid(signed.txid)}):  # fmt: skip
        return False
    _store(session, signed, purpose="settlement", option_id=option.id, spends=funding, fee=built.fee, now=now)
    return True


def in_state(session: Session, state: str, *, limit: int = 512) -> list[SettlementRow]:
    """Return settlements in ``state``, oldest first."""
    query = select(SettlementRow).where(col(SettlementRow.state) == state)
    return list(session.execute(query.order_by(col(SettlementRow.updated_at_unix)).limit(limit)).scalars())


def _store(
    session: Session,
    signed: Transaction,
    *,
    purpose: str,
    option_id: str,
    spends: OutPoint,
    fee: Sats,
    now: UnixSeconds,
) -> None:
    row = TransactionRow(
        txid=display_txid(signed.txid), purpose=purpose, option_id=option_id, raw_hex=signed.to_bytes().hex(),
        spends=_name(spends), fee_sats=fee, created_at_unix=now, updated_at_unix=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "chain_transaction", row.txid, "built", now=now, detail=purpose)


# ---- broadcasting and watching


def to_send(session: Session, *, limit: int = 512) -> list[Transaction]:
    """Return what must be sent: stored and not in a block yet, oldest first. Sending again is harmless."""
    query = select(TransactionRow).where(col(TransactionRow.state).in_(("built", "broadcast")))
    rows = session.execute(query.order_by(col(TransactionRow.created_at_unix)).limit(limit)).scalars()
    return [parse_transaction(bytes.fromhex(r.raw_hex)) for r in rows]


def mark_sent(session: Session, txid: Txid, *, now: UnixSeconds) -> None:
    """Record that the node has taken a transaction."""
    row = session.get_one(TransactionRow, display_txid(txid))
    if row.state != "built" or not cross(session, row, "broadcast", now=now):
        return
    if row.purpose == "settlement":
        settlement = _settlement(session, row.option_id)
        if settlement.state == "built":
            cross(session, settlement, "broadcast", now=now, fence=settlement.fence, changes={"broadcast_at_unix": now})


def mark_refused(session: Session, txid: Txid, reason: str, *, now: UnixSeconds) -> None:
    """Keep why the node refused a transaction; it is sent again at the next watch."""
    row = session.get_one(TransactionRow, display_txid(txid))
    row.last_error, row.updated_at_unix = reason, now


def walked_to(session: Session) -> BlockRow | None:
    """Return the newest block that was walked."""
    return session.execute(select(BlockRow).order_by(col(BlockRow.height).desc()).limit(1)).scalar_one_or_none()


def unwind(session: Session, height: int, *, now: UnixSeconds) -> None:
    """Take back one walked block that the chain has dropped, with everything that it confirmed."""
    session.execute(delete(BlockRow).where(col(BlockRow.height) == height))
    for row in session.execute(select(TransactionRow).where(col(TransactionRow.height) == height)).scalars():
        if row.state in {"confirmed", "final"}:
            _undo(session, row, now)
            cross(
                session, row, "broadcast", now=now, changes={"height": None, "block_hash": None}, detail="reorganised"
            )


def _undo(session: Session, row: TransactionRow, now: UnixSeconds) -> None:
    if row.state != "final":
        return
    option = session.get_one(OptionRow, row.option_id)
    if row.purpose == "funding" and option.state == "ACTIVE":
        cross(session, option, "CREATED", now=now, detail="funding reorganised")
    if row.purpose == "settlement":
        settlement = _settlement(session, row.option_id)
        cross(session, settlement, "broadcast", now=now, fence=settlement.fence, detail="reorganised")
        cross(session, option, "EXPIRED", now=now, detail="settlement reorganised")


def walk(session: Session, block: Block, height: Height, scripts: dict[bytes, str], *, now: UnixSeconds) -> None:
    """Take one block in: our confirmations, our new outputs, our spent ones, and spends that are not ours."""
    ours = {
        row.txid: row
        for row in session.execute(
            select(TransactionRow).where(col(TransactionRow.state).in_(("built", "broadcast")))
        ).scalars()
    }
    watched = {row.spends: row for row in ours.values()}
    for place, transaction in enumerate(block.transactions):
        txid = display_txid(transaction.txid)
        if (row := ours.get(txid)) is not None:
            mark_sent(session, transaction.txid, now=now)
            cross(session, row, "confirmed", now=now, changes={"height": height, "block_hash": block.header.hash.hex()})
        spent = [_name(i.outpoint) for i in transaction.inputs]
        for name in spent:
            if name in watched and watched[name].txid != txid:
                cross(session, watched[name], "conflicted", now=now, detail=f"spent by {txid}")
        session.execute(
            update(WalletOutpointRow).where(col(WalletOutpointRow.outpoint).in_(spent)).values(state="spent")
        )
        _take_outputs(session, transaction, scripts, mature=height + (COINBASE_MATURITY if place == 0 else 1))
    session.add(BlockRow(height=height, hash=block.header.hash.hex()))


def _take_outputs(session: Session, transaction: Transaction, scripts: dict[bytes, str], *, mature: int) -> None:
    for index, output in enumerate(transaction.outputs):
        if output.script in scripts:
            statement = upsert(session, WalletOutpointRow).values(
                outpoint=_name(transaction.outpoint(index)), party=scripts[output.script], value_sats=output.value,
                mature_height=mature, state="available",
            )  # fmt: skip
            session.execute(statement.on_conflict_do_nothing(index_elements=["outpoint"]))


def finalize(session: Session, *, tip: Height, confirmations: int, now: UnixSeconds) -> int:
    """Make final what is deep enough, and move options with it; return how many became final."""
    query = select(TransactionRow).where(
        col(TransactionRow.state) == "confirmed", col(TransactionRow.height) <= tip - confirmations + 1
    )
    done = 0
    for row in session.execute(query).scalars():
        if not cross(session, row, "final", now=now):
            continue
        done += 1
        option = session.get_one(OptionRow, row.option_id)
        if row.purpose == "funding" and option.state == "CREATED":
            cross(session, option, "ACTIVE", now=now, detail=f"funding has {confirmations} confirmations")
        elif row.purpose == "settlement":
            settlement = _settlement(session, row.option_id)
            if settlement.state == "broadcast":
                cross(session, settlement, "confirmed", now=now, fence=settlement.fence)
            if option.state == "EXPIRED":
                cross(session, option, "EXERCISED" if settlement.payout_sats else "ABANDONED", now=now)
    return done


def transaction_of(session: Session, option_id: str, purpose: str) -> TransactionRow | None:
    """Return an option's funding or settlement transaction."""
    query = select(TransactionRow).where(
        col(TransactionRow.option_id) == option_id, col(TransactionRow.purpose) == purpose
    )
    return session.execute(query).scalar_one_or_none()


def mature_coins(session: Session, party: str, *, tip: Height) -> int:
    """Return how many coins of a party can be spent in the next block."""
    query = select(func.count()).select_from(WalletOutpointRow).where(
        col(WalletOutpointRow.party) == party, col(WalletOutpointRow.state) == "available",
        col(WalletOutpointRow.mature_height) <= tip + 1,
    )  # fmt: skip
    return int(session.execute(query).scalar_one())


def _settlement(session: Session, option_id: str) -> SettlementRow:
    query = select(SettlementRow).where(col(SettlementRow.option_id) == option_id)
    row: SettlementRow = session.execute(query).scalar_one()
    return row


def _name(outpoint: OutPoint) -> str:
    return f"{display_txid(outpoint.txid)}:{outpoint.index}"


def _outpoint(name: str) -> OutPoint:
    txid, index = name.split(":")
    return OutPoint(txid=parse_txid(txid), index=int(index))
