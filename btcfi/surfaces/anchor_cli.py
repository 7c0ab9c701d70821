"""``btcfi anchor verify``: from a price, an announcement or a proof root to a block header, step by step."""

# ruff: noqa: PLC0415 - what reads a subject is imported when there is one
from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import read_untrusted_json
from btcfi.contracts.anchor import AnchorItem, AnchorKind, WrongAnchorError, check_anchor, decode_anchor_proof
from btcfi.contracts.watch import FINAL_DEPTH
from btcfi.errors import NotFoundError
from btcfi.surfaces.cli import run
from btcfi.units import Hash32, display_txid

MAX_PROOF_BYTES = 4 << 20
"""Of an anchor proof, whose largest part is a transaction: a block's whole space, as hex, and its subject."""

NODE_TIMEOUT = 30.0
"""Seconds for one answer of the node."""

app = typer.Typer(
    name="anchor", help="Check what was anchored in Bitcoin.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip


@app.callback()
def main() -> None:
    """Check what was anchored in Bitcoin."""


@app.command()
def verify(
    proof_file: Annotated[Path, typer.Argument(help="An anchor proof, JSON.")],
    digest: Annotated[
        str, typer.Option("--digest", help="Digest that must be the anchored one (hex): of your price or proof.")
    ] = "",
    node: Annotated[str, typer.Option("--node", help="Node to ask whether the block is in the chain.")] = "",
    cookie_file: Annotated[Path | None, typer.Option("--cookie-file", help="The node's .cookie file.")] = None,
) -> None:
    """Check a proof; with --node also that its block is in the chain and how deep. Without, the header is printed."""
    message = read_untrusted_json(proof_file, at_most=MAX_PROOF_BYTES, what="anchor proof", named=True)
    proof = decode_anchor_proof(message)
    if digest and proof.item.digest.hex() != digest.lower():
        raise WrongAnchorError(f"anchors {proof.item.digest.hex()}, not {digest.lower()}")
    block = check_anchor(proof)
    said: dict[str, Any] = {
        "kind": proof.item.kind.name.lower(),
        "digest": proof.item.digest.hex(),
        **_subject(message.get("subject"), proof.item),
        "txid": display_txid(proof.transaction.txid),
        "block": block[::-1].hex(),
        "header": proof.header.hex(),
    }
    if node:
        said |= _depth(Node(node, NODE_TIMEOUT, cookie_file=cookie_file), block)
    typer.echo(json.dumps(said, indent=1))


def _subject(subject: object, item: AnchorItem) -> dict[str, Any]:
    """Compute the digest of what the file says it is of, and return what that is in words."""
    from btcfi.contracts.messages import decode_announcement
    from btcfi.oracle.consensus import AgreedPrice
    from btcfi.oracle.report import decode_report, report_hash

    if not isinstance(subject, dict):
        return {}
    if item.kind is AnchorKind.PRICE and "report" in subject:
        report = decode_report(subject["report"])
        _same("the report", item.digest, report_hash(report))
        agreed = report.outcome
        price = agreed.price if isinstance(agreed, AgreedPrice) else None
        return {"feed": report.feed, "slot": report.slot, "price_cents": price}
    if item.kind is AnchorKind.ANNOUNCEMENT and "announcement" in subject:
        announced = decode_announcement(subject["announcement"])
        _same("the announcement", item.digest, announced.digest())
        return {"event": announced.event.id.hex(), "oracle": announced.oracle_key.hex()}
    return {"settlement": str(subject["settlement"])} if "settlement" in subject else {}


def _same(what: str, anchored: Hash32, found: Hash32) -> None:
    if anchored != found:
        raise WrongAnchorError(f"{what} in the file has the digest {found.hex()}, anchored is {anchored.hex()}")


def _depth(node: Node, block: Hash32) -> dict[str, Any]:
    try:
        header = node.block_header(block)
    except NotFoundError as e:
        raise WrongAnchorError("the node does not know the block") from e
    if header.confirmations < 1:
        raise WrongAnchorError("the block is not in the node's chain")
    final = header.confirmations >= FINAL_DEPTH
    return {"height": header.height, "confirmations": header.confirmations, "final": final}


if __name__ == "__main__":
    run(app, name="btcfi anchor")
