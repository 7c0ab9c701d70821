"""A premium is of the time in which the price can still move: from what it is of to what settles the option."""

import math

import pytest

from btcfi.adapters.store.options.sales import Market, QuoteRule, quote_at
from btcfi.options.order import Order
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.oracle.quote import Feed
from btcfi.units import BasisPoints, CentiBtc, CentsPerBtc, Slot, UnixSeconds

PRICE_OF = 1_800_000_000 // 60 * 60
SPOT, VOLATILITY, YEAR = 100_000, 0.6, 31_536_000


def asked(age, minutes):
    """Return dollars for a call at the money on 1 BTC; age: seconds since the price's minute began."""
    rule = QuoteRule(feed=Feed("BTC/USD"), rate_bps=BasisPoints(0), fallback_volatility_bps=6_000)
    market = Market(
        feed=rule.feed, spot=CentsPerBtc(SPOT * 100), slot=Slot(PRICE_OF), closed_at=UnixSeconds(PRICE_OF + 65),
        thin=(),
        halted=False, volatility=BasisPoints(6_000), samples=999, said={},
    )  # fmt: skip
    order = Order(
        option_id="x", kind=OptionKind.CALL, strike=CentsPerBtc(SPOT * 100), quantity=CentiBtc(100), barrier=None,
        american=False, expiry=Slot(PRICE_OF + 60 + 60 * minutes), fixing=MINUTE,
    )  # fmt: skip
    now = UnixSeconds(PRICE_OF + age)
    return quote_at(market, order, rule, now=now, wall=now).premium / 100


def worth(minutes):
    """Return what it is worth at the close that the price is of, until the close that settles it."""
    deviation = VOLATILITY * math.sqrt((60 + 60 * minutes) / YEAR)
    return SPOT * math.erf(deviation / (2 * math.sqrt(2)))


@pytest.mark.parametrize("minutes", [10, 60])
@pytest.mark.parametrize("age", [66, 120, 179])
def test_nothing_is_sold_for_less_than_it_was_worth_at_the_close_that_its_price_is_of(age, minutes):
    assert asked(age, minutes) >= 0.9995 * worth(minutes)
