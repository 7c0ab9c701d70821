"""Chains of signatures that carry digits: one script takes a signature of the sender and one for each digit.

The other side pre-signs every digit's every value, each under a point: of the value's label, of what a set of oracles
will attest, or of both. Which of them the sender finishes is what it says, and the finished signature tells its secret.
The first of the other side's signatures may fix outputs (SIGHASH_ALL); those of digits are SIGHASH_NONE and told apart
by OP_CODESEPARATOR, so they are the same whatever is claimed, and none of one digit is one of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin import adaptor, taproot
from btcfi.bitcoin import script as op
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey, WrongAdaptorError
from btcfi.bitcoin.taproot import SIGHASH_ALL, SIGHASH_ANYONECANPAY, SIGHASH_NONE, Leaf
from btcfi.bitcoin.transaction import Transaction, TxOut
from btcfi.disputes.circuit import Digit
from btcfi.disputes.garbled.setup import Commitments, label_place
from btcfi.disputes.garbled.terms import DisputeTerms
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import DigitPoints
from btcfi.units import Hash32

SIGNATURE_SIZE: Final = 64

_PER_DIGIT: Final = 3
"""Opcodes of a script for each signature: TUCK, CHECKSIGVERIFY, CODESEPARATOR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One signature of a chain: of which digit, and under which points."""

    place: int
    """Of the digit in the circuit."""
    labelled: bool
    """Whether the label's point is in it."""
    attested: bool
    """Whether the oracles' are."""


@dataclass(frozen=True, slots=True)
class FaultPoint:
    """What a stranger needs of a set-up: enough for every transaction, for no pre-signature."""

    fault: bytes
    """The point of the fault secret, compressed."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for what is no point."""
        secp256k1.parse_point(self.fault)


class Points:
    """The points of a contract: labels of its set-up, and what its oracles will attest."""

    def __init__(self, terms: DisputeTerms, commitments: Commitments | FaultPoint) -> None:
        """Take the terms and the labels of a set-up that was checked. Raises InvalidInputError for another's."""
        circuit = terms.claim.circuit
        known = commitments.labels if isinstance(commitments, Commitments) else ()
        if isinstance(commitments, Commitments) and len(known) != circuit.labels:
            raise InvalidInputError("labels", f"{len(known)}", f"{circuit.labels}")
        self.terms, self.fault = terms, commitments.fault
        self._labels = [secp256k1.parse_point(one) for one in known]
        self._attested: dict[tuple[int, int, int], Any] = {}
        places = range(len(circuit.digits))
        self.range_place = next(place for place in places if circuit.digits[place].event is None)
        self.priced_places = tuple(place for place in places if circuit.digits[place].event is not None)

    @cached_property
    def _digits(self) -> list[list[DigitPoints]]:
        return [[DigitPoints(announcement=one) for one in event] for event in self.terms.events]

    def digit(self, place: int) -> Digit:
        """Return the digit at a place."""
        return self.terms.claim.circuit.digits[place]

    def label(self, place: int, value: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return the point of a digit's value. Raises InvalidInputError for who knows the fault's point alone."""
        if not self._labels:
            raise InvalidInputError("labels", "not known", "the set-up's, which its two sides have")
        return self._labels[label_place(self.terms.claim.circuit, place) + value]

    def attested(self, place: int, value: int, which: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return the point of a digit's value attested by a set of oracles: the sum over its bits and the oracles."""
        key = place, value, which
        if key not in self._attested:
            digit, points = self.digit(place), []
            for oracle in self.terms.sets[which]:
                pairs = self._digits[digit.event or 0][oracle].pairs
                points += [pairs[at][bit] for at, bit in bits_of(digit, value, len(pairs))]
            self._attested[key] = points[0] if len(points) == 1 else secp256k1.sum_points(points)
        return self._attested[key]

    def of_entry(self, entry: Entry, value: int, which: int) -> Any:  # noqa: ANN401 - cffi has no types
        """Return under what an entry of one value is signed."""
        if not entry.attested:
            return self.label(entry.place, value)
        attested = self.attested(entry.place, value, which)
        return secp256k1.sum_points([self.label(entry.place, value), attested]) if entry.labelled else attested

    @property
    def price_entries(self) -> tuple[Entry, ...]:
        """Two signatures for each priced digit: under both points, and under the oracles' alone.

        The second is taken off the first. Without it what a set of oracles told one side alone could not be read.
        """
        return tuple(
            Entry(place=place, labelled=labelled, attested=True)
            for place in self.priced_places
            for labelled in (True, False)
        )

    @property
    def silence_entries(self) -> tuple[Entry, ...]:
        """One signature for each priced digit, under the oracles' points alone."""
        return tuple(Entry(place=place, labelled=False, attested=True) for place in self.priced_places)


def bits_of(digit: Digit, value: int, signed: int) -> list[tuple[int, int]]:
    """Return of each bit of a digit its place among an event's signed digits, and its value."""
    return [(signed - 1 - digit.low_bit - bit, value >> bit & 1) for bit in range(digit.width)]


def script_of(sender: bytes, key: bytes, signatures: int) -> Leaf:
    """Return the script of one signature by ``sender`` and several by ``key``, x-only keys."""
    head = op.push(sender) + bytes([op.OP_CHECKSIGVERIFY]) + op.push(key)
    each = bytes([op.OP_TUCK, op.OP_CHECKSIGVERIFY, op.OP_CODESEPARATOR])
    return Leaf(script=head + each * (signatures - 1) + bytes([op.OP_CHECKSIG]))


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One chain: what it spends, by which script, and what its pre-signatures are of."""

    leaf: Leaf
    key: bytes
    """x-only: of the side that pre-signs."""
    entries: tuple[Entry, ...]
    which: int
    """The set of oracles in its entries' points."""
    transaction: Transaction
    """Whose input it is; of digits' signatures what is paid does not matter."""
    index: int
    spent: tuple[TxOut, ...]
    leading: bool
    """Whether a signature that fixes the outputs stands before the digits'."""
    alone: bool = False
    """Whether digits' signatures hold whatever else is spent beside."""

    def digest(self, at: int) -> Hash32:
        """Return what the signature of one entry is of, counted from 0."""
        kind = SIGHASH_NONE | (SIGHASH_ANYONECANPAY if self.alone else 0)
        place = at + self.leading
        separator = 2 + _PER_DIGIT * place if place else taproot.NO_SEPARATOR
        return taproot.sighash(
            self.transaction, self.index, self.spent, hash_type=kind, leaf=taproot.leaf_hash(self.leaf.script),
            separator=separator,
        )  # fmt: skip

    def leading_digest(self, transaction: Transaction) -> Hash32:
        """Return what the signature is of that fixes a transaction's outputs."""
        hashed = taproot.leaf_hash(self.leaf.script)
        return taproot.sighash(transaction, self.index, self.spent, hash_type=SIGHASH_ALL, leaf=hashed)

    def own_digest(self, transaction: Transaction) -> Hash32:
        """Return what the sender signs itself."""
        return taproot.sighash(transaction, self.index, self.spent, leaf=taproot.leaf_hash(self.leaf.script))

    @property
    def hash_type(self) -> bytes:
        """The byte behind a digit's signature."""
        return bytes([SIGHASH_NONE | (SIGHASH_ANYONECANPAY if self.alone else 0)])

    def signatures(self, transaction: Transaction) -> list[bytes] | None:
        """Return the signatures by ``key`` in a transaction's input, 64 bytes each; None where it is not by this."""
        witness = transaction.inputs[self.index].witness if self.index < len(transaction.inputs) else ()
        if len(witness) != len(self.entries) + self.leading + 3 or witness[-2] != self.leaf.script:
            return None
        return [one[:SIGNATURE_SIZE] for one in reversed(witness[:-3])]


def with_chain(  # noqa: PLR0917 - a witness, in order
    transaction: Transaction, index: int, signatures: Sequence[bytes], own: bytes, leaf: Leaf, control: bytes
) -> Transaction:  # fmt: skip
    """Return a transaction with an input's signatures in the order that its script takes them, the sender's first."""
    return transaction.with_witness(index, [*reversed(signatures), own, leaf.script, control])


# ---- a chain's pre-signatures


def count_of(points: Points, chain: Chain) -> int:
    """Return how many pre-signatures its entries have."""
    return sum(points.digit(entry.place).values for entry in chain.entries)


def slots(points: Points, chain: Chain) -> Iterator[tuple[str, Hash32, Any]]:
    """Yield of each pre-signature what it says, the message and the point."""
    for at, entry in enumerate(chain.entries):
        digit, digest = points.digit(entry.place), chain.digest(at)
        for value in range(digit.values):
            yield f"digit {digit.name} = {value}", digest, points.of_entry(entry, value, chain.which)


def presign(points: Points, chain: Chain, key: AdaptorKey) -> bytes:
    """Return one side's pre-signatures of a chain's entries, 65 bytes each. Raises InvalidInputError."""
    if key.public != chain.key:
        raise InvalidInputError("secret key", "is not that of the terms", "the secret of one's own key")
    return b"".join(key.presign(digest, point) for _, digest, point in slots(points, chain))


def check(points: Points, chain: Chain, who: str, data: bytes) -> None:
    """Check every pre-signature of a chain's entries. Raises WrongAdaptorError naming the first that is bad."""
    if len(data) != ADAPTOR_SIZE * count_of(points, chain):
        expected = count_of(points, chain)
        raise WrongAdaptorError(f"{who}: {len(data) / ADAPTOR_SIZE:g} signatures instead of {expected}, as a set")
    for at, (what, digest, point) in enumerate(slots(points, chain)):
        if not adaptor.presignature_is_valid(chain.key, digest, point, one_of(data, at)):
            raise WrongAdaptorError(f"{who}, {what}")


def finish(
    points: Points, chain: Chain, data: bytes, secrets: Mapping[Entry, tuple[int, bytes]]
) -> list[bytes]:  # fmt: skip
    """Return the finished signatures of a chain's entries. secrets: of each entry the value, and its point's secret."""
    at, found = 0, []
    for entry in chain.entries:
        value, secret = secrets[entry]
        found.append(adaptor.adapt(one_of(data, at + value), secret) + chain.hash_type)
        at += points.digit(entry.place).values
    return found


def read(
    points: Points, chain: Chain, data: bytes, signatures: Sequence[bytes]
) -> dict[Entry, tuple[int, bytes] | None]:
    """Return of each entry which value its signature says, and the secret that it tells; None where it tells none."""
    at, found = 0, dict[Entry, tuple[int, bytes] | None]()
    for entry, signature in zip(chain.entries, signatures, strict=True):
        count = points.digit(entry.place).values
        value = matching(data, at, count, signature)
        found[entry] = None if value is None else (value, adaptor.extract(one_of(data, at + value), signature))
        at += count
    return found


def matching(data: bytes, start: int, count: int, signature: bytes) -> int | None:
    """Return which pre-signature a signature finishes: the one of its nonce."""
    for at in range(count):
        if one_of(data, start + at)[1:33] == signature[:32]:
            return at
    return None


def one_of(data: bytes, at: int) -> bytes:
    """Return the pre-signature at a place."""
    return data[ADAPTOR_SIZE * at : ADAPTOR_SIZE * (at + 1)]


def total(secrets: Sequence[bytes]) -> bytes:
    """Return the sum of secrets. Raises InvalidInputError for a sum of nothing."""
    found = secrets[0]
    for one in secrets[1:]:
        found = secp256k1.scalar_add(found, one)
    return found


def less(secret: bytes, others: Sequence[bytes]) -> bytes:
    """Return a secret less others."""
    return total([secret, *(secp256k1.scalar_negate(one) for one in others)])
