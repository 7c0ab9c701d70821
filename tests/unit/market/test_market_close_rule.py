"""At which price a maker ends a contract of its own, and when it leaves that to its owner."""

import pytest

from btcfi.market.firm_offer import Side
from btcfi.market.instrument import parse_instrument
from btcfi.market.making import CLOSE_SECONDS, Inventory, MakingRule, close_refusal, quotes
from btcfi.pricing.portfolio import Market
from btcfi.pricing.surface import flat_surface
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, UnixSeconds

NOW = UnixSeconds(1_795_000_020)
MARKET = Market(spot=CentsPerBtc(6_000_000), volatility=0.6, rate=0.05, now=NOW)
CALL = parse_instrument("BTC-27NOV26-60000-C")
RULE = MakingRule(levels=1, skew=0.0)
QUANTITY = CentiBtc(50)
RICH = Inventory(free=Sats(100 * 100_000_000))


def refusal(payout, *, writes, market=MARKET, instrument=CALL, stands=CLOSE_SECONDS):
    terms = instrument.terms(QUANTITY, Cents(1))
    return close_refusal(
        RULE, market, flat_surface(0.6), terms, writes=writes, payout=Sats(payout), stands_seconds=stands
    )


def quoted(side):
    """What the maker quotes for as much of the same."""
    (found,) = [one for one in quotes(RULE, MARKET, flat_surface(0.6), RICH, (CALL,)).drafts if one.side is side]
    return found.price * QUANTITY // 100


@pytest.mark.parametrize(("writes", "side"), [(True, Side.BID), (False, Side.ASK)])
def test_a_maker_buys_back_at_its_bid_and_sells_at_its_ask_and_no_worse(writes, side):
    edge, tick = quoted(side), 1_000 * QUANTITY // 100
    better, worse = (-1, 1) if writes else (1, -1)
    assert refusal(edge + better * tick, writes=writes) is None
    assert refusal(edge + 2 * worse * tick, writes=writes) is not None
    assert refusal(0, writes=True) is None  # the holder gives it away
    assert refusal(0, writes=False) is not None


def test_what_stands_for_long_or_settles_soon_is_the_owner_s_to_decide():
    assert refusal(1, writes=True) is None
    assert refusal(1, writes=True, stands=CLOSE_SECONDS + 1) is not None
    assert refusal(1, writes=True, stands=0) is not None
    late = Market(spot=MARKET.spot, volatility=0.6, rate=0.05, now=UnixSeconds(CALL.expiry - 3_600))
    assert refusal(1, writes=True, market=late) is not None
