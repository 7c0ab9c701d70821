"""What was acknowledged is on the disk: processes are killed, and whatever nobody has synced is taken away."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import CounterRow
from tests.support.paths import ROOT
from workers.chaos.power_cut import PowerCut

WRITER = """
import sys
from btcfi.adapters.keystore import FileLedger
from btcfi.adapters.minute_ledger import FileMinuteLedger
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import count
from btcfi.oracle.minute_event import MinuteBook
from btcfi.units import CentsPerBtc, Hash32, Slot
from pathlib import Path

folder = Path(sys.argv[1])
store = Store(f"sqlite:///{folder}/btcfi.db")
events, minutes = FileLedger(folder / "new" / "ledger.jsonl"), FileMinuteLedger(folder / "new" / "minutes")
series = Hash32(bytes(32))
minutes.book(oracle_key=bytes(32), series=series, begins_after=Slot(0))
for number in range(1, 1_000):
    with store.transaction() as session:
        count(session, "acknowledged")
    events.claim(oracle_key=bytes(32), event=Hash32(number.to_bytes(32, "big")), outcome=number)
    minutes.claim(oracle_key=bytes(32), series=series, slot=Slot(60 * number), said=CentsPerBtc(number))
    print(number, flush=True)
"""


@pytest.fixture
def cut(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    store = Store(f"sqlite:///{folder}/btcfi.db")
    store.migrate()
    store.close()
    made = PowerCut(folder, tmp_path / "kept")
    made.begin()
    return made


def run_until(cut, acknowledged):
    """Start the writer, and kill it as it works on after so many acknowledgements; return the last one."""
    environment = os.environ | cut.environment() | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(cut.folder)], env=environment, stdout=subprocess.PIPE, text=True
    ) as writer:
        for line in writer.stdout:
            if int(line) == acknowledged:
                break
        writer.send_signal(signal.SIGKILL)
        said = [acknowledged, *map(int, writer.stdout.read().split())]
        return said[-1]


def kept_of(folder):
    """Return what the store has counted, and the last event and minute of the ledgers, in a folder."""
    store = Store(f"sqlite:///{folder}/btcfi.db")
    with store.reading() as session:
        counted = session.get(CounterRow, "acknowledged").value
    store.close()
    events = len((folder / "new" / "ledger.jsonl").read_bytes().splitlines())
    minutes = len(next((folder / "new" / "minutes").glob("*.minutes")).read_bytes().splitlines()) - 1
    return counted, events, minutes


def test_what_was_acknowledged_is_there_after_a_power_cut_in_the_store_and_in_both_ledgers(cut, tmp_path):
    last = run_until(cut, 25)
    cut.leave(tmp_path / "after")
    assert all(last <= kept <= last + 1 for kept in kept_of(tmp_path / "after"))


def test_each_commit_is_one_sync_of_the_log_and_each_claim_one_of_its_ledger(cut):
    last = run_until(cut, 25)
    synced = cut.syncs()
    ledger = next(name for name in synced if name.endswith(".minutes"))
    for path in ("btcfi.db-wal", "new/ledger.jsonl", ledger):
        assert last <= synced[path] <= last + 3  # the first one of a log, and of a folder, are synced for themselves
    assert synced["new"]
    assert synced["."]


def test_the_tool_takes_away_what_nobody_has_synced(cut, tmp_path):
    """Or the tests above would hold whatever the store does."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n"
        "for name, synced in (('one', True), ('two', False)):\n"
        "    with (folder / name).open('wb') as file:\n"
        "        file.write(b'a'); file.flush()\n"
        "        if synced: os.fsync(file.fileno())\n"
        "        file.write(b'b')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(cut.folder)], env=os.environ | cut.environment(), check=True)
    assert (cut.folder / "one").read_bytes() == b"ab"
    cut.leave(tmp_path / "after")
    assert [Path(tmp_path / "after" / name).read_bytes() for name in ("one", "two")] == [b"a", b""]
