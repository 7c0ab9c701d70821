"""A set-up without one of its checks: the cheat that the check is for passes, and then a lie cannot be convicted.

With the check it is refused. Then what a garbler and a verifier tried beside that, and what came of it. Source:
findings on garbled disputes, section 5, and their review, sections 1 and 3.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from math import comb

import pytest

from btcfi import secp256k1
from btcfi.disputes.circuit import digits_of
from btcfi.disputes.claims import RANGE, Ranges, Shape, price_claim
from btcfi.disputes.garbled import setup as under_test
from btcfi.disputes.garbled.garbling import evaluate
from btcfi.disputes.garbled.setup import (
    CONSERVATIVE,
    CheatedError,
    Commitments,
    Copies,
    Cut,
    Garbler,
    Kept,
    Opened,
    Openings,
    Subject,
    Verdict,
    draw_cut,
    kept_of,
    label_place,
)
from btcfi.disputes.garbled.shares import coefficients, value_at
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.secp256k1 import ORDER
from btcfi.units import Hash32, Sats

CLAIM = price_claim(
    Ranges(starts=(0, 10, 20, 40, 50), payouts=tuple(Sats(one) for one in range(5))), Shape(price=(3, 3))
)
PRICE, LIE = 5, 3
FAULT = -1
COUNT, DEGREE = CONSERVATIVE.count, CONSERVATIVE.opened


def entropy(*names, size=32):
    return hashlib.shake_256(repr(names).encode()).digest(size)


def subject_of(cut: Cut, *, copies=CONSERVATIVE) -> Subject:
    return Subject(circuit=CLAIM.circuit, copies=copies, terms=Hash32(entropy("terms")), cut=cut.commitment())


@pytest.fixture(scope="module")
def cut():
    return draw_cut(CONSERVATIVE, entropy("cut", size=64))


def closed_of(cut, count=COUNT):
    return [copy for copy in range(1, count + 1) if copy not in cut.opened]


def said(price: int, number: int):
    return digits_of(CLAIM.circuit, "price0", price) | digits_of(CLAIM.circuit, RANGE, number)


LIE_LABEL = label_place(CLAIM.circuit, 2) + LIE
"""Of the range that is claimed falsely below."""


def judged(held: Kept, garbler: Garbler, *, price=PRICE, number=LIE, secrets=None):
    values = said(price, number)
    places = enumerate(CLAIM.circuit.digits)
    own = [garbler.label(place, values[digit.name]) for place, digit in places]
    return held.judge(values, own if secrets is None else secrets(own))


class Bent(Garbler):
    """A garbler of which some values, shares or seeds are not what an honest one's are; tables follow from them."""

    def __init__(self, subject, seed, *, drawn=None, opening=None):
        self.bend_drawn, self.bend_opening = drawn, opening
        super().__init__(subject, seed)

    def _drawn(self, node):
        row = super()._drawn(node)
        return row if self.bend_drawn is None else self.bend_drawn(node, list(row))

    def _opening(self, copy):
        one = super()._opening(copy)
        return one if self.bend_opening is None else self.bend_opening(copy, one)


def shares_of(one: Opened, changed: dict[int, bytes]) -> Opened:
    shares = list(one.shares)
    for at, share in changed.items():
        shares[at] = share
    return replace(one, shares=tuple(shares))


def moved(share: bytes, by: int) -> bytes:
    return ((int.from_bytes(share) + by) % ORDER).to_bytes(32)


# ---- each check switched off


@dataclass
class Cheat:
    """What a garbler sends that cheats, and with which of its labels it claims."""

    garbler: Garbler
    first: Commitments
    second: Openings
    secrets: object = None
    """From its own label secrets to those that it shows, where they are others."""


def of_points(subject, cut, which):
    """U1, U6: a point at 0 of another secret than the polynomial's, which the shares are not shares of."""
    garbler = Garbler(subject, entropy("garbler"))
    other = entropy("another secret")
    first = garbler.commitments()
    row = list(first.points[0])
    row[which] = secp256k1.public_key_compressed(other)
    named = replace(first, points=(tuple(row), *first.points[1:]))
    shown = None if which == FAULT else lambda own: [*own[:-1], other]
    return Cheat(garbler, named, garbler.openings(cut), shown)


def of_every_copy(subject, cut):
    """U13: every copy is garbled from a circuit that never says wrong."""
    honest = Garbler(subject, entropy("garbler"))
    never = replace(subject.circuit, wrong=subject.circuit.wrong ^ 1)
    numbers = range(1, COUNT + 1)
    tables = under_test.garble(
        never, subject.id, numbers, seeds=[honest._opened[copy].seed for copy in numbers],
        shares=[honest._opened[copy].shares[:-1] for copy in numbers],
        faults=[honest._opened[copy].shares[-1] for copy in numbers],
    )  # fmt: skip
    honest._tables = dict(zip(numbers, tables, strict=True))
    return Cheat(honest, honest.commitments(), honest.openings(cut))


def of_tables_after_the_cut(subject, cut):
    """U2, U13: the kept copies are made once it is known which they are."""
    garbler = Garbler(subject, entropy("garbler"))
    second = garbler.openings(cut)
    kept = {copy: replace(one, rows=one.rows[:-32] + entropy(copy)) for copy, one in second.kept.items()}
    return Cheat(garbler, garbler.commitments(), replace(second, kept=kept))


def of_shares_plus_the_order(subject, cut):
    """U12: 23 copies of which one share is written plus the order, 22 of them kept and one opened.

    Only a share below 2^256 - n can be, so the polynomial is drawn through small ones at those copies.
    """
    bad = [*closed_of(cut), cut.opened[0]]
    small = {copy: int.from_bytes(entropy("small", copy)[:16]) >> 1 for copy in bad}
    rows = [(small[copy],) for copy in bad]
    values = [value_at(rows, tuple(bad), node)[0] for node in range(DEGREE + 1)]

    def drawn(node, row):
        row[LIE_LABEL] = values[node]
        return tuple(row)

    def opening(copy, one):
        return shares_of(one, {LIE_LABEL: (small[copy] + ORDER).to_bytes(32)}) if copy in small else one

    garbler = Bent(subject, entropy("garbler"), drawn=drawn, opening=opening)
    return Cheat(garbler, garbler.commitments(), garbler.openings(cut))


def as_it_stands(subject, copy, opened):
    """``_checked_shares`` without its last check."""
    return tuple(int.from_bytes(one) % ORDER for one in opened.shares)


CHECKS = {
    "U1 a label's point of another secret": (
        lambda subject, cut: of_points(subject, cut, LIE_LABEL), "_check_polynomials", lambda *_: None,
    ),
    "U6 a fault point of another secret": (
        lambda subject, cut: of_points(subject, cut, FAULT), "_check_polynomials", lambda *_: None,
    ),
    "U13 every copy garbled otherwise": (of_every_copy, "_check_garbled", lambda *_: None),
    "U2 tables made after the cut": (
        of_tables_after_the_cut, "copy_hash", "of the first message",
    ),
    "U12 a share plus the order": (of_shares_plus_the_order, "_checked_shares", as_it_stands),
}  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_of_a_set_up_stops_the_cheat_that_it_is_for(check, cut, monkeypatch):
    cheating, guard, without = CHECKS[check]
    subject = subject_of(cut)
    cheat = cheating(subject, cut)

    def checked():
        return kept_of(subject, cheat.first, cut, cheat.second, coins=entropy("coins"))

    with pytest.raises(CheatedError):
        checked()
    if without == "of the first message":  # the hash of each copy in turn as it was committed to
        committed = iter([cheat.first.copies[at - 1] for at in (*cut.opened, *closed_of(cut))])
        without = lambda *_: next(committed)  # noqa: E731 - the check switched off
    monkeypatch.setattr(under_test, guard, without)
    assert judged(checked(), cheat.garbler, secrets=cheat.secrets).verdict is Verdict.CHEATED_AT_SETUP


def test_three_verdicts_are_told_apart(cut):
    """A right claim, a convicted lie, and a lie that a set-up of bad copies cannot convict are three things (H9)."""
    subject = subject_of(cut)
    honest = Garbler(subject, entropy("garbler"))
    held = kept_of(subject, honest.commitments(), cut, honest.openings(cut), coins=entropy("coins"))
    right = judged(held, honest, number=0)
    convicted = judged(held, honest)
    assert (right.verdict, right.secret) == (Verdict.RIGHT, None)
    assert convicted.verdict is Verdict.CONVICTED
    assert secp256k1.public_key_compressed(convicted.secret) == held.fault
    spoilt = replace(held, tables={copy: bytes(len(rows)) for copy, rows in held.tables.items()})
    nothing = judged(spoilt, honest)
    assert (nothing.verdict, nothing.secret) == (Verdict.CHEATED_AT_SETUP, None)
    assert judged(spoilt, honest, number=0).verdict is Verdict.RIGHT


# ---- cuts


def fault_of(*openings: Openings) -> bytes:
    """The fault secret as whoever has the opened copies of two cuts computes it."""
    copies = {copy: one for second in openings for copy, one in second.opened.items()}
    nodes = tuple(sorted(copies))[: DEGREE + 1]
    rows = [(int.from_bytes(copies[copy].shares[FAULT]),) for copy in nodes]
    return value_at(rows, nodes, 0)[0].to_bytes(32)


def test_a_second_cut_that_is_answered_tells_the_fault_secret(cut, monkeypatch):
    other = draw_cut(CONSERVATIVE, entropy("other", size=64))
    garbler = Garbler(subject_of(cut), entropy("garbler"))
    with pytest.raises(CheatedError, match="cut"):
        garbler.openings(other)
    monkeypatch.setattr(under_test, "check_cut", lambda *_: None)
    secret = fault_of(garbler.openings(cut), garbler.openings(other))
    assert secp256k1.public_key_compressed(secret) == garbler.commitments().fault


def test_a_garbler_whose_secrets_do_not_hang_on_the_cut_gives_the_fault_away(cut, monkeypatch):
    """It is restarted, or restored from a copy, and asked with another cut for the same contract (H6)."""
    other = draw_cut(CONSERVATIVE, entropy("other", size=64))

    def both():
        garblers = [Garbler(subject_of(one), entropy("garbler")) for one in (cut, other)]
        answers = [one.openings(drawn) for one, drawn in zip(garblers, (cut, other), strict=True)]
        return secp256k1.public_key_compressed(fault_of(*answers)), garblers[0].commitments().fault

    found, fault = both()
    assert found != fault
    monkeypatch.setattr(
        Subject, "id", property(lambda self: tagged_hash("without its cut", self.circuit.id + self.terms))
    )
    found, fault = both()
    assert found == fault


def test_cuts_drawn_anew_for_one_first_message_are_drawn_until_one_suits(monkeypatch):
    """The garbler says one message again and again; of C(6, 3) cuts one keeps just the copies that it spoilt (H5)."""
    monkeypatch.setattr(under_test, "LEAST_BITS", 4)
    small = Copies(count=6, opened=3)
    drawn = [draw_cut(small, entropy("small", at, size=64)) for at in range(400)]
    subject = subject_of(drawn[0], copies=small)
    spoilt = {2, 3, 5}
    garbler = Garbler(subject, entropy("garbler"))
    for copy in spoilt:
        garbler._tables[copy] = bytes(len(garbler._tables[copy]))
    first = garbler.commitments()

    def accepted(cut):
        try:
            return kept_of(subject, first, cut, garbler.openings(cut), coins=entropy("coins"))
        except CheatedError:
            return None

    # on: the first message belongs to one cut, and every other one is another set-up
    assert [accepted(cut) for cut in drawn[1:60] if cut != drawn[0]] == [None] * 59
    monkeypatch.setattr(under_test, "check_cut", lambda *_: None)
    held = [one for one in map(accepted, drawn) if one is not None]
    assert 400 / comb(6, 3) / 3 < len(held) < 3 * 400 / comb(6, 3)
    assert {judged(one, garbler).verdict for one in held} == {Verdict.CHEATED_AT_SETUP}
    assert all(set(one.tables) == spoilt for one in held)


# ---- what a garbler tried beside that


def refused(subject, garbler, cut, first=None, second=None):
    with pytest.raises(CheatedError):
        kept_of(
            subject, first or garbler.commitments(), cut, second or garbler.openings(cut), coins=entropy("coins")
        )  # fmt: skip


def in_three_copies(change):
    """The shares of the first three opened copies changed before they are garbled and committed to."""

    def bent(subject, cut):
        victims = cut.opened[:3]
        return Bent(
            subject, entropy("garbler"), opening=lambda copy, one: change(copy, one) if copy in victims else one
        )  # fmt: skip

    return bent


def beyond(change):
    """The shares of every copy beyond the degree, which no committed value says directly."""
    return lambda subject, cut: Bent(
        subject, entropy("garbler"), opening=lambda copy, one: change(copy, one) if copy > DEGREE else one
    )


def higher(copy):
    """A polynomial of one degree more, that is 0 at every committed place."""
    found = 1
    for node in range(DEGREE + 1):
        found = found * (copy - node) % ORDER
    return found


BENT = {
    "two columns off by as much in opposite ways": in_three_copies(
        lambda copy, one: shares_of(one, {0: moved(one.shares[0], 7), 1: moved(one.shares[1], -7)})
    ),
    "a label of one degree more": beyond(
        lambda copy, one: shares_of(one, {4: moved(one.shares[4], higher(copy))})
    ),
    "the fault of one degree more": beyond(
        lambda copy, one: shares_of(one, {-1: moved(one.shares[-1], 3 * higher(copy))})
    ),
    "copies beyond the degree on other polynomials": beyond(
        lambda copy, one: replace(one, shares=tuple(entropy(copy, at) for at in range(len(one.shares))))
    ),
    "a share of nought": in_three_copies(lambda copy, one: shares_of(one, {2: bytes(32)})),
    "a share that is the order": in_three_copies(lambda copy, one: shares_of(one, {2: ORDER.to_bytes(32)})),
    "every share the negative": in_three_copies(
        lambda copy, one: replace(one, shares=tuple(secp256k1.scalar_negate(share) for share in one.shares))
    ),
    "two labels' shares exchanged": in_three_copies(
        lambda copy, one: shares_of(one, {0: one.shares[1], 1: one.shares[0]})
    ),
    "the fault's share and a label's exchanged": in_three_copies(
        lambda copy, one: shares_of(one, {0: one.shares[-1], -1: one.shares[0]})
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BENT)
def test_what_a_garbler_commits_to_and_no_polynomial_is_is_refused(kind, cut):
    subject = subject_of(cut)
    refused(subject, BENT[kind](subject, cut), cut)


MESSAGES = {
    "every point the negative": lambda first, second: (
        replace(first, points=tuple(tuple(map(secp256k1.point_negate, row)) for row in first.points)), second),
    "rows of points exchanged": lambda first, second: (
        replace(first, points=(first.points[1], first.points[0], *first.points[2:])), second),
    "two openings exchanged": lambda first, second: (
        first, replace(second, opened=dict(zip(second.opened, reversed(second.opened.values()), strict=True)))),
    "a point of 65 bytes": lambda first, second: (
        replace(first, points=((b"\4" + bytes(64), *first.points[0][1:]), *first.points[1:])), second),
    "a hybrid point": lambda first, second: (
        replace(first, points=((b"\6" + first.points[0][0][1:], *first.points[0][1:]), *first.points[1:])), second),
    "the point of infinity": lambda first, second: (
        replace(first, points=((bytes(33), *first.points[0][1:]), *first.points[1:])), second),
    "a table longer, its opening shorter": lambda first, second: (
        first, replace(second, kept={
            copy: replace(one, rows=one.rows + b"\0", opening=Hash32(one.opening[:-1]))
            for copy, one in second.kept.items()
        })),
    "openings of another seed's": lambda first, second: (
        first, replace(second, opened={copy: replace(one, seed=entropy(copy)) for copy, one in second.opened.items()})),
}  # fmt: skip


@pytest.mark.parametrize("kind", MESSAGES)
def test_what_a_garbler_says_otherwise_than_it_made_it_is_refused(kind, cut):
    subject = subject_of(cut)
    garbler = Garbler(subject, entropy("garbler"))
    first, second = MESSAGES[kind](garbler.commitments(), garbler.openings(cut))
    refused(subject, garbler, cut, first, second)


def test_seven_bad_copies_of_seven_kinds_are_seen_by_whichever_cut_opens_one():
    """The garbler commits to them before it knows the cut; a cut that leaves them all convicts by the other fifteen."""
    kinds = [
        lambda one: shares_of(one, {0: moved(one.shares[0], 1)}), lambda one: shares_of(one, {-1: entropy("f")}),
        lambda one: shares_of(one, {3: bytes(32)}), lambda one: shares_of(one, {1: one.shares[0]}),
        lambda one: shares_of(one, {5: moved(one.shares[5], 2**128)}), lambda one: shares_of(one, {-1: one.shares[0]}),
        lambda one: replace(one, shares=tuple(reversed(one.shares))),
    ]  # fmt: skip
    bad = dict(zip(range(1, 45, 6), kinds, strict=False))
    seen = set()
    for number in range(6):
        cut = draw_cut(CONSERVATIVE, entropy("unknown", number, size=64))
        subject = subject_of(cut)
        garbler = Bent(
            subject, entropy("garbler"), opening=lambda copy, one: bad[copy](one) if copy in bad else one
        )  # fmt: skip
        if opened := set(bad) & set(cut.opened):
            refused(subject, garbler, cut)
            seen |= opened
            continue
        held = kept_of(subject, garbler.commitments(), cut, garbler.openings(cut), coins=entropy("coins"))
        assert judged(held, garbler).verdict is Verdict.CONVICTED
    assert seen == set(bad)


def test_polynomials_that_are_constant_harm_their_maker_alone(cut):
    """Every opened share of the fault is the fault secret: the verifier has it from the set-up on, and convicts."""
    rows: dict[str, tuple[int, ...]] = {}

    def drawn(node, row):
        return rows.setdefault("one", tuple(row))

    subject = subject_of(cut)
    garbler = Bent(subject, entropy("garbler"), drawn=drawn)
    second = garbler.openings(cut)
    held = kept_of(subject, garbler.commitments(), cut, second, coins=entropy("coins"))
    assert judged(held, garbler).verdict is Verdict.CONVICTED
    share = second.opened[cut.opened[0]].shares[FAULT]
    assert secp256k1.public_key_compressed(share) == held.fault


def test_six_of_seven_ways_to_spoil_a_kept_copy_leave_one_that_convicts(cut):
    """All kept copies but one, each spoilt in another place: the one that is left is enough."""
    subject = subject_of(cut)
    garbler = Garbler(subject, entropy("garbler"))
    dice = random.Random(7)
    for copy in closed_of(cut)[:-1]:
        rows = garbler._tables[copy]
        at = dice.randrange(0, len(rows) - 32, 16)
        garbler._tables[copy] = rows[:at] + dice.randbytes(len(rows) - at)
    held = kept_of(subject, garbler.commitments(), cut, garbler.openings(cut), coins=entropy("coins"))
    assert judged(held, garbler).verdict is Verdict.CONVICTED


# ---- what a verifier tried


def test_no_other_claim_is_evaluated_with_what_a_right_one_told(cut):
    """Each digit's each other value, with the secrets of a right claim: no copy gives a share of the fault."""
    subject = subject_of(cut)
    garbler = Garbler(subject, entropy("garbler"))
    held = kept_of(subject, garbler.commitments(), cut, garbler.openings(cut), coins=entropy("coins"))
    values, circuit = said(PRICE, 0), CLAIM.circuit
    secrets = [garbler.label(place, values[digit.name]) for place, digit in enumerate(circuit.digits)]
    tried = 0
    for digit in circuit.digits:
        for value in range(digit.values):
            claimed = values | {digit.name: value}
            if value == values[digit.name] or not circuit.is_wrong(claimed):
                continue
            shares = []
            for copy, zero in held.at_zero.items():
                numbers = [
                    (zero * int.from_bytes(one) + held.sums[copy][label_place(circuit, place) + claimed[digit.name]])
                    % ORDER
                    for place, (one, digit) in enumerate(zip(secrets, circuit.digits, strict=True))
                ]
                shares.append([one.to_bytes(32) for one in numbers])
            found = evaluate(
                circuit, subject.id, list(held.at_zero), tables=[held.tables[copy] for copy in held.at_zero],
                shares=shares, values=claimed,
            )  # fmt: skip
            assert found.wrong
            for copy, share in zip(held.at_zero, found.faults, strict=True):
                number = (int.from_bytes(share) - held.sums[copy][-1]) * pow(held.at_zero[copy], -1, ORDER) % ORDER
                assert secp256k1.public_key_compressed((number or 1).to_bytes(32)) != held.fault
                tried += 1
            with pytest.raises(InvalidInputError, match="secret"):
                held.judge(claimed, secrets)
    assert tried > 8 * len(held.at_zero)


def test_as_many_shares_as_are_opened_tell_neither_the_fault_nor_a_label(cut):
    """Every value at 0 fits them: one share is missing, whichever is guessed."""
    garbler = Garbler(subject_of(cut), entropy("garbler"))
    opened, fault = garbler.openings(cut).opened, garbler.commitments().fault
    nodes = tuple(opened)
    rows = [tuple(int.from_bytes(share) for share in opened[copy].shares) for copy in nodes]
    assert secp256k1.public_key_compressed(value_at(rows, nodes, 0)[FAULT].to_bytes(32)) != fault
    missing = closed_of(cut)[0]
    weight = coefficients((*nodes, missing), 0)[-1]
    assert weight  # so each guess of the missing share is another value at 0


@pytest.mark.parametrize(
    "opened",
    [
        (), (0,) * 22, tuple(range(1, 22)), tuple(range(1, 24)), tuple(range(22)), tuple(range(24, 46)),
        tuple(range(22, 0, -1)), (1, 1, *range(2, 22)), (-1, *range(1, 22)), (*range(1, 22), 65_535),
    ],
)  # fmt: skip
def test_no_cut_but_a_proper_one_is_answered_though_it_was_committed_to(opened):
    """The verifier commits to whatever it likes: what is not a cut is refused when it is told, whoever asks."""
    nonce = entropy("nonce")
    hidden = tagged_hash("BTCFi/dispute/cut/v1", nonce + b"".join(max(one, 0).to_bytes(2, "little") for one in opened))
    subject = Subject(circuit=CLAIM.circuit, copies=CONSERVATIVE, terms=Hash32(entropy("terms")), cut=hidden)
    with pytest.raises(CheatedError, match="cut"):
        Garbler(subject, entropy("garbler")).openings(Cut(opened=opened, nonce=nonce))
