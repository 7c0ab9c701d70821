"""Closing a fan-out together: one transaction that all owners sign by the key path, at a price alone does not have.

It pays what the attested outcome pays, from whatever is not spent yet, or the same into next week's margins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from btcfi.bitcoin.fees import (
    DUST_P2TR,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.musig import KeyAggregate, SecretNonce, Session
from btcfi.bitcoin.taproot import key_path_sighashes
from btcfi.bitcoin.transaction import SEQUENCE_RBF, Transaction, TxIn, TxOut
from btcfi.contracts.option import WrongSignatureError
from btcfi.errors import InvalidInputError
from btcfi.swaps.fanout.dues import apportion
from btcfi.swaps.fanout.graph import FanOut
from btcfi.units import Hash32, Sats


@dataclass(frozen=True, kw_only=True)
class FanClose:
    """A close, not signed: all margins in, what each owner is left with out. Their sum less the outputs is the fee."""

    fan: FanOut
    outcome: int
    transaction: Transaction
    fee: Sats

    @property
    def owners(self) -> tuple[int, ...]:
        """Whose margins its inputs spend, in their order."""
        return tuple(self.fan.coins)

    @cached_property
    def digests(self) -> dict[int, Hash32]:
        """What all sign, by input."""
        spent = [self.fan.terms.margins[place].txout for place in self.owners]
        return key_path_sighashes(self.transaction, spent, range(len(spent)))


def build_close(fan: FanOut, outcome: int, *, rate: SatsPerKvb) -> FanClose:
    """Return the close that pays each owner its margin and what it has won, less its part of the fee.

    What each margin holds for a SETTLE goes to the fee first, and what is over back; the fee beyond is shared in
    proportion to what the owners take out. An owner left with less than an output can carry gets none. All owners
    compute the same bytes. Raises InvalidInputError when the fee is more than there is.
    """
    terms = fan.terms
    left = [own + won for own, won in zip(terms.required, terms.profits(outcome), strict=True)]
    paid = sum(one >= DUST_P2TR for one in left)
    weight = OVERHEAD_WEIGHT + len(fan.coins) * P2TR_INPUT_WEIGHT + paid * P2TR_OUTPUT_WEIGHT
    fee, extra = fee_for(vsize_of(weight), rate), sum(one.value - one.required for one in terms.margins.values())
    if fee > extra + sum(left) - DUST_P2TR * len(left):
        raise InvalidInputError("rate", f"a fee of {fee} sats", "less than the margins hold")
    change = apportion(abs(extra - fee), left)
    amounts = [one + part if extra >= fee else one - part for one, part in zip(left, change, strict=True)]
    outputs = tuple(
        TxOut(value=Sats(amount), script=owner.script)
        for amount, owner in zip(amounts, terms.owners, strict=True)
        if amount >= DUST_P2TR
    )  # fmt: skip
    inputs = tuple(TxIn(outpoint=coin, sequence=SEQUENCE_RBF) for coin in fan.coins.values())
    total = sum(one.value for one in terms.margins.values())
    return FanClose(
        fan=fan, outcome=outcome, transaction=Transaction(version=2, inputs=inputs, outputs=outputs),
        fee=Sats(total - sum(output.value for output in outputs)),
    )  # fmt: skip


class Closing:
    """One owner's view of the signing of a close: a MuSig2 session an input, each with every owner."""

    def __init__(self, close: FanClose) -> None:
        """Aggregate the keys for every input."""
        self.close, self._aggregates = close, {}
        for index, place in enumerate(close.owners):
            aggregate = KeyAggregate([owner.key for owner in close.fan.terms.owners])
            aggregate.taproot_tweak(close.fan.terms.margins[place].taproot.root)
            self._aggregates[index] = aggregate

    def nonces(self, secret: bytes, entropy: Sequence[bytes]) -> list[SecretNonce]:
        """Return a fresh nonce an input; ``entropy``: 32 random bytes each, never used before."""
        return [
            SecretNonce(secret=secret, entropy=one, message=self.close.digests[index], aggregate=aggregate)
            for (index, aggregate), one in zip(self._aggregates.items(), entropy, strict=True)
        ]

    def sign(self, secret: bytes, nonces: Sequence[SecretNonce], public: Mapping[int, Sequence[bytes]]) -> list[bytes]:
        """Return one owner's partial signatures, an input each. public: every owner's public nonces by its place.

        Raises as ``musig``.
        """
        return [self._session(index, public).sign(secret, nonce) for index, nonce in enumerate(nonces)]

    def finish(self, public: Mapping[int, Sequence[bytes]], partials: Mapping[int, Sequence[bytes]]) -> Transaction:
        """Return the close, signed. Raises WrongSignatureError naming the owner whose part is wrong."""
        whole = self.close.transaction
        for index in self._aggregates:
            session = self._session(index, public)
            parts = [partials[place][index] for place in range(len(self.close.fan.terms.owners))]
            for place, part in enumerate(parts):
                if not session.partial_is_valid(place, part):
                    raise WrongSignatureError(party=f"owner {place}", what=f"input {index} of the close")
            whole = whole.with_witness(index, [session.aggregate(parts)])
        return whole

    def _session(self, index: int, public: Mapping[int, Sequence[bytes]]) -> Session:
        owners = range(len(self.close.fan.terms.owners))
        return Session(self._aggregates[index], [public[place][index] for place in owners], self.close.digests[index])
