"""What a block means for options: funded, settled, spent outside, ended. The options' part in the walk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.chain.node import Block
from btcfi.adapters.store.chain.handlers import BlockView, Purpose
from btcfi.adapters.store.chain.sending import rows_of
from btcfi.adapters.store.chain.tables import UNMINED, TransactionRow, TransactionState
from btcfi.adapters.store.chain.transactions import Signed
from btcfi.adapters.store.chain.walk import give_way
from btcfi.adapters.store.options import batches, contracts
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState
from btcfi.adapters.store.options.purposes import BATCH, CHILD, FUNDING, OF_OPTIONS, OUTSIDE, SETTLEMENT
from btcfi.adapters.store.options.settled import count_settled, find_settlement, settled, settlement_of
from btcfi.adapters.store.options.tables import (
    FUNDABLE_OPTIONS,
    OPEN_OPTIONS,
    UNEXPIRED_OPTIONS,
    UNSENT_SETTLEMENTS,
    OptionRow,
    OptionState,
    SettlementRow,
    SettlementState,
)
from btcfi.adapters.store.spine.edges import Crossing, count, cross, cross_all
from btcfi.bitcoin.transaction import TRUC_VERSION, Transaction, parse_transaction
from btcfi.contracts.execution import ANCHOR
from btcfi.contracts.option import FUNDING_OUTPUT
from btcfi.units import Sats, UnixSeconds, display_txid


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionsView:
    """One block, as options see it."""

    fundings: Mapping[str, str]
    """Option by txid: fundings of options that still wait for one, and whose transaction we have not stored."""
    collaterals: Mapping[str, OptionRow]
    """By funding txid: the options whose collateral the block may spend."""
    transactions: Mapping[str, Transaction]
    """Of the block, those that ``fundings`` names."""

    def known(self, txid: str) -> Signed | None:
        """Return a funding whose buyer's broadcast was faster than its message."""
        if txid not in self.fundings:
            return None
        funding = self.transactions[txid]
        return Signed(
            transaction=funding, purpose=FUNDING, subject=self.fundings[txid], spends=funding.inputs[0].outpoint,
            fee=Sats(0),
        )  # fmt: skip

    def foreign(self, session: Session, transaction: Transaction) -> Signed | None:
        """Return a transaction as the spend of an option's collateral, or as a party's child of a CET."""
        return self._outside(session, transaction) or _party_child(session, transaction)

    def _outside(self, session: Session, transaction: Transaction) -> Signed | None:
        spent = [self.collaterals[name] for name in _spent_fundings(transaction) if name in self.collaterals]
        for option in spent:  # a seller may take several refunds by one transaction
            count(session, "outside_spends")
            option.last_error = f"the collateral was spent outside the service, by {display_txid(transaction.txid)}"
        if not spent:
            return None
        return Signed(
            transaction=transaction, purpose=OUTSIDE, subject=spent[0].id, spends=contracts.funding_outpoint(spent[0]),
            fee=Sats(0),
        )  # fmt: skip


def _spent_fundings(transaction: Transaction) -> list[str]:
    """Return the txids, in display order, of the fundings whose collateral a transaction may spend."""
    outpoints = [txin.outpoint for txin in transaction.inputs]
    return [display_txid(one.txid) for one in outpoints if one.index == FUNDING_OUTPUT]


def _party_child(session: Session, transaction: Transaction) -> Signed | None:
    """Return a party's child of a CET: it spends what ours would. Who spends a payout is no child of it."""
    if transaction.version != TRUC_VERSION:
        return None
    cets = rows_of(session, {display_txid(txin.outpoint.txid) for txin in transaction.inputs})
    for outpoint in [txin.outpoint for txin in transaction.inputs]:
        cet = cets.get(display_txid(outpoint.txid))
        if cet is None or cet.purpose not in {OUTSIDE, SETTLEMENT}:
            continue
        outputs = parse_transaction(bytes.fromhex(cet.raw_hex)).outputs
        if outpoint.index == len(outputs) - 1 and outputs[-1] == ANCHOR:
            return Signed(transaction=transaction, purpose=CHILD, subject=cet.subject, spends=outpoint, fee=Sats(0))
    return None


class OptionsOnChain:
    """The options' part in the walk (``ChainHandler``)."""

    purposes: tuple[Purpose, ...] = OF_OPTIONS

    def view(self, session: Session, block: Block) -> BlockView:
        """Ask once a block which fundings it holds and which collaterals it may spend."""
        by_txid = {display_txid(one.txid): one for one in block.transactions}
        fundings = _unknown_fundings(session, list(by_txid))
        return OptionsView(
            fundings=fundings, collaterals=_live_collaterals(session, block),
            transactions={txid: by_txid[txid] for txid in fundings},
        )  # fmt: skip

    def sent(self, session: Session, rows: Sequence[TransactionRow], now: UnixSeconds) -> None:
        """Settlements whose transaction the node has taken: built -> broadcast."""
        batched = batches.ends_of(session, [row.txid for row in rows if row.purpose == BATCH])
        sent = [*_subjects(rows, SETTLEMENT), *(one.option_id for one in batched)]
        query = select(SettlementRow).where(
            col(SettlementRow.option_id).in_(sent), col(SettlementRow.state) == SettlementState.BUILT
        )
        crossings = [
            Crossing(row=row, fence=row.fence, changes={"broadcast_at_unix": now})
            for row in (session.execute(query).scalars() if sent else ())
        ]
        cross_all(session, crossings, SettlementState.BROADCAST, now=now)

    def final(self, session: Session, rows: Sequence[TransactionRow], now: UnixSeconds) -> None:
        """Options are active once their funding is final, and settled once their settlement is."""
        funded(session, _subjects(rows, FUNDING), now)
        batched = batches.settle_mined(session, [row.txid for row in rows if row.purpose == BATCH], now=now)
        settled(session, [*_subjects(rows, SETTLEMENT), *batched], now)
        for row in rows:
            if row.purpose in {OUTSIDE, BATCH}:
                give_up_settlements(session, row, now)
            if row.purpose == OUTSIDE:
                _ended_outside(session, row, now)

    def undone(self, session: Session, row: TransactionRow, now: UnixSeconds) -> None:
        """Take back what a final funding or settlement had moved."""
        if row.state != TransactionState.FINAL or row.purpose not in {FUNDING, SETTLEMENT, BATCH}:
            return
        if row.purpose == BATCH:
            for option_id in batches.unsettle(session, row.txid, now=now):
                _unsettled(session, session.get_one(OptionRow, option_id), now)
            return
        option = session.get_one(OptionRow, row.subject)
        if row.purpose == FUNDING and option.state == OptionState.ACTIVE:
            cross(session, option, OptionState.CREATED, now=now, detail="funding reorganised")
        if row.purpose == SETTLEMENT:
            _unsettled(session, option, now)

    def coins_needed(self, session: Session) -> int:
        """Return how many options the expiry minute has that most of them wait for."""
        return busiest_minute(session)


OPTIONS_ON_CHAIN: Final = OptionsOnChain()


def _unsettled(session: Session, option: OptionRow, now: UnixSeconds) -> None:
    settlement = settlement_of(session, option.id)
    if cross(session, settlement, SettlementState.BROADCAST, now=now, fence=settlement.fence, detail="reorganised"):
        count_settled(session, [settlement], by=-1)
    cross(session, option, OptionState.EXPIRED, now=now, detail="settlement reorganised")


def _subjects(rows: Sequence[TransactionRow], purpose: str) -> list[str]:
    return [str(row.subject) for row in rows if row.purpose == purpose]


def busiest_minute(session: Session) -> int:
    """Return how many options the expiry minute has that most of them wait for."""
    waiting = select(func.count().label("options")).where(col(OptionRow.state).in_(UNEXPIRED_OPTIONS))
    each = waiting.group_by(col(OptionRow.expiry_unix)).subquery()
    return int(session.execute(select(func.max(each.c.options))).scalar_one() or 0)


def _unknown_fundings(session: Session, txids: list[str]) -> dict[str, str]:
    query = select(col(OptionRow.funding_txid), col(OptionRow.id)).where(
        col(OptionRow.funding_txid).in_(txids), col(OptionRow.state).in_(FUNDABLE_OPTIONS),
        ~select(TransactionRow).where(col(TransactionRow.txid) == OptionRow.funding_txid).exists(),
    )  # fmt: skip
    return {str(txid): option_id for txid, option_id in session.execute(query)}


def _live_collaterals(session: Session, block: Block) -> dict[str, OptionRow]:
    """Return, by funding txid, the options whose collateral a block may spend."""
    inputs = [txin.outpoint for one in block.transactions for txin in one.inputs]
    txids = {display_txid(outpoint.txid) for outpoint in inputs if outpoint.index == FUNDING_OUTPUT}
    query = select(OptionRow).where(col(OptionRow.funding_txid).in_(txids), col(OptionRow.state).in_(OPEN_OPTIONS))
    return {str(option.funding_txid): option for option in session.execute(query).scalars()}


def funded(session: Session, option_ids: Sequence[str], now: UnixSeconds) -> None:
    """Options are active once what funds them is final, whatever was said of their sales."""
    query = select(OptionRow).where(col(OptionRow.id).in_(option_ids), col(OptionRow.state).in_(FUNDABLE_OPTIONS))
    crossings = [Crossing(row=row, detail="its funding is final") for row in session.execute(query).scalars()]
    named = [one.row.id for one in crossings]
    given_up = select(ContractRow).where(
        col(ContractRow.option_id).in_(named), col(ContractRow.state) == ContractState.CANCELLED
    )
    again = [Crossing(row=row, detail="its funding is final") for row in session.execute(given_up).scalars()]
    cross_all(session, again, ContractState.FUNDED, now=now)
    cross_all(session, crossings, OptionState.ACTIVE, now=now)


def _ended_outside(session: Session, row: TransactionRow, now: UnixSeconds) -> None:
    """End the options whose collateral the parties have paid out without us, by a refund or a close of their own."""
    transaction, options = parse_transaction(bytes.fromhex(row.raw_hex)), _collaterals_of(session, row)
    # their CET is ours: it is matched when the settlement is built
    plans = contracts.executables_of(session, options) if transaction.version == TRUC_VERSION else {}
    for option in options:
        if option.id not in plans or not plans[option.id].plan.has(transaction):
            _end_outside(session, option, row, now)


def give_up_settlements(session: Session, row: TransactionRow, now: UnixSeconds) -> None:
    """Give up our settlements of collaterals that a final transaction has spent, and their children with them.

    One that was built after a block had spent the collateral is no rival of that block's: it would be sent, and its
    child be paid more, for ever. Should the block go, it is sent again. The settlement's row keeps its state: parked it
    would ask an operator for something.
    """
    for option in _collaterals_of(session, row):
        settlement = transaction_of(session, option.id, SETTLEMENT)
        if settlement is not None and settlement.state in UNMINED and settlement.txid != row.txid:
            cross(session, settlement, TransactionState.CONFLICTED, now=now, changes={"height": row.height},
                  detail=f"spent by {row.txid}")  # fmt: skip
    _free_dead_children(session, row, now)


def _free_dead_children(session: Session, row: TransactionRow, now: UnixSeconds) -> None:
    """Give up our children of settlements that cannot be mined any more: their coins would be kept for ever."""
    for option in _collaterals_of(session, row):
        child = transaction_of(session, option.id, CHILD)
        if child is not None and child.state in UNMINED and child.spends.partition(":")[0] != row.txid:
            cross(session, child, TransactionState.CONFLICTED, now=now, detail=f"{row.txid} ended its settlement")
            give_way(session, child, row.txid)


def _collaterals_of(session: Session, row: TransactionRow) -> Sequence[OptionRow]:
    """Return the options whose collateral a transaction spends; one transaction can end many."""
    txids = _spent_fundings(parse_transaction(bytes.fromhex(row.raw_hex)))
    query = select(OptionRow).where(col(OptionRow.funding_txid).in_(txids)).order_by(col(OptionRow.id))
    return session.execute(query).scalars().all()


def _end_outside(session: Session, option: OptionRow, row: TransactionRow, now: UnixSeconds) -> None:
    settlement = find_settlement(session, option.id)
    if settlement is not None and contracts.close_seen(session, option, settlement, row, now=now):
        return
    detail = f"ended outside the service by {row.txid}"
    if option.state == OptionState.ACTIVE:
        cross(session, option, OptionState.EXPIRED, now=now, detail=detail)
    if option.state == OptionState.EXPIRED:
        cross(session, option, OptionState.ABANDONED, now=now, detail=detail)
        if settlement is not None and settlement.state in UNSENT_SETTLEMENTS:
            cross(session, settlement, SettlementState.PARKED, now=now, fence=settlement.fence, detail=detail,
                  changes={"last_error": detail})  # fmt: skip


def transaction_of(session: Session, option_id: str, purpose: str) -> TransactionRow | None:
    """Return an option's funding, settlement or child transaction, the version that stands."""
    query = select(TransactionRow).where(
        col(TransactionRow.subject) == option_id, col(TransactionRow.purpose) == purpose,
        col(TransactionRow.replaced_by).is_(None),
    )  # fmt: skip
    return session.execute(query).scalar_one_or_none()
