"""A command finds the cluster that runs on its data folder; what was asked for by name goes before."""

import json
from pathlib import Path

import pytest

from settings.deployment import Deployment
from workers.machine.attach import attached

URLS = {
    "broker_url": "redis+socket:///tmp/x/broker.sock?virtual_host=0", "result_backend_url": None,
    "node_url": "http://127.0.0.1:18443", "node_cookie_file": "/tmp/x/.cookie", "replay_clock": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch):
    for name in ("BROKER_URL", "NODE_URL", "BTCFI_REPLAY_CLOCK"):
        monkeypatch.delenv(name, raising=False)


def cluster(folder, text):
    (folder / "cluster.json").write_text(text)
    return Deployment(data_dir=folder)


def test_the_embedded_parts_are_found(tmp_path):
    found = attached(cluster(tmp_path, json.dumps({"urls": URLS})))
    assert found.broker_url == URLS["broker_url"]
    assert found.node_cookie_file == Path("/tmp/x/.cookie")
    assert found.replay_clock


def test_an_address_that_was_asked_for_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("BROKER_URL", "redis://elsewhere:6379/0")
    monkeypatch.setenv("BTCFI_REPLAY_CLOCK", "false")
    found = attached(cluster(tmp_path, json.dumps({"urls": URLS})))
    assert found.broker_url == "redis://elsewhere:6379/0"
    assert not found.replay_clock
    assert found.node_url == URLS["node_url"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"urls": 1}', '{"urls": {"broker_url": null}}', "{half"])
def test_a_file_that_says_nothing_changes_nothing(tmp_path, text):
    deployment = cluster(tmp_path, text)
    assert attached(deployment) == deployment
