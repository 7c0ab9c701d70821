"""A counterparty that is out for our money: its scripts, its children, its silence; on both kinds of node."""

from dataclasses import replace

import pytest

from btcfi.adapters.chain.node import TxRejectedError
from btcfi.adapters.party import closing
from btcfi.adapters.party.closing import StaleRequestError
from btcfi.adapters.party.desk import OrderTakenError
from btcfi.adapters.party.funding import CannotBumpError
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.transaction import TRUC_VERSION, Transaction, TxIn, TxOut
from btcfi.contracts.mandate import CloseRule
from btcfi.contracts.messages import Role
from btcfi.contracts.payouts import price_input
from btcfi.contracts.watch import ContractStatus
from btcfi.errors import InvalidInputError
from btcfi.units import Minutes, Sats
from tests.support.chain import output_of
from tests.support.contracts import ORACLES
from tests.support.mandates import give_mandate, mandate
from tests.support.two_parties import IN_THE_MONEY, OPTION, OUT_OF_THE_MONEY, PROGRAM, TwoParties

pytestmark = pytest.mark.integration
RATE = SatsPerKvb(2_000)


@pytest.fixture
def two(wallet, tmp_path):
    return TwoParties(wallet, tmp_path)


def pays_itself(desk, coins, fee, *outputs, version=2):
    """A transaction of a desk's own coins, as its owner may make with any other software."""
    keys, spent = desk.wallet.by_script, [coin.output for coin in coins]
    rest = sum(coin.value for coin in coins) - sum(output.value for output in outputs) - fee
    made = Transaction(
        version=version, inputs=tuple(TxIn(outpoint=coin.outpoint, sequence=0xFFFFFFFD) for coin in coins),
        outputs=(*outputs, TxOut(value=Sats(rest), script=desk.wallet.script)),
    )  # fmt: skip
    for index, output in enumerate(spent):
        made = made.with_witness(index, [keys[output.script].sign_input(made, index, spent)])
    return made


@pytest.mark.parametrize("field", ["payout_script", "change_script"])
@pytest.mark.parametrize(
    "script",
    [bytes([0, 16]) + bytes(16), bytes([0, 2, 1, 1]), bytes([0x51, 2, 0x4E, 0x73]), bytes([0x52, 32]) + bytes(32)],
    ids=["v0 of 16 bytes", "v0 of 2 bytes", "an anchor", "v2"],
)
def test_a_side_whose_part_no_node_would_relay_or_anybody_could_take_is_refused(two, script, field):
    """Both would have signed CETs that no pool takes: who is owed the rest could be held to ransom for it."""
    honest = two.buyer._party
    two.buyer._party = lambda *given: replace(honest(*given), **{field: script})
    _, offer = two.offer()
    with pytest.raises(InvalidInputError) as refused:
        two.buyer.accept(offer, [two.announcement])
    assert "scripts" in str(refused.value)


def test_a_counterparty_that_pins_a_cet_by_a_child_on_its_own_part_is_outbid(wallet, tmp_path):
    """A version 3 transaction has one child in the pool: who spends another output keeps ours out, too."""
    two = TwoParties(wallet, tmp_path, fees=FeeRule(floor=SatsPerKvb(5_000)))
    name, collateral = two.active(refund_in=60)
    two.pass_until(two.store("buyer").load(name).offer.terms.expiry_height)
    cet = two.cet(name).transaction
    padding = [TxOut(value=Sats(1_000), script=wallet.key.script)] * 18
    pin = pays_itself(two.seller, [output_of(cet, 1)], 3_000, *padding, version=TRUC_VERSION)
    two.node.send_package([cet, pin])
    two.buyer.learn(two.attestation())
    assert two.buyer.watch()[0].note == ""
    ours = two.spender(cet.outpoint(2))
    assert ours is not None
    assert two.fee(ours) >= 3_000 + ours.vsize
    wallet.mine()
    assert wallet.confirmations(ours.txid) == 1
    assert two.node.unspent(collateral) is None


@pytest.mark.parametrize("price", [IN_THE_MONEY, OUT_OF_THE_MONEY])
def test_a_contract_that_nobody_funded_before_its_price_was_known_is_taken_home(two, price):
    """Who completes last would otherwise fund what has won, and leave what has lost."""
    _, offer = two.offer()
    signed = two.seller.sign(two.buyer.accept(offer, [two.announcement]))
    two.seller.learn(two.attestation(price))
    assert "go home" in two.seller.watch()[0].note
    with pytest.raises(TxRejectedError):
        two.buyer.complete(signed)
    two.wallet.mine(6)
    assert two.seller.watch()[0].status is ContractStatus.CONFLICTED


def test_a_contract_that_nobody_funds_is_taken_home_when_its_time_to_be_funded_is_over(two):
    name, offer = two.offer()
    signed = two.seller.sign(two.buyer.accept(offer, [two.announcement]))
    contract = two.seller._store.load(name)
    contract.fund_by = two.node.chain_info().median_time  # by its own clock; the scene's option has expired by it
    two.seller._store.save(contract)
    assert "go home" in two.seller.watch()[0].note
    assert two.store("seller").load(name).cancelled is not None
    with pytest.raises(TxRejectedError):
        two.buyer.complete(signed)
    two.wallet.mine()


def test_a_party_s_own_watch_never_funds_an_option_whose_price_is_known(two):
    """The seller holds its coin back in the pool until the price is known, and lets go when the option has lost."""
    name, offer = two.offer()
    signed = two.seller.sign(two.buyer.accept(offer, [two.announcement]))
    coins = two.store("seller").load(name).offer.party.coins
    decoy = next(coin for coin in two.seller.wallet.free() if coin.value < 2_000_000)
    two.node.send(pays_itself(two.seller, [*coins, decoy], 9_000))
    with pytest.raises(TxRejectedError):
        two.buyer.complete(signed)
    two.pass_by(6)
    two.buyer.learn(two.attestation(OUT_OF_THE_MONEY))
    two.node.send(pays_itself(two.seller, [decoy], 30_000))
    assert two.node.pool_spenders([coins[0].outpoint]) == [None]
    two.buyer.watch()
    two.wallet.mine()
    two.buyer.watch()
    bought = two.store("buyer").load(name)
    assert two.wallet.confirmations(bought.funding.txid) is None
    assert two.wallet.confirmations(bought.cancelled.txid) == 1


def test_a_funding_that_a_block_held_is_sent_again_after_a_reorganisation_however_late(two):
    name, collateral = two.active(refund_in=60)
    two.buyer.watch()
    two.buyer.learn(two.attestation())
    two.node.invalidate(two.node.block_hash(two.node.block_count()))
    two.pass_by(2)
    report = two.buyer.watch()[0]
    assert (report.status, report.note) == (ContractStatus.UNFUNDED, "")
    assert collateral.txid in two.node.pool()
    assert two.store("buyer").load(name).cancelled is None
    two.wallet.mine()


def test_a_cancel_does_not_burn_its_owner_s_coins_against_what_the_other_side_has_piled_on_the_funding(two):
    """What is replaced costs the other side nothing; its fee would be ours."""
    name, funding = two.fund(rate=1_000)
    change = output_of(funding, 2)
    large = [coin for coin in two.seller.wallet.free() if coin.value > 500_000]
    two.node.send(pays_itself(two.seller, [change, *large], 1_000_000))
    with pytest.raises(CannotBumpError) as refused:
        two.buyer.cancel(name)
    assert "wait for a block" in refused.value.instead
    assert two.store("buyer").load(name).cancelled is None
    two.wallet.mine()


def test_a_close_that_was_asked_for_is_not_finished_once_the_other_side_has_seen_the_price(two):
    name, _ = two.active(refund_in=60)
    for desk in (two.buyer, two.seller):
        give_mandate(desk, mandate(oracles=ORACLES[:1], programs=[PROGRAM.program_hash], close=CloseRule.AGREED))
    request = two.buyer.request_close(name, payout=Sats(1_000_000), rate=RATE)
    two.buyer.learn(two.attestation())
    answer = two.seller.answer_close(request, payout=Sats(1_000_000))
    with pytest.raises(StaleRequestError):
        two.buyer.finish_close(answer)
    again = two.buyer.request_close(name, payout=Sats(1_000_000), rate=RATE)  # as the refusal says
    assert two.buyer.finish_close(two.seller.answer_close(again, payout=Sats(1_000_000)))
    two.wallet.mine()


def test_a_close_that_was_asked_for_long_ago_is_not_finished(two, monkeypatch):
    name, _ = two.active(refund_in=60)
    for desk in (two.buyer, two.seller):
        give_mandate(desk, mandate(oracles=ORACLES[:1], programs=[PROGRAM.program_hash], close=CloseRule.AGREED))
    request = two.buyer.request_close(name, payout=Sats(1_000_000), rate=RATE)
    answer = two.seller.answer_close(request, payout=Sats(1_000_000))
    asked = two.store("buyer").load(name).asked_at
    monkeypatch.setattr(closing.time, "time", lambda: asked + closing.ASKED_SECONDS + 1)
    with pytest.raises(StaleRequestError):
        two.buyer.finish_close(answer)
    monkeypatch.undo()
    assert two.buyer.finish_close(answer)
    two.wallet.mine()


def test_a_close_at_nothing_because_the_guest_holds_the_option_is_no_exercise(two):
    name, _ = two.active(refund_in=60)
    held = replace(price_input(OPTION, IN_THE_MONEY), time_to_expiry=Minutes(60)).to_bytes()
    with pytest.raises(InvalidInputError) as refused:
        two.seller.request_close(name, payout=Sats(0), rate=RATE, guest_input=held)
    assert "holds" in str(refused.value)


@pytest.mark.parametrize("given", [b"", price_input(OPTION, OUT_OF_THE_MONEY).to_bytes()], ids=["none", "expired"])
def test_no_close_at_nothing_is_answered_for_an_owner_who_has_said_nothing_of_it(two, given):
    """Whatever the mandate leaves unbidden: the seller would take everything back."""
    name, _ = two.active(refund_in=60)
    wide = mandate(oracles=ORACLES[:1], programs=[PROGRAM.program_hash], close=CloseRule.AGREED)
    for desk in (two.buyer, two.seller):
        give_mandate(desk, wide)
    request = two.seller.request_close(name, payout=Sats(0), rate=RATE, guest_input=given)
    with pytest.raises(InvalidInputError):
        two.buyer.answer_close(request, payout=request.payout, unbidden=True)
    assert two.store("buyer").load(name).closes == ()


def test_a_name_that_stands_for_another_order_is_refused_and_not_answered_with_its_offer(two):
    ordered = two.terms()
    first = two.seller.offer(two.terms(premium=40_000), Role.BUYER, order="one")
    with pytest.raises(OrderTakenError):
        two.seller.offer(ordered, Role.BUYER, order="one")
    assert two.seller.offer(first.terms, Role.BUYER, order="one") == first
    assert two.seller.offer(ordered, Role.BUYER, order="two").terms == ordered
