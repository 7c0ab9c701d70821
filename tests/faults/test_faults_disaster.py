"""The walk-through of docs/reliability.md: everything but the chain is lost in the middle of settling, and restored."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from btcfi.adapters.store.options import attesting
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.adapters.store.prices import rounds
from tests.faults.conftest import started
from workers.chaos.points import PAUSE, Order
from workers.cli import build

pytestmark = [
    pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("a lost machine")
]  # fmt: skip

MOMENTS = (pytest.param("settlement.proven:after", marks=pytest.mark.night), "node.send:after")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cluster of its own: it is lost three times over."""
    with started(tmp_path_factory.mktemp("lost")) as made:
        yield made


def operator(deployment, *words):
    done = CliRunner().invoke(build(), words, env=deployment.environment())
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def backup(world, tmp_path):
    """What the operator types: ``backup()``, and after the machine is gone ``restore()``, which says what is held."""
    passphrase, file = tmp_path / "passphrase", tmp_path / "backup.btcfi"
    passphrase.write_text("correct horse battery\n")
    deployment = world.cluster.fleet.deployment

    def write():
        operator(deployment, "backup", str(file), f"--passphrase-file={passphrase}")

    def restore():
        operator(deployment, "restore", str(file), f"--passphrase-file={passphrase}")
        return [one["event_id"] for one in json.loads(operator(deployment, "oracle", "held", "--json"))["held"]]

    return write, restore


def lose(cluster):
    """Take away everything but the chain."""
    cluster.stop_fleet()
    deployment = cluster.fleet.deployment
    for gone in (deployment.data_dir, cluster.folder / "btcfi.db"):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    for rest in cluster.folder.glob("btcfi.db-*"):
        rest.unlink()
    cluster.flush_broker()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_service_that_lost_its_machine_resumes_from_its_backup_without_a_double_spend(world, backup, moment):
    """Back up in the middle, let the old machine go on and settle, lose it, restore what is older than the chain."""
    write, restore = backup
    cluster = world.cluster
    names = [f"{moment.partition(':')[0].replace('.', '-')}-{number}" for number in range(3)]
    expiry = world.sell(*names)

    cluster.orders.arm(Order(name=moment, point=moment, action=PAUSE))
    world.expire(expiry)
    cluster.wait(moment, lambda: cluster.orders.reached(moment) is not None)
    write()
    with cluster.store.reading() as session:
        then = {session.get(SettlementRow, f"st-{name}").state for name in names}
    assert "confirmed" not in then
    cluster.orders.release(moment)
    world.until("EXERCISED", *names)  # the old machine went on after its last backup

    lose(cluster)
    assert restore() == []  # the price was in the backup: there is one outcome only
    cluster.start_fleet()
    world.until("EXERCISED", *names)
    assert world.broken() == []


def test_what_was_attested_after_the_backup_is_attested_again_with_the_outcome_that_was_published(
    world, backup, tmp_path
):
    """Back up before the expiry, settle, lose the machine, restore; another minute's price decides nothing."""
    write, restore = backup
    cluster, names = world.cluster, ["attested-0", "attested-1"]
    deployment = cluster.fleet.deployment
    expiry = world.sell(*names)
    write()
    world.expire(expiry)
    world.until("EXERCISED", *names)
    with cluster.store.reading() as session:
        event = session.get(ContractRow, names[0]).event_id
        published = attesting.attestations_of(session, event)
        paid = {session.get(SettlementRow, f"st-{name}").txid for name in names}
    assert len(published) == 3
    inbox = deployment.parties_dir / "buyer" / "inbox"

    def kept():
        return sorted((inbox / "done").glob(f"{event[:32]}-*.attestation.json"))  # where the party moves no more

    cluster.wait("the attestations at the buyer", lambda: len(kept()) == 3)
    theirs = [shutil.copy(file, tmp_path / file.name) for file in kept()]  # the buyer's machine is not lost

    lose(cluster)
    assert restore() == [event]
    assert "3 imported" in operator(deployment, "oracle", "import", *map(str, theirs))
    assert json.loads(operator(deployment, "oracle", "held", "--json")) == {"held": []}
    cluster.start_fleet()
    for _ in range(rounds.CATCH_UP_SLOTS):
        next(world.slots)
    later = world.price()  # the machine was away so long that the expiry minute is not caught up
    world.until("EXERCISED", *names)
    with cluster.store.reading() as session:
        assert rounds.find_round(session, cluster.here.feed, expiry) is None
        assert rounds.find_round(session, cluster.here.feed, later).price_cents // 100 != published[0].outcome
        assert {session.get(SettlementRow, f"st-{name}").txid for name in names} == paid
        assert {one.outcome for one in attesting.attestations_of(session, event)} == {published[0].outcome}
    assert world.broken() == []
