"""The traders of ``btcfi up --market``: two makers and three takers, each an owner with keys of its own. A SIMULATION.

Each owner is a process on a private folder: its party, which holds the keys, joins the desk as anybody does and signs.
A taker's wishes are a thread of it; what quotes for a maker is a process beside it, on the same folder. They know the
desk's URL and the node, and nothing of the deployment; what they say to each other goes by sealed letters.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many trade, and how much."""

    makers: int = 2
    takers: int = 3
    maker_coins: int = 20
    """Mined to each maker once: one for each contract that is on its way to the chain at a time, and some to spare."""
    taker_coins: int = 8
    takes_per_minute: float = 2.0
    """Of each taker."""
    rule: str = ""
    """More lines of every maker's rule."""

    @property
    def maker_names(self) -> tuple[str, ...]:
        """Return the makers."""
        return tuple(f"maker-{number}" for number in range(self.makers))

    @property
    def taker_names(self) -> tuple[str, ...]:
        """Return the takers."""
        return tuple(f"taker-{number}" for number in range(self.takers))

    @property
    def coins(self) -> dict[str, int]:
        """Return how many coins each owner gets, by its name."""
        return dict.fromkeys(self.maker_names, self.maker_coins) | dict.fromkeys(self.taker_names, self.taker_coins)


FIRST_LOOK: Final = Crowd()
MAKERS: Final = FIRST_LOOK.maker_names
TAKERS: Final = FIRST_LOOK.taker_names
COINS: Final = FIRST_LOOK.coins

JOIN_SECONDS: Final = 180.0
"""Until an owner that has not said its address counts as failed: five make their keys at once, on two slow cores."""

EVERY_SECONDS: Final = 0.5
"""Between two looks of a party at its chain and its folder; a letter wakes it at once."""

MARKET_PRESET: Final = "simulation"

RULES: Final = ("half_spread_points = 4.0\nsize = 20\n", "half_spread_points = 6.0\nsize = 40\n")
"""What differs between the makers, in turn."""

RULE: Final = (
    "levels = 1\nmost_offers = 40\nvalidity_seconds = 60\nrenew_seconds = 20\nleast_life_seconds = 600\n"
    "requote_share = 0.5\ndelta_limit_btc = 500\ngamma_limit_btc = 5000\nvega_limit_usd = 200000\n"
    "shortfall_limit_usd = 5000000\n"
)
"""A chain that fits on a screen; no instrument that settles within ten of its minutes. Of a binary that settles
within the hour one bitcoin has the delta of fifty: the limits are those of coins that cost nothing."""

SAYS: Final = (
    "  market    SIMULATED: makers {makers} and takers {takers}, each with keys of its own in {folder}\n"
    "            {url}/desk shows it. To trade there, with keys of your own (docs/tutorial/first-option.md):\n"
    "            {node}btcfi party init, then btcfi party join {url} --name NAME\n"
    "            btcfi market chain --desk {url}"
)


def owners_folder(deployment: Deployment) -> Path:
    """Return where the owners' folders lie."""
    return deployment.data_dir / "owners"


def desk_url(deployment: Deployment) -> str:
    """Return the URL of our own desk."""
    return f"http://{rows.api_host(deployment)}:{deployment.api_port}"


def owner(name: str, *, takes_per_minute: float = 0.0, seed: int = 1) -> Row:
    """Return the row of an owner's party. takes_per_minute, seed: of a taker's wishes."""
    wishes = [f"--takes-per-minute={takes_per_minute}", f"--seed={seed}"] if takes_per_minute else []
    return Row(
        name=name,
        says=lambda _: "",
        needs=(rows.NODE, rows.API),
        command=lambda here: [
            sys.executable, "-m", "btcfi.surfaces.party_cli", "simulate", f"--dir={_folder(here, name)}",
            f"--desk={desk_url(here.deployment)}", f"--name={name}", f"--every={EVERY_SECONDS}", *wishes,
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


def begin(cluster: Cluster, progress: Callable[[str], None], crowd: Crowd = FIRST_LOOK) -> list[str]:
    """Start the owners of a cluster that runs, give each its coins once, start what quotes; return who has joined.

    One that does not come is left out, said so, and the rest trades: a simulation's trouble ends no deployment. A taker
    takes nothing before it has coins.
    """
    there = bring(
        cluster,
        [
            owner(name, takes_per_minute=0.0 if name in crowd.maker_names else crowd.takes_per_minute, seed=seed)
            for seed, name in enumerate(crowd.coins)
        ],
        crowd.coins,
        progress,
    )
    for place, name in enumerate(crowd.maker_names):
        if name in there:
            rule = RULES[place % len(RULES)] + RULE + crowd.rule
            write_private(owners_folder(cluster.deployment) / f"{name}.toml", rule.encode())
            cluster.add(quoting(name))
    return there


def bring(
    cluster: Cluster, owners: Sequence[Row], coins: Mapping[str, int], progress: Callable[[str], None]
) -> list[str]:  # fmt: skip
    """Start owners, wait until each has joined, and give it its coins once; return who has joined."""
    deployment = cluster.deployment
    make_private(owners_folder(deployment), named=True)
    for row in owners:
        cluster.add(row)
    there = _joined(deployment, coins, progress)
    try:
        _fill(deployment, {name: coins[name] for name in there})
    except BtcfiError as e:
        progress(f"the simulated traders have no coins yet: {e}")
    return there


def said(deployment: Deployment) -> str:
    """Return what `btcfi up` says of them."""
    cookie, where = deployment.node_cookie_file, deployment.node_url or ""
    told = cookie is not None and "@" not in where  # a password is nobody's but the deployment's
    node = f"export BITCOIN_NODE_URL={where} BITCOIN_COOKIE_FILE={cookie}\n            " if told else ""
    return SAYS.format(
        makers=", ".join(MAKERS), takers=", ".join(TAKERS), folder=owners_folder(deployment), url=desk_url(deployment),
        node=node,
    )  # fmt: skip


def _joined(deployment: Deployment, names: Collection[str], progress: Callable[[str], None]) -> list[str]:
    """Return the owners that have joined, once all have or the time is over."""
    deadline = time.monotonic() + JOIN_SECONDS
    missing = list(names)
    while missing and time.monotonic() < deadline:
        missing = [name for name in missing if not _address_file(deployment, name).exists()]
        time.sleep(0.2 if missing else 0.0)
    for name in missing:
        log = deployment.data_dir / "logs" / f"{name}.log"
        progress(f"the simulated {name} has not joined within {JOIN_SECONDS:g} s and is left out; see {log}")
    return [name for name in names if name not in missing]


def _fill(deployment: Deployment, coins: Mapping[str, int]) -> None:
    """Mine coins to each that has had none, on a regtest chain, and let them mature."""
    new = [name for name in coins if not _funded_file(deployment, name).exists()]
    if not new:
        return
    node = node_of(deployment)
    try:
        if node.chain_info().chain != "regtest":
            return
        for name in new:
            node.generate(coins[name], _address_file(deployment, name).read_text().strip())
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
