"""``btcfi audit``: the promises of every option of a deployment, checked by whoever does not take its word."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Annotated

import typer

from btcfi.errors import InvalidInputError
from btcfi.units import UnixSeconds
from settings.deployment import load_deployment
from workers.audit import SETTLED, ChainView, PromiseBrokenError, states_of
from workers.audit import audit as audited
from workers.deployed import node_of, open_store
from workers.machine.attach import attached


def audit(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False
) -> None:
    """Check every option of the store against the chain, a fresh run of its program, and the event log.

    A `btcfi up` that runs on the data folder is found by itself, and may go on meanwhile.
    """
    deployment = attached(load_deployment())
    if deployment.node_url is None:
        problem = "not set, and no `btcfi up` runs on this data folder"
        raise InvalidInputError("NODE_URL", problem, "http://user:password@host:port of a bitcoind, or BTCFI_DATA_DIR")
    node = node_of(deployment)
    store = open_store()
    view = ChainView()
    view.follow(node)
    states = states_of(store)
    view.follow(node)  # a long chain takes a while: now nothing of what the store says lies beyond the view
    found = audited(store, view, states, complete=False, now=UnixSeconds(int(time.time())))
    node.close()
    store.close()
    counted = Counter(states.values())
    settled = sum(counted[state] for state in SETTLED)
    if as_json:
        said = {
            "options": len(states), "settled": settled, "states": dict(sorted(counted.items())),
            "blocks": view.height, "broken": [str(one) for one in found],
        }  # fmt: skip
        typer.echo(json.dumps(said))
    else:
        for one in found:
            typer.echo(str(one))
        by_state = ", ".join(f"{many} {state}" for state, many in sorted(counted.items()))
        typer.echo(f"{len(states)} options ({by_state}) against {view.height} blocks: {len(found)} broken promises")
    if found:
        raise PromiseBrokenError("audit", len(found), str(found[0]))
