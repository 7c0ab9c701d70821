"""A net book between two folders on a node, ours and a real one: funded, settled, closed, refunded, and each lie."""

import shutil
from dataclasses import replace

import pytest

from btcfi.contracts.messages import Role
from btcfi.contracts.watch import Action, ContractStatus
from btcfi.errors import InvalidInputError
from btcfi.payoffs.book import book_of
from btcfi.units import CentsPerBtc, Sats
from tests.support.net_books import CONDORS, EXPIRY, FLOOR, condors, legs_of
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


def test_the_side_that_answers_may_be_the_holder_or_the_writer(wallet, tmp_path):
    for proposer in Role:
        two = TwoBooks(wallet, tmp_path / proposer.value, proposer=proposer)
        name, _ = two.active()
        assert two.books(proposer).files.load(name).funded


def test_a_restart_between_any_two_steps_gives_the_same_messages_and_one_funding(two):
    proposal = two.propose()
    two.restart()
    answer = two.theirs.accept(proposal, two.announcements)
    two.restart()
    assert two.theirs.accept(proposal, two.announcements) == answer
    signed = two.ours.sign(answer)
    two.restart()
    assert two.ours.sign(answer) == signed
    funding = two.theirs.complete(signed)
    two.restart()
    assert two.theirs.complete(signed) == funding
    two.wallet.mine()
    two.watch()
    two.restart()
    name = proposal.id.hex()
    assert {one[name].status for one in two.watch().values()} == {ContractStatus.FUNDING}
    two.pass_until(two.made(name).terms.expiry_height)
    two.watch(*two.attest(9_650_000))
    two.restart()
    two.wallet.mine(6)
    assert {one[name].status for one in two.watch().values()} == {ContractStatus.SETTLED}


def test_a_process_that_dies_between_storing_and_sending_its_funding_sends_it_when_it_is_back(two, monkeypatch):
    proposal = two.propose()
    signed = two.ours.sign(two.theirs.accept(proposal, two.announcements))

    def die(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(two.theirs._node, "send", die)
        with pytest.raises(KeyboardInterrupt):
            two.theirs.complete(signed)
    two.restart()
    name = proposal.id.hex()
    assert two.watch()[two.proposer.other][name].action is Action.BROADCAST_FUNDING
    two.wallet.mine()
    assert {one[name].status for one in two.watch().values()} == {ContractStatus.FUNDING}


def test_a_proposal_that_nobody_answers_holds_no_coin_after_its_time(two):
    wallet = two.desks[two.proposer].wallet
    before = wallet.balance()
    proposal = two.propose()
    assert wallet.balance()[1] > before[1]
    late = proposal.terms.valid_until
    two.clock = lambda: late
    two.watch()
    assert wallet.balance() == before
    assert two.ours.files.load(proposal.id.hex()).withdrawn


def test_what_one_side_signed_and_the_other_keeps_back_goes_home_once_the_price_is_known(two):
    proposal = two.propose()
    signed = two.ours.sign(two.theirs.accept(proposal, two.announcements))
    name = proposal.id.hex()
    report = two.desks[two.proposer].watch(two.attest(9_000_000))
    assert "go home" in {one.name: one for one in report}[name].note
    two.wallet.mine(6)
    assert two.ours.files.load(name).cancelled is not None
    with pytest.raises(InvalidInputError):  # the coins of who proposed are spent
        two.theirs.complete(signed)
    two.desks[two.proposer].watch()
    assert two.ours.exposure(besides="") == 0


def test_a_copy_of_the_folder_settles_as_the_folder_does(two, tmp_path):
    name, _ = two.active()
    two.pass_until(two.made(name).terms.expiry_height)
    shutil.copytree(tmp_path / "holder", tmp_path / "copied" / "holder")
    shutil.rmtree(tmp_path / "holder")
    shutil.copytree(tmp_path / "copied" / "holder", tmp_path / "holder")
    two.restart()
    report = two.desks[Role.BUYER].watch(two.attest(11_200_000))
    assert {one.name: one.action for one in report}[name] is Action.SETTLE
    two.wallet.mine()
    assert two.watch()[Role.BUYER][name].status is ContractStatus.SETTLING


def test_a_book_with_a_barrier_of_two_of_three_oracles_goes_the_same_way(wallet, tmp_path):
    book = book_of(
        legs_of(CONDORS[2:], 10), knock_outs=legs_of([CONDORS[0]], 10), barrier=CentsPerBtc(8_000_000), expiry=EXPIRY,
        floor=FLOOR,
    )  # fmt: skip
    two = TwoBooks(wallet, tmp_path, book=book, oracles=3, threshold=2)
    name, _ = two.active()
    two.pass_until(two.made(name).terms.expiry_height)
    two.watch(*two.attest(9_000_000, touched=True)[:2])
    two.wallet.mine()
    two.watch()
    made = two.made(name)
    outcome = two.event.outcome(CentsPerBtc(9_000_000), condition=True)
    asked = made.contract.payout_at(outcome, made.terms.rule, premium=made.terms.legs_premium)
    assert asked in {one.value for one in two.spent(name).outputs}


def test_coins_that_a_book_names_are_no_other_s(two):
    held = two.propose().party.coins
    assert {one.outpoint for one in held} <= two.desks[two.proposer].wallet.held_back(
        two.desks[two.proposer].wallet.scan()
    )
    assert replace(two.terms(), book=condors(quantity=10)).book == two.book
