"""The scripts of a contract, as a table: what each spend path needs, and the trees that combine them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from btcfi.bitcoin import script as op
from btcfi.bitcoin.taproot import Leaf, TaprootOutput, Tree, taproot_output
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32, Height


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafKeys:
    """What the scripts name."""

    buyer: bytes
    """x-only key of the buyer, 32 bytes."""
    seller: bytes
    """x-only key of the seller."""
    refund_height: Height
    """From this height on the seller may take the collateral back alone."""
    release_hash: Hash32 | None = None
    """SHA-256 of the secret that a "proof required" contract waits for."""


def _settle(keys: LeafKeys) -> bytes:
    return op.push(keys.buyer) + bytes([op.OP_CHECKSIGVERIFY]) + op.push(keys.seller) + bytes([op.OP_CHECKSIG])


def _release(keys: LeafKeys) -> bytes:
    if keys.release_hash is None:
        raise InvalidInputError("release hash", "missing", "SHA-256 of the release secret, 32 bytes")
    lock = bytes([op.OP_SIZE]) + op.push_number(32) + bytes([op.OP_EQUALVERIFY, op.OP_SHA256])
    return lock + op.push(keys.release_hash) + bytes([op.OP_EQUALVERIFY]) + _settle(keys)


def _refund(keys: LeafKeys) -> bytes:
    lock = op.push_number(keys.refund_height) + bytes([op.OP_CHECKLOCKTIMEVERIFY, op.OP_DROP])
    return lock + op.push(keys.seller) + bytes([op.OP_CHECKSIG])


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafKind:
    """One way to spend by script."""

    script: Callable[[LeafKeys], bytes]
    witness: tuple[str, ...]
    """What goes under the script, bottom first: buyer and seller signatures, the release secret."""


LEAVES: Final[dict[str, LeafKind]] = {
    # both signatures: the pre-signed contract execution transactions live here
    "settle": LeafKind(script=_settle, witness=("seller", "buyer")),
    # both signatures and a secret that the operator shows with the proof
    "release": LeafKind(script=_release, witness=("seller", "buyer", "secret")),
    # the seller alone, once the oracle has stayed silent past the refund height
    "refund": LeafKind(script=_refund, witness=("seller",)),
}

Shape = str | tuple["Shape", "Shape"]

TREES: Final[dict[str, Shape]] = {
    "standard": ("settle", "refund"),
    "proof_required": ("settle", ("release", "refund")),
}
"""Which leaves a kind of contract has, and how deep: the likelier path stands higher. What an offer may name."""

NETTED: Final = "netted"
"""The tree of a contract that both sides put collateral into: nobody may take it back alone, so there is no refund
leaf; the refund is a transaction that both have signed before (``netting``). No offer may name it."""

_SHAPES: Final[dict[str, Shape]] = {**TREES, NETTED: "settle"}

SIGNATURE_SIZE: Final = 64
"""A BIP340 signature under SIGHASH_DEFAULT."""


def leaf(name: str, keys: LeafKeys) -> Leaf:
    """Return one leaf by its name in ``LEAVES``."""
    return Leaf(script=LEAVES[name].script(keys))


def funding_tree(tree: str, keys: LeafKeys) -> Tree:
    """Return the script tree of a kind of contract: a name in ``TREES``, or ``NETTED``. Raises InvalidInputError."""
    if tree not in _SHAPES:
        raise InvalidInputError("tree", repr(tree), "one of " + ", ".join(_SHAPES))

    def build(shape: Shape) -> Tree:
        return leaf(shape, keys) if isinstance(shape, str) else (build(shape[0]), build(shape[1]))

    return build(_SHAPES[tree])


@lru_cache(maxsize=256)
def funding_output(internal_key: bytes, tree: str, keys: LeafKeys) -> TaprootOutput:
    """Return the Taproot output that holds the collateral."""
    return taproot_output(internal_key, funding_tree(tree, keys))


def witness_of(name: str, keys: LeafKeys, output: TaprootOutput, parts: dict[str, bytes]) -> tuple[bytes, ...]:
    """Return the witness that spends ``output`` by the leaf ``name``; ``parts`` by the names in its ``witness``."""
    chosen = leaf(name, keys)
    return (*(parts[part] for part in LEAVES[name].witness), chosen.script, output.control_block(chosen))


def witness_weight(name: str, keys: LeafKeys, output: TaprootOutput) -> int:
    """Return the weight units of that witness, count and lengths included."""
    sizes = {"buyer": SIGNATURE_SIZE, "seller": SIGNATURE_SIZE, "secret": 32}
    items = witness_of(name, keys, output, {part: bytes(size) for part, size in sizes.items()})
    return 1 + sum(1 + len(item) for item in items)  # every item is shorter than 253 bytes
