"""A real backup of each state of a batch, restored when a block has the batch: nobody is paid twice."""

import pytest
from sqlmodel import select

from btcfi.adapters import keystore
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options import batches
from btcfi.adapters.store.options.batch_tables import BatchRow
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.units import UnixSeconds
from tasks import chain, context, market, options, settlement
from tasks import contracts as exchange_tasks
from tests.support.chain import embedded_node
from tests.support.market_stage import MarketStage
from tests.support.restoring import Restoring
from workers.audit import ChainView, audit

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two contracts that ended in one batch, twelve blocks ago, with a backup of each state of it."""
    folder = tmp_path_factory.mktemp("restored")
    with (
        pytest.MonkeyPatch.context() as patched,
        embedded_node(folder / "chain") as (node, _),
        MarketStage(
            folder / "data", node, folder / "chain" / ".cookie", names=("ada", "bob", "cyd"), coins=24
        ) as stage,
    ):  # fmt: skip
        patched.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)
        patched.setattr(batches, "GATHER_SECONDS", 0)
        patched.setitem(stage.here.deployment.__dict__, "batches", True)
        stage.here = context.context()
        saved, ahead, now = Restoring(stage, folder), [0], context.Context.now
        patched.setattr(context.Context, "now", lambda here: UnixSeconds(now(here) + ahead[0]))
        ada, bob, cyd = stage.accounts.values()
        for one in (ada, bob, cyd):
            one.desk.batches.wanted = True
        offer = ada.offer(quantity=40)
        names = [bob.take(offer), cyd.take(offer)]
        stage.trade(8)
        stage.mine(6)
        stage.trade(2)
        stage.price(5_200_000)
        options.expire_due("BTC/USD")
        stage.attest()
        settlement.execute_batch([stage.row(SettlementRow, option_id=name).id for name in names])
        chain.settle()
        saved.back_up("proven")
        market.tick()
        exchange_tasks.carry(stage.here)
        saved.back_up("asking")
        for _ in range(6):
            for one in stage.accounts.values():
                one.work()
            market.tick()
            exchange_tasks.carry(stage.here)
        assert stage.row(BatchRow).state == "signed"
        saved.back_up("signed")
        chain.settle()
        stage.mine(1)
        saved.back_up("mined")
        stage.mine(12)
        assert {stage.state(name) for name in names} == {"EXERCISED"}
        ahead[0] = 3_600
        yield saved, names
        object.__setattr__(stage.here, "store", saved.before)


def rows(stage, names):
    return [stage.row(SettlementRow, option_id=name) for name in names]


def sent(stage):
    """The purposes of what ends contracts, with its states."""
    with stage.here.store.reading() as session:
        found = session.exec(select(TransactionRow).where(TransactionRow.purpose != "funding")).all()
        return {(row.purpose, str(row.state)) for row in found if row.purpose != "split"}


@pytest.mark.parametrize("state", ["signed", "mined"])
def test_a_batch_that_was_signed_before_the_backup_pays_in_the_restored_store_too(world, state):
    saved, names = world
    saved.go_on_from(state)
    stage = saved.stage
    assert {stage.state(name) for name in names} == {"EXERCISED"}
    assert (sent(stage), stage.row(BatchRow).state) == ({("batch", "final")}, "done")
    view = ChainView()
    view.follow(stage.node)
    assert [one for one in audit(stage.here.store, view, names) if not one.subject.startswith("round")] == []


@pytest.mark.parametrize("state", ["proven", "asking"])
def test_a_batch_that_was_signed_after_the_backup_is_an_end_outside_the_service_and_no_cet_is_sent(world, state):
    saved, names = world
    saved.go_on_from(state)
    stage = saved.stage
    market.tick()
    chain.settle()
    assert sent(stage) == {("outside", "final")}
    assert {(stage.state(name), row.state) for name, row in zip(names, rows(stage, names), strict=True)} == {
        ("ABANDONED", "parked")
    }
