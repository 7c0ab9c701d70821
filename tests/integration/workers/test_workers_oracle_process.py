"""An oracle as a process of its own that signs every minute: killed at any moment, it says nothing twice."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from btcfi.adapters.oracle.folder import MINUTE_EVENTS, OracleFolder
from btcfi.adapters.oracle_network.network_file import write_registry
from btcfi.adapters.oracle_network.node_keys import read_node_key
from btcfi.oracle.minute_event import (
    MinuteEvent,
    check_minute_announcement,
    check_minute_attestation,
    decode_minute_announcement,
    decode_minute_attestation,
)
from btcfi.oracle.submission_json import encode_signed
from btcfi.units import Hash32, Slot
from settings.preset import load_preset
from tests.support.oracle_support import quote
from tests.support.oracles import DOLLARS, FEED, nodes, sign
from tests.support.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

PRESET = Hash32(bytes.fromhex(load_preset("standard").sha256))
MINUTES = 20


class Aggregator:
    """Serves what nodes signed of each minute: four, and the fifth once it is ``heard``, which moves the price."""

    def __init__(self, node_keys, newest):
        self.node_keys, self.newest, self.heard = node_keys, newest, False
        aggregator = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(aggregator.page()).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def signed(self, slot):
        closes = [6_000_000, 6_000_000, 6_000_300, 6_000_300, 6_000_300]
        spoken = list(zip(DOLLARS, closes, strict=True))[: 5 if self.heard else 4]
        return [sign(quote(venue, close, slot=slot), read_node_key(self.node_keys, venue)) for venue, close in spoken]

    def page(self):
        slots = range(self.newest - 60 * (MINUTES - 1), self.newest + 1, 60)
        minutes = [
            {"slot": at, "state": "closed", "report": None, "submissions": [*map(encode_signed, self.signed(at))]}
            for at in map(Slot, slots)
        ]
        return {"feed": FEED, "newest_slot": self.newest, "minutes": minutes}

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Process:
    """The process of one oracle."""

    def __init__(self, folder, aggregator, log, *more):
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.oracle_process", f"--folder={folder}", f"--aggregator={aggregator.url}",
             "--every=0.2", *more],
            cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        deadline = time.monotonic() + 90
        while not (found := re.search(r"(http://127\.0\.0\.1:\d+)\n", log.read_text())):
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self._url = found[1]
        self.pid = self._process.pid

    def ask(self, path):
        answer = httpx.get(self._url + path, timeout=30)
        return answer.status_code, answer.json()

    def kill(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
        self._log.close()


@pytest.fixture
def aggregator(tmp_path):
    nodes(tmp_path / "nodes")
    made = Aggregator(tmp_path / "nodes", int(time.time()) // 60 * 60 - 60)
    yield made
    made.close()


def lines(folder):
    (file,) = (folder.path / MINUTE_EVENTS).glob("*.minutes")
    return file.read_text().splitlines()[1:]


def test_an_oracle_that_is_killed_amid_its_minutes_signs_none_of_them_twice(tmp_path, aggregator):
    folder = OracleFolder(tmp_path / "oracle")
    key = folder.create()
    folder.write_network(write_registry(FEED, nodes(tmp_path / "nodes")))
    event = MinuteEvent(feed=FEED, slot=Slot(aggregator.newest), preset_hash=PRESET)
    begun = Slot(aggregator.newest - 60 * MINUTES)
    # it was away for a while: its ledger ends where the aggregator begins
    folder.minute_ledger().book(oracle_key=key, series=event.series, begins_after=begun)
    slots = [Slot(at) for at in range(begun + 60, aggregator.newest + 1, 60)]
    first = Process(folder.path, aggregator, tmp_path / "first.log", "--minute-events")
    try:
        status, message = first.ask(f"/v1/minutes/{slots[-1] + 30 * 60}/announcement")
        ahead = decode_minute_announcement(message)
        check_minute_announcement(ahead, expected=MinuteEvent(feed=FEED, slot=ahead.event.slot, preset_hash=PRESET))
        assert status == 200
        deadline = time.monotonic() + 60
        while len(lines(folder)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        first.kill()
    written = dict(json.loads(line) for line in lines(folder) if line.endswith("]"))
    assert set(written.values()) == {6_000_150}
    aggregator.heard = True
    second = Process(folder.path, aggregator, tmp_path / "second.log", "--minute-events")
    try:
        deadline = time.monotonic() + 60
        while len(lines(folder)) < MINUTES:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for slot in slots:
            announced = decode_minute_announcement(second.ask(f"/v1/minutes/{slot}/announcement")[1])
            said = [second.ask(f"/v1/minutes/{slot}/attestation") for _ in range(2)]
            found = decode_minute_attestation(said[0][1])
            check_minute_attestation(found, announced)
            assert said[0] == said[1]
            assert found.price == written.get(slot, 6_000_300)
        assert len({json.loads(line)[0] for line in lines(folder)}) == len(lines(folder)) == MINUTES
    finally:
        second.kill()


def test_an_oracle_signs_no_minutes_unless_it_is_told_to(tmp_path, aggregator):
    folder = OracleFolder(tmp_path / "oracle")
    folder.create()
    folder.write_network(write_registry(FEED, nodes(tmp_path / "nodes")))
    process = Process(folder.path, aggregator, tmp_path / "one.log")
    try:
        status, answer = process.ask(f"/v1/minutes/{aggregator.newest + 600}/announcement")
        assert (status, answer["kind"]) == (404, "NotFoundError")
        assert not (folder.path / MINUTE_EVENTS).exists()
    finally:
        process.kill()
