"""`btcfi up` supervises and works on nothing: what a full disk or a lost database does, it does to one part."""

import threading
import time

import pytest
import redis

from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from settings.deployment import Deployment
from workers.machine import rows, up
from workers.machine.cluster import Cluster

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch):
    for name in ("BROKER_URL", "NODE_URL", "DATABASE_URL", "RESULT_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)


def eventually(look, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_the_market_s_clock_survives_a_database_that_was_away_and_ends_no_other_part(tmp_path):
    made = Cluster(
        Deployment(data_dir=tmp_path, tick=False, replay_clock=True), embedded_node=False, roles=(), beat=False,
        run_parties=False, replay_folder=SYNTHETIC_CANDLES,
    )  # fmt: skip
    with made as cluster:
        cluster.start()
        client = redis.Redis(
            unix_socket_path=cluster.deployment.broker_url.removeprefix("redis+socket://").partition("?")[0]
        )

        def sent():
            return client.llen("btcfi:control")

        database = tmp_path / "btcfi.db"
        whole = database.read_bytes()
        database.write_bytes(b"no database " * 400)
        cluster.add(rows.market(SYNTHETIC_CANDLES, 0.05))
        market = next(part for part in cluster.parts if part.name == rows.MARKET)
        assert eventually(lambda: b"is not a database" in market.log.read_bytes())
        assert eventually(lambda: market.failures >= 1)
        assert sent() == 0
        assert [part.name for part in cluster.parts if part.exit_code is not None] in ([rows.MARKET], [])
        database.write_bytes(whole)
        assert eventually(lambda: sent() >= 3)
        client.close()


def test_up_waits_for_ctrl_c_whatever_becomes_of_its_folder(tmp_path):
    class Said:
        def __init__(self):
            self.lines = []

        def print(self, line, **_):
            self.lines.append(line)

    said, over = Said(), tmp_path / "folder" / "market.over"
    waiting = threading.Thread(target=up._keep_running, args=(over, said), daemon=True)
    waiting.start()
    over.parent.write_bytes(b"")  # a file where its folder was
    time.sleep(1.2)
    over.parent.unlink()
    over.parent.mkdir()
    over.touch()
    assert eventually(lambda: said.lines == [up.OVER])
    assert waiting.is_alive()
