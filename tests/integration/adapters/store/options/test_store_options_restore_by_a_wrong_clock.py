"""A restore by a clock that is behind, or one that is killed, leaves no oracle that would attest a second outcome."""

from types import SimpleNamespace

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from btcfi.adapters import files
from btcfi.adapters.oracle.folder import OracleFolder
from btcfi.adapters.store.backup import ClockBehindError, Moment, read_backup, write_backup
from btcfi.adapters.store.options.hold_tables import HeldEventRow
from btcfi.adapters.store.spine.database import Store
from btcfi.oracle.attestation import EventHeldError
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces.status import status_of
from btcfi.units import Hash32, Slot, UnixSeconds
from settings.deployment import Deployment
from tests.integration.adapters.store.options.test_store_options_held_events import (
    EXPIRY,
    FEED,
    NOW,
    PASSPHRASE,
    RESTORED,
    SECRETS,
    SLOT,
    attested,
    price,
    restored_by_command,
    rule_of,
    sold,
)
from tests.support.backup_v1 import write_v1
from tests.support.little_chain import LittleChain
from tests.support.stores import store_on_sqlite
from workers.cli import build
from workers.commands import restore as command
from workers.machine import oracles

TAKEN = UnixSeconds(EXPIRY - 30)
"""The backup is taken half a minute before an event, which its oracles attest a minute later."""


@pytest.fixture
def origin(tmp_path):
    """The machine that is going to be lost: an option is sold, and its oracles have folders."""
    (tmp_path / "origin").mkdir()
    with store_on_sqlite(tmp_path / "origin") as made:
        price(made, SLOT, 5_000_000)
        yield made


def backed_up(origin, tmp_path, *, version=2, old_release=False, taken_at=TAKEN):
    lost = tmp_path / "lost"
    lost.mkdir()
    for number, secret in enumerate(SECRETS):
        if old_release:  # whose service had the keys, in one folder
            (lost / f"oracle-{number}.key").write_bytes(secret)
        else:
            OracleFolder(lost / f"oracle-{number}").create(secret)
    write = write_backup if version == 2 else write_v1
    write(origin, tmp_path / "sealed.backup", secret_files={"oracles": lost}, passphrase=PASSPHRASE, now=taken_at)
    return tmp_path / "sealed.backup"


def refuses(folder, event):
    with pytest.raises(EventHeldError):
        folder.ledger().allow(event.id, event.expiry, folder.public_key() or b"")
    return True


@pytest.mark.parametrize(("version", "behind"), [(1, 60), (2, 60), (2, 86_400)])
def test_a_restore_by_a_clock_that_is_before_the_backup_is_refused_by_name_and_writes_nothing(
    origin, tmp_path, monkeypatch, version, behind
):
    sold(origin)
    file = backed_up(origin, tmp_path, version=version)
    monkeypatch.setattr(command, "time", SimpleNamespace(time=lambda: float(TAKEN - behind)))
    with pytest.raises(ClockBehindError, match="set that clock and restore again") as caught:
        restored_by_command(tmp_path, file)
    assert (caught.value.clock, caught.value.at) == ("this machine's clock", TAKEN - behind)
    assert status_of(caught.value).exit_code == 78
    assert [one.name for one in (tmp_path / "data").rglob("*")] == []


def test_on_an_operator_s_word_that_the_lost_machine_s_clock_was_ahead_all_is_held_that_was_over_by_that(
    origin, tmp_path, monkeypatch
):
    event = sold(origin)
    file = backed_up(origin, tmp_path, taken_at=UnixSeconds(EXPIRY + 30))
    monkeypatch.setattr(command, "time", SimpleNamespace(time=lambda: EXPIRY - 600.0))
    with pytest.raises(ClockBehindError, match="--clocks-are-right"):
        restored_by_command(tmp_path, file)
    there, done = restored_by_command(tmp_path, file, "--clocks-are-right")
    assert "1 events are held" in done.stdout
    assert [refuses(folder, event) for folder in oracles.folders_of(there)] == [True] * 3


def test_a_restore_goes_by_the_latest_of_the_machine_s_the_database_s_and_the_chain_s_time(tmp_path, monkeypatch):
    chain = LittleChain(tmp_path / "chain")
    monkeypatch.setattr(command, "node_of", lambda _deployment, timeout_seconds: chain.node)
    place = {"data_dir": tmp_path, "database_url": "postgresql+psycopg://btcfi@127.0.0.1:1/btcfi"}
    deployment = Deployment(**place, node_url="http://127.0.0.1:1")
    by_chain = chain.median_time

    def moment(*, own, database, deployment=deployment):
        monkeypatch.setattr(command, "time", SimpleNamespace(time=lambda: float(own)))
        return command.moment_of(deployment, SimpleNamespace(now=lambda: UnixSeconds(database)))

    assert moment(own=by_chain - 9, database=by_chain - 5).now == by_chain
    assert moment(own=by_chain + 1, database=by_chain - 5).now == by_chain + 1
    found = moment(own=by_chain + 1, database=by_chain + 2)
    assert found.now == by_chain + 2
    # a block's time lags behind every clock: it is no reason to refuse a backup
    assert found.after(UnixSeconds(by_chain + 1)) == by_chain + 2
    with pytest.raises(ClockBehindError, match="the database's clock"):
        moment(own=by_chain + 60, database=by_chain + 2).after(UnixSeconds(by_chain + 10))
    chain.close()


def test_a_node_that_does_not_answer_keeps_no_restore_back(tmp_path):
    deployment = Deployment(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/s.db", node_url="http://127.0.0.1:1")
    assert command.moment_of(deployment, Store(deployment.database_url)).now > RESTORED


@pytest.mark.parametrize(("version", "old_release"), [(1, False), (2, False), (1, True), (2, True)])
def test_a_restore_that_is_killed_behind_any_file_leaves_no_oracle_s_key_without_what_its_folder_holds(
    origin, tmp_path, monkeypatch, version, old_release
):
    event = sold(origin)
    file = backed_up(origin, tmp_path, version=version, old_release=old_release)
    top, after, seen = tmp_path / "new", Store(f"sqlite:///{tmp_path}/after.db"), []

    def looked_at(_folder):
        """What is there when a restore is killed here, and is then started as it is."""
        flat = sorted(one for one in top.glob("*.key"))
        folders = [one.parent for one in top.glob("*/oracle.key")]
        for folder in (*folders, *(top / f"oracle-{number}" for number in range(len(flat)))):
            assert refuses(OracleFolder(folder), event)
        if folders or flat:
            with after.reading() as session:
                assert [row.event_id for row in session.exec(select(HeldEventRow))] == [event.id.hex()]
        seen.append(len(folders) + len(flat))

    monkeypatch.setattr(files, "sync_directory", looked_at)  # behind each file that has its name
    read_backup(
        file, after, secret_files={"oracles": top}, passphrase=PASSPHRASE, rule_of=rule_of,
        now=UnixSeconds(EXPIRY + 3_600),
    )  # fmt: skip
    assert set(seen) >= {0, 1, 2, 3}
    after.close()


def test_a_restore_that_is_killed_behind_the_last_key_leaves_no_oracle_that_would_attest_again(
    origin, tmp_path, monkeypatch
):
    event = sold(origin)
    file = backed_up(origin, tmp_path)

    def dies(_deployment):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(oracles, "prepare", dies)
        with pytest.raises(OSError, match="No space"):
            restored_by_command(tmp_path, file)
    folders = [OracleFolder(tmp_path / "data" / "oracles" / f"oracle-{number}") for number in range(3)]
    assert {public_key_xonly(folder.secret()) for folder in folders} == set(map(public_key_xonly, SECRETS))
    for folder in folders:
        assert refuses(folder, event)


def test_what_an_earlier_release_s_keys_may_have_attested_is_held_by_the_folders_that_are_made_of_them(
    origin, tmp_path
):
    event = sold(origin)
    there, _ = restored_by_command(tmp_path, backed_up(origin, tmp_path, version=1, old_release=True))
    folders = oracles.folders_of(there)
    assert {folder.public_key() for folder in folders} == set(map(public_key_xonly, SECRETS))
    assert all(refuses(folder, event) for folder in folders)
    assert not list((there.data_dir / "oracles").glob("*.key"))


def test_nothing_is_held_that_a_backup_s_machine_cannot_have_attested(origin, tmp_path):
    event = sold(origin)
    file = backed_up(origin, tmp_path)
    after = Store(f"sqlite:///{tmp_path}/after.db")
    read_backup(
        file, after, secret_files={"oracles": tmp_path / "new"}, passphrase=PASSPHRASE, rule_of=rule_of, now=TAKEN
    )  # fmt: skip
    folder = OracleFolder(tmp_path / "new" / "oracle-0")
    folder.ledger().allow(event.id, event.expiry, folder.public_key())
    price(after, EXPIRY, 6_100_000)
    assert attested(after, event).outcome == 61_000
    assert NOW < TAKEN
    after.close()


def test_in_a_replay_what_is_named_is_held_and_what_is_sold_after_the_restore_is_attested(origin, tmp_path):
    event = sold(origin)
    file = backed_up(origin, tmp_path)
    after = Store(f"sqlite:///{tmp_path}/after.db")
    moment = Moment(now=UnixSeconds(TAKEN + 86_400), replay=FEED)  # the recording stands at its first minute
    read_backup(
        file, after, secret_files={"oracles": tmp_path / "new"}, passphrase=PASSPHRASE, rule_of=rule_of, now=moment
    )  # fmt: skip
    folder = OracleFolder(tmp_path / "new" / "oracle-0")
    assert folder.held().until == SLOT + 60
    assert refuses(folder, event)
    folder.ledger().allow(Hash32(b"\x07" * 32), Slot(EXPIRY + 60), folder.public_key())
    after.close()


def test_a_folder_reads_what_it_holds_however_many_events_the_backup_s_minutes_decide(tmp_path):
    folder = OracleFolder(tmp_path / "oracle")
    folder.create()
    decided = [Hash32(number.to_bytes(32)) for number in range(20_000)]
    folder.hold(taken_at=TAKEN, now=RESTORED, decided=decided)
    assert len(folder.held().released) == len(decided)


def test_what_is_backed_up_and_restored_by_clocks_that_are_right_holds_nothing(tmp_path):
    there = Deployment(data_dir=tmp_path / "here", database_url=f"sqlite:///{tmp_path}/here/btcfi.db")
    there.data_dir.mkdir()
    made = Store(there.database_url)
    made.migrate()
    made.close()
    oracles.folder_of(there, 0).create(SECRETS[0])
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    words = ("backup", str(tmp_path / "b"), "--passphrase-file", str(tmp_path / "passphrase"))
    assert CliRunner().invoke(build(), words, env=there.environment()).exit_code == 0
    _, done = restored_by_command(tmp_path, tmp_path / "b")
    assert (done.exit_code, "held" in done.stdout) == (0, False)
