"""The transactions of a bilateral swap: its two margins, and every way to spend one.

Sums are exact: a margin is what its spend pays out, plus its fee, to the satoshi, and no output is below dust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin import script as op
from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import (
    DUST_P2A,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    dust_limit,
    replacement_fee,
    vsize_of,
)
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.taproot import Leaf, TaprootOutput, taproot_output
from btcfi.bitcoin.transaction import (
    SEQUENCE_LOCKTIME,
    SEQUENCE_RBF,
    TRUC_VERSION,
    OutPoint,
    Transaction,
    TxIn,
    TxOut,
)
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.bitcoin.witness import check_witness
from btcfi.contracts.option import Contribution, change_of
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import DigitPoints
from btcfi.swaps.bilateral.grid import Prefix
from btcfi.swaps.bilateral.terms import Owner, SwapTerms
from btcfi.swaps.contract import burn_fee
from btcfi.units import Hash32, Sats, Txid, UnixSeconds

ANCHOR: Final = TxOut(value=DUST_P2A, script=P2A_SCRIPT)

BURN_SCRIPT: Final = op.op_return(b"BTCFi burn")
"""Where burned money goes: nobody can spend it, and everybody sees how much it is."""

OUTPUTS: Final = {Owner.TAKER: 0, Owner.PROVIDER: 1}
"""Of the funding: each margin's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """Who owes what at one step."""

    debtor: Owner
    amount: Sats
    """Above 0, at most the required margin."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Everything that fixes a swap's transactions."""

    terms: SwapTerms
    funding: Txid
    _points: list[DigitPoints] = field(init=False, repr=False, compare=False, default_factory=list)

    # ---- the margins

    @cached_property
    def both(self) -> Leaf:
        """The leaf of both signatures, the same in each margin: what is pre-signed spends it."""
        taker, provider = (op.push(self.terms.party(owner).xonly) for owner in Owner)
        return Leaf(script=taker + bytes([op.OP_CHECKSIGVERIFY]) + provider + bytes([op.OP_CHECKSIG]))

    def own(self, owner: Owner) -> Leaf:
        """Return the leaf by which an owner takes its margin back alone, nine days after the settlement time."""
        lock = op.push_number(self.terms.return_time) + bytes([op.OP_CHECKLOCKTIMEVERIFY, op.OP_DROP])
        return Leaf(script=lock + op.push(self.terms.party(owner).xonly) + bytes([op.OP_CHECKSIG]))

    @cached_property
    def outputs(self) -> dict[Owner, TaprootOutput]:
        """Each margin's Taproot output; its key path is both parties' MuSig2 key, taker's first."""
        internal = self.key_path().xonly
        return {owner: taproot_output(internal, (self.both, self.own(owner))) for owner in Owner}

    def key_path(self, owner: Owner | None = None) -> KeyAggregate:
        """Return the aggregate of both keys; with the tweak of a margin, the one that signs for that margin."""
        aggregate = KeyAggregate([self.terms.taker.key, self.terms.provider.key])
        if owner is not None:
            aggregate.taproot_tweak(self.outputs[owner].root)
        return aggregate

    def margin(self, owner: Owner) -> TxOut:
        """Return a margin as an output."""
        return TxOut(value=self.terms.margin, script=self.outputs[owner].script)

    def outpoint(self, owner: Owner) -> OutPoint:
        """Return where it is."""
        return OutPoint(txid=self.funding, index=OUTPUTS[owner])

    # ---- what an outcome means

    def debt(self, step: int) -> Debt | None:
        """Return who owes what at a step; None where nothing is owed: both are released, and nobody can burn."""
        profit = self.terms.grid.profit(step, self.terms.required)
        if not profit:
            return None
        return Debt(debtor=Owner.TAKER if profit < 0 else Owner.PROVIDER, amount=Sats(abs(profit)))

    def burned(self, step: int) -> Sats:
        """Return what a burn destroys at a step: the debit, and a quarter of the required margin. InvalidInputError."""
        return Sats(self.owed(step).amount + burn_fee(self.terms.required))

    def owed(self, step: int) -> Debt:
        """Return who owes what. Raises InvalidInputError where nothing is owed."""
        if (debt := self.debt(step)) is None:
            raise InvalidInputError("return", "nothing is owed by anybody", "one at which a party owes")
        return debt

    # ---- the transactions

    def settle(self, step: int) -> Transaction:
        """Return SETTLE, not signed: the debit to the creditor, the rest back, an anchor, its own fee of 1,000 sats.

        Version 3, and no block holds it before the settlement time. Raises InvalidInputError where nothing is owed.
        """
        debt = self.owed(step)
        parts = {debt.debtor.other: debt.amount, debt.debtor: Sats(self.terms.required - debt.amount)}
        paid = [TxOut(value=part, script=self.terms.party(owner).script) for owner, part in parts.items() if part]
        return Transaction(
            version=TRUC_VERSION,
            inputs=(TxIn(outpoint=self.outpoint(debt.debtor), sequence=SEQUENCE_LOCKTIME),),
            outputs=(*paid, ANCHOR),
            lock_time=self.terms.lock,
        )

    def burn(self, step: int) -> Transaction:
        """Return what the creditor commits to of BURN: input 0 and output 0, which pays nobody.

        Version 2: the debtor may add unconfirmed coins of version 2. Raises InvalidInputError where nothing is owed.
        """
        gone = TxOut(value=self.burned(step), script=BURN_SCRIPT)
        spends = TxIn(outpoint=self.outpoint(self.owed(step).debtor), sequence=SEQUENCE_RBF)
        return Transaction(version=2, inputs=(spends,), outputs=(gone,))

    def release(self, owner: Owner, fee: Sats) -> Transaction:
        """Return RELEASE, not signed: a margin whole to its owner. Raises InsufficientFundsError for too large a fee.

        The counterparty has committed to the input alone.
        """
        return self._back(owner, fee, SEQUENCE_RBF, 0)

    def give_back(self, owner: Owner, fee: Sats) -> Transaction:
        """Return RETURN, not signed: a margin whole to its owner, nine days after the settlement time."""
        return self._back(owner, fee, SEQUENCE_RBF, self.terms.return_time)

    def _back(self, owner: Owner, fee: Sats, sequence: int, lock_time: int) -> Transaction:
        script, rest = self.terms.party(owner).script, self.terms.margin - fee
        if rest < dust_limit(script):
            raise InsufficientFundsError(available=self.terms.margin, needed=Sats(fee + dust_limit(script)))
        return Transaction(
            version=2,
            inputs=(TxIn(outpoint=self.outpoint(owner), sequence=sequence),),
            outputs=(TxOut(value=Sats(rest), script=script),),
            lock_time=lock_time,
        )

    def close(self, profit: int, fee: Sats) -> Transaction:
        """Return the transaction by which both close together, not signed: both margins, at any profit of the taker.

        The fee is halved, the odd satoshi the provider's. Raises InvalidInputError for a profit beyond the required
        margin, InsufficientFundsError for a fee that leaves dust.
        """
        if abs(profit) > self.terms.required:
            raise InvalidInputError("profit", f"{profit} sats", f"at most {self.terms.required} sats either way")
        margin, half = self.terms.margin, fee // 2
        parts = {Owner.TAKER: margin + profit - half, Owner.PROVIDER: margin - profit - (fee - half)}
        for owner, part in parts.items():
            if part < dust_limit(self.terms.party(owner).script):
                raise InsufficientFundsError(available=self.terms.margin, needed=fee)
        return Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=self.outpoint(owner), sequence=SEQUENCE_RBF) for owner in Owner),
            outputs=tuple(
                TxOut(value=Sats(part), script=self.terms.party(owner).script) for owner, part in parts.items()
            ),
        )

    # ---- what is signed

    def digest(
        self, transaction: Transaction, owner: Owner, hash_type: int = 0, *, leaf: Leaf | None = None,
        spent: Sequence[TxOut] = (),
    ) -> Hash32:  # fmt: skip
        """Return the signature hash of input 0, which spends a margin by the leaf of both, or by another.

        spent: what all inputs spend, where there are more.
        """
        hashed = taproot.leaf_hash((leaf or self.both).script)
        return taproot.sighash(transaction, 0, spent or [self.margin(owner)], hash_type=hash_type, leaf=hashed)

    def point(self, prefix: Prefix, oracles: Sequence[int]) -> Any:  # noqa: ANN401 - cffi has no types
        """Return the adaptor point of some first digits for a set of oracles, in libsecp256k1's form."""
        if not self._points:
            self._points.extend(DigitPoints(announcement=one) for one in self.terms.announcements)
        points = [self._points[place].of_prefix(prefix.bits, prefix.length) for place in oracles]
        return points[0] if len(points) == 1 else secp256k1.sum_points(points)

    def witness(self, owner: Owner, signatures: Mapping[Owner, bytes]) -> tuple[bytes, ...]:
        """Return the witness that spends a margin by the leaf of both."""
        block = self.outputs[owner].control_block(self.both)
        return (signatures[Owner.PROVIDER], signatures[Owner.TAKER], self.both.script, block)


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
    weight = OVERHEAD_WEIGHT // 2 + P2TR_OUTPUT_WEIGHT
    change = [
        output
        for side in (taker, provider)
        for output in change_of(side, amount=terms.margin, weight=weight, rate=rate)[0]
    ]
    graph = Graph(terms=terms, funding=Txid(bytes(32)))
    return SwapFunding(
        transaction=Transaction(
            version=2,
            inputs=tuple(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF) for coin in coins),
            outputs=(*(graph.margin(owner) for owner in OUTPUTS), *change),
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
