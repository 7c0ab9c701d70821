"""An outside wallet signs the funding by PSBT: bitcoind's own, keys we never see."""

import pytest

from btcfi.adapters.chain.node import Node
from btcfi.bitcoin.address import decode_address
from btcfi.bitcoin.psbt import StrangerSignedError, export_psbt, import_witnesses
from btcfi.bitcoin.transaction import Transaction, TxOut
from btcfi.bitcoin.witness import WrongWitnessError
from btcfi.contracts import setup
from btcfi.contracts.option import WrongSignatureError
from btcfi.errors import InvalidInputError
from btcfi.units import Sats
from tests.support.chain import Wallet, real_node
from tests.support.contracts import BUYER_SECRET, COARSE, SELLER, SELLER_SECRET, Scene

pytestmark = pytest.mark.regtest


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    datadir = tmp_path_factory.mktemp("bitcoind-psbt")
    with real_node(datadir) as (node, _):
        wallet = Wallet(node)
        wallet.fund()
        node.call("createwallet", "outside")
        yield wallet, Node(node.where + "/wallet/outside", 30, cookie_file=datadir / "regtest" / ".cookie")


@pytest.mark.parametrize("kind", ["bech32m", "bech32"])
def test_bitcoinds_wallet_signs_the_buyers_input_and_the_funding_confirms(outside, kind):
    wallet, rpc = outside
    address = rpc.call("getnewaddress", "", kind)
    (coin,) = wallet.coins_for(decode_address(address), [80_000])
    here = wallet.node.block_count()
    scene = Scene(
        tolerance=COARSE,
        expiry_height=here + 5,
        refund_height=here + 10,
        seller_coins=wallet.coins_for(SELLER.script, [10_100_000]),
        buyer_coins=[coin],
    )
    offer, agreement = scene.offer(), scene.agreement()
    accepted = setup.accept(offer, agreement, scene.buyer, BUYER_SECRET, authority=scene.authority())
    signed = setup.sign(offer, accepted, agreement, SELLER_SECRET, {SELLER.script: SELLER}, authority=scene.authority())
    text = export_psbt(agreement.funding.transaction, agreement.funding.spent)
    processed = rpc.call("walletprocesspsbt", text)
    funding = agreement.funding
    witnesses = import_witnesses(processed["psbt"], funding.transaction, funding.spent, inputs=[1], others=[0])
    assert set(witnesses) == {1}
    with pytest.raises(StrangerSignedError):  # the same coin, had the seller named it
        import_witnesses(processed["psbt"], funding.transaction, funding.spent, inputs=[0], others=[1])
    for hash_type in ("NONE", "SINGLE", "ALL|ANYONECANPAY", "NONE|ANYONECANPAY", "SINGLE|ANYONECANPAY"):
        part = rpc.call("walletprocesspsbt", text, True, hash_type)["psbt"]
        with pytest.raises(WrongWitnessError, match=hash_type.removeprefix("ALL|").replace("|", r"\|")):
            import_witnesses(part, funding.transaction, funding.spent, inputs=[1], others=[0])
    with pytest.raises(WrongSignatureError):  # the seller's half alone is not enough
        setup.complete(agreement, signed, {}, authority=scene.authority())
    funding = setup.complete(agreement, signed, {}, outside=witnesses, authority=scene.authority())
    wallet.node.send(funding)
    wallet.mine()
    assert wallet.confirmations(funding.txid) == 1
    final = wallet.node.call("finalizepsbt", processed["psbt"])
    assert final["complete"] is False  # bitcoind never saw the seller's signature


def test_a_psbt_of_another_transaction_is_refused(outside):
    _, rpc = outside
    scene = Scene(tolerance=COARSE)
    funding = scene.agreement().funding
    text = export_psbt(funding.transaction, funding.spent)
    changed = Transaction(
        version=2,
        inputs=funding.transaction.inputs,
        outputs=(TxOut(value=Sats(1), script=b"\x51"), *funding.transaction.outputs[1:]),
    )
    with pytest.raises(InvalidInputError):
        import_witnesses(text, changed, funding.spent, inputs=[1], others=[0])
    with pytest.raises(WrongWitnessError, match="missing"):
        import_witnesses(text, funding.transaction, funding.spent, inputs=[1], others=[0])
    assert rpc.call("decodepsbt", text)["tx"]["txid"] == funding.transaction.txid[::-1].hex()
