"""Batches at the service: which settlements wait for one, its rounds, what it pays, and what follows where it fails.

A settlement whose both sides have said yes is held back for seconds once it is proven and attested, gathered with
others, and asked about by rounds (``contracts.batching``); what comes to nothing goes its way by its CET. Whatever
process takes an answer moves the rounds: they are a row. Source: docs/decisions/0076.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import UNMINED, TransactionRow, TransactionState
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.batch_tables import BatchEndRow, BatchPartRow, BatchRow, BatchState
from btcfi.adapters.store.options.building import check_computed, completed
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.purposes import BATCH
from btcfi.adapters.store.options.settled import in_words, paid_columns
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow, SettlementState
from btcfi.adapters.store.spine.edges import Crossing, Work, count, cross, cross_all, enqueue, record, upsert
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint, Transaction, parse_transaction
from btcfi.contracts import batching
from btcfi.contracts.anchor import AnchorItem, AnchorKind, anchor_path, anchor_root
from btcfi.contracts.batch import Batch, Ending, NotAskedError, Side, divide
from btcfi.contracts.batching import Apart, Batching, Stage, Why
from btcfi.contracts.batching_state import decode_state, encode_state
from btcfi.contracts.messages import Role
from btcfi.contracts.paid import Paid
from btcfi.errors import BtcfiError, NotFoundError
from btcfi.hashes import tagged_hash
from btcfi.units import Hash32, Height, Sats, UnixSeconds, display_txid, hash32

GATHER_SECONDS: Final = 5
"""From the first settlement that may go together with others until they do: a minute's are proven within seconds."""

HOLD_SECONDS: Final = 20
"""A settlement that waits to be gathered is sent by its CET after so long: nobody gathers."""

PATIENCE_SECONDS: Final = 240
"""From the first proposal of a batch, in which all of it ends: six rounds that time out, or tries and pairs."""

LAST_BLOCKS: Final = 36
"""Before its refund height no contract is gathered: its CET, paid more and more, must still be in time."""

LATE_BLOCKS: Final = 6
"""So long a signed batch may wait for its block; then its contracts are sent by CETs."""

ALONE: Final = "nothing ends together with it"
SCRIPT: Final = "one of its sides is paid elsewhere than by its other contracts"
REFUSED: Final = "the node took the batch not"
WAITED: Final = f"no block took the batch in {LATE_BLOCKS}"

_ID_TAG: Final = "BTCFi/batch/id/v1"
_ID_SIZE: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A batch that asks, as letters need it."""

    id: str
    state: Batching
    events: Mapping[str, tuple[str, ...]]
    """By owner: the oracle events of its contracts, whose attestations it needs."""


# ---- who agrees


def consent(session: Session, option_id: str, role: Role, *, now: UnixSeconds) -> None:
    """Note that one side of an option agrees to its ending together with others; the first yes counts."""
    made = upsert(session, BatchPartRow).values(option_id=option_id)
    session.execute(made.on_conflict_do_nothing(index_elements=["option_id"]))
    row = session.get_one(BatchPartRow, option_id, with_for_update=True, populate_existing=True)
    if role is Role.BUYER:
        row.buyer_at_unix = row.buyer_at_unix or now
    else:
        row.seller_at_unix = row.seller_at_unix or now


def held_back(*, gathering: bool, now: UnixSeconds) -> ColumnElement[bool]:
    """Return the condition that a settlement waits for a batch, so that no CET of it is sent yet.

    gathering: whether this service makes any; one that is on its way goes on all the same.
    """
    part, row = BatchPartRow, SettlementRow
    asked = (
        select(part)
        .join(BatchRow, col(BatchRow.id) == col(part.batch_id))
        .where(
            col(part.option_id) == col(row.option_id), col(part.why).is_(None),
            col(BatchRow.state) == BatchState.ASKING, col(BatchRow.until_unix) > now,
        )
        .exists()
    )  # fmt: skip
    if not gathering:
        return asked
    young = exists().where(
        col(part.option_id) == col(row.option_id), _agreed(), col(row.updated_at_unix) > now - HOLD_SECONDS
    )
    return or_(asked, young)


def _agreed() -> ColumnElement[bool]:
    part = BatchPartRow
    return and_(
        col(part.buyer_at_unix).is_not(None), col(part.seller_at_unix).is_not(None), col(part.batch_id).is_(None),
        col(part.why).is_(None),
    )  # fmt: skip


# ---- which go together


def waits(session: Session, *, now: UnixSeconds) -> bool:
    """Return whether something has waited long enough to be gathered."""
    ripe = (
        select(SettlementRow)
        .join(BatchPartRow, col(BatchPartRow.option_id) == col(SettlementRow.option_id))
        .where(
            col(SettlementRow.state) == SettlementState.PROVEN, col(SettlementRow.reason) == "expiry", _agreed(),
            col(SettlementRow.updated_at_unix) <= now - GATHER_SECONDS,
        )
        .exists()
    )  # fmt: skip
    return bool(session.execute(select(ripe)).scalar_one())


def gather(session: Session, *, tip: Height, rate: SatsPerKvb, now: UnixSeconds, limit: int = 1_024) -> list[str]:
    """Begin batches of what waits for one, once the first of it has waited GATHER_SECONDS; return their ids.

    What nothing goes together with, or is near its refund height, goes by its CET.
    """
    query = (
        select(SettlementRow, OptionRow)
        .join(OptionRow, col(OptionRow.id) == col(SettlementRow.option_id))
        .join(BatchPartRow, col(BatchPartRow.option_id) == col(OptionRow.id))
        .where(
            col(SettlementRow.state) == SettlementState.PROVEN, col(SettlementRow.reason) == "expiry", _agreed(),
            col(OptionRow.writer).is_not(None), col(OptionRow.holder).is_not(None),
            col(OptionRow.writer) != col(OptionRow.holder), col(OptionRow.refund_height) > tip + LAST_BLOCKS,
        )
        .order_by(col(SettlementRow.updated_at_unix), col(OptionRow.id))
    )  # fmt: skip
    # of two processes that gather at once one has each: the other passes over what is locked
    rows = session.execute(query.limit(limit).with_for_update(of=BatchPartRow, skip_locked=True)).all()
    if not rows or rows[0][0].updated_at_unix > now - GATHER_SECONDS:
        return []
    found = _endings(session, [(settlement, option) for settlement, option in rows])
    fit, scripts = _of_one_script(session, found)
    begun = []
    for some in divide(list(fit)):
        if len(some) == 1:
            _set_aside(session, {fit[some[0]]: ALONE})
            continue
        begun.append(_begin(session, some, {one: fit[one] for one in some}, scripts, rate=rate, now=now))
    if begun or fit:
        enqueue(session, [Work(flow="send")], now=now)  # what was set apart
    return begun


def _endings(session: Session, rows: Sequence[tuple[SettlementRow, OptionRow]]) -> dict[Ending, str]:
    """Return the ends of settlements whose outcome is attested, with their options; the others wait."""
    executables = contracts.executables_of(session, [option for _, option in rows], damaged_apart=True)
    found = {}
    for settlement, option in rows:
        try:
            executable, kept = executables.get(option.id), contracts.find_contract(session, option.id)
            if executable is None or kept is None:
                raise NotFoundError("checked contract", option.id)
            cet = completed(executable)
            check_computed(settlement, option, executable, cet)
            first, second = contracts.halves_of(session, kept)
        except BtcfiError:
            continue  # why, its CET will say
        keys = {first.role: first.party.key, first.role.other: second.party.key}
        ending = Ending.of(
            executable.plan, cet.bucket, buyer=Side(owner=str(option.holder), key=keys[Role.BUYER]),
            seller=Side(owner=str(option.writer), key=keys[Role.SELLER]),
            proof_root=Hash32(bytes.fromhex(settlement.proof_root or "")),
        )  # fmt: skip
        found[ending] = option.id
    return found


def _of_one_script(session: Session, found: Mapping[Ending, str]) -> tuple[dict[Ending, str], dict[str, bytes]]:
    """Return the ends of which each owner is paid at one script, and these; the others are set aside."""
    scripts: dict[str, bytes] = {}
    fit, aside = {}, {}
    for ending, option_id in found.items():
        wanted = {ending.buyer.owner: ending.contract.buyer_script, ending.seller.owner: ending.contract.seller_script}
        if any(scripts.get(owner, script) != script for owner, script in wanted.items()):
            aside[option_id] = SCRIPT
        else:
            scripts |= wanted
            fit[ending] = option_id
    _set_aside(session, aside)
    return fit, scripts


def _set_aside(session: Session, whys: Mapping[str, str]) -> None:
    for option_id, why in whys.items():
        session.get_one(BatchPartRow, option_id).why = why


def _begin(
    session: Session, some: Sequence[Ending], options: Mapping[Ending, str], scripts: Mapping[str, bytes], *,
    rate: SatsPerKvb, now: UnixSeconds,
) -> str:  # fmt: skip
    owners = {owner for one in some for owner in one.owners}
    ours = {owner: script for owner, script in scripts.items() if owner in owners}
    state = batching.start(some, ours, rate=rate, now=now, until=UnixSeconds(now + PATIENCE_SECONDS))
    named = {str(one.funding): options[one] for one in some}
    return _add(session, state, named, now=now)


def _add(session: Session, state: Batching, options: Mapping[str, str], *, now: UnixSeconds) -> str:
    text = "".join(sorted(options)) + f"/{now}/{state.by_two}"
    name = tagged_hash(_ID_TAG, text.encode())[:_ID_SIZE].hex()
    row = BatchRow(
        id=name, body=_body(state, options), until_unix=state.until, created_at_unix=now, updated_at_unix=now
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "batch", name, BatchState.ASKING, now=now, detail=f"{len(options)} contracts")
    for option_id in options.values():
        part = session.get_one(BatchPartRow, option_id)
        part.batch_id, part.why = name, None
    _note(session, row, state, options, now=now)
    return name


# ---- its rounds


def is_owner(session: Session, batch: str, account: str) -> bool:
    """Return whether an account is among the owners that a batch asks."""
    row = session.get(BatchRow, batch)
    return row is not None and account in json.loads(row.body)["state"]["scripts"]


def move(
    session: Session, batch: str, step: Callable[[Batching], Batching], *, now: UnixSeconds
) -> bool:  # fmt: skip
    """Take one step of a batch that asks, and what follows from it; return whether it still asks.

    Raises NotAskedError where it does not, and what the step raises: then nothing has changed.
    """
    row = session.get(BatchRow, batch, with_for_update=True, populate_existing=True)
    if row is None or row.state != BatchState.ASKING:
        raise NotAskedError(0, "of this batch is not asked about")
    state, options = _read(row)
    _note(session, row, step(state), options, now=now)
    return row.state == BatchState.ASKING


def asking(session: Session) -> list[Open]:
    """Return the batches that ask."""
    found = []
    for row in session.execute(select(BatchRow).where(col(BatchRow.state) == BatchState.ASKING)).scalars():
        state, options = _read(row)
        found.append(Open(id=row.id, state=state, events=_events(session, state, options)))
    return found


def find_asking(session: Session, batch: str) -> Open | None:
    """Return a batch that asks, None where it does not."""
    row = session.get(BatchRow, batch)
    if row is None or row.state != BatchState.ASKING:
        return None
    state, options = _read(row)
    return Open(id=row.id, state=state, events=_events(session, state, options))


def untold(session: Session) -> list[tuple[str, int, tuple[str, ...], Transaction]]:
    """Return the signed batches that a node has taken: id, number, owners, transaction."""
    query = (
        select(BatchRow)
        .join(TransactionRow, col(TransactionRow.txid) == col(BatchRow.txid))
        .where(col(BatchRow.state) == BatchState.SIGNED, col(TransactionRow.state) != TransactionState.BUILT,
               col(TransactionRow.state) != TransactionState.CONFLICTED)
    )  # fmt: skip
    found = []
    for row in session.execute(query).scalars():
        state, _ = _read(row)
        if state.batch is not None and state.signed is not None:
            found.append((row.id, state.number, state.batch.owners, state.signed))
    return found


def is_anything(session: Session) -> bool:
    """Return whether any batch is on its way."""
    on_its_way = exists().where(col(BatchRow.state).in_((BatchState.ASKING, BatchState.SIGNED)))
    return bool(session.execute(select(on_its_way)).scalar_one())


def _events(session: Session, state: Batching, options: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    query = select(col(ContractRow.option_id), col(ContractRow.event_id)).where(
        col(ContractRow.option_id).in_(list(options.values()))
    )
    of = {row[0]: row[1] for row in session.execute(query)}
    found: dict[str, set[str]] = {}
    for one in state.endings:
        for owner in one.owners:
            found.setdefault(owner, set()).add(of[options[str(one.funding)]])
    return {owner: tuple(sorted(some)) for owner, some in found.items()}


def _body(state: Batching, options: Mapping[str, str]) -> str:
    return json.dumps({"state": encode_state(state), "options": dict(options)})


def _read(row: BatchRow) -> tuple[Batching, dict[str, str]]:
    body = json.loads(row.body)
    return decode_state(body["state"]), body["options"]


def _note(session: Session, row: BatchRow, state: Batching, options: Mapping[str, str], *, now: UnixSeconds) -> None:
    """Write down where a batch is now, and do what follows."""
    if state.stage is Stage.SIGNED and (moved := _moved(session, state, options)):
        state = batching.spent_otherwise(state, moved, now=now)
        _note(session, row, state, options, now=now)
        return
    _set_aside(session, {options[str(one.ending.funding)]: one.why.value for one in state.apart})
    row.body, row.updated_at_unix = _body(state, options), now
    session.flush()
    if state.stage is Stage.SIGNED:
        _sign(session, row, state, options, now=now)
    elif state.stage is Stage.OVER:
        _end(session, row, state, options, now=now)


def _settlements(session: Session, options: Collection[str]) -> dict[str, SettlementRow]:
    """Return settlements by option, locked: what is decided of them is done in this transaction."""
    query = select(SettlementRow).where(col(SettlementRow.option_id).in_(list(options))).order_by(col(SettlementRow.id))
    found = session.execute(query.with_for_update(), execution_options={"populate_existing": True}).scalars()
    return {row.option_id: row for row in found}


def _moved(session: Session, state: Batching, options: Mapping[str, str]) -> set[OutPoint]:
    """Return the collaterals whose settlements have gone their own way while the batch asked."""
    rows = _settlements(session, options.values())

    def waits(one: Ending) -> bool:
        row = rows[options[str(one.funding)]]
        right = row.state == SettlementState.PROVEN and row.reason == "expiry"
        return right and row.proof_root == one.proof_root.hex()

    return {one.funding for one in state.endings if not waits(one)}


def _sign(session: Session, row: BatchRow, state: Batching, options: Mapping[str, str], *, now: UnixSeconds) -> None:
    """Keep the transaction that all have signed, have it sent, and note what it pays of each contract."""
    batch, made = state.batch, state.signed
    if batch is None or made is None:
        raise NotAskedError(state.number, "is not signed")
    txid, names = display_txid(made.txid), [options[str(one.funding)] for one in batch.endings]
    rows, paid = _settlements(session, names), batch.paid_each()
    crossings = [
        Crossing(row=rows[name], fence=rows[name].fence, changes=_columns(txid, one), detail=_words(rows[name], one))
        for name, one in zip(names, paid, strict=True)
    ]
    moved = cross_all(session, crossings, SettlementState.BUILT, now=now)
    if len(moved) != len(crossings):  # they were locked and looked at a moment ago
        raise NotAskedError(state.number, "has a settlement that somebody else has moved")
    session.add_all(starmap(_end_row(row.id, txid, batch), enumerate(zip(names, paid, strict=True))))
    signed = Signed(transaction=made, purpose=BATCH, subject=txid, spends=made.inputs[0].outpoint, fee=batch.fee)
    put_transaction(session, signed, now=now)
    cross(session, row, BatchState.SIGNED, now=now, changes={"txid": txid}, work=[Work(flow="send")],
          detail=f"{len(names)} contracts of {len(batch.owners)} owners")  # fmt: skip
    count(session, "batched_settlements", len(names))


def _columns(txid: str, paid: Paid) -> dict[str, Any]:
    return {"txid": txid, "last_error": None, **paid_columns(paid)}


def _words(row: SettlementRow, paid: Paid) -> str:
    return f"{in_words(row, paid)}; in a batch"


def _end_row(batch_id: str, txid: str, batch: Batch) -> Callable[[int, tuple[str, Paid]], BatchEndRow]:
    def made(position: int, of: tuple[str, Paid]) -> BatchEndRow:
        option_id, paid = of
        return BatchEndRow(
            txid=txid, position=position, batch_id=batch_id, option_id=option_id, share_sats=batch.share,
            proof_root=batch.endings[position].proof_root.hex(), paid_sats=paid.buyer, returned_sats=paid.seller,
            fee_sats=paid.fee,
        )  # fmt: skip

    return made


def _end(session: Session, row: BatchRow, state: Batching, options: Mapping[str, str], *, now: UnixSeconds) -> None:
    """End a batch; what it leaves is tried by twos, once."""
    cross(session, row, BatchState.OVER, now=now, detail=_why_over(state))
    for couple in batching.by_twos(state, now=now):
        some = {*couple.endings, *(one.ending for one in couple.apart)}
        _add(session, couple, {str(one.funding): options[str(one.funding)] for one in some}, now=now)
    enqueue(session, [Work(flow="send")], now=now)


def _why_over(state: Batching) -> str:
    faults = ", ".join(f"{one.owner[:16]} {one.why.value}" for one in state.faults[-8:])
    return f"{len(state.apart)} end by CETs, {len(state.endings)} by twos" + (f"; {faults}" if faults else "")


def advance_all(session: Session, *, now: UnixSeconds) -> None:
    """Let time pass for every batch that asks: who is silent drops out."""
    late = select(col(BatchRow.id)).where(col(BatchRow.state) == BatchState.ASKING)
    for batch in session.execute(late).scalars().all():
        move(session, batch, lambda state: batching.advance(state, now=now), now=now)


# ---- what became of a signed one


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """A signed batch that no block holds, and what speaks against it."""

    id: str
    collaterals: tuple[OutPoint, ...]
    overtaken: bool
    """A block has spent one of its collaterals otherwise."""
    refused: bool
    """The node has refused it."""
    late: bool


def stuck(session: Session, *, tip: Height) -> list[Stuck]:
    """Return the signed batches that a node refuses, a block has overtaken, or that wait for too long."""
    query = (
        select(BatchRow, TransactionRow)
        .join(TransactionRow, col(TransactionRow.txid) == col(BatchRow.txid))
        .where(col(BatchRow.state) == BatchState.SIGNED)
    )
    found = []
    for row, sent in session.execute(query):
        gone = sent.state in (TransactionState.CONFLICTED, TransactionState.REPLACED)
        refused = sent.state == TransactionState.BUILT and sent.last_error is not None
        late = sent.state in UNMINED and tip - (sent.built_height or tip) >= LATE_BLOCKS
        if gone or refused or late:
            inputs = parse_transaction(bytes.fromhex(sent.raw_hex)).inputs
            found.append(
                Stuck(id=row.id, collaterals=tuple(one.outpoint for one in inputs), overtaken=gone, refused=refused,
                      late=late)
            )  # fmt: skip
    return found


def give_up(session: Session, batch: str, spent: Collection[OutPoint], why: str, *, now: UnixSeconds) -> None:
    """Give a signed batch up: without what was spent otherwise it is tried anew; without such its CETs are sent.

    spent: collaterals that something else spends, by one's own node.
    """
    row = session.get(BatchRow, batch, with_for_update=True, populate_existing=True)
    sent = None if row is None else session.get(TransactionRow, row.txid)
    mined = sent is None or sent.state in (TransactionState.CONFIRMED, TransactionState.FINAL)
    if row is None or row.state != BatchState.SIGNED or mined or sent is None:
        return
    state, options = _read(row)
    if sent.state in UNMINED:
        cross(session, sent, TransactionState.CONFLICTED, now=now, detail=why)
    rows = _settlements(session, options.values()).values()
    back = [
        Crossing(row=one, fence=one.fence, changes=_UNPAID, detail=why)
        for one in rows
        if one.txid == row.txid and one.state in (SettlementState.BUILT, SettlementState.BROADCAST)
    ]
    cross_all(session, back, SettlementState.PROVEN, now=now)
    after = batching.spent_otherwise(state, spent, now=now)
    if after is state:
        ends = tuple(Apart(ending=one, why=Why.TRIED) for one in state.endings)
        after = replace(state, stage=Stage.OVER, batch=None, signed=None, endings=(), apart=state.apart + ends)
    else:
        _set_aside(session, {options[str(one.ending.funding)]: one.why.value for one in after.apart})
        cross(session, row, BatchState.ASKING, now=now, changes={"until_unix": after.until}, detail=why)
    _note(session, row, after, options, now=now)
    enqueue(session, [Work(flow="send")], now=now)


_UNPAID: Final = {"txid": None, "paid_sats": None, "returned_sats": None, "fee_sats": None}


# ---- the chain


def ends_of(session: Session, txids: Collection[str]) -> list[BatchEndRow]:
    """Return what batches pay of each contract, by their txids and the order of their inputs."""
    query = select(BatchEndRow).where(col(BatchEndRow.txid).in_(list(txids)))
    order = (col(BatchEndRow.txid), col(BatchEndRow.position))
    return list(session.execute(query.order_by(*order)).scalars()) if txids else []


def settle_mined(session: Session, txids: Collection[str], *, now: UnixSeconds) -> list[str]:
    """Have the settlements of final batches name them, whatever was built meanwhile; return their options."""
    ends = ends_of(session, txids)
    rows = _settlements(session, [one.option_id for one in ends])
    for end in ends:
        row = rows[end.option_id]
        paid = Paid(buyer=Sats(end.paid_sats), seller=Sats(end.returned_sats), anchor=Sats(0), fee=Sats(end.fee_sats))
        if row.txid != end.txid and row.state in (SettlementState.BUILT, SettlementState.BROADCAST):
            for name, value in _columns(end.txid, paid).items():
                setattr(row, name, value)
            session.flush()
        if row.state == SettlementState.PROVEN:
            cross(session, row, SettlementState.BUILT, now=now, fence=row.fence, changes=_columns(end.txid, paid),
                  detail=_words(row, paid))  # fmt: skip
        if row.state == SettlementState.BUILT:
            changes = {"broadcast_at_unix": now}
            cross(session, row, SettlementState.BROADCAST, now=now, fence=row.fence, changes=changes)
    _follow(session, ends, BatchState.DONE, now=now)
    return [one.option_id for one in ends]


def unsettle(session: Session, txid: str, *, now: UnixSeconds) -> list[str]:
    """Have a final batch that was reorganised away wait again; return its options."""
    ends = ends_of(session, [txid])
    _follow(session, ends, BatchState.SIGNED, now=now)
    return [one.option_id for one in ends]


def _follow(session: Session, ends: Sequence[BatchEndRow], to: BatchState, *, now: UnixSeconds) -> None:
    for batch in sorted({one.batch_id for one in ends}):
        row = session.get_one(BatchRow, batch)
        if (row.state, to) in {(str(a), b) for a, b in BatchRow.__machine__.edges}:
            cross(session, row, to, now=now)


def ends_of_option(session: Session, option_id: str) -> list[BatchEndRow]:
    """Return what every signed batch of an option's pays of it; more than one where some were given up."""
    query = select(BatchEndRow).where(col(BatchEndRow.option_id) == option_id)
    return list(session.execute(query.order_by(col(BatchEndRow.txid))).scalars())


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A settlement's part in a batch: how its proof root leads to the root that the transaction carries."""

    txid: str
    contracts: int
    index: int
    path: tuple[Hash32, ...]
    root: Hash32
    fee: Sats
    """What of the collateral goes to the fee."""


def share_of_settlement(session: Session, settlement: SettlementRow) -> Share | None:
    """Return a settlement's part in the batch that pays it, None where none does."""
    ends = batch_of(session, settlement)
    own = next((one for one in ends if one.option_id == settlement.option_id), None)
    if own is None:
        return None
    leaves = leaves_of(ends)
    return Share(
        txid=own.txid, contracts=len(ends), index=own.position, path=anchor_path(leaves, own.position),
        root=anchor_root(leaves), fee=Sats(own.fee_sats),
    )  # fmt: skip


def leaves_of(ends: Sequence[BatchEndRow]) -> list[AnchorItem]:
    """Return what stands under a batch's root, in order."""
    return [AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=hash32(bytes.fromhex(one.proof_root))) for one in ends]


def batch_of(session: Session, settlement: SettlementRow) -> list[BatchEndRow]:
    """Return all contracts that end in the transaction that a settlement names; none where it is no batch."""
    return ends_of(session, [settlement.txid]) if settlement.txid else []
