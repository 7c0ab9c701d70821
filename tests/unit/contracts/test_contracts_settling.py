"""What a settlement sends next, case by case: nothing here asks a node."""

from dataclasses import replace

import pytest

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.settling import Again, Alone, Fresh, Wait, Waiting, next_refund, next_step
from btcfi.contracts.settling import Version as Sent
from btcfi.units import Height, Sats, Txid
from tests.support.contracts import BUYER, COARSE, Scene
from tests.support.settling import EXPIRY, REFUND, RULE, cet, coin, terms, version, view

STRANGER = Txid(b"\x77" * 32)


def step(settled, sent=(), coins=None, seen=None, told=None):
    coins = [coin(9)] if coins is None else coins
    return next_step(settled, sent, coins, seen or view(), told or terms(), change_script=BUYER.script)


def in_pool(one, tip=EXPIRY):
    return view(tip, cet_waits=True, anchor=Waiting.alone(one.transaction.txid, fee=one.fee, vsize=202))


def test_a_first_child_brings_both_transactions_to_the_floor_and_a_paid_cet_takes_that_much_less():
    for fee, least in ((0, 1_000), (150, 1_000)):
        settled = cet(fee=fee)
        made = step(settled)
        assert isinstance(made, Fresh)
        both = settled.transaction.vsize + version(settled, made).transaction.vsize
        assert made.fee + fee >= both * least // 1_000
        assert made.fee + fee <= both * least // 1_000 + 1


def test_what_waits_and_is_not_late_is_left_and_after_three_blocks_it_pays_more_from_the_same_coin():
    settled, coins = cet(fee=0), [coin(8, 30_000), coin(9, 40_000)]
    first = version(settled, step(settled, coins=coins))
    assert first.transaction.inputs[1].outpoint == coin(8).outpoint
    for late in (0, 1, 2):
        assert isinstance(step(settled, [first], coins, in_pool(first, EXPIRY + late)), Wait)
    second = step(settled, [first], coins, in_pool(first, EXPIRY + 3))
    assert (second.coin.outpoint, second.fee > first.fee) == (coin(8).outpoint, True)


def test_a_larger_coin_takes_over_when_the_fee_outgrows_the_first():
    settled, coins = cet(fee=0), [coin(8, 1_000), coin(9, 400_000)]
    first = version(settled, step(settled, coins=coins))
    assert first.transaction.inputs[1].outpoint == coin(8).outpoint
    second = step(settled, [first], coins, in_pool(first, EXPIRY + 12))
    assert second.coin.outpoint == coin(9).outpoint


def test_what_left_the_pool_is_sent_again_as_it_is():
    """Replacement cycling: a stranger outbids our child on the anchor, then takes its own away again."""
    settled = cet(fee=0)
    first = version(settled, step(settled))
    assert step(settled, [first], seen=view(EXPIRY + 1)) == Again(version=first)
    assert step(settled, [first], seen=view(EXPIRY + 1, cet_waits=True)) == Again(version=first)


def test_a_strangers_child_is_left_when_it_pays_enough_and_outbid_when_it_does_not():
    """A child of 1,000 vB at 1 sat/vB pays 1,000 sats and keeps the CET cheap: ours pays all of that, and relay."""
    settled = cet(fee=0)
    pin = Waiting.alone(STRANGER, fee=Sats(1_000), vsize=1_000)
    ours = step(settled, seen=view(cet_waits=True, anchor=pin))
    assert isinstance(ours, Fresh)
    assert ours.fee >= pin.fee + 202
    kind = Waiting.alone(STRANGER, fee=Sats(1_500), vsize=1_000)
    assert step(settled, seen=view(cet_waits=True, anchor=kind)) == Wait(why="somebody else's child pays enough for it")


def test_a_child_outbids_a_refund_that_waits_with_all_that_builds_on_it():
    settled = cet()
    refund = Waiting(txid=STRANGER, fee=Sats(20_000), vsize=138, total_fee=Sats(90_000))
    ours = step(settled, seen=view(REFUND, rival=refund))
    package = settled.transaction.vsize + version(settled, ours).transaction.vsize
    assert ours.fee + settled.fee >= 90_000 + package
    assert (ours.fee + settled.fee) * refund.vsize > refund.fee * package


def test_a_child_whose_coin_went_elsewhere_gets_another_coin_and_pays_more():
    settled = cet()
    first = version(settled, step(settled, coins=[coin(8)]))
    second = step(settled, [first], [coin(9)], view(EXPIRY + 1, cet_waits=True))
    assert (second.coin.outpoint, second.fee >= first.fee + 202) == (coin(9).outpoint, True)


@pytest.mark.parametrize("stake", [2_000_000, 0])
def test_without_a_coin_or_a_stake_a_cet_that_pays_for_itself_goes_alone_and_one_that_does_not_waits(stake):
    coins = [] if stake else [coin(9)]
    told = terms(stake=stake)
    assert isinstance(step(cet(), coins=coins, told=told), Alone)
    assert isinstance(step(cet(), coins=coins, told=told, seen=view(cet_waits=True)), Wait)
    stuck = step(cet(fee=0), coins=coins, told=told)
    assert isinstance(stuck, Wait)
    assert ("no coin" if stake else "less") in stuck.why


def test_a_small_coin_pays_what_it_can_rather_than_nothing():
    settled = cet()
    late = step(settled, coins=[coin(9, 5_000)], seen=view(REFUND, rival=None), told=terms(refund=REFUND))
    assert isinstance(late, Fresh)
    first = version(settled, late)
    dear = step(settled, [first], [coin(9, 5_000)], in_pool(first, REFUND))
    assert dear.fee == 5_000 + 240 - 330
    spent = version(settled, dear)
    assert step(settled, [first, spent], [coin(9, 5_000)], in_pool(spent, REFUND)).stuck


def test_the_fee_reaches_the_deadlines_cap_at_the_refund_height_and_never_the_stake():
    settled = cet()
    first = version(settled, step(settled))
    fees = [step(settled, [first], seen=in_pool(first, tip)).fee for tip in range(REFUND - 12, REFUND + 1)]
    both = settled.transaction.vsize + first.transaction.vsize
    assert fees == sorted(fees)
    assert fees[-1] + settled.fee >= both * RULE.deadline_cap // 1_000
    assert step(settled, [first], seen=in_pool(first, REFUND), told=terms(stake=30_000)).fee == 30_000


def test_a_party_that_wakes_six_blocks_before_the_refund_height_pays_the_cap_in_time():
    settled, start = cet(), REFUND - 6
    first = version(settled, step(settled, seen=view(start)), tip=start)
    rates = []
    for tip in range(start + 1, REFUND + 1):
        made = step(settled, [first], seen=in_pool(first, tip))
        rates.append((made.fee + settled.fee) * 1_000 // (settled.transaction.vsize + 202))
    assert rates == sorted(rates)
    assert rates[-1] >= RULE.deadline_cap - 5_000


def test_what_a_block_holds_sends_nothing():
    assert step(cet(), seen=view(mined=True)) == Wait(why="a block holds it")


def test_any_version_of_ours_on_the_anchor_counts_as_ours():
    """A node that did not take the second child holds the first: it is replaced, not taken for a stranger's."""
    settled = cet()
    first = version(settled, step(settled))
    second = version(settled, step(settled, [first], seen=in_pool(first, EXPIRY + 3)))
    still = step(settled, [first, second], seen=in_pool(first, EXPIRY + 4))
    assert isinstance(still, Fresh)
    assert still.fee > second.fee


# ---- refunds


def refund_scene():
    plan = Scene(tolerance=COARSE, expiry_height=EXPIRY, refund_height=REFUND).agreement().plan
    return plan.contract, plan.funding


def sent_refund(made, tip=REFUND):
    return Sent(transaction=made.transaction, fee=made.fee, height=Height(tip))


def test_a_refund_that_waits_is_replaced_by_one_that_pays_more_and_one_that_is_gone_is_sent_again():
    contract, funding = refund_scene()
    made = next_refund(contract, funding, (), view(REFUND), RULE)
    first = sent_refund(made)
    pool = Waiting.alone(first.transaction.txid, fee=first.fee, vsize=first.transaction.vsize)
    assert isinstance(next_refund(contract, funding, [first], view(REFUND + 2, rival=pool), RULE), Wait)
    assert next_refund(contract, funding, [first], view(REFUND + 1), RULE) == Again(version=first)
    dearer = next_refund(contract, funding, [first], view(REFUND + 3, rival=pool), RULE)
    assert dearer.fee >= first.fee + first.transaction.vsize
    assert dearer.seller_return + dearer.fee == contract.collateral


def test_a_refund_does_not_fight_what_both_sides_have_signed():
    contract, funding = refund_scene()
    settling = Waiting.alone(STRANGER, fee=Sats(1_000), vsize=217)
    assert isinstance(next_refund(contract, funding, (), view(REFUND, rival=settling), RULE), Wait)


def test_a_refund_never_pays_more_than_half_of_what_it_brings_home():
    contract, funding = refund_scene()
    poor = replace(contract, collateral=Sats(5_000))
    seen = replace(view(REFUND), estimate=SatsPerKvb(200_000))
    assert next_refund(poor, funding, (), seen, RULE).fee == 2_500
