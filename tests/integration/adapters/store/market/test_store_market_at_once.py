"""Many at once, and a kill in the middle: no offer gives more than it has, no take counts twice."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, select

from btcfi.adapters.store.market import offers, requests, takes
from btcfi.adapters.store.market import views as market
from btcfi.adapters.store.market.accounts import account, register
from btcfi.adapters.store.market.errors import OfferGoneError
from btcfi.adapters.store.market.tables import FirmOfferRow, TakeRow, TakeState
from btcfi.adapters.store.options.sales import read_market
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.database import Store, StoreBusyError
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.errors import ConflictError
from btcfi.units import UnixSeconds
from tests.support.market_store import MAKER, NOW, OTHER, RULE, SALE, TAKER, filled, post, take
from workers.audit import replay_events

THREADS = 16
FORK = multiprocessing.get_context("fork")  # a child opens a store of its own, and ends without closing ours


@pytest.fixture
def market_store(store):
    return filled(store)


def all_at_once(work, arguments):
    """Run ``work`` in as many threads as arguments, together; return what each returned, or its error."""
    start = Barrier(len(arguments))

    def one(argument):
        start.wait(timeout=20)
        try:
            return work(argument)
        except (ConflictError, StoreBusyError) as e:
            return e

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(one, arguments))


def whole(store, offer):
    """Return what is left of an offer, and check that it is what its takes leave."""
    with store.reading() as session:
        row = offers.find_offer(session, offer.offer.id.hex())
        of_it = select(func.coalesce(func.sum(TakeRow.quantity), 0)).where(TakeRow.offer_id == row.id)
        standing = session.execute(of_it.where(TakeRow.state != TakeState.FAILED)).scalar_one()
        assert row.remaining == row.quantity - standing >= 0
        broken = [one for one in replay_events(session) if not one.subject.startswith("round ")]
        assert broken == []
        return row.remaining


def test_sixteen_that_take_one_offer_get_what_it_has_and_no_more(market_store):
    offer = MAKER.offer(quantity=100)
    post(market_store, MAKER, offer)
    wanted = [TAKER.take(offer, 9) for _ in range(THREADS)]
    got = all_at_once(lambda signed: take(market_store, signed), wanted)
    made = [one for one in got if isinstance(one, TakeRow)]
    assert (len(made), {type(one) for one in got if one not in made}) == (11, {OfferGoneError})
    assert whole(market_store, offer) == 1


def test_one_take_that_comes_sixteen_times_at_once_is_one(market_store):
    offer = MAKER.offer(quantity=100)
    post(market_store, MAKER, offer)
    signed = TAKER.take(offer, 9)
    got = all_at_once(lambda _: take(market_store, signed), range(THREADS))
    assert {one.id for one in got} == {signed.take.id.hex()}
    assert whole(market_store, offer) == 91
    with market_store.reading() as session:
        assert session.execute(select(func.count()).select_from(OptionRow)).scalar_one() == 1


def test_takes_failures_withdrawals_and_posts_at_once_leave_every_offer_whole(market_store):
    standing = [MAKER.offer(quantity=30) for _ in range(4)]
    post(market_store, MAKER, *standing)
    made = [take(market_store, TAKER.take(offer, 10)).option_id for offer in standing]

    def fail(option_id, fault):
        with market_store.transaction() as session:
            takes.fail_take(session, option_id, fault=fault, problem="", now=NOW)

    def withdraw(_):
        with market_store.transaction() as session:
            offers.withdraw_offers(session, MAKER.id, None, now=NOW)

    def expire(_):
        with market_store.transaction() as session:
            offers.expire_offers(session, now=UnixSeconds(NOW + 601))

    work = [
        lambda: fail(made[0], "maker"), lambda: fail(made[0], "taker"), lambda: fail(made[1], "maker"),
        lambda: fail(made[2], "taker"), lambda: fail(made[2], "desk"),
        lambda: withdraw(0), lambda: expire(0), lambda: post(market_store, MAKER, MAKER.offer()),
        lambda: post(market_store, OTHER, OTHER.offer()),
        *(lambda offer=offer: take(market_store, OTHER.take(offer, 10)) for offer in standing),
    ]  # fmt: skip
    got = all_at_once(lambda one: one(), work)
    assert not [one for one in got if isinstance(one, StoreBusyError)], "nobody waits for who waits for him"
    for offer in standing:
        whole(market_store, offer)


def _post_all(url, many, ready):
    store = Store(url)
    ready.wait(60)
    for start in range(0, len(many), 20):
        post(store, MAKER, *many[start : start + 20])
    store.close()
    os._exit(0)


def test_two_processes_that_post_the_same_offers_post_each_once(market_store):
    many = [MAKER.offer() for _ in range(100)]
    url = market_store.engine.url.render_as_string(hide_password=False)
    ready = FORK.Barrier(2)
    both = [FORK.Process(target=_post_all, args=(url, order, ready)) for order in (many, many[::-1])]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0]
    with market_store.reading() as session:
        ranks = session.execute(select(FirmOfferRow.rank)).scalars().all()
        born = session.execute(select(func.count()).where(EventRow.entity == "firm_offer")).scalar_one()
    assert (len(ranks), len(set(ranks)), born) == (100, 100, 100)


def _die(url, signed):
    store = Store(url)
    with store.transaction() as session:
        takes.take(session, signed, rule=SALE, now=NOW, wall=NOW)
        session.flush()
        os._exit(9)


def test_a_process_that_is_killed_before_its_commit_has_taken_nothing_and_the_same_take_goes_on(market_store):
    offer = MAKER.offer(quantity=100)
    post(market_store, MAKER, offer)
    signed = TAKER.take(offer, 9)
    dying = FORK.Process(target=_die, args=(market_store.engine.url.render_as_string(hide_password=False), signed))
    dying.start()
    dying.join(60)
    assert dying.exitcode == 9
    assert whole(market_store, offer) == 100
    assert take(market_store, signed).state == "taken"
    assert whole(market_store, offer) == 91


def test_of_sixteen_that_register_one_name_one_has_it(store):
    traders = [type(MAKER)(name=f"trader-{n}") for n in range(THREADS)]

    def join(trader):
        with store.transaction() as session:
            return register(session, trader.registration(name="one-name"), now=NOW)

    got = all_at_once(join, traders)
    assert len([one for one in got if not isinstance(one, Exception)]) == 1


def test_answers_posted_taken_and_withdrawn_at_once_leave_every_offer_whole_and_the_request_over(market_store):
    asked = TAKER.request(quantity=40)

    def answer(trader, **changes):
        return trader.offer(taker=TAKER.identity, request=asked.request.id, **{"quantity": 20} | changes)

    with market_store.transaction() as session:
        mine = account(session, TAKER.id)
        requests.post_request(session, mine, asked, rule=RULE, market=read_market(session, SALE, now=NOW), now=NOW)
    answers = [answer(trader) for trader in (MAKER, OTHER, MAKER, OTHER)]
    for trader, mine in ((MAKER, answers[::2]), (OTHER, answers[1::2])):
        post(market_store, trader, *mine)

    def withdraw(_):
        with market_store.transaction() as session:
            return requests.withdraw_request(session, TAKER.id, asked.request.id.hex(), now=NOW)

    work = [lambda one=one: take(market_store, TAKER.take(one, 10)) for one in (*answers, *answers)]
    work += [lambda: withdraw(0), lambda: post(market_store, MAKER, answer(MAKER)), lambda: withdraw(1)]
    work += [lambda: post(market_store, OTHER, answer(OTHER), OTHER.offer())]
    got = all_at_once(lambda do: do(), work)
    assert all(not isinstance(one, StoreBusyError) for one in got)
    for one in answers:
        whole(market_store, one)
    withdraw(2)  # an answer that somebody held at that moment was left to lapse
    with market_store.reading() as session:
        found = market.answers(session, asked.request.id.hex(), NOW)
        assert (found.bids, found.asks) == ([], [])
        assert market.open_requests(session, NOW, limit=9).rows == []
