"""``btcfi regtest``: a chain of your own, to try things on; its coins are worth nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from btcfi.adapters.chain.node import Node
from btcfi.bitcoin.address import decode_address, encode_address
from btcfi.bitcoin.script import p2tr
from btcfi.bitcoin.taproot import NUMS_KEY
from btcfi.surfaces.cli import run
from btcfi.surfaces.party.side import NODE_TIMEOUT, Cookie, NodeUrl

MAX_BLOCKS: Final = 1_000
"""In one command: a minute on a slow machine."""

app = typer.Typer(
    name="regtest", help="A chain of your own, to try things on.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip


@app.command()
def node(
    *,
    datadir: Annotated[Path, typer.Option("--datadir", help="Folder of the chain and of its .cookie file.")],
    port: Annotated[int, typer.Option("--port", help="TCP port on the loopback; 0 lets the system choose.")] = 18443,
) -> None:
    """Run the embedded node, Bitcoin Core's consensus code behind bitcoind's RPC, until Ctrl-C."""
    from btcfi.adapters.chain.regtest.server import main  # noqa: PLC0415 - the kernel, which mining needs not

    raise typer.Exit(main(["--datadir", str(datadir), "--port", str(port)]))


@app.command()
def mine(
    blocks: Annotated[int, typer.Argument(help="How many blocks.", min=1, max=MAX_BLOCKS)] = 1,
    *,
    to: Annotated[str, typer.Option("--to", help="Address that gets the new coins; default: nobody's.")] = "",
    node: NodeUrl = "http://127.0.0.1:18443",
    cookie_file: Cookie = None,
) -> None:
    """Mine blocks on a regtest node, ours or bitcoind. New coins can be spent 100 blocks later."""
    address = to or encode_address(p2tr(NUMS_KEY))
    decode_address(address)
    chain = Node(node, NODE_TIMEOUT, cookie_file=cookie_file)
    chain.generate(blocks, address)
    typer.echo(json.dumps({"height": chain.block_count(), "mined": blocks, "to": address}, indent=1))


if __name__ == "__main__":
    run(app, name="btcfi regtest")
