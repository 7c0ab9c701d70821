"""Laws of a price that moves: on the tick, one way, never past its share of the way, and to nobody before its time."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from btcfi.errors import InvalidInputError
from btcfi.market.account import REQUEST_SECONDS
from btcfi.market.auction import LEAST_STEP_SECONDS
from btcfi.market.firm_offer import TICK_SATS, Side, deal_of, early_by
from tests.support.market import AT, auction, falling, offer, take

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine changes no law."""

TICKS = st.integers(1, 100_000)
CENTS = st.integers(1, 10**7)


@st.composite
def auctioned(draw):
    """Return an offer of a quantity that every price of it can pay, whose price moves."""
    side = draw(st.sampled_from(Side))
    low, high = sorted([draw(TICKS), draw(TICKS)])
    cheap, dear = sorted([draw(CENTS), draw(CENTS)])
    assume(low != high)
    first, last = (high, low) if side is Side.ASK else (low, high)
    first_cents, last_cents = (dear, cheap) if side is Side.ASK else (cheap, dear)
    steps, seconds = draw(st.integers(1, 1_000)), draw(st.integers(LEAST_STEP_SECONDS, 86_400))
    moving = auction(
        step_seconds=seconds, steps=steps, last=last * TICK_SATS, last_cents=last_cents, begins=AT + draw(
            st.integers(-10_000, 10_000)
        ),
    )  # fmt: skip
    return offer(
        side=side, price=first * TICK_SATS, price_cents=first_cents, quantity=500, minimum=100,
        valid_until=moving.last_begins + 1, auction=moving,
    )  # fmt: skip


@unhurried
@given(auctioned(), st.data())
def test_every_price_is_on_the_tick_between_the_two_that_are_signed_and_moves_one_way(one, data):
    steps = one.auction.steps
    assert one.prices(0) == (one.price, one.price_cents)
    assert one.prices(steps) == (one.auction.last, one.auction.last_cents)
    step = data.draw(st.integers(0, steps - 1))
    (price, cents), (after, cents_after) = one.prices(step), one.prices(step + 1)
    assert price % TICK_SATS == 0
    assert type(price) is type(cents) is int
    if one.side is Side.ASK:
        assert one.price >= price >= after >= one.auction.last
        assert one.price_cents >= cents >= cents_after >= one.auction.last_cents
    else:
        assert one.price <= price <= after <= one.auction.last
        assert one.price_cents <= cents <= cents_after <= one.auction.last_cents


@unhurried
@given(auctioned(), st.data())
def test_no_step_gives_a_taker_more_than_its_share_of_the_way(one, data):
    step, moving = data.draw(st.integers(0, one.auction.steps)), one.auction
    price, cents = one.prices(step)
    # in whole numbers: what it moved, times the steps, is at most the way times the step
    assert abs(one.price - price) * moving.steps <= abs(one.price - moving.last) * step
    assert abs(one.price_cents - cents) * moving.steps <= abs(one.price_cents - moving.last_cents) * step
    # and a tick, a cent is all that the maker keeps of it
    assert abs(one.price - moving.last) * step - abs(one.price - price) * moving.steps < TICK_SATS * moving.steps


@unhurried
@given(auctioned(), st.integers(-20_000, 10**8))
def test_the_step_of_a_second_is_the_newest_that_has_begun(one, later):
    now = AT + later
    step, moving = one.step_at(now), one.auction
    if step is None:
        assert now < moving.begins == moving.moves_at(now)
        return
    assert moving.begins_at(step) <= now
    following = moving.moves_at(now)
    assert following is None if step == moving.steps else now < following == moving.begins_at(step + 1)


@unhurried
@given(auctioned(), st.data())
def test_a_deal_is_of_the_step_that_its_take_names_at_that_price_alone(one, data):
    step = data.draw(st.integers(0, one.auction.steps))
    price, cents = one.prices(step)
    wanted = take(one, quantity=100, price=price, price_cents=cents, step=step)
    assert deal_of(one, wanted).premium == price
    assert deal_of(one, wanted).terms.premium == cents
    better = price - TICK_SATS if one.side is Side.ASK else price + TICK_SATS
    for wrong in (
        replace(wanted, price=better), replace(wanted, price_cents=cents + 1), replace(wanted, step=None),
        replace(wanted, step=-1), replace(wanted, step=one.auction.steps + 1),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=r"take\.(step|price)"):
            deal_of(one, wrong)
    other = data.draw(st.integers(0, one.auction.steps))
    if one.prices(other) != (price, cents):
        with pytest.raises(InvalidInputError, match="price"):
            deal_of(one, replace(wanted, step=other))


@unhurried
@given(auctioned(), st.integers(-20_000, 10**7), st.data())
def test_a_take_is_early_by_what_its_step_has_still_to_wait(one, later, data):
    now, step = AT + later, data.draw(st.integers(0, one.auction.steps))
    price, cents = one.prices(step)
    early = early_by(one, take(one, price=price, price_cents=cents, step=step), now)
    assert (early == 0) == (one.auction.begins_at(step) <= now)
    # a clock that is slow by all that a maker allows has let at most one step come early
    if early <= REQUEST_SECONDS:
        reached = one.step_at(now)
        assert step - (-1 if reached is None else reached) <= 1


def test_a_price_that_does_not_move_has_no_step():
    with pytest.raises(InvalidInputError, match=r"take\.step"):
        deal_of(offer(), take(step=0))
    assert early_by(offer(), take(), AT) == 0


def test_an_auctions_least_take_pays_the_chain_at_its_lowest_price():
    cheap = falling(price=20_000, price_cents=1_200, auction=auction(last=1_000, last_cents=60))
    assert cheap.lowest == 1_000
    assert offer(side=Side.BID, valid_until=AT + 600, auction=auction(last=3_000_000, last_cents=180_000)).lowest == (
        2_000_000
    )
