"""A cut by hash: it follows from all that was committed to, nobody grinds it, and a stranger checks the whole."""

import hashlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from btcfi import secp256k1
from btcfi.disputes.circuit import digits_of
from btcfi.disputes.claims import RANGE, Ranges, Shape, price_claim
from btcfi.disputes.garbled import setup as under_test
from btcfi.disputes.garbled.setup import (
    BY_HASH,
    CONSERVATIVE,
    PUBLIC,
    CheatedError,
    Copies,
    Cut,
    Garbler,
    Openings,
    Subject,
    Table,
    Verdict,
    chance_by_hash,
    copy_hash,
    cut_by_hash,
    draw_cut,
    kept_of,
)
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32, Sats

CLAIM = price_claim(
    Ranges(starts=(0, 10, 20, 40, 50), payouts=tuple(Sats(one) for one in range(5))), Shape(price=(3, 3))
)
SMALL = price_claim(Ranges(starts=(0, 2), payouts=(Sats(0), Sats(1))), Shape(price=(2,)))


def some(*names, size=32):
    return hashlib.shake_256(repr(names).encode()).digest(size)


def subject_of(claim=CLAIM, copies=PUBLIC, terms=b"terms"):
    return Subject(circuit=claim.circuit, copies=copies, terms=Hash32(hashlib.sha256(terms).digest()), cut=BY_HASH)


@pytest.fixture(scope="module")
def garbler():
    return Garbler(subject_of(), some("garbler"))


@pytest.fixture(scope="module")
def first(garbler):
    return garbler.commitments()


def judged(kept, garbler, price, number):
    circuit = garbler.subject.circuit
    values = digits_of(circuit, "price0", price) | digits_of(circuit, RANGE, number)
    secrets = [garbler.label(place, values[digit.name]) for place, digit in enumerate(circuit.digits)]
    return kept.judge(values, secrets)


def test_a_set_up_by_hash_convicts_every_wrong_range_and_no_right_one(garbler, first):
    cut = cut_by_hash(garbler.subject, first)
    parts = []
    held = kept_of(garbler.subject, first, cut, garbler.openings(cut), coins=some("coins"), begins=parts.append)
    assert tuple(parts) == under_test.PARTS
    for price in (0, 9, 10, 33, 63):
        right = int(CLAIM.range_of(np.array([[price]]))[0])
        for number in range(5):
            found = judged(held, garbler, price, number)
            assert found.verdict is (Verdict.RIGHT if number == right else Verdict.CONVICTED)


@pytest.mark.parametrize(("count", "opened"), [(44, 22), (181, 174), (103, 51), (1_024, 1_014)])
def test_copies_that_a_cut_by_hash_could_be_ground_for_are_refused(count, opened):
    """Enough where the verifier draws the cut, and a day or two of work where a hash does (the review, section 6)."""
    with pytest.raises(InvalidInputError, match=r"at least 2\^100 cuts"):
        subject_of(copies=Copies(count=count, opened=opened))
    cut = draw_cut(Copies(count=count, opened=opened), some("cut", size=64)).commitment()
    assert not replace(subject_of(), copies=Copies(count=count, opened=opened), cut=cut).by_hash


@pytest.mark.parametrize(("count", "opened"), [(104, 52), (276, 256), (711, 691), (1_024, 1_010)])
def test_the_bound_of_a_cut_by_hash_is_what_its_cuts_and_collisions_give(count, opened):
    copies = Copies(count=count, opened=opened)
    assert subject_of(copies=copies).by_hash
    least = Fraction(1, 1 << 100)
    assert chance_by_hash(copies, 1) <= least < chance_by_hash(CONSERVATIVE, 1)
    assert chance_by_hash(copies, 1 << 60) <= least * (1 << 61)
    # collisions of the hashes that fix copies are the bound where there are many cuts
    assert chance_by_hash(copies, 1 << 120) >= Fraction(1, 1 << 16)
    assert chance_by_hash(copies, 1 << 130) == 1


def changed(first, what):
    points = [list(row) for row in first.points]
    copies = list(first.copies)
    if what == "the last copy's hash":
        copies[-1] = Hash32(some("other"))
    if what == "two hashes exchanged":
        copies[:2] = copies[1::-1]
    if what == "a label's point":
        points[0][0] = secp256k1.public_key_compressed(some("point"))
    if what == "the fault's point":
        points[0][-1] = secp256k1.public_key_compressed(some("point"))
    if what == "the last node's point":
        points[-1][-2] = secp256k1.public_key_compressed(some("point"))
    return under_test.Commitments(points=tuple(tuple(row) for row in points), copies=tuple(copies))


@pytest.mark.parametrize(
    "what",
    [
        "the last copy's hash", "two hashes exchanged", "a label's point", "the fault's point",
        "the last node's point",
    ],
)  # fmt: skip
def test_the_cut_hangs_on_every_part_of_the_first_message(garbler, first, what):
    cut = cut_by_hash(garbler.subject, first)
    assert cut_by_hash(garbler.subject, changed(first, what)).opened != cut.opened
    assert cut_by_hash(garbler.subject, changed(first, "nothing")) == cut


def test_the_cut_hangs_on_the_circuit_the_terms_and_the_number_of_copies(garbler, first):
    """Of one first message: what it is about is in the hash, not only in the message."""
    twin = price_claim(
        Ranges(starts=(0, 11, 20, 40, 50), payouts=tuple(Sats(one) for one in range(5))), Shape(price=(3, 3))
    )
    assert twin.circuit.labels == CLAIM.circuit.labels
    cuts = [cut_by_hash(garbler.subject, first).opened]
    cuts += [cut_by_hash(subject_of(twin), first).opened, cut_by_hash(subject_of(terms=b"other"), first).opened]
    assert len(set(cuts)) == 3
    with pytest.raises(CheatedError, match="another number"):
        cut_by_hash(subject_of(copies=Copies(count=105, opened=52)), first)


def test_bytes_moved_from_one_part_to_the_next_make_no_second_reading(garbler, first):
    """Without lengths a point could become a hash of a copy under one and the same cut."""
    rows = [list(row) for row in first.points]
    moved = [
        replace(first, points=first.points[:-1]), replace(first, copies=first.copies[:-1]),
        replace(first, points=(first.points[0][:-1], (first.points[0][-1], *first.points[1]), *first.points[2:])),
        replace(first, points=((rows[0][0] + rows[0][1][:1], rows[0][1][1:], *rows[0][2:]), *first.points[1:])),
        replace(first, points=(), copies=()),
    ]  # fmt: skip
    for one in moved:
        with pytest.raises(CheatedError):
            cut_by_hash(garbler.subject, one)


def test_no_other_cut_is_answered_or_taken(garbler, first):
    cut = cut_by_hash(garbler.subject, first)
    second = garbler.openings(cut)
    drawn = draw_cut(PUBLIC, some("drawn", size=64))
    for other in (drawn, replace(cut, nonce=some("nonce")), Cut(opened=drawn.opened, nonce=cut.nonce)):
        with pytest.raises(CheatedError, match="hash of the first message"):
            garbler.openings(other)
        with pytest.raises(CheatedError):
            kept_of(garbler.subject, first, other, second, coins=some("coins"))
    with pytest.raises(CheatedError):
        under_test.check_cut(garbler.subject, cut)  # nobody who has not the first message can say it is the one


def test_a_hash_draws_each_copy_as_often_as_any_other(garbler, first):
    drawn = np.zeros(105)
    for number in range(400):
        one = replace(first, copies=(*first.copies[:-1], Hash32(some(number))))
        drawn[list(cut_by_hash(garbler.subject, one).opened)] += 1
    assert drawn[0] == 0
    assert (abs(drawn[1:] - 200) < 60).all()  # six standard deviations


# ---- grinding


def ground(count, opened, tries):
    """A cheat whose last copies never convict tries until the hash opens all others; return what it sends."""
    subject = subject_of(SMALL, Copies(count=count, opened=opened))
    honest = Garbler(subject, some("cheat"))
    good = tuple(range(1, opened + 1))
    first, rows = honest.commitments(), bytes(under_test.table_size(subject.circuit))
    openings = {copy: honest._opened[copy] for copy in good}
    for attempt in range(1, tries):
        kept = {
            copy: Table(opening=Hash32(some(attempt, copy)), rows=rows) for copy in range(opened + 1, count + 1)
        }  # fmt: skip
        hashes = (*first.copies[:opened], *(copy_hash(one.opening, one.rows) for one in kept.values()))
        said = replace(first, copies=hashes)
        cut = cut_by_hash(subject, said)
        if cut.opened == good:
            return honest, said, cut, Openings(opened=openings, kept=kept)
    raise AssertionError(f"no cut of {tries} opened the good copies alone")


@pytest.mark.parametrize(("count", "opened", "cuts"), [(6, 3, 20), (8, 3, 56), (10, 5, 252)])
def test_small_cuts_by_hash_are_ground_once_the_floor_is_off_and_refused_with_it(monkeypatch, count, opened, cuts):
    """What the floor is for: the set-up passes every check, and no lie of it is convicted. About as often as cuts."""
    monkeypatch.setattr(under_test, "LEAST_BITS", 0)
    with pytest.raises(InvalidInputError, match=r"at least 2\^100"):
        subject_of(SMALL, Copies(count=count, opened=opened))
    with monkeypatch.context() as off:
        off.setattr(under_test, "LEAST_HASHED_BITS", 0)
        # each try succeeds with 1 / cuts: more than so many are needed with e^-12
        cheat, first, cut, second = ground(count, opened, 12 * cuts)
        held = kept_of(cheat.subject, first, cut, second, coins=some("coins"))
        for price in range(4):
            wrong = 1 - int(SMALL.range_of(np.array([[price]]))[0])
            assert judged(held, cheat, price, wrong).verdict is Verdict.CHEATED_AT_SETUP
