"""What the next blocks would hold: the pool by fee rate, families together."""

from btcfi.bitcoin.next_blocks import InPool, family_rate, next_blocks, rate_within


def pool(*rates, vsize=100):
    return [InPool(vsize=vsize, rate=rate) for rate in rates]


def test_the_highest_rates_fill_the_first_block_and_the_last_is_not_full():
    first, second = next_blocks(pool(1, 9, 5, 7, 3), space=300)
    assert (first.number, first.transactions, first.vsize, first.full) == (1, 3, 300, True)
    assert (first.highest, first.middle, first.lowest) == (9, 7, 5)
    assert (second.number, second.transactions, second.full) == (2, 2, False)


def test_no_more_blocks_are_made_than_are_asked_for_and_none_of_nothing():
    assert [one.full for one in next_blocks(pool(*range(50)), many=3, space=200)] == [True, True, True]
    assert next_blocks([]) == ()


def test_the_rate_to_be_among_the_next_blocks_is_above_the_lowest_of_a_full_one_and_any_rate_where_there_is_room():
    blocks = next_blocks(pool(9_000, 7_000, 5_000, 3_000, 2_000), space=200)
    assert [rate_within(blocks, target) for target in (1, 2, 3, 4)] == [7_001, 3_001, None, None]


def test_a_child_that_pays_for_its_parent_lifts_both_to_what_they_pay_together():
    both = (2_100, 400)
    parent = family_rate(own=(0, 200), ancestors=(0, 200), descendants=both)
    child = family_rate(own=(2_100, 200), ancestors=both, descendants=(2_100, 200))
    assert (parent, child) == (5_250, 5_250)


def test_a_rich_parent_lifts_no_poor_child():
    both = (2_100, 400)
    parent = family_rate(own=(2_000, 200), ancestors=(2_000, 200), descendants=both)
    child = family_rate(own=(100, 200), ancestors=both, descendants=(100, 200))
    assert (parent, child) == (10_000, 500)
