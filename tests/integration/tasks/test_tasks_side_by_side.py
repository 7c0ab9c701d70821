"""The chain's lane builds some settlements while the node checks those before: each is stored before it is sent."""

import pytest
from sqlmodel import select

from btcfi.adapters.chain.node import Node
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options import building
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.bitcoin.fees import FeeRule
from btcfi.errors import UnreachableError
from btcfi.units import Height, display_txid
from tasks import chain, options, settlement
from tasks.context import service_wallet
from tests.support.contract_stage import open_stage
from tests.support.oracles import FEED

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NAMES = ("a", "b")


def states(stage):
    with stage.here.store.reading() as session:
        return {row.option_id: str(row.state) for row in session.exec(select(SettlementRow)).all()}


def what_was_completed_from_another_contract_is_not_used(stage):
    with stage.here.store.reading() as session:
        ahead = building.complete_ahead(session, ["st-a", "st-b", "st-nobody"])
    assert set(ahead) == {"a", "b"}
    with stage.here.store.transaction() as session:
        contract = session.get_one(ContractRow, "a")
        plan, contract.plan_sha256 = contract.plan_sha256, None
        session.flush()
        built = building.build_settlements(
            session, ["st-a"], service_wallet(stage.deployment), estimate=None, rule=FeeRule(),
            tip=Height(stage.node.block_count()), now=stage.here.now(), ahead=ahead,
        )  # fmt: skip
        assert built == []
        settlement_row = session.get_one(SettlementRow, "st-a")
        assert "checked contract" in settlement_row.last_error
        contract.plan_sha256, settlement_row.last_error = plan, None


def test_each_is_stored_before_it_is_sent_and_a_node_that_goes_away_in_between_costs_a_watch(tmp_path, monkeypatch):
    monkeypatch.setattr(chain, "BUILD_AT_ONCE", 1)
    with open_stage(tmp_path, coins=4, fee_coins=4) as stage:
        for number, name in enumerate(NAMES):
            stage.sell(name, strike=4_900_000 + number)
        stage.talk()
        stage.mine(6)
        stage.price(5_100_000)
        options.expire_due(FEED)
        stage.attest()
        settlement.execute_batch([f"st-{name}" for name in NAMES])
        what_was_completed_from_another_contract_is_not_used(stage)
        asked, really = [], Node.try_send_packages

        def send(self, packages):
            if packages:
                with stage.here.store.reading() as session:  # another connection: it sees what is committed
                    known = {row.txid for row in session.exec(select(TransactionRow)).all()}
                asked.append([{display_txid(one.txid) for one in package} <= known for package in packages])
                if len(asked) == 2:
                    raise UnreachableError("node", stage.node.where, "gone", "start it")
            return really(self, packages)

        monkeypatch.setattr(Node, "try_send_packages", send)
        with pytest.raises(UnreachableError):
            chain.settle()
        assert sorted(states(stage).values()) == ["broadcast", "built"]
        monkeypatch.setattr(Node, "try_send_packages", really)
        chain.watch()
        assert set(states(stage).values()) == {"broadcast"}
        assert asked == [[True], [True]]
        assert len(stage.node.pool()) == 2 * len(NAMES)
