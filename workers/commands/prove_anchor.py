"""``btcfi anchor prove``: the proof that leads from something anchored to a block."""

# ruff: noqa: PLC0415 - only this command needs store and node
from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from btcfi.contracts.anchor import AnchorKind
from btcfi.errors import InvalidInputError, NotFoundError
from workers.deployed import open_store

if TYPE_CHECKING:
    from sqlmodel import Session

    from btcfi.adapters.chain.node import Node
    from btcfi.adapters.store.options.anchors import Anchored
    from settings.deployment import Deployment


def register(group: typer.Typer) -> None:
    """Add the command to the group ``btcfi anchor``."""
    group.command()(prove)


def prove(
    *,
    price: Annotated[str, typer.Option(help="Minute of an agreed price: 2023-03-11T06:00Z, or unix seconds")] = "",
    settlement: Annotated[str, typer.Option(help="A settlement's id, of its proof root")] = "",
    announcement: Annotated[str, typer.Option(help="An oracle event's id (hex), of what was announced")] = "",
    oracle: Annotated[str, typer.Option(help="Beginning of an oracle's key, where several announced the event")] = "",
    out: Annotated[Path, typer.Option(help="File to write the proof to, JSON")],
) -> None:
    """Prove that a price, a proof root or an announcement is anchored in a block that is 6 deep."""
    from btcfi.adapters.store.options.anchors import find_anchored, price_subject
    from btcfi.oracle.quote import Feed
    from btcfi.surfaces.oracle_cli import parse_slot
    from settings.deployment import load_deployment
    from settings.preset import load_preset
    from workers.machine.attach import attached

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
    out.write_text(json.dumps(proof | {"subject": about}, indent=1) + "\n")
    typer.echo(f"{out}: {proof['kind']} {subject}, {known.index + 1} of {len(known.items)} items", err=True)


def _key(session: Session, event: str, oracle: str) -> str:
    from btcfi.adapters.store.options.anchors import announcements_of

    keys = [one.oracle_key.hex() for one in announcements_of(session, event.lower())]
    fitting = [key for key in keys if key.startswith(oracle.lower())]
    if len(fitting) != 1:
        raise InvalidInputError("--oracle", f"{len(fitting)} oracles fit", f"the beginning of one of {', '.join(keys)}")
    return fitting[0]


def _about(session: Session, known: Anchored) -> dict[str, Any]:
    """Return what the digest is of, so that whoever gets the proof can compute the digest from it."""
    from btcfi.adapters.store.options.anchors import anchored_report, announcements_of
    from btcfi.contracts.messages import encode_announcement
    from btcfi.oracle.report import encode_report

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
    from btcfi.adapters.store.options.anchors import AnchorNotFinalError
    from btcfi.contracts.anchor import encode_anchor_proof, prove_anchor

    block = node.block(known.block_hash)
    if block.header.confirmations < confirmations:  # undone since the store's last walk
        raise AnchorNotFinalError(what, confirmations=max(0, block.header.confirmations), needed=confirmations)
    proof = prove_anchor(
        known.items, known.index, transaction=known.transaction,
        block_txids=[one.txid for one in block.transactions], header=block.header.raw,
    )  # fmt: skip
    return encode_anchor_proof(proof)


def _node(deployment: Deployment) -> Node:
    from btcfi.adapters.chain.node import Node

    if deployment.node_url is None:
        raise NotFoundError("node", "NODE_URL", "set it, or run this beside `btcfi up` on its data folder")
    return Node(deployment.node_url, deployment.node_timeout_seconds, cookie_file=deployment.node_cookie_file)
