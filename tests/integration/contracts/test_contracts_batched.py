"""Batches on a chain, ours in this process and a real node's: mined whole, and what one can do to the others."""

import pytest

from btcfi.adapters.chain.node import InputsSpentError, TxRejectedError
from btcfi.bitcoin.transaction import TRUC_VERSION, Transaction, TxIn, TxOut
from btcfi.contracts.anchor import AnchorItem, AnchorKind, check_anchor, prove_anchor
from btcfi.contracts.batch import Ending, Side
from btcfi.contracts.batch_funding import build_batch_funding, check_own, sign_own
from btcfi.contracts.batching import Why, spent_otherwise
from btcfi.contracts.settle import complete_cet
from btcfi.units import Sats, UnixSeconds
from tests.support.batching import NOW, RATE, Table, fund, fundings_of, name_of, wallet_of
from tests.support.chain import KINDS, chain
from tests.support.contracts import (
    BUYER,
    BUYER_SECRET,
    COARSE,
    PROOF_ROOT,
    SELLER,
    SELLER_SECRET,
    Scene,
)
from tests.support.little_chain import wallet_here

pytestmark = pytest.mark.integration

A, B, C = map(name_of, range(3))
HOLDER, WRITER = name_of(60), name_of(61)
"""The two sides of the scene's contract, which has all its CETs."""


@pytest.fixture(scope="module", params=["here", *KINDS[1:]])
def wallet(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param != "here":
        with chain(request.param, folder) as funded:
            yield funded
        return
    with wallet_here(folder) as funded:
        yield funded


def spent_of(node, table):
    """Which collaterals a node has no more, its pool included."""
    return [one.funding for one in table.endings if node.unspent(one.funding, include_pool=True) is None]


def mined(wallet, transaction):
    wallet.node.send(transaction)
    (block,) = wallet.mine()
    assert wallet.confirmations(transaction.txid) == 1
    return wallet.node.block(block)


class WithCets(Table):
    """A table whose last contract is a scene's, set up with all its pre-signatures: it could settle alone."""

    def sit(self, wallet):
        here = wallet.node.block_count() + 5
        self.scene = Scene(
            tolerance=COARSE, expiry_height=here, refund_height=here + 60,
            seller_coins=wallet.coins_for(SELLER.script, [10_100_000]),
            buyer_coins=wallet.coins_for(BUYER.script, [60_000]),
        )  # fmt: skip
        agreement, accepted, signed, funding = self.scene.run()
        wallet.node.send(funding)
        wallet.mine()
        while wallet.node.block_count() < here:
            wallet.mine()
        self.cet = complete_cet(
            agreement.plan, **self.scene.presignatures(accepted, signed),
            attestations=self.scene.attestations(20_000_000),
        )  # fmt: skip
        sides = {"buyer": Side(owner=HOLDER, key=self.scene.buyer.key),
                 "seller": Side(owner=WRITER, key=self.scene.seller.key)}  # fmt: skip
        self.add(Ending.of(agreement.plan, self.cet.bucket, **sides, proof_root=PROOF_ROOT), -1)
        self.begin()
        return self

    def secrets(self, owner):
        scenes = {HOLDER: BUYER_SECRET, WRITER: SELLER_SECRET}
        found = super().secrets(owner)
        return {point: scenes[owner] if self.numbers[point] == -1 else secret for point, secret in found.items()}


def test_64_contracts_of_16_owners_end_in_one_block_and_each_is_proved_from_it(wallet):
    table = fund(wallet, Table(64, 16))
    state = table.run()
    block = mined(wallet, state.signed)
    for owner, paid in state.batch.paid.items():
        assert TxOut(value=paid, script=wallet_of(owner).script) in state.signed.outputs
    items = [AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=one.proof_root) for one in state.batch.endings]
    for index in (0, 37, 63):
        proof = prove_anchor(
            items, index, transaction=state.signed, block_txids=[one.txid for one in block.transactions],
            header=block.header.raw,
        )  # fmt: skip
        assert check_anchor(proof)


@pytest.mark.parametrize("how", ["silent", "lying"])
def test_beside_a_party_that_is_silent_or_lies_all_others_contracts_are_mined_in_the_second_try(wallet, how):
    table = fund(wallet, Table(8, 4))
    state = table.second(table.first(table.start()), **{how: [B]})
    state = table.run(state, now=UnixSeconds(state.deadline - 1))
    mined(wallet, state.signed)
    left = {one.funding for one in table.endings if B in one.owners}
    assert set(spent_of(wallet.node, table)) == {one.funding for one in table.endings} - left
    assert {one.ending.funding for one in state.apart} == left


def test_a_party_that_sends_its_cet_first_keeps_nobody_else_from_being_paid(wallet):
    """Once all have signed one sends the CET that it has, which pays more for its place than the batch."""
    table = WithCets(0)
    fund(wallet, bare := Table(4, 3))
    for one in bare.endings:
        table.add(one, bare.numbers[one.funding])
    table.sit(wallet)
    state = table.run()
    wallet.node.send(table.cet.transaction)
    with pytest.raises(TxRejectedError):
        wallet.node.send(state.signed)
    gone = spent_of(wallet.node, table)
    assert gone == [table.cet.transaction.inputs[0].outpoint]
    state = spent_otherwise(state, gone, now=NOW)
    assert [one.why for one in state.apart] == [Why.SPENT]
    state = table.run(state)
    wallet.node.send(state.signed)
    wallet.mine()
    assert wallet.confirmations(state.signed.txid) == wallet.confirmations(table.cet.transaction.txid) == 1


def test_a_batch_pays_what_the_cet_pays_which_is_worth_nothing_after_it(wallet):
    table = WithCets(0).sit(wallet)
    state = table.run()
    mined(wallet, state.signed)
    assert state.batch.paid[HOLDER] == table.cet.transaction.outputs[0].value
    assert state.batch.paid[WRITER] > table.cet.transaction.outputs[1].value
    with pytest.raises(InputsSpentError):
        wallet.node.send(table.cet.transaction)


def test_a_batch_that_waits_is_sped_up_by_a_child_of_whoever_it_pays_and_pinned_by_nobody(wallet):
    table = fund(wallet, Table(4, 3))
    state = table.run()
    wallet.node.send(state.signed)
    place = next(n for n, one in enumerate(state.signed.outputs) if one.script == wallet_of(A).script)
    own = state.signed.outputs[place]

    def child(outputs):
        made = Transaction(
            version=TRUC_VERSION, inputs=(TxIn(outpoint=state.signed.outpoint(place)),), outputs=tuple(outputs)
        )
        return made.with_witness(0, [wallet_of(A).sign_input(made, 0, [own])])

    with pytest.raises(TxRejectedError):
        wallet.node.send(child(TxOut(value=Sats(1_000), script=wallet_of(A).script) for _ in range(30)))
    paid = child([TxOut(value=Sats(own.value - 5_000), script=own.script)])
    wallet.node.send(paid)
    wallet.mine()
    assert wallet.confirmations(paid.txid) == wallet.confirmations(state.signed.txid) == 1


# ---- funding


def brought(wallet, contracts, parties):
    joinings, purses = fundings_of(
        contracts, parties, coins=lambda script, value: wallet.coins_for(script, [value])[0]
    )  # fmt: skip
    return joinings, purses, build_batch_funding(joinings, purses, rate=RATE)


def seen(node, made):
    found = {one.outpoint: node.unspent(one.outpoint, include_pool=True) for one in made.transaction.inputs}
    return {point: one for point, one in found.items() if one is not None}


def test_contracts_of_several_parties_are_funded_in_one_transaction_of_version_3(wallet):
    joinings, purses, made = brought(wallet, 8, 4)
    signed = made.transaction
    for owner, purse in purses.items():
        own = [one for one in joinings if owner in (one.buyer, one.seller)]
        index = check_own(
            made, owner, purse, own, rate=RATE, seen=seen(wallet.node, made), wallet={wallet_of(owner).script}
        )
        signed = signed.with_witness(index, sign_own(made, index, wallet_of(owner)))
    mined(wallet, signed)
    for one in joinings:
        assert wallet.node.unspent(made.outpoint_of(one.contract)).output == one.contract.funding_txout()


def test_whoever_spends_its_coin_first_makes_a_funding_void_and_the_others_coins_stay(wallet):
    _, purses, made = brought(wallet, 4, 3)
    signed = made.transaction
    for index, owner in enumerate(made.owners):
        signed = signed.with_witness(index, sign_own(made, index, wallet_of(owner)))
    coin = purses[A].coin
    back = Transaction(version=2, inputs=(TxIn(outpoint=coin.outpoint),),
                       outputs=(TxOut(value=Sats(coin.value - 9_000), script=coin.output.script),))  # fmt: skip
    mined(wallet, back.with_witness(0, [wallet_of(A).sign_input(back, 0, [coin.output])]))
    with pytest.raises(TxRejectedError):
        wallet.node.send(signed)
    left = seen(wallet.node, made)
    assert set(left) == {one.coin.outpoint for owner, one in purses.items() if owner != A}
