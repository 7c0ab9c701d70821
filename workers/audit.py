"""The promise, checked from outside: every due option settled once on chain, for what its program pays.

What is not settled yet is judged by what it should be by now: what is active is funded and not spent, what expired has
its settlement, what is over and priced has expired, what was never funded or was cancelled holds no coin.

Nothing here trusts the pipeline. Spends are counted by walking the chain's blocks over JSON-RPC; payouts come from a
fresh run of the guest; states are replayed from the event log. ``btcfi chaos`` asks after each fault, ``btcfi audit``
any time.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import case, func, select
from sqlmodel import Session, col

from btcfi.adapters.chain.node import Node
from btcfi.adapters.store.chain import views as chain_views
from btcfi.adapters.store.market.tables import AccountRow, CloseRow, CloseState, FirmOfferRow, TakeRow, TakeState
from btcfi.adapters.store.market.transfer_tables import TransferRow, TransferState
from btcfi.adapters.store.options import batches, contracts, holds
from btcfi.adapters.store.options.batch_tables import BatchEndRow
from btcfi.adapters.store.options.contracts import agreed_terms
from btcfi.adapters.store.options.on_chain import transaction_of
from btcfi.adapters.store.options.options import changed, contract_event, event_of, known_at, terms_of
from btcfi.adapters.store.options.purposes import CHILD
from btcfi.adapters.store.options.settled import pays
from btcfi.adapters.store.options.tables import (
    LOCKED_OPTIONS,
    SETTLED_OPTIONS,
    OptionRow,
    OptionState,
    SettlementRow,
    SettlementState,
)
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.fixings import closed_until, fixing_of
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.machines import machines
from btcfi.adapters.store.spine.schema import load_tables
from btcfi.adapters.store.spine.tables import EventRow, OutboxRow
from btcfi.adapters.store.swaps import rows as swap_rows
from btcfi.adapters.store.swaps import views as swap_views
from btcfi.adapters.store.swaps.tables import SwapBoardRow, SwapBookRow, SwapRow, SwapSettlementRow, SwapWeekRow
from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.contracts.anchor import AnchorItem, AnchorKind, anchor_root
from btcfi.contracts.batch import dues_of
from btcfi.contracts.execution import ANCHOR, Split
from btcfi.contracts.metadata import RecordType, record_script
from btcfi.contracts.option import split
from btcfi.contracts.payouts import guest_payouts
from btcfi.contracts.setup import paid_at
from btcfi.contracts.splice import Owner
from btcfi.errors import BtcfiError, NotFoundError, NotHeldError
from btcfi.market.firm_offer import check_offer, check_take, deal_of, decode_signed_offer, decode_signed_take
from btcfi.market.transfer import check_part, decode_part
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.payoff import twin_of
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.quote import Feed
from btcfi.proofs.errors import ProofWindowError
from btcfi.proofs.window import check_window, read_window
from btcfi.swaps.settlement import compute_returns
from btcfi.units import Sats, Slot, UnixSeconds, hash32
from btcfi.vm.interpreter import run_untraced
from btcfi.vm.program import Program, load_program_by_hash
from settings.preset import load_preset_by_hash

SETTLED: Final = SETTLED_OPTIONS
DEEP: Final = 2
"""Times the confirmations after which the service acts, below the newest block that it has walked."""

LATE_SECONDS: Final = 600
"""After which what should have followed is late: ten minutes of retries, restarts and repairs."""

MAX_STEPS: Final = 1 << 20
SATS_PER_BTC: Final = 100_000_000


class PromiseBrokenError(BtcfiError):
    """A fault changed what was settled, or the store and the chain do not agree."""

    def __init__(self, what: str, broken: int, first: str) -> None:
        super().__init__(f"{what}: {broken} broken, first: {first}")
        self.broken, self.first = broken, first


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One broken promise."""

    subject: str
    what: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.what}"


@dataclass(slots=True)
class ChainView:
    """What the active chain says about outputs: who pays what, who spends what."""

    height: int = 0
    spends: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Outpoint to the txids that spend it; two would be a double spend that consensus let through."""
    paid_to: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Address to the outpoints that pay it."""
    transactions: dict[str, Any] = field(default_factory=dict)
    """Decoded, by txid."""
    heights: dict[str, int] = field(default_factory=dict)
    """Of the block that a transaction is in, by txid."""

    def follow(self, node: Node) -> None:
        """Take in the blocks since the last one. The chain must not have been reorganised below it."""
        tip = int(node.call("getblockcount"))
        while self.height < tip:
            self.height += 1
            block = node.call("getblock", node.call("getblockhash", self.height), 2)
            for transaction in block["tx"]:
                self._take(transaction)

    def fee_of(self, txid: str) -> int | None:
        """Return what a transaction pays in fees, sats; None unless the chain holds it and what it spends."""
        transaction = self.transactions.get(txid)
        if transaction is None or any(one.get("txid") not in self.transactions for one in transaction["vin"]):
            return None
        spent = [(self.transactions[one["txid"]], one["vout"]) for one in transaction["vin"]]
        given = sum(_sats(parent["vout"][index]) for parent, index in spent)
        return given - sum(_sats(output) for output in transaction["vout"])

    def _take(self, transaction: Any) -> None:  # noqa: ANN401 - JSON
        txid = transaction["txid"]
        self.heights[txid] = self.height
        self.transactions[txid] = transaction
        for spent in transaction["vin"]:
            if "txid" in spent:
                self.spends[f"{spent['txid']}:{spent['vout']}"].append(txid)
        for output in transaction["vout"]:
            address = output["scriptPubKey"].get("address")
            if address is not None:
                self.paid_to[address].append(f"{txid}:{output['n']}")


def audit(
    store: Store, view: ChainView, ids: Iterable[str], *, complete: bool = True, now: UnixSeconds | None = None
) -> list[Finding]:
    """Return every promise that is broken for these options; an empty list is the good answer.

    complete: whether all of them should be settled by now; else each is judged by where it is. now: the wall clock, by
    which what should have followed LATE_SECONDS ago is late; None: nothing is.
    """
    found: list[Finding] = []
    with store.reading() as session:
        walked = chain_views.tip(session)
        height = 0 if walked is None else walked.height
        for option_id in ids:
            option = session.get(OptionRow, option_id)
            if option is None:
                found.append(Finding(subject=option_id, what="lost: the store does not know it"))
                continue
            settlement = session.execute(
                select(SettlementRow).where(col(SettlementRow.option_id) == option_id)
            ).scalar_one_or_none()
            found += _option(session, view, option, settlement, complete=complete)
            if not complete and option.state not in SETTLED:
                try:
                    problems = _unsettled(session, view, option, settlement, walked=height, now=now)
                except NotHeldError as e:  # the others can still be audited
                    problems = [str(e)]
                found += [Finding(subject=option.id, what=problem) for problem in problems]
        found += traded(session, now=now)
        found += swapped(session)
        found += replay_events(session)
    return found


def _option(
    session: Session, view: ChainView, option: OptionRow, settlement: SettlementRow | None, *, complete: bool
) -> list[Finding]:
    problems: list[str] = []
    if (close := _close_of(session, option, CloseState.DONE)) is not None:
        return [Finding(subject=option.id, what=problem) for problem in _closed(view, option, close)]
    if (moved := _transfer_of(session, option, TransferState.DONE)) is not None:
        return [Finding(subject=option.id, what=problem) for problem in _moved(session, view, option, moved)]
    if settlement is not None and settlement.state == SettlementState.PARKED:
        problems.append(f"parked: {settlement.last_error or 'no error noted'}")
    if (error := changed(option, contract_event(session, option.id))) is not None:
        problems.append(str(error))
    if option.state not in SETTLED:
        if complete:
            problems.append(f"not settled: option {option.state}, settlement {settlement.state if settlement else '-'}")
        return [Finding(subject=option.id, what=problem) for problem in problems]
    if settlement is None or settlement.txid is None:
        return [Finding(subject=option.id, what=f"{option.state} without a settlement")]
    problems += _chain(view, option, settlement, _collaterals(session, option.address))
    try:
        output = _output(option, settlement)
        problems += _payout(session, option, settlement, output)
        problems += _paid(session, view, option, settlement, output)
    except NotHeldError as e:  # the others can still be audited
        problems.append(str(e))
    return [Finding(subject=option.id, what=problem) for problem in problems]


def _close_of(session: Session, option: OptionRow, *states: CloseState) -> CloseRow | None:
    """Return the close of an option at a price that both sides named, in one of these states."""
    query = select(CloseRow).where(col(CloseRow.option_id) == option.id, col(CloseRow.state).in_(states))
    row: CloseRow | None = session.execute(query).scalars().first()
    return row


def _transfer_of(session: Session, option: OptionRow, *states: TransferState) -> TransferRow | None:
    """Return the transfer by which an option's position has gone to another holder, in one of these states."""
    query = select(TransferRow).where(col(TransferRow.option_id) == option.id, col(TransferRow.state).in_(states))
    row: TransferRow | None = session.execute(query).scalars().first()
    return row


def _moved(session: Session, view: ChainView, option: OptionRow, moved: TransferRow) -> list[str]:
    """Return what is wrong with an option whose collateral is another one's by a transfer."""
    problems, txid = [], moved.txid or ""
    if option.state != OptionState.ABANDONED:
        problems.append(f"{option.state}, and its position is option {moved.new_option_id}")
    if (spends := view.spends.get(f"{option.funding_txid}:0", [])) != [txid]:
        problems.append(f"moved by {txid}, and the chain spent its collateral by {spends or 'nothing'}")
    new = session.get(OptionRow, moved.new_option_id)
    if new is None:
        return [*problems, f"its position is option {moved.new_option_id}, which there is not"]
    if (new.funding_txid, new.collateral_sats) != (txid, option.collateral_sats):
        problems.append(f"moved by {txid} with {option.collateral_sats} sats, and {new.id} is funded otherwise")
    if f"{txid}:0" not in view.paid_to.get(new.address or "", []):
        problems.append(f"moved by {txid}, which does not pay the contract of {new.id}")
    outputs = [_sats(one) for one in view.transactions.get(txid, {}).get("vout", [])]
    if outputs[:1] != [option.collateral_sats]:
        problems.append(f"moved: the chain pays {outputs[:1]} into the new contract, of {option.collateral_sats}")
    if (fee := view.fee_of(txid)) is not None and fee != moved.fee_sats:
        problems.append(f"moved: the chain's fee is {fee} sats, the store says {moved.fee_sats}")
    return problems


def _closed(view: ChainView, option: OptionRow, close: CloseRow) -> list[str]:
    """Return what is wrong with an option that both sides have closed at a price of theirs: nothing computes it."""
    problems, txid = [], close.txid or ""
    if option.state != OptionState.ABANDONED:
        problems.append(f"{option.state}, and closed by both sides")
    if (spends := view.spends.get(f"{option.funding_txid}:0", [])) != [txid]:
        problems.append(f"closed by {txid}, and the chain spent its collateral by {spends or 'nothing'}")
    paid, returned, fee = close.paid_sats or 0, close.returned_sats or 0, close.fee_sats or 0
    if paid + returned + fee != option.collateral_sats:
        problems.append(f"closed: {paid} + {returned} + {fee} sats are not the collateral, {option.collateral_sats}")
    outputs = [_sats(one) for one in view.transactions.get(txid, {}).get("vout", [])]
    if outputs != [value for value in (paid, returned) if value]:
        problems.append(f"closed: the chain pays {outputs}, the store says {paid} and {returned}")
    return problems


def _unsettled(
    session: Session, view: ChainView, option: OptionRow, settlement: SettlementRow | None, *, walked: int,
    now: UnixSeconds | None,
) -> list[str]:  # fmt: skip
    """Return what is wrong with an option that is not settled. walked: the height up to which the service has looked.

    What lies DEEP times its confirmations below that the service has acted on; above, it may be about to. Raises
    NotHeldError.
    """
    rule = load_preset_by_hash(option.preset_sha256, name=option.preset)
    deep = walked - DEEP * rule.confirmations
    collateral = f"{option.funding_txid}:0"
    held = option.state in LOCKED_OPTIONS
    funded = view.paid_to.get(option.address or "", []).count(collateral)
    spenders = [txid for txid in view.spends.get(collateral, []) if view.heights[txid] <= deep]
    ours = [] if settlement is None or settlement.txid is None else [settlement.txid]
    close = _close_of(session, option, CloseState.SIGNED)
    if close is not None and spenders == [close.txid]:
        ours = spenders
    moved = _transfer_of(session, option, TransferState.SIGNED)
    if moved is not None and spenders == [moved.txid]:
        ours = spenders
    problems = []
    if held and funded != 1:
        problems.append(f"{option.state}, and funded {funded} times by {collateral}")
    if held and spenders and spenders != ours:
        problems.append(f"{option.state}, and the chain spent it by {spenders}, the store says {ours or 'nobody'}")
    if not held and view.heights.get(option.funding_txid or "", deep + 1) <= deep:
        problems.append(f"{option.state}, and funded on the chain by {collateral}")
    # one whose close a reorganisation took back waits for it
    if (option.state == OptionState.EXPIRED) != (settlement is not None) and close is None:
        problems.append(f"{option.state} {'without a' if settlement is None else 'with a'} settlement")
    if settlement is not None and settlement.payout_sats is not None:
        problems += _payout(session, option, settlement, _output(option, settlement))
    since = _known_since(session, option, rule.consensus) if option.state == OptionState.ACTIVE else None
    if now is not None and since is not None and now - since >= LATE_SECONDS:
        problems.append(f"its fixing is known since {now - since:,} s, and it has not expired")
    return problems


def _known_since(session: Session, option: OptionRow, rule: ConsensusRule) -> int | None:
    """Return when the minute was closed with which an option's fixing was known, wall clock; None while it is not.

    Nor while its event is held after a restore, which is the operator's to decide.
    """
    if event_of(option).id.hex() in holds.held_ids(session):
        return None
    last = closed_until(session, Feed(option.feed))
    if last is None or last < option.expiry_unix:
        return None
    fixed = fixing_of(session, Feed(option.feed), event_of(option).fixing, Slot(option.expiry_unix), rule)
    row = None if fixed is None else rounds.find_round(session, Feed(option.feed), known_at(fixed))
    return None if row is None else row.closed_at_unix


def _collaterals(session: Session, address: str | None) -> set[str]:
    """Return the outpoints that should pay an address: one an option; equal keys make an equal address."""
    query = select(col(OptionRow.funding_txid)).where(col(OptionRow.address) == address)
    return {f"{txid}:0" for txid in session.execute(query).scalars() if txid}


def _chain(view: ChainView, option: OptionRow, settlement: SettlementRow, expected: set[str]) -> list[str]:
    """Collateral funded once, spent once, by the settlement that the store names."""
    collateral = f"{option.funding_txid}:0"
    funded = view.paid_to.get(option.address or "", [])
    problems = [f"funding {one} is on chain and not in the store" for one in funded if one not in expected]
    if funded.count(collateral) != 1:
        problems.append(f"funded {funded.count(collateral)} times by {collateral}")
    spenders = view.spends.get(collateral, [])
    if spenders != [settlement.txid]:
        problems.append(f"collateral spent by {spenders}, the store says {settlement.txid}")
    return problems


def _output(option: OptionRow, settlement: SettlementRow) -> SettlementOutput:
    """Return what the guest pays in a fresh run. Raises NotHeldError."""
    return fresh_run(load_program_by_hash(option.program_sha256, name=option.program), settlement.input_hex)


def _payout(session: Session, option: OptionRow, settlement: SettlementRow, output: SettlementOutput
) -> list[str]:  # fmt: skip
    """Compare what the guest pays in a fresh run, what Python pays and what the store says."""
    given = SettlementInput.from_bytes(bytes.fromhex(settlement.input_hex))
    problems = _window(settlement)
    for what, expected, found in (
        ("payout in the store", output.payout_sats, settlement.payout_sats),
        ("payout of the twin in Python", output.payout_sats, twin_of(option.program_sha256)(given).payout_sats),
        ("state", _ended(option, output), option.state),
        ("price of the settlement", _price_of(session, option, settlement), given.spot),
        ("strike", option.strike_cents, given.strike),
    ):
        if expected != found:
            problems.append(f"{what} is {found}, expected {expected}")
    if settlement.reason == "expiry" and Slot(settlement.slot) < option.expiry_unix:
        problems.append(f"settled at slot {settlement.slot}, before its expiry {option.expiry_unix}")
    return problems


def _ended(option: OptionRow, output: SettlementOutput) -> str:
    """Return the state that an option's output leads to, once it is there."""
    if option.state not in SETTLED:
        return option.state
    return OptionState.EXERCISED if output.payout_sats else OptionState.ABANDONED


def _paid(
    session: Session, view: ChainView, option: OptionRow, settlement: SettlementRow, output: SettlementOutput
) -> list[str]:  # fmt: skip
    """Compare what the guest pays in a fresh run and what the chain paid."""
    transaction = view.transactions.get(settlement.txid or "")
    if transaction is None:
        return ["the settlement's transaction is not in the chain"]
    if batches.batch_of(session, settlement):
        return batched(session, view, option, settlement, output)
    problems = paid(session, option, settlement, output, transaction)
    return problems + books(session, view, option, settlement)


def _price_of(session: Session, option: OptionRow, settlement: SettlementRow) -> int | None:
    """Return what the guest is told: the fixing, every minute agreed again; at expiry as the oracles attest it."""
    event = event_of(option)
    at_expiry = settlement.reason == "expiry"
    imported = holds.imported_outcome(session, event) if at_expiry else None
    if imported is not None:  # attested before a restore, which lost the minutes
        return event.price_of(imported)
    rule = load_preset_by_hash(option.preset_sha256, name=option.preset).consensus
    end = event.expiry if at_expiry else Slot(settlement.slot)
    fixed = fixing_of(session, Feed(option.feed), event.fixing, end, rule)
    if fixed is None:
        return None
    return event.price_of(event.outcome(fixed.price)) if at_expiry else fixed.price


def _window(settlement: SettlementRow) -> list[str]:
    """Return what is wrong with the minutes that stand beside a settlement for its proof file."""
    window = read_window(settlement.window)
    try:
        if window is not None:
            check_window(window, bytes.fromhex(settlement.input_hex))
    except ProofWindowError as e:
        return [str(e)]
    return []


def owed(
    session: Session, option: OptionRow, settlement: SettlementRow, output: SettlementOutput, *, costs: Sats
) -> tuple[Sats, Sats]:
    """Return what the chain must pay buyer and seller for what the guest computed; costs: fee and anchor.

    Exercised early it is that amount, at expiry what the contract's rule makes of it: that of the offer which both have
    signed, with the guest run where it asks. Raises NotFoundError, NotHeldError.
    """
    payout, terms = output.payout_sats, agreed_terms(session, option.id)
    if payout and settlement.reason != "early_exercise":
        guest = guest_payouts(terms_of(option), load_program_by_hash(option.program_sha256, name=option.program))
        event, price = event_of(option), SettlementInput.from_bytes(bytes.fromhex(settlement.input_hex)).spot
        payout = paid_at(terms, guest, event.outcome(price), event=event)
    return split(Sats(option.collateral_sats), payout, costs, nearest=terms.nearest_dust)


def _sats(output: Any) -> int:  # noqa: ANN401 - JSON
    return int(output["value"] * SATS_PER_BTC)


def paid(
    session: Session, option: OptionRow, settlement: SettlementRow, output: SettlementOutput, transaction: Any,  # noqa: ANN401 - JSON
) -> list[str]:  # fmt: skip
    """Return what is wrong with the outputs of a settlement on chain: each party gets its share of the fee-less rest.

    At expiry payouts follow the rule of the contract; exercised early they are exact.
    """
    kept = json.loads(option.contract or "{}")
    sums: Counter[str] = Counter()
    for one in transaction["vout"]:
        sums[one["scriptPubKey"]["hex"]] += _sats(one)
    found = {name: sums[kept.get(f"{name}_script", "")] for name in ("buyer", "seller")}
    costs = Sats(option.collateral_sats - sum(found.values()))
    buyer, seller = owed(session, option, settlement, output, costs=costs)
    return [
        f"{name} got {found[name]} sats on chain, expected {expected}"
        for name, expected in (("buyer", buyer), ("seller", seller))
        if found[name] != expected
    ]


def books(session: Session, view: ChainView, option: OptionRow, settlement: SettlementRow) -> list[str]:
    """Return where the store's amounts are not the chain's: what was paid, and the fees.

    The anchor's value is in no fee of the settlement, and once in its child's.
    """
    txid = settlement.txid or ""
    found = pays(option, parse_transaction(bytes.fromhex(view.transactions[txid]["hex"])))
    if found is None:
        return ["the settlement's outputs do not tell who is paid"]
    known, child = chain_views.transaction(session, txid), transaction_of(session, option.id, CHILD)
    checks: list[tuple[str, int | None, int]] = [
        ("paid to the buyer", settlement.paid_sats, found.buyer),
        ("returned to the seller", settlement.returned_sats, found.seller),
        ("the settlement's fee", settlement.fee_sats, found.fee),
        ("its transaction's fee", None if known is None else known.fee_sats, found.fee),
    ]
    if child is not None and child.fee_sats and (spent := view.fee_of(child.txid)) is not None:
        checks.append(("its child's fee", child.fee_sats, spent))
    return [f"{what} is {said} sats in the store, {value} on chain" for what, said, value in checks if said != value]


def batched(
    session: Session, view: ChainView, option: OptionRow, settlement: SettlementRow, output: SettlementOutput
) -> list[str]:
    """Return what is wrong with a settlement that shares its transaction: its own part, and the whole of it.

    Its part is what its CET would pay, less its share of the fee (``contracts.batch``). Of the whole: the inputs are
    the collaterals that the store names, the outputs each owner's sum, the last one the root of all proof roots.
    Raises NotFoundError, NotHeldError.
    """
    ends, chain = batches.batch_of(session, settlement), view.transactions[settlement.txid or ""]
    ours = next((one for one in ends if one.option_id == option.id), None)
    if ours is None:
        return [f"settled by batch {settlement.txid}, which does not name it"]
    costs = Sats(ANCHOR.value + agreed_terms(session, option.id).cet_fee)
    buyer, seller = owed(session, option, settlement, output, costs=costs)
    due = dues_of(Sats(option.collateral_sats), Split(buyer=buyer, seller=seller), Sats(ours.share_sats))
    checks: list[tuple[str, object, object]] = [
        ("of the batch to the buyer", ours.paid_sats, _unless_dust(due.buyer, ours.paid_sats, ours.share_sats)),
        ("of the batch to the seller", ours.returned_sats, _unless_dust(due.seller, ours.returned_sats,
                                                                        ours.share_sats)),
        ("the three parts of the collateral", ours.paid_sats + ours.returned_sats + ours.fee_sats,
         option.collateral_sats),
        ("the settlement's amounts", (settlement.paid_sats, settlement.returned_sats, settlement.fee_sats),
         (ours.paid_sats, ours.returned_sats, ours.fee_sats)),
        ("its proof root under the batch's", ours.proof_root, settlement.proof_root),
    ]  # fmt: skip
    return [f"{what}: {found} in the store, expected {expected}" for what, found, expected in checks
            if found != expected] + _whole_batch(session, view, settlement.txid or "", ends, chain)  # fmt: skip


def _unless_dust(due: int, paid: int, share: int) -> int:
    """Return what a part must be: nothing where all that its owner is due, which is no less, would be dust."""
    return 0 if not paid and due < DUST_P2TR + share else due


def _whole_batch(
    session: Session, view: ChainView, txid: str, ends: Sequence[BatchEndRow], chain: Any,  # noqa: ANN401 - JSON
) -> list[str]:  # fmt: skip
    options = {one.option_id: session.get_one(OptionRow, one.option_id) for one in ends}
    sums: Counter[str] = Counter()
    for end in ends:
        kept = json.loads(options[end.option_id].contract or "{}")
        sums[kept.get("buyer_script", "")] += end.paid_sats
        sums[kept.get("seller_script", "")] += end.returned_sats
    outputs = Counter({one["scriptPubKey"]["hex"]: _sats(one) for one in chain["vout"][:-1]})
    leaves = [AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=hash32(bytes.fromhex(one.proof_root))) for one in ends]
    root = record_script(RecordType.ANCHOR, anchor_root(leaves)).hex()
    known = chain_views.transaction(session, txid)
    checks = [
        ("inputs", [f"{one['txid']}:{one['vout']}" for one in chain["vin"]],
         [f"{options[one.option_id].funding_txid}:0" for one in ends]),
        ("outputs", dict(outputs), {script: value for script, value in sums.items() if value}),
        ("root", chain["vout"][-1]["scriptPubKey"]["hex"], root),
        ("fee", view.fee_of(txid), sum(one.fee_sats for one in ends)),
        ("fee in the store", None if known is None else known.fee_sats, sum(one.fee_sats for one in ends)),
    ]  # fmt: skip
    return [f"the batch's {what}: {found} on chain, the store says {expected}" for what, found, expected in checks
            if found != expected]  # fmt: skip


def fresh_run(program: Program, input_hex: str) -> SettlementOutput:
    """Run the guest once more, on the interpreter alone, and return its output."""
    return SettlementOutput.from_bytes(run_untraced(program, bytes.fromhex(input_hex), max_steps=MAX_STEPS).output)


def replay_events(session: Session) -> list[Finding]:
    """Replay the event log: every edge allowed, each from where the last one led, the end where the row stands."""
    states: dict[tuple[str, str], str] = {}
    found = []
    load_tables()
    known = machines()
    for row in session.execute(select(EventRow).order_by(col(EventRow.id))).scalars():
        key = (row.entity, row.entity_id)
        if row.entity not in known:
            continue
        if row.from_state != states.get(key, ""):
            found.append(_event(row, f"leaves {row.from_state or 'nothing'}, was {states.get(key, 'nothing')}"))
        if row.from_state and (row.from_state, row.to_state) not in known[row.entity][1].edges:
            found.append(_event(row, f"no edge from {row.from_state} to {row.to_state}"))
        states[key] = row.to_state
    for entity, (table, machine) in known.items():
        key, state_column = getattr(table, machine.key), table.state  # type: ignore[attr-defined]
        for identity, state in session.execute(select(key, state_column)):
            replayed = states.pop((entity, str(identity)), "")
            if replayed != state:
                found.append(
                    Finding(subject=f"{entity} {identity}", what=f"is {state}, its events end in {replayed!r}")
                )
    found += [Finding(subject=f"{e} {i}", what="has events and no row") for (e, i) in states]
    return found


def _event(row: EventRow, what: str) -> Finding:
    return Finding(subject=f"event {row.id} of {row.entity} {row.entity_id}", what=what)


# ---- swaps


def swapped(session: Session) -> list[Finding]:
    """Return what is wrong with swaps: money that is nowhere, a week settled twice or by other returns than its own."""
    found = []
    if missing := swap_views.sums(session).missing:
        found.append(Finding(subject="swaps", what=f"{missing} sats were paid in and are nowhere"))
    settled = Counter(session.execute(select(col(SwapSettlementRow.book_id))).scalars())
    found += [
        Finding(subject=f"swap book {name}", what=f"{weeks} weeks, {settled[name]} settlements")
        for name, weeks in session.execute(select(col(SwapBookRow.id), col(SwapBookRow.weeks)))
        if weeks != settled[name]
    ]
    computed = session.execute(select(SwapWeekRow).where(col(SwapWeekRow.returns).is_not(None))).scalars()
    problems = ((week.id, _returns(session, week)) for week in computed)
    return found + [Finding(subject=f"swap week {name}", what=problem) for name, problem in problems if problem]


def _returns(session: Session, week: SwapWeekRow) -> str:
    """Return what is wrong with a week's returns, computed anew from the prices that were posted."""
    stored, swap = swap_rows.returns_of(week), session.get(SwapRow, week.contract)
    if stored is None or swap is None:
        return "its returns are not whole"
    past = SwapBoardRow(id=0, week=week.week + 1)
    board = replace(swap_rows.board_of(session, past), settlement_at=stored.computed_at)
    try:
        anew = compute_returns(
            swap_rows.contract_of(swap), replace(board, slots=board.slots[:1]), stored.rates, now=stored.computed_at
        )
    except BtcfiError as e:
        return str(e)
    return "" if anew == stored else "its returns are not those of its prices"


# ---- the market


def traded(session: Session, *, now: UnixSeconds | None = None) -> list[Finding]:
    """Return what is wrong with takes: lost, doubled, made of anything but both signed texts, more than was offered.

    now: the wall clock, by which a take that is neither funded nor failed after LATE_SECONDS is lost; None: none is.
    """
    found = [Finding(subject=f"take {take_id}", what=problem) for take_id, problem in _takes(session, now)]
    found += [Finding(subject=f"transfer {name}", what=problem) for name, problem in _transfers(session, now)]
    found += [Finding(subject=f"option {option_id}", what=problem) for option_id, problem in _made(session)]
    return found + [Finding(subject=f"offer {offer_id}", what=problem) for offer_id, problem in _offered(session)]


def _takes(session: Session, now: UnixSeconds | None) -> Iterator[tuple[str, str]]:
    accounts = {row.id: row for row in session.execute(select(AccountRow)).scalars()}
    query = (
        select(TakeRow, FirmOfferRow, OptionRow)
        .join(FirmOfferRow, col(FirmOfferRow.id) == col(TakeRow.offer_id))
        .join(OptionRow, col(OptionRow.id) == col(TakeRow.option_id))
        .order_by(col(TakeRow.id))
    )
    for take, offer, option in session.execute(query.execution_options(yield_per=500)):
        try:
            problems = _deal(take, offer, option, accounts)
        except (BtcfiError, ValueError) as e:  # the others can still be audited
            problems = [str(e)]
        late = now is not None and now - take.updated_at_unix >= LATE_SECONDS
        over = option.state == OptionState.CANCELLED
        if take.state == TakeState.FAILED and not over:
            problems.append(f"failed, and its option is {option.state}")
        # what both have signed the buyer may fund for hours, and the option says what became of it
        if late and (take.state == TakeState.TAKEN or (over and take.state != TakeState.FAILED)):
            problems.append(f"lost: {take.state} for {LATE_SECONDS} s, and its option is {option.state}")
        yield from ((take.id, problem) for problem in problems)


def _transfers(session: Session, now: UnixSeconds | None) -> Iterator[tuple[str, str]]:
    """Yield the transfers that are anything but what their three signed texts say, or that are lost."""
    for row in session.execute(select(TransferRow).order_by(col(TransferRow.id))).scalars():
        try:
            problems = _three_texts(session, row)
        except (BtcfiError, ValueError, KeyError) as e:  # the others can still be audited
            problems = [str(e)]
        if now is not None and row.state == TransferState.TAKEN and now - row.until_unix >= LATE_SECONDS:
            problems.append(f"lost: {row.state} {now - row.until_unix:,} s after its time")
        yield from ((row.id, problem) for problem in problems)


def _three_texts(session: Session, row: TransferRow) -> list[str]:
    """Return where a transfer is not what follows from its texts, or its new option from its old one."""
    part = decode_part(json.loads(row.part))
    deal = check_part(part, desk=part.offer.offer.desk)
    old, new = session.get_one(OptionRow, row.option_id), session.get(OptionRow, row.new_option_id)
    kept = contracts.find_contract(session, row.option_id)
    checks: list[tuple[str, object, object]] = [
        ("its id", deal.take_id.hex(), row.id), ("its price, sats", deal.price, row.price_sats),
        ("its end", deal.until, row.until_unix), ("its new option", part.take.take.option_id, row.new_option_id),
        ("its contract", deal.contract_id.hex(), None if kept is None else kept.contract_id),
        *((owner.value, deal.identities[owner].hex(), getattr(row, owner.value)) for owner in Owner),
        ("the old writer", row.seller, old.writer), ("the old holder", row.holder, old.holder),
    ]  # fmt: skip
    if new is not None:
        checks += [
            ("the new writer", row.seller, new.writer), ("the new holder", row.newcomer, new.holder),
            ("terms", terms_of(old), terms_of(new)), ("premium, sats", old.premium_sats, new.premium_sats),
        ]  # fmt: skip
    elif row.state in (TransferState.SIGNED, TransferState.DONE):
        return [f"{row.state}, and option {row.new_option_id} is not there"]
    return [f"{what} is {found}, and should be {wanted}" for what, wanted, found in checks if wanted != found]


def _deal(take: TakeRow, offer: FirmOfferRow, option: OptionRow, accounts: Mapping[str, AccountRow]) -> list[str]:
    """Return where an option is not what follows from the two signed texts of its take. Raises BtcfiError."""
    said, wanted = decode_signed_offer(json.loads(offer.body)), decode_signed_take(json.loads(take.body))
    deal = deal_of(said.offer, wanted.take)
    checks: list[tuple[str, object, object]] = [
        ("the offer's id", said.offer.id.hex(), offer.id), ("the take's id", wanted.take.id.hex(), take.id),
        ("the option's id", wanted.take.option_id, option.id), ("the option's take", take.id, option.take_id),
        ("terms", deal.terms, terms_of(option)), ("premium, sats", deal.premium, option.premium_sats),
        ("writer", deal.seller.hex(), option.writer), ("holder", deal.buyer.hex(), option.holder),
        ("maker", said.offer.maker.hex(), take.maker), ("taker", wanted.take.taker.hex(), take.taker),
        ("quantity", wanted.take.quantity, take.quantity), ("quantity offered", said.offer.quantity, offer.quantity),
        # at the step of an auction that it names, which the deal above has held against the offer
        ("price, sats", wanted.take.price, take.price_sats),
        ("price, cents", wanted.take.price_cents, take.price_cents),
        ("instrument", said.offer.instrument.name, take.instrument), ("side", said.offer.side, take.side),
    ]  # fmt: skip
    problems = [
        f"{what} is {found}, both signed texts say {expected}" for what, expected, found in checks if expected != found
    ]
    # of an account whose keys are newer, the older ones are not here
    maker, taker = accounts[take.maker], accounts[take.taker]
    if maker.updated_at_unix <= offer.created_at_unix:
        check_offer(said, bytes.fromhex(maker.request_key))
    if taker.updated_at_unix <= take.created_at_unix:
        check_take(wanted, bytes.fromhex(taker.request_key))
    return problems


def _made(session: Session) -> Iterator[tuple[str, str]]:
    """Yield the options that name a take which is not there, or one that made another option."""
    query = (
        select(col(OptionRow.id), col(OptionRow.take_id), col(TakeRow.option_id))
        .outerjoin(TakeRow, col(TakeRow.id) == col(OptionRow.take_id))
        .where(col(OptionRow.take_id).is_not(None))
        .order_by(col(OptionRow.id))
    )
    for option_id, take_id, made in session.execute(query):
        if made != option_id:
            what = "which there is not" if made is None else f"which made option {made}: doubled"
            yield option_id, f"names take {take_id}, {what}"


def _offered(session: Session) -> Iterator[tuple[str, str]]:
    """Yield the offers of which more was taken than there was, or another quantity than is missing."""
    standing = func.sum(case((col(TakeRow.state) != TakeState.FAILED, col(TakeRow.quantity)), else_=0))
    taken = select(col(TakeRow.offer_id), standing.label("taken")).group_by(col(TakeRow.offer_id)).subquery()
    query = (
        select(col(FirmOfferRow.id), col(FirmOfferRow.quantity), col(FirmOfferRow.remaining), taken.c.taken)
        .outerjoin(taken, taken.c.offer_id == col(FirmOfferRow.id))
        .order_by(col(FirmOfferRow.id))
    )
    for offer_id, quantity, remaining, of_it in session.execute(query):
        if not 0 <= remaining == quantity - (of_it or 0):
            yield offer_id, f"{quantity}/100 BTC, {of_it or 0} of it taken, and {remaining} said to be left"


def unpublished(store: Store, *, older_than: int) -> int:
    """Return how many outbox rows still wait although they were written before ``older_than``."""
    with store.reading() as session:
        query = select(OutboxRow).where(
            col(OutboxRow.published_at_unix).is_(None), col(OutboxRow.created_at_unix) < older_than
        )
        return len(list(session.execute(query).scalars()))


def states_of(store: Store) -> dict[str, str]:
    """Return every option of the store and its state. Raises NotFoundError when there is none."""
    with store.reading() as session:
        query = select(col(OptionRow.id), col(OptionRow.state)).order_by(col(OptionRow.id))
        states = {str(name): str(state) for name, state in session.execute(query)}
    if not states:
        raise NotFoundError("option", "any", "nothing was sold, so there is nothing to audit yet")
    return states
