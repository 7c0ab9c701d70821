"""The example of the documentation runs as it stands, against a served API."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import uvicorn

from btcfi.surfaces.rest.app import create_app
from tests.support.paths import ROOT
from tests.support.rest_world import make_world

pytestmark = pytest.mark.integration


def test_the_example_prices_creates_settles_and_verifies(tmp_path):
    world = make_world(tmp_path)

    def created_and_funded(order):
        made = world.create_option(order)
        world.fund(made.option_id)
        return made

    # here the pipeline's part happens at once
    deps = replace(
        world.deps,
        create_option=created_and_funded,
        submit=lambda _flow, option: world.settle(option, 5_500_000),
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(deps), log_config=None, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        done = subprocess.run(
            [
                sys.executable,
                "docs/examples/price_create_settle_verify.py",
                f"http://127.0.0.1:{listening.getsockname()[1]}",
                world.key("trade", "operate"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        server.should_exit = True
        thread.join(10)
        world.store.close()
    assert done.returncode == 0, done.stderr
    assert ": holds" in done.stdout
    assert world.orders == 1
