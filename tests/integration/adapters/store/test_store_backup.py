"""What is backed up comes back, onto the same kind of database or the other, and onto nothing that is not empty."""

import gzip
import json
import os
import re
import struct
import tarfile
import threading
import tracemalloc
import zlib

import pytest
from sqlalchemy import select

from btcfi.adapters import keystore
from btcfi.adapters.keystore import WrongPassphraseError
from btcfi.adapters.sealed import SealedWriter
from btcfi.adapters.store import backup as backups
from btcfi.adapters.store.backup import MAGIC, NotABackupError, NotEmptyError, read_backup, version_1, write_backup
from btcfi.adapters.store.prices.rounds import find_round, open_round
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine import leases
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.database import NewerStoreError, Store
from btcfi.adapters.store.spine.edges import Work, cross, enqueue
from btcfi.adapters.store.spine.tables import BlobRow, EventRow
from btcfi.adapters.store.spine.views import waiting
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.quote import Feed
from btcfi.units import Slot, UnixSeconds
from tests.support.backup_v1 import pack_v1, unpack_v1, write_v1

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
    raw = backup.read_bytes()
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


# ---- one whole


def blocks_of(file):
    """The head of a backup, and its blocks as they lie in it."""
    raw = file.read_bytes()
    at = len(MAGIC) + 4 + struct.unpack(">I", raw[len(MAGIC) : len(MAGIC) + 4])[0]
    head, blocks = raw[:at], []
    while at < len(raw):
        size = 13 + struct.unpack(">cQI", raw[at : at + 13])[2]
        blocks.append(raw[at : at + size])
        at += size
    return head, blocks


def without(blocks, at):
    return blocks[:at] + blocks[at + 1 :]


def numbered(blocks):
    """The blocks with the numbers that their places ask for, which whoever moves them would write."""
    return [struct.pack(">cQI", block[:1], number, len(block) - 13) + block[13:] for number, block in enumerate(blocks)]


FORGERIES = {
    "a byte changed": lambda blocks, _other: [*blocks[:6], blocks[6][:-1] + bytes([blocks[6][-1] ^ 1]), *blocks[7:]],
    "a kind changed": lambda blocks, _other: [*blocks[:6], b"D" + blocks[6][1:], *blocks[7:]],
    "one left out": lambda blocks, _other: without(blocks, 6),
    "one left out, the others numbered anew": lambda blocks, _other: numbered(without(blocks, 6)),
    "two exchanged": lambda blocks, _other: [*blocks[:5], blocks[6], blocks[5], *blocks[7:]],
    "two exchanged and numbered anew": lambda blocks, _other: numbered(
        [*blocks[:5], blocks[6], blocks[5], *blocks[7:]]
    ),
    "one twice": lambda blocks, _other: [*blocks[:6], blocks[5], *blocks[6:]],
    "one twice, numbered anew": lambda blocks, _other: numbered([*blocks[:6], blocks[5], *blocks[6:]]),
    "one of another backup": lambda blocks, other: [*blocks[:6], other[6], *blocks[7:]],
    "the end of another backup": lambda blocks, other: [*blocks[:-1], other[-1]],
    "cut off behind a part": lambda blocks, _other: blocks[:-1],
    "cut off inside a block": lambda blocks, _other: [*blocks[:6], blocks[6][:20]],
    "nothing but its head": lambda _blocks, _other: [],
    "bytes behind its end": lambda blocks, _other: [*blocks, b"\x00"],
    "its blocks twice": lambda blocks, _other: [*blocks, *blocks],
    "a block that claims gigabytes": lambda blocks, _other: [*blocks[:6], struct.pack(">cQI", b"D", 6, 1 << 31)],
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two backups of one store."""
    folder = tmp_path_factory.mktemp("two")
    origin = Store(f"sqlite:///{folder}/origin.db")
    origin.migrate()
    (folder / "wallet.seed").write_bytes(b"\x07" * 32)
    with origin.transaction() as session:
        open_round(session, FEED, SLOT, now=NOW, deadline_seconds=20)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)
        for name in ("one", "other"):
            write_backup(
                origin, folder / name, secret_files={"wallet.seed": folder / "wallet.seed"},
                passphrase=PASSPHRASE, now=NOW,
            )  # fmt: skip
    origin.close()
    return folder / "one", folder / "other"


@pytest.mark.parametrize("how", FORGERIES)
def test_a_backup_that_is_not_the_whole_that_was_written_is_refused_before_anything_is_written(two, tmp_path, how):
    (head, blocks), (_, other) = map(blocks_of, two)
    (tmp_path / "forged").write_bytes(head + b"".join(FORGERIES[how](blocks, other)))
    with pytest.raises(NotABackupError) as refused:
        restore(tmp_path / "forged", fresh(tmp_path), elsewhere(tmp_path))
    assert re.search(r"forged: (tables/|keys/|about.json|its first part)", refused.value.problem)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "restored.db").exists()


def test_the_refusal_names_the_part_in_which_it_shows(backup, tmp_path):
    head, blocks = blocks_of(backup)
    with_rows = next(n for n, one in enumerate(blocks) if one[:1] == b"D" and n > 1)
    backup.write_bytes(head + b"".join(without(blocks, with_rows)))
    with pytest.raises(NotABackupError, match=r"tables/\w+\.jsonl block \d+ stands where block \d+ belongs"):
        restore(backup, fresh(tmp_path), elsewhere(tmp_path))


def test_nothing_of_a_backup_can_be_read_without_its_passphrase(store, tmp_path, secret):
    with store.transaction() as session:
        store_blob(session, b"a customer's business", now=NOW)
    file = tmp_path / "backup"
    write_backup(store, file, secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    raw = b"".join([block[13:] for block in blocks_of(file)[1]])
    assert not any(plain in file.read_bytes() for plain in (b"a customer", b"wallet.seed", b"parties", b"jsonl"))
    with pytest.raises(zlib.error):
        zlib.decompress(raw)


def test_a_backup_lies_unsealed_nowhere_while_it_is_written(store, tmp_path, secret, monkeypatch):
    seen = []
    monkeypatch.setattr(backups.rows, "lines_of", lambda _connection, _table: seen.append(list(target.iterdir())) or [])
    target = tmp_path / "media"
    target.mkdir()
    write_backup(store, target / "backup", secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    assert seen
    assert {path.suffix for one in seen for path in one} == {".tmp"}
    assert [path.name for path in target.iterdir()] == ["backup"]


def test_a_backup_takes_the_place_of_nothing_and_follows_no_link(store, tmp_path, secret):
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link"):
        with pytest.raises(ConflictError):
            write_backup(store, tmp_path / name, secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_restore_holds_little_in_memory_whatever_a_backup_s_size(store, tmp_path, secret):
    (tmp_path / "keys" / "party" / "large").write_bytes(bytes(64 << 20))
    with store.transaction() as session:
        for number in range(12):
            store_blob(session, bytes([number]) * (1 << 20), now=NOW)
    file, restored = tmp_path / "backup", fresh(tmp_path)
    tracemalloc.start()
    write_backup(store, file, secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    restore(file, restored, elsewhere(tmp_path))
    read = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "new" / "keys" / "party" / "large").stat().st_size == 64 << 20
    assert max(written, read) < 64 << 20, (written, read)  # 16 rows of a megabyte each as text, twice


def test_a_backup_comes_by_a_pipe_too(store, backup, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(backup.read_bytes()))
    writer.start()
    restored = fresh(tmp_path)
    restore(pipe, restored, elsewhere(tmp_path))
    writer.join()
    assert contents(restored) == contents(store)


def test_a_backup_of_newer_code_is_refused_before_anything_is_written(store, secret, tmp_path, monkeypatch):
    monkeypatch.setattr(backups.rows, "revision_of", lambda _connection: "9999")
    write_backup(store, tmp_path / "newer", secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    with pytest.raises(NewerStoreError, match="9999"):
        restore(tmp_path / "newer", fresh(tmp_path), elsewhere(tmp_path))
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "restored.db").exists()


def test_a_part_that_no_backup_has_is_refused_though_it_is_sealed(tmp_path):
    for parts in (
        ["about.json", "tables/x.jsonl", "more"],
        ["tables/x.jsonl"],
        ["about.json", "keys/../../etc/passwd"],
    ):
        document, opened = keystore.seal_keystore(PASSPHRASE)
        with (tmp_path / "odd").open("wb") as file:
            writer = SealedWriter(file, magic=MAGIC, keystore=document, opened=opened)
            for name in parts:
                with writer.part(name) as part:
                    about = {"format": "btcfi-backup", "version": 2, "taken_at_unix": NOW, "revision": "0014"}
                    part.write(json.dumps(about).encode())
            writer.finish({"rows": {}, "files": 1})
        with pytest.raises(NotABackupError):
            restore(tmp_path / "odd", fresh(tmp_path), elsewhere(tmp_path))
        assert not (tmp_path / "restored.db").exists()


def test_whatever_a_mail_folder_s_files_are_called_the_backup_has_them(store, tmp_path, secret):
    mail = tmp_path / "keys" / "seller" / "inbox"
    mail.mkdir(parents=True)
    names = [b"\xff\xfe.json", "\u202e\n \u20ac%2e.json".encode(), b"a b?#%00.json"]
    for name in names:
        (mail / os.fsdecode(name)).write_text("{}")
    os.mkfifo(mail / "pipe.json")
    file = tmp_path / "backup"
    write_backup(store, file, secret_files=secret, passphrase=PASSPHRASE, now=NOW)
    restore(file, fresh(tmp_path), elsewhere(tmp_path))
    found = {os.fsencode(path.name) for path in (tmp_path / "new" / "keys" / "seller" / "inbox").iterdir()}
    assert found == set(names)


# ---- version 1


@pytest.fixture
def old(store, backup, secret, tmp_path):
    return write_v1(store, tmp_path / "old.backup", secret_files=secret, passphrase=PASSPHRASE, now=NOW)


def test_a_backup_of_version_1_comes_back_and_it_is_said_what_nobody_vouches_for(store, old, tmp_path):
    restored = fresh(tmp_path)
    written = restore(old, restored, elsewhere(tmp_path))
    assert contents(restored)[0] == contents(store)[0]
    assert (tmp_path / "new" / "wallet.seed").read_bytes() == b"\x07" * 32
    assert not written.authentic
    assert "its tables are not" in " ".join(written.warnings)


@pytest.mark.parametrize("name", ["round.jsonl", "sealed.bin", "manifest.json"])
def test_a_changed_part_of_version_1_is_refused_before_anything_is_written(old, tmp_path, name):
    manifest, parts = unpack_v1(old)
    changed = {} if name == "manifest.json" else manifest
    pack_v1(old, changed, parts | ({name: b"{}"} if name in parts else {}), listed=False)
    with pytest.raises(NotABackupError):
        restore(old, fresh(tmp_path), elsewhere(tmp_path))
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
def test_a_forged_part_of_version_1_whose_hash_is_right_is_refused_by_its_field_before_anything_is_written(
    old, tmp_path, monkeypatch, part
):
    name, content, field = part
    manifest, parts = unpack_v1(old)
    if isinstance(content, dict):
        stored = json.loads(parts["keystore.json"])
        content = json.dumps(stored | {"kdf": stored["kdf"] | content}).encode()
        monkeypatch.setattr(keystore, "Scrypt", None)  # no memory is taken for it
    pack_v1(old, manifest, parts | {name: content})
    with pytest.raises(InvalidInputError) as error:
        restore(old, fresh(tmp_path), elsewhere(tmp_path))
    assert error.value.field == field
    assert not (tmp_path / "new").exists()


def test_what_is_in_no_list_of_a_backup_of_version_1_or_in_it_twice_is_refused(old, tmp_path):
    manifest, parts = unpack_v1(old)
    more = pack_v1(tmp_path / "more", manifest, parts | {"more.jsonl": b"{}"})
    unlisted = pack_v1(tmp_path / "unlisted", manifest, parts | {"more.jsonl": b"{}"}, listed=False)
    twice = pack_v1(tmp_path / "twice", manifest, parts, twice=[("round.jsonl", parts["round.jsonl"])])
    for file in (more, unlisted, twice):
        with pytest.raises(NotABackupError):
            restore(file, fresh(tmp_path), elsewhere(tmp_path))
    assert not (tmp_path / "restored.db").exists()


def test_nothing_of_version_1_is_unpacked_before_the_passphrase_holds(old, tmp_path, monkeypatch):
    monkeypatch.setattr(version_1, "_unpack", None)
    with pytest.raises(WrongPassphraseError):
        restore(old, fresh(tmp_path), elsewhere(tmp_path), "wrong horse battery")


def test_a_header_of_version_1_that_names_a_gigabyte_takes_no_memory(tmp_path):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 30
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(member.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(NotABackupError, match="a header of"):
        restore(tmp_path / "bomb", fresh(tmp_path), {})
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_an_older_version_s_backup_made_of_a_sealed_one_s_keystore_opens_nothing(backup, tmp_path):
    """The keystore of version 2 lies in its file; version 1 takes nothing that it sealed there for keys."""
    head, blocks = blocks_of(backup)
    parts = {"keystore.json": head[len(MAGIC) + 4 :], "sealed.bin": blocks[-1][13:]}
    manifest = {"format": "btcfi-backup", "version": 1, "taken_at_unix": NOW, "revision": "0014", "rows": {}}
    with pytest.raises(NotABackupError, match="its keys were changed"):
        restore(pack_v1(tmp_path / "down", manifest, parts), fresh(tmp_path), elsewhere(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"not a tar", b"\x1f\x8b\x08\x00broken", b"btcfi-backup/3\n", MAGIC, MAGIC + b"\xff" * 9]
)
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
