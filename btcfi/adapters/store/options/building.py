"""Settlements become transactions: an attested outcome's CET, and the child that pays for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.sending import rows_of
from btcfi.adapters.store.chain.tables import TransactionRow, WalletOutpointRow
from btcfi.adapters.store.chain.transactions import Signed, put_transactions
from btcfi.adapters.store.chain.wallet import CHILD_COIN, NoCoinError, outpoint_of, pick_coins, reserve_coin
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.purposes import CHILD, SETTLEMENT
from btcfi.adapters.store.options.settled import adopt
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow, SettlementState
from btcfi.adapters.store.spine.edges import Crossing, cross_all
from btcfi.bitcoin.fees import (
    SatsPerKvb,
)
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import Transaction, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.settle import Child, CompletedCet, build_child, complete_cet
from btcfi.errors import BtcfiError, NotFoundError
from btcfi.units import Hash32, Height, Sats, UnixSeconds, display_txid


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
            Signed(transaction=self.cet.transaction, purpose=SETTLEMENT, subject=option_id,
                   spends=contracts.funding_outpoint(self.option), fee=Sats(self.cet.anchor + self.cet.fee)),
            Signed(transaction=self.signed_child, purpose=CHILD, subject=option_id,
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
    proven = col(SettlementRow.state) == SettlementState.PROVEN
    waiting = session.execute(query.where(col(SettlementRow.id).in_(ids), proven)).all()
    executables = contracts.executables_of(session, [option for _, option in waiting], damaged_apart=True)
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
            settlement.last_error, settlement.updated_at_unix = str(e), now  # others are looked at before it is again
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
    moved = {one.row.id for one in cross_all(session, crossings, SettlementState.BUILT, now=now)}
    ours = [one for one in ready if one.settlement.id in moved]
    known = rows_of(session, [one.txid for one in ours])
    fresh = [one for one in ours if one.txid not in known]
    for one in ours:
        if one.txid in known:  # a party was faster with the same CET
            adopt(session, known[one.txid], one.settlement, fee=Sats(one.cet.anchor + one.cet.fee), now=now)
    query = select(col(TransactionRow.subject)).where(
        col(TransactionRow.purpose) == CHILD, col(TransactionRow.subject).in_([one.option.id for one in fresh]),
        col(TransactionRow.replaced_by).is_(None),
    )  # fmt: skip
    paid = set(session.execute(query).scalars())  # by a party, in a block that was reorganised
    built = []
    for one in fresh:
        cet, child = one.transactions()
        built.append(cet)
        if one.option.id not in paid:
            reserve_coin(one.coin, child.txid)
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
    """Return the proven settlements that an attestation completes, longest untouched first."""
    query = select(col(SettlementRow.id)).where(
        col(SettlementRow.state) == SettlementState.PROVEN, col(SettlementRow.reason) == "expiry"
    )
    return list(session.execute(query.order_by(col(SettlementRow.updated_at_unix)).limit(limit)).scalars())
