"""The whole of ``btcfi up --market``, once: owners that nobody else opens trade at the desk until takes are funded."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time

import httpx
import pytest

from tests.support.paths import ROOT
from workers.machine import trading
from workers.machine.rows import free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]


def until(look, seconds):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return found


def test_simulated_owners_trade_at_the_desk_and_leave_no_offer_behind(tmp_path):
    ports = {f"BTCFI_{name}_PORT": str(free_port(0)) for name in ("API", "FLOWER", "METRICS")}
    url = f"http://127.0.0.1:{ports['BTCFI_API_PORT']}/api/v1"
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_URL")} | ports | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "workers.cli", "up", "--market", "--pace", "3", "--data-dir", str(tmp_path / "up")]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, cwd=ROOT)
    try:
        until(lambda: b"SIMULATED: makers" in (tmp_path / "said").read_bytes(), 240)
        until(lambda: len(_get(f"{url}/trades")["items"]) >= 2, 240)
        owners = tmp_path / "up" / "owners"
        for name in trading.COINS:
            assert stat.S_IMODE((owners / name).stat().st_mode) == 0o700
        until(lambda: any(_quoted(url, expiry) for expiry in _get(f"{url}/chain")["expiries_unix"]), 60)
        advice = (tmp_path / "said").read_text().splitlines()[-1].split()  # what it says to look with
        command = [sys.executable, "-m", "workers.cli", *advice[1:]]
        looked = subprocess.run(command, check=False, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert (advice[0], looked.returncode) == ("btcfi", 0), looked.stderr
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    for name in trading.MAKERS:
        last = (tmp_path / "up" / "logs" / f"{name}-quotes.log").read_text().splitlines()[-1]
        assert json.loads(last)["ended"] is True


def _quoted(url, expiry):
    return [line for line in _get(f"{url}/chain?expiry={expiry}")["lines"] if line["bid"] or line["ask"]]


def _get(url):
    return httpx.get(url, timeout=10).raise_for_status().json()
