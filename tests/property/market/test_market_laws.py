"""Laws of names, deals and signed texts: one name an instrument, nothing lost in splits, no bit without a signature."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.market.account import check_registration, decode_signed_registration, encode_signed_registration
from btcfi.market.firm_offer import (
    check_offer,
    check_take,
    deal_of,
    decode_signed_offer,
    decode_signed_take,
    encode_signed_offer,
    encode_signed_take,
    least_takeable,
)
from btcfi.market.instrument import Instrument, UnknownInstrumentError, instrument_of, parse_instrument
from btcfi.market.letter import Letter, check_letter, decode_signed_letter, encode_signed_letter, sign_letter
from btcfi.market.listing import expiries, ladder
from btcfi.market.request import check_request, decode_signed_request, encode_signed_request
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE, Fixing, FixingKind
from settings.market_preset import load_market_preset
from tests.support.market import (
    DESK,
    MAKER,
    TAKER,
    falling,
    key,
    offer,
    quote_request,
    registration,
    request,
    secret,
    signed_offer,
    signed_quote_request,
    signed_take,
    take,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine changes no law."""

PRICES = st.one_of(st.integers(1, (1 << 32) - 1), st.integers(1, 429_000).map(lambda dollars: dollars * 10_000))
MINUTES_OF_THE_CENTURY = st.integers(946_684_800 // 60, 4_102_444_740 // 60).map(lambda minute: minute * 60)
WINDOWS = st.builds(Fixing, st.sampled_from([FixingKind.TWAP, FixingKind.MEDIAN]), st.integers(2, 60))


@st.composite
def instruments(draw):
    american = draw(st.booleans())
    strike = draw(PRICES)
    barrier = draw(st.none() | PRICES)
    assume(barrier != strike)
    return Instrument(
        kind=draw(st.sampled_from(OptionKind)), strike=strike, expiry=draw(MINUTES_OF_THE_CENTURY), barrier=barrier,
        american=american, fixing=MINUTE if american else draw(WINDOWS | st.just(MINUTE)),
    )  # fmt: skip


@unhurried
@given(instruments())
def test_an_instrument_is_the_one_that_its_name_says(one):
    assert parse_instrument(one.name) == one
    assert instrument_of(one.terms(1, 1)) == one


@unhurried
@given(instruments(), st.data())
def test_a_name_with_one_sign_changed_is_another_instruments_or_nobodys(one, data):
    place = data.draw(st.integers(0, len(one.name)))
    cut = data.draw(st.integers(0, 1))
    name = (
        one.name[:place]
        + data.draw(st.sampled_from(["", *"0123456789-dABCKMOPTW", " ", "\n", "\uff11", "\u0661"]))
        + one.name[place + cut :]
    )
    try:
        found = parse_instrument(name)
    except UnknownInstrumentError:
        return
    assert found.name == name
    assert (found == one) == (name == one.name)


@unhurried
@given(st.text() | st.integers() | st.none() | st.binary())
def test_whatever_is_no_name_is_refused_and_never_crashes(name):
    with pytest.raises(UnknownInstrumentError):
        parse_instrument(name)


# ---- deals

PRICES_SATS = st.integers(1, 100_000).map(lambda ticks: ticks * 1_000)


@unhurried
@given(PRICES_SATS, st.integers(1, 10**7), st.lists(st.integers(1, 5_000), min_size=1, max_size=8))
def test_a_deal_taken_in_parts_pays_what_the_whole_pays_and_its_dollars_a_cent_a_part_more_at_most(price, cents, sizes):
    least = least_takeable(price)
    sizes = [least + size for size in sizes]
    made = offer(price=price, price_cents=cents, quantity=sum(sizes), minimum=1)
    parts = [deal_of(made, take(made, quantity=size)) for size in sizes]
    whole = deal_of(made, take(made, quantity=sum(sizes)))
    assert sum(one.premium for one in parts) == whole.premium
    assert sum(one.terms.collateral for one in parts) == whole.terms.collateral
    assert 0 <= sum(one.terms.premium for one in parts) - whole.terms.premium <= len(sizes) - 1
    assert all(type(one.premium) is int and one.premium >= 1_000 and one.terms.premium >= 1 for one in parts)


@unhurried
@given(PRICES_SATS, st.integers(1, 10**7), st.integers(0, 5_000), st.integers(1, 5_000))
def test_more_of_an_offer_costs_more(price, cents, size, more):
    least = least_takeable(price)
    made = offer(price=price, price_cents=cents, quantity=least + size + more, minimum=1)
    small = deal_of(made, take(made, quantity=least + size))
    large = deal_of(made, take(made, quantity=least + size + more))
    assert small.premium < large.premium
    assert small.terms.premium <= large.terms.premium
    assert replace(small.terms, quantity=0, premium=0, collateral=0) == replace(
        large.terms, quantity=0, premium=0, collateral=0
    )


# ---- one bit

LETTER = Letter(
    sender=key(DESK), recipient=key(TAKER), name="t1.offer", body={"n": 5, "list": ["x", {"y": -1}]},
    said=sign_letter(
        Letter(sender=key(request(MAKER)), recipient=key(DESK), name="t1.offer", body={"price": 7}),
        secret(request(MAKER)),
    ),
)  # fmt: skip

SIGNED = {
    "registration": (
        encode_signed_registration(registration()),
        lambda text: check_registration(decode_signed_registration(text)),
    ),
    "offer": (
        encode_signed_offer(signed_offer(falling(taker=key(TAKER), request=quote_request().id))),
        lambda text: check_offer(decode_signed_offer(text), key(request(MAKER))),
    ),
    "take": (
        encode_signed_take(signed_take(take(step=3))),
        lambda text: check_take(decode_signed_take(text), key(request(TAKER))),
    ),
    "quote_request": (
        encode_signed_request(signed_quote_request()),
        lambda text: check_request(decode_signed_request(text), key(request(TAKER))),
    ),
    "letter": (
        encode_signed_letter(sign_letter(LETTER, secret(DESK))),
        lambda text: check_letter(decode_signed_letter(text), sender=key(DESK), recipient=key(TAKER)),
    ),
}


@pytest.mark.parametrize("which", SIGNED)
@unhurried
@given(data=st.data())
def test_a_signed_text_with_one_bit_changed_is_refused(which, data):
    text, check = SIGNED[which]
    raw = json.dumps(text).encode()
    check(json.loads(raw))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        other = json.loads(changed.decode())
    except ValueError:
        return
    if other == text and repr(other) == repr(text):  # a space became another space
        return
    with pytest.raises(BtcfiError):
        check(other)


READERS = {
    "registration": (decode_signed_registration, encode_signed_registration),
    "offer": (decode_signed_offer, encode_signed_offer),
    "take": (decode_signed_take, encode_signed_take),
    "letter": (decode_signed_letter, encode_signed_letter),
    "quote_request": (decode_signed_request, encode_signed_request),
}
BESIDE = {
    "price_sats",
    "price_cents",
    "minimum",
    "quantity",
    "auction.last_sats",
    "auction.last_cents",
    "auction.steps",
}
"""What a field is held against, and may be called wrong in its place."""

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("which", SIGNED)
@unhurried
@given(data=st.data())
def test_what_is_read_at_all_is_written_again_as_it_was(which, data):
    text, (read, write) = SIGNED[which][0], READERS[which]
    name = data.draw(st.sampled_from([*text, "more"]))
    number = st.just(text.get(name)).map(lambda v: v + data.draw(st.integers(-3, 3)) if type(v) is int else v)
    changed = text | {name: data.draw(ANYTHING | number)}
    try:
        found = read(changed)
    except InvalidInputError as e:
        refused = e.field
        assert name in refused or refused in BESIDE
        return
    assert repr(sorted(write(found).items())) == repr(sorted(changed.items()))


# ---- listing


@unhurried
@given(
    st.integers(100_000, 50_000_000), st.integers(100_000, 50_000_000), st.integers(100_000, 50_000_000),
    st.integers(1_700_000_000, 1_900_000_000), st.integers(0, 40 * 86_400),
)  # fmt: skip
def test_a_listed_strike_stays_while_prices_are_added_and_time_passes(spot, other, third, now, later):
    rule = load_market_preset("standard").listing
    for expiry in expiries(rule, now):
        before = set(ladder(rule, spot, expiry, now))
        low, high = min(spot, other), max(spot, other)
        assert before <= set(ladder(rule, other, expiry, now, low=low, high=high))
        if now + later < expiry:
            low, high = min(low, third), max(high, third)
            assert before <= set(ladder(rule, third, expiry, now + later, low=low, high=high))


@unhurried
@given(st.integers(1_000_000_000, 4_000_000_000))
def test_every_listed_expiry_is_at_eight_and_friday_weeks_follow_each_other(now):
    rule = load_market_preset("standard").listing
    found = expiries(rule, now)
    assert all(one > now and one % 86_400 == 8 * 3_600 for one in found)
    assert list(found) == sorted(set(found))
    assert 0 < found[0] - now <= 86_400
    with pytest.raises(InvalidInputError):
        replace(rule, ladder=())
