from __future__ import annotations

from dataclasses import replace

import pytest

from btcfi.oracle.consensus import (
    AgreedPrice,
    Basis,
    ConsensusRule,
    ConsensusRuleError,
    DropReason,
    Method,
    Thin,
    Void,
    VoidReason,
    agreed_price,
    decode_outcome,
    encode_outcome,
    fit_to_settle,
    thin_by,
)
from btcfi.oracle.quote import MissingReason, bare_leg, parse_venue
from btcfi.oracle.report import canonical_json
from btcfi.units import BasisPoints, CentsPerBtc
from tests.support.oracle_support import (
    BINANCE,
    COINBASE,
    KRAKEN,
    KRAKEN_USDC,
    LEG,
    SLOT,
    THREE,
    leg,
    missing,
    quote,
)

RULE = ConsensusRule()
FIVE = tuple(parse_venue(f"v{i}:BTC/USD") for i in range(5))


def dollars(*closes, at=0):
    """What the dollar markets from the ``at``-th on say."""
    return [quote(v, close) for v, close in zip(FIVE[at:], closes, strict=False)]


def agree(*observations, registered=THREE, legs=(LEG,), rule=RULE, **more):
    return agreed_price(observations, registered=registered, legs=legs, rule=rule, slot=SLOT, **more)


def test_three_venues_that_agree_give_their_median_and_the_report_names_all_three() -> None:
    price = agree(quote(BINANCE, 60_000_00), quote(COINBASE, 60_010_00), quote(KRAKEN, 59_990_00), leg(100_000_000))
    assert isinstance(price, AgreedPrice)
    assert price.price == 60_000_00
    assert {u.venue for u in price.used} == set(THREE)
    assert price.confidence == 10_00
    assert not price.dropped
    assert not price.absent


def test_a_usdt_quote_is_converted_by_its_own_dollar_leg() -> None:
    price = agree(quote(BINANCE, 61_000_00), quote(COINBASE, 60_000_00), leg(98_400_000))
    used = {u.venue: u for u in price.used}
    assert price.price == 60_000_00
    assert used[BINANCE].basis is Basis.CONVERTED
    assert used[BINANCE].dollars == 60_024_00
    assert used[BINANCE].close == 61_000_00


def test_without_its_leg_a_usdt_quote_counts_at_par_only_inside_the_par_band_of_the_dollar_quotes() -> None:
    inside = agree(quote(BINANCE, 60_600_00), quote(COINBASE, 60_000_00), quote(KRAKEN, 60_000_00))
    assert {u.venue: u.basis for u in inside.used}[BINANCE] is Basis.PAR
    outside = agree(quote(BINANCE, 60_600_01), quote(COINBASE, 60_000_00), quote(KRAKEN, 60_000_00))
    (dropped,) = outside.dropped
    assert (dropped.venue, dropped.reason, dropped.limit_bps) == (BINANCE, DropReason.OUTSIDE_PAR_BAND, 100)
    assert dropped.deviation_bps == 101
    assert outside.price == 60_000_00


def test_the_par_band_begins_at_the_edges_of_what_most_dollar_markets_reached_in_the_minute() -> None:
    moving = [quote(v, 60_000_00, low=59_000_00, high=60_000_00) for v in (COINBASE, KRAKEN)]
    inside = agree(quote(KRAKEN_USDC, 58_410_00), *moving, registered=(KRAKEN_USDC, COINBASE, KRAKEN), legs=())
    assert KRAKEN_USDC in {u.venue for u in inside.used}
    outside = agree(quote(KRAKEN_USDC, 58_409_99), *moving, registered=(KRAKEN_USDC, COINBASE, KRAKEN), legs=())
    assert outside.dropped[0].reason is DropReason.OUTSIDE_PAR_BAND


def test_the_wick_of_a_single_dollar_market_counts_no_further_than_the_par_band_from_its_open_and_close() -> None:
    wick = replace(quote(COINBASE, 60_000_00, low=50_000_00, high=70_000_00), open=CentsPerBtc(60_300_00))
    for close, kept in ((58_806_00, True), (58_805_99, False), (61_512_03, True), (61_512_04, False)):
        said = agree(quote(KRAKEN_USDC, close), wick, registered=(KRAKEN_USDC, COINBASE), legs=())
        assert isinstance(said, AgreedPrice) is kept
    (dropped,) = agree(quote(KRAKEN_USDC, 50_500_00), wick, registered=(KRAKEN_USDC, COINBASE), legs=()).dropped
    assert dropped.reason is DropReason.OUTSIDE_PAR_BAND
    calm = quote(COINBASE, 60_000_00, low=59_900_00)
    assert isinstance(
        agree(quote(KRAKEN_USDC, 59_301_00), calm, registered=(KRAKEN_USDC, COINBASE), legs=()), AgreedPrice
    )
    assert isinstance(agree(quote(KRAKEN_USDC, 59_299_00), calm, registered=(KRAKEN_USDC, COINBASE), legs=()), Void)


def test_the_wick_of_one_of_two_dollar_markets_does_not_widen_it_either() -> None:
    calm, wick = quote(COINBASE, 60_000_00), quote(KRAKEN, 60_000_00, low=50_000_00)
    said = agree(quote(KRAKEN_USDC, 59_000_00), calm, wick, registered=(KRAKEN_USDC, COINBASE, KRAKEN), legs=())
    assert [(d.venue, d.reason) for d in said.dropped] == [(KRAKEN_USDC, DropReason.OUTSIDE_PAR_BAND)]


def test_a_stablecoin_alone_is_never_a_dollar() -> None:
    void = agree(quote(BINANCE, 60_000_00), missing(COINBASE), missing(KRAKEN))
    assert isinstance(void, Void)
    assert void.dropped[0].reason is DropReason.NO_DOLLAR_REFERENCE


def test_exactly_two_percent_from_the_median_stays_and_one_cent_more_goes() -> None:
    at_two = agree(quote(FIVE[0], 102_000_00), *dollars(100_000_00, 100_000_00, at=1), registered=FIVE[:3])
    assert len(at_two.used) == 3
    beyond = agree(quote(FIVE[0], 102_000_01), *dollars(100_000_00, 100_000_00, at=1), registered=FIVE[:3])
    (dropped,) = beyond.dropped
    assert (dropped.venue, dropped.reason, dropped.deviation_bps) == (FIVE[0], DropReason.OUTLIER, 201)


def test_an_outlier_keeps_its_vote_so_two_of_five_cannot_push_out_an_honest_end_and_become_half() -> None:
    honest = (100_000_00, 101_900_00, 103_900_00)
    said = agree(*dollars(98_000_00, 98_000_00, *honest), registered=FIVE)
    assert [d.close for d in said.dropped] == [103_900_00]
    assert said.price == 100_000_00  # cut first, it was 99,000


def test_a_leg_of_0_95_moves_no_dollar_market_and_no_price() -> None:
    """Two of three venues were 28,500 with confidence 0, and the honest dollar market was the outlier."""
    two_coins = (BINANCE, parse_venue("binanceus:BTC/USDT"))
    said = agree(
        quote(COINBASE, 30_000_00), *(quote(v, 30_000_00) for v in two_coins), leg(95_000_000),
        registered=(COINBASE, *two_coins),
    )  # fmt: skip
    assert isinstance(said, Void)
    assert [u.venue for u in said.left] == [COINBASE]
    assert {(d.venue, d.reason) for d in said.dropped} == {(v, DropReason.OUTSIDE_DOLLAR_RANGE) for v in two_coins}


def test_of_three_legs_one_that_lies_converts_nothing() -> None:
    others = [parse_venue(f"{name}:USDT/USD") for name in ("bitstamp", "coinbaseexchange")]
    said = agree(
        *dollars(60_000_00, 60_000_00), quote(BINANCE, 60_060_00),
        leg(95_000_000), *(leg(99_900_000, venue=v) for v in others),
        registered=(*FIVE[:2], BINANCE), legs=(LEG, *others),
    )  # fmt: skip
    assert said.rates == (("USDT", 99_900_000),)
    assert {u.venue: u.dollars for u in said.used}[BINANCE] == 59_999_94


def test_all_markets_of_one_coin_are_one_opinion_and_never_outvote_a_dollar() -> None:
    coins = [parse_venue(f"c{i}:BTC/USDT") for i in range(4)]
    said = agree(
        *dollars(60_000_00, 60_600_00), *(quote(v, 60_700_00) for v in coins), leg(100_000_000),
        registered=(*FIVE[:2], *coins),
    )  # fmt: skip
    assert (said.price, len(said.used)) == (60_600_00, 6)  # between the dollars, where the coin's one vote lets it
    one = agree(*dollars(60_000_00), *(quote(v, 60_500_00) for v in coins), registered=(FIVE[0], *coins))
    assert one.price == 60_000_00


def test_with_three_dollar_markets_coins_confirm_and_weigh_nothing() -> None:
    said = agree(*dollars(60_000_00, 60_010_00, 60_020_00), quote(BINANCE, 60_500_00), registered=(*FIVE[:3], BINANCE))
    assert said.price == 60_010_00
    assert {u.venue: u.weight for u in said.used} == {**dict.fromkeys(FIVE[:3], 1), BINANCE: 0}
    assert said.confidence == 10_00


def test_many_coin_markets_cannot_widen_the_band_until_nothing_settles() -> None:
    coins = [parse_venue(f"c{i}:BTC/USDT") for i in range(7)]
    moved = [replace(q, low=CentsPerBtc(59_000_00)) for q in dollars(60_000_00, 60_000_00, 60_010_00, 60_010_00)]
    said = agree(*moved, *(quote(v, 58_500_00) for v in coins), registered=(*FIVE[:4], *coins))
    assert len(said.used) == 11
    assert fit_to_settle(said, RULE)


@pytest.mark.parametrize(
    ("closes", "why"),
    [
        ((60_000_00, 60_000_00, 60_000_00), (Thin.FEW_DOLLAR_MARKETS,)),
        ((60_000_00, 60_000_00, 60_000_00, 60_000_00), ()),
        ((60_000_00, 60_000_00, 60_000_00, 60_120_00), ()),  # half of 120 dollars: 10 bps
        ((60_000_00, 60_000_00, 60_000_00, 60_120_02), (Thin.ONE_CAN_MOVE_IT,)),
        ((50_000_00, 60_000_00, 60_030_00, 60_060_00, 70_000_00), ()),  # the ends of five reach nothing
        ((60_000_00, 60_000_00, 60_030_00, 60_060_04, 60_060_04), (Thin.ONE_CAN_MOVE_IT,)),
        ((60_000_00, 60_700_00, 60_700_00), (Thin.FEW_DOLLAR_MARKETS, Thin.ONE_CAN_MOVE_IT)),
    ],
)
def test_a_price_is_thin_by_how_many_made_it_and_by_how_far_one_of_them_could_move_it(closes, why) -> None:
    rule = replace(RULE, quorum_numerator=1)  # two of five are outliers here
    said = agree(*dollars(*closes), registered=FIVE, rule=rule)
    assert said.thin == why
    assert fit_to_settle(said, rule) is not why or not why


def test_with_three_registered_one_silent_and_one_lying_the_price_is_published_as_thin_and_does_not_settle() -> None:
    """It settled 1.01 % off."""
    said = agree(quote(COINBASE, 60_000_00), quote(KRAKEN, 61_200_00), registered=(FIVE[0], COINBASE, KRAKEN))
    assert said.price == 60_600_00
    assert Thin.FEW_DOLLAR_MARKETS in said.thin
    assert not fit_to_settle(said, RULE)
    assert fit_to_settle(said, replace(RULE, least_dollar_markets=0, thin_bps=BasisPoints(0)))


def test_a_method_that_bounds_nothing_says_so_and_is_not_asked_for_a_bound() -> None:
    mean = ConsensusRule(method=Method.MEAN, thin_bps=BasisPoints(0))
    said = agree(*dollars(60_000_00, 60_010_00, 60_020_00, 60_030_00), registered=FIVE, rule=mean)
    assert (said.reach, said.dollar_markets, said.thin) == (None, 4, ())
    assert fit_to_settle(said, mean)
    assert thin_by(RULE, price=said.price, dollar_markets=4, reach=None) == (Thin.UNMEASURED,)
    assert decode_outcome(encode_outcome(said)) == said


def test_a_quote_of_a_leg_s_market_is_no_price_of_a_bitcoin_even_where_that_market_is_registered() -> None:
    said = agree(*dollars(60_000_00, 60_000_00), quote(LEG, 60_500_00), registered=(*FIVE[:2], LEG), legs=())
    assert {(d.venue, d.reason) for d in said.dropped} == {(LEG, DropReason.UNREGISTERED)}


@pytest.mark.parametrize(("registered", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5)])
def test_the_quorum_is_two_thirds_of_the_registered_venues_rounded_up(registered: int, needed: int) -> None:
    assert RULE.quorum(registered) == needed


def test_one_venue_of_three_is_no_quorum() -> None:
    void = agree(quote(COINBASE, 60_000_00), missing(KRAKEN), missing(BINANCE, MissingReason.FORBIDDEN))
    assert isinstance(void, Void)
    assert (void.reason, void.received, void.quorum) == (VoidReason.NO_QUORUM, 1, 2)
    assert {a.venue: a.reason for a in void.absent} == {
        KRAKEN: MissingReason.TIMEOUT,
        BINANCE: MissingReason.FORBIDDEN,
    }


def test_two_venues_that_disagree_are_no_quorum_after_the_cut() -> None:
    void = agree(quote(COINBASE, 60_000_00), quote(KRAKEN, 66_000_00), missing(BINANCE))
    assert (void.reason, void.received, void.kept) == (VoidReason.NO_QUORUM_AFTER_CUT, 2, 0)
    assert {d.reason for d in void.dropped} == {DropReason.OUTLIER}


def test_a_venue_that_said_nothing_at_all_is_silent_in_the_report() -> None:
    price = agree(quote(COINBASE, 60_000_00), quote(KRAKEN, 60_000_00))
    assert [(a.venue, a.reason) for a in price.absent] == [(BINANCE, MissingReason.SILENT)]


def test_a_venue_whose_nodes_say_the_same_candle_counts_once() -> None:
    price = agree(
        quote(COINBASE, 60_100_00, at=61), quote(COINBASE, 60_100_00, at=63), quote(COINBASE, 60_100_00, at=62),
        quote(KRAKEN, 60_100_00),
    )  # fmt: skip
    assert (price.price, len(price.used)) == (60_100_00, 2)
    assert [d.reason for d in price.dropped] == [DropReason.SUPERSEDED] * 2


@pytest.mark.parametrize("at", [0, 61, 62, 2_000_000_000])
def test_no_node_overrides_another_of_its_venue_by_the_time_that_it_claims(at: int) -> None:
    said = [quote(COINBASE, 60_000_00), quote(COINBASE, 60_900_00, at=at), quote(KRAKEN, 60_100_00)]
    for order in (said, said[::-1]):
        void = agree(*order)
        assert {(d.venue, d.reason) for d in void.dropped} == {(COINBASE, DropReason.NODES_DISAGREE)}
        assert void.reason is VoidReason.NO_QUORUM


def test_two_nodes_of_a_leg_that_differ_leave_no_rate_and_an_earlier_releases_close_does_not_differ() -> None:
    ask = (quote(COINBASE, 60_000_00), quote(KRAKEN, 60_010_00), quote(BINANCE, 60_000_00))
    honest = leg(99_000_000)
    bare = bare_leg(venue=LEG, slot=SLOT, rate=honest.rate, observed_at=honest.observed_at, evidence=honest.evidence)
    assert dict(agree(*ask, honest, bare).rates) == {"USDT": 99_000_000}
    differ = agree(*ask, honest, leg(98_000_000))
    assert differ.rates == ()
    assert {(d.venue, d.reason) for d in differ.dropped if d.venue.is_leg} == {(LEG, DropReason.NODES_DISAGREE)}


def test_foreign_venues_and_other_minutes_are_dropped_by_name() -> None:
    stranger = parse_venue("binanceus:BTC/USD")
    price = agree(
        quote(COINBASE, 60_000_00), quote(KRAKEN, 60_000_00), quote(stranger, 60_000_00),
        quote(BINANCE, 60_000_00, slot=SLOT - 60),
    )  # fmt: skip
    assert {(d.venue, d.reason) for d in price.dropped} == {
        (stranger, DropReason.UNREGISTERED),
        (BINANCE, DropReason.WRONG_SLOT),
    }


def test_an_equivocating_venue_is_dropped_by_name_and_counts_as_silent() -> None:
    price = agree(
        quote(COINBASE, 60_000_00), quote(KRAKEN, 60_000_00), quote(BINANCE, 60_000_00), quote(BINANCE, 60_500_00),
        leg(100_000_000), equivocated={BINANCE},
    )  # fmt: skip
    assert {u.venue for u in price.used} == {COINBASE, KRAKEN}
    assert [d.reason for d in price.dropped] == [DropReason.EQUIVOCATION] * 2


def test_one_wick_is_not_a_barrier_hit_and_a_low_that_most_venues_saw_is() -> None:
    wick = agree(
        quote(COINBASE, 60_000_00, low=50_000_00), quote(KRAKEN, 60_000_00, low=59_900_00),
        quote(BINANCE, 60_000_00, low=59_950_00), leg(100_000_000),
    )  # fmt: skip
    assert wick.low == 59_900_00
    both = agree(
        quote(COINBASE, 60_000_00, low=50_000_00, high=61_000_00),
        quote(KRAKEN, 60_000_00, low=59_900_00, high=60_500_00),
    )
    assert (both.low, both.high) == (59_900_00, 60_500_00)


def test_claimed_volume_cannot_buy_the_price() -> None:
    price = agree(
        quote(COINBASE, 60_000_00, volume=1), quote(KRAKEN, 60_010_00, volume=2),
        quote(FIVE[0], 61_100_00, volume=21 * 10**14), registered=(COINBASE, KRAKEN, FIVE[0]),
    )  # fmt: skip
    assert price.price == 60_010_00


def test_the_published_means_are_there_and_round_half_even() -> None:
    quotes = (quote(COINBASE, 60_000_00, volume=3), quote(KRAKEN, 60_000_01, volume=1))
    weighing = ConsensusRule(method=Method.VOLUME_WEIGHTED_MEAN, thin_bps=BasisPoints(0))
    mean = agree(*quotes, rule=ConsensusRule(method=Method.MEAN, thin_bps=BasisPoints(0)))
    weighted = agree(*quotes, rule=weighing)
    assert mean.price == 60_000_00
    assert weighted.price == 60_000_00
    heavy = (quote(COINBASE, 60_000_00, volume=1), quote(KRAKEN, 60_000_04, volume=3))
    assert agree(*heavy, rule=weighing).price == 60_000_03


def test_a_wide_band_is_priced_but_not_fit_to_settle() -> None:
    wide = agree(quote(COINBASE, 60_000_00), quote(KRAKEN, 61_300_00))
    assert isinstance(wide, AgreedPrice)
    assert wide.confidence_bps == 108
    assert not fit_to_settle(wide, RULE)
    not_asked = replace(RULE, least_dollar_markets=0, thin_bps=BasisPoints(0))
    assert not fit_to_settle(wide, not_asked)
    assert fit_to_settle(wide, replace(not_asked, settle_confidence_bps=BasisPoints(110)))


def test_several_legs_of_one_coin_give_their_median() -> None:
    others = [parse_venue(f"{name}:USDT/USD") for name in ("binanceus", "coinbaseexchange")]
    price = agree(
        quote(BINANCE, 60_000_00), quote(COINBASE, 60_000_00),
        leg(99_000_000), leg(100_000_000, venue=others[0]), leg(150_000_000, venue=others[1]), legs=(LEG, *others),
    )  # fmt: skip
    assert price.rates == (("USDT", 100_000_000),)


@pytest.mark.parametrize(
    "observations",
    [
        (quote(COINBASE, 60_000_00), quote(KRAKEN, 60_010_00), quote(BINANCE, 70_000_00), leg(99_000_000)),
        (quote(COINBASE, 60_000_00), missing(KRAKEN)),
    ],
)
def test_a_report_decodes_to_what_was_encoded_and_has_one_byte_form(observations) -> None:
    outcome = agree(*observations)
    assert decode_outcome(encode_outcome(outcome)) == outcome
    assert canonical_json(encode_outcome(outcome)) == canonical_json(encode_outcome(agree(*reversed(observations))))


@pytest.mark.parametrize(
    "numbers",
    [
        {"quorum_numerator": 0},
        {"quorum_numerator": 4},
        {"outlier_bps": 0},
        {"par_band_bps": 10_000},
        {"thin_bps": -1},
        {"thin_bps": 10_000},
        {"least_dollar_markets": -1},
        {"least_dollar_markets": 65},
        *({"method": method} for method in Method if method is not Method.MEDIAN),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(numbers) -> None:
    with pytest.raises(ConsensusRuleError):
        ConsensusRule(**numbers)
