"""The two parties and the oracles of an embedded deployment: their folders and keys, and the parties' own processes.

On a real deployment they are other people's: `btcfi party init` and `btcfi party run` on their machines, with the
folders carried between. Here one machine plays all of them, each with keys that no other process reads.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Final

from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import write_private
from btcfi.adapters.keystore import Keystore, create_keystore, open_keystore
from btcfi.adapters.party.mailbox import FOLDERS
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.wallet import COINBASE_MATURITY
from settings.deployment import Deployment
from settings.preset import load_preset
from tasks.context import Context
from workers.deployed import node_of

PARTIES: Final = ("seller", "buyer")

POLL_SECONDS: Final = 0.2
"""Between two looks of a party into its folders."""


def prepare(deployment: Deployment) -> None:
    """Make what is missing, readable by its owner alone: the service's wallet, oracle keys, the parties' keystores."""
    if not deployment.wallet_seed_file.exists():
        write_private(deployment.wallet_seed_file, secrets.token_bytes(32))
    for number in range(load_preset(deployment.preset).oracles):
        key = deployment.oracle_keys_dir / f"oracle-{number}.key"
        if not key.exists():
            write_private(key, secrets.token_bytes(32))
    for party in PARTIES:
        _prepare_party(deployment.parties_dir / party)


def _prepare_party(folder: Path) -> None:
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    passphrase, store = folder / "passphrase", folder / "party" / "keystore.json"
    if not passphrase.exists():
        write_private(passphrase, secrets.token_urlsafe(24).encode() + b"\n")
    if not (folder / "address").exists():
        words = passphrase.read_text().strip()
        opened: Keystore = open_keystore(store, words) if store.exists() else create_keystore(store, words)
        write_private(folder / "address", encode_address(opened.wallet_key(0).script).encode() + b"\n")


def command(deployment: Deployment, party: str) -> list[str]:
    """Return the command of a party's process; its passphrase is in a file, the node in the environment."""
    folder = (deployment.parties_dir / party).resolve()
    return [
        sys.executable, "-m", "btcfi.surfaces.party_cli", "run", f"--dir={folder / 'party'}",
        f"--passphrase-file={folder / 'passphrase'}", f"--every={POLL_SECONDS}",
        *(f"--{name}={folder / name}" for name in FOLDERS),
    ]  # fmt: skip


def environment(deployment: Deployment) -> dict[str, str]:
    """Return a party's environment: the node, and nothing else of the deployment."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "TMPDIR", "XDG_RUNTIME_DIR", "PYTHONPATH")
        if name in os.environ
    }
    node = {"BITCOIN_NODE_URL": deployment.node_url or "", "PYTHONUNBUFFERED": "1"}
    if deployment.node_cookie_file is not None:
        node["BITCOIN_COOKIE_FILE"] = str(deployment.node_cookie_file)
    return kept | node


def fill_wallets(node: Node, deployment: Deployment, *, coins: int, fee_coins: int = 4) -> None:
    """Mine ``coins`` mature coins to each party and ``fee_coins`` to the service, on a regtest chain.

    The service splits its own into as many as it needs. Half of the parties' come after the other's, since the reward
    halves every 150 blocks and both should get alike.
    """
    service = encode_address(wallet_key(deployment.wallet_seed_file.read_bytes(), 0).script)
    seller, buyer = ((deployment.parties_dir / party / "address").read_text().strip() for party in PARTIES)
    first, rest = coins // 2, coins - coins // 2
    for address, blocks in ((service, fee_coins), (seller, first), (buyer, coins), (seller, rest)):
        node.generate(blocks, address)
    node.generate(COINBASE_MATURITY, service)


COINS_EACH: Final = 40
"""Coins mined to each party: one for each option and a few to spare."""


def fill_parties(here: Context, coins: int) -> None:
    """Mine coins to both parties and the service, on the deployment's regtest walk."""
    node = node_of(here.deployment)
    fill_wallets(node, here.deployment, coins=coins)
    node.close()
