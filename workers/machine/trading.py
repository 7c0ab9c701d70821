"""The traders of ``btcfi up --market``: two makers and three takers, each an owner with keys of its own. A SIMULATION.

Each owner is two processes on one private folder: its party, which holds the keys, joins the desk as anybody does and
signs; and what decides for it, a maker's quotes or a taker's wishes. They know the desk's URL and the node, and
nothing of the deployment; what they say to each other goes by sealed letters.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from btcfi.adapters.files import make_private, write_private
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.wallet import COINBASE_MATURITY
from btcfi.errors import BtcfiError
from settings.deployment import Deployment
from workers.deployed import node_of
from workers.machine import parties, rows
from workers.machine.rows import Here, Row

if TYPE_CHECKING:
    from workers.machine.cluster import Cluster

MAKERS: Final = ("maker-0", "maker-1")
TAKERS: Final = ("taker-0", "taker-1", "taker-2")

COINS: Final = dict.fromkeys(MAKERS, 20) | dict.fromkeys(TAKERS, 8)
"""Mined to each once: one for each contract that is on its way to the chain at a time, and some to spare."""

JOIN_SECONDS: Final = 180.0
"""Until an owner that has not said its address counts as failed: five make their keys at once, on two slow cores."""

EVERY_SECONDS: Final = 0.5
"""Between two looks of a party at its chain and its folder; a letter wakes it at once."""

TAKES_PER_MINUTE: Final = 2.0
"""Of each taker."""

MARKET_PRESET: Final = "simulation"

RULES: Final = {
    "maker-0": "half_spread_points = 4.0\nsize = 20\n",
    "maker-1": "half_spread_points = 6.0\nsize = 40\n",
}
"""What differs between the two makers."""

RULE: Final = (
    "levels = 1\nmost_offers = 40\nvalidity_seconds = 60\nrenew_seconds = 20\nleast_life_seconds = 600\n"
    "requote_share = 0.5\ndelta_limit_btc = 500\ngamma_limit_btc = 5000\nvega_limit_usd = 200000\n"
    "shortfall_limit_usd = 5000000\n"
)
"""A chain that fits on a screen; no instrument that settles within ten of its minutes. Of a binary that settles
within the hour one bitcoin has the delta of fifty: the limits are those of coins that cost nothing."""

SAYS: Final = (
    "  market    SIMULATED: makers {makers} and takers {takers}, each with keys of its own in {folder}\n"
    "            btcfi market chain --desk {url}"
)


def owners_folder(deployment: Deployment) -> Path:
    """Return where the owners' folders lie."""
    return deployment.data_dir / "owners"


def desk_url(deployment: Deployment) -> str:
    """Return the URL of our own desk."""
    return f"http://{rows.api_host(deployment)}:{deployment.api_port}"


def owner(name: str) -> Row:
    """Return the row of an owner's party."""
    return Row(
        name=name,
        says=lambda _: "",
        needs=(rows.NODE, rows.API),
        command=lambda here: [
            sys.executable, "-m", "btcfi.surfaces.party_cli", "simulate", f"--dir={_folder(here, name)}",
            f"--desk={desk_url(here.deployment)}", f"--name={name}", f"--every={EVERY_SECONDS}",
        ],
        forked=True,
        environment=parties.environment,
    )  # fmt: skip


def quoting(name: str) -> Row:
    """Return the row of what quotes for a maker."""
    return Row(
        name=f"{name}-quotes",
        says=lambda _: "",
        needs=(name,),
        command=lambda here: [
            sys.executable, "-m", "btcfi.surfaces.maker_cli", "run", *_whose(here, name),
            f"--rule={owners_folder(here.deployment).resolve() / name}.toml",
        ],
        forked=True,
        environment=parties.environment,
    )  # fmt: skip


def wishing(name: str, seed: int) -> Row:
    """Return the row of what decides for a simulated taker."""
    return Row(
        name=f"{name}-wishes",
        says=lambda _: "",
        needs=(name,),
        command=lambda here: [
            sys.executable, "-m", "btcfi.surfaces.maker_cli", "simulate", *_whose(here, name),
            f"--per-minute={TAKES_PER_MINUTE}", f"--seed={seed}",
        ],
        forked=True,
        environment=parties.environment,
    )  # fmt: skip


def begin(cluster: Cluster, progress: Callable[[str], None]) -> None:
    """Start the owners of a cluster that runs, give each its coins once, and start what decides for them.

    One that does not come is left out, said so, and the rest trades: a simulation's trouble ends no deployment.
    """
    deployment = cluster.deployment
    folder = owners_folder(deployment)
    make_private(folder, named=True)
    for name in COINS:
        cluster.add(owner(name))
    there = _joined(deployment, progress)
    try:
        _fill(deployment, there)
    except BtcfiError as e:
        progress(f"the simulated traders have no coins yet: {e}")
    for place, name in enumerate(there):
        if name in MAKERS:
            write_private(folder / f"{name}.toml", (RULES[name] + RULE).encode())
        cluster.add(quoting(name) if name in MAKERS else wishing(name, seed=place))


def said(deployment: Deployment) -> str:
    """Return what `btcfi up` says of them."""
    return SAYS.format(
        makers=", ".join(MAKERS), takers=", ".join(TAKERS), folder=owners_folder(deployment), url=desk_url(deployment)
    )


def _joined(deployment: Deployment, progress: Callable[[str], None]) -> list[str]:
    """Return the owners that have joined, once all have or the time is over."""
    deadline = time.monotonic() + JOIN_SECONDS
    missing = list(COINS)
    while missing and time.monotonic() < deadline:
        missing = [name for name in missing if not _address_file(deployment, name).exists()]
        time.sleep(0.2 if missing else 0.0)
    for name in missing:
        log = deployment.data_dir / "logs" / f"{name}.log"
        progress(f"the simulated {name} has not joined within {JOIN_SECONDS:g} s and is left out; see {log}")
    return [name for name in COINS if name not in missing]


def _fill(deployment: Deployment, names: list[str]) -> None:
    """Mine coins to each that has had none, on a regtest chain, and let them mature."""
    new = [name for name in names if not _funded_file(deployment, name).exists()]
    if not new:
        return
    node = node_of(deployment)
    try:
        if node.chain_info().chain != "regtest":
            return
        for name in new:
            node.generate(COINS[name], _address_file(deployment, name).read_text().strip())
        service = encode_address(wallet_key(deployment.wallet_seed_file.read_bytes(), 0).script)
        node.generate(COINBASE_MATURITY, service)
    finally:
        node.close()
    for name in new:
        write_private(_funded_file(deployment, name), b"")


def _folder(here: Here, name: str) -> Path:
    return owners_folder(here.deployment).resolve() / name


def _whose(here: Here, name: str) -> list[str]:
    folder = _folder(here, name)
    return [f"--dir={folder}", f"--passphrase-file={folder / 'passphrase'}", f"--desk={desk_url(here.deployment)}"]


def _address_file(deployment: Deployment, name: str) -> Path:
    return owners_folder(deployment) / name / "address"


def _funded_file(deployment: Deployment, name: str) -> Path:
    return owners_folder(deployment) / f"{name}.funded"
