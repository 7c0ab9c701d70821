"""Two parties trade by letters over a desk that neither believes: their own signed offer and take are their word."""

import json
import time

import pytest

from btcfi.adapters.files import write_private
from btcfi.adapters.signed_http import DeskAwayError
from btcfi.market.firm_offer import Side
from tests.support.chain import chain
from tests.support.letter_desk import LetterWorld

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("letters")) as funded:
        yield funded


@pytest.fixture
def world(wallet, tmp_path):
    return LetterWorld(wallet, tmp_path)


def funded(world):
    return [side.contracts()[0].funding is not None for side in (world.buyer,)] == [True]


@pytest.mark.parametrize("side", list(Side))
def test_an_offer_and_a_take_become_a_funded_contract_and_need_no_other_word(wallet, tmp_path, side):
    world = LetterWorld(wallet, tmp_path, side=side)
    name, part = world.deal()
    assert funded(world)
    (sold,), (bought,) = world.seller.contracts(), world.buyer.contracts()
    assert sold.offer.id == bought.offer.id
    assert {sold.order, bought.order} == {name}
    assert sold.firm_offer == bought.firm_offer == part.offer.offer.id.hex()
    assert world.desk.said(world.buyer.trader, f"{name}.funded")["type"] == "btcfi/funded"
    assert not list(world.seller.outbox.glob("*.*.json"))


def test_the_desk_never_sees_a_signature_that_spends_a_coin(world):
    name, _ = world.deal()
    (bought,) = world.buyer.contracts()
    plain = [item.hex() for witness in bought.sign.witnesses.values() for item in witness]
    assert plain
    seen = json.dumps([signed.letter.body for _, known, signed in world.desk.got if known != f"{name}.funded"])
    assert not [item for item in plain if item in seen]
    assert world.desk.said(world.seller.trader, f"{name}.sign")["funding_witnesses"] == {}


def test_letters_that_come_twice_change_nothing_and_a_restart_loses_nothing(world):
    offer = world.post()
    part = world.part(offer, world.take(offer))
    name = world.propose(part)
    world.desk.acknowledges = False  # whatever was fetched comes again and again
    for _ in range(4):
        world.turn(name, part)
        for side in (world.seller, world.buyer):
            side.open()
    assert funded(world)
    assert [len(side.contracts()) for side in (world.seller, world.buyer)] == [1, 1]
    names = [known for _, known, _ in world.desk.got]
    assert len(names) == len(set(names))


def test_a_desk_that_is_away_costs_time_and_nothing_else(world):
    offer = world.post()
    part = world.part(offer, world.take(offer))
    name = world.propose(part)
    world.seller.postman.fetch(0)
    world.desk.away = True
    world.seller.mail.round(world.parties.node.block_count())
    with pytest.raises(Exception, match=r"desk\.test"):
        world.seller.postman.deliver()
    assert [path.name for path in world.seller.outbox.glob("*.*.json")] == [f"{name}.offer.json"]
    world.desk.away = False
    for _ in range(3):
        world.turn(name, part)
    assert funded(world)


def test_what_a_party_refuses_and_waits_for_is_told_once(world):
    offer = world.post()
    part = world.part(offer, world.take(offer))
    world.maker.ledger.withdraw(offer.offer.id)
    name = world.propose(part)
    world.seller.work()
    world.seller.work()
    assert "withdrawn" in world.desk.said(world.seller.trader, f"{name}.proposal.refused")["reason"]
    assert "withdrawn" in world.seller.refused(f"{name}.proposal")
    waits = world.seller.inbox / "refused" / "other.proposal.waiting"
    write_private(waits, b"it has not the coins\n")
    world.seller.work()
    world.seller.work()
    told = [known for _, known, _ in world.desk.got]
    assert told.count(f"{name}.proposal.refused") == told.count("other.proposal.waiting") == 1


def test_a_deal_that_is_not_signed_in_time_frees_both_sides_coins_by_itself(world):
    offer = world.post()
    before = (world.seller.free(), world.buyer.free())
    part = world.part(offer, world.take(offer))
    name = world.propose(part)
    world.seller.work()
    world.carry(name, part)
    world.buyer.work()
    assert world.seller.free() < before[0]
    assert world.buyer.free() < before[1]
    world.clock.at += 40  # the take's time is over; the desk never says that the sale came to nothing
    world.carry(name, part)
    for side in (world.seller, world.buyer):
        side.mail._let_go_at = 0.0
        side.work()
    assert (world.seller.free(), world.buyer.free()) == before
    assert all(one.withdrawn and not one.may_be_funded for one in world.buyer.contracts())


def signed_by_the_seller(world):
    offer = world.post()
    part = world.part(offer, world.take(offer))
    name = world.propose(part)
    world.turn(name, part)
    world.seller.work()
    assert world.seller.contracts()[0].sign is not None
    return name, part


def late(world, part, seconds):
    world.clock.at = part.take.take.valid_until + seconds
    world.seller.mail._let_go_at = 0.0
    world.seller.work()


def test_what_a_stranger_leaves_unfunded_is_taken_home_a_minute_after_the_deal_s_time(world):
    """Else it would hold an option on the deal for hours, paid by nobody."""
    _, part = signed_by_the_seller(world)
    late(world, part, 59)
    assert world.seller.contracts()[0].cancelled is None
    late(world, part, 60)
    (contract,) = world.seller.contracts()
    pool = world.parties.node.pool_entry(contract.cancelled.txid)
    assert pool is not None
    world.parties.wallet.mine()
    late(world, part, 90)
    assert world.seller.contracts()[0].cancelled == contract.cancelled


def test_a_funding_that_waits_in_the_pool_is_left_alone_however_late_it_is(world):
    name, part = signed_by_the_seller(world)
    world.carry(name, part)
    world.buyer.work()
    late(world, part, 600)
    assert world.seller.contracts()[0].cancelled is None
    world.parties.wallet.mine()
    late(world, part, 700)
    assert world.seller.contracts()[0].funded


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_threads_carry_what_comes_and_what_goes_and_end_when_they_are_told(world):
    offer = world.post()
    part = world.part(offer, world.take(offer))
    name = world.propose(part)
    postman = world.seller.postman
    postman.start()
    assert postman.arrived.wait(20)
    world.seller.mail.round(world.parties.node.block_count())
    postman.handled.set()
    until(lambda: world.desk.said(world.seller.trader, f"{name}.offer"))
    postman.stop()
    world.desk.send(world.seller.trader, "late.withdrawal", {"type": "btcfi/withdrawal"})
    time.sleep(0.6)
    assert not (world.seller.inbox / "late.withdrawal.json").exists()


def test_a_desk_that_answers_at_once_or_not_at_all_is_asked_seldom(world):
    said, asked = [], []
    postman = world.seller.postman
    postman._say = said.append

    class Away:
        def get(self, *_, **__):
            asked.append(1)
            raise DeskAwayError("http://desk.test", "away")

    postman._fetching = Away()
    postman.start()
    time.sleep(1.2)
    away = len(asked)
    postman._fetching = world.desk.connection(world.seller.trader)  # empty answers, at once
    until(lambda: len(said) > 1)
    postman.stop()
    assert away <= 3
    assert ["answers again" in one for one in said] == [False, True]
