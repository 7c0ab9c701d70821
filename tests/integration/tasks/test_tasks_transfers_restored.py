"""A real backup of each state of a transfer, restored when the chain has gone on: rows become what it says."""

import pytest

from btcfi.adapters import keystore
from btcfi.adapters.store.options import holds
from tasks import chain
from tests.support.chain import embedded_node
from tests.support.restoring import Restoring
from tests.support.transfer_stage import TransferStage, audited

pytestmark = pytest.mark.integration

STATES = ("ready", "seller", "holder", "signed", "sent", "mined", "done")
"""From the first on, both sides' pre-signatures of the new contract are in the store."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A position that was sold, with a backup of each state; its new contract is settled, twelve blocks ago."""
    folder = tmp_path_factory.mktemp("restored")
    with (
        pytest.MonkeyPatch.context() as patched,
        embedded_node(folder / "chain") as (node, _),
        TransferStage(folder / "data", node, folder / "chain" / ".cookie") as stage,
    ):
        patched.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)
        saved = Restoring(stage, folder)
        option = stage.accounts["bob"].take(stage.accounts["ada"].offer())
        stage.trade(8)
        stage.mine(6)
        name = stage.begin(option)
        for said in ("ready", "seller", "holder"):
            stage.until(name, said)
            saved.back_up(said)
        stage.until(name, "all")
        saved.back_up("signed")
        stage.carry_on(2)
        saved.back_up("sent")
        stage.mine(1)
        saved.back_up("mined")
        stage.mine(7)
        saved.back_up("done")
        assert stage.states(name) == ("done", "ABANDONED", "ACTIVE")
        stage.price(6_000_000)
        stage.settle()
        stage.mine(12)
        assert stage.states(name) == ("done", "ABANDONED", "EXERCISED")
        yield saved, name
        object.__setattr__(stage.here, "store", saved.before)


@pytest.mark.parametrize(
    "state", [one if one in {"ready", "signed"} else pytest.param(one, marks=pytest.mark.slow) for one in STATES]
)
def test_a_position_that_was_settled_for_its_newcomer_after_the_backup_is_settled_in_the_restored_store_too(
    world, state
):
    saved, name = world
    stage = saved.stage
    saved.go_on_from(state)
    assert stage.states(name) == ("done", "ABANDONED", "ACTIVE")
    assert "was spent outside the service" in stage.option(stage.transfer(name).new_option_id).last_error
    with stage.here.store.transaction() as session:
        event = stage.contract(stage.transfer(name).option_id).event_id
        holds.release(session, event, now=stage.here.now(), by="a test")
    stage.price(6_000_000)
    stage.settle()
    chain.watch()
    assert stage.states(name) == ("done", "ABANDONED", "EXERCISED")
    row = stage.transfer(name)
    assert audited(stage, row.option_id, row.new_option_id, complete=True) == []
