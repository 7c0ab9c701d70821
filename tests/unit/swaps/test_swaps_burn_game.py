"""What burning and not burning can lead to, every play of it; where a form fails, a counterexample by its name."""

from fractions import Fraction

import pytest

from btcfi.swaps.contract import LOT
from btcfi.swaps.onchain import burned_by
from btcfi.units import Sats
from tests.support.burn_game import (
    BURN,
    CYCLED,
    FORMS,
    HIGHEST,
    MARGIN,
    OPEN,
    PINNED,
    RETURN,
    SETTLE,
    SPLIT,
    TRUC,
    WINDOW,
    Waiting,
    burns,
    endings,
    settles,
    waits,
    wealth,
)
from tests.support.fanning import Book, fan_terms, on_paper, positions

DEBTS = (1, 4, MARGIN)
CHEAP = 0.3
"""All fees of a whole game, in eighths of the margin: they stay far below the quarter."""


def ends_of(form, **played):
    return set().union(*(endings(form, pnl, **played)[0] for pnl in DEBTS))


# ---- amounts


@pytest.mark.parametrize("step", range(1, 8))
def test_the_amounts_of_the_game_are_those_of_the_transactions(step):
    book = Book(on_paper(fan_terms(positions(1, 0, 8 * 7 * LOT), digits=4)))
    week, unit = book.attested(Fraction(-step, 7)), 7 * LOT
    debtor, creditor = 1, 0
    pnl = Fraction(8 * step, 7)
    own, other = 8 * 7 * LOT, book.terms.required[creditor]
    (got_creditor, got_debtor), _ = book.paid_to([week.settle(debtor)])
    assert (got_debtor, other + got_creditor) == tuple(unit * one for one in wealth(SETTLE, pnl))
    if step < 6:
        fee, extra = 1_000, book.terms.settle_fee + 240
        burn = week.burn(debtor, book.secrets[debtor], fee=Sats(fee))
        (nothing, got_debtor), burned = book.paid_to([burn])
        assert (got_debtor - extra + fee, other + nothing) == tuple(unit * one for one in wealth(BURN, pnl))
        assert burned == burned_by(burn) == own * step // 7 + own // 4


@pytest.mark.parametrize("pnl", range(1, MARGIN + 1))
def test_a_burner_never_ends_above_not_burning(pnl):
    worst_unburned = min(wealth(kind, pnl)[0] for kind in (SETTLE, RETURN, OPEN))
    assert wealth(BURN, pnl)[0] + CHEAP < worst_unburned


@pytest.mark.parametrize("pnl", range(1, MARGIN + 1))
def test_whoever_the_oracle_cheats_for_has_exactly_its_own_margin_after_a_burn(pnl):
    assert wealth(BURN, pnl)[1] == MARGIN


# ---- burning in the window


@pytest.mark.parametrize("start", range(WINDOW))
@pytest.mark.parametrize("form", [SPLIT, TRUC], ids=lambda form: form.name)
def test_a_burn_at_the_market_is_mined_before_any_settlement_whatever_the_other_plays(form, start):
    assert ends_of(form, debtor=burns(start)) == {BURN}


@pytest.mark.parametrize("form", [SPLIT, TRUC], ids=lambda form: form.name)
def test_a_burn_that_began_cheap_is_raised_when_the_rate_rises(form):
    assert ends_of(form, debtor=burns(0, first=1)) == {BURN}


def test_counterexample_a_descendant_pins_a_burn_of_version_2_once_the_rate_rises():
    assert ends_of(PINNED, debtor=burns(0)) == {BURN}  # only where it never has to be raised
    assert OPEN in ends_of(PINNED, debtor=burns(0, first=1))


def test_counterexample_a_burn_without_a_fee_of_its_own_is_stripped_of_its_child():
    ends = ends_of(CYCLED, debtor=burns(0))
    assert {SETTLE, RETURN, OPEN} <= ends


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_counterexample_two_blocks_before_the_lock_below_the_market_by_steps(form):
    assert SETTLE in ends_of(form, debtor=burns(WINDOW - 2, first=1, by=1))


def test_by_steps_from_the_first_block_on_is_early_enough_for_the_rates_that_there_are():
    assert ends_of(SPLIT, debtor=burns(0, first=1, by=1)) == {BURN}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_counterexample_a_rate_above_the_burner_s_cap(form):
    assert SETTLE in ends_of(form, debtor=burns(0, first=1, cap=2))


@pytest.mark.parametrize("form", [SPLIT, TRUC], ids=lambda form: form.name)
def test_counterexample_a_reorganisation_past_the_lock_opens_the_auction_again(form):
    assert SETTLE in ends_of(form, debtor=burns(WINDOW - 1), reorgs=1)
    assert ends_of(form, debtor=burns(WINDOW - 1), reorgs=0) == {BURN}


@pytest.mark.parametrize("start", range(WINDOW, WINDOW + 3))
def test_a_late_burn_is_an_auction_that_either_may_win(start):
    ends = ends_of(SPLIT, debtor=burns(start, first=1, by=1), creditor=settles())
    assert SETTLE in ends
    assert ends <= {SETTLE, BURN}


def test_the_burner_wins_that_auction_where_it_bids_first_and_most():
    assert ends_of(SPLIT, debtor=burns(WINDOW), creditor=settles()) == {BURN}


# ---- the honest


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_an_honest_loser_never_ends_below_what_it_has_not_lost(form):
    for pnl in DEBTS:
        ends, _ = endings(form, pnl, debtor=waits, reorgs=1)
        assert BURN not in ends
        assert min(wealth(kind, pnl)[0] for kind in ends) >= MARGIN - pnl


@pytest.mark.parametrize("form", [SPLIT, TRUC, PINNED], ids=lambda form: form.name)
def test_an_honest_winner_is_paid_unless_it_is_burned_and_keeps_its_margin_always(form):
    for pnl in DEBTS:
        ends, _ = endings(form, pnl, creditor=settles(), reorgs=1)
        assert ends == {SETTLE, BURN}
        assert min(wealth(kind, pnl)[1] for kind in ends) == MARGIN


def test_counterexample_the_market_above_the_winner_s_cap_for_all_nine_days():
    def takes_back(block, pool):
        return Waiting(RETURN, HIGHEST)

    assert ends_of(SPLIT, debtor=takes_back, creditor=settles(cap=2), rates=(3,)) == {RETURN}


def test_counterexample_a_winner_who_does_nothing_for_nine_days():
    assert RETURN in ends_of(SPLIT, creditor=waits)


def test_where_nothing_is_owed_nobody_can_burn():
    for form in FORMS:
        assert BURN not in endings(form, 0, reorgs=1)[0]


def test_both_playing_everything_reaches_every_ending_so_the_search_is_not_empty():
    ends, states = endings(SPLIT, 4, reorgs=1)
    assert ends == {BURN, SETTLE, RETURN, OPEN}
    assert states > 50
