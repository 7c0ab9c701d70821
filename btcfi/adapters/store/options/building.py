"""Settlements become transactions: an attested outcome's CET, and the child that pays for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, select, true
from sqlmodel import Session, col

from btcfi.adapters.store.chain.sending import rows_of
from btcfi.adapters.store.chain.tables import UNMINED, TransactionRow, WalletOutpointRow
from btcfi.adapters.store.chain.transactions import Signed, add_transactions
from btcfi.adapters.store.chain.wallet import CHILD_COIN, NoCoinError, pick_coins, reserve_coin
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.options import changed
from btcfi.adapters.store.options.options import terms_of as option_terms
from btcfi.adapters.store.options.purposes import CHILD, SETTLEMENT
from btcfi.adapters.store.options.settled import adopt, in_words, paid_columns
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow, SettlementState
from btcfi.adapters.store.spine.edges import Crossing, cross_all
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxOut, parse_outpoint
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.option import OptionContract
from btcfi.contracts.paid import Paid
from btcfi.contracts.payouts import price_input
from btcfi.contracts.schedule import PASSED_BY_BLOCKS, SETTLEMENT_VSIZE, Due, Schedule, Space, Turn, schedule
from btcfi.contracts.settle import CompletedCet, child_paying, complete_cet
from btcfi.contracts.settling import COIN_INPUT, Alone, Fresh, Terms, View, next_step
from btcfi.errors import BtcfiError, NotFoundError, RetryableError
from btcfi.units import Hash32, Height, Sats, UnixSeconds, display_txid

BUNDLE: Final = 32
"""Settlements of one deadline that have their turn together: a schedule of thousands is made in a millisecond."""

RETRIED_PART: Final = 4
"""One place in so many is kept for settlements that could not be built when they were last tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidChild:
    """A child of ours, signed, with the coin that pays for it."""

    transaction: Transaction
    fee: Sats
    coin: WalletOutpointRow

    def stored(self, option_id: str, cet: CompletedCet, waits_since: int | None = None) -> Signed:
        """Return it as it is stored. waits_since: the height since which the settlement waits, if it is not new."""
        return Signed(
            transaction=self.transaction, purpose=CHILD, subject=option_id, spends=cet.anchor_outpoint, fee=self.fee,
            waits_since=waits_since,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A settlement whose CET is complete, with the child that pays for it."""

    settlement: SettlementRow
    option: OptionRow
    cet: CompletedCet
    child: PaidChild | None
    """None where no coin is left and the CET pays for itself."""

    @property
    def txid(self) -> str:
        """The CET's, in display order."""
        return display_txid(self.cet.transaction.txid)

    @property
    def paid(self) -> Paid:
        """What the CET pays to whom."""
        cet = self.cet
        return Paid(buyer=cet.payout, seller=cet.seller_return, anchor=cet.anchor, fee=cet.fee)

    def signed_cet(self) -> Signed:
        """Return the CET as it is stored."""
        return Signed(
            transaction=self.cet.transaction, purpose=SETTLEMENT, subject=self.option.id,
            spends=contracts.funding_outpoint(self.option), fee=self.cet.fee,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """A CET that was completed before the transaction that stores it, and by which of the stored contracts."""

    by: contracts.Named
    executable: contracts.Executable
    cet: CompletedCet


def complete_ahead(session: Session, ids: Sequence[str]) -> dict[str, Ahead]:
    """Complete the CETs of proven settlements in a session that only reads, by option.

    It is most of the work of building, and no other writer of the store need wait for it. What cannot be completed is
    left out: ``build_settlements`` tries again, and keeps why.
    """
    query = select(OptionRow).join(SettlementRow, col(OptionRow.id) == col(SettlementRow.option_id))
    options = list(session.execute(query.where(*_proven(ids))).scalars())
    named, found = contracts.named_of(session, options), {}
    for option_id, executable in contracts.executables_of(session, options, damaged_apart=True).items():
        with suppress(BtcfiError):
            found[option_id] = Ahead(by=named[option_id], executable=executable, cet=completed(executable))
    return found


def _waiting(session: Session, ids: Sequence[str]) -> list[tuple[SettlementRow, OptionRow]]:
    query = select(SettlementRow, OptionRow).join(OptionRow, col(OptionRow.id) == col(SettlementRow.option_id))
    return [(row, option) for row, option in session.execute(query.where(*_proven(ids)))]


def _proven(ids: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    return col(SettlementRow.id).in_(ids), col(SettlementRow.state) == SettlementState.PROVEN


def build_settlements(
    session: Session, ids: Sequence[str], wallet: TaprootKey, *, estimate: SatsPerKvb | None, rule: FeeRule,
    tip: Height, now: UnixSeconds, ahead: Mapping[str, Ahead] = MappingProxyType({}),
) -> list[list[Transaction]]:  # fmt: skip
    """Complete the CETs of attested outcomes, and their fee-paying children: proven -> built.

    Returns what the node is to get once this is committed, each CET with its child, where it has one of ours.

    One that cannot be built keeps why, and harms no other: too few oracles have attested, no coin is left for its fee,
    an attestation or a signature is wrong. ahead: what ``complete_ahead`` gave; one whose contract is another by now is
    completed anew.
    """
    waiting = _waiting(session, ids)
    named = contracts.named_of(session, [option for _, option in waiting]) if ahead else {}
    done = {option_id: one for option_id, one in ahead.items() if one.by == named.get(option_id)}
    rest = [option for _, option in waiting if option.id not in done]
    executables = contracts.executables_of(session, rest, damaged_apart=True)
    executables |= {option_id: one.executable for option_id, one in done.items()}
    coins = iter(pick_coins(session, CHILD_COIN, tip=tip, many=len(waiting)))
    view, ready = View(tip=tip, estimate=estimate), []
    for settlement, option in waiting:
        try:
            executable = executables.get(option.id)
            if executable is None:
                raise NotFoundError("checked contract", option.id)
            cet = done[option.id].cet if option.id in done else completed(executable)
            check_computed(settlement, option, executable, cet)
            child = _first_child(
                cet, next(coins, None), wallet, view, terms_of(executable.plan.contract, cet, rule), settlement
            )  # fmt: skip
        except BtcfiError as e:
            settlement.last_error, settlement.updated_at_unix = str(e), now  # others are looked at before it is again
        else:
            ready.append(Ready(settlement=settlement, option=option, cet=cet, child=child))
    return _store_built(session, ready, now=now)


def check_computed(
    settlement: SettlementRow, option: OptionRow, executable: contracts.Executable, cet: CompletedCet
) -> None:  # fmt: skip
    """Raise AttestedOtherwiseError unless the run that was proven is of the outcome that the oracles attest.

    Raises ChangedRowError where the row names another event than the one that they announced for it.

    They computed it from what the nodes signed, we from what we stored: where both differ, our proof would speak of
    another price than the CET pays. The parties settle by themselves meanwhile, and the operator is told.
    """
    event = executable.plan.announcements[0].event
    if (error := changed(option, event.id.hex())) is not None:
        raise error
    attested = price_input(
        option_terms(option), event.price_of(cet.outcome), touched=cet.outcome > event.max_price
    ).to_bytes()
    if attested.hex() != settlement.input_hex:
        raise AttestedOtherwiseError(attested=cet.outcome, computed_cents=settlement.price_cents)


class AttestedOtherwiseError(RetryableError):
    """The oracles attest another outcome than this service computed from its own store."""

    def __init__(self, *, attested: int, computed_cents: int) -> None:
        super().__init__(
            f"the oracles attest outcome {attested}, this service ran the price {computed_cents} cents: nothing is "
            "sent until both agree; `btcfi prices replay` compares the store with its evidence"
        )
        self.attested, self.computed_cents = attested, computed_cents


def completed(contract: contracts.Executable) -> CompletedCet:
    """Return the CET of the attested outcome. Raises as ``complete_cet``."""
    return complete_cet(
        contract.plan, buyer=contract.buyer, seller=contract.seller, attestations=contract.attestations
    )  # fmt: skip


def terms_of(contract: OptionContract, cet: CompletedCet, rule: FeeRule) -> Terms:
    """Return how much a settlement of ours may pay: the service is nobody's, so what the CET pays to both counts."""
    stake = Sats(cet.payout + cet.seller_return)
    return Terms(
        expiry_height=contract.expiry_height, refund_height=contract.refund_height, stake=stake, rule=rule
    )  # fmt: skip


def _first_child(  # noqa: PLR0917 - called once, right above
    cet: CompletedCet, coin: WalletOutpointRow | None, wallet: TaprootKey, view: View, terms: Terms,
    settlement: SettlementRow,
) -> PaidChild | None:  # fmt: skip
    rows = {} if coin is None else {parse_outpoint(coin.outpoint): coin}
    step = next_step(cet, (), coins_of(rows, wallet), view, terms, change_script=wallet.script)
    if isinstance(step, Fresh):
        return paid_child(cet, step, rows, wallet, settlement)
    if isinstance(step, Alone):
        return None
    raise NoCoinError(CHILD_COIN)


def coins_of(rows: Mapping[OutPoint, WalletOutpointRow], wallet: TaprootKey) -> list[Coin]:
    """Return the service's coins as the engine takes them."""
    return [
        Coin(outpoint=outpoint, output=TxOut(value=Sats(row.value_sats), script=wallet.script))
        for outpoint, row in rows.items()
    ]


def paid_child(
    cet: CompletedCet, step: Fresh, rows: Mapping[OutPoint, WalletOutpointRow], wallet: TaprootKey,
    settlement: SettlementRow,
) -> PaidChild:  # fmt: skip
    """Return the child that a step asks for, signed by the wallet; it carries the settlement's proof root."""
    root = Hash32(bytes.fromhex(settlement.proof_root or ""))
    child = child_paying(cet, step.coin, fee=step.fee, change_script=wallet.script, proof_root=root)
    signature = wallet.sign_input(child.transaction, COIN_INPUT, child.spent)
    signed = child.transaction.with_witness(COIN_INPUT, [signature])
    return PaidChild(transaction=signed, fee=child.fee, coin=rows[step.coin.outpoint])


def _store_built(session: Session, ready: Sequence[Ready], *, now: UnixSeconds) -> list[list[Transaction]]:
    crossings = [
        Crossing(
            row=one.settlement, fence=one.settlement.fence, detail=in_words(one.settlement, one.paid),
            changes={"txid": one.txid, "last_error": None, **paid_columns(one.paid)},
        )
        for one in ready
    ]  # fmt: skip
    moved = {one.row.id for one in cross_all(session, crossings, SettlementState.BUILT, now=now)}
    ours = [one for one in ready if one.settlement.id in moved]
    known = rows_of(session, [one.txid for one in ours])
    fresh = [one for one in ours if one.txid not in known]
    for one in ours:
        if one.txid in known:  # a party was faster with the same CET
            adopt(session, known[one.txid], one.settlement, fee=one.cet.fee, now=now)
    query = select(col(TransactionRow.subject)).where(
        col(TransactionRow.purpose) == CHILD, col(TransactionRow.subject).in_([one.option.id for one in fresh]),
        col(TransactionRow.replaced_by).is_(None),
    )  # fmt: skip
    paid = set(session.execute(query).scalars())  # by a party, in a block that was reorganised
    built: list[list[Signed]] = []
    for one in fresh:
        built.append([one.signed_cet()])
        if one.child is not None and one.option.id not in paid:
            child = one.child.stored(one.option.id, one.cet)
            reserve_coin(one.child.coin, child.txid)
            built[-1].append(child)
    add_transactions(session, [one for package in built for one in package], now=now)
    # one that a stored child of somebody's pays for goes with it (``sending.to_send``)
    return [[one.transaction for one in package] for package in built if package[0].subject not in paid]


def to_settle(
    session: Session, *, tip: Height, rule: FeeRule, limit: int = 256, held_back: ColumnElement[bool] | None = None
) -> list[str]:  # fmt: skip
    """Return the proven settlements that are to be built now: those that a block will take, earliest deadline first.

    What could not be built when it was last tried comes behind those that were not tried, longest untouched first, and
    keeps a quarter of the places: neither can keep the other back. held_back: the condition that one waits for a batch
    (``batches.held_back``); None: none does.
    """
    free = true() if held_back is None else ~held_back
    turns = planned_settlements(session, tip=tip, rule=rule, free=free).turns
    room = min(limit, settlements_in(turn for turn in turns if turn.now))
    untried = col(SettlementRow.last_error).is_(None)
    fresh = _in_turn(session, tip, free & untried, order_by=_TURN, limit=room)
    failed = _in_turn(session, tip, free & ~untried, order_by=(col(SettlementRow.updated_at_unix),), limit=room)
    first = fresh[: max(room - len(failed), room - room // RETRIED_PART)]
    return first + failed[: room - len(first)]


_TURN: Final = (col(OptionRow.refund_height), col(OptionRow.collateral_sats).desc(), col(SettlementRow.id))
"""As ``schedule.order``: earliest deadline, then largest value."""


def _in_turn(
    session: Session, tip: Height, condition: ColumnElement[bool], *, order_by: Sequence[Any], limit: int
) -> list[str]:  # fmt: skip
    query = _of_proven(tip, col(SettlementRow.id)).where(condition).order_by(*order_by).limit(limit)
    return list(session.execute(query).scalars())


def planned_settlements(
    session: Session, *, tip: Height, rule: FeeRule, free: ColumnElement[bool] | None = None
) -> Schedule:  # fmt: skip
    """Return the turns of the settlements that an attestation may complete and the next block may hold.

    free: the condition that one waits for nothing else; None: none does.
    They are bundles of one deadline, of at most ``BUNDLE`` settlements: as many of each as have their turn are built.
    """
    space = Space(tip=tip, in_flight=in_flight(session, tip=tip) * SETTLEMENT_VSIZE)
    counted = _of_proven(tip, col(OptionRow.refund_height), func.count(), func.sum(OptionRow.collateral_sats))
    if free is not None:
        counted = counted.where(free)
    due = []
    for deadline, count, value in session.execute(counted.group_by(col(OptionRow.refund_height))):
        for start in range(0, count, BUNDLE):
            many = min(BUNDLE, count - start)
            due.append(Due(
                name=f"{deadline or 0}-{start:08}", vsize=many * SETTLEMENT_VSIZE, deadline=Height(deadline or 0),
                value=Sats(int(value) * many // count),
            ))  # fmt: skip
    return schedule(due, space, rule)


def _of_proven(tip: Height, *columns: Any) -> Select[Any]:  # noqa: ANN401 - SQLAlchemy's own
    """Ask about settlements whose CET a block after ``tip`` may hold: one before its height only takes others' room."""
    proven = col(SettlementRow.state) == SettlementState.PROVEN, col(SettlementRow.reason) == "expiry"
    final = func.coalesce(OptionRow.expiry_height, 0) <= tip
    joined = select(*columns).select_from(SettlementRow)
    return joined.join(OptionRow, col(OptionRow.id) == col(SettlementRow.option_id)).where(*proven, final)


def settlements_in(turns: Iterable[Turn]) -> int:
    """Return how many settlements the bundles of a plan are."""
    return sum(turn.due.vsize for turn in turns) // SETTLEMENT_VSIZE


def in_flight(session: Session, *, tip: Height) -> int:
    """Return how many settlements are built or sent and wait for one of the next blocks.

    What ``PASSED_BY_BLOCKS`` blocks have passed by is not among them: it would keep all others back.
    """
    query = select(func.count()).select_from(TransactionRow).where(
        col(TransactionRow.purpose) == SETTLEMENT, col(TransactionRow.state).in_(UNMINED),
        func.coalesce(TransactionRow.built_height, tip) > tip - PASSED_BY_BLOCKS,
    )  # fmt: skip
    return int(session.execute(query).scalar_one())
