"""The documentation's example against `btcfi up`: real workers, chain, parties and console, and nothing but HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from tests.support.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
BTCFI = (sys.executable, "-m", "workers.cli")
QUICK = {
    "BTCFI_API_PORT": "0", "BTCFI_FLOWER_PORT": "0", "BTCFI_METRICS_PORT": "0", "BTCFI_MINE_SECONDS": "0.3",
    "BTCFI_WATCH_SECONDS": "0.5", "BTCFI_RELAY_SECONDS": "0.5", "BTCFI_EXCHANGE_SECONDS": "0.3",
    "BTCFI_RECONCILE_SECONDS": "3", "BTCFI_PREMIUM_SECONDS": "1",
}  # fmt: skip


@pytest.fixture
def up(tmp_path):
    taken = ("BROKER_URL", "NODE_URL", "DATABASE_URL", "RESULT_BACKEND_URL")
    environment = {k: v for k, v in os.environ.items() if k not in taken and not k.startswith("BTCFI_")} | QUICK
    process = subprocess.Popen(
        [*BTCFI, "up", "--data-dir", str(tmp_path), "--pace", "0.5"],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    family = []
    try:
        said = ""
        for line in process.stderr:
            said += line
            if "Ctrl-C" in line:
                break
        found = re.search(r"(http://127\.0\.0\.1:\d+)/api/docs", said)
        assert found, said
        family = psutil.Process(process.pid).children(recursive=True)
        yield found[1], environment | {"BTCFI_DATA_DIR": str(tmp_path)}
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.close()
        process.wait(40)
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_an_option_is_priced_created_settled_and_verified_through_the_api_of_a_running_cluster(up):
    url, environment = up
    made = subprocess.run(
        [*BTCFI, "keys", "create", "me", "--role", "trade", "--role", "operate"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    key = made.stdout.strip()
    with httpx.Client(base_url=url) as api:
        deadline = time.monotonic() + 30
        while (health := api.get("/api/v1/health")).status_code != 200:
            assert time.monotonic() < deadline, health.text
            time.sleep(0.2)
        done = subprocess.run(
            [sys.executable, "docs/examples/price_create_settle_verify.py", url, key],
            cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ": holds" in done.stdout
        (option,) = api.get("/api/v1/options").json()["items"]
        assert option["taproot_address"].startswith("bcrt1p")
        (settlement,) = api.get("/api/v1/settlements").json()["items"]
        assert settlement["payout_sats"] > 0
        # the stream tells the same story, from its beginning
        told = api.get("/api/v1/settlements/stream", params={"limit": 4}, headers={"Last-Event-ID": "0"}).text
        edges = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: ")]
        states = [edge["to_state"] for edge in edges]
        assert states[:2] == ["due", "claimed"]
        assert "proven" in states  # a long run is executed first, and proven in parts
        assert api.get("/").headers["location"].startswith("/sign-in")
