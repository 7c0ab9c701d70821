"""Transactions: our records, their exact bytes, and the ids and sizes that follow from them.

Building is ours (a settlement signs thousands of transactions that differ in two amounts), parsing foreign bytes is
python-bitcoinlib's; tests hold the two together byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from struct import pack
from typing import Final

from bitcoin.core import CTransaction
from bitcoin.core.serialize import SerializationError

from btcfi.errors import InvalidInputError
from btcfi.hashes import hash256
from btcfi.units import Sats, Txid, display_txid, parse_txid, sats

SEQUENCE_FINAL: Final = 0xFFFFFFFF
"""nSequence that switches nLockTime off when every input has it. Source: BIP65."""

SEQUENCE_LOCKTIME: Final = 0xFFFFFFFE
"""nLockTime counts, BIP68 does not, and no replacement is signalled. Source: BIP125."""

SEQUENCE_RBF: Final = 0xFFFFFFFD
"""As SEQUENCE_LOCKTIME, and signals that the transaction may be replaced. Source: BIP125."""

TRUC_VERSION: Final = 3
"""Topologically restricted until confirmation: one parent, one child, both replaceable. Source: BIP431."""

_MAX_INDEX: Final = 0xFFFFFFFF
"""Of an output: 32 bits on the wire."""

WITNESS_SCALE: Final = 4
"""Weight units of a non-witness byte. Source: BIP141."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class OutPoint:
    """One output of one transaction."""

    txid: Txid
    """Internal order."""
    index: int

    def to_bytes(self) -> bytes:
        """Return the 36 bytes of the wire."""
        return self.txid + self.index.to_bytes(4, "little")

    def __str__(self) -> str:
        return f"{display_txid(self.txid)}:{self.index}"


def parse_outpoint(text: str) -> OutPoint:
    """Return the outpoint of its text, ``txid:index`` in display order. Raises InvalidInputError."""
    txid, _, index = text.rpartition(":")
    if not (index.isascii() and index.isdecimal()) or int(index) > _MAX_INDEX:
        raise InvalidInputError("outpoint", repr(text[:80]), "txid:index")
    return OutPoint(txid=parse_txid(txid), index=int(index))


@dataclass(frozen=True, slots=True, kw_only=True)
class TxIn:
    """An input: which output it spends, and the witness that entitles it to."""

    outpoint: OutPoint
    sequence: int = SEQUENCE_RBF
    script_sig: bytes = b""
    """Empty in every transaction of ours; a coinbase and foreign inputs have one."""
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TxOut:
    """An output: an amount and the script that guards it."""

    value: Sats
    script: bytes

    def to_bytes(self) -> bytes:
        """Return value (u64), script length and script."""
        return pack("<q", self.value) + compact_size(len(self.script)) + self.script


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """A transaction, immutable; ``with_witness`` returns a signed copy."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    lock_time: int = 0

    @cached_property
    def txid(self) -> Txid:
        """Hash of the bytes without witness, internal order."""
        return Txid(hash256(self.to_bytes(witness=False)))

    @cached_property
    def weight(self) -> int:
        """Weight units: 3 x size without witness + size with it. Source: BIP141."""
        return 3 * len(self.to_bytes(witness=False)) + len(self.to_bytes())

    @property
    def vsize(self) -> int:
        """Virtual bytes: weight / 4, rounded up."""
        return -(-self.weight // WITNESS_SCALE)

    def outpoint(self, index: int) -> OutPoint:
        """Return the outpoint of output ``index``."""
        return OutPoint(txid=self.txid, index=index)

    def to_bytes(self, *, witness: bool = True) -> bytes:
        """Return the serialised transaction; without witness data if there is none or ``witness`` is false."""
        with_witness = witness and any(txin.witness for txin in self.inputs)
        parts = [pack("<i", self.version), b"\x00\x01" if with_witness else b"", compact_size(len(self.inputs))]
        parts += [
            b"".join((i.outpoint.to_bytes(), compact_size(len(i.script_sig)), i.script_sig, pack("<I", i.sequence)))
            for i in self.inputs
        ]
        parts.append(outputs_bytes(self.outputs))
        if with_witness:
            for txin in self.inputs:
                parts.append(compact_size(len(txin.witness)))
                parts += [compact_size(len(item)) + item for item in txin.witness]
        parts.append(pack("<I", self.lock_time))
        return b"".join(parts)

    def with_witness(self, index: int, witness: Sequence[bytes]) -> Transaction:
        """Return a copy whose input ``index`` carries ``witness``."""
        signed = replace(self.inputs[index], witness=tuple(witness))
        return replace(self, inputs=(*self.inputs[:index], signed, *self.inputs[index + 1 :]))


def outputs_bytes(outputs: Sequence[TxOut]) -> bytes:
    """Return the count and the bytes of the outputs, as they stand in a transaction."""
    return compact_size(len(outputs)) + b"".join([output.to_bytes() for output in outputs])


def compact_size(value: int) -> bytes:
    """Return Bitcoin's variable-length integer, 1 to 9 bytes."""
    if value < 0xFD:  # noqa: PLR2004 - the format's first threshold
        return bytes([value])
    if value <= 0xFFFF:  # noqa: PLR2004
        return b"\xfd" + pack("<H", value)
    if value <= 0xFFFFFFFF:  # noqa: PLR2004
        return b"\xfe" + pack("<I", value)
    return b"\xff" + pack("<Q", value)


def parse_transaction(raw: bytes) -> Transaction:
    """Return the transaction of serialised bytes. Raises InvalidInputError on anything but exactly one transaction."""
    stream = BytesIO(raw)
    try:
        parsed = CTransaction.stream_deserialize(stream)
    except (SerializationError, ValueError, IndexError) as e:
        raise InvalidInputError("transaction", "cannot be parsed", "one serialised transaction") from e
    if stream.read(1):
        raise InvalidInputError("transaction", "has bytes after its end", "exactly one serialised transaction")
    return from_bitcoinlib(parsed)


def from_bitcoinlib(parsed: CTransaction) -> Transaction:
    """Return python-bitcoinlib's transaction as ours. Raises UnitOutOfRangeError for an impossible amount."""
    witnesses = [tuple(bytes(item) for item in w.scriptWitness.stack) for w in parsed.wit.vtxinwit]
    witnesses += [()] * (len(parsed.vin) - len(witnesses))
    return Transaction(
        version=parsed.nVersion,
        inputs=tuple(
            TxIn(
                outpoint=OutPoint(txid=Txid(bytes(txin.prevout.hash)), index=txin.prevout.n),
                sequence=txin.nSequence,
                script_sig=bytes(txin.scriptSig),
                witness=witness,
            )
            for txin, witness in zip(parsed.vin, witnesses, strict=True)
        ),
        outputs=tuple(TxOut(value=sats(txout.nValue), script=bytes(txout.scriptPubKey)) for txout in parsed.vout),
        lock_time=parsed.nLockTime,
    )
