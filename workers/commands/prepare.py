"""``btcfi prepare``: what must be there before the first worker starts; `btcfi up` does the same for itself."""

from __future__ import annotations

import time
from typing import Annotated, Final

import typer

from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import make_private
from btcfi.errors import UnreachableError
from settings.deployment import Deployment, load_deployment
from workers import preconditions, seal
from workers.deployed import node_of, open_store
from workers.findings import Finding
from workers.machine import parties
from workers.preconditions import line

COINS: Final = 64
"""Mature coins for each party of a new regtest chain."""


def prepare(
    *,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            help="Seconds to wait for the oracles, and until both simulated parties have said an address.",
            min=0,
        ),
    ] = 0.0,
    change_broker_key: Annotated[
        bool,
        typer.Option(
            "--change-broker-key",
            help="Seal what goes over the broker with a new key; the old one is accepted for 15 minutes more.",
        ),
    ] = False,
) -> None:
    """Migrate the store, make missing keys, fill the wallets of an empty regtest chain; repeating it is harmless.

    Nothing is made where a precondition does not hold that no waiting mends; each of the others is said.
    """
    deployment = load_deployment()

    def say(found: Finding) -> None:
        typer.echo(line(found), err=True)

    # before anything is made: what was misspelt would be made somewhere else
    preconditions.require(deployment, preconditions.PREPARE, say, reads_store=False)
    typer.echo(f"data in {deployment.data_dir.resolve()}", err=True)
    make_private(deployment.data_dir, named=True)
    store = open_store(migrated=False)
    store.migrate()
    typer.echo(f"{store.where} is migrated", err=True)
    store.close()
    # before a key is made: one that is missing is not a first start where the store names it
    preconditions.require(deployment, preconditions.PREPARE, say, reads_store=True)
    if not parties.prepare(deployment, wait=wait):
        typer.echo("not every oracle of BTCFI_ORACLES answers: `btcfi prepare` again once they run", err=True)
    if seal.prepare(deployment):
        typer.echo(f"made the broker's key, {deployment.broker_key_file}: every host of a fleet has the same", err=True)
    elif change_broker_key:
        for path in (deployment.broker_key_file, deployment.operator_key_file):
            typer.echo(f"{path}: seals with {seal.change_key(path, now=time.time())} now", err=True)
    typer.echo(f"our keys are in {deployment.data_dir}", err=True)
    if deployment.node_url is None:
        return
    node = node_of(deployment)
    if node.chain_info().chain == "regtest" and node.block_count() < COINS:
        _fill(node, deployment, wait)
    node.close()


def _fill(node: Node, deployment: Deployment, wait: float) -> None:
    try:
        parties.addresses(deployment, wait=wait)
    except UnreachableError:
        if wait:
            raise
        typer.echo("no coins yet: `btcfi prepare` again once both parties run (`btcfi party simulate`)", err=True)
        return
    parties.fill_wallets(node, deployment, coins=COINS)
    typer.echo(f"mined {COINS} coins to each party of the regtest chain", err=True)
