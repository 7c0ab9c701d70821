"""While an owner reads what is to be signed in one terminal, another command of the same folder goes on."""

import pytest

from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.desk import AlreadySignedError, CoinsPromisedError, PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.contracts.mandate import WrongMandateError
from tests.support.two_parties import PROGRAM, TwoParties

pytestmark = pytest.mark.integration


@pytest.fixture
def two(wallet, tmp_path):
    return TwoParties(wallet, tmp_path)


def reading(two, side, meanwhile):
    """A desk on a side's folder whose owner says yes to the screen, after something else was done in the folder."""
    store = two.store(side)
    return PartyDesk(
        store, two.keys[side], two.node, Guest(PROGRAM), fees=two.fees, show=lambda _: meanwhile()
    )  # fmt: skip


def answers(two, offer):
    """Two answers to one offer, of one buyer who forgot the first."""
    kept = two.store("buyer").folder / "contracts"
    first = two.buyer.accept(offer, [two.announcement])
    for path in kept.iterdir():
        path.unlink()
    two.buyer = two.open("buyer")
    return first, two.buyer.accept(offer, [two.announcement])


def test_of_two_answers_read_in_two_terminals_one_is_signed(two):
    name, offer = two.offer()
    first, second = answers(two, offer)
    assert first != second
    with pytest.raises(AlreadySignedError):
        reading(two, "seller", lambda: two.seller.sign(first)).sign(second)
    assert two.store("seller").load(name).accept == first


def test_the_same_answer_in_two_terminals_gets_the_same_signatures(two):
    _, offer = two.offer()
    accepted, before = two.buyer.accept(offer, [two.announcement]), []
    signed = reading(two, "seller", lambda: before.append(two.seller.sign(accepted))).sign(accepted)
    assert before == [signed]


def test_what_was_taken_back_while_its_owner_read_is_not_signed(two):
    name, offer = two.offer()
    accepted = two.buyer.accept(offer, [two.announcement])
    with pytest.raises(StepOutOfOrderError):
        reading(two, "seller", lambda: two.seller.cancel(name)).sign(accepted)
    kept = two.store("seller").load(name)
    assert kept.cancelled is not None
    assert kept.sign is None


def test_what_the_buyer_took_back_while_it_read_is_not_funded(two):
    name, offer = two.offer()
    signed = two.seller.sign(two.buyer.accept(offer, [two.announcement]))
    with pytest.raises(StepOutOfOrderError):
        reading(two, "buyer", lambda: two.buyer.cancel(name)).complete(signed)
    kept = two.store("buyer").load(name)
    assert kept.cancelled is not None
    assert kept.funding is None


def test_an_offer_that_two_terminals_accept_is_answered_once(two):
    _, offer = two.offer()
    before = []
    accept = reading(two, "buyer", lambda: before.append(two.buyer.accept(offer, [two.announcement])))
    assert [accept.accept(offer, [two.announcement])] == before


def test_a_coin_that_another_terminal_promised_meanwhile_is_not_promised_again(wallet, tmp_path):
    two = TwoParties(wallet, tmp_path, buyer=[60_000], seller=[10_200_000, 10_200_000])
    (_, one), (_, other) = two.offer(), two.offer()
    with pytest.raises(CoinsPromisedError):
        reading(two, "buyer", lambda: two.buyer.accept(one, [two.announcement])).accept(other, [two.announcement])
    assert two.store("buyer").names() == [one.id.hex()]


@pytest.mark.parametrize("side", ["seller", "buyer"])
def test_what_the_owner_revoked_while_it_read_is_not_signed(two, side):
    name, offer = two.offer()
    accepted = two.buyer.accept(offer, [two.announcement])
    message = accepted if side == "seller" else two.seller.sign(accepted)
    desk = reading(two, side, two.open(side).owner.revoke)
    with pytest.raises(WrongMandateError):
        desk.sign(message) if side == "seller" else desk.complete(message)
    kept = two.store(side).load(name)
    assert kept.sign is None
    assert kept.funding is None
