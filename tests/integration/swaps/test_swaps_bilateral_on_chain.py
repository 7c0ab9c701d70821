"""A bilateral swap on a node, ours and a real one: settled, burned, released, returned, fought over, undone."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from btcfi.adapters.chain.node import FeeTooLowError, InputsSpentError, NotFinalError, TxRejectedError
from btcfi.adapters.chain.regtest.chain import Chain
from btcfi.adapters.chain.regtest.rpc import Rpc
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.musig import SecretNonce, Session
from btcfi.bitcoin.taproot import sighash
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.swaps.bilateral import presign
from btcfi.swaps.bilateral.graph import build_cancel, build_child
from btcfi.swaps.bilateral.grid import profit_at
from btcfi.swaps.bilateral.terms import Owner
from btcfi.swaps.onchain import BURN_SCRIPT, RETURN_SECONDS, burned_by
from btcfi.units import Height, Sats
from tests.support.bilateral_swap import REQUIRED, SECRETS, WALLETS, Clock, FundedSwap, signed_at
from tests.support.chain import KINDS, Wallet, real_node
from tests.support.little_chain import InProcessNode

pytestmark = pytest.mark.integration

TAKER, PROVIDER = Owner
NOTHING, LOSS, GAIN = 256, 183, 356
ALL_LOST, ALL_WON = 1, 511
"""Returns of the taker's, as they are attested."""
NOW = 1_700_000_000
"""In the past: the kernel's own clock refuses blocks of the future."""


@contextmanager
def real(folder, *flags):
    with real_node(folder, *flags) as (node, _):
        yield Clock(NOW, lambda now: node.call("setmocktime", now)).of(Wallet(node))


@contextmanager
def embedded(folder):
    clock = Clock(NOW)
    chain = Chain(folder, clock=lambda: clock.now)
    try:
        yield clock.of(Wallet(InProcessNode(Rpc(chain, stop=lambda: None), {})))
    finally:
        chain.close()


@pytest.fixture(scope="module", params=KINDS)
def wallet(request, tmp_path_factory):
    with {"embedded": embedded, "bitcoind": real}[request.param](tmp_path_factory.mktemp(request.param)) as funded:
        funded.kind = request.param
        yield funded


def refused(swap, transaction):
    (found,) = swap.node.test_accept([transaction])
    assert not found.allowed
    return found.reason


def is_mined(swap, transaction):
    return bool(swap.wallet.confirmations(transaction.txid))


def undo(swap, depth):
    """Take the newest blocks off the chain."""
    height = Height(swap.node.block_count() - depth + 1)
    swap.node.invalidate(swap.node.block_hash(height))


def paid(transaction, owner):
    return sum(output.value for output in transaction.outputs if output.script == WALLETS[owner].script)


# ---- before the week


def test_a_funding_that_the_other_side_holds_back_until_the_price_is_near_is_cancelled_by_one_s_own_coin(wallet):
    for first in (False, True):
        swap = FundedSwap(wallet, LOSS, sent=False)
        if first:
            swap.node.send(swap.funding)
        cancel = build_cancel(
            swap.unsigned, TAKER, WALLETS[TAKER], script=WALLETS[TAKER].script, rate=SatsPerKvb(5_000)
        )  # fmt: skip
        swap.node.send(cancel)
        swap.clock.mine()
        assert is_mined(swap, cancel)
        with pytest.raises(InputsSpentError):
            swap.node.send(swap.funding)


# ---- in time


@pytest.mark.parametrize("number", [LOSS, GAIN])
def test_after_the_settlement_time_the_debit_goes_to_the_creditor_and_the_other_margin_back_at_once(wallet, number):
    swap = FundedSwap(wallet, number)
    debtor, owed = swap.debtor, swap.graph.owed(number).amount
    released = swap.release(debtor.other)
    swap.node.send(released)
    swap.clock.mine()
    assert paid(released, debtor.other) == REQUIRED + 1_240 - 162 * 5
    settlement = swap.settle()
    with pytest.raises(NotFinalError):
        swap.node.send(settlement)
    swap.open()
    swap.node.send(settlement)
    swap.clock.mine()
    assert is_mined(swap, settlement)
    assert (paid(settlement, debtor.other), paid(settlement, debtor)) == (owed, REQUIRED - owed)


def test_another_return_s_settlement_and_release_cannot_be_finished_with_this_attestation(wallet):
    swap = FundedSwap(wallet, LOSS)
    other = replace(swap.outcome, number=LOSS - 20)
    swap.signed = signed_at(swap.graph, other.number)
    with pytest.raises(presign.WrongSignatureError):
        presign.settle(swap.graph, other, swap.signed)
    # and the node would not take it either
    swap.signed = signed_at(swap.graph, swap.outcome.number)
    right = swap.settle()
    stolen = swap.graph.settle(LOSS - 20).with_witness(0, right.inputs[0].witness)
    swap.open()
    assert "script-verify-flag-failed" in refused(swap, stolen)


def test_where_nothing_is_owed_both_margins_go_back_at_once(wallet):
    swap = FundedSwap(wallet, NOTHING)
    both = [swap.release(owner) for owner in Owner]
    swap.node.send_many(both)
    swap.clock.mine()
    assert all(is_mined(swap, one) for one in both)


def test_both_close_together_by_one_signature_each_and_until_it_is_mined_the_debtor_may_burn(wallet):
    swap = FundedSwap(wallet, LOSS)
    graph = swap.graph
    closed = graph.close(profit_at(graph.terms.grid, LOSS, REQUIRED), Sats(1_000))
    spent = [graph.terms.margins[owner].txout for owner in Owner]
    for index, owner in enumerate(Owner):
        aggregate, digest = graph.key_path(owner), sighash(closed, index, spent)
        nonces = [
            SecretNonce(secret=SECRETS[one], entropy=bytes([7 + index]) * 32, message=digest, aggregate=aggregate)
            for one in Owner
        ]
        session = Session(aggregate, [nonce.public for nonce in nonces], digest)
        parts = [session.sign(SECRETS[one], nonce) for one, nonce in zip(Owner, nonces, strict=True)]
        closed = closed.with_witness(index, (session.aggregate(parts),))
    swap.node.send(closed)
    burned = swap.burn(rate=60)
    swap.send_burn(burned)
    assert closed.txid not in swap.node.pool()
    swap.clock.mine()
    assert is_mined(swap, burned)


# ---- the burn


def test_a_burn_is_mined_in_the_window_against_all_that_its_creditor_holds(wallet):
    swap = FundedSwap(wallet, LOSS)
    (coin,) = swap.coins(PROVIDER, 200_000)
    burned, settlement = swap.burn(rate=2), swap.settle()
    # redirect what the burner signed: every output, and the creditor itself the first
    gone, change = burned.outputs
    theirs = WALLETS[PROVIDER].script
    for outputs in ((gone, replace(change, script=theirs)), (replace(gone, script=theirs), change)):
        assert "script-verify-flag-failed" in refused(swap, replace(burned, outputs=outputs))
    # pin, or cycle: no output of it but the burner's own and nobody's
    assert {output.script for output in burned.outputs} == {BURN_SCRIPT, WALLETS[TAKER].script}
    with pytest.raises(TxRejectedError) as error:
        swap.node.send(burned)
    assert "maxburnamount" in error.value.reason
    swap.send_burn(burned)
    # outbid: its settlement conflicts, and is not final
    with pytest.raises(NotFinalError):
        swap.node.send(settlement)
    with pytest.raises(NotFinalError):
        swap.node.send_package([settlement, swap.child(settlement, coin, fee=150_000)])
    assert swap.node.pool() == [burned.txid]
    swap.clock.mine()
    assert is_mined(swap, burned)
    assert burned_by(burned) == swap.graph.owed(LOSS).amount + REQUIRED // 4
    swap.open()
    with pytest.raises(InputsSpentError):
        swap.node.send(settlement)
    released = swap.release(PROVIDER)
    swap.node.send(released)
    swap.clock.mine()
    assert is_mined(swap, released)


def test_a_burner_raises_its_fee_by_its_own_change_and_by_coins_that_need_no_confirmation(wallet):
    swap = FundedSwap(wallet, LOSS)
    (coin, key), extra = swap.coins(TAKER, 300_000, 300_000)
    # a version-2 coin that waits: a version-3 burn could not spend it
    before = Transaction(
        version=2,
        inputs=(TxIn(outpoint=coin.outpoint),),
        outputs=(TxOut(value=Sats(coin.value - 500), script=key.script),),
    )
    before = before.with_witness(0, [key.sign_input(before, 0, [coin.output])])
    swap.node.send(before)
    waiting = (Coin(outpoint=before.outpoint(0), output=before.outputs[0]), key)
    burns, fee = [], Sats(0)
    for rate, coins in ((2, [waiting]), (20, [waiting]), (200, [waiting, extra])):
        burned = swap.burn(rate=rate, replaces=fee, coins=coins)
        swap.send_burn(burned)
        fee = Sats(burned.vsize * rate)
        burns.append(burned.txid)
        assert swap.node.pool_entry(burned.txid).fee == fee
    assert not set(burns[:2]) & set(swap.node.pool())
    swap.clock.mine()
    assert is_mined(swap, burned)


@pytest.mark.parametrize("number", [ALL_LOST, ALL_WON])
def test_who_owes_the_whole_margin_burns_with_a_coin_of_its_own_or_is_settled_with_one_output(wallet, number):
    swap = FundedSwap(wallet, number)
    burned = swap.burn(coins=swap.coins(swap.debtor, REQUIRED // 4 + 20_000))
    swap.send_burn(burned)
    swap.clock.mine()
    assert is_mined(swap, burned)
    assert burned.outputs[0].value == REQUIRED + REQUIRED // 4

    swap = FundedSwap(wallet, number)
    swap.open()
    settlement = swap.settle()
    swap.node.send(settlement)
    swap.clock.mine()
    assert is_mined(swap, settlement)
    assert [output.value for output in settlement.outputs] == [REQUIRED, 240]


# ---- after the settlement time


def test_after_the_settlement_time_burn_and_settlement_are_an_auction(wallet):
    swap = FundedSwap(wallet, LOSS)
    coin, other = swap.coins(PROVIDER, 200_000, 200_000)
    swap.open()
    settlement = swap.settle()
    child = build_child(settlement, *coin, script=WALLETS[PROVIDER].script, rate=SatsPerKvb(8_000))
    swap.node.send_package([settlement, child])
    fees = sum(swap.node.pool_entry(one.txid).fee for one in (settlement, child))
    assert fees == 8 * (settlement.vsize + child.vsize)
    low = swap.burn(rate=12)
    with pytest.raises(FeeTooLowError):
        swap.send_burn(low)
    high = swap.burn(rate=100)
    swap.send_burn(high)
    assert settlement.txid not in swap.node.pool()
    if wallet.kind == "bitcoind":  # ours refuses every replacement by a package
        swap.node.send_package([settlement, swap.child(settlement, other, fee=60_000)])
        assert high.txid not in swap.node.pool()
        swap.clock.mine()
        assert is_mined(swap, settlement)
    else:
        swap.clock.mine()
        assert is_mined(swap, high)


def test_a_settlement_whose_child_was_cycled_away_is_mined_by_its_own_fee(wallet):
    swap = FundedSwap(wallet, LOSS)
    (coin,) = swap.coins(PROVIDER, 200_000)
    thief_coin, key = swap.coins(TAKER, 200_000)[0]
    swap.open()
    settlement = swap.settle()
    swap.node.send(settlement)
    child = swap.child(settlement, coin, fee=3_000)
    swap.node.send(child)
    thief = swap.child(settlement, (thief_coin, key), fee=8_000)
    swap.node.send(thief)
    assert child.txid not in swap.node.pool()
    away = Transaction(
        version=3,
        inputs=(TxIn(outpoint=thief_coin.outpoint),),
        outputs=(TxOut(value=Sats(thief_coin.value - 20_000), script=key.script),),
    )
    swap.node.send(away.with_witness(0, [key.sign_input(away, 0, [thief_coin.output])]))
    assert thief.txid not in swap.node.pool()
    assert swap.node.pool_entry(settlement.txid).fee == 1_000
    swap.clock.mine()
    assert is_mined(swap, settlement)


def test_nine_days_after_the_settlement_time_each_takes_its_margin_back_alone_and_no_block_before(wallet):
    swap = FundedSwap(wallet, LOSS)
    back = [swap.give_back(owner) for owner in Owner]
    swap.clock.past(swap.terms.lock + RETURN_SECONDS - 7_200)
    assert [refused(swap, one) for one in back] == ["non-final"] * 2
    # the script asks for the nine days, whatever the transaction says
    early = replace(back[0], lock_time=swap.terms.lock)
    early = swap.terms.margins[TAKER].sign_return(early, SECRETS[TAKER])
    assert "script-verify-flag-failed" in refused(swap, early)
    swap.clock.past(swap.terms.margins[TAKER].return_time)
    # a late attestation: the creditor's settlement is now in a race
    settlement = swap.settle()
    swap.node.send(settlement)
    with pytest.raises(FeeTooLowError):
        swap.node.send(presign.give_back(swap.graph, secret=SECRETS[TAKER], rate=5_000))
    swap.node.send(presign.give_back(swap.graph, secret=SECRETS[TAKER], rate=40_000))
    assert settlement.txid not in swap.node.pool()
    swap.node.send(back[1])
    swap.clock.mine()
    assert is_mined(swap, back[1])


# ---- reorganisations


def test_a_burn_undone_by_a_reorganisation_past_the_settlement_time_waits_again_and_is_mined_again(wallet):
    swap = FundedSwap(wallet, LOSS)
    burned = swap.burn(rate=20)
    swap.send_burn(burned)
    swap.clock.mine()
    swap.open()
    settlement = swap.settle()
    depth = swap.wallet.confirmations(burned.txid)
    undo(swap, depth)
    assert burned.txid in swap.node.pool()
    assert swap.clock.median <= swap.terms.lock
    with pytest.raises(NotFinalError):
        swap.node.send(settlement)
    swap.clock.mine()
    assert is_mined(swap, burned)


def test_a_settlement_of_one_confirmation_undone_can_still_be_burned(wallet):
    swap = FundedSwap(wallet, LOSS)
    swap.open()
    settlement = swap.settle()
    swap.node.send(settlement)
    swap.clock.mine()
    undo(swap, 1)
    assert settlement.txid in swap.node.pool()
    burned = swap.burn(rate=60)
    swap.send_burn(burned)
    swap.clock.mine()
    assert is_mined(swap, burned)
    assert not is_mined(swap, settlement)


# ---- policies, and the whole of it


def test_a_margin_settles_and_burns_alone_on_a_node_that_does_not_enforce_version_three(wallet, tmp_path):
    if wallet.kind != "bitcoind":
        pytest.skip("ours has one policy")
    flags = ("-mempooltruc=accept", "-datacarriersize=42", "-maxscriptsize=1650", "-permitbarepubkey=0")
    with real(tmp_path / "knots", *flags) as other:
        swap = FundedSwap(other, LOSS)
        burned = swap.burn()
        swap.send_burn(burned)
        swap.clock.mine()
        assert is_mined(swap, burned)
        swap = FundedSwap(other, GAIN)
        swap.open()
        both = [swap.settle(), swap.release(TAKER)]
        swap.node.send_many(both)
        swap.clock.mine()
        assert all(is_mined(swap, one) for one in both)


def test_any_two_of_three_oracles_settle_where_one_is_silent(wallet):
    swap = FundedSwap(wallet, GAIN, oracles=(1, 2))
    burned = swap.burn()
    swap.send_burn(burned)
    swap.clock.mine()
    assert is_mined(swap, burned)
