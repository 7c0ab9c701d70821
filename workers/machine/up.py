"""``btcfi up``: the same parts as the demo's, kept running until Ctrl-C."""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from rich.console import Console

from btcfi.adapters.files import make_private, write_private
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.oracle.venues.synthetic import LEGS, MARKETS
from settings.deployment import Deployment, load_deployment
from tasks.context import make_context
from workers import preconditions
from workers.deployed import node_of
from workers.machine import rows, sources, trading
from workers.machine.parties import COINS_EACH, fill_parties
from workers.market_process import OVER_FILE

if TYPE_CHECKING:
    from workers.machine.cluster import Cluster

OVER = (
    "the recording is over: its clock and price stand still. For a market without an end: Ctrl-C, and start again "
    "without --recorded and with another --data-dir; another market never settles what this one priced"
)


def run_up(
    *, live: bool, recorded: bool, seed: int, pace: float, data_dir: Path | None, market: bool = False
) -> None:  # fmt: skip
    """Start the parts and keep them running until Ctrl-C: live exchanges, the recording once, or a simulated market.

    seed: of the simulated market, which has no end. pace: seconds that a minute of it, or of the recording, takes.
    market: with two simulated makers and three takers, each an owner of its own, at the desk.
    Raises a BtcfiError for a part that does not start, and where the folder's store has another market's prices.
    """
    from workers.machine.cluster import Cluster  # noqa: PLC0415 - starts processes

    console = Console(stderr=True)
    base = load_deployment()
    where = (data_dir or base.data_dir).resolve()
    source = sources.chosen(live=live, recorded=recorded, seed=seed)
    sources.refuse_other_market(base.within(where), source)
    console.print(f"data in {where}", highlight=False, soft_wrap=True)
    make_private(where, named=True)
    changes, minutes = _changes(base, live=live, recorded=recorded)
    if market and not live and base.market_preset == Deployment.model_fields["market_preset"].default:
        changes["market_preset"] = trading.MARKET_PRESET  # expiries within the hour, as simulated minutes are short
    deployment = base.within(where).model_copy(update=changes)
    preconditions.require(
        deployment, preconditions.UP, lambda found: console.print(preconditions.line(found), highlight=False)
    )
    played = SYNTHETIC_CANDLES if recorded and not live else None
    with Cluster(
        deployment, replay_folder=played,
        simulated=None if live or recorded else seed, flower=True, api=True, metrics=True,
    ) as cluster:  # fmt: skip
        cluster.start(lambda what: console.print(f"  {what}", highlight=False))
        here = make_context(cluster.deployment)
        sources.note_market(here.store, here.deployment, source)
        if _is_empty_regtest(here.deployment):
            fill_parties(here, COINS_EACH)
        cluster.wait_ready(90)
        here.store.close()
        prices = f"SIMULATED market of seed {seed}, without an end, a minute each {pace:g} s; no real market's"
        if live:
            prices = "live exchanges"
        else:
            cluster.add(rows.market(played, pace))
        if played is not None:
            prices = f"SIMULATED recording of {minutes} minutes, a minute each {pace:g} s, which ends"
        _say_where(console, cluster.deployment, where, prices=prices, live=live)
        try:
            if market:
                _begin_trading(cluster, console)
            _keep_running(where / OVER_FILE, console)
        except KeyboardInterrupt:
            console.print("stopping; a second Ctrl-C would not make it faster")


def _changes(base: Deployment, *, live: bool, recorded: bool) -> tuple[dict[str, Any], int]:
    """Return what one machine's deployment has of its own, and how many minutes the recording has that it plays."""
    changes: dict[str, Any] = {"mine_seconds": base.mine_seconds or 2.0}
    if base.flower_password is None:
        changes["flower_password"] = SecretStr(secrets.token_urlsafe(12))
    if base.flower_url is None and base.flower_port:
        changes["flower_url"] = f"http://127.0.0.1:{base.flower_port}"
    minutes = 0
    if not live:
        changes |= {"tick": False, "replay_clock": True, "venue_rate_limit": False}
        registered, legs = tuple(market.venue for market in MARKETS), LEGS
        if recorded:
            folder = read_candle_folder(SYNTHETIC_CANDLES)
            chosen = venues_for_replay(folder, None, None)
            registered, legs, slots = chosen.registered, chosen.legs, folder.slots(None, None)
            minutes, changes = len(slots), changes | {"replay_until": slots[-1]}
        changes |= {"venues": tuple(map(str, registered)), "legs": tuple(map(str, legs))}
    return changes, minutes


def _is_empty_regtest(deployment: Deployment) -> bool:
    node = node_of(deployment)
    chain = node.chain_info()
    node.close()
    return chain.chain == sources.REGTEST and chain.height < COINS_EACH


def _say_where(console: Console, deployment: Deployment, where: Path, *, prices: str, live: bool) -> None:
    password = deployment.flower_password.get_secret_value() if deployment.flower_password else ""
    file = where / "flower.password"
    write_private(file, password.encode() + b"\n")
    console.print(
        f"running. prices: {prices}\n"
        f"  console   http://{deployment.api_host}:{deployment.api_port}/\n"
        f"  desk      http://{deployment.api_host}:{deployment.api_port}/desk\n"
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


def _begin_trading(cluster: Cluster, console: Console) -> None:
    trading.begin(cluster, lambda what: console.print(f"  {what}", highlight=False, soft_wrap=True))
    console.print(trading.said(cluster.deployment), highlight=False, soft_wrap=True)


def _is_there(file: Path) -> bool:
    with contextlib.suppress(OSError):
        return file.exists()
    return False
