"""An option that comes due while its transfer waits: what a block takes counts, and nobody's coin is held for ever."""

import pytest
from sqlmodel import select

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.bitcoin.transaction import parse_transaction
from tasks import chain, market
from tests.support.chain import embedded_node
from tests.support.transfer_stage import NAMES, TransferStage, audited

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overtaken")
    with embedded_node(folder / "chain") as (node, _), TransferStage(
        folder / "data", node, folder / "chain" / ".cookie"
    ) as made:  # fmt: skip
        yield made


def stored(stage, subject):
    with stage.here.store.reading() as session:
        rows = session.exec(select(TransactionRow).where(TransactionRow.subject == subject)).all()
        return {row.purpose: parse_transaction(bytes.fromhex(row.raw_hex)) for row in rows}


@pytest.fixture(scope="module")
def names(stage):
    """Two transfers that wait while their options come due; a block takes the first, and the second one's CET."""
    options = [stage.accounts["bob"].take(stage.accounts["ada"].offer()) for _ in range(2)]
    stage.trade(8)
    stage.mine(6)
    found = []
    for option in options:
        found.append(stage.begin(option))
        stage.carry_on(6)
    assert {stage.states(name) for name in found} == {("signed", "ACTIVE", "CREATED")}
    stage.price(6_000_000)
    stage.settle()
    assert {stage.states(name) for name in found} == {("signed", "EXPIRED", "CREATED")}
    moved, ended = map(stage.transfer, found)
    paid = stored(stage, ended.option_id)
    block = [stored(stage, moved.new_option_id)["transfer"], paid["settlement"], paid["child"]]
    stage.node.generate_block(stage.accounts["ada"].desk.address(), block)
    chain.watch()
    for _ in range(4):
        stage.mine(4)
        stage.settle()
        market.tick()
        stage.trade(1)
    return found


def test_what_a_block_takes_counts_and_each_contract_is_paid_once(stage, names):
    moved, ended = map(stage.transfer, names)
    assert stage.states(moved.id) == ("done", "ABANDONED", "EXERCISED")
    assert stage.states(ended.id) == ("over", "EXERCISED", "CANCELLED")
    assert (ended.fault, ended.problem) == (None, "a block has overtaken it: the old contract was settled")
    assert audited(stage, moved.option_id, moved.new_option_id, ended.option_id, complete=True) == []
    assert audited(stage, ended.new_option_id) == []


def test_a_coin_of_a_transfer_that_the_contracts_settlement_has_overtaken_is_its_owners_again(stage, names):
    for one in NAMES:
        desk = stage.accounts[one].desk
        desk.transfers.let_go_lapsed()
        held = desk.wallet.held_back(desk.wallet.scan())
        mine = [coin.outpoint for coin in stage.kept(one, names[1]).coins]
        there = stage.node.unspent_many(mine, include_pool=True)
        assert [point for point, found in zip(mine, there, strict=True) if found and point in held] == []
