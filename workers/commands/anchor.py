"""``btcfi anchor prove``: the proof that leads from something anchored to a block."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import write_named
from btcfi.adapters.store.options.anchors import (
    Anchored,
    AnchorNotFinalError,
    anchored_report,
    announcements_of,
    find_anchored,
    price_subject,
)
from btcfi.adapters.store.spine.database import Session
from btcfi.contracts.anchor import AnchorKind, encode_anchor_proof, prove_anchor
from btcfi.contracts.messages import encode_announcement
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.quote import Feed
from btcfi.oracle.report import encode_report
from btcfi.surfaces.oracle_cli import parse_slot
from settings.deployment import Deployment, load_deployment
from settings.preset import load_preset
from workers.deployed import node_of, open_store
from workers.machine.attach import attached


def prove(
    *,
    price: Annotated[str, typer.Option(help="Minute of an agreed price: 2023-03-11T06:00Z, or unix seconds")] = "",
    settlement: Annotated[str, typer.Option(help="A settlement's id, of its proof root")] = "",
    announcement: Annotated[str, typer.Option(help="An oracle event's id (hex), of what was announced")] = "",
    oracle: Annotated[str, typer.Option(help="Beginning of an oracle's key, where several announced the event")] = "",
    out: Annotated[Path, typer.Option(help="File to write the proof to, JSON")],
) -> None:
    """Prove that a price, a proof root or an announcement is anchored in a block that is 6 deep."""
    if [bool(price), bool(settlement), bool(announcement)].count(True) != 1:
        raise InvalidInputError(
            "--price, --settlement, --announcement", "not one of them", "exactly one, of what is to be proved"
        )
    deployment = attached(load_deployment())
    confirmations = load_preset(deployment.preset).confirmations
    store = open_store()
    with store.reading() as session:
        if price:
            kind, subject, part = AnchorKind.PRICE, price_subject(Feed(deployment.feed), parse_slot(price)), ""
        elif settlement:
            kind, subject, part = AnchorKind.PROOF_ROOT, settlement, ""
        else:
            kind, subject, part = AnchorKind.ANNOUNCEMENT, announcement.lower(), _key(session, announcement, oracle)
        known = find_anchored(session, kind, subject, part, confirmations=confirmations)
        about = _about(session, known)
    store.close()
    proof = _proof(known, _node(deployment), f"{kind.name.lower()} {subject}", confirmations)
    write_named(out, json.dumps(proof | {"subject": about}, indent=1) + "\n")
    typer.echo(f"{out}: {proof['kind']} {subject}, {known.index + 1} of {len(known.items)} items", err=True)


def _key(session: Session, event: str, oracle: str) -> str:
    keys = [one.oracle_key.hex() for one in announcements_of(session, event.lower())]
    fitting = [key for key in keys if key.startswith(oracle.lower())]
    if len(fitting) != 1:
        raise InvalidInputError("--oracle", f"{len(fitting)} oracles fit", f"the beginning of one of {', '.join(keys)}")
    return fitting[0]


def _about(session: Session, known: Anchored) -> dict[str, Any]:
    """Return what the digest is of, so that whoever gets the proof can compute the digest from it."""
    found = known.found
    if found.item.kind is AnchorKind.PRICE:
        return {"report": encode_report(anchored_report(session, found))}
    if found.item.kind is AnchorKind.ANNOUNCEMENT:
        said = announcements_of(session, found.subject)
        return {
            "announcement": next(encode_announcement(one) for one in said if one.oracle_key.hex() == found.part)
        }  # fmt: skip
    return {"settlement": found.subject}


def _proof(known: Anchored, node: Node, what: str, confirmations: int) -> dict[str, Any]:
    block = node.block(known.block_hash)
    if block.header.confirmations < confirmations:  # undone since the store's last walk
        raise AnchorNotFinalError(what, confirmations=max(0, block.header.confirmations), needed=confirmations)
    proof = prove_anchor(
        known.items, known.index, transaction=known.transaction,
        block_txids=[one.txid for one in block.transactions], header=block.header.raw,
    )  # fmt: skip
    return encode_anchor_proof(proof)


def _node(deployment: Deployment) -> Node:
    if deployment.node_url is None:
        raise NotFoundError("node", "NODE_URL", "set it, or run this beside `btcfi up` on its data folder")
    return node_of(deployment)
