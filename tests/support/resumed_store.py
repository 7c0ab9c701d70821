"""The stores that older code wrote (tests/vectors/stores), unpacked and taken up by today's code."""

import json
import tarfile
from contextlib import contextmanager
from pathlib import Path

from tests.support.contract_stage import open_stage

STORES = Path(__file__).parents[1] / "vectors" / "stores"
COMMITS = sorted(path.parent.name for path in STORES.glob("*/store.tar.xz"))


def unpack(commit, folder):
    """Put the store of ``commit`` into ``folder`` (``data/btcfi.db``, keys, the chain); return its summary."""
    with tarfile.open(STORES / commit / "store.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return json.loads((STORES / commit / "summary.json").read_text())


@contextmanager
def resumed_stage(folder, commit):
    """Give a stage on the store of ``commit``, migrated to today's tables, and what was in it."""
    said = unpack(commit, folder)
    with open_stage(folder, resumed=True) as stage:
        yield stage, said
