"""What older code left unfinished, today's code finishes: from a store, keys and a chain that the older code wrote."""

import pytest
from sqlmodel import select

from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.units import Slot
from tasks import control, options
from tests.support.resumed_store import COMMITS, resumed_stage

pytestmark = pytest.mark.integration

PRICE = 6_000_000


@pytest.fixture(params=COMMITS)
def old(request, tmp_path):
    with resumed_stage(tmp_path, request.param) as made:
        yield made


def test_x(old):
    stage, said = old

    stage.price(PRICE, Slot(said["options"]["call"]["expiry_unix"]))
    stage.price(PRICE, Slot(said["options"]["barrier"]["expiry_unix"]))
    control.reconcile()
    stage.settle()
    stage.talk(6)
    stage.mine(6)
    stage.talk(2)
    stage.mine(6)
    with stage.here.store.reading() as session:
        for o in session.exec(select(OptionRow)):
            s = session.exec(select(SettlementRow).where(SettlementRow.option_id == o.id)).first()
            print(o.id, o.state, s and s.state, s and s.last_error, o.last_error)
    assert 0
