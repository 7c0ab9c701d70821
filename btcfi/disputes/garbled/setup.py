"""Cut and choose, every coefficient committed: after it the verifier can punish a false claim, but with 2^-40.9.

    verifier   CutCommitment: a hash of the copies that it will have opened, before anything is made
    garbler    Commitments: points of every label's and the fault's polynomial, a hash for each copy
    verifier   Cut: which copies
    garbler    Openings: those copies' seeds, the other copies' tables
    verifier   ``kept_of``: checks all, and keeps what convicts

Or the cut is a hash of all that stands before it (``BY_HASH``), for set-ups that anybody can check: there is nothing to
wait for, so a garbler may try as often as it can hash, and a hash draws of 2^100 cuts at least (``chance_by_hash``).

The garbler's secrets hang on its own seed and on all that the set-up is about, the verifier's commitment among it. So
it keeps no state and answers one cut alone: asked again it says the same bytes, for anything else it has other secrets.

The verifier refuses: a share that is not canonical or off the committed polynomial, an opened copy that was garbled
otherwise, a kept table that was not committed to, two labels of one point. Pure: randomness is passed in, and no
message makes anything here fail but with an InvalidInputError. Source: findings on garbled disputes and their review.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import chain
from math import comb, log2
from struct import Struct
from typing import Final

from btcfi import secp256k1
from btcfi.disputes.circuit import Circuit
from btcfi.disputes.garbled.garbling import SHARE_SIZE, evaluate, garble, table_size
from btcfi.disputes.garbled.shares import Scalars, coefficients, combined, points_of, value_at
from btcfi.errors import InvalidInputError
from btcfi.hashes import tag_prefix, tagged_hash
from btcfi.secp256k1 import ORDER
from btcfi.units import Hash32

MAX_COPIES: Final = 1_024
LEAST_BITS: Final = 40
"""Of a cut that the verifier draws; the garbler's chance of a set-up that cannot convict is 2 to minus this, a cut."""

LEAST_HASHED_BITS: Final = 100
"""Of a cut by hash: a garbler that tries 2^60 times is refused but with 2^-40. Source: the review, section 6."""

POINT_SIZE: Final = 33
_COPY: Final = Struct("<H")
_SETUP_TAG: Final = "BTCFi/dispute/setup/v1"
_CUT_TAG: Final = "BTCFi/dispute/cut/v1"
_SEED_TAG: Final = "BTCFi/dispute/seed/v1"
_SHARES_TAG: Final = "BTCFi/dispute/shares/v1"
_COINS_TAG: Final = "BTCFi/dispute/coins/v1"
_WIRE_SEED_TAG: Final = "BTCFi/dispute/wire-seed/v1"
_DRAW_TAG: Final = "BTCFi/dispute/draw/v1"
_HASHED_TAG: Final = "BTCFi/dispute/cut-by-hash/v1"
_BY_HASH_TAG: Final = "BTCFi/dispute/by-hash/v1"
_RANKS_TAG: Final = "BTCFi/dispute/ranks-by-hash/v1"
_OPENED_TAG: Final = "BTCFi/dispute/opened/v1"
_TABLE_TAG: Final = "BTCFi/dispute/table/v1"
_COPY_TAG: Final = "BTCFi/dispute/copy/v1"


class CheatedError(InvalidInputError):
    """What the other side sent is not what an honest one sends: nothing of this set-up may be signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """How many copies are garbled, and how many of them are opened."""

    count: int
    opened: int

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a cut that could be guessed."""
        if not 1 <= self.opened < self.count <= MAX_COPIES or self.bits < LEAST_BITS:
            expected = f"at least 2^{LEAST_BITS} cuts, of at most {MAX_COPIES} copies"
            raise InvalidInputError("copies", f"{self.opened} of {self.count} opened", expected)

    @property
    def bits(self) -> float:
        """The cuts that there are, as a power of two."""
        return log2(comb(self.count, self.opened))


CONSERVATIVE: Final = Copies(count=44, opened=22)
"""2^40.9 cuts, few copies to make and check. Source: the review, section 5."""


PUBLIC: Final = Copies(count=104, opened=52)
"""2^100.3 cuts by hash. Where every coefficient is committed an opened copy takes about what a kept one does, so half
of them opened is the least to send for a bound."""

BY_HASH: Final = tagged_hash(_BY_HASH_TAG, b"")
"""Instead of a verifier's commitment to its cut: a hash draws it."""


def chance_by_hash(copies: Copies, tries: int) -> Fraction:
    """Return a bound on a garbler's chance of a set-up with a cut by hash that cannot convict, after so many tries.

    A try is a hash of other commitments. The opened copies must be exactly those that are garbled well, which is one
    cut of all there are; or two of the hashes agree that fix copies, or two of the 256-bit ranks of the draw do. No
    other union is in it: here each coefficient is committed, so there is no combination that hides a share off its
    polynomial. Each who checks has coins of its own besides, and misses such a share with 2^-127.
    """
    hashes = Fraction(tries * tries, 1 << 256) + Fraction(tries * copies.count**2, 1 << 257)
    return min(Fraction(1), Fraction(tries, comb(copies.count, copies.opened)) + hashes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a set-up is about. Both sides make it of their own records; a difference in anything is another set-up."""

    circuit: Circuit
    copies: Copies
    terms: Hash32
    """Of the contract with all its keys: the verifier's are fresh in every attempt."""
    cut: Hash32
    """The verifier's commitment to its cut, or ``BY_HASH``."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a cut by hash that could be ground."""
        if self.by_hash and chance_by_hash(self.copies, 1) > Fraction(1, 1 << LEAST_HASHED_BITS):
            expected = f"at least 2^{LEAST_HASHED_BITS} cuts, where a hash draws one"
            raise InvalidInputError("copies", f"{self.copies.opened} of {self.copies.count} opened", expected)

    @property
    def by_hash(self) -> bool:
        """Whether the cut is a hash of the garbler's first message, so that anybody can check the set-up."""
        return self.cut == BY_HASH

    @property
    def id(self) -> Hash32:
        """What every hash of the set-up begins with."""
        sizes = _COPY.pack(self.copies.count) + _COPY.pack(self.copies.opened)
        return tagged_hash(_SETUP_TAG, self.circuit.id + sizes + self.terms + self.cut)

    @property
    def secrets(self) -> int:
        """How many polynomials there are: one a label, and the fault's, the last."""
        return self.circuit.labels + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Which copies are opened, and what hides them until they are."""

    opened: tuple[int, ...]
    """From 1 on, ascending."""
    nonce: bytes
    """32 bytes."""

    def commitment(self) -> Hash32:
        """Return what is said before. Raises InvalidInputError for a nonce of another size."""
        secp256k1.check_size(self.nonce, "cut.nonce")
        return tagged_hash(_CUT_TAG, self.nonce + b"".join(_COPY.pack(one) for one in self.opened))


def draw_cut(copies: Copies, entropy: bytes) -> Cut:
    """Return a cut by 64 bytes of entropy, which must be used for this one alone. Raises InvalidInputError."""
    if len(entropy) != 64:  # noqa: PLR2004 - a seed and a nonce
        raise InvalidInputError("entropy", f"{len(entropy)} bytes", "64 bytes")
    return Cut(opened=_ranked(copies, tag_prefix(_DRAW_TAG) + entropy[:32], 16), nonce=entropy[32:])


def _ranked(copies: Copies, data: bytes, size: int) -> tuple[int, ...]:
    """Return the copies that are opened, each having a rank of ``size`` bytes by a hash of ``data``."""
    numbers = hashlib.shake_256(data).digest(size * copies.count)
    ranked = sorted(range(1, copies.count + 1), key=lambda copy: numbers[size * (copy - 1) : size * copy])
    return tuple(sorted(ranked[: copies.opened]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitments:
    """The garbler's first message."""

    points: tuple[tuple[bytes, ...], ...]
    """Of the values at 0 to t: a row a node, in it a point for each label and the fault's."""
    copies: tuple[Hash32, ...]
    """A hash for each copy: of its opening and its tables."""

    @property
    def labels(self) -> tuple[bytes, ...]:
        """The points of the labels' secrets, in the order of the circuit's digits and their values."""
        return self.points[0][:-1]

    @property
    def fault(self) -> bytes:
        """The point of the fault secret."""
        return self.points[0][-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One opened copy: all that it was garbled from."""

    seed: bytes
    """32 bytes: of its wires."""
    shares: tuple[bytes, ...]
    """32 bytes for each label and the fault."""

    def digest(self) -> Hash32:
        """Return what the copy's hash holds of it."""
        return tagged_hash(_OPENED_TAG, self.seed + b"".join(self.shares))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One copy that stays closed: what its hash holds of its opening, and its tables."""

    opening: Hash32
    rows: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Openings:
    """The garbler's second message."""

    opened: Mapping[int, Opened]
    kept: Mapping[int, Table]


def copy_hash(opening: Hash32, rows: bytes) -> Hash32:
    """Return what the garbler commits to of one copy."""
    return tagged_hash(_COPY_TAG, opening + tagged_hash(_TABLE_TAG, rows))


# ---- the garbler


class Garbler:
    """The side that makes claims. What it knows of a set-up follows from its seed and the subject alone."""

    def __init__(self, subject: Subject, seed: bytes) -> None:
        """Take the garbler's own 32-byte seed. Raises InvalidInputError for another size."""
        secp256k1.check_size(seed, "garbler's seed")
        self.subject = subject
        count, degree = subject.copies.count, subject.copies.opened
        self._own = tagged_hash(_SEED_TAG, seed + subject.id)
        self._values: list[Scalars] = [self._drawn(node) for node in range(degree + 1)]
        nodes = tuple(range(degree + 1))
        self._values += [value_at(self._values[: degree + 1], nodes, copy) for copy in range(degree + 1, count + 1)]
        numbers = range(1, count + 1)
        self._opened = {copy: self._opening(copy) for copy in numbers}
        tables = garble(
            subject.circuit, subject.id, numbers, seeds=[self._opened[copy].seed for copy in numbers],
            shares=[self._opened[copy].shares[:-1] for copy in numbers],
            faults=[self._opened[copy].shares[-1] for copy in numbers],
        )  # fmt: skip
        self._tables = dict(zip(numbers, tables, strict=True))

    def commitments(self) -> Commitments:
        """Return the first message."""
        degree = self.subject.copies.opened
        return Commitments(
            points=tuple(points_of(row) for row in self._values[: degree + 1]),
            copies=tuple(copy_hash(self._opened[copy].digest(), rows) for copy, rows in self._tables.items()),
        )

    def openings(self, cut: Cut) -> Openings:
        """Return the second message, for the subject's one cut. Raises CheatedError for another."""
        check_cut(self.subject, cut, self.commitments() if self.subject.by_hash else None)
        chosen = set(cut.opened)
        return Openings(
            opened={copy: self._opened[copy] for copy in cut.opened},
            kept={
                copy: Table(opening=self._opened[copy].digest(), rows=rows)
                for copy, rows in self._tables.items()
                if copy not in chosen
            },
        )

    def label(self, place: int, value: int) -> bytes:
        """Return the secret of a digit's value: whoever has it has the claim. 32 bytes. Raises InvalidInputError."""
        digit = self.subject.circuit.digits[place]
        if not 0 <= value < digit.values:
            raise InvalidInputError(f"digit {digit.name}", str(value), f"0 to {digit.values - 1}")
        return self._values[0][label_place(self.subject.circuit, place) + value].to_bytes(32)

    def _drawn(self, node: int) -> Scalars:
        data = tag_prefix(_SHARES_TAG) + self._own + _COPY.pack(node)
        stream = hashlib.shake_256(data).digest(48 * self.subject.secrets)
        # 384 bits each: no value is more likely than another by 2^-128, and none is 0
        return tuple(
            int.from_bytes(stream[at : at + 48]) % (ORDER - 1) + 1 for at in range(0, len(stream), 48)
        )  # fmt: skip

    def _opening(self, copy: int) -> Opened:
        return Opened(
            seed=tagged_hash(_WIRE_SEED_TAG, self._own + _COPY.pack(copy)),
            shares=tuple(one.to_bytes(SHARE_SIZE) for one in self._values[copy]),
        )


def label_place(circuit: Circuit, place: int) -> int:
    """Return which label the value 0 of the digit at ``place`` is."""
    return sum(digit.values for digit in circuit.digits[:place])


def cut_by_hash(subject: Subject, first: Commitments) -> Cut:
    """Return the cut that a hash draws of all that a set-up is about and of the garbler's whole first message.

    The subject's id is of the circuit, the copies' numbers, and the terms with every key and every oracle's points.
    Raises CheatedError for a message of another shape: only of one shape does the hash say what is where.
    """
    _check_shape(subject, first)
    sizes = _COPY.pack(len(first.points)) + len(first.points[0]).to_bytes(4, "little") + _COPY.pack(len(first.copies))
    seed = tagged_hash(_HASHED_TAG, b"".join([subject.id, sizes, *chain.from_iterable(first.points), *first.copies]))
    return Cut(opened=_ranked(subject.copies, tag_prefix(_RANKS_TAG) + seed, 32), nonce=seed)


def check_cut(subject: Subject, cut: Cut, first: Commitments | None = None) -> None:
    """Check that a cut is the one that was committed to, or that follows. Raises CheatedError, InvalidInputError.

    first: the garbler's first message, which a cut by hash follows from.
    """
    copies = subject.copies
    if list(cut.opened) != sorted(set(cut.opened)) or len(cut.opened) != copies.opened:
        raise CheatedError("cut", f"{len(cut.opened)} copies", f"{copies.opened} different ones, ascending")
    if not 1 <= cut.opened[0] <= cut.opened[-1] <= copies.count:
        raise CheatedError("cut", f"{cut.opened[0]} to {cut.opened[-1]}", f"copies of 1 to {copies.count}")
    if subject.by_hash:
        if first is None or cut != cut_by_hash(subject, first):
            raise CheatedError("cut", "is not what the hash of the first message draws", "the one cut of this set-up")
    elif cut.commitment() != subject.cut:
        raise CheatedError("cut", "is not the one that was committed to", "the one cut of this set-up")


# ---- the verifier


class Verdict(StrEnum):
    """What a verifier says of a claim."""

    RIGHT = "right"
    """The claim is right: there is nothing to do."""
    CONVICTED = "convicted"
    """The claim is wrong, and here is the secret."""
    CHEATED_AT_SETUP = "cheated at set-up"
    """The claim is wrong and no copy gives the secret. Its labels and the kept tables show that to anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, with the fault secret where it convicts."""

    verdict: Verdict
    secret: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a verifier keeps of a set-up that it has checked, until the coin is spent."""

    subject: Subject
    labels: tuple[bytes, ...]
    fault: bytes
    tables: Mapping[int, bytes]
    sums: Mapping[int, Scalars]
    """Of each kept copy, for each label and the fault: what the opened copies' shares add to its share."""
    at_zero: Mapping[int, int]
    """Of each kept copy: by what the secret itself is multiplied."""

    def judge(self, values: Mapping[str, int], secrets: Sequence[bytes]) -> Judgement:
        """Return what is to be said of a claim.

        values: of each digit, by name. secrets: 32 bytes for each digit, as they were read off the chain, each the
        logarithm of its label's point. Raises InvalidInputError for a secret that is not.
        """
        circuit = self.subject.circuit
        wrong = circuit.is_wrong(values)
        if len(secrets) != len(circuit.digits):
            raise InvalidInputError("secrets", str(len(secrets)), f"{len(circuit.digits)}, one a digit")
        chosen = [label_place(circuit, place) + values[digit.name] for place, digit in enumerate(circuit.digits)]
        for at, secret, digit in zip(chosen, secrets, circuit.digits, strict=True):
            if secp256k1.public_key_compressed(secret) != self.labels[at]:
                raise InvalidInputError(f"secret of {digit.name}", "is another one", "its label's logarithm")
        if not wrong:
            return Judgement(verdict=Verdict.RIGHT)
        numbers, shares = [int.from_bytes(secret) for secret in secrets], []
        for copy, zero in self.at_zero.items():
            sums = self.sums[copy]
            shares.append(
                [
                    ((zero * number + sums[at]) % ORDER).to_bytes(SHARE_SIZE)
                    for at, number in zip(chosen, numbers, strict=True)
                ]
            )
        found = evaluate(
            circuit, self.subject.id, list(self.at_zero), tables=[self.tables[copy] for copy in self.at_zero],
            shares=shares, values=values,
        )  # fmt: skip
        for copy, share in zip(self.at_zero, found.faults, strict=True):
            number = (int.from_bytes(share) - self.sums[copy][-1]) * pow(self.at_zero[copy], -1, ORDER) % ORDER
            secret = number.to_bytes(32)
            if number and secp256k1.public_key_compressed(secret) == self.fault:
                return Judgement(verdict=Verdict.CONVICTED, secret=secret)
        return Judgement(verdict=Verdict.CHEATED_AT_SETUP)


PARTS: Final = ("points and cut", "shares of the opened copies", "opened copies garbled again", "tables kept")
"""What a set-up is checked in, in this order."""


def _check_shape(subject: Subject, said: Commitments) -> None:
    degree, count = subject.copies.opened, subject.copies.count
    if len(said.points) != degree + 1 or {len(row) for row in said.points} != {subject.secrets}:
        raise CheatedError("commitments.points", "another number", f"{degree + 1} rows of {subject.secrets}")
    if len(said.copies) != count or {len(one) for one in said.copies} != {SHARE_SIZE}:
        raise CheatedError("commitments.copies", "another number", f"{count} hashes of 32 bytes")
    if {len(one) for one in chain.from_iterable(said.points)} != {POINT_SIZE}:
        raise CheatedError("commitments.points", "one is of another size", f"{POINT_SIZE} bytes each")


def check_commitments(subject: Subject, said: Commitments) -> None:
    """Check the garbler's first message by itself, before the cut is told. Raises CheatedError."""
    _check_shape(subject, said)
    for one in chain.from_iterable(said.points):
        if not secp256k1.is_point(one):
            raise CheatedError("commitments.points", "one is no point", "compressed points of the curve")
    if len({one[1:] for one in said.points[0]}) != subject.secrets:
        raise CheatedError("commitments.points", "two secrets have one point, or opposite ones", "a point each")


def kept_of(
    subject: Subject, first: Commitments, cut: Cut, second: Openings, *, coins: bytes,
    begins: Callable[[str], None] = lambda _: None,
) -> Kept:  # fmt: skip
    """Check the whole of a set-up, and return what convicts.

    coins: 32 fresh bytes of the verifier's own, drawn after the garbler has said everything. begins: is told each part
    (``PARTS``) before it is checked. Raises CheatedError.
    """
    secp256k1.check_size(coins, "coins")
    begins(PARTS[0])
    check_commitments(subject, first)
    check_cut(subject, cut, first)
    closed = tuple(copy for copy in range(1, subject.copies.count + 1) if copy not in set(cut.opened))
    if tuple(sorted(second.opened)) != cut.opened or tuple(sorted(second.kept)) != closed:
        raise CheatedError("openings", "of other copies", "those of the cut opened, and all others' tables")
    shares = {copy: _checked_shares(subject, copy, second.opened[copy]) for copy in cut.opened}
    begins(PARTS[1])
    _check_polynomials(subject, first, shares, coins)
    begins(PARTS[2])
    _check_garbled(subject, first, cut, second)
    begins(PARTS[3])
    for copy in closed:
        kept = second.kept[copy]
        if len(kept.rows) != table_size(subject.circuit) or len(kept.opening) != SHARE_SIZE:
            raise CheatedError(f"copy {copy}", f"{len(kept.rows)} bytes", f"{table_size(subject.circuit)} bytes")
        if copy_hash(kept.opening, kept.rows) != first.copies[copy - 1]:
            raise CheatedError(f"copy {copy}", "tables other than committed to", "those of the first message")
    nodes = (0, *cut.opened)
    weights = {copy: coefficients(nodes, copy) for copy in closed}
    rows = [shares[copy] for copy in cut.opened]
    return Kept(
        subject=subject, labels=first.labels, fault=first.fault,
        tables={copy: second.kept[copy].rows for copy in closed},
        sums={copy: _weighted(rows, weights[copy][1:]) for copy in closed},
        at_zero={copy: weights[copy][0] for copy in closed},
    )  # fmt: skip


def _weighted(rows: Sequence[Scalars], weights: Sequence[int]) -> Scalars:
    return tuple(
        sum(one * weight for one, weight in zip(column, weights, strict=True)) % ORDER
        for column in zip(*rows, strict=True)
    )


def _checked_shares(subject: Subject, copy: int, opened: Opened) -> Scalars:
    """Return the shares of an opened copy as numbers; each must be canonical, or the same number had two hashes."""
    if len(opened.seed) != SHARE_SIZE or len(opened.shares) != subject.secrets:
        raise CheatedError(f"copy {copy}", f"{len(opened.shares)} shares", f"{subject.secrets}, and a 32-byte seed")
    found = tuple(int.from_bytes(one) for one in opened.shares)
    if {len(one) for one in opened.shares} != {SHARE_SIZE} or not all(0 <= one < ORDER for one in found):
        raise CheatedError(f"copy {copy}", "a share is no scalar", "32 bytes below the order")
    return found


def _check_polynomials(
    subject: Subject, first: Commitments, shares: Mapping[int, Scalars], coins: bytes
) -> None:  # fmt: skip
    """Check every opened share against its polynomial, all secrets at once by coins that nobody knew before.

    A set of shares of which one is wrong passes with 2^-127: the coins multiply each secret's column.
    """
    stream = hashlib.shake_256(tag_prefix(_COINS_TAG) + coins).digest(16 * subject.secrets)
    weights = [int.from_bytes(stream[at : at + 16]) | 1 << 127 for at in range(0, len(stream), 16)]
    nodes = tuple(range(subject.copies.opened + 1))
    sums = [combined(row, weights) for row in first.points]
    for copy, values in shares.items():
        total = sum(one * weight for one, weight in zip(values, weights, strict=True)) % ORDER
        expected = sums[copy] if copy < len(sums) else combined(sums, coefficients(nodes, copy))
        if not total or secp256k1.public_key_compressed(total.to_bytes(32)) != expected:
            raise CheatedError(f"copy {copy}", "a share is off its polynomial", "the values that were committed to")


def _check_garbled(subject: Subject, first: Commitments, cut: Cut, second: Openings) -> None:
    opened = [second.opened[copy] for copy in cut.opened]
    tables = garble(
        subject.circuit, subject.id, cut.opened, seeds=[one.seed for one in opened],
        shares=[one.shares[:-1] for one in opened], faults=[one.shares[-1] for one in opened],
    )  # fmt: skip
    for copy, one, rows in zip(cut.opened, opened, tables, strict=True):
        if copy_hash(one.digest(), rows) != first.copies[copy - 1]:
            raise CheatedError(f"copy {copy}", "garbled otherwise than committed to", "what its opening makes")
