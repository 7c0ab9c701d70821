"""Cooperative close, watching and anchoring against a node, ours and a real one."""

import pytest

from btcfi.adapters.chain.node import InputsSpentError
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.contracts import anchor, watch
from btcfi.contracts.anchor import AnchorItem, AnchorKind
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.mandate import CloseRule
from btcfi.contracts.settle import build_child, complete_cet
from btcfi.contracts.watch import ContractStatus, SpendStatus
from btcfi.hashes import sha256
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import Height, Sats
from tests.support.contracts import BUYER, BUYER_SECRET, COARSE, PROOF_ROOT, RATE, SELLER, SELLER_SECRET, Scene
from tests.support.mandates import authority

pytestmark = pytest.mark.integration


def ready(wallet, **options):
    here = wallet.node.block_count() + 3
    scene = Scene(
        tolerance=COARSE,
        expiry_height=here + 2,
        refund_height=here + 8,
        seller_coins=wallet.coins_for(SELLER.script, [10_100_000]),
        buyer_coins=wallet.coins_for(BUYER.script, [60_000]),
        **options,
    )
    agreement, accepted, signed, funding = scene.run()
    return scene, agreement, scene.presignatures(accepted, signed), funding


def closed(plan, payout=1_234_567, **options):
    close = build_close(plan.contract, plan.funding, payout=Sats(payout), rate=RATE, **options)
    closing = Closing(
        close, buyer_key=public_key_compressed(BUYER_SECRET), seller_key=public_key_compressed(SELLER_SECRET)
    )
    nonces = [closing.nonce(BUYER_SECRET, bytes([1]) * 32), closing.nonce(SELLER_SECRET, bytes([2]) * 32)]
    public = [nonce.public for nonce in nonces]
    partials = [
        closing.sign(s, n, public, authority=authority(close=CloseRule.AGREED))
        for s, n in zip((BUYER_SECRET, SELLER_SECRET), nonces, strict=True)
    ]
    return closing.finish(public, partials)


def test_both_parties_close_at_once_and_the_cet_is_void_after_it(wallet):
    scene, agreement, signatures, funding = ready(wallet)
    wallet.node.send(funding)
    wallet.mine()
    close = closed(agreement.plan, proof_root=PROOF_ROOT)
    wallet.node.send(close)  # before the expiry height: an early exercise looks like this
    wallet.mine(6)
    assert wallet.confirmations(close.txid) == 6
    cet = complete_cet(agreement.plan, **signatures, attestations=scene.attestations(12_000_000))
    with pytest.raises(InputsSpentError):
        wallet.node.send(cet.transaction)


@pytest.mark.parametrize("tree", ["standard", "proof_required"])
def test_a_roll_funds_the_next_contract_in_the_same_transaction(wallet, tree):
    _, agreement, _, funding = ready(wallet, tree=tree)
    wallet.node.send(funding)
    wallet.mine()
    _, following, _, _ = ready(wallet)
    next_output = TxOut(value=Sats(8_000_000), script=following.plan.contract.funding_txout().script)
    roll = closed(agreement.plan, payout=500_000, roll_into=next_output)
    wallet.node.send(roll)
    wallet.mine()
    place = roll.outputs.index(next_output)
    assert wallet.node.unspent(roll.outpoint(place)).output == next_output


def test_a_contract_is_watched_through_a_six_block_reorganisation_and_settles_again(wallet):
    node = wallet.node
    scene, agreement, signatures, funding = ready(wallet)
    plan = agreement.plan
    contributions = [txin.outpoint for txin in funding.inputs]
    watched = [plan.funding, *contributions]
    state = watch.start(node, node.block_count())
    cet = complete_cet(plan, **signatures, attestations=scene.attestations(12_000_000))
    (coin,) = wallet.coins_for(SELLER.script, [100_000])
    child = build_child(cet, coin, change_script=SELLER.script, rate=RATE, proof_root=PROOF_ROOT)
    paid = child.transaction.with_witness(1, [SELLER.sign_input(child.transaction, 1, child.spent)])

    def step():
        nonlocal state
        state = watch.advance(state, node, watched).state
        return watch.contract_status(state, plan.funding, contributions=contributions, spenders=[cet.transaction.txid])

    assert step() is ContractStatus.UNFUNDED
    node.send(funding)
    wallet.mine()
    assert step() is ContractStatus.FUNDING
    wallet.mine(5)
    assert step() is ContractStatus.ACTIVE
    while node.block_count() < scene.expiry_height:
        wallet.mine()
    node.send_package([cet.transaction, paid])
    (mined,) = wallet.mine()
    assert step() is ContractStatus.SETTLING
    wallet.mine(5)
    assert step() is ContractStatus.SETTLED
    height = node.block_count()
    node.invalidate(mined)
    for _ in range(7):
        node.generate_block(wallet.address, [])
    assert node.block_count() == height + 1
    assert step() is ContractStatus.ACTIVE
    node.send_package([cet.transaction, paid])
    wallet.mine(6)
    assert step() is ContractStatus.SETTLED
    now = watch.standing(state, plan.funding, cet.transaction.txid)
    assert (now.status, now.confirmations) == (SpendStatus.FINAL, 6)


def test_a_contribution_spent_elsewhere_is_noticed(wallet):
    node = wallet.node
    scene, agreement, _, funding = ready(wallet)
    contributions = [txin.outpoint for txin in funding.inputs]
    state = watch.start(node, node.block_count())
    (theirs,) = scene.buyer_coins
    rival = Transaction(
        version=2,
        inputs=(TxIn(outpoint=theirs.outpoint),),
        outputs=(TxOut(value=Sats(theirs.value - 1_000), script=BUYER.script),),
    )
    node.send(rival.with_witness(0, [BUYER.sign_input(rival, 0, [theirs.output])]))
    wallet.mine()
    state = watch.advance(state, node, [agreement.plan.funding, *contributions]).state
    status = watch.contract_status(state, agreement.plan.funding, contributions=contributions, spenders=[])
    assert status is ContractStatus.CONFLICTED
    assert watch.standing(state, theirs.outpoint, funding.txid).by == rival.txid


def test_an_anchor_is_replaced_confirmed_and_proved_from_the_nodes_own_header(wallet):
    node = wallet.node
    first = [AnchorItem(kind=AnchorKind.PRICE, digest=sha256(bytes([n]))) for n in range(5)]
    more = [*first, AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=PROOF_ROOT)]
    (coin,) = wallet.coins_for(SELLER.script, [100_000])

    def signed(made):
        return made.transaction.with_witness(0, [SELLER.sign_input(made.transaction, 0, [made.spent])])

    made = anchor.build_anchor(anchor.anchor_root(first), coin, change_script=SELLER.script, rate=RATE)
    node.send(signed(made))
    newer = anchor.build_anchor(anchor.anchor_root(more), coin, change_script=SELLER.script, rate=RATE, replaces=made)
    node.send(signed(newer))
    assert node.pool() == [newer.transaction.txid]
    (mined,) = wallet.mine()
    block = node.block(mined)
    proof = anchor.prove_anchor(
        more,
        5,
        transaction=newer.transaction,
        block_txids=[transaction.txid for transaction in block.transactions],
        header=block.header.raw,
    )
    wallet.mine(5)
    found = node.block_header(anchor.check_anchor(proof))
    assert (found.confirmations, found.height) == (6, Height(node.block_count() - 5))
