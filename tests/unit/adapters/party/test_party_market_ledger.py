import json
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from btcfi.adapters.party import market_ledger
from btcfi.adapters.party.market_ledger import (
    KEPT_SECONDS,
    MarketLedger,
    OfferWithdrawnError,
    TakeCancelledError,
    TakeWithdrawnError,
)
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.firm_offer import Side
from tests.support.accounts import NOW, trader

NAME = "BTC-29JAN27-60000-C"
MAKER, TAKER = trader("maker"), trader("taker")
OFFER = MAKER.offer(NAME, Side.ASK)
TAKE = TAKER.take(OFFER, 10)


class Clock:
    """A clock that stands until it is told."""

    def __init__(self, at):
        self.at = at

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock(float(NOW))


@pytest.fixture
def ledger(tmp_path, clock):
    return MarketLedger(tmp_path / "market", clock=clock)


def test_what_was_written_is_there_after_a_restart_and_the_files_are_private(ledger, tmp_path, clock):
    ledger.add_offer(OFFER)
    ledger.add_offer(OFFER)
    ledger.add_take(TAKE, OFFER)
    again = MarketLedger(tmp_path / "market", clock=clock)
    assert again.offers() == [OFFER]
    assert again.offer(OFFER.offer.id) == OFFER
    assert again.take(TAKE.take.id) == TAKE
    assert again.takes() == [(TAKE, OFFER)]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "market").iterdir()}
    assert modes == {0o600}
    assert len((tmp_path / "market" / "ledger.jsonl").read_text().splitlines()) == 2


def test_a_withdrawn_offer_is_no_more_for_every_process_at_once(ledger, tmp_path, clock):
    other = MarketLedger(tmp_path / "market", clock=clock)
    ledger.add_offer(OFFER)
    assert other.offer(OFFER.offer.id) == OFFER
    ledger.withdraw(OFFER.offer.id)
    with pytest.raises(OfferWithdrawnError):
        other.offer(OFFER.offer.id)
    other.add_offer(OFFER)
    with pytest.raises(OfferWithdrawnError):
        ledger.offer(OFFER.offer.id)
    assert other.offers() == []


def test_what_was_never_written_is_not_ours(ledger):
    for asked in (ledger.offer, ledger.take, ledger.withdraw):
        with pytest.raises(NotFoundError):
            asked(OFFER.offer.id)


def test_an_offer_that_lapsed_stands_no_more_and_goes_an_hour_later(ledger, clock):
    ledger.add_offer(OFFER)
    clock.at = OFFER.offer.valid_until
    assert ledger.offers() == []
    assert ledger.offer(OFFER.offer.id) == OFFER
    clock.at += KEPT_SECONDS
    with pytest.raises(NotFoundError):
        ledger.offer(OFFER.offer.id)


def test_numbers_never_come_twice_whatever_the_clock_says_and_whoever_asks(ledger, tmp_path, clock):
    first = ledger.next_number()
    clock.at -= 3_600
    others = [MarketLedger(tmp_path / "market", clock=clock) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        many = [number for block in pool.map(lambda one: one.next_numbers(5), others) for number in block]
    assert len({first, *many}) == 21
    assert min(many) > first
    (tmp_path / "market" / "last-number").write_text("a few")
    with pytest.raises(InvalidInputError):
        ledger.next_number()


def test_a_torn_last_line_was_never_said_and_a_broken_one_is_named(ledger, tmp_path, clock):
    ledger.add_offer(OFFER)
    path = tmp_path / "market" / "ledger.jsonl"
    with path.open("ab") as file:
        file.write(b'{"withdrawn":"')
    again = MarketLedger(tmp_path / "market", clock=clock)
    assert again.offers() == [OFFER]
    again.withdraw(OFFER.offer.id)
    assert [list(json.loads(line)) for line in path.read_text().splitlines()] == [["offer"], ["withdrawn"]]
    path.write_bytes(path.read_bytes() + b"{}\n")
    with pytest.raises(InvalidInputError, match=r"ledger\.jsonl"):
        MarketLedger(tmp_path / "market", clock=clock).offers()


def test_the_file_is_written_anew_without_what_lapsed_and_forgets_no_withdrawal(ledger, tmp_path, clock, monkeypatch):
    monkeypatch.setattr(market_ledger, "_SPARE", 4)
    ledger.add_offers([MAKER.offer(NAME, Side.ASK, number=number) for number in range(10)])
    clock.at += KEPT_SECONDS + 60
    late = [MAKER.offer(NAME, Side.ASK, number=20 + n, valid_until=int(clock.at) + 60) for n in range(2)]
    for one in late:
        ledger.add_offer(one)
    ledger.withdraw(late[0].offer.id)
    assert len((tmp_path / "market" / "ledger.jsonl").read_text().splitlines()) == 3
    assert MarketLedger(tmp_path / "market", clock=clock).offers() == [late[1]]
    with pytest.raises(OfferWithdrawnError):
        MarketLedger(tmp_path / "market", clock=clock).offer(late[0].offer.id)


def test_a_take_that_came_to_nothing_and_a_cancelled_one_stay_so_when_the_file_is_written_anew(
    ledger, tmp_path, clock, monkeypatch
):  # fmt: skip
    monkeypatch.setattr(market_ledger, "_SPARE", 4)
    other = TAKER.take(OFFER, 10, number=9)
    ledger.add_take(TAKE, OFFER)
    ledger.add_take(other, OFFER)
    ledger.withdraw(TAKE.take.id)
    ledger.cancel(other.take.option_id)
    ledger.add_offers([MAKER.offer(NAME, Side.ASK, number=n, valid_until=NOW - 2 * KEPT_SECONDS) for n in range(20)])
    ledger.add_offer(OFFER)
    lines = (tmp_path / "market" / "ledger.jsonl").read_text().splitlines()
    assert sorted(key for line in lines for key in json.loads(line)) == [
        "cancelled", "of", "of", "offer", "take", "take", "withdrawn",
    ]  # fmt: skip
    again = MarketLedger(tmp_path / "market", clock=clock)
    with pytest.raises(TakeWithdrawnError):
        again.take(TAKE.take.id)
    with pytest.raises(TakeCancelledError):
        again.check_not_cancelled(other.take.option_id)
    assert again.take(other.take.id) == other
