"""A net book on a node, ours and a real one: funded by both, settled at five prices, refunded by a split, closed."""

import pytest

from btcfi.adapters.chain.node import InputsSpentError
from btcfi.bitcoin.fees import fee_for
from btcfi.contracts import netting
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.mandate import CloseRule
from btcfi.contracts.settle import build_child, complete_cet
from btcfi.payoffs.book import book_of
from btcfi.payoffs.book_guest import check_agreement, outputs_by
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import CentsPerBtc, Sats
from tests.support.contracts import BUYER, BUYER_SECRET, PROOF_ROOT, RATE, SELLER, SELLER_SECRET
from tests.support.mandates import authority
from tests.support.net_books import CONDORS, EXPIRY, FLOOR, PROGRAM, NetScene, condors, legs_of, market_book

pytestmark = pytest.mark.integration


def ready(wallet, book, *, blocks=2, refund=8, **options):
    """A funded book: the scene, its agreement, both sides' signatures, the funding transaction on the chain."""
    draft = NetScene(book=book, **options)
    (mine,) = wallet.coins_for(BUYER.script, [draft.contract.holder + 60_000])
    (theirs,) = wallet.coins_for(SELLER.script, [draft.contract.writer + 60_000])
    here = wallet.node.block_count()
    scene = NetScene(
        book=book, holder_coins=[mine], writer_coins=[theirs], expiry_height=here + blocks,
        refund_height=here + refund, **options,
    )  # fmt: skip
    agreement = scene.agreement()
    check_agreement(
        scene.contract, agreement, outputs_by(PROGRAM, scene.event), rule=scene.rule, premium=Sats(scene.legs_premium)
    )
    holder, writer = scene.signatures(agreement)
    funding = scene.funded(agreement, holder, writer)
    wallet.node.send(funding)
    wallet.mine()
    return scene, agreement, (holder, writer), funding


def settled(wallet, scene, agreement, signatures, price, *, touched=False):
    """The CET of a price and its child, mined."""
    holder, writer = signatures
    cet = complete_cet(
        agreement.plan, buyer=holder.presignatures, seller=writer.presignatures,
        attestations=scene.attestations(price, touched=touched),
    )  # fmt: skip
    while wallet.node.block_count() < scene.expiry_height:
        wallet.mine()
    (coin,) = wallet.coins_for(SELLER.script, [100_000])
    child = build_child(cet, coin, change_script=SELLER.script, rate=RATE, proof_root=PROOF_ROOT)
    paid = child.transaction.with_witness(1, [SELLER.sign_input(child.transaction, 1, child.spent)])
    wallet.node.send_package([cet.transaction, paid])
    wallet.mine()
    assert wallet.confirmations(cet.transaction.txid) == 1
    return cet, paid


def test_a_book_of_ten_legs_settles_at_five_prices_by_what_its_guest_pays_there(wallet):
    # below the floor, where it loses most, between, where it gains most, above the highest price
    for price in (4_000_000, 8_500_000, 9_650_000, 11_200_000, 40_000_000):
        scene, agreement, signatures, _ = ready(wallet, condors(quantity=10))
        cet, _ = settled(wallet, scene, agreement, signatures, price)
        outcome = scene.event.outcome(CentsPerBtc(price))
        expected = scene.contract.payout_at(outcome, scene.rule, premium=Sats(scene.legs_premium))
        both = scene.contract.collateral - cet.anchor - cet.fee
        assert cet.payout == min(expected, both)
        assert cet.payout + cet.seller_return == both
        assert sum(output.value for output in cet.transaction.outputs) + cet.fee == scene.contract.collateral


def test_a_book_with_a_barrier_settles_by_the_curve_that_the_condition_s_digit_says(wallet):
    book = book_of(
        legs_of(CONDORS[2:], 10), knock_outs=legs_of([(1, CONDORS[0][1], 95)], 10), barrier=CentsPerBtc(8_000_000),
        expiry=EXPIRY, floor=FLOOR,
    )  # fmt: skip
    paid = []
    for touched in (False, True):
        scene, agreement, signatures, _ = ready(wallet, book)
        cet, _ = settled(wallet, scene, agreement, signatures, 9_000_000, touched=touched)
        outcome = scene.event.outcome(CentsPerBtc(9_000_000), condition=touched)
        assert cet.payout == scene.contract.payout_at(outcome, scene.rule, premium=Sats(scene.legs_premium))
        paid.append(cet.payout)
    assert paid[0] - paid[1] > 400_000  # the put of 0.1 BTC, $5,000 in the money


def test_64_legs_of_two_of_three_oracles_settle_within_7_vbytes_a_leg_and_11_with_their_funding(wallet):
    book = market_book(0, size=5)
    scene, agreement, signatures, funding = ready(wallet, book, oracles=3, threshold=2, tolerance=500)
    cet, paid = settled(wallet, scene, agreement, signatures, 9_123_400)
    assert book.count == 64
    settling = cet.transaction.vsize + paid.vsize
    assert settling <= 7 * 64
    assert funding.vsize + settling <= 11 * 64
    # the premium has no output of its own: collateral, and a change each
    assert [output.value for output in funding.outputs[:1]] == [scene.contract.collateral]
    assert len(funding.outputs) == 3


def test_when_the_oracles_stay_silent_each_side_gets_back_what_it_put_in_and_not_a_block_before(wallet):
    scene, agreement, (holder, writer), _ = ready(wallet, condors(quantity=10), refund=6)
    refund = netting.complete_refund(agreement, holder=holder, writer=writer)
    assert wallet.node.test_accept([refund])[0].reason == "non-final"
    while wallet.node.block_count() < scene.refund_height - 1:
        wallet.mine()
    assert not wallet.node.test_accept([refund])[0].allowed
    wallet.mine()
    wallet.node.send(refund)  # its own fee is enough for a quiet pool
    (coin,) = wallet.coins_for(BUYER.script, [100_000])
    assert wallet.confirmations(refund.txid)
    mine, theirs, anchor = refund.outputs
    assert (mine.script, mine.value) == (BUYER.script, scene.contract.holder)
    assert (theirs.script, theirs.value) == (SELLER.script, scene.contract.writer - 540)
    assert anchor.value == 240
    assert refund.version == 3
    assert coin.value == 100_000


def test_either_side_pays_more_for_the_refund_by_its_anchor(wallet):
    scene, agreement, (holder, writer), _ = ready(wallet, condors(quantity=10), refund=6)
    refund = netting.complete_refund(agreement, holder=holder, writer=writer)
    (coin,) = wallet.coins_for(BUYER.script, [100_000])
    while wallet.node.block_count() < scene.refund_height:
        wallet.mine()
    child, spent = netting.build_refund_child(refund, coin, change_script=BUYER.script, rate=RATE)
    signed = child.with_witness(1, [BUYER.sign_input(child, 1, spent)])
    wallet.node.send_package([refund, signed])
    wallet.mine()
    assert wallet.confirmations(signed.txid) == 1
    paid = sum(output.value for output in spent) - sum(output.value for output in signed.outputs)
    assert paid >= fee_for(refund.vsize + signed.vsize, RATE)


def test_both_close_early_by_one_signature_and_cet_and_refund_are_void_after_it(wallet):
    scene, agreement, (holder, writer), _ = ready(wallet, condors(quantity=10))
    plan = agreement.plan
    close = build_close(plan.contract, plan.funding, payout=Sats(1_234_567), rate=RATE, proof_root=PROOF_ROOT)
    closing = Closing(
        close, buyer_key=public_key_compressed(BUYER_SECRET), seller_key=public_key_compressed(SELLER_SECRET)
    )
    nonces = [closing.nonce(BUYER_SECRET, bytes([1]) * 32), closing.nonce(SELLER_SECRET, bytes([2]) * 32)]
    public = [nonce.public for nonce in nonces]
    partials = [
        closing.sign(secret, nonce, public, authority=authority(close=CloseRule.AGREED))
        for secret, nonce in zip((BUYER_SECRET, SELLER_SECRET), nonces, strict=True)
    ]
    signed = closing.finish(public, partials)
    wallet.node.send(signed)
    wallet.mine(6)
    assert (signed.outputs[0].value, wallet.confirmations(signed.txid)) == (1_234_567, 6)
    while wallet.node.block_count() < scene.refund_height:
        wallet.mine()
    refund = netting.complete_refund(agreement, holder=holder, writer=writer)
    cet = complete_cet(
        plan, buyer=holder.presignatures, seller=writer.presignatures, attestations=scene.attestations(9_000_000)
    )
    for void in (refund, cet.transaction):
        with pytest.raises(InputsSpentError):
            wallet.node.send(void)
