"""Funding a fan-out: one transaction of all owners, signed after everybody holds everybody's pre-signatures.

It stands before the week's first price, or the week is cancelled: whoever gives the last witness late could wait for
the price, so an owner whose funding is not confirmed by then spends its own coin elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from btcfi.bitcoin.fees import OVERHEAD_WEIGHT, P2TR_OUTPUT_WEIGHT, SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import SEQUENCE_RBF, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.bitcoin.witness import WrongWitnessError, check_witness, has_checkable_witness
from btcfi.contracts.option import Contribution, WrongSignatureError, change_of
from btcfi.errors import InvalidInputError
from btcfi.swaps.fanout.graph import FanOut
from btcfi.swaps.fanout.terms import FanTerms


@dataclass(frozen=True, kw_only=True)
class FanFunding:
    """The transaction that funds every margin, not signed: its first outputs are the margins, the rest is change."""

    terms: FanTerms
    transaction: Transaction
    spent: tuple[TxOut, ...]
    inputs: tuple[int, ...]
    """Whose each input is."""

    @property
    def fan(self) -> FanOut:
        """The book that it funds: its outpoints are known before anybody signs."""
        return FanOut.funded_by(self.terms, self.transaction)

    def sign(self, owner: int, keys: Mapping[bytes, TaprootKey]) -> dict[int, tuple[bytes, ...]]:
        """Return the witnesses of an owner's own inputs, and of no other, also where a key of its would fit."""
        return {
            index: (keys[self.spent[index].script].sign_input(self.transaction, index, self.spent),)
            for index, whose in enumerate(self.inputs)
            if whose == owner
        }

    def complete(self, witnesses: Mapping[int, Sequence[bytes]]) -> Transaction:
        """Return it signed. Raises WrongSignatureError naming the owner whose witness is missing or wrong."""
        whole = self.transaction
        for index, owner in enumerate(self.inputs):
            witness = tuple(witnesses.get(index, ()))
            try:
                check_witness(whole, index, self.spent, witness)
            except WrongWitnessError as e:
                what = f"funding input {index}"
                raise WrongSignatureError(party=f"owner {owner}", what=what, problem=e.problem) from e
            whole = whole.with_witness(index, witness)
        return whole


def build_funding(terms: FanTerms, brought: Mapping[int, Contribution], *, rate: SatsPerKvb) -> FanFunding:
    """Return the funding by what each owner with a margin brings, in the owners' order; each takes its own change.

    Each pays the fee of its inputs, its margin and its change; the first the common parts too. Raises
    InsufficientFundsError, InvalidInputError for an owner who brings nothing or one too many, a coin named twice or
    one whose witness nobody could check.
    """
    if set(brought) != set(terms.margins):
        raise InvalidInputError("contributions", f"of the owners {sorted(brought)}", f"of {sorted(terms.margins)}")
    changes: list[TxOut] = []
    coins: list[Coin] = []
    inputs: list[int] = []
    for place, margin in terms.margins.items():
        one = brought[place]
        weight = P2TR_OUTPUT_WEIGHT + (0 if coins else OVERHEAD_WEIGHT)
        changes += change_of(one, amount=margin.value, weight=weight, rate=rate)[0]
        coins += one.coins
        inputs += [place] * len(one.coins)
    if len({coin.outpoint for coin in coins}) != len(coins):
        raise InvalidInputError("funding inputs", "one outpoint is named twice", "each outpoint once")
    if not all(has_checkable_witness(coin.output.script) for coin in coins):
        raise InvalidInputError("funding inputs", "a coin of another script", "P2TR or P2WPKH")
    return FanFunding(
        terms=terms,
        transaction=Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF) for coin in coins),
            outputs=(*(margin.txout for margin in terms.margins.values()), *changes),
        ),
        spent=tuple(coin.output for coin in coins),
        inputs=tuple(inputs),
    )
