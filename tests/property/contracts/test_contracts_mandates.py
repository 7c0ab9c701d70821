"""Mandates: what is written is what is read, every field is under the signature, and both ends of a bound count."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.bitcoin.address import NETWORKS
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.buckets import ToleranceRule, most_off
from btcfi.contracts.mandate import (
    Bounds,
    CloseRule,
    Mandate,
    OutsideMandateError,
    WrongMandateError,
    check_mandate,
    decode_mandate,
    decode_signed_mandate,
    encode_mandate,
    encode_signed_mandate,
    sign_mandate,
)
from btcfi.contracts.messages import Role
from btcfi.contracts.option import expected_height
from btcfi.contracts.payouts import decode_terms, price_input
from btcfi.errors import InvalidInputError
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import parse_fixing
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import BasisPoints, CentsPerBtc, Hash32, Height, Sats, UnixSeconds
from tests.support.contracts import ORACLES, Scene
from tests.support.mandates import IDENTITY, IDENTITY_SECRET, authority, mandate
from tests.support.rounding import CENTS, Payoff, table

NUMBERS = st.integers(-(1 << 53), 1 << 53)
BOUNDS = st.tuples(NUMBERS, NUMBERS).map(sorted).map(lambda ends: Bounds(least=ends[0], most=ends[1]))
AMOUNTS = st.integers(0, 2_100_000_000_000_000).map(Sats)
FLAGS = st.booleans()
TIMES = st.integers(0, (1 << 32) - 2).map(UnixSeconds)
FIXINGS = st.sampled_from(["minute", "twap:2", "twap:30", "median:60"]).map(parse_fixing)
PAIRS = {one.name for one in fields(Mandate) if one.type == "Bounds"}


def several(values, most=4):
    return st.lists(values, min_size=1, max_size=most, unique=True).map(tuple)


MANDATES = st.builds(
    lambda oracles, times, unbidden, networks, **rest: Mandate(
        oracle_keys=tuple(map(public_key_xonly, oracles)), threshold=len(oracles),
        valid_from=min(times), valid_until=UnixSeconds(max(times) + 1), unbidden=unbidden and "main" not in networks,
        networks=networks, **rest,
    ),
    oracles=several(st.sampled_from([bytes([n]) * 32 for n in range(1, 20)])), times=st.tuples(TIMES, TIMES),
    number=st.integers(1, 1 << 31), networks=several(st.sampled_from(sorted(NETWORKS))),
    roles=several(st.sampled_from(Role)), kinds=several(st.sampled_from(OptionKind)),
    feeds=several(st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=20)),
    programs=several(st.binary(min_size=32, max_size=32).map(Hash32)),
    presets=st.lists(st.binary(min_size=32, max_size=32).map(Hash32), max_size=2).map(tuple), exposure=AMOUNTS,
    close_fee=AMOUNTS, window_slack=st.integers(0, 1 << 53), american=FLAGS, barrier=FLAGS, unbidden=FLAGS,
    close=st.sampled_from(CloseRule), fixings=st.lists(FIXINGS, max_size=3, unique=True).map(tuple),
    tolerance=st.none() | BOUNDS, **dict.fromkeys(sorted(PAIRS), BOUNDS),
)  # fmt: skip


@given(MANDATES)
@settings(max_examples=100, deadline=None)
def test_a_mandate_that_was_written_is_read_as_it_was_and_its_signature_holds(given_mandate):
    signed = sign_mandate(given_mandate, IDENTITY_SECRET)
    text = json.dumps(encode_signed_mandate(signed))
    again = decode_signed_mandate(json.loads(text))
    assert again == signed
    assert decode_mandate(json.loads(json.dumps(encode_mandate(given_mandate)))) == given_mandate
    check_mandate(again, IDENTITY)


@given(MANDATES, MANDATES, st.sampled_from([one.name for one in fields(Mandate)]))
@settings(max_examples=200, deadline=None)
def test_a_mandate_with_any_field_of_another_is_not_what_its_owner_signed(ours, other, name):
    value = getattr(other, name)
    if value == getattr(ours, name):
        return
    try:
        changed = replace(ours, **{name: value})
    except InvalidInputError:
        return  # a threshold of more oracles, an end before its beginning
    with pytest.raises(WrongMandateError):
        check_mandate(replace(sign_mandate(ours, IDENTITY_SECRET), mandate=changed), IDENTITY)


def test_a_mandate_signed_by_another_identity_and_one_that_names_another_are_not_the_owner_s():
    other = bytes([9]) * 32
    for signed in (
        sign_mandate(mandate(), other),
        replace(sign_mandate(mandate(), other), identity=IDENTITY),
        replace(sign_mandate(mandate(), IDENTITY_SECRET), signature=bytes(64)),
    ):
        with pytest.raises(WrongMandateError):
            check_mandate(signed, IDENTITY)


def test_a_field_that_nobody_knows_is_named_since_its_owner_would_think_that_it_says_something():
    with pytest.raises(InvalidInputError) as error:
        decode_mandate(encode_mandate(mandate()) | {"max_premium_sats": 1})
    assert error.value.field.endswith("max_premium_sats")


# ---- both ends of every bound

SCENE = Scene()
TERMS = SCENE.terms
NOW, HEIGHT = 1_739_999_000, Height(100)
OPTION = decode_terms(TERMS.option)
LIFE = OPTION.expiry - NOW

VALUES = {
    "collateral": TERMS.collateral, "premium": TERMS.premium, "funding_rate": TERMS.rate, "cet_fee": TERMS.cet_fee,
    "life": LIFE, "expiry_slack": TERMS.expiry_height - expected_height(HEIGHT, LIFE),
    "refund_delay": TERMS.refund_height - TERMS.expiry_height, "tolerance": TERMS.rule.tolerance,
}  # fmt: skip
"""What the scene's contract has for each bound in a unit of its own."""

STEPS = Scene().of_version(2)
SHARES = {"premium_share": (TERMS, TERMS.premium), "step_share": (STEPS.terms, STEPS.terms.rule.step)}
"""What it has for the bounds in basis points of the collateral."""


def allows(role=Role.SELLER, terms=TERMS, **changes):
    try:
        SCENE.authority(**changes).check_contract(terms, role)
    except OutsideMandateError:
        return False
    return True


@pytest.mark.parametrize("name", VALUES)
def test_a_term_at_either_end_of_its_bound_is_allowed_and_one_beyond_either_end_is_not(name):
    value = VALUES[name]
    assert allows(**{name: Bounds(least=value, most=value)})
    assert not allows(**{name: Bounds(least=value + 1, most=value + 2)})
    assert not allows(**{name: Bounds(least=value - 2, most=value - 1)})


@pytest.mark.parametrize("name", SHARES)
def test_a_share_is_compared_exactly_at_both_its_ends(name):
    terms, share = SHARES[name]
    part = share * 10_000
    below, above = part // TERMS.collateral, -(-part // TERMS.collateral)
    assert allows(terms=terms, **{name: Bounds(least=below, most=above)})
    assert not allows(terms=terms, **{name: Bounds(least=part // TERMS.collateral + 1, most=10_000)})
    assert not allows(terms=terms, **{name: Bounds(least=-1, most=above - 1)})


def test_a_mandate_of_an_earlier_release_allows_a_tolerance_up_to_the_share_that_its_step_may_have():
    for most, allowed in ((200, True), (199, False)):
        old = mandate(oracles=ORACLES[:1], tolerance=None, step_share=Bounds(least=150, most=most))
        assert "tolerance_basis_points" not in encode_mandate(old)
        assert decode_mandate(encode_mandate(old)) == old
        assert allows(given=old) is allowed
    told = mandate(oracles=ORACLES[:1], tolerance=Bounds(least=0, most=200), step_share=Bounds(least=0, most=0))
    assert allows(given=told)  # a contract of today has no step


@given(kind=st.sampled_from(OptionKind), tolerance=st.integers(1, 10_000), premium=st.integers(0, 7_000_000))
@settings(max_examples=12, deadline=None)
def test_no_payout_is_further_off_than_an_earlier_mandate_s_share_of_the_collateral(kind, tolerance, premium):
    """So that an owner who allowed a step of that share has allowed no less than such a tolerance."""
    payoff, rule = Payoff(kind=kind, strike=10_000_000, quantity=7), ToleranceRule(tolerance=BasisPoints(tolerance))
    buckets = payoff.buckets(rule, premium)
    off = np.abs(table(buckets) - payoff.at(CENTS)).max()
    below, above = most_off(rule, buckets, premium=Sats(premium), collateral=payoff.collateral)
    assert off <= max(below, above)
    assert (off - 1) * 10_000 < tolerance * payoff.collateral


def test_what_is_at_stake_is_the_collateral_for_a_seller_the_premium_for_a_buyer_and_counts_to_the_satoshi():
    for role, stake in ((Role.SELLER, TERMS.collateral), (Role.BUYER, TERMS.premium)):
        narrow = mandate(oracles=ORACLES[:1], exposure=Sats(stake + 4))
        authority(narrow, exposure=4).check_contract(TERMS, role)
        with pytest.raises(OutsideMandateError) as error:
            authority(narrow, exposure=5).check_contract(TERMS, role)
        assert error.value.field == "exposure"


def test_a_mandate_is_valid_from_its_first_second_and_no_more_at_its_last():
    for now, valid in ((999, False), (1_000, True), (1_999, True), (2_000, False)):
        given_authority = authority(valid_from=1_000, valid_until=2_000, close=CloseRule.AGREED, now=now)
        if valid:
            given_authority.check_close(payout=Sats(1), rate=2_000, fee=Sats(300), guest_input=b"")
        else:
            with pytest.raises(WrongMandateError):
                given_authority.check_close(payout=Sats(1), rate=2_000, fee=Sats(300), guest_input=b"")


def closes(*, guest=True, **changes):
    raw = price_input(OPTION, CentsPerBtc(12_500_000)).to_bytes() if guest else b""
    try:
        authority(**changes).check_close(payout=Sats(1), rate=SatsPerKvb(2_000), fee=Sats(300), guest_input=raw)
    except OutsideMandateError as e:
        return e.field
    return ""


def test_a_close_is_bounded_by_its_rule_its_price_its_rate_and_its_fee_at_both_ends():
    assert closes(close=CloseRule.NEVER) == "close"
    assert closes(close=CloseRule.GUEST, guest=False) == "close.guest_input"
    assert closes(close=CloseRule.AGREED, guest=False) == ""
    for name, field, value in (("close_price", "close.price", 12_500_000), ("close_rate", "close.sats_per_kvb", 2_000)):
        assert closes(**{name: Bounds(least=value, most=value)}) == ""
        assert closes(**{name: Bounds(least=value + 1, most=value + 2)}) == field
        assert closes(**{name: Bounds(least=value - 2, most=value - 1)}) == field
    assert closes(close_fee=Sats(300)) == ""
    assert closes(close_fee=Sats(299)) == "close.fee_sats"


def test_no_mandate_takes_what_is_inside_its_bounds_unbidden_where_coins_are_worth_something():
    for networks in (("main",), ("regtest", "main")):
        with pytest.raises(InvalidInputError) as refused:
            mandate(networks=networks, unbidden=True)
        assert refused.value.field == "mandate.unbidden"
    assert mandate(networks=("main",), unbidden=False).unbidden is False
