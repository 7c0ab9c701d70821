"""What the embedded node relays and mines: its settings, and the rules that need no chain.

The same verdicts as Bitcoin Core 29's defaults where our transactions meet them, and stricter elsewhere, never laxer:
``tests/integration/adapters/chain/test_chain_policy.py`` holds both nodes to one list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final

from btcfi.bitcoin.fees import MIN_RELAY_FEE_RATE, SatsPerKvb, dust_limit
from btcfi.bitcoin.script import OP_RETURN, P2A_SCRIPT, is_p2tr
from btcfi.bitcoin.transaction import TRUC_VERSION, Transaction, TxOut
from btcfi.units import Sats, Txid

REJECTED: Final = -26
MISSING_OR_SPENT: Final = -25
ALREADY_KNOWN: Final = -27
"""bitcoind's codes of a refusal by the pool (src/rpc/protocol.h)."""

MAX_RELATIVES: Final = 25
MAX_RELATIVES_VSIZE: Final = 101_000
"""A transaction with all it builds on, and with all that builds on it. Core: -limitancestorcount and its kin."""

MAX_REPLACED: Final = 100
"""Transactions that one replacement may evict. Source: BIP125, rule 5."""

TRUC_MAX_VSIZE: Final = 10_000
TRUC_CHILD_MAX_VSIZE: Final = 1_000
"""Source: BIP431, rules 4 and 5."""

_MAX_STANDARD_WEIGHT: Final = 400_000
_MAX_OP_RETURN_SCRIPT: Final = 83
"""-datacarriersize before Bitcoin Core 30.0: the strictest of the nodes that our transactions must pass."""

_MAX_SCRIPT: Final = 10_000
"""A longer output script can never run (consensus), so money sent to it is burnt."""

_MAX_STACK_ITEM: Final = 80
_ANNEX: Final = 0x50
_TAPSCRIPT: Final = 0xC0
_LEAF_MASK: Final = 0xFE
"""Source: Bitcoin Core, IsWitnessStandard; BIP341."""


class Truc(StrEnum):
    """What becomes of transactions of version 3: Knots' -mempooltruc; Core knows only ``enforce``."""

    ENFORCE = "enforce"
    ACCEPT = "accept"
    """Like any other: no rule of version 3, and no parent without a fee either."""
    REJECT = "reject"


class Door(StrEnum):
    """How a transaction comes to the pool, and so which rules it meets. Source: Bitcoin Core 29, ATMPArgs."""

    ALONE = "alone"
    """It may replace rivals, and a version-3 child its sibling."""
    LIST = "list"
    """One of several that are asked about: it replaces nothing."""
    PACKAGE = "package"
    """The package pays for it, if it is of version 3, and for what it replaces."""
    AGAIN = "again"
    """Back from an undone block or after a restart: no fee, no limit on relatives, no rule of version 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings of a node that decide what it relays and mines; the defaults are Bitcoin Core 29's."""

    relay_fee: SatsPerKvb = MIN_RELAY_FEE_RATE
    """-minrelaytxfee."""
    block_fee: SatsPerKvb = MIN_RELAY_FEE_RATE
    """-blockmintxfee: what pays less per byte, with all it needs, is not mined."""
    block_weight: int = 4_000_000
    """-blockmaxweight, the coinbase's reserve included."""
    truc: Truc = Truc.ENFORCE
    """-mempooltruc."""

    def exempts(self, transaction: Transaction) -> bool:
        """Return whether a package may pay the relay fee for this transaction."""
        return self.truc is Truc.ENFORCE and transaction.version == TRUC_VERSION


class RejectedError(Exception):
    """The memory pool refuses a transaction, with bitcoind's reason."""

    def __init__(self, reason: str, *, code: int = REJECTED, detail: str = "") -> None:
        super().__init__(f"{reason}, {detail}" if detail else reason)
        self.reason, self.code = reason, code


@dataclass(slots=True, kw_only=True)
class PoolEntry:
    """A transaction in the memory pool."""

    transaction: Transaction
    raw: bytes
    fee: Sats
    vsize: int
    time: int
    height: int
    parents: set[Txid]
    conflicts: set[Txid]
    """What it replaces directly: rivals for an input, and a version-3 child's sibling. Their descendants fall too."""
    children: set[Txid] = field(default_factory=set)


def feerate(fee: int, vsize: int) -> int:
    """Return sats per 1000 vB, rounded down: what bitcoind compares."""
    return fee * 1000 // vsize


def burns(output: TxOut) -> bool:
    """Return whether nobody can ever spend an output."""
    return output.script[:1] == bytes([OP_RETURN]) or len(output.script) > _MAX_SCRIPT


def check_standard(transaction: Transaction, policy: Policy) -> None:  # noqa: C901 - a list of rules, one line each
    """Raise RejectedError for what is refused by its form alone."""
    if not 1 <= transaction.version <= (TRUC_VERSION - 1 if policy.truc is Truc.REJECT else TRUC_VERSION):
        raise RejectedError("version")
    if not transaction.inputs:
        raise RejectedError("bad-txns-vin-empty")
    if not transaction.outputs:
        raise RejectedError("bad-txns-vout-empty")
    if transaction.inputs[0].outpoint.index == 0xFFFFFFFF:  # noqa: PLR2004 - the null outpoint
        raise RejectedError("coinbase")
    if transaction.weight > _MAX_STANDARD_WEIGHT:
        raise RejectedError("tx-size")
    if len(transaction.to_bytes(witness=False)) < 65:  # noqa: PLR2004 - a 64-byte one could pass for a Merkle node
        raise RejectedError("tx-size-small")
    carriers = 0
    for output in transaction.outputs:
        if output.script[:1] == bytes([OP_RETURN]):
            carriers += 1
            if len(output.script) > _MAX_OP_RETURN_SCRIPT:
                raise RejectedError("scriptpubkey")
        elif script_type(output.script) == "nonstandard":
            raise RejectedError("scriptpubkey")
        elif output.value < dust_limit(output.script):
            raise RejectedError("dust")
    if carriers > 1:
        raise RejectedError("multi-op-return")


def check_witnesses(transaction: Transaction, spent: Iterable[TxOut]) -> None:
    """Raise RejectedError for a witness that is valid and yet not relayed: an anchor's, an annex, a large item."""
    for txin, output in zip(transaction.inputs, spent, strict=True):
        if not _is_standard_witness(txin.witness, output.script):
            raise RejectedError("bad-witness-nonstandard")


def _is_standard_witness(witness: Sequence[bytes], script: bytes) -> bool:
    if script == P2A_SCRIPT:
        return not witness
    if not is_p2tr(script) or len(witness) < 2:  # noqa: PLR2004 - a key-path spend is one item
        return True
    *arguments, _, control = witness
    if control[:1] == bytes([_ANNEX]):
        return False
    tapscript = bool(control) and control[0] & _LEAF_MASK == _TAPSCRIPT
    return not tapscript or all(len(item) <= _MAX_STACK_ITEM for item in arguments)


def check_package_form(transactions: Sequence[Transaction]) -> None:
    """Raise RejectedError for a package that no pool could hold: a transaction twice, or two that spend one output."""
    if len({one.txid for one in transactions}) != len(transactions):
        raise RejectedError("package-contains-duplicates")
    spent = [outpoint for one in transactions for outpoint in {txin.outpoint for txin in one.inputs}]
    if len(set(spent)) != len(spent):
        raise RejectedError("conflict-in-package")


Chunk = tuple[int, int]
"""Fee in sats and vsize of transactions that a miner takes together."""


def improves(new: Sequence[Chunk], old: Sequence[Chunk]) -> bool:
    """Return whether ``new`` earns a miner no less than ``old`` in any space, and more in some.

    Source: Bitcoin Core, CompareChunks: the diagrams of fee over size, best rate first, each level after its end.
    """
    sizes = {size for chunks in (new, old) for size, _ in _corners(chunks)}
    gains = [_earned(new, size) - _earned(old, size) for size in sizes]
    return min(gains) >= 0 and max(gains) > 0


def _by_rate(chunks: Sequence[Chunk]) -> list[Chunk]:
    return sorted(chunks, key=lambda chunk: Fraction(*chunk), reverse=True)


def _corners(chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
    corners, size, fee = [(0, 0)], 0, 0
    for earned, vsize in _by_rate(chunks):
        size, fee = size + vsize, fee + earned
        corners.append((size, fee))
    return corners


def _earned(chunks: Sequence[Chunk], space: int) -> Fraction:
    total = Fraction(0)
    for fee, vsize in _by_rate(chunks):
        taken = min(vsize, space)
        total += Fraction(fee * taken, vsize)
        space -= taken
    return total


def script_type(script: bytes) -> str:
    """Return bitcoind's name of an output script's type."""
    kind = "nonstandard"
    if script[:1] == bytes([OP_RETURN]):
        kind = "nulldata"
    elif script == P2A_SCRIPT:
        kind = "anchor"
    elif is_p2tr(script):
        kind = "witness_v1_taproot"
    elif script[:2] == b"\x00\x14" and len(script) == 22:  # noqa: PLR2004 - P2WPKH
        kind = "witness_v0_keyhash"
    elif script[:2] == b"\x00\x20" and len(script) == 34:  # noqa: PLR2004 - P2WSH
        kind = "witness_v0_scripthash"
    elif script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        kind = "pubkeyhash"
    elif script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        kind = "scripthash"
    return kind
