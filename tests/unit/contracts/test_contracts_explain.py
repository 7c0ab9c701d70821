"""A contract in plain words: what the words say is what the transactions do, and what does not hold has no words."""

from dataclasses import replace

import numpy as np
import pytest

from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.contracts import setup
from btcfi.contracts.buckets import most_off
from btcfi.contracts.explain import Messages, _fees, verified
from btcfi.contracts.messages import Offer, Role
from btcfi.contracts.option import RefundTooEarlyError, WrongSignatureError
from btcfi.contracts.payouts import breakpoints_of, condition_of, encode_terms
from btcfi.errors import InvalidInputError
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.oracle.announcement import WrongAnnouncementError, announce
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot
from tests.support.contracts import COARSE, COLLATERAL, ORACLES, STRIKE, Scene, event
from tests.support.rounding import table

BARRIER = CentsPerBtc(15_000_000)


def option(**changes):
    terms = OptionTerms(
        kind=OptionKind.CALL, strike=STRIKE, quantity=CentiBtc(10), barrier=None, american=False,
        expiry=event().expiry, premium=Cents(5_000), collateral=COLLATERAL,
    )  # fmt: skip
    return replace(terms, **changes)


def scene(about=None, **changes):
    about = about or option()
    watched = event(condition=condition_of(about, Slot(about.expiry - 3600)))
    made = Scene(event=watched, tolerance=500, oracles=3, threshold=2, **changes)
    return made.with_terms(option=encode_terms(about), breakpoints=breakpoints_of(about))


def messages(made, *, signed=True):
    _, accept, sign, _ = made.run()
    return Messages(offer=made.offer(), accept=accept, sign=sign if signed else None)


def payout_at(price):
    return Sats(COLLATERAL * max(price - STRIKE, 0) // price)


@pytest.fixture(scope="module")
def whole():
    made = scene()
    return made, messages(made)


def words(found):
    return "\n".join(line for section in found.sections for line in section.lines)


def test_the_table_says_what_the_transactions_pay(whole):
    made, said = whole
    found = verified(said, made.payouts, announcements=made.announcements)
    assert [row.price for row in found.payoff] == sorted(row.price for row in found.payoff)
    assert {row.price for row in found.payoff} >= {STRIKE, STRIKE // 2, STRIKE * 2}
    for row in found.payoff:
        exact = payout_at(row.price)  # half of the tolerance of premium or payout is what a range is off
        assert abs(row.buyer - exact) * 20_000 <= 500 * max(50_000, exact) + 20_000
        assert (row.buyer == 0) is (exact == 0)
        assert row.buyer + row.seller + 240 + made.terms.cet_fee == COLLATERAL


def test_it_says_what_the_rounding_can_cost_and_no_range_costs_more(whole):
    made, said = whole
    text = words(verified(said, made.payouts))
    plan = made.agreement().plan
    below, above = most_off(made.terms.rule, plan.buckets, premium=made.terms.premium, collateral=COLLATERAL)
    assert f"the buyer may get {below:,} sat less or {above:,} sat more" in text
    assert "5 % of the premium or the payout" in text
    exact = made.payouts([made.event.price_of(outcome) for outcome in range(1 << 18)])
    off = table(plan.buckets) - np.array(exact)
    assert -off.min() <= below
    assert off.max() <= above
    assert below < 500 * COLLATERAL // 20_000


def test_an_older_contract_says_what_its_step_can_cost():
    made = scene()
    old = Scene(event=made.event, oracles=3, threshold=2).of_version(2, step=500_000)
    offer = Offer(terms=old.terms, role=Role.SELLER, party=old.seller)
    agreement = old.agreement(offer)
    sections = _fees(old.terms, agreement).lines
    assert "Payouts are rounded down to steps of 500,000 sat: the buyer may get 499,999 sat less." in sections


def test_the_worst_of_each_side_is_what_its_coins_and_the_worst_transaction_give(whole):
    made, said = whole
    found = verified(said, made.payouts)
    agreement, _, _, funding = made.run()
    change = {one.script: one.value for one in funding.outputs[2:]}
    put_in = {
        "seller": 10_100_000 - change[made.seller.change_script],
        "buyer": 60_000 - change[made.buyer.change_script],
    }
    least = min(agreement.plan.split_of(place).seller for place in range(len(agreement.plan.buckets)))
    assert found.worst["buyer"] == put_in["buyer"]
    assert found.worst["seller"] == put_in["seller"] - 50_000 - least
    assert f"{found.worst['buyer']:,} sat less" in words(found)


def test_it_names_the_refund_the_oracles_and_whether_they_were_compared(whole):
    made, said = whole
    found = verified(said, made.payouts, announcements=made.announcements)
    assert found.announcements_compared
    assert found.signed_by_both
    assert (found.expiry_height, found.refund_height) == (200, 350)
    for part in ("block 350", "2 of 3", *(one.oracle_key.hex() for one in made.announcements), "the seller alone"):
        assert part in words(found), part
    alone = verified(said, made.payouts)
    assert not alone.announcements_compared
    assert "NOT compared" in words(alone)
    assert alone.as_json()["sections"]["What is NOT guaranteed"]


@pytest.mark.parametrize("offering", list(Role))
def test_before_the_sign_message_it_says_who_has_not_signed(offering):
    made = scene(offering=offering)
    found = verified(messages(made, signed=False), made.payouts)
    assert not found.signed_by_both
    assert f"The {offering.value} has not signed yet" in words(found)


def test_a_knock_out_has_a_row_of_its_own():
    made = scene(option(barrier=BARRIER))
    found = verified(messages(made), made.payouts)
    knocked = found.payoff[-1]
    assert (knocked.price, knocked.buyer) == (None, 0)
    assert "150,000.00" in found.title
    assert made.event.condition in words(found)


WRONG = (setup.WrongMessageError, WrongAdaptorError, WrongSignatureError)
EARLIER = [
    lambda m: replace(m, accept=replace(m.accept, presignatures=m.accept.presignatures[:-65])),
    lambda m: replace(m, accept=replace(m.accept, presignatures=bytes(len(m.accept.presignatures)))),
    lambda m: replace(m, accept=replace(m.accept, offer_id=bytes(32))),
    lambda m: replace(m, offer=replace(m.offer, terms=replace(m.offer.terms, refund_height=351))),
]
LAST = [
    lambda m: replace(m, sign=replace(m.sign, presignatures=bytes(len(m.sign.presignatures)))),
    lambda m: replace(m, sign=replace(m.sign, contract_id=bytes(32))),
    lambda m: replace(m, sign=replace(m.sign, witnesses={})),
]


@pytest.mark.parametrize("change", EARLIER + LAST)
def test_a_contract_that_is_wrong_in_one_thing_is_not_explained(whole, change):
    made, said = whole
    with pytest.raises(WRONG):
        verified(change(said), made.payouts)


@pytest.mark.parametrize("change", EARLIER)
def test_nor_is_one_that_is_wrong_before_it_is_signed(whole, change):
    made, said = whole
    with pytest.raises(WRONG):
        verified(replace(change(said), sign=None), made.payouts)


@pytest.mark.parametrize(
    "about",
    [
        {"option": encode_terms(option(collateral=Sats(20_000_000)))},
        {"breakpoints": ()},
        {"breakpoints": (CentsPerBtc(9_000_000),)},
        {"option": encode_terms(option(expiry=Slot(event().expiry + 60)))},
        {"option": encode_terms(option(barrier=BARRIER)), "breakpoints": (STRIKE, BARRIER)},
    ],
)
def test_terms_that_are_not_the_option_s_are_refused_by_name(about):
    """Buckets are exact between the turning points only: with others a payout would not be the guest's."""
    made = scene().with_terms(**about)
    said = Messages(offer=made.offer(), accept=messages(scene()).accept)
    with pytest.raises(InvalidInputError):
        verified(said, made.payouts)


@pytest.mark.parametrize("condition", ["agreed price >= 16000000 cents", "agreed price <= 15000000 cents"])
def test_an_event_that_watches_another_barrier_is_refused(condition):
    about = option(barrier=BARRIER)
    other = f"{condition} between {about.expiry - 3600} and {about.expiry}"
    made = Scene(event=event(condition=other), tolerance=COARSE).with_terms(
        option=encode_terms(about), breakpoints=breakpoints_of(about)
    )
    with pytest.raises(InvalidInputError):
        verified(messages(made), made.payouts)


def test_the_oracles_of_the_offer_must_be_those_that_were_given(whole):
    made, said = whole
    others = [announce(bytes([90 + n]) * 32, made.event) for n in range(3)]
    for given in (others, made.announcements[:2], [*made.announcements, others[0]]):
        with pytest.raises(WrongAnnouncementError):
            verified(said, made.payouts, announcements=given)
    assert len(ORACLES) == 3


def test_a_refund_earlier_than_one_insists_on_is_refused(whole):
    made, said = whole
    with pytest.raises(RefundTooEarlyError):
        verified(said, made.payouts, min_refund_delay=151)
