"""A net book between two folders on a node, ours and a real one: funded, settled, closed, refunded, and each lie."""

import pytest

from btcfi.contracts.messages import Role
from btcfi.contracts.watch import Action, ContractStatus
from btcfi.units import CentsPerBtc, Sats
from tests.support.two_books import TwoBooks

pytestmark = pytest.mark.integration


@pytest.fixture
def two(wallet, tmp_path):
    return TwoBooks(wallet, tmp_path)


PRICES = (4_000_000, 8_500_000, 9_650_000, 11_200_000, 40_000_000)
"""Below the floor, where the holder loses most, between, where it gains most, above the highest price."""


@pytest.mark.parametrize("price", PRICES)
def test_a_book_is_settled_by_the_attestation_at_what_its_own_curve_pays_there(two, price):
    name, _ = two.active()
    two.pass_until(two.made(name).terms.expiry_height)
    reports = two.watch(*two.attest(price))
    assert {one[name].action for one in reports.values()} == {Action.SETTLE}
    two.wallet.mine(6)
    ended = two.watch()
    assert {one[name].status for one in ended.values()} == {ContractStatus.SETTLED}
    made, cet = two.made(name), two.spent(name)
    asked = made.contract.payout_at(
        two.event.outcome(CentsPerBtc(price)), made.terms.rule, premium=made.terms.legs_premium
    )
    both = made.contract.collateral - 240 - made.terms.cet_fee
    held = sum(one.value for one in cet.outputs if one.script == made.netted.plan.contract.buyer_script)
    assert held == min(asked, both)
    # nothing is at stake in what has ended
    assert {two.books(role).exposure(besides="") for role in Role} == {0}


def test_both_get_back_what_they_put_in_when_the_oracles_stay_silent_and_not_a_block_before(two):
    name, _ = two.active()
    made = two.made(name)
    two.pass_until(made.terms.refund_height - 1)
    assert {one[name].action for one in two.watch().values()} == {Action.WAIT}
    two.pass_until(made.terms.refund_height)
    assert {one[name].action for one in two.watch().values()} == {Action.REFUND}
    two.wallet.mine(6)
    assert {one[name].status for one in two.watch().values()} == {ContractStatus.SETTLED}
    refund = two.spent(name)
    assert [one.value for one in refund.outputs[:2]] == [made.contract.holder, made.contract.writer - 1_240]


def test_a_refund_that_no_block_takes_is_paid_for_by_a_child_of_whoever_has_a_coin(two):
    name, collateral = two.active()
    made = two.made(name)
    two.pass_until(made.terms.refund_height)
    two.watch()
    two.pass_until(made.terms.refund_height + 4)
    notes = {role: one[name].note for role, one in two.watch().items()}
    assert notes[Role.BUYER] == ""
    kept = two.books(Role.BUYER).files.load(name)
    assert len(kept.refund_children) == 1
    refund = two.spender(collateral)
    assert two.spender(refund.outpoint(len(refund.outputs) - 1)).txid == kept.refund_children[0].transaction.txid
    # the coin that pays is no other contract's
    assert kept.paying <= two.desks[Role.BUYER].wallet.held_back(two.desks[Role.BUYER].wallet.scan())


@pytest.mark.parametrize("asks", list(Role))
def test_both_close_early_at_what_they_agree_on_and_every_watch_knows_it_for_theirs(two, asks):
    name, _ = two.active()
    request = two.books(asks).request_close(name, payout=Sats(2_000_000), rate=two.terms().rate)
    answer = two.books(asks.other).answer_close(request, payout=Sats(2_000_000))
    closed = two.books(asks).finish_close(answer)
    two.wallet.mine(6)
    assert {one[name].status for one in two.watch().values()} == {ContractStatus.SETTLED}
    assert two.spent(name).txid == closed.txid
    assert closed.outputs[0].value == 2_000_000
