"""Settlements are built and sent by their turns, and what waits for a block is read from the node and the store."""

import os

import pytest
from sqlalchemy import delete, insert
from sqlmodel import select

from btcfi.adapters.chain.pool import asking_rate, look, waiting_on
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.bitcoin.fees import FeeRule
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.contracts.schedule import IN_FLIGHT_BLOCKS, SETTLEMENT_VSIZE, SHARE
from btcfi.surfaces.fee_view import fee_view
from btcfi.units import parse_txid
from tasks import chain, context

pytestmark = pytest.mark.integration

OTHERS = TransactionRow.subject.like("other-%")


def fill_the_next_blocks(stage):
    """Let so many settlements be in flight that the next blocks take no more; what they would send, the chain has."""
    many = IN_FLIGHT_BLOCKS * SHARE // SETTLEMENT_VSIZE + 1
    with stage.here.store.transaction() as session:
        known = session.exec(select(TransactionRow).where(TransactionRow.purpose == "funding")).one().raw_hex
        session.execute(insert(TransactionRow), [{
            "txid": f"{n:064x}", "purpose": "settlement", "subject": f"other-{n}", "state": "broadcast",
            "raw_hex": known, "spends": f"{n:064x}:0", "fee_sats": 0, "created_at_unix": 0, "updated_at_unix": 0,
        } for n in range(many)])  # fmt: skip


def seen(stage):
    here = stage.here
    return fee_view(here.store, lambda: look(context.node(os.getpid())), FeeRule())


def test_a_settlement_waits_while_the_next_blocks_are_full_of_ours_and_is_paid_in_its_turn(embedded):
    stage = embedded
    stage.sell("one")
    stage.fund("one")
    stage.price(6_000_000)
    fill_the_next_blocks(stage)
    stage.settle()
    assert stage.row(SettlementRow).state == "proven"
    assert stage.node.pool() == []
    refund = stage.row(OptionRow).refund_height
    (deadline,) = seen(stage).payments.deadlines
    assert (deadline.refund_height, deadline.waiting, deadline.put_off, deadline.late) == (refund, 1, 1, 0)

    with stage.here.store.transaction() as session:
        session.execute(delete(TransactionRow).where(OTHERS))
    chain.settle()
    assert stage.row(SettlementRow).state == "broadcast"
    (deadline,) = seen(stage).payments.deadlines
    assert (deadline.waiting, deadline.in_flight) == (0, 1)
    stage.mine(6)
    assert stage.state() == "EXERCISED"
    assert seen(stage).payments.deadlines == ()


def test_the_next_block_of_a_real_pool_holds_the_settlement_and_its_child_at_what_they_pay(stage):
    stage.sell("one")
    stage.fund("one")
    stage.price(6_000_000)
    stage.settle()
    market = seen(stage).market
    (block,) = market.blocks
    with stage.here.store.reading() as session:
        ours = session.exec(select(TransactionRow).where(TransactionRow.purpose.in_(("settlement", "child")))).all()
    assert (block.transactions, block.full) == (len(ours), False)
    sizes = [parse_transaction(bytes.fromhex(row.raw_hex)).vsize for row in ours]
    rates = sorted(row.fee_sats * 1_000 // vsize for row, vsize in zip(ours, sizes, strict=True))
    assert [block.lowest, block.highest] == rates  # this CET pays more than its child, which lifts nothing
    assert (market.size.transactions, market.size.vsize) == (2, sum(sizes)) == (2, block.vsize)
    node = context.node(os.getpid())
    assert asking_rate(node, 2) == node.relay_fee()  # no estimate, and room in the next block


def test_what_waits_on_many_outputs_is_asked_in_one_round_trip_and_what_has_left_is_not_there(embedded):
    stage = embedded
    stage.sell("one")
    stage.fund("one")
    stage.price(6_000_000)
    stage.settle()
    node = stage.node
    waiting = node.pool()
    gone = parse_txid("ab" * 32)
    entries = node.pool_entries_of([waiting[0], gone, waiting[1]])
    assert entries == [node.pool_entry(waiting[0]), None, node.pool_entry(waiting[1])]
    assert node.pool_entries_of([]) == []
    spent = [txin.outpoint for txid in waiting for txin in node.transaction(txid).transaction.inputs]
    unspent = node.transaction(waiting[1]).transaction.outpoint(0)
    assert set(waiting_on(node, [*spent, unspent])) == set(spent)
