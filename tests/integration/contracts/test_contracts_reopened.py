"""Transfer and roll on a chain, ours in this process and a real node's: who can undo what, until a block has it."""

import pytest

from btcfi.adapters.chain.node import InputsSpentError, TxRejectedError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import TRUC_VERSION, Transaction, TxIn, TxOut
from btcfi.contracts import watch
from btcfi.contracts.option import WrongSignatureError, build_refund, complete_settlement, sign_settlement
from btcfi.contracts.reopen import Stage, stage_of, undone_by
from btcfi.contracts.settle import build_child, complete_cet
from btcfi.contracts.splice import CoinMissingError, Owner, check_coins
from btcfi.oracle.attestation import attest
from btcfi.units import CentsPerBtc, Sats
from tests.support.chain import KINDS, chain
from tests.support.contracts import BUYER, COARSE, ORACLES, PROOF_ROOT, SELLER, MemoryLedger, Scene
from tests.support.little_chain import wallet_here
from tests.support.reopening import NEWCOMER, PRICE, SELLER_NEXT, WALLETS, Reopens, Signing

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["here", *KINDS[1:]])
def wallet(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param != "here":
        with chain(request.param, folder) as funded:
            yield funded
        return
    with wallet_here(folder) as funded:
        yield funded


ATTESTED = 20_000_000
"""Cents: twice the strike, so that the contract is worth half of its collateral, and its holder has sold for less."""


def funded(wallet, *, holder_coin=False, blocks=4, **options):
    """A contract in a block, and a newcomer with a coin."""
    here = wallet.node.block_count() + 5
    scene = Scene(
        tolerance=COARSE, expiry_height=here + blocks, refund_height=here + blocks + 6,
        seller_coins=wallet.coins_for(SELLER.script, [10_100_000]),
        buyer_coins=wallet.coins_for(BUYER.script, [60_000]),
    )  # fmt: skip
    reopens = Reopens(
        scene=scene, newcomer_coins=tuple(wallet.coins_for(NEWCOMER.script, [800_000])),
        holder_coins=tuple(wallet.coins_for(BUYER.script, [50_000])) if holder_coin else (),
        height=here, last_blocks=0, **options,
    )  # fmt: skip
    wallet.node.send(reopens.old_funding)
    wallet.mine()
    return reopens


def seen(node, splice):
    """What a node has of the inputs, as each side asks its own."""
    found = {txin.outpoint: node.unspent(txin.outpoint, include_pool=True) for txin in splice.transaction.inputs}
    return {point: one for point, one in found.items() if one is not None}


def mine_to(wallet, height):
    while wallet.node.block_count() < height:
        wallet.mine()


def old_cet(reopens):
    signatures = reopens.scene.presignatures(reopens.old_accept, reopens.old_sign)
    return complete_cet(reopens.old.plan, **signatures, attestations=reopens.scene.attestations(ATTESTED))


def new_cet(reopens, reopened, presignatures):
    (announcement,) = reopened.terms.announcements
    outcome = reopens.event.outcome(CentsPerBtc(ATTESTED))
    return complete_cet(
        reopened.plan, **presignatures, attestations=[attest(ORACLES[0], announcement, outcome, MemoryLedger())]
    )


def back(key, coin, fee):
    """A transaction by which an owner takes a coin back to itself."""
    made = Transaction(
        version=2, inputs=(TxIn(outpoint=coin.outpoint),),
        outputs=(TxOut(value=Sats(coin.value - fee), script=key.script),),
    )  # fmt: skip
    return made.with_witness(0, [key.sign_input(made, 0, [coin.output])])


def depth(wallet, transaction):
    return wallet.confirmations(transaction.txid) or 0


def test_a_transferred_contract_settles_to_the_newcomer_and_pays_the_seller_what_the_old_one_would(wallet):
    reopens = funded(wallet).transfer()
    check_coins(reopens.agreed().splice, seen(wallet.node, reopens.agreed().splice))
    reopened, presignatures, signed = reopens.run()
    wallet.node.send(signed)
    assert stage_of(confirmations=depth(wallet, signed), spent_otherwise=False) is Stage.WAITS
    wallet.mine()
    assert stage_of(confirmations=depth(wallet, signed), spent_otherwise=False) is Stage.FRESH
    assert wallet.node.unspent(signed.outpoint(1)).output == TxOut(value=PRICE, script=BUYER.script)
    mine_to(wallet, reopens.scene.expiry_height)
    before, after = old_cet(reopens), new_cet(reopens, reopened, presignatures)
    with pytest.raises(InputsSpentError):
        wallet.node.send(before.transaction)
    wallet.node.send(after.transaction)
    wallet.mine()
    amounts = [[(one.value, one.script) for one in cet.transaction.outputs] for cet in (before, after)]
    assert [amount for amount, _ in amounts[0]] == [amount for amount, _ in amounts[1]]
    assert amounts[1][0][1] == NEWCOMER.script
    assert amounts[0][1:] == amounts[1][1:]  # the seller's output and the anchor
    assert wallet.confirmations(after.transaction.txid) == 1


def test_a_roll_is_one_transaction_whose_contract_is_refunded_when_no_oracle_speaks(wallet):
    reopens = funded(wallet).roll()
    reopened, _, signed = reopens.run()
    wallet.node.send(signed)
    wallet.mine()
    contract = reopened.plan.contract
    refund = build_refund(contract, reopened.splice.outpoint, rate=reopens.rate)
    refund = complete_settlement(refund, seller=sign_settlement(refund, SELLER_NEXT, party="seller"))
    with pytest.raises(TxRejectedError):
        wallet.node.send(refund)
    mine_to(wallet, contract.refund_height)
    wallet.node.send(refund)
    wallet.mine()
    assert wallet.confirmations(refund.txid) == 1


def test_a_signed_transfer_that_waits_is_overtaken_by_the_old_settlement_once_the_price_is_known(wallet):
    """Why nothing is signed in the last blocks: both are valid, and the old settlement pays more for its place."""
    reopens = funded(wallet).transfer()
    reopened, presignatures, signed = reopens.run()
    mine_to(wallet, reopens.scene.expiry_height)
    wallet.node.send(signed)
    cet = old_cet(reopens)
    assert cet.payout > PRICE
    wallet.node.send(cet.transaction)  # replaces it: 1,000 sats on 217 vB against 2 sat/vB
    assert signed.txid not in wallet.node.pool()
    wallet.mine()
    assert wallet.confirmations(cet.transaction.txid) == 1
    assert wallet.confirmations(signed.txid) is None
    assert stage_of(confirmations=0, spent_otherwise=True) is Stage.VOID
    assert undone_by(reopened.splice, [reopens.held.funding]) == frozenset()  # each side may settle
    for dead in (signed, new_cet(reopens, reopened, presignatures).transaction):
        with pytest.raises(TxRejectedError):
            wallet.node.send(dead)
    newcomer_coin = reopens.newcomer_coins[0]
    assert wallet.node.unspent(newcomer_coin.outpoint).output == newcomer_coin.output  # its money is where it was


def test_a_transfer_that_pays_more_than_the_old_settlement_is_overtaken_by_it_and_its_child_together(wallet):
    """A dear fee rate is no protection once the price is known: who gains by the old settlement adds a child to it."""
    reopens = funded(wallet, rate=20_000).transfer()
    _, _, signed = reopens.run()
    (coin,) = wallet.coins_for(BUYER.script, [200_000])
    mine_to(wallet, reopens.scene.expiry_height)
    wallet.node.send(signed)
    cet = old_cet(reopens)
    with pytest.raises(TxRejectedError):
        wallet.node.send(cet.transaction)  # alone it pays less than what waits
    child = build_child(cet, coin, change_script=BUYER.script, rate=SatsPerKvb(40_000), proof_root=PROOF_ROOT)
    paid = child.transaction.with_witness(1, [BUYER.sign_input(child.transaction, 1, child.spent)])
    wallet.node.send_package([cet.transaction, paid])
    assert signed.txid not in wallet.node.pool()
    wallet.mine()
    assert wallet.confirmations(cet.transaction.txid) == 1


def test_a_block_may_hold_the_old_settlement_though_the_pool_has_the_transfer(wallet):
    reopens = funded(wallet).transfer()
    _, _, signed = reopens.run()
    mine_to(wallet, reopens.scene.expiry_height)
    wallet.node.send(signed)
    cet = old_cet(reopens)
    wallet.node.generate_block(wallet.address, [cet.transaction])
    assert signed.txid not in wallet.node.pool()
    assert wallet.confirmations(cet.transaction.txid) == 1


@pytest.mark.parametrize("who", [Owner.NEWCOMER, Owner.HOLDER])
def test_whoever_brought_a_coin_takes_its_word_back_by_spending_it_and_the_old_contract_settles(wallet, who):
    reopens = funded(wallet, holder_coin=True).transfer()
    reopened, _, signed = reopens.run()
    wallet.node.send(signed)
    (key,) = WALLETS[who].values()
    (coin,) = reopened.splice.stakes[who].coins
    rival = back(key, coin, fee=3_000)
    state = watch.start(wallet.node, wallet.node.block_count())
    wallet.node.send(rival)  # replaces the transfer that waits
    assert signed.txid not in wallet.node.pool()
    wallet.mine()
    points = [txin.outpoint for txin in signed.inputs]
    spends = [one.outpoint for one in watch.advance(state, wallet.node, points).state.spends]
    assert undone_by(reopened.splice, spends) == {who}
    with pytest.raises(CoinMissingError) as error:
        check_coins(reopened.splice, seen(wallet.node, reopened.splice))
    assert error.value.owner == who.value
    mine_to(wallet, reopens.scene.expiry_height)
    cet = old_cet(reopens)
    wallet.node.send(cet.transaction)
    wallet.mine()
    assert wallet.confirmations(cet.transaction.txid) == 1
    assert cet.transaction.outputs[0].script == BUYER.script


def test_a_desk_that_holds_back_what_all_have_signed_has_no_choice_left_once_the_holder_spent_its_coin(wallet):
    """The desk and the newcomer are one: they would choose once the price is known. The deadline comes before that."""
    reopens = funded(wallet, holder_coin=True).transfer()
    _, _, signed = reopens.run()  # all parts are with the desk, which sends nothing and says nothing
    (coin,) = reopens.holder_coins
    wallet.node.send(back(BUYER, coin, fee=500))  # the deadline has passed, by the holder's own clock
    wallet.mine()
    mine_to(wallet, reopens.scene.expiry_height)
    cet = old_cet(reopens)  # the price is known, and the position is worth more than it was sold for
    with pytest.raises(InputsSpentError):
        wallet.node.send(signed)
    wallet.node.send(cet.transaction)
    wallet.mine()
    assert wallet.confirmations(cet.transaction.txid) == 1
    assert cet.payout > PRICE


def test_a_holder_that_brings_no_coin_has_no_way_back_from_such_a_desk(wallet):
    """A hole that we know (docs/decisions/0068): whoever holds back what all have signed chooses after the fact."""
    reopens = funded(wallet).transfer()
    _, _, signed = reopens.run()
    mine_to(wallet, reopens.scene.expiry_height)
    wallet.node.send(signed)  # long after everybody's deadline, and the holder has not settled yet
    wallet.mine()
    assert wallet.node.unspent(signed.outpoint(1)).output.value == PRICE
    with pytest.raises(InputsSpentError):
        wallet.node.send(old_cet(reopens).transaction)


def test_without_the_holders_part_nobody_can_make_the_transfer_whatever_they_have_together(wallet):
    """The newcomer, the seller and the desk are one. The holder has named its price and given its nonce: no more."""
    reopens = funded(wallet, holder_coin=True).transfer()
    signing = Signing(reopens)
    for step in (signing.presign, signing.secure, signing.coins, signing.key_path):
        step()
    theirs = signing.partials[1]
    for forged in (theirs, bytes(32), b"\x01" * 32):
        signing.partials = [forged, theirs]
        with pytest.raises(WrongSignatureError) as error:
            signing.finish()
        assert error.value.party == "buyer"
    made = signing.reopened.splice.transaction
    for index, witness in signing.witnesses.items():
        made = made.with_witness(index, witness)
    with pytest.raises(TxRejectedError):
        wallet.node.send(made.with_witness(0, [bytes(64)]))


def test_a_transfer_that_waits_is_sped_up_by_a_child_of_whoever_it_pays(wallet):
    """Version 3: one child of at most 1,000 vB, so nobody can pin it under a large cheap one."""
    reopens = funded(wallet).transfer()
    _, _, signed = reopens.run()
    wallet.node.send(signed)
    large = Transaction(
        version=TRUC_VERSION, inputs=(TxIn(outpoint=signed.outpoint(2)),),
        outputs=tuple(TxOut(value=Sats(1_000), script=NEWCOMER.script) for _ in range(30)),
    )  # fmt: skip
    output = signed.outputs[2]
    with pytest.raises(TxRejectedError):
        wallet.node.send(large.with_witness(0, [NEWCOMER.sign_input(large, 0, [output])]))
    child = Transaction(
        version=TRUC_VERSION, inputs=(TxIn(outpoint=signed.outpoint(1)),),
        outputs=(TxOut(value=Sats(PRICE - 2_000), script=BUYER.script),),
    )  # fmt: skip
    child = child.with_witness(0, [BUYER.sign_input(child, 0, [signed.outputs[1]])])
    wallet.node.send(child)
    wallet.mine()
    assert wallet.confirmations(child.txid) == 1


def test_a_reorganisation_brings_the_old_contract_back_and_the_transfer_is_sent_again(wallet):
    reopens = funded(wallet, blocks=30).transfer()
    _, _, signed = reopens.run()
    wallet.node.send(signed)
    (mined,) = wallet.mine()
    wallet.mine(2)
    wallet.node.invalidate(mined)
    for _ in range(4):
        wallet.node.generate_block(wallet.address, [])
    assert stage_of(confirmations=depth(wallet, signed), spent_otherwise=False) is Stage.WAITS
    if signed.txid not in wallet.node.pool():
        wallet.node.send(signed)
    wallet.mine(6)
    assert stage_of(confirmations=depth(wallet, signed), spent_otherwise=False) is Stage.FINAL
