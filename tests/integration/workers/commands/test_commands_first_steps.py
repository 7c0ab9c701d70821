"""The first command on a new machine and the last on a running one ask for nothing that is there already."""

import json

import pytest

from btcfi.adapters.store.spine.database import Store
from btcfi.errors import UnreachableError
from workers.commands.audit import audit
from workers.commands.prepare import prepare


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("DATABASE_URL", "NODE_URL", "BROKER_URL", "RESULT_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BTCFI_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_prepare_makes_the_data_folder_with_everything_in_it(folder):
    prepare()
    assert {path.name for path in folder.iterdir()} >= {"btcfi.db", "wallet.seed", "oracles", "parties"}
    assert folder.stat().st_mode & 0o077 == 0


def test_an_audit_finds_the_node_of_the_deployment_that_runs_on_the_folder(folder):
    folder.mkdir()
    store = Store(f"sqlite:///{folder}/btcfi.db")
    store.migrate()
    store.close()
    (folder / "cluster.json").write_text(json.dumps({"urls": {"node_url": "http://127.0.0.1:9"}}))
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        audit()
