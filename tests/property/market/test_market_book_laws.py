"""Laws of a book: an order never gets more than there is, worse than its limit, or past somebody who was first."""

from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btcfi.market.book import Standing, best, depth, ordered, walk
from btcfi.market.firm_offer import Side
from tests.support.market import key

MAKERS = [key(n) for n in (1, 2, 3)]


ROWS = st.tuples(
    st.sampled_from(MAKERS), st.sampled_from(Side), st.integers(100, 104), st.integers(0, 40), st.integers(1, 20),
    st.integers(0, 6),
)  # fmt: skip


def standing(place, row):
    maker, side, ticks, remaining, minimum, rank = row
    return Standing(
        id=place.to_bytes(32, "big"), maker=maker, side=side, price=ticks * 1_000, price_cents=ticks * 60 + place,
        remaining=remaining, minimum=minimum, rank=rank,
    )  # fmt: skip


def books():
    return st.lists(ROWS, max_size=10).map(lambda rows: [standing(place, row) for place, row in enumerate(rows)])


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine changes no law."""

SIDES = st.sampled_from(Side)
QUANTITIES = st.integers(1, 200)
LIMITS = st.integers(99, 105).map(lambda n: n * 1_000)


def is_better_or_same(side, price, than):
    return price <= than if side is Side.ASK else price >= than


@unhurried
@given(books(), SIDES, QUANTITIES, LIMITS, st.sampled_from([None, *MAKERS]))
def test_an_order_gets_what_stands_within_its_limit_and_no_more(book, side, quantity, limit, me):
    walked = walk(book, side, quantity, limit, but=me)
    by_id = {one.id: one for one in book}
    assert walked.quantity + walked.left == quantity
    assert len({part.offer_id for part in walked.parts}) == len(walked.parts)
    for part in walked.parts:
        one = by_id[part.offer_id]
        assert one.side is side
        assert one.maker != me
        assert is_better_or_same(side, part.price, limit)
        assert (part.price, part.price_cents) == (one.price, one.price_cents)
        assert one.minimum <= part.quantity <= one.remaining
        assert part.premium * 100 == part.price * part.quantity
        assert part.premium >= 1_000


@unhurried
@given(books(), SIDES, QUANTITIES, LIMITS, st.sampled_from([None, *MAKERS]))
def test_nobody_who_was_first_is_passed_over_but_for_a_minimum(book, side, quantity, limit, me):
    walked = walk(book, side, quantity, limit, but=me)
    got = {part.offer_id: part.quantity for part in walked.parts}
    left = quantity
    for one in ordered(book, side):
        if one.maker == me or not is_better_or_same(side, one.price, limit):
            assert one.id not in got
            continue
        fits = min(left, one.remaining)
        # each in turn gets all that fits; nothing only where that is below its minimum
        assert got.get(one.id, 0) == (fits if left and fits >= one.least else 0)
        left -= got.get(one.id, 0)


@unhurried
@given(books(), SIDES)
def test_one_side_is_in_order_of_price_then_rank(book, side):
    found = ordered(book, side)
    for one, other in pairwise(found):
        assert is_better_or_same(side, one.price, other.price)
        assert one.price != other.price or one.rank <= other.rank
    assert {one.id for one in found} == {one.id for one in book if one.side is side and one.remaining >= one.least}


@unhurried
@given(books(), SIDES)
def test_depth_holds_all_that_can_be_taken_best_first(book, side):
    levels = depth(book, side)
    assert sum(level.quantity for level in levels) == sum(one.remaining for one in ordered(book, side))
    assert sum(level.offers for level in levels) == len(ordered(book, side))
    prices = [level.price for level in levels]
    assert len(set(prices)) == len(prices)
    assert prices == sorted(prices, reverse=side is Side.BID)
    assert best(book, side) == (levels[0] if levels else None)


@unhurried
@given(books(), SIDES, QUANTITIES, LIMITS, st.randoms())
def test_the_order_of_the_rows_changes_nothing(book, side, quantity, limit, random):
    mixed = list(book)
    random.shuffle(mixed)
    assert walk(mixed, side, quantity, limit) == walk(book, side, quantity, limit)
    assert depth(mixed, side) == depth(book, side)
