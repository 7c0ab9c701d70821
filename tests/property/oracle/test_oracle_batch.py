"""Many minutes at once say the same numbers as one by one, and refuse the same texts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.errors import InvalidInputError
from btcfi.oracle.batch import agreed_minutes
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, Method, agreed_price, fit_to_settle
from btcfi.oracle.quote import LegQuote, Quote, Rate, encode_observation, parse_venue, read_observation
from btcfi.units import CentsPerBtc, Hash32, Sats, Slot, UnixSeconds

SLOT = Slot(1_700_000_040)
DOLLARS = [parse_venue(f"{name}:BTC/USD") for name in ("a", "b", "c", "d", "e")]
COINS = [parse_venue(text) for text in ("f:BTC/USDT", "g:BTC/USDT", "h:BTC/USDC")]
LEGS = [parse_venue(text) for text in ("a:USDT/USD", "b:USDT/USD", "c:USDC/USD")]
RULES = (
    ConsensusRule(),
    ConsensusRule(least_dollar_markets=0, thin_bps=0, quorum_numerator=1, quorum_denominator=8),
    ConsensusRule(method=Method.VOLUME_WEIGHTED_MEDIAN, least_dollar_markets=0, thin_bps=0),
)


@st.composite
def quotes(draw, venue, slot):
    near = draw(st.sampled_from([5_000_000, 5_000_000, 5_090_000, 4_000_000, 5_200_000]))
    first, close = (near + draw(st.integers(-3_000, 3_000)) for _ in range(2))
    low = min(first, close) - draw(st.integers(0, 60_000))
    high = max(first, close) + draw(st.integers(0, 60_000))
    return Quote(
        venue=venue, slot=slot, open=CentsPerBtc(first), close=CentsPerBtc(close), low=CentsPerBtc(low),
        high=CentsPerBtc(high), volume=Sats(draw(st.integers(1, 10**10))),
        observed_at=UnixSeconds(slot + 60 + draw(st.integers(0, 20))),
        evidence=Hash32(draw(st.binary(min_size=32, max_size=32))),
    )  # fmt: skip


@st.composite
def leg_quotes(draw, venue, slot):
    low, first, close, high = sorted(draw(st.integers(94_000_000, 101_000_000)) for _ in range(4))
    return LegQuote(
        venue=venue, slot=slot, open=Rate(first), low=Rate(low), high=Rate(high), rate=Rate(close), volume=10**11,
        observed_at=UnixSeconds(slot + 61), evidence=Hash32(draw(st.binary(min_size=32, max_size=32))),
    )  # fmt: skip


@st.composite
def minutes(draw):
    found = []
    for place in range(draw(st.integers(1, 4))):
        slot = Slot(SLOT + 60 * place)
        said = [draw(quotes(v, slot)) for v in draw(st.lists(st.sampled_from(DOLLARS + COINS), unique=True))]
        said += [draw(leg_quotes(v, slot)) for v in draw(st.lists(st.sampled_from(LEGS), unique=True))]
        if draw(st.integers(0, 9)) == 0 and said:
            again = draw(st.sampled_from(said))
            said.append(draw(quotes(again.venue, slot) if isinstance(again, Quote) else leg_quotes(again.venue, slot)))
        if draw(st.integers(0, 9)) == 0:
            said.append(draw(quotes(parse_venue("stranger:BTC/USD"), slot)))
        if draw(st.integers(0, 9)) == 0:
            said.append(draw(quotes(DOLLARS[0], Slot(slot + 60))))
        found.append((slot, [json.dumps(encode_observation(one)) for one in said]))
    return found


@settings(max_examples=300, deadline=None)
@given(found=minutes(), rule=st.sampled_from(RULES), registered=st.integers(0, 3))
def test_many_minutes_at_once_say_what_each_says_alone(found, rule, registered) -> None:
    venues = DOLLARS[: 5 - registered] + COINS[: 3 - registered]
    together = agreed_minutes(found, registered=venues, legs=LEGS, rule=rule)
    for place, (slot, texts) in enumerate(found):
        alone = agreed_price(map(read_observation, texts), registered=venues, legs=LEGS, rule=rule, slot=slot)
        numbers = [int(getattr(together, name)[place]) for name in
                   ("price", "low", "high", "confidence", "dollar_markets", "reach")]  # fmt: skip
        if isinstance(alone, AgreedPrice):
            said = [alone.price, alone.low, alone.high, alone.confidence, alone.dollar_markets, alone.reach or 0]
            assert numbers == said
            assert bool(together.fit(rule)[place]) is fit_to_settle(alone, rule)
        else:
            assert numbers == [0] * 6
            assert not together.fit(rule)[place]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("close_cents", 5_000_000.0), ("close_cents", True), ("close_cents", "5000000"), ("close_cents", 2**63),
        ("low_cents", 6_000_000), ("volume_sats", 0), ("evidence", "00"), ("evidence", "zz" * 32), ("evidence", None),
        ("slot", 61), ("observed_at_unix", -1), ("venue", 5), ("venue", "a:BTC/usd"), ("kind", "guess"),
    ],
)  # fmt: skip
def test_a_text_that_the_strict_reader_refuses_is_refused_by_the_same_error(field, value) -> None:
    quote = Quote(
        venue=DOLLARS[0], slot=SLOT, open=CentsPerBtc(5_000_000), close=CentsPerBtc(5_000_000),
        low=CentsPerBtc(5_000_000), high=CentsPerBtc(5_000_000), volume=Sats(1), observed_at=UnixSeconds(SLOT + 61),
        evidence=Hash32(bytes(32)),
    )  # fmt: skip
    text = json.dumps({**encode_observation(quote), field: value})
    with pytest.raises(InvalidInputError) as strict:
        read_observation(text)
    with pytest.raises(InvalidInputError) as batched:
        agreed_minutes([(SLOT, [text])], registered=DOLLARS, legs=LEGS, rule=RULES[0])
    assert str(batched.value) == str(strict.value)


def test_no_minute_at_all_is_no_price_at_all() -> None:
    nothing = agreed_minutes([], registered=DOLLARS, legs=LEGS, rule=RULES[0])
    silent = agreed_minutes([(SLOT, [])], registered=DOLLARS, legs=LEGS, rule=RULES[0])
    assert len(nothing.price) == 0
    assert np.array_equal(silent.price, [0])
