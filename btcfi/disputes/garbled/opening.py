"""The opening of a disputed contract: both sides' coins in, what the graph opens out, the premium between the changes.

Outputs: what the graph opens (``Graph.open_txouts``), the claimant's change, the verifier's. The claimant brings
collateral and bond, the verifier its own bond where the contract is lazy; the premium has no output of its own. Each
side brings at least one coin: the input that it signs, last of all, is its yes. Only coins whose witness cannot change
the txid are taken, since everything that is pre-signed hangs on it. Pure. Source: as ``contracts.netting``.

Both close together by the key paths of what is opened (``build_close``): one MuSig2 signature an input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import (
    DUST_P2TR,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.musig import KeyAggregate, SecretNonce, Session
from btcfi.bitcoin.script import is_known_program
from btcfi.bitcoin.taproot import TaprootOutput
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.bitcoin.witness import WrongWitnessError, check_witness, has_checkable_witness
from btcfi.contracts.option import Contribution, WrongSignatureError, change_of
from btcfi.contracts.setup import CoinNotTheirsError
from btcfi.errors import InvalidInputError
from btcfi.units import MAX_MONEY_SATS, Hash32, Sats

MAX_COINS: Final = 100
"""Of one side."""


class Side(StrEnum):
    """Which side of a disputed contract."""

    CLAIMANT = "claimant"
    """The writer: it claims, and is paid what is left."""
    VERIFIER = "verifier"
    """The holder: it watches the claim, and is paid by it."""

    @property
    def other(self) -> Side:
        """The other side."""
        return Side.VERIFIER if self is Side.CLAIMANT else Side.CLAIMANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """An opening, not signed yet, with the outputs that it spends."""

    transaction: Transaction
    spent: tuple[TxOut, ...]
    claimant_inputs: int
    """The first so many are the claimant's, the rest the verifier's."""
    fees: Mapping[Side, Sats]
    """Each side's part."""

    def inputs(self, side: Side) -> range:
        """Return which inputs are booked for a side."""
        if side is Side.CLAIMANT:
            return range(self.claimant_inputs)
        return range(self.claimant_inputs, len(self.spent))


class Keys(Protocol):
    """A side's keys, as far as an opening and a close need them."""

    @property
    def open(self) -> bytes:
        """Compressed: of the key path."""
        ...

    @property
    def script(self) -> bytes:
        """Where it is paid."""
        ...


class Locks(Protocol):
    """Terms, as far as an opening and a close need them."""

    @property
    def locked(self) -> Sats:
        """What the claimant puts in."""
        ...

    @property
    def challenge_bond(self) -> Sats:
        """What the verifier puts in."""
        ...

    @property
    def claimant(self) -> Keys:
        """The one side."""
        ...

    @property
    def verifier(self) -> Keys:
        """The other side."""
        ...


class Opens(Protocol):
    """What an opening opens: a graph of either engine."""

    @property
    def terms(self) -> Locks:
        """What both sign up to."""
        ...

    @property
    def open_outputs(self) -> tuple[TaprootOutput, ...]:
        """The scripts of what the opening pays, in this order."""
        ...

    @property
    def open_txouts(self) -> tuple[TxOut, ...]:
        """What the opening pays, in this order."""
        ...

    @property
    def open_coins(self) -> tuple[OutPoint, ...]:
        """Where that is. Raises InvalidInputError before it is known."""
        ...


def build_opening(
    graph: Opens, *, premium: int, rate: SatsPerKvb, claimant: Contribution, verifier: Contribution
) -> Opening:  # fmt: skip
    """Return the opening. Equal arguments give byte-equal transactions.

    premium: satoshis that the verifier pays the claimant; below zero: the other way. Raises InsufficientFundsError, and
    InvalidInputError for a side without a coin, a coin named twice or one whose witness could change the txid.
    """
    if not -MAX_MONEY_SATS <= premium <= MAX_MONEY_SATS:
        raise InvalidInputError("premium", f"{premium} sats", f"at most {MAX_MONEY_SATS} sats")
    check_contribution(Side.CLAIMANT, claimant)
    check_contribution(Side.VERIFIER, verifier)
    coins = claimant.coins + verifier.coins
    if len({coin.outpoint for coin in coins}) != len(coins):
        raise InvalidInputError("coins", "one outpoint is named twice", "each outpoint once")
    outputs, terms = graph.open_txouts, graph.terms
    common = OVERHEAD_WEIGHT + sum(4 * len(one.to_bytes()) for one in outputs)
    first, first_fee = change_of(claimant, amount=terms.locked - premium, weight=common - common // 2, rate=rate)
    second, second_fee = change_of(verifier, amount=terms.challenge_bond + premium, weight=common // 2, rate=rate)
    return Opening(
        transaction=Transaction(
            version=2, inputs=tuple(TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_LOCKTIME) for coin in coins),
            outputs=(*outputs, *first, *second),
        ),
        spent=tuple(coin.output for coin in coins), claimant_inputs=len(claimant.coins),
        fees={Side.CLAIMANT: first_fee, Side.VERIFIER: second_fee},
    )  # fmt: skip


def check_contribution(side: Side, brings: Contribution) -> None:
    """Check that a side brings coins, few enough, whose witnesses can be checked and cannot change the txid."""
    if not 1 <= len(brings.coins) <= MAX_COINS:
        raise InvalidInputError(f"{side}'s coins", f"{len(brings.coins)}", f"1 to {MAX_COINS}")
    if not is_known_program(brings.change_script):
        raise InvalidInputError(f"{side}'s change", "is of another program", "P2TR, P2WPKH or P2WSH")
    for coin in brings.coins:
        if not has_checkable_witness(coin.output.script):
            raise InvalidInputError(f"{side}'s coin {coin.outpoint}", "is of another type", "a P2TR or P2WPKH coin")


def sign_opening(
    opening: Opening, side: Side, wallet: Mapping[bytes, TaprootKey]
) -> dict[int, tuple[bytes, ...]]:  # fmt: skip
    """Return the witnesses of a side's own inputs, by input. The caller has checked everything that stands before.

    wallet: our keys by output script. Raises CoinNotTheirsError where an input that is booked for the other side pays
    to a script of ours, and InvalidInputError where we lack the key of one of our own.
    """
    for index in opening.inputs(side.other):
        if opening.spent[index].script in wallet:
            raise CoinNotTheirsError(side.other.value, str(opening.transaction.inputs[index].outpoint))
    found: dict[int, tuple[bytes, ...]] = {}
    for index in opening.inputs(side):
        key = wallet.get(opening.spent[index].script)
        if key is None:
            raise InvalidInputError(f"input {index}", "is of no key of ours", "coins of our own wallet")
        found[index] = (key.sign_input(opening.transaction, index, opening.spent),)
    return found


def check_opening(opening: Opening, side: Side, witnesses: Mapping[int, Sequence[bytes]]) -> None:
    """Check one side's witnesses: of its inputs, all of them and no others. Raises WrongSignatureError."""
    if set(witnesses) != set(opening.inputs(side)):
        raise WrongSignatureError(party=side.value, what="the opening", problem="not of exactly its own inputs")
    for index in opening.inputs(side):
        try:
            check_witness(opening.transaction, index, opening.spent, tuple(witnesses[index]))
        except WrongWitnessError as e:
            raise WrongSignatureError(party=side.value, what=f"opening's input {index}", problem=e.problem) from e


def complete_opening(
    opening: Opening, *, claimant: Mapping[int, Sequence[bytes]], verifier: Mapping[int, Sequence[bytes]]
) -> Transaction:  # fmt: skip
    """Return the signed opening. Raises WrongSignatureError naming the side and the input."""
    check_opening(opening, Side.CLAIMANT, claimant)
    check_opening(opening, Side.VERIFIER, verifier)
    made = opening.transaction
    for index, witness in (*claimant.items(), *verifier.items()):
        made = made.with_witness(index, witness)
    return made


def contribution(coins: Sequence[Coin], change_script: bytes) -> Contribution:
    """Return what a side brings."""
    return Contribution(coins=tuple(coins), change_script=change_script)


# ---- closing together


@dataclass(frozen=True, kw_only=True)
class Close:
    """A close by both, not signed yet: it spends all that the contract opened."""

    graph: Opens
    transaction: Transaction

    @property
    def outputs(self) -> tuple[TaprootOutput, ...]:
        """What it spends, input by input."""
        return self.graph.open_outputs

    def digest(self, index: int) -> Hash32:
        """Return what both sign of an input."""
        return taproot.sighash(self.transaction, index, self.graph.open_txouts)

    def aggregate(self, index: int) -> KeyAggregate:
        """Return the key of an input: both sides', the claimant's first."""
        terms = self.graph.terms
        made = KeyAggregate([terms.claimant.open, terms.verifier.open])
        made.taproot_tweak(self.outputs[index].root)
        return made

    def nonces(self, secret: bytes, entropy: Sequence[bytes]) -> list[SecretNonce]:
        """Return a fresh nonce an input. entropy: 32 random bytes for each, never used before."""
        return [
            SecretNonce(secret=secret, entropy=some, message=self.digest(at), aggregate=self.aggregate(at))
            for at, some in zip(range(len(self.outputs)), entropy, strict=True)
        ]

    def sign(
        self, secret: bytes, own: Sequence[SecretNonce], claimant: Sequence[bytes], verifier: Sequence[bytes]
    ) -> list[bytes]:  # fmt: skip
        """Return our partial signatures, one an input; the nonces are used up. claimant, verifier: public nonces."""
        sessions = self._sessions(claimant, verifier)
        return [session.sign(secret, nonce) for session, nonce in zip(sessions, own, strict=True)]

    def check(self, side: Side, nonces: Mapping[Side, Sequence[bytes]], partials: Sequence[bytes]) -> None:
        """Check one side's partial signatures, before a nonce of ours is used up. Raises WrongSignatureError."""
        sessions, signer = self._sessions(nonces[Side.CLAIMANT], nonces[Side.VERIFIER]), list(Side).index(side)
        for at, session in enumerate(sessions):
            if len(partials) != len(sessions) or not session.partial_is_valid(signer, partials[at]):
                raise WrongSignatureError(party=side.value, what=f"the close's input {at}")

    def finish(
        self, nonces: Mapping[Side, Sequence[bytes]], partials: Mapping[Side, Sequence[bytes]]
    ) -> Transaction:  # fmt: skip
        """Return the signed close. Raises WrongSignatureError naming the side whose part is wrong."""
        sessions, made = self._sessions(nonces[Side.CLAIMANT], nonces[Side.VERIFIER]), self.transaction
        for side in Side:
            self.check(side, nonces, partials[side])
        for at, session in enumerate(sessions):
            made = made.with_witness(at, [session.aggregate([partials[side][at] for side in Side])])
        return made

    def _sessions(self, claimant: Sequence[bytes], verifier: Sequence[bytes]) -> list[Session]:
        count = len(self.outputs)
        if not len(claimant) == len(verifier) == count:
            raise InvalidInputError("nonces", f"{len(claimant)} and {len(verifier)}", f"{count} of each side")
        return [Session(self.aggregate(at), [claimant[at], verifier[at]], self.digest(at)) for at in range(count)]


def build_close(graph: Opens, *, payout: Sats, rate: SatsPerKvb) -> Close:
    """Return the close that pays the verifier ``payout`` and its bond, and the claimant the rest less the fee.

    Raises InvalidInputError for more than is locked, and where nothing would be left that relays.
    """
    terms, coins = graph.terms, graph.open_txouts
    if not 0 <= payout <= terms.locked:
        raise InvalidInputError("payout_sats", f"{payout}", f"0 to {terms.locked}")
    weight = OVERHEAD_WEIGHT + len(coins) * P2TR_INPUT_WEIGHT + 2 * P2TR_OUTPUT_WEIGHT
    fee = fee_for(vsize_of(weight), rate)
    amounts = (
        (Sats(payout + terms.challenge_bond), terms.verifier.script),
        (Sats(max(0, terms.locked - payout - fee)), terms.claimant.script),
    )
    outputs = tuple(TxOut(value=value, script=script) for value, script in amounts if value >= DUST_P2TR)
    if not outputs or sum(one.value for one in outputs) > sum(one.value for one in coins) - fee:
        raise InvalidInputError("payout_sats", f"{payout}", f"what leaves the fee of {fee} sats")
    inputs = tuple(TxIn(outpoint=one, sequence=SEQUENCE_LOCKTIME) for one in graph.open_coins)
    return Close(graph=graph, transaction=Transaction(version=2, inputs=inputs, outputs=outputs))
