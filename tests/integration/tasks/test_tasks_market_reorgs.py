"""What a reorganisation takes from a market's contracts comes back with the next block, and is nobody's fault."""

import json
import time

import pytest
from sqlmodel import select

from btcfi.adapters.store.chain.tables import UNMINED, TransactionRow, WalletOutpointRow
from btcfi.adapters.store.market.closes import closed_of
from btcfi.adapters.store.market.tables import CloseRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.market import closing
from btcfi.units import Height, Sats, UnixSeconds
from tasks import chain, market
from tests.support.chain import embedded_node
from tests.support.market_stage import MarketStage

pytestmark = pytest.mark.integration


class _Rule:
    class offers:  # noqa: N801 - as the preset's field
        answer_seconds = 0


@pytest.fixture
def stage(tmp_path):
    with embedded_node(tmp_path / "chain") as (node, _), MarketStage(
        tmp_path / "data", node, tmp_path / "chain" / ".cookie", names=("ada", "bob"), coins=2
    ) as made:  # fmt: skip
        yield made


def has_one_fresh_coin(stage, account):
    """Leave an account one coin alone, which the newest block has brought; return the height of that block."""
    wallet = account.desk.wallet
    first, *_ = wallet.free()
    value = Sats(first.value - 5_000)
    moved = Transaction(
        version=2, inputs=(TxIn(outpoint=first.outpoint),), outputs=(TxOut(value=value, script=wallet.script),)
    )  # fmt: skip
    key = wallet.by_script[first.output.script]
    moved = moved.with_witness(0, [key.sign_input(moved, 0, [first.output])])
    stage.node.generate_block(stage.mails["seller"]._desk.address(), [moved])
    chain.watch()
    for coin in wallet.free():
        if coin.outpoint != moved.outpoint(0):
            wallet.reserve(coin)
    return stage.node.block_count()


def test_a_coin_whose_block_is_reorganised_away_is_not_spent_and_its_funding_goes_on(stage, monkeypatch):
    """It was told as spent: the take failed by its owner's fault, and the funding, mined next, was nobody's option."""
    ada, bob = stage.accounts["ada"], stage.accounts["bob"]
    height = has_one_fresh_coin(stage, ada)
    offer = ada.offer()
    name = bob.take(offer)
    stage.trade()
    assert stage.taken(name).state == "funded"
    assert len(stage.node.pool()) == 1
    stage.node.invalidate(stage.node.block_hash(Height(height)))
    for _ in range(2):
        stage.node.generate_block(stage.mails["seller"]._desk.address(), [])
    chain.watch()
    assert len(stage.node.pool()) == 2  # the coin's own payment, and the funding
    monkeypatch.setattr(market, "load_market_preset", lambda _: _Rule)
    market.tick()
    assert (stage.taken(name).state, stage.offered(offer).state) == ("funded", "open")
    stage.trade(2)
    stage.mine(7)
    market.tick()
    assert (stage.state(name), stage.taken(name).state) == ("ACTIVE", "funded")


def test_a_contract_that_was_given_up_and_whose_funding_a_block_holds_after_all_is_an_option_and_is_settled(
    stage, monkeypatch
):
    """One block had spent a coin of it elsewhere, and was reorganised away: what both sides had on the chain then was
    no option of the service's for ever, and neither of them got an attestation."""
    ada, bob = stage.accounts["ada"], stage.accounts["bob"]
    name = bob.take(ada.offer())
    stage.trade()
    (mine,) = bob.desk._store.contracts()
    (named,) = [one.named for one in ada.desk._store.contracts()]
    wallet = ada.desk.wallet
    elsewhere = Transaction(
        version=2, inputs=(TxIn(outpoint=named[0].outpoint),),
        outputs=(TxOut(value=Sats(named[0].value - 5_000), script=wallet.script),),
    )  # fmt: skip
    key = wallet.by_script[named[0].output.script]
    elsewhere = elsewhere.with_witness(0, [key.sign_input(elsewhere, 0, [named[0].output])])
    address = stage.mails["seller"]._desk.address()
    stage.node.generate_block(address, [elsewhere])
    chain.watch()
    with monkeypatch.context() as patched:
        patched.setattr(market, "load_market_preset", lambda _: _Rule)
        market.tick()
    assert (stage.state(name), stage.taken(name).state) == ("CANCELLED", "failed")
    stage.node.invalidate(stage.node.best_block_hash())
    stage.node.generate_block(address, [mine.funding])
    stage.mine(6)
    market.tick()
    assert (stage.state(name), stage.taken(name).state, stage.contract(name).state) == ("ACTIVE", "funded", "funded")
    assert stage.taken(name).fault is None
    stage.price(6_000_000)
    stage.settle()
    stage.mine(6)
    stage.trade(2)
    assert stage.state(name) == "EXERCISED"
    event = stage.contract(name).event_id
    assert all(any(found.startswith(event[:32]) for found in one.received()) for one in (ada, bob))


@pytest.mark.parametrize("when", ["mined before its settlement is built", "mined while its settlement waits"])
def test_a_close_that_a_block_takes_amid_a_settlement_leaves_nothing_that_is_sent_for_ever_and_frees_its_coin(
    stage, when
):
    """Each such race kept a coin of the service's for ever: two accounts of one owner could use up all of them."""
    ada, bob = stage.accounts["ada"], stage.accounts["bob"]
    name = bob.take(ada.offer())
    stage.trade()
    stage.mine(6)
    offer = bob.desk.closes.propose(
        bob.desk.orders()[name], payout=Sats(700_000), rate=SatsPerKvb(2_000),
        valid_until=UnixSeconds(int(time.time()) + 300),
    ).offer  # fmt: skip
    letter = bob.outbox / f"{offer.letter(name, closing.OFFER)}.json"
    letter.write_text(json.dumps(closing.encode_offer(offer)))
    stage.trade(2)
    ada.desk.closes.agree(offer.id)
    stage.trade(3)
    with stage.here.store.reading() as session:
        made = closed_of(session, session.get_one(CloseRow, offer.id.hex()))
    address = stage.mails["seller"]._desk.address()
    if "before" in when:
        stage.node.generate_block(address, [made])
        chain.watch()
    stage.price(6_000_000)
    stage.settle()
    if "while" in when:
        stage.node.generate_block(address, [made])
    stage.mine(8)
    assert stage.state(name) == "ABANDONED"
    with stage.here.store.reading() as session:
        rows = session.exec(select(TransactionRow).where(TransactionRow.subject == name)).all()
        coins = session.exec(select(WalletOutpointRow).where(WalletOutpointRow.state == "reserved")).all()
    assert {row.purpose for row in rows} == {"funding", "close", "settlement", "child"}
    assert [row.purpose for row in rows if row.state in UNMINED] == []
    assert [coin.outpoint for coin in coins if coin.reserved_by in {row.txid for row in rows}] == []
