"""A party alone brings its money home: against refunds, strangers and lost coins, on both kinds of node."""

import pytest

from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.transaction import TRUC_VERSION, TxOut
from btcfi.contracts.watch import Action, ContractStatus
from btcfi.units import Sats
from tests.support.chain import output_of
from tests.support.two_parties import IN_THE_MONEY, OUT_OF_THE_MONEY, TwoParties

pytestmark = pytest.mark.integration


@pytest.fixture
def two(wallet, tmp_path):
    return TwoParties(wallet, tmp_path)


def attested(two, desk, *, price=IN_THE_MONEY, **terms):
    """An active contract at its expiry height, and one desk that has the attestation; and what it did."""
    name, collateral = two.active(**terms)
    two.pass_until(two.store("buyer").load(name).offer.terms.expiry_height)
    desk.learn(two.attestation(price))
    return name, collateral, desk.watch()[0]


def anchor_of(cet):
    return cet.outpoint(len(cet.outputs) - 1)


def children(two, name, side="buyer"):
    return two.store(side).load(name).children


def test_a_buyer_alone_wins_the_race_against_a_refund_at_rising_fees(two):
    """Nobody mines its CET up to the refund height; then the seller, who has heard nothing, tries."""
    name, collateral, report = attested(two, two.buyer, refund_in=9)
    assert (report.action, report.note) == (Action.SETTLE, "")
    refund_height = two.store("buyer").load(name).offer.terms.refund_height
    while two.node.block_count() < refund_height:
        two.pass_by()
        two.buyer.watch()
    fees = [one.fee for one in children(two, name)]
    assert len(fees) > 3
    assert fees == sorted(fees)
    cet = two.spender(collateral)
    rate = FeeRule().deadline_cap
    paid = two.fee(two.spender(anchor_of(cet))) + two.fee(cet)
    assert paid * 1_000 >= rate * (cet.vsize + 200)
    assert two.seller.watch()[0].note  # its refund is not taken: it pays less, or does not fight an attested outcome
    assert two.spender(collateral).txid == cet.txid
    two.wallet.mine(6)
    assert two.buyer.watch()[0].status is ContractStatus.SETTLED
    assert two.wallet.confirmations(cet.txid) == 6


def test_a_buyer_who_wakes_when_the_refund_waits_replaces_it(two):
    name, collateral = two.active(refund_in=6)
    two.pass_until(two.store("buyer").load(name).offer.terms.refund_height)
    assert two.seller.watch()[0].action is Action.REFUND
    refund = two.spender(collateral)
    two.buyer.learn(two.attestation())
    report = two.buyer.watch()[0]
    assert (report.action, report.note) == (Action.SETTLE, "")
    cet = two.spender(collateral)
    assert cet.txid != refund.txid
    assert children(two, name)[0].fee + two.fee(cet) > 0
    assert "signed" in two.seller.watch()[0].note  # the seller sees that the oracles have spoken, and does not fight
    two.wallet.mine()
    assert two.wallet.confirmations(cet.txid) == 1
    assert two.buyer.watch()[0].status is ContractStatus.SETTLING


def test_a_refund_that_blocks_pass_by_pays_more(two):
    name, collateral = two.active(refund_in=6)
    two.pass_until(two.store("buyer").load(name).offer.terms.refund_height)
    two.seller.watch()
    first = two.spender(collateral)
    two.pass_by(3)
    two.seller = two.open("seller")  # after a restart, too
    two.seller.watch()
    second = two.spender(collateral)
    assert second.txid != first.txid
    assert second.outputs[0].value < first.outputs[0].value
    two.node.generate_block(two.wallet.address, [first])  # a miner that kept the older one
    assert two.seller.watch()[0].status is ContractStatus.SETTLING


def test_a_strangers_child_that_pins_the_anchor_is_outbid(wallet, tmp_path):
    """As large as TRUC allows, it pays more than our child would, at a rate below what a miner takes."""
    two = TwoParties(wallet, tmp_path, fees=FeeRule(floor=SatsPerKvb(5_000)))
    name, collateral = two.active(refund_in=60)
    two.pass_until(two.store("buyer").load(name).offer.terms.expiry_height)
    cet = two.cet(name).transaction
    padding = [TxOut(value=Sats(1_000), script=wallet.key.script)] * 18
    pin = wallet.spend([two.stranger[0], output_of(cet, 2)], *padding, fee=3_000, version=TRUC_VERSION)
    two.node.send_package([cet, pin])
    two.buyer.learn(two.attestation())
    assert two.buyer.watch()[0].note == ""
    ours = two.spender(anchor_of(cet))
    assert ours.txid == children(two, name)[-1].transaction.txid
    assert two.fee(ours) >= 3_000 + ours.vsize
    wallet.mine()
    assert wallet.confirmations(cet.txid) == 1
    assert two.node.unspent(collateral) is None


def test_a_child_that_a_stranger_replaced_and_then_dropped_is_sent_again(two):
    """Replacement cycling: within one block, and as often as it is done."""
    name, collateral, _ = attested(two, two.buyer, refund_in=60)
    cet = two.spender(collateral)
    ours = two.spender(anchor_of(cet))
    coin = two.stranger[0]
    outbids = two.wallet.spend([coin, output_of(cet, 2)], fee=20_000, version=TRUC_VERSION)
    two.node.send(outbids)
    two.buyer.watch()
    assert two.spender(anchor_of(cet)).txid == outbids.txid  # a stranger pays for our settlement: let it
    two.node.send(two.wallet.spend([coin], fee=60_000))
    assert two.spender(anchor_of(cet)) is None
    two.buyer.watch()
    assert two.spender(anchor_of(cet)).txid == ours.txid
    assert len(children(two, name)) == 1
    two.wallet.mine()
    assert two.wallet.confirmations(ours.txid) == 1


def test_a_child_whose_coin_was_spent_elsewhere_gets_another_coin(two):
    name, collateral, _ = attested(two, two.buyer, refund_in=60)
    cet = two.spender(collateral)
    first = children(two, name)[0].transaction
    spent = next(one for one in two.buyer.wallet.free([first.inputs[1].outpoint]))
    two.lose(two.buyer, [spent])
    assert two.spender(anchor_of(cet)) is None
    assert two.buyer.watch()[0].note == ""
    second = two.spender(anchor_of(cet))
    assert second.inputs[1].outpoint != first.inputs[1].outpoint
    two.wallet.mine()
    assert two.wallet.confirmations(cet.txid) == 1


def test_an_earlier_child_that_is_mined_after_a_later_one_was_sent_is_ours(two):
    name, collateral, _ = attested(two, two.buyer, refund_in=60)
    cet = two.spender(collateral)
    two.pass_by(3)
    two.buyer.watch()
    first, second = (one.transaction for one in children(two, name))
    assert two.spender(anchor_of(cet)).txid == second.txid
    two.node.generate_block(two.wallet.address, [cet, first])
    assert two.buyer.watch()[0].status is ContractStatus.SETTLING
    two.wallet.mine(6)
    report = two.open("buyer").watch()[0]
    assert (report.status, report.action) == (ContractStatus.SETTLED, Action.DONE)


def test_a_buyer_without_any_coin_is_paid_by_the_cet_alone_and_adds_a_child_once_it_has_one(two):
    name, collateral = two.active(refund_in=60)
    two.lose(two.buyer, two.buyer.wallet.free())
    two.pass_until(two.store("buyer").load(name).offer.terms.expiry_height)
    two.buyer.learn(two.attestation())
    report = two.buyer.watch()[0]
    assert (report.action, "no coin" in report.note) == (Action.SETTLE, True)
    cet = two.spender(collateral)
    assert two.fee(cet) == 1_000
    assert children(two, name) == ()
    payment = two.wallet.spend(two.stranger, TxOut(value=Sats(30_000), script=two.buyer.wallet.script))
    two.node.generate_block(two.wallet.address, [payment])
    assert two.buyer.watch()[0].note == ""
    assert two.spender(anchor_of(cet)).inputs[1].outpoint.txid == payment.txid
    two.wallet.mine()
    assert two.wallet.confirmations(cet.txid) == 1


def test_a_side_with_nothing_at_stake_pays_nothing(two):
    name, collateral, report = attested(two, two.buyer, price=OUT_OF_THE_MONEY, refund_in=60)
    assert "its part" in report.note
    assert children(two, name) == ()
    assert two.fee(two.spender(collateral)) == 1_000
