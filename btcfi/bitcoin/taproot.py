"""Taproot: trees, tweaks, control blocks and the signature hash. Sources: BIP341, BIP342."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256 as _sha256
from struct import pack
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin.script import p2tr
from btcfi.bitcoin.transaction import Transaction, TxOut, compact_size
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.hashes import tag_prefix, tagged_hash
from btcfi.units import Hash32

LEAF_VERSION: Final = 0xC0
"""Tapscript. Source: BIP342."""

NUMS_KEY: Final = bytes.fromhex("50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0")
"""A key whose secret nobody knows (hash of G lifted to the curve): no key-path spend. Source: BIP341."""

SIGHASH_DEFAULT: Final = 0x00
SIGHASH_ALL: Final = 0x01
SIGHASH_NONE: Final = 0x02
SIGHASH_SINGLE: Final = 0x03
SIGHASH_ANYONECANPAY: Final = 0x80
SIGHASH_TYPES: Final = (0x00, 0x01, 0x02, 0x03, 0x81, 0x82, 0x83)
"""Every valid hash type. Source: BIP341, "Common signature message"."""

NO_SEPARATOR: Final = 0xFFFFFFFF
"""No OP_CODESEPARATOR was executed before a signature. Source: BIP342."""

_SIGHASH_PREFIX: Final = _sha256(tag_prefix("TapSighash"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A script in a tree, with its version."""

    script: bytes
    version: int = LEAF_VERSION


Tree = Leaf | tuple["Tree", "Tree"]


def leaf_hash(script: bytes, version: int = LEAF_VERSION) -> Hash32:
    """Return the TapLeaf hash of a script."""
    return tagged_hash("TapLeaf", bytes([version]) + compact_size(len(script)) + script)


def branch_hash(first: bytes, second: bytes) -> Hash32:
    """Return the TapBranch hash of two nodes, in either order."""
    return tagged_hash("TapBranch", min(first, second) + max(first, second))


def tweak_hash(internal_key: bytes, root: bytes = b"") -> Hash32:
    """Return the TapTweak of an internal key and a tree root, empty for no scripts. Raises InvalidInputError."""
    secp256k1.check_size(internal_key, "internal key", "an x-only key, 32 bytes")
    if root:
        secp256k1.check_size(root, "tree root", "32 bytes, or none")
    return tagged_hash("TapTweak", internal_key + root)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaprootOutput:
    """An output key with the tree behind it."""

    internal_key: bytes
    """x-only, 32 bytes."""
    root: bytes
    """Merkle root of the scripts, or empty."""
    output_key: bytes
    """x-only, 32 bytes."""
    parity: int
    """Parity of the output key's y, which a control block states."""
    paths: tuple[tuple[Leaf, tuple[bytes, ...]], ...]
    """Each leaf with its sibling hashes, leaf to root."""

    @property
    def script(self) -> bytes:
        """The output script."""
        return p2tr(self.output_key)

    def control_block(self, leaf: Leaf) -> bytes:
        """Return the control block that proves ``leaf`` to be in the tree. Raises NotFoundError for another."""
        for member, path in self.paths:
            if member == leaf:
                return bytes([leaf.version | self.parity]) + self.internal_key + b"".join(path)
        raise NotFoundError("leaf script", leaf.script.hex()[:32])

    def tweak_secret(self, secret: bytes) -> bytes:
        """Return the secret of the output key from the internal key's. Raises InvalidInputError for another key."""
        if secp256k1.public_key_xonly(secret) != self.internal_key:
            raise InvalidInputError("secret key", "is not the internal key's", "the secret of the internal key")
        return tweak_secret(secret, self.root)


def tweak_secret(secret: bytes, root: bytes = b"") -> bytes:
    """Return the secret of the output key from the internal secret and the tree root."""
    tweak = tweak_hash(secp256k1.public_key_xonly(secret), root)
    return secp256k1.scalar_add(secp256k1.even_secret(secret), tweak)


def taproot_output(internal_key: bytes, tree: Tree | None = None) -> TaprootOutput:
    """Return the Taproot output of a 32-byte x-only internal key and a tree of leaves (nested pairs).

    Raises InvalidInputError when the key is not on the curve.
    """
    root, paths = _walk(tree) if tree is not None else (b"", ())
    output_key, parity = secp256k1.xonly_tweak_add(internal_key, tweak_hash(internal_key, root))
    return TaprootOutput(internal_key=internal_key, root=root, output_key=output_key, parity=parity, paths=paths)


def _walk(tree: Tree) -> tuple[bytes, tuple[tuple[Leaf, tuple[bytes, ...]], ...]]:
    if isinstance(tree, Leaf):
        return leaf_hash(tree.script, tree.version), ((tree, ()),)
    (left, left_paths), (right, right_paths) = _walk(tree[0]), _walk(tree[1])
    paths = [(leaf, (*path, right)) for leaf, path in left_paths] + [
        (leaf, (*path, left)) for leaf, path in right_paths
    ]
    return branch_hash(left, right), tuple(paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class SighashMidstate:
    """What the signature hashes of transactions share that differ only in their outputs (SIGHASH_DEFAULT).

    A contract signs thousands of such transactions: per transaction there remain one hash of the outputs and one of
    the message.
    """

    before_outputs: bytes
    after_outputs: bytes

    def sighash(self, outputs: bytes) -> Hash32:
        """Return the signature hash for these serialised outputs (concatenated, without their count)."""
        hasher = _SIGHASH_PREFIX.copy()
        hasher.update(self.before_outputs + _sha256(outputs).digest() + self.after_outputs)
        return Hash32(hasher.digest())


def sighash_midstate(
    transaction: Transaction, index: int, spent: Sequence[TxOut], *, leaf: bytes | None = None
) -> SighashMidstate:
    """Return the fixed part of the SIGHASH_DEFAULT message of input ``index``; ``leaf`` as in ``sighash``."""
    before = b"\x00\x00" + _common(transaction) + _inputs_digests(transaction, spent)
    after = bytes([0 if leaf is None else 2]) + pack("<I", index) + _extension(leaf)
    return SighashMidstate(before_outputs=before, after_outputs=after)


def key_path_sighashes(
    transaction: Transaction, spent: Sequence[TxOut], indexes: Iterable[int]
) -> dict[int, Hash32]:  # fmt: skip
    """Return the SIGHASH_DEFAULT key-path hashes of many inputs of one transaction; what they share is hashed once."""
    outputs = b"".join([output.to_bytes() for output in transaction.outputs])
    before = sighash_midstate(transaction, 0, spent).before_outputs
    return {
        index: SighashMidstate(before_outputs=before, after_outputs=b"\x00" + pack("<I", index)).sighash(outputs)
        for index in indexes
    }


def sighash(
    transaction: Transaction,
    index: int,
    spent: Sequence[TxOut],
    *,
    hash_type: int = SIGHASH_DEFAULT,
    leaf: bytes | None = None,
    separator: int = NO_SEPARATOR,
) -> Hash32:
    """Return the BIP341 signature hash of input ``index``.

    spent: the outputs that the inputs spend, in their order. leaf: the leaf *hash* of the script for a script-path
    spend, None for the key path. separator: at which opcode of it, counted from 0, the last OP_CODESEPARATOR before the
    signature stands. Raises InvalidInputError: unknown hash type, wrong number of outputs, no output to
    go with SIGHASH_SINGLE. Source: BIP341 "Common signature message"; BIP342 for the extension. No annex.
    """
    if hash_type not in SIGHASH_TYPES:
        raise InvalidInputError("hash type", hex(hash_type), "one of " + ", ".join(hex(t) for t in SIGHASH_TYPES))
    if len(spent) != len(transaction.inputs) or not 0 <= index < len(spent):
        raise InvalidInputError("spent outputs", f"{len(spent)}, input {index}", f"{len(transaction.inputs)} outputs")
    anyone, base = hash_type & SIGHASH_ANYONECANPAY, hash_type & 3
    message = [b"\x00", bytes([hash_type]), _common(transaction)]
    if not anyone:
        message.append(_inputs_digests(transaction, spent))
    if base not in (SIGHASH_NONE, SIGHASH_SINGLE):
        message.append(_sha256(b"".join([output.to_bytes() for output in transaction.outputs])).digest())
    message.append(bytes([0 if leaf is None else 2]))
    if anyone:
        txin = transaction.inputs[index]
        message += [txin.outpoint.to_bytes(), spent[index].to_bytes(), pack("<I", txin.sequence)]
    else:
        message.append(pack("<I", index))
    if base == SIGHASH_SINGLE:
        if index >= len(transaction.outputs):
            raise InvalidInputError("SIGHASH_SINGLE", f"input {index} has no output", "an output of the same index")
        message.append(_sha256(transaction.outputs[index].to_bytes()).digest())
    message.append(_extension(leaf, separator))
    return tagged_hash("TapSighash", b"".join(message))


def _common(transaction: Transaction) -> bytes:
    return pack("<iI", transaction.version, transaction.lock_time)


def _inputs_digests(transaction: Transaction, spent: Sequence[TxOut]) -> bytes:
    return b"".join(
        _sha256(b"".join(part)).digest()
        for part in (
            [txin.outpoint.to_bytes() for txin in transaction.inputs],
            [pack("<q", output.value) for output in spent],
            [compact_size(len(output.script)) + output.script for output in spent],
            [pack("<I", txin.sequence) for txin in transaction.inputs],
        )
    )


def _extension(leaf: bytes | None, separator: int = NO_SEPARATOR) -> bytes:
    return b"" if leaf is None else leaf + b"\x00" + pack("<I", separator)  # key version 0
