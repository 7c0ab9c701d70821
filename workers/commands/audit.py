"""``btcfi audit``: the promises of every settled option of a deployment, checked by whoever does not take its word."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from btcfi.errors import InvalidInputError
from settings.deployment import load_deployment
from workers.audit import ChainView, PromiseBrokenError, settled_ids
from workers.audit import audit as audited
from workers.deployed import node_of, open_store
from workers.machine.attach import attached


def audit(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False
) -> None:
    """Check every settled option of the store against the chain, a fresh run of its program, and the event log."""
    deployment = attached(load_deployment())
    if deployment.node_url is None:
        raise InvalidInputError("NODE_URL", "not set", "http://user:password@host:port of a bitcoind")
    node = node_of(deployment)
    store = open_store()
    view = ChainView()
    view.follow(node)
    ids = settled_ids(store)
    found = audited(store, view, ids)
    store.close()
    if as_json:
        typer.echo(json.dumps({"settled": len(ids), "blocks": view.height, "broken": [str(one) for one in found]}))
    else:
        for one in found:
            typer.echo(str(one))
        typer.echo(f"{len(ids)} settled options against {view.height} blocks: {len(found)} broken promises")
    if found:
        raise PromiseBrokenError("audit", len(found), str(found[0]))
