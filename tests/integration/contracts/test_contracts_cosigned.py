"""The co-signed contract on a chain: fund, settle with the proof root, refund after silence."""

import pytest

from btcfi.adapters.node import InputsSpentError, NotFinalError, TxRejectedError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.script import op_return_data
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.contracts import leaves
from btcfi.contracts.metadata import OptionMetadata, RecordType, parse_option_metadata, read_record
from btcfi.contracts.option import (
    Contribution,
    OptionContract,
    build_funding,
    build_refund,
    build_settlement,
    complete_funding,
    complete_settlement,
    sign_funding,
    sign_settlement,
)
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.units import CentsPerBtc, Hash32, Height, Sats
from tests.support.chain import SEED

pytestmark = pytest.mark.integration
RATE = SatsPerKvb(2000)
BUYER, SELLER = wallet_key(SEED, 0, account=1), wallet_key(SEED, 0, account=2)
ROOT = Hash32(bytes(range(32)))


SECRET = bytes([0x5A]) * 32


def fund(wallet, *, expiry_in=1, refund_delay=3, tree="standard"):
    here = wallet.node.block_count()
    contract = OptionContract(
        buyer_key=BUYER.internal_key,
        seller_key=SELLER.internal_key,
        buyer_script=BUYER.script,
        seller_script=SELLER.script,
        collateral=Sats(10_000_000),
        expiry_height=Height(here + 2 + expiry_in),
        refund_height=Height(here + 2 + expiry_in + refund_delay),
        min_refund_delay=1,
        tree=tree,
        release_hash=sha256(SECRET) if tree == "proof_required" else None,
    )
    (seller_coin,) = wallet.coins_for(SELLER.script, [10_100_000])
    (buyer_coin,) = wallet.coins_for(BUYER.script, [60_000])
    metadata = OptionMetadata(
        option_type=0,
        strike=CentsPerBtc(10_000_000),
        expiry_height=contract.expiry_height,
        oracle_commitment=Hash32(b"\x07" * 32),
    )
    funding = build_funding(
        contract,
        premium=Sats(50_000),
        seller=Contribution(coins=(seller_coin,), change_script=SELLER.script),
        buyer=Contribution(coins=(buyer_coin,), change_script=BUYER.script),
        rate=RATE,
        metadata=metadata,
    )
    witnesses = sign_funding(funding, {SELLER.script: SELLER}) | sign_funding(funding, {BUYER.script: BUYER})
    return contract, funding, complete_funding(funding, witnesses), metadata


def test_an_option_is_funded_and_settled_and_its_metadata_and_proof_root_are_read_back(wallet):
    contract, funding, signed, metadata = fund(wallet)
    wallet.node.send(signed)
    wallet.mine()
    seen = wallet.node.transaction(signed.txid)
    assert parse_option_metadata(op_return_data(seen.transaction.outputs[-1].script)) == metadata
    assert seen.transaction.outputs[1].value == 50_000
    settlement = build_settlement(contract, funding.outpoint, payout=Sats(1_234_567), proof_root=ROOT, rate=RATE)
    assert settlement.payout == 1_234_567
    assert settlement.payout + settlement.seller_return + settlement.fee == contract.collateral
    signatures = {
        "buyer": sign_settlement(settlement, BUYER.secret),
        "seller": sign_settlement(settlement, SELLER.secret),
    }
    transaction = complete_settlement(settlement, **signatures)
    assert settlement.fee * 1000 >= RATE * transaction.vsize
    while wallet.node.block_count() < contract.expiry_height:
        with pytest.raises(NotFinalError):
            wallet.node.send(transaction)
        wallet.mine()
    wallet.node.send(transaction)
    wallet.node.send(transaction)  # once more changes nothing
    wallet.mine(6)
    assert wallet.confirmations(transaction.txid) == 6
    assert wallet.node.send(transaction) == transaction.txid
    on_chain = parse_transaction(transaction.to_bytes())
    assert read_record(on_chain.outputs[-1].script) == (RecordType.SETTLEMENT_PROOF, ROOT)
    assert wallet.node.unspent(funding.outpoint) is None


def test_a_settlement_with_one_signature_twice_is_refused_by_the_node(wallet):
    contract, funding, signed, _ = fund(wallet, expiry_in=0)
    wallet.node.send(signed)
    wallet.mine()
    settlement = build_settlement(contract, funding.outpoint, payout=Sats(5_000_000), proof_root=ROOT, rate=RATE)
    ours = sign_settlement(settlement, SELLER.secret)
    witness = leaves.witness_of("settle", contract.keys, contract.output(), {"buyer": ours, "seller": ours})
    wallet.mine(3)
    with pytest.raises(TxRejectedError):
        wallet.node.send(settlement.transaction.with_witness(0, witness))


def test_the_seller_is_refunded_after_silence_and_not_one_block_earlier(wallet):
    contract, funding, signed, _ = fund(wallet)
    wallet.node.send(signed)
    wallet.mine()
    refund = build_refund(contract, funding.outpoint, rate=RATE)
    transaction = complete_settlement(refund, seller=sign_settlement(refund, SELLER.secret))
    while wallet.node.block_count() < contract.refund_height:
        with pytest.raises(NotFinalError):
            wallet.node.send(transaction)
        wallet.mine()
    wallet.node.send(transaction)
    wallet.mine()
    assert wallet.confirmations(transaction.txid) == 1
    late = build_settlement(contract, funding.outpoint, payout=Sats(1_000), proof_root=ROOT, rate=RATE)
    both = {"buyer": sign_settlement(late, BUYER.secret), "seller": sign_settlement(late, SELLER.secret)}
    with pytest.raises(InputsSpentError):
        wallet.node.send(complete_settlement(late, **both))


def test_a_contract_that_requires_the_proof_pays_only_with_the_release_secret(wallet):
    contract, funding, signed, _ = fund(wallet, expiry_in=0, tree="proof_required")
    wallet.node.send(signed)
    wallet.mine(3)
    settlement = build_settlement(
        contract, funding.outpoint, payout=Sats(2_000_000), proof_root=ROOT, rate=RATE, path="release"
    )
    parts = {"buyer": sign_settlement(settlement, BUYER.secret), "seller": sign_settlement(settlement, SELLER.secret)}
    for wrong in (None, bytes(32), SECRET[:31]):
        with pytest.raises(InvalidInputError):
            complete_settlement(settlement, **parts, secret=wrong)
    for wrong in (bytes(32), SECRET[:31]):
        witness = leaves.witness_of("release", contract.keys, contract.output(), parts | {"secret": wrong})
        with pytest.raises(TxRejectedError):
            wallet.node.send(settlement.transaction.with_witness(0, witness))
    transaction = complete_settlement(settlement, **parts, secret=SECRET)
    assert settlement.fee * 1000 >= RATE * transaction.vsize
    wallet.node.send(transaction)
    wallet.mine()
    assert wallet.confirmations(transaction.txid) == 1
