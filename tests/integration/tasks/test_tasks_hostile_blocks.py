"""The walk along blocks that somebody else filled: what others spend, in any shape, never stops it."""

import os
from dataclasses import replace

import pytest
from sqlmodel import select

from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow
from btcfi.adapters.store.chain.walk import NodeBehindError
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts.option import FUNDING_OUTPUT
from btcfi.contracts.watch import REMEMBERED_BLOCKS, ChainMovedError
from btcfi.units import Hash32, Sats, parse_txid
from tasks import chain, context

pytestmark = pytest.mark.integration


def mined_with(monkeypatch, stage, *strange):
    """A block that holds strange transactions, as a node would tell it: their signatures are the node's to check."""
    stage.node.generate(1, context.mining_address(stage.deployment, 1))
    ours, real = context.node(os.getpid()), type(stage.node).blocks
    tip = stage.node.block_hash(stage.node.block_count())

    def blocks(self, hashes):
        return [
            replace(block, transactions=(*block.transactions, *strange)) if name == tip else block
            for name, block in zip(hashes, real(self, hashes), strict=True)
        ]

    monkeypatch.setattr(type(ours), "blocks", blocks)
    chain.watch()


def spend(*outpoints, version=2, value=1_000):
    inputs = tuple(TxIn(outpoint=one) for one in outpoints)
    return Transaction(version=version, inputs=inputs, outputs=(TxOut(value=Sats(value), script=b"\x51"),))


def collateral(stage, name):
    return OutPoint(txid=parse_txid(stage.row(OptionRow, id=name).funding_txid), index=FUNDING_OUTPUT)


def test_one_transaction_that_spends_the_collateral_of_several_options_ends_them_all(embedded, monkeypatch):
    embedded.sell("one")
    embedded.sell("two")
    embedded.fund("one", "two")
    mined_with(monkeypatch, embedded, spend(collateral(embedded, "one"), collateral(embedded, "two")))
    embedded.mine(6)
    assert [embedded.state(name) for name in ("one", "two")] == ["ABANDONED"] * 2


def walked(stage):
    with stage.here.store.reading() as session:
        return [(row.height, row.hash) for row in session.execute(select(BlockRow)).scalars()]


def test_blocks_of_two_chains_are_not_walked_as_one(embedded, monkeypatch):
    """The chain changes between two answers: what the new one holds below would never be looked at."""
    embedded.mine(1)
    before, ours, real = walked(embedded), context.node(os.getpid()), type(embedded.node).blocks
    embedded.node.generate(3, context.mining_address(embedded.deployment, 1))

    def blocks(self, hashes):
        read = real(self, hashes)
        other = replace(read[1], header=replace(read[1].header, previous=Hash32(bytes(32))))
        return [read[0], other, *read[2:]]

    monkeypatch.setattr(type(ours), "blocks", blocks)
    with pytest.raises(ChainMovedError):
        chain.watch()
    assert walked(embedded) == before
    monkeypatch.setattr(type(ours), "blocks", real)
    chain.watch()
    assert len(walked(embedded)) == len(before) + 3


def test_a_node_that_has_not_loaded_its_chain_unwinds_nothing(embedded, monkeypatch):
    embedded.mine(1)
    before, ours = walked(embedded), context.node(os.getpid())
    behind = embedded.node.block_count() - REMEMBERED_BLOCKS - 1
    if behind < 0:
        embedded.node.generate(-behind, context.mining_address(embedded.deployment, 1))
        chain.watch()
        before, behind = walked(embedded), embedded.node.block_count() - REMEMBERED_BLOCKS - 1
    monkeypatch.setattr(type(ours), "block_count", lambda _: behind)
    with pytest.raises(NodeBehindError):
        chain.watch()
    assert walked(embedded) == before


def settled(stage, *names):
    for name in names:
        stage.sell(name)
    stage.fund(*names)
    stage.price(6_000_000)
    stage.settle()
    stage.mine(1)
    return [parse_txid(stage.row(TransactionRow, subject=name, purpose="settlement").txid) for name in names]


def test_a_payout_spent_by_a_transaction_of_a_childs_version_is_no_child(embedded, monkeypatch):
    (cet,) = settled(embedded, "one")
    mined_with(monkeypatch, embedded, spend(OutPoint(txid=cet, index=0), version=3))
    embedded.mine(6)
    assert embedded.state("one") == "EXERCISED"


def test_two_spends_of_one_payment_of_a_childs_version_in_one_block(embedded, monkeypatch):
    (cet,) = settled(embedded, "one")
    strange = [spend(OutPoint(txid=cet, index=index), version=3) for index in (0, 1)]
    mined_with(monkeypatch, embedded, *strange)
    embedded.mine(6)
    assert embedded.state("one") == "EXERCISED"


@pytest.mark.parametrize("version", [2, 3])
def test_a_refund_ends_the_option_whatever_version_it_has_and_nothing_is_built_for_it(embedded, monkeypatch, version):
    """As version 3 it was taken for a CET of ours: the option stayed open, its CET was sent and refused for ever."""
    embedded.sell("one")
    embedded.fund("one")
    mined_with(monkeypatch, embedded, spend(collateral(embedded, "one"), version=version))
    embedded.mine(6)
    assert embedded.state("one") == "ABANDONED"
    embedded.price(6_000_000)
    embedded.settle()
    with embedded.here.store.reading() as session:
        assert session.exec(select(TransactionRow.purpose).where(TransactionRow.purpose == "settlement")).all() == []
