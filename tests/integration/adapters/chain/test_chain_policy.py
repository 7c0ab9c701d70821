"""What a node relays, replaces and mines: one set of verdicts for both nodes, so that ours is never the laxer one."""

import pytest

from btcfi.adapters.chain.node import FeeTooLowError, InputsSpentError, NodeAnswerError, NotFinalError, TxRejectedError
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import DUST_P2A, INCREMENTAL_FEE_RATE, SatsPerKvb, fee_for
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.script import P2A_SCRIPT, op_return
from btcfi.bitcoin.transaction import TRUC_VERSION, OutPoint, TxOut
from btcfi.units import Sats, Txid
from tests.support.chain import KINDS, SEED, chain, output_of

pytestmark = pytest.mark.integration

ANCHOR = TxOut(value=DUST_P2A, script=P2A_SCRIPT)
OWN_FEE = 1_000
"""What a settlement of version 3 pays by itself."""


@pytest.fixture
def coins(wallet):
    """Three coins of the wallet, confirmed."""
    return wallet.coins_for(wallet.key.script, [100_000] * 3)


def refusal(kind, call, *arguments):
    """Return the refusal's first words: the part that both nodes share."""
    with pytest.raises(kind) as error:
        call(*arguments)
    assert type(error.value) is kind
    return error.value.reason.partition(",")[0]


def breaks_truc(call, *arguments):
    """Return whether it is refused for the rules of version 3: Core says TRUC-violation, Knots names the rule."""
    return refusal(TxRejectedError, call, *arguments).lower().startswith("truc-")


def to_key(wallet, value):
    return TxOut(value=Sats(value), script=wallet.key.script)


def subsidy(height):
    return 5_000_000_000 >> (height // 150)


def settlement(wallet, coin, *, fee=OWN_FEE, version=TRUC_VERSION):
    """Return a parent with an anybody-can-spend anchor: output 0 the anchor, output 1 the wallet's."""
    return wallet.spend([coin], ANCHOR, fee=fee, version=version)


def lift(wallet, parent, coin, *, fee, version=TRUC_VERSION):
    """Return a child that spends the parent's anchor with a coin that pays."""
    return wallet.spend([output_of(parent), coin], fee=fee, version=version)


# ---- what burns or is not ready


def test_an_output_that_burns_money_is_refused(wallet, coins):
    burning = wallet.spend(coins[:1], TxOut(value=Sats(1), script=op_return(b"proof")))
    reason = "Unspendable output exceeds maximum configured by user (maxburnamount)"
    assert refusal(TxRejectedError, wallet.node.send, burning) == reason
    assert refusal(TxRejectedError, wallet.node.send_package, [burning]) == reason
    problems = wallet.node.try_send_packages([[burning]])
    assert [problem.reason for problem in problems] == [reason]
    assert burning.txid not in wallet.node.pool()
    wallet.node.send(burning, may_burn=Sats(1))
    assert burning.txid in wallet.node.pool()


def test_a_burn_is_sent_only_up_to_what_the_caller_says(wallet, coins):
    burning = wallet.spend(coins[:1], TxOut(value=Sats(50_001), script=op_return(b"proof")))
    reason = "Unspendable output exceeds maximum configured by user (maxburnamount)"
    for send, given in ((wallet.node.send, burning), (wallet.node.send_package, [burning])):
        with pytest.raises(TxRejectedError) as refused:
            send(given, may_burn=Sats(50_000))
        assert refused.value.reason == reason
    wallet.node.send_package([burning], may_burn=Sats(50_001))
    assert burning.txid in wallet.node.pool()


def test_a_lock_that_is_not_reached_is_refused_in_a_package_too(wallet, coins):
    early = wallet.spend(coins[:1], ANCHOR, version=3, fee=0, lock_time=wallet.node.block_count() + 5)
    child = lift(wallet, early, coins[1], fee=3_000)
    assert refusal(NotFinalError, wallet.node.send, early) == "non-final"
    assert refusal(NotFinalError, wallet.node.send_package, [early, child]) == "non-final"


def test_an_anchors_spend_carries_no_witness(wallet, coins):
    parent = settlement(wallet, coins[0])
    wallet.node.send(parent)
    child = lift(wallet, parent, coins[1], fee=3_000).with_witness(0, [b"\x01"])
    assert refusal(TxRejectedError, wallet.node.send, child).startswith("bad-witness-")


# ---- replacement of one transaction


def test_a_replacement_pays_what_it_replaces_and_its_own_relay(wallet, coins):
    first = wallet.spend(coins[:1], fee=1_000)
    wallet.node.send(first)
    step = fee_for(first.vsize, INCREMENTAL_FEE_RATE)
    assert (
        refusal(FeeTooLowError, wallet.node.send, wallet.spend(coins[:1], fee=1_000 + step - 1)) == "insufficient fee"
    )
    second = wallet.spend(coins[:1], fee=1_000 + step)
    wallet.node.send(second)
    assert wallet.node.pool_spenders([coins[0].outpoint]) == [second.txid]


def test_a_larger_replacement_of_a_lower_rate_is_refused_although_it_pays_more(wallet, coins):
    wallet.node.send(wallet.spend(coins[:1], fee=2_000))
    outputs = [to_key(wallet, 400)] * 40
    assert refusal(FeeTooLowError, wallet.node.send, wallet.spend(coins[:1], *outputs, fee=5_000)) == "insufficient fee"


def test_a_replacement_outbids_only_the_rate_of_what_it_conflicts_with_and_the_fees_of_all_that_falls(wallet, coins):
    parent = wallet.spend(coins[:1], fee=500)
    wallet.node.send(parent)
    child = wallet.spend([output_of(parent)], fee=5_000)
    wallet.node.send(child)
    assert refusal(FeeTooLowError, wallet.node.send, wallet.spend(coins[:1], fee=5_400)) == "insufficient fee"
    outputs = [to_key(wallet, 400)] * 20  # its rate is below the child's, its fee above that of both
    wide = wallet.spend(coins[:1], *outputs, fee=7_000)
    wallet.node.send(wide)
    assert not {parent.txid, child.txid} & set(wallet.node.pool())


def test_a_replacement_adds_no_input_that_waits_in_the_pool(wallet, coins):
    wallet.node.send(wallet.spend(coins[:1], fee=1_000))
    other = wallet.spend([coins[1]])
    wallet.node.send(other)
    rival = wallet.spend([coins[0], output_of(other)], fee=10_000)
    assert refusal(TxRejectedError, wallet.node.send, rival) == "replacement-adds-unconfirmed"


def test_a_transaction_does_not_replace_its_own_ancestor(wallet, coins):
    parent = wallet.spend(coins[:1])
    wallet.node.send(parent)
    rival = wallet.spend([coins[0], output_of(parent)], fee=10_000)
    assert refusal(TxRejectedError, wallet.node.send, rival) == "bad-txns-spends-conflicting-tx"


def test_both_sides_can_bump_a_stuck_funding_and_the_change_can_pull_it(wallet, coins):
    node = wallet.node
    funding = wallet.spend(coins[:2], to_key(wallet, 150_000), fee=250)
    node.send(funding)
    pull = wallet.spend([output_of(funding, 1)], fee=3_000)
    node.send(pull)
    entry = node.pool_entry(funding.txid)
    assert (entry.fee, entry.descendants_fee, entry.descendants_vsize) == (250, 3_250, funding.vsize + pull.vsize)
    assert node.pool_entry(pull.txid).ancestors_fee == 3_250
    cancel = wallet.spend([coins[1]], fee=3_250)
    assert refusal(FeeTooLowError, node.send, cancel) == "insufficient fee"
    cancel = wallet.spend([coins[1]], fee=3_450)
    node.send(cancel)
    assert node.pool_spenders([coin.outpoint for coin in coins]) == [None, cancel.txid, None]
    assert refusal(FeeTooLowError, node.send, funding) == "insufficient fee"


# ---- long chains


def test_a_chain_of_25_waits_and_the_26th_is_refused(wallet, coins):
    coin = coins[0]
    for _ in range(25):
        link = wallet.spend([coin], fee=200)
        wallet.node.send(link)
        coin = output_of(link)
    assert refusal(TxRejectedError, wallet.node.send, wallet.spend([coin], fee=200)) == "too-long-mempool-chain"


def test_a_transaction_has_at_most_24_waiting_descendants_however_they_are_related(wallet, coins):
    fan = wallet.spend(coins[:1], *[to_key(wallet, 2_000)] * 26, fee=2_000)
    wallet.node.send(fan)
    first = wallet.spend([output_of(fan, 0)], fee=200)
    wallet.node.send(first)
    for index in range(1, 24):
        wallet.node.send(wallet.spend([output_of(fan, index)], fee=200))
    deep = wallet.spend([output_of(first)], fee=200)
    assert refusal(TxRejectedError, wallet.node.send, deep) == "too-long-mempool-chain"
    wallet.mine(2)


# ---- packages


def test_a_package_is_a_child_with_all_its_waiting_parents(wallet, coins):
    node = wallet.node
    first, second = wallet.spend([coins[0]]), wallet.spend([coins[1]])
    child = wallet.spend([output_of(first), output_of(second)])
    node.send(second)
    # as for one by itself whose parent is not there, although here the parent waits
    assert refusal(InputsSpentError, node.send_package, [first, child]) == "package-not-child-with-unconfirmed-parents"
    assert first.txid not in node.pool()
    node.send_package([first, second, child])
    assert {first.txid, second.txid, child.txid} <= set(node.pool())


def test_a_packages_parents_do_not_depend_on_each_other(wallet, coins):
    grand = wallet.spend([coins[0]], to_key(wallet, 50_000))
    parent = wallet.spend([output_of(grand, 0)])
    child = wallet.spend([output_of(grand, 1), output_of(parent)])
    reason = refusal(TxRejectedError, wallet.node.send_package, [grand, parent, child])
    assert reason.startswith("package topology disallowed")
    stranger = wallet.spend([coins[1]])
    reason = refusal(TxRejectedError, wallet.node.send_package, [stranger, child])
    assert reason.startswith("package topology disallowed")


def test_only_a_parent_of_version_3_may_pay_less_than_the_relay_fee(wallet, coins):
    parent = settlement(wallet, coins[0], fee=10, version=2)
    child = lift(wallet, parent, coins[1], fee=5_000, version=2)
    assert refusal(FeeTooLowError, wallet.node.send_package, [parent, child]) == "min relay fee not met"
    parent = settlement(wallet, coins[0], fee=0)
    child = lift(wallet, parent, coins[1], fee=5_000)
    wallet.node.send_package([parent, child])
    assert {parent.txid, child.txid} <= set(wallet.node.pool())


def test_a_packages_fee_counts_for_all_of_it(wallet, coins):
    parent = settlement(wallet, coins[0], fee=0)
    child = lift(wallet, parent, coins[1], fee=0)
    exact = fee_for(parent.vsize + child.vsize, SatsPerKvb(1_000))
    cheap = lift(wallet, parent, coins[1], fee=exact - 1)
    refusal(FeeTooLowError, wallet.node.send_package, [parent, cheap])
    assert parent.txid not in wallet.node.pool()
    wallet.node.send_package([parent, lift(wallet, parent, coins[1], fee=exact)])


def test_a_parent_with_a_fee_of_its_own_goes_alone_and_its_package_finds_it_waiting(wallet, coins):
    parent = settlement(wallet, coins[0])
    wallet.node.send(parent)
    child = lift(wallet, parent, coins[1], fee=5_000)
    assert wallet.node.try_send_packages([[parent, child]]) == [None]
    assert wallet.node.pool_spenders([parent.outpoint(0)]) == [child.txid]
    assert wallet.node.send_package([parent, child]) == [parent.txid, child.txid]
    wallet.mine()
    assert wallet.node.try_send_packages([[parent, child]]) == [None]


def test_a_mined_parent_does_not_keep_its_packages_child_out(wallet, coins):
    parent = settlement(wallet, coins[0])
    wallet.node.send(parent)
    wallet.mine()
    child = lift(wallet, parent, coins[1], fee=5_000)
    wallet.node.send_package([parent, child])
    assert wallet.node.pool_spenders([parent.outpoint(0)]) == [child.txid]


def test_the_one_that_is_wrong_is_named_and_not_the_parent_that_waits_for_its_fee(wallet, coins):
    parent = settlement(wallet, coins[0], fee=0)
    wrong = lift(wallet, parent, coins[1], fee=5_000).with_witness(1, [bytes(64)])
    with pytest.raises(TxRejectedError) as error:
        wallet.node.send_package([parent, wrong])
    assert error.value.txid == wrong.txid
    assert "script-verify-flag-failed" in error.value.reason


def test_a_package_whose_fee_coin_is_spent_says_so(wallet, coins):
    parent = settlement(wallet, coins[0], fee=0)
    child = lift(wallet, parent, coins[1], fee=5_000)
    wallet.node.generate_block(wallet.address, [wallet.spend([coins[1]])])
    with pytest.raises(InputsSpentError) as error:
        wallet.node.send_package([parent, child])
    assert error.value.txid == child.txid


def test_a_parent_that_holds_alone_stays_when_its_child_is_refused(wallet, coins):
    parent = settlement(wallet, coins[0])
    cheap = lift(wallet, parent, coins[1], fee=10)
    assert refusal(FeeTooLowError, wallet.node.send_package, [parent, cheap]) == "min relay fee not met"
    assert parent.txid in wallet.node.pool()
    assert cheap.txid not in wallet.node.pool()


# ---- a package that replaces


def test_a_package_of_a_better_rate_replaces_its_rivals_parent_and_child(wallet, coins):
    node = wallet.node
    old = settlement(wallet, coins[0])
    old_child = lift(wallet, old, coins[1], fee=2_000)
    node.send_package([old, old_child])
    new = settlement(wallet, coins[0], fee=0)
    poor = lift(wallet, new, coins[2], fee=3_000)
    refusal(FeeTooLowError, node.send_package, [new, poor])
    assert {old.txid, old_child.txid} <= set(node.pool())
    new_child = lift(wallet, new, coins[2], fee=6_000)
    node.send_package([new, new_child])
    assert {new.txid, new_child.txid} <= set(node.pool())
    assert not {old.txid, old_child.txid} & set(node.pool())
    wallet.mine()
    assert node.transaction(new_child.txid).confirmations == 1


def test_a_replacing_package_pays_for_its_parent_too_and_is_better_all_along(wallet, coins):
    node = wallet.node
    old = settlement(wallet, coins[0], fee=4_000)
    node.send(old)
    new = settlement(wallet, coins[0], fee=200)
    # more money than the old one, at a rate below it
    wide = wallet.spend([output_of(new), coins[2]], *[to_key(wallet, 400)] * 15, fee=4_900, version=3)
    refusal(FeeTooLowError, node.send_package, [new, wide])
    # the parent's rate alone is not above the old one's, and the package's not above the parent's
    rich = settlement(wallet, coins[0], fee=3_900)
    idle = lift(wallet, rich, coins[2], fee=500)
    refusal(FeeTooLowError, node.send_package, [rich, idle])
    assert old.txid in node.pool()


def test_a_package_replaces_what_its_child_conflicts_with(wallet, coins):
    node = wallet.node
    busy = wallet.spend([coins[2]], fee=1_500)
    node.send(busy)
    parent = settlement(wallet, coins[0], fee=0)
    poor = lift(wallet, parent, coins[2], fee=1_700)
    refusal(FeeTooLowError, node.send_package, [parent, poor])
    child = lift(wallet, parent, coins[2], fee=5_000)
    node.send_package([parent, child])
    assert node.pool_spenders([coins[2].outpoint]) == [child.txid]


def test_a_package_with_another_waiting_parent_replaces_nothing(wallet, coins):
    node = wallet.node
    old = settlement(wallet, coins[0])
    node.send(old)
    cheap, other = (wallet.spend([coin], fee=300) for coin in coins[:2])
    child = wallet.spend([output_of(cheap), output_of(other)], fee=20_000)
    reason = "package RBF failed: new transaction cannot have mempool ancestors"
    assert refusal(TxRejectedError, node.send_package, [cheap, other, child]) == reason
    assert node.pool_spenders([coins[0].outpoint, coins[1].outpoint]) == [old.txid, other.txid]


# ---- version 3


def test_a_waiting_version_3_parent_has_one_child_and_a_better_one_takes_its_place(wallet, coins):
    node = wallet.node
    parent = settlement(wallet, coins[0])
    node.send(parent)
    own = wallet.spend([output_of(parent, 1)], fee=1_500, version=3)
    node.send(own)
    cheap = lift(wallet, parent, coins[1], fee=1_600)
    assert refusal(FeeTooLowError, node.send, cheap) == "insufficient fee (including sibling eviction)"
    better = lift(wallet, parent, coins[1], fee=3_000)
    node.send(better)
    assert own.txid not in node.pool()
    assert node.pool_spenders([parent.outpoint(0), parent.outpoint(1)]) == [better.txid, None]


def test_a_strangers_child_on_the_anchor_is_outbid_and_outbids_again(wallet, coins):
    node = wallet.node
    parent = settlement(wallet, coins[0])
    ours = lift(wallet, parent, coins[1], fee=2_000)
    node.send_package([parent, ours])
    stranger = lift(wallet, parent, coins[2], fee=4_000)
    node.send(stranger)
    assert ours.txid not in node.pool()
    assert refusal(FeeTooLowError, node.send, lift(wallet, parent, coins[1], fee=4_050)) == "insufficient fee"
    again = lift(wallet, parent, coins[1], fee=6_000)
    node.send_package([parent, again])
    assert node.pool_spenders([parent.outpoint(0)]) == [again.txid]
    # the stranger takes its own coin away: replacement cycling leaves the parent by itself
    node.send(wallet.spend([coins[1]], fee=9_000))
    assert again.txid not in node.pool()
    assert parent.txid in node.pool()
    wallet.mine()
    assert node.transaction(parent.txid).confirmations == 1


def test_a_version_3_child_of_more_than_1000_bytes_is_refused(wallet, coins):
    parent = settlement(wallet, coins[0])
    wallet.node.send(parent)
    large = wallet.spend([output_of(parent), coins[1]], *[to_key(wallet, 400)] * 19, fee=9_000, version=3)
    assert large.vsize < 1_000
    larger = wallet.spend([output_of(parent), coins[1]], *[to_key(wallet, 400)] * 25, fee=9_000, version=3)
    assert larger.vsize > 1_000
    assert breaks_truc(wallet.node.send, larger)
    wallet.node.send(large)


def test_a_version_3_transaction_of_more_than_10000_bytes_is_refused(wallet, coins):
    large = wallet.spend(coins[:1], *[to_key(wallet, 330)] * 240, fee=12_000, version=3)
    assert large.vsize > 10_000
    assert breaks_truc(wallet.node.send, large)


@pytest.mark.parametrize(("parent_version", "child_version"), [(3, 2), (2, 3)])
def test_waiting_parent_and_child_are_both_of_version_3_or_neither(wallet, coins, parent_version, child_version):
    parent = settlement(wallet, coins[0], version=parent_version)
    child = lift(wallet, parent, coins[1], fee=3_000, version=child_version)
    assert breaks_truc(wallet.node.send_package, [parent, child])
    assert parent.txid in wallet.node.pool()
    assert breaks_truc(wallet.node.send, child)
    wallet.mine()
    wallet.node.send(child)


def test_a_version_3_child_has_one_waiting_parent_and_no_waiting_child(wallet, coins):
    node = wallet.node
    first, second = settlement(wallet, coins[0]), settlement(wallet, coins[1])
    both = wallet.spend([output_of(first), output_of(second), coins[2]], fee=3_000, version=3)
    assert breaks_truc(node.send_package, [first, second, both])
    child = lift(wallet, first, coins[2], fee=3_000)
    node.send_package([first, child])
    assert breaks_truc(node.send, wallet.spend([output_of(child)], version=3))


def test_a_parent_in_a_package_that_pays_for_itself_meets_the_rule_of_one_child(wallet, coins):
    node = wallet.node
    parent = settlement(wallet, coins[0], fee=0)
    first = lift(wallet, parent, coins[1], fee=3_000)
    node.send_package([parent, first])
    # a sibling through the package's own door is judged as by sendrawtransaction: the parent waits already
    sibling = wallet.spend([output_of(parent, 1)], fee=6_000, version=3)
    node.send_package([parent, sibling])
    assert node.pool_spenders([parent.outpoint(0), parent.outpoint(1)]) == [None, sibling.txid]


# ---- asking first


def test_a_list_is_tried_without_replacing_anything(wallet, coins):
    node = wallet.node
    node.send(wallet.spend(coins[:1], fee=1_000))
    rival = wallet.spend(coins[:1], fee=9_000)
    child = wallet.spend([output_of(rival)])
    assert [one.allowed for one in node.test_accept([rival])] == [True]
    answers = node.test_accept([rival, child])
    assert [one.allowed for one in answers] == [False, False]
    assert answers[0].reason == "bip125-replacement-disallowed"
    parent = wallet.spend([coins[1]])
    line = [parent, wallet.spend([output_of(parent)])]
    assert [one.allowed for one in node.test_accept(line)] == [True, True]
    assert parent.txid not in node.pool()


def test_the_spender_of_an_outpoint_is_known_while_it_waits(wallet, coins):
    node = wallet.node
    payment = wallet.spend(coins[:1])
    nothing = OutPoint(txid=Txid(b"\x07" * 32), index=0)
    assert node.pool_spenders([coins[0].outpoint, nothing]) == [None, None]
    node.send(payment)
    assert node.pool_spenders([coins[0].outpoint, nothing, coins[1].outpoint]) == [payment.txid, None, None]
    assert node.pool_spenders([]) == []
    wallet.mine()
    assert node.pool_spenders([coins[0].outpoint]) == [None]


def test_a_waiting_child_and_its_grandchild_count_for_the_whole_line(wallet, coins):
    node = wallet.node
    line = [wallet.spend(coins[:1], fee=500)]
    for fee in (700, 900):
        line.append(wallet.spend([output_of(line[-1])], fee=fee))
    for one in line:
        node.send(one)
    first, middle, last = (node.pool_entry(one.txid) for one in line)
    assert (first.ancestors_fee, first.descendants_fee, first.descendants_count) == (500, 2_100, 3)
    assert (middle.ancestors_fee, middle.descendants_fee, middle.descendants_count) == (1_200, 1_600, 2)
    assert (last.ancestors_fee, last.descendants_fee, last.descendants_count) == (2_100, 900, 1)
    assert last.ancestors_vsize == first.descendants_vsize == sum(one.vsize for one in line)
    described = node.call("getmempoolentry", line[2].txid[::-1].hex())
    assert (described["ancestorcount"], described["descendantcount"]) == (3, 1)


# ---- blocks


@pytest.fixture(scope="module", params=KINDS)
def narrow(request, tmp_path_factory):
    """A chain whose miner puts about three small payments into a block."""
    folder = tmp_path_factory.mktemp(f"narrow-{request.param}")
    with chain(request.param, folder, "-blockmaxweight=10000") as funded:
        yield funded


def test_a_block_takes_what_pays_most_for_its_bytes_whatever_came_first(narrow):
    coins = narrow.coins_for(narrow.key.script, [50_000] * 6)
    fees = [300, 2_000, 400, 5_000, 3_000, 350]
    payments = [narrow.spend([coin], fee=fee) for coin, fee in zip(coins, fees, strict=True)]
    for payment in payments:
        narrow.node.send(payment)
    (mined,) = narrow.mine()
    inside = [one.txid for one in narrow.node.block(mined).transactions[1:]]
    by_fee = [payment.txid for _, payment in sorted(zip(fees, payments, strict=True), key=lambda pair: -pair[0])]
    assert inside == by_fee[:4]
    assert set(narrow.node.pool()) == set(by_fee[4:])
    narrow.mine()
    assert narrow.node.pool() == []


def test_a_child_pulls_its_parent_into_the_block_before_those_that_pay_less_than_both(narrow):
    coins = narrow.coins_for(narrow.key.script, [50_000] * 5)
    others = [narrow.spend([coin], fee=1_000) for coin in coins[:4]]
    for payment in others:
        narrow.node.send(payment)
    parent = narrow.spend([coins[4]], fee=200)
    child = narrow.spend([output_of(parent)], fee=4_000)
    narrow.node.send_many([parent, child])
    (mined,) = narrow.mine()
    inside = [one.txid for one in narrow.node.block(mined).transactions[1:]]
    assert inside[:2] == [parent.txid, child.txid]
    assert len(narrow.node.pool()) == 2
    narrow.mine()


def test_a_parent_without_fee_is_not_mined_when_its_child_is_gone(wallet, coins):
    node = wallet.node
    parent = settlement(wallet, coins[0], fee=0)
    node.send_package([parent, lift(wallet, parent, coins[1], fee=3_000)])
    node.send(wallet.spend([coins[1]], fee=6_000))
    wallet.mine(2)
    with pytest.raises(InputsSpentError):
        node.send(lift(wallet, parent, coins[1], fee=9_000))
    confirmed = node.unspent(coins[0].outpoint, include_pool=False)
    assert confirmed is not None
    child = lift(wallet, parent, coins[2], fee=3_000)
    node.send_package([parent, child])
    wallet.mine()
    assert node.transaction(child.txid).confirmations == 1


def test_a_block_of_named_transactions_takes_them_and_nothing_else(wallet, coins):
    node = wallet.node
    waiting = wallet.spend(coins[:1], fee=5_000)
    node.send(waiting)
    parent = settlement(wallet, coins[1], fee=0)
    child = wallet.spend([output_of(parent, 1)], fee=700, version=2)  # version 3 and another: no rule of blocks
    with pytest.raises(NodeAnswerError) as error:
        node.generate_block(wallet.address, [child, parent])
    assert error.value.code == -25
    mined = node.block(node.generate_block(wallet.address, [parent, child]))
    assert [one.txid for one in mined.transactions[1:]] == [parent.txid, child.txid]
    assert sum(output.value for output in mined.transactions[0].outputs) == subsidy(mined.header.height)
    assert waiting.txid in node.pool()


def test_a_mined_rival_takes_a_waiting_transaction_and_its_descendants_away(wallet, coins):
    node = wallet.node
    parent = settlement(wallet, coins[0])
    child = lift(wallet, parent, coins[1], fee=3_000)
    node.send_package([parent, child])
    node.generate_block(wallet.address, [wallet.spend([coins[0]], fee=500)])
    assert not {parent.txid, child.txid} & set(node.pool())
    assert node.unspent(coins[1].outpoint) is not None
    assert refusal(InputsSpentError, node.send_package, [parent, child]).startswith("bad-txns-inputs-missingorspent")


def test_a_settlement_and_its_funding_come_back_together_when_their_blocks_are_undone(wallet, coins):
    node = wallet.node
    funding = wallet.spend(coins[:1], fee=500)  # of version 2, so as unconfirmed parent none of a version-3 child
    node.send(funding)
    (block,) = wallet.mine()
    paid = settlement(wallet, output_of(funding))
    node.send(paid)
    wallet.mine()
    child = lift(wallet, paid, coins[1], fee=3_000)
    node.send(child)
    node.invalidate(block)
    assert {funding.txid, paid.txid, child.txid} <= set(node.pool())
    # what was undone counts as waiting now: another child is measured by the rules again
    assert breaks_truc(node.send, lift(wallet, paid, coins[2], fee=9_000))
    node.generate(1, encode_address(wallet_key(SEED, 1).script))
    assert node.transaction(child.txid).confirmations == 1


# ---- nodes that are set otherwise


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_of_a_higher_relay_fee_refuses_what_others_take(kind, tmp_path):
    with chain(kind, tmp_path, "-minrelaytxfee=0.00003") as funded:
        (coin,) = funded.coins_for(funded.key.script, [100_000])
        vsize = funded.spend([coin]).vsize
        cheap = funded.spend([coin], fee=3 * vsize - 1)
        assert refusal(FeeTooLowError, funded.node.send, cheap) == "min relay fee not met"
        assert funded.node.relay_fee() == 3_000
        funded.node.send(funded.spend([coin], fee=3 * vsize))


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_does_not_enforce_version_3_takes_a_parent_with_a_fee_and_never_one_without(kind, tmp_path):
    with chain(kind, tmp_path, "-mempooltruc=accept") as funded:
        coins = funded.coins_for(funded.key.script, [100_000] * 3)
        free = settlement(funded, coins[0], fee=0)
        package = [free, lift(funded, free, coins[1], fee=5_000)]
        assert refusal(FeeTooLowError, funded.node.send_package, package) == "min relay fee not met"
        parent = settlement(funded, coins[0])
        funded.node.send_package([parent, lift(funded, parent, coins[1], fee=3_000)])
        # nothing is evicted for a second child, and a child of another version is none
        own = funded.spend([output_of(parent, 1)], fee=500, version=2)
        funded.node.send(own)
        assert len(funded.node.pool()) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_rejects_version_3_takes_none(kind, tmp_path):
    with chain(kind, tmp_path, "-mempooltruc=reject") as funded:
        coins = funded.coins_for(funded.key.script, [100_000])
        assert refusal(TxRejectedError, funded.node.send, settlement(funded, coins[0])) == "version"
