"""Contracts of several accounts end together over letters, and whoever is silent, lies or spends otherwise drops out.

One stage serves all: each test lets some of its options fall due.
"""

import json
from collections import Counter

import pytest
from sqlmodel import select

from btcfi.adapters.party.batch_deals import BatchDeals
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options import batches, views
from btcfi.adapters.store.options.batch_tables import BatchEndRow, BatchPartRow, BatchRow
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.contracts.anchor import AnchorItem, AnchorKind, anchor_root
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.units import Hash32, UnixSeconds, display_txid
from tasks import attest, chain, market, options, settlement
from tasks import contracts as exchange_tasks
from tasks.context import Context
from tests.support.chain import embedded_node
from tests.support.market_stage import MarketStage
from workers.audit import ChainView, audit

pytestmark = pytest.mark.integration

NAMES = ("ada", "bob", "cyd")
FALLS_DUE = 5_200_000


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    with embedded_node(folder / "chain") as (node, _), MarketStage(
        folder / "data", node, folder / "chain" / ".cookie", names=NAMES, coins=24
    ) as made:  # fmt: skip
        yield made


@pytest.fixture(scope="module")
def world(opened):
    """Options between three accounts, each written by one of them, all due and none run."""
    ada, bob, cyd = (opened.accounts[name] for name in NAMES)
    for one in (ada, bob, cyd):
        one.desk.batches.wanted = True
    of_ada, of_bob = ada.offer(), bob.offer(strike=4_800_000)
    names = {}
    for group in ("whole", "silent", "lying", "killed", "spent"):
        names[group] = [bob.take(of_ada), cyd.take(of_ada), cyd.take(of_bob)]
    opened.trade(8)
    opened.mine(6)
    opened.trade(1)
    every = [name for group in names.values() for name in group]
    assert {opened.state(name) for name in every} == {"ACTIVE"}
    opened.trade(1)
    opened.price(FALLS_DUE)
    options.expire_due("BTC/USD")
    opened.attest()
    return names


@pytest.fixture
def stage(opened, world, monkeypatch):
    """The stage with batches on, and a clock that tests may put forward."""
    opened.ahead = 0
    now = Context.now
    monkeypatch.setattr(Context, "now", lambda here: UnixSeconds(now(here) + opened.ahead))
    monkeypatch.setattr(batches, "GATHER_SECONDS", 0)
    monkeypatch.setitem(opened.here.deployment.__dict__, "batches", True)  # as BTCFI_BATCHES=true gives it
    for one in opened.accounts.values():
        one.silent = False
        one.lies.clear()
    return opened


def proven(stage, names):
    """Have the guest run for these alone."""
    settlement.execute_batch([stage.row(SettlementRow, option_id=name).id for name in names])
    chain.settle()
    assert {stage.row(SettlementRow, option_id=name).state for name in names} == {"proven"}  # they wait for a batch


def carry(stage, rounds=1):
    for _ in range(rounds):
        market.tick()
        exchange_tasks.carry(stage.here)
        for one in stage.accounts.values():
            one.work()
        exchange_tasks.carry(stage.here)


def settled(stage, names):
    return [stage.row(SettlementRow, option_id=name) for name in names]


def whys(stage, names):
    return [stage.row(BatchPartRow, option_id=name).why for name in names]


def faults(stage):
    with stage.here.store.reading() as session:
        rows = session.exec(select(BatchRow)).all()
    said = [one for row in rows for one in json.loads(row.body)["state"]["faults"]]
    return Counter((name, one["why"]) for one in said for name, who in stage.accounts.items() if who.id == one["owner"])


def audited(stage, names):
    view = ChainView()
    view.follow(stage.node)
    found = audit(stage.here.store, view, names)
    return [f"{one.subject}: {one.what}" for one in found if not one.subject.startswith("round")]


def test_contracts_that_end_together_are_paid_by_one_transaction_which_anybody_can_audit(stage, world):
    names = world["whole"]
    proven(stage, names)
    carry(stage, 3)
    chain.settle()
    rows = settled(stage, names)
    assert len({row.txid for row in rows}) == 1
    assert {row.state for row in rows} == {"broadcast"}
    with stage.here.store.reading() as session:
        ends = batches.batch_of(session, rows[0])
    made = stage.node.transaction(bytes.fromhex(rows[0].txid)[::-1]).transaction
    assert [display_txid(one.outpoint.txid) for one in made.inputs] == [
        stage.option(one.option_id).funding_txid for one in ends
    ]  # fmt: skip
    roots = [AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=Hash32(bytes.fromhex(one.proof_root))) for one in ends]
    assert read_record(made.outputs[-1].script) == (RecordType.ANCHOR, anchor_root(roots))
    assert len(made.outputs) == len(NAMES) + 1  # netted: one for each owner
    for one in stage.accounts.values():  # its file names the batch as an end
        assert sum(made.txid in kept.closes for kept in one.desk._store.contracts()) in {2, 3}
    stage.mine(6)
    assert {row.state for row in settled(stage, names)} == {"confirmed"}
    assert {stage.state(name) for name in names} == {"EXERCISED"}
    assert audited(stage, names) == []
