"""The two parties and the oracles of an embedded deployment: their folders, and the parties' own processes.

On a real deployment they are other people's: `btcfi party run` on their machines, with the mailboxes carried between.
Here one machine plays all of them. Each party's process makes its own keys and its mandate (`btcfi party simulate`); we
know its address, and it knows the oracles' public keys.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from btcfi.adapters.chain.node import Node
from btcfi.adapters.desk_key import encode_desk, make_desk_key, public_path
from btcfi.adapters.files import (
    UntrustedFileError,
    make_private,
    write_private,
    write_public,
)
from btcfi.adapters.party.mailbox import FOLDERS
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.wallet import COINBASE_MATURITY
from btcfi.errors import UnreachableError
from settings.deployment import Deployment
from settings.preset import load_preset
from tasks.context import Context
from workers.deployed import node_of
from workers.machine import oracles
from workers.machine.nursery import of_the_machine

PARTIES: Final = ("seller", "buyer")

ORACLES_FILE: Final = "oracles.json"
"""In each party's mailbox: which oracles there are, for its mandate. Public keys alone."""

START_SECONDS: Final = 60.0
"""Until a party that has not said its address counts as failed: two keystores are made before."""

POLL_SECONDS: Final = 0.2
"""Between two looks of a party into its folders."""


def prepare(deployment: Deployment, *, wait: float = 0.0) -> bool:
    """Make what is missing, readable by its owner alone: wallet, desk and node keys, oracles' folders; the mailboxes.

    Returns whether the parties were told the oracles: not while those of other people do not answer for ``wait``
    seconds. Raises LostKeysError where the store names keys that are not here.
    """
    keys = oracles.prepare(deployment, wait=wait)
    if not deployment.wallet_seed_file.exists():
        write_private(deployment.wallet_seed_file, secrets.token_bytes(32))
    desk = make_desk_key(deployment.desk_key_file)
    network = deployment.data_dir / oracles.NETWORK  # public keys alone: the API may mount it, and not the key's folder
    write_public(public_path(network / deployment.desk_key_file.name), json.dumps(encode_desk(desk.public)).encode())
    for party in PARTIES:
        mailbox = deployment.parties_dir / party
        make_private(mailbox, named=True)
        for name in FOLDERS:
            with suppress(UntrustedFileError):  # what a party left in its place: who uses it says so
                make_private(mailbox / name, named=True)
    if keys:
        tell_oracles(deployment, keys)
    return bool(keys)


def tell_oracles(deployment: Deployment, keys: Sequence[str]) -> None:
    """Tell both parties which oracles there are, for their mandates."""
    preset = load_preset(deployment.preset)
    said = json.dumps({"oracle_keys": sorted(keys), "threshold": preset.oracle_threshold, "feed": deployment.feed})
    for party in PARTIES:
        write_private(deployment.parties_dir / party / ORACLES_FILE, said.encode())


def command(deployment: Deployment, party: str) -> list[str]:
    """Return the command of a party's process; the node is in its environment, its passphrase is its own."""
    mailbox = (deployment.parties_dir / party).resolve()
    return [
        sys.executable, "-m", "btcfi.surfaces.party_cli", "simulate", f"--dir={mailbox / 'party'}",
        f"--mailbox={mailbox}", f"--oracles={mailbox / ORACLES_FILE}", f"--every={POLL_SECONDS}",
    ]  # fmt: skip


def addresses(deployment: Deployment, *, wait: float = START_SECONDS) -> tuple[str, ...]:
    """Return where each party is paid, as it has said itself. Raises UnreachableError after ``wait`` seconds."""
    deadline, said = time.monotonic() + wait, []
    for party in PARTIES:
        file = deployment.parties_dir / party / "address"
        while not file.exists():
            if time.monotonic() > deadline:
                raise UnreachableError(party, str(file.parent), "it has not said its address", "see its log")
            time.sleep(0.05)
        said.append(file.read_text().strip())
    return tuple(said)


def environment(deployment: Deployment) -> dict[str, str]:
    """Return a party's environment: the node, and nothing else of the deployment."""
    kept = of_the_machine("XDG_RUNTIME_DIR")
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
    seller, buyer = addresses(deployment)
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
