"""A contract as what may happen to its money: ways on, each with a condition and what it pays.

Rubin's contracts bind the next transaction by OP_CHECKTEMPLATEVERIFY, which Bitcoin does not have: here both parties
sign every transaction before the first one is funded, and each way's leaf needs both their signatures besides its
condition. Closing by agreement is the key path of every output: MuSig2 of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from btcfi import secp256k1
from btcfi.bitcoin.fees import dust_limit
from btcfi.bitcoin.transaction import TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.bitcoin.witness import has_checkable_witness
from btcfi.clauses.clause import Clause
from btcfi.errors import InvalidInputError
from btcfi.units import Sats


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """Whose signatures every way needs."""

    one: bytes
    """x-only, 32 bytes."""
    two: bytes
    cooperate: bytes
    """The key path of every output: MuSig2 of both, x-only."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError unless these are two keys and an aggregate, on the curve."""
        for name, key in (("party one", self.one), ("party two", self.two), ("cooperate", self.cooperate)):
            if not secp256k1.is_xonly_key(key):
                raise InvalidInputError(name, "is not on the curve", "the x coordinate of a point, 32 bytes")
        if self.one == self.two:
            raise InvalidInputError("parties", "one key twice", "two keys")


class Contract(Protocol):
    """Something that holds money and says what may happen to it."""

    @property
    def amount(self) -> Sats:
        """What it holds for its parties; the fees of what follows lie on top of it."""
        ...

    def ways(self) -> tuple[Way, ...]:
        """Return what may happen, each by its own name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One thing that may happen."""

    name: str
    guard: Clause
    """What must be shown besides both parties' signatures."""
    pays: tuple[TxOut, ...] = ()
    into: Contract | None = None
    """The contract that holds what is not paid out."""
    pay_in: Coin | None = None
    """A coin that its owner adds, signed by him when he goes this way."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for outputs that no node relays, or a coin whose signing changes the txid."""
        for output in self.pays:
            if output.value < dust_limit(output.script):
                expected = f"at least {dust_limit(output.script)} sats, or no output"
                raise InvalidInputError(self.name, f"pays {output.value} sats", expected)
        if self.pay_in is not None and not has_checkable_witness(self.pay_in.output.script):
            raise InvalidInputError("pay in", "a coin of another script", "a coin of type P2TR or P2WPKH")

    def check_sum(self, amount: Sats) -> None:
        """Raise InvalidInputError unless what comes out is what went in, to the satoshi."""
        added = self.pay_in.value if self.pay_in else 0
        out = total(self.pays) + (self.into.amount if self.into else 0)
        if out != amount + added:
            raise InvalidInputError(self.name, f"pays {out} sats", f"{amount + added} sats, what it holds")


def total(outputs: Sequence[TxOut]) -> Sats:
    """Return the sum of outputs."""
    return Sats(sum(output.value for output in outputs))
