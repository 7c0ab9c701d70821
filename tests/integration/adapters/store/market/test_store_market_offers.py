"""Offers are posted in batches, each by itself; the best stands first, and among equals the earliest."""

import pytest
from sqlalchemy import func, select

from btcfi.adapters.store.market import offers
from btcfi.adapters.store.market import views as market
from btcfi.adapters.store.market.tables import FirmOfferRow
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.market.firm_offer import Side
from btcfi.units import UnixSeconds
from tests.support.market_store import (
    CALL,
    MAKER,
    NOW,
    OTHER,
    PRICE_CENTS,
    PRICE_SATS,
    PUT,
    RULE,
    TAKER,
    filled,
    post,
    take,
)
from workers.audit import replay_events


@pytest.fixture
def market_store(store):
    return filled(store)


def book(store, *, account=None, now=NOW):
    with store.reading() as session:
        found = market.book(session, CALL, now, account=account)
        return [row.number for row in found.bids], [row.number for row in found.asks]


def test_one_bad_offer_of_a_batch_is_refused_alone_and_the_same_batch_again_changes_nothing(market_store):
    good, twin = MAKER.offer(), MAKER.offer()
    many = [
        good, MAKER.offer(valid_until=NOW), MAKER.offer(price=5 * PRICE_SATS), OTHER.offer(),
        MAKER.offer(quantity=99, number=good.offer.number), MAKER.offer("BTC-27NOV22-60000-C"),
        MAKER.offer(quantity=20_000), good, twin,
    ]  # fmt: skip
    posted = post(market_store, MAKER, *many)
    fields = [None, "valid_until", "price_cents", "maker", "number", "instrument", "quantity", None, None]
    assert [one.field for one in posted] == fields
    assert [one.state for one in posted] == [None if field else "open" for field in fields]
    assert [one.offer_id for one in posted] == [one.offer.id.hex() for one in many]
    assert post(market_store, MAKER, *many) == posted
    with market_store.reading() as session:
        assert session.execute(select(func.count()).select_from(FirmOfferRow)).scalar_one() == 2
        events = session.execute(select(func.count()).where(EventRow.entity == "firm_offer")).scalar_one()
        assert events == 2
        broken = [
            one for one in replay_events(session) if not one.subject.startswith("round ")
        ]  # it has no events here
        assert broken == []


@pytest.mark.parametrize(
    "name", ["BTC-27NOV26-40000-C-KO55000", "BTC-14NOV23T2225-60000-C"], ids=["its barrier is passed", "it has begun"]
)
def test_what_nobody_may_take_does_not_stand_before_what_somebody_may(market_store, name):
    (refused,) = post(market_store, MAKER, MAKER.offer(name))
    (good,) = post(market_store, MAKER, MAKER.offer(CALL))
    assert (refused.field, good.problem) == ("instrument", None)


def test_no_account_has_more_open_offers_than_the_rule_says(market_store):
    rule = type(RULE)(**{name: getattr(RULE, name) for name in RULE.__slots__} | {"most_open": 3})
    first = [MAKER.offer() for _ in range(4)]
    assert [one.field for one in post(market_store, MAKER, *first, rule=rule)] == [None, None, None, "offers"]
    assert post(market_store, MAKER, first[0], rule=rule)[0].state == "open"
    assert post(market_store, OTHER, OTHER.offer(), rule=rule)[0].state == "open"
    with market_store.transaction() as session:
        assert offers.withdraw_offers(session, MAKER.id, [first[1].offer.id.hex()], now=NOW) == 1
    assert post(market_store, MAKER, first[3], rule=rule)[0].state == "open"


def test_the_best_price_stands_first_and_of_one_price_the_earliest(market_store):
    tick = 1_000
    prices = {1: 0, 2: tick, 3: -tick, 4: 0}
    for number, more in prices.items():
        for side, trader in ((Side.ASK, MAKER), (Side.BID, OTHER)):
            post(market_store, trader, trader.offer(side=side, price=PRICE_SATS + more, number=number))
    post(market_store, MAKER, MAKER.offer(PUT, number=5))
    assert book(market_store) == ([2, 1, 4, 3], [3, 1, 4, 2])
    with market_store.reading() as session:
        (call, put) = market.chain(session, MAKER.offer().offer.instrument.expiry, NOW)
    assert (call.instrument, put.instrument, put.bid) == (CALL, PUT, None)
    assert (call.bid.price_sats, call.ask.price_sats) == (PRICE_SATS + tick, PRICE_SATS - tick)
    assert (call.ask.price_cents, call.ask.quantity, call.ask.depth, call.ask.offers) == (PRICE_CENTS, 100, 400, 4)


def test_a_batch_keeps_the_order_in_which_it_was_written(market_store):
    many = [MAKER.offer() for _ in range(30)]
    post(market_store, MAKER, *many)
    assert book(market_store)[1] == [one.offer.number for one in many]


def test_what_has_lapsed_is_in_no_book_before_anybody_expires_it(market_store):
    short, long = MAKER.offer(valid_until=UnixSeconds(NOW + 5)), MAKER.offer(valid_until=UnixSeconds(NOW + 50))
    post(market_store, MAKER, short, long)
    assert book(market_store, now=UnixSeconds(NOW + 5))[1] == [long.offer.number]
    with market_store.transaction() as session:
        assert offers.expire_offers(session, now=UnixSeconds(NOW + 5)) == 1
        assert offers.expire_offers(session, now=UnixSeconds(NOW + 5)) == 0
    with market_store.reading() as session:
        assert offers.find_offer(session, short.offer.id.hex()).state == "expired"


def test_an_offer_for_one_account_is_shown_to_it_and_to_its_maker_alone(market_store):
    quote = MAKER.offer(taker=TAKER.identity)
    post(market_store, MAKER, quote)
    seen = {account: book(market_store, account=account)[1] for account in (None, OTHER.id, TAKER.id, MAKER.id)}
    assert seen == {None: [], OTHER.id: [], TAKER.id: [quote.offer.number], MAKER.id: [quote.offer.number]}
    with market_store.reading() as session:
        assert market.chain(session, quote.offer.instrument.expiry, NOW) == []


def test_an_account_withdraws_its_own_and_what_was_taken_stays_taken(market_store):
    some, whole, theirs = MAKER.offer(), MAKER.offer(quantity=10), OTHER.offer()
    post(market_store, MAKER, some, whole)
    post(market_store, OTHER, theirs)
    take(market_store, TAKER.take(some))
    take(market_store, TAKER.take(whole))
    with market_store.transaction() as session:
        assert offers.withdraw_offers(session, MAKER.id, [theirs.offer.id.hex()], now=NOW) == 0
        assert offers.withdraw_offers(session, MAKER.id, None, now=NOW) == 2
        assert offers.withdraw_offers(session, MAKER.id, None, now=NOW) == 0
    assert book(market_store)[1] == [theirs.offer.number]
    with market_store.reading() as session:
        left = {row.number: row.remaining for row in market.offers_of(session, MAKER.id, limit=9).rows}
    assert left == {some.offer.number: 90, whole.offer.number: 0}
    with market_store.reading() as session:
        assert len(market.offers_of(session, MAKER.id, state="withdrawn", limit=9).rows) == 2


def test_what_lapsed_untaken_is_forgotten_with_its_events_and_cannot_be_posted_again(market_store):
    gone, taken, standing = (MAKER.offer(valid_until=UnixSeconds(NOW + more)) for more in (50, 50, 500))
    post(market_store, MAKER, gone, taken, standing)
    take(market_store, TAKER.take(taken))
    later = UnixSeconds(NOW + 100)
    with market_store.transaction() as session:
        assert offers.expire_offers(session, now=later) == 2
        assert offers.prune_offers(session, before=UnixSeconds(NOW + 50)) == 0
        assert offers.prune_offers(session, before=later) == 1
        assert offers.prune_offers(session, before=later) == 0
    with market_store.reading() as session:
        left = {row.number for row in market.offers_of(session, MAKER.id, limit=9).rows}
        broken = [one for one in replay_events(session) if not one.subject.startswith("round ")]
    assert (left, broken) == ({taken.offer.number, standing.offer.number}, [])
    assert post(market_store, MAKER, gone, now=later)[0].field == "valid_until"


def test_pages_of_an_account_s_takes_hold_each_once_whichever_side_it_was(market_store):
    ask, bid = MAKER.offer(), TAKER.offer(side=Side.BID)
    post(market_store, MAKER, ask)
    post(market_store, TAKER, bid)
    made = [take(market_store, TAKER.take(ask)).id for _ in range(3)]
    made += [take(market_store, MAKER.take(bid)).id for _ in range(3)]
    made += [take(market_store, OTHER.take(ask)).id]
    seen, cursor = [], None
    with market_store.reading() as session:
        while True:
            page = market.fills(session, TAKER.id, limit=2, cursor=cursor)
            seen += [row.id for row in page.rows]
            cursor = page.following
            if cursor is None:
                break
    assert sorted(seen) == sorted(made[:6])
