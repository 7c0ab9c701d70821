"""An oracle that lies, through the ledger: with rational losers it takes home what the analysis says."""

import numpy as np
import pytest

from btcfi.errors import InvalidInputError
from btcfi.swaps.contract import LOT, burn_fee
from btcfi.swaps.study.cheat import Scam, Stopping
from btcfi.swaps.study.lying import Lie, play

BOOKS = 4_000


@pytest.fixture(scope="module")
def burned():
    """All victims rational: each burns what the lie would take."""
    lie = Lie(stop=0.0, victims=1, rational=1)
    return lie, play(lie, books=BOOKS, generator=np.random.default_rng(7))


def test_what_is_paid_out_to_it_is_its_true_profit_before_the_lie(burned):
    lie, taken = burned
    # the rest is what a satoshi a victim and week, and a millionth of a price, leave open
    assert taken.in_deviations(lie) == pytest.approx(np.array(taken.true_sums), abs=1e-4)


def test_it_takes_home_what_the_appendix_says(burned):
    lie, taken = burned
    profits, expected = taken.in_deviations(lie), Stopping(lie.stop)
    # printed as 0.8: half a digit of it is two and a half standard errors of so many books
    assert profits.mean() == pytest.approx(0.8, abs=0.05)
    assert profits.mean() == pytest.approx(expected.mean, abs=3 * expected.deviation / BOOKS**0.5)
    assert profits.std(ddof=1) == pytest.approx(expected.deviation, rel=0.06)
    assert np.mean(taken.weeks) == pytest.approx(expected.weeks, rel=0.06)


def test_every_satoshi_of_a_burned_lie_is_gone(burned):
    lie, taken = burned
    assert taken.burned_sats == taken.ledger.burned == BOOKS * lie.victims * (LOT + burn_fee(LOT))
    ledger = taken.ledger
    assert ledger.held + ledger.burned + ledger.paid_out == ledger.paid_in
    assert ledger.balances == {}, "nobody defaulted and nobody paid a fee"


def test_three_of_four_that_burn_leave_it_a_quarter_of_the_margins():
    lie = Lie(stop=0.0, rational=3)
    taken = play(lie, books=60, generator=np.random.default_rng(8))
    stolen = np.array(taken.profits_sats) / lie.required - np.array(taken.true_sums) * float(lie.deviation)
    scam = Scam(side_share=1.0)
    assert stolen == pytest.approx(np.full(60, scam.last_week), abs=1e-4)


def test_more_victims_than_a_book_has_and_no_books_are_refused():
    for lie in ({"rational": 5}, {"victims": 0, "rational": 0}, {"victims": 31}):
        with pytest.raises(InvalidInputError):
            Lie(**lie)
    for books in (0, 5_001):
        with pytest.raises(InvalidInputError, match="books"):
            play(Lie(), books=books, generator=np.random.default_rng(1))
