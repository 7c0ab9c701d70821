"""The transactions of a disputed contract, and what either side signs before it is funded.

    open       collateral and bond of the claimant
    claim j    (one for each range) what the range pays goes to the verifier at once, the rest into escrow; carries a
               signature of the verifier's for each digit, which tells it the digit's secret
    payout     the claimant takes the escrow, some blocks after the claim
    disprove   the verifier takes it, knowing the fault secret: by the escrow's key path
    silence    from a height on, the verifier shows the attestations and the claimant still does not claim; from its
               output the same claims are possible, and some blocks later the verifier is paid all that it could be owed
    refund     from a later height on the claimant takes all back: nobody claimed, and no oracle spoke

All are of version 3 with an anchor, so a child pays their fees and their txids are known before the opening is signed.

**Which claim is mined is what is paid**: the verifier's first signature fixes a claim's outputs. **A price that nobody
attested cannot be claimed**: a priced digit is signed under its label's point plus the points of a set of oracles.
**The verifier needs the chain alone**: each priced digit is signed once more under the oracles' points by themselves,
so their secrets can be taken off. Each set of oracles has leaves and keys of its own, or signatures of two sets could
be mixed until nobody can read them; in every set of ``threshold`` at least one is honest, so no digit has two values.
**Silence cannot be claimed of attestations that the claimant never got**: the claim of silence carries them.

Keys are separate for each use, and the verifier's fresh in every attempt, so signatures of two attempts never fit
together. Pure: everything here is computed from the terms. Source: findings on garbled disputes and their review.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin import script as op
from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.script import is_known_program
from btcfi.bitcoin.taproot import SIGHASH_ALL, SIGHASH_NONE, Leaf, TaprootOutput, taproot_output
from btcfi.bitcoin.transaction import SEQUENCE_LOCKTIME, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts.execution import ANCHOR
from btcfi.disputes.circuit import Digit
from btcfi.disputes.claims import RANGE, Claim
from btcfi.disputes.garbled.setup import Commitments, Copies, label_place
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import Announcement, DigitPoints, check_together
from btcfi.units import MAX_MONEY_SATS, Hash32, Height, Sats

MAX_BLOCKS: Final = 2_016
"""That a claim may be open to dispute: two weeks."""

FIRST_TIME: Final = 500_000_000
"""From here on a lock time is no height. Source: BIP65."""

MAX_SETS: Final = 10
"""Of oracles: three of five."""

_TERMS_TAG: Final = "BTCFi/dispute/terms/v1"
_PER_DIGIT: Final = 3
"""Opcodes of a script for each signature: TUCK, CHECKSIGVERIFY, CODESEPARATOR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimantKeys:
    """The side that claims: the writer. Each key is for one use."""

    open: bytes
    """Compressed: of the opening's key path, by which both close together."""
    claim: bytes
    """x-only: signs claims, the claim of silence's end, and what both sign."""
    payout: bytes
    """x-only: takes the escrow."""
    silence: tuple[bytes, ...]
    """x-only, one a set of oracles: its pre-signatures carry attestations into a claim of silence."""
    script: bytes
    """Where it is paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKeys:
    """The side that is paid by a claim and watches it: the holder. All fresh in every attempt."""

    open: bytes
    """Compressed."""
    claim: bytes
    """x-only: signs the claim of silence, and what both sign."""
    escrow: bytes
    """Compressed: with the fault secret it takes the escrow."""
    digits: tuple[bytes, ...]
    """x-only, one a set of oracles: its pre-signatures carry labels into a claim."""
    script: bytes
    """Where it is paid."""


@dataclass(frozen=True, kw_only=True)
class DisputeTerms:
    """What both sides sign up to. Two equal terms have byte-equal transactions."""

    claim: Claim
    copies: Copies
    events: tuple[tuple[Announcement, ...], ...]
    """For each outcome that the claim is made of, the oracles' announcements, always in one order."""
    threshold: int
    collateral: Sats
    """The most that the verifier can be owed."""
    bond: Sats
    """The claimant's, lost to the verifier by a false claim."""
    silence_height: Height
    """From here on the verifier may claim silence."""
    refund_height: Height
    """From here on the claimant takes back what nobody claimed."""
    dispute_blocks: int
    """Between a claim and its payout, and between a claim of silence and its end."""
    fee: Sats
    """What each of the transactions pays by itself."""
    claimant: ClaimantKeys
    verifier: VerifierKeys

    def __post_init__(self) -> None:
        """Raise InvalidInputError naming the first term that makes no contract."""
        claim = self.claim
        if len(self.events) != claim.events or not self.events:
            raise InvalidInputError("events", f"{len(self.events)}", f"{claim.events}, one an outcome")
        keys = {tuple(one.oracle_key for one in event) for event in self.events}
        if len(keys) != 1 or len(set(*keys)) != len(*keys):
            raise InvalidInputError(
                "oracles", "not the same in every event, or one twice", "different ones, in one order"
            )
        for event in self.events:
            if len({one.event for one in event}) != 1:
                raise InvalidInputError("announcements", "are of different events", "one event a place")
            check_together(event)
        if len({event[0].event.id for event in self.events}) != len(self.events):
            raise InvalidInputError("events", "one stands twice", "a minute of its own each")
        if not 1 <= self.threshold <= len(self.events[0]) or len(self.sets) > MAX_SETS:
            raise InvalidInputError(
                "threshold", f"{self.threshold}", f"1 to {len(self.events[0])}, {MAX_SETS} sets at most"
            )
        self._check_digits()
        self._check_money()
        self._check_keys()

    def _check_digits(self) -> None:
        for digit in self.claim.circuit.digits:
            if digit.event is None:
                if not digit.name.startswith(f"{RANGE}."):
                    raise InvalidInputError("claim", digit.name, "a range and attested outcomes alone")
            elif not 0 <= digit.low_bit <= self.events[digit.event][0].event.signed_digits - digit.width:
                raise InvalidInputError("claim", digit.name, "bits that its event has")
        for place, event in enumerate(self.events):
            bits = sum(digit.width for digit in self.claim.circuit.digits if digit.event == place)
            if bits != event[0].event.signed_digits or event[0].event.condition:
                raise InvalidInputError(
                    "events", f"{bits} bits of event {place}", "all of its digits, and no condition"
                )

    def _check_money(self) -> None:
        if not 0 < self.collateral <= MAX_MONEY_SATS or not max(self.claim.payouts) <= self.collateral:
            raise InvalidInputError("collateral", f"{self.collateral} sats", "at least the most that a range pays")
        if not 0 <= self.fee <= MAX_MONEY_SATS or not 2 * self.costs + DUST_P2TR < self.bond <= MAX_MONEY_SATS:
            raise InvalidInputError("bond", f"{self.bond} sats", f"more than {2 * self.costs + DUST_P2TR} sats")
        if not 1 <= self.dispute_blocks <= MAX_BLOCKS:
            raise InvalidInputError("dispute_blocks", f"{self.dispute_blocks}", f"1 to {MAX_BLOCKS}")
        if (
            not self.silence_height > 0
            or not self.silence_height + self.dispute_blocks <= self.refund_height < FIRST_TIME
        ):
            raise InvalidInputError(
                "refund_height", f"{self.refund_height}", f"at least {self.silence_height + self.dispute_blocks}"
            )

    def _check_keys(self) -> None:
        one, other = self.claimant, self.verifier
        if {len(one.silence), len(other.digits)} != {len(self.sets)}:
            raise InvalidInputError("keys", f"{len(other.digits)} for sets of oracles", f"{len(self.sets)}")
        xonly = [one.claim, one.payout, *one.silence, other.claim, *other.digits, one.open[1:], other.open[1:]]
        xonly.append(other.escrow[1:])
        if len(set(xonly)) != len(xonly):
            raise InvalidInputError("keys", "one is used twice", "a key of its own for each use")
        if not all(secp256k1.is_xonly_key(key) for key in xonly):
            raise InvalidInputError("keys", "one is not on the curve", "keys of the curve")
        for script in (one.script, other.script):
            if not is_known_program(script):
                raise InvalidInputError("script", script.hex()[:40], "P2TR, P2WPKH or P2WSH")

    @property
    def costs(self) -> Sats:
        """What one of the transactions costs: its own fee and its anchor."""
        return Sats(self.fee + ANCHOR.value)

    @property
    def locked(self) -> Sats:
        """What the opening locks."""
        return Sats(self.collateral + self.bond)

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The sets of oracles, each enough to settle."""
        return tuple(combinations(range(len(self.events[0])), self.threshold))

    @cached_property
    def id(self) -> Hash32:
        """What a set-up is bound to: all of it, keys and circuit and oracles among them."""
        one, other = self.claimant, self.verifier
        keys = b"".join(
            len(part).to_bytes(2, "little") + part
            for part in (
                one.open, one.claim, one.payout, *one.silence, one.script, other.open, other.claim, other.escrow,
                *other.digits, other.script,
            )
        )  # fmt: skip
        numbers = (
            self.threshold, self.collateral, self.bond, self.silence_height, self.refund_height, self.dispute_blocks,
            self.fee, self.copies.count, self.copies.opened, len(self.events), len(self.events[0]),
            len(self.claim.payouts), *self.claim.payouts,
        )  # fmt: skip
        announced = b"".join(one.digest() for event in self.events for one in event)
        return tagged_hash(
            _TERMS_TAG, self.claim.circuit.id + announced + b"".join(n.to_bytes(8, "little") for n in numbers) + keys
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One signature of a script that carries digits: by its place, what it is under."""

    place: int
    """Of the digit in the circuit."""
    labelled: bool
    """Whether the label's point is in it."""
    attested: bool
    """Whether the oracles' are."""


class Graph:
    """Every transaction of a contract, and every message that is signed."""

    def __init__(self, terms: DisputeTerms, commitments: Commitments, coin: OutPoint | None = None) -> None:
        """Take the terms and the labels of a set-up that was checked, and where the opening's output will be."""
        circuit = terms.claim.circuit
        if len(commitments.labels) != circuit.labels:
            raise InvalidInputError("labels", f"{len(commitments.labels)}", f"{circuit.labels}")
        self.terms, self.labels, self.fault = terms, commitments.labels, commitments.fault
        self._coin = coin
        self._label_points = [secp256k1.parse_point(one) for one in commitments.labels]
        self._digit_points = [[DigitPoints(announcement=one) for one in event] for event in terms.events]
        self._attested: dict[tuple[int, int, int], Any] = {}
        digits = circuit.digits
        self.range_places = tuple(place for place, digit in enumerate(digits) if digit.event is None)
        self.priced_places = tuple(place for place, digit in enumerate(digits) if digit.event is not None)
        self.claim_entries = (
            *(Entry(place=place, labelled=True, attested=False) for place in self.range_places[1:]),
            *(
                Entry(place=place, labelled=labelled, attested=True)
                for place in self.priced_places
                for labelled in (True, False)
            ),
        )
        """After the range's own signature, in the order of the script."""
        self.silence_entries = tuple(Entry(place=p, labelled=False, attested=True) for p in self.priced_places)

    # ---- outputs

    @cached_property
    def open_output(self) -> TaprootOutput:
        """The opening's output: claims, silence, and what both sign."""
        return taproot_output(self._together.xonly, self._tree(self._claims, [self._both, *self._silences]))

    @cached_property
    def silent_output(self) -> TaprootOutput:
        """The claim of silence's output: the same claims, and what both sign."""
        return taproot_output(self._together.xonly, self._tree(self._claims, [self._both]))

    @cached_property
    def escrow(self) -> TaprootOutput:
        """A claim's escrow: key path of fault secret and verifier, or the claimant some blocks later."""
        aggregate = KeyAggregate([self.fault, self.terms.verifier.escrow])
        return taproot_output(aggregate.xonly, self.timeout_leaf)

    @property
    def _together(self) -> KeyAggregate:
        return KeyAggregate([self.terms.claimant.open, self.terms.verifier.open])

    @cached_property
    def _claims(self) -> list[Leaf]:
        first = self.terms.claimant.claim
        return [Leaf(script=_chain(first, key, len(self.claim_entries) + 1)) for key in self.terms.verifier.digits]

    @cached_property
    def _silences(self) -> list[Leaf]:
        first = self.terms.verifier.claim
        return [Leaf(script=_chain(first, key, len(self.silence_entries) + 1)) for key in self.terms.claimant.silence]

    @cached_property
    def _both(self) -> Leaf:
        return Leaf(script=_chain(self.terms.claimant.claim, self.terms.verifier.claim, 1))

    @cached_property
    def timeout_leaf(self) -> Leaf:
        """The claimant alone, some blocks after the claim."""
        head = op.push(self.terms.claimant.payout) + bytes([op.OP_CHECKSIGVERIFY])
        return Leaf(script=head + op.push_number(self.terms.dispute_blocks) + bytes([op.OP_CHECKSEQUENCEVERIFY]))

    @staticmethod
    def _tree(claims: Sequence[Leaf], rest: Sequence[Leaf]) -> Any:  # noqa: ANN401 - a nested pair
        """Return a tree with the claims as high as they can be: they are what is spent."""
        return _balanced([*claims, _balanced(list(rest))])

    # ---- transactions, none of them signed

    @property
    def coin(self) -> OutPoint:
        """Where the opening's output is. Raises InvalidInputError before that is known."""
        if self._coin is None:
            raise InvalidInputError("opening", "not known", "its outpoint")
        return self._coin

    @property
    def open_txout(self) -> TxOut:
        """What the opening pays."""
        return TxOut(value=self.terms.locked, script=self.open_output.script)

    @property
    def silent_txout(self) -> TxOut:
        """What the claim of silence pays."""
        return TxOut(value=Sats(self.terms.locked - self.terms.costs), script=self.silent_output.script)

    @cached_property
    def silence(self) -> Transaction:
        """The claim of silence."""
        return _spend(self.coin, [self.silent_txout], lock_time=self.terms.silence_height)

    @cached_property
    def silent_end(self) -> Transaction:
        """What pays the verifier all that it could be owed, some blocks after the claim of silence."""
        terms = self.terms
        back = Sats(self.silent_txout.value - terms.costs - terms.collateral)
        outputs = [
            TxOut(value=terms.collateral, script=terms.verifier.script), TxOut(value=back, script=terms.claimant.script)
        ]  # fmt: skip
        return _spend(
            OutPoint(txid=self.silence.txid, index=0), [one for one in outputs if one.value >= DUST_P2TR],
            sequence=terms.dispute_blocks,
        )  # fmt: skip

    @cached_property
    def refund(self) -> Transaction:
        """What gives all back to the claimant."""
        back = TxOut(value=Sats(self.terms.locked - self.terms.costs), script=self.terms.claimant.script)
        return _spend(self.coin, [back], lock_time=self.terms.refund_height)

    def claim(self, number: int, *, silent: bool = False) -> Transaction:
        """Return the claim of a range, of the opening or of the claim of silence. Raises InvalidInputError."""
        if not 0 <= number < len(self.terms.claim.payouts):
            raise InvalidInputError("range", str(number), f"0 to {len(self.terms.claim.payouts) - 1}")
        payout = self.terms.claim.payouts[number]
        coin, value = self.parent(silent=silent)
        paid = [TxOut(value=payout, script=self.terms.verifier.script)] if payout >= DUST_P2TR else []
        rest = Sats(value.value - self.terms.costs - sum(one.value for one in paid))
        return _spend(coin, [*paid, TxOut(value=rest, script=self.escrow.script)])

    def parent(self, *, silent: bool) -> tuple[OutPoint, TxOut]:
        """Return what a claim spends."""
        if silent:
            return OutPoint(txid=self.silence.txid, index=0), self.silent_txout
        return self.coin, self.open_txout

    def escrow_of(self, claim: Transaction) -> tuple[OutPoint, TxOut]:
        """Return a claim's escrow: the output before its anchor."""
        index = len(claim.outputs) - 2
        return OutPoint(txid=claim.txid, index=index), claim.outputs[index]

    # ---- what is signed

    def claim_digest(self, number: int, which: int, *, silent: bool) -> Hash32:
        """Return what the verifier's first signature of a claim is of: it fixes the outputs."""
        return self._digest(self.claim(number, silent=silent), self._claims[which], silent=silent, signature=0)

    def entry_digest(self, signature: int, which: int, *, silent: bool) -> Hash32:
        """Return what one of the further signatures of a claim is of; the same for every range. From 1 on."""
        return self._digest(self.claim(0, silent=silent), self._claims[which], silent=silent, signature=signature)

    def silence_digest(self, signature: int, which: int) -> Hash32:
        """Return what the claimant's signatures of a claim of silence are of; the first fixes the outputs."""
        return self._digest(self.silence, self._silences[which], silent=False, signature=signature)

    def silent_end_digest(self) -> Hash32:
        """Return what both sign of a silence's end."""
        return taproot.sighash(
            self.silent_end, 0, [self.silent_txout], leaf=taproot.leaf_hash(self._both.script)
        )  # fmt: skip

    def refund_digest(self) -> Hash32:
        """Return what both sign of the refund."""
        return taproot.sighash(self.refund, 0, [self.open_txout], leaf=taproot.leaf_hash(self._both.script))

    def own_digest(self, transaction: Transaction, leaf: Leaf, *, silent: bool) -> Hash32:
        """Return what who sends a claim, or a claim of silence, signs itself."""
        _, value = self.parent(silent=silent)
        return taproot.sighash(transaction, 0, [value], leaf=taproot.leaf_hash(leaf.script))

    def _digest(self, transaction: Transaction, leaf: Leaf, *, silent: bool, signature: int) -> Hash32:
        _, value = self.parent(silent=silent)
        hashed = taproot.leaf_hash(leaf.script)
        if signature == 0:
            return taproot.sighash(transaction, 0, [value], hash_type=SIGHASH_ALL, leaf=hashed)
        separator = 2 + _PER_DIGIT * signature  # of those before it, each behind its signature's two opcodes
        return taproot.sighash(transaction, 0, [value], hash_type=SIGHASH_NONE, leaf=hashed, separator=separator)

    # ---- points

    def range_point(self, number: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return the point of a range: the sum of its digits' labels."""
        rest, points = number, []
        for place in self.range_places:
            digit = self.terms.claim.circuit.digits[place]
            points.append(self.label_point(place, rest & (1 << digit.width) - 1))
            rest >>= digit.width
        return points[0] if len(points) == 1 else secp256k1.sum_points(points)

    def label_point(self, place: int, value: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return the point of a digit's value."""
        return self._label_points[label_place(self.terms.claim.circuit, place) + value]

    def attested_point(self, place: int, value: int, which: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return the point of a digit's value attested by a set of oracles: the sum over its bits and the oracles."""
        key = place, value, which
        if key not in self._attested:
            digit, points = self.terms.claim.circuit.digits[place], []
            for oracle in self.terms.sets[which]:
                pairs = self._digit_points[digit.event or 0][oracle].pairs
                points += [pairs[at][bit] for at, bit in bits_of(digit, value, len(pairs))]
            self._attested[key] = points[0] if len(points) == 1 else secp256k1.sum_points(points)
        return self._attested[key]

    def entry_point(self, entry: Entry, value: int, which: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return under what an entry of one value is signed."""
        if not entry.attested:
            return self.label_point(entry.place, value)
        attested = self.attested_point(entry.place, value, which)
        return secp256k1.sum_points([self.label_point(entry.place, value), attested]) if entry.labelled else attested

    # ---- witnesses

    def claim_leaf(self, which: int) -> Leaf:
        """Return the script by which claims of a set of oracles are made."""
        return self._claims[which]

    def silence_leaf(self, which: int) -> Leaf:
        """Return the script by which silence is claimed with a set of oracles."""
        return self._silences[which]

    @property
    def both_leaf(self) -> Leaf:
        """The script of what both sign."""
        return self._both


def bits_of(digit: Digit, value: int, signed: int) -> list[tuple[int, int]]:
    """Return of each bit of a digit its place among an event's signed digits, and its value."""
    return [(signed - 1 - digit.low_bit - bit, value >> bit & 1) for bit in range(digit.width)]


def _chain(first: bytes, key: bytes, signatures: int) -> bytes:
    """Return the script of one signature by ``first`` and several by ``key``, each told apart by a separator."""
    head = op.push(first) + bytes([op.OP_CHECKSIGVERIFY]) + op.push(key)
    each = bytes([op.OP_TUCK, op.OP_CHECKSIGVERIFY, op.OP_CODESEPARATOR])
    return head + each * (signatures - 1) + bytes([op.OP_CHECKSIG])


def _balanced(leaves: list[Any]) -> Any:  # noqa: ANN401 - a nested pair
    while len(leaves) > 1:
        pairs = [tuple(leaves[at : at + 2]) for at in range(0, len(leaves), 2)]
        leaves = [pair if len(pair) > 1 else pair[0] for pair in pairs]
    return leaves[0]


def _spend(
    coin: OutPoint, outputs: Sequence[TxOut], *, sequence: int = SEQUENCE_LOCKTIME, lock_time: int = 0
) -> Transaction:
    return Transaction(
        version=TRUC_VERSION, inputs=(TxIn(outpoint=coin, sequence=sequence),), outputs=(*outputs, ANCHOR),
        lock_time=lock_time,
    )  # fmt: skip
