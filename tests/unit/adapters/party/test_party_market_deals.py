"""A maker signs no step of its own auction before its time, whatever the desk says the time is."""

import pytest

from btcfi.adapters.party.market_deals import MarketDeals, TooEarlyError
from btcfi.adapters.party.market_ledger import MarketLedger
from btcfi.adapters.party.membership import Membership
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.messages import ContractTerms, Role
from btcfi.contracts.payouts import encode_terms
from btcfi.market.account import REQUEST_SECONDS
from btcfi.market.firm_offer import deal_of, sign_offer
from btcfi.market.part import MarketPart, encode_part
from btcfi.units import BasisPoints, Height, UnixSeconds
from tests.support.market import (
    AT,
    MAKER,
    TAKER,
    auction,
    falling,
    registration,
    request,
    secret,
    signed_take,
    take,
)

OFFER = falling(auction=auction(begins=UnixSeconds(AT + 100)))


def deals(folder, number, now):
    member = Membership(url="http://desk.test", network="regtest", desk_box=b"b" * 32, registered=registration(number))
    ledger = MarketLedger(folder, clock=lambda: now)
    ledger.add_offer(signed())
    return MarketDeals(member, ledger, clock=lambda: now), ledger


def signed():
    return sign_offer(OFFER, secret(request(MAKER)))


def part(step):
    price, cents = OFFER.prices(step)
    wanted = signed_take(take(OFFER, price=price, price_cents=cents, step=step, valid_until=UnixSeconds(AT + 600)))
    made = MarketPart(offer=signed(), take=wanted, seller=registration(MAKER), buyer=registration(TAKER, name="bob"))
    return wanted, encode_part(made), deal_of(OFFER, wanted.take)


def terms_of(deal):
    return ContractTerms(
        option=encode_terms(deal.terms), collateral=deal.terms.collateral, premium=deal.premium,
        expiry_height=Height(108), refund_height=Height(120), rate=SatsPerKvb(2_000),
        rule=ToleranceRule(tolerance=BasisPoints(5_000)), breakpoints=(), announcements=(),
    )  # fmt: skip


@pytest.mark.parametrize(("step", "early", "signs"), [
    (0, 0, True), (0, REQUEST_SECONDS, True), (0, REQUEST_SECONDS + 1, False), (4, REQUEST_SECONDS, True),
    (4, REQUEST_SECONDS + 1, False), (10, 10 * 30, False),
])  # fmt: skip
def test_a_step_is_signed_once_it_has_begun_by_the_maker_s_clock_and_what_that_may_be_wrong_by(
    tmp_path, step, early, signs
):
    now = OFFER.auction.begins_at(step) - early
    asked, _ = deals(tmp_path / "maker", MAKER, now)
    wanted, market, deal = part(step)
    given = {"terms": terms_of(deal), "role": Role.SELLER, "name": wanted.take.option_id}
    if signs:
        assert asked.agree(market, **given).quantity == wanted.take.quantity
    else:
        with pytest.raises(TooEarlyError):
            asked.agree(market, **given)


def test_the_clock_of_who_takes_decides_nothing_of_the_maker_s_price(tmp_path):
    wanted, market, deal = part(4)
    asked, ledger = deals(tmp_path / "taker", TAKER, AT)
    ledger.add_take(wanted, signed())
    assert asked.agree(market, terms=terms_of(deal), role=Role.BUYER, name=wanted.take.option_id).offer == OFFER.id
