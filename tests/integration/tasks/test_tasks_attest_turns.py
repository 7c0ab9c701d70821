"""Events whose oracles are gone, or that are held, however many: none keeps another one waiting."""

import pytest
from sqlmodel import select

from btcfi.adapters.store.options import attesting, contracts
from btcfi.adapters.store.options.contract_tables import ContractRow, OracleEventRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.units import UnixSeconds
from tasks import options
from tests.support.contract_stage import open_stage

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MANY = 250


def test_every_event_that_waits_is_asked_for_within_a_few_turns_though_hundreds_cannot_be_attested(tmp_path):
    with open_stage(tmp_path, coins=2) as stage:
        stage.sell("one")
        stage.fund("one")
        stage.price(6_000_000)
        options.expire_due("BTC/USD")
        with stage.here.store.transaction() as session:
            for table, key in ((OracleEventRow, "id"), (OptionRow, "id"), (ContractRow, "option_id"),
                               (SettlementRow, "id")):  # fmt: skip
                row = session.exec(select(table)).one().model_dump()
                for n in range(MANY):
                    mine = {key: f"{'0' * 60}{n:04x}"}
                    for name in row.keys() & {"option_id", "event_id"} - {key}:
                        mine[name] = f"{'0' * 60}{n:04x}"
                    if "option_id" in row:
                        mine["option_id"] = f"{'0' * 60}{n:04x}"
                    session.add(table(**{**row, **mine}))
                session.flush()
        with stage.here.store.reading() as session:
            waiting = set(session.exec(select(OracleEventRow.id)).all())
            found = set()
            for turn in range(-(-len(waiting) // 100)):
                work = contracts.repair(session, now=UnixSeconds(60 * turn), stale_seconds=60)
                found |= {one.arguments[0] for one in work if one.flow == "attest"}
            assert found == waiting
            assert len(attesting.unattested(session)) == 100
