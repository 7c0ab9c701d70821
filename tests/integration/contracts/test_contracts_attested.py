"""The oracle-attested contract on a chain: in and out of the money, early, refused, reorganised, conflicting."""

import pytest

from btcfi.adapters.chain.node import FeeTooLowError, InputsSpentError, NotFinalError, TxRejectedError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.contracts import execution, leaves
from btcfi.contracts.messages import CET_FEE
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.contracts.option import build_refund, complete_settlement, sign_settlement
from btcfi.contracts.settle import TooFewAttestationsError, build_child, complete_cet
from btcfi.units import CentsPerBtc, Sats
from tests.support.contracts import (
    BUYER,
    COLLATERAL,
    PROOF_ROOT,
    RATE,
    SELLER,
    SELLER_SECRET,
    Scene,
    call_payouts,
)

pytestmark = pytest.mark.integration
TOLERANCE = 500


def scene(wallet, *, oracles=1, threshold=1, expiry_in=2, refund_in=5):
    here = wallet.node.block_count() + 3
    return Scene(
        oracles=oracles,
        threshold=threshold,
        tolerance=TOLERANCE,
        expiry_height=here + expiry_in,
        refund_height=here + refund_in,
        seller_coins=wallet.coins_for(SELLER.script, [10_100_000]),
        buyer_coins=wallet.coins_for(BUYER.script, [60_000]),
    )


def funded(wallet, **options):
    contract = scene(wallet, **options)
    agreement, accepted, signed, funding = contract.run()
    wallet.node.send(funding)
    wallet.mine()
    return contract, agreement, contract.presignatures(accepted, signed), funding


def mine_past(wallet, height):
    while wallet.node.block_count() < height:
        wallet.mine()


def child_of(wallet, cet, *, rate=RATE, coin=None, replaces=None):
    (coin,) = [coin] if coin else wallet.coins_for(SELLER.script, [100_000])
    child = build_child(cet, coin, change_script=SELLER.script, rate=rate, proof_root=PROOF_ROOT, replaces=replaces)
    signature = SELLER.sign_input(child.transaction, 1, child.spent)
    return child, child.transaction.with_witness(1, [signature]), coin


@pytest.mark.parametrize("price", [9_000_000, 10_000_100, 12_345_678, 30_000_000])
def test_an_option_settles_by_attestation_in_and_out_of_the_money(wallet, price):
    contract, agreement, signatures, funding = funded(wallet)
    cet = complete_cet(agreement.plan, **signatures, attestations=contract.attestations(price))
    mine_past(wallet, contract.expiry_height)
    _, child, _ = child_of(wallet, cet)
    wallet.node.send_package([cet.transaction, child])
    wallet.node.send_package([cet.transaction, child])  # again: nothing new, no error
    wallet.mine(6)
    assert wallet.confirmations(cet.transaction.txid) == 6
    assert wallet.node.send(cet.transaction) == cet.transaction.txid
    settled = wallet.node.transaction(cet.transaction.txid).transaction
    assert sum(output.value for output in settled.outputs) == COLLATERAL - CET_FEE
    assert cet.payout + cet.seller_return + cet.anchor + cet.fee == COLLATERAL
    (exact,) = call_payouts([contract.event.price_of(contract.event.outcome(CentsPerBtc(price)))])
    assert abs(cet.payout - exact) * 20_000 <= TOLERANCE * max(exact, 50_000) + 20_000
    assert read_record(child.outputs[-1].script) == (RecordType.SETTLEMENT_PROOF, PROOF_ROOT)
    assert funding.outputs[1].value == 50_000


def test_a_cet_before_its_expiry_height_is_refused(wallet):
    contract, agreement, signatures, _ = funded(wallet, expiry_in=3)
    cet = complete_cet(agreement.plan, **signatures, attestations=contract.attestations(12_000_000))
    _, child, _ = child_of(wallet, cet)
    refused = 0
    while wallet.node.block_count() < contract.expiry_height:
        with pytest.raises(NotFinalError):
            wallet.node.send_package([cet.transaction, child])
        refused += 1
        wallet.mine()
    assert refused
    wallet.node.send_package([cet.transaction, child])


def test_a_cet_without_the_attestation_is_refused_by_the_node(wallet):
    contract, agreement, signatures, _ = funded(wallet)
    mine_past(wallet, contract.expiry_height)
    raw = {party: blob[1:65] for party, blob in signatures.items()}
    witness = leaves.witness_of(execution.CET_PATH, agreement.plan.contract.keys, agreement.plan.contract.output(), raw)
    cet = agreement.plan.transaction(0).with_witness(0, witness)
    answer = wallet.node.test_accept([cet])[0]
    assert not answer.allowed
    with pytest.raises(TxRejectedError):
        wallet.node.send(cet)


def test_two_of_three_oracles_settle_while_one_is_silent(wallet):
    contract, agreement, signatures, _ = funded(wallet, oracles=3, threshold=2)
    attestations = contract.attestations(11_111_111)
    mine_past(wallet, contract.expiry_height)
    with pytest.raises(TooFewAttestationsError):
        complete_cet(agreement.plan, **signatures, attestations=attestations[:1])
    cet = complete_cet(agreement.plan, **signatures, attestations=[attestations[2], attestations[0]])
    _, child, _ = child_of(wallet, cet)
    wallet.node.send_package([cet.transaction, child])
    wallet.mine()
    assert wallet.confirmations(cet.transaction.txid) == 1


def test_the_fee_is_bumped_by_replacing_the_child(wallet):
    contract, agreement, signatures, _ = funded(wallet)
    cet = complete_cet(agreement.plan, **signatures, attestations=contract.attestations(12_000_000))
    mine_past(wallet, contract.expiry_height)
    first, signed_first, coin = child_of(wallet, cet)
    wallet.node.send_package([cet.transaction, signed_first])
    second, signed_second, _ = child_of(wallet, cet, rate=SatsPerKvb(10_000), coin=coin, replaces=first)
    assert second.fee > first.fee
    wallet.node.send_package([cet.transaction, signed_second])
    assert signed_first.txid not in wallet.node.pool()
    _, signed_cheap, _ = child_of(wallet, cet, rate=SatsPerKvb(2_000), coin=coin)
    with pytest.raises((FeeTooLowError, TxRejectedError)):
        wallet.node.send(signed_cheap)
    wallet.mine()
    assert wallet.confirmations(signed_second.txid) == 1
    assert wallet.confirmations(cet.transaction.txid) == 1


def test_a_refund_needs_silence_past_its_height_and_then_excludes_the_cet(wallet):
    contract, agreement, signatures, _ = funded(wallet)
    plan = agreement.plan
    refund = build_refund(plan.contract, plan.funding, rate=RATE)
    transaction = complete_settlement(refund, seller=sign_settlement(refund, SELLER_SECRET, party="seller"))
    while wallet.node.block_count() < contract.refund_height:
        with pytest.raises(NotFinalError):
            wallet.node.send(transaction)
        wallet.mine()
    wallet.node.send(transaction)
    wallet.mine()
    cet = complete_cet(plan, **signatures, attestations=contract.attestations(12_000_000))
    _, child, _ = child_of(wallet, cet)
    with pytest.raises(InputsSpentError):
        wallet.node.send_package([cet.transaction, child])


@pytest.mark.parametrize("confirmed", ["funding", "cet", "child buried"])
def test_after_a_six_block_reorganisation_the_same_option_settles_again(wallet, confirmed):
    contract, agreement, signatures, funding = funded(wallet)
    if confirmed == "funding":
        fork = wallet.node.transaction(funding.txid).block_hash
        wallet.mine(5)
    cet = complete_cet(agreement.plan, **signatures, attestations=contract.attestations(12_000_000))
    mine_past(wallet, contract.expiry_height)
    _, child, _ = child_of(wallet, cet)
    if confirmed != "funding":
        wallet.node.send_package([cet.transaction, child])
        (mined,) = wallet.mine()
        fork = mined
        wallet.mine(5)
        assert wallet.confirmations(cet.transaction.txid) == 6
    before = wallet.node.block_count()
    wallet.node.invalidate(fork)
    assert wallet.node.block_count() <= before - 6
    # the other branch: empty blocks, one more than were undone
    for _ in range(before - wallet.node.block_count() + 1):
        wallet.node.generate_block(wallet.address, [])
    assert wallet.node.block_count() == before + 1
    wallet.node.send(funding)
    wallet.mine()  # a version 3 transaction may not wait on an unconfirmed version 2 one (BIP431)
    wallet.node.send_package([cet.transaction, child])
    wallet.mine(6)
    assert wallet.confirmations(cet.transaction.txid) >= 6
    assert wallet.node.unspent(agreement.plan.funding) is None


def test_a_conflicting_spend_of_a_contribution_keeps_the_funding_out(wallet):
    contract = scene(wallet)
    _, _, _, funding = contract.run()
    rival = contract.buyer_coins[0]
    spend = Transaction(
        version=2,
        inputs=(TxIn(outpoint=rival.outpoint),),
        outputs=(TxOut(value=Sats(rival.value - 1_000), script=BUYER.script),),
    )
    wallet.node.send(spend.with_witness(0, [BUYER.sign_input(spend, 0, [rival.output])]))
    wallet.mine()
    with pytest.raises(InputsSpentError):
        wallet.node.send(funding)
