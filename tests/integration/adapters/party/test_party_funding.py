"""A funding that waits in the pool is bumped by either side, or taken back by either; on both kinds of node."""

import pytest

from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.funding import CannotBumpError
from btcfi.bitcoin.transaction import SEQUENCE_RBF, Transaction, TxIn, TxOut
from btcfi.contracts.watch import ContractStatus
from btcfi.units import Sats
from tests.support.two_parties import SELLER_COINS, TwoParties

pytestmark = pytest.mark.integration
SIDES = ["buyer", "seller"]


@pytest.fixture
def two(wallet, tmp_path):
    return TwoParties(wallet, tmp_path)


def rate(two, *transactions):
    return sum(two.fee(one) for one in transactions) * 1_000 / sum(one.vsize for one in transactions)


@pytest.mark.parametrize("side", SIDES)
def test_a_stuck_funding_is_bumped_by_either_side_and_bumped_again(two, side):
    name, funding = two.fund(rate=1_000)
    desk = getattr(two, side)
    before = rate(two, funding)
    first = desk.bump(name)
    assert rate(two, funding, first) >= 2 * before
    assert [output.script for output in first.outputs] == [desk.wallet.script]
    second = desk.bump(name)
    assert rate(two, funding, second) >= 2 * rate(two, funding)
    assert first.txid not in two.node.pool()
    two.wallet.mine()
    assert two.wallet.confirmations(funding.txid) == two.wallet.confirmations(second.txid) == 1
    with pytest.raises(CannotBumpError) as refused:
        desk.bump(name)
    assert "block holds" in refused.value.problem


def test_a_side_without_an_output_in_the_funding_is_told_what_to_do_instead(wallet, tmp_path):
    two = TwoParties(wallet, tmp_path, buyer=[30_330])
    name, funding = two.fund(rate=1_000)
    assert len(funding.outputs) == 3  # the collateral, the premium, the seller's change
    with pytest.raises(CannotBumpError) as refused:
        two.buyer.bump(name)
    assert f"btcfi party cancel {name}" in refused.value.instead
    assert two.seller.bump(name)


@pytest.mark.parametrize("side", SIDES)
def test_a_stuck_funding_is_taken_back_by_either_side_also_after_the_other_bumped_it(two, side):
    name, funding = two.fund(rate=1_000)
    mine, other = getattr(two, side), getattr(two, "seller" if side == "buyer" else "buyer")
    other.bump(name)
    back = mine.cancel(name)
    assert two.node.pool() == [back.txid]
    assert [output.script for output in back.outputs] == [mine.wallet.script]
    two.seller.watch(), two.buyer.watch()
    assert funding.txid not in two.node.pool()
    with pytest.raises(CannotBumpError):
        mine.bump(name)
    two.wallet.mine()
    assert two.wallet.confirmations(back.txid) == 1
    assert [desk.watch()[0].status for desk in (two.seller, two.buyer)] == [ContractStatus.CONFLICTED] * 2
    with pytest.raises(StepOutOfOrderError):
        mine.cancel(name)


def test_a_cancel_that_waits_is_what_a_watch_sends_again_and_cancelling_again_pays_more(two):
    name, funding = two.fund(rate=1_000)
    first = two.buyer.cancel(name)
    two.buyer = two.open("buyer")
    two.buyer.watch()
    assert two.node.pool() == [first.txid]
    second = two.buyer.cancel(name)
    assert two.node.pool() == [second.txid]
    assert two.fee(second) > first.vsize
    two.wallet.mine()
    assert two.wallet.confirmations(funding.txid) is None


def test_an_offer_is_taken_back_and_its_answer_is_not_signed_any_more(two):
    name, offer = two.offer()
    accepted = two.buyer.accept(offer, [two.announcement])
    two.seller.cancel(name)
    with pytest.raises(StepOutOfOrderError) as refused:
        two.seller.sign(accepted)
    assert "cancelled" in str(refused.value)
    two.buyer.cancel(name)
    two.wallet.mine()
    free, _ = two.seller.balance()
    assert free > sum(SELLER_COINS) - 20_000  # all of it, less a fee


def test_a_confirmed_funding_is_not_cancelled(two):
    name, _ = two.active()
    for desk in (two.seller, two.buyer):
        with pytest.raises(StepOutOfOrderError) as refused:
            desk.cancel(name)
        assert "btcfi party close" in str(refused.value)


def test_a_cancel_pays_no_price_that_the_other_side_names(two):
    """The buyer's child offers a fee that it never pays, for a cancel replaces it: the seller would pay it instead."""
    name, funding = two.fund()
    ours = {key.script: key for key in two.buyer.wallet.keys}
    place = next(index for index, output in enumerate(funding.outputs) if output.script in ours)
    change = funding.outputs[place]
    child = Transaction(
        version=2, inputs=(TxIn(outpoint=funding.outpoint(place), sequence=SEQUENCE_RBF),),
        outputs=(TxOut(value=Sats(change.value - 1_000_000), script=change.script),),
    )  # fmt: skip
    two.node.send(child.with_witness(0, [ours[change.script].sign_input(child, 0, [change])]))
    with pytest.raises(CannotBumpError, match=r"would cost 1,0\d\d,\d\d\d sats"):
        two.seller.cancel(name)
    assert two.store("seller").load(name).cancelled is None
    assert funding.txid in two.node.pool()
