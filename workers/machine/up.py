"""``btcfi up``: the same parts as the demo's, kept running until Ctrl-C."""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console

from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from settings.deployment import Deployment, load_deployment
from tasks.context import make_context
from workers import preconditions
from workers.deployed import node_of
from workers.machine import rows
from workers.machine.parties import COINS_EACH, fill_parties
from workers.market_process import OVER_FILE

OVER = (
    "the recording is over: its clock and price stand still, and what expires later stays open. "
    "For another round: Ctrl-C, remove the data folder, start again"
)


def run_up(*, live: bool, pace: float, data_dir: Path | None) -> None:
    """Start the parts and keep them running until Ctrl-C: live exchanges, or the synthetic recording, once.

    pace: seconds a recorded minute takes. Raises a BtcfiError for a part that does not start.
    """
    from workers.machine.cluster import Cluster  # noqa: PLC0415 - starts processes

    console = Console(stderr=True)
    base = load_deployment()
    where = (data_dir or base.data_dir).resolve()
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    changes: dict[str, Any] = {"mine_seconds": base.mine_seconds or 2.0}
    if base.flower_password is None:
        changes["flower_password"] = SecretStr(secrets.token_urlsafe(12))
    if not live:
        chosen = venues_for_replay(read_candle_folder(SYNTHETIC_CANDLES), None, None)
        changes |= {
            "venues": tuple(str(v) for v in chosen.registered), "legs": tuple(str(v) for v in chosen.legs),
            "tick": False, "replay_clock": True, "venue_rate_limit": False,
        }  # fmt: skip
    deployment = base.within(where).model_copy(update=changes)
    preconditions.require(
        deployment, preconditions.UP, lambda found: console.print(preconditions.line(found), highlight=False)
    )
    played = None if live else SYNTHETIC_CANDLES
    with Cluster(deployment, replay_folder=played, flower=True, api=True, metrics=True) as cluster:
        cluster.start(lambda what: console.print(f"  {what}", highlight=False))
        here = make_context(cluster.deployment)
        node = node_of(here.deployment)
        chain = node.chain_info()
        node.close()
        empty = chain.chain == "regtest" and chain.height < COINS_EACH
        if empty:
            fill_parties(here, COINS_EACH)
        cluster.wait_ready(90)
        here.store.close()
        if played is not None:
            cluster.add(rows.market(played, pace))
        _say_where(console, cluster.deployment, where, live=live)
        try:
            _keep_running(where / OVER_FILE, console)
        except KeyboardInterrupt:
            console.print("stopping; a second Ctrl-C would not make it faster")


def _say_where(console: Console, deployment: Deployment, where: Path, *, live: bool) -> None:
    password = deployment.flower_password.get_secret_value() if deployment.flower_password else ""
    file = where / "flower.password"
    file.touch(mode=0o600)
    file.write_text(password + "\n")
    prices = "live exchanges" if live else "synthetic recording (SIMULATED exchanges, real HTTP and ccxt)"
    console.print(
        f"running. prices: {prices}\n"
        f"  console   http://{deployment.api_host}:{deployment.api_port}/\n"
        f"  API       http://{deployment.api_host}:{deployment.api_port}/api/docs\n"
        f"  Flower    http://127.0.0.1:{deployment.flower_port}  user {deployment.flower_user}, password in {file}\n"
        f"  metrics   http://127.0.0.1:{deployment.metrics_port}/metrics\n"
        f"  store     {Store(deployment.database_url).where}\n"
        f"  logs      {where / 'logs'}\n"
        f"  try       export BTCFI_DATA_DIR={where}{'' if live else ' BTCFI_REPLAY_CLOCK=true'}\n"
        "            btcfi options create --kind call --strike 55000 --expiry +20 --quantity 0.05 --fixing minute\n"
        "            btcfi options list\n"
        "            btcfi keys create me --role trade --role operate    (a key for the API; shown once)\n"
        "            btcfi users add me --role read --role operate       (a login for the console)\n"
        "Ctrl-C stops everything.",
        highlight=False,
        soft_wrap=True,
    )


def _keep_running(over: Path, console: Console) -> None:
    """Wait for Ctrl-C. This process supervises: it works on nothing, so no full disk and no broker ends it."""
    told = False
    while True:
        if not told and _is_there(over):
            told = True
            console.print(OVER, highlight=False, soft_wrap=True)
        time.sleep(1.0)


def _is_there(file: Path) -> bool:
    with contextlib.suppress(OSError):
        return file.exists()
    return False
