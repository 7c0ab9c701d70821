"""Who asks is answered for itself alone and takes the best; an auction gives its price when its time has come."""

import pytest

from btcfi.adapters.store.market import offers, requests, takes
from btcfi.adapters.store.market import views as market
from btcfi.adapters.store.market.accounts import account
from btcfi.adapters.store.market.errors import OfferGoneError, StepAheadError
from btcfi.adapters.store.options.sales import read_market
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.auction import Auction
from btcfi.market.firm_offer import Side
from btcfi.market.request import LONGEST_SECONDS, MOST_OPEN, Wanted
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
    SALE,
    TAKER,
    filled,
    post,
    take,
)
from workers.audit import replay_events, traded

TICK = 1_000


@pytest.fixture
def market_store(store):
    return filled(store)


def ask(store, trader=TAKER, *, now=NOW, signed=None, **changes):
    signed = signed or trader.request(**changes)
    with store.transaction() as session:
        row = requests.post_request(
            session, account(session, trader.id), signed, rule=RULE, market=read_market(session, SALE, now=now), now=now
        )  # fmt: skip
        return signed.request, row.state


def answer(trader, request, **changes):
    given = {"taker": request.taker, "request": request.id, "quantity": 50} | changes
    return trader.offer(request.instrument.name, given.pop("side", Side.ASK), **given)


def state_of(store, signed):
    with store.reading() as session:
        return offers.find_offer(session, signed.offer.id.hex()).state


def answers(store, request, now=NOW):
    with store.reading() as session:
        found = market.answers(session, request.id.hex(), now)
        return [row.number for row in found.bids], [row.number for row in found.asks]


def audited(store):
    with store.reading() as session:
        rows = [one for one in replay_events(session) if not one.subject.startswith("round ")]
        return rows + traded(session)


# ---- requests


def test_answers_stand_best_first_for_who_asked_and_one_taken_to_the_full_ends_the_others(market_store):
    request, state = ask(market_store)
    assert state == "open"
    dear, best = answer(MAKER, request, price=PRICE_SATS + TICK), answer(OTHER, request, price=PRICE_SATS - TICK)
    standing = MAKER.offer()
    posted = post(market_store, MAKER, dear, standing) + post(market_store, OTHER, best)
    assert [one.problem for one in posted] == [None, None, None]
    assert answers(market_store, request) == ([], [best.offer.number, dear.offer.number])
    with market_store.reading() as session:
        assert [row.number for row in market.book(session, CALL, NOW).asks] == [standing.offer.number]
    with pytest.raises(InvalidInputError, match="taker"):
        take(market_store, OTHER.take(dear, 10))
    take(market_store, TAKER.take(best, 20))
    assert state_of(market_store, dear) == "open"
    take(market_store, TAKER.take(best, 30))
    assert [state_of(market_store, one) for one in (best, dear, standing)] == ["taken", "withdrawn", "open"]
    with pytest.raises(OfferGoneError):
        take(market_store, TAKER.take(dear, 10))
    late = answer(MAKER, request)
    assert post(market_store, MAKER, late)[0].field == "request"
    assert audited(market_store) == []


def test_who_asks_and_withdraws_without_an_end_fills_no_more_than_its_part_of_a_day_and_holds_up_no_other(
    market_store, monkeypatch
):
    monkeypatch.setattr(requests, "MOST_KEPT", 12)
    for _ in range(12):
        request, _ = ask(market_store)
        with market_store.transaction() as session:
            requests.withdraw_request(session, TAKER.id, request.id.hex(), now=NOW)
    with pytest.raises(InvalidInputError, match="of yours are kept"):
        ask(market_store)
    assert ask(market_store, OTHER)[1] == "open"
    with market_store.transaction() as session:
        assert requests.prune_requests(session, before=UnixSeconds(NOW + 61)) == 12
    assert ask(market_store, valid_until=UnixSeconds(NOW + 90))[1] == "open"


def test_parts_of_several_answers_fill_a_request_too(market_store):
    request, _ = ask(market_store)
    one, two, three = answer(MAKER, request), answer(OTHER, request), answer(MAKER, request, price=PRICE_SATS + TICK)
    post(market_store, MAKER, one, three)
    post(market_store, OTHER, two)
    take(market_store, TAKER.take(one, 30))
    take(market_store, TAKER.take(two, 20))
    assert [state_of(market_store, each) for each in (one, two, three)] == ["withdrawn", "withdrawn", "withdrawn"]
    with market_store.reading() as session:
        assert requests.find_request(session, request.id.hex()).state == "filled"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"taker": OTHER.identity}, "taker"), ({"instrument": PUT}, "instrument"), ({"side": Side.BID}, "side"),
        ({"quantity": 51}, "quantity"), ({"request": b"\x07" * 32}, "request"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_request_that_it_names_is_refused_by_its_field(market_store, changes, field):
    request, _ = ask(market_store)
    given = {"taker": request.taker, "request": request.id, "quantity": 50} | changes
    wrong = MAKER.offer(given.pop("instrument", CALL), given.pop("side", Side.ASK), **given)
    assert [one.field for one in post(market_store, MAKER, wrong, answer(MAKER, request))] == [field, None]


def test_a_request_is_answered_on_the_sides_that_it_names_until_its_second(market_store):
    both, _ = ask(market_store, wanted=Wanted.BOTH, valid_until=UnixSeconds(NOW + 5))
    bid, offered = answer(MAKER, both, side=Side.BID), answer(MAKER, both)
    assert [one.problem for one in post(market_store, MAKER, bid, offered)] == [None, None]
    assert answers(market_store, both) == ([bid.offer.number], [offered.offer.number])
    late = answer(MAKER, both)
    assert post(market_store, MAKER, late, now=UnixSeconds(NOW + 5))[0].field == "request"
    with market_store.transaction() as session:
        assert requests.expire_requests(session, now=UnixSeconds(NOW + 5)) == 1
        assert requests.expire_requests(session, now=UnixSeconds(NOW + 5)) == 0
    take(market_store, TAKER.take(offered, 10), now=UnixSeconds(NOW + 6))  # an answer is good for as long as it says


def test_who_asks_withdraws_its_request_and_the_answers_with_it(market_store):
    request, _ = ask(market_store)
    one = answer(MAKER, request)
    post(market_store, MAKER, one)
    with market_store.transaction() as session, pytest.raises(NotFoundError):
        requests.withdraw_request(session, MAKER.id, request.id.hex(), now=NOW)
    for many in (1, 0):
        with market_store.transaction() as session:
            assert requests.withdraw_request(session, TAKER.id, request.id.hex(), now=NOW) == many
    assert state_of(market_store, one) == "withdrawn"
    with market_store.reading() as session:
        assert market.open_requests(session, NOW, limit=9).rows == []
        assert [row.state for row in market.requests_of(session, TAKER.id, limit=9).rows] == ["withdrawn"]
        assert market.requests_of(session, MAKER.id, limit=9).rows == []
        assert market.request_of(session, MAKER.id, request.id.hex()) is None
    with market_store.transaction() as session:
        later = UnixSeconds(NOW + 10_000)
        assert requests.prune_requests(session, before=UnixSeconds(NOW - 1)) == 0
        assert requests.prune_requests(session, before=later) == 1
    assert audited(market_store) == []


def test_the_same_request_again_is_the_same_one_and_what_cannot_be_asked_is_refused_by_its_field(market_store):
    signed = TAKER.request()
    request, _ = ask(market_store, signed=signed)
    assert ask(market_store, signed=signed) == (request, "open")
    for field, changes in (
        ("number", {"number": request.number, "quantity": 7}), ("valid_until", {"valid_until": NOW}),
        ("valid_until", {"valid_until": UnixSeconds(NOW + LONGEST_SECONDS + 1)}), ("quantity", {"quantity": 20_000}),
        ("instrument", {"instrument": "BTC-27NOV22-60000-C"}), ("desk", {"desk": OTHER.identity}),
        ("taker", {"taker": OTHER.identity}),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError) as e:
            ask(market_store, **changes)
        assert e.value.field == field
    for _ in range(MOST_OPEN - 1):
        ask(market_store)
    with pytest.raises(InvalidInputError, match=f"{MOST_OPEN} of yours"):
        ask(market_store)
    ask(market_store, OTHER)


# ---- auctions


def falling(trader=MAKER, begins=NOW + 10, **changes):
    moving = Auction(
        begins=UnixSeconds(begins), step_seconds=30, steps=4, last=PRICE_SATS - 6 * TICK, last_cents=PRICE_CENTS - 360
    )
    return trader.offer(**{"auction": moving, "valid_until": UnixSeconds(NOW + 600)} | changes)


def at_step(trader, signed, step, quantity=10):
    price, cents = signed.offer.prices(step)
    until = UnixSeconds(NOW + 500)
    return trader.take(signed, quantity, price=price, price_cents=cents, step=step, valid_until=until)


def test_an_auction_is_nobodys_before_it_begins_and_no_step_is_taken_before_its_second(market_store):
    signed = falling()
    assert post(market_store, MAKER, signed)[0].problem is None
    begins = UnixSeconds(NOW + 10)
    with market_store.reading() as session:
        assert market.book(session, CALL, NOW).asks == []
        assert len(market.book(session, CALL, begins).asks) == 1
    for step, early in ((0, 1), (1, 1), (1, 30), (4, 7)):
        at = UnixSeconds(begins + 30 * step - early)
        with pytest.raises(StepAheadError) as e:
            take(market_store, at_step(TAKER, signed, step), now=at)
        assert (e.value.step, e.value.seconds) == (step, early)


def test_a_take_pays_the_price_of_the_step_that_it_names_and_no_better_one(market_store):
    signed = falling(begins=NOW - 30)
    post(market_store, MAKER, signed)
    row = take(market_store, at_step(TAKER, signed, 1))
    # six ticks in four steps: one and a half is one
    assert (row.price_sats, row.price_cents) == (PRICE_SATS - TICK, PRICE_CENTS - 90)
    with pytest.raises(InvalidInputError, match="price"):
        take(market_store, TAKER.take(signed, 10, step=1, price=PRICE_SATS - 2 * TICK))
    with pytest.raises(InvalidInputError, match="step"):
        take(market_store, TAKER.take(signed, 10))
    # a step that is over is the maker's gain, and the taker's word
    assert take(market_store, at_step(TAKER, signed, 0)).price_sats == PRICE_SATS
    with market_store.reading() as session:
        assert offers.find_offer(session, signed.offer.id.hex()).remaining == 80
    assert audited(market_store) == []


def test_the_book_s_order_follows_the_steps_that_have_begun(market_store):
    moving, still = falling(), OTHER.offer(price=PRICE_SATS - 2 * TICK)
    post(market_store, MAKER, moving)
    post(market_store, OTHER, still)

    def best(at):
        with market_store.transaction() as session:
            offers.move_prices(session, now=at)
        with market_store.reading() as session:
            return [(row.number, row.price_sats - PRICE_SATS) for row in market.book(session, CALL, at).asks]

    first, second = still.offer.number, moving.offer.number
    begins = NOW + 10
    assert best(UnixSeconds(begins)) == [(first, -2 * TICK), (second, 0)]
    assert best(UnixSeconds(begins + 30)) == [(first, -2 * TICK), (second, -TICK)]
    assert best(UnixSeconds(begins + 95)) == [(second, -4 * TICK), (first, -2 * TICK)]
    assert best(UnixSeconds(begins + 500))[0] == (second, -6 * TICK)
    with market_store.transaction() as session:
        assert offers.find_offer(session, moving.offer.id.hex()).moves_at_unix is None
        assert offers.move_prices(session, now=UnixSeconds(begins + 501)) == 0


def test_an_auction_whose_end_is_another_price_in_dollars_is_not_posted(market_store):
    moving = falling().offer.auction
    wrong = Auction(begins=moving.begins, step_seconds=30, steps=4, last=PRICE_SATS // 2, last_cents=PRICE_CENTS - 360)
    assert post(market_store, MAKER, falling(auction=wrong))[0].field == "auction.last_cents"


def test_a_take_of_a_step_that_fails_gives_its_quantity_back_at_every_price(market_store):
    signed = falling(begins=NOW - 60)
    post(market_store, MAKER, signed)
    row = take(market_store, at_step(TAKER, signed, 2, 100))
    assert state_of(market_store, signed) == "taken"
    with market_store.transaction() as session:
        takes.fail_take(session, row.option_id, fault="taker", problem="silent", now=UnixSeconds(NOW + 20))
    assert state_of(market_store, signed) == "open"
    again = take(market_store, at_step(TAKER, signed, 1, 100), now=UnixSeconds(NOW + 25))
    assert (again.quantity, again.price_sats) == (100, PRICE_SATS - TICK)
    assert audited(market_store) == []
