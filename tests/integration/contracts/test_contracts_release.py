"""A contract that requires the proof, on a chain: funded with its metadata, paid by its own leaf."""

import pytest

from btcfi.adapters.chain.node import NotFinalError, TxRejectedError
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
    build_release,
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


def fund(wallet):
    here = wallet.node.block_count()
    contract = OptionContract(
        buyer_key=BUYER.internal_key,
        seller_key=SELLER.internal_key,
        buyer_script=BUYER.script,
        seller_script=SELLER.script,
        collateral=Sats(10_000_000),
        expiry_height=Height(here + 3),
        refund_height=Height(here + 6),
        min_refund_delay=1,
        tree="proof_required",
        release_hash=sha256(SECRET),
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
    witnesses = sign_funding(funding, {SELLER.script: SELLER, BUYER.script: BUYER}, inputs=range(len(funding.spent)))
    return contract, funding, complete_funding(funding, witnesses), metadata


def test_a_contract_that_requires_the_proof_pays_by_both_signatures_and_the_release_secret_after_its_height(wallet):
    contract, funding, signed, metadata = fund(wallet)
    wallet.node.send(signed)
    wallet.mine()
    seen = wallet.node.transaction(signed.txid)
    assert parse_option_metadata(op_return_data(seen.transaction.outputs[-1].script)) == metadata
    assert seen.transaction.outputs[1].value == 50_000
    settlement = build_release(contract, funding.outpoint, payout=Sats(1_234_567), proof_root=ROOT, rate=RATE)
    assert settlement.payout == 1_234_567
    assert settlement.payout + settlement.seller_return + settlement.fee == contract.collateral
    ours = sign_settlement(settlement, SELLER.secret, party="seller")
    parts = {"buyer": sign_settlement(settlement, BUYER.secret, party="buyer"), "seller": ours}
    for wrong in (None, bytes(32), SECRET[:31]):
        with pytest.raises(InvalidInputError):
            complete_settlement(settlement, **parts, secret=wrong)
    transaction = complete_settlement(settlement, **parts, secret=SECRET)
    assert settlement.fee * 1000 >= RATE * transaction.vsize
    while wallet.node.block_count() < contract.expiry_height:
        with pytest.raises(NotFinalError):
            wallet.node.send(transaction)
        wallet.mine()
    for wrong in ({"secret": bytes(32)}, {"secret": SECRET[:31]}, {"secret": SECRET, "buyer": ours}):
        witness = leaves.witness_of("release", contract.keys, contract.output(), parts | wrong)
        with pytest.raises(TxRejectedError):
            wallet.node.send(settlement.transaction.with_witness(0, witness))
    wallet.node.send(transaction)
    wallet.node.send(transaction)  # once more changes nothing
    wallet.mine(6)
    assert wallet.confirmations(transaction.txid) == 6
    assert wallet.node.send(transaction) == transaction.txid
    on_chain = parse_transaction(transaction.to_bytes())
    assert read_record(on_chain.outputs[-1].script) == (RecordType.SETTLEMENT_PROOF, ROOT)
    assert wallet.node.unspent(funding.outpoint) is None
