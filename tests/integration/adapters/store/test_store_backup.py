"""What is backed up comes back, onto the same kind of database or the other, and onto nothing that is not empty."""

import hashlib
import json
import tarfile

import pytest
from sqlalchemy import select

from btcfi.adapters import keystore
from btcfi.adapters.keystore import WrongPassphraseError
from btcfi.adapters.store.backup import NotABackupError, NotEmptyError, read_backup, write_backup
from btcfi.adapters.store.prices.rounds import find_round, open_round
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine import leases
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.database import NewerStoreError, Store
from btcfi.adapters.store.spine.edges import Work, cross, enqueue
from btcfi.adapters.store.spine.tables import BlobRow, EventRow
from btcfi.adapters.store.spine.views import waiting
from btcfi.errors import InvalidInputError
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.quote import Feed
from btcfi.units import Slot, UnixSeconds

FEED = Feed("BTC/USD")
NOW = UnixSeconds(1_700_000_040)
SLOT = Slot(1_699_999_980)
PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)


@pytest.fixture
def secret(tmp_path):
    folder = tmp_path / "keys"
    (folder / "party" / "nonces").mkdir(parents=True)
    (folder / "party" / "keystore.json").write_text("sealed already")
    (folder / "party" / "nonces" / "one").write_text("never twice")
    (tmp_path / "wallet.seed").write_bytes(b"\x07" * 32)
    return {"wallet.seed": tmp_path / "wallet.seed", "parties": folder}


def elsewhere(tmp_path):
    return {"wallet.seed": tmp_path / "new" / "wallet.seed", "parties": tmp_path / "new" / "keys"}


@pytest.fixture
def backup(store, tmp_path, secret):
    with store.transaction() as session:
        open_round(session, FEED, SLOT, now=NOW, deadline_seconds=20)
        store_blob(session, bytes(range(256)), now=NOW)
        leases.hold(session, leases.WALLET, holder="somebody", now=NOW, seconds=15)
    file = tmp_path / "backup.btcfi"
    write_backup(store, file, secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    return file


def fresh(tmp_path):
    return Store(f"sqlite:///{tmp_path}/restored.db")


def restore(file, onto, secret_files, passphrase=PASSPHRASE):
    return read_backup(
        file, onto, secret_files=secret_files, passphrase=passphrase, rule_of=lambda _sha256: ConsensusRule(), now=NOW
    )  # fmt: skip


def contents(store):
    with store.reading() as session:
        tables = (RoundRow, EventRow, BlobRow)
        return [[row.model_dump() for row in session.execute(select(table)).scalars()] for table in tables]


def test_rows_bytes_and_keys_come_back_as_they_were(store, backup, tmp_path):
    restored = fresh(tmp_path)
    written = restore(backup, restored, elsewhere(tmp_path))
    assert contents(restored) == contents(store)
    assert (written.files, written.taken_at_unix) == (2, NOW)
    assert (tmp_path / "new" / "wallet.seed").read_bytes() == b"\x07" * 32
    assert (tmp_path / "new" / "wallet.seed").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new" / "keys" / "party" / "keystore.json").exists()


def test_what_was_backed_up_from_sqlite_is_restored_onto_either_database_and_works_on(store, tmp_path, secret):
    origin = Store(f"sqlite:///{tmp_path}/origin.db")
    origin.migrate()
    with origin.transaction() as session:
        for number in range(3):
            open_round(session, FEED, Slot(SLOT + 60 * number), now=UnixSeconds(NOW + 60 * number), deadline_seconds=20)
    file = tmp_path / "from-sqlite.btcfi"
    write_backup(origin, file, secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    store.downgrade("base")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    restore(file, store, elsewhere(tmp_path))
    assert contents(store) == contents(origin)
    with store.transaction() as session:  # numbers go on after the last
        assert open_round(session, FEED, Slot(SLOT + 6_000), now=UnixSeconds(NOW + 6_000), deadline_seconds=20)
        assert cross(session, find_round(session, FEED, SLOT), "void", now=NOW)


def test_a_message_that_waits_for_the_broker_waits_since_the_restore_and_rings_no_alarm(
    store, backup, tmp_path, secret
):
    with store.transaction() as session:
        enqueue(session, [Work(flow="exchange")], now=NOW)
    file = tmp_path / "later.btcfi"
    write_backup(store, file, secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    restored, days_after = fresh(tmp_path), UnixSeconds(NOW + 3 * 86_400)
    read_backup(
        file, restored, secret_files=elsewhere(tmp_path), passphrase=PASSPHRASE,
        rule_of=lambda _sha256: ConsensusRule(), now=days_after,
    )  # fmt: skip
    with restored.reading() as session:
        found = waiting(session)
    assert (found.count, found.since_unix) == (2, days_after)


def test_a_secret_nonce_and_a_lease_are_left_behind(backup, tmp_path):
    restored = fresh(tmp_path)
    restore(backup, restored, elsewhere(tmp_path))
    assert not (tmp_path / "new" / "keys" / "party" / "nonces").exists()
    with restored.transaction() as session:
        assert leases.hold(session, leases.WALLET, holder="another", now=NOW, seconds=15) == 1


def test_no_key_can_be_read_from_the_file_without_its_passphrase(backup, tmp_path):
    with tarfile.open(backup) as tar:
        raw = b"".join(tar.extractfile(member).read() for member in tar)
    assert b"\x07" * 32 not in raw
    assert b"sealed already" not in raw
    with pytest.raises(WrongPassphraseError):
        restore(backup, fresh(tmp_path), elsewhere(tmp_path), "wrong horse battery")
    assert not (tmp_path / "new").exists()


def test_nothing_is_restored_over_something(store, backup, secret, tmp_path):
    with pytest.raises(NotEmptyError):
        restore(backup, store, elsewhere(tmp_path))
    with pytest.raises(NotEmptyError):
        restore(backup, fresh(tmp_path), secret)


def changed(backup, tmp_path, name, content):
    """Return the backup with one part replaced."""
    target = tmp_path / "changed.btcfi"
    with tarfile.open(backup) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            body = old.extractfile(member).read()
            (tmp_path / "part").write_bytes(content if member.name == name else body)
            new.add(tmp_path / "part", arcname=member.name)
    return target


@pytest.mark.parametrize("name", ["round.jsonl", "sealed.bin", "manifest.json"])
def test_a_changed_part_is_refused_before_anything_is_written(backup, tmp_path, name):
    restored = fresh(tmp_path)
    with pytest.raises(NotABackupError):
        restore(changed(backup, tmp_path, name, b"{}"), restored, elsewhere(tmp_path))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "part",
    [
        ("sealed.bin", b"12b", "backup"),
        ("sealed.bin", b"", "backup"),
        ("keystore.json", b"{}", "keystore.json.type"),
        ("keystore.json", {"n": 1 << 30}, "keystore.json.kdf.n"),
        ("keystore.json", {"r": 1 << 30}, "keystore.json.kdf.r"),
        ("keystore.json", {"p": 0}, "keystore.json.kdf.p"),
    ],
)
def test_a_forged_part_whose_hash_is_right_is_refused_by_its_field_before_anything_is_written(
    backup, tmp_path, monkeypatch, part
):
    name, content, field = part
    with tarfile.open(backup) as old:
        manifest, stored = (json.load(old.extractfile(part)) for part in ("manifest.json", "keystore.json"))
    if isinstance(content, dict):
        content = json.dumps(stored | {"kdf": stored["kdf"] | content}).encode()
        monkeypatch.setattr(keystore, "Scrypt", None)  # no memory is taken for it
    manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
    (tmp_path / "half").mkdir()
    forged = changed(changed(backup, tmp_path / "half", name, content), tmp_path, "manifest.json",
                     json.dumps(manifest).encode())  # fmt: skip
    with pytest.raises(InvalidInputError) as error:
        restore(forged, fresh(tmp_path), elsewhere(tmp_path))
    assert error.value.field == field
    assert not (tmp_path / "new").exists()


def test_a_backup_of_newer_code_is_refused_before_anything_is_written(backup, tmp_path):
    with tarfile.open(backup) as old:
        manifest = json.load(old.extractfile("manifest.json"))
    newer = changed(backup, tmp_path, "manifest.json", json.dumps(manifest | {"revision": "9999"}).encode())
    with pytest.raises(NewerStoreError, match="9999"):
        restore(newer, fresh(tmp_path), elsewhere(tmp_path))
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "restored.db").exists()


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\x1f\x8b\x08\x00broken"])
def test_a_file_that_is_no_backup_is_named(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotABackupError):
        restore(tmp_path / "file", fresh(tmp_path), {})


def test_a_key_behind_a_link_is_backed_up_as_the_key_and_not_as_the_link(store, tmp_path, secret):
    real = tmp_path / "mounted" / "seed"
    real.parent.mkdir()
    secret["wallet.seed"].rename(real)
    secret["wallet.seed"].symlink_to(real)
    (tmp_path / "keys" / "party" / "keystore.json").rename(tmp_path / "mounted" / "keystore.json")
    (tmp_path / "keys" / "party" / "keystore.json").symlink_to(tmp_path / "mounted" / "keystore.json")
    (tmp_path / "mounted" / "other").mkdir()
    (tmp_path / "mounted" / "other" / "keystore.json").write_text("another")
    (tmp_path / "keys" / "other").symlink_to(tmp_path / "mounted" / "other")
    file = tmp_path / "backup.btcfi"
    write_backup(store, file, secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    restore(file, fresh(tmp_path), elsewhere(tmp_path))
    assert (tmp_path / "new" / "wallet.seed").read_bytes() == b"\x07" * 32
    assert (tmp_path / "new" / "keys" / "party" / "keystore.json").read_text() == "sealed already"
    assert (tmp_path / "new" / "keys" / "other" / "keystore.json").read_text() == "another"


@pytest.mark.parametrize("folder", ["inbox", "inbox/refused", "outbox"])
def test_a_link_that_others_left_in_a_mail_folder_spoils_no_backup(store, tmp_path, secret, folder):
    mail = tmp_path / "keys" / "seller" / folder
    mail.mkdir(parents=True)
    (tmp_path / "big").write_bytes(b"not to be carried along")
    (mail / "0.json").symlink_to(tmp_path / "big")
    (mail / "1.json").symlink_to(tmp_path / "keys")
    (mail / "2.json").symlink_to("2.json")
    (mail / "3.json").write_text("{}")
    file = tmp_path / "backup.btcfi"
    write_backup(store, file, secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    restore(file, fresh(tmp_path), elsewhere(tmp_path))
    assert [path.name for path in (tmp_path / "new" / "keys" / "seller" / folder).iterdir()] == ["3.json"]
