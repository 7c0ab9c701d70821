"""Registering disputed contracts, and writing down what a walk along the blocks has shown of them.

A walk is written in one transaction, contract by contract, where it still stands as it was read: two watchers, or one
whose message comes twice, write the same once. What is alerted on is read from these rows; nothing is sent.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from sqlalchemy import delete, func, select, update
from sqlmodel import Session, col

from btcfi.adapters.store.disputes.tables import DisputeRow, DisputeStepRow
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.edges import cross, record
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.bitcoin.transaction import OutPoint, parse_outpoint, parse_transaction
from btcfi.contracts.messages import canonical
from btcfi.contracts.watch import REMEMBERED_BLOCKS
from btcfi.disputes import states
from btcfi.disputes.garbled.game import Position
from btcfi.disputes.public import PublicDispute, decode_public, encode_public
from btcfi.disputes.stages import Stage
from btcfi.disputes.watching import Seen, Watch, begin, positions
from btcfi.errors import ConflictError, NotFoundError
from btcfi.units import Hash32, Height, UnixSeconds, display_txid, parse_txid

MAX_WATCHED: Final = 1_000
"""Contracts under watch at once: a walk asks for each whether a block has its coin."""

FINAL: Final = REMEMBERED_BLOCKS
"""Blocks on an end after which it is looked at no more: as deep as a reorganisation is followed."""

_KNOWN: Final = 32
"""Public parts in memory, each of a megabyte at the most: every transaction of one is computed once."""


class TooManyDisputesError(ConflictError):
    """As many contracts are under watch as may be."""

    def __init__(self) -> None:
        super().__init__(f"{MAX_WATCHED:,} disputed contracts are under watch: no more before one of them has ended")


def register(session: Session, dispute: PublicDispute, *, by: str, now: UnixSeconds) -> DisputeRow:
    """Put a contract under watch and return its row; again changes nothing. Raises TooManyDisputesError.

    But the block from which the opening is looked for is nobody's signed word. Where none was seen yet, an earlier one
    begins the watch anew: a file that names a late block takes nobody's watch away.
    """
    name = dispute.id.hex()
    known = session.get(DisputeRow, name)
    if known is not None:
        kept, unopened = session.get(BlobRow, known.body_sha256), known.state == Stage.UNOPENED
        if kept is None or (unopened and dispute.since < _decoded(kept.body).since):
            known.body_sha256 = store_blob(session, canonical(encode_public(dispute)), now=now).hex()
            if unopened:
                watch, known.final_height = begin(dispute), None
                known.walked_height, known.walked_hash = watch.height, watch.block.hex()
            session.flush()
        return known
    under = select(func.count()).select_from(DisputeRow).where(col(DisputeRow.final_height).is_(None))
    if session.execute(under).scalar_one() >= MAX_WATCHED:
        raise TooManyDisputesError
    watch, body = begin(dispute), store_blob(session, canonical(encode_public(dispute)), now=now)
    row = DisputeRow(
        id=name, contract_id=dispute.contract.hex(), body_sha256=body.hex(), registered_by=by,
        opening_txid=display_txid(dispute.opening.txid), walked_height=watch.height, walked_hash=watch.block.hex(),
        overdue_height=dispute.terms.bond_height, created_at_unix=now, updated_at_unix=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "dispute", name, Stage.UNOPENED, now=now)
    return row


def watched(session: Session) -> list[dict[str, Watch]]:
    """Return the contracts that are looked at, those that end at one block together, the newest such block first.

    Who is far behind has walks of its own, and those at the tip never wait for it.
    """
    query = select(DisputeRow).where(col(DisputeRow.final_height).is_(None))
    rows = {row.id: row for row in session.execute(query).scalars()}
    steps = defaultdict[str, list[DisputeStepRow]](list)
    ordered = select(DisputeStepRow).join(DisputeRow, col(DisputeRow.id) == col(DisputeStepRow.dispute_id))
    ordered = ordered.where(col(DisputeRow.final_height).is_(None))
    for one in session.execute(ordered.order_by(col(DisputeStepRow.dispute_id), col(DisputeStepRow.number))).scalars():
        steps[one.dispute_id].append(one)
    groups = defaultdict[tuple[int, str], dict[str, Watch]](dict)
    for name, row in rows.items():
        groups[-row.walked_height, row.walked_hash][name] = _watch(row, steps[name])
    return [groups[key] for key in sorted(groups)]


def public_part(session: Session, name: str) -> PublicDispute:
    """Return a registered contract's public part. Raises NotFoundError for one that is not registered, or is lost."""
    row = session.get(DisputeRow, name)
    body = None if row is None else session.get(BlobRow, row.body_sha256)
    if body is None:
        raise NotFoundError("public part", name[:16], "`btcfi dispute register` puts it, or what was lost of it, there")
    return _decoded(body.body)


@lru_cache(maxsize=_KNOWN)
def _decoded(body: bytes) -> PublicDispute:
    return decode_public(json.loads(body))


def write(session: Session, before: Mapping[str, Watch], after: Mapping[str, Watch], *, now: UnixSeconds) -> list[str]:
    """Write what a walk has shown; return the contracts that moved. Those that another walk has moved on are let be."""
    moved = []
    for name, was in before.items():
        became = after[name]
        if became == was or not _walked(session, name, was, became):
            continue
        if became.seen != was.seen:
            _moved(session, name, was.seen, became, now)
            moved.append(name)
        else:
            _let_go(session.get_one(DisputeRow, name), became)
    return moved


def _walked(session: Session, name: str, was: Watch, became: Watch) -> bool:
    statement = (
        update(DisputeRow)
        .where(col(DisputeRow.id) == name, col(DisputeRow.walked_height) == was.height,
               col(DisputeRow.walked_hash) == was.block.hex())
        .values(walked_height=became.height, walked_hash=became.block.hex())
        .returning(col(DisputeRow.id))
    )  # fmt: skip
    return session.execute(statement).scalar_one_or_none() is not None


def _moved(session: Session, name: str, was: Sequence[Seen], became: Watch, now: UnixSeconds) -> None:
    """Take a contract's row back over the edges whose blocks are gone, then on over those that blocks have."""
    dispute, row = public_part(session, name), session.get_one(DisputeRow, name)
    old, new = positions(dispute, was), positions(dispute, became.seen)
    same = next((at for at, (one, other) in enumerate(zip(was, became.seen, strict=False)) if one != other), None)
    kept = min(len(was), len(became.seen)) if same is None else same
    for at in range(len(was), kept, -1):
        cross(session, row, old[at - 1].stage, now=now, detail=f"reorganised: block {was[at - 1].height}")
    gone = delete(DisputeStepRow).where(col(DisputeStepRow.dispute_id) == name, col(DisputeStepRow.number) >= kept)
    session.execute(gone)
    for at in range(kept, len(became.seen)):
        seen, here = became.seen[at], new[at + 1]
        by = states.edge(new[at].stage, here.stage).by
        cross(session, row, here.stage, now=now, detail=f"{by} in block {seen.height}")
        session.add(
            DisputeStepRow(
                dispute_id=name, number=at, state=here.stage.value, txid=display_txid(seen.transaction.txid),
                raw_hex=seen.transaction.to_bytes().hex(), height=seen.height, block_hash=seen.block.hex(),
            )
        )  # fmt: skip
    _describe(row, dispute, new[-1], became)
    session.flush()


def _describe(row: DisputeRow, dispute: PublicDispute, here: Position, watch: Watch) -> None:
    row.coin = None if watch.coin is None else str(watch.coin)
    row.moved_height, row.claimed_range = here.at, here.number
    row.deadline_height = states.deadline(dispute.terms, here)
    unopened = here.stage is Stage.UNOPENED
    row.overdue_height = dispute.terms.bond_height if unopened else states.overdue(dispute.terms, here)
    _let_go(row, watch)


def _let_go(row: DisputeRow, watch: Watch) -> None:
    """Look no more at a contract whose end is so deep that it is not taken back, or that was never opened in time."""
    if not watch.seen and row.overdue_height is not None and watch.height - row.overdue_height >= FINAL:
        row.final_height = row.overdue_height
    if watch.seen and watch.coin is None and watch.height - watch.seen[-1].height >= FINAL:
        row.final_height = watch.seen[-1].height


def _watch(row: DisputeRow, steps: Sequence[DisputeStepRow]) -> Watch:
    seen = tuple(
        Seen(
            transaction=parse_transaction(bytes.fromhex(one.raw_hex)), height=Height(one.height),
            block=Hash32(bytes.fromhex(one.block_hash)),
        )
        for one in steps
    )  # fmt: skip
    coin: OutPoint | None = None if row.coin is None else parse_outpoint(row.coin)
    return Watch(
        opening=parse_txid(row.opening_txid), coin=coin, seen=seen, height=Height(row.walked_height),
        block=Hash32(bytes.fromhex(row.walked_hash)),
    )  # fmt: skip
