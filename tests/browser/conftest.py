"""A real cluster with its console, started as a new operator starts it, and Chromium to look at it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
PASSWORD = "a password for the tests"
PACE = "0.8"
"""Seconds of a recorded minute: slow enough to fund an option before it expires."""

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion",
)  # fmt: skip


def chromium() -> str | None:
    return os.environ.get("BTCFI_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def missing() -> str | None:
    if chromium() is None:
        return "no Chromium: apt-get install chromium, or set BTCFI_TEST_CHROMIUM"
    try:
        import playwright  # noqa: F401, PLC0415 - only to see whether it is there
    except ImportError:
        return "no playwright: pip install -e .[dev]"
    return None


@dataclass(frozen=True)
class Console:
    """Where the console is, and its store."""

    url: str
    data_dir: Path

    def cli(self, *arguments: str, stdin: str = "") -> str:
        environment = {**os.environ, "BTCFI_DATA_DIR": str(self.data_dir), "BTCFI_REPLAY_CLOCK": "true"}
        command = [sys.executable, "-m", "workers.cli", *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, input=stdin, env=environment, cwd=ROOT
        ).stdout  # fmt: skip


@pytest.fixture(scope="session")
def console(tmp_path_factory) -> Iterator[Console]:
    if reason := missing():
        pytest.skip(reason)
    data_dir = tmp_path_factory.mktemp("up")
    log = data_dir.parent / "up.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BTCFI_", "DATABASE_"))}
    environment |= {
        "BTCFI_API_PORT": "0", "BTCFI_FLOWER_PORT": "0", "BTCFI_METRICS_PORT": "0", "BTCFI_MINE_SECONDS": "0.7",
        "BTCFI_CANARY_SECONDS": "5",
    }  # fmt: skip
    command = [sys.executable, "-m", "workers.cli", "up", "--pace", PACE, "--data-dir", str(data_dir)]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=ROOT)
    try:
        deadline = time.monotonic() + 90
        while "Ctrl-C stops" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        port = re.search(r"API\s+http://127\.0\.0\.1:(\d+)", log.read_text())[1]
        made = Console(url=f"http://127.0.0.1:{port}", data_dir=data_dir)
        made.cli("users", "add", "ada", "--role", "read", "--role", "trade", "--role", "operate", stdin=PASSWORD + "\n")
        made.cli("users", "add", "rita", "--role", "read", stdin=PASSWORD + "\n")
        yield made
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="session")
def browser():
    if reason := missing():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not there everywhere

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield started
        started.close()


def sign_in(page, console, name="ada", password=PASSWORD):
    page.goto(f"{console.url}/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture(scope="session")
def signed_in(browser, console):
    """The cookies of an operator, signed in once through the page."""
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, console)
    page.get_by_role("heading", name="Now").wait_for()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def page(browser, signed_in):
    """A signed-in operator's page; the test fails when the page's scripts did."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 860}, color_scheme="light", storage_state=signed_in
    )
    made = context.new_page()
    made.set_default_timeout(20_000)
    problems = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("console", lambda said: problems.append(said.text) if "Content Security Policy" in said.text else None)
    yield made
    context.close()
    assert problems == []
