"""What is ours is its owner's alone under any umask, and a link planted in its place is refused by name."""

import os
import stat

import pytest

from btcfi.adapters.chain.regtest.chain import Journal
from btcfi.adapters.chain.regtest.server import write_cookie
from btcfi.adapters.files import (
    UntrustedFileError,
    make_private,
    new_private,
    open_private,
    private_folder,
    remade_private,
    write_named,
    write_private,
    writing_private,
)
from btcfi.adapters.keystore import FileLedger
from btcfi.adapters.minute_ledger import FileMinuteLedger
from btcfi.adapters.oracle.folder import OracleFolder
from btcfi.adapters.oracle_network.node_keys import make_node_keys
from btcfi.adapters.party.mailbox import Mailbox
from btcfi.adapters.store.spine.database import Store
from btcfi.oracle.quote import parse_venue
from btcfi.units import CentsPerBtc, Hash32, Slot
from workers.logs import bound_log
from workers.machine.part import Part

KEY, EVENT, SLOT = bytes([7]) * 32, Hash32(bytes([9]) * 32), Slot(1_700_000_040)


def part(tmp_path, log):
    return Part(name="part", command=["/bin/sh", "-c", "echo said; : > made; sync"], environment={}, log=log)


def _ledger(top):
    FileLedger(top / "oracle" / "ledger.jsonl").claim(oracle_key=KEY, event=EVENT, outcome=1)


def _minutes(top):
    book = FileMinuteLedger(top / "minute-events")
    for at in range(2):
        book.claim(oracle_key=KEY, series=EVENT, slot=Slot(SLOT + 60 * at), said=CentsPerBtc(5))


def _oracle(top):
    folder = OracleFolder(top / "oracles" / "oracle-0")
    folder.create()
    with folder.owned():
        folder.hold(taken_at=SLOT, now=SLOT)


def _store(top):
    make_private(top / "data")
    store = Store(f"sqlite:///{top}/data/btcfi.db")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a)")
        assert (top / "data" / "btcfi.db-wal").exists()
        modes(top)
    store.close()


def _journal(top):
    make_private(top / "node")
    write_cookie(top / "node")
    journal = Journal(top / "node" / "chain.journal")
    list(journal.replay())
    journal.append((b"B", b"x"))
    journal.close()
    remade_private(top / "node" / "kernel")


def _part(top):
    started = part(top, top / "logs" / "part.log")
    started.start()
    started.process.wait()
    assert bound_log(top / "logs" / "part.log", limit=1)


def _files(top):
    write_private(top / "a" / "b" / "c", b"x")
    with writing_private(top / "a" / "d", fresh=True) as file:
        file.write(b"x")
    open_private(top / "a" / "e").close()
    open_private(top / "a" / "f", append=True, fresh=True).close()
    new_private("one-", top / "a")
    private_folder(top / "a" / "g")
    Mailbox(top / "mail").put("one", {})


MAKERS = {
    "files": _files, "an oracle's ledger": _ledger, "a ledger of minutes": _minutes, "an oracle's folder": _oracle,
    "node keys": lambda top: make_node_keys(top / "nodes", [parse_venue("kraken:BTC/USD")]), "a database": _store,
    "a regtest node": _journal, "a part's log": _part,
}  # fmt: skip


def modes(top):
    for path in top.rglob("*"):
        found = stat.S_IMODE(path.lstat().st_mode)
        if not path.is_socket():
            assert found == (0o700 if path.is_dir() else 0o600), f"{path.relative_to(top)} has {found:04o}"


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
@pytest.mark.parametrize("maker", MAKERS)
def test_what_is_made_is_its_owner_s_alone_under_any_umask(tmp_path, monkeypatch, maker, mask):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "top").mkdir()
    old = os.umask(mask)
    try:
        MAKERS[maker](tmp_path / "top")
    finally:
        os.umask(old)
    assert any((tmp_path / "top").rglob("*"))
    modes(tmp_path / "top")


def test_what_a_part_makes_by_itself_is_its_owner_s_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = os.umask(0)
    try:
        _part(tmp_path / "top")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o600


# ---- links


def _oracle_lock(place):
    with OracleFolder(place.parent).owned():
        pass


FILES = {
    "an oracle's ledger": lambda place: FileLedger(place).claim(oracle_key=KEY, event=EVENT, outcome=1),
    "a log": lambda place: part(place.parent, place).start(),
    "a file that grows": lambda place: open_private(place, append=True),
    "a database that is not there yet": lambda place: Store(f"sqlite:///{place}").ping(),
}


@pytest.mark.parametrize("maker", FILES)
def test_a_link_planted_in_the_place_of_a_file_of_ours_is_refused_by_name(tmp_path, maker):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "file").symlink_to(tmp_path / "theirs")
    with pytest.raises(UntrustedFileError) as refused:
        FILES[maker](tmp_path / "ours" / "file")
    assert refused.value.path == tmp_path / "ours" / "file"
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_regular_file_in_the_place_of_one_is_refused_and_holds_nobody_up(tmp_path, kind):
    os.mkfifo(tmp_path / "file") if kind == "pipe" else (tmp_path / "file").mkdir()
    with pytest.raises(UntrustedFileError, match="no regular file"):
        open_private(tmp_path / "file")


def test_a_link_in_the_place_of_an_oracle_s_lock_is_refused_by_name(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(UntrustedFileError):
        _oracle_lock(tmp_path / "lock")
    assert not (tmp_path / "theirs").exists()


def test_what_takes_a_name_whole_takes_a_link_s_place_and_leaves_alone_where_it_led(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    for name in (".cookie", "file"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    write_cookie(tmp_path)
    write_private(tmp_path / "file", b"ours")
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_folder_that_is_emptied_is_never_one_that_a_link_names(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("theirs")
    (tmp_path / "kernel").symlink_to(tmp_path / "theirs")
    remade_private(tmp_path / "kernel")
    assert (tmp_path / "theirs" / "file").exists()
    assert not (tmp_path / "kernel").is_symlink()


def test_a_link_in_the_place_of_a_folder_is_refused_by_name_and_followed_where_a_person_named_it(tmp_path):
    (tmp_path / "theirs").mkdir()
    link = tmp_path / "ours"
    link.symlink_to(tmp_path / "theirs")
    with pytest.raises(UntrustedFileError) as refused:
        make_private(link)
    assert refused.value.path == link
    make_private(link, named=True)
    write_private(link / "file", b"x")
    assert (tmp_path / "theirs" / "file").read_bytes() == b"x"
    write_named(tmp_path / "ours" / "said", "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link of another user")
def test_a_link_that_another_user_planted_is_followed_nowhere(tmp_path):
    (tmp_path / "theirs").mkdir()
    link = tmp_path / "ours"
    link.symlink_to(tmp_path / "theirs")
    os.lchown(link, 65_534, 65_534)
    for make in (lambda: make_private(link, named=True), lambda: write_private(link / "file", b"x")):
        with pytest.raises(UntrustedFileError):
            make()
    assert list((tmp_path / "theirs").iterdir()) == []
