"""Laws of net books: three roads to one number, the guest among them, and what a contract of a book pays in all."""

import os
import random
import struct
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.option import split
from btcfi.options.expiry import GuestError
from btcfi.payoffs import vector
from btcfi.payoffs.book import KINDS, LEG_BYTES, book_net, contract_of
from btcfi.payoffs.book_guest import BookOutput, book_input, by_guest, outputs_by, settle_in_python
from btcfi.payoffs.curve import LegKind
from btcfi.units import BasisPoints, Sats
from btcfi.vm.interpreter import run_many
from tests.support.books import summed
from tests.support.contracts import event
from tests.support.net_books import PROGRAM, event_of, market_book, random_book
from tests.support.shown import show

SEED = int(os.environ.get("BTCFI_TEST_SEED", "18"))
CENTS = vector.prices_of(event())
"""What an event can state: 262,144 prices."""
STANDARD = ToleranceRule(tolerance=BasisPoints(200))
COSTS = Sats(540)
HELD: Counter = Counter()
"""How much was held against the formula, the twin, the guest; a night prints it."""
UNITS = {
    "books": "books", "whole_books": "books", "guest_books": "books", "prices": "prices", "twin_runs": "runs",
    "guest_runs": "runs", "paid_prices": "prices", "ranges": "ranges", "covered": "outcomes", "divided": "ranges",
}  # fmt: skip


@pytest.fixture
def held():
    """What one test holds, printed at its end."""
    HELD.clear()
    yield HELD
    show(HELD, UNITS)


def formula(book, cents, *, touched):
    """What the holder gains at prices in cents, leg by leg, without pieces: the third road."""
    floor = int(book.floor or 1)
    rest = summed(book.legs, floor, cents)
    if touched or book.barrier is None:
        return rest
    beyond = cents >= book.barrier if book.is_up else cents <= book.barrier
    return np.where(beyond, rest, summed((*book.legs, *book.knock_outs), floor, cents))


def halves(contract):
    """Each value of the condition, and the half of the contract that it settles."""
    both = [(False, contract.untouched), (True, contract.touched)]
    return [(touched, half) for touched, half in both if half is not None]


def corners(half):
    """Every turning point, a cent and a dollar beside it, and the ends."""
    around = {turn + extra for turn in half.turns for extra in (-100, -1, 0, 1, 100)} | {1, int(CENTS[-1])}
    return np.array(sorted(at for at in around if 1 <= at <= int(CENTS[-1])), dtype=np.int64)


def hold(book, draw, *, prices=None):
    """Hold a book's worst cases and both roads against the formula. prices: so many of what can be stated, or all."""
    contract = contract_of(book, event_of(book))
    least, most = 0, 0
    for touched, half in halves(contract):
        where = CENTS if prices is None else CENTS[sorted(draw.sample(range(len(CENTS)), prices))]
        found = book_net(book, where, touched=touched)
        assert (found == formula(book, where, touched=touched)).all()
        at = corners(half)
        assert (book_net(book, at, touched=touched) == formula(book, at, touched=touched)).all()
        # the worst case is of what can be stated: whole dollars
        ends = np.unique(np.maximum(1, at // 100 * 100))
        said = np.concatenate([found, book_net(book, ends, touched=touched)])
        least, most = min(least, int(said.min())), max(most, int(said.max()))
        HELD["prices"] += len(where) + len(at)
    assert (contract.holder, contract.writer) == (-least, most)
    return contract


def twins(book, contract, cents, *, touched):
    """Hold the twin in whole numbers against numpy at prices in cents; returns its inputs and its outputs."""
    given = [
        book_input(book, int(at), touched=touched, own=contract.holder, collateral=Sats(max(1, contract.collateral)))
        for at in cents
    ]
    outputs = [settle_in_python(one) for one in given]
    HELD["twin_runs"] += len(outputs)
    assert [one.net for one in outputs] == book_net(book, cents, touched=touched).tolist()
    for one in outputs:
        assert one.payout == min(max(contract.holder + one.net, 0), max(1, contract.collateral))
    return given, outputs


def run(book, contract, cents, *, touched):
    """Hold the guest against its twin, byte for byte."""
    given, outputs = twins(book, contract, cents, touched=touched)
    assert run_many(PROGRAM, given) == [one.to_bytes() for one in outputs]
    HELD["guest_runs"] += len(given)


def ranges(contract, premium):
    """The ranges of a contract: each outcome in one, none pays more than there is, each divides to the satoshi."""
    buckets = contract.buckets(STANDARD, premium=Sats(premium))
    digits = contract.event.signed_digits
    follows = 0
    for one in buckets:
        assert one.prefix << (digits - one.length) == follows
        follows += 1 << (digits - one.length)
        if contract.collateral >= COSTS + 330:
            buyer, seller = split(contract.collateral, one.payout, COSTS, nearest=True)
            assert buyer + seller + COSTS == contract.collateral
            assert all(part == 0 or part >= 330 for part in (buyer, seller))
            HELD["divided"] += 1
    assert follows == 1 << digits
    HELD["ranges"] += len(buckets)
    HELD["covered"] += follows
    return buckets


def paid_by_ranges(book, contract, buckets):
    """Hold what every range pays against the formula at every price in it: half of its least and its most."""
    digits = contract.event.digits
    for touched, _ in halves(contract):
        own = buckets
        if contract.touched is not None:
            own = [one for one in buckets if one.prefix >> (one.length - 1) == touched]
            own = [replace(one, prefix=one.prefix ^ touched << (one.length - 1), length=one.length - 1) for one in own]
        starts = np.array([one.prefix << (digits - one.length) for one in own], dtype=np.int64)
        exact = contract.holder + formula(book, CENTS, touched=touched)
        least, most = np.minimum.reduceat(exact, starts), np.maximum.reduceat(exact, starts)
        paid = np.array([one.payout for one in own], dtype=np.int64)
        assert (paid == (least + most) // 2).all()
        # and who is owed nothing, or all, or what it put in, is paid that to the satoshi
        for edge in (0, contract.collateral, contract.holder):
            assert ((least == most) | (least > edge) | (most < edge)).all()
        HELD["paid_prices"] += len(exact)


def ends_of(buckets, digits):
    """The prices in cents at both ends of every range of one half."""
    shift = [digits - one.length for one in buckets]
    first = np.array([one.prefix << by for one, by in zip(buckets, shift, strict=True)], dtype=np.int64)
    last = first + np.array([(1 << by) - 1 for by in shift], dtype=np.int64)
    return np.unique(np.maximum(1, 100 * np.concatenate([first, last])))


def every_end_and_turn(book, draw):
    """Hold the guest at every end of every range, at every turn and beside it, and at random prices."""
    contract = contract_of(book, event_of(book))
    for touched, half in halves(contract):
        at = [corners(half), np.array(draw.sample(range(1, 26_214_300), 50))]
        if half.collateral and len(set(half.payouts([int(x) for x in corners(half)]))) > 1:
            found = half.buckets(STANDARD, premium=Sats(1_000_000))
            at.append(ends_of(found, 18))
        run(book, contract, np.unique(np.concatenate(at)), touched=touched)


def test_the_worst_cases_and_both_roads_of_200_books_are_those_of_the_formula():
    draw = random.Random(SEED)
    for number in range(200):
        book = random_book(draw)
        hold(book, draw, prices=300)
        if number % 4 == 0:
            contract = contract_of(book, event_of(book))
            for touched, half in halves(contract):
                twins(book, contract, corners(half), touched=touched)


def test_the_worst_cases_of_books_are_those_of_all_262_144_prices():
    draw = random.Random(SEED)
    for _ in range(4):
        hold(random_book(draw), draw)


def test_the_guest_is_its_twin_at_every_end_and_every_turn_of_10_books():
    draw = random.Random(SEED)
    for barrier in (False, True) * 5:
        every_end_and_turn(random_book(draw, most=24, barrier=barrier), draw)


def test_each_outcome_lies_in_one_range_and_each_range_divides_the_collateral_to_the_satoshi():
    draw = random.Random(SEED)
    for barrier in (False, True) * 5:
        contract = contract_of(book := random_book(draw, most=8, barrier=barrier), event_of(book))
        buckets = ranges(contract, 1_000_000)
        paid_by_ranges(book, contract, buckets)
        for outcome in draw.sample(range(1 << contract.event.signed_digits), 5):
            (held,) = [one for one in buckets if outcome >> (contract.event.signed_digits - one.length) == one.prefix]
            assert contract.payout_at(outcome, STANDARD, premium=Sats(1_000_000)) == held.payout


def test_the_ranges_that_the_guest_makes_by_its_ends_and_turns_are_those_of_the_curve():
    draw = random.Random(SEED)
    for barrier in (False, True):
        book = random_book(draw, most=10, barrier=barrier)
        contract = contract_of(book, event_of(book))
        guest = by_guest(contract, outputs_by(PROGRAM, contract.event))
        premium = Sats(2_000_000)
        assert guest.buckets(STANDARD, premium=premium) == contract.buckets(STANDARD, premium=premium)


def test_a_book_and_its_opposite_lock_the_same_from_the_other_side_but_for_a_rounded_satoshi():
    draw = random.Random(SEED)
    for _ in range(20):
        book = random_book(draw)
        sold = replace(
            book, legs=tuple(replace(leg, quantity=-leg.quantity) for leg in book.legs),
            knock_outs=tuple(replace(leg, quantity=-leg.quantity) for leg in book.knock_outs),
        )  # fmt: skip
        one, other = (contract_of(each, event_of(each)) for each in (book, sold))
        assert abs(one.holder - other.writer) <= 1
        assert abs(one.writer - other.holder) <= 1


def alone(book):
    """What the legs of a book lock one by one, each at the book's floor."""
    one_by_one = [replace(book, legs=(leg,)) for leg in book.legs]
    return sum(contract_of(one, event_of(one)).collateral for one in one_by_one)


def test_a_book_never_locks_more_than_its_legs_one_by_one():
    draw = random.Random(SEED)
    for _ in range(10):
        book = random_book(draw, barrier=False)
        # a satoshi a leg: each rounds by itself, the book once
        assert contract_of(book, event_of(book)).collateral <= alone(book) + book.count


@pytest.mark.parametrize("number", [0, 1, 2])
def test_three_books_of_64_legs_lock_less_than_30_per_cent_of_them_one_by_one(number):
    book = market_book(number)
    assert book.count == 64
    assert 100 * contract_of(book, event_of(book)).collateral <= 30 * alone(book)


WORDS = (0, 1, 2, 99, 100, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


def any_leg(draw, barrier):
    """Five words that a leg may have, and sometimes may not."""
    kind = draw.randrange(len(KINDS))
    cash = draw.choice((1, draw.getrandbits(32) or 1)) if KINDS[kind].is_digital else 0
    size = draw.choice((1, 100, draw.randrange(1, 2_100_000_001), 2_100_000_000))
    words = [kind, draw.choice((1, draw.getrandbits(32) or 1, 10_000_000)), cash, draw.choice((1, -1)) * size, 0]
    words[4] = int(barrier not in {0, words[1]} and draw.random() < 0.3)
    if draw.random() < 0.04:
        words[draw.choice((0, 1, 2, 4))] = draw.choice(WORDS)
    if draw.random() < 0.01:
        words[3] = draw.choice((0, -(2**31), 2_100_000_001, -2_100_000_001))
    return LEG_BYTES.pack(*words)


def any_input(draw, most):
    """Words for the guest: most of them a book's, of any size that words can say."""
    count = draw.randint(1, most)
    spot = draw.choice((1, 10_000_000, draw.getrandbits(32) or 1, 2**32 - 1))
    low, high = draw.choice((spot, draw.randrange(spot + 1))), draw.choice((spot, draw.randrange(spot, 2**32)))
    barrier = draw.choice((0, draw.getrandbits(32)))
    collateral = draw.randrange(1, 2_100_000_000_000_001) >> draw.randrange(30) or 1
    words = [
        1, count, spot, draw.choice((0, draw.getrandbits(32))), barrier, low, high,
        draw.randrange(collateral + 1), collateral,
    ]  # fmt: skip
    if draw.random() < 0.25:
        place = draw.randrange(9)
        words[place] = draw.choice(WORDS) if place < 7 else draw.getrandbits(64)
    legs = b"".join(any_leg(draw, barrier) for _ in range(count))
    return (struct.pack("<7I2Q", *words) + legs).ljust(44 + 20 * most, b"\0")


@pytest.mark.parametrize(("most", "inputs"), [(1, 4_000), (3, 4_000), (64, 500)])
def test_the_guest_is_its_twin_on_any_words_at_all(most, inputs):
    draw = random.Random(SEED + most)
    given = [any_input(draw, most) for _ in range(inputs)]
    seen = set()
    for one, output in zip(given, run_many(PROGRAM, given), strict=True):
        expected = settle_in_python(one)
        assert output == expected.to_bytes(), one.hex()
        seen |= {expected.error, expected.barrier_hit, expected.net > 0, expected.value < 0}
    assert BookOutput.from_bytes(output)
    if most < 64:
        assert seen >= {
            GuestError.NONE, GuestError.ABI_VERSION, GuestError.OPTION_TYPE, GuestError.STRIKE, GuestError.SPOT,
            GuestError.QUANTITY, GuestError.BARRIER, GuestError.OBSERVED_RANGE, GuestError.COLLATERAL, True,
        }  # fmt: skip


def test_sums_that_carry_over_words_and_those_of_more_than_all_bitcoin_are_exact_or_refused():
    draw, seen = random.Random(SEED), set()
    for _ in range(400):
        rows = []
        for _ in range(draw.randint(2, 64)):
            strike, size = draw.randrange(1, 1 << draw.randrange(1, 33)), draw.randrange(1, 2_100_000_001)
            kind = draw.choice((KINDS.index(LegKind.FORWARD), KINDS.index(LegKind.CALL), KINDS.index(LegKind.PUT)))
            rows += [(kind, strike, 0, size, 0), (kind, strike, 0, -size + draw.choice((0, 1, -1)) or 1, 0)]
        rows = [row for row in rows if 1 <= abs(row[3]) <= 2_100_000_000][:64]
        spot = draw.randrange(1, 1 << draw.randrange(1, 33))
        head = struct.pack("<7I2Q", 1, len(rows), spot, 0, 0, spot, spot, 10**14, 2 * 10**14)
        given = (head + b"".join(LEG_BYTES.pack(*row) for row in rows)).ljust(44 + 20 * 64, b"\0")
        expected = settle_in_python(given)
        assert run_many(PROGRAM, [given]) == [expected.to_bytes()]
        seen.add(expected.error)
    assert seen == {GuestError.NONE, GuestError.QUANTITY}


@pytest.mark.slow
def test_10_000_books_by_the_twin_at_every_end_and_turn_and_1_000_prices(held):
    draw = random.Random(SEED)
    for number in range(10_000):
        book = random_book(draw)
        contract = hold(book, draw, prices=1_000)
        for touched, half in halves(contract):
            at = corners(half) if number % 10 == 0 else corners(half)[:: max(1, len(corners(half)) // 40)]
            twins(book, contract, at, touched=touched)
        held["books"] += 1


@pytest.mark.slow
def test_100_books_over_all_262_144_prices_and_by_their_ranges(held):
    draw = random.Random(SEED)
    for _ in range(100):
        contract = hold(book := random_book(draw), draw)
        if contract.collateral > COSTS + 330:
            paid_by_ranges(book, contract, ranges(contract, 10_000_000))
        held["whole_books"] += 1


@pytest.mark.slow
def test_the_guest_at_every_end_and_turn_of_300_books(held):
    draw = random.Random(SEED)
    for _ in range(300):
        every_end_and_turn(random_book(draw), draw)
        held["guest_books"] += 1
