import contextlib
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from btcfi.adapters.chain.node import DatadirInUseError, Node, NodeUnreachableError, PortInUseError
from btcfi.errors import UnreachableError
from btcfi.surfaces.status import status_of
from settings.deployment import Deployment
from workers.machine import rows
from workers.machine.broker import ping_broker
from workers.machine.cluster import MAX_SOCKET_PATH, Cluster
from workers.machine.rows import free_port

pytestmark = pytest.mark.integration

BARE = {"roles": (), "beat": False, "run_parties": False}


@pytest.fixture(autouse=True)
def _no_services_from_outside(monkeypatch):
    for name in ("BROKER_URL", "NODE_URL", "DATABASE_URL", "RESULT_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)


def alive(pids):
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_broker_and_node_start_answer_and_leave_no_process_behind(tmp_path):
    said = []
    cluster = Cluster(Deployment(data_dir=tmp_path), **BARE)
    with cluster:
        cluster.start(said.append)
        cluster.wait_ready(5)
        pids = [part.process.pid for part in cluster.parts]
        deployment = cluster.deployment
        ping_broker(deployment.broker_url)
        node = Node(deployment.node_url, 5, cookie_file=deployment.node_cookie_file)
        assert node.chain_info().height >= 0
        path = Path(deployment.broker_url.removeprefix("redis+socket://").partition("?")[0])
        assert len(str(path)) < MAX_SOCKET_PATH
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert not [c for pid in pids[:1] for c in psutil.Process(pid).net_connections("tcp")]
        assert all("cookie" not in " ".join(psutil.Process(pid).cmdline()) for pid in pids)
        assert (tmp_path / "btcfi.db").exists()
    assert len(pids) == 2
    assert alive(pids) == []
    assert not path.parent.exists()
    assert said[0].startswith("starting the broker")


def test_a_part_that_died_is_started_again_where_it_was(tmp_path):
    with Cluster(Deployment(data_dir=tmp_path), **BARE) as cluster:
        cluster.start()
        broker = cluster.parts[0]
        first = broker.process.pid
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and broker.process.pid == first:
            time.sleep(0.1)
        assert broker.process.pid != first
        for _ in range(50):
            try:
                ping_broker(cluster.deployment.broker_url)
                break
            except UnreachableError:
                time.sleep(0.1)
        else:
            pytest.fail("the broker did not return at its address")


def test_a_second_cluster_on_the_same_data_directory_is_refused(tmp_path):
    with Cluster(Deployment(data_dir=tmp_path), embedded_node=False, **BARE) as cluster:
        cluster.start()
        second = Cluster(Deployment(data_dir=tmp_path), embedded_node=False, **BARE)
        with pytest.raises(DatadirInUseError):
            second.start()
        ping_broker(cluster.deployment.broker_url)


CHILD = """
import sys, time
from pathlib import Path
from settings.deployment import Deployment
from workers.machine.cluster import Cluster
with Cluster(Deployment(data_dir=Path(sys.argv[1])), embedded_node=False, roles=(), beat=False) as cluster:
    cluster.start()
    print(cluster.parts[0].process.pid, flush=True)
    time.sleep(60)
"""


def parent_of_a_cluster(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_ends_every_part(tmp_path, number):
    parent, broker = parent_of_a_cluster(tmp_path)
    with parent:
        parent.send_signal(number)
        parent.wait(20)
    assert alive([broker]) == []


def test_what_a_killed_parent_left_is_ended_by_the_next_start(tmp_path):
    parent, broker = parent_of_a_cluster(tmp_path)
    with parent:
        parent.kill()
        parent.wait(5)
    assert alive([broker]) == [broker]
    left = Path(json.loads((tmp_path / "cluster.json").read_text())["run_dir"])
    assert left.exists()
    with Cluster(Deployment(data_dir=tmp_path), embedded_node=False, **BARE) as cluster:
        cluster.start()
        assert alive([broker]) == []
        assert not left.exists()


def test_an_unreachable_broker_is_named_with_its_address_but_not_its_password(tmp_path):
    closed = free_port(0)
    url = f"redis://operator:hunter2@127.0.0.1:{closed}/0"
    cluster = Cluster(Deployment(data_dir=tmp_path, broker_url=url), **BARE)
    with pytest.raises(UnreachableError) as caught:
        cluster.start()
    assert caught.value.service == "broker"
    assert str(closed) in caught.value.where
    assert "hunter2" not in str(caught.value)
    assert "BROKER_URL" in caught.value.hint
    assert status_of(caught.value).exit_code == 69
    assert cluster.parts == ()


def test_an_unreachable_node_stops_the_broker_that_had_started(tmp_path):
    cluster = Cluster(Deployment(data_dir=tmp_path, node_url=f"http://u:p@127.0.0.1:{free_port(0)}"), **BARE)
    with pytest.raises(NodeUnreachableError):
        cluster.start()
    assert cluster.parts == ()
    assert not (tmp_path / "cluster.json").exists()


def test_a_port_in_use_is_told_apart(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUseError) as caught:
            free_port(taken.getsockname()[1])
    assert status_of(caught.value).exit_code == 71


@pytest.mark.parametrize("name", ["api", "flower", "metrics"])
def test_a_port_in_use_names_the_variable_that_sets_it(name, tmp_path):
    row = next(row for row in rows.LOOKOUTS if row.name == getattr(rows, name.upper()))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        deployment = Deployment(data_dir=tmp_path, **{f"{name}_port": taken.getsockname()[1]})
        with pytest.raises(PortInUseError, match=f"BTCFI_{name.upper()}_PORT"):
            row.before(rows.Here(deployment=deployment, run_dir=tmp_path, replay_folder=None))


def test_a_worker_that_cannot_start_is_named_with_its_last_words(tmp_path):
    with Cluster(Deployment(data_dir=tmp_path), embedded_node=False, roles=("nobody",), beat=False) as cluster:
        cluster.start()
        with pytest.raises(UnreachableError) as caught:
            cluster.wait_ready(4)
    assert caught.value.service == "worker nobody"
    assert "nobody.log" in caught.value.hint


def test_a_canary_returns_from_every_queue_and_a_killed_worker_comes_back(tmp_path):
    deployment = Deployment(data_dir=tmp_path, tick=False, canary_seconds=1, watch_seconds=600, premium_seconds=600)
    with Cluster(deployment) as cluster:
        cluster.start()
        cluster.wait_ready(60)
        workers = {part.name: part for part in cluster.parts}
        pids = [p.pid for part in cluster.parts for p in family(part.process.pid)]
        first = workers["control"].process.pid
        wait_for_canaries(tmp_path, after=int(time.time()))
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: workers["control"].process.pid != first, "the worker was not started again")
        pids += [p.pid for p in family(workers["control"].process.pid)]
        wait_for_canaries(tmp_path, after=int(time.time()) + 1)
    assert alive(pids) == []


def family(pid):
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def wait_until(true, otherwise, seconds=40):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.2)


def wait_for_canaries(data_dir, *, after):
    def all_sang():
        with contextlib.closing(sqlite3.connect(data_dir / "btcfi.db")) as database:
            seen = dict(database.execute("SELECT * FROM canary"))
        return {queue for queue, at in seen.items() if at >= after} == {"prices", "settle", "chain", "control"}

    wait_until(all_sang, "a queue shows no sign of life")
