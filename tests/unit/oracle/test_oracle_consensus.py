from __future__ import annotations

import pytest

from btcfi.oracle.consensus import (
    AgreedPrice,
    Basis,
    ConsensusRule,
    ConsensusRuleError,
    DropReason,
    Method,
    Void,
    VoidReason,
    agreed_price,
    decode_outcome,
    encode_outcome,
    fit_to_settle,
)
from btcfi.oracle.quote import MissingReason, bare_leg, parse_venue
from btcfi.oracle.report import canonical_json
from btcfi.units import BasisPoints
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


def test_the_par_band_begins_at_the_edges_of_what_dollars_paid_in_the_minute() -> None:
    moving = quote(COINBASE, 60_000_00, low=59_000_00, high=60_000_00)
    price = agree(quote(KRAKEN_USDC, 58_410_00), moving, registered=(KRAKEN_USDC, COINBASE), legs=())
    assert price.price == 59_205_00
    void = agree(quote(KRAKEN_USDC, 58_409_99), moving, registered=(KRAKEN_USDC, COINBASE), legs=())
    assert void.dropped[0].reason is DropReason.OUTSIDE_PAR_BAND


def test_a_stablecoin_alone_is_never_a_dollar() -> None:
    void = agree(quote(BINANCE, 60_000_00), missing(COINBASE), missing(KRAKEN))
    assert isinstance(void, Void)
    assert void.dropped[0].reason is DropReason.NO_DOLLAR_REFERENCE


def test_exactly_two_percent_from_the_median_stays_and_one_cent_more_goes() -> None:
    at_two = agree(quote(COINBASE, 102_000_00), quote(KRAKEN, 100_000_00), quote(BINANCE, 100_000_00), leg(100_000_000))
    assert len(at_two.used) == 3
    beyond = agree(quote(COINBASE, 102_000_01), quote(KRAKEN, 100_000_00), quote(BINANCE, 100_000_00), leg(100_000_000))
    (dropped,) = beyond.dropped
    assert (dropped.venue, dropped.reason, dropped.deviation_bps) == (COINBASE, DropReason.OUTLIER, 201)


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
        quote(BINANCE, 61_100_00, volume=21 * 10**14), leg(100_000_000),
    )  # fmt: skip
    assert price.price == 60_010_00


def test_the_published_means_are_there_and_round_half_even() -> None:
    quotes = (quote(COINBASE, 60_000_00, volume=3), quote(KRAKEN, 60_000_01, volume=1))
    mean = agree(*quotes, rule=ConsensusRule(method=Method.MEAN))
    weighted = agree(*quotes, rule=ConsensusRule(method=Method.VOLUME_WEIGHTED_MEAN))
    assert mean.price == 60_000_00
    assert weighted.price == 60_000_00
    heavy = (quote(COINBASE, 60_000_00, volume=1), quote(KRAKEN, 60_000_04, volume=3))
    assert agree(*heavy, rule=ConsensusRule(method=Method.VOLUME_WEIGHTED_MEAN)).price == 60_000_03


def test_a_wide_band_is_priced_but_not_fit_to_settle() -> None:
    wide = agree(quote(COINBASE, 60_000_00), quote(KRAKEN, 61_300_00))
    assert isinstance(wide, AgreedPrice)
    assert wide.confidence_bps == 108
    assert not fit_to_settle(wide, RULE)
    assert fit_to_settle(wide, ConsensusRule(settle_confidence_bps=BasisPoints(110)))


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
    [{"quorum_numerator": 0}, {"quorum_numerator": 4}, {"outlier_bps": 0}, {"par_band_bps": 10_000}],
)
def test_a_rule_that_contradicts_itself_is_refused(numbers) -> None:
    with pytest.raises(ConsensusRuleError):
        ConsensusRule(**numbers)
