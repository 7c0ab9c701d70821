"""Four nodes and an aggregator as processes, on a replay at thirty times life's speed, and what is done to them."""

from __future__ import annotations

import csv
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from sqlmodel import Session, select

from btcfi.adapters.store.prices.network_tables import OracleRoundRow, OracleSubmissionRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.venues.candle_folder import COLUMNS
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.adapters.venues.synthetic_candles.generate import FIRST_SLOT
from btcfi.surfaces.grpc.client import AggregatorClient, RefusedError
from btcfi.surfaces.grpc.messages import read_submission
from btcfi.surfaces.oracle_cli import STARTER_NODES
from btcfi.surfaces.protos import oracle_pb2 as pb

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SPEED = 30
NODES = {
    "binance-node": ("binance", ""),
    "bitstamp-node": ("bitstamp", ""),
    "coinbase-node": ("coinbase", ""),
    "kraken-node": ("kraken", ""),
    "usdt-node": ("kraken", "USDT/USD"),
}
"""Three dollar markets, a coin's and its leg, of the starter set."""
KRAKEN, COINBASE = "kraken:BTC/USD", "coinbaseexchange:BTC/USD"


class Network:
    """Processes in a folder, each in its own process group, ended by their ids."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen] = {}
        self.updates: queue.Queue[pb.PriceUpdate] = queue.Queue()
        self.heard: list[pb.PriceUpdate] = []

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments], stdout=log, stderr=log, start_new_session=True
            )

    def port(self, name: str) -> int:
        file = self.folder / f"{name}.port"
        until = time.monotonic() + 30
        while not file.exists():
            assert time.monotonic() < until, (self.folder / f"{name}.log").read_text()
            time.sleep(0.05)
        return int(file.read_text())

    def replay(self, name: str, candles: Path) -> str:
        file = self.folder / f"{name}.port"
        self.start(name, "btcfi.adapters.venues.replay_server", "--folder", str(candles), "--port-file", str(file))
        return f"http://127.0.0.1:{self.port(name)}"

    def node(self, name: str, **config: object) -> None:
        exchange, symbol = NODES[name]
        own = {"key_file": f"{name}.key", "network": "network.toml", **config}
        lines = [f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in own.items()]
        file = self.folder / "net" / f"{name}.toml"
        file.write_text("\n".join(lines) + "\n")
        self.start(
            name, "btcfi.surfaces.oracle_cli", "oracle-node", "--exchange", exchange, "--symbol", symbol,
            "--node-id", name, "--aggregator-url", self.url, "--config", str(file),
        )  # fmt: skip

    def aggregator(self, port: int = 0) -> None:
        (self.folder / "aggregator.port").unlink(missing_ok=True)
        self.start(
            "aggregator", "btcfi.surfaces.oracle_cli", "aggregator", "--config", str(self.folder / "net/network.toml"),
            "--port", str(port), "--port-file", str(self.folder / "aggregator.port"),
            "--database", f"sqlite:///{self.folder}/oracle.sqlite",
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{self.port('aggregator')}"
        self.client = AggregatorClient(self.url)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for update in self.client.updates():
                self.updates.put(update)
        except Exception:  # noqa: BLE001 - the channel ends with the test
            return

    def until(self, what: str, holds: Callable[[pb.PriceUpdate], bool], *, seconds: float = 40) -> pb.PriceUpdate:
        """Wait for a final round for which ``holds``."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                update = self.updates.get(timeout=1)
            except queue.Empty:
                continue
            self.heard.append(update)
            if update.final and holds(update):
                return update
        logs = "\n".join((self.folder / f"{n}.log").read_text()[-1500:] for n in self.running)
        raise AssertionError(f"never: {what}\n{logs}")

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        process = self.running.pop(name)
        if process.poll() is None:
            os.killpg(process.pid, number)
        return process.wait(15)

    def end_all(self) -> None:
        for name in list(self.running):
            self.end(name, signal.SIGKILL)


@pytest.fixture
def network(tmp_path: Path):
    made = Network(tmp_path)
    yield made
    made.end_all()


def reason_of(update: pb.PriceUpdate, venue: str) -> str:
    return next((a.reason for a in (*update.absent, *update.dropped) if a.venue == venue), "")


def lying(folder: Path) -> Path:
    """Kraken's candles, ten percent too high."""
    folder.mkdir()
    for name in ("kraken-BTC-USD.csv", "kraken-USDT-USD.csv"):
        factor = Decimal("1.1") if "BTC" in name else 1
        rows = list(csv.DictReader((SYNTHETIC_CANDLES / name).open()))
        for row in rows:
            for column in COLUMNS[1:5]:
                row[column] = str(Decimal(row[column]) * factor)
        with (folder / name).open("w", newline="") as file:
            out = csv.DictWriter(file, COLUMNS)
            out.writeheader()
            out.writerows(rows)
    return folder


def test_a_node_killed_lying_or_late_is_named_while_the_price_stays_right_and_two_bad_ones_stop_it(
    network: Network,
) -> None:
    base_url = network.replay("replay", SYNTHETIC_CANDLES)
    liars_url = network.replay("liars-replay", lying(network.folder / "lies"))
    subprocess.run(
        [
            sys.executable, "-m", "btcfi.surfaces.oracle_cli", "oracle-init", str(network.folder / "net"),
            *(word for name in NODES for word in ("--node", f"{name}={STARTER_NODES[name]}")),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    with (network.folder / "net/network.toml").open("a") as file:
        file.write("[policy]\nopen_seconds = 50\nmost_skew_ms = 30000\n")
        file.write(f"[replay]\nstart = {FIRST_SLOT}\nepoch = {time.time() + 4}\nspeed = {SPEED}\n")
    network.aggregator()
    for name in NODES:
        network.node(name, base_url=base_url)

    first = network.until("everybody agrees", lambda u: u.priced and not u.absent and not u.dropped)
    assert first.price.num_sources == 4

    network.end("aggregator", signal.SIGKILL)
    network.aggregator(int(network.url.rpartition(":")[2]))
    network.until("a killed aggregator takes up again", lambda u: u.priced and u.price.num_sources == 4)

    network.end("kraken-node", signal.SIGKILL)
    network.until("killed node named", lambda u: u.priced and reason_of(u, KRAKEN) == "silent")

    network.node("kraken-node", base_url=liars_url)
    liar = network.until("liar named", lambda u: u.priced and reason_of(u, KRAKEN) == "outlier")
    assert liar.dropped[0].deviation_bps >= 900

    network.end("kraken-node")
    network.node("kraken-node", base_url=base_url, clock_offset_seconds=300)
    network.until("wrong clock named", lambda u: u.priced and reason_of(u, KRAKEN) == "clock_skew")
    network.end("kraken-node")

    # somebody sends the kraken node's old messages again, each properly signed
    with Session(Store(f"sqlite:///{network.folder}/oracle.sqlite").engine) as session:
        old = [r.message for r in session.exec(select(OracleSubmissionRow)).all() if r.node_id == "kraken-node"]
    assert old
    for message in old:
        with pytest.raises(RefusedError) as caught:
            network.client.submit(read_submission(pb.PriceSubmission.FromString(message)))
        assert caught.value.code in {"FAILED_PRECONDITION", "ALREADY_EXISTS"}
    network.until("replayed node named", lambda u: u.priced and reason_of(u, KRAKEN) in {"stale", "silent"})

    os.killpg(network.running["coinbase-node"].pid, signal.SIGSTOP)
    void = network.until("two bad stop the price", lambda u: not u.priced and bool(reason_of(u, COINBASE)))
    assert void.void_reason == "no_quorum"
    assert "round_void" in (network.folder / "aggregator.log").read_text()
    os.killpg(network.running["coinbase-node"].pid, signal.SIGCONT)
    network.node("kraken-node", base_url=base_url)
    network.until("everybody is back", lambda u: u.priced and not u.absent and not u.dropped)

    check_every_price(network)
    check_reports_are_signed(network)
    for name in NODES:
        assert network.end(name) == 0
    assert network.end("aggregator") == 0


def check_every_price(network: Network) -> None:
    with (SYNTHETIC_CANDLES / "coinbaseexchange-BTC-USD.csv").open() as file:
        coinbase = {int(r["open_time_unix"]): Decimal(r["close"]) for r in csv.DictReader(file)}
    priced = [u for u in network.heard if u.final and u.priced]
    assert len(priced) >= 5
    for update in priced:
        close = int(coinbase[update.slot] * 100)
        assert abs(update.price.price_cents - close) <= close * 20 // 10_000


def check_reports_are_signed(network: Network) -> None:
    with Session(Store(f"sqlite:///{network.folder}/oracle.sqlite").engine) as session:
        rounds = session.exec(select(OracleRoundRow)).all()
    assert any(row.signatures.count("-node") >= 3 for row in rounds)
