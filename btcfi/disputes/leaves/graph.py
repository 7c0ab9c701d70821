"""The transactions of a contract that leaves judge, each of them known before the opening is signed.

    open       collateral and bond of the claimant
    claim j    (one for each range) by the claimant, with the prices as a set of oracles signed them and as the claimant
               signs them itself, and the words between groups; the range's payout goes to the verifier at once, the
               rest into escrow j
    payout     the claimant takes the escrow, some blocks after its claim
    disprove   what was signed is wrong: the verifier, or a watcher that it pre-signed one for, takes the escrow by the
               leaf of the group that is; the last group's leaf is of range j
    silence    from a height on, the verifier shows prices that oracles signed and the claimant still does not claim;
               from its output the same claims are possible, and some blocks later the verifier takes all
    refund     from a later height on the claimant takes all back: nobody claimed, and nobody showed a price

**Which claim is mined is what is paid**: the verifier's signature fixes its outputs, and so its range. **The claimant
signs the prices too, and leaves read its signature alone**: an oracle that signs two prices then slashes nobody who
signed one. Both signatures stand over the same digits, so a price that no set of oracles signed cannot be claimed.

A node whose policy limits witness scripts to 1,650 bytes relays no claim of several prices; none has an OP_IF, and no
control block is over 257 bytes. All transactions are of version 3 with an anchor. The opening's tree has a leaf with
the hash of the terms, so two agreements that differ in anything have different openings. Pure: computed from the terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin import script as op
from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.taproot import Leaf, TaprootOutput, taproot_output
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts.execution import ANCHOR
from btcfi.disputes.leaves import words as w
from btcfi.disputes.leaves.emitter import Emitter, Opcode
from btcfi.disputes.leaves.judge import DisproveLeaf, disprove_items, disprove_leaf
from btcfi.disputes.leaves.terms import LeafTerms
from btcfi.disputes.leaves.words import Signed, Word
from btcfi.errors import InvalidInputError
from btcfi.units import Sats, Txid

MAX_CONTROL_BLOCK: Final = 257
"""Bytes, for trees of seven levels: what the strictest policy in sight lets through."""


TRUC_MAX_VSIZE: Final = 10_000
"""Source: BIP431: a claim over it could not be relayed, and who cannot claim loses all."""

_BESIDE: Final = 1_200
"""Weight of a claim beside its words and its script: the transaction, two signatures, a control block of 257 bytes."""


def assert_words(emitter: Emitter, word: Word, signers: Sequence[Word], sized: int) -> None:
    """Check one word of a claim by all who must have signed it, every digit and the checksum.

    sized: of the first so many signers links must be of the one size that every node relays, since they are shown
    again: the claimant's in what disproves its claim, each oracle's in a claim that answers one of silence.
    """
    w.emit_digits(emitter, signers, sized=sized)
    w.emit_checksum(emitter, word)


class LeafGraph:
    """Every transaction of a contract."""

    def __init__(self, terms: LeafTerms, opening: Txid | None = None) -> None:
        """Take the terms and the opening's txid, unknown until its coins are."""
        self.terms, self._opening = terms, opening

    @property
    def coin(self) -> OutPoint:
        """Where the opening's output is. Raises InvalidInputError before that is known."""
        if self._opening is None:
            raise InvalidInputError("opening", "not known", "its txid")
        return OutPoint(txid=self._opening, index=0)

    # ---- scripts

    def signers(self, which: int) -> list[list[Word]]:
        """Return who signs each word of a claim: the claimant, and of prices a set of oracles after it."""
        oracles = self.terms.oracles
        prices = [[row[oracle] for oracle in self.terms.sets[which]] for row in oracles]
        own = list(self.terms.claimant.words.values())
        return [[word, *(prices[at] if at < len(prices) else [])] for at, word in enumerate(own)]

    def silence_signers(self, which: int) -> list[list[Word]]:
        """Return who signs each price of a claim of silence."""
        return [[row[oracle] for oracle in self.terms.sets[which]] for row in self.terms.oracles]

    @cached_property
    def claim_leaves(self) -> list[Leaf]:
        """A leaf a set of oracles: both sides' signatures, then every word."""
        return [self._shown(self.signers(which), 1) for which in range(len(self.terms.sets))]

    @cached_property
    def silence_leaves(self) -> list[Leaf]:
        """A leaf a set of oracles: both sides' signatures, then every price."""
        signed = self.terms.threshold
        return [self._shown(self.silence_signers(which), signed) for which in range(len(self.terms.sets))]

    def _shown(self, signers: Sequence[Sequence[Word]], sized: int) -> Leaf:
        emitter = Emitter([*w.items_of(signers), None, None])
        for key in (self.terms.claimant.claim, self.terms.verifier.claim):
            emitter.data(key).op(Opcode.CHECKSIGVERIFY)
        for one in signers:
            assert_words(emitter, one[0], one, sized)
        script = emitter.number(1).finished()
        # links of 20 bytes with a byte of length each; digits take less
        weight = len(script) + 21 * len(w.items_of(signers)) + _BESIDE
        if weight > 4 * TRUC_MAX_VSIZE:
            raise InvalidInputError("claim", f"{weight // 4} vB", f"at most {TRUC_MAX_VSIZE}: no node relays more")
        return Leaf(script=script)

    @cached_property
    def refund_leaf(self) -> Leaf:
        """The claimant alone, from a height on."""
        head = op.push(self.terms.claimant.payout) + bytes([op.OP_CHECKSIGVERIFY])
        return Leaf(script=head + op.push_number(self.terms.refund_height) + bytes([op.OP_CHECKLOCKTIMEVERIFY]))

    @cached_property
    def payout_leaf(self) -> Leaf:
        """The claimant alone, some blocks after its claim."""
        return _after(self.terms.claimant.payout, self.terms.dispute_blocks)

    @cached_property
    def silent_leaf(self) -> Leaf:
        """The verifier alone, some blocks after its claim of silence."""
        return _after(self.terms.verifier.silence, self.terms.dispute_blocks)

    @cached_property
    def _shared(self) -> list[DisproveLeaf]:
        return [self._disprove(place, None) for place in range(len(self.terms.claim.groups) - 1)]

    def _disprove(self, place: int, number: int | None) -> DisproveLeaf:
        words, key = self.terms.claimant.words, self.terms.verifier.escrow
        return disprove_leaf(self.terms.claim, place, words, key=key, number=number)

    @cached_property
    def _last(self) -> dict[int, DisproveLeaf]:
        return {}

    def disprove_leaves(self, number: int) -> list[DisproveLeaf]:
        """Return the leaves of a range's escrow, one a group."""
        if number not in self._last:
            self._last[number] = self._disprove(len(self.terms.claim.groups) - 1, number)
        return [*self._shared, self._last[number]]

    # ---- outputs

    @cached_property
    def _together(self) -> bytes:
        return KeyAggregate([self.terms.claimant.open, self.terms.verifier.open]).xonly

    @cached_property
    def open_output(self) -> TaprootOutput:
        """The opening's output: claims, silence, refund; and the terms' hash, which nobody can spend by."""
        back = (self.refund_leaf, Leaf(script=op.op_return(self.terms.id)))
        return self._output([*self.claim_leaves, _balanced([back, *self.silence_leaves])])

    @cached_property
    def silent_output(self) -> TaprootOutput:
        """The claim of silence's output: the same claims, and the verifier's end."""
        return self._output([*self.claim_leaves, self.silent_leaf])

    def escrow(self, number: int) -> TaprootOutput:
        """Return the output that a claim leaves."""
        leaves = [Leaf(script=one.script) for one in self.disprove_leaves(number)]
        return self._output([_balanced(list(leaves)), self.payout_leaf])

    def _output(self, leaves: list[Any]) -> TaprootOutput:
        made = taproot_output(self._together, _balanced(leaves))
        longest = max(33 + 32 * len(path) for _, path in made.paths)
        if longest > MAX_CONTROL_BLOCK:
            raise InvalidInputError("control block", f"{longest} bytes", f"at most {MAX_CONTROL_BLOCK}")
        return made

    @property
    def open_txout(self) -> TxOut:
        """What the opening pays."""
        return TxOut(value=self.terms.locked, script=self.open_output.script)

    @property
    def open_txouts(self) -> tuple[TxOut, ...]:
        """The same: contracts of garbled circuits may have two."""
        return (self.open_txout,)

    @property
    def open_outputs(self) -> tuple[TaprootOutput, ...]:
        """The script of the same."""
        return (self.open_output,)

    @property
    def open_coins(self) -> tuple[OutPoint, ...]:
        """Where the opening's output is."""
        return (self.coin,)

    # ---- transactions, none of them signed

    @property
    def parents(self) -> Iterator[tuple[bool, int]]:
        """Of what claims are (True: of the claim of silence), and by which set of oracles."""
        return product((False, True), range(len(self.terms.sets)))

    def parent(self, *, silent: bool) -> tuple[OutPoint, TxOut]:
        """Return what a claim spends."""
        if silent:
            return self.silence.outpoint(0), self.silence.outputs[0]
        return self.coin, self.open_txout

    @cached_property
    def silence(self) -> Transaction:
        """The claim of silence."""
        paid = TxOut(value=Sats(self.terms.locked - self.terms.costs), script=self.silent_output.script)
        return _spend(self.coin, [paid], lock_time=self.terms.silence_height)

    @cached_property
    def _claims(self) -> dict[tuple[int, bool], Transaction]:
        return {}

    def claim(self, number: int, *, silent: bool = False) -> Transaction:
        """Return the claim of a range. Raises InvalidInputError for one that there is not."""
        if (number, silent) not in self._claims:
            self.terms.claim.limits(number)
            coin, value = self.parent(silent=silent)
            paid = TxOut(value=self.terms.claim.payouts[number], script=self.terms.verifier.script)
            outputs = [paid] if paid.value >= DUST_P2TR else []
            rest = Sats(value.value - self.terms.costs - sum(one.value for one in outputs))
            outputs.append(TxOut(value=rest, script=self.escrow(number).script))
            self._claims[number, silent] = _spend(coin, outputs)
        return self._claims[number, silent]

    def disproof(self, number: int, *, silent: bool = False) -> Transaction:
        """Return what takes a claim's escrow to the verifier."""
        coin, value = escrow_of(self.claim(number, silent=silent))
        paid = TxOut(value=Sats(value.value - self.terms.costs), script=self.terms.verifier.script)
        return _spend(coin, [paid])

    def claim_digest(self, number: int, which: int, *, silent: bool) -> bytes:
        """Return what both sign of a claim by a set of oracles."""
        leaf = taproot.leaf_hash(self.claim_leaves[which].script)
        return taproot.sighash(
            self.claim(number, silent=silent), 0, [self.parent(silent=silent)[1]], leaf=leaf
        )  # fmt: skip

    def silence_digest(self, which: int) -> bytes:
        """Return what both sign of a claim of silence by a set of oracles."""
        leaf = taproot.leaf_hash(self.silence_leaves[which].script)
        return taproot.sighash(self.silence, 0, [self.open_txout], leaf=leaf)

    def disproof_digest(self, number: int, place: int, *, silent: bool) -> bytes:
        """Return what the verifier signs to disprove a group of a claim, itself or before for a watcher."""
        script = self.disprove_leaves(number)[place].script
        spent = escrow_of(self.claim(number, silent=silent))[1]
        return taproot.sighash(
            self.disproof(number, silent=silent), 0, [spent], leaf=taproot.leaf_hash(script)
        )  # fmt: skip


def escrow_of(claim: Transaction) -> tuple[OutPoint, TxOut]:
    """Return a claim's escrow: its last output before the anchor."""
    index = len(claim.outputs) - 2
    return claim.outpoint(index), claim.outputs[index]


# ---- signed before the opening


ClaimSignatures = Mapping[tuple[int, bool, int], bytes]
"""The verifier's signature of each claim: range, whether of a claim of silence, set of oracles."""


def presign_claims(graph: LeafGraph, secret: bytes) -> ClaimSignatures:
    """Return the verifier's signatures of every claim. secret: of its ``claim`` key."""
    numbers = range(len(graph.terms.claim.payouts))
    return {
        (number, silent, which): secp256k1.schnorr_sign(secret, graph.claim_digest(number, which, silent=silent))
        for number, (silent, which) in product(numbers, list(graph.parents))
    }


def check_claims(graph: LeafGraph, signatures: ClaimSignatures) -> None:
    """Raise InvalidInputError unless every claim is signed: one that is not could not be made."""
    numbers = range(len(graph.terms.claim.payouts))
    for number, (silent, which) in product(numbers, list(graph.parents)):
        signature = signatures.get((number, silent, which), b"")
        digest = graph.claim_digest(number, which, silent=silent)
        if not secp256k1.schnorr_verify(graph.terms.verifier.claim, digest, signature):
            raise InvalidInputError(
                "claim", f"range {number}, set {which}, silent {silent}", "the verifier's signature"
            )


def presign_silence(graph: LeafGraph, secret: bytes) -> list[bytes]:
    """Return the claimant's signature of the claim of silence, one a set of oracles."""
    return [secp256k1.schnorr_sign(secret, graph.silence_digest(which)) for which in range(len(graph.terms.sets))]


def check_silence(graph: LeafGraph, signatures: Sequence[bytes]) -> None:
    """Raise InvalidInputError unless every set's is signed."""
    for which in range(len(graph.terms.sets)):
        signature = signatures[which] if which < len(signatures) else b""
        if not secp256k1.schnorr_verify(graph.terms.claimant.claim, graph.silence_digest(which), signature):
            raise InvalidInputError("claim of silence", f"set {which}", "the claimant's signature")


DisproofSignatures = Mapping[tuple[int, bool, int], bytes]
"""The verifier's signature of each disproof: range, whether of a claim of silence's, group."""


def presign_disproofs(graph: LeafGraph, secret: bytes) -> DisproofSignatures:
    """Return the verifier's signatures of every disproof: with them a watcher disproves that holds no secret.

    Each pays the verifier, so they may be published. secret: of its ``escrow`` key.
    """
    places = range(len(graph.terms.claim.groups))
    return {
        (number, silent, place): secp256k1.schnorr_sign(secret, graph.disproof_digest(number, place, silent=silent))
        for number, silent, place in product(range(len(graph.terms.claim.payouts)), (False, True), places)
    }


def disproof_of(graph: LeafGraph, claim: Transaction, signatures: DisproofSignatures) -> Transaction | None:
    """Return what disproves a claim, None of a right one: from the chain and what the verifier published alone.

    Raises InvalidInputError for another transaction.
    """
    read = read_claim(graph, claim)
    place = graph.terms.claim.first_wrong(read.said, read.number)
    return None if place is None else build_disproof(graph, read, place, signatures[read.number, read.silent, place])


# ---- made


def build_claim(
    graph: LeafGraph,
    signatures: ClaimSignatures,
    *,
    number: int,
    which: int,
    own: Mapping[str, Signed],
    oracles: Sequence[Sequence[Signed]],
    secret: bytes,
    silent: bool = False,
) -> Transaction:
    """Return the signed claim of a range.

    own: the claimant's signature of each word. oracles: of each price, those of the set, in its order. secret: of the
    claimant's ``claim`` key. Raises InvalidInputError where an oracle signed another price than the claimant.
    """
    digest = graph.claim_digest(number, which, silent=silent)
    words = [
        [signed, *(oracles[place] if place < len(oracles) else [])] for place, signed in enumerate(own.values())
    ]  # fmt: skip
    output = graph.silent_output if silent else graph.open_output
    leaf = graph.claim_leaves[which]
    witness = [
        *w.witness_of(words), signatures[number, silent, which], secp256k1.schnorr_sign(secret, digest),
        leaf.script, output.control_block(leaf),
    ]  # fmt: skip
    return graph.claim(number, silent=silent).with_witness(0, witness)


def build_silence(
    graph: LeafGraph, signatures: Sequence[bytes], *, which: int, oracles: Sequence[Sequence[Signed]], secret: bytes
) -> Transaction:  # fmt: skip
    """Return the signed claim of silence. secret: of the verifier's ``claim`` key."""
    leaf = graph.silence_leaves[which]
    own = secp256k1.schnorr_sign(secret, graph.silence_digest(which))
    witness = [
        *w.witness_of(oracles), own, signatures[which], leaf.script, graph.open_output.control_block(leaf)
    ]  # fmt: skip
    return graph.silence.with_witness(0, witness)


def build_payout(
    graph: LeafGraph, number: int, *, secret: bytes, script: bytes, fee: Sats, silent: bool = False
) -> Transaction:  # fmt: skip
    """Return what takes a claim's escrow back to the claimant. secret: of its ``payout`` key."""
    spent = escrow_of(graph.claim(number, silent=silent))
    return _alone(spent, graph.escrow(number), graph.payout_leaf, secret, script, fee, graph.terms.dispute_blocks)


def build_silent_end(graph: LeafGraph, *, secret: bytes, script: bytes, fee: Sats) -> Transaction:
    """Return what takes all to the verifier after a claim of silence. secret: of its ``silence`` key."""
    spent = graph.parent(silent=True)
    return _alone(spent, graph.silent_output, graph.silent_leaf, secret, script, fee, graph.terms.dispute_blocks)


def build_refund(graph: LeafGraph, *, secret: bytes, script: bytes, fee: Sats) -> Transaction:
    """Return what takes all back to the claimant where nobody did anything. secret: of its ``payout`` key."""
    spent, height = graph.parent(silent=False), graph.terms.refund_height
    return _alone(spent, graph.open_output, graph.refund_leaf, secret, script, fee, SEQUENCE_LOCKTIME, height)


def _alone(  # noqa: PLR0917 - three callers, just above
    spent: tuple[OutPoint, TxOut], output: TaprootOutput, leaf: Leaf, secret: bytes, script: bytes, fee: Sats,
    sequence: int, lock_time: int = 0,
) -> Transaction:  # fmt: skip
    """Return a spend by one side alone, whose fee it chooses then."""
    coin, value = spent
    made = Transaction(
        version=2, inputs=(TxIn(outpoint=coin, sequence=sequence),),
        outputs=(TxOut(value=Sats(value.value - fee), script=script),), lock_time=lock_time,
    )  # fmt: skip
    digest = taproot.sighash(made, 0, [value], leaf=taproot.leaf_hash(leaf.script))
    witness = [secp256k1.schnorr_sign(secret, digest), leaf.script, output.control_block(leaf)]
    return made.with_witness(0, witness)


# ---- read off the chain


@dataclass(frozen=True, kw_only=True)
class ReadClaim:
    """What a claim on the chain says."""

    number: int
    which: int
    silent: bool
    own: Mapping[str, Signed]
    """The claimant's signature of each word."""
    oracles: tuple[tuple[Signed, ...], ...]
    """Of each price, those of the set."""

    @property
    def said(self) -> dict[str, int]:
        """What each word says."""
        return {name: w.value_of(signed) for name, signed in self.own.items()}


def read_claim(graph: LeafGraph, claim: Transaction) -> ReadClaim:
    """Return what a claim that Script has taken says, from the chain alone. Raises InvalidInputError for no claim.

    A claim is told by its txid: both sides signed its outputs.
    """
    for number, silent in product(range(len(graph.terms.claim.payouts)), (False, True)):
        if graph.claim(number, silent=silent).txid == claim.txid:
            break
    else:
        raise InvalidInputError("claim", "another transaction", "one of this contract")
    witness = claim.inputs[0].witness
    scripts = [one.script for one in graph.claim_leaves]
    if len(witness) < 4 or witness[-2] not in scripts:  # noqa: PLR2004 - two signatures, script, control block
        raise InvalidInputError("claim", "another leaf", "that of a set of oracles")
    which = scripts.index(witness[-2])
    words = w.read_words(witness[:-4], graph.signers(which))
    own = dict(zip(graph.terms.claim.words, [one[0] for one in words], strict=True))
    prices = words[: len(graph.terms.claim.program.inputs)]
    return ReadClaim(number=number, which=which, silent=silent, own=own, oracles=tuple(one[1:] for one in prices))


def read_silence(graph: LeafGraph, silence: Transaction) -> tuple[int, tuple[tuple[Signed, ...], ...]]:
    """Return the set of oracles and what they signed, by price: all that the claimant needs to claim after it."""
    witness = silence.inputs[0].witness
    scripts = [one.script for one in graph.silence_leaves]
    if silence.txid != graph.silence.txid or len(witness) < 4 or witness[-2] not in scripts:  # noqa: PLR2004 - as above
        raise InvalidInputError("claim of silence", "another transaction", "that of this contract")
    which = scripts.index(witness[-2])
    return which, tuple(w.read_words(witness[:-4], graph.silence_signers(which)))


def build_disproof(graph: LeafGraph, read: ReadClaim, place: int, signature: bytes) -> Transaction:
    """Return what disproves a group of a claim. signature: of ``disproof_digest`` by the verifier's ``escrow`` key."""
    leaf = graph.disprove_leaves(read.number)[place]
    control = graph.escrow(read.number).control_block(Leaf(script=leaf.script))
    items = disprove_items(leaf, graph.terms.claim, read.own)
    made = graph.disproof(read.number, silent=read.silent)
    return made.with_witness(0, [*items, signature, leaf.script, control])


# ---- small


def _after(key: bytes, blocks: int) -> Leaf:
    head = op.push(key) + bytes([op.OP_CHECKSIGVERIFY])
    return Leaf(script=head + op.push_number(blocks) + bytes([op.OP_CHECKSEQUENCEVERIFY]))


def _balanced(leaves: list[Any]) -> Any:  # noqa: ANN401 - a nested pair
    while len(leaves) > 1:
        pairs = [tuple(leaves[at : at + 2]) for at in range(0, len(leaves), 2)]
        leaves = [pair if len(pair) > 1 else pair[0] for pair in pairs]
    return leaves[0]


def _spend(
    coin: OutPoint, outputs: Sequence[TxOut], *, sequence: int = SEQUENCE_LOCKTIME, lock_time: int = 0
) -> Transaction:  # fmt: skip
    return Transaction(
        version=TRUC_VERSION, inputs=(TxIn(outpoint=coin, sequence=sequence),), outputs=(*outputs, ANCHOR),
        lock_time=lock_time,
    )  # fmt: skip
