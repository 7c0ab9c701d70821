"""The transactions of a disputed contract. Two forms: digits are claimed at once, or only once a claim is challenged.

    open       collateral and bond of the claimant; by itself the verifier's bond, of a contract that is lazy
    claim j    (one for each range) what the range pays goes to the verifier at once, the rest into escrow
    payout     the claimant takes the escrow, some blocks after the claim
    disprove   the verifier takes it, knowing the fault secret: by the escrow's key path
    silence    from a height on, the verifier shows the attestations and the claimant still does not claim; from its
               output the same claims are possible, and some blocks later the verifier is paid all that it could be owed
    refund     from a later height on the claimant takes all back: nobody claimed, and no oracle spoke

**Eager**: a claim carries a signature for each digit, which tells the verifier the digit's secret. **Lazy**: a claim
carries its range alone, and what it does not pay is held:

    release    some blocks later the rest goes back to the claimant
    challenge  the verifier wants to see the digits
    reveal     the claimant shows them by spending the verifier's bond into the escrow, which is as above
    overdue    the claimant did not: the verifier takes what was held, some blocks after its challenge

All are of version 3 with an anchor, so a child pays their fees and their txids are known before the opening is signed.

**Which claim is mined is what is paid**: the verifier's first signature fixes a claim's outputs, and no two ranges have
one transaction, also where they pay the same. **A price that nobody attested cannot be claimed**: a priced digit is
signed under its label's point plus the points of a set of oracles. **The verifier needs the chain alone**: each priced
digit is signed once more under the oracles' points by themselves, so their secrets can be taken off. Each set of
oracles has leaves and keys of its own, or signatures of two sets could be mixed until nobody can read them; in every
set of ``threshold`` at least one is honest, so no digit has two values. **Silence cannot be claimed of attestations
that the claimant never got**: the claim of silence carries them. **The verifier's bond stays until no answer can need
it any more**: no claim waits until it is gone. The digits are shown by spending it, so that the signatures that show
them do not hang on which range was claimed.

Keys are separate for each use, and the verifier's fresh in every attempt, so signatures of two attempts never fit
together. Pure: everything here is computed from the terms. Source: findings on garbled disputes and their review.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any

from btcfi.bitcoin import script as op
from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.taproot import Leaf, TaprootOutput, taproot_output
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts.execution import ANCHOR
from btcfi.disputes.garbled.chains import Chain, FaultPoint, Points, script_of
from btcfi.disputes.garbled.setup import Commitments
from btcfi.disputes.garbled.terms import DisputeTerms
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32, Sats, Txid

Parent = bool
"""Of what a claim is: of the opening, or (True) of the claim of silence."""


class Graph:
    """Every transaction of a contract, and every message that both sign."""

    def __init__(
        self, terms: DisputeTerms, commitments: Commitments | FaultPoint, opening: Txid | None = None
    ) -> None:  # fmt: skip
        """Take the terms, the set-up that was checked, and the opening's txid, unknown until its coins are."""
        self.terms, self.points = terms, Points(terms, commitments)
        self._opening = opening

    @property
    def parents(self) -> Iterator[tuple[Parent, int]]:
        """Of what claims are, and by which leaf: the order of their pre-signatures."""
        return product((False, True), range(len(self._claims)))

    # ---- scripts

    @cached_property
    def _claims(self) -> list[Leaf]:
        sender = self.terms.claimant.claim
        if self.terms.is_lazy:
            return [script_of(sender, self.terms.verifier.claim, 1)]
        signatures = 1 + len(self.points.price_entries)
        return [script_of(sender, key, signatures) for key in self.terms.verifier.digits]

    @cached_property
    def _silences(self) -> list[Leaf]:
        sender, signatures = self.terms.verifier.claim, 1 + len(self.points.silence_entries)
        return [script_of(sender, key, signatures) for key in self.terms.claimant.silence]

    @cached_property
    def _reveals(self) -> list[Leaf]:
        sender, signatures = self.terms.claimant.claim, 1 + len(self.points.price_entries)
        return [script_of(sender, key, signatures) for key in self.terms.verifier.digits]

    @cached_property
    def both_leaf(self) -> Leaf:
        """What both sign: silence's end, the refund; of a lazy contract release, challenge and reveal."""
        return script_of(self.terms.claimant.both, self.terms.verifier.both, 1)

    @cached_property
    def payout_leaf(self) -> Leaf:
        """The claimant alone, some blocks after its claim."""
        return _after(self.terms.claimant.payout, self.terms.dispute_blocks)

    @cached_property
    def overdue_leaf(self) -> Leaf:
        """The verifier alone, some blocks after its challenge."""
        return _after(self.terms.verifier.overdue, self.terms.dispute_blocks)

    # ---- outputs

    @property
    def _together(self) -> bytes:
        return KeyAggregate([self.terms.claimant.open, self.terms.verifier.open]).xonly

    @cached_property
    def open_output(self) -> TaprootOutput:
        """The opening's output: claims, silence, and what both sign."""
        return taproot_output(self._together, _tree(self._claims, [self.both_leaf, *self._silences]))

    @cached_property
    def silent_output(self) -> TaprootOutput:
        """The claim of silence's output: the same claims, and what both sign."""
        return taproot_output(self._together, _tree(self._claims, [self.both_leaf]))

    @cached_property
    def bond_leaf(self) -> Leaf:
        """The verifier alone, once no answer can need its bond any more."""
        head = op.push(self.terms.verifier.bond) + bytes([op.OP_CHECKSIGVERIFY])
        return Leaf(script=head + op.push_number(self.terms.bond_height) + bytes([op.OP_CHECKLOCKTIMEVERIFY]))

    @cached_property
    def bond_output(self) -> TaprootOutput:
        """The verifier's bond: digits are shown by spending it, and else it goes home."""
        return taproot_output(self._together, _balanced([*self._reveals, self.bond_leaf]))

    @cached_property
    def held_output(self) -> TaprootOutput:
        """What a lazy claim does not pay."""
        return taproot_output(self._together, self.both_leaf)

    @cached_property
    def challenged_output(self) -> TaprootOutput:
        """The same once it is challenged: revealed by both, or overdue."""
        return taproot_output(self._together, (self.both_leaf, self.overdue_leaf))

    @cached_property
    def escrow(self) -> TaprootOutput:
        """A claim's escrow: key path of fault secret and verifier, or the claimant some blocks later."""
        aggregate = KeyAggregate([self.points.fault, self.terms.verifier.escrow])
        return taproot_output(aggregate.xonly, self.payout_leaf)

    @property
    def open_txouts(self) -> tuple[TxOut, ...]:
        """What the opening pays, in this order."""
        locked = TxOut(value=self.terms.locked, script=self.open_output.script)
        if not self.terms.is_lazy:
            return (locked,)
        return locked, TxOut(value=self.terms.challenge_bond, script=self.bond_output.script)

    @property
    def open_outputs(self) -> tuple[TaprootOutput, ...]:
        """The scripts of the same."""
        return (self.open_output, self.bond_output) if self.terms.is_lazy else (self.open_output,)

    # ---- transactions, none of them signed

    @property
    def open_coins(self) -> tuple[OutPoint, ...]:
        """Where the opening's outputs are. Raises InvalidInputError before that is known."""
        return (self.coin, self.bond) if self.terms.is_lazy else (self.coin,)

    @property
    def coin(self) -> OutPoint:
        """Where the opening's output is. Raises InvalidInputError before that is known."""
        return OutPoint(txid=self._txid, index=0)

    @property
    def bond(self) -> OutPoint:
        """Where the verifier's bond is."""
        return OutPoint(txid=self._txid, index=1)

    @property
    def _txid(self) -> Txid:
        if self._opening is None:
            raise InvalidInputError("opening", "not known", "its txid")
        return self._opening

    def parent(self, *, silent: Parent) -> tuple[OutPoint, TxOut]:
        """Return what a claim spends."""
        if silent:
            return OutPoint(txid=self.silence.txid, index=0), self.silence.outputs[0]
        return self.coin, self.open_txouts[0]

    @cached_property
    def silence(self) -> Transaction:
        """The claim of silence."""
        paid = TxOut(value=Sats(self.terms.locked - self.terms.costs), script=self.silent_output.script)
        return _spend([self.coin], [paid], lock_time=self.terms.silence_height)

    @cached_property
    def silent_end(self) -> Transaction:
        """What pays the verifier all that it could be owed, some blocks after the claim of silence."""
        terms, (coin, value) = self.terms, self.parent(silent=True)
        rest = Sats(value.value - terms.costs - terms.collateral)
        return _spend([coin], self._paid(verifier=terms.collateral, claimant=rest), sequence=terms.dispute_blocks)

    @cached_property
    def refund(self) -> Transaction:
        """What gives all back to the claimant."""
        back = Sats(self.terms.locked - self.terms.costs)
        return _spend([self.coin], self._paid(verifier=Sats(0), claimant=back), lock_time=self.terms.refund_height)

    def claim(self, number: int, *, silent: Parent = False) -> Transaction:
        """Return the claim of a range. Raises InvalidInputError for one that there is not."""
        if not 0 <= number < len(self.terms.claim.payouts):
            raise InvalidInputError("range", str(number), f"0 to {len(self.terms.claim.payouts) - 1}")
        coin, value = self.parent(silent=silent)
        paid = self._paid(verifier=self.terms.claim.payouts[number], claimant=Sats(0))
        kept = self.held_output if self.terms.is_lazy else self.escrow
        rest = Sats(value.value - self.terms.costs - sum(one.value for one in paid) - self._twins[number])
        return _spend([coin], [*paid, TxOut(value=rest, script=kept.script)], lock_time=self.terms.claim_height)

    @cached_property
    def claim_txids(self) -> Mapping[Txid, tuple[int, Parent]]:
        """Every claim that there can be: its range, and of which parent it is."""
        every = product((False, True), range(len(self.terms.claim.payouts)))
        return {self.claim(number, silent=silent).txid: (number, silent) for silent, number in every}

    @cached_property
    def _twins(self) -> tuple[int, ...]:
        """Of each range how many before it pay the same: so many satoshis more it leaves to the fee.

        Two ranges of one transaction would be told apart by nothing but a witness: who knows the claim by its txid
        would take the one for the other, and challenge what is right.
        """
        seen, found = Counter[int](), []
        for one in self.terms.claim.payouts:
            paid = one if one >= DUST_P2TR else 0
            found.append(seen[paid])
            seen[paid] += 1
        return tuple(found)

    def release(self, number: int, *, silent: Parent = False) -> Transaction:
        """Return what ends a lazy claim that nobody challenged."""
        coin, value = last_of(self.claim(number, silent=silent))
        paid = self._paid(verifier=Sats(0), claimant=Sats(value.value - self.terms.costs))
        return _spend([coin], paid, sequence=self.terms.dispute_blocks)

    def challenge(self, number: int, *, silent: Parent = False) -> Transaction:
        """Return the challenge of a lazy claim."""
        coin, value = last_of(self.claim(number, silent=silent))
        paid = TxOut(value=Sats(value.value - self.terms.costs), script=self.challenged_output.script)
        return _spend([coin], [paid])

    def reveal(self, number: int, *, silent: Parent = False) -> Transaction:
        """Return the answer to a challenge; its second input shows the digits."""
        coin, value = last_of(self.challenge(number, silent=silent))
        paid = TxOut(value=Sats(value.value + self.terms.challenge_bond - self.terms.costs), script=self.escrow.script)
        return _spend([coin, self.bond], [paid])

    def _paid(self, *, verifier: Sats, claimant: Sats) -> list[TxOut]:
        """Return outputs to both sides; what is dust is left out, and stays with the claimant or goes to the fee."""
        outputs = (
            TxOut(value=verifier, script=self.terms.verifier.script),
            TxOut(value=claimant, script=self.terms.claimant.script),
        )
        return [one for one in outputs if one.value >= DUST_P2TR]

    # ---- chains of signatures

    def claim_chain(self, leaf: int, *, silent: Parent) -> Chain:
        """Return what the verifier pre-signs of claims by one leaf: in an eager contract one a set of oracles."""
        _, value = self.parent(silent=silent)
        entries = () if self.terms.is_lazy else self.points.price_entries
        key = self.terms.verifier.claim if self.terms.is_lazy else self.terms.verifier.digits[leaf]
        return Chain(
            leaf=self._claims[leaf], key=key, entries=entries, which=leaf, transaction=self.claim(0, silent=silent),
            index=0, spent=(value,), leading=True,
        )  # fmt: skip

    def silence_chain(self, which: int) -> Chain:
        """Return what the claimant pre-signs of a claim of silence with one set of oracles."""
        return Chain(
            leaf=self._silences[which], key=self.terms.claimant.silence[which], entries=self.points.silence_entries,
            which=which, transaction=self.silence, index=0, spent=self.open_txouts[:1], leading=True,
        )  # fmt: skip

    def reveal_chain(self, which: int, number: int = 0, *, silent: Parent = False) -> Chain:
        """Return what the verifier pre-signs of the digits of a lazy contract, with one set of oracles.

        The digits' signatures are the same for every range and parent; the first, which fixes the outputs, is not.
        """
        return Chain(
            leaf=self._reveals[which], key=self.terms.verifier.digits[which], entries=self.points.price_entries,
            which=which, transaction=self.reveal(number, silent=silent), index=1,
            spent=self.reveal_spent(number, silent=silent), leading=True, alone=True,
        )  # fmt: skip

    def reveal_spent(self, number: int, *, silent: Parent) -> tuple[TxOut, TxOut]:
        """Return what an answer to a challenge spends."""
        return last_of(self.challenge(number, silent=silent))[1], self.open_txouts[1]

    def open_control(self, leaf: Leaf, *, silent: Parent) -> bytes:
        """Return the control block of a claim's or a silence's leaf."""
        return (self.silent_output if silent else self.open_output).control_block(leaf)

    # ---- what both sign, plainly

    def both_digest(self, transaction: Transaction, spent: Sequence[TxOut]) -> Hash32:
        """Return what both sign of a transaction's first input."""
        return taproot.sighash(transaction, 0, spent, leaf=taproot.leaf_hash(self.both_leaf.script))

    def with_both(
        self, transaction: Transaction, output: TaprootOutput, *, claimant: bytes, verifier: bytes
    ) -> Transaction:  # fmt: skip
        """Return a transaction with both signatures in its first input."""
        witness = [verifier, claimant, self.both_leaf.script, output.control_block(self.both_leaf)]
        return transaction.with_witness(0, witness)


def last_of(transaction: Transaction) -> tuple[OutPoint, TxOut]:
    """Return a transaction's last output before its anchor: escrow, what is held, what is challenged."""
    index = len(transaction.outputs) - 2
    return OutPoint(txid=transaction.txid, index=index), transaction.outputs[index]


def _after(key: bytes, blocks: int) -> Leaf:
    head = op.push(key) + bytes([op.OP_CHECKSIGVERIFY])
    return Leaf(script=head + op.push_number(blocks) + bytes([op.OP_CHECKSEQUENCEVERIFY]))


def _tree(claims: Sequence[Leaf], rest: Sequence[Leaf]) -> Any:  # noqa: ANN401 - a nested pair
    """Return a tree with the claims as high as they can be: they are what is spent."""
    return _balanced([*claims, _balanced(list(rest))])


def _balanced(leaves: list[Any]) -> Any:  # noqa: ANN401 - a nested pair
    while len(leaves) > 1:
        pairs = [tuple(leaves[at : at + 2]) for at in range(0, len(leaves), 2)]
        leaves = [pair if len(pair) > 1 else pair[0] for pair in pairs]
    return leaves[0]


def _spend(
    coins: Sequence[OutPoint], outputs: Sequence[TxOut], *, sequence: int = SEQUENCE_LOCKTIME, lock_time: int = 0
) -> Transaction:
    return Transaction(
        version=TRUC_VERSION, inputs=tuple(TxIn(outpoint=coin, sequence=sequence) for coin in coins),
        outputs=(*outputs, ANCHOR), lock_time=lock_time,
    )  # fmt: skip
