"""One set of expectations for both nodes: ours answers as bitcoind does, codes included."""

from decimal import Decimal

import pytest

from btcfi.adapters.chain.node import FeeTooLowError, InputsSpentError, NodeAnswerError, NotFinalError, TxRejectedError
from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.script import P2A_SCRIPT, op_return
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut, parse_transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.errors import NotFoundError
from btcfi.units import Hash32, Height, Sats, Txid, display_txid

pytestmark = pytest.mark.integration


def spend(wallet, coin, *outputs, version=2, sequence=0xFFFFFFFD, lock_time=0, fee=1_000):
    outs = outputs or (TxOut(value=Sats(coin.value - fee), script=wallet.key.script),)
    unsigned = Transaction(
        version=version, inputs=(TxIn(outpoint=coin.outpoint, sequence=sequence),), outputs=outs, lock_time=lock_time
    )
    return unsigned.with_witness(0, [wallet.key.sign_input(unsigned, 0, [coin.output])])


@pytest.fixture
def coin(wallet):
    return wallet.coins_for(wallet.key.script, [100_000])[0]


def rpc_error(node, method, *params):
    with pytest.raises(NodeAnswerError) as error:
        node.call(method, *params)
    return error.value.code


def test_a_transaction_travels_from_the_pool_to_the_chain(wallet, coin):
    node = wallet.node
    payment = spend(wallet, coin)
    assert node.send(payment) == payment.txid
    assert payment.txid in node.pool()
    assert node.pool_entry(payment.txid).fee == 1_000
    assert node.pool_entry(payment.txid).vsize == payment.vsize
    assert node.unspent(coin.outpoint) is None
    assert node.unspent(coin.outpoint, include_pool=False).output == coin.output
    waiting = node.unspent(payment.outpoint(0))
    assert (waiting.confirmations, waiting.output) == (0, payment.outputs[0])
    seen = node.transaction(payment.txid)
    assert (seen.confirmations, seen.block_hash) == (0, None)
    (mined,) = wallet.mine()
    assert node.pool() == []
    seen = node.transaction(payment.txid)
    assert (seen.confirmations, seen.block_hash, seen.transaction) == (1, mined, payment)
    assert node.send(payment) == payment.txid
    with pytest.raises(NotFoundError):
        node.pool_entry(payment.txid)


def test_blocks_and_headers_agree_with_their_bytes(wallet):
    node = wallet.node
    tip = node.block_count()
    name = node.block_hash(tip)
    assert name == node.best_block_hash() == node.chain_info().best_hash
    block = node.block(name)
    header = node.block_header(name)
    assert header == block.header
    assert (header.height, header.confirmations, len(header.raw)) == (tip, 1, 80)
    assert header.previous == node.block_hash(Height(tip - 1))
    described = node.call("getblock", name[::-1].hex(), 2)
    assert [tx["txid"] for tx in described["tx"]] == [display_txid(tx.txid) for tx in block.transactions]
    assert parse_transaction(bytes.fromhex(described["tx"][0]["hex"])) == block.transactions[0]
    assert described["nTx"] == len(block.transactions)
    raw = bytes.fromhex(node.call("getblock", name[::-1].hex(), 0))
    assert (described["size"], raw[:80]) == (len(raw), header.raw)
    assert described["weight"] == 3 * described["strippedsize"] + described["size"]
    assert isinstance(described["tx"][0]["vout"][0]["value"], Decimal)
    genesis = node.block_header(node.block_hash(Height(0)))
    assert genesis.previous == bytes(32)
    assert node.block(genesis.hash).transactions[0].txid[::-1].hex().startswith("4a5e1e4baab89f3a")


def test_unknown_things_have_bitcoinds_codes(wallet):
    node = wallet.node
    nothing = "00" * 32
    assert rpc_error(node, "getblockhash", 10**6) == -8
    assert rpc_error(node, "getblockheader", nothing) == -5
    assert rpc_error(node, "getblock", nothing) == -5
    assert rpc_error(node, "getrawtransaction", nothing) == -5
    assert rpc_error(node, "getmempoolentry", nothing) == -5
    assert rpc_error(node, "getrawtransaction", "zz") == -8
    assert rpc_error(node, "sendrawtransaction", "zz") == -22
    assert rpc_error(node, "sendrawtransaction", "0200") == -22
    assert rpc_error(node, "nosuchmethod") == -32601
    assert rpc_error(node, "generatetoaddress", 1, "nonsense") == -5
    assert rpc_error(node, "submitpackage", []) == -8
    assert rpc_error(node, "submitpackage", ["00"]) == -22
    assert node.call("gettxout", nothing, 0) is None
    for call in (
        lambda: node.block_hash(Height(10**6)),
        lambda: node.block(Hash32(bytes(32))),
        lambda: node.block_header(Hash32(bytes(32))),
        lambda: node.transaction(Txid(bytes(32))),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_a_spent_or_missing_input_is_refused_and_a_confirmed_spent_one_is_still_success(wallet, coin):
    node = wallet.node
    first = spend(wallet, coin)
    node.send(first)
    second = spend(wallet, type(coin)(outpoint=first.outpoint(0), output=first.outputs[0]))
    node.send(second)
    wallet.mine()
    assert node.send(first) == first.txid  # its only output is spent: bitcoind itself would say "missing inputs"
    rival = spend(wallet, coin, fee=5_000)
    with pytest.raises(InputsSpentError):
        node.send(rival)
    ghost = type(coin)(outpoint=OutPoint(txid=Txid(b"\x07" * 32), index=0), output=coin.output)
    with pytest.raises(InputsSpentError) as error:
        node.send(spend(wallet, ghost))
    assert error.value.code == -25


def test_a_lock_time_counts_to_the_block(wallet, coin):
    node = wallet.node
    tip = node.block_count()
    payment = spend(wallet, coin, lock_time=tip + 1, sequence=0xFFFFFFFE)
    with pytest.raises(NotFinalError):
        node.send(payment)
    wallet.mine()
    node.send(payment)


def test_a_relative_lock_counts_to_the_block(wallet, coin):
    payment = spend(wallet, coin, sequence=3)
    for _ in range(2):
        with pytest.raises(NotFinalError):
            wallet.node.send(payment)
        wallet.mine()
    wallet.node.send(payment)


@pytest.mark.parametrize("version", [0, 4])
def test_an_unknown_version_is_refused(wallet, coin, version):
    with pytest.raises(TxRejectedError) as error:
        wallet.node.send(spend(wallet, coin, version=version))
    assert error.value.reason == "version"


def test_a_wrong_signature_is_refused_whoever_asks(wallet, coin):
    payment = spend(wallet, coin)
    wrong = payment.with_witness(0, [bytes(64)])
    (answer,) = wallet.node.test_accept([wrong])
    assert not answer.allowed
    with pytest.raises(TxRejectedError) as error:
        wallet.node.send(wrong)
    assert error.value.code == -26
    assert "script-verify-flag-failed" in error.value.reason
    with pytest.raises(NodeAnswerError) as block:
        wallet.node.generate_block(wallet.address, [wrong])
    assert block.value.code == -25


def test_too_cheap_too_dear_and_dust_are_refused(wallet, coin):
    node = wallet.node
    vsize = spend(wallet, coin).vsize
    with pytest.raises(FeeTooLowError):
        node.send(spend(wallet, coin, fee=vsize - 30))
    assert rpc_error(node, "sendrawtransaction", spend(wallet, coin, fee=90_000).to_bytes().hex(), "0.001") == -25
    tiny = TxOut(value=Sats(DUST_P2TR - 1), script=wallet.key.script)
    rest = TxOut(value=Sats(coin.value - 2_000), script=wallet.key.script)
    with pytest.raises(TxRejectedError) as error:
        node.send(spend(wallet, coin, rest, tiny))
    assert error.value.reason.startswith("dust")
    node.send(spend(wallet, coin, rest, TxOut(value=DUST_P2TR, script=wallet.key.script)))


def test_more_out_than_in_is_refused(wallet, coin):
    with pytest.raises(TxRejectedError) as error:
        wallet.node.send(spend(wallet, coin, fee=-1))
    assert error.value.reason.startswith("bad-txns-in-belowout")


def test_80_bytes_of_op_return_pass(wallet, coin):
    rest = TxOut(value=Sats(coin.value - 2_000), script=wallet.key.script)
    wallet.node.send(spend(wallet, coin, rest, TxOut(value=Sats(0), script=op_return(bytes(80)))))


def test_a_replacement_pays_more_and_evicts_descendants(wallet, coin):
    node = wallet.node
    first = spend(wallet, coin)
    node.send(first)
    child = spend(wallet, type(coin)(outpoint=first.outpoint(0), output=first.outputs[0]))
    node.send(child)
    with pytest.raises(FeeTooLowError):
        node.send(spend(wallet, coin, fee=2_050))
    second = spend(wallet, coin, fee=2_500)
    node.send(second)
    assert set(node.pool()) == {second.txid}
    assert node.send(second) == second.txid
    wallet.mine()


def test_test_accept_changes_nothing(wallet, coin):
    payment = spend(wallet, coin)
    assert [answer.allowed for answer in wallet.node.test_accept([payment])] == [True]
    assert wallet.node.pool() == []


def test_a_version_3_parent_without_fee_needs_its_child(wallet, coin):
    node = wallet.node
    outputs = (
        TxOut(value=Sats(coin.value - 240), script=wallet.key.script),
        TxOut(value=Sats(240), script=P2A_SCRIPT),
    )
    parent = spend(wallet, coin, *outputs, version=3)
    with pytest.raises(FeeTooLowError):
        node.send(parent)
    child = Transaction(
        version=3,
        inputs=(TxIn(outpoint=parent.outpoint(0)), TxIn(outpoint=parent.outpoint(1))),
        outputs=(TxOut(value=Sats(coin.value - 3_000), script=wallet.key.script),),
    )
    child = child.with_witness(0, [wallet.key.sign_input(child, 0, list(parent.outputs))])
    mixed = spend(wallet, type(coin)(outpoint=parent.outpoint(0), output=parent.outputs[0]), version=2)
    node.send_package([parent, child])
    with pytest.raises(TxRejectedError):
        node.send(mixed)
    assert set(node.pool()) == {parent.txid, child.txid}
    wallet.mine()
    assert node.transaction(child.txid).confirmations == 1


def test_a_coinbase_is_spent_at_100_and_not_before(wallet):
    node = wallet.node
    height = node.block_count() - 98
    coinbase = node.block(node.block_hash(Height(height))).transactions[0]
    young = Coin(outpoint=coinbase.outpoint(0), output=coinbase.outputs[0])
    payment = spend(wallet, young)
    with pytest.raises(TxRejectedError) as error:
        node.send(payment)
    assert error.value.reason.startswith("bad-txns-premature-spend-of-coinbase")
    wallet.mine()
    node.send(payment)
    wallet.mine()


def test_an_undone_block_gives_its_transactions_back_to_the_pool(wallet, coin):
    node = wallet.node
    payment = spend(wallet, coin)
    node.send(payment)
    (mined,) = wallet.mine()
    wallet.mine(2)
    height = node.block_count()
    node.invalidate(mined)
    assert node.block_count() == height - 3
    assert payment.txid in node.pool()
    assert node.block_header(mined).confirmations == -1
    node.reconsider(mined)
    assert node.block_count() == height
    assert node.pool() == []
    assert node.transaction(payment.txid).confirmations == 3


def test_a_block_from_outside_is_taken_once(wallet):
    node = wallet.node
    (mined,) = wallet.mine()
    raw = node.call("getblock", mined[::-1].hex(), 0)
    assert node.call("submitblock", raw) == "duplicate"
    assert rpc_error(node, "submitblock", "00") == -22
    assert node.fee_estimate(6) is None or node.fee_estimate(6) >= 1_000
