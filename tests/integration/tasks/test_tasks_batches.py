"""Contracts of several accounts end together in one transaction over letters; whoever is silent or lies drops out."""

import json
import time

import pytest
from sqlmodel import select

from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.mail import PartyMail
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options import batches
from btcfi.adapters.store.options.batch_tables import BatchEndRow, BatchPartRow, BatchRow
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.bitcoin.fees import FeeRule
from btcfi.contracts.anchor import AnchorItem, AnchorKind, anchor_root
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.units import Hash32
from btcfi.vm.program import load_program
from tasks import chain, market
from tasks import contracts as exchange_tasks
from tests.support.chain import embedded_node
from tests.support.market_stage import MarketStage
from workers.audit import ChainView, audit

pytestmark = pytest.mark.integration

NAMES = ("ada", "bob", "cyd")


def opened(folder, names=NAMES):
    return MarketStage(folder / "data", embedded_node_of[0], folder / "chain" / ".cookie", names=names, coins=8)


embedded_node_of = []


@pytest.fixture
def stage(tmp_path, monkeypatch):
    with embedded_node(tmp_path / "chain") as (node, _), MarketStage(
        tmp_path / "data", node, tmp_path / "chain" / ".cookie", names=NAMES, coins=8
    ) as made:  # fmt: skip
        monkeypatch.setattr(batches, "GATHER_SECONDS", 0)
        made.here.deployment.__dict__["batches"] = True  # a frozen setting, as BTCFI_BATCHES=true gives it
        for one in made.accounts.values():
            one.desk.batches.wanted = True
        yield made


def traded(stage):
    """Four options between three accounts, funded and final; both sides of each have said yes."""
    ada, bob, cyd = (stage.accounts[name] for name in NAMES)
    names = [bob.take(ada.offer()), cyd.take(ada.offer(strike=4_800_000)), ada.take(bob.offer()),
             cyd.take(bob.offer(strike=5_500_000))]  # fmt: skip
    stage.trade(8)
    stage.mine(6)
    assert {stage.state(name) for name in names} == {"ACTIVE"}
    stage.trade(2)  # each has seen its contracts active
    return names


def carry(stage, rounds=5):
    for _ in range(rounds):
        market.tick()
        stage.trade(1)
    chain.settle()


def test_contracts_end_together(stage):
    names = traded(stage)
    with stage.here.store.reading() as session:
        parts = session.exec(select(BatchPartRow)).all()
    assert len(parts) == 4 and all(one.buyer_at_unix and one.seller_at_unix for one in parts)
    stage.price(5_200_000)
    stage.settle()
    assert {stage.row(SettlementRow, option_id=name).state for name in names} == {"proven"}
    carry(stage)
    with stage.here.store.reading() as session:
        for row in session.exec(select(BatchRow)).all():
            print(row.state, json.loads(row.body)["state"]["faults"], json.loads(row.body)["state"]["stage"])
    rows = [stage.row(SettlementRow, option_id=name) for name in names]
    assert len({row.txid for row in rows}) == 1
    assert {row.state for row in rows} == {"broadcast"}
    stage.mine(6)
    assert all(stage.state(name) in ("EXERCISED", "ABANDONED") for name in names)
