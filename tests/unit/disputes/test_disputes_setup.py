"""Cut and choose: an honest set-up convicts every wrong claim; each way to cheat is caught, or convicts as well."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from btcfi import secp256k1
from btcfi.disputes.circuit import digits_of
from btcfi.disputes.claims import RANGE, Ranges, Shape, price_claim
from btcfi.disputes.garbled import setup as under_test
from btcfi.disputes.garbled.setup import (
    CONSERVATIVE,
    CheatedError,
    Copies,
    Cut,
    Garbler,
    Opened,
    Subject,
    Table,
    Verdict,
    check_commitments,
    draw_cut,
    kept_of,
)
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32, Sats

CLAIM = price_claim(
    Ranges(starts=(0, 10, 20, 40, 50), payouts=tuple(Sats(one) for one in range(5))), Shape(price=(3, 3))
)


def entropy(*names, size=32):
    return hashlib.shake_256(repr(names).encode()).digest(size)


def subject_of(cut: Cut, *, claim=CLAIM, copies=CONSERVATIVE, terms=b"terms") -> Subject:
    terms = Hash32(hashlib.sha256(terms).digest())
    return Subject(circuit=claim.circuit, copies=copies, terms=terms, cut=cut.commitment())


@pytest.fixture(scope="module")
def cut():
    return draw_cut(CONSERVATIVE, entropy("cut", size=64))


@pytest.fixture(scope="module")
def garbler(cut):
    return Garbler(subject_of(cut), entropy("garbler"))


@pytest.fixture(scope="module")
def messages(garbler, cut):
    return garbler.commitments(), garbler.openings(cut)


def kept(subject, messages, cut):
    return kept_of(subject, messages[0], cut, messages[1], coins=entropy("coins"))


def judged(kept, garbler, price: int, number: int):
    circuit = garbler.subject.circuit
    values = digits_of(circuit, "price0", price) | digits_of(circuit, RANGE, number)
    secrets = [garbler.label(place, values[digit.name]) for place, digit in enumerate(circuit.digits)]
    return kept.judge(values, secrets)


def test_each_wrong_range_at_each_price_is_convicted_and_no_right_one(garbler, messages, cut):
    held = kept(garbler.subject, messages, cut)
    for price in range(0, 64, 3):
        right = int(CLAIM.range_of(np.array([[price]]))[0])
        for number in range(5):
            found = judged(held, garbler, price, number)
            if number == right:
                assert found.verdict is Verdict.RIGHT
                assert found.secret is None
            else:
                assert found.verdict is Verdict.CONVICTED
                assert secp256k1.public_key_compressed(found.secret) == messages[0].fault


def test_a_secret_that_is_not_its_labels_is_refused(garbler, messages, cut):
    held = kept(garbler.subject, messages, cut)
    circuit = garbler.subject.circuit
    values = digits_of(circuit, "price0", 5) | digits_of(circuit, RANGE, 2)
    secrets = [garbler.label(place, values[digit.name]) for place, digit in enumerate(circuit.digits)]
    for bad in (secrets[:-1], [garbler.label(0, 1), *secrets[1:]], [bytes(32), *secrets[1:]], [b"", *secrets[1:]]):
        with pytest.raises(InvalidInputError, match="secret"):
            held.judge(values, bad)


def test_a_garbler_asked_again_says_the_same_bytes(cut, garbler, messages):
    again = Garbler(subject_of(cut), entropy("garbler"))
    assert (again.commitments(), again.openings(cut)) == messages


def test_a_second_cut_is_not_answered(garbler, cut):
    """Two cuts of one set-up tell the fault secret: the commitment makes the second another set-up (H5, H6, U14)."""
    for other in (
        draw_cut(CONSERVATIVE, entropy("other", size=64)),
        replace(cut, nonce=entropy("nonce")),
        replace(cut, opened=(*cut.opened[:-1], cut.opened[-1] - 1)),
        replace(cut, opened=cut.opened[:-1]),
        replace(cut, opened=tuple(reversed(cut.opened))),
        replace(cut, opened=(0, *cut.opened[1:])),
        replace(cut, opened=(*cut.opened[:-1], 45)),
        replace(cut, opened=(cut.opened[0], *cut.opened[:-1])),
    ):
        with pytest.raises(CheatedError, match="cut"):
            garbler.openings(other)


def test_two_set_ups_of_one_seed_share_no_point(cut, messages):
    """Whatever differs, also the verifier's commitment alone or how many are opened: nothing adds up across set-ups."""
    other_cut = draw_cut(CONSERVATIVE, entropy("other", size=64))
    others = [
        subject_of(other_cut),
        subject_of(cut, terms=b"other keys"),
        subject_of(cut, copies=Copies(count=44, opened=21)),
        subject_of(cut, copies=Copies(count=45, opened=22)),
        subject_of(cut, claim=price_claim(Ranges(starts=(0, 9), payouts=(Sats(0), Sats(1))), Shape(price=(3, 3)))),
    ]
    seen = {one for row in messages[0].points for one in row}
    for subject in others:
        points = {one for row in Garbler(subject, entropy("garbler")).commitments().points for one in row}
        assert not points & seen
        seen |= points


def test_a_cut_that_could_be_guessed_is_refused():
    assert CONSERVATIVE.bits > 40.9
    for count, opened in ((44, 10), (30, 15), (44, 0), (44, 44), (2_000, 1_000)):
        with pytest.raises(InvalidInputError, match="copies"):
            Copies(count=count, opened=opened)
    with pytest.raises(InvalidInputError, match="64 bytes"):
        draw_cut(CONSERVATIVE, bytes(32))


def test_draws_are_even():
    """Each copy is opened half of the time: a garbler cannot choose a better one."""
    opened = np.zeros(45)
    for number in range(400):
        opened[list(draw_cut(CONSERVATIVE, entropy(number, size=64)).opened)] += 1
    assert opened[0] == 0
    assert (abs(opened[1:] - 200) < 55).all()  # five and a half standard deviations


# ---- a garbler that cheats: each kind by what it sends in place of what an honest one does


def other(data: bytes) -> bytes:
    return bytes([*data[:-1], data[-1] ^ 1])


def with_point(first, row, place, point):
    rows = [list(one) for one in first.points]
    rows[row][place] = point
    return replace(first, points=tuple(tuple(one) for one in rows))


def sum_of(first, row, *places):
    return secp256k1.point_add([first.points[row][place] for place in places])


def opened_with(messages, copy, change: Callable[[Opened], Opened]):
    first, second = messages
    return first, replace(second, opened={**second.opened, copy: change(second.opened[copy])})


def kept_with(messages, copy, change: Callable[[Table], Table]):
    first, second = messages
    return first, replace(second, kept={**second.kept, copy: change(second.kept[copy])})


def plus_order(share: bytes) -> bytes:
    return (int.from_bytes(share) + secp256k1.ORDER).to_bytes(33)[-32:]


CHEATS = {
    "a label's point of an unknown secret": lambda m, o, k: (with_point(m[0], 0, 3, sum_of(m[0], 0, 3, 4)), m[1]),
    "a fault point that is another's (U6)": lambda m, o, k: (with_point(m[0], 0, -1, sum_of(m[0], 0, 3, 4)), m[1]),
    "a polynomial's middle changed": lambda m, o, k: (with_point(m[0], 11, 2, sum_of(m[0], 11, 3, 4)), m[1]),
    "two labels exchanged": lambda m, o, k: (
        with_point(with_point(m[0], 0, 0, m[0].points[0][1]), 0, 1, m[0].points[0][0]), m[1]),
    "two labels of one point": lambda m, o, k: (with_point(m[0], 0, 0, m[0].points[0][1]), m[1]),
    "two labels of opposite points": lambda m, o, k: (
        with_point(m[0], 0, 0, secp256k1.point_negate(m[0].points[0][1])), m[1]),
    "a label that is the fault": lambda m, o, k: (with_point(m[0], 0, 0, m[0].points[0][-1]), m[1]),
    "no point": lambda m, o, k: (with_point(m[0], 0, 0, bytes(33)), m[1]),
    "a point of 32 bytes": lambda m, o, k: (with_point(m[0], 0, 0, bytes(32)), m[1]),
    "a row of points short": lambda m, o, k: (replace(m[0], points=m[0].points[:-1]), m[1]),
    "a point short": lambda m, o, k: (replace(m[0], points=(m[0].points[0][:-1], *m[0].points[1:])), m[1]),
    "a hash short": lambda m, o, k: (replace(m[0], copies=m[0].copies[:-1]), m[1]),
    "hashes exchanged": lambda m, o, k: (replace(m[0], copies=tuple(reversed(m[0].copies))), m[1]),
    "another seed opened": lambda m, o, k: opened_with(m, o, lambda one: replace(one, seed=other(one.seed))),
    "a seed of 31 bytes": lambda m, o, k: opened_with(m, o, lambda one: replace(one, seed=one.seed[:-1])),
    "another share opened": lambda m, o, k: opened_with(
        m, o, lambda one: replace(one, shares=(other(one.shares[0]), *one.shares[1:]))),
    "another fault share opened": lambda m, o, k: opened_with(
        m, o, lambda one: replace(one, shares=(*one.shares[:-1], other(one.shares[-1])))),
    "shares exchanged": lambda m, o, k: opened_with(
        m, o, lambda one: replace(one, shares=(one.shares[1], one.shares[0], *one.shares[2:]))),
    "a share plus the order (U12)": lambda m, o, k: opened_with(
        m, o, lambda one: replace(one, shares=(plus_order(one.shares[0]), *one.shares[1:]))),
    "a share of 33 bytes": lambda m, o, k: opened_with(
        m, o, lambda one: replace(one, shares=(b"\0" + one.shares[0], *one.shares[1:]))),
    "a share short": lambda m, o, k: opened_with(m, o, lambda one: replace(one, shares=one.shares[:-1])),
    "an opened copy missing": lambda m, o, k: (
        m[0], replace(m[1], opened={at: one for at, one in m[1].opened.items() if at != o})),
    "a kept copy opened": lambda m, o, k: (m[0], replace(m[1], opened={**m[1].opened, k: m[1].opened[o]})),
    "a table's byte": lambda m, o, k: kept_with(m, k, lambda one: replace(one, rows=other(one.rows))),
    "a table one byte short": lambda m, o, k: kept_with(m, k, lambda one: replace(one, rows=one.rows[:-1])),
    "a kept copy's opening": lambda m, o, k: kept_with(m, k, lambda one: replace(one, opening=Hash32(bytes(32)))),
    "tables exchanged": lambda m, o, k: (
        m[0], replace(m[1], kept=dict(zip(m[1].kept, reversed(m[1].kept.values()), strict=True)))),
    "a table missing": lambda m, o, k: (
        m[0], replace(m[1], kept={at: one for at, one in m[1].kept.items() if at != k})),
}  # fmt: skip


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_an_honest_garbler_would_not_send_is_caught(cheat, garbler, messages, cut):
    opened, closed = cut.opened[5], next(one for one in range(1, 45) if one not in cut.opened)
    with pytest.raises(CheatedError):
        kept(garbler.subject, CHEATS[cheat](messages, opened, closed), cut)


@pytest.mark.parametrize(
    "spoilt", ["labels' rows", "gates", "the fault row", "never wrong", "a fault share", "a label's share"]
)
@pytest.mark.parametrize("bad", [1, 21, 22])
def test_copies_garbled_badly_are_seen_when_opened_and_convict_but_all_that_are_kept(cut, spoilt, bad, monkeypatch):
    """Whoever knew the cut: with 21 of the 22 kept copies bad it is convicted, with all of them it has cheated."""
    subject = subject_of(cut)
    closed = [one for one in range(1, 45) if one not in cut.opened]
    victims = set(closed[:bad])
    cheater = spoiling(monkeypatch, subject, victims, spoilt)
    messages = cheater.commitments(), cheater.openings(cut)
    found = judged(kept(subject, messages, cut), cheater, 5, 3)
    assert found.verdict is (Verdict.CHEATED_AT_SETUP if bad == 22 else Verdict.CONVICTED)
    # one of them opened: seen
    known = draw_cut(CONSERVATIVE, entropy("unlucky", size=64))
    subject = subject_of(known)
    cheater = spoiling(monkeypatch, subject, {known.opened[0]}, spoilt)
    with pytest.raises(CheatedError, match=f"copy {known.opened[0]}"):
        kept(subject, (cheater.commitments(), cheater.openings(known)), known)


def spoiling(monkeypatch, subject, victims, spoilt) -> Garbler:
    """Return a garbler of which some copies are made another way, and committed to as they are."""
    honest = under_test.garble

    def garble(circuit, setup, copies, *, seeds, shares, faults):
        shares, faults, wrong = [list(row) for row in shares], list(faults), circuit
        for at, copy in enumerate(copies):
            if copy in victims and spoilt == "a fault share":
                faults[at] = other(faults[at])
            if copy in victims and spoilt == "a label's share":
                shares[at] = [other(one) for one in shares[at]]
        tables = honest(circuit, setup, copies, seeds=seeds, shares=shares, faults=faults)
        if spoilt == "never wrong":
            wrong = replace(circuit, wrong=circuit.wrong ^ 1)
            flipped = honest(wrong, setup, copies, seeds=seeds, shares=shares, faults=faults)
            return [flipped[at] if copy in victims else tables[at] for at, copy in enumerate(copies)]
        rows = 16 * sum(digit.values * digit.width for digit in circuit.digits)
        spans = {"labels' rows": (0, rows), "gates": (rows, -32), "the fault row": (len(tables[0]) - 32, None)}
        if spoilt not in spans:
            return tables
        start, end = spans[spoilt]
        return [
            one[:start] + bytes(len(one[start:end])) + (one[end:] if end else b"") if copy in victims else one
            for one, copy in zip(tables, copies, strict=True)
        ]

    with monkeypatch.context() as patch:
        patch.setattr(under_test, "garble", garble)
        return Garbler(subject, entropy("garbler"))


def test_what_is_checked_first_is_checked_before_the_cut_is_told(garbler, messages):
    check_commitments(garbler.subject, messages[0])
    with pytest.raises(CheatedError):
        check_commitments(garbler.subject, replace(messages[0], copies=()))


def test_a_label_that_a_digit_has_not_is_refused(garbler):
    with pytest.raises(InvalidInputError, match="range"):
        garbler.label(2, 5)
    with pytest.raises(InvalidInputError, match="seed"):
        Garbler(garbler.subject, b"short")
