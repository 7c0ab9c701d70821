"""One contract's files are damaged, gone or copied beside: the folder's other contracts are played all the same."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from btcfi.surfaces import dispute_cli
from tests.support.chain import chain
from tests.support.dispute_stage import Table

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def datadir(tmp_path_factory):
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def wallet(datadir):
    with chain("embedded", datadir) as funded:
        yield funded


@pytest.fixture(scope="module")
def table(wallet, tmp_path_factory):
    """Two contracts between two folders, both opened."""
    made = Table(wallet, tmp_path_factory.mktemp("folders"))
    for _ in range(2):
        made.opened()
    return made


@pytest.fixture
def damaged(table):
    """The verifier's room of one of them, which is whole again afterwards; and the other's name."""
    harmed, other = table.desk("v").files.names()
    room = table.home("v") / "disputes" / "contracts" / harmed
    kept = table.folder / "kept"
    shutil.copytree(room, kept)
    yield room, other
    shutil.rmtree(room)
    shutil.move(kept, room)


def is_looked_at(table, other):
    """Whether the other contract is played without a problem, and a child of it can be paid for."""
    desk = table.desk("v")
    found = {one.name: one.problem for one in desk.watch()}
    return found[other] == "" and desk.room.wallet.free() and all(found[one] for one in found if one != other)


@pytest.mark.parametrize("text", ["[]", "{}", "null", "", "{", "\udcff"])
@pytest.mark.parametrize("file", ["proposal", "acceptance", "commitments", "started"])
def test_a_damaged_message_of_one_contract_holds_up_no_other(table, damaged, file, text):
    room, other = damaged
    (room / file).write_bytes(text.encode(errors="surrogateescape"))
    assert is_looked_at(table, other)


def test_a_contract_whose_seed_is_gone_is_named_and_holds_up_no_other(table, damaged):
    room, other = damaged
    (room / "verifier.seed").unlink()
    assert is_looked_at(table, other)


@pytest.mark.parametrize("name", ["copy of {}", "{}.bak", ".{}", "old"])
def test_a_copy_of_a_contract_s_files_beside_them_is_no_contract(table, damaged, name):
    room, _ = damaged
    copied = room.parent / name.format(room.name)
    shutil.copytree(room, copied)
    try:
        assert len(table.desk("v").watch()) == 2
    finally:
        shutil.rmtree(copied)


@pytest.mark.parametrize("word", ["watch", "show"])
def test_the_command_line_looks_at_the_others_when_one_cannot_be_read(table, damaged, datadir, monkeypatch, word):
    room, other = damaged
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(datadir))
    (room / "proposal").write_text("{")
    passphrase = datadir / "passphrase"
    passphrase.write_text("a long passphrase\n")
    given = [word, "--json", "--dir", table.home("v"), "--passphrase-file", passphrase]
    given += ["--node", table.wallet.node.where, "--cookie-file", datadir / ".cookie"]
    done = CliRunner().invoke(dispute_cli.app, [str(one) for one in given])
    assert done.exit_code == 0, (done.output, done.exception)
    found = {one["dispute"]: one["problem"] for one in json.loads(done.stdout)["disputes"]}
    assert found[other] == ""
    assert found[room.name]
