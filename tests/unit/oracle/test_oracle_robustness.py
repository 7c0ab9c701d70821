from __future__ import annotations

from pathlib import Path

import pytest

from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.robustness import LARGEST_SIZE, Extent, bound, bounds, table_of_bounds
from btcfi.units import BasisPoints
from tests.support.paths import ROOT
from tests.support.price_attacks import attack

RULE = ConsensusRule()
SIZES = range(1, LARGEST_SIZE + 1)
BEGIN, END = "<!-- bounds:begin: `btcfi prices bounds` prints it -->\n", "\n<!-- bounds:end -->"


@pytest.mark.parametrize("size", SIZES)
def test_fewer_than_half_of_the_dollar_markets_never_move_a_price_outside_the_honest_range(size: int) -> None:
    for one in bounds(RULE, registered=size):
        if 2 * one.liars < one.present:
            assert one.published == 0
            assert one.settled in (0, Extent.NEVER)


@pytest.mark.parametrize("size", SIZES)
def test_with_fewer_than_four_dollar_markets_present_nothing_settles_whoever_lies(size: int) -> None:
    for one in bounds(RULE, registered=size):
        assert (one.settled is Extent.NEVER) is (one.present < 4)


@pytest.mark.parametrize("size", SIZES)
def test_every_cell_of_the_table_is_what_the_order_of_the_quotes_lets_liars_do(size: int) -> None:
    """The honest lowest, the liars above them: which place of the order decides, and whom the cut leaves."""
    quorum = -(-2 * size // 3)
    for one in bounds(RULE, registered=size):
        assert one.present >= quorum
        honest, middle, odd = one.present - one.liars, one.present // 2, one.present % 2
        published = 0 if 2 * one.liars < one.present else 200
        if 2 * one.liars > one.present and one.liars >= quorum:
            published = Extent.UNBOUNDED
        assert one.published == published, one
        settled = published
        if one.present < 4:
            settled = Extent.NEVER
        elif published != 0 and odd and honest >= middle:
            settled = 10
        elif published != 0 and not odd and honest >= middle - 1:
            settled = 10 if honest == middle else 20
        assert one.settled == settled, one


def test_an_earlier_preset_s_settling_was_bounded_by_the_width_of_its_band_alone() -> None:
    asked_nothing = ConsensusRule(least_dollar_markets=0, thin_bps=BasisPoints(0))
    one_of_two = next(b for b in bounds(asked_nothing, registered=3) if (b.present, b.liars) == (2, 1))
    assert (one_of_two.published, one_of_two.settled) == (200, 100)


def test_beside_two_dollar_markets_a_coin_that_lies_along_doubles_what_one_liar_publishes_and_settles_nothing() -> None:
    one = bound(RULE, registered=2, present=2, liars=1, coins=1)
    assert (one.published, one.settled) == (409, Extent.NEVER)


def test_the_document_s_table_is_what_the_command_prints() -> None:
    text = Path(ROOT / "docs" / "oracle.md").read_text()
    assert text.split(BEGIN)[1].split(END)[0] == table_of_bounds(RULE)


def test_a_thousand_random_attacks_move_no_price_beyond_the_table_and_do_reach_it() -> None:
    tallies = attack(seed=1, attacks=112)
    assert [words for tally in tallies.values() for words in tally.beyond] == []
    assert sum(t.moved for t in tallies.values()) > 20
    assert sum(t.settled for t in tallies.values()) > 50
