"""Laws of the agreed price, whatever the venues say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.oracle.consensus import (
    AgreedPrice,
    Basis,
    ConsensusRule,
    Method,
    agreed_price,
    decode_outcome,
    encode_outcome,
)
from btcfi.oracle.quote import HIGHEST_PRICE, LOWEST_PRICE, VenueId, decode_observation, encode_observation
from btcfi.units import BasisPoints, CentsPerBtc, Sats
from tests.support.oracle_support import BINANCE, COINBASE, KRAKEN, LEG, SLOT, leg, missing, quote

RULE = ConsensusRule()
RULES = {
    method: ConsensusRule(method=method, thin_bps=BasisPoints(10 if method is Method.MEDIAN else 0))
    for method in Method
}
DOLLARS = tuple(VenueId(exchange=f"v{i}", base="BTC", quote="USD") for i in range(7))
near = st.integers(59_000_00, 61_500_00)
anything = st.integers(LOWEST_PRICE, HIGHEST_PRICE)
volumes = st.integers(1, 21 * 10**14)


@st.composite
def rounds(draw):
    """Any mixture of quotes, legs and absences, some of them twice."""
    said = []
    for venue in (BINANCE, COINBASE, KRAKEN, *DOLLARS[:3]):
        for _ in range(draw(st.integers(0, 2))):
            close = draw(st.one_of(near, anything))
            said.append(
                quote(
                    venue, close, volume=draw(volumes), low=draw(st.integers(LOWEST_PRICE, close)),
                    high=draw(st.integers(close, HIGHEST_PRICE)), at=draw(st.integers(60, 64)),
                )
            )  # fmt: skip
        if draw(st.booleans()):
            said.append(missing(venue))
    if draw(st.booleans()):
        said.append(leg(draw(st.integers(10_000_000, 200_000_000))))
    return said


def agree(said, registered=(BINANCE, COINBASE, KRAKEN, *DOLLARS[:2]), rule=RULE):
    return agreed_price(said, registered=registered, legs=(LEG,), rule=rule, slot=SLOT)


@settings(deadline=None)
@given(rounds(), st.randoms(), st.sampled_from(Method))
def test_the_order_of_observations_is_irrelevant(said, shuffler, method) -> None:
    rule = RULES[method]
    mixed = list(said)
    shuffler.shuffle(mixed)
    assert agree(said, rule=rule) == agree(mixed, rule=rule)


@settings(deadline=None)
@given(rounds(), st.sampled_from(Method))
def test_a_price_lies_among_the_used_quotes_within_its_own_range_and_every_venue_is_accounted_for(said, method) -> None:
    outcome = agree(said, rule=RULES[method])
    assert decode_outcome(encode_outcome(outcome)) == outcome
    named = {d.venue for d in outcome.dropped} | {a.venue for a in outcome.absent}
    if isinstance(outcome, AgreedPrice):
        dollars = [u.dollars for u in outcome.used]
        assert min(dollars) <= outcome.price <= max(dollars)
        assert outcome.low <= outcome.price <= outcome.high
        assert len(outcome.used) >= outcome.quorum
        paid = [u.dollars for u in outcome.used if u.basis is Basis.DOLLAR]
        assert min(paid) <= outcome.price <= max(paid)
        named |= {u.venue for u in outcome.used}
    else:
        named |= {u.venue for u in outcome.left}
    assert {BINANCE, COINBASE, KRAKEN, *DOLLARS[:2]} <= named


@settings(deadline=None)
@given(near, near, anything, st.tuples(volumes, volumes, volumes), st.permutations(DOLLARS[:3]))
def test_one_liar_of_three_cannot_move_the_price_beyond_the_honest_range_whatever_volume_it_claims(
    first, second, lie, claimed, venues
) -> None:
    closes = (first, second, lie)
    said = [quote(v, c, volume=w) for v, c, w in zip(venues, closes, claimed, strict=True)]
    outcome = agree(said, registered=venues)
    if isinstance(outcome, AgreedPrice):
        assert min(first, second) <= outcome.price <= max(first, second)


@settings(deadline=None)
@given(near, near, st.integers(1, 10**9), st.permutations(DOLLARS[:3]))
def test_one_liar_of_three_cannot_move_the_barriers_range_beyond_what_an_honest_venue_saw(a, b, wick, venues) -> None:
    low, high = max(LOWEST_PRICE, a - wick), min(HIGHEST_PRICE, a + wick)
    said = [quote(venues[0], a), quote(venues[1], b), quote(venues[2], a, low=low, high=high)]
    outcome = agree(said, registered=venues)
    if isinstance(outcome, AgreedPrice):
        assert outcome.low >= min(a, b)
        assert outcome.high <= max(a, b)


@settings(deadline=None)
@given(st.lists(near, min_size=3, max_size=3), st.lists(volumes, min_size=3, max_size=3), st.integers(0, 2), anything)
def test_with_three_venues_raising_one_quote_never_lowers_the_price(closes, weights, which, higher) -> None:
    before = [quote(v, c, volume=w) for v, c, w in zip(DOLLARS, closes, weights, strict=False)]
    after = list(before)
    close = CentsPerBtc(max(higher, closes[which]))
    after[which] = replace(before[which], open=close, high=close, low=close, close=close)
    one, two = agree(before, registered=DOLLARS[:3]), agree(after, registered=DOLLARS[:3])
    if isinstance(one, AgreedPrice) and isinstance(two, AgreedPrice):
        assert two.price >= one.price


@settings(deadline=None)
@given(st.lists(st.integers(60_000_00, 60_500_00), min_size=4, max_size=7), st.data(), st.sampled_from(Method))
def test_raising_one_quote_never_lowers_the_price_while_the_same_venues_stay(closes, data, method) -> None:
    rule, venues = RULES[method], DOLLARS[: len(closes)]
    before = [quote(v, c, volume=data.draw(volumes)) for v, c in zip(venues, closes, strict=True)]
    which = data.draw(st.integers(0, len(closes) - 1))
    close = CentsPerBtc(data.draw(st.integers(closes[which], 60_500_00)))
    after = list(before)
    after[which] = replace(before[which], open=close, high=close, low=close, close=close)
    one, two = agree(before, registered=venues, rule=rule), agree(after, registered=venues, rule=rule)
    assert two.price >= one.price


@settings(deadline=None)
@given(near, volumes, st.integers(60, 3000))
def test_every_quote_survives_its_json(close, volume, at) -> None:
    said = replace(quote(KRAKEN, close, at=at), volume=Sats(volume))
    assert decode_observation(encode_observation(said)) == said
