"""A swap's margin as an output of Bitcoin, and the four ways in which it is spent.

Each side's margin is an output of its own. Its leaves: one signature of every signer of the swap; and its owner's
alone, ``RETURN_SECONDS`` after the lock. By the first leaf are pre-signed, for what the oracles may attest:

- SETTLE, by all: from the lock on pays what the owner owes to whom it is owed, the rest to the owner.
- BURN, by all but the owner, over input 0 and the OP_RETURN alone: the owner adds coins and takes change as it likes,
  and nobody else has an output, an input or an anchor in it.
- RELEASE, by all but the owner, over the input alone: where it owes nothing its margin is its own.

All together may spend every margin by the key path. Amounts come from the attested return, a number of binary digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import floor
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin import script as op
from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import DUST_P2TR, dust_limit
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.taproot import SIGHASH_ANYONECANPAY, SIGHASH_NONE, SIGHASH_SINGLE, Leaf, TaprootOutput
from btcfi.bitcoin.transaction import (
    SEQUENCE_LOCKTIME,
    SEQUENCE_RBF,
    TRUC_VERSION,
    OutPoint,
    Transaction,
    TxIn,
    TxOut,
)
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.execution import ANCHOR
from btcfi.errors import InvalidInputError
from btcfi.swaps.book import INACTIVE_SECONDS
from btcfi.swaps.contract import burn_fee
from btcfi.units import Hash32, Sats, UnixSeconds

RETURN_SECONDS: Final = INACTIVE_SECONDS
"""After the lock: a silent counterparty or oracle holds nobody's margin for longer."""

LEAST_LOCK: Final = 500_000_000
"""A lock time below it would be a height. Source: BIP113."""

SETTLE_FEE: Final = Sats(1_000)
"""What a SETTLE pays by itself, out of the margin's output: it relays alone, and a child that is cycled away leaves it
minable (a parent of no fee is refused by nodes that accept version 3 and do not enforce its rules)."""

BURN_TYPE: Final = SIGHASH_SINGLE | SIGHASH_ANYONECANPAY
RELEASE_TYPE: Final = SIGHASH_NONE | SIGHASH_ANYONECANPAY

BURN_SCRIPT: Final = op.op_return(b"BTCFi burn")
"""Provably unspendable: the amount destroyed is the output's."""

LEAST_DIGITS: Final = 4
MOST_DIGITS: Final = 11
"""Of an attested return: 0.1 % of the required margin, and 9,216 signatures between two."""


def burned_by(transaction: Transaction) -> Sats:
    """Return how much a transaction destroys by our mark; what a burn costs can be read off the chain by anybody."""
    return Sats(sum(output.value for output in transaction.outputs if output.script == BURN_SCRIPT))


# ---- the attested return


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnGrid:
    """Returns from -1 to 1 of the required margin as numbers of so many binary digits; the middle is 0."""

    digits: int = 9

    def __post_init__(self) -> None:
        """Raise InvalidInputError for too few digits to mean anything, or more than anybody signs."""
        if not LEAST_DIGITS <= self.digits <= MOST_DIGITS:
            raise InvalidInputError("digits of a return", str(self.digits), f"{LEAST_DIGITS} to {MOST_DIGITS}")

    @property
    def middle(self) -> int:
        """The outcome of no return."""
        return 1 << (self.digits - 1)

    @property
    def steps(self) -> int:
        """On either side of it."""
        return self.middle - 1

    @property
    def outcomes(self) -> range:
        """Every number that can be signed; 0 says what 1 does, -1, so that the grid is symmetric."""
        return range(1 << self.digits)

    def part(self, outcome: int) -> Fraction:
        """Return the part of the required margin that an outcome states. Raises InvalidInputError outside."""
        if outcome not in self.outcomes:
            raise InvalidInputError("outcome", str(outcome), f"0 to {self.outcomes[-1]}")
        return Fraction(max(outcome - self.middle, -self.steps), self.steps)

    def outcome(self, part: Fraction) -> int:
        """Return what the oracles sign of a return: the nearest step, a half away from nothing; capped at -1 and 1.

        Rounded down, a step of 0.39 % would cost one side half a step a week on average: more than half the target.
        """
        size = floor(abs(part) * self.steps + Fraction(1, 2))
        return self.middle + min(size, self.steps) * (1 if part > 0 else -1)


def prefixes(low: int, high: int, digits: int) -> list[tuple[int, int]]:
    """Return the fewest (prefix, length) that are exactly the outcomes from ``low`` to ``high``, in order.

    None for an empty range; the range of all outcomes is two, since a prefix has a digit at least.
    """
    found = []
    while low <= high:
        size = 1
        while low % (2 * size) == 0 and low + 2 * size - 1 <= high and 2 * size < 1 << digits:
            size *= 2
        found.append((low // size, digits - size.bit_length() + 1))
        low += size
    return found


# ---- the margin's output


def signed_by_all(keys: Sequence[bytes]) -> Leaf:
    """Return the leaf that one signature of each x-only key spends."""
    checks = [bytes([op.OP_CHECKSIGVERIFY])] * (len(keys) - 1) + [bytes([op.OP_CHECKSIG])]
    return Leaf(script=b"".join(op.push(key) + check for key, check in zip(keys, checks, strict=True)))


def returned_at(key: bytes, at: UnixSeconds) -> Leaf:
    """Return the leaf that one x-only key spends by itself from a time on."""
    lock = op.push_number(at) + bytes([op.OP_CHECKLOCKTIMEVERIFY, op.OP_DROP])
    return Leaf(script=lock + op.push(key) + bytes([op.OP_CHECKSIG]))


@dataclass(frozen=True, kw_only=True)
class MarginOutput:
    """One side's margin on the chain."""

    keys: tuple[bytes, ...]
    """Compressed, of every signer of the swap, in the order that all use."""
    owner: int
    """Its place among them."""
    required: Sats
    settle_fee: Sats = SETTLE_FEE
    lock: UnixSeconds
    """From when a SETTLE may be mined, in median time."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a lock that is no time, a key twice, an owner who is none of the signers."""
        if not LEAST_LOCK <= self.lock <= 2**32 - 1 - RETURN_SECONDS:
            raise InvalidInputError("lock", str(self.lock), f"a time from {LEAST_LOCK} on")
        if len({key[1:] for key in self.keys}) != len(self.keys) or len(self.keys) < 2:  # noqa: PLR2004 - two sides
            raise InvalidInputError("signers", f"{len(self.keys)} keys, or one twice", "two different keys or more")
        if not 0 <= self.owner < len(self.keys):
            raise InvalidInputError("owner", str(self.owner), f"0 to {len(self.keys) - 1}")

    @property
    def value(self) -> Sats:
        """What the output holds: the required margin, SETTLE's anchor, and what SETTLE pays by itself."""
        return Sats(self.required + ANCHOR.value + self.settle_fee)

    @property
    def return_time(self) -> UnixSeconds:
        """From when its owner takes it back alone."""
        return UnixSeconds(self.lock + RETURN_SECONDS)

    @cached_property
    def shared(self) -> Leaf:
        """The leaf of all."""
        return signed_by_all([key[1:] for key in self.keys])

    @cached_property
    def shared_hash(self) -> Hash32:
        """Its hash, which every signature by it commits to."""
        return taproot.leaf_hash(self.shared.script)

    @cached_property
    def alone(self) -> Leaf:
        """The leaf of the owner."""
        return returned_at(self.keys[self.owner][1:], self.return_time)

    @cached_property
    def taproot(self) -> TaprootOutput:
        """The output with its tree."""
        return taproot.taproot_output(KeyAggregate(self.keys).xonly, (self.shared, self.alone))

    @cached_property
    def txout(self) -> TxOut:
        """The output."""
        return TxOut(value=self.value, script=self.taproot.script)

    def digest(self, transaction: Transaction, *, hash_type: int = 0, added: Sequence[TxOut] = ()) -> Hash32:
        """Return what is signed to spend it as input 0 by the leaf of all; ``added``: what further inputs spend."""
        return taproot.sighash(
            transaction, 0, [self.txout, *added], hash_type=hash_type, leaf=self.shared_hash
        )  # fmt: skip

    def witness(self, signatures: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return the witness of the leaf of all; signatures in the order of the keys, with their hash types."""
        return (*reversed(signatures), self.shared.script, self.taproot.control_block(self.shared))

    # ---- its spends, not signed

    def settle(self, coin: OutPoint, payments: Sequence[TxOut]) -> Transaction:
        """Return the SETTLE that pays these; they, the anchor and its own fee are the output.

        Raises InvalidInputError for another sum.
        """
        if sum(output.value for output in payments) != self.required:
            paid = sum(output.value for output in payments)
            raise InvalidInputError("payments", f"{paid} sats", f"the required margin, {self.required} sats")
        return Transaction(
            version=TRUC_VERSION,
            inputs=(TxIn(outpoint=coin, sequence=SEQUENCE_LOCKTIME),),
            outputs=(*payments, ANCHOR),
            lock_time=self.lock,
        )

    def burn(self, coin: OutPoint, debit: Sats) -> Transaction:
        """Return the part of a BURN that the others sign: the debit and a quarter of the required margin, destroyed."""
        gone = TxOut(value=Sats(debit + burn_fee(self.required)), script=BURN_SCRIPT)
        return Transaction(
            version=2, inputs=(TxIn(outpoint=coin, sequence=SEQUENCE_RBF),), outputs=(gone,)
        )  # fmt: skip

    def burn_with_change(
        self, coin: OutPoint, debit: Sats, *, added: Sequence[Coin] = (), change_script: bytes, fee: Sats
    ) -> Transaction:
        """Return a whole BURN, not signed: further coins, and what they and the margin leave after the fee as change.

        There is change always: a node may refuse a transaction that has an OP_RETURN and nothing else. Raises
        InsufficientFundsError.
        """
        part = self.burn(coin, debit)
        available = self.value + sum(one.value for one in added)
        change = available - part.outputs[0].value - fee
        if change < (least := dust_limit(change_script)):
            raise InsufficientFundsError(available=Sats(available), needed=Sats(available - change + least))
        inputs = tuple(TxIn(outpoint=one.outpoint, sequence=SEQUENCE_RBF) for one in added)
        outputs = (*part.outputs, TxOut(value=Sats(change), script=change_script))
        return replace(part, inputs=(*part.inputs, *inputs), outputs=outputs)

    def release(self, coin: OutPoint, script: bytes, fee: Sats) -> Transaction:
        """Return a RELEASE; of it the others have signed the input alone."""
        return self._whole(coin, script, fee, lock_time=0, sequence=SEQUENCE_RBF)

    def returned(self, coin: OutPoint, script: bytes, fee: Sats) -> Transaction:
        """Return what its owner takes back alone, not signed."""
        return self._whole(coin, script, fee, lock_time=self.return_time, sequence=SEQUENCE_LOCKTIME)

    def sign_return(self, transaction: Transaction, secret: bytes) -> Transaction:
        """Return it signed by its owner."""
        leaf = taproot.leaf_hash(self.alone.script)
        digest = taproot.sighash(transaction, 0, [self.txout], leaf=leaf)
        signature = secp256k1.schnorr_sign(secret, digest)
        return transaction.with_witness(
            0, (signature, self.alone.script, self.taproot.control_block(self.alone))
        )  # fmt: skip

    def _whole(self, coin: OutPoint, script: bytes, fee: Sats, *, lock_time: int, sequence: int) -> Transaction:
        if self.value - fee < DUST_P2TR:
            raise InvalidInputError("fee", f"{fee} sats", f"at most {self.value - DUST_P2TR} of this margin")
        return Transaction(
            version=2, inputs=(TxIn(outpoint=coin, sequence=sequence),),
            outputs=(TxOut(value=Sats(self.value - fee), script=script),), lock_time=lock_time,
        )  # fmt: skip
