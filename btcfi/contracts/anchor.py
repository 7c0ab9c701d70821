"""Anchoring: one OP_RETURN transaction commits to everything that a period agreed on, announced and proved.

All versions of an anchor spend the same input, so one of them confirms; a newer version replaces the older one and
commits to more. A proof leads from a digest through our Merkle tree to the transaction, and from there through the
block's to a header, which any node can confirm. It is saved once the block is 6 deep.
The scheme follows the OpenTimestamps server's stamper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from btcfi.bitcoin.block import merkle_branch, root_of_branch
from btcfi.bitcoin.fees import (
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    SatsPerKvb,
    dust_limit,
    fee_for,
    replacement_fee,
    vsize_of,
)
from btcfi.bitcoin.transaction import SEQUENCE_RBF, Transaction, TxIn, TxOut, parse_transaction
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.metadata import RecordType, read_record, record_script
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import hash256, tagged_hash
from btcfi.records import Rule, hexadecimal, record, unhex
from btcfi.units import Hash32, Sats, Txid

MAX_LEAVES: Final = 100_000
"""Digests under one anchor; OpenTimestamps' limit."""

HEADER_SIZE: Final = 80
_LEAF_TAG: Final = "BTCFi/anchor/leaf/v1"
_NODE_TAG: Final = "BTCFi/anchor/node/v1"
_ROOT_TAG: Final = "BTCFi/anchor/root/v1"
_VERSION: Final = 1
_AMBIGUOUS_SIZE: Final = 64
"""A transaction of this size could be read as an inner node of a block's tree; nodes do not relay it either."""


class AnchorKind(IntEnum):
    """What a digest is of."""

    PRICE = 1
    ANNOUNCEMENT = 2
    PROOF_ROOT = 3


class WrongAnchorError(BtcfiError):
    """A proof of anchoring that does not hold: the step at which it breaks."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"anchor proof: {problem}")
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorItem:
    """One thing that is anchored."""

    kind: AnchorKind
    digest: Hash32

    def leaf(self) -> Hash32:
        """Return its leaf in the tree."""
        return tagged_hash(_LEAF_TAG, bytes([self.kind]) + self.digest)


def _levels(leaves: Sequence[Hash32]) -> list[list[Hash32]]:
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [tagged_hash(_NODE_TAG, below[i] + below[i + 1]) for i in range(0, len(below) - 1, 2)]
        # an odd last node goes up as it is; it is never paired with itself
        levels.append([*pairs, below[-1]] if len(below) % 2 else pairs)
    return levels


def anchor_root(items: Sequence[AnchorItem]) -> Hash32:
    """Return what the chain commits to: the items' number and Merkle root.

    Raises InvalidInputError for none or too many.
    """
    if not 1 <= len(items) <= MAX_LEAVES:
        raise InvalidInputError("anchor", f"{len(items)} items", f"1 to {MAX_LEAVES}")
    return _commitment(_levels([item.leaf() for item in items])[-1][0], len(items))


def _commitment(top: Hash32, count: int) -> Hash32:
    # the number fixes the shape of the tree: a proof for another number of items is another proof
    return tagged_hash(_ROOT_TAG, count.to_bytes(4) + top)


def anchor_path(items: Sequence[AnchorItem], index: int) -> tuple[Hash32, ...]:
    """Return the siblings from item ``index`` up to the root; a level where it has none is left out."""
    path = []
    for level in _levels([item.leaf() for item in items])[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index >>= 1
    return tuple(path)


def root_from_path(leaf: Hash32, index: int, count: int, path: Sequence[Hash32]) -> Hash32:
    """Return what item ``index`` of ``count`` leads to, by its path. Raises WrongAnchorError for another length."""
    node, waiting, items = leaf, list(path), count
    while count > 1:
        if index ^ 1 < count:
            if not waiting:
                raise WrongAnchorError("the path to the root is too short")
            sibling = waiting.pop(0)
            node = tagged_hash(_NODE_TAG, sibling + node if index & 1 else node + sibling)
        index, count = index >> 1, (count + 1) >> 1
    if waiting:
        raise WrongAnchorError("the path to the root is too long")
    return _commitment(node, items)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorTransaction:
    """An anchor, not signed yet: one input, change, the root."""

    transaction: Transaction
    spent: TxOut
    root: Hash32
    fee: Sats


def build_anchor(
    root: Hash32, coin: Coin, *, change_script: bytes, rate: SatsPerKvb, replaces: AnchorTransaction | None = None
) -> AnchorTransaction:
    """Return the transaction that commits to ``root`` and pays ``rate``.

    replaces: the version that waits; the new one spends the same coin and pays what a replacement must. Raises
    InsufficientFundsError when the coin does not cover the fee and a change above dust; InvalidInputError when it is
    not the replaced one's coin.
    """
    if replaces is not None and replaces.transaction.inputs[0].outpoint != coin.outpoint:
        raise InvalidInputError("anchor coin", str(coin.outpoint), str(replaces.transaction.inputs[0].outpoint))
    record = TxOut(value=Sats(0), script=record_script(RecordType.ANCHOR, root))
    change_size = len(TxOut(value=Sats(0), script=change_script).to_bytes())
    vsize = vsize_of(OVERHEAD_WEIGHT + P2TR_INPUT_WEIGHT + 4 * (change_size + len(record.to_bytes())))
    fee = fee_for(vsize, rate)
    if replaces is not None:
        fee = replacement_fee(old_fee=replaces.fee, vsize=vsize, rate=rate)
    change = coin.value - fee
    if change < dust_limit(change_script):
        raise InsufficientFundsError(available=coin.value, needed=Sats(fee + dust_limit(change_script)))
    transaction = Transaction(
        version=2,
        inputs=(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF),),
        outputs=(TxOut(value=Sats(change), script=change_script), record),
    )
    return AnchorTransaction(transaction=transaction, spent=coin.output, root=root, fee=fee)


# ---- from the transaction to the header


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorProof:
    """Everything that leads from one item to a block header."""

    item: AnchorItem
    index: int
    count: int
    """Items under the anchor."""
    path: tuple[Hash32, ...]
    transaction: Transaction
    """Without witnesses: what the txid commits to."""
    position: int
    """In the block."""
    branch: tuple[Hash32, ...]
    header: bytes
    """80 bytes."""

    @property
    def block_hash(self) -> Hash32:
        """The block that any node can be asked about."""
        return hash256(self.header)


def prove_anchor(
    items: Sequence[AnchorItem], index: int, *, transaction: Transaction, block_txids: Sequence[Txid], header: bytes
) -> AnchorProof:
    """Return the proof of one item, and check it. Raises WrongAnchorError when the block does not hold the anchor."""
    if transaction.txid not in block_txids:
        raise WrongAnchorError("the block does not hold the transaction")
    position = list(block_txids).index(transaction.txid)
    proof = AnchorProof(
        item=items[index],
        index=index,
        count=len(items),
        path=anchor_path(items, index),
        transaction=parse_transaction(transaction.to_bytes(witness=False)),
        position=position,
        branch=merkle_branch(block_txids, position),
        header=header,
    )
    check_anchor(proof)
    return proof


def check_anchor(proof: AnchorProof) -> Hash32:
    """Check a proof and return the hash of the block that it leads to.

    That the block is in the chain, and how deep, only a node can say. Raises WrongAnchorError naming the broken step.
    """
    if not 0 <= proof.index < proof.count <= MAX_LEAVES:
        raise WrongAnchorError(f"item {proof.index} of {proof.count}")
    root = root_from_path(proof.item.leaf(), proof.index, proof.count, proof.path)
    records = [read_record(output.script) for output in proof.transaction.outputs]
    if (RecordType.ANCHOR, root) not in records:
        raise WrongAnchorError("the transaction does not carry the root")
    if len(proof.transaction.to_bytes(witness=False)) == _AMBIGUOUS_SIZE:
        raise WrongAnchorError("a transaction of 64 bytes could be a node of the block's tree")
    if len(proof.header) != HEADER_SIZE:
        raise WrongAnchorError(f"the header has {len(proof.header)} bytes")
    if root_of_branch(Hash32(proof.transaction.txid), proof.position, proof.branch) != proof.header[36:68]:
        raise WrongAnchorError("the header's Merkle root is another")
    return proof.block_hash


def encode_anchor_proof(proof: AnchorProof) -> dict[str, Any]:
    """Return the proof as JSON."""
    return {
        "type": "btcfi/anchor-proof",
        "version": _VERSION,
        "kind": proof.item.kind.name.lower(),
        "digest": proof.item.digest.hex(),
        "index": proof.index,
        "count": proof.count,
        "path": [one.hex() for one in proof.path],
        "transaction": proof.transaction.to_bytes().hex(),
        "position": proof.position,
        "branch": [one.hex() for one in proof.branch],
        "header": proof.header.hex(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _WireProof:
    """A proof as its file spells it: flat."""

    kind: AnchorKind
    digest: Hash32
    index: int
    count: int
    path: tuple[Hash32, ...]
    transaction: Transaction
    position: int
    branch: tuple[Hash32, ...]
    header: bytes


_PROOF: Final = record(
    _WireProof,
    kind=Rule(
        {one.name.lower(): one for one in AnchorKind}.__getitem__,
        "one of " + ", ".join(one.name.lower() for one in AnchorKind),
    ),
    transaction=Rule(lambda text: parse_transaction(unhex(text)), "a transaction, as hex"),
    header=hexadecimal(),
)


def decode_anchor_proof(message: object) -> AnchorProof:
    """Return the proof of a JSON value, unchecked. Raises InvalidInputError."""
    expected = "a proof as `btcfi anchor` writes it"
    if not isinstance(message, Mapping) or message.get("type") != "btcfi/anchor-proof":
        raise InvalidInputError("anchor proof", "another kind of file", expected)
    if type(message.get("version")) is not int or message["version"] != _VERSION:
        raise InvalidInputError("anchor proof", "another version", f"version {_VERSION}")
    found = _PROOF.read(message, "anchor proof")
    return AnchorProof(
        item=AnchorItem(kind=found.kind, digest=found.digest),
        index=found.index,
        count=found.count,
        path=found.path,
        transaction=found.transaction,
        position=found.position,
        branch=found.branch,
        header=found.header,
    )
