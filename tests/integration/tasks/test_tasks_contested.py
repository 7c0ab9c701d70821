"""The service's settlements where the pool is not its own: strangers on the anchor, and no coin for a child."""

import pytest
from sqlalchemy import update
from sqlmodel import select

from btcfi.adapters.store.chain.tables import TransactionRow, WalletOutpointRow
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.bitcoin.transaction import SEQUENCE_RBF, TRUC_VERSION, Transaction, TxIn, TxOut
from btcfi.units import Sats, display_txid, parse_txid
from tasks import chain, context

pytestmark = pytest.mark.integration


def settled(stage):
    """An option whose CET and child wait in the pool; returns the CET."""
    stage.sell("one")
    stage.fund("one")
    stage.price(6_000_000)
    stage.settle()
    return stage.node.transaction(parse_txid(stage.row(SettlementRow).txid)).transaction


def pass_by(stage, blocks):
    for _ in range(blocks):
        stage.node.generate_block(context.mining_address(stage.deployment, 1), [])
    chain.watch()


def on_anchor(stage, cet):
    (txid,) = stage.node.pool_spenders([cet.outpoint(len(cet.outputs) - 1)])
    return txid


def children(stage):
    with stage.here.store.reading() as session:
        query = select(TransactionRow).where(TransactionRow.purpose == "child")
        return session.exec(query.order_by(TransactionRow.fee_sats)).all()


def strangers_child(stage, cet, *, fee):
    """A child of nearly 1,000 vB, the most that TRUC allows, from a coin of the seller's."""
    wallet = stage.mails["seller"]._desk.wallet
    coin = max(wallet.free(), key=lambda coin: coin.value)
    spent = [coin.output, cet.outputs[-1]]
    padding = [TxOut(value=Sats(1_000), script=wallet.script)] * 18
    rest = sum(output.value for output in spent) - 18_000 - fee
    made = Transaction(
        version=TRUC_VERSION,
        inputs=(
            TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF),
            TxIn(outpoint=cet.outpoint(len(cet.outputs) - 1), sequence=SEQUENCE_RBF),
        ),
        outputs=(*padding, TxOut(value=Sats(rest), script=wallet.script)),
    )
    return made.with_witness(0, [wallet.by_script[coin.output.script].sign_input(made, 0, spent)])


def test_a_strangers_child_is_left_while_it_pays_enough_and_outbid_by_all_that_it_pays_once_it_does_not(stage):
    cet = settled(stage)
    theirs = strangers_child(stage, cet, fee=20_000)
    stage.node.send(theirs)
    pass_by(stage, 9)
    assert on_anchor(stage, cet) == theirs.txid
    assert len(children(stage)) == 1
    pass_by(stage, 3)
    _, second = children(stage)
    assert display_txid(on_anchor(stage, cet)) == second.txid
    assert second.fee_sats >= 20_000 + 200
    stage.mine(6)
    assert stage.state() == "EXERCISED"


def coins(stage, *, state):
    with stage.here.store.transaction() as session:
        session.execute(update(WalletOutpointRow).where(WalletOutpointRow.state != state).values(state=state))


def test_a_service_without_a_coin_sends_the_cet_alone_and_its_child_when_it_has_one(stage):
    stage.sell("one")
    stage.fund("one")
    stage.price(6_000_000)
    coins(stage, state="spent")
    stage.settle()
    cet = stage.node.transaction(parse_txid(stage.row(SettlementRow).txid)).transaction
    assert stage.node.pool() == [cet.txid]
    assert children(stage) == []
    chain.watch()
    assert "no coin" in stage.row(TransactionRow, purpose="settlement").last_error
    coins(stage, state="available")
    chain.watch()
    (child,) = children(stage)
    assert display_txid(on_anchor(stage, cet)) == child.txid
    stage.mine(6)
    assert stage.state() == "EXERCISED"
