"""The walk-through of docs/reliability.md: everything but the chain is lost in the middle of settling, and restored."""

import shutil

import pytest
from typer.testing import CliRunner

from btcfi.adapters.store.tables import SettlementRow
from workers.chaos import PAUSE, Order
from workers.cli import build

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

MOMENTS = ("settlement.proven:after", "node.send:after")


def operator(deployment, *words):
    done = CliRunner().invoke(build(), words, env=deployment.environment())
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_service_that_lost_its_machine_resumes_from_its_backup_without_a_double_spend(world, tmp_path, moment):
    """Back up in the middle, let the old machine go on and settle, lose it, restore what is older than the chain."""
    cluster = world.cluster
    names = [f"{moment.partition(':')[0].replace('.', '-')}-{number}" for number in range(3)]
    passphrase, file = tmp_path / "passphrase", tmp_path / "backup.btcfi"
    passphrase.write_text("correct horse battery\n")
    expiry = world.sell(*names)

    cluster.orders.arm(Order(name=moment, point=moment, action=PAUSE))
    world.expire(expiry)
    cluster.wait(moment, lambda: cluster.orders.reached(moment) is not None)
    deployment = cluster.fleet.deployment
    operator(deployment, "backup", str(file), f"--passphrase-file={passphrase}")
    with cluster.store.reading() as session:
        then = {session.get(SettlementRow, f"st-{name}").state for name in names}
    assert "confirmed" not in then
    cluster.orders.release(moment)
    world.until("EXERCISED", *names)  # the old machine went on after its last backup

    cluster.stop_fleet()
    for gone in (deployment.data_dir, cluster.folder / "btcfi.db"):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    for rest in cluster.folder.glob("btcfi.db-*"):
        rest.unlink()
    cluster.flush_broker()

    operator(deployment, "restore", str(file), f"--passphrase-file={passphrase}")
    cluster.start_fleet()
    world.until("EXERCISED", *names)
    assert world.broken() == []
