"""The transactions of a bilateral swap: who owes what, and every way to spend a margin.

Sums are exact: a margin is what its spend pays out, plus its fee, to the satoshi, and no output is below dust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from btcfi import secp256k1
from btcfi.bitcoin.fees import (
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    dust_limit,
    fee_for,
    replacement_fee,
    vsize_of,
)
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.transaction import SEQUENCE_RBF, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.bitcoin.witness import check_witness
from btcfi.contracts.execution import ANCHOR
from btcfi.contracts.option import Contribution, change_of
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import DigitPoints
from btcfi.swaps.bilateral.grid import Prefix, profit_at
from btcfi.swaps.bilateral.terms import Owner, SwapTerms
from btcfi.swaps.contract import NOTHING
from btcfi.swaps.onchain import SETTLE_FEE
from btcfi.units import Sats, Txid, UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """Who owes what at one return."""

    debtor: Owner
    amount: Sats
    """Above 0, at most the required margin."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Everything that fixes a swap's transactions."""

    terms: SwapTerms
    funding: Txid
    """Its outputs begin with the taker's margin and the provider's."""
    _points: list[DigitPoints] = field(init=False, repr=False, compare=False, default_factory=list)

    def outpoint(self, owner: Owner) -> OutPoint:
        """Return where a margin is."""
        return OutPoint(txid=self.funding, index=self.terms.margins[owner].owner)

    def debt(self, outcome: int) -> Debt | None:
        """Return who owes what at a return; None where nothing is owed: both are released, and nobody can burn.

        Raises InvalidInputError for a number of more digits.
        """
        profit = profit_at(self.terms.grid, outcome, self.terms.required)
        if not profit:
            return None
        return Debt(debtor=Owner.TAKER if profit < 0 else Owner.PROVIDER, amount=Sats(abs(profit)))

    def owed(self, outcome: int) -> Debt:
        """Return who owes what. Raises InvalidInputError where nothing is owed."""
        if (debt := self.debt(outcome)) is None:
            raise InvalidInputError("return", "nothing is owed by anybody", "one at which a party owes")
        return debt

    def settle(self, outcome: int) -> Transaction:
        """Return SETTLE of the debtor's margin, not signed: the debit to the creditor, the rest back.

        Raises InvalidInputError where nothing is owed.
        """
        debt = self.owed(outcome)
        parts = {debt.debtor.other: debt.amount, debt.debtor: Sats(self.terms.required - debt.amount)}
        paid = [TxOut(value=part, script=self.terms.party(owner).script) for owner, part in parts.items() if part]
        return self.terms.margins[debt.debtor].settle(self.outpoint(debt.debtor), paid)

    def burn(self, outcome: int) -> Transaction:
        """Return what the creditor commits to of BURN: input 0, and output 0, which pays nobody.

        Version 2: the debtor may add unconfirmed coins of version 2. Raises InvalidInputError where nothing is owed.
        """
        debt = self.owed(outcome)
        return self.terms.margins[debt.debtor].burn(self.outpoint(debt.debtor), debt.amount)

    def release(self, owner: Owner, fee: Sats) -> Transaction:
        """Return RELEASE, not signed: a margin whole to its owner; the counterparty has committed to the input alone.

        Raises InvalidInputError for a fee that leaves dust.
        """
        return self.terms.margins[owner].release(self.outpoint(owner), self.terms.party(owner).script, fee)

    def give_back(self, owner: Owner, fee: Sats) -> Transaction:
        """Return RETURN, not signed: a margin whole to its owner, nine days after the settlement time."""
        return self.terms.margins[owner].returned(self.outpoint(owner), self.terms.party(owner).script, fee)

    def close(self, profit: int, fee: Sats) -> Transaction:
        """Return the transaction by which both close together, not signed: both margins, at any profit of the taker.

        The fee is halved, the odd satoshi the provider's. Raises InvalidInputError for a profit beyond the required
        margin, InsufficientFundsError for a fee that leaves dust.
        """
        if abs(profit) > self.terms.required:
            raise InvalidInputError("profit", f"{profit} sats", f"at most {self.terms.required} sats either way")
        margin, half = self.terms.margins[Owner.TAKER].value, fee // 2
        parts = {Owner.TAKER: margin + profit - half, Owner.PROVIDER: margin - profit - (fee - half)}
        for owner, part in parts.items():
            if part < dust_limit(self.terms.party(owner).script):
                raise InsufficientFundsError(available=margin, needed=fee)
        return Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=self.outpoint(owner), sequence=SEQUENCE_RBF) for owner in Owner),
            outputs=tuple(
                TxOut(value=Sats(part), script=self.terms.party(owner).script) for owner, part in parts.items()
            ),
        )

    def key_path(self, owner: Owner) -> KeyAggregate:
        """Return the aggregate of both keys that signs for a margin by its key path."""
        margin = self.terms.margins[owner]
        aggregate = KeyAggregate(margin.keys)
        aggregate.taproot_tweak(margin.taproot.root)
        return aggregate

    def point(self, prefix: Prefix, oracles: Sequence[int]) -> Any:  # noqa: ANN401 - cffi has no types
        """Return the adaptor point of some first digits for a set of oracles, in libsecp256k1's form."""
        if not self._points:
            self._points.extend(DigitPoints(announcement=one) for one in self.terms.announcements)
        points = [self._points[place].of_prefix(*prefix) for place in oracles]
        return points[0] if len(points) == 1 else secp256k1.sum_points(points)


# ---- the funding


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapFunding:
    """A funding transaction, not signed yet, with what it spends."""

    transaction: Transaction
    spent: tuple[TxOut, ...]
    taker_inputs: int
    """The first so many inputs are the taker's, the rest the provider's."""

    @property
    def fee(self) -> Sats:
        """What it pays."""
        paid = sum(output.value for output in self.transaction.outputs)
        return Sats(sum(output.value for output in self.spent) - paid)

    def inputs_of(self, owner: Owner) -> range:
        """Return which inputs are one side's."""
        taker = owner is Owner.TAKER
        return range(self.taker_inputs) if taker else range(self.taker_inputs, len(self.spent))


def build_funding(
    terms: SwapTerms, *, taker: Contribution, provider: Contribution, rate: SatsPerKvb
) -> SwapFunding:  # fmt: skip
    """Return the transaction that pays both margins at once; each side pays its own and half of the common parts.

    Both compute the same bytes. Raises InsufficientFundsError, InvalidInputError for an outpoint named twice.
    """
    coins = taker.coins + provider.coins
    if len({coin.outpoint for coin in coins}) != len(coins):
        raise InvalidInputError("funding inputs", "one outpoint is named twice", "each outpoint once")
    weight, margins = OVERHEAD_WEIGHT // 2 + P2TR_OUTPUT_WEIGHT, terms.margins
    change = [
        output
        for owner, side in ((Owner.TAKER, taker), (Owner.PROVIDER, provider))
        for output in change_of(side, amount=margins[owner].value, weight=weight, rate=rate)[0]
    ]
    return SwapFunding(
        transaction=Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF) for coin in coins),
            outputs=(*(margins[owner].txout for owner in Owner), *change),
        ),
        spent=tuple(coin.output for coin in coins),
        taker_inputs=len(taker.coins),
    )


def sign_funding(
    terms: SwapTerms, funding: SwapFunding, owner: Owner, keys: Mapping[bytes, TaprootKey], *, now: UnixSeconds
) -> dict[int, tuple[bytes, ...]]:
    """Return the witnesses of one side's inputs, whose output scripts are among ``keys``, by input index.

    Ask ``presign.check`` first: from here on the margin is at stake. Raises SwapRefusedError once the start price
    exists: whoever signs last after it would choose whether the swap was ever made.
    """
    terms.check_in_time(now)
    return {
        index: (keys[funding.spent[index].script].sign_input(funding.transaction, index, funding.spent),)
        for index in funding.inputs_of(owner)
        if funding.spent[index].script in keys
    }


def complete_funding(funding: SwapFunding, witnesses: Mapping[int, Sequence[bytes]]) -> Transaction:
    """Return the signed funding. Raises WrongWitnessError for a missing or wrong witness."""
    transaction = funding.transaction
    for index in range(len(funding.spent)):
        witness = tuple(witnesses.get(index, ()))
        check_witness(funding.transaction, index, funding.spent, witness)
        transaction = transaction.with_witness(index, witness)
    return transaction


def build_cancel(
    funding: SwapFunding, owner: Owner, key: TaprootKey, *, script: bytes, rate: SatsPerKvb
) -> Transaction:  # fmt: skip
    """Return a side's first coin spent to itself, signed: once it is mined, the swap is none.

    For a side that has signed the funding and sees it unconfirmed when the start price is near: whoever signed last
    could wait for the price and send it then. It pays what replaces the funding. Raises InsufficientFundsError.
    """
    index = funding.inputs_of(owner)[0]
    spent, inputs = [funding.spent[index]], (funding.transaction.inputs[index],)
    size = vsize_of(OVERHEAD_WEIGHT + P2TR_INPUT_WEIGHT + 4 * len(TxOut(value=Sats(0), script=script).to_bytes()))
    rest = spent[0].value - replacement_fee(old_fee=funding.fee, vsize=size, rate=rate)
    if rest < (least := dust_limit(script)):
        raise InsufficientFundsError(available=spent[0].value, needed=Sats(spent[0].value - rest + least))
    transaction = Transaction(version=2, inputs=inputs, outputs=(TxOut(value=Sats(rest), script=script),))
    return transaction.with_witness(0, (key.sign_input(transaction, 0, spent),))


# ---- a settlement that should be mined sooner


def build_child(
    settlement: Transaction, coin: Coin, key: TaprootKey, *, script: bytes, rate: SatsPerKvb, replaces: Sats = NOTHING
) -> Transaction:
    """Return the child of SETTLE, signed: it spends the anchor and one confirmed coin, and pays ``rate`` for both.

    replaces: the fee of an earlier child, anybody's, or of a burn that waits. Raises InsufficientFundsError.
    """
    place = settlement.outputs.index(ANCHOR)
    spent = [ANCHOR, coin.output]
    inputs = tuple(
        TxIn(outpoint=outpoint, sequence=SEQUENCE_RBF) for outpoint in (settlement.outpoint(place), coin.outpoint)
    )

    def made(fee: int) -> Transaction:
        rest = TxOut(value=Sats(ANCHOR.value + coin.value - fee), script=script)
        return Transaction(version=TRUC_VERSION, inputs=inputs, outputs=(rest,))

    def signed(transaction: Transaction) -> Transaction:
        return transaction.with_witness(1, (key.sign_input(transaction, 1, spent),))

    vsize = signed(made(0)).vsize
    fee = max(fee_for(settlement.vsize + vsize, rate) - SETTLE_FEE, fee_for(vsize, rate))
    if replaces:
        fee = max(fee, replacement_fee(old_fee=replaces, vsize=vsize, rate=rate))
    if (rest := ANCHOR.value + coin.value - fee) < (least := dust_limit(script)):
        raise InsufficientFundsError(available=coin.value, needed=Sats(coin.value - rest + least))
    return signed(made(fee))
