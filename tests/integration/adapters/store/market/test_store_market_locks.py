"""Two processes that end or take the same things at once wait for each other in one direction, on either database."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import pytest

from btcfi.adapters.store.market import failing, offers, requests
from btcfi.adapters.store.market.accounts import register
from btcfi.adapters.store.options.options import locked_option
from btcfi.units import UnixSeconds
from tasks import market as market_tasks
from tests.integration.adapters.store.market.test_store_market_requests import answer, ask
from tests.support.market_store import MAKER, NOW, filled, newer, post, traded

OVER = UnixSeconds(NOW + 61)


@pytest.fixture
def market_store(store):
    return filled(store)


def beside(store, first, second, other):
    """Do ``first`` and ``second`` in one transaction, and ``other`` in another that began between the two."""
    began = Event()

    def elsewhere():
        began.set()
        other()

    with ThreadPoolExecutor(1) as pool:
        with store.transaction() as session:
            first(session)
            done = pool.submit(elsewhere)
            began.wait(timeout=20)
            with pytest.raises(TimeoutError):
                done.result(timeout=0.5)  # it waits for what we hold
            second(session)
        done.result(timeout=20)


def test_a_last_second_take_of_an_answer_and_the_clock_that_ends_both_do_not_block_each_other(market_store):
    request, _ = ask(market_store)
    offer = answer(MAKER, request, valid_until=UnixSeconds(NOW + 60))
    assert post(market_store, MAKER, offer)[0].problem is None
    ticking = SimpleNamespace(work=market_store.transaction, now=lambda: OVER)
    beside(
        market_store,
        lambda session: requests.locked_request(session, request.id.hex()),
        lambda session: offers.locked_offer(session, offer.offer.id.hex()),
        lambda: market_tasks._lapse(ticking),
    )


def test_new_keys_of_an_account_and_the_failing_of_one_of_its_takes_do_not_block_each_other(market_store):
    names = sorted(traded(market_store, quantity=10)[2].option_id for _ in range(2))

    def renew():
        with market_store.transaction() as session:
            register(session, newer(MAKER).registration(), now=NOW)

    def fail(session):
        failing.fail_by_us(session, names[1], "of ours", now=NOW)
        offers.lose_rank(session, MAKER.id, now=NOW)

    beside(market_store, lambda session: locked_option(session, names[1]), fail, renew)
