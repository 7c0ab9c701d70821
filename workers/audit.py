"""The promise, checked from outside: every due option settled once on chain, for what its program pays.

Nothing here trusts the pipeline. Spends are counted by walking the chain's blocks over JSON-RPC; payouts come from a
fresh run of the guest; states are replayed from the event log. ``btcfi chaos`` asks after each fault, ``btcfi audit``
any time.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import select
from sqlmodel import Session, col

from btcfi.adapters.chain.node import Node
from btcfi.adapters.store.options import holds
from btcfi.adapters.store.options.options import changed, contract_event, event_of
from btcfi.adapters.store.options.tables import OptionRow, OptionState, SettlementRow, SettlementState
from btcfi.adapters.store.prices.fixings import fixing_of
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.machines import machines
from btcfi.adapters.store.spine.schema import load_tables
from btcfi.adapters.store.spine.tables import EventRow, OutboxRow
from btcfi.contracts.buckets import round_payout
from btcfi.contracts.option import split
from btcfi.errors import BtcfiError, NotFoundError, NotHeldError
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.payoff import settle_in_python
from btcfi.oracle.quote import Feed
from btcfi.proofs.errors import ProofWindowError
from btcfi.proofs.window import check_window, read_window
from btcfi.units import Sats, Slot
from btcfi.vm.interpreter import run_untraced
from btcfi.vm.program import Program, load_program_by_hash
from settings.preset import load_preset_by_hash

SETTLED: Final = OptionRow.__machine__.ends
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

    def follow(self, node: Node) -> None:
        """Take in the blocks since the last one. The chain must not have been reorganised below it."""
        tip = int(node.call("getblockcount"))
        while self.height < tip:
            self.height += 1
            block = node.call("getblock", node.call("getblockhash", self.height), 2)
            for transaction in block["tx"]:
                self._take(transaction)

    def _take(self, transaction: Any) -> None:  # noqa: ANN401 - JSON
        txid = transaction["txid"]
        self.transactions[txid] = transaction
        for spent in transaction["vin"]:
            if "txid" in spent:
                self.spends[f"{spent['txid']}:{spent['vout']}"].append(txid)
        for output in transaction["vout"]:
            address = output["scriptPubKey"].get("address")
            if address is not None:
                self.paid_to[address].append(f"{txid}:{output['n']}")


def audit(store: Store, view: ChainView, ids: Iterable[str], *, complete: bool = True) -> list[Finding]:
    """Return every promise that is broken for these options; an empty list is the good answer.

    complete: whether all of them should be settled by now; else what is settled is checked and the rest only counted.
    """
    found: list[Finding] = []
    with store.reading() as session:
        for option_id in ids:
            option = session.get(OptionRow, option_id)
            if option is None:
                found.append(Finding(subject=option_id, what="lost: the store does not know it"))
                continue
            settlement = session.execute(
                select(SettlementRow).where(col(SettlementRow.option_id) == option_id)
            ).scalar_one_or_none()
            found += _option(session, view, option, settlement, complete=complete)
        found += replay_events(session)
    return found


def _option(
    session: Session, view: ChainView, option: OptionRow, settlement: SettlementRow | None, *, complete: bool
) -> list[Finding]:
    problems: list[str] = []
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
        problems += _payout(session, view, option, settlement)
    except NotHeldError as e:  # the others can still be audited
        problems.append(str(e))
    return [Finding(subject=option.id, what=problem) for problem in problems]


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


def _payout(session: Session, view: ChainView, option: OptionRow, settlement: SettlementRow) -> list[str]:
    """Compare what the guest pays in a fresh run, what Python pays, what the store says and what the chain paid."""
    given = SettlementInput.from_bytes(bytes.fromhex(settlement.input_hex))
    output = fresh_run(load_program_by_hash(option.program_sha256, name=option.program), settlement.input_hex)
    problems = _window(settlement)
    for what, expected, found in (
        ("payout in the store", output.payout_sats, settlement.payout_sats),
        ("payout of the twin in Python", output.payout_sats, settle_in_python(given).payout_sats),
        ("state", OptionState.EXERCISED if output.payout_sats else OptionState.ABANDONED, option.state),
        ("price of the settlement", _price_of(session, option, settlement), given.spot),
        ("strike", option.strike_cents, given.strike),
    ):
        if expected != found:
            problems.append(f"{what} is {found}, expected {expected}")
    if settlement.reason == "expiry" and Slot(settlement.slot) < option.expiry_unix:
        problems.append(f"settled at slot {settlement.slot}, before its expiry {option.expiry_unix}")
    transaction = view.transactions.get(settlement.txid or "")
    if transaction is None:
        problems.append("the settlement's transaction is not in the chain")
    else:
        problems += paid(option, settlement, output, transaction)
    return problems


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


def paid(option: OptionRow, settlement: SettlementRow, output: SettlementOutput, transaction: Any) -> list[str]:  # noqa: ANN401 - JSON
    """Return what is wrong with the outputs of a settlement on chain: each party gets its share of the fee-less rest.

    At expiry payouts are whole steps of the preset, the rest of a step stays with the seller; exercised early they are
    exact.
    """
    kept = json.loads(option.contract or "{}")
    sums: Counter[str] = Counter()
    for one in transaction["vout"]:
        sums[one["scriptPubKey"]["hex"]] += int(one["value"] * SATS_PER_BTC)
    found = {name: sums[kept.get(f"{name}_script", "")] for name in ("buyer", "seller")}
    collateral = Sats(option.collateral_sats)
    preset = load_preset_by_hash(option.preset_sha256, name=option.preset)
    step = 1 if settlement.reason == "early_exercise" else preset.step_sats
    payout = round_payout(output.payout_sats, step=Sats(step), rounding=preset.rounding, collateral=collateral)
    buyer, seller = split(collateral, payout, Sats(collateral - sum(found.values())))
    return [
        f"{name} got {found[name]} sats on chain, expected {expected}"
        for name, expected in (("buyer", buyer), ("seller", seller))
        if found[name] != expected
    ]


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


def unpublished(store: Store, *, older_than: int) -> int:
    """Return how many outbox rows still wait although they were written before ``older_than``."""
    with store.reading() as session:
        query = select(OutboxRow).where(
            col(OutboxRow.published_at_unix).is_(None), col(OutboxRow.created_at_unix) < older_than
        )
        return len(list(session.execute(query).scalars()))


def settled_ids(store: Store) -> Sequence[str]:
    """Return every option that the store calls settled. Raises NotFoundError when there is none."""
    with store.reading() as session:
        ids = list(session.execute(select(col(OptionRow.id)).where(col(OptionRow.state).in_(SETTLED))).scalars())
    if not ids:
        raise NotFoundError("settled option", "any", "nothing to audit yet")
    return ids
